//! A defect that panics: in a task, in the writer, in what decides epochs, in a job. It ends in an error by name, never in a process that is gone
//! or starts again for ever, and the next run goes on.

use std::path::PathBuf;

use serde_json::Value;

use crate::tools::folder;
use crate::watershed::{Finished, LIMIT, Watershed};

const ROWS: i64 = 200;

struct Lake {
    root: tempfile::TempDir,
}

impl Lake {
    /// A folder of files, a pipeline that shares its rows out, and a view over what it makes.
    fn new() -> Self {
        let root = folder("panics-");
        let (files, sql) = (root.path().join("in"), root.path().join("sql"));
        for made in [&files, &sql] {
            std::fs::create_dir(made).expect("a folder");
        }
        let rows: String = (0..ROWS).map(|id| format!("{{\"id\":{id},\"at\":\"2026-01-01T00:{:02}:00Z\"}}\n", id / 10)).collect();
        std::fs::write(files.join("a.json"), rows).expect("written");
        let definitions = format!(
            "CREATE SOURCE things (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '10 seconds')
             WITH (connector = 'files', path = '{}', format = 'json', poll_interval = '200 milliseconds');
             CREATE STREAMING TABLE gold.minutes WITH (commit_interval = '20 milliseconds')
             AS SELECT window_start, count(*) AS things, sum(id) AS ids
             FROM TUMBLE(TABLE things, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start;
             CREATE MATERIALIZED VIEW gold.all_things AS SELECT sum(things) AS things, sum(ids) AS ids FROM gold.minutes;",
            files.display()
        );
        std::fs::write(sql.join("things.sql"), definitions).expect("written");
        let lake = Self { root };
        lake.watershed(&["apply", &sql.display().to_string(), "--yes"]).succeeds();
        lake
    }

    fn warehouse(&self) -> PathBuf {
        self.root.path().join("warehouse")
    }

    fn watershed(&self, arguments: &[&str]) -> Watershed {
        let warehouse = self.warehouse();
        let warehouse = warehouse.as_os_str().to_str().expect("text");
        Watershed::new(arguments.iter().copied().chain(["--warehouse", warehouse]))
    }

    fn to_end(&self) -> Watershed {
        self.watershed(&["stream", "--until-caught-up", "--drain", "--parallelism", "2"])
    }

    fn ask(&self, query: &str) -> Vec<Value> {
        let said = self.watershed(&["shell", "--output", "json", "-c", query]).succeeds();
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
    }

    fn status_says(&self, part: &str) {
        let status = self.watershed(&["status"]).run();
        assert_eq!(status.status.code(), Some(1), "{}", status.output());
        assert!(status.stderr.contains(part), "it does not say '{part}'\n{}", status.output());
    }
}

/// A run that panics at `step` each time it comes there. It ends by itself.
fn panics_at(run: Watershed, step: &str) -> Finished {
    let ended = run.env("FAILPOINTS", format!("{step}=panic(index 7 of 3)")).start().wait(LIMIT);
    assert_eq!(ended.status.code(), Some(1), "{step}: {}", ended.output());
    ended
}

#[test]
fn a_pipeline_ends_by_name_and_the_next_run_goes_on() {
    for step in ["rows_read", "rows_shared_out", "files_staged", "barrier_passed", "state_written"] {
        let lake = Lake::new();
        let ended = panics_at(lake.to_end(), step);
        for part in ["gold.minutes ended: ", "a task stopped without a word: index 7 of 3", "this is a defect of Watershed"] {
            assert!(ended.stderr.contains(part), "{step}: it does not say '{part}'\n{}", ended.output());
        }
        lake.status_says("gold.minutes has failed: ");
        lake.to_end().succeeds();
        let rows = lake.ask("SELECT sum(things) AS things, sum(ids) AS ids FROM gold.minutes");
        assert_eq!(rows, [serde_json::json!({ "things": ROWS, "ids": ROWS * (ROWS - 1) / 2 })], "{step}");
        lake.watershed(&["status"]).succeeds();
    }
}

#[test]
fn a_job_fails_by_name_and_leaves_its_view() {
    let lake = Lake::new();
    lake.to_end().succeeds();
    lake.watershed(&["run", "gold.all_things"]).succeeds();
    let ended = panics_at(lake.watershed(&["run", "gold.all_things"]), "refresh_staged");
    assert!(ended.stderr.contains("gold.all_things") && ended.stderr.contains("it met a fault of the program"), "{}", ended.output());
    lake.status_says("the last run of gold.all_things failed: ");
    let rows = lake.ask("SELECT things FROM gold.all_things");
    assert_eq!(rows, [serde_json::json!({ "things": ROWS })]);
    lake.watershed(&["run", "gold.all_things"]).succeeds();
    lake.watershed(&["status"]).succeeds();
}
