//! Tables that others write: their times, bounds, names and hints, as their own readers take them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::data_type::{Int32Type, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use watershed_lake::with_damage_named;

use crate::compactions::{compact, everything};
use crate::support::{Random, local, name, number, query, session, stranger};

/// A table whose log and files are written here, byte by byte.
pub struct Foreign {
    pub folder: PathBuf,
    version: i64,
}

impl Foreign {
    /// `fields` as in Delta's `schemaString`.
    pub fn new(warehouse: &Path, fields: Value, partitioned_by: &[&str], properties: Value) -> Self {
        let folder = warehouse.join("s/t");
        std::fs::create_dir_all(folder.join("_delta_log")).unwrap();
        let mut table = Self { folder, version: 0 };
        let schema = json!({"type": "struct", "fields": fields}).to_string();
        table.commit(&[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "1f7d", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
                "partitionColumns": partitioned_by, "configuration": properties, "createdTime": 0}}),
        ]);
        table
    }

    pub fn commit(&mut self, actions: &[Value]) {
        let lines = actions.iter().map(|action| format!("{action}\n")).collect::<String>();
        self.commit_text(&lines);
    }

    pub fn commit_text(&mut self, lines: &str) {
        std::fs::write(self.folder.join(format!("_delta_log/{:020}.json", self.version)), lines).unwrap();
        self.version += 1;
    }

    /// Adds a file, named as delta-rs names its own.
    pub fn add(&mut self, bytes: &[u8], partition: Value, stats: Option<&str>) {
        let path = format!("part-00000-{:08}-0000-4000-8000-000000000000-c000.snappy.parquet", self.version);
        std::fs::write(self.folder.join(&path), bytes).unwrap();
        let mut add = json!({"path": path, "partitionValues": partition, "size": bytes.len(), "modificationTime": self.version,
            "dataChange": true});
        if let Some(stats) = stats {
            add["stats"] = json!(stats);
        }
        self.commit(&[json!({"add": add})]);
    }
}

pub fn field(name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": data_type.into(), "nullable": true, "metadata": {}})
}

pub fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).set_data_page_row_count_limit(2);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// Ids, and days since 1970 at midnight as Spark writes times.
fn int96(ids: &[i32], days: &[i32]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required int32 id; required int96 at; }").unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(ids, None, None).unwrap();
    column.close().unwrap();
    let times = days.iter().map(|day| {
        let mut time = Int96::new();
        time.set_data(0, 0, (2_440_588 + day) as u32);
        time
    });
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&times.collect::<Vec<_>>(), None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn times_in_int96_are_read_and_merged_as_they_are() {
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "integer"), field("at", "timestamp")]), &[], json!({}));
    // 9999-12-31 and 0001-01-01; 1500-07-16 and 2262-04-12; 2022-01-01.
    table.add(&int96(&[1, 2], &[2_932_896, -719_162]), json!({}), None);
    table.add(&int96(&[3, 4], &[-171_468, 106_752]), json!({}), None);
    table.add(&int96(&[5], &[18_993]), json!({}), None);
    let sql = "SELECT id, CAST(at AS TEXT) AS at FROM t ORDER BY id";
    let context = session(&warehouse);
    let right = query(&context, sql).await;
    for time in ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "1500-07-16T00:00:00Z", "2262-04-12T00:00:00Z", "2022-01-01T00:00:00Z"] {
        assert!(right.contains(time), "{time}: {right}");
    }
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE at > TIMESTAMP '2026-01-01'").await, 2);
    assert_eq!(number(&context, "SELECT CAST(id AS BIGINT) FROM t ORDER BY at DESC LIMIT 1").await, 1);

    let merged = compact(&warehouse.table(&name("s.t")).await.unwrap(), &everything()).await.unwrap();
    assert_eq!((merged.files_before, merged.files_after), (3, 1));
    assert_eq!(query(&session(&stranger(&warehouse)), sql).await, right);
}

