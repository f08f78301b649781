//! Pipelines go on from their rows and state when their tables get columns, wherever the change was cut short.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use watershed_lake::{TableName, Warehouse};

use super::earlier::{rows, run};
use crate::operators::expect;
use crate::outlet::tests::Recorders;
use crate::pipelines::{prepare, unfit};
use crate::project::Project;
use crate::tables;

const PAY: &str = "CREATE SOURCE pay (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount BIGINT, city VARCHAR,
    WATERMARK FOR at AS at - INTERVAL '1 second')
    WITH (connector = 'files', path = 'data', format = 'json', max_skew = '3650 days');";

/// Four tables and a sink; `{…}` are the columns that the second definition adds.
const TABLES: &str = "
CREATE STREAMING TABLE silver.checked (CONSTRAINT small EXPECT (id < 100) ON VIOLATION QUARANTINE) AS
SELECT id, city{, amount, 'new' AS tag} FROM pay;
CREATE STREAMING TABLE gold.sums AS
SELECT window_start, city, sum(amount) AS s{, sum(amount) * 2 AS twice} FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
GROUP BY window_start, window_end, city;
CREATE STREAMING TABLE gold.once AS
SELECT id{, city, 'new' AS tag} FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes');
CREATE STREAMING TABLE gold.running AS
SELECT id, sum(amount) OVER w AS s{, id + 1 AS next} FROM pay
WINDOW w AS (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW);
CREATE SINK told TO KAFKA (topic = 'told') AS SELECT * FROM STREAM(gold.once);";

