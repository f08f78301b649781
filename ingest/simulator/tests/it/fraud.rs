//! Fraud episodes look as their kind says, each of their events has its label, and honest people look a little like them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use watershed_simulator::{Fraud, Settings, Topic};

use crate::{run, time_us, undisturbed};

fn busy() -> Settings {
    Settings { drivers: 2_000, riders: 20_000, warm_up_s: 1_800, location_every_s: 60, fraud: Fraud::each(30.0), ..undisturbed() }
}

/// Labels with the events they label.
fn labelled(sent: &[crate::Sent]) -> Vec<(Value, Value)> {
    let events: HashMap<String, Value> = sent
        .iter()
        .filter(|event| matches!(event.topic, Topic::Payments | Topic::DriverLocations))
        .map(|event| event.json())
        .map(|event| (event["event_id"].as_str().unwrap().to_owned(), event))
        .collect();
    let labels = sent.iter().filter(|event| event.topic == Topic::FraudLabels);
    labels
        .map(|label| {
            let label = label.json();
            let event = events.get(label["event_id"].as_str().unwrap()).unwrap_or_else(|| panic!("{label} labels nothing"));
            (label, event.clone())
        })
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn distinct<'a>(events: impl IntoIterator<Item = &'a (Value, Value)>, field: &str) -> usize {
    events.into_iter().map(|(_, event)| event[field].to_string()).collect::<BTreeSet<_>>().len()
}

