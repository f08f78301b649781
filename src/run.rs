//! `watershed run`: refreshes a materialized view now, or shows how that would be done.

use anyhow::{Result, bail};
use tokio::sync::watch;
use watershed_batch::{JobRunner, Trigger, View, Views};
use watershed_dialect::did_you_mean;
use watershed_dialect::stages::{Stage, steps};
use watershed_message::Message;
use watershed_query::shell::{Cell, Column};

use crate::board::done;
use crate::signals::{INTERRUPTED, stop_asked};
use crate::{Context, project, warehouse};

/// Refresh a materialized view now, whatever its schedule
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rows of the view are replaced in one commit; until then, and if it fails, they are as they were. A run that is cut off \
anywhere is simply run again. Every run is kept in system.job_runs.

Examples:
  watershed run gold.book_totals
  watershed run gold.book_totals --upstream     refresh first the views that it reads
  watershed run gold.book_totals --explain      only show its stages
  watershed shell -c 'EXPLAIN MATERIALIZED VIEW gold.book_totals'
  watershed shell -c 'SHOW JOBS'")]
pub struct Args {
    /// The view, schema.table; the schema may be left out if only one has it
    job: String,
    /// Also refresh the views that it reads, those first that others read
    #[arg(long)]
    upstream: bool,
    /// Show the stages of the job instead of running it
    #[arg(long)]
    explain: bool,
}

/// Runs the job, or explains it.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let views = project::applied_views(&warehouse.definitions().await?)?;
    let view = find(&views, &args.job)?;
    let runner = warehouse::job_runner(&context.config, warehouse)?;
    if args.explain {
        say!("{}", explained(view, &runner.stages(view).await?, context).trim_end());
        return Ok(0);
    }
    let (asked, stop) = watch::channel(false);
    tokio::spawn(async move {
        stop_asked().await;
        tell!("stopping: the view stays as it is");
        asked.send_replace(true);
    });
    if args.upstream {
        for input in views.upstream(&view.name) {
            if !refreshed(&runner, input, Trigger::Downstream, &stop).await? {
                return Ok(INTERRUPTED);
            }
        }
    }
    Ok(if refreshed(&runner, view, Trigger::Manual, &stop).await? { 0 } else { INTERRUPTED })
}

/// Runs one job and says what came of it; false if it was stopped.
async fn refreshed(runner: &JobRunner, view: &View, trigger: Trigger, stop: &watch::Receiver<bool>) -> Result<bool> {
    match runner.run(view, trigger, stop.clone()).await {
        Ok(record) => {
            say!("{}", done(&record));
            Ok(true)
        }
        Err(watershed_batch::BatchError::Stopped) => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot refresh {}", view.name))),
    }
}

fn find<'a>(views: &'a Views, wanted: &str) -> Result<&'a View> {
    let named = |view: &&View| view.name.to_string() == wanted || view.name.table() == wanted;
    let found: Vec<&View> = views.iter().filter(named).collect();
    match found.as_slice() {
        [only] => Ok(only),
        [] if views.is_empty() => {
            bail!(Message::new("no materialized view is defined").next("CREATE MATERIALIZED VIEW and `watershed apply` define one"))
        }
        [] => {
            let names: Vec<String> = views.iter().map(|view| view.name.to_string()).collect();
            let near = did_you_mean(wanted, names.iter().map(String::as_str));
            let next = near.unwrap_or_else(|| format!("there are {}", names.join(", ")));
            bail!(Message::new(format!("there is no materialized view '{wanted}'")).next(next))
        }
        several => {
            let names: Vec<String> = several.iter().map(|view| view.name.to_string()).collect();
            bail!(Message::new(format!("'{wanted}' could be {}", names.join(" or "))).next("write the schema, too"))
        }
    }
}

fn explained(view: &View, stages: &[Stage], context: &Context) -> String {
    let columns = ["stage", "tasks", "what each task does"].map(|name| Column {
        name: name.to_owned(),
        number: name == "tasks",
        whole: name != "what each task does",
    });
    let row = |stage: &Stage| [stage.step.to_string(), stage.tasks.to_string(), stage.what.join("; ")].map(Cell::Text).to_vec();
    let rows: Vec<Vec<Cell>> = stages.iter().map(row).collect();
    format!("{}: {}\n{}", view.name, steps(stages), context.terminal.table(&columns, &rows))
}
