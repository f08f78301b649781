//! The log of one partition: record batches as they came, in files of bounded size, oldest first.
//!
//! A file is named after the offset of its first record and holds batches one after another in Kafka's own format (version 2), so they are
//! served without being looked into. Opening a log walks over the batches' headers; what a killed process left half written at the end is
//! cut off. Nothing is synced to disk: a log survives the death of its process, not that of the machine.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::batch::{Batch, HEADER_BYTES};
use super::producers::{Sequence, Sequences};
use super::protocol::ErrorCode;

/// One index entry for so many bytes: an offset is found by reading at most this much too much.
const INDEX_INTERVAL_BYTES: u64 = 16 * 1024;

/// So many idempotent producers of a partition are remembered; of more the one that wrote longest ago is forgotten.
const PRODUCERS_MAX: usize = 1000;

/// A partition's batches. State: open files, a sparse index of each, the sequence numbers of producers.
#[derive(Debug)]
pub(super) struct PartitionLog {
    folder: PathBuf,
    segments: VecDeque<Segment>,
    next_offset: i64,
    sequences: HashMap<i64, Sequences>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    base_offset: i64,
    file: Arc<File>,
    bytes: u64,
    /// (offset, position) of some batches, ascending.
    index: Vec<(i64, u64)>,
    /// When it was written to last.
    modified: SystemTime,
}

/// Where to read: made under the log's lock, read without it.
#[derive(Debug)]
pub(super) struct Slice {
    file: Arc<File>,
    position: u64,
    end: u64,
    offset: i64,
}

