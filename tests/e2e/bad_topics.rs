//! Topics that are not there yet, go away, lose records or grow under a running pipeline: nothing is skipped without a word.

use std::collections::BTreeSet;

use crate::disturbed::committed;
use crate::input::plain;
use crate::kafka::Kafka;
use crate::project::{Project, TWINS, source};
use crate::watershed::{LIMIT, Running};

fn produce(kafka: &Kafka, topic: &str, numbers: std::ops::Range<i64>, partitions: i32) {
    let values = plain(numbers, partitions);
    kafka.produce(topic, values.iter().map(|(partition, value)| (*partition, value.as_slice())));
}

/// All that is in a topic, by place.
fn all(kafka: &Kafka, topic: &str) -> BTreeSet<(i64, i64)> {
    kafka.ends(topic).into_iter().flat_map(|(partition, end)| (0..end).map(move |offset| (i64::from(partition), offset))).collect()
}

fn until_committed(running: &mut Running, project: &Project, sum: i64) {
    running.until("the rows are committed", |_| {
        (committed(project, "bronze.a") >= sum && committed(project, "bronze.b") >= sum).then_some(())
    });
}

fn stop(running: Running) {
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());
}

#[test]
fn an_unknown_topic_is_named_and_read_once_it_is_there() {
    let (kafka, topic) = (Kafka::shared(), "not-yet");
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    let mut running = project.stream().start();
    let said = "failed and starts again: Kafka topic 'not-yet' does not exist\n  hint: create it, or correct the option topic";
    running.until("it names the topic", |running| running.output().contains(said).then_some(()));
    kafka.create_topic(topic, 2);
    produce(kafka, topic, 0..50, 2);
    until_committed(&mut running, &project, 50);
    stop(running);
    assert_eq!(project.places("bronze.a"), all(kafka, topic));
}

/// A topic of the same name that is as long as the old one was would be read from its middle, without a word.
#[test]
fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (kafka, topic) = (Kafka::shared(), "made-anew");
    kafka.create_topic(topic, 2);
    produce(kafka, topic, 0..40, 2);
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    project.stream_to_end(false).succeeds();
    let before = project.places("bronze.a");

    kafka.delete_topic(topic);
    kafka.create_topic(topic, 2);
    produce(kafka, topic, 1000..1100, 2);
    let ended = project.stream_to_end(false).run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    for part in ["the topic of source 'events_in' is not the one that was read before", "`watershed rebuild bronze.a` drops the rows"] {
        assert!(ended.stderr.contains(part), "it does not say '{part}'\n{}", ended.output());
    }
    assert_eq!(project.places("bronze.a"), before, "rows of the new topic were mixed in");

    // The way out that the error names.
    for table in ["bronze.a", "bronze.b"] {
        project.watershed(["rebuild", table, "--yes"]).succeeds();
    }
    project.stream_to_end(false).succeeds();
    assert_eq!(project.places("bronze.a"), all(kafka, topic));
    assert_eq!(project.ask("SELECT min(cents) FROM bronze.a"), ["1000"]);
}