fn answers(schema: &SchemaRef, batches: &[RecordBatch]) -> SessionContext {
    let context = SessionContext::new();
    let table = MemTable::try_new(schema.clone(), vec![batches.to_vec()]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

async fn ids(context: &SessionContext, filter: &str) -> String {
    query(context, &format!("SELECT id FROM t WHERE {filter} ORDER BY id")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_floats_leave_no_row_out() {
    const NUMBERS: [f64; 12] =
        [f64::NAN, 0.0, -0.0, 1.0, -1.0, 2.0, 5.5, f64::INFINITY, f64::NEG_INFINITY, 1e300, f64::MIN_POSITIVE, -7.25];
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("x", DataType::Float64, true),
        Field::new("f", DataType::Float32, true),
    ]));
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("x", "double"), field("f", "float")]), &[], json!({}));
    let mut random = Random::new(5);
    let mut batches = Vec::new();
    for file in 0..40_i64 {
        let values = (0..random.below(7) + 1).map(|_| (random.below(9) > 0).then(|| NUMBERS[random.below(12)])).collect::<Vec<_>>();
        let ids = Int64Array::from_iter_values((0..values.len() as i64).map(|row| file * 100 + row));
        let floats = Float32Array::from_iter(values.iter().map(|value| value.map(|value| value as f32)));
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(Float64Array::from(values.clone())), Arc::new(floats)];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        // As delta-rs does: NaN is left out, and zeros of both signs are one number.
        let finite = values.iter().flatten().filter(|value| value.is_finite()).map(|value| value + 0.0).collect::<Vec<_>>();
        let bound = |pick: fn(f64, f64) -> f64| finite.iter().copied().reduce(pick);
        let (low, high) = (bound(f64::min), bound(f64::max));
        let all_are = values.iter().flatten().all(|value| value.is_finite() || value.is_nan());
        let stats = match (low, high) {
            (Some(low), Some(high)) if all_are => json!({"numRecords": values.len(), "minValues": {"x": low, "f": low as f32},
                "maxValues": {"x": high, "f": high as f32}, "nullCount": {"x": values.iter().filter(|value| value.is_none()).count()}}),
            _ => json!({"numRecords": values.len()}),
        };
        table.add(&parquet(&batch), json!({}), Some(&stats.to_string()));
        batches.push(batch);
    }
    let (ours, right) = (session(&warehouse), answers(&schema, &batches));
    for column in ["x", "f"] {
        let kind = if column == "x" { "DOUBLE" } else { "REAL" };
        for number in ["'NaN'", "0.0", "'-0.0'", "1.0", "5.0", "5.5", "'Infinity'", "'-Infinity'", "-7.25", "1e300"] {
            if column == "f" && number == "1e300" {
                continue;
            }
            let number = format!("CAST({number} AS {kind})");
            for form in [
                "{c} > {n}",
                "{c} >= {n}",
                "{c} < {n}",
                "{c} <= {n}",
                "{c} = {n}",
                "{c} <> {n}",
                "NOT ({c} < {n})",
                "{c} IN ({n}, 2)",
                "NOT ({c} > {n})",
                "{c} IS DISTINCT FROM {n}",
                "{c} BETWEEN -1 AND {n}",
                "{c} + 1 > {n}",
            ] {
                let filter = form.replace("{c}", column).replace("{n}", &number);
                assert_eq!(ids(&ours, &filter).await, ids(&right, &filter).await, "{filter}");
            }
        }
        for sql in [
            format!("SELECT max({column}), min({column}), count({column}) FROM t"),
            format!("SELECT id FROM t WHERE isnan({column}) ORDER BY id"),
        ] {
            assert_eq!(query(&ours, &sql).await, query(&right, &sql).await, "{sql}");
        }
        let top = format!("SELECT {column} FROM t ORDER BY {column} DESC NULLS LAST LIMIT 3");
        assert_eq!(query(&ours, &top).await, query(&right, &top).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_decimals_cut_off_at_bigint_are_not_believed() {
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("d", DataType::Decimal128(38, 0), true)]));
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("d", "decimal(38,0)")]), &[], json!({}));
    let values = [12_345_678_901_234_567_890_i128, -12_345_678_901_234_567_890, 7];
    let mut batches = Vec::new();
    for (id, value) in values.into_iter().enumerate() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![id as i64])),
            Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(38, 0).unwrap()),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let bound = json!({"d": value.clamp(i64::MIN.into(), i64::MAX.into()) as i64});
        let stats = json!({"numRecords": 1, "minValues": bound, "maxValues": bound, "nullCount": {"d": 0}});
        table.add(&parquet(&batch), json!({}), Some(&stats.to_string()));
        batches.push(batch);
    }
    let (ours, right) = (session(&warehouse), answers(&schema, &batches));
    for value in values {
        for operator in ["=", "<=", ">=", "<", ">"] {
            let filter = format!("d {operator} CAST('{value}' AS DECIMAL(38, 0))");
            assert_eq!(ids(&ours, &filter).await, ids(&right, &filter).await, "{filter}");
        }
    }
    let extremes = "SELECT min(d), max(d) FROM t";
    assert_eq!(query(&ours, extremes).await, query(&right, extremes).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_decimals_that_went_through_a_double_are_not_believed() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("d", DataType::Decimal128(18, 2), true),
        Field::new("e", DataType::Decimal128(38, 2), true),
    ]));
    let (folder, warehouse) = local().await;
    let fields = json!([field("id", "long"), field("d", "decimal(18,2)"), field("e", "decimal(38,2)")]);
    let mut table = Foreign::new(folder.path(), fields, &[], json!({}));
    let mut random = Random::new(7);
    let mut batches = Vec::new();
    let mut values =
        vec![(123_456_789_012_345_678_i128, 12_345_678_901_234_567_890_123_456_789_012_345_678_i128), (450_359_962_737_049_701, 7)];
    for _ in 0..30 {
        let sign = if random.below(2) == 0 { 1 } else { -1 };
        let wide = i128::from(random.next()) * i128::from(random.next() >> 10);
        let digits = (random.next() % 1_000_000_000_000_000_000) as i128 / 10_i128.pow(random.below(16) as u32);
        values.push((sign * digits, sign * (wide >> random.below(60)) % 10_i128.pow(37)));
    }
    for (id, (d, e)) in values.iter().enumerate() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![id as i64])),
            Arc::new(Decimal128Array::from(vec![*d]).with_precision_and_scale(18, 2).unwrap()),
            Arc::new(Decimal128Array::from(vec![*e]).with_precision_and_scale(38, 2).unwrap()),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let bound = json!({"d": *d as f64 / 100.0, "e": *e as f64 / 100.0});
        let stats = json!({"numRecords": 1, "minValues": bound, "maxValues": bound, "nullCount": {"d": 0, "e": 0}});
        table.add(&parquet(&batch), json!({}), Some(&stats.to_string()));
        batches.push(batch);
    }
    let (ours, right) = (session(&warehouse), answers(&schema, &batches));
    let shown = |value: i128| format!("{}{}.{:02}", if value < 0 { "-" } else { "" }, value.abs() / 100, value.abs() % 100);
    for (d, e) in &values {
        for (column, value, precision) in [("d", d, 18), ("e", e, 38)] {
            let value = format!("CAST('{}' AS DECIMAL({precision}, 2))", shown(*value));
            for operator in ["=", "<=", ">=", "<", ">"] {
                let filter = format!("{column} {operator} {value}");
                assert_eq!(ids(&ours, &filter).await, ids(&right, &filter).await, "{filter}");
            }
        }
    }
    let extremes = "SELECT min(d), max(d), min(e), max(e) FROM t";
    assert_eq!(query(&ours, extremes).await, query(&right, extremes).await);
}

