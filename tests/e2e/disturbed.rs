//! Disturbances that come at any time: kills without mercy, a second process, a process that wakes up late, a broker that dies.

use std::time::{Duration, Instant};

use crate::exactly_once::{check_equal, input, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::Project;
use crate::watershed::LIMIT;

/// The next offset of each partition as the newest epoch record of a pipeline has it, summed; 0 before the first.
pub fn committed(project: &Project, pipeline: &str) -> i64 {
    let folder = project.files.join("_watershed/pipelines").join(pipeline).join("0/epochs");
    let newest = std::fs::read_dir(folder).ok().and_then(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).max());
    let record = newest.and_then(|path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).ok()?).ok());
    let sources = record.and_then(|record| Some(record["sources"].as_object()?.values().cloned().collect::<Vec<_>>())).unwrap_or_default();
    let offsets = sources.iter().filter_map(|source| source["offsets"].as_object());
    offsets.flat_map(|offsets| offsets.values().filter_map(serde_json::Value::as_i64)).sum()
}

/// Rows of the next chunk arrive all the while, a slice at a time.
fn produce_slowly(kafka: &Kafka, topic: &str, slices: usize, pause: Duration) {
    for chunk in 0..CHUNKS {
        let values = input().0.chunk(chunk);
        // A slice takes from each partition, so that their order within it stays.
        for slice in 0..slices {
            let of_slice = (0..PARTITIONS).flat_map(|partition| {
                let mine: Vec<_> = values.iter().filter(|(p, _)| *p == partition).collect();
                mine[mine.len() * slice / slices..mine.len() * (slice + 1) / slices].to_vec()
            });
            kafka.produce(topic, of_slice.map(|(partition, value)| (*partition, value.as_slice())));
            std::thread::sleep(pause);
        }
    }
}

#[test]
fn killed_thirty_times_at_random() {
    const KILLS: usize = 32;
    let kafka = Kafka::shared();
    kafka.create_topic("random-kills", PARTITIONS);
    let project = Project::local(kafka.bootstrap(), "random-kills");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let (mut progressed, mut in_vain) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| produce_slowly(kafka, "random-kills", 20, Duration::from_millis(300)));
        for _ in 0..KILLS {
            let before = committed(&project, "gold.by_minute");
            let running = project.stream().start();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Where a start takes long, as beside other tests, the next runs may live longer: else all kills come before the first commit.
            let longest_ms = 1_500 + 500 * u64::min(in_vain, 4);
            std::thread::sleep(Duration::from_millis((random >> 33) % longest_ms));
            running.kill();
            let more = committed(&project, "gold.by_minute") > before;
            progressed += usize::from(more);
            in_vain = if more { 0 } else { in_vain + 1 };
        }
    });
    println!("{progressed} of {KILLS} runs committed something before they were killed");
    assert!(progressed >= 5, "only {progressed} of {KILLS} runs committed something: the kills come too early to prove anything");
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}

#[test]
fn a_second_process_stops_and_says_who_holds_the_pipeline() {
    let kafka = Kafka::shared();
    kafka.create_topic("two-processes", PARTITIONS);
    produce(kafka, "two-processes", 0);
    let project = Project::local(kafka.bootstrap(), "two-processes");
    let mut first = project.stream().start();
    let all = kafka.ends("two-processes").values().sum::<i64>();
    first.until("the first commits", |_| (committed(&project, "bronze.events") == all).then_some(()));
    let second = project.stream_to_end(false).run();
    assert!(!second.status.success(), "the second went on beside the first\n{}", second.output());
    let holder = format!("process {}", first.id());
    assert!(second.stderr.contains(&holder), "it does not say '{holder}'\n{}", second.output());

    (1..CHUNKS).for_each(|chunk| produce(kafka, "two-processes", chunk));
    first.until("the first goes on", |_| (committed(&project, "bronze.events") == input().0.len() as i64).then_some(()));
    first.signal(libc::SIGTERM);
    let first = first.wait(LIMIT);
    assert!(first.status.success(), "SIGTERM is a clean end: {}\n{}", first.status, first.output());
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}

#[test]
fn a_process_that_wakes_up_late_stops_and_has_done_nothing() {
    let kafka = Kafka::shared();
    kafka.create_topic("zombie", PARTITIONS);
    produce(kafka, "zombie", 0);
    let project = Project::local(kafka.bootstrap(), "zombie");
    let mut zombie = project.stream().start();
    // All of them: one that had not begun would rightly go on once the other process has ended.
    let pipelines = ["bronze.events", "gold.by_minute", "silver.unique_events"];
    zombie.until("all commit", |_| pipelines.iter().all(|pipeline| committed(&project, pipeline) > 0).then_some(()));
    zombie.signal(libc::SIGSTOP);
    (1..CHUNKS).for_each(|chunk| produce(kafka, "zombie", chunk));
    // Another machine would take the sleeper for dead after a while; until then it is refused.
    let start = Instant::now();
    loop {
        let run = project.stream_to_end(false).run();
        if run.status.success() {
            break;
        }
        assert!(start.elapsed() < LIMIT, "the sleeper is never taken for dead\n{}", run.output());
        std::thread::sleep(Duration::from_secs(1));
    }
    zombie.signal(libc::SIGCONT);
    let zombie = zombie.wait(LIMIT);
    assert!(!zombie.status.success(), "it went on although another had taken over\n{}", zombie.output());
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}

#[test]
fn the_broker_is_down_at_first_then_dies_and_comes_back() {
    let mut kafka = Kafka::start();
    kafka.create_topic("broker", PARTITIONS);
    produce(&kafka, "broker", 0);
    let project = Project::local(kafka.bootstrap(), "broker");
    kafka.kill();
    let mut running = project.stream().start();
    let said = format!("no Kafka broker answers at '{}'", kafka.bootstrap());
    running.until("it says what it waits for", |running| running.output().contains(&said).then_some(()));
    kafka.restart();
    let sum = kafka.ends("broker").values().sum::<i64>();
    running.until("rows are committed", |_| (committed(&project, "bronze.events") >= sum).then_some(()));
    kafka.kill();
    running.until("it notices", |running| running.output().contains("lost contact to Kafka, trying again until it is back").then_some(()));
    kafka.restart();
    (1..CHUNKS).for_each(|chunk| produce(&kafka, "broker", chunk));
    let all = input().0.len() as i64;
    running.until("the rest is committed", |_| (committed(&project, "bronze.events") >= all).then_some(()));
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}
