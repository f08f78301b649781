//! Partition values of every type there may be, at the ends of their types and of a calendar: deltalake, DuckDB, Polars and Spark read what was
//! put in, before and after a compaction.

use serde_json::{Value, json};

use crate::readers::{self, Summary};
use crate::tools::folder;
use crate::watershed::Watershed;

/// Each is a column, its type, and the values of it.
fn columns() -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let texts = [
        "plain",
        "a/b=c %41%2F",
        "Кыїв 🚕",
        " blanks ",
        "null",
        "NULL",
        "\\N",
        "..",
        "a:b?c#d&e",
        "'single' \"double\"",
        "line\nbreak\ttab",
        "{}[]|^~`",
        "True",
        "2024-01-01",
        "1e5",
        "e\u{301} and é",
    ];
    vec![
        ("flag", "BOOLEAN", vec![json!(true), json!(false)]),
        ("tiny", "TINYINT", vec![json!(-128), json!(127), json!(0)]),
        ("small", "SMALLINT", vec![json!(-32768), json!(32767), json!(0)]),
        ("number", "INT", vec![json!(i32::MIN), json!(i32::MAX), json!(0)]),
        // As large as the sum of all stays within the type.
        ("big", "BIGINT", vec![json!(i64::MIN / 32), json!(i64::MAX / 32), json!(9_007_199_254_740_993_i64)]),
        // Not below zero: deltalake writes such a value with a second sign, as -1.-5, and cannot read that.
        ("price", "DECIMAL(20, 4)", vec![json!("9999999999999999.9999"), json!("0.0001"), json!("90071992547409.9300")]),
        ("whole", "DECIMAL(38, 0)", vec![json!("-999999999999999999999999999999999999"), json!("999999999999999999999999999999999999")]),
        ("day", "DATE", ["0001-01-01", "1582-10-10", "1969-12-31", "2024-02-29", "9999-12-31"].map(Value::from).to_vec()),
        (
            "at",
            "TIMESTAMP",
            [
                "0001-01-01T00:00:00Z",
                "1677-01-01T00:00:00.000001Z",
                "1969-12-31T23:59:59.999999Z",
                "2024-06-01T12:00:00.25Z",
                "9999-12-31T23:59:59.999999Z",
            ]
            .map(Value::from)
            .to_vec(),
        ),
        ("text", "VARCHAR", texts.map(Value::from).to_vec()),
    ]
}

const ROWS: usize = 32;

/// The row number `id`; each column is NULL in one row.
fn row(id: usize) -> Value {
    let values = columns().into_iter().enumerate().map(|(at, (name, _, values))| {
        let value = if id % ROWS == at { Value::Null } else { values[id % ROWS % values.len()].clone() };
        (name.to_owned(), value)
    });
    Value::Object(values.chain([("id".to_owned(), json!(id))]).collect())
}

#[test]
fn every_type_comes_back_in_all_readers() {
    let home = folder("partition-values-");
    let (files, sql, warehouse) = (home.path().join("in"), home.path().join("sql"), home.path().join("warehouse"));
    for made in [&files, &sql] {
        std::fs::create_dir(made).expect("a folder");
    }
    let declared: String = columns().iter().map(|(name, data_type, _)| format!(", {name} {data_type}")).collect();
    let names: Vec<&str> = columns().iter().map(|(name, _, _)| *name).collect();
    let definitions = format!(
        "CREATE SOURCE parts (id BIGINT NOT NULL{declared})
         WITH (connector = 'files', path = '{}', format = 'json', on_error = 'fail');
         CREATE STREAMING TABLE bronze.parts PARTITIONED BY ({}) WITH (commit_interval = '100 milliseconds') AS SELECT * FROM parts;",
        files.display(),
        names.join(", ")
    );
    std::fs::write(sql.join("parts.sql"), definitions).expect("written");
    let url = warehouse.display().to_string();
    let watershed = |arguments: &[&str]| Watershed::new(arguments.iter().copied().chain(["--warehouse", &url]));
    watershed(&["apply", &sql.display().to_string(), "--yes"]).succeeds();
    // Twice, so that each partition has files to merge.
    for time in 0..2 {
        let rows: String = (0..ROWS).map(|id| format!("{}\n", row(time * ROWS + id))).collect();
        std::fs::write(files.join(format!("{time}.json")), rows).expect("written");
        watershed(&["stream", "--until-caught-up"]).env("WATERSHED_LAKE_COMPACT", "false").succeeds();
    }

    let table = warehouse.join("bronze/parts");
    let folder = table.display().to_string();
    let read = readers::read_with_all(&[&table]);
    let seen = &read["spark"][&folder];
    check(seen);
    for (reader, by_folder) in &read {
        assert_eq!(&by_folder[&folder], seen, "{reader} and Spark differ");
    }
    let said = watershed(&["compact", "bronze.parts"]).succeeds();
    assert!(said.contains("became"), "{said}");
    assert_eq!(readers::read_with_all(&[&table]), read, "a compaction changes no value for anyone");
    // Each value is found by itself, too.
    for (at, text) in [(1, "a/b=c %41%2F"), (4, "null"), (10, "line\nbreak\ttab")] {
        let query = format!("SELECT count(*) FROM bronze.parts WHERE text = '{text}' AND id % {ROWS} = {at}");
        let counted = watershed(&["shell", "--output", "csv", "-c", &query]).succeeds();
        assert_eq!(counted.lines().last(), Some("2"), "{text:?}: {counted}");
    }
}

/// What was put in, told column by column.
fn check(seen: &Summary) {
    assert_eq!(seen.rows, 2 * ROWS as u64);
    let column = |name: &str| &seen.columns[name];
    for (name, _, values) in columns() {
        assert_eq!((column(name).nulls, column(name).distinct), (2, Some(values.len() as u64)), "{name}");
    }
    let ends = |name: &str| (column(name).least.clone(), column(name).greatest.clone());
    for (name, least, greatest) in [
        ("flag", json!(false), json!(true)),
        ("tiny", json!(-128), json!(127)),
        ("small", json!(-32768), json!(32767)),
        ("number", json!(i32::MIN), json!(i32::MAX)),
        ("big", json!(i64::MIN / 32), json!(i64::MAX / 32)),
        ("price", json!("0.0001"), json!("9999999999999999.9999")),
        ("whole", json!("-999999999999999999999999999999999999"), json!("999999999999999999999999999999999999")),
        ("day", json!("0001-01-01"), json!("9999-12-31")),
        ("at", json!(-62_135_596_800_000_000_i64), json!(253_402_300_799_999_999_i64)),
        ("text", json!(" blanks "), json!("Кыїв 🚕")),
    ] {
        assert_eq!(ends(name), (Some(least), Some(greatest)), "{name}");
    }
    let ids = 2 * ROWS as i64;
    assert_eq!(column("id").sum, Some(json!(ids * (ids - 1) / 2)));
}
