//! A folder read as a source: each row once, wherever reading stops; what changes, goes or cannot be read is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tokio::runtime::Runtime;
use watershed_dialect::Epoch;
use watershed_dialect::definition::{
    Connector, Format, Metadata, OnError, OnGap, SourceColumn, SourceDefinition, Start, Tombstones, WatermarkDefinition,
};

use super::{FileSources, OpenedFolder, PARTITION};
use crate::error::IngestError;
use crate::source::{FetchLimits, OpenSource, Positions, SourceBatch};

const CSV: Format = Format::Csv { delimiter: b',', header: true };
const LIMITS: FetchLimits = FetchLimits { rows: 3, bytes: 1 << 20 };

/// A folder and a warehouse in memory.
struct Place {
    runtime: Runtime,
    folder: Arc<InMemory>,
    warehouse: Arc<InMemory>,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, folder: Arc::default(), warehouse: Arc::default() }
    }

    fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.runtime.block_on(self.folder.put(&Path::from(path), bytes.into().into())).unwrap();
    }

    fn delete(&self, path: &str) {
        self.runtime.block_on(self.folder.delete(&Path::from(path))).unwrap();
    }

    /// As a new process would see it.
    fn sources(&self) -> FileSources {
        let folder = self.folder.clone();
        let _inside = self.runtime.enter();
        FileSources::new(self.warehouse.clone(), Arc::new(move |_| Ok(OpenedFolder { store: folder.clone(), local: false, root: None })))
    }

    /// The bytes of the first list of its ledger.
    fn ledger(&self) -> bytes::Bytes {
        use futures::TryStreamExt;
        let all: Vec<_> = self.runtime.block_on(self.warehouse.list(None).try_collect()).unwrap();
        self.runtime.block_on(async { self.warehouse.get(&all[0].location).await.unwrap().bytes().await.unwrap() })
    }

    fn ledger_lists(&self) -> usize {
        use futures::TryStreamExt;
        let all: Vec<_> = self.runtime.block_on(self.warehouse.list(None).try_collect()).unwrap();
        all.len()
    }
}

/// Columns id, at, note, file, row.
fn definition(format: Format) -> SourceDefinition {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column = |name: &str, data_type, nullable, metadata| SourceColumn {
        field: Arc::new(Field::new(name, data_type, nullable)),
        metadata,
        epoch: None,
        path: Vec::new(),
        json: Vec::new(),
    };
    let suffix = match format {
        Format::Csv { .. } => ".csv",
        Format::Json => ".json",
        Format::Parquet => ".parquet",
    };
    SourceDefinition {
        name: "things".into(),
        columns: vec![
            column("id", DataType::Int64, false, None),
            column("at", utc, false, None),
            column("note", DataType::Utf8, true, None),
            column("file", DataType::Utf8, false, Some(Metadata::File)),
            column("row", DataType::Int64, false, Some(Metadata::Row)),
        ],
        watermark: Some(WatermarkDefinition { column: "at".into(), delay_us: 0 }),
        connector: Connector::Files { path: "things".into(), suffix: suffix.into(), poll_interval: Duration::ZERO },
        format,
        start: Start::Earliest,
        on_error: OnError::Quarantine,
        tombstones: Tombstones::Error,
        on_gap: OnGap::Fail,
        max_skew: Duration::from_secs(86_400),
        idle_timeout: Duration::from_secs(1),
    }
}

const ALL: [usize; 5] = [0, 1, 2, 3, 4];

/// What was read: rows, quarantined (file, row, value, reason), and where it stopped.
#[derive(Debug, Default, PartialEq)]
struct Read {
    rows: Vec<(i64, String, i64)>,
    bad: Vec<(String, i64, String, String)>,
    position: i64,
    records: usize,
}

