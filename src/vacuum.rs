//! `watershed vacuum`: deletes data files that no version within the retention needs.

use std::time::Duration;

use anyhow::{Result, bail};
use watershed_lake::{TableName, VacuumOptions, Vacuumed};
use watershed_message::Message;
use watershed_query::shell::grouped;

use crate::config::parse_duration;
use crate::{Context, upkeep, warehouse};

/// Delete data files that are no longer needed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two kinds of files go: those that a commit replaced (a compaction, a refreshed view) longer ago than the retention, and those that \
no commit ever named, left behind by a crash, once they are older than the retention and a day. Files that the newest epoch of \
a pipeline names stay whatever their age. Versions older than the retention, and queries that run for longer, cannot be read \
afterwards. A table whose own property delta.deletedFileRetentionDuration asks for longer gets longer. `watershed stream`, `batch` and the demo do this by themselves.

Examples:
  watershed vacuum --dry-run
  watershed vacuum bronze.ride_events
  watershed vacuum --retention 1h        shorter than the setting lake.vacuum_retention, this time")]
pub struct Args {
    /// Tables, schema.table; all of the warehouse if none is named
    #[arg(value_name = "TABLE")]
    tables: Vec<TableName>,
    /// Delete nothing, only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// How long replaced files are kept, such as 1h or 7d [default: the setting lake.vacuum_retention]
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    retention: Option<Duration>,
}

/// Vacuums, and says what came of it.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let Some(retention) = args.retention.or(context.config.span("lake.vacuum_retention")?) else {
        let next = "`--retention 7d` deletes those replaced more than 7 days ago";
        bail!(Message::new("lake.vacuum_retention is empty").why("files are kept for ever").next(next));
    };
    let needed = match upkeep::needed(&warehouse).await {
        Ok(needed) => needed,
        Err(error) => bail!(error.within("it is not known which files pipelines still need, so none are deleted")),
    };
    let (nothing, mut failed) = (Default::default(), upkeep::Failed::default());
    for name in upkeep::tables(&warehouse, args.tables).await? {
        let needed = needed.get(&name).unwrap_or(&nothing);
        let options = VacuumOptions { retention, forgotten: true, since_ms: None, needed, dry_run: args.dry_run };
        let vacuumed = async { warehouse.table(&name).await?.vacuum(options).await };
        match vacuumed.await {
            Ok(done) => say!("{name}: {}", said(&done, args.dry_run)),
            Err(error) => failed.note(&error),
        }
    }
    Ok(failed.code())
}

fn said(done: &Vacuumed, dry_run: bool) -> String {
    if let Some(feature) = &done.skipped {
        return format!("left as it is: it uses {feature}");
    }
    if done.files() == 0 {
        return "nothing to delete".to_owned();
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    let (replaced, forgotten) = (grouped(done.replaced as usize), grouped(done.forgotten as usize));
    let size = done.bytes as f64 / f64::from(1 << 20);
    format!("{verb} {replaced} replaced and {forgotten} forgotten files, {size:.1} MiB")
}