impl PartitionLog {
    /// Opens the log in `folder`, which is made if it does not exist.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut bases: Vec<i64> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            bases.extend(name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|base| base.parse::<i64>().ok()));
        }
        bases.sort_unstable();
        let first = bases.first().copied().unwrap_or(0);
        let mut log = Self { folder, segments: VecDeque::new(), next_offset: first, sequences: HashMap::new() };
        for base in bases {
            log.recover(base)?;
        }
        if log.segments.is_empty() {
            log.roll()?;
        }
        Ok(log)
    }

    /// Takes up a file that was there, up to its last whole batch.
    fn recover(&mut self, base_offset: i64) -> io::Result<()> {
        let mut segment = Segment::open(&self.folder, base_offset)?;
        let length = segment.file.metadata()?.len();
        segment.modified = segment.file.metadata()?.modified()?;
        self.next_offset = base_offset;
        let mut header = [0; HEADER_BYTES];
        while segment.bytes + HEADER_BYTES as u64 <= length {
            segment.file.read_exact_at(&mut header, segment.bytes)?;
            let Some(batch) = Batch::read(&header) else { break };
            let size = batch.bytes as u64;
            if batch.base_offset < self.next_offset || segment.bytes + size > length {
                break;
            }
            segment.add(batch.base_offset, size);
            self.next_offset = batch.next_offset();
            self.remember(Sequence::of(&batch), batch.producer_id, batch.base_offset);
        }
        if segment.bytes < length {
            segment.file.set_len(segment.bytes)?;
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// First offset that is still there.
    pub(super) fn low(&self) -> i64 {
        self.segments.front().map_or(self.next_offset, |segment| segment.base_offset)
    }

    /// The end: the next offset to be written.
    pub(super) fn high(&self) -> i64 {
        self.next_offset
    }

    /// Appends a batch and returns the offset of its first record. A batch that an idempotent producer sends again is not written again.
    pub(super) fn append(&mut self, batch: &Batch, bytes: &Bytes, segment_bytes: u64) -> Result<i64, ErrorCode> {
        if batch.record_count == 0 || i64::from(batch.record_count) != i64::from(batch.last_offset_delta) + 1 {
            return Err(ErrorCode::InvalidRecord);
        }
        if batch.is_of_a_transaction() {
            return Err(ErrorCode::InvalidRequest);
        }
        let sequence = Sequence::of(batch);
        if let Some(sequence) = sequence
            && let Some(known) = self.sequences.get(&batch.producer_id)
            && let Some(offset) = known.check(sequence)?
        {
            return Ok(offset);
        }
        let storage = |_: io::Error| ErrorCode::KafkaStorageError;
        if self.segments.back().is_none_or(|segment| segment.bytes >= segment_bytes) {
            self.roll().map_err(storage)?;
        }
        let base_offset = self.next_offset;
        let kept = Batch::at_offset(bytes, base_offset);
        let segment = self.segments.back_mut().ok_or(ErrorCode::KafkaStorageError)?;
        segment.file.write_all_at(&kept, segment.bytes).map_err(storage)?;
        segment.add(base_offset, kept.len() as u64);
        #[expect(clippy::disallowed_methods, reason = "what the file system writes to the file, too")]
        let now = SystemTime::now();
        segment.modified = now;
        self.next_offset += i64::from(batch.record_count);
        self.remember(sequence, batch.producer_id, base_offset);
        Ok(base_offset)
    }

    fn remember(&mut self, sequence: Option<Sequence>, producer_id: i64, base_offset: i64) {
        let Some(sequence) = sequence else { return };
        if self.sequences.len() >= PRODUCERS_MAX && !self.sequences.contains_key(&producer_id) {
            let oldest = self.sequences.iter().min_by_key(|(_, sequences)| sequences.last_offset()).map(|(id, _)| *id);
            oldest.map(|id| self.sequences.remove(&id));
        }
        self.sequences.entry(producer_id).or_default().record(sequence, base_offset);
    }

    /// Where the batch with `offset` lies; `None` at the end of the log.
    pub(super) fn find(&self, offset: i64) -> Result<Option<Slice>, ErrorCode> {
        if offset < self.low() || offset > self.high() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if offset == self.high() {
            return Ok(None);
        }
        let segment = &self.segments[self.segments.partition_point(|segment| segment.base_offset <= offset) - 1];
        let entry = segment.index.partition_point(|(first, _)| *first <= offset);
        let position = entry.checked_sub(1).map_or(0, |entry| segment.index[entry].1);
        Ok(Some(Slice { file: segment.file.clone(), position, end: segment.bytes, offset }))
    }

    /// Where the first batch begins that has a record as young as `timestamp_ms` or younger, and its greatest timestamp.
    pub(super) fn find_time(&self, timestamp_ms: i64) -> io::Result<Option<(i64, i64)>> {
        for segment in &self.segments {
            let mut slice = Slice { file: segment.file.clone(), position: 0, end: segment.bytes, offset: segment.base_offset };
            while let Some(batch) = slice.next_header()? {
                if batch.max_timestamp >= timestamp_ms {
                    return Ok(Some((batch.base_offset, batch.max_timestamp)));
                }
            }
        }
        Ok(None)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// When the oldest file that is not written to any more was written last.
    pub(super) fn oldest_closed(&self) -> Option<SystemTime> {
        (self.segments.len() > 1).then(|| self.segments[0].modified)
    }

    /// Deletes the oldest file, unless it is the one being written; the low watermark rises with it. Returns the bytes freed.
    /// A reader that is in it may finish: the file goes away when it closes it.
    pub(super) fn delete_oldest(&mut self) -> io::Result<u64> {
        if self.segments.len() < 2 {
            return Ok(0);
        }
        let Some(segment) = self.segments.pop_front() else { return Ok(0) };
        fs::remove_file(&segment.path)?;
        Ok(segment.bytes)
    }

    /// Closes the file being written if it was not written to since `time`, so that it can be deleted.
    pub(super) fn close_idle(&mut self, time: SystemTime) -> io::Result<()> {
        match self.segments.back() {
            Some(segment) if segment.bytes > 0 && segment.modified < time => self.roll(),
            _ => Ok(()),
        }
    }

    fn roll(&mut self) -> io::Result<()> {
        self.segments.push_back(Segment::open(&self.folder, self.next_offset)?);
        Ok(())
    }
}

impl Segment {
    fn open(folder: &Path, base_offset: i64) -> io::Result<Self> {
        let path = folder.join(format!("{base_offset:020}.log"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        #[expect(clippy::disallowed_methods, reason = "what the file system writes to the file, too")]
        let modified = SystemTime::now();
        Ok(Self { path, base_offset, file: file.into(), bytes: 0, index: Vec::new(), modified })
    }

    fn add(&mut self, offset: i64, size: u64) {
        if self.index.last().is_none_or(|(_, position)| self.bytes - position >= INDEX_INTERVAL_BYTES) {
            self.index.push((offset, self.bytes));
        }
        self.bytes += size;
    }
}

impl Slice {
    /// Whole batches from the one that holds the offset on: at least one, more as long as they fit in `bytes_max`.
    pub(super) fn read(mut self, bytes_max: usize) -> io::Result<Bytes> {
        let Some(first) = self.seek()? else { return Ok(Bytes::new()) };
        let available = (self.end - self.position) as usize;
        let mut buffer = vec![0; available.min(bytes_max.max(first))];
        self.file.read_exact_at(&mut buffer, self.position)?;
        let mut whole = 0;
        while let Some(batch) = Batch::read(&buffer[whole..])
            && batch.bytes <= buffer.len() - whole
        {
            whole += batch.bytes;
        }
        buffer.truncate(whole);
        Ok(Bytes::from(buffer))
    }

    /// Moves on to the batch that holds the offset. Returns its size.
    fn seek(&mut self) -> io::Result<Option<usize>> {
        loop {
            let position = self.position;
            let Some(batch) = self.next_header()? else { return Ok(None) };
            if batch.next_offset() > self.offset {
                let size = (self.position - position) as usize;
                self.position = position;
                return Ok(Some(size));
            }
        }
    }

    /// The header of the next batch; moves past it.
    fn next_header(&mut self) -> io::Result<Option<Batch>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, self.position)?;
        let batch = Batch::read(&header);
        let batch = batch.ok_or_else(|| io::Error::other(format!("no record batch at byte {}", self.position)))?;
        self.position += batch.bytes as u64;
        Ok(Some(batch))
    }
}
