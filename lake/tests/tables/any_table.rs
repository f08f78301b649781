//! Tables of random types and values: what a compaction makes of them, and what readers make of files with damaged bytes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::physical_plan::collect;
use deltalake_core::kernel::{DataType as Kind, StructField};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;
use watershed_lake::{LakeError, Table, VacuumOptions, Warehouse, with_damage_named};

use crate::compactions::{by_delta_rs, compact, everything};
use crate::support::{Random, append, local, name, query, session, stranger};

/// A type that a table can hold; `depth` limits how deep it nests.
fn any_type(random: &mut Random, depth: usize) -> DataType {
    let flat = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(5, 2),
        DataType::Decimal128(18, 0),
        DataType::Decimal128(38, 10),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    ];
    match random.below(if depth == 0 { flat.len() } else { flat.len() + 5 }) {
        at if at < flat.len() => flat[at].clone(),
        at if at % 2 == 0 => DataType::List(Arc::new(Field::new("element", any_type(random, depth - 1), true))),
        _ => {
            let fields = (0..1 + random.below(3)).map(|n| Field::new(format!("f{n}"), any_type(random, depth - 1), true));
            DataType::Struct(fields.collect())
        }
    }
}

fn any_nulls(random: &mut Random, rows: usize) -> Option<NullBuffer> {
    let every = [0, 1, 2, 5][random.below(4)];
    (every > 0).then(|| (0..rows).map(|_| random.below(every) > 0).collect())
}

fn any_texts(random: &mut Random, rows: usize) -> StringArray {
    let pieces =
        ["", "a", "Z", " ", "é", "日本", "\u{1F600}", "\0", "\n", "\"", "\u{10FFFF}", "a longer text, so that bounds are cut short"];
    let text = |random: &mut Random| (0..random.below(4)).map(|_| pieces[random.below(pieces.len())]).collect::<String>();
    StringArray::from_iter_values((0..rows).map(|_| text(random)))
}

/// Values of a type with what is rare elsewhere: the ends of its range, NaN, zeros with a sign, far years, empty lists.
fn any_values(random: &mut Random, data_type: &DataType, rows: usize) -> ArrayRef {
    let nulls = any_nulls(random, rows);
    let mut whole = |ends: &[i64]| -> Int64Array {
        (0..rows).map(|_| if random.below(3) == 0 { ends[random.below(ends.len())] } else { random.below(7) as i64 - 3 }).collect()
    };
    let values: ArrayRef = match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(whole(&[0]).iter().map(|value| value.map(|value| value > 0)))),
        DataType::Int8 => cast(&whole(&[i8::MIN.into(), i8::MAX.into()]), data_type).unwrap(),
        DataType::Int16 => cast(&whole(&[i16::MIN.into(), i16::MAX.into()]), data_type).unwrap(),
        DataType::Int32 => cast(&whole(&[i32::MIN.into(), i32::MAX.into()]), data_type).unwrap(),
        DataType::Int64 => Arc::new(whole(&[i64::MIN, i64::MAX, (1 << 53) + 1])),
        // The years 1 to 9999.
        DataType::Date32 => cast(&cast(&whole(&[-719_162, 2_932_896, -141_428]), &DataType::Int32).unwrap(), data_type).unwrap(),
        DataType::Timestamp(..) => {
            cast(&whole(&[-62_135_596_800_000_000, 253_402_300_799_999_999, 9_300_000_000_000_000, -11_644_473_600_000_000]), data_type)
                .unwrap()
        }
        DataType::Float32 | DataType::Float64 => {
            let odd = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 0.1];
            cast(&Float64Array::from_iter_values((0..rows).map(|_| odd[random.below(odd.len())])), data_type).unwrap()
        }
        DataType::Decimal128(precision, scale) => {
            let end = 10_i128.pow((*precision).into()) - 1;
            let ends = [end, -end, 0, 1, -1, 50];
            let values = Decimal128Array::from_iter_values((0..rows).map(|_| ends[random.below(ends.len())]));
            Arc::new(values.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::Utf8 => Arc::new(any_texts(random, rows)),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(any_texts(random, rows).iter().map(|text| {
            let mut bytes = text.unwrap_or_default().as_bytes().to_vec();
            bytes.extend([0xff, 0x00]);
            bytes
        }))),
        DataType::List(item) => {
            let lengths: Vec<usize> =
                (0..rows).map(|row| if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) { 0 } else { random.below(4) }).collect();
            let inner = any_values(random, item.data_type(), lengths.iter().sum());
            return Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths(lengths), inner, nulls));
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| any_values(random, field.data_type(), rows)).collect();
            return Arc::new(StructArray::new(fields.clone(), columns, nulls));
        }
        other => panic!("no values of {other}"),
    };
    make_array(values.to_data().into_builder().nulls(nulls).build().unwrap())
}

