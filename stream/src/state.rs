//! State files: pieces of segments of operator state as Arrow IPC streams, one file a task and epoch, each piece a range of bytes.
//!
//! A snapshot writes only what changed; the epoch record says for every live segment where its pieces lie. Pieces that keep a file which is
//! otherwise no longer needed are moved. A segment is named
//! `<stage>/<task>/<operator>/<segment>`: `0/3/2/…` is of operator 2 in task 3 of the stage beside the source. Older versions knew that stage,
//! as `l<task>/<operator>/…`, and one after an exchange, as `k<task>/<operator>/…`, with all further operators in it.

mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use object_store::path::Path;
use watershed_lake::Warehouse;

pub use self::split::{KeyColumns, split};
use crate::StreamError;
use crate::epoch::{EpochRecord, ShardId, StateRange};
use crate::operator::{Change, Operator, StateDelta, StateSnapshot};

/// How many operators each stage has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(pub Vec<usize>);

/// Whose state a segment is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    pub(crate) stage: usize,
    pub(crate) task: usize,
    pub(crate) operator: usize,
    pub(crate) segment: &'a str,
}

impl Layout {
    /// What a full name says; `None` if it is not of these stages.
    pub(crate) fn address<'a>(&self, name: &'a str) -> Option<Address<'a>> {
        let older = ['l', 'k'].iter().position(|letter| name.starts_with(*letter));
        let (stage, rest) = match older {
            Some(stage) => (stage, &name[1..]),
            None => name.split_once('/').and_then(|(stage, rest)| Some((stage.parse().ok()?, rest)))?,
        };
        let (task, rest) = rest.split_once('/')?;
        let (operator, segment) = rest.split_once('/')?;
        let (mut stage, mut operator): (usize, usize) = (stage, operator.parse().ok()?);
        while older == Some(1) && operator >= *self.0.get(stage)? {
            operator -= self.0[stage];
            stage += 1;
        }
        Some(Address { stage, task: task.parse().ok()?, operator, segment })
    }
}

/// What changed in one task since its last snapshot, ready to be written.
#[derive(Debug, Default)]
pub struct TaskDelta {
    /// Encoded pieces of segments one after another.
    pub bytes: Vec<u8>,
    /// How long it took to say.
    pub took: Duration,
    /// Full names of segments that are no more.
    pub deletes: Vec<String>,
    /// What changes in the lists of the others, in this order.
    pub changes: Vec<PieceChange>,
}

/// A change of the list of one segment's pieces: [`crate::operator::Change`], encoded.
#[derive(Debug)]
pub struct PieceChange {
    /// The segment's full name.
    pub name: String,
    /// The pieces that go.
    pub replaces: Range<usize>,
    /// Where among the bytes that piece is that comes in their place.
    pub piece: Option<Range<u64>>,
}

impl TaskDelta {
    /// Adds what one operator says.
    pub fn add(&mut self, stage: usize, task: usize, operator: usize, delta: StateDelta) -> Result<(), StreamError> {
        let name = |segment: &str| format!("{stage}/{task}/{operator}/{segment}");
        for Change { segment, replaces, rows } in delta.changes {
            let piece = match rows {
                Some(rows) => {
                    let start = self.bytes.len() as u64;
                    let mut writer = StreamWriter::try_new(&mut self.bytes, &rows.schema())?;
                    writer.write(&rows)?;
                    writer.finish()?;
                    Some(start..self.bytes.len() as u64)
                }
                None => None,
            };
            self.changes.push(PieceChange { name: name(&segment), replaces, piece });
        }
        self.deletes.extend(delta.deletes.iter().map(|segment| name(segment)));
        Ok(())
    }

