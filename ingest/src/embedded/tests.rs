//! The broker as librdkafka sees it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::guests::Guests;
use super::{EmbeddedBroker, EmbeddedSettings, Limits};
use crate::error::IngestError;
use crate::kafka::{self, KafkaFetch, KafkaIdentity, KafkaSettings};
use crate::producer::{Producer, ensure_topics};
use crate::source::{Fetch, FetchLimits, Identify, PartitionRange, Positions, RawBatch};

const LIMITS: FetchLimits = FetchLimits { rows: 1_000_000, bytes: 64 * 1024 * 1024 };
const PATIENCE: Duration = Duration::from_secs(30);

fn start(folder: Option<&Path>) -> (EmbeddedBroker, KafkaSettings) {
    let broker = EmbeddedBroker::start(&EmbeddedSettings { folder: folder.map(Path::to_path_buf), ..EmbeddedSettings::default() }).unwrap();
    let settings = KafkaSettings::new(broker.bootstrap());
    (broker, settings)
}

/// Sends `numbers` as text to partition `number % partitions`.
fn send(settings: &KafkaSettings, partitions: i64, numbers: std::ops::Range<i64>) {
    let mut producer = Producer::new(settings).unwrap();
    for number in numbers.clone() {
        let partition = Some((number % partitions) as i32);
        // librdkafka takes the timestamp 0 for "now".
        producer.send("numbers", partition, Some(b"k"), Some(number.to_string().as_bytes()), number + 1).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(producer.delivered(), numbers.count() as u64);
}

/// Fetches until every partition is read to its end.
fn read_to_end(fetch: &mut KafkaFetch, most: usize) -> BTreeMap<i32, Vec<RawBatch>> {
    let mut batches: BTreeMap<i32, Vec<RawBatch>> = BTreeMap::new();
    let started = Instant::now();
    while !fetch.progress().iter().all(|partition| partition.is_caught_up()) {
        assert!(started.elapsed() < PATIENCE, "not at the end: {:?}", fetch.progress());
        for batch in fetch.fetch(FetchLimits { rows: most, ..LIMITS }, Duration::from_millis(200)).unwrap() {
            batches.entry(batch.partition).or_default().push(batch);
        }
    }
    batches
}

fn numbers(batches: &[RawBatch]) -> Vec<i64> {
    let values = batches.iter().flat_map(|batch| (0..batch.len()).map(|index| batch.values.get(index).unwrap()));
    values.map(|value| std::str::from_utf8(value).unwrap().parse().unwrap()).collect()
}

#[test]
fn what_goes_in_comes_out_in_order_from_any_offset() {
    let (broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 3)]).unwrap();
    ensure_topics(&settings, &[("numbers", 3)]).unwrap();
    send(&settings, 3, 0..30_000);
    let range = |partition| PartitionRange { partition, low: 0, high: 10_000 };
    assert_eq!(kafka::partitions(&settings, "numbers").unwrap(), [range(0), range(1), range(2)]);
    // In the middle of a batch, too: pipelines go on wherever their epoch ended.
    for start in [0, 1, 777, 9_999, 10_000] {
        let positions: Positions = (0..3).map(|partition| (partition, start)).collect();
        let mut fetch = KafkaFetch::open(&settings, "numbers", &positions, false).unwrap();
        let batches = read_to_end(&mut fetch, 1000);
        for partition in 0..3_i64 {
            let got = batches.get(&(partition as i32)).map(Vec::as_slice).unwrap_or_default();
            assert!(numbers(got).into_iter().eq((start..10_000).map(|offset| offset * 3 + partition)), "{partition} from {start}");
            assert!(got.iter().flat_map(|batch| &batch.offsets).copied().eq(start..10_000), "{partition} from {start}");
            let times = got.iter().flat_map(|batch| &batch.timestamps_ms).copied();
            assert!(times.eq(numbers(got).iter().map(|number| number + 1)), "{partition} from {start}");
            assert!(got.iter().all(|batch| batch.len() <= 1000 && batch.keys.get(0) == Some(b"k")));
        }
    }
    broker.stop();
}

#[test]
fn a_folder_keeps_topics_records_and_offsets() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let (broker, settings) = start(Some(folder.path()));
        let error = EmbeddedBroker::start(&EmbeddedSettings { folder: Some(folder.path().into()), ..EmbeddedSettings::default() });
        assert!(matches!(error, Err(IngestError::Embedded { .. })), "two brokers in one folder");
        ensure_topics(&settings, &[("numbers", 2)]).unwrap();
        send(&settings, 2, round * 1000..(round + 1) * 1000);
        broker.stop();
    }
    let (broker, settings) = start(Some(folder.path()));
    let mut fetch = KafkaFetch::open(&settings, "numbers", &Positions::from([(0, 0), (1, 0)]), false).unwrap();
    let batches = read_to_end(&mut fetch, 100_000);
    assert!(numbers(&batches[&1]).into_iter().eq((0..1500).map(|offset| offset * 2 + 1)));
    broker.stop();
}

