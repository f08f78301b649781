//! Carries events of the simulator (or of a file) to Kafka or to a file, on a thread of its own, in real time or faster.
//!
//! State: the world, the counts so far. The thread ends when its limit is reached, when it is asked to end, or with the first error.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use watershed_ingest::KafkaSettings;
use watershed_ingest::producer::{Producer, ensure_topics};
use watershed_lake::clock;
use watershed_message::Message;
use watershed_simulator::{EventBuffer, Settings, Topic, World, replay};

/// Events taken from the world at once: about a megabyte.
const EVENTS_AT_ONCE: usize = 4096;
/// The longest sleep, so that a stop is noticed at once by a person's measure.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// How long Kafka may take to acknowledge the last records.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// How fast simulated time runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As in life.
    Real,
    /// So many times as fast.
    Times(f64),
    /// As fast as possible.
    Max,
}

impl std::str::FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "real" => Ok(Self::Real),
            "max" => Ok(Self::Max),
            other => match other.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok()) {
                Some(factor) if factor > 0.0 && factor.is_finite() => Ok(Self::Times(factor)),
                _ => Err(format!("'{other}' is not a pace; use real, max, or a factor such as 10x")),
            },
        }
    }
}

/// Where events come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A world.
    World(Box<Settings>),
    /// A file that `--out` wrote.
    Replay(PathBuf),
}

/// Where events go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Kafka; missing topics are made.
    Kafka(KafkaSettings),
    /// A file, one JSON object a line.
    File(PathBuf),
}

/// What to carry, how fast, how much.
#[derive(Debug, Clone)]
pub struct Order {
    /// From.
    pub origin: Origin,
    /// To.
    pub target: Target,
    /// How fast.
    pub pace: Pace,
    /// After so many events it ends.
    pub events_max: Option<u64>,
    /// After so much simulated time it ends.
    pub span: Option<Duration>,
    /// Where the world's truth goes at the end.
    pub truth: Option<PathBuf>,
}

/// What others may see while the thread runs.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    events: AtomicU64,
    bytes: AtomicU64,
    /// Simulated time, microseconds since 1970.
    now_us: AtomicU64,
}

/// A running feed.
pub struct Feed {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

/// How far a feed is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Events handed over.
    pub events: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Simulated time, microseconds since 1970; 0 before the first event.
    pub now_us: u64,
}

impl Feed {
    /// Starts the thread.
    pub fn start(order: Order) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("feed".to_owned()).spawn(move || carry(&order, &seen)).context("cannot start a thread")?;
        Ok(Self { shared, thread })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            events: self.shared.events.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            now_us: self.shared.now_us.load(Ordering::Relaxed),
        }
    }

    /// True once the thread has ended, well or not.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets the thread end: what was handed over is still acknowledged.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end. Blocks.
    pub fn join(self) -> Result<Progress> {
        let Self { shared, thread } = self;
        thread.join().map_err(|_| anyhow!("the simulator's thread panicked"))??;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Progress { events: value(&shared.events), bytes: value(&shared.bytes), now_us: value(&shared.now_us) })
    }
}

fn carry(order: &Order, shared: &Shared) -> Result<()> {
    match &order.origin {
        Origin::World(settings) => carry_world(order, settings, shared),
        Origin::Replay(path) => carry_file(order, path, shared),
    }
}

/// The end that events go into.
enum Outlet {
    Kafka(Box<Producer>),
    File(BufWriter<Box<dyn Write + Send>>, PathBuf),
}

