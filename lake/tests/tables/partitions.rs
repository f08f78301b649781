//! Partition values of every type: what is written is read back by us and by delta-rs, or refused with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::prelude::SessionContext;
use serde_json::json;
use watershed_lake::{LakeError, Warehouse, refused_partition_value};

use crate::compactions::{compact, everything};
use crate::foreign::{Foreign, field, parquet};
use crate::support::{Random, append, local, name, number, query, session, session_of_delta_rs, stranger};

fn texts() -> ArrayRef {
    let mut random = Random::new(3);
    let pieces = [
        "",
        " ",
        "/",
        "%",
        "%2F",
        "=",
        "..",
        ".",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\"",
        "\\",
        "'",
        "ß",
        "日本",
        "\u{1F600}",
        "\u{FEFF}",
        "__HIVE_DEFAULT_PARTITION__",
        "null",
        "NULL",
        "a",
        "A",
        "1.0",
        "#",
        "?",
        "&",
        ":",
        "*",
        "\u{7f}",
        "\u{202e}",
        "e\u{301}",
        "é",
    ];
    let mut values = pieces.map(str::to_owned).to_vec();
    values.extend((0..30).map(|_| (0..random.below(4) + 1).map(|_| pieces[random.below(pieces.len())]).collect::<String>()));
    Arc::new(StringArray::from_iter(values.into_iter().map(Some).chain([None])))
}

/// Columns of values, one for each type that can partition a table.
fn columns() -> Vec<ArrayRef> {
    let times = [
        0,
        -1,
        1,
        999_999,
        1_700_000_000_123_456,
        -62_135_596_800_000_000,
        -62_135_596_800_000_001,
        253_402_300_799_999_999,
        253_402_300_800_000_000,
        i64::MAX,
        i64::MIN + 1,
        -11_644_473_600_000_000,
        9_223_372_036_854_776,
    ];
    let times = || TimestampMicrosecondArray::from_iter(times.into_iter().map(Some).chain([None]));
    vec![
        texts(),
        Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(0), Some(i8::MAX), None])),
        Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(-1), Some(i16::MAX), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(7), Some(i32::MAX), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(1 << 53), Some((1 << 53) + 1), Some(i64::MAX), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Date32Array::from(vec![
            Some(0),
            Some(-1),
            Some(-719_162),
            Some(-719_163),
            Some(2_932_896),
            Some(2_932_897),
            Some(i32::MAX),
            Some(i32::MIN),
            Some(-171_468),
            None,
        ])),
        Arc::new(
            Decimal128Array::from(vec![Some(0), Some(-5), Some(150), Some(99_999_999), Some(-99_999_999), None])
                .with_precision_and_scale(8, 2)
                .unwrap(),
        ),
        Arc::new(
            Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(1 - 10_i128.pow(38)), Some(1), None])
                .with_precision_and_scale(38, 0)
                .unwrap(),
        ),
        Arc::new(Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-1), None]).with_precision_and_scale(38, 18).unwrap()),
        Arc::new(times().with_timezone("UTC")),
        Arc::new(times()),
    ]
}

async fn theirs(warehouse: &Warehouse) -> SessionContext {
    let table = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    session_of_delta_rs(&table).await
}

