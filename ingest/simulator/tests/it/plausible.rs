//! What the events say must be possible: stages in order, speeds, fares, places, rhythm.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use watershed_simulator::{Settings, Topic};

use crate::{SECOND_US, run, time_us, undisturbed};

fn metres(a: &Value, b: &Value) -> f64 {
    let (lat_a, lat_b) = (a["lat"].as_f64().unwrap(), b["lat"].as_f64().unwrap());
    let lon = (a["lon"].as_f64().unwrap() - b["lon"].as_f64().unwrap()) * lat_a.to_radians().cos();
    (lat_a - lat_b).hypot(lon) * 111_195.0
}

#[test]
fn trips_go_through_their_stages_in_order() {
    let (_, sent) = run(Settings { drivers: 600, riders: 6_000, ..undisturbed() }, 240);
    let mut trips: HashMap<String, Vec<Value>> = HashMap::new();
    for event in sent.iter().filter(|event| event.topic == Topic::RideEvents) {
        let json = event.json();
        assert_eq!(json["trip_id"], event.key.as_str());
        trips.entry(event.key.clone()).or_default().push(json);
    }
    let stages = ["requested", "matched", "arrived", "picked_up", "completed"];
    let (mut completed, mut reasons) = (0, HashSet::new());
    for events in trips.values() {
        assert!(events.windows(2).all(|pair| time_us(&pair[0]) <= time_us(&pair[1])), "{events:?}");
        let names: Vec<&str> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
        let last = events.last().unwrap();
        if names.last() == Some(&"cancelled") {
            assert_eq!(names[..names.len() - 1], stages[..names.len() - 1]);
            reasons.insert(last["cancellation_reason"].as_str().unwrap().to_owned());
            continue;
        }
        assert_eq!(names, stages[..names.len()]);
        assert!(events[1..].iter().all(|event| event["driver_id"] == last["driver_id"] && event["location"].is_object()));
        if names.len() == stages.len() {
            completed += 1;
            check_completed(events);
        }
    }
    assert!(completed > 300, "{completed}");
    assert!(reasons.len() >= 5, "{reasons:?}");
    let share = completed as f64 / trips.len() as f64;
    assert!((0.6..0.98).contains(&share), "{share} of the trips were completed");
}

fn check_completed(events: &[Value]) {
    let (picked_up, completed) = (&events[3], &events[4]);
    let amount = |name: &str| {
        let text = completed[name].to_string();
        let (_, cents) = text.split_once('.').unwrap();
        assert!(cents.len() <= 2, "{name} is {text}");
        completed[name].as_f64().unwrap()
    };
    assert!(amount("fare") > 2.0 && amount("fare") < 1_500.0, "{completed}");
    assert!(amount("driver_trip_pay") < amount("fare") + amount("tip") + amount("tolls"));
    assert!((1.0..=3.0).contains(&amount("surge_multiplier")));
    let (distance_m, duration_s) = (completed["distance"].as_f64().unwrap(), completed["duration"].as_f64().unwrap());
    let direct_m = metres(&completed["start_location"], &completed["end_location"]);
    assert!(distance_m >= direct_m * 0.98 - 20.0 && distance_m < direct_m * 1.6 + 20.0, "{distance_m} for {direct_m}");
    assert!(distance_m / duration_s < 200.0 / 3.6, "{distance_m} m in {duration_s} s");
    let took_s = (time_us(completed).unwrap() - time_us(picked_up).unwrap()) / SECOND_US;
    assert_eq!(took_s, duration_s as i64);
    assert!(metres(&picked_up["location"], &completed["start_location"]) < 5.0);
    assert!(metres(&completed["location"], &completed["end_location"]) < 5.0);
    assert_eq!(picked_up["trip_wait_time"], completed["trip_wait_time"]);
}

