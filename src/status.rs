//! `watershed status`: the pipelines as the warehouse knows them, whoever runs them.

use anyhow::Result;
use watershed_query::shell::{Format, Shell, ShellOptions};

use crate::pipelines::SHOWN;
use crate::{Context, warehouse};

/// Show each pipeline's newest epoch, watermark and counts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the newest epoch record of each pipeline from the warehouse; no pipeline needs to run here.

Examples:
  watershed status
  watershed status --offsets
  watershed status --output json | jq .
The same is a table: watershed shell -c 'SELECT * FROM system.pipelines'")]
pub struct Args {
    /// Also the next offset of each partition and who wrote the epoch
    #[arg(long)]
    offsets: bool,
    /// table, csv or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Prints the pipelines.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let definitions = warehouse.definitions().await?;
    if args.output == Format::Table {
        let tables = definitions.items.iter().filter(|item| item.kind == crate::project::TABLE).count();
        let pipelines = if tables == 1 { "1 pipeline".to_owned() } else { format!("{tables} pipelines") };
        let revision = match definitions.revision {
            0 => "nothing is applied yet; `watershed apply DIR` does".to_owned(),
            revision => format!("{pipelines} defined (revision {revision})"),
        };
        println!("{}: {revision}", warehouse.url());
    }
    let mut shell = Shell::new(
        warehouse::session(&context.config, warehouse)?,
        ShellOptions {
            format: args.output,
            timing: Some(false),
            history: None,
            terminal: context.terminal.output,
            color: context.terminal.color_output(),
            commands: Vec::new(),
        },
    );
    let more = if args.offsets { ", offsets, writer" } else { "" };
    let sql = format!("SELECT {SHOWN}{more} FROM system.pipelines ORDER BY 1;");
    Ok(u8::from(shell.run_text(&sql, None).await.is_err()))
}