fn numbers(names: [&str; 2], rows: &[(i64, &str)]) -> RecordBatch {
    let fields = vec![Field::new(names[0], DataType::Int64, true), Field::new(names[1], DataType::Utf8, true)];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_files_are_found_whatever_their_case() {
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("Name", "string")]), &[], json!({}));
    table.add(&parquet(&numbers(["ID", "name"], &[(1, "x"), (2, "y")])), json!({}), None);
    table.add(&parquet(&numbers(["id", "Name"], &[(3, "z")])), json!({}), None);
    let sql = "SELECT id, \"Name\" FROM t ORDER BY id";
    let right = query(&session(&warehouse), sql).await;
    for row in ["| 1  | x    |", "| 2  | y    |", "| 3  | z    |"] {
        assert!(right.contains(row), "{right}");
    }
    for filter in ["id = 2", "\"Name\" = 'y'", "id > 1 AND \"Name\" < 'z'"] {
        assert_eq!(number(&session(&warehouse), &format!("SELECT id FROM t WHERE {filter}")).await, 2, "{filter}");
    }
    compact(&warehouse.table(&name("s.t")).await.unwrap(), &everything()).await.unwrap();
    assert_eq!(query(&session(&stranger(&warehouse)), sql).await, right);

    table.version += 1;
    table.add(&parquet(&numbers(["ID", "Id"], &[(4, "4")])), json!({}), None);
    let error = session(&stranger(&warehouse)).sql(sql).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.contains("'ID'") && error.contains("'Id'") && error.contains("'id'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_make_no_sense_count_as_none() {
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("Name", "string")]), &[], json!({}));
    let odd = [
        "",
        "null",
        "{\"numRecords\":1,\"minVal",
        "nonsense",
        "[]",
        "{\"numRecords\":\"many\"}",
        "{\"minValues\":{\"id\":{}}}",
        "\u{0}",
        "{\"numRecords\":-1}",
        "{\"minValues\":{\"id\":1e400},\"maxValues\":{\"id\":\"x\"}}",
    ];
    for (id, stats) in odd.iter().enumerate() {
        table.add(&parquet(&numbers(["id", "Name"], &[(id as i64, "x")])), json!({}), Some(stats));
    }
    let last = json!({"add": {"path": "elsewhere.parquet", "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true, "stats": {"a": 1}}});
    table.commit(&[last, json!({"remove": {"path": "elsewhere.parquet", "dataChange": true, "deletionTimestamp": 1}})]);
    let removed = json!({"remove": {"path": "elsewhere.parquet", "dataChange": true, "deletionTimestamp": 1}});
    table.commit(&[removed]);
    let context = session(&warehouse);
    assert_eq!(number(&context, "SELECT count(*) FROM t").await, odd.len() as i64);
    for (id, stats) in odd.iter().enumerate() {
        assert_eq!(number(&context, &format!("SELECT count(*) FROM t WHERE id = {id}")).await, 1, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_values_are_read_as_others_write_them() {
    for (data_type, text, shown) in [
        ("decimal(10,2)", "1.5", "1.50"),
        ("decimal(10,2)", "-3", "-3.00"),
        ("timestamp", "2020-01-01 00:00:00", "2020-01-01T00:00:00Z"),
        ("timestamp", "2020-01-01T00:00:00.000001Z", "2020-01-01T00:00:00.000001Z"),
        ("double", "NaN", "NaN"),
        ("double", "-Infinity", "-inf"),
        ("double", "1.0", "1.0"),
        ("date", "0001-01-01", "0001-01-01"),
        ("boolean", "true", "true"),
    ] {
        let (folder, warehouse) = local().await;
        let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("p", data_type)]), &["p"], json!({}));
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
        table.add(&parquet(&batch), json!({"p": text}), None);
        table.add(&parquet(&batch), json!({"p": null}), None);
        let rows = query(&session(&warehouse), "SELECT p FROM t WHERE p IS NOT NULL").await;
        assert!(rows.contains(&format!("| {shown}")), "{data_type} {text}: {rows}");
    }
}

/// A table of three rows, in as many files, with a checkpoint of delta-rs at version 2.
async fn with_checkpoint(folder: &Path) -> Foreign {
    let mut table = Foreign::new(folder, json!([field("id", "long"), field("Name", "string")]), &[], json!({}));
    for id in 1..=2 {
        table.add(&parquet(&numbers(["id", "Name"], &[(id, "x")])), json!({}), Some(r#"{"numRecords":1}"#));
    }
    let url = url::Url::from_directory_path(&table.folder).unwrap();
    let theirs = deltalake_core::open_table(url).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&theirs, None).await.unwrap();
    table.add(&parquet(&numbers(["id", "Name"], &[(3, "x")])), json!({}), None);
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_believed_as_far_as_they_are_there() {
    let file = "00000000000000000002.checkpoint.parquet";
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("none", |_| {}),
        ("the checkpoint is gone", |log| std::fs::remove_file(log.join("00000000000000000002.checkpoint.parquet")).unwrap()),
        ("half of it is there", |log| {
            let path = log.join("00000000000000000002.checkpoint.parquet");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("it is empty", |log| std::fs::write(log.join("00000000000000000002.checkpoint.parquet"), b"").unwrap()),
        ("the hint is no JSON", |log| std::fs::write(log.join("_last_checkpoint"), b"{\"version\":").unwrap()),
        ("the hint names what never was", |log| std::fs::write(log.join("_last_checkpoint"), b"{\"version\":99,\"size\":1}").unwrap()),
    ];
    for (what, damage) in damages {
        let (folder, warehouse) = local().await;
        let table = with_checkpoint(folder.path()).await;
        let log = table.folder.join("_delta_log");
        assert!(log.join(file).exists() && log.join("_last_checkpoint").exists());
        damage(&log);
        assert_eq!(number(&session(&warehouse), "SELECT sum(id) FROM t").await, 6, "{what}");
        // Without the commits it covers it must be whole.
        for version in 0..=1 {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
        let found = stranger(&warehouse).table(&name("s.t")).await;
        match what {
            "half of it is there" => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(file) && error.contains("is damaged"), "{error}");
            }
            "the checkpoint is gone" | "it is empty" => drop(found.unwrap_err()),
            _ => assert_eq!(number(&session(&stranger(&warehouse)), "SELECT sum(id) FROM t").await, 6, "{what}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_says_its_own_way_out() {
    let protocol = |feature: &str| json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature]}});
    let read = async |properties: Value, protocol: Value, vector: bool| {
        let (folder, warehouse) = local().await;
        let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("Name", "string")]), &[], properties);
        table.commit(&[protocol]);
        table.add(&parquet(&numbers(["id", "Name"], &[(1, "x")])), json!({}), None);
        if vector {
            let vector =
                json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 1});
            let path = "part-00000-00000002-0000-4000-8000-000000000000-c000.snappy.parquet";
            table.commit(&[json!({"add": {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true, "deletionVector": vector}})]);
        }
        let table = warehouse.table(&name("s.t")).await?;
        table.provider().await.map(drop)
    };
    let mapped = |mode: &str| json!({"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "2"});
    let allows_mapping = || json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
    let cases = [
        (read(json!({}), protocol("deletionVectors"), true).await, "deletion vectors", "REORG TABLE"),
        (read(mapped("name"), allows_mapping(), false).await, "column mapping", "CREATE TABLE"),
        (read(mapped("id"), allows_mapping(), false).await, "column mapping", "CREATE TABLE"),
        (read(mapped("id"), protocol("columnMapping"), false).await, "column mapping", "CREATE TABLE"),
        (read(json!({}), protocol("typeWidening"), false).await, "typeWidening", "DROP FEATURE"),
        (read(json!({}), protocol("variantType"), false).await, "variantType", "to_json"),
    ];
    for (outcome, feature, way_out) in cases {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(feature) && error.contains(way_out), "{error}");
        assert_eq!(feature == "deletion vectors", error.contains("REORG"), "{error}");
    }
    // Allowed and not used.
    read(json!({}), allows_mapping(), false).await.unwrap();
    read(json!({"delta.columnMapping.mode": "none"}), protocol("columnMapping"), false).await.unwrap();
    read(json!({}), protocol("deletionVectors"), false).await.unwrap();
}

