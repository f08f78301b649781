//! Protocol buffers, as far as Flight's actions need them and arrow-flight has no functions for them.
//!
//! arrow-flight decodes the commands of Flight SQL itself. Left are the `Any` around a ticket, a `FlightInfo` that comes back to be
//! cancelled, and the messages about sessions: a few fields of bytes and small numbers.

use arrow_flight::sql::{Any, ProstMessageExt};

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Adds a field of bytes, text or a message.
    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Adds a field that holds a number or an enumeration's value.
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// The values of the fields of bytes, text or messages numbered `wanted`, in order; `None` if `message` is not a protocol buffer.
pub(super) fn fields(mut message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            VARINT => {
                take_varint(&mut message)?;
            }
            FIXED_64 => {
                take(&mut message, 8)?;
            }
            FIXED_32 => {
                take(&mut message, 4)?;
            }
            BYTES => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                let value = take(&mut message, length)?;
                if key >> 3 == wanted {
                    found.push(value);
                }
            }
            _ => return None,
        }
    }
    Some(found)
}

/// The first of [`fields`].
pub(super) fn field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    fields(message, wanted)?.first().copied()
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(head)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The bytes of `message` inside an `Any`, as tickets hold it.
pub(super) fn packed(message: &impl ProstMessageExt) -> Vec<u8> {
    let Any { type_url, value } = message.as_any();
    Writer::default().bytes(1, type_url.as_bytes()).bytes(2, &value).finish()
}

/// What [`packed`] packed: its type's address and the message.
pub(super) fn unpacked(any: &[u8]) -> Option<(&str, &[u8])> {
    Some((std::str::from_utf8(field(any, 1)?).ok()?, field(any, 2).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::TicketStatementQuery;

    use super::*;

    #[test]
    fn what_was_packed_is_found_again() {
        let bytes = packed(&TicketStatementQuery { statement_handle: vec![7; 300].into() });
        let (address, message) = unpacked(&bytes).unwrap();
        assert_eq!(address, TicketStatementQuery::type_url());
        assert_eq!(field(message, 1), Some([7; 300].as_slice()));
    }

    #[test]
    fn other_fields_are_passed_over() {
        let inner = Writer::default().number(1, 300).bytes(3, b"a").bytes(2, b"x").bytes(3, b"b").finish();
        assert_eq!(fields(&inner, 3), Some(vec![b"a".as_slice(), b"b"]));
        assert_eq!(field(&inner, 9), None);
    }

    #[test]
    fn bytes_that_are_no_message_do_no_harm() {
        for bytes in [b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".as_slice(), b"\x0a\x05ab", b"\x07", b"\xff", b"\x09abc"] {
            assert_eq!(fields(bytes, 1), None, "{bytes:?}");
        }
        assert_eq!(unpacked(b""), None);
    }
}
