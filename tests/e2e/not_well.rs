//! What is not well says so: a warehouse that is not there, a pipeline that fails, a dry run that must change nothing, variables that
//! what starts containers sets.

use std::time::Duration;

use serde_json::Value;

use crate::dashboard::address_said;
use crate::http::get;
use crate::project::{Project, TWINS, source};
use crate::tools::{folder, wait_for};
use crate::watershed::{LIMIT, Watershed};

#[test]
fn a_warehouse_that_is_not_there_is_no_empty_lake() {
    let home = folder("absent-");
    let nowhere = home.path().join("not/there");
    let warehouse = nowhere.display().to_string();
    let commands: [&[&str]; 6] = [&["status"], &["serve"], &["stream"], &["batch"], &["vacuum"], &["compact"]];
    for command in commands {
        let refused = Watershed::new(command.iter().copied().chain(["--warehouse", &warehouse])).run();
        assert_eq!(refused.status.code(), Some(1), "{command:?}\n{}", refused.output());
        assert!(refused.stderr.contains("error: there is no warehouse at "), "{command:?}\n{}", refused.output());
        assert!(refused.stderr.contains("hint: name the right one with --warehouse"), "{command:?}\n{}", refused.output());
        assert!(!nowhere.exists(), "{command:?} has made the folder");
    }
    // Statements without tables run all the same, after a word.
    let asked = Watershed::new(["shell", "--warehouse", &warehouse, "--output", "csv", "-c", "SELECT 1 AS n"]).run();
    assert_eq!((asked.status.code(), asked.stdout.as_str()), (Some(0), "n\n1\n"), "{}", asked.output());
    assert!(asked.stderr.contains("warning: there is no warehouse at ") && !nowhere.exists(), "{}", asked.output());
    // What might be a disk that was not mounted is served, in case it comes, and is not ready until then.
    std::fs::create_dir_all(&nowhere).expect("a folder");
    let status = Watershed::new(["status", "--warehouse", &warehouse]).run();
    assert!(status.status.code() == Some(1) && status.stderr.contains("nothing is stored there"), "{}", status.output());
}

#[test]
fn a_warehouse_that_goes_away_under_a_server_makes_it_not_ready() {
    let home = folder("unmounted-");
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    project.apply("never", &format!("{}\n{TWINS}", source()));
    let mut server = project.watershed(["serve"]).start();
    let address = address_said(&mut server);
    assert_eq!(get(address, "/readyz").status, 200);
    std::fs::rename(&project.files, home.path().join("elsewhere")).expect("renamed");
    let not_ready = get(address, "/readyz");
    assert!(not_ready.status == 503 && not_ready.body.contains("nothing is stored in the warehouse"), "{}", not_ready.body);
    std::fs::rename(home.path().join("elsewhere"), &project.files).expect("renamed");
    assert_eq!(get(address, "/readyz").status, 200);
}

