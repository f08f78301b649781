//! The ways in which a message can be unreadable.
//!
//! Each kind spoils the message as a whole or its `event_time`, which every pipeline over a topic reads, so that all of them set it
//! aside, whatever other columns they use.

use serde::{Deserialize, Serialize};

use crate::json::CLOCK_BYTES;
use crate::random::Random;

/// Kinds of malformed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// The JSON ends somewhere in the middle.
    Truncated,
    /// `event_time` is `true`.
    WrongType,
    /// There is no `event_time`.
    MissingField,
    /// A byte 0xFF in `event_id` and `event_time`.
    InvalidUtf8,
    /// No bytes at all.
    Empty,
    /// `event_time` is a number with 30 digits.
    HugeNumber,
    /// `event_time` lies in the year 1 or 9999.
    AbsurdTime,
    /// A line of plain text, as proxies send.
    NotJson,
}

/// Where the value of `event_time` begins: after `{"event_id":"<36>","event_time":`.
const TIME_AT: usize = 64;
const TIME_BYTES: usize = CLOCK_BYTES + 2;

impl Malformed {
    /// All kinds.
    pub const ALL: [Malformed; 8] = [
        Malformed::Truncated,
        Malformed::WrongType,
        Malformed::MissingField,
        Malformed::InvalidUtf8,
        Malformed::Empty,
        Malformed::HugeNumber,
        Malformed::AbsurdTime,
        Malformed::NotJson,
    ];

    /// The name in the truth.
    pub fn name(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::WrongType => "wrong_type",
            Malformed::MissingField => "missing_field",
            Malformed::InvalidUtf8 => "invalid_utf8",
            Malformed::Empty => "empty",
            Malformed::HugeNumber => "huge_number",
            Malformed::AbsurdTime => "absurd_time",
            Malformed::NotJson => "not_json",
        }
    }

    /// Spoils the message that begins at `start` and ends with the buffer.
    pub(crate) fn apply(self, bytes: &mut Vec<u8>, start: usize, random: &mut Random) {
        let time = start + TIME_AT..start + TIME_AT + TIME_BYTES;
        match self {
            Malformed::Truncated => bytes.truncate(start + 1 + random.below((bytes.len() - start - 1) as u64) as usize),
            Malformed::WrongType => drop(bytes.splice(time, *b"true")),
            Malformed::MissingField => drop(bytes.drain(time.start - ",\"event_time\":".len()..time.end)),
            Malformed::InvalidUtf8 => (bytes[start + 20], bytes[time.start + 5]) = (0xff, 0xff),
            Malformed::Empty => bytes.truncate(start),
            Malformed::HugeNumber => drop(bytes.splice(time, *b"999999999999999999999999999999")),
            Malformed::AbsurdTime => {
                let year = random.pick(&[b"0001", b"9999"]);
                bytes[time.start + 1..time.start + 5].copy_from_slice(*year);
            }
            Malformed::NotJson => {
                bytes.truncate(start);
                bytes.extend_from_slice(b"upstream connect error or disconnect/reset before headers");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"event_id":"0a6d01ac-0b5c-4a3e-8a51-3b2f6f0c1d2e","event_time":"2026-01-05T07:00:00.123456Z","city":"berlin"}"#;

    #[test]
    fn each_kind_spoils_what_it_says() {
        let spoiled = |kind: Malformed| {
            let mut bytes = format!("key{GOOD}").into_bytes();
            kind.apply(&mut bytes, 3, &mut Random::new(1));
            assert_eq!(&bytes[..3], b"key");
            bytes.split_off(3)
        };
        let event_time = |kind| serde_json::from_slice::<serde_json::Value>(&spoiled(kind)).unwrap()["event_time"].clone();
        assert_eq!(event_time(Malformed::WrongType), true);
        assert!(event_time(Malformed::MissingField).is_null());
        assert!(event_time(Malformed::HugeNumber).as_i64().is_none());
        assert!(["0001-01-05T", "9999-01-05T"].contains(&&event_time(Malformed::AbsurdTime).as_str().unwrap()[..11]));
        assert!(spoiled(Malformed::Empty).is_empty());
        assert!(std::str::from_utf8(&spoiled(Malformed::InvalidUtf8)).is_err());
        for kind in [Malformed::Truncated, Malformed::NotJson, Malformed::Empty] {
            assert!(serde_json::from_slice::<serde_json::Value>(&spoiled(kind)).is_err(), "{kind:?}");
        }
        for seed in 0..200 {
            let mut bytes = GOOD.as_bytes().to_vec();
            Malformed::Truncated.apply(&mut bytes, 0, &mut Random::new(seed));
            assert!((1..GOOD.len()).contains(&bytes.len()));
        }
    }
}
