//! What others may do to a warehouse, and what may happen to the disk below it: named errors with a way out, nothing lost, nothing doubled,
//! and pipelines beside the one that is hit go on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dashboard::address_said;
use crate::disturbed::committed;
use crate::http;
use crate::input::{CHUNKS, Input, PARTITIONS, plain};
use crate::kafka::Kafka;
use crate::project::{Project, TWINS, source, tables};
use crate::serving::{python, url_in};
use crate::tools::{SmallDisk, delete_at_exit, folder, wait_for};
use crate::watershed::{Finished, LIMIT, Running, Watershed};

/// The newest rows, one a second, that the watermark, which lags 10 s, has not passed.
const HELD_BACK: i64 = 11;

fn produce(kafka: &Kafka, topic: &str, numbers: std::ops::Range<i64>) {
    let values = plain(numbers, 1);
    kafka.produce(topic, values.iter().map(|(partition, value)| (*partition, value.as_slice())));
}

/// The twins over a topic of one partition, in several epochs; 30 rows of them.
fn twins(topic: &str) -> (&'static Kafka, Project) {
    begun(topic, TWINS)
}

/// The same, the first of which remembers what it has seen: its pipeline keeps state.
fn remembering(topic: &str) -> (&'static Kafka, Project) {
    let seen = "FROM DEDUPLICATE(TABLE events_in PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '10 minutes')";
    begun(topic, &TWINS.replacen("FROM events_in", seen, 1))
}

/// As `goes_on`, of a pair whose first remembers: it holds rows back until the watermark has passed them.
fn goes_on_remembering(project: &Project, rows: i64) {
    project.stream_to_end(false).succeeds();
    assert_eq!(project.places("bronze.a"), first(rows - HELD_BACK), "bronze.a");
    assert_eq!(project.places("bronze.b"), first(rows), "bronze.b");
}

fn begun(topic: &str, definitions: &str) -> (&'static Kafka, Project) {
    let kafka = Kafka::shared();
    kafka.create_topic(topic, 1);
    let project = Project::of(kafka.bootstrap(), topic, definitions);
    for step in 0..3 {
        produce(kafka, topic, step * 10..step * 10 + 10);
        project.stream_to_end(false).succeeds();
    }
    (kafka, project)
}

fn first(rows: i64) -> BTreeSet<(i64, i64)> {
    (0..rows).map(|offset| (0, offset)).collect()
}

fn log_of(project: &Project, table: &str) -> PathBuf {
    project.files.join(table.replace('.', "/")).join("_delta_log")
}

fn newest_in(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "json")).max().expect("a file")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).expect("a copy") }
    }
}

fn says(finished: &Finished, parts: &[&str]) {
    for part in parts {
        assert!(finished.stderr.contains(part), "it does not say '{part}'\n{}", finished.output());
    }
}

/// A run in which `bronze.a` cannot go on while `bronze.b` can: it must say all `parts`, and have brought the other to `rows`.
fn fails_alone(project: &Project, rows: i64, parts: &[&str]) {
    let ended = project.stream_to_end(false).run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    says(&ended, &["bronze.a ended: "]);
    says(&ended, parts);
    assert!(!ended.stderr.contains("bronze.b ended"), "the other was stopped, too\n{}", ended.output());
    assert_eq!(project.places("bronze.b"), first(rows), "bronze.b");
}

fn goes_on(project: &Project, rows: i64) {
    project.stream_to_end(false).succeeds();
    assert_eq!(project.places("bronze.a"), first(rows), "bronze.a");
    assert_eq!(project.places("bronze.b"), first(rows), "bronze.b");
}

fn rebuild(project: &Project) {
    project.watershed(["rebuild", "bronze.a", "--yes"]).succeeds();
}

fn until_committed(running: &mut Running, project: &Project, pipeline: &str, sum: i64) {
    running.until("the rows are committed", |_| (committed(project, pipeline) >= sum).then_some(()));
}

