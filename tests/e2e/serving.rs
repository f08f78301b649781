//! `watershed serve` and those who query through it: the real Python ADBC driver, the shell, a notebook.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::input::{CHUNKS, Input, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::Project;
use crate::tools::{delete_at_exit, folder, tail, tool, wait_for};
use crate::watershed::{Running, Watershed};

/// A query that computes without an end in sight.
const ENDLESS: &str = "SELECT max(a.value * b.value % 1003) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 100000000) b";
/// How long a script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(180);

/// Tables that all tests of this file read.
pub fn tables() -> &'static Project {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let kafka = Kafka::shared();
        kafka.create_topic("served", PARTITIONS);
        let input = Input::new(11, 3_000);
        for chunk in 0..CHUNKS {
            let values = input.chunk(chunk);
            kafka.produce("served", values.iter().map(|(partition, value)| (*partition, value.as_slice())));
        }
        let project = Project::local(kafka.bootstrap(), "served");
        project.stream_to_end(true).succeeds();
        delete_at_exit(project.files.parent().expect("a folder"));
        project
    })
}

/// A server over `warehouse`, and its URL.
pub fn serve(warehouse: &str) -> (Running, String) {
    let mut server = Watershed::new(["serve", "--flight", "127.0.0.1:0", "--warehouse", warehouse]).start();
    let url = server.until("the server listens", |server| url_in(&server.output()));
    (server, url)
}

/// The first whole `grpc://…` in what a server printed.
pub fn url_in(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("grpc://")?;
    let (address, _) = rest.split_once('\n')?;
    Some(format!("grpc://{}", address.trim()))
}

/// Runs a Python script of this folder to its end, which must be a success; gives what it printed.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(script);
    let home = folder("python-");
    let (out, err) = (home.path().join("out"), home.path().join("err"));
    let mut child = Command::new(tool("python").join("bin/python"))
        .arg(path)
        .args(arguments)
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"))
        .spawn()
        .expect("Python runs");
    let id = child.id();
    let _ends_with_us = KillOnDrop(id);
    let name = format!("{script} {arguments:?}");
    let status = wait_for(&name, SCRIPT_LIMIT, || tail(&err, 40), || child.try_wait().expect("a child"));
    assert!(status.success(), "{name}: {status}\n{}", tail(&err, 40));
    std::fs::read_to_string(out).expect("its output")
}

/// A process that must not outlive a test that panics.
struct KillOnDrop(u32);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // SAFETY: `kill` touches no memory; the test panics before it has reaped the child.
            unsafe { libc::kill(self.0.cast_signed(), libc::SIGKILL) };
        }
    }
}

fn check(name: &str, more: &[&str]) {
    let (server, url) = serve(&tables().warehouse);
    let pid = server.id().to_string();
    let arguments: Vec<&str> =
        [url.as_str(), name].into_iter().chain(more.iter().map(|word| if *word == "PID" { &pid } else { *word })).collect();
    python("flight.py", &arguments);
}

#[test]
fn adbc_lists_what_is_there_at_every_depth() {
    check("lists", &[]);
}

#[test]
fn adbc_runs_queries() {
    let events = tables().table("bronze.events").count().to_string();
    check("queries", &[&events]);
}

#[test]
fn adbc_reads_every_type_under_the_schema_it_was_promised() {
    check("types", &[]);
}

#[test]
fn adbc_binds_parameters() {
    check("prepared", &[]);
}

#[test]
fn adbc_is_told_what_is_wrong_and_where() {
    check("refusals", &[]);
}

#[test]
fn a_query_ends_when_it_is_cancelled_or_its_client_is_gone() {
    let (server, url) = serve(&tables().warehouse);
    let pid = server.id().to_string();
    for step in ["cancel", "leave", "after_leaving"] {
        python("flight.py", &[&url, step, &pid]);
    }
}

#[test]
fn a_large_result_flows_through_little_memory() {
    check("large", &["PID"]);
}