/// As shallow clones have them.
#[tokio::test(flavor = "multi_thread")]
async fn files_outside_of_the_table_are_refused_by_name() {
    for path in
        ["s3://lake/s/u/part-0.parquet", "abfss://c@a.dfs.example/u/part%200.parquet", "dbfs:/lake/u/part-0.parquet", "file:/u/0", "/u/0"]
    {
        let (folder, warehouse) = local().await;
        let mut table = Foreign::new(folder.path(), json!([field("id", "long")]), &[], json!({}));
        table.commit(&[json!({"add": {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true}})]);
        let read = async {
            let table = warehouse.table(&name("s.t")).await?;
            table.provider().await.map(drop)
        };
        let error = read.await.unwrap_err().to_string();
        let (path, way_out) = (path.replace("%20", " "), "copy the table instead of cloning it shallowly");
        assert!(error.contains(&format!("it uses data files outside its folder ({path})")) && error.contains(way_out), "{error}");
    }
}

/// Texts, the last of which is not UTF-8.
fn no_text(ids: &[i64]) -> Vec<u8> {
    let mut bytes = BinaryBuilder::new();
    for row in 0..ids.len() {
        bytes.append_value(if row + 1 == ids.len() { b"K\xf6ln".as_slice() } else { b"Bonn" });
    }
    let bytes = bytes.finish();
    // SAFETY: nothing but the writer reads the texts, and it copies their bytes.
    let texts = unsafe { StringArray::new_unchecked(bytes.offsets().clone(), bytes.values().clone(), None) };
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    parquet(&RecordBatch::try_from_iter([("id", ids), ("city", Arc::new(texts) as ArrayRef)]).unwrap())
}

