//! A small input with everything in it that may go wrong (disorder, late rows, duplicates within and across partitions, malformed
//! messages), and, by a simple computation of its own, what the tables of [`crate::project`] must hold after it.
//!
//! Deterministic: the same seed gives the same messages, so that runs can be compared.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;

/// Topic partitions of the input.
pub const PARTITIONS: i32 = 3;
/// Messages are produced in so many chunks, between which a test may do something.
pub const CHUNKS: usize = 4;
/// `WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'`.
const DELAY_US: i64 = 10 * SECOND_US;
/// `TUMBLE(…, INTERVAL '1 minute')`.
const WINDOW_US: i64 = 60 * SECOND_US;
/// `DEDUPLICATE(…, INTERVAL '10 minutes')`.
const WITHIN_US: i64 = 600 * SECOND_US;
const SECOND_US: i64 = 1_000_000;
const CITIES: [&str; 5] = ["Berlin", "Lagos", "Lima", "Osaka", "São Paulo"];

/// A readable event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time_us: i64,
    id: String,
    /// `None`: the key is absent, the column NULL.
    city: Option<&'static str>,
    cents: i64,
}

#[derive(Debug, Clone)]
enum Message {
    Readable(Event),
    Malformed(Vec<u8>),
}

/// Messages by partition, in offset order.
pub struct Input {
    partitions: Vec<Vec<Message>>,
}

/// Partition and offset.
pub type Coordinates = (i64, i64);

/// One row of `gold.by_minute` without its window's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Minute {
    pub events: i64,
    pub cents: i64,
    pub dearest: i64,
}

/// What the tables must hold after all of an input, with all windows closed.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    /// Readable messages: `bronze.events`.
    pub readable: BTreeSet<Coordinates>,
    /// The others: `bronze.events_in$quarantine`, once for each pipeline.
    pub malformed: BTreeSet<Coordinates>,
    /// `gold.by_minute`: start of the window in microseconds, city.
    pub minutes: BTreeMap<(i64, Option<String>), Minute>,
    /// Rows of `gold.by_minute$late`.
    pub late_for_minutes: usize,
    /// `silver.unique_events`.
    pub unique: BTreeSet<Coordinates>,
    /// Rows of `silver.unique_events$late`.
    pub late_for_unique: usize,
}

/// A small generator (splitmix64), so that the input does not depend on a crate's version.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

impl Input {
    /// `count` messages for each partition.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut random = Random(seed);
        let start_us = 1_717_236_000 * SECOND_US; // 2024-06-01 10:00 UTC
        let mut partitions: Vec<Vec<Message>> = (0..PARTITIONS).map(|_| Vec::with_capacity(count)).collect();
        let mut recent: Vec<Event> = Vec::new();
        for index in 0..count {
            for partition in 0..PARTITIONS {
                // Each partition lags the one before by 2 seconds; a copy from another one does not make its neighbours late.
                let now_us = start_us + index as i64 * 150_000 - i64::from(partition) * 2 * SECOND_US;
                let message = if random.one_in(200) {
                    Message::Malformed(malformed(&mut random))
                } else if random.one_in(40) && !recent.is_empty() {
                    let copy = recent.len() - 1 - random.below(recent.len().min(60) as u64) as usize;
                    Message::Readable(recent[copy].clone())
                } else {
                    let behind_us = if random.one_in(80) { random.below(300) as i64 * SECOND_US } else { random.below(5_000_000) as i64 };
                    let event = Event {
                        time_us: now_us - behind_us,
                        id: format!("e-{partition}-{index}"),
                        city: (!random.one_in(50)).then(|| CITIES[random.below(CITIES.len() as u64) as usize]),
                        cents: random.below(10_000) as i64 - 500,
                    };
                    recent.push(event.clone());
                    Message::Readable(event)
                };
                partitions[partition as usize].push(message);
            }
        }
        Self { partitions }
    }

    /// The values of one chunk with their partitions.
    pub fn chunk(&self, chunk: usize) -> Vec<(i32, Vec<u8>)> {
        let mut values = Vec::new();
        for (partition, messages) in (0..).zip(&self.partitions) {
            let (from, to) = (messages.len() * chunk / CHUNKS, messages.len() * (chunk + 1) / CHUNKS);
            values.extend(messages[from..to].iter().map(|message| (partition, message.to_bytes())));
        }
        values
    }

    /// Messages in all.
    pub fn len(&self) -> usize {
        self.partitions.iter().map(Vec::len).sum()
    }

    /// Computes what the tables must hold, one message after another.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        let mut in_time: Vec<(&Event, Coordinates)> = Vec::new();
        for (partition, messages) in (0..).zip(&self.partitions) {
            let mut watermark_us = i64::MIN;
            for (offset, message) in (0..).zip(messages) {
                let event = match message {
                    Message::Readable(event) => event,
                    Message::Malformed(_) => {
                        expected.malformed.insert((partition, offset));
                        continue;
                    }
                };
                expected.readable.insert((partition, offset));
                let window_start_us = event.time_us.div_euclid(WINDOW_US) * WINDOW_US;
                if window_start_us + WINDOW_US <= watermark_us {
                    expected.late_for_minutes += 1;
                } else {
                    let minute = expected.minutes.entry((window_start_us, event.city.map(str::to_string))).or_default();
                    minute.dearest = if minute.events == 0 { event.cents } else { minute.dearest.max(event.cents) };
                    minute.events += 1;
                    minute.cents += event.cents;
                }
                if event.time_us < watermark_us {
                    expected.late_for_unique += 1;
                } else {
                    in_time.push((event, (partition, offset)));
                }
                watermark_us = watermark_us.max(event.time_us - DELAY_US);
            }
        }
        // Copies of an event differ in their coordinates only, which are its last columns.
        in_time.sort_unstable();
        let mut last_seen_us: BTreeMap<&str, i64> = BTreeMap::new();
        for (event, coordinates) in in_time {
            let before = last_seen_us.insert(&event.id, event.time_us);
            if before.is_none_or(|before| event.time_us - before > WITHIN_US) {
                expected.unique.insert(coordinates);
            }
        }
        expected
    }
}

