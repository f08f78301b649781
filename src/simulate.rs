//! `watershed simulate`: a ride-hailing world as events in Kafka.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use watershed_message::Message;
use watershed_query::shell::grouped;
use watershed_simulator::{Fraud, Injection, Partitions, Settings, city_names};

use crate::config::{SettingFlag, parse_duration};
use crate::feed::{Feed, Order, Origin, Pace, Progress, Target, now_us};
use crate::flags::Kafka;
use crate::signals::{INTERRUPTED, second_ends_at_once, stop_asked};
use crate::{Context, warehouse};

/// How often progress is written.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Write a ride-hailing city's events to Kafka: rides, driver locations, payments, clicks, labels of the fraud among them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Topics: ride-events, driver-locations, payments, clickstream, fraud-labels; they are made if missing. The same seed and settings \
give the same events, byte for byte; --truth writes what tables made from them must hold.

Examples:
  watershed simulate --bootstrap localhost:9092
  watershed simulate --rate max --events 1000000 --seed 7 --truth truth.json
  watershed simulate --rate max --seconds 3600 --clean --out hour.jsonl
  watershed simulate --replay hour.jsonl --rate 10x")]
pub struct Args {
    #[command(flatten)]
    kafka: Kafka,
    /// How fast simulated time runs: real, max, or a factor such as 10x
    #[arg(long, value_name = "PACE", default_value = "real")]
    rate: Pace,
    /// End after about this many events
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// End after this much simulated time, for example 90, 5m, 2h
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    seconds: Option<Duration>,
    /// Seed of all randomness
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where simulated time begins, RFC 3339 [default: now at the real rate, else 2026-01-05T07:00:00Z]
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Cities, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = Settings::default().cities)]
    cities: Vec<String>,
    /// Drivers over all cities; each on shift sends its place every 4 s
    #[arg(long, value_name = "N", default_value_t = Settings::default().drivers)]
    drivers: u32,
    /// Riders over all cities
    #[arg(long, value_name = "N", default_value_t = Settings::default().riders)]
    riders: u32,
    /// Simulated time that passes unseen before the start, so that trips are under way
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    warm_up: Option<Duration>,
    /// Fraud episodes of each kind that begin per simulated hour, 0 for none [default: 6]
    #[arg(long, value_name = "N")]
    fraud_rate: Option<f64>,
    /// Partitions of every topic [default: 4, payments 2, fraud-labels 1]
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// Share of events that leave up to 8 s after they happened
    #[arg(long, value_name = "0..1")]
    disorder_rate: Option<f64>,
    /// Share of events held back for 75 s to 4 min
    #[arg(long, value_name = "0..1")]
    late_rate: Option<f64>,
    /// Share of events sent twice
    #[arg(long, value_name = "0..1")]
    duplicate_rate: Option<f64>,
    /// Share of messages made unreadable
    #[arg(long, value_name = "0..1")]
    malformed_rate: Option<f64>,
    /// Every so many seconds one partition of each topic falls silent
    #[arg(long, value_name = "SECONDS")]
    idle_every: Option<u32>,
    /// For so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle_for: Option<u32>,
    /// No disorder, nothing late, no duplicates, nothing malformed, unless a rate says otherwise
    #[arg(long)]
    clean: bool,
    /// Write counts and sums of all events to this file at the end (JSON)
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    truth: Option<PathBuf>,
    /// Write the events to this file (- for standard output) instead of Kafka
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Send the events of a file that --out wrote
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    replay: Option<PathBuf>,
}

impl Args {
    /// The flags that override settings.
    pub fn settings(&self) -> [SettingFlag; 1] {
        [self.kafka.setting()]
    }
}