#[test]
fn what_a_kill_left_half_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, settings) = start(Some(folder.path()));
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    send(&settings, 1, 0..100);
    send(&settings, 1, 100..200);
    broker.stop();
    let topic = std::fs::read_dir(folder.path().join("topics")).unwrap().next().unwrap().unwrap().path();
    let log = topic.join("0").join(format!("{:020}.log", 0));
    let length = std::fs::metadata(&log).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 7).unwrap();
    let (broker, settings) = start(Some(folder.path()));
    let high = kafka::partitions(&settings, "numbers").unwrap()[0].high;
    assert!((100..200).contains(&high), "the last batch is gone, the first is not: {high}");
    send(&settings, 1, high..300);
    let mut fetch = KafkaFetch::open(&settings, "numbers", &Positions::from([(0, 0)]), false).unwrap();
    assert!(numbers(&read_to_end(&mut fetch, 1000)[&0]).into_iter().eq(0..300));
    broker.stop();
}

#[test]
fn old_records_go_when_the_budget_is_used_up_and_a_reader_behind_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let budget = 2 * 1024 * 1024;
    let settings = EmbeddedSettings { folder: Some(folder.path().into()), retention_bytes: budget, ..EmbeddedSettings::default() };
    let broker = EmbeddedBroker::start(&settings).unwrap();
    let mut kafka = KafkaSettings::new(broker.bootstrap());
    ensure_topics(&kafka, &[("numbers", 2)]).unwrap();
    kafka.properties.insert("compression.codec".into(), "none".into());
    // Opened at the beginning, hardly reads ahead, and is not asked until that is gone.
    let mut slow = kafka.clone();
    slow.properties
        .extend([("queued.max.messages.kbytes", "100"), ("fetch.message.max.bytes", "10000")].map(|(n, v)| (n.into(), v.into())));
    let mut behind = KafkaFetch::open(&slow, "numbers", &Positions::from([(0, 0)]), false).unwrap();
    let mut producer = Producer::new(&kafka).unwrap();
    let value = [b'x'; 1000];
    for number in 0..16 * 1024 {
        producer.send("numbers", Some(number % 2), None, Some(&value), 0).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let used = || -> u64 {
        let files = walk(&folder.path().join("topics"));
        files.iter().map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len())).sum()
    };
    let started = Instant::now();
    while used() > budget {
        assert!(started.elapsed() < PATIENCE, "{} bytes are left", used());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(used() > budget / 4, "not more is deleted than must be: {} bytes are left", used());
    let ranges = kafka::partitions(&kafka, "numbers").unwrap();
    for range in &ranges {
        assert!(range.low > 0 && range.high == 8 * 1024, "{range:?}");
    }
    let mut fetch = KafkaFetch::open(&kafka, "numbers", &ranges.iter().map(|range| (range.partition, range.low)).collect(), false).unwrap();
    let batches = read_to_end(&mut fetch, 100_000);
    assert_eq!(batches[&0][0].offsets[0], ranges[0].low);
    let gone = KafkaFetch::open(&kafka, "numbers", &Positions::from([(0, 5)]), false).err().unwrap();
    assert!(matches!(gone, IngestError::OffsetGone { wanted: 5, low, .. } if low == ranges[0].low), "{gone}");
    let started = Instant::now();
    // What it had prefetched comes first and in order; then the gap is an error, not a jump.
    let mut next = 0;
    let gone = loop {
        assert!(started.elapsed() < PATIENCE, "no error");
        match behind.fetch(LIMITS, Duration::from_millis(100)) {
            Ok(batches) => batches.iter().flat_map(|batch| &batch.offsets).for_each(|offset| {
                assert_eq!(*offset, next);
                next += 1;
            }),
            Err(error) => break error,
        }
    };
    assert!(matches!(gone, IngestError::OffsetGone { wanted, .. } if wanted == next), "{gone}");
    broker.stop();
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_broker_that_is_away_for_a_while_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, settings) = start(Some(folder.path()));
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    send(&settings, 1, 0..100);
    let port = settings.bootstrap.rsplit(':').next().unwrap().parse().unwrap();
    let mut fetch = KafkaFetch::open(&settings, "numbers", &Positions::from([(0, 0)]), false).unwrap();
    assert_eq!(numbers(&read_to_end(&mut fetch, 1000)[&0]), (0..100).collect::<Vec<_>>());
    // An idempotent producer lives through it, too.
    let mut producer = Producer::new(&settings).unwrap();
    producer.send("numbers", Some(0), None, Some(b"100"), 0).unwrap();
    producer.flush(PATIENCE).unwrap();
    broker.stop();
    let started = Instant::now();
    let mut got = Vec::new();
    while fetch.is_connected() {
        assert!(started.elapsed() < PATIENCE, "the outage goes unnoticed");
        got.extend(numbers(&fetch.fetch(LIMITS, Duration::from_millis(50)).unwrap()));
    }
    producer.send("numbers", Some(0), None, Some(b"101"), 0).unwrap();
    let again = EmbeddedSettings { folder: Some(folder.path().into()), port: Some(port), ..EmbeddedSettings::default() };
    let broker = EmbeddedBroker::start(&again).unwrap();
    producer.flush(PATIENCE).unwrap();
    while got.len() < 2 {
        assert!(started.elapsed() < PATIENCE, "only {got:?}");
        got.extend(numbers(&fetch.fetch(LIMITS, Duration::from_millis(100)).unwrap()));
    }
    assert_eq!(got, [100, 101]);
    assert!(fetch.is_connected());
    broker.stop();
}