/// A run that is under way: it has committed one more row.
fn started(kafka: &Kafka, project: &Project, topic: &str) -> Running {
    let mut running = project.stream().start();
    produce(kafka, topic, 30..31);
    until_committed(&mut running, project, "bronze.a", 31);
    until_committed(&mut running, project, "bronze.b", 31);
    running
}

#[test]
fn a_full_disk_is_named_and_the_pipelines_go_on_when_there_is_room() {
    let (kafka, topic) = (Kafka::shared(), "full-disk");
    kafka.create_topic(topic, PARTITIONS);
    let (input, disk) = (Input::new(17, 1_200), SmallDisk::new(32));
    let expected = input.expected();
    let project = Project::bare(kafka.bootstrap(), disk.folder.path().join("warehouse"));
    project.apply(topic, &format!("{}\n{}", source(), tables()));
    let send = |chunk: usize| kafka.produce(topic, input.chunk(chunk).iter().map(|(partition, value)| (*partition, value.as_slice())));
    send(0);
    let mut running = project.stream().start();
    let all = || kafka.ends(topic).values().sum::<i64>();
    let pipelines = ["bronze.events", "gold.by_minute", "silver.unique_events"];
    pipelines.iter().for_each(|pipeline| until_committed(&mut running, &project, pipeline, all()));
    for chunk in 1..CHUNKS {
        let ballast = disk.fill();
        let before = running.output().matches("the disk of the warehouse is full").count();
        send(chunk);
        running.until("it says why it waits", |running| {
            let said = running.output();
            let again = said.matches("the disk of the warehouse is full").count() > before;
            (again && said.contains("hint: free some space there")).then_some(())
        });
        // So does the warehouse itself, though nothing more fits there.
        let status = || project.watershed(["status"]).run();
        let told = |status: &Finished| {
            let full = |line: &str, pipeline: &str| {
                line.starts_with(&format!("warning: {pipeline} has been failing for "))
                    && line.contains("the disk of the warehouse is full")
            };
            pipelines.iter().all(|pipeline| status.stderr.lines().any(|line| full(line, pipeline)))
        };
        let status = wait_for("status says why of all", LIMIT, || status().output(), || Some(status()).filter(told));
        assert_eq!(status.status.code(), Some(1), "{}", status.output());
        fs::remove_file(ballast).expect("removed");
        pipelines.iter().for_each(|pipeline| until_committed(&mut running, &project, pipeline, all()));
    }
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());
    project.stream_to_end(true).succeeds();
    project.check(&expected);
}

/// Takes the right to write away from all folders below `folder`, or gives it back.
fn permit(folder: &Path, writing: bool) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            permit(&path, writing);
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(if writing { 0o755 } else { 0o555 })).expect("permissions");
}

#[test]
fn a_warehouse_that_cannot_be_written_is_named_and_can_still_be_read() {
    let (kafka, project) = twins("read-only");
    let mut running = project.stream().heeding_permissions().start();
    // Rows of its own show that it runs.
    produce(kafka, "read-only", 30..32);
    let seen = |table: &str| project.places(table).len() == 32;
    running.until("the rows stand in both tables", |_| (seen("bronze.a") && seen("bronze.b")).then_some(()));
    permit(&project.files, false);
    produce(kafka, "read-only", 32..40);
    let parts = ["failed and starts again: the warehouse cannot be written: ", "hint: check that this user may write there"];
    running.until("it says why it waits", |running| parts.iter().all(|part| running.output().contains(part)).then_some(()));
    // Those who only read are not concerned.
    let asked = project.watershed(["shell", "--output", "csv", "-c", "SELECT count(*) FROM bronze.a"]).heeding_permissions().succeeds();
    assert_eq!(asked.lines().last(), Some("32"), "{asked}");
    assert!(project.watershed(["status"]).heeding_permissions().run().stdout.contains("bronze.a"));
    let mut server = project.watershed(["serve"]).heeding_permissions().start();
    let url = server.until("it serves", |server| url_in(&server.output()));
    let query = "SELECT count(*) AS n FROM bronze.a";
    let asked = Watershed::new(["shell", "--url", &url, "--output", "csv", "-c", query]).succeeds();
    assert_eq!(asked.lines().last(), Some("32"), "{asked}");
    assert_eq!(http::sql(address_said(&mut server), query).json(), serde_json::json!([{ "n": 32 }]));
    let refused = project.applying("read-only", &format!("{} -- changed\n{TWINS}", source()), &[]).heeding_permissions().run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    says(&refused, &["error: the warehouse cannot be written: ", "hint: check that this user may write there"]);

    permit(&project.files, true);
    until_committed(&mut running, &project, "bronze.a", 40);
    until_committed(&mut running, &project, "bronze.b", 40);
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());
    goes_on(&project, 40);
}

