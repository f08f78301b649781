//! What people do: Ctrl-C once and twice, windows of another size, pipes that nobody reads, ports that are taken.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::disturbed::committed;
use crate::exactly_once::{check_equal, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::{Project, source, tables};
use crate::serving::tables as served;
use crate::terminal::Terminal;
use crate::tools::{folder, wait_for};
use crate::watershed::{LIMIT, Watershed};

/// A query that computes without an end in sight.
const ENDLESS: &str =
    "SELECT max(a.value * b.value % 1003) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 100000000) b;\r";
const CTRL_C: &str = "\x03";

#[test]
fn ctrl_c_commits_what_was_read_and_a_second_one_does_not_wait_for_it() {
    let (kafka, topic) = (Kafka::shared(), "ctrl-c");
    kafka.create_topic(topic, PARTITIONS);
    let project = Project::local(kafka.bootstrap(), topic);
    produce(kafka, topic, 0);
    let mut once = project.stream().start();
    let all = kafka.ends(topic).values().sum::<i64>();
    once.until("rows are committed", |_| (committed(&project, "bronze.events") == all).then_some(()));
    once.signal(libc::SIGINT);
    let ended = once.wait(LIMIT);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output());
    assert!(ended.stderr.contains("stopping: what was read is committed first (Ctrl-C again ends at once)"), "{}", ended.output());

    // Now the commit takes longer than anybody waits.
    produce(kafka, topic, 1);
    let mut twice = project.stream().env("FAILPOINTS", "barrier_passed=1*sleep(100000)").env("TOKIO_WORKER_THREADS", "4").start();
    let line = |running: &crate::watershed::Running, text: &str| running.output().contains(text).then_some(());
    twice.until("it reads", |running| line(running, "pipelines running"));
    twice.signal(libc::SIGINT);
    twice.until("it stops", |running| line(running, "stopping: what was read"));
    let second = Instant::now();
    twice.signal(libc::SIGINT);
    let ended = twice.wait(LIMIT);
    assert_eq!(ended.status.code(), Some(130), "{}", ended.output());
    assert!(second.elapsed() < Duration::from_secs(5), "at once took {:?}", second.elapsed());
    assert!(ended.stderr.contains("ended at once; the next start goes on from the last commit"), "{}", ended.output());

    (2..CHUNKS).for_each(|chunk| produce(kafka, topic, chunk));
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}

/// The demo ended in each way there is, then counted: every row of all its runs must be somewhere.
#[test]
fn however_the_demo_is_ended_nothing_is_lost() {
    let home = folder("demo-");
    let dir = home.path().join("demo").display().to_string();
    let demo = |more: &[&str]| {
        Watershed::new(["demo", "--dir", &dir, "--drivers", "300"].iter().chain(more)).env("HOME", home.path().display().to_string())
    };
    // Told to end while a person sits at the prompt.
    let mut at_prompt = Terminal::start(demo(&[]), 200, 50);
    at_prompt.until("watershed>", 0);
    at_prompt.signal(libc::SIGTERM);
    assert_eq!(at_prompt.wait().code(), Some(0), "{}", at_prompt.shown());
    assert!(at_prompt.is_as_it_was(), "the terminal does not echo any more\n{}", at_prompt.shown());

    // Ctrl-C once in front of the table, and again.
    let mut twice = Terminal::start(demo(&["--no-prompt"]), 200, 50);
    let running = twice.until("running", 0);
    twice.type_in(CTRL_C);
    twice.until("stopping: no more events", running);
    twice.type_in(CTRL_C);
    let status = twice.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}\n{}", twice.shown());

    // Left by hand; then Ctrl-C once.
    let mut left = Terminal::start(demo(&[]), 200, 50);
    left.until("watershed>", 0);
    left.type_in("\\q\r");
    assert_eq!(left.wait().code(), Some(0), "{}", left.shown());
    assert!(left.shown().contains("reconciled: every row produced is"), "{}", left.shown());
    let mut once = Terminal::start(demo(&["--no-prompt"]), 200, 50);
    once.until("running", 0);
    once.type_in(CTRL_C);
    assert_eq!(once.wait().code(), Some(0), "{}", once.shown());
    assert!(once.shown().contains("reconciled: every row produced is"), "{}", once.shown());
}

#[test]
fn ctrl_c_at_the_prompt_ends_the_query_then_the_line_then_the_shell() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 100, 30);
    let mut at = shell.until("watershed>", 0);
    shell.type_in(ENDLESS);
    // After the statement, typed back by the terminal, nothing is shown while it runs.
    at = shell.until("\x1b[?2004l", at);
    // A query that runs shows nothing that could be waited for.
    std::thread::sleep(Duration::from_millis(500));
    shell.type_in(CTRL_C);
    at = shell.until("cancelled after", at);
    at = shell.until("watershed>", at);
    shell.type_in("SELECT 6 * ");
    at = shell.until("6", at);
    shell.type_in(CTRL_C);
    at = shell.until("watershed>", at);
    shell.type_in("SELECT 6 * 7 AS answer;\r");
    at = shell.until("42", at);
    at = shell.until("watershed>", at);
    shell.type_in(CTRL_C);
    at = shell.until("(Ctrl-C again, Ctrl-D or \\q leaves)", at);
    shell.until("watershed>", at);
    shell.type_in(CTRL_C);
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
    assert!(shell.is_as_it_was(), "{}", shell.shown());
}

