//! `watershed batch`: the scheduler of jobs as a process of its own.

use std::sync::Arc;

use anyhow::{Result, bail};
use watershed_batch::{JobRunner, Scheduler, SchedulerOptions, Views};
use watershed_message::Message;

use crate::board::done;
use crate::config::SettingFlag;
use crate::signals::{second_ends_at_once, stop_asked};
use crate::telemetry::Observed;
use crate::{Context, project, serve, upkeep, warehouse};

/// Refresh the materialized views of the applied definitions on their schedules
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each view is refreshed at its times (UTC), or when what it reads has changed; a new one at once. A time that passed while \
no scheduler ran is made up for by one run. Views that read each other are refreshed in order. Ctrl-C starts nothing more \
and lets runs end; a second one ends at once, and nothing is lost by it.

Examples:
  watershed batch
  watershed shell -c 'SHOW JOBS'
  watershed shell -c 'SELECT * FROM system.job_runs ORDER BY started DESC LIMIT 9'")]
pub struct Args {
    /// Answer /metrics, /healthz and /readyz here [default: the setting batch.http_address]
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
}

impl Args {
    /// The flags that override settings.
    pub fn settings(&self) -> [SettingFlag; 1] {
        [("batch.http_address", "--http-address", self.http_address.clone())]
    }
}

/// Runs until stopped.
pub async fn run(_: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let views = project::applied_views(&warehouse.definitions().await?)?;
    if views.is_empty() {
        let next = "CREATE MATERIALIZED VIEW and `watershed apply` define one";
        bail!(Message::new(format!("no materialized view is defined in {}", warehouse.url())).next(next));
    }
    say!("{}: {} scheduled; Ctrl-C stops", warehouse.url(), counted(&views));
    let upkeep = upkeep::start(&context.config, &warehouse)?;
    let runner = warehouse::job_runner(&context.config, warehouse.clone())?;
    let observed = Observed { pipelines: None, jobs: Some(runner.observer().clone()), tables: Some(warehouse), flight: None };
    let scheduler = start(context, runner, views, true)?;
    let _http = match context.config.address("batch.http_address")? {
        Some(address) => {
            let server = serve::http_without_lake(observed, address).await?;
            tell!("metrics on {}metrics", server.url());
            Some(server)
        }
        None => None,
    };
    stop_asked().await;
    second_ends_at_once();
    tell!("stopping: runs that are under way may end first (Ctrl-C again ends at once)");
    scheduler.stop().await;
    upkeep.stop().await;
    Ok(0)
}

/// A scheduler with the settings in force; `told` prints a line for each run.
pub fn start(context: &Context, runner: JobRunner, views: Views, told: bool) -> Result<Scheduler> {
    let mut options = SchedulerOptions { parallel: context.config.number("batch.parallel")?.max(1), ..SchedulerOptions::default() };
    if told {
        options.listener = Some(Arc::new(|job, result| match result {
            Ok(record) => say!("{}", done(record)),
            Err(error) => tell!("{job} failed: {error}"),
        }));
    }
    Ok(Scheduler::start(runner, views, options))
}

/// `3 materialized views`
pub fn counted(views: &Views) -> String {
    if views.len() == 1 { "1 materialized view".to_owned() } else { format!("{} materialized views", views.len()) }
}