#[test]
fn damage_in_a_log_is_found_and_named() {
    let (kafka, project) = twins("damaged");
    let (log, kept) = (log_of(&project, "bronze.a"), folder("kept-"));
    copy(&log, kept.path());
    let restore = || copy(kept.path(), &log);
    let query = ["shell", "-c", "SELECT count(*) FROM bronze.a"];

    // Garbage in the newest version.
    let newest = newest_in(&log);
    let shown = |path: &Path| format!("bronze/a/_delta_log/{}", path.file_name().expect("a name").to_string_lossy());
    fs::write(&newest, "{\"add\": {\"path\"").expect("written");
    produce(kafka, "damaged", 30..40);
    let damaged = format!("'{}' is damaged: ", shown(&newest));
    fails_alone(&project, 40, &[&damaged, "hint: restore it from a copy"]);
    says(&project.watershed(query).run(), &[damaged.trim_end_matches(": "), "detail: ", "hint: restore it from a copy"]);
    restore();
    goes_on(&project, 40);

    // An older version is missing: reading would be wrong, not just incomplete.
    copy(&log, kept.path());
    let middle = log.join(format!("{:020}.json", 1));
    fs::remove_file(&middle).expect("removed");
    let missing = format!("'{}' is damaged: it is missing, though version", shown(&middle));
    produce(kafka, "damaged", 40..50);
    fails_alone(&project, 50, &[&missing, "hint: restore it from a copy"]);
    says(&project.watershed(query).run(), &[&format!("'{}' is damaged", shown(&middle)), "detail: it is missing, though version"]);
    restore();
    goes_on(&project, 50);

    // The first version is missing: the rest must not be taken for what a drop has left, and be removed.
    copy(&log, kept.path());
    fs::remove_file(log.join(format!("{:020}.json", 0))).expect("removed");
    let files = || fs::read_dir(log.parent().expect("the table")).expect("a folder").count();
    let before = files();
    fails_alone(&project, 50, &["table bronze.a is gone: epoch", "hint: restore it from a copy"]);
    project.applying("damaged", &format!("{}\n{TWINS}", source().replace("1 hour", "2 hours")), &[]).succeeds();
    assert_eq!(files(), before, "rows were removed");
    restore();
    goes_on(&project, 50);

    // Without a copy there is still a way out.
    fs::write(newest_in(&log), "garbage").expect("written");
    rebuild(&project);
    goes_on(&project, 50);
}

#[test]
fn a_foreign_table_of_the_same_name_is_left_alone() {
    let kafka = Kafka::shared();
    kafka.create_topic("foreign", 1);
    produce(kafka, "foreign", 0..10);
    let home = folder("foreign-").keep();
    delete_at_exit(&home);
    let project = Project::bare(kafka.bootstrap(), home.join("warehouse"));
    let foreign = project.files.join("bronze/a");
    python("delta.py", &["create", &foreign.display().to_string()]);
    let definitions = format!("{}\n{TWINS}", source());
    let refused = project.applying("foreign", &definitions, &[]).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    says(
        &refused,
        &["table bronze.a exists with a different schema: it has (number", "the definition wants (event_id", "hint: name another one"],
    );
    assert_eq!(project.ask("SELECT sum(number) FROM bronze.a"), ["6"], "somebody else's rows");
    assert!(project.stream_to_end(false).run().stderr.contains("no streaming table is defined"), "nothing was applied");

    // The way out that the error names.
    project.watershed(["drop", "bronze.a", "--yes"]).succeeds();
    project.apply("foreign", &definitions);
    goes_on(&project, 10);
}