#[test]
fn what_does_not_exist_is_named() {
    let (broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let open = |topic: &str, positions: &[(i32, i64)]| {
        KafkaFetch::open(&settings, topic, &positions.iter().copied().collect(), false).map(|_| ()).unwrap_err()
    };
    assert!(matches!(open("letters", &[(0, 0)]), IngestError::UnknownTopic { topic } if topic == "letters"));
    assert!(matches!(open("numbers", &[(1, 0)]), IngestError::UnknownPartition { partition: 1, .. }));
    assert!(matches!(open("numbers", &[(0, 1)]), IngestError::OffsetGone { wanted: 1, low: 0, high: 0, .. }));
    assert!(matches!(kafka::partitions(&settings, "letters"), Err(IngestError::UnknownTopic { .. })));
    let mut odd = settings.clone();
    odd.properties.insert("ssl.keystore.password".into(), "s3cret".into());
    odd.properties.insert("auto.offset.reset".into(), "earliest".into());
    assert!(matches!(kafka::partitions(&odd, "numbers"), Err(IngestError::Setting { name, .. }) if name == "auto.offset.reset"));
    odd.properties.remove("auto.offset.reset");
    odd.properties.insert("security.protocol".into(), "s3cret".into());
    let error = kafka::partitions(&odd, "numbers").unwrap_err();
    assert!(!format!("{error} {error:?} {odd:?}").contains("s3cret"), "values of settings are not shown: {error}");
    broker.stop();
    let started = Instant::now();
    assert!(matches!(kafka::partitions(&settings, "numbers"), Err(IngestError::BrokerUnreachable { .. })));
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_topic_that_is_made_again_has_another_id() {
    let (broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let mut asks = KafkaIdentity::open(&settings, "numbers").unwrap();
    let first = asks.identity(PATIENCE).unwrap().expect("an id");
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(asks.identity(PATIENCE).unwrap().as_ref(), Some(&first));
    }
    eprintln!("a question takes {} µs", started.elapsed().as_micros() / 100);

    let admin: AdminClient<DefaultClientContext> = settings.client(&[]).unwrap().create().unwrap();
    futures::executor::block_on(admin.delete_topics(&["numbers"], &AdminOptions::new())).unwrap().remove(0).unwrap();
    assert!(matches!(asks.identity(PATIENCE), Err(IngestError::UnknownTopic { topic }) if topic == "numbers"));
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let second = asks.identity(PATIENCE).unwrap().expect("an id");
    assert_ne!(first, second);
    broker.stop();
    let started = Instant::now();
    assert!(matches!(asks.identity(Duration::from_secs(1)), Err(IngestError::BrokerUnreachable { .. })));
    assert!(started.elapsed() < PATIENCE);
}

/// At a low rate each report is of a few records, and there are many of them.
#[test]
fn a_slow_producer_keeps_no_record_longer_than_it_must() {
    let (_broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let mut producer = Producer::new(&settings).unwrap();
    for number in 0..8_192 {
        producer.send("numbers", Some(0), None, Some(b"1"), 0).unwrap();
        if number % 16 == 0 {
            std::thread::sleep(Duration::from_millis(6));
        }
    }
    assert!(producer.queued() < 4_096, "{} of 8,192 records wait to be told that they have arrived", producer.queued());
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn headers_tombstones_and_large_messages_pass() {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let (broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let large = vec![b'x'; 10 * 1024 * 1024];
    let mut producer = Producer::new(&settings).unwrap();
    producer.send("numbers", Some(0), Some(b"k"), None, 5).unwrap();
    producer.send("numbers", Some(0), None, Some(b""), 5).unwrap();
    producer.send("numbers", Some(0), None, Some(&large), 5).unwrap();
    producer.flush(PATIENCE).unwrap();
    let plain: BaseProducer = rdkafka::ClientConfig::new().set("bootstrap.servers", &settings.bootstrap).create().unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") }).insert(Header::<&str> { key: "b", value: None });
    plain.send(BaseRecord::<(), str>::to("numbers").partition(0).payload("p").headers(headers)).map_err(|(error, _)| error).unwrap();
    plain.flush(PATIENCE).unwrap();
    let mut fetch = KafkaFetch::open(&settings, "numbers", &Positions::from([(0, 0)]), true).unwrap();
    let batches = read_to_end(&mut fetch, 1);
    let batches = &batches[&0];
    let values: Vec<Option<usize>> = batches.iter().map(|batch| batch.values.get(0).map(<[u8]>::len)).collect();
    assert_eq!(values, [None, Some(0), Some(large.len()), Some(1)]);
    assert_eq!(batches[0].keys.get(0), Some(&b"k"[..]));
    assert_eq!(batches[1].keys.get(0), None);
    assert_eq!(batches[3].headers, [vec![("a".to_string(), Some(b"1".to_vec())), ("b".to_string(), None)]]);
    assert!(batches[0].headers[0].is_empty());
    broker.stop();
}

#[test]
fn a_connection_that_lies_is_closed_and_costs_nobody_else_anything() {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    let (broker, settings) = start(None);
    ensure_topics(&settings, &[("numbers", 1)]).unwrap();
    let frames: [(&str, &[u8]); 6] = [
        ("a length of 4 GiB", &[0xff, 0xff, 0xff, 0xff]),
        ("a length of 127 MiB and one byte", &[0x07, 0xf0, 0, 0, 1]),
        ("an empty frame", &[0, 0, 0, 0]),
        ("half a header", &[0, 0, 0, 4, 0, 3, 0, 1]),
        ("a request nobody knows", &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("a list of 2 billion topics", &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
    ];
    for (what, frame) in frames {
        let mut stranger = TcpStream::connect(broker.bootstrap()).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(frame).unwrap();
        stranger.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "{what}: closed without an answer");
    }
    send(&settings, 1, 0..10);
    assert_eq!(kafka::partitions(&settings, "numbers").unwrap()[0].high, 10);
    broker.stop();
}

/// Bytes of strangers: each request in each version with bodies of zeros, ones, huge lengths and noise, cut at every length.
#[test]
fn hostile_frames_are_answered_or_refused_and_cost_nobody_else_anything() {
    use bytes::Bytes;

    use super::catalog::Catalog;
    use super::protocol::VERSIONS;
    use super::serve::answer;
    use super::wire::tests::any_request;
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path().into(), 1 << 30, None).unwrap();
    catalog.create_topic("t", 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut noise = 7_u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) as u8
    };
    let bodies: Vec<Vec<u8>> = [
        vec![0; 96],
        vec![0xff; 96],
        [0x7f, 0xff, 0xff, 0xff].repeat(24),
        [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0].repeat(6),
        [0x02, 0x02, b't', 0x02, 0, 0, 0, 0].repeat(12),
    ]
    .into_iter()
    .chain((0..8).map(|_| (0..96).map(|_| next()).collect()))
    .collect();
    let (mut answered, mut refused) = (0, 0);
    for served in VERSIONS {
        for version in served.min..=served.max {
            for body in &bodies {
                for cut in (0..=body.len()).step_by(3) {
                    let mut frame = Vec::new();
                    frame.extend((served.kind as i16).to_be_bytes());
                    frame.extend(version.to_be_bytes());
                    frame.extend(9_i32.to_be_bytes());
                    frame.extend([0, 1, b'c']);
                    frame.extend(&body[..cut]);
                    let asked = answer(&catalog, Bytes::from(frame), 1);
                    // A fetch may ask to wait for ever.
                    match runtime.block_on(async { tokio::time::timeout(Duration::from_millis(20), asked).await }) {
                        Ok(Err(_)) => refused += 1,
                        Ok(Ok(_)) | Err(_) => answered += 1,
                    }
                }
            }
        }
    }
    assert!(refused > 100, "{answered} answered, {refused} refused");
    // What is a request is answered, whatever it asks for.
    for served in VERSIONS {
        for version in served.min..=served.max {
            for seed in 0..20 {
                let asked = answer(&catalog, any_request(served, version, seed), 1);
                let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(20), asked).await });
                assert!(!matches!(answer, Ok(Err(_))), "{served:?} {version} {seed}: {answer:?}");
            }
        }
    }
    assert!(catalog.topics().len() < 10_000, "{} topics were made", catalog.topics().len());
}

/// Bytes that ask for the versions of the protocol, as a client begins.
fn api_versions() -> Vec<u8> {
    let body = [0, 18, 0, 0, 0, 0, 0, 9, 0, 1, b'c'];
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Whether it is answered within a while; false if the connection ends.
fn is_answered(mut stream: &TcpStream) -> bool {
    let mut size = [0; 4];
    if stream.write_all(&api_versions()).and_then(|()| stream.read_exact(&mut size)).is_err() {
        return false;
    }
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).is_ok() && answer[..4] == [0, 0, 0, 9]
}

/// Waits until the broker closes it, which must take `least` or more.
fn ends(mut stream: &TcpStream, least: Duration) {
    let started = Instant::now();
    let read = stream.read(&mut [0; 64]);
    let ended = matches!(&read, Ok(0)) || read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(ended && started.elapsed() >= least, "{read:?} after {:?}", started.elapsed());
}

#[test]
fn connections_that_ask_nothing_or_half_of_something_end_and_lock_nobody_out() {
    let (idle_max, transfer_max) = (Duration::from_secs(3), Duration::from_secs(1));
    let limits = Limits { connections_max: 2, idle_max, transfer_max, ..Limits::default() };
    let broker = EmbeddedBroker::start_within(&EmbeddedSettings::default(), limits).unwrap();
    let connect = || {
        let stream = TcpStream::connect(broker.bootstrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // One that is idle is closed, and not before its time; one that asks goes on.
    let (silent, lively) = (connect(), connect());
    for _ in 0..8 {
        assert!(is_answered(&lively));
        std::thread::sleep(idle_max / 6);
    }
    ends(&silent, Duration::ZERO);
    assert!(is_answered(&lively));
    // Half a request, and a size without anything.
    for part in [&api_versions()[..9], &[0, 0, 1, 0], &[0]] {
        let mut half = connect();
        half.write_all(part).unwrap();
        ends(&half, transfer_max / 2);
        assert!(is_answered(&lively), "the other has gone");
    }
    // A third takes the place of the one that has asked nothing for longest.
    let (older, newer) = (connect(), connect());
    assert!(is_answered(&older) && is_answered(&newer));
    ends(&lively, Duration::ZERO);
    let third = connect();
    assert!(is_answered(&third) && is_answered(&newer));
    ends(&older, Duration::ZERO);
    // While all are at work, there is no place.
    let busy = [connect(), connect()];
    for mut stream in &busy {
        stream.write_all(&api_versions()[..5]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    ends(&connect(), Duration::ZERO);
    // They have ended by then.
    std::thread::sleep(transfer_max);
    assert!(is_answered(&connect()));
    broker.stop();
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn the_log_says_who_was_turned_away_and_not_once_for_each() {
    let log = Log::default();
    // While there is one alone, the thread of another test, which has none, may turn events off for all.
    let _second = tracing::Dispatch::new(log.clone());
    tracing::subscriber::with_default(log.clone(), || {
        let limits = Limits { connections_max: 1, log_every: Duration::from_secs(1), ..Limits::default() };
        let guests = Arc::new(Guests::new(limits));
        let peer = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let first = guests.enter(peer(1)).expect("a place");
        first.is_at_work(true);
        assert!((2..30).all(|port| guests.enter(peer(port)).is_none()));
        std::thread::sleep(limits.log_every);
        assert!(guests.enter(peer(30)).is_none());
        first.is_at_work(false);
        assert!(guests.enter(peer(31)).is_some(), "it takes the idle one's place");
    });
    let lines = log.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let said = ["closed a connection", "peer=127.0.0.1:2 ", "1 connections are at work already", "others_before=0 "];
    assert!(said.iter().all(|part| lines[0].contains(part)), "{lines:#?}");
    assert!(lines[1].contains("peer=127.0.0.1:30 ") && lines[1].contains("others_before=27 "), "{lines:#?}");
}