#[test]
fn each_label_names_its_event_and_what_took_part_in_it() {
    let (world, sent) = run(busy(), 120);
    let labelled = labelled(&sent);
    assert_eq!(labelled.len() as u64, world.truth().topic(Topic::FraudLabels).rows);
    let mut ids = HashSet::new();
    for (label, event) in &labelled {
        assert!(ids.insert(label["event_id"].clone()), "{label}: labelled twice");
        assert_eq!(label["event_time"], event["event_time"]);
        for field in ["payment_id", "driver_id", "rider_id", "card_id", "device_id"] {
            assert_eq!(label[field], event[field], "{field} of {label}");
        }
        assert_eq!(label["payment_id"].is_null(), label["kind"] == "gps_spoofing");
    }
    let kinds: BTreeSet<&str> = labelled.iter().map(|(label, _)| label["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["account_takeover", "card_testing", "collusion", "gps_spoofing", "promo_abuse"]));
}

#[test]
fn episodes_are_what_their_kind_says() {
    let (_, sent) = run(busy(), 240);
    let payments: Vec<Value> = sent.iter().filter(|event| event.topic == Topic::Payments).map(crate::Sent::json).collect();
    let mut episodes: BTreeMap<(String, String), Vec<(Value, Value)>> = BTreeMap::new();
    for (label, event) in labelled(&sent) {
        let text = |name: &str| label[name].as_str().unwrap().to_owned();
        episodes.entry((text("kind"), text("episode_id"))).or_default().push((label, event));
    }
    let (mut whole, mut elsewhere) = (BTreeMap::<&str, u32>::new(), 0);
    for ((kind, _), events) in &episodes {
        let amounts: Vec<f64> = events.iter().filter_map(|(_, event)| event["amount"].as_f64()).collect();
        let declined = events.iter().filter(|(_, event)| event["event_type"] == "declined").count();
        match kind.as_str() {
            "card_testing" if events.len() >= 20 => {
                assert_eq!(distinct(events, "device_id"), 1);
                assert_eq!(distinct(events, "card_id"), events.len());
                assert!(amounts.iter().all(|amount| *amount < 7.0), "{amounts:?}");
                assert!(declined * 3 > events.len(), "{declined} of {} declined", events.len());
            }
            "account_takeover" if events.len() >= 3 => {
                for field in ["device_id", "rider_id", "card_id", "city"] {
                    assert_eq!(distinct(events, field), 1, "{field}: {events:?}");
                }
                elsewhere += u32::from(was_elsewhere_before(&payments, &events[0].1));
            }
            "promo_abuse" if events.len() >= 8 => {
                assert_eq!(distinct(events, "device_id"), 1);
                assert_eq!(distinct(events, "rider_id"), events.len());
                assert!(events.iter().all(|(_, event)| event["promo_code"].is_string()));
            }
            // Of some, only the beginning or the end lies in the time that is looked at.
            "collusion" if distinct(events, "trip_id") >= 3 => {
                assert_eq!((distinct(events, "driver_id"), distinct(events, "rider_id")), (1, 1));
            }
            "gps_spoofing" if events.len() >= 8 => assert_eq!(distinct(events, "driver_id"), 1),
            _ => continue,
        }
        *whole.entry(kind).or_default() += 1;
    }
    assert_eq!(whole.len(), 5, "{whole:?}");
    assert!(whole.values().all(|count| *count >= 10), "{whole:?}");
    // The payment before may lie in the warm-up, which nobody sees.
    assert!(elsewhere * 2 > whole["account_takeover"], "{elsewhere} of {whole:?}");
}

/// Whether the account paid in another city, from another device, not long before.
fn was_elsewhere_before(payments: &[Value], first: &Value) -> bool {
    payments.iter().any(|payment| {
        payment["rider_id"] == first["rider_id"]
            && payment["city"] != first["city"]
            && payment["device_id"] != first["device_id"]
            && payment["user_ipaddress"] != first["user_ipaddress"]
            && (0..7_200_000_000).contains(&(time_us(first).unwrap() - time_us(payment).unwrap()))
    })
}

#[test]
fn spoofed_places_are_too_far_to_be_driven_to() {
    let (_, sent) = run(Settings { fraud: Fraud::each(60.0), ..undisturbed() }, 60);
    let spoofed: HashSet<String> = labelled(&sent)
        .into_iter()
        .filter(|(label, _)| label["kind"] == "gps_spoofing")
        .map(|(label, _)| label["event_id"].as_str().unwrap().to_owned())
        .collect();
    let mut before: HashMap<String, Value> = HashMap::new();
    let (mut jumps, mut others) = (0, 0);
    for event in sent.iter().filter(|event| event.topic == Topic::DriverLocations) {
        let json = event.json();
        let is_spoofed = spoofed.contains(json["event_id"].as_str().unwrap());
        let Some(last) = before.insert(event.key.clone(), json.clone()) else { continue };
        let part = |event: &Value, name: &str| number(&event["location"][name]);
        let north_m = (part(&json, "lat") - part(&last, "lat")) * 111_195.0;
        let east_m = (part(&json, "lon") - part(&last, "lon")) * 111_195.0 * part(&json, "lat").to_radians().cos();
        let seconds = (time_us(&json).unwrap() - time_us(&last).unwrap()) as f64 / 1e6;
        if is_spoofed && north_m.hypot(east_m) / seconds > 100.0 { jumps += 1 } else { others += usize::from(is_spoofed) }
    }
    assert!(spoofed.len() > 100 && jumps * 2 > spoofed.len() && others > 0, "{jumps} jumps, {others} others of {}", spoofed.len());
}

#[test]
fn honest_people_share_devices_travel_and_use_promotions() {
    let (_, sent) = run(
        Settings {
            fraud: Fraud::none(),
            drivers: 3_000,
            riders: 20_000,
            location_every_s: 600,
            impressions_per_trip: 1.0,
            ..undisturbed()
        },
        600,
    );
    assert!(!sent.iter().any(|event| event.topic == Topic::FraudLabels));
    let payments: Vec<Value> = sent.iter().filter(|event| event.topic == Topic::Payments).map(crate::Sent::json).collect();
    let mut riders_of: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    let mut pairs: HashMap<(&str, &str), BTreeSet<&str>> = HashMap::new();
    for payment in &payments {
        let text = |name: &str| payment[name].as_str().unwrap();
        riders_of.entry(text("device_id")).or_default().insert(text("rider_id"));
        pairs.entry((text("driver_id"), text("rider_id"))).or_default().insert(text("trip_id"));
    }
    let with = |what: &dyn Fn(&Value) -> bool| payments.iter().filter(|payment| what(payment)).count() as f64 / payments.len() as f64;
    let shared = riders_of.values().filter(|riders| riders.len() > 1).count();
    assert!(shared > 10, "{shared} of {} devices have several riders", riders_of.len());
    assert!(pairs.values().filter(|trips| trips.len() > 1).count() > 10, "no driver is asked for again");
    assert!((0.02..0.08).contains(&with(&|payment| payment["promo_code"].is_string())));
    assert!(
        (0.005..0.05).contains(&with(&|payment| { payment["card_country"] != if payment["city"] == "new_york" { "US" } else { "NL" } }))
    );
    assert!((0.01..0.1).contains(&with(&|payment| payment["lat"].is_null())));
}