#[test]
fn only_this_machine_is_served_and_a_taken_address_is_named() {
    let warehouse = &tables().warehouse;
    let refused = Watershed::new(["serve", "--flight", "0.0.0.0:0", "--warehouse", warehouse]).run();
    assert!(!refused.status.success() && refused.stderr.contains("no access control yet"), "{}", refused.output());
    let (_server, url) = serve(warehouse);
    let address = url.trim_start_matches("grpc://");
    let taken = Watershed::new(["serve", "--flight", address, "--warehouse", warehouse]).run();
    assert!(!taken.status.success() && taken.stderr.contains(&format!("listens on {address} already")), "{}", taken.output());
    let wrong = Watershed::new(["serve", "--flight", "8815", "--warehouse", warehouse]).run();
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.output());
}

#[test]
fn a_server_stops_when_asked_even_while_a_query_runs() {
    let (server, url) = serve(&tables().warehouse);
    let mut shell = Watershed::new(["shell", "--url", &url, "-c", "SELECT 1 AS started", "-c", ENDLESS]).start();
    shell.until("the first answer", |shell| shell.output().contains("started").then_some(()));
    server.signal(libc::SIGTERM);
    let ended = server.wait(Duration::from_secs(20));
    assert!(ended.status.success(), "{}", ended.output());
    let told = shell.wait(Duration::from_secs(20));
    assert_eq!(told.status.code(), Some(1), "{}", told.output());
}

/// What the shell says on this warehouse and through a server: all but times and places must be the same.
#[test]
fn the_shell_is_the_same_here_and_through_a_server() {
    let warehouse = &tables().warehouse;
    let (_server, url) = serve(warehouse);
    let home = folder("shell-");
    let script = home.path().join("script.sql");
    std::fs::write(
        &script,
        "\\d\n\\dn\n\\df trim\n\\d gold.by_minute\n\\d by_minute\n\\x on\nSELECT * FROM gold.by_minute ORDER BY 1, 3 LIMIT 2;\n\\x off\n\
         SELECT city, make_array(events, NULL) AS a, MAP {'k': fares} AS m FROM gold.by_minute ORDER BY window_start, city LIMIT 3;\n\
         EXPLAIN SELECT 1;\nSET datafusion.execution.batch_size = 77;\nSHOW datafusion.execution.batch_size;\nSHOW TABLES;\n",
    )
    .expect("a script");
    let script = script.display().to_string();
    let run = |arguments: &[&str], place: [&str; 2]| {
        let all = ["shell"].iter().chain(arguments).copied().chain(place);
        let finished = Watershed::new(all).run();
        (finished.status.code(), finished.stdout, finished.stderr)
    };
    let cases: &[&[&str]] = &[
        &["-f", &script],
        &["--output", "csv", "-c", "SELECT * FROM bronze.events ORDER BY kafka_partition, kafka_offset LIMIT 50"],
        &["--output", "json", "-c", "SELECT * FROM gold.by_minute ORDER BY window_start, city LIMIT 50"],
        &["-c", "SELECT 1;\nSELECT citty\nFROM gold.by_minute"],
        &["-c", "\\d nowhere"],
        &["-c", "DELETE FROM bronze.events"],
        &["-c", "SELECT $1"],
        &["-c", "SELECT 1/(value - 5) FROM generate_series(1, 9)"],
    ];
    for case in cases {
        let (here, there) = (run(case, ["--warehouse", warehouse]), run(case, ["--url", &url]));
        assert_eq!(here, there, "{case:?}");
        assert!(!here.1.is_empty() || !here.2.is_empty(), "{case:?} says nothing");
    }
}

#[test]
fn ctrl_c_in_the_shell_ends_the_query_on_the_server() {
    let (server, url) = serve(&tables().warehouse);
    let mut shell = Watershed::new(["shell", "--url", &url, "-c", "SELECT 1 AS started", "-c", ENDLESS]).start();
    shell.until("the first answer", |shell| shell.output().contains("started").then_some(()));
    // The query after it shows nothing that could be waited for.
    std::thread::sleep(Duration::from_millis(500));
    shell.signal(libc::SIGINT);
    let ended = shell.wait(Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(130), "{}", ended.output());
    python("flight.py", &[&url, "after_leaving", &server.id().to_string()]);
}

