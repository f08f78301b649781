//! Columns that a table gets after it was made.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::DeltaTableBuilder;
use url::Url;
use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{CompactOptions, LakeError};

use crate::support::{append, faulty, local, name, number, rows, schema, session, session_of_delta_rs, stranger};

/// The columns of [`schema`], one between them and one after them.
fn wider() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("tip", DataType::Int64, false),
        Field::new("city", DataType::Utf8, true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

fn wide_rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.clone()));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(ids.map(|_| Some("x"))));
    RecordBatch::try_from_iter([("id", column.clone()), ("tip", column), ("city", texts.clone()), ("note", texts)]).unwrap()
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_have_null_in_new_columns_whoever_reads() {
    let (folder, warehouse) = local().await;
    let old = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&old, "p/0", 1, vec![rows(0..3, Some("Graz"))]).await.unwrap();
    let wide = warehouse.add_columns(&name("s.t"), &wider()).await.unwrap();
    assert_eq!((wide.version(), wide.id()), (2, old.id()));
    assert_eq!(names(&wide.schema()), ["id", "tip", "city", "note"]);
    assert!(wide.schema().field(1).is_nullable(), "older rows have no value in it");
    append(&wide, "p/0", 2, vec![wide_rows(3..5)]).await.unwrap();
    let ask = "SELECT count(*) FROM t WHERE tip IS NULL AND note IS NULL AND id < 3 OR tip = id AND note = 'x' AND id >= 3";
    assert_eq!(number(&session(&warehouse), ask).await, 5);

    // delta-rs sees one table with more columns, all of them by their names.
    let url = Url::from_directory_path(folder.path().join("s/t")).unwrap();
    let theirs = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let context = session_of_delta_rs(&theirs).await;
    assert_eq!(number(&context, ask).await, 5);
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE city = 'Graz'").await, 3);

    // Merged files have all columns.
    let options = CompactOptions { everything: true, ..CompactOptions::default() };
    let merged = wide.compact(&options, &Arc::default()).await.unwrap();
    assert_eq!((merged.files_before, merged.files_after), (2, 1));
    assert_eq!(number(&session(&warehouse), ask).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_done_once_and_both_definitions_go_on() {
    let (_folder, warehouse) = local().await;
    let old = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let mut writer = old.writer("p");
    writer.write(rows(0..2, None)).await.unwrap();
    let staged = writer.finish().await.unwrap();
    let wide = stranger(&warehouse).add_columns(&name("s.t"), &wider()).await.unwrap();
    assert_eq!(stranger(&warehouse).add_columns(&name("s.t"), &wider()).await.unwrap().version(), wide.version());

    // The old handle ends in a way that passes, and the definition that made it goes on over the table.
    let error = append(&old, "p/0", 1, vec![rows(0..2, None)]).await.unwrap_err();
    assert!(matches!(error, LakeError::TableGrown { version: 1, .. }) && error.may_pass(), "{error}");
    let again = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&again, "p/0", 1, vec![rows(0..2, None)]).await.unwrap();
    // What was staged before has no values in it, and is read back so.
    let batch = again.staged_rows(&staged[0]).await.unwrap().next().unwrap().unwrap();
    assert_eq!((names(&batch.schema()), batch.column(1).null_count()), (vec!["id", "tip", "city", "note"], 2));
    let renewed = warehouse.create_table(&name("s.t"), wider(), &[]).await.unwrap();
    append(&renewed, "p/0", 2, vec![wide_rows(2..4)]).await.unwrap();
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t WHERE tip IS NULL").await, 2);

    // An apply that was cut short left columns that the next one does not know.
    let other =
        Arc::new(Schema::new(vec![schema().field(0).clone(), schema().field(1).clone(), Field::new("last", DataType::Date32, true)]));
    let both = warehouse.add_columns(&name("s.t"), &other).await.unwrap();
    assert_eq!(names(&both.schema()), ["id", "city", "last", "tip", "note"]);
    warehouse.create_table(&name("s.t"), other, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_do_not_fit_are_refused() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let (id, city) = (schema().field(0).clone(), schema().field(1).clone());
    for wrong in [
        vec![id.clone(), field("city", DataType::Int64)],
        vec![id.clone(), field("tip", DataType::Int64)],
        vec![field("id", DataType::Int64), city.clone()],
    ] {
        let error = warehouse.add_columns(&name("s.t"), &Arc::new(Schema::new(wrong))).await.unwrap_err();
        assert!(matches!(error, LakeError::TableDiffers { what: "schema", .. }), "{error}");
    }
    // To readers of Delta it is the same name.
    let twice = Arc::new(Schema::new(vec![id.clone(), city.clone(), field("City", DataType::Utf8)]));
    assert!(warehouse.add_columns(&name("s.t"), &twice).await.is_err());
    assert_eq!(table.refresh().await.unwrap(), 0, "nothing was written");

    // A column of somebody else's is not one of ours.
    let url = Url::from_directory_path(folder.path().join("s/t")).unwrap();
    let theirs = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let extra = deltalake_core::kernel::StructField::nullable("extra", deltalake_core::kernel::DataType::LONG);
    theirs.add_columns().with_fields(vec![extra]).await.unwrap();
    assert!(matches!(warehouse.create_table(&name("s.t"), schema(), &[]).await, Err(LakeError::TableDiffers { .. })));
    assert!(matches!(warehouse.add_columns(&name("s.t"), &wider()).await, Err(LakeError::TableDiffers { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_local_times_is_declared_in_the_protocol() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    let mut fields: Vec<Field> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true));
    warehouse.add_columns(&name("s.t"), &Arc::new(Schema::new(fields))).await.unwrap();
    let log = std::fs::read_to_string(folder.path().join("s/t/_delta_log/00000000000000000002.json")).unwrap();
    assert!(log.contains(r#""minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["timestampNtz"]"#), "{log}");
    // Tables keep this: a later version must know its own columns by it.
    assert!(log.contains(r#""watershed.addedColumns":"[\"local\"]""#), "{log}");
    let url = Url::from_directory_path(folder.path().join("s/t")).unwrap();
    assert_eq!(DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap().version(), Some(2));
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t WHERE local IS NULL").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_one_commit() {
    let (store, warehouse) = faulty();
    warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    store.plan(Fault::new(Operation::Put, "00000000000000000001.json", Outcome::FailAfter).times(2));
    let wide = warehouse.add_columns(&name("s.t"), &wider()).await.unwrap();
    assert_eq!((store.fired(), wide.version()), (1, 1));
}