/// A transaction leaves a marker at the end of its partition, which takes an offset and is never read.
#[test]
fn a_topic_of_transactions_is_read_to_its_end() {
    let (kafka, topic) = (Kafka::shared(), "transactions");
    kafka.create_topic(topic, 3);
    let values = |numbers: std::ops::Range<i64>| plain(numbers, 1).into_iter().map(|(_, value)| value.to_vec()).collect::<Vec<_>>();
    let (one, two, none) = (values(0..1), values(1..101), values(900..905));
    kafka.transact(topic, 0, &[(true, one.as_slice())]);
    kafka.transact(topic, 1, &[(false, none.as_slice()), (true, two.as_slice()), (false, none.as_slice())]);
    // Partition 2 holds an aborted transaction alone.
    kafka.transact(topic, 2, &[(false, none.as_slice())]);
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    for start in 0..2 {
        project.stream_to_end(false).succeeds();
        assert_eq!(project.ask("SELECT count(*), sum(cents) FROM bronze.a"), ["101,5050"], "start {start}");
        assert_eq!(project.ask("SELECT sum(lag_records) FROM system.pipelines"), ["0"], "start {start}");
    }
    // Such an end does not make it write epochs for ever either.
    let mut running = project.stream().start();
    let epochs = || project.ask("SELECT sum(epoch) FROM system.pipelines");
    running.until("it runs", |_| (project.ask("SELECT count(*) FROM system.pipelines WHERE state = 'running'") == ["2"]).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = epochs();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(epochs(), before, "an epoch each commit interval, with nothing in it");
    stop(running);
}

#[test]
fn a_topic_that_is_deleted_under_a_running_pipeline_is_named_and_others_go_on() {
    let (kafka, topic, other) = (Kafka::shared(), "deleted", "not-deleted");
    kafka.create_topic(topic, 1);
    kafka.create_topic(other, 1);
    let beside = format!(
        "{TWINS} CREATE SOURCE beside (event_id VARCHAR, kafka_partition INT METADATA FROM 'partition', kafka_offset BIGINT METADATA FROM 'offset')
         WITH (connector = 'kafka', topic = '{other}', format = 'json');
         CREATE STREAMING TABLE bronze.beside WITH (commit_interval = '50 milliseconds')
         AS SELECT event_id, kafka_partition, kafka_offset FROM beside;"
    );
    let project = Project::of(kafka.bootstrap(), topic, &beside);
    produce(kafka, topic, 0..30, 1);
    produce(kafka, other, 0..10, 1);
    let mut running = project.stream().start();
    until_committed(&mut running, &project, 30);
    kafka.delete_topic(topic);
    running.until("it names the topic", |running| running.output().contains("Kafka topic 'deleted' does not exist").then_some(()));
    produce(kafka, other, 10..20, 1);
    running.until("the other goes on", |_| (committed(&project, "bronze.beside") == 20).then_some(()));

    kafka.create_topic(topic, 1);
    produce(kafka, topic, 500..600, 1);
    let said = ["bronze.a ended", "bronze.b ended", "was deleted and made again"];
    running.until("it knows that the topic is another", |running| said.iter().all(|part| running.output().contains(part)).then_some(()));
    produce(kafka, other, 20..30, 1);
    running.until("the other goes on", |_| (committed(&project, "bronze.beside") == 30).then_some(()));
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status.code(), Some(1), "two pipelines could not go on\n{}", ended.output());
    assert_eq!(project.places("bronze.a").len(), 30, "rows of the new topic were mixed in");
    assert_eq!(project.places("bronze.beside"), all(kafka, other));
}

/// Kafka's client goes on in it at the old offsets, within less than a second.
#[test]
fn a_topic_that_is_made_again_under_a_running_pipeline_gives_it_no_row() {
    let (kafka, topic) = (Kafka::shared(), "made-again-running");
    kafka.create_topic(topic, 1);
    produce(kafka, topic, 0..25, 1);
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    let mut running = project.stream().start();
    until_committed(&mut running, &project, 25);
    let before = project.places("bronze.a");
    kafka.delete_topic(topic);
    kafka.create_topic(topic, 1);
    produce(kafka, topic, 1000..1040, 1);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    // Which of the two it meets first is Kafka's: that the topic is another, or that it is shorter.
    for table in ["bronze.a", "bronze.b"] {
        let said = ["was deleted and made again", "is gone: Kafka holds offsets"];
        let line = ended.stderr.lines().find(|line| line.starts_with(&format!("{table} ended: "))).unwrap_or_default();
        assert!(said.iter().any(|part| line.contains(part)), "{}", ended.output());
    }
    assert_eq!(project.places("bronze.a"), before, "rows of the new topic were mixed in");
    assert_eq!(project.places("bronze.b"), before);
}

