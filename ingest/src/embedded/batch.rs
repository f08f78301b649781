//! Kafka's record batches (version 2) as the broker needs them: their headers and checksums. Records stay as they came, compressed or not.

use bytes::Bytes;

use super::protocol::ErrorCode;

/// Bytes of a batch up to its records.
pub(super) const HEADER_BYTES: usize = 61;

/// Bytes in front of a batch's length and of what it counts.
const LENGTH_PREFIX_BYTES: usize = 12;

/// Where what the checksum covers begins: all after itself.
const CHECKED_FROM: usize = 21;

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The header of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) base_offset: i64,
    /// Bytes of all of it.
    pub(super) bytes: usize,
    pub(super) crc: u32,
    attributes: i16,
    /// Offset of the last record, less that of the first.
    pub(super) last_offset_delta: i32,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) record_count: i32,
}

impl Batch {
    /// Reads a header; `None` if these bytes are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let int = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| i64::from(int(at)) << 32 | i64::from(int(at + 4) as u32);
        let short = |at: usize| i16::from_be_bytes([header[at], header[at + 1]]);
        let batch = Self {
            base_offset: long(0),
            bytes: usize::try_from(int(8)).ok()?.checked_add(LENGTH_PREFIX_BYTES)?,
            crc: int(17) as u32,
            attributes: short(21),
            last_offset_delta: int(23),
            max_timestamp: long(35),
            producer_id: long(43),
            producer_epoch: short(51),
            base_sequence: int(53),
            record_count: int(57),
        };
        let is_version_2 = header[16] == 2;
        (is_version_2 && batch.bytes >= HEADER_BYTES && batch.last_offset_delta >= 0 && batch.base_offset >= 0).then_some(batch)
    }

    /// Takes the first batch off what a producer sent; an error if it is not whole, or not what was meant.
    pub(super) fn take(records: &mut Bytes) -> Result<(Self, Bytes), ErrorCode> {
        let batch = Self::read(records).ok_or(ErrorCode::InvalidRecord)?;
        if batch.bytes > records.len() {
            return Err(ErrorCode::InvalidRecord);
        }
        let bytes = records.split_to(batch.bytes);
        if checksum(&bytes[CHECKED_FROM..]) != batch.crc {
            return Err(ErrorCode::CorruptMessage);
        }
        Ok((batch, bytes))
    }

    /// The offset after its last record.
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    /// Whether it has numbers by which one that is sent again is known.
    pub(super) fn is_idempotent(&self) -> bool {
        self.producer_id != -1 && self.base_sequence != -1
    }

    /// Whether it belongs to a transaction or is a mark of one.
    pub(super) fn is_of_a_transaction(&self) -> bool {
        self.attributes & (TRANSACTIONAL | CONTROL) != 0
    }

    /// The bytes of a batch as they are kept: at its offset in the log. The checksum covers neither that nor the leader's epoch.
    pub(super) fn at_offset(bytes: &Bytes, base_offset: i64) -> Vec<u8> {
        let mut kept = bytes.to_vec();
        if let Some(front) = kept.first_chunk_mut::<16>() {
            front[..8].copy_from_slice(&base_offset.to_be_bytes());
            front[12..].copy_from_slice(&0_i32.to_be_bytes());
        }
        kept
    }
}

/// CRC-32C, by tables that take eight bytes at a step.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]])).to_le_bytes();
        let [_, _, _, _, e, f, g, h] = *eight;
        let part = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        crc = part(7, a) ^ part(6, b) ^ part(5, c) ^ part(4, d) ^ part(3, e) ^ part(2, f) ^ part(1, g) ^ part(0, h);
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)];
    }
    !crc
}

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    /// Castagnoli's polynomial, lowest bit first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut tables = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A batch of `records` bytes of content, as a producer sends it.
    pub(in crate::embedded) fn batch(producer_id: i64, base_sequence: i32, last_offset_delta: i32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0_i64.to_be_bytes());
        bytes.extend(((HEADER_BYTES - LENGTH_PREFIX_BYTES + content.len()) as i32).to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.push(2);
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend(0_i16.to_be_bytes());
        bytes.extend(last_offset_delta.to_be_bytes());
        bytes.extend(7_i64.to_be_bytes());
        bytes.extend(9_i64.to_be_bytes());
        bytes.extend(producer_id.to_be_bytes());
        bytes.extend(0_i16.to_be_bytes());
        bytes.extend(base_sequence.to_be_bytes());
        bytes.extend((last_offset_delta + 1).to_be_bytes());
        bytes.extend(content);
        let crc = checksum(&bytes[CHECKED_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn checksums_are_those_of_crc_32c() {
        // The check value of its definition, and the test vectors of RFC 3720.
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(checksum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn batches_are_taken_one_after_another() {
        let mut sent = Bytes::from([batch(5, 3, 1, b"two records"), batch(-1, -1, 0, b"")].concat());
        let (first, bytes) = Batch::take(&mut sent).unwrap();
        assert_eq!((first.bytes, first.record_count, first.max_timestamp, first.is_idempotent()), (HEADER_BYTES + 11, 2, 9, true));
        assert!(bytes.ends_with(b"two records") && !first.is_of_a_transaction());
        let kept = Batch::at_offset(&bytes, 40);
        let read = Batch::read(&kept).unwrap();
        assert_eq!((read.base_offset, read.next_offset()), (40, 42));
        assert_eq!(Batch::take(&mut Bytes::from(kept)).unwrap().0.crc, first.crc, "the checksum holds at any offset");
        assert!(!Batch::take(&mut sent).unwrap().0.is_idempotent());
        assert!(sent.is_empty());
    }

    #[test]
    fn no_bit_may_differ_and_no_byte_be_missing() {
        let whole = batch(5, 0, 0, b"content");
        for cut in 0..whole.len() {
            assert_eq!(Batch::take(&mut Bytes::copy_from_slice(&whole[..cut])), Err(ErrorCode::InvalidRecord), "{cut}");
        }
        for at in CHECKED_FROM..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(Batch::take(&mut Bytes::from(bytes)).is_err(), "{at}");
        }
        for length in [i32::MIN, -1, 0, 48, 57, i32::MAX] {
            let mut bytes = whole.clone();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert!(Batch::take(&mut Bytes::from(bytes)).is_err(), "{length}");
        }
    }
}
