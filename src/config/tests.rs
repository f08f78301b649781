//! What may be written as a setting, and what is said of the rest.

use super::*;

fn load(toml: &str, environment: &[(&str, &str)], flag: Option<&str>) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, toml).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), environment, &[("warehouse", "--warehouse", flag.map(str::to_owned))])
}

#[test]
fn the_later_wins() {
    let file = "warehouse = \"/file\"\nproject = \"/project\"\n[kafka]\nbootstrap = \"a:1\"\n";
    let config =
        load(file, &[("WATERSHED_WAREHOUSE", "/env"), ("WATERSHED_KAFKA_BOOTSTRAP", "b:2"), ("PATH", "x")], Some("/flag")).unwrap();
    assert_eq!(["/flag", "/project", "b:2"], ["warehouse", "project", "kafka.bootstrap"].map(|name| config.text(name)));
}

#[test]
fn relative_paths_are_meant_from_the_file() {
    let config = load("warehouse = \"lake\"\n", &[], None).unwrap();
    assert!(Path::new(config.text("warehouse")).is_absolute() && config.text("warehouse").ends_with("/lake"));
    assert_eq!(load("warehouse = \"s3://b/p\"\n", &[], None).unwrap().text("warehouse"), "s3://b/p");
}

#[test]
fn client_settings_are_handed_on() {
    let file = "[kafka]\n\"security.protocol\" = \"SSL\"\n[kafka.ssl.ca]\nlocation = \"/ca.pem\"\n[storage]\naws_region = \"eu-1\"\n";
    let config = load(file, &[("WATERSHED_KAFKA_SASL_USERNAME", "me"), ("WATERSHED_STORAGE_AWS_ENDPOINT", "http://x")], None).unwrap();
    let kafka: BTreeMap<String, String> = config.handed_on("kafka").into_iter().collect();
    let names: Vec<&str> = kafka.keys().map(String::as_str).collect();
    assert_eq!(names, ["sasl.username", "security.protocol", "ssl.ca.location"]);
    assert_eq!(config.handed_on("storage").get("aws_endpoint").map(String::as_str), Some("http://x"));

    let keys = [("WATERSHED_STORAGE_AWS_REGION", "mine"), ("AWS_REGION", "theirs"), ("AWS_ACCESS_KEY_ID", "me"), ("AWS_PROFILE", "x")];
    let storage: BTreeMap<String, String> = load("", &keys, None).unwrap().handed_on("storage").into_iter().collect();
    let pairs: Vec<_> = storage.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("aws_access_key_id", "me"), ("aws_region", "mine")]);
}

