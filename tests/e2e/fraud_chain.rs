//! Payments to acts in one chain: the pipeline that scores them sends to a topic, and the service in `examples/` acts on what comes out of it. Both
//! are killed by kill -9 on the way; each score in the table is acted on once, and nothing else is.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::fraud_service::Service;
use crate::kafka;
use crate::tools::{folder, free_port, tail, wait_for};
use crate::watershed::{LIMIT, Watershed};

const TOPIC: &str = "fraud-scores";

/// The definitions of the demo that are links of the chain, committing often so that there is much to be cut off.
fn definitions() -> String {
    let file = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let scores = file("gold/fraud_scores.sql");
    let hasty = scores.replace("commit_interval = '2 seconds'", "commit_interval = '50 milliseconds'");
    assert_ne!(hasty, scores, "the table says how often it commits");
    [file("sources/payments.sql"), hasty, file("sinks/fraud_scores.sql")].join("\n")
}

#[test]
fn each_score_of_a_payment_is_acted_on_once_whoever_is_killed() {
    let folder = folder("fraud-chain-");
    let sql = folder.path().join("sql");
    std::fs::create_dir(&sql).expect("a folder");
    std::fs::write(sql.join("chain.sql"), definitions()).expect("definitions");
    let port = free_port().to_string();
    let bootstrap = format!("127.0.0.1:{port}");
    let mut broker = Watershed::new(["broker", "--port", &port]).start();
    let address: std::net::SocketAddr = bootstrap.parse().expect("an address");
    broker.until("the broker listens", |_| std::net::TcpStream::connect(address).ok());
    let simulate = ["simulate", "--bootstrap", &bootstrap, "--events", "90000", "--rate", "max", "--seed", "5"];
    let world = ["--drivers", "300", "--warm-up", "45m", "--fraud-rate", "20", "--late-rate", "0.01", "--duplicate-rate", "0.01"];
    Watershed::new(simulate.into_iter().chain(world)).succeeds();
    let warehouse = folder.path().join("warehouse").display().to_string();
    Watershed::new(["apply", &sql.display().to_string(), "--yes", "--warehouse", &warehouse]).succeeds();
    let stream = || Watershed::new(["stream", "--bootstrap", &bootstrap, "--warehouse", &warehouse, "--until-caught-up", "--drain"]);
    // The broker of the demo knows no groups of consumers: the service takes all partitions. It acts on every score.
    let service = Service {
        bootstrap: bootstrap.clone(),
        topic: TOPIC.to_owned(),
        folder: folder.path().to_path_buf(),
        threshold: 0.0,
        more: vec!["--alone"],
    };

    // Slow, so that it is cut off in the midst: a transaction for each score.
    let first = service.start(&["--batch", "1"]);
    // Its rows have arrived, but that is not on record: they are sent again.
    stream().killed_at("sink_rows_acknowledged", 0).run().died_at("sink_rows_acknowledged");
    wait_for("the service acts", LIMIT, || tail(&service.log(), 20), || (service.held() >= 20).then_some(()));
    drop(first);
    let cut_off_at = service.holds().len();
    let second = service.start(&["--batch", "20"]);
    stream().killed_at("sink_rows_sent", 0).run().died_at("sink_rows_sent");
    stream().killed_at("record_written", 0).run().died_at("record_written");
    stream().succeeds();
    drop(second);
    let mut last = service.start(&["--batch", "20", "--idle-exit", "3"]);
    let ended = wait_for("the service ends", Duration::from_secs(60), || tail(&service.log(), 20), || last.0.try_wait().expect("a child"));
    assert!(ended.success(), "{ended}\n{}", tail(&service.log(), 20));

    let text = |hold: &serde_json::Value| hold["score_id"].as_str().expect("score_id").to_owned();
    let acted: Vec<String> = service.holds().iter().map(text).collect();
    let acts: BTreeSet<&str> = acted.iter().map(String::as_str).collect();
    assert_eq!(acts.len(), acted.len(), "a score was acted on twice");
    let query = "SELECT score_id FROM gold.fraud_scores";
    let table = Watershed::new(["shell", "--warehouse", &warehouse, "--output", "csv", "-c", query]).succeeds();
    let scores: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(scores.iter().copied().collect::<BTreeSet<_>>().len(), scores.len(), "the table holds a score twice");
    assert_eq!(acts, scores.iter().copied().collect(), "acts, and scores of the table");
    assert!(acted.len() > 200 && cut_off_at < acted.len(), "the service was cut off at {cut_off_at} of {}", acted.len());
    let sent = kafka::read_at(&bootstrap, TOPIC).len();
    assert!(sent > scores.len(), "{sent} messages for {} scores: nothing was sent again, the kills prove nothing", scores.len());
}
