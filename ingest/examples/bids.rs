//! Auction bids for benchmarks, and the plain reader that pipelines are compared with.
//!
//! ```text
//! bids produce BOOTSTRAP TOPIC EVENTS          fills a topic of 4 partitions as fast as it can; event time runs 10 events a millisecond
//! bids produce BOOTSTRAP TOPIC EVENTS RATE     RATE events a second, event time is now
//! bids read BOOTSTRAP TOPIC EVENTS KEY=VALUE… rdkafka's poll, arrow-json for all 7 fields, nothing else; librdkafka's defaults but for KEYs
//! ```
//!
//! A bid is 7 fields in about 258 bytes of JSON, as in Nexmark; 100,000 different auctions. `read` prints events, seconds, CPU seconds and
//! peak memory in KiB with tabs between.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use watershed_ingest::producer::{Producer, ensure_topics};
use watershed_ingest::{IngestError, KafkaSettings};

const PARTITIONS: i32 = 4;
const AUCTIONS: u64 = 100_000;
/// How long `read` waits for the next record.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rows decoded together.
const BATCH_ROWS: usize = 8192;
/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["produce", bootstrap, topic, events] => produce(bootstrap, topic, number(events), None).expect("produced"),
        ["produce", bootstrap, topic, events, rate] => produce(bootstrap, topic, number(events), Some(number(rate))).expect("produced"),
        ["read", bootstrap, topic, events, settings @ ..] => read(bootstrap, topic, number(events), settings),
        _ => {
            eprintln!("usage: bids produce BOOTSTRAP TOPIC EVENTS [RATE] | bids read BOOTSTRAP TOPIC EVENTS [KEY=VALUE]…");
            std::process::exit(2);
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is not a number"))
}

fn bid(event: u64, time_ms: i64) -> String {
    // A multiplicative hash scatters keys, so that a window meets many of them.
    let scattered = event.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let extra = "x".repeat(88 + (event % 7) as usize);
    let (seconds, millis) = (time_ms.div_euclid(1000), time_ms.rem_euclid(1000));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    format!(
        "{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"channel-{}\",\"url\":\"https://www.nexmark.com/item.htm?query={}\",\
         \"date_time\":\"{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z\",\"extra\":\"{extra}\"}}",
        scattered % AUCTIONS,
        scattered % 8_999,
        100 + scattered % 10_007,
        event % 97,
        event,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[expect(clippy::disallowed_methods, reason = "events of a benchmark happen now")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn produce(bootstrap: &str, topic: &str, events: u64, rate: Option<u64>) -> Result<(), IngestError> {
    let settings = KafkaSettings::new(bootstrap);
    ensure_topics(&settings, &[(topic, PARTITIONS)])?;
    let mut producer = Producer::new(&settings)?;
    let started = Instant::now();
    for event in 0..events {
        let time_ms = match rate {
            None => START_MS + (event / 10) as i64,
            Some(rate) => {
                let due = Duration::from_secs_f64(event as f64 / rate as f64);
                if let Some(early) = due.checked_sub(started.elapsed()).filter(|early| *early > Duration::from_millis(1)) {
                    std::thread::sleep(early);
                }
                now_ms()
            }
        };
        producer.send(topic, Some((event % PARTITIONS as u64) as i32), None, Some(bid(event, time_ms).as_bytes()), now_ms())?;
    }
    producer.flush(Duration::from_secs(60))?;
    println!("{events} events in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn read(bootstrap: &str, topic: &str, events: u64, settings: &[&str]) {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    let time = Field::new("date_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let fields = vec![whole("auction"), whole("bidder"), whole("price"), text("channel"), text("url"), time, text("extra")];
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(BATCH_ROWS).build_decoder().expect("a decoder");

    let started = Instant::now();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "plain-reader");
    for setting in settings {
        let (key, value) = setting.split_once('=').expect("KEY=VALUE");
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("assigned");
    let (mut taken, mut decoded, mut pending, mut last) = (0, 0, 0, started);
    while taken < events {
        // `poll` also comes back empty-handed when librdkafka had something else to say.
        let Some(message) = consumer.poll(Duration::from_secs(1)) else {
            assert!(last.elapsed() < PATIENCE, "{taken} of {events} events, then none for {PATIENCE:?}");
            continue;
        };
        last = Instant::now();
        let message = message.expect("a record");
        let mut bytes = message.payload().unwrap_or_default();
        while !bytes.is_empty() {
            let read = decoder.decode(bytes).expect("JSON");
            bytes = &bytes[read..];
            if read == 0 {
                decoded += decoder.flush().expect("rows").map_or(0, |batch| batch.num_rows());
                pending = 0;
            }
        }
        taken += 1;
        pending += 1;
        if pending == BATCH_ROWS {
            decoded += decoder.flush().expect("rows").map_or(0, |batch| batch.num_rows());
            pending = 0;
        }
    }
    decoded += decoder.flush().expect("rows").map_or(0, |batch| batch.num_rows());
    assert_eq!(decoded as u64, events, "every event is a row");
    println!("{events}\t{:.3}\t{:.2}\t{}", started.elapsed().as_secs_f64(), cpu_seconds(), status_kib("VmHWM"));
}

/// User and system time of this process so far; proc(5) counts in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    fields.get(11).zip(fields.get(12)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}

fn status_kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
