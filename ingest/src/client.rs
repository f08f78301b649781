//! The part of a librdkafka client that consumers and look-ups share: callbacks, connection state, naming of errors.
//!
//! A broker that is away is no error: librdkafka reconnects by itself. It is logged once when contact is lost and once when it is back.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaConfRes, RDKafkaErrorCode, RDKafkaType};
use tracing::{debug, error, info, warn};

use crate::error::{IngestError, Result};
use crate::settings::KafkaSettings;
use crate::source::PartitionRange;

/// What librdkafka's callbacks reported.
#[derive(Debug)]
struct Contact {
    connected: bool,
    last_error: Option<(RDKafkaErrorCode, String)>,
    refused: Option<String>,
    fatal: Option<String>,
}

/// Shared between a client and its callbacks.
pub(crate) struct Context {
    bootstrap: String,
    contact: Mutex<Contact>,
}

impl ClientContext for Context {}

impl Context {
    fn new(bootstrap: &str) -> Self {
        let contact = Contact { connected: true, last_error: None, refused: None, fatal: None };
        Self { bootstrap: bootstrap.into(), contact: Mutex::new(contact) }
    }

    fn contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an error that librdkafka will get over by itself, or not.
    pub(crate) fn report(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut contact = self.contact();
        match code {
            RDKafkaErrorCode::AllBrokersDown => {
                if std::mem::replace(&mut contact.connected, false) {
                    let last = contact.last_error.as_ref().map_or(reason, |(_, reason)| reason);
                    warn!(bootstrap = %self.bootstrap, "lost contact to Kafka, trying again until it is back: {last}");
                }
            }
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => contact.refused = Some(reason.into()),
            RDKafkaErrorCode::Fatal => contact.fatal = Some(reason.into()),
            _ => {
                let repeated = contact.last_error.as_ref().is_some_and(|(last, _)| *last == code);
                if !repeated {
                    debug!(bootstrap = %self.bootstrap, "Kafka client: {reason} ({code})");
                }
                contact.last_error = Some((code, reason.into()));
            }
        }
    }

    /// Records came: whatever was wrong is over.
    pub(crate) fn answered(&self) {
        let mut contact = self.contact();
        if !std::mem::replace(&mut contact.connected, true) {
            info!(bootstrap = %self.bootstrap, "Kafka answers again");
        }
        contact.last_error = None;
        contact.refused = None;
    }

    /// False while no broker can be reached.
    #[cfg(test)]
    pub(crate) fn is_connected(&self) -> bool {
        self.contact().connected
    }

    /// An error that waiting does not cure, if one was reported.
    pub(crate) fn incurable(&self) -> Option<IngestError> {
        let contact = self.contact();
        if let Some(reason) = &contact.refused {
            return Some(IngestError::Authentication { bootstrap: self.bootstrap.clone(), reason: reason.clone() });
        }
        contact.fatal.as_ref().map(|reason| IngestError::Client { doing: "reading".into(), reason: reason.clone() })
    }

    /// Names why a request got no answer.
    pub(crate) fn unreachable(&self, fallback: &str) -> IngestError {
        if let Some(error) = self.incurable() {
            return error;
        }
        let (bootstrap, contact) = (self.bootstrap.clone(), self.contact());
        match &contact.last_error {
            Some((RDKafkaErrorCode::SSL, reason)) => IngestError::Authentication { bootstrap, reason: reason.clone() },
            Some((_, reason)) => IngestError::BrokerUnreachable { bootstrap, reason: reason.clone() },
            None => IngestError::BrokerUnreachable { bootstrap, reason: fallback.into() },
        }
    }
}