#[test]
fn records_deleted_before_they_were_read_stop_the_pipeline_unless_the_source_says_otherwise() {
    let (kafka, topic) = (Kafka::shared(), "truncated");
    kafka.create_topic(topic, 2);
    produce(kafka, topic, 0..40, 2);
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    project.stream_to_end(false).succeeds();
    produce(kafka, topic, 40..100, 2);
    kafka.delete_records(topic, 0, 45);
    let ended = project.stream_to_end(false).run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    for part in ["bronze.a ended: offset 20 of truncated/0 is gone: Kafka holds offsets 45 to 50", "on_gap = 'skip'", "watershed rebuild"] {
        assert!(ended.stderr.contains(part), "it does not say '{part}'\n{}", ended.output());
    }
    assert_eq!(project.places("bronze.a").len(), 40, "something was read behind the gap");

    // The way out that the error names.
    let skipping = source().replace("idle_timeout", "on_gap = 'skip', idle_timeout");
    project.apply(topic, &format!("{skipping}\n{TWINS}"));
    let mut running = project.stream().start();
    until_committed(&mut running, &project, 100);
    let expected = |gaps: &[(i64, i64)]| -> BTreeSet<(i64, i64)> {
        let there = |(partition, offset): &(i64, i64)| *partition != 0 || !gaps.iter().any(|(from, to)| (from..to).contains(&offset));
        all(kafka, topic).into_iter().filter(there).collect()
    };
    // An epoch is decided a moment before its rows are in the table.
    running.until("the rows stand in the table", |_| (project.places("bronze.a") == expected(&[(20, 45)])).then_some(()));

    // Again, while it runs but cannot look.
    running.signal(libc::SIGSTOP);
    // The broker answers the fetch that waits there within `fetch.wait.max.ms`, 50 ms; what comes later finds no fetch waiting.
    std::thread::sleep(std::time::Duration::from_millis(200));
    produce(kafka, topic, 100..160, 2);
    kafka.delete_records(topic, 0, 70);
    running.signal(libc::SIGCONT);
    until_committed(&mut running, &project, 160);
    stop(running);
    assert_eq!(project.places("bronze.a"), expected(&[(20, 45), (50, 70)]));
    assert_eq!(project.places("bronze.b"), expected(&[(20, 45), (50, 70)]));
    assert_eq!(project.ask("SELECT pipeline, rows_in, lost FROM system.pipelines ORDER BY 1"), ["bronze.a,115,45", "bronze.b,115,45"]);
}

/// All that is in a new partition came after the pipeline began.
#[test]
fn a_pipeline_that_began_at_the_latest_reads_added_partitions_whole() {
    let (kafka, topic) = (Kafka::shared(), "growing-latest");
    kafka.create_topic(topic, 1);
    produce(kafka, topic, 0..20, 1);
    let latest = source().replace("idle_timeout", "start = 'latest', idle_timeout");
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    project.apply(topic, &format!("{latest}\n{TWINS}"));
    project.stream_to_end(false).succeeds();
    assert!(project.places("bronze.a").is_empty(), "what was there before is not read");
    kafka.add_partitions(topic, 3);
    produce(kafka, topic, 20..80, 3);
    project.stream_to_end(false).succeeds();
    let expected: BTreeSet<_> = all(kafka, topic).into_iter().filter(|place| *place >= (0, 20)).collect();
    assert_eq!(expected.len(), 60);
    assert_eq!(project.places("bronze.a"), expected);
    assert_eq!(project.ask("SELECT pipeline, rows_in, lost FROM system.pipelines ORDER BY 1"), ["bronze.a,60,0", "bronze.b,60,0"]);
}

#[test]
fn partitions_added_to_a_topic_are_read_from_their_beginning_once() {
    let (kafka, topic) = (Kafka::shared(), "growing");
    kafka.create_topic(topic, 1);
    produce(kafka, topic, 0..20, 1);
    let project = Project::of(kafka.bootstrap(), topic, TWINS);
    let mut running = project.stream().start();
    until_committed(&mut running, &project, 20);
    kafka.add_partitions(topic, 3);
    produce(kafka, topic, 20..80, 3);
    until_committed(&mut running, &project, 80);
    running.kill();
    // Between two runs, too.
    kafka.add_partitions(topic, 4);
    produce(kafka, topic, 80..120, 4);
    project.stream_to_end(false).succeeds();
    for table in ["bronze.a", "bronze.b"] {
        assert_eq!(project.places(table), all(kafka, topic), "{table}");
    }
}
