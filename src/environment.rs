//! Which environment variables are settings, which are left alone, and which are likely a mistake.
//!
//! What starts containers sets variables of its own: Kubernetes and Docker give every process the addresses of all services near it,
//! and a service called `watershed` has names that begin as ours do. No such variable stops the program.

use crate::config::{SETTINGS, variable};

/// What all variables of ours begin with.
const PREFIX: &str = "WATERSHED_";
/// Neither settings nor mistakes: read elsewhere, or set in images by habit.
const OTHERS: &[&str] = &["WATERSHED_CONFIG", "WATERSHED_CACHE", "WATERSHED_URL", "WATERSHED_HOME", "WATERSHED_VERSION"];

/// What a variable is.
#[derive(Debug, PartialEq, Eq)]
pub enum Variable {
    /// The value of this setting.
    Setting(String),
    /// Nothing to do with settings.
    Other,
    /// It looks like a setting, but there is none of that name; what to say of it.
    Unknown(String),
}

/// Tells what the variable `name` is.
pub fn read(name: &str, value: &str) -> Variable {
    let Some(rest) = name.strip_prefix(PREFIX) else { return Variable::Other };
    if OTHERS.contains(&name) || is_service_address(name, value) {
        return Variable::Other;
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| variable(setting.name) == name) {
        return Variable::Setting(setting.name.to_owned());
    }
    let lower = rest.to_lowercase();
    // WATERSHED_KAFKA_SECURITY_PROTOCOL is the client's security.protocol; object store options keep their underscores.
    if let Some(property) = lower.strip_prefix("kafka_") {
        return Variable::Setting(format!("kafka.{}", property.replace('_', ".")));
    }
    if let Some(option) = lower.strip_prefix("storage_") {
        return Variable::Setting(format!("storage.{option}"));
    }
    let names: Vec<String> = SETTINGS.iter().map(|setting| variable(setting.name)[PREFIX.len()..].to_owned()).collect();
    let next = match watershed_dialect::nearest(rest, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{PREFIX}{near}'?"),
        None => "`watershed --help` lists all settings".to_owned(),
    };
    Variable::Unknown(format!("the environment variable {name} is not a setting and is ignored; {next}"))
}

/// Whether it is one of the variables that Kubernetes and Docker set for a service: `X_SERVICE_HOST`, `X_SERVICE_PORT`,
/// `X_SERVICE_PORT_HTTP`, `X_PORT=tcp://…`, `X_PORT_8321_TCP`, `X_PORT_8321_TCP_ADDR`.
fn is_service_address(name: &str, value: &str) -> bool {
    let service = name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_");
    let port = |rest: &str| {
        let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        protocol.len() < rest.len() && ["_TCP", "_UDP", "_SCTP"].iter().any(|known| protocol.starts_with(known))
    };
    service || name.ends_with("_PORT") && value.contains("://") || name.split("_PORT_").skip(1).any(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_orchestrators_set_is_left_alone() {
        for (name, value) in [
            ("WATERSHED_SERVICE_HOST", "10.0.0.1"),
            ("WATERSHED_SERVICE_PORT", "8321"),
            ("WATERSHED_SERVICE_PORT_HTTP", "8321"),
            ("WATERSHED_PORT", "tcp://10.0.0.1:8321"),
            ("WATERSHED_PORT_8321_TCP", "tcp://10.0.0.1:8321"),
            ("WATERSHED_PORT_8321_TCP_ADDR", "10.0.0.1"),
            ("WATERSHED_PORT_53_UDP_PROTO", "udp"),
            // Services called watershed-kafka and watershed-storage: no options of the client or the store.
            ("WATERSHED_KAFKA_SERVICE_HOST", "10.0.0.2"),
            ("WATERSHED_KAFKA_PORT", "tcp://10.0.0.2:9092"),
            ("WATERSHED_KAFKA_PORT_9092_TCP_PORT", "9092"),
            ("WATERSHED_STORAGE_SERVICE_PORT_S3", "9000"),
            ("WATERSHED_HOME", "/opt/watershed"),
            ("WATERSHED_VERSION", "0.1"),
            ("PATH", "/bin"),
        ] {
            assert_eq!(read(name, value), Variable::Other, "{name}");
        }
    }

    #[test]
    fn settings_are_known_and_mistakes_are_said() {
        assert_eq!(read("WATERSHED_QUERY_MEMORY_LIMIT", "1GiB"), Variable::Setting("query.memory_limit".to_owned()));
        assert_eq!(read("WATERSHED_KAFKA_SASL_PASSWORD", "x"), Variable::Setting("kafka.sasl.password".to_owned()));
        assert_eq!(read("WATERSHED_STORAGE_AWS_REGION", "x"), Variable::Setting("storage.aws_region".to_owned()));
        let said = |name: &str| match read(name, "x") {
            Variable::Unknown(said) => said,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(
            said("WATERSHED_WAREHOSE"),
            "the environment variable WATERSHED_WAREHOSE is not a setting and is ignored; did you mean 'WATERSHED_WAREHOUSE'?"
        );
        assert!(said("WATERSHED_PORT").ends_with("is ignored; `watershed --help` lists all settings"), "{}", said("WATERSHED_PORT"));
    }
}