fn any_rows(random: &mut Random, schema: &SchemaRef, first: i64, rows: usize) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows as i64));
    let others = schema.fields().iter().skip(1).map(|field| any_values(random, field.data_type(), rows));
    RecordBatch::try_new(schema.clone(), std::iter::once(ids).chain(others).collect()).unwrap()
}

/// `id`, then columns of any type; the first of them a partition's in every other table.
async fn any_table(random: &mut Random, warehouse: &Warehouse) -> (Table, SchemaRef) {
    let mut fields = vec![Field::new("id", DataType::Int64, false)];
    let is_partitioned = random.below(2) == 0;
    if is_partitioned {
        let kinds = [DataType::Int32, DataType::Boolean, DataType::Date32, DataType::Decimal128(5, 2), DataType::Int64];
        fields.push(Field::new("part", kinds[random.below(kinds.len())].clone(), true));
    }
    fields.extend((0..2 + random.below(6)).map(|n| Field::new(format!("c{n}"), any_type(random, 2), true)));
    let schema: SchemaRef = Arc::new(Schema::new(Fields::from(fields)));
    let partitioned_by = if is_partitioned { vec!["part".to_owned()] } else { Vec::new() };
    let table = warehouse.create_table(&name("s.t"), schema.clone(), &partitioned_by).await.unwrap();
    (table, schema)
}

async fn filled(random: &mut Random, table: &Table, schema: &SchemaRef, appends: i64) {
    for version in 0..appends {
        let rows = 1 + random.below(20);
        append(table, "p/0", version, vec![any_rows(random, schema, version * 100, rows)]).await.unwrap();
    }
}

const ALL_ROWS: &str = "SELECT * FROM t ORDER BY id";

/// Reads as others do, and as we do, before and after; columns are added in between, as others add them.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_changes_no_value_of_any_type() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let (_folder, warehouse) = local().await;
        let (table, schema) = any_table(&mut random, &warehouse).await;
        let appends = 2 + random.below(4) as i64;
        filled(&mut random, &table, &schema, appends).await;
        if random.below(2) == 0 {
            let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
            let kinds = [Kind::LONG, Kind::STRING, Kind::DOUBLE, Kind::DATE, Kind::TIMESTAMP, Kind::BINARY];
            let added = StructField::nullable("added", kinds[random.below(kinds.len())].clone());
            theirs.add_columns().with_fields(vec![added]).await.unwrap();
        }
        let warehouse = stranger(&warehouse);
        let table = warehouse.table(&name("s.t")).await.unwrap();
        let schema = table.schema();
        append(&table, "p/0", 50, vec![any_rows(&mut random, &schema, 10_000, 5)]).await.unwrap();
        let before = (query(&session(&warehouse), ALL_ROWS).await, by_delta_rs(&warehouse, ALL_ROWS).await);
        let merged = compact(&table, &everything()).await.unwrap();
        assert!(merged.files_before > merged.files_after || !table.partitioned_by().is_empty(), "seed {seed}: {merged:?}");
        let after = (query(&session(&stranger(&warehouse)), ALL_ROWS).await, by_delta_rs(&warehouse, ALL_ROWS).await);
        assert_eq!(after, before, "seed {seed}: {schema:?}");
    }
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Bytes with a few things wrong.
fn spoilt(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        if spoilt.is_empty() {
            break;
        }
        // What tells of all else is at the end of a Parquet file.
        let at = if random.below(2) == 0 { random.below(spoilt.len()) } else { spoilt.len() - 1 - random.below(spoilt.len().min(400)) };
        let until = (at + 1 + random.below(8)).min(spoilt.len());
        match random.below(6) {
            0 => spoilt[at] ^= 1 << random.below(8),
            1 => spoilt[at] = [0, 0xff, 0x7f, 0x80][random.below(4)],
            2 => spoilt.truncate(at),
            3 => spoilt.extend_from_within(at..until),
            4 => drop(spoilt.drain(at..until)),
            _ => spoilt[at..until].fill(if random.below(2) == 0 { 0x7f } else { 0xff }),
        }
    }
    spoilt
}