#[test]
fn a_shell_without_its_server_says_so() {
    let finished = Watershed::new(["shell", "--url", "grpc://127.0.0.1:1", "-c", "SELECT 1"]).run();
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains("cannot connect to 127.0.0.1:1") && finished.stderr.contains("watershed serve"),
        "{}",
        finished.stderr
    );
}

/// The demo serves while it runs; the notebook is what an analyst would do with it.
#[test]
fn the_tour_notebook_runs_against_a_live_demo() {
    let home = folder("tour-");
    let arguments = ["demo", "--seconds", "150", "--no-prompt", "--warehouse", &home.path().join("warehouse").display().to_string()];
    let mut demo = Watershed::new(arguments).env("HOME", home.path().display().to_string()).start();
    let url = demo.until("the demo serves", |demo| url_in(&demo.output()));
    let enough = "SELECT count(*) > 0 FROM silver.ride_events WHERE fare IS NOT NULL AND event_type = 'completed'";
    let paid = "SELECT count(*) > 0 FROM bronze.payments p JOIN silver.ride_events r ON p.city = r.city WHERE amount >= 5";
    wait_for(
        "rides and payments",
        Duration::from_secs(90),
        || demo.output(),
        || {
            // Each question is a process: not too often.
            std::thread::sleep(Duration::from_millis(500));
            let answer = |sql: &str| Watershed::new(["shell", "--url", &url, "--output", "csv", "-c", sql]).run();
            [enough, paid].iter().all(|sql| answer(sql).stdout.contains("true")).then_some(())
        },
    );
    let notebook = Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks/tour.ipynb").display().to_string();
    let said = python("notebook.py", &[&notebook, &url]);
    assert!(said.contains("plots"), "{said}");
    demo.signal(libc::SIGTERM);
    let ended = demo.wait(Duration::from_secs(60));
    assert!(ended.status.success(), "{}", ended.output());
}

/// One process writes, another serves: those who ask the server see what the writer has committed, and nothing is different from asking
/// in the writer's own process.
#[test]
fn streaming_and_serving_in_processes_of_their_own_give_what_one_process_gives() {
    let kafka = Kafka::shared();
    kafka.create_topic("split", PARTITIONS);
    let input = Input::new(13, 2_000);
    let expected = input.expected();
    let project = Project::local(kafka.bootstrap(), "split");
    // The server is there before any row is, and stays while they come.
    let (_server, url) = serve(&project.warehouse);
    let asked = |sql: &str| -> Option<usize> {
        let answer = Watershed::new(["shell", "--url", &url, "--output", "csv", "-c", sql]).run();
        if answer.status.success() { answer.stdout.split_whitespace().last()?.parse().ok() } else { None }
    };
    let events = "SELECT count(*) FROM bronze.events";
    assert_eq!(asked(events), Some(0), "applied, and no pipeline ran yet");
    let writer = project.stream().start();
    let mut seen = 0;
    for chunk in 0..CHUNKS {
        let values = input.chunk(chunk);
        kafka.produce("split", values.iter().map(|(partition, value)| (*partition, value.as_slice())));
        seen =
            wait_for("the server sees new rows", Duration::from_secs(30), || writer.output(), || asked(events).filter(|now| *now > seen));
    }
    writer.signal(libc::SIGTERM);
    let ended = writer.wait(Duration::from_secs(30));
    assert!(ended.status.success(), "{}", ended.output());
    // All windows close in another run, still beside the same server.
    project.stream_to_end(true).succeeds();
    project.check(&expected);
    for table in project.contents().into_keys() {
        let (schema, name) = table.split_once('.').expect("schema.table");
        let sql = format!("SELECT count(*) FROM {schema}.\"{name}\"");
        let here = project.watershed(["shell", "--output", "csv", "-c", &sql]).succeeds();
        assert_eq!(here.split_whitespace().last().map(str::to_owned), asked(&sql).map(|rows| rows.to_string()), "{table}");
    }
    assert_eq!(asked(events), Some(expected.readable.len()));
}