unsafe extern "C" fn on_error(_client: *mut native::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` was set by `Client::new` to the context, which the client keeps alive; `reason` is a C string for this call.
    let (context, reason) = unsafe { (&*(opaque as *const Context), CStr::from_ptr(reason)) };
    let code = native::rd_kafka_resp_err_t::try_from(code).map_or(RDKafkaErrorCode::Fail, RDKafkaErrorCode::from);
    context.report(code, &reason.to_string_lossy());
}

unsafe extern "C" fn on_log(_client: *const native::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    // SAFETY: both are C strings that live for this call.
    let (facility, text) = unsafe { (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy()) };
    match level {
        0..=2 => error!(target: "librdkafka", "{facility}: {text}"),
        // Levels 3 and 4 are about connections that come and go: the context logs what matters of these, once.
        _ => debug!(target: "librdkafka", "{facility}: {text}"),
    }
}

/// Makes a consumer client with our callbacks.
pub(crate) fn open(settings: &KafkaSettings, ours: &[(&str, &str)]) -> Result<Client<Context>> {
    let config = settings.client(ours)?;
    let native_config = config.create_native_config().map_err(name_config_error)?;
    // SAFETY: the configuration is alive; the callbacks match the C signatures and are plain functions.
    unsafe {
        native::rd_kafka_conf_set_error_cb(native_config.ptr(), Some(on_error));
        native::rd_kafka_conf_set_log_cb(native_config.ptr(), Some(on_log));
    }
    Client::new(&config, native_config, RDKafkaType::RD_KAFKA_CONSUMER, Context::new(&settings.bootstrap)).map_err(name_config_error)
}

/// Names a failed configuration without its values.
pub(crate) fn name_config_error(error: KafkaError) -> IngestError {
    match error {
        KafkaError::ClientConfig(kind, _, name, _) => {
            let reason = match kind {
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "there is no such setting in librdkafka (or it was built without it)",
                _ => "its value is not one that librdkafka allows",
            };
            IngestError::Setting { name, reason: reason.into() }
        }
        // Anything but a lack of threads is because of what it was given, and would be the same the next time.
        KafkaError::ClientCreation(reason) if !reason.contains("thread") => IngestError::Settings { reason },
        other => IngestError::Client { doing: "starting".into(), reason: other.to_string() },
    }
}

/// Asks for the topic's partitions and their offsets, waiting up to `timeout`.
pub(crate) fn ranges(client: &Client<Context>, topic: &str, timeout: Duration) -> Result<Vec<PartitionRange>> {
    let deadline = Instant::now() + timeout;
    let mut ranges = Vec::new();
    for partition in partition_ids(client, topic, timeout)? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let (low, high) = client.fetch_watermarks(topic, partition, left).map_err(|e| name_request_error(client, topic, &e))?;
        ranges.push(PartitionRange { partition, low, high });
    }
    Ok(ranges)
}

/// Numbers of the topic's partitions, ascending.
fn partition_ids(client: &Client<Context>, topic: &str, timeout: Duration) -> Result<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(|e| name_request_error(client, topic, &e))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else { return Err(IngestError::UnknownTopic { topic: topic.into() }) };
    if let Some(code) = found.error() {
        let code = RDKafkaErrorCode::from(code);
        return Err(match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => IngestError::UnknownTopic { topic: topic.into() },
            RDKafkaErrorCode::TopicAuthorizationFailed => IngestError::Authorization { topic: topic.into(), reason: code.to_string() },
            _ => IngestError::Client { doing: format!("looking up topic '{topic}'"), reason: code.to_string() },
        });
    }
    let mut ids: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    ids.sort_unstable();
    if ids.is_empty() {
        return Err(IngestError::UnknownTopic { topic: topic.into() });
    }
    Ok(ids)
}

/// Names a failed request. Serves the callbacks first: they know more than the code.
pub(crate) fn name_request_error(client: &Client<Context>, topic: &str, failure: &KafkaError) -> IngestError {
    // SAFETY: the client is alive; a zero timeout does not block.
    unsafe { native::rd_kafka_poll(client.native_ptr(), 0) };
    let text = failure.to_string();
    match failure.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            IngestError::UnknownTopic { topic: topic.into() }
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => IngestError::Authorization { topic: topic.into(), reason: text },
        _ => client.context().unreachable(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::Producer;

    /// Trying again would not help: they are no trouble of the broker's.
    #[test]
    fn settings_of_which_no_client_can_be_made_are_no_failure_that_passes() {
        let of = |properties: &[(&str, &str)]| KafkaSettings {
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..KafkaSettings::new("localhost:1")
        };
        let no_key = of(&[("security.protocol", "ssl"), ("ssl.key.pem", "hunter2")]);
        let no_acks = of(&[("acks", "0")]);
        let refused = [open(&no_key, &[]).err(), Producer::new(&no_key).err(), Producer::new(&no_acks).err()];
        for error in refused.map(|error| error.expect("an error")) {
            assert!(matches!(error, IngestError::Settings { .. }) && !error.may_pass(), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("correct the settings") && !said.contains("hunter2"), "{said}");
        }
    }
}