async fn failure(context: &SessionContext, sql: &str) -> String {
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let plan = with_damage_named(plan).unwrap();
    collect(plan, context.task_ctx()).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_named_with_file_and_column() {
    let (folder, warehouse) = local().await;
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), field("city", "string")]), &[], json!({}));
    let texts = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("city", Arc::new(StringArray::from(vec!["Köln", "Ulm"])) as ArrayRef),
    ]);
    table.add(&parquet(&texts.unwrap()), json!({}), None);
    table.add(&no_text(&[3, 4, 5]), json!({}), None);
    let context = session(&warehouse);
    for sql in ["SELECT * FROM t", "SELECT count(*) FROM t WHERE city LIKE 'K%'", "SELECT city FROM t ORDER BY id"] {
        let error = failure(&context, sql).await;
        assert!(error.contains("-00000002-") && error.contains("column 'city'") && error.contains("UTF-8"), "{sql}: {error}");
    }
    // What is not asked for does no harm.
    assert_eq!(number(&context, "SELECT sum(id) FROM t").await, 15);
    // A page that is no page.
    let mut bytes =
        parquet(&RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from((0..1000).collect::<Vec<_>>())) as ArrayRef)]).unwrap());
    let middle = bytes.len() / 4;
    bytes[4..middle].fill(0xff);
    table.add(&bytes, json!({}), None);
    let error = failure(&session(&warehouse), "SELECT sum(id) FROM t").await;
    assert!(error.contains("-00000003-") && error.contains("column 'id'"), "{error}");
}

