//! A Kafka listener with TLS and SASL: settings under `kafka.` reach the client, and so does what definitions look up by `secret(…)`; a wrong
//! password is named, and none is ever shown or kept.

use std::path::{Path, PathBuf};

use crate::disturbed::committed;
use crate::exactly_once::{check_equal, produce};
use crate::http;
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::{Kafka, Login};
use crate::project::{Project, TWINS, source};
use crate::tools::{folder, free_port, wait_for};
use crate::watershed::{LIMIT, Watershed};

const LOGIN: Login = Login { user: "watershed", password: "drains-into-the-lake" };

/// A `watershed.toml` that logs in with `password` and trusts `ca`.
fn settings(folder: &Path, kafka: &Kafka, password: &str, ca: &Path) -> String {
    let path = folder.join(format!("{password}.toml"));
    let text = format!(
        "[kafka]\nbootstrap = \"{}\"\n\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"PLAIN\"\n\
         \"sasl.username\" = \"{}\"\n\"sasl.password\" = \"{password}\"\n\"ssl.ca.location\" = \"{}\"\n",
        kafka.secured_bootstrap(),
        LOGIN.user,
        ca.display()
    );
    std::fs::write(&path, text).expect("settings");
    path.display().to_string()
}

#[test]
fn a_secured_kafka_is_read_and_a_wrong_password_named() {
    let kafka = Kafka::start_secured(LOGIN);
    kafka.create_topic("secured", PARTITIONS);
    (0..CHUNKS).for_each(|chunk| produce(&kafka, "secured", chunk));
    let project = Project::local(kafka.secured_bootstrap(), "secured");
    let folder = folder("secured-");
    let stream = |config: &str| project.watershed(["stream", "--config", config, "--until-caught-up", "--drain"]);

    // It goes on trying, since a password may be mended on the other side, and says why.
    let mut wrong = stream(&settings(folder.path(), &kafka, "a-wrong-password", &kafka.ca())).start();
    wrong.until("the refusal is named", |run| run.output().contains("check security.protocol and the sasl").then_some(()));
    let said = wrong.kill().output();
    assert!(said.contains("Authentication failed"), "{said}");
    assert!(!said.contains("a-wrong-password"), "the password is shown\n{said}");

    stream(&settings(folder.path(), &kafka, LOGIN.password, &kafka.ca())).succeeds();
    check_equal(&project);
    a_definition_names_its_password_and_nothing_holds_it(&kafka);
}

/// Every file below a folder that holds one of the texts.
fn files_with(folder: &Path, texts: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_with(&path, texts, found);
        } else {
            let bytes = std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            if texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes())) {
                found.push(path);
            }
        }
    }
}

/// The same over a source that looks its login up where it runs: what it looked up is nowhere.
fn a_definition_names_its_password_and_nothing_holds_it(kafka: &Kafka) {
    const WRONG: &str = "another-wrong-password";
    let home = folder("named-secret-");
    // Nobody listens there: the source says where its Kafka is.
    let project = Project::bare("127.0.0.1:1".to_owned(), home.path().join("warehouse"));
    let login = format!(
        "'kafka.bootstrap.servers' = '{}', 'kafka.security.protocol' = 'SASL_SSL', 'kafka.sasl.mechanism' = 'PLAIN', \
         'kafka.ssl.ca.location' = '{}', 'kafka.sasl.username' = '{}', 'kafka.sasl.password' = secret('LAKE_PASSWORD')",
        kafka.secured_bootstrap(),
        kafka.ca().display(),
        LOGIN.user
    );
    let definitions = format!("{}\n{TWINS}", source().replacen(" WITH (", &format!(" WITH ({login}, "), 1));
    // As it is where pipelines run and where they are applied.
    let with = |run: Watershed, password: &str| run.env("LAKE_PASSWORD", password);
    let mut said = vec![with(project.applying("secured", &definitions, &[]), LOGIN.password).succeeds()];
    let edited = definitions.replacen("INTERVAL '10 seconds'", "INTERVAL '20 seconds'", 1);
    assert_ne!(edited, definitions);
    let diff = with(project.applying("secured", &edited, &["--dry-run"]), LOGIN.password).run();
    assert!(diff.stdout.contains("~ source events_in"), "{}", diff.output());
    said.push(diff.output());

    let address = format!("127.0.0.1:{}", free_port());
    let logs = ["wrong.json", "right.json"].map(|name| home.path().join(name).display().to_string());
    let arguments = |log| ["stream", "--http-address", &address, "--log", "trace", "--log-format", "json", "--log-file", log];
    let mut wrong = with(project.watershed(arguments(&logs[0])), WRONG).start();
    wrong.until("the refusal is named", |run| run.output().contains("check security.protocol and the sasl").then_some(()));
    let failing = || {
        let status = project.watershed(["status", "--output", "json"]).run();
        (status.stdout.matches("\"failing\"").count() == 2).then_some(status)
    };
    let status = wait_for("both are failing", LIMIT, || project.watershed(["status"]).run().output(), failing);
    assert!(status.stdout.contains("Authentication failed") && status.status.code() == Some(1), "{}", status.output());
    said.extend([status.output(), wrong.kill().output()]);

    let mut right = with(project.watershed(arguments(&logs[1])), LOGIN.password).start();
    let all: i64 = kafka.ends("secured").values().sum();
    right.until("the rows are committed", |_| {
        (committed(&project, "bronze.a") == all && committed(&project, "bronze.b") == all).then_some(())
    });
    let metrics = http::get(address.parse().expect("an address"), "/metrics").body;
    assert!(metrics.contains("watershed_pipeline_rows_in_total"), "{metrics}");
    said.extend([metrics, project.watershed(["status", "--offsets"]).run().output()]);
    right.signal(libc::SIGTERM);
    said.push(right.wait(LIMIT).output());
    for query in ["SELECT * FROM system.pipelines", "SHOW CREATE TABLE bronze.a", "EXPLAIN STREAMING TABLE bronze.a"] {
        said.push(project.watershed(["shell", "--output", "json", "-c", query]).succeeds());
    }
    for text in &said {
        assert!(![LOGIN.password, WRONG].iter().any(|secret| text.contains(secret)), "the password is shown\n{text}");
    }
    let mut found = Vec::new();
    files_with(home.path(), &[LOGIN.password, WRONG], &mut found);
    assert_eq!(found, Vec::<PathBuf>::new(), "files that hold the password");
    // Such a search finds what there is.
    files_with(home.path(), &["LAKE_PASSWORD"], &mut found);
    assert!(found.iter().any(|path| path.starts_with(project.files.join("_watershed/definitions"))), "{found:?}");
}
