//! `watershed rebuild`: drops rows and state of a streaming table that is still defined, so that its pipeline begins from the start.

use anyhow::{Result, bail};
use watershed_lake::TableName;
use watershed_message::Message;
use watershed_stream::{Planned, StreamError};

use crate::{Context, project, warehouse};

/// Drop a streaming table's rows and its pipeline's state; the next run reads its source from its start
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The way out when a table or its state was damaged, deleted or restored from another time, or when its topic was made anew. \
Rows that the topic no longer holds do not come back. Where the source \
says `start = 'latest'` or a time, it is read from there. Stop `watershed stream` before. The definition stays as it is.

Examples:
  watershed rebuild gold.city_demand
  watershed rebuild gold.city_demand --yes")]
pub struct Args {
    /// The streaming table, schema.table
    table: TableName,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Drops its rows and its state, after asking.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let name = &args.table;
    let Planned { blueprints, mut refused } = project::applied(&warehouse.definitions().await?).plan_each().await;
    if let Some(error) = refused.remove(name) {
        return Err(StreamError::cannot_plan(name, error).into());
    }
    let Some(blueprint) = blueprints.get(name) else {
        let known: Vec<String> = blueprints.keys().map(ToString::to_string).collect();
        bail!(
            Message::new(format!("{name} is no streaming table of the applied definitions"))
                .why(format!("there are {}", known.join(", ")))
                .next("`watershed run` refreshes a materialized view")
        );
    };
    if !args.yes && !context.terminal.confirm(&format!("Drop all rows of {name} and read its source anew?"))? {
        say!("nothing was changed");
        return Ok(0);
    }
    watershed_stream::rebuild(&warehouse, blueprint).await?;
    say!("{name} is empty; the next `watershed stream` reads its source from its start");
    Ok(0)
}
