//! `watershed status`: the pipelines and jobs as the warehouse knows them, whoever runs them.

use anyhow::Result;
use watershed_lake::kind;
use watershed_query::shell::{Format, Shell, ShellOptions};

use crate::system::{jobs, pipelines};
use crate::{Context, batch, project, warehouse};

/// Show each pipeline: who runs it, its newest epoch, how far behind it is, its counts; and each job's last run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the newest epoch record of each pipeline and the records of jobs from the warehouse; nothing needs to run here.

Examples:
  watershed status
  watershed status --offsets
  watershed status --output json | jq .
The same are tables: watershed shell -c 'SELECT * FROM system.pipelines', system.epochs, system.jobs, system.job_runs")]
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
    let warehouse = warehouse::open_to_read(&context.config)?;
    let definitions = warehouse.definitions().await?;
    let views = project::applied_views(&definitions)?;
    if args.output == Format::Table {
        let tables = definitions.items.iter().filter(|item| item.kind == kind::TABLE).count();
        let pipelines = if tables == 1 { "1 pipeline".to_owned() } else { format!("{tables} pipelines") };
        let pipelines = if views.is_empty() { pipelines } else { format!("{pipelines}, {}", batch::counted(&views)) };
        let revision = match definitions.revision {
            0 => "nothing is applied yet; `watershed apply DIR` does".to_owned(),
            revision => format!("{pipelines} defined (revision {revision})"),
        };
        say!("{}: {revision}", warehouse.url());
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
    let sql = format!("SELECT {}{more} FROM system.pipelines ORDER BY 1;", pipelines::SHOWN);
    let mut failed = shell.run_text(&sql, None).await.is_err();
    // A program that reads CSV or JSON wants one table; it asks for `system.jobs` itself.
    if args.output == Format::Table && !views.is_empty() {
        failed |= shell.run_text(&format!("SELECT {} FROM system.jobs;", jobs::SHOWN), None).await.is_err();
    }
    Ok(u8::from(failed))
}
