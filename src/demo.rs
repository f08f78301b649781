//! `watershed demo`: broker, simulator, pipelines, dashboard and SQL prompt in one process, over one folder.
//!
//! ```text
//!  feed.rs (simulator) ──► embedded broker ──► pipelines of sql/ ──► <dir>/warehouse ──► prompt
//! ```
//!
//! Started again over the same folder it goes on where it stopped. At its end it stops producing, lets the pipelines catch up,
//! and counts (`reconcile.rs`): every row produced must be somewhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use watershed_batch::{JobRunner, JobStatus, Scheduler, Views};
use watershed_ingest::KafkaSettings;
use watershed_ingest::embedded::{EmbeddedBroker, EmbeddedSettings};
use watershed_ingest::producer::ensure_topics;
use watershed_lake::Warehouse;
use watershed_message::Message;
use watershed_query::shell::{HostCommand, Shell, ShellOptions, grouped};
use watershed_simulator::{Fraud, Settings, Topic};
use watershed_stream::{Phase, Project, RunOptions, Runner, Until};

use crate::apply::Difference;
use crate::board::Board;
use crate::config::{SettingFlag, parse_duration};
use crate::feed::{Feed, Order, Origin, Pace, Target, now_us};
use crate::live::Live;
use crate::project::{self, SqlFile};
use crate::serve::{FLIGHT_ADDRESS, HTTP_ADDRESS, Servers, Taken};
use crate::signals::{ended_from_outside, second_ends_at_once, stop_asked};
use crate::telemetry::Observed;
use crate::terminal::{Screen, Terminal, paint};
use crate::{Context, batch, log, reconcile, stream, upkeep, warehouse};

/// The project `sql/`: (path, text).
const SQL: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/demo_sql.rs"));
/// Where everything is kept unless a folder is given.
const FOLDER: &str = "watershed-demo";
/// How often the table is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where no terminal is.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Before the prompt, pipelines are shown until they have committed, but no longer than this.
const SHOW_FIRST: Duration = Duration::from_secs(20);
/// How long pipelines may take to catch up at the end.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);
/// A demo left running for long must not fill the disk, and its rows of last week are not asked for.
const VACUUM_RETENTION: &str = "10m";
/// The same for the log: how far back `VERSION AS OF` could go.
const LOG_RETENTION: &str = "1h";
/// Exit code when rows do not add up.
const NOT_RECONCILED: u8 = 3;

/// See it work: rides and clicks stream through Kafka into tables that you query while it runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is kept in one folder; started again, it goes on where it stopped. To start over, delete the folder.

Examples:
  watershed demo
  watershed demo --drivers 100000             five times the load
  watershed demo --seconds 60 --no-prompt     ends by itself, and counts its rows
  watershed shell --warehouse watershed-demo/warehouse     from another terminal")]
pub struct Args {
    /// Where broker, warehouse and log are kept [default: ./watershed-demo, or beside --warehouse]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run these definitions instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// End after this time, for example 60 or 5m; without a prompt
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    seconds: Option<Duration>,
    /// Show the pipelines only, open no SQL prompt
    #[arg(long)]
    no_prompt: bool,
    /// Drivers over all cities: the load follows them
    #[arg(long, value_name = "N", default_value_t = Settings::for_demo().drivers)]
    drivers: u32,
    /// Fraud episodes of each of five kinds that begin per hour, 0 for none [default: 24]
    #[arg(long, value_name = "N")]
    fraud_rate: Option<f64>,
    /// Seed of the simulator
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where the dashboard is [default: the setting serve.http_address, or any free port if that one is taken]
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
    /// Where Flight SQL listens [default: the setting serve.flight_address, or any free port if that one is taken]
    #[arg(long, value_name = "HOST:PORT")]
    flight: Option<String>,
}

impl Args {
    /// The flags that override settings.
    pub fn settings(&self) -> [SettingFlag; 2] {
        [(HTTP_ADDRESS, "--http-address", self.http_address.clone()), (FLIGHT_ADDRESS, "--flight", self.flight.clone())]
    }
}