    /// Brings the lists of all live segments up to date; `kept` says what a list holds of a piece that is new.
    pub fn apply<R>(&self, live: &mut BTreeMap<String, Vec<R>>, kept: impl Fn(&Range<u64>) -> R) -> Result<(), StreamError> {
        for name in &self.deletes {
            live.remove(name);
        }
        for PieceChange { name, replaces, piece } in &self.changes {
            let pieces = live.entry(name.clone()).or_default();
            if replaces.start > replaces.end || replaces.end > pieces.len() {
                let reason = format!("{} of its pieces are known, and those in {replaces:?} were to be replaced", pieces.len());
                return Err(StreamError::Corrupt { path: format!("segment {name}"), kind: "pipeline state", reason });
            }
            pieces.splice(replaces.clone(), piece.as_ref().map(&kept));
            if pieces.is_empty() {
                live.remove(name);
            }
        }
        Ok(())
    }
}

/// Pieces are moved out of a file once less than one byte in so many of it is still needed.
const SPARSE: u64 = 4;
/// So much may be moved in an epoch however little it writes.
const MOVED_BYTES: u64 = 1 << 20;

/// Writes what changed and brings the record's lists of live segments up to date. Returns the bytes written.
pub async fn write(warehouse: &Warehouse, shard: &ShardId, deltas: Vec<TaskDelta>, record: &mut EpochRecord) -> Result<u64, StreamError> {
    let mut written = 0;
    for (i, delta) in deltas.into_iter().enumerate() {
        // The name is unique to the attempt, so that two processes that fight over an epoch never overwrite each other's state.
        let file = format!("{:020}-{i}-{}.arrow", record.epoch, uuid::Uuid::new_v4());
        delta.apply(&mut record.state, |piece| StateRange { file: file.clone(), offset: piece.start, bytes: piece.end - piece.start })?;
        if !delta.bytes.is_empty() {
            let size = delta.bytes.len() as u64;
            written += size;
            warehouse.put_own(&file_path(shard, &file), delta.bytes.into()).await?;
            record.state_files.insert(file, size);
        }
    }
    let sparse = sparse(record, written.max(MOVED_BYTES));
    if !sparse.is_empty() {
        written += gather(warehouse, shard, &sparse, record).await?;
    }
    Ok(written)
}

/// The files that hold little that is still needed, without those that are not needed at all. What is needed of them is at most `bytes_max`.
fn sparse(record: &mut EpochRecord, bytes_max: u64) -> BTreeSet<String> {
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    for range in record.state.values().flatten() {
        *needed.entry(&range.file).or_default() += range.bytes;
    }
    record.state_files.retain(|file, _| needed.contains_key(file.as_str()));
    let is_sparse = |file: &str, bytes: u64| record.state_files.get(file).is_some_and(|&size| bytes.saturating_mul(SPARSE) < size);
    let mut sparse: Vec<(u64, &str)> =
        needed.into_iter().map(|(file, bytes)| (bytes, file)).filter(|(bytes, file)| is_sparse(file, *bytes)).collect();
    sparse.sort_unstable();
    let mut sum = 0;
    let fits = |(bytes, _): &(u64, &str)| {
        sum += bytes;
        sum <= bytes_max
    };
    sparse.into_iter().take_while(fits).map(|(_, file)| file.to_owned()).collect()
}

/// Moves what is needed of some files to a new one. A file that cannot be read stays as it is.
async fn gather(warehouse: &Warehouse, shard: &ShardId, files: &BTreeSet<String>, record: &mut EpochRecord) -> Result<u64, StreamError> {
    let mut contents = BTreeMap::new();
    for file in files {
        match warehouse.read(&file_path(shard, file)).await {
            Ok(Some(bytes)) => drop(contents.insert(file.clone(), bytes)),
            Ok(None) => {}
            Err(error) => tracing::debug!(file, %error, "sparse state file not read"),
        }
    }
    let mut moved: Vec<u8> = Vec::new();
    let to = format!("{:020}-moved-{}.arrow", record.epoch, uuid::Uuid::new_v4());
    for range in record.state.values_mut().flatten() {
        let piece = |bytes: &bytes::Bytes| bytes.get(range.offset as usize..(range.offset + range.bytes) as usize).map(<[u8]>::to_vec);
        if let Some(piece) = contents.get(&range.file).and_then(piece) {
            (range.file, range.offset) = (to.clone(), moved.len() as u64);
            moved.extend(piece);
        }
    }
    let size = moved.len() as u64;
    if size > 0 {
        warehouse.put_own(&file_path(shard, &to), moved.into()).await?;
        record.state_files.retain(|file, _| !contents.contains_key(file));
        record.state_files.insert(to, size);
    }
    Ok(size)
}