#[test]
fn ctrl_c_on_a_line_with_text_never_leaves() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 100, 30);
    let mut at = shell.until("watershed>", 0);
    // Emptied by Ctrl-C three times, the last time with Ctrl-C on an empty line before.
    for (text, empty_before) in [("SELECT one", false), ("SELECT two", false), ("SELECT 3;\x1b[D", true)] {
        if empty_before {
            shell.type_in(CTRL_C);
            at = shell.until("(Ctrl-C again", at);
            at = shell.until("watershed>", at);
        }
        shell.type_in(text);
        at = shell.until(text.split_at(8).0, at);
        shell.type_in(CTRL_C);
        at = shell.until("watershed>", at);
    }
    shell.type_in("SELECT 6 * 7 AS answer;\r");
    at = shell.until("42", at);
    at = shell.until("watershed>", at);
    // Text that was typed and taken back leaves an empty line.
    shell.type_in("x\x7f");
    shell.type_in(CTRL_C);
    at = shell.until("(Ctrl-C again", at);
    shell.until("watershed>", at);
    shell.type_in(CTRL_C);
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
}

/// Between two prompts the terminal sends a signal instead of a key.
#[test]
fn ctrl_c_between_two_prompts_never_kills() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 100, 30);
    let mut at = shell.until("watershed>", 0);
    for _ in 0..20 {
        shell.type_in("SELECT");
        at = shell.until("SELECT", at);
        shell.type_in(CTRL_C);
        shell.until("\x1b[?2004l", at);
        shell.signal(libc::SIGINT);
        // Whether a prompt took it shows only when nothing more comes.
        std::thread::sleep(Duration::from_millis(100));
        at = shell.shown().len();
    }
    shell.type_in("SELECT 6 * 7 AS answer;\r");
    at = shell.until("42", at);
    shell.until("watershed>", at);
    shell.type_in("\x04");
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
}

#[test]
fn all_lines_of_a_burst_run() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 100, 30);
    let mut at = shell.until("watershed>", 0);
    let lines: String = (1..=40).map(|n| format!("SELECT\t{n} * 1001 AS n,\r\t'line {n}' AS t;\r")).collect();
    shell.type_in(&lines);
    for n in 1..=40 {
        at = shell.until(&format!(" {} │ line {n}", n * 1001), at);
    }
    shell.until("watershed>", at);
    shell.type_in("\x04");
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
    assert!(!shell.shown().contains("possibilities"), "{}", shell.shown());
}

#[test]
fn a_command_runs_within_a_statement_which_goes_on() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 100, 30);
    let mut at = shell.until("watershed>", 0);
    shell.type_in("SELECT 6 *\r\\timing off\r");
    at = shell.until("timing is off", at);
    // A mistake takes nothing away.
    at = shell.until("SELECT 6 *", at);
    shell.type_in("\\no_such\r");
    at = shell.until("there is no command \\no_such", at);
    at = shell.until("SELECT 6 *", at);
    shell.type_in("7 AS answer;\r");
    at = shell.until("42", at);
    // Ctrl-C forgets it.
    at = shell.until("watershed>", at);
    shell.type_in("SELECT 1 +\r\\timing on\r");
    at = shell.until("timing is on", at);
    at = shell.until("SELECT 1 +", at);
    shell.type_in(CTRL_C);
    at = shell.until("watershed>", at);
    shell.type_in("SELECT 2 * 3 * 7 AS answer;\r");
    at = shell.until("42", at);
    shell.until("watershed>", at);
    shell.type_in("\x04");
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
}

#[test]
fn a_line_typed_while_the_window_changes_is_whole() {
    let home = folder("prompt-");
    let shell = Watershed::new(["shell", "--warehouse", &served().warehouse]).env("HOME", home.path().display().to_string());
    let mut shell = Terminal::start(shell, 120, 40);
    let mut at = shell.until("watershed>", 0);
    shell.type_in("SELECT 'a text that is longer than the narrow window is wide, ");
    at = shell.until("wide", at);
    shell.resize(40, 10);
    shell.type_in("typed on' AS x, ");
    at = shell.until("x", at);
    shell.resize(160, 50);
    // Such a row fits this window alone: the one at the start was too narrow, too.
    shell.type_in("6 * 7 AS answer, repeat('-', 50) AS more;\r");
    shell.until("42", at);
    let shown = shell.shown();
    assert!(shown.contains("a text that is longer than the narrow window is wide, typed on │"), "{shown}");
    shell.type_in("\x04");
    assert_eq!(shell.wait().code(), Some(0));
}

