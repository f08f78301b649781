//! The truth against a recount of what was sent, by way of parsing it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use watershed_simulator::{Fraud, Injection, Settings, Topic};

use crate::{Sent, run, small, time_us};

const MINUTE_US: i64 = 60_000_000;

/// Sums by window start and group.
type Rows = BTreeMap<(i64, Vec<String>), Vec<i64>>;

#[derive(Default)]
struct Recount {
    rows: u64,
    duplicates: Vec<String>,
    malformed: u64,
    behind: u64,
    /// Events that had a row in time.
    in_time: HashSet<String>,
    max_us: HashMap<i32, i64>,
    /// By table: its rows, late rows, late pairs.
    tables: HashMap<&'static str, (Rows, u64, u64)>,
}

fn cents(value: &Value) -> i64 {
    // Decimals as text: 12.5 is what serde_json makes of 12.50.
    value.as_f64().map_or(0, |amount| (amount * 100.0).round() as i64)
}

fn flag(value: &Value, is: &str) -> i64 {
    i64::from(value == is)
}

/// The group and sums a row adds to each table.
fn contributions(topic: Topic, event: &Value) -> Vec<(&'static str, i64, Vec<String>, Vec<i64>)> {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    let kind = &event["event_type"];
    match topic {
        Topic::RideEvents => {
            let sums = vec![1, flag(kind, "requested"), flag(kind, "completed"), flag(kind, "cancelled"), cents(&event["fare"])];
            vec![
                ("gold.city_demand", MINUTE_US, vec![text("city")], sums.clone()),
                ("gold.hot_zones", 5 * MINUTE_US, vec![text("city"), text("zone")], sums),
            ]
        }
        Topic::DriverLocations => vec![("gold.driver_supply", MINUTE_US, vec![text("city"), text("state")], vec![1])],
        Topic::Payments => {
            let amount = cents(&event["amount"]);
            let (back, authorised) = (flag(kind, "refunded") + flag(kind, "charged_back"), flag(kind, "authorised"));
            let counts = ["authorised", "declined", "refunded", "charged_back"].map(|name| flag(kind, name));
            let sums = [vec![1], counts.to_vec(), vec![amount * authorised, amount * back]].concat();
            vec![("gold.payments_by_minute", MINUTE_US, vec![text("city"), text("currency")], sums)]
        }
        Topic::Clickstream => {
            let name = &event["event_name"];
            let campaign = event["mkt_campaign"].as_str().unwrap_or("none").to_owned();
            let sums = vec![1, flag(name, "ad_impression"), flag(name, "ad_click"), flag(name, "request_ride")];
            vec![("gold.campaign_clicks", MINUTE_US, vec![campaign], sums)]
        }
        Topic::FraudLabels => Vec::new(),
    }
}

fn recount(sent: &[Sent], topic: Topic, delay_us: i64) -> Recount {
    let mut recount = Recount::default();
    let mut seen = HashSet::new();
    for message in sent.iter().filter(|message| message.topic == topic) {
        recount.rows += 1;
        let parsed = serde_json::from_slice::<Value>(&message.value).ok().and_then(|event| Some((time_us(&event)?, event)));
        let Some((time_us, event)) = parsed else {
            recount.malformed += 1;
            continue;
        };
        let id = event[if topic == Topic::FraudLabels { "label_id" } else { "event_id" }].as_str().unwrap().to_owned();
        if !seen.insert(id.clone()) {
            recount.duplicates.push(id.clone());
        }
        let max_us = recount.max_us.get(&message.partition).copied();
        let watermark_us = max_us.map_or(i64::MIN, |max_us| max_us - delay_us);
        recount.max_us.insert(message.partition, max_us.unwrap_or(i64::MIN).max(time_us));
        if time_us < watermark_us {
            recount.behind += 1;
        } else {
            recount.in_time.insert(id);
        }
        for (table, size_us, group, sums) in contributions(topic, &event) {
            let (rows, late_rows, late_pairs) = recount.tables.entry(table).or_default();
            let mut start_us = time_us - time_us % MINUTE_US;
            let mut late = 0;
            while start_us + size_us > time_us {
                if start_us + size_us <= watermark_us {
                    late += 1;
                } else {
                    let row = rows.entry((start_us, group.clone())).or_insert_with(|| vec![0; sums.len()]);
                    row.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
                }
                start_us -= MINUTE_US;
            }
            *late_pairs += late;
            *late_rows += u64::from(late > 0);
        }
    }
    recount
}

