//! Events in a file, one JSON object a line: what `watershed simulate --out` writes and `--replay` reads.
//!
//! ```json
//! {"topic":"ride-events","partition":2,"key":"trip_00…","timestamp_ms":1767596400123,"value":"{\"event_id\":…}"}
//! ```
//!
//! Keys and values are text; those that are not UTF-8 are written as `key_hex` and `value_hex`. Topics need not be the world's.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Event, SimulatorError};

/// Longer lines are refused: Kafka takes messages up to a megabyte by default, and escaping may double them.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An event read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedEvent {
    /// Name of the topic.
    pub topic: String,
    /// Partition it went to.
    pub partition: i32,
    /// Message key.
    pub key: Vec<u8>,
    /// Message value.
    pub value: Vec<u8>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    partition: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    timestamp_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

/// Appends one event as a line.
pub fn write(event: &Event<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let (key, key_hex) = encode(event.key);
    let (value, value_hex) = encode(event.value);
    let line = Line {
        topic: event.topic.name().to_owned(),
        partition: event.partition,
        key,
        key_hex,
        timestamp_ms: event.timestamp_ms,
        value,
        value_hex,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Opens a file of events. Empty lines are passed over; the first line that cannot be read ends the iteration with its number.
pub fn read(path: impl AsRef<Path>) -> Result<Replay, SimulatorError> {
    let path = path.as_ref().to_owned();
    match File::open(&path) {
        Ok(file) => Ok(Replay { path, lines: Some(BufReader::new(file)), line: 0, buffer: Vec::new() }),
        Err(source) => Err(SimulatorError::ReadFile { path, source }),
    }
}

/// The events of a file, in its order.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    /// `None` after the end or an error.
    lines: Option<BufReader<File>>,
    line: u64,
    buffer: Vec<u8>,
}

impl Iterator for Replay {
    type Item = Result<ReplayedEvent, SimulatorError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let reader = self.lines.as_mut()?;
            self.buffer.clear();
            self.line += 1;
            match reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer) {
                Ok(0) => self.lines = None,
                Ok(_) if self.buffer.trim_ascii().is_empty() => (),
                Ok(_) => {
                    let event = parse(&self.buffer).map_err(|why| {
                        self.lines = None;
                        SimulatorError::ReplayLine { path: self.path.clone(), line: self.line, why }
                    });
                    return Some(event);
                }
                Err(source) => {
                    self.lines = None;
                    return Some(Err(SimulatorError::ReadFile { path: self.path.clone(), source }));
                }
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<ReplayedEvent, String> {
    let whole = line.ends_with(b"\n") || (line.len() as u64) < LINE_BYTES_MAX;
    if !whole {
        return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(ReplayedEvent {
        topic: line.topic,
        partition: line.partition,
        key: decode("key", line.key, line.key_hex)?,
        value: decode("value", line.value, line.value_hex)?,
        timestamp_ms: line.timestamp_ms,
    })
}

/// As text if it is text, else in hexadecimal.
fn encode(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
    }
}

fn decode(name: &str, text: Option<String>, hex: Option<String>) -> Result<Vec<u8>, String> {
    match (text, hex) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(hex)) => {
            let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
            let pairs = digits.filter(|digits| digits.len().is_multiple_of(2));
            let pairs = pairs.ok_or_else(|| format!("{name}_hex is not an even number of hexadecimal digits"))?;
            Ok(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(format!("it needs either {name} or {name}_hex")),
    }
}