impl Message {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Malformed(bytes) => bytes.clone(),
            Self::Readable(event) => {
                let city = event.city.map(|city| format!(r#""city":"{city}","#)).unwrap_or_default();
                let time = DateTime::from_timestamp_micros(event.time_us).expect("a time").format("%Y-%m-%dT%H:%M:%S%.6fZ");
                // `fare` is a multiple of 1/4: sums of it are exact in any order.
                let fare = event.cents as f64 / 4.0;
                format!(
                    r#"{{"event_id":"{}","event_time":"{time}",{city}"cents":{},"fare":{fare},"unused":[1,{{"a":2}}]}}"#,
                    event.id, event.cents
                )
                .into_bytes()
            }
        }
    }
}

/// Events without any trouble, one a second, dealt out to `partitions`.
pub fn plain(numbers: std::ops::Range<i64>, partitions: i32) -> Vec<(i32, Vec<u8>)> {
    let event = |number: i64| {
        let time = DateTime::from_timestamp(1_717_236_000 + number, 0).expect("a time").format("%Y-%m-%dT%H:%M:%SZ");
        let text = format!(r#"{{"event_id":"e-{number}","event_time":"{time}","city":"Lima","cents":{number},"fare":1.5}}"#);
        ((number % i64::from(partitions)) as i32, text.into_bytes())
    };
    numbers.map(event).collect()
}

fn malformed(random: &mut Random) -> Vec<u8> {
    let texts: [&[u8]; 5] = [
        br#"{"event_id":"cut","event_time":"2024-06-01T10"#,
        b"502 Bad Gateway",
        b"",
        br#"{"event_id":"no time","city":"Lima","cents":1,"fare":1.0}"#,
        br#"{"event_id":"bad time","event_time":"yesterday","city":"Lima","cents":1,"fare":1.0}"#,
    ];
    texts[random.below(texts.len() as u64) as usize].to_vec()
}

#[test]
fn the_input_has_everything_in_it() {
    let expected = Input::new(7, 8_000).expected();
    let (readable, malformed) = (expected.readable.len(), expected.malformed.len());
    assert_eq!(readable + malformed, 24_000);
    assert!(malformed > 50);
    assert!(expected.minutes.len() > 60, "{} windows", expected.minutes.len());
    assert!(expected.minutes.keys().any(|(_, city)| city.is_none()));
    assert!(expected.late_for_minutes > 20, "{} late", expected.late_for_minutes);
    assert!(expected.late_for_unique > expected.late_for_minutes);
    assert!(expected.unique.len() > readable * 9 / 10);
    let duplicates = readable - expected.late_for_unique - expected.unique.len();
    assert!(duplicates > 100, "{duplicates} duplicates");
    assert_eq!(Input::new(7, 8_000).expected(), expected, "the same seed gives the same input");
}