#[test]
fn a_table_dropped_under_a_running_pipeline_stops_it_alone() {
    let (kafka, project) = twins("dropped");
    let table = project.files.join("bronze/a");
    let (kept, remains) = (folder("kept-"), folder("remains-"));
    let mut running = started(kafka, &project, "dropped");
    copy(&table, kept.path());
    // The pipeline may write into the folder while it goes.
    wait_for("the table is gone", LIMIT, String::new, || fs::remove_dir_all(&table).is_ok().then_some(()));
    produce(kafka, "dropped", 31..40);
    let said = "bronze.a ended: table bronze.a was dropped by someone else while it was in use";
    running.until("it says what happened", |running| running.output().contains(said).then_some(()));
    until_committed(&mut running, &project, "bronze.b", 40);
    produce(kafka, "dropped", 40..50);
    until_committed(&mut running, &project, "bronze.b", 50);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait(LIMIT).status.code(), Some(1));

    // No empty table is in the way of a copy.
    fails_alone(
        &project,
        50,
        &["table bronze.a is gone: epoch", "hint: restore it from a copy, or start anew with `watershed rebuild bronze.a`"],
    );
    if table.exists() {
        // Files that were written before it noticed belong to the table.
        copy(&table, remains.path());
        fs::remove_dir_all(&table).expect("removed");
        copy(kept.path(), &table);
        fails_alone(&project, 50, &["that is gone", "hint: restore it, or start anew with `watershed rebuild bronze.a`"]);
    } else {
        copy(kept.path(), &table);
    }
    copy(remains.path(), &table);
    goes_on(&project, 50);

    fs::remove_dir_all(&table).expect("removed");
    rebuild(&project);
    goes_on(&project, 50);
}

#[test]
fn another_table_in_the_place_of_one_is_named_and_not_written_to() {
    let (kafka, project) = twins("replaced");
    // The same columns and rows, but a Delta table of its own.
    let other = Project::of(kafka.bootstrap(), "replaced", TWINS);
    other.stream_to_end(false).succeeds();
    let (table, kept) = (project.files.join("bronze/a"), folder("kept-"));
    copy(&table, kept.path());
    let place = |from: &Path| {
        fs::remove_dir_all(&table).expect("removed");
        copy(from, &table);
    };
    place(&other.files.join("bronze/a"));
    let versions = || fs::read_dir(log_of(&project, "bronze.a")).expect("a folder").count();
    let before = versions();
    produce(kafka, "replaced", 30..40);
    let hint = "hint: restore the table, or start anew with `watershed rebuild bronze.a`";
    fails_alone(&project, 40, &["table bronze.a was dropped or replaced since epoch", "(its Delta id was ", hint]);
    assert_eq!(versions(), before, "it was written to");
    assert_eq!(project.places("bronze.a"), first(30), "bronze.a");

    // Both ways out.
    place(kept.path());
    goes_on(&project, 40);
    place(&other.files.join("bronze/a"));
    rebuild(&project);
    goes_on(&project, 40);
}

#[test]
fn a_schema_changed_under_a_running_pipeline_stops_it_alone() {
    let (kafka, project) = twins("widened");
    let mut running = started(kafka, &project, "widened");
    python("delta.py", &["widen", &project.files.join("bronze/a").display().to_string()]);
    produce(kafka, "widened", 31..40);
    let said = "bronze.a ended: the schema of table bronze.a was changed by someone else at version";
    running.until("it says what happened", |running| running.output().contains(said).then_some(()));
    until_committed(&mut running, &project, "bronze.b", 40);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait(LIMIT).status.code(), Some(1));
    let parts = ["table bronze.a exists with a different schema", "remark", "`watershed rebuild TABLE` makes a pipeline's table anew"];
    fails_alone(&project, 40, &parts);
    assert_eq!(project.ask("SELECT count(*) FROM bronze.a"), ["31"], "rows under another schema");
    rebuild(&project);
    goes_on(&project, 40);
}