#[test]
fn the_truth_is_what_a_recount_finds() {
    let injection = Injection {
        disorder_rate: 0.1,
        late_rate: 0.08,
        duplicate_rate: 0.05,
        malformed_rate: 0.02,
        idle_every_s: 300,
        idle_for_s: 90,
        ..Injection::default()
    };
    let settings = Settings { injection, keep_duplicate_ids: true, drivers: 1_000, riders: 8_000, fraud: Fraud::each(60.0), ..small() };
    let delay_us = settings.watermark_delay_us;
    let (world, sent) = run(settings, 45);
    let truth = world.truth();
    assert_eq!(truth.rows(), sent.len() as u64);
    let mut duplicates = Vec::new();
    for topic in Topic::ALL {
        let counted = recount(&sent, topic, delay_us);
        let told = truth.topic(topic);
        assert_eq!(told.rows, counted.rows, "{topic}");
        assert_eq!(told.malformed_total(), counted.malformed, "{topic}");
        assert_eq!(told.duplicates, counted.duplicates.len() as u64, "{topic}");
        assert_eq!(told.readable(), told.rows - counted.malformed);
        assert_eq!(told.by_type.iter().sum::<u64>(), told.readable());
        assert_eq!(told.behind_watermark, counted.behind, "{topic}");
        assert_eq!(told.deduplicated(), counted.in_time.len() as u64, "{topic}");
        assert!(counted.behind > 0, "{topic}: a test without late rows proves nothing");
        for (partition, state) in told.partitions.iter().enumerate() {
            assert_eq!(state.max_event_time_us, counted.max_us.get(&(partition as i32)).copied());
        }
        let watermark_us = counted.max_us.values().min().map(|max_us| max_us - delay_us);
        assert_eq!(truth.watermark_us(topic), watermark_us);
        for (name, (rows, late_rows, late_pairs)) in &counted.tables {
            let table = truth.table(name).unwrap();
            let told: Rows = table.rows().map(|row| ((row.start_us, row.group.to_vec()), row.measures.to_vec())).collect();
            assert!(told == *rows, "{name}");
            assert_eq!((table.late_rows(), table.late_pairs()), (*late_rows, *late_pairs), "{name}");
            assert!(*late_pairs > 0, "{name}");
            assert_eq!(table.pairs() + late_pairs, (counted.rows - counted.malformed) * (table.size_us() / table.slide_us()) as u64);
        }
        duplicates.extend(counted.duplicates);
    }
    duplicates.sort();
    let mut told = truth.duplicate_ids().unwrap();
    told.sort();
    assert!(duplicates == told && !told.is_empty());
}

#[test]
fn the_truth_as_json_says_the_same() {
    let (world, _) = run(Settings { keep_duplicate_ids: true, ..small() }, 15);
    let (truth, json) = (world.truth(), world.truth().to_json());
    let rides = &json["topics"]["ride-events"];
    assert_eq!(rides["rows"], truth.topic(Topic::RideEvents).rows);
    assert_eq!(rides["by_type"]["requested"], truth.topic(Topic::RideEvents).by_type[0]);
    assert_eq!(json["topics"]["clickstream"]["partitions"].as_array().unwrap().len(), 4);
    let table = truth.table("gold.city_demand").unwrap();
    let rows = json["tables"]["gold.city_demand"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), table.rows().count());
    let first = table.rows().next().unwrap();
    assert_eq!((&rows[0]["window_start_us"], &rows[0]["city"]), (&Value::from(first.start_us), &Value::from(first.group[0].as_str())));
    assert_eq!(rows[0]["requests"], first.measures[1]);
    assert_eq!(json["duplicate_event_ids"].as_array().unwrap().len(), truth.duplicate_ids().unwrap().len());
}

#[test]
fn the_definitions_of_the_demo_name_what_the_truth_knows() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/gold");
    let (world, _) = run(small(), 1);
    for table in world.truth().tables() {
        let name = table.name().strip_prefix("gold.").unwrap();
        let text = std::fs::read_to_string(format!("{folder}/{name}.sql")).unwrap();
        for column in table.dimensions().iter().chain(table.measures()) {
            let column = column.strip_suffix("_cents").unwrap_or(column);
            let named =
                text.contains(&format!(" AS {column}")) || text.contains(&format!(" {column},")) || text.contains(&format!(" {column};"));
            assert!(named, "{name}.sql has no column {column}");
        }
    }
}

#[test]
fn every_field_of_every_event_is_a_column_of_its_source() {
    let fraud = Fraud::each(30.0);
    let (_, sent) = run(Settings { injection: Injection::none(), drivers: 1_000, riders: 8_000, fraud, ..small() }, 60);
    for topic in Topic::ALL {
        let file = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/sources/{}.sql"), topic.name().replace('-', "_"));
        let text = std::fs::read_to_string(file).unwrap();
        let columns: HashMap<&str, bool> = text
            .lines()
            .filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with("WATERMARK") && !line.contains("METADATA")))
            .map(|line| (line.split_whitespace().next().unwrap(), line.contains("NOT NULL")))
            .collect();
        let mut met = HashSet::new();
        for message in sent.iter().filter(|message| message.topic == topic) {
            let event = message.json();
            let fields = event.as_object().unwrap();
            for (name, value) in fields {
                assert!(columns.contains_key(name.as_str()), "{topic} has a field {name}");
                assert!(!value.is_null());
                met.insert(name.clone());
            }
            assert!(columns.iter().all(|(name, needed)| !needed || fields.contains_key(*name)), "{event}");
        }
        let never: Vec<_> = columns.keys().filter(|name| !met.contains(**name)).collect();
        assert!(never.is_empty(), "{topic}: no event has {never:?}");
    }
}