/// The pictures that were drawn over others: how far up the cursor went, and the text, without colours.
fn pictures(shown: &str) -> Vec<(usize, String)> {
    let mut pictures: Vec<(usize, String)> = Vec::new();
    for piece in shown.split("\x1b[").skip(1) {
        let number = piece.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or_default();
        let (parameter, rest) = (&piece[..number], &piece[number..]);
        match (rest.chars().next(), pictures.last_mut()) {
            (Some('A'), _) => pictures.push((parameter.parse().expect("a number of lines"), String::new())),
            (Some(_), Some((_, text))) => text.push_str(&rest[1..]),
            _ => {}
        }
    }
    pictures
}

#[test]
fn the_live_table_keeps_to_its_window() {
    let (kafka, topic) = (Kafka::shared(), "live-table");
    kafka.create_topic(topic, PARTITIONS);
    produce(kafka, topic, 0);
    let more: String = (0..9).map(|n| format!("CREATE STREAMING TABLE bronze.twin_{n} AS SELECT event_id FROM events_in;\n")).collect();
    let project = Project::of(kafka.bootstrap(), topic, &format!("{}{more}", tables()));
    let mut stream = Terminal::start(project.stream(), 160, 40);
    stream.until("running", 0);
    let mut width = 160;
    for (columns, lines) in [(160, 40), (60, 10), (160, 40)] {
        let earlier = pictures(&stream.shown()).len();
        stream.resize(columns, lines);
        let before = pictures(&stream.shown()).len();
        let drawn = wait_for(
            "more pictures",
            LIMIT,
            || stream.shown(),
            || {
                let drawn = pictures(&stream.shown());
                (drawn.len() > before + 2).then_some(drawn)
            },
        );
        // The first one after a change is below the old one, which is left alone: no cursor goes up between them.
        let below = |(_, text): &&(usize, String)| text.matches("bronze.events").count() == 2;
        let seen = &drawn[earlier.saturating_sub(1)..];
        let changed = std::mem::replace(&mut width, columns) != columns;
        assert_eq!(seen.iter().filter(below).count(), usize::from(changed), "pictures below the one before, {columns} wide: {seen:#?}");
        // From the next on each is drawn over the one before.
        let ((_, picture), (up, _)) = (&drawn[before + 1], &drawn[before + 2]);
        let picture: Vec<&str> = picture.lines().map(str::trim_end).collect();
        assert_eq!(*up, picture.len(), "the next picture does not begin where this one did: {picture:#?}");
        assert!(picture.len() < usize::from(lines), "{} lines in a window of {lines}: {picture:#?}", picture.len());
        for line in &picture {
            assert!(line.chars().count() <= usize::from(columns), "wider than {columns}: {line}");
        }
        assert!(picture.iter().any(|line| line.contains("bronze.events") && line.contains("running")), "{picture:#?}");
        assert_eq!(picture.iter().any(|line| line.contains("more lines in a higher window")), lines == 10, "{picture:#?}");
    }
    stream.signal(libc::SIGTERM);
    assert_eq!(stream.wait().code(), Some(0), "{}", stream.shown());
}

#[test]
fn nobody_reads_and_no_one_complains() {
    let (kafka, topic) = (Kafka::shared(), "unread");
    kafka.create_topic(topic, PARTITIONS);
    (0..CHUNKS).for_each(|chunk| produce(kafka, topic, chunk));
    let project = Project::local(kafka.bootstrap(), topic);
    let sql = folder("sql-");
    std::fs::write(sql.path().join("more.sql"), source().replace("{topic}", topic)).expect("definitions");
    let sql = sql.path().display().to_string();
    let commands: [&[&str]; 8] = [
        &["status"],
        &["status", "--output", "json"],
        &["shell", "-c", "SELECT * FROM generate_series(1, 1000000)"],
        &["shell", "--output", "csv", "-c", "SELECT * FROM generate_series(1, 1000000)"],
        &["shell", "-c", "\\d", "-c", "SELECT 1"],
        &["apply", &sql, "--dry-run"],
        &["--help"],
        &["completions", "bash"],
    ];
    for command in commands {
        let (status, said) = project.watershed(command.iter().copied()).run_unread(false);
        assert!(said.is_empty(), "{command:?} complains: {said}");
        assert!(status.code().is_some_and(|code| code != 101), "{command:?}: {status}");
    }
    // Who has work to do does it, whoever listens.
    let (status, _) = project.stream_to_end(true).run_unread(true);
    assert_eq!(status.code(), Some(0), "stream");
    check_equal(&project);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let warehouse = &served().warehouse;
    let commands: [&[&str]; 4] = [
        &["serve", "--flight", "127.0.0.1:0", "--http-address", &address],
        &["serve", "--flight", &address],
        &["stream", "--bootstrap", "127.0.0.1:1", "--http-address", &address],
        &["broker", "--port", address.rsplit(':').next().expect("a port")],
    ];
    for command in commands {
        let refused = Watershed::new(command.iter().chain(&["--warehouse", warehouse])).run();
        assert_eq!(refused.status.code(), Some(1), "{command:?}\n{}", refused.output());
        assert!(refused.stderr.contains(&address) && refused.stderr.contains("hint: "), "{command:?}\n{}", refused.output());
    }
}