#[test]
fn state_deleted_or_damaged_under_a_live_table_is_named() {
    let (kafka, project) = twins("stateless");
    let state = project.files.join("_watershed/pipelines/bronze.a");
    let kept = folder("kept-");
    copy(&state, kept.path());
    let restore = || {
        let _ = fs::remove_dir_all(&state);
        copy(kept.path(), &state);
    };
    produce(kafka, "stateless", 30..40);

    fs::remove_dir_all(&state).expect("removed");
    fails_alone(
        &project,
        40,
        &["was deleted under a live table", "hint: restore the folder from a backup, or start anew with `watershed rebuild"],
    );
    assert_eq!(project.places("bronze.a"), first(30), "it began anew without a word");
    restore();

    let newest = newest_in(&state.join("0/epochs"));
    let record = fs::read(&newest).expect("a record");
    fs::write(&newest, &record[..record.len() / 2]).expect("written");
    fails_alone(&project, 40, &["cannot be read as an epoch record", "hint: if it was damaged, restore it from a backup"]);
    restore();

    // Back to before the last epoch that added rows.
    loop {
        let newest = newest_in(&state.join("0/epochs"));
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&newest).expect("a record")).expect("JSON");
        fs::remove_file(&newest).expect("removed");
        let files =
            |table: &serde_json::Value| table["table"] == "bronze.a" && table["files"].as_array().is_some_and(|files| !files.is_empty());
        if record["tables"].as_array().expect("tables").iter().any(files) {
            break;
        }
    }
    fails_alone(&project, 40, &["but the newest epoch record is", "hint: somebody restored or removed a part of the warehouse"]);
    restore();
    goes_on(&project, 40);

    fs::remove_dir_all(&state).expect("removed");
    rebuild(&project);
    goes_on(&project, 40);
}

#[test]
fn what_a_pipeline_remembers_is_named_when_it_is_gone_or_damaged() {
    let (kafka, project) = remembering("forgotten");
    let state = project.files.join("_watershed/pipelines/bronze.a/0/state");
    let kept = folder("kept-");
    copy(&state, kept.path());
    produce(kafka, "forgotten", 30..40);
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 3] = [
        ("it is gone", |_| None),
        ("it ends at byte", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("", |bytes| Some(vec![0; bytes.len()])),
    ];
    for (reason, damage) in damages {
        let files: Vec<PathBuf> = fs::read_dir(&state).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        assert!(!files.is_empty(), "there is nothing to damage");
        for file in files {
            match damage(fs::read(&file).expect("state")) {
                Some(bytes) => fs::write(&file, bytes).expect("written"),
                None => fs::remove_file(&file).expect("removed"),
            }
        }
        let named = format!(".arrow cannot be read as pipeline state: {reason}");
        let hint = "hint: if it was damaged, restore it from a backup of the warehouse, or start the table anew with `watershed rebuild";
        fails_alone(&project, 40, &["_watershed/pipelines/bronze.a/0/state/", &named, hint]);
        assert_eq!(project.places("bronze.a"), first(30 - HELD_BACK), "bronze.a");
        fs::remove_dir_all(&state).expect("removed");
        copy(kept.path(), &state);
    }
    goes_on_remembering(&project, 40);

    // Without a copy there is still a way out.
    fs::remove_dir_all(&state).expect("removed");
    rebuild(&project);
    goes_on_remembering(&project, 40);
}