#[test]
fn drivers_on_shift_send_a_location_every_4_seconds_and_none_flies() {
    let (_, sent) = run(undisturbed(), 60);
    let mut last: HashMap<String, Value> = HashMap::new();
    let (mut moved, mut regular, mut glitches, mut states) = (0, 0, 0, BTreeMap::<String, u32>::new());
    for event in sent.iter().filter(|event| event.topic == Topic::DriverLocations) {
        let json = event.json();
        assert_eq!(json["driver_id"], event.key.as_str());
        *states.entry(json["state"].as_str().unwrap().to_owned()).or_default() += 1;
        assert!((json["state"] == "available" || json["state"] == "non_operational") == json["trip_id"].is_null(), "{json}");
        assert!((0..360).contains(&json["heading"].as_i64().unwrap()));
        if let Some(before) = last.insert(event.key.clone(), json.clone()) {
            let seconds = (time_us(&json).unwrap() - time_us(&before).unwrap()) as f64 / 1e6;
            regular += u64::from((seconds - 4.0).abs() < 1e-5);
            let metres = metres(&json["location"], &before["location"]);
            let unsure = |event: &Value| event["accuracy"].as_i64().unwrap() > 50;
            glitches += u64::from(unsure(&json));
            let fast = metres / seconds >= 200.0 / 3.6;
            assert!(!fast || unsure(&json) || unsure(&before), "{metres} m in {seconds} s: {before} {json}");
            moved += u64::from(metres > 20.0);
            assert_eq!(json["city"], before["city"]);
        }
    }
    assert!(regular > 50_000, "{regular}");
    assert!((1..regular / 2_000).contains(&glitches), "{glitches} receivers were off");
    assert!(moved * 5 > regular, "only {moved} of {regular} steps are movements");
    assert_eq!(states.keys().collect::<Vec<_>>(), ["available", "non_operational", "on_trip", "reserved", "stopped"]);
}

#[test]
fn payments_follow_trips_and_clicks_lead_to_them() {
    let (_, sent) = run(Settings { drivers: 3_000, riders: 30_000, location_every_s: 600, ..undisturbed() }, 360);
    let jsons = |topic| sent.iter().filter(move |event| event.topic == topic).map(|event| (event.key.as_str(), event.json()));
    let mut bills: HashMap<String, Value> = HashMap::new();
    let mut requests = HashMap::<String, i64>::new();
    for (_, ride) in jsons(Topic::RideEvents) {
        match ride["event_type"].as_str().unwrap() {
            "requested" => drop(requests.insert(ride["rider_id"].to_string(), time_us(&ride).unwrap())),
            "completed" => drop(bills.insert(ride["trip_id"].to_string(), ride)),
            _ => (),
        }
    }
    let mut outcomes = BTreeMap::<String, u64>::new();
    for (key, payment) in jsons(Topic::Payments) {
        let outcome = payment["event_type"].as_str().unwrap();
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
        assert_eq!(payment["card_id"], key);
        assert!(payment["amount"].as_f64().unwrap() > 0.0);
        assert_eq!(payment["reason"].is_string(), outcome != "authorised");
        let Some(bill) = bills.get(&payment["trip_id"].to_string()) else {
            assert!(payment["amount"].as_f64().unwrap() <= 5.0, "only the fee for not showing up has no completed trip");
            continue;
        };
        assert_eq!(payment["currency"], bill["currency"]);
        assert!(payment["payment_type"] != "cash");
        let billed: f64 = ["fare", "tip", "tolls"].iter().map(|name| bill[name].as_f64().unwrap()).sum();
        assert!(payment["amount"].as_f64().unwrap() <= billed + 0.001, "{payment} {bill}");
        let off = if payment["promo_code"].is_string() { billed * 0.2 } else { 0.0 };
        if outcome != "refunded" {
            assert!((payment["amount"].as_f64().unwrap() + off - billed).abs() < 0.011);
        }
    }
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["authorised", "charged_back", "declined", "refunded"]);
    assert!(outcomes["authorised"] > 20 * outcomes["declined"] / 2 && outcomes["declined"] > outcomes["charged_back"]);

    let (mut impressions, mut clicks, mut asked) = (0, 0, 0);
    for (key, click) in jsons(Topic::Clickstream) {
        assert_eq!(click["domain_userid"], key);
        match click["event_name"].as_str().unwrap() {
            "ad_impression" => {
                impressions += 1;
                assert!(click["domain_sessionid"].is_null() && click["mkt_campaign"].is_string());
            }
            "ad_click" => clicks += 1,
            "request_ride" => {
                asked += 1;
                assert!(requests.contains_key(&click["user_id"].to_string()), "{click}");
            }
            _ => assert!(click["domain_sessionid"].is_string()),
        }
    }
    assert!(asked > 500 && impressions > 5 * asked && clicks > impressions / 100 && clicks < impressions / 10);
}

#[test]
fn demand_follows_the_day() {
    // New York time lags UTC by five hours: Monday 8 to 9 against 3 to 4 in the morning.
    let requests = |hour: i64| {
        let settings = Settings {
            cities: vec!["new_york".into()],
            start_time_us: 1_767_571_200_000_000 + (hour + 5) * 3_600 * SECOND_US,
            ..undisturbed()
        };
        run(settings, 60).0.truth().topic(Topic::RideEvents).by_type[0]
    };
    let (rush, night) = (requests(8), requests(3));
    assert!(rush > 4 * night && night > 5, "{rush} in the rush hour, {night} at night");
}
