//! What was written to a file comes back from it, and what cannot be read is named.

use std::fs;

use watershed_simulator::{EventBuffer, Injection, Settings, SimulatorError, World, replay};

use crate::small;

#[test]
fn a_file_gives_back_every_event_unreadable_ones_too() {
    let injection = Injection { malformed_rate: 0.2, ..Injection::default() };
    let mut world = World::new(Settings { injection, ..small() }).unwrap();
    let mut events = EventBuffer::new();
    world.fill(i64::MAX, 2_000, &mut events);
    let mut bytes = Vec::new();
    for event in events.iter() {
        replay::write(&event, &mut bytes).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    fs::write(&path, bytes).unwrap();
    let read: Vec<_> = replay::read(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), 2_000);
    for (event, back) in events.iter().zip(&read) {
        assert_eq!((event.topic.name(), event.partition, event.timestamp_ms), (back.topic.as_str(), back.partition, back.timestamp_ms));
        assert_eq!((event.key, event.value), (&back.key[..], &back.value[..]));
    }
    assert!(read.iter().any(|event| std::str::from_utf8(&event.value).is_err()));
}

#[test]
fn a_bad_line_is_named_and_ends_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let good = r#"{"topic":"t","partition":0,"key":"k","timestamp_ms":1,"value":"v"}"#;
    for (bad, why) in [
        ("{\"topic\":", "EOF"),
        (r#"{"topic":"t","partition":0,"key":"k","timestamp_ms":1}"#, "either value or value_hex"),
        (r#"{"topic":"t","partition":0,"key":"k","timestamp_ms":1,"value_hex":"0g"}"#, "hexadecimal"),
    ] {
        fs::write(&path, format!("{good}\n\n{bad}\n{good}\n")).unwrap();
        let mut events = replay::read(&path).unwrap();
        assert_eq!(events.next().unwrap().unwrap().value, b"v");
        let error = events.next().unwrap().unwrap_err();
        assert!(matches!(&error, SimulatorError::ReplayLine { line: 3, .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(events.next().is_none());
    }
    let missing = replay::read(folder.path().join("nothing")).unwrap_err().to_string();
    assert!(missing.contains("nothing") && missing.contains("check the path"), "{missing}");
}