/// Runs until its limit, or until stopped.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let origin = match &args.replay {
        Some(path) => Origin::Replay(path.clone()),
        None => Origin::World(Box::new(world(&args)?)),
    };
    let (target, place) = match &args.out {
        Some(path) => (Target::File(path.clone()), path.display().to_string()),
        None => (Target::Kafka(warehouse::kafka(&context.config)), context.config.text("kafka.bootstrap").to_owned()),
    };
    let order = Order { origin, target, pace: args.rate, events_max: args.events, span: args.seconds, truth: args.truth };
    let feed = Feed::start(order)?;
    let started = Instant::now();
    let on_screen = context.terminal.error;
    let mut say = tokio::time::interval(if on_screen { SAY_EVERY } else { SAY_EVERY * 10 });
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut before = (started, feed.progress());
    let stop = stop_asked();
    tokio::pin!(stop);
    let mut stopped = false;
    while !feed.ended() {
        tokio::select! {
            () = &mut stop, if !stopped => {
                stopped = true;
                feed.stop();
                second_ends_at_once();
            }
            _ = look.tick() => {}
            _ = say.tick() => {
                let now = (Instant::now(), feed.progress());
                let seconds = now.0.duration_since(before.0).as_secs_f64();
                if seconds > 0.5 {
                    let text = progress_line(&now.1, (now.1.events - before.1.events) as f64 / seconds);
                    if on_screen { rewrite(&text) } else { tell!("{text}") }
                    before = now;
                }
            }
        }
    }
    if on_screen {
        rewrite("");
    }
    let end = tokio::task::spawn_blocking(move || feed.join()).await??;
    let rate = end.events as f64 / started.elapsed().as_secs_f64().max(1e-3);
    tell!("{} to {place}", progress_line(&end, rate));
    Ok(if stopped && args.events.is_some() { INTERRUPTED } else { 0 })
}

/// Writes `text` over the line the cursor is in.
fn rewrite(text: &str) {
    let mut screen = std::io::stderr();
    // If the terminal is gone, the signal that says so ends the program.
    let _ = write!(screen, "\r\x1b[K{text}").and_then(|()| screen.flush());
}

fn progress_line(progress: &Progress, rate: f64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(progress.now_us as i64);
    let clock =
        time.filter(|_| progress.now_us > 0).map_or("warming up".to_owned(), |time| time.format("at %Y-%m-%d %H:%M:%S").to_string());
    let megabytes = progress.bytes as f64 / 1e6;
    format!("{} events, {megabytes:.1} MB, {} events/s, {clock}", grouped(progress.events as usize), grouped(rate.round() as usize))
}

/// The world that the flags describe.
fn world(args: &Args) -> Result<Settings> {
    let standard = Settings::default();
    let start_time_us = match args.start.as_deref() {
        Some("now") => now_us(),
        Some(text) => {
            let time = chrono::DateTime::parse_from_rfc3339(text);
            time.map_err(|why| {
                anyhow!(
                    Message::new(format!("--start '{text}' is not a time"))
                        .why(why.to_string())
                        .next("write for example 2026-01-05T07:00:00Z, or now")
                )
            })?
            .timestamp_micros()
        }
        None if args.rate == Pace::Real => now_us(),
        None => standard.start_time_us,
    };
    let base = if args.clean { Injection::none() } else { standard.injection };
    let injection = Injection {
        disorder_rate: args.disorder_rate.unwrap_or(base.disorder_rate),
        late_rate: args.late_rate.unwrap_or(base.late_rate),
        duplicate_rate: args.duplicate_rate.unwrap_or(base.duplicate_rate),
        malformed_rate: args.malformed_rate.unwrap_or(base.malformed_rate),
        idle_every_s: args.idle_every.unwrap_or(base.idle_every_s),
        idle_for_s: args.idle_for.unwrap_or(base.idle_for_s),
        ..base
    };
    let settings = Settings {
        seed: args.seed,
        cities: args.cities.clone(),
        drivers: args.drivers,
        riders: args.riders,
        start_time_us,
        warm_up_s: args.warm_up.map_or(Ok(standard.warm_up_s), |span| u32::try_from(span.as_secs()).context("--warm-up is too long"))?,
        fraud: args.fraud_rate.map_or(standard.fraud, Fraud::each),
        partitions: args.partitions.map_or(standard.partitions, Partitions::all),
        injection,
        ..standard
    };
    if let Err(error) = settings.check() {
        let cities: Vec<&str> = city_names().collect();
        bail!(error.message().next(format!("correct it and start again. Cities: {}", cities.join(", "))));
    }
    Ok(settings)
}