/// All that is done with a table by people and by upkeep; any of it may fail.
async fn use_it(warehouse: Warehouse) -> Result<(), LakeError> {
    let context = session(&warehouse);
    for sql in [
        "SELECT * FROM t",
        "SELECT count(*), max(id) FROM t WHERE id > 1",
        "SELECT id FROM t WHERE c0 IS NOT NULL ORDER BY id DESC LIMIT 2",
    ] {
        let Ok(query) = context.sql(sql).await else { continue };
        let Ok(plan) = query.create_physical_plan().await else { continue };
        let _ = collect(with_damage_named(plan).unwrap(), context.task_ctx()).await;
    }
    let _ = warehouse.tables().await;
    let table = warehouse.table(&name("s.t")).await?;
    let _ = append(&table, "q/0", 0, Vec::new()).await;
    let _ = compact(&table, &everything()).await;
    let needed = HashSet::new();
    let options = VacuumOptions { retention: Duration::ZERO, forgotten: true, since_ms: None, needed: &needed, dry_run: false };
    let _ = table.vacuum(options).await;
    Ok(())
}

/// Other tests of this process panic on purpose.
const THREADS: &str = "reader of damaged files";

/// Whatever one file of a table says: an error or rows, never a panic, nor without end.
#[test]
fn no_bytes_of_a_table_panic_its_readers() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_reader = std::thread::current().name() == Some(THREADS);
        // Those of Parquet's reader, and of what it calls, are caught and become errors.
        let of_its_reader = |file: &str| ["/arrow-", "/parquet-", "/bytes-"].iter().any(|library| file.contains(library));
        let is_ours = panic.location().is_some_and(|place| !of_its_reader(place.file()));
        PANICS.fetch_add(usize::from(is_reader && is_ours), Ordering::Relaxed);
        before(panic);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(THREADS).enable_all().build().unwrap();
    runtime.block_on(damaged_tables());
}

async fn damaged_tables() {
    for seed in 100..104 {
        let mut random = Random::new(seed);
        let (_folder, warehouse) = local().await;
        let (table, schema) = any_table(&mut random, &warehouse).await;
        filled(&mut random, &table, &schema, 3).await;
        let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
        deltalake_core::checkpoints::create_checkpoint(&theirs, None).await.unwrap();
        append(&table, "p/0", 3, vec![any_rows(&mut random, &schema, 1_000, 4)]).await.unwrap();
        let mut files: Vec<(Path, Vec<u8>)> = Vec::new();
        let paths: Vec<_> = warehouse.store().list(None).map_ok(|object| object.location).try_collect().await.unwrap();
        for path in paths {
            let bytes = warehouse.store().get(&path).await.unwrap().bytes().await.unwrap();
            files.push((path, bytes.to_vec()));
        }
        files.sort();
        for _ in 0..60 {
            let store = InMemory::new();
            let damaged = random.below(files.len());
            for (at, (path, bytes)) in files.iter().enumerate() {
                let bytes = if at == damaged { spoilt(&mut random, bytes) } else { bytes.clone() };
                store.put(path, bytes.into()).await.unwrap();
            }
            let warehouse = Warehouse::with_store(Arc::new(store), Url::parse("memory:///").unwrap());
            let used = tokio::time::timeout(Duration::from_secs(60), tokio::spawn(use_it(warehouse))).await;
            let damaged = &files[damaged].0;
            assert!(used.is_ok_and(|done| done.is_ok()), "seed {seed}: {damaged} was damaged");
            assert_eq!(PANICS.load(Ordering::Relaxed), 0, "seed {seed}: {damaged} was damaged");
        }
    }
}