impl Read {
    fn add(&mut self, batch: &SourceBatch) {
        let rows = &batch.decoded.rows;
        for row in 0..rows.num_rows() {
            let number = |index: usize| rows.column(index).as_primitive::<Int64Type>().value(row);
            self.rows.push((number(0), rows.column(3).as_string::<i32>().value(row).into(), number(4)));
        }
        if let Some(bad) = &batch.decoded.quarantined {
            for row in 0..bad.num_rows() {
                let text = |name: &str| bad.column_by_name(name).unwrap().as_string::<i32>().value(row).to_string();
                let values = bad.column_by_name("value").unwrap().as_binary::<i32>();
                let value = if values.is_null(row) { "NULL".into() } else { String::from_utf8_lossy(values.value(row)).into_owned() };
                let number = bad.column_by_name("offset").unwrap().as_primitive::<Int64Type>().value(row);
                self.bad.push((text("topic"), number, value, text("reason")));
            }
        }
        assert_eq!(batch.decoded.offsets.len(), rows.num_rows());
        self.position = batch.next_offset;
        self.records += batch.records;
    }
}

/// Reads from a position to the end of what is there, or for some batches.
fn read(sources: &FileSources, definition: &SourceDefinition, from: i64, batches_max: usize) -> Result<Read, IngestError> {
    let ranges = sources.partitions(definition)?;
    assert_eq!((ranges.len(), ranges[0].partition), (1, PARTITION));
    let mut reader = sources.open(definition, &ALL, &Positions::from([(PARTITION, from)]), "test")?;
    let mut all = Read { position: from, ..Read::default() };
    for _ in 0..batches_max {
        if all.position >= ranges[0].high {
            assert!(reader.progress()[0].is_caught_up());
            break;
        }
        for batch in reader.poll(LIMITS, Duration::from_millis(10))? {
            assert!(batch.next_offset > all.position, "a batch goes on");
            all.add(&batch);
        }
    }
    Ok(all)
}

fn read_all(sources: &FileSources, definition: &SourceDefinition) -> Read {
    read(sources, definition, 0, 10_000).unwrap()
}

fn csv(ids: std::ops::Range<i64>) -> String {
    let rows: String = ids.map(|id| format!("{id},2024-01-01 00:00:{:02},\"note, {id}\"\n", id % 60)).collect();
    format!("id,at,note\n{rows}")
}

fn json(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"at\":\"2024-01-01T00:00:{:02}Z\"}}\n", id % 60)).collect()
}

fn parquet(ids: std::ops::Range<i64>) -> Vec<u8> {
    // Narrower and without a zone, as files of others are.
    let fields = [("extra", DataType::Float64), ("ID", DataType::Int32), ("at", DataType::Timestamp(TimeUnit::Microsecond, None))];
    let schema = Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()));
    let count = ids.clone().count();
    let times: TimestampMicrosecondArray = ids.clone().map(|id| Some(1_704_067_200_000_000 + id)).collect();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Float64Array::from(vec![0.5; count])),
            Arc::new(ids.map(|id| (id != 13).then_some(id as i32)).collect::<Int32Array>()),
            Arc::new(times),
        ],
    )
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn every_row_once_in_order_of_names_wherever_reading_stops() {
    for (format, ending) in [(CSV, "csv"), (Format::Json, "json"), (Format::Parquet, "parquet")] {
        let place = Place::new();
        let content = |ids: std::ops::Range<i64>| match ending {
            "csv" => csv(ids).into_bytes(),
            "json" => json(ids).into_bytes(),
            _ => parquet(ids),
        };
        place.put(&format!("b.{ending}"), content(20..30));
        place.put(&format!("a/x.{ending}"), content(0..11));
        place.put(&format!("c.{ending}"), content(40..41));
        place.put(&format!("_c.{ending}"), content(90..99));
        place.put("d.txt", b"not ours".to_vec());
        let definition = definition(format);
        let whole = read_all(&place.sources(), &definition);
        let ids: Vec<i64> = whole.rows.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, (0..11).chain(20..30).chain(40..41).collect::<Vec<_>>(), "{ending}");
        assert_eq!(whole.rows[10], (10, format!("a/x.{ending}"), 11), "the first row is 1");
        assert_eq!(whole.rows[11].2, 1);
        assert_eq!((whole.records, whole.bad.len()), (22, 0));
        for batches in 0..12 {
            let first = read(&place.sources(), &definition, 0, batches).unwrap();
            let rest = read(&place.sources(), &definition, first.position, 10_000).unwrap();
            assert_eq!([first.rows, rest.rows].concat(), whole.rows, "{ending}: stopped after {batches} batches");
            assert_eq!(rest.position, whole.position);
        }
    }
}

