//! How fast it is, on demand: `cargo test -p watershed-ingest --release -- --ignored --nocapture measure`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, TimeUnit};
use watershed_dialect::definition::{
    Connector, Format, OnError, OnGap, SourceColumn, SourceDefinition, Start, Tombstones, WatermarkDefinition,
};

use crate::embedded::{EmbeddedBroker, EmbeddedSettings};
use crate::json::JsonDecode;
use crate::kafka::{KafkaFetch, KafkaSettings};
use crate::producer::{Producer, ensure_topics};
use crate::reader::KafkaReader;
use crate::source::SourceRead;
use crate::source::{Decode, Fetch, FetchLimits, Positions, RawBatch};

const LIMITS: FetchLimits = FetchLimits { rows: 65_536, bytes: 32 * 1024 * 1024 };
const RECORDS: usize = 1_000_000;
const PARTITIONS: i32 = 4;

/// A Nexmark bid: 7 fields, about 258 bytes.
fn bid(number: usize) -> String {
    let extra = "x".repeat(88 + number % 7);
    format!(
        "{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"channel-{}\",\"url\":\"https://www.nexmark.com/item.htm?query={}\",\
         \"date_time\":\"2023-11-14T22:13:{:02}.{:03}Z\",\"extra\":\"{extra}\"}}",
        1000 + number % 977,
        2000 + number % 89,
        100 + number % 10_007,
        number % 97,
        number,
        number / 1000 % 60,
        number % 1000
    )
}

fn bids() -> SourceDefinition {
    let columns = [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("date_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("extra", DataType::Utf8),
    ];
    let column = |(name, data_type): (&str, DataType)| SourceColumn {
        field: Arc::new(Field::new(name, data_type, true)),
        metadata: None,
        epoch: None,
        path: Vec::new(),
        json: Vec::new(),
    };
    SourceDefinition {
        name: "bids".into(),
        columns: columns.into_iter().map(column).collect(),
        watermark: Some(WatermarkDefinition { column: "date_time".into(), delay_us: 0 }),
        connector: Connector::Kafka { topic: "bids".into(), properties: BTreeMap::new() },
        format: Format::Json,
        start: Start::Earliest,
        on_error: OnError::Quarantine,
        tombstones: Tombstones::Error,
        on_gap: OnGap::Fail,
        max_skew: Duration::from_secs(86_400 * 365),
        idle_timeout: Duration::from_secs(10),
    }
}

fn report(what: &str, records: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<42} {:>9.0} records/s ({seconds:.2} s)", records as f64 / seconds);
}

#[test]
#[ignore = "a measurement, not a check"]
fn measure_decode() {
    let mut raw = RawBatch::new(0);
    let rows = 65_536;
    (0..rows).for_each(|number| raw.push(number as i64, 1_700_000_000_000, None, Some(bid(number).as_bytes())));
    println!("{} bytes a record", raw.byte_len() / rows);
    for (what, wanted) in [("decode all 7 columns", vec![0, 1, 2, 3, 4, 5, 6]), ("decode 3 columns", vec![0, 2, 5])] {
        let mut decode = JsonDecode::new(&bids(), &wanted).unwrap();
        let started = Instant::now();
        for _ in 0..15 {
            assert_eq!(decode.decode(&raw).unwrap().rows.num_rows(), rows);
        }
        report(what, rows * 15, started);
    }
}

#[test]
#[ignore = "a measurement, not a check"]
fn measure_broker() {
    let broker = EmbeddedBroker::start(&EmbeddedSettings::default()).unwrap();
    let settings = KafkaSettings::new(broker.bootstrap());
    ensure_topics(&settings, &[("bids", PARTITIONS)]).unwrap();
    let values: Vec<String> = (0..RECORDS).map(bid).collect();
    let mut producer = Producer::new(&settings).unwrap();
    let started = Instant::now();
    for (number, value) in values.iter().enumerate() {
        producer.send("bids", Some(number as i32 % PARTITIONS), None, Some(value.as_bytes()), 1_700_000_000_000).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    report("produce (idempotent, lz4)", RECORDS, started);
    let positions: Positions = (0..PARTITIONS).map(|partition| (partition, 0)).collect();

    let mut fetch = KafkaFetch::open(&settings, "bids", &positions, false).unwrap();
    let (started, mut records) = (Instant::now(), 0);
    while records < RECORDS {
        records += fetch.fetch(LIMITS, Duration::from_secs(5)).unwrap().iter().map(RawBatch::len).sum::<usize>();
    }
    report("fetch", RECORDS, started);
    drop(fetch);

    let mut reader = KafkaReader::open(&bids(), &settings, &[0, 2, 5], &positions).unwrap();
    let (started, mut records) = (Instant::now(), 0);
    while records < RECORDS {
        records += reader.poll(LIMITS, Duration::from_secs(5)).unwrap().iter().map(|batch| batch.records).sum::<usize>();
    }
    report("fetch and decode 3 columns, one thread", RECORDS, started);
    drop(reader);

    // How long one record takes from send to fetch, the broker idle otherwise.
    let mut reader = KafkaFetch::open(&settings, "bids", &Positions::from([(0, RECORDS as i64 / 4)]), false).unwrap();
    reader.fetch(LIMITS, Duration::from_millis(300)).unwrap();
    let mut latencies_us: Vec<u128> = (0..100)
        .map(|_| {
            let started = Instant::now();
            producer.send("bids", Some(0), None, Some(b"{}"), 1).unwrap();
            producer.flush(Duration::from_secs(5)).unwrap();
            while reader.fetch(LIMITS, Duration::from_secs(5)).unwrap().is_empty() {}
            started.elapsed().as_micros()
        })
        .collect();
    latencies_us.sort_unstable();
    println!("send to fetch: median {} us, 99 of 100 within {} us", latencies_us[50], latencies_us[98]);
    broker.stop();
}