#[test]
fn a_pipeline_that_fails_is_failing_until_it_is_stopped() {
    let home = folder("failing-");
    // Nobody listens there.
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    project.apply("never", &format!("{}\n{TWINS}", source()));
    project.watershed(["status"]).succeeds();
    let mut running = project.stream().start();
    running.until("it says why", |running| running.output().contains("failed and starts again").then_some(()));
    let failing = || {
        let status = project.watershed(["status", "--output", "json"]).run();
        let rows: Vec<Value> = status.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (rows.len() == 2 && rows.iter().all(|row| row["state"] == "failing")).then_some((status, rows))
    };
    let (status, rows) = wait_for("both are failing", LIMIT, || project.watershed(["status"]).run().output(), failing);
    assert_eq!(status.status.code(), Some(1), "{}", status.output());
    assert!(rows.iter().all(|row| row["last_error"].as_str().is_some_and(|error| !error.is_empty())), "{rows:?}");
    assert!(rows.iter().all(|row| row["restarts"].as_i64() > Some(0) && row["failing_since"].is_string()), "{rows:?}");
    assert!(status.stderr.contains("warning: bronze.a has been failing for "), "{}", status.output());
    // Between two tries, too.
    for _ in 0..10 {
        let status = project.watershed(["status"]).run();
        assert_eq!(status.status.code(), Some(1), "{}", status.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}", ended.output());
    let stopped = project.watershed(["status"]).succeeds();
    assert_eq!(stopped.matches(" stopped ").count(), 2, "{stopped}");

    // Whoever is killed lets nothing go, and is not heard of any more.
    let mut running = project.stream().start();
    running.until("it says why again", |running| running.output().contains("failed and starts again").then_some(()));
    wait_for("both are failing again", LIMIT, || project.watershed(["status"]).run().output(), failing);
    running.kill();
    let silent = project.watershed(["status"]).run();
    assert_eq!(silent.status.code(), Some(1), "{}", silent.output());
    assert_eq!(silent.stdout.matches(" silent ").count(), 2, "{}", silent.output());
    assert!(
        silent.stderr.contains("warning: bronze.a is silent: who ran it was not heard of for a while; its last error: "),
        "{}",
        silent.output()
    );
}

/// As another version may have applied it.
#[test]
fn what_this_version_refuses_is_not_well_before_it_runs() {
    let home = folder("refused-");
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    project.apply("never", &format!("{}\n{TWINS}", source()));
    let applied = project.files.join("_watershed/definitions/00000000000000000001.json");
    let text = std::fs::read_to_string(&applied).expect("definitions");
    let older = text.replacen("bronze.b WITH (", "bronze.b WITH (gone = 'x', ", 1);
    assert_ne!(older, text);
    std::fs::write(&applied, older).expect("written");
    let status = project.watershed(["status"]).run();
    assert_eq!(status.status.code(), Some(1), "{}", status.output());
    assert!(status.stderr.contains("warning: this version of Watershed cannot run bronze.b as it was applied: "), "{}", status.output());
    assert!(status.stderr.contains("no option 'gone'") && !status.stderr.contains("bronze.a "), "{}", status.output());
    assert_eq!(project.ask("SELECT pipeline, state FROM system.pipelines"), ["bronze.b,failed"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let home = folder("dry-");
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    let dry = |definitions: &str| project.applying("t", definitions, &["--dry-run"]).succeeds();
    let definitions = format!("{}\n{TWINS}", source());
    assert!(dry(&definitions).contains("a dry run: nothing was changed"));
    assert!(!project.files.exists(), "a dry run has made the warehouse");

    project.apply("t", &definitions);
    let kept = || {
        let entries = std::fs::read_dir(project.files.join("_watershed/definitions")).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect::<Vec<_>>()
    };
    let before = kept();
    assert!(dry(&definitions).contains("nothing to change"));
    // One blank more is another text of the same meaning.
    let spaced = definitions.replace("SELECT event_id,", "SELECT  event_id,");
    let said = dry(&spaced);
    assert!(said.contains("only the text differs") && said.contains("a dry run"), "{said}");
    let more = format!("{definitions}\nCREATE STREAMING TABLE bronze.c AS SELECT event_id FROM events_in;");
    assert!(dry(&more).contains("bronze.c"));
    assert_eq!(kept(), before);
    let said = project.applying("t", &spaced, &[]).succeeds();
    assert!(said.contains("only the text differs") && kept().len() == before.len() + 1, "{said}");
}

#[test]
fn variables_of_orchestrators_stop_nothing_and_mistakes_are_said() {
    let home = folder("environment-");
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    project.apply("t", &format!("{}\n{TWINS}", source()));
    let links = [
        ("WATERSHED_SERVICE_HOST", "10.0.0.1"),
        ("WATERSHED_SERVICE_PORT", "8321"),
        ("WATERSHED_PORT", "tcp://10.0.0.1:8321"),
        ("WATERSHED_PORT_8321_TCP_ADDR", "10.0.0.1"),
        ("WATERSHED_KAFKA_SERVICE_HOST", "10.0.0.2"),
    ];
    let status = project.watershed(["status"]).envs(links.map(|(name, value)| (name, value.to_owned()))).run();
    assert!(status.status.success() && status.stderr.is_empty(), "{}", status.output());
    let status = project.watershed(["status"]).env("WATERSHED_QUERY_MEMORY_LIMT", "1GiB").run();
    assert!(status.status.success(), "{}", status.output());
    assert!(status.stderr.contains("did you mean 'WATERSHED_QUERY_MEMORY_LIMIT'?"), "{}", status.output());
}