#[test]
fn new_files_come_behind_those_that_were_there_and_all_readers_agree() {
    let place = Place::new();
    let (sources, definition) = (place.sources(), definition(CSV));
    place.put("m.csv", csv(0..2));
    let before = read_all(&sources, &definition);
    let mut reader = sources.open(&definition, &ALL, &Positions::from([(PARTITION, before.position)]), "follower").unwrap();
    assert!(reader.poll(LIMITS, Duration::ZERO).unwrap().is_empty());
    // Sorts before what was read.
    place.put("a.csv", csv(10..12));
    let mut followed = Read::default();
    while followed.rows.len() < 2 {
        reader.poll(LIMITS, Duration::from_millis(50)).unwrap().iter().for_each(|batch| followed.add(batch));
    }
    assert_eq!(followed.rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [10, 11]);
    // Another process sees the order that was decided, though it would list a.csv first; deleting what was read changes nothing.
    let ids = |read: &Read| read.rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&read_all(&place.sources(), &definition)), [0, 1, 10, 11]);
    place.delete("m.csv");
    assert_eq!(ids(&read(&place.sources(), &definition, before.position, 100).unwrap()), [10, 11]);
    assert_eq!(place.ledger_lists(), 2);
    let low = place.sources().partitions(&definition).unwrap()[0].low;
    assert_eq!(low, before.position, "who starts anew starts at the first file that is still there");
}

#[test]
fn processes_that_look_at_the_same_time_agree_on_one_order() {
    let place = Place::new();
    for number in 0..40 {
        place.put(&format!("{number:02}.csv"), csv(number..number + 1));
    }
    let definition = definition(CSV);
    let all: Vec<_> = (0..6).map(|_| place.sources()).collect();
    let reads: Vec<Read> = std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|sources| scope.spawn(|| read_all(sources, &definition))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(reads[0].rows.len(), 40);
    assert!(reads.iter().all(|read| *read == reads[0]));
}

#[test]
fn bad_rows_are_set_aside_with_their_file_and_number() {
    let place = Place::new();
    let text = "note,id,at\n\
        fine,1,2024-01-01T00:00:01Z\n\
        \n\
        wrong,one,2024-01-01T00:00:02Z\n\
        \"two\nlines\",2,2024-01-01 00:00:03\n\
        short,3\n\
        missing,,2024-01-01T00:00:04Z\n\
        absurd,4,0001-01-01T00:00:00Z\n\
        future,5,9000-01-01T00:00:00Z\n\
        5\" pipe,6,2024-01-01T00:00:05Z\n\
        last,\"7\",2024-01-01T00:00:06Z\n\
        open,\"8,2024-01-01T00:00:07Z\n\
        after,9,2024-01-01T00:00:08Z";
    place.put("x.csv", text);
    let found = read_all(&place.sources(), &definition(CSV));
    assert_eq!(found.rows.iter().map(|(id, _, row)| (*id, *row)).collect::<Vec<_>>(), [(1, 1), (2, 3), (6, 8), (7, 9), (9, 11)]);
    let bad: BTreeMap<i64, (&str, &str)> =
        found.bad.iter().map(|(_, row, value, reason)| (*row, (value.as_str(), reason.as_str()))).collect();
    assert_eq!(bad.keys().copied().collect::<Vec<_>>(), [2, 4, 5, 6, 7, 10], "{bad:?}");
    assert_eq!(bad[&2], ("wrong,one,2024-01-01T00:00:02Z", "column 'id': 'one' is no BIGINT"));
    assert!(bad[&4].1.contains("expected 3 got 2"), "{bad:?}");
    assert_eq!(bad[&5].1, "column 'id': no value, yet it is NOT NULL");
    assert!(bad[&6].1.contains("absurd") && bad[&7].1.contains("ahead"), "{bad:?}");
    assert_eq!(bad[&10], ("open,\"8,2024-01-01T00:00:07Z", "a quote is opened and never closed"));
    assert!(found.bad.iter().all(|(file, ..)| file == "x.csv"));
    assert_eq!(found.records, found.rows.len() + found.bad.len());

    let fails = SourceDefinition { on_error: OnError::Fail, ..definition(CSV) };
    let error = read(&place.sources(), &fails, 0, 100).unwrap_err();
    assert!(matches!(&error, IngestError::BadFileRow { file, row: 2, .. } if file == "x.csv"), "{error}");
    assert!(!error.may_pass());
}

