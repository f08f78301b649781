//! How to reach Kafka: addresses and the client settings that are handed through.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use watershed_dialect::definition::{ClientSetting, Secret};
use watershed_message::Message;

use crate::error::{IngestError, Result};

/// Where Kafka is and how to talk to it.
///
/// `Debug` shows the names of properties, never their values: they hold passwords and keys.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// librdkafka settings (`security.protocol`, `sasl.username`, `ssl.ca.location`, …). `group.id` names the group under which
    /// positions are shown to lag tools; nothing is read back from it.
    pub properties: BTreeMap<String, String>,
    /// How secrets that definitions name are looked up.
    pub secrets: Secrets,
}

/// Looks up what definitions name by `secret('…')`; the error says why that cannot be.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<FindSecret>>);

type FindSecret = dyn Fn(&Secret) -> Result<String, Message> + Send + Sync;

impl Secrets {
    /// Looks them up by `find`.
    pub fn new(find: impl Fn(&Secret) -> Result<String, Message> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(find)))
    }

    fn find(&self, secret: &Secret) -> Result<String, Message> {
        match &self.0 {
            Some(find) => find(secret),
            None => Err(Message::new(format!("nothing here can look up {secret}"))),
        }
    }
}

/// Settings on which exactly-once, bounded memory or our own accounting rests, and what librdkafka calls otherwise.
const RESERVED: [(&str, &str); 9] = [
    ("auto.offset.reset", "a gap must stop a pipeline, never be jumped over"),
    ("enable.auto.commit", "positions come from the epoch record only"),
    ("enable.auto.offset.store", "positions come from the epoch record only"),
    ("enable.partition.eof", "Watershed reads the end of a partition from the watermarks"),
    ("enable.idempotence", "the producer is always idempotent"),
    ("transactional.id", "Kafka transactions are not what correctness rests on here"),
    ("statistics.interval.ms", "client statistics cost throughput and are not used"),
    ("sasl.jaas.config", "only Kafka's Java clients have it: set sasl.mechanism, sasl.username and sasl.password"),
    ("plugin.library.paths", "loading native libraries by a setting is not allowed"),
];

/// Refuses a setting that Watershed sets itself.
pub(crate) fn check_free(name: &str) -> Result<()> {
    match RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        Some((_, reason)) => Err(IngestError::Setting { name: name.into(), reason: (*reason).into() }),
        None => Ok(()),
    }
}

impl KafkaSettings {
    /// Settings for a broker that needs no more than its address.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), ..Self::default() }
    }

    /// These settings with `properties` over them; `bootstrap.servers` among them takes the place of the address. Fails if a secret is not
    /// to be found.
    pub fn overlaid(&self, properties: &BTreeMap<String, ClientSetting>) -> Result<Self> {
        let mut merged = self.clone();
        for (name, value) in properties {
            let value = match value {
                ClientSetting::Text(text) => text.clone(),
                ClientSetting::Secret(secret) => {
                    self.secrets.find(secret).map_err(|reason| IngestError::Setting { name: name.clone(), reason })?
                }
            };
            if name == "bootstrap.servers" {
                merged.bootstrap = value;
            } else {
                merged.properties.insert(name.clone(), value);
            }
        }
        Ok(merged)
    }

    /// A client configuration: ours first, then what the user set; settings that would break a promise are refused.
    pub(crate) fn client(&self, ours: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("client.id", "watershed");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            check_free(name)?;
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("KafkaSettings").field("bootstrap", &self.bootstrap).field("properties", &names).finish()
    }
}

/// The names of the settings that librdkafka lists of itself. It knows some more by other names: see [`has_client_setting`].
pub fn client_settings() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: both configurations are ours and destroyed once; each listing is of names and values in turn, as C strings that live until it
    // is freed.
    unsafe {
        let (of_client, of_topic) = (native::rd_kafka_conf_new(), native::rd_kafka_topic_conf_new());
        let mut count = 0;
        let listed = native::rd_kafka_conf_dump(of_client, &mut count);
        names.extend(listed_names(listed, count));
        native::rd_kafka_conf_dump_free(listed, count);
        let listed = native::rd_kafka_topic_conf_dump(of_topic, &mut count);
        names.extend(listed_names(listed, count));
        native::rd_kafka_conf_dump_free(listed, count);
        native::rd_kafka_conf_destroy(of_client);
        native::rd_kafka_topic_conf_destroy(of_topic);
    }
    names
}

/// SAFETY: `listed` is null or holds `count` C strings.
unsafe fn listed_names(listed: *mut *const std::ffi::c_char, count: usize) -> Vec<String> {
    if listed.is_null() {
        return Vec::new();
    }
    // SAFETY: by contract.
    unsafe {
        std::slice::from_raw_parts(listed, count)
            .iter()
            .step_by(2)
            .map(|name| CStr::from_ptr(*name).to_string_lossy().into_owned())
            .collect()
    }
}

/// Whether librdkafka has a setting of this name at all, whatever its values are.
pub fn has_client_setting(name: &str) -> bool {
    let mut config = ClientConfig::new();
    config.set(name, "");
    let unknown = |error: &KafkaError| matches!(error, KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..));
    RESERVED.iter().any(|(reserved, _)| *reserved == name) || !config.create_native_config().is_err_and(|error| unknown(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, secret: Secret) -> BTreeMap<String, ClientSetting> {
        BTreeMap::from([(name.to_owned(), ClientSetting::Secret(secret))])
    }

    #[test]
    fn secrets_are_looked_up_and_reach_the_client() {
        let find = |secret: &Secret| match secret {
            Secret::Environment(name) => Ok(format!("what {name} holds")),
            Secret::File(path) => Err(Message::new(format!("{path} is not there")).next("make it")),
        };
        let kafka = KafkaSettings { secrets: Secrets::new(find), ..KafkaSettings::new("a:9092") };
        let mut given = one("sasl.password", Secret::Environment("KAFKA_PASSWORD".to_owned()));
        given.insert("sasl.username".to_owned(), ClientSetting::Text("reader".to_owned()));
        let settings = kafka.overlaid(&given).unwrap();
        let client = settings.client(&[]).unwrap();
        assert_eq!((client.get("sasl.username"), client.get("sasl.password")), (Some("reader"), Some("what KAFKA_PASSWORD holds")));
        assert_eq!(client.get("bootstrap.servers"), Some("a:9092"));
        assert!(!format!("{given:?} {settings:?}").contains("what KAFKA_PASSWORD holds"));
        let elsewhere = kafka.overlaid(&one("bootstrap.servers", Secret::Environment("KAFKA".to_owned()))).unwrap();
        assert_eq!(elsewhere.client(&[]).unwrap().get("bootstrap.servers"), Some("what KAFKA holds"));

        let missing = one("ssl.key.password", Secret::File("/run/secrets/key".to_owned()));
        let error = kafka.overlaid(&missing).unwrap_err();
        assert_eq!(error.to_string(), "Kafka setting 'ssl.key.password' cannot be used: /run/secrets/key is not there; make it");
        assert!(!error.may_pass(), "it is no better the next time");
        let error = KafkaSettings::new("a:9092").overlaid(&missing).unwrap_err().to_string();
        assert!(error.contains("nothing here can look up secret_file('/run/secrets/key')"), "{error}");
    }
}
