//! `watershed drop`: removes a streaming table with its rows and its pipeline's state, or a materialized view with its runs.

use anyhow::{Result, bail};
use watershed_lake::TableName;
use watershed_message::Message;

use crate::{Context, warehouse};

/// Remove a streaming table or materialized view: its rows, and its pipeline's state or its job's runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The definition must be gone first: take it out of the project and apply that. Stop `watershed stream` before: \
it is refused while a process runs the pipeline.

Examples:
  watershed drop gold.city_demand
  watershed drop gold.city_demand --yes")]
pub struct Args {
    /// The table, schema.table
    table: TableName,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Removes it.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let name = args.table.to_string();
    let definitions = warehouse.definitions().await?;
    if definitions.items.iter().any(|item| item.name == name) {
        bail!(Message::new(format!("{name} is still defined")).next("take it out of the project and `watershed apply` that, then drop it"));
    }
    // A pipeline that could never run has no table, and has left what it said of itself.
    let is_there = warehouse.tables().await?.contains(&args.table);
    if !is_there && !watershed_stream::reports(&warehouse).await?.iter().any(|report| report.pipeline == args.table) {
        bail!(
            Message::new(format!("there is no table {name} in {}", warehouse.url())).next("`watershed shell -c 'SHOW TABLES'` lists them")
        );
    }
    if !args.yes && !context.terminal.confirm(&format!("Remove {name} with all its rows?"))? {
        say!("nothing was removed");
        return Ok(0);
    }
    warehouse::forget_table(&warehouse, &args.table).await?;
    say!("removed {name}");
    Ok(0)
}