#[test]
fn a_changed_query_over_old_state_is_refused_before_anything_changes() {
    let (_, project) = twins("changed");
    let changed = format!("{}\n{}", source(), TWINS.replacen("event_id, event_time,", "upper(event_id) AS event_id, event_time,", 1));
    let refused = project.applying("changed", &changed, &[]).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    assert!(refused.stdout.contains("~ streaming table bronze.a"), "{}", refused.output());
    assert!(refused.stdout.contains("rows and state are dropped, the source is read again from its start"), "{}", refused.output());
    says(&refused, &["the query of bronze.a changed", "nothing was changed", "--rebuild"]);
    goes_on(&project, 30);
    // What could not be rebuilt is not dropped either.
    let impossible = changed.replacen("bronze.a WITH", "bronze.a PARTITIONED BY (fare) WITH", 1).replacen("cents,", "cents, fare,", 1);
    let refused = project.applying("changed", &impossible, &["--rebuild"]).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    says(&refused, &["a table cannot be partitioned by 'fare': it is DOUBLE", "definitions.sql:"]);
    goes_on(&project, 30);
    project.applying("changed", &changed, &["--rebuild"]).succeeds();
    goes_on(&project, 30);
    assert_eq!(project.ask("SELECT max(event_id) FROM bronze.a"), ["E-9"]);
    assert_eq!(project.ask("SELECT max(event_id) FROM bronze.b"), ["e-9"]);
}

#[test]
fn a_query_changed_past_apply_is_refused_by_the_pipeline_that_has_state() {
    let (kafka, project) = remembering("slipped-in");
    let applied = newest_in(&project.files.join("_watershed/definitions"));
    let text = fs::read_to_string(&applied).expect("definitions");
    let mut definitions: serde_json::Value = serde_json::from_str(&text.replace("'10 minutes'", "'20 minutes'")).expect("JSON");
    let next = definitions["revision"].as_u64().expect("a number") + 1;
    definitions["revision"] = next.into();
    let slipped_in = applied.with_file_name(format!("{next:020}.json"));
    let slip_in = || fs::write(&slipped_in, definitions.to_string()).expect("written");
    slip_in();
    produce(kafka, "slipped-in", 30..40);
    fails_alone(
        &project,
        40,
        &[
            "bronze.a: the query was changed since epoch",
            "the state of that epoch does not fit",
            "hint: put the old text back, or start anew with `watershed rebuild bronze.a`",
        ],
    );
    assert_eq!(project.places("bronze.a"), first(30 - HELD_BACK), "bronze.a");

    // Both ways out.
    fs::remove_file(&slipped_in).expect("removed");
    goes_on_remembering(&project, 40);
    slip_in();
    rebuild(&project);
    goes_on_remembering(&project, 40);
}

#[test]
fn a_pipeline_that_runs_is_not_rebuilt_or_removed() {
    let (kafka, project) = twins("busy");
    let running = started(kafka, &project, "busy");
    let held = format!("bronze.a is held by process {}", running.id());
    let is_refused = |command: Watershed| {
        let refused = command.run();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
        says(&refused, &[&held]);
    };
    is_refused(project.watershed(["rebuild", "bronze.a", "--yes"]));
    let all = format!("{}\n{TWINS}", source());
    // Both change; neither is dropped if one cannot be.
    is_refused(project.applying("busy", &all.replace("AS SELECT event_id,", "AS SELECT upper(event_id) AS event_id,"), &["--rebuild"]));
    let without = &TWINS[TWINS.find("CREATE STREAMING TABLE bronze.b").expect("the second")..];
    project.apply("busy", &format!("{}\n{without}", source()));
    is_refused(project.watershed(["drop", "bronze.a", "--yes"]));
    project.apply("busy", &all);
    running.signal(libc::SIGTERM);
    assert!(running.wait(LIMIT).status.success());
    let unknown = project.watershed(["rebuild", "bronze.nowhere", "--yes"]).run();
    says(&unknown, &["bronze.nowhere is no streaming table of the applied definitions: there are bronze.a, bronze.b"]);
    goes_on(&project, 31);
}