/// As Debezium and many others write times.
#[test]
fn whole_numbers_of_a_parquet_file_are_milliseconds_or_what_is_declared() {
    let (ms, s) = (1_704_067_200_000, 1_704_067_200);
    for (epoch, good, bad) in [(None, ms, s), (Some(Epoch::Seconds), s, ms)] {
        let place = Place::new();
        let fields = ["id", "at"].map(|name| Field::new(name, DataType::Int64, true)).to_vec();
        let columns = [vec![1, 2], vec![good, bad]].map(|values| Arc::new(Int64Array::from(values)) as ArrayRef).to_vec();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        place.put("x.parquet", bytes);
        let mut definition = definition(Format::Parquet);
        definition.columns[1].epoch = epoch;
        let found = read_all(&place.sources(), &definition);
        assert_eq!(found.rows, [(1, "x.parquet".into(), 1)], "{epoch:?}");
        let reason = &found.bad[0].3;
        assert!(reason.contains(if epoch.is_none() { "evidently counts seconds" } else { "not in the years 1 to 9999" }), "{reason}");
    }
}

/// As they come out of archives of other systems.
#[cfg(unix)]
#[test]
fn a_file_with_an_odd_name_stops_no_other() {
    use std::os::unix::ffi::OsStrExt;
    let root = std::env::temp_dir().join(format!("watershed-odd-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(root.join("below")).unwrap();
    let names: [&[u8]; 7] = [b"00.csv", b"z\n1.csv", b"a\x01.csv", b"\xff.csv", b"a%2Fb.csv", "é.csv".as_bytes(), b"below/_no.csv"];
    for (id, name) in (0i64..).zip(names) {
        std::fs::write(root.join(std::ffi::OsStr::from_bytes(name)), csv(id..id + 1)).unwrap();
    }
    std::os::unix::fs::symlink("..", root.join("below/up")).unwrap();
    std::os::unix::fs::symlink("/nowhere", root.join("nowhere.csv")).unwrap();
    let place = Place::new();
    let open = {
        let root = root.clone();
        move |_: &str| {
            let store = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(&root).unwrap());
            Ok(OpenedFolder { store, local: true, root: Some(root.clone()) })
        }
    };
    let sources = {
        let _inside = place.runtime.enter();
        FileSources::new(place.warehouse.clone(), Arc::new(open))
    };
    let found = read_all(&sources, &definition(CSV));
    let files: Vec<&str> = found.rows.iter().map(|(_, file, _)| file.as_str()).collect();
    assert_eq!(files, ["00.csv", "a%2Fb.csv", "é.csv"]);
    let bad: Vec<(&str, &str)> = found.bad.iter().map(|(file, _, _, reason)| (file.as_str(), reason.as_str())).collect();
    let unreadable = |why: &str| format!("from this row on the file cannot be read: {why}");
    let (unshown, no_text) = (unreadable("its name holds characters that cannot be shown"), unreadable("its name is not UTF-8"));
    assert_eq!(bad, [("\\xff.csv", no_text.as_str()), ("a\\x01.csv", &unshown), ("z\\n1.csv", &unshown)]);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn bad_rows_of_json_and_parquet_too() {
    let place = Place::new();
    place.put("x.json", "{\"id\":1,\"at\":\"2024-01-01T00:00:00Z\"}\n{\"id\":\n\n{\"id\":3,\"at\":\"2024-01-01T00:00:00Z\"}");
    let json = read_all(&place.sources(), &definition(Format::Json));
    assert_eq!(json.rows.iter().map(|(id, _, row)| (*id, *row)).collect::<Vec<_>>(), [(1, 1), (3, 3)]);
    assert_eq!((json.bad[0].0.as_str(), json.bad[0].1, json.bad[0].2.as_str()), ("x.json", 2, "{\"id\":"));

    let place = Place::new();
    place.put("x.parquet", parquet(10..20));
    let read = read_all(&place.sources(), &definition(Format::Parquet));
    assert_eq!(read.rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [10, 11, 12, 14, 15, 16, 17, 18, 19]);
    assert_eq!((read.bad[0].1, read.bad[0].3.as_str()), (4, "column 'id': no value, yet it is NOT NULL"));
    assert!(read.bad[0].2.contains("\"at\""), "{:?}", read.bad);
}

#[test]
fn times_in_int96_are_those_that_stand_there() {
    let schema = Arc::new(parse_message_type("message m { required int64 id; required int96 at; }").unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int64Type>().write_batch(&[1, 2], None, None).unwrap();
    column.close().unwrap();
    // 2024-01-01, and 9999-12-31, which ns do not reach.
    let times = [19_723, 2_932_896].map(|day: u32| {
        let mut time = Int96::new();
        time.set_data(0, 0, 2_440_588 + day);
        time
    });
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let place = Place::new();
    place.put("x.parquet", bytes);
    let read = read_all(&place.sources(), &definition(Format::Parquet));
    assert_eq!(read.rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [1]);
    // Too far ahead for the time of an event, and by what it says.
    assert!(read.bad[0].2.contains("9999-12-31"), "{:?}", read.bad);
}

#[test]
fn a_file_that_cannot_be_read_does_not_stop_the_others() {
    let place = Place::new();
    let mut damaged = parquet(0..30);
    place.put("a.parquet", b"PAR1 this is no Parquet file PAR1".to_vec());
    place.put("c.parquet", parquet(50..52));
    // The footer is whole, the pages of a later row group are not.
    let at = damaged.len() / 2;
    damaged[at - 40..at].fill(0xff);
    place.put("b.parquet", damaged);
    let read = read_all(&place.sources(), &definition(Format::Parquet));
    assert!(read.rows.ends_with(&[(50, "c.parquet".into(), 1), (51, "c.parquet".into(), 2)]), "{read:?}");
    assert!(
        read.bad
            .iter()
            .any(|(file, row, value, reason)| file == "a.parquet" && *row == 1 && value == "NULL" && reason.contains("cannot be read"))
    );
    let of_b: Vec<_> = read.rows.iter().filter(|(_, file, _)| file == "b.parquet").collect();
    let (_, from, ..) = read.bad.iter().find(|(file, ..)| file == "b.parquet").expect("the rest of b.parquet is set aside");
    assert!(of_b.iter().all(|(.., row)| row < from) && of_b.len() < 30, "{read:?}");

    let place = Place::new();
    place.put("x.csv", "a,b\n1,2\n");
    let read = read_all(&place.sources(), &definition(CSV));
    assert!(read.bad[0].3.contains("none of the source's columns; it has: a, b"), "{read:?}");
}

#[test]
fn a_file_whose_lines_end_in_carriage_returns_alone_is_set_aside_with_the_reason() {
    let text = csv(0..3).replace('\n', "\r");
    for header in [true, false] {
        let place = Place::new();
        place.put("a.csv", text.clone());
        place.put("b.csv", csv(3..5).replace('\n', "\r\n"));
        let read = read_all(&place.sources(), &definition(Format::Csv { delimiter: b',', header }));
        let (file, row, _, reason) = &read.bad[0];
        assert_eq!((file.as_str(), *row), ("a.csv", 1), "{read:?}");
        assert!(reason.contains("carriage returns that no line feed follows"), "{reason}");
        assert_eq!(read.rows.len(), 2, "{read:?}");
    }
    let place = Place::new();
    place.put("a.csv", "id,at,\"no\rte\"\n1,2024-01-01 00:00:00,x\n");
    assert_eq!(read_all(&place.sources(), &definition(CSV)).rows.len(), 1, "within quotes they end nothing");
}

/// The slash says nothing: the ledger is one, also where an older version has named it after the path as it was written.
#[test]
fn a_folder_has_one_ledger_whether_or_not_its_path_ends_in_a_slash() {
    let of = |path: &str| {
        let connector = Connector::Files { path: path.into(), suffix: ".csv".into(), poll_interval: Duration::ZERO };
        SourceDefinition { connector, ..definition(CSV) }
    };
    let place = Place::new();
    place.put("a.csv", csv(0..10));
    let half = read(&place.sources(), &of("things"), 0, 1).unwrap();
    let rest = read(&place.sources(), &of("things/"), half.position, 100).unwrap();
    assert_eq!((half.rows.len() + rest.rows.len(), place.ledger_lists()), (10, 1));

    let older = Place::new();
    older.put("a.csv", csv(0..10));
    let list = place.ledger();
    let name = format!("_watershed/sources/things-{:016x}/00000000000000000000.json", super::folder::fnv(b"things/"));
    older.runtime.block_on(older.warehouse.put(&Path::from(name), list.into())).unwrap();
    for path in ["things/", "things"] {
        assert_eq!(read_all(&older.sources(), &of(path)).rows.len(), 10);
        assert_eq!(older.ledger_lists(), 1, "{path}");
    }
}

#[test]
fn files_that_change_or_go_and_ledgers_that_are_lost_are_errors_by_name() {
    let place = Place::new();
    let definition = definition(CSV);
    place.put("a.csv", csv(0..10));
    place.put("b.csv", csv(10..20));
    let sources = place.sources();
    let half = read(&sources, &definition, 0, 2).unwrap();
    place.put("a.csv", csv(0..11));
    for sources in [&sources, &place.sources()] {
        let error = sources.partitions(&definition).unwrap_err();
        assert!(matches!(&error, IngestError::FileChanged { file, .. } if file == "a.csv"), "{error}");
        assert!(!error.may_pass() && error.to_string().contains("_watershed/sources/things-"), "{error}");
    }
    place.delete("a.csv");
    let error = read(&place.sources(), &definition, half.position, 100).unwrap_err();
    assert!(matches!(&error, IngestError::FileGone { file, .. } if file == "a.csv"), "{error}");

    let elsewhere = Place::new();
    let error = read(&elsewhere.sources(), &definition, half.position, 1).unwrap_err();
    assert!(matches!(error, IngestError::Ledger { .. }), "{error}");
}

#[test]
fn only_what_is_wanted_is_read_and_headers_are_optional() {
    let place = Place::new();
    place.put("x.csv", "1;2024-01-01;a\n2;2024-01-02;b\n");
    let definition = SourceDefinition { watermark: None, ..definition(Format::Csv { delimiter: b';', header: false }) };
    let sources = place.sources();
    sources.partitions(&definition).unwrap();
    let first = |wanted: &[usize]| {
        let mut reader = sources.open(&definition, wanted, &Positions::new(), "test").unwrap();
        reader.poll(LIMITS, Duration::ZERO).unwrap().remove(0).decoded.rows
    };
    let notes = first(&[2]);
    assert_eq!(notes.column(0).as_ref(), &StringArray::from(vec!["a", "b"]) as &dyn Array);
    assert_eq!((first(&[]).num_rows(), first(&[]).num_columns()), (2, 0));
    assert_eq!(first(&[4, 0]).column(0).as_ref(), &Int64Array::from(vec![1, 2]) as &dyn Array);
}
