//! A Kafka listener with TLS and SASL: settings under `kafka.` reach the client; a wrong password is named, and never shown.

use std::path::Path;

use crate::exactly_once::{check_equal, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::{Kafka, Login};
use crate::project::Project;
use crate::tools::folder;

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
}
