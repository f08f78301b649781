//! Tables that get columns: `apply` killed at each of its commits, what goes on then, and what other readers see in the end.

use std::path::Path;

use serde_json::Value;

use crate::readers::read_with_all;
use crate::table::DeltaTable;
use crate::tools::folder;
use crate::watershed::Watershed;

const DEFINITIONS: &str = "
CREATE SOURCE pay (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount BIGINT, city VARCHAR, WATERMARK FOR at AS at - INTERVAL '1 second')
WITH (connector = 'files', path = '{folder}', format = 'json', max_skew = '3650 days');
CREATE STREAMING TABLE silver.checked (CONSTRAINT small EXPECT (id < 100) ON VIOLATION QUARANTINE) AS SELECT id, city{, amount, 'new' AS tag} FROM pay;
CREATE STREAMING TABLE gold.sums AS SELECT window_start, sum(amount) AS s{, sum(amount) * 2 AS twice}
FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end;";

fn definitions(folder: &Path, grown: bool) -> String {
    let text = DEFINITIONS.replace("{folder}", &folder.display().to_string());
    match grown {
        true => text.replace(['{', '}'], ""),
        false => text.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).collect(),
    }
}

#[test]
fn an_apply_killed_at_any_commit_leaves_tables_that_go_on() {
    // Two tables, and the violations of one of them: three commits.
    for commits in 0..3 {
        let home = folder("grown-");
        let (data, sql, files) = (home.path().join("data"), home.path().join("sql"), home.path().join("warehouse"));
        std::fs::create_dir(&data).and_then(|()| std::fs::create_dir(&sql)).expect("folders");
        let warehouse = files.display().to_string();
        let (sql_path, define) =
            (sql.display().to_string(), |grown| std::fs::write(sql.join("a.sql"), definitions(&data, grown)).expect("written"));
        let apply = || Watershed::new(["apply", &sql_path, "--yes", "--warehouse", &warehouse]);
        let put = |id: i64, minute: u32| {
            let row = |id: i64| format!("{{\"id\":{id},\"at\":\"2026-11-28T10:{minute}:00Z\",\"amount\":{id},\"city\":\"Lima\"}}\n");
            std::fs::write(data.join(format!("{id}.json")), row(id) + &row(id + 100)).expect("written");
        };
        let stream = |more: &[&str]| {
            let arguments = ["stream", "--until-caught-up", "--warehouse", &warehouse].into_iter().chain(more.iter().copied());
            Watershed::new(arguments).succeeds()
        };
        define(false);
        apply().succeeds();
        put(1, 10);
        stream(&[]);
        define(true);
        let killed = apply().killed_at("columns_added", commits).run();
        assert!(!killed.status.success() && killed.stderr.contains("failpoint: columns_added"), "{}", killed.output());
        // The definitions in force are those of before.
        put(2, 20);
        stream(&[]);
        let said = apply().succeeds();
        assert!(said.contains("streaming table gold.sums  (carries on: column twice is new"), "{said}");
        put(3, 30);
        stream(&["--drain"]);

        let mut rows = DeltaTable::open(&files, "silver.checked").objects();
        rows.sort_by_key(|row| row["id"].as_i64());
        let of = |name: &str| rows.iter().map(|row| row.get(name).cloned().unwrap_or(Value::Null)).collect::<Vec<_>>();
        assert_eq!(of("id"), [1, 2, 3]);
        assert_eq!(of("amount"), [Value::Null, Value::Null, 3.into()]);
        let sums = DeltaTable::open(&files, "gold.sums").objects();
        // 1 + 2 + 3, and 100 more of each row that violates.
        assert_eq!(sums.iter().map(|row| (row["s"].as_i64(), row["twice"].as_i64())).collect::<Vec<_>>(), [(Some(312), Some(624))]);
        if commits == 2 {
            let tables = ["silver/checked", "silver/checked$violations", "gold/sums"].map(|table| files.join(table));
            for (reader, summaries) in read_with_all(&tables.each_ref().map(|table| table.as_path())) {
                let checked = &summaries[&tables[0].display().to_string()];
                assert_eq!((checked.rows, checked.columns["amount"].nulls, checked.columns["tag"].nulls), (3, 2, 2), "{reader}");
                let aside = &summaries[&tables[1].display().to_string()];
                assert_eq!((aside.rows, aside.columns["tag"].nulls), (3, 2), "{reader}");
                assert_eq!(summaries[&tables[2].display().to_string()].columns["twice"].nulls, 0, "{reader}");
            }
        }
    }
}