impl Outlet {
    fn open(target: &Target, topics: &[(&str, i32)]) -> Result<Self> {
        match target {
            Target::Kafka(settings) => {
                ensure_topics(settings, topics)?;
                Ok(Self::Kafka(Box::new(Producer::new(settings)?)))
            }
            Target::File(path) => {
                let file: Box<dyn Write + Send> = if path.as_os_str() == "-" {
                    Box::new(std::io::stdout())
                } else {
                    Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
                };
                Ok(Self::File(BufWriter::with_capacity(1 << 20, file), path.clone()))
            }
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Kafka(producer) => Ok(producer.flush(FLUSH_TIMEOUT)?),
            Self::File(mut file, path) => file.flush().with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

fn carry_world(order: &Order, settings: &Settings, shared: &Shared) -> Result<()> {
    let mut world = World::new(settings.clone())?;
    let topics = Topic::ALL.map(|topic| (topic.name(), settings.partitions.of(topic)));
    let mut outlet = Outlet::open(&order.target, &topics)?;
    let start_us = world.now_us();
    let end_us = order.span.map_or(i64::MAX, |span| start_us.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)));
    let started = Instant::now();
    let mut buffer = EventBuffer::new();
    let mut left = order.events_max.unwrap_or(u64::MAX);
    while left > 0 && !shared.stop.load(Ordering::Relaxed) {
        let clock_us = match order.pace {
            Pace::Real => now_us(),
            Pace::Times(factor) => start_us.saturating_add((started.elapsed().as_micros() as f64 * factor) as i64),
            Pace::Max => i64::MAX,
        };
        let until_us = clock_us.min(end_us);
        buffer.clear();
        let reached = world.fill(until_us, EVENTS_AT_ONCE.min(usize::try_from(left).unwrap_or(usize::MAX)), &mut buffer);
        for event in buffer.iter() {
            match &mut outlet {
                Outlet::Kafka(producer) => {
                    producer.send(event.topic.name(), Some(event.partition), Some(event.key), Some(event.value), event.timestamp_ms)?;
                }
                Outlet::File(file, path) => {
                    replay::write(&event, file).with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        left = left.saturating_sub(buffer.len() as u64);
        shared.count(buffer.len() as u64, buffer.size_bytes() as u64, world.now_us());
        if reached && until_us >= end_us {
            break;
        }
        if reached {
            pause(world.next_us(), order.pace, clock_us);
        }
    }
    outlet.close()?;
    if let Some(path) = &order.truth {
        let text = serde_json::to_vec_pretty(&world.truth().to_json())?;
        std::fs::write(path, text).with_context(|| format!("cannot write the truth to {}", path.display()))?;
    }
    Ok(())
}

fn carry_file(order: &Order, path: &PathBuf, shared: &Shared) -> Result<()> {
    // Once through for the topics, so that they are there before the first record.
    let mut partitions = std::collections::BTreeMap::<String, i32>::new();
    for event in replay::read(path)? {
        let event = event?;
        let count = partitions.entry(event.topic).or_default();
        *count = (*count).max(event.partition + 1);
    }
    let topics: Vec<(&str, i32)> = partitions.iter().map(|(topic, count)| (topic.as_str(), *count)).collect();
    let Outlet::Kafka(mut producer) = Outlet::open(&order.target, &topics)? else {
        return Err(anyhow!(Message::new("a replayed file goes to Kafka, not to another file").next("leave out --out")));
    };
    let started = Instant::now();
    let mut first_us = None;
    for (count, event) in replay::read(path)?.enumerate() {
        let event = event?;
        let time_us = event.timestamp_ms.saturating_mul(1000);
        let first_us = *first_us.get_or_insert(time_us);
        let past_end = order.span.is_some_and(|span| i128::from(time_us - first_us) >= span.as_micros() as i128);
        if past_end || order.events_max.is_some_and(|most| count as u64 >= most) {
            break;
        }
        let factor = match order.pace {
            Pace::Real => Some(1.0),
            Pace::Times(factor) => Some(factor),
            Pace::Max => None,
        };
        while let Some(factor) = factor {
            let clock_us = first_us.saturating_add((started.elapsed().as_micros() as f64 * factor) as i64);
            if clock_us >= time_us || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            pause(time_us, order.pace, clock_us);
        }
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        producer.send(&event.topic, Some(event.partition), Some(&event.key), Some(&event.value), event.timestamp_ms)?;
        shared.count(1, (event.key.len() + event.value.len()) as u64, time_us);
    }
    Outlet::Kafka(producer).close()
}

impl Shared {
    fn count(&self, events: u64, bytes: u64, now_us: i64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.now_us.store(now_us.max(0) as u64, Ordering::Relaxed);
    }
}

/// Sleeps until simulated `next_us`, but not for long.
fn pause(next_us: i64, pace: Pace, clock_us: i64) {
    let factor = if let Pace::Times(factor) = pace { factor } else { 1.0 };
    let wait_us = (next_us.saturating_sub(clock_us) as f64 / factor).max(0.0);
    std::thread::sleep(SLEEP_MAX.min(Duration::from_micros(wait_us as u64 + 1)));
}

/// The clock, in microseconds since 1970.
pub fn now_us() -> i64 {
    clock::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(folder: &std::path::Path, name: &str) -> Order {
        let settings = Settings { drivers: 50, riders: 500, ..Settings::default() };
        Order {
            origin: Origin::World(Box::new(settings)),
            target: Target::File(folder.join(name)),
            pace: Pace::Max,
            events_max: Some(2_000),
            span: None,
            truth: Some(folder.join("truth.json")),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_file_and_a_truth_that_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            assert!(Feed::start(order(folder.path(), name)).unwrap().join().unwrap().events >= 2_000);
        }
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(read("a"), read("b"));
        let truth: serde_json::Value = serde_json::from_slice(&read("truth.json")).unwrap();
        let rows: u64 = truth["topics"].as_object().unwrap().values().map(|topic| topic["rows"].as_u64().unwrap()).sum();
        assert_eq!(rows, read("a").iter().filter(|byte| **byte == b'\n').count() as u64);
    }

    #[test]
    fn it_ends_after_its_span_of_simulated_time() {
        let folder = tempfile::tempdir().unwrap();
        let order = Order { events_max: None, span: Some(Duration::from_secs(30)), ..order(folder.path(), "a") };
        let end = Feed::start(order).unwrap().join().unwrap();
        let start_us = Settings::default().start_time_us as u64;
        assert!(end.events > 0 && end.now_us <= start_us + 30_000_000, "{end:?}");
    }

    #[test]
    fn paces_are_words_or_factors() {
        assert_eq!(["real", "max", "2.5x"].map(|text| text.parse::<Pace>().unwrap()), [Pace::Real, Pace::Max, Pace::Times(2.5)]);
        assert!(["fast", "0x", "-1x", "10"].iter().all(|text| text.parse::<Pace>().is_err()));
    }
}