/// A struct, a list of structs and a map of structs that got a field later.
fn nested(field_names: &[&str], id: i64) -> RecordBatch {
    let fields: arrow::datatypes::Fields = field_names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    let point = |at: i64| {
        let columns =
            (0..field_names.len() as i64).map(|place| Arc::new(Int64Array::from(vec![(at != 2).then_some(at * 10 + place)])) as ArrayRef);
        Arc::new(StructArray::new(fields.clone(), columns.collect(), None)) as ArrayRef
    };
    let offsets = || arrow::buffer::OffsetBuffer::from_lengths([1]);
    let element = Arc::new(Field::new("element", DataType::Struct(fields.clone()), true));
    let list = ListArray::new(element, offsets(), point(id), None);
    let pair: arrow::datatypes::Fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Struct(fields.clone()), true)].into();
    let entries = StructArray::new(pair.clone(), vec![Arc::new(StringArray::from(vec!["k"])), point(id)], None);
    let map = MapArray::new(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), offsets(), entries, None, false);
    let columns: [(&str, ArrayRef); 4] =
        [("id", Arc::new(Int64Array::from(vec![id]))), ("s", point(id)), ("l", Arc::new(list)), ("m", Arc::new(map))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_before_a_struct_got_a_field_are_merged() {
    let (folder, warehouse) = local().await;
    let point = json!({"type": "struct", "fields": [field("x", "long"), field("y", "long")]});
    let list = json!({"type": "array", "elementType": point, "containsNull": true});
    let map = json!({"type": "map", "keyType": "string", "valueType": point, "valueContainsNull": true});
    let fields = json!([field("id", "long"), field("s", point), field("l", list), field("m", map)]);
    let mut table = Foreign::new(folder.path(), fields, &[], json!({}));
    for (id, names) in [(1, &["x"][..]), (2, &["x", "y"]), (3, &["y", "x"]), (4, &["X", "y"])] {
        table.add(&parquet(&nested(names, id)), json!({}), None);
    }
    compact(&warehouse.table(&name("s.t")).await.unwrap(), &everything()).await.unwrap();
    let rows = query(&session(&warehouse), "SELECT id, s, l, m FROM t ORDER BY id").await;
    for row in [
        "| 1  | {x: 10, y: }   | [{x: 10, y: }]   | {k: {x: 10, y: }}   |",
        "| 2  | {x: , y: }     | [{x: , y: }]     | {k: {x: , y: }}     |",
        "| 3  | {x: 31, y: 30} | [{x: 31, y: 30}] | {k: {x: 31, y: 30}} |",
        "| 4  | {x: 40, y: 41} | [{x: 40, y: 41}] | {k: {x: 40, y: 41}} |",
    ] {
        assert!(rows.contains(row), "{rows}");
    }
}