/// Runs until its time is up, the prompt is left, or it is stopped.
pub async fn run(args: Args, mut context: Context) -> Result<u8> {
    let dir = folder(&args, &context);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the demo's folder {}", dir.display()))?;
    context.config.default_to("warehouse", dir.join("warehouse").display().to_string());
    context.config.default_to("lake.vacuum_retention", VACUUM_RETENTION.to_owned());
    context.config.default_to("lake.log_retention", LOG_RETENTION.to_owned());
    let log_file = dir.join("watershed.log");
    // A log on standard error would tear the table and the prompt.
    log::start(&context, context.terminal.output.then_some(log_file.as_path()))?;
    let _alone = lock(&dir)?;
    let prompt = context.terminal.interactive() && !args.no_prompt && args.seconds.is_none();

    let stage = Stage::set(&args, &context, &dir).await?;
    let upkeep = upkeep::start(&context.config, &stage.warehouse)?;
    let runner = Arc::new(stage.start(&context).await?);
    let observed = Observed {
        pipelines: Some(runner.observer()),
        jobs: Some(stage.jobs.observer().clone()),
        tables: Some(stage.warehouse.clone()),
        flight: None,
    };
    let servers = Servers::start(&context, stage.warehouse.clone(), observed, Taken::Moves).await?;
    say!("{}{}", stage.describe(&context, &dir, &log_file), servers.describe());
    let feed = Feed::start(stage.order(&args))?;
    let scheduler = stage.schedule(&context)?;
    let board = stage.board(&context);
    let ending = Ending { at: args.seconds.map(|span| Instant::now() + span), prompt };
    let mut live = Live::new(context.terminal);
    let interrupted = watch(&runner, &feed, &mut live, &board, &context.terminal, &ending).await;
    if prompt && !interrupted {
        say!("\n{}", suggestions(&context));
        stage.prompt(&context, &runner).await?;
    }
    let code = stage.end(feed, runner, scheduler, &mut live, &context).await?;
    upkeep.stop().await;
    servers.stop().await;
    Ok(code)
}

fn folder(args: &Args, context: &Context) -> PathBuf {
    let beside = || {
        let warehouse = context.config.chosen("warehouse").filter(|url| !url.contains("://"))?;
        Path::new(warehouse).parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_path_buf)
    };
    args.dir.clone().or_else(beside).unwrap_or_else(|| PathBuf::from(FOLDER))
}

/// Two demos over one folder would take each other's records away.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("demo.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!(Message::new(format!("another demo runs in {}", dir.display())).next("stop it, or give this one another --dir")),
    }
}

/// When watching ends.
struct Ending {
    at: Option<Instant>,
    prompt: bool,
}

/// Everything the demo needs, before rows flow.
struct Stage {
    broker: EmbeddedBroker,
    kafka: KafkaSettings,
    warehouse: Warehouse,
    project: Project,
    views: Views,
    jobs: JobRunner,
    revision: u64,
}

impl Stage {
    async fn set(args: &Args, context: &Context, dir: &Path) -> Result<Self> {
        let settings = EmbeddedSettings { folder: Some(dir.join("broker")), ..EmbeddedSettings::default() };
        let partitions = Settings::for_demo().partitions;
        let (broker, kafka) = tokio::task::spawn_blocking(move || -> Result<_> {
            let broker = EmbeddedBroker::start(&settings)?;
            let kafka = KafkaSettings::new(broker.bootstrap());
            let topics = Topic::ALL.map(|topic| (topic.name(), partitions.of(topic)));
            ensure_topics(&kafka, &topics)?;
            Ok((broker, kafka))
        })
        .await??;
        let files = match &args.project {
            Some(folder) => project::read(folder)?,
            None => SQL.iter().map(|(name, text)| SqlFile { name: (*name).to_owned(), text: (*text).to_owned() }).collect(),
        };
        let checked = project::check(&files).await?;
        let (project, views) = (checked.project.clone(), checked.views.clone());
        let warehouse = warehouse::make(&context.config).await?;
        let in_force = warehouse.definitions().await?;
        let difference = Difference::find(&warehouse, in_force, checked).await?;
        difference.allowed(false).map_err(|_| {
            anyhow!(
                Message::new(format!("the definitions changed since {} was made", dir.display()))
                    .next("delete it to start over, or give another --dir")
            )
        })?;
        let revision = difference.carry_out(&warehouse).await?;
        let jobs = warehouse::job_runner(&context.config, warehouse.clone())?;
        Ok(Self { broker, kafka, warehouse, project, views, jobs, revision })
    }

    fn describe(&self, context: &Context, dir: &Path, log_file: &Path) -> String {
        let color = context.terminal.color_output();
        let log = if context.terminal.output { log_file.display().to_string() } else { "standard error".to_owned() };
        format!(
            "{}\n  broker     Kafka protocol on {}, kept in {}\n  simulator  ride-events, driver-locations, payments, clickstream, fraud-labels, in real time\n  \
             pipelines  {}, definitions revision {}\n  jobs       {} on their schedules\n  warehouse  {}\n  \
             upkeep     {}\n  log        {log}\n",
            paint("Watershed demo", "1", color),
            self.broker.bootstrap(),
            dir.join("broker").display(),
            self.project.tables.len(),
            self.revision,
            batch::counted(&self.views),
            self.warehouse.url(),
            upkeep::described(&context.config),
        )
    }