#[test]
fn a_line_that_is_no_toml_is_named_but_not_shown() {
    for line in ["\"sasl.password\" = \"hunter2", "\"sasl.password\" = hunter2", "\"sasl.password\" = \"hunter2\" x"] {
        let error = load(&format!("warehouse = \"w\"\n[kafka]\n{line}\n"), &[], None).unwrap_err();
        let said = crate::report::render(&error, false);
        assert!(said.contains("is not valid TOML (line 3, column ") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn wrong_settings_are_named_with_the_nearest() {
    let message = |result: Result<Config>| result.unwrap_err().to_string();
    let unknown = message(load("[query]\nmemory_limt = \"1GiB\"\n", &[], None));
    assert!(unknown.contains("there is no setting 'query.memory_limt'; did you mean 'query.memory_limit'?"), "{unknown}");
    // A variable may be anybody's: it stops nothing.
    let variable = load("", &[("WATERSHED_WAREHOSE", "x"), ("WATERSHED_SERVICE_HOST", "10.0.0.1")], None).unwrap().remarks;
    assert!(variable.len() == 1 && variable[0].ends_with("did you mean 'WATERSHED_WAREHOUSE'?"), "{variable:?}");
    let size = message(load("", &[("WATERSHED_QUERY_MEMORY_LIMIT", "lots")], None));
    assert!(
        size.starts_with("query.memory_limit (from the environment variable WATERSHED_QUERY_MEMORY_LIMIT): 'lots' is not a size"),
        "{size}"
    );
    assert!(message(load("warehouse = [1]\n", &[], None)).contains("must be a text"));
    let empty = message(load("", &[("WATERSHED_WAREHOUSE", "")], None));
    assert!(empty.contains("WATERSHED_WAREHOUSE): it is empty; name a folder"), "{empty}");
    let empty = message(load("", &[("WATERSHED_KAFKA_BOOTSTRAP", "")], None));
    assert!(empty.contains("WATERSHED_KAFKA_BOOTSTRAP): it is empty; name a broker"), "{empty}");
    let kafka = |line: &str| load(&format!("[kafka]\n{line} = \"1\"\n"), &[], None);
    let unknown = message(kafka("bootstap"));
    assert!(unknown.starts_with("kafka.bootstap (from ") && unknown.ends_with("did you mean 'bootstrap'?"), "{unknown}");
    let unknown = message(kafka("\"secruity.protocol\""));
    assert!(unknown.ends_with("Kafka's client has no such setting; did you mean 'security.protocol'?"), "{unknown}");
    for known in ["\"bootstrap.servers\"", "acks", "\"message.timeout.ms\"", "\"ssl.ca.pem\"", "\"auto.offset.reset\""] {
        assert!(kafka(known).is_ok(), "{known}");
    }
    let none = message(load("", &[("WATERSHED_QUERY_MEMORY_LIMIT", "0")], None));
    assert!(none.contains("'0' is too little") && none.contains("64MiB"), "{none}");
    let filter = message(load("", &[("WATERSHED_LOG_FILTER", "loud")], None));
    assert!(filter.contains("WATERSHED_LOG_FILTER): 'loud' is not a filter") && filter.contains("for example info"), "{filter}");
}

#[test]
fn brokers_are_hosts_with_ports() {
    let bootstrap = |text: &str| load(&format!("[kafka]\nbootstrap = \"{text}\"\n"), &[], None);
    for right in
        ["localhost", "a:9092", "a:1, b:2,", "10.0.0.1:9092", "[::1]:9092", "[::1]", "::1:9092", "SSL://a:9093", "kafka_1.local:9092"]
    {
        assert!(bootstrap(right).is_ok(), "{right}");
    }
    for (text, wrong) in [
        ("a:9092,b:port", "b:port"),
        ("a:0", "a:0"),
        ("a:99999", "a:99999"),
        (":9092", ":9092"),
        ("a:9092 b:9092", "a:9092 b:9092"),
        ("a:9092;b:9092", "a:9092;b:9092"),
        ("http://a:9092/x", "http://a:9092/x"),
    ] {
        let said = bootstrap(text).unwrap_err().to_string();
        assert!(
            said.starts_with("kafka.bootstrap (from ") && said.contains(&format!("'{wrong}' is not a broker; write for example ")),
            "{said}"
        );
    }
}

#[test]
fn addresses_name_this_machine_or_nothing() {
    let address = |text: &str| load(&format!("[serve]\nflight_address = \"{text}\"\n"), &[], None)?.address("serve.flight_address");
    assert_eq!(address("localhost:0").unwrap(), Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(address("").unwrap(), None);
    let wrong = address("8815").unwrap_err().to_string();
    assert!(wrong.contains("serve.flight_address") && wrong.contains("127.0.0.1:8815"), "{wrong}");
}

#[test]
fn flags_and_spans_are_checked_at_the_start() {
    let lake = |text: &str| load(&format!("[lake]\n{text}\n"), &[], None);
    assert!(!lake("compact = false").unwrap().flag("lake.compact").unwrap());
    assert_eq!(lake("vacuum_retention = \"\"").unwrap().span("lake.vacuum_retention").unwrap(), None);
    let wrong = lake("compact = \"maybe\"").unwrap_err().to_string();
    assert!(wrong.contains("lake.compact") && wrong.contains("'maybe' is neither true nor false"), "{wrong}");
    assert!(lake("vacuum_retention = \"a week\"").unwrap_err().to_string().contains("7d"));
}

#[test]
fn every_typed_setting_refuses_nonsense_at_the_start() {
    let mut texts = Vec::new();
    for setting in SETTINGS {
        let variable = variable(setting.name);
        match (setting.kind, load("", &[(variable.as_str(), "nonsense")], None)) {
            (Kind::Text, loaded) => texts.extend(loaded.map(|_| setting.name)),
            // A word may be the name of a host.
            (Kind::Brokers, loaded) => assert!(loaded.is_ok()),
            (_, Ok(_)) => panic!("{} takes nonsense", setting.name),
            (_, Err(why)) => {
                let (why, place) = (why.to_string(), format!("{} (from the environment variable {variable})", setting.name));
                assert!(why.starts_with(&format!("{place}: 'nonsense' is n")), "{why}");
            }
        }
    }
    // A new setting that takes anything is a decision, made here.
    assert_eq!(texts, ["warehouse", "project", "stream.spill_dir", "query.spill_dir", "log.file"]);
}

#[test]
fn sizes_and_spans() {
    assert_eq!(["1GiB", "1.5 MiB", "2GB", "4_096"].map(|text| parse_bytes(text).unwrap()), [1 << 30, 3 << 19, 2_000_000_000, 4096]);
    assert_eq!(["90", "5m", "500ms", "1d"].map(|text| parse_duration(text).unwrap().as_millis()), [90_000, 300_000, 500, 86_400_000]);
    assert!(parse_duration("soon").is_err() && parse_duration("1e400h").is_err());
}
