//! The example in `examples/fraud_service/` acts once on each score, whatever is delivered twice and however often it is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kafka::Kafka;
use crate::tools::{folder, tail, tool, wait_for};

const SCORES: u32 = 4_000;
const THRESHOLD: f64 = 0.6;

/// Runs of the service over one memory.
pub struct Service {
    pub bootstrap: String,
    pub topic: String,
    pub folder: PathBuf,
    pub threshold: f64,
    /// Arguments of every run.
    pub more: Vec<&'static str>,
}

impl Service {
    fn command(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fraud_service/fraud_service.py");
        let mut command = Command::new(tool("python").join("bin/python"));
        command.arg(script).arg("--db").arg(self.folder.join("service.db"));
        command.args(["--bootstrap", &self.bootstrap, "--topic", &self.topic, "--group", &self.topic]);
        command.args(["--threshold", &self.threshold.to_string()]).args(&self.more);
        command
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("service.log")
    }

    /// Starts it with its output going to the log.
    pub fn start(&self, more: &[&str]) -> Killed {
        let log = std::fs::File::create(self.log()).expect("a log file");
        let mut command = self.command();
        command.args(more).stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe.
        unsafe {
            // Ends with the thread of its test, even if the whole test binary is killed.
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Killed(command.spawn().expect("Python starts"))
    }

    /// What the run in the log has held so far, by its own account.
    pub fn held(&self) -> u64 {
        let last = tail(&self.log(), 1);
        last.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    pub fn holds(&self) -> Vec<Value> {
        let output = self.command().arg("--list").output().expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A process that does not outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn score(number: u32) -> f64 {
    f64::from(number % 10) / 10.0
}

fn message(number: u32) -> Vec<u8> {
    let reasons = ["many_declines", "new_device"];
    json!({"score_id": format!("payments-1-{number}"), "payment_id": format!("pay_{number}"), "score": score(number), "reasons": reasons})
        .to_string()
        .into_bytes()
}

/// All messages up to three times each, copies far apart, on two partitions, with some that are no scores among them.
fn deliveries() -> Vec<(i32, Vec<u8>)> {
    let mut numbers: Vec<u32> = (0..SCORES).flat_map(|number| vec![number; 1 + number as usize % 3]).collect();
    let mut seed = 7u64;
    for index in (1..numbers.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(index, (seed >> 33) as usize % (index + 1));
    }
    let mut messages: Vec<(i32, Vec<u8>)> = numbers.iter().enumerate().map(|(at, number)| ((at % 2) as i32, message(*number))).collect();
    let bad: [&[u8]; 5] = [b"", b"not json", b"[1]", b"{\"score_id\":\"x\"}", b"{\"score_id\":1,\"payment_id\":\"p\",\"score\":0.9}"];
    for (index, bad) in bad.into_iter().enumerate() {
        messages.insert(index * 700, (0, bad.to_vec()));
    }
    messages
}

#[test]
fn the_fraud_service_acts_once_on_each_score_though_delivered_thrice_and_killed() {
    let kafka = Kafka::shared();
    let topic = "fraud-scores-of-the-example";
    kafka.create_topic(topic, 2);
    let messages = deliveries();
    assert!(messages.len() as u32 > SCORES * 3 / 2);
    kafka.produce(topic, messages.iter().map(|(partition, value)| (*partition, value.as_slice())));
    let folder = folder("fraud-service-");
    let (bootstrap, folder) = (kafka.bootstrap(), folder.path().to_path_buf());
    let service = Service { bootstrap, topic: topic.to_string(), folder, threshold: THRESHOLD, more: vec!["--batch", "20"] };
    let expected: BTreeSet<String> = (0..SCORES).filter(|n| score(*n) >= THRESHOLD).map(|n| format!("payments-1-{n}")).collect();

    // Dies by kill -9 in the midst of its work, again and again.
    let mut before = 0;
    for round in 1..=4 {
        let running = service.start(&[]);
        wait_for(
            "the service holds payments",
            Duration::from_secs(60),
            || tail(&service.log(), 20),
            || (service.held() >= 60).then_some(()),
        );
        drop(running);
        let held = service.holds().len();
        assert!(held > before && held < expected.len(), "round {round}: killed with {held} of {} holds, before {before}", expected.len());
        before = held;
    }

    let started = Instant::now();
    let mut last = service.start(&["--idle-exit", "3"]);
    let status = wait_for("the service ends", Duration::from_secs(60), || tail(&service.log(), 20), || last.0.try_wait().expect("a child"));
    assert!(status.success(), "{status} after {:?}\n{}", started.elapsed(), tail(&service.log(), 20));

    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for hold in service.holds() {
        *times.entry(hold["score_id"].as_str().expect("score_id").to_string()).or_default() += 1;
        assert_eq!(hold["reasons"], json!(["many_declines", "new_device"]));
    }
    assert!(times.values().all(|count| *count == 1), "acted twice: {times:?}");
    let held: BTreeSet<String> = times.into_keys().collect();
    assert_eq!(held, expected);

    // What it remembers is bounded: with room for 100, the newest 100 stay.
    kafka.produce(topic, [(0, message(SCORES + 9).as_slice())]);
    let mut bounded = service.start(&["--idle-exit", "2", "--keep", "100"]);
    wait_for("the service ends", Duration::from_secs(60), || tail(&service.log(), 20), || bounded.0.try_wait().expect("a child"));
    let holds = service.holds();
    assert_eq!((holds.len(), &holds[99]["payment_id"]), (100, &json!(format!("pay_{}", SCORES + 9))));
}