/// Removes state files that the newest record no longer names. Failing to is no error: vacuum finds them.
pub async fn remove_unused(warehouse: &Warehouse, shard: &ShardId, before: &EpochRecord, now: &EpochRecord) {
    let files = |record: &EpochRecord| record.state.values().flatten().map(|range| range.file.clone()).collect::<BTreeSet<_>>();
    for file in files(before).difference(&files(now)) {
        if let Err(error) = warehouse.remove(&[file_path(shard, file)]).await {
            tracing::debug!(file, %error, "unused state file not removed");
        }
    }
}

/// All live segments, decoded: name and pieces of each.
pub async fn read(
    warehouse: &Warehouse,
    shard: &ShardId,
    live: &BTreeMap<String, Vec<StateRange>>,
) -> Result<Vec<(String, Vec<RecordBatch>)>, StreamError> {
    let mut segments: Vec<(String, Vec<RecordBatch>)> =
        live.iter().map(|(name, ranges)| (name.clone(), Vec::with_capacity(ranges.len()))).collect();
    let mut by_file: BTreeMap<&str, Vec<(usize, usize, &StateRange)>> = BTreeMap::new();
    for (segment, ranges) in live.values().enumerate() {
        for (place, range) in ranges.iter().enumerate() {
            by_file.entry(&range.file).or_default().push((segment, place, range));
        }
    }
    let mut pieces: BTreeMap<(usize, usize), Vec<RecordBatch>> = BTreeMap::new();
    for (file, ranges) in by_file {
        let path = file_path(shard, file);
        let corrupt = |reason: String| StreamError::Corrupt { path: path.to_string(), kind: "pipeline state", reason };
        let bytes = warehouse.read(&path).await?.ok_or_else(|| corrupt("it is gone".to_owned()))?;
        for (segment, place, range) in ranges {
            let end = range.offset + range.bytes;
            if end > bytes.len() as u64 {
                return Err(corrupt(format!("it ends at byte {}, before segment {}", bytes.len(), segments[segment].0)));
            }
            let reader = StreamReader::try_new(&bytes[range.offset as usize..end as usize], None).map_err(|e| corrupt(e.to_string()))?;
            let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|e| corrupt(e.to_string()))?;
            pieces.insert((segment, place), batches);
        }
    }
    for ((segment, _), batches) in pieces {
        segments[segment].1.extend(batches);
    }
    Ok(segments)
}

/// Hands each operator of a task its segments. `mine` says whether a segment of another task of the same stage is this task's now.
pub fn restore<'a>(
    layout: &Layout,
    stage: usize,
    operators: impl Iterator<Item = (usize, &'a mut Box<dyn Operator>)>,
    segments: &[(String, Vec<RecordBatch>)],
    mine: impl Fn(usize, &str) -> bool,
) -> Result<(), StreamError> {
    for (index, operator) in operators {
        let mut snapshot = StateSnapshot::default();
        for (name, pieces) in segments {
            let Some(of) = layout.address(name) else { continue };
            if (of.stage, of.operator) == (stage, index) && mine(of.task, of.segment) {
                snapshot.segments.push((of.segment.to_string(), pieces.clone()));
            }
        }
        operator.restore(snapshot)?;
    }
    Ok(())
}

