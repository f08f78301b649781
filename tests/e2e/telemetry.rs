//! What `watershed stream` tells of itself: metrics and readiness over HTTP, a log of one event a line, and no secret in it.

use std::time::Duration;

use serde_json::Value;

use crate::http::{get, try_get};
use crate::tools::{folder, free_port, wait_for};
use crate::watershed::Watershed;

const DEFINITIONS: &str = "\
CREATE SOURCE pings (at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second')
WITH (connector = 'kafka', topic = 'pings', format = 'json');
CREATE STREAMING TABLE bronze.pings AS SELECT at FROM pings;";

/// Secrets as they would be in the environment.
const SECRETS: [(&str, &str); 3] = [
    ("WATERSHED_KAFKA_SASL_PASSWORD", "kafka-secret-4711"),
    ("AWS_SECRET_ACCESS_KEY", "aws-secret-0815"),
    ("AWS_SESSION_TOKEN", "token-secret-1234"),
];

#[test]
fn a_stream_without_its_broker_is_alive_not_ready_and_keeps_its_secrets() {
    let folder = folder("telemetry-");
    let sql = folder.path().join("sql");
    std::fs::create_dir(&sql).expect("a folder");
    std::fs::write(sql.join("pings.sql"), DEFINITIONS).expect("definitions");
    let (warehouse, sql) = (folder.path().join("warehouse").display().to_string(), sql.display().to_string());
    Watershed::new(["apply", &sql, "--yes", "--warehouse", &warehouse]).succeeds();
    let address = format!("127.0.0.1:{}", free_port());
    let broker = format!("127.0.0.1:{}", free_port());
    let log = folder.path().join("log.json");
    let log_text = log.display().to_string();
    let arguments = ["stream", "--warehouse", &warehouse, "--bootstrap", &broker, "--http-address", &address];
    let arguments = arguments.into_iter().chain(["--log", "trace", "--log-format", "json", "--log-file", &log_text]);
    let secured = [
        ("WATERSHED_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("WATERSHED_KAFKA_SASL_MECHANISM", "PLAIN"),
        ("WATERSHED_KAFKA_SASL_USERNAME", "me"),
    ];
    let environment = SECRETS.into_iter().chain(secured).map(|(name, value)| (name, value.to_owned()));
    let stream = Watershed::new(arguments).envs(environment).start();
    let address = address.parse().expect("an address");
    let reasons = wait_for(
        "it starts again",
        Duration::from_secs(60),
        || stream.output(),
        || {
            let answer = try_get(address, "/readyz")?;
            let reasons = answer.json()["reasons"].to_string();
            (answer.status == 503 && reasons.contains("starts again")).then_some(reasons)
        },
    );
    assert!(reasons.contains("bronze.pings"), "{reasons}");
    assert_eq!(get(address, "/healthz").status, 200);
    let metrics = get(address, "/metrics").body;
    assert!(metrics.contains(r#"watershed_pipeline_phase{pipeline="bronze.pings",source="pings",phase="retrying"} 1"#), "{metrics}");
    assert_eq!(get(address, "/sql?q=SELECT+1").status, 404, "a stream serves no tables");
    stream.signal(libc::SIGTERM);
    let finished = stream.wait(Duration::from_secs(60));

    let text = std::fs::read_to_string(&log).expect("a log");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect();
    let failed = events.iter().find(|event| event["fields"]["pause_ms"].is_number());
    let failed = failed.unwrap_or_else(|| panic!("no event tells of the failure\n{text}"));
    assert_eq!((failed["level"].as_str(), failed["fields"]["pipeline"].as_str()), (Some("WARN"), Some("bronze.pings")));
    for (name, secret) in SECRETS {
        assert!(!text.contains(secret) && !finished.output().contains(secret) && !metrics.contains(secret), "{name} was told");
    }
}