fn project(grown: bool) -> Project {
    let text = match grown {
        true => TABLES.replace(['{', '}'], ""),
        false => TABLES.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).collect(),
    };
    Project::parse([PAY, &text]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("watershed-grown-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        Self(folder)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    async fn warehouse(&self) -> Warehouse {
        Warehouse::open(self.0.join("warehouse").to_str().unwrap(), &HashMap::new()).await.unwrap()
    }

    fn put(&self, file: &str, rows: &[(i64, &str, i64, &str)]) {
        let line = |(id, minute, amount, city): &(i64, &str, i64, &str)| {
            format!("{{\"id\":{id},\"at\":\"2026-11-28T{minute}:00Z\",\"amount\":{amount},\"city\":\"{city}\"}}\n")
        };
        std::fs::write(self.data().join(file), rows.iter().map(line).collect::<String>()).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an apply does that is killed after so many of its commits: all of them are `None`.
async fn grow(warehouse: &Warehouse, commits: Option<usize>) {
    let planned = project(true).plan_all().await.unwrap();
    let mut left = commits.unwrap_or(usize::MAX);
    for (name, blueprint) in &planned {
        if left == 0 {
            return;
        }
        if left == 1 && *name.to_string() == *"silver.checked" {
            let violations: TableName = "silver.checked$violations".parse().unwrap();
            warehouse.add_columns(&violations, &expect::side_schema(&blueprint.schema, &blueprint.names)).await.unwrap();
            return;
        }
        tables::widen(warehouse, blueprint).await.unwrap();
        left -= 1;
    }
    prepare(warehouse, &project(true)).await.unwrap();
}

async fn goes_on(killed_after: Option<usize>) {
    let (folder, sinks) = (Folder::new(), Recorders::default());
    folder.put("1.json", &[(1, "10:00", 5, "Lima"), (2, "10:10", 7, "Lima"), (2, "10:11", 7, "Lima"), (200, "10:20", 1, "Oslo")]);
    run(&folder.warehouse().await, &project(false), &folder.data(), &sinks, false).await;
    if let Some(commits) = killed_after {
        // The definitions in force are still the old ones.
        grow(&folder.warehouse().await, Some(commits)).await;
        folder.put("2.json", &[(3, "10:30", 1, "Lima"), (201, "10:31", 1, "Oslo")]);
        run(&folder.warehouse().await, &project(false), &folder.data(), &sinks, false).await;
    } else {
        folder.put("2.json", &[(3, "10:30", 1, "Lima"), (201, "10:31", 1, "Oslo")]);
        run(&folder.warehouse().await, &project(false), &folder.data(), &sinks, false).await;
    }
    let warehouse = folder.warehouse().await;
    assert!(unfit(&warehouse, &project(true).plan_all().await.unwrap()).await.unwrap().is_empty());
    grow(&warehouse, None).await;
    // As if it was not known that the sink has the rows of the newest epoch.
    let _ = std::fs::remove_file(folder.0.join("warehouse/_watershed/pipelines/gold.once/0/delivered.json"));
    let before = sinks.0.sent.lock().unwrap().len();
    folder.put("3.json", &[(3, "10:32", 1, "Lima"), (4, "10:40", 2, "Lima"), (202, "10:41", 1, "Oslo"), (5, "12:00", 3, "Lima")]);
    run(&folder.warehouse().await, &project(true), &folder.data(), &sinks, true).await;
    let warehouse = folder.warehouse().await;
    let ask = async |table: &str, query: &str| rows(&warehouse, table, query).await;
    // Rows from before have no values, and windows, repeats and histories that were open are whole.
    let checked = "SELECT id, city, amount, tag FROM t WHERE id <> 2 ORDER BY id, tag NULLS FIRST";
    assert_eq!(ask("silver.checked", checked).await, "1 Lima  ; 3 Lima  ; 3 Lima 1 new; 4 Lima 2 new; 5 Lima 3 new");
    let aside = "SELECT id, amount, tag, violated_constraints[1] FROM t ORDER BY id";
    assert_eq!(ask("silver.checked$violations", aside).await, "200   small; 201   small; 202 1 new small");
    let sums = "SELECT window_start, city, s, twice FROM t WHERE s > 3 ORDER BY city";
    assert!(ask("gold.sums", sums).await.ends_with("Lima 23 46"), "{}", ask("gold.sums", sums).await);
    assert_eq!(ask("gold.once", "SELECT id FROM t ORDER BY id").await, "1; 2; 3; 4; 5; 200; 201; 202");
    assert_eq!(ask("gold.once", "SELECT city, tag FROM t WHERE id = 5").await, "Lima new");
    assert_eq!(ask("gold.running", "SELECT s, next FROM t WHERE id = 4").await, "23 5");
    let sent = sinks.0.sent.lock().unwrap()[before..].to_vec();
    assert!(sent.iter().any(|(_, row)| row == "5|Lima|new"), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_go_on_with_more_columns() {
    goes_on(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_an_apply_is_killed_the_definitions_in_force_go_on_and_it_can_be_repeated() {
    for commits in 1..=5 {
        goes_on(Some(commits)).await;
    }
}

/// Rows that were decided under the old definition, and that the sink may not have, are sent with what they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_owed_to_a_sink_are_sent_without_the_new_columns() {
    let (folder, sinks) = (Folder::new(), Recorders::default());
    folder.put("1.json", &[(1, "10:00", 5, "Lima"), (2, "11:00", 7, "Lima")]);
    run(&folder.warehouse().await, &project(false), &folder.data(), &sinks, false).await;
    assert_eq!(folder.warehouse().await.tables().await.unwrap().len(), 9, "one quarantine, four tables, their side tables");
    grow(&folder.warehouse().await, None).await;
    forget_delivery(&folder.0);
    let sent = sinks.0.sent.lock().unwrap().clone();
    run(&folder.warehouse().await, &project(true), &folder.data(), &sinks, false).await;
    let again = sinks.0.sent.lock().unwrap()[sent.len()..].to_vec();
    let expected: Vec<_> = sent.iter().map(|(id, row)| (id.clone(), format!("{row}||"))).collect();
    assert!(!expected.is_empty() && again == expected, "{again:?} {expected:?}");
}

fn forget_delivery(folder: &Path) {
    std::fs::remove_file(folder.join("warehouse/_watershed/pipelines/gold.once/0/delivered.json")).unwrap();
}