async fn values(context: &SessionContext, data_type: &DataType) -> ArrayRef {
    let batches = context.sql("SELECT p, id FROM t ORDER BY id").await.unwrap().collect().await.unwrap();
    let columns = batches.iter().map(|batch| batch.column(0).as_ref()).collect::<Vec<_>>();
    cast(&concat(&columns).unwrap(), data_type).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_value_comes_back_or_is_refused() {
    for column in columns() {
        let data_type = column.data_type().clone();
        for nullable in [true, false] {
            let (_folder, warehouse) = local().await;
            let fields = vec![Field::new("p", data_type.clone(), nullable), Field::new("id", DataType::Int64, false)];
            let schema: SchemaRef = Arc::new(Schema::new(fields));
            let table = warehouse.create_table(&name("s.t"), schema.clone(), &["p".to_owned()]).await.unwrap();
            let (mut written, mut refused) = (Vec::new(), 0);
            for row in (0..column.len()).filter(|row| nullable || column.is_valid(*row)) {
                let value = column.slice(row, 1);
                let id: ArrayRef = Arc::new(Int64Array::from(vec![row as i64]));
                let batch = RecordBatch::try_new(schema.clone(), vec![value.clone(), id]).unwrap();
                let outcome = append(&table, "p/0", row as i64, vec![batch]).await;
                match refused_partition_value(&value) {
                    None => {
                        outcome.unwrap();
                        written.push(value);
                    }
                    Some((_, why)) => {
                        let error = outcome.unwrap_err();
                        assert!(matches!(error, LakeError::BadRows { .. }) && error.to_string().contains(why), "{error}");
                        refused += 1;
                    }
                }
            }
            let may_be_refused = matches!(data_type, DataType::Utf8 | DataType::Date32 | DataType::Timestamp(_, _));
            assert_eq!(refused > 0, may_be_refused, "{data_type}");
            let expected = concat(&written.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            let fresh = stranger(&warehouse);
            assert_eq!(&values(&session(&fresh), &data_type).await, &expected, "{data_type}");
            assert_eq!(&values(&theirs(&warehouse).await, &data_type).await, &expected, "{data_type}");
            // And after they were written once more.
            assert_eq!(compact(&table, &everything()).await.unwrap().given_up, 0);
            assert_eq!(&values(&session(&fresh), &data_type).await, &expected, "{data_type}");
        }
    }
}

#[test]
fn refused_values_are_found_in_whatever_form_they_come() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("")]));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        assert_eq!(refused_partition_value(&cast(&text, &data_type).unwrap()).unwrap().0, 2, "{data_type}");
    }
    let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, 253_402_300_800_000]));
    assert_eq!(refused_partition_value(&far).unwrap().0, 1);
    let near = cast(&far, &DataType::Timestamp(TimeUnit::Nanosecond, None));
    assert!(near.is_err() || refused_partition_value(&near.unwrap()).is_none());
    let null: ArrayRef = Arc::new(StringArray::new_null(3));
    assert!(refused_partition_value(&null).is_none());
}

/// What older versions committed for an empty text of a NOT NULL column.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_an_empty_text_from_an_older_version_is_read() {
    let (folder, warehouse) = local().await;
    let city = json!({"name": "c", "type": "string", "nullable": false, "metadata": {}});
    let mut table = Foreign::new(folder.path(), json!([field("id", "long"), city]), &["c"], json!({}));
    let one = |id: i64| {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        parquet(&RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![id]))]).unwrap())
    };
    table.add(&one(1), json!({"c": null}), Some(r#"{"numRecords":1}"#));
    table.add(&one(2), json!({"c": ""}), None);
    table.add(&one(3), json!({"c": "x"}), None);
    let context = session(&warehouse);
    let all = query(&context, "SELECT id, c, c = '' AS empty FROM t ORDER BY id").await;
    assert!(all.contains("| 1  |   | true  |") && all.contains("| 2  |   | true  |") && all.contains("| 3  | x | false |"), "{all}");
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE c = ''").await, 2);
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE c IS NULL").await, 0);

    let ours = warehouse.table(&name("s.t")).await.unwrap();
    assert_eq!(ours.transaction_version("p/0").await.unwrap(), None);
    // Rows go on coming; the files that cannot be written again stay as they are.
    let schema = ours.schema();
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![4])), Arc::new(StringArray::from(vec!["x"]))]).unwrap();
    append(&ours, "p/0", 1, vec![rows]).await.unwrap();
    let merged = compact(&ours, &everything()).await.unwrap();
    assert_eq!((merged.files_before, merged.files_after), (2, 1));
    assert_eq!(number(&context, "SELECT sum(id) FROM t").await, 10);
    let counts: BTreeMap<i64, i64> = {
        let batches = context.sql("SELECT id, count(*) FROM t GROUP BY id").await.unwrap().collect().await.unwrap();
        let pair = |batch: &RecordBatch, row| {
            (batch.column(0).as_primitive::<Int64Type>().value(row), batch.column(1).as_primitive::<Int64Type>().value(row))
        };
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| pair(batch, row))).collect()
    };
    assert_eq!(counts, BTreeMap::from([(1, 1), (2, 1), (3, 1), (4, 1)]));
}