    fn order(&self, args: &Args) -> Order {
        let base = Settings::for_demo();
        let drivers = args.drivers;
        // The world is made for so many riders a driver.
        let riders = (u64::from(base.riders) * u64::from(drivers) / u64::from(base.drivers)).clamp(100, 9_999_999) as u32;
        let fraud = args.fraud_rate.map_or(base.fraud, Fraud::each);
        let settings = Settings { seed: args.seed, drivers, riders, fraud, start_time_us: now_us(), ..base };
        Order {
            origin: Origin::World(Box::new(settings)),
            target: Target::Kafka(self.kafka.clone()),
            pace: Pace::Real,
            events_max: None,
            span: None,
            truth: None,
        }
    }

    async fn start(&self, context: &Context) -> Result<Runner> {
        let sources = warehouse::sources(&context.config, &self.warehouse, self.kafka.clone());
        let sinks = Arc::new(self.kafka.clone());
        let options = RunOptions {
            sources,
            sinks,
            only: Vec::new(),
            until: Until::Stopped,
            state_limits: stream::state_limits(&context.config)?,
            spill_dir: stream::spill_dir(&context.config),
            parallelism: None,
        };
        Ok(Runner::start(self.warehouse.clone(), &self.project, options).await?)
    }

    fn schedule(&self, context: &Context) -> Result<Scheduler> {
        batch::start(context, self.jobs.clone(), self.views.clone(), false)
    }

    fn board(&self, context: &Context) -> Board {
        Board::new(self.views.clone(), self.jobs.runs().clone(), context.terminal)
    }

    async fn prompt(&self, context: &Context, runner: &Arc<Runner>) -> Result<()> {
        let session = warehouse::session(&context.config, self.warehouse.clone())?;
        let options = ShellOptions {
            format: watershed_query::shell::Format::Table,
            timing: None,
            history: crate::shell::history(),
            terminal: true,
            color: context.terminal.color_output(),
            commands: vec![Arc::new(StatusCommand { runner: Arc::clone(runner), board: self.board(context), terminal: context.terminal })],
        };
        let told = tokio::spawn(end_when_told(Arc::clone(runner), Screen::remember()));
        let left = Shell::new(session, options).interactive().await;
        told.abort();
        // Until it has ended it holds the pipelines.
        let _ = told.await;
        Ok(left?)
    }

    /// Stops producing, waits for the pipelines, counts.
    async fn end(self, feed: Feed, runner: Arc<Runner>, scheduler: Scheduler, live: &mut Live, context: &Context) -> Result<u8> {
        second_ends_at_once();
        say!("\nstopping: no more events; the pipelines read and commit what is there (Ctrl-C ends at once)");
        feed.stop();
        let fed = tokio::task::spawn_blocking(move || feed.join()).await??;
        let produced = reconcile::produced(&self.kafka, &self.project).await?;
        let caught_up = catch_up(&runner, &produced).await;
        runner.stop();
        let Some(runner) = Arc::into_inner(runner) else { bail!("the pipelines are still being looked at") };
        let last = runner.metrics();
        let mut failed = false;
        for (table, result) in runner.join().await {
            if let Err(error) = result {
                failed = true;
                if let Some(text) = live.failure(&table, true, &error.message()) {
                    tell!("{text}");
                }
            }
        }
        say!("{}", live.line(&last));
        scheduler.stop().await;
        let jobs = self.board(context).statuses().await?;
        say!("{} jobs made {} runs, {} of them failed", jobs.len(), runs(&jobs), failures(&jobs));
        say!("{} events were produced in this run", grouped(fed.events as usize));
        if !caught_up {
            say!("the pipelines did not catch up within {} s", CATCH_UP_TIMEOUT.as_secs());
        }
        let session = warehouse::session(&context.config, self.warehouse.clone())?;
        let account = reconcile::account(&session, &self.warehouse, &self.project, &produced).await?;
        say!("\n{}", account.render(&context.terminal).trim_end());
        let broker = self.broker;
        tokio::task::spawn_blocking(move || broker.stop()).await?;
        Ok(if !account.holds() { NOT_RECONCILED } else { u8::from(failed) })
    }
}

/// A person's prompt cannot be taken away: when a signal ends the process while one is open, it commits what was read and ends here.
async fn end_when_told(runner: Arc<Runner>, screen: Screen) {
    ended_from_outside().await;
    second_ends_at_once();
    screen.restore();
    tell!("\nstopping: what was read is committed first");
    runner.stop();
    let until = Instant::now() + CATCH_UP_TIMEOUT;
    while !runner.ended() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::process::exit(0);
}

