//! The tables of `system` over pipelines that have run.

use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use watershed_lake::clock;
use watershed_stream::Project;

use super::tables;
use crate::trial::{Trial, lines};

async fn rows(trial: &Trial, table: &str, columns: &[&str]) -> Vec<String> {
    let table = tables(&trial.warehouse).into_iter().find(|known| known.name() == table).unwrap();
    let all: RecordBatch = table.rows().await.unwrap();
    let wanted: Vec<usize> = columns.iter().map(|column| all.schema().index_of(column).unwrap()).collect();
    lines(&all.project(&wanted).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watermark_that_is_ahead_of_the_clock_is_told_of() {
    let project = Project::parse(["CREATE SOURCE s (n BIGINT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '10 seconds')
         WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days');
         CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS
         SELECT window_start, sum(n) AS n FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 day') GROUP BY window_start, window_end;"])
    .unwrap();
    let now = clock::now();
    let later = now + chrono::Duration::days(400);
    for (times, is_ahead) in [([now, later], true), ([now, now], false)] {
        let trial = Trial::new().await;
        let messages = times.map(|time| format!(r#"{{"n":1,"t":"{}"}}"#, time.format("%Y-%m-%dT%H:%M:%SZ")));
        trial.send(&messages.each_ref().map(String::as_str));
        // It moves the watermark to the end of the newest window, so of today, too: that was asked for.
        trial.run(&project, true).await;
        let reports = watershed_stream::reports(&trial.warehouse).await.unwrap();
        let said = crate::status::ahead_of_clock(&reports[0], clock::now_ms());
        assert_eq!(said.is_some(), is_ahead, "{said:?}");
        if let Some(said) = said {
            assert!(said.starts_with("event times of gold.x are 399 days ahead of the clock, "), "{said}");
            let shown = rows(&trial, "pipelines", &["behind", "watermark_lag_ms"]).await;
            assert!(shown[0].contains(" days ahead|-3"), "{shown:?}");
        }
    }
}

/// The windows that a drain closed end there: the watermark is a time like any other, and rows of later windows are not late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_pipeline_shows_the_end_of_its_last_window() {
    let trial = Trial::new().await;
    let project = Project::parse(["CREATE SOURCE s (n BIGINT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '10 seconds')
         WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days');
         CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS
         SELECT window_start, sum(n) AS n FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 hour') GROUP BY window_start, window_end;"])
    .unwrap();
    trial.send(&[r#"{"n":1,"t":"2024-06-01T10:00:00Z"}"#, r#"{"n":2,"t":"2024-06-01T10:30:00Z"}"#]);
    let shown = ["pipeline", "state", "watermark", "rows_out", "late"];
    trial.run(&project, false).await;
    assert_eq!(rows(&trial, "pipelines", &shown).await, ["gold.x|stopped|2024-06-01T10:29:50Z|0|0"]);
    trial.run(&project, true).await;
    assert_eq!(rows(&trial, "pipelines", &shown).await, ["gold.x|stopped|2024-06-01T11:00:00Z|1|0"]);
    let behind = rows(&trial, "pipelines", &["behind"]).await;
    assert!(behind[0].ends_with(" days"), "the distance of a time to now: {behind:?}");
    let last = rows(&trial, "epochs", &["pipeline", "watermark"]).await;
    assert!(last.iter().any(|epoch| epoch == "gold.x|2024-06-01T11:00:00Z"), "{last:?}");

    // What an older version wrote, which took the end of time for the end of the windows, is no watermark.
    let folder = Path::from("_watershed/pipelines/gold.x/0/epochs");
    let newest = trial.warehouse.list(&folder).await.unwrap().into_iter().max().unwrap();
    let bytes = trial.warehouse.read(&newest).await.unwrap().unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    record["sources"]["s"]["watermarks_us"]["0"] = i64::MAX.into();
    trial.warehouse.store().put(&newest, PutPayload::from(record.to_string().into_bytes())).await.unwrap();
    assert_eq!(rows(&trial, "pipelines", &["watermark", "behind", "watermark_lag_ms"]).await, ["NULL|NULL|NULL"]);
}