/// A segment in the columns that its operator has today. Names are not part of what state means, and a sum may since be kept in a wider type.
pub(crate) fn fit(operator: &'static str, segment: &str, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, StreamError> {
    let mismatch = || StreamError::StateMismatch { operator, segment: segment.to_owned() };
    if batch.num_columns() != schema.fields().len() {
        return Err(mismatch());
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(match column.data_type() {
            same if same == field.data_type() => column.clone(),
            kept if is_wider(kept, field.data_type()) => cast(column, field.data_type())?,
            _ => return Err(mismatch()),
        });
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(|_| mismatch())
}

/// Whether all values of the exact type `narrow` are values of `wide`.
fn is_wider(narrow: &DataType, wide: &DataType) -> bool {
    let digits = |data_type: &DataType| match data_type {
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => Some((i16::from(*precision), i16::from(*scale))),
        _ => None,
    };
    let is_decimal = matches!(wide, DataType::Decimal128(..) | DataType::Decimal256(..));
    // Sums are kept in the greatest precision there is, whatever was declared: only the scale must be the same.
    digits(narrow).zip(digits(wide)).is_some_and(|(narrow, wide)| is_decimal && narrow.1 == wide.1 && narrow.0 <= wide.0)
}

fn file_path(shard: &ShardId, file: &str) -> Path {
    Path::from(format!("{}/state/{file}", shard.folder()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};

    use super::*;

    fn batch(name: &str, values: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([(name, values, true)]).unwrap()
    }

    /// Records hold these names.
    #[test]
    fn segments_are_named_by_stage_task_and_operator() {
        let rows = || batch("a", Arc::new(Int64Array::from(vec![1])));
        let mut delta = TaskDelta::default();
        let said = |name: &str| StateDelta {
            changes: vec![Change { segment: name.to_owned(), replaces: 0..0, rows: Some(rows()) }],
            deletes: vec!["w/7".to_owned()],
        };
        delta.add(0, 3, 2, said("0-60000000/5")).unwrap();
        delta.add(2, 11, 0, said("h/42")).unwrap();
        let names: Vec<&str> = delta.changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["0/3/2/0-60000000/5", "2/11/0/h/42"]);
        assert_eq!(delta.deletes, ["0/3/2/w/7", "2/11/0/w/7"]);
        let layout = Layout(vec![3, 2, 1]);
        let of = |stage, task, operator, segment| Some(Address { stage, task, operator, segment });
        assert_eq!(layout.address(names[0]), of(0, 3, 2, "0-60000000/5"));
        assert_eq!(layout.address(names[1]), of(2, 11, 0, "h/42"));
        for other in ["", "0", "0/3", "0/3/2", "x/3/2/h/1"] {
            assert_eq!(layout.address(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_older_versions_are_of_the_operators_that_wrote_them() {
        let layout = Layout(vec![3, 2, 1]);
        let of = |stage, task, operator| Some(Address { stage, task, operator, segment: "h/42" });
        assert_eq!(layout.address("l3/2/h/42"), of(0, 3, 2));
        let keyed: Vec<_> = (0..4).map(|operator| format!("k11/{operator}/h/42")).collect();
        let keyed: Vec<_> = keyed.iter().map(|name| layout.address(name)).collect();
        assert_eq!(keyed, [of(1, 11, 0), of(1, 11, 1), of(2, 11, 0), None]);
    }

    fn change(segment: &str, replaces: Range<usize>, values: Option<Range<i64>>) -> Change {
        let rows = values.map(|values| batch("a", Arc::new(Int64Array::from_iter_values(values))));
        Change { segment: segment.to_owned(), replaces, rows }
    }

    fn delta(deletes: &[&str], changes: Vec<Change>) -> TaskDelta {
        let mut delta = TaskDelta::default();
        let deletes = deletes.iter().map(ToString::to_string).collect();
        delta.add(1, 0, 1, StateDelta { deletes, changes }).unwrap();
        delta
    }

    #[test]
    fn pieces_come_and_go_where_a_change_says() {
        let mut live: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
        let pieces = |live: &BTreeMap<String, Vec<Range<u64>>>| live.get("1/0/1/w/1").map_or(0, Vec::len);
        let first = delta(&[], vec![change("w/1", 0..0, Some(0..5)), change("w/1", 1..1, Some(5..6)), change("w/2", 0..0, Some(0..1))]);
        first.apply(&mut live, Range::clone).unwrap();
        let last = live["1/0/1/w/1"][1].clone();
        delta(&["w/2"], vec![change("w/1", 0..1, None), change("w/1", 1..1, Some(7..8))]).apply(&mut live, Range::clone).unwrap();
        assert_eq!((live["1/0/1/w/1"][0].clone(), pieces(&live), live.len()), (last, 2, 1));
        let error = delta(&[], vec![change("w/1", 2..3, None)]).apply(&mut live, Range::clone).unwrap_err().to_string();
        assert!(error.contains("segment 1/0/1/w/1") && error.contains("2 of its pieces are known"), "{error}");
        delta(&[], vec![change("w/1", 0..2, None)]).apply(&mut live, Range::clone).unwrap();
        assert!(live.is_empty());
    }

    #[tokio::test]
    async fn a_file_that_little_is_needed_of_is_emptied_and_removed() {
        let warehouse = Warehouse::open("memory://", &std::collections::HashMap::new()).await.unwrap();
        let first = r#"{"version":1,"pipeline":"gold.x","shard":0,"epoch":1,"writer":{"run":"r","host":"h","pid":1,"started":2},
            "definition":"","written_ms":3,"offsets":{},"watermarks_us":{},"idle_us":{},"keyed_tasks":1,"state":{},"tables":[],"counters":{}}"#;
        let mut record = EpochRecord::from_bytes(first.as_bytes(), &Path::from("1.json")).unwrap();
        let shard = ShardId { pipeline: record.pipeline.clone(), shard: 0 };
        let files = async || warehouse.list(&Path::from(format!("{}/state", shard.folder()))).await.unwrap().len();
        let segments: Vec<String> = (0..10).map(|i| format!("w/{i}")).collect();
        let changes = segments.iter().map(|segment| change(segment, 0..0, Some(0..100))).collect();
        let written = write(&warehouse, &shard, vec![delta(&[], changes)], &mut record).await.unwrap();
        assert_eq!((record.state.len(), record.state_files.values().sum::<u64>(), files().await), (10, written, 1));
        let mut before = record.clone();
        for (epoch, dropped, expected) in [(2, 0..7, 1), (3, 7..8, 1)] {
            record.epoch = epoch;
            let names: Vec<&str> = segments[dropped].iter().map(String::as_str).collect();
            let written = write(&warehouse, &shard, vec![delta(&names, vec![])], &mut record).await.unwrap();
            remove_unused(&warehouse, &shard, &before, &record).await;
            assert_eq!((files().await, record.state_files.len(), written > 0), (expected, expected, epoch == 3), "epoch {epoch}");
            before = record.clone();
        }
        // What is left of it is in the new file.
        let read = read(&warehouse, &shard, &record.state).await.unwrap();
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["1/0/1/w/8", "1/0/1/w/9"]);
        assert!(read.iter().all(|(_, pieces)| pieces.len() == 1 && pieces[0].num_rows() == 100));
        assert!(record.state_files.keys().all(|file| file.contains("-moved-")), "{:?}", record.state_files);
    }

    #[test]
    fn state_fits_under_other_names_and_in_wider_numbers_only() {
        let wanted = |data_type: DataType| batch("b", arrow::array::new_null_array(&data_type, 1)).schema();
        let whole = batch("a", Arc::new(Int64Array::from(vec![1])));
        assert_eq!(fit("over", "h/1", &whole, &wanted(DataType::Int64)).unwrap().column(0), whole.column(0));
        let sum = fit("over", "h/1", &whole, &wanted(DataType::Decimal128(38, 0))).unwrap();
        assert_eq!(
            sum.column(0).as_ref(),
            &Decimal128Array::from(vec![1]).with_precision_and_scale(38, 0).unwrap() as &dyn arrow::array::Array
        );
        for other in [DataType::Utf8, DataType::Int32, DataType::Decimal128(38, 2), DataType::Float64] {
            let error = fit("over", "h/1", &whole, &wanted(other)).unwrap_err();
            assert!(error.to_string().contains("operator 'over' cannot go on from segment 'h/1'"), "{error}");
        }
        let text = batch("a", Arc::new(StringArray::from(vec!["x"])));
        assert!(fit("over", "h/1", &text, &wanted(DataType::Int64)).is_err());
    }
}
