//! `watershed compact`: merges the small files of tables now, whatever process writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use watershed_lake::{CompactOptions, Compaction, TableName};
use watershed_query::shell::grouped;

use crate::signals::{INTERRUPTED, stop_asked};
use crate::{Context, upkeep, warehouse};

/// Merge the small files of tables into large ones
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows and their order stay as they are, and so do running pipelines and queries: the merged files take the place of the small \
ones in one commit, and a merge that comes second to another writer is thrown away. `watershed stream`, `batch` and the demo do \
this by themselves once 32 small files have come together; by hand whatever is small is merged. \
The small files stay on disk for readers of older versions until `watershed vacuum`.

Examples:
  watershed compact
  watershed compact bronze.ride_events 'bronze.ride_events$quarantine'")]
pub struct Args {
    /// Tables, schema.table; all of the warehouse if none is named
    #[arg(value_name = "TABLE")]
    tables: Vec<TableName>,
}

/// Compacts, and says what came of it.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let options = CompactOptions { everything: true, ..upkeep::compact_options(&context.config)? };
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    tokio::spawn(async move {
        stop_asked().await;
        tell!("stopping: what was merged and committed stays so");
        asked.store(true, Ordering::Relaxed);
    });
    let mut failed = upkeep::Failed::default();
    for name in upkeep::tables(&warehouse, args.tables).await? {
        let compacted = async { warehouse.table(&name).await?.compact(&options, &stop).await };
        match compacted.await {
            Ok(done) => say!("{name}: {}", said(&done)),
            Err(error) => failed.note(&error),
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(INTERRUPTED);
        }
    }
    Ok(failed.code())
}

fn said(done: &Compaction) -> String {
    let number = |number: u64| grouped(number as usize);
    if let Some(feature) = &done.skipped {
        return format!("left as it is: it uses {feature}");
    }
    let given_up = match done.given_up {
        0 => String::new(),
        merges => format!("; {} given up, because other writers came first: run it again", number(merges)),
    };
    if done.commits == 0 {
        return format!("nothing to merge{given_up}");
    }
    let size = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    format!(
        "{} files ({}) became {} ({}), {} rows{given_up}",
        number(done.files_before),
        size(done.bytes_before),
        number(done.files_after),
        size(done.bytes_after),
        number(done.rows)
    )
}
