//! Data files: how rows are split, cast and described.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Value, json};
use watershed_lake::{Commit, LakeError, WriterLimits};

use crate::support::{local, name, number, query, rows, schema, session};

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_bound_every_row() {
    let (_folder, warehouse) = local().await;
    let point = Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("label", DataType::Utf8, true)]);
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("fare", DataType::Decimal128(10, 2), true),
        Field::new("wide", DataType::Decimal128(38, 0), true),
        Field::new("at", utc(), true),
        Field::new("day", DataType::Date32, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("point", DataType::Struct(point.clone()), true),
        Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("nothing", DataType::Int32, true),
    ];
    let table = warehouse.create_table(&name("s.t"), Arc::new(Schema::new(fields)), &[]).await.unwrap();
    let points = StructArray::new(
        point,
        vec![
            Arc::new(Float64Array::from(vec![Some(47.5), Some(99.0), None])) as ArrayRef,
            Arc::new(StringArray::from(vec![Some("b"), Some("hidden by a null struct"), Some("a")])),
        ],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let tags = ListArray::new(
        Arc::new(Field::new("element", DataType::Utf8, true)),
        OffsetBuffer::from_lengths([2, 0, 0]),
        Arc::new(StringArray::from(vec![Some("x"), None])),
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let long = "ß".repeat(40);
    let batch = RecordBatch::try_new(
        table.schema(),
        vec![
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            Arc::new(Decimal128Array::from(vec![-105, 7, 99_999_999]).with_precision_and_scale(10, 2).unwrap()),
            Arc::new(Decimal128Array::from(vec![10_i128.pow(37), 1, 2]).with_precision_and_scale(38, 0).unwrap()),
            Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, 0, -1]).with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![19_000, 0, -1])),
            Arc::new(StringArray::from(vec![long.as_str(), "a\"b", ""])),
            Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0])),
            Arc::new(points),
            Arc::new(tags),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(Int32Array::from(vec![None, None, None])),
        ],
    )
    .unwrap();
    let mut writer = table.writer("p");
    writer.write(batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let stats: Value = serde_json::from_str(&files[0].stats).unwrap();
    assert_eq!(stats["numRecords"], json!(3));
    let lowest = &stats["minValues"];
    let highest = &stats["maxValues"];
    assert_eq!((&lowest["n"], &highest["n"]), (&json!(i64::MIN), &json!(i64::MAX)));
    assert!(files[0].stats.contains("\"fare\":-1.05") && files[0].stats.contains("\"fare\":999999.99"), "{}", files[0].stats);
    assert!(files[0].stats.contains("\"wide\":10000000000000000000000000000000000000"), "{}", files[0].stats);
    assert_eq!((&lowest["at"], &highest["at"]), (&json!("1969-12-31T23:59:59.999999Z"), &json!("2023-11-14T22:13:20.123456Z")));
    assert_eq!((&lowest["day"], &highest["day"]), (&json!("1969-12-31"), &json!("2022-01-08")));
    assert_eq!((&lowest["text"], &highest["text"]), (&json!(""), &json!(format!("{}à", "ß".repeat(31)))));
    // A NaN is in there: no bounds.
    assert_eq!((&lowest["ratio"], &highest["ratio"]), (&Value::Null, &Value::Null));
    assert_eq!((&lowest["point"], &highest["point"]), (&json!({"label": "a", "lat": 47.5}), &json!({"label": "b", "lat": 47.5})));
    assert_eq!(
        stats["nullCount"],
        json!({"n": 1, "fare": 0, "wide": 0, "at": 0, "day": 0, "text": 0, "ratio": 0, "point": {"lat": 2, "label": 1}, "tags": 1,
            "flag": 1, "nothing": 3})
    );

    table
        .commit(Commit { app_id: "p".to_owned(), app_version: 1, previous_app_version: None, files, operation: "WRITE".to_owned() })
        .await
        .unwrap();
    let context = session(&warehouse);
    for filter in
        ["ratio > 5", "n = 9223372036854775807", "fare = -1.05", "wide > 5", "at < '1970-01-01'", "day >= '2022-01-08'", "text > 'z'"]
    {
        assert_eq!(number(&context, &format!("SELECT count(*) FROM t WHERE {filter}")).await, 1, "{filter}");
    }
    let nested = query(&context, "SELECT point['lat'] AS lat, tags, wide FROM t WHERE n < 0").await;
    assert!(nested.contains("| 47.5 | [x, ] | 10000000000000000000000000000000000000 |"), "{nested}");
    // delta-rs takes the same statistics, decimals and nested ones included.
    let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    let views = theirs.snapshot().unwrap().log_data();
    assert_eq!(views.iter().map(|file| file.num_records()).collect::<Vec<_>>(), vec![Some(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_open_files_are_bounded() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    let limits = WriterLimits { open_files: 4, buffered_bytes: 1 << 20, file_bytes: 64 << 10 };
    let mut writer = table.writer("p").with_limits(limits);
    let mut most = 0;
    for round in 0..30_i64 {
        for city in ["a", "b", "c", "d", "e", "f"] {
            // Numbers that do not compress, so that sizes are what they seem.
            let noise = (0..2000_i64).map(|index| (round * 2000 + index).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64));
            let ids = Int64Array::from_iter_values(noise);
            let cities = StringArray::from_iter_values(std::iter::repeat_n(city, ids.len()));
            writer.write(RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(cities)]).unwrap()).await.unwrap();
            most = most.max(writer.buffered_bytes());
        }
    }
    assert!(most <= limits.buffered_bytes, "{most}");
    let files = writer.finish().await.unwrap();
    assert!(files.iter().all(|file| file.size_bytes < 4 * limits.file_bytes as u64));
    assert!(files.len() > 12, "{}", files.len());
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 6 * 30 * 2000);
    table
        .commit(Commit { app_id: "p".to_owned(), app_version: 1, previous_app_version: None, files, operation: "WRITE".to_owned() })
        .await
        .unwrap();
    let context = session(&warehouse);
    assert_eq!(query(&context, "SELECT city, count(DISTINCT id) FROM t GROUP BY city").await.matches("60000").count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_up_in_parts() {
    let (_folder, warehouse) = local().await;
    let schema = Arc::new(Schema::new(vec![Field::new("blob", DataType::Binary, false)]));
    let table = warehouse.create_table(&name("s.t"), schema.clone(), &[]).await.unwrap();
    let mut writer = table.writer("p");
    let mut noise = 1_u64;
    let mut blob = || {
        std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(1 << 20)
        .collect::<Vec<u8>>()
    };
    let blobs = (0..20).map(|_| blob()).collect::<Vec<_>>();
    let array = BinaryArray::from_iter_values(&blobs);
    writer.write(RecordBatch::try_new(schema, vec![Arc::new(array)]).unwrap()).await.unwrap();
    let files = writer.finish().await.unwrap();
    assert!(files[0].size_bytes > 20 << 20);
    table
        .commit(Commit { app_id: "p".to_owned(), app_version: 1, previous_app_version: None, files, operation: "WRITE".to_owned() })
        .await
        .unwrap();
    let read = session(&warehouse).sql("SELECT blob FROM t").await.unwrap().collect().await.unwrap();
    let read = read.iter().flat_map(|batch| batch.column(0).as_binary::<i32>().iter().flatten()).collect::<Vec<_>>();
    assert!(read.iter().eq(blobs.iter()), "what came back differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_cast_to_the_table_or_refused() {
    let (_folder, warehouse) = local().await;
    let declared = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, false),
        Field::new("count", DataType::UInt64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())), true),
        Field::new("seen", DataType::Timestamp(TimeUnit::Second, None), true),
    ]));
    let table = warehouse.create_table(&name("s.t"), declared.clone(), &[]).await.unwrap();
    assert_eq!(table.schema().field(0).data_type(), &DataType::Utf8);
    assert_eq!(table.schema().field(2).data_type(), &utc());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["x"])),
        Arc::new(UInt64Array::from(vec![7])),
        Arc::new(TimestampNanosecondArray::from(vec![1_000_000_123_456_789_000]).with_timezone("+00:00")),
        Arc::new(TimestampSecondArray::from(vec![1])),
    ];
    let batch = RecordBatch::try_new(declared, columns).unwrap();
    let mut writer = table.writer("p");
    writer.write(batch.clone()).await.unwrap();
    writer.write(batch.project(&[1, 0]).unwrap()).await.unwrap();

    let too_big = RecordBatch::try_from_iter([
        ("name", Arc::new(StringArray::from(vec!["y"])) as ArrayRef),
        ("count", Arc::new(UInt64Array::from(vec![u64::MAX]))),
    ]);
    let missing = batch.project(&[1]).unwrap();
    for (bad, part) in [(too_big.unwrap(), "'count'"), (missing, "'name' is NOT NULL"), (rows(0..1, None), "'id' that the table has not")] {
        let error = writer.write(bad).await.unwrap_err();
        assert!(matches!(error, LakeError::BadRows { .. }) && error.to_string().contains(part), "{error}");
    }
    let files = writer.finish().await.unwrap();
    table
        .commit(Commit { app_id: "p".to_owned(), app_version: 1, previous_app_version: None, files, operation: "WRITE".to_owned() })
        .await
        .unwrap();
    let shown = query(&session(&warehouse), "SELECT * FROM t ORDER BY at").await;
    assert!(shown.contains("| x    | 7     | 2001-09-09T01:48:43.456789Z | 1970-01-01T00:00:01 |"), "{shown}");
    assert!(shown.contains("| x    | 7     |                             |                     |"), "{shown}");
    deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
}