/// Shows the pipelines until it is time for the prompt or the end (false), or until a stop is asked for (true).
async fn watch(runner: &Runner, feed: &Feed, live: &mut Live, board: &Board, terminal: &Terminal, ending: &Ending) -> bool {
    let mut draw = tokio::time::interval(if terminal.output { DRAW_EVERY } else { LINE_EVERY });
    let started = Instant::now();
    let stop = stop_asked();
    tokio::pin!(stop);
    let far = Duration::from_secs(365 * 86_400);
    let time_is_up = tokio::time::sleep(ending.at.map_or(far, |at| at.saturating_duration_since(Instant::now())));
    tokio::pin!(time_is_up);
    loop {
        tokio::select! {
            () = &mut stop => return true,
            () = &mut time_is_up => return false,
            _ = draw.tick() => {
                let metrics = runner.metrics();
                live.tell(&metrics);
                if terminal.output {
                    let table = live.table(&metrics) + &board.table().await;
                    let warming = if feed.progress().events == 0 { "the city wakes up …\n" } else { "" };
                    live.rewrite(&format!("{table}{warming}"));
                } else {
                    say!("{}", live.line(&metrics));
                }
                let all_committed = metrics.iter().all(|pipeline| pipeline.commits > 0 || matches!(pipeline.phase, Phase::Failed { .. }));
                if ending.prompt && (all_committed || started.elapsed() > SHOW_FIRST) || runner.ended() || feed.ended() {
                    return false;
                }
            }
        }
    }
}

fn runs(jobs: &[JobStatus]) -> usize {
    jobs.iter().map(|job| job.runs).sum()
}

fn failures(jobs: &[JobStatus]) -> usize {
    jobs.iter().map(|job| job.failed).sum()
}

/// Waits until all that was produced is committed by every pipeline that still runs; false if that takes too long.
async fn catch_up(runner: &Runner, produced: &reconcile::Produced) -> bool {
    let behind = || {
        runner.metrics().iter().any(|pipeline| {
            let alive = !matches!(pipeline.phase, Phase::Failed { .. } | Phase::Stopped);
            alive && pipeline.counters.rows_in < pipeline.sources.iter().map(|source| produced.of(&source.name)).sum::<u64>()
        })
    };
    let until = Instant::now() + CATCH_UP_TIMEOUT;
    while behind() {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

fn suggestions(context: &Context) -> String {
    let color = context.terminal.color_output();
    let warehouse = context.config.text("warehouse");
    // As it was typed: `make demo` runs it from where it was built.
    let program = std::env::args_os().next().map_or_else(|| "watershed".to_owned(), |typed| typed.to_string_lossy().into_owned());
    format!(
        "{}\n  SELECT event_type, count(*) FROM bronze.ride_events GROUP BY 1 ORDER BY 2 DESC;\n  \
         SELECT city, state, count(*) FROM bronze.driver_locations GROUP BY 1, 2;\n  \
         SELECT reason, count(*) FROM bronze.ride_events$quarantine GROUP BY 1;\n  \
         SELECT * FROM gold.trips_by_cell ORDER BY trips DESC LIMIT 9;\n  \
         SELECT * FROM gold.city_demand ORDER BY window_start DESC LIMIT 9;   -- in two minutes\n  \
         SHOW JOBS;\n  \
         \\d lists tables, \\status shows this picture live, \\? all commands, \\q ends the demo\n\
         From another terminal: {program} shell --warehouse {warehouse}\n",
        paint("Try", "1", color)
    )
}

/// `\status` at the demo's prompt.
struct StatusCommand {
    runner: Arc<Runner>,
    board: Board,
    terminal: Terminal,
}

#[async_trait::async_trait]
impl HostCommand for StatusCommand {
    fn name(&self) -> &'static str {
        "status"
    }

    fn help(&self) -> &'static str {
        "show the pipelines and jobs, live, until Ctrl-C"
    }

    async fn run(&self, _: &str) -> Result<(), String> {
        let mut live = Live::new(self.terminal);
        let mut draw = tokio::time::interval(DRAW_EVERY);
        loop {
            draw.tick().await;
            let metrics = self.runner.metrics();
            let mut text = live.table(&metrics) + &self.board.table().await;
            for news in live.news(&metrics) {
                text.push_str(&news);
                text.push('\n');
            }
            text.push_str("Ctrl-C returns to the prompt\n");
            live.rewrite(&text);
        }
    }
}
