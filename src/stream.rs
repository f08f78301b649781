//! `watershed stream`: runs the pipelines of the applied definitions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use watershed_lake::TableName;
use watershed_message::Message;
use watershed_stream::{RunOptions, Runner, StateLimits, Until};

use crate::config::{Config, SettingFlag};
use crate::flags::Kafka;
use crate::live::Live;
use crate::signals::{second_ends_at_once, stop_asked};
use crate::telemetry::Observed;
use crate::{Context, project, serve, upkeep, warehouse};

/// How often a terminal's table is drawn again.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// How often a line is written elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the end of all pipelines is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Run the pipelines of the applied definitions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each pipeline goes on from its newest epoch in the warehouse. Ctrl-C commits what was read and stops; a second one stops \
at once, and nothing is lost by it. A pipeline that fails for a reason that may pass starts again by itself.

Examples:
  watershed stream
  watershed stream gold.city_demand --bootstrap kafka:9092
  watershed stream --until-caught-up --drain      for a backfill or a test")]
pub struct Args {
    #[command(flatten)]
    kafka: Kafka,
    /// Only these streaming tables
    #[arg(value_name = "TABLE")]
    only: Vec<TableName>,
    /// End when everything that stood in the topics at the start is committed
    #[arg(long)]
    until_caught_up: bool,
    /// Then close all windows that have rows: rows that come later are late for these, and in time for later windows
    #[arg(long, requires = "until_caught_up")]
    drain: bool,
    /// Tasks (threads) of each stage of a pipeline [default: the setting stream.parallelism]
    #[arg(long, value_name = "N")]
    parallelism: Option<usize>,
    /// Answer /metrics, /healthz and /readyz here [default: the setting stream.http_address]
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
}

impl Args {
    /// The flags that override settings.
    pub fn settings(&self) -> [SettingFlag; 2] {
        [self.kafka.setting(), ("stream.http_address", "--http-address", self.http_address.clone())]
    }
}

/// Runs until stopped, or until caught up.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open(&context.config).await?;
    let project = project::applied(&warehouse.definitions().await?);
    if project.tables.is_empty() && project.unreadable.is_empty() {
        bail!(Message::new(format!("no streaming table is defined in {}", warehouse.url())).next("`watershed apply DIR` defines them"));
    }
    let parallelism = args.parallelism.unwrap_or(context.config.number("stream.parallelism")?);
    let options = RunOptions {
        sources: warehouse::sources(&context.config, &warehouse, warehouse::kafka(&context.config)),
        sinks: Arc::new(warehouse::kafka(&context.config)),
        only: args.only,
        until: if args.until_caught_up { Until::CaughtUp { drain: args.drain } } else { Until::Stopped },
        state_limits: state_limits(&context.config)?,
        spill_dir: spill_dir(&context.config),
        parallelism: (parallelism > 0).then_some(parallelism),
    };
    let upkeep = upkeep::start(&context.config, &warehouse)?;
    let runner = Runner::start(warehouse.clone(), &project, options).await?;
    let _http = match context.config.address("stream.http_address")? {
        Some(address) => {
            let observed = Observed { pipelines: Some(runner.observer()), jobs: None, tables: Some(warehouse), flight: None };
            let server = serve::http_without_lake(observed, address).await?;
            tell!("metrics on {}metrics", server.url());
            Some(server)
        }
        None => None,
    };
    let mut live = Live::new(context.terminal);
    let stopped = watch(&runner, &mut live, context).await;
    if stopped {
        second_ends_at_once();
        tell!("stopping: what was read is committed first (Ctrl-C again ends at once)");
        runner.stop();
    }
    let code = finish(runner, &mut live).await;
    upkeep.stop().await;
    code
}

/// What the state of pipelines may take.
pub fn state_limits(config: &Config) -> Result<StateLimits> {
    Ok(StateLimits { process: Some(config.bytes("stream.state_limit")?), pipeline: Some(config.bytes("stream.pipeline_state_limit")?) })
}

/// Where state is put aside.
pub fn spill_dir(config: &Config) -> PathBuf {
    config.optional("stream.spill_dir").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Shows the pipelines until they end (false) or a stop is asked for (true).
async fn watch(runner: &Runner, live: &mut Live, context: &Context) -> bool {
    let on_screen = context.terminal.output;
    let mut draw = tokio::time::interval(if on_screen { DRAW_EVERY } else { LINE_EVERY });
    let mut look = tokio::time::interval(LOOK_EVERY);
    let stop = stop_asked();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return true,
            _ = look.tick() => {
                live.tell(&runner.metrics());
                if runner.ended() {
                    return false;
                }
            }
            _ = draw.tick() => {
                let metrics = runner.metrics();
                if on_screen {
                    let table = live.table(&metrics);
                    live.rewrite(&table);
                } else {
                    say!("{}", live.line(&metrics));
                }
            }
        }
    }
}

async fn finish(runner: Runner, live: &mut Live) -> Result<u8> {
    let mut failed = 0;
    let last = runner.metrics();
    for (table, result) in runner.join().await {
        if let Err(error) = result {
            failed += 1;
            if let Some(text) = live.failure(&table, true, &error.message()) {
                tell!("{text}");
            }
        }
    }
    say!("{}", live.line(&last));
    Ok(u8::from(failed > 0))
}
