//! Apache Kafka (KRaft, one node) from its Maven jars: start, kill -9, restart; produce and read back with librdkafka.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::tools::{Server, delete_at_exit, folder, free_port, tail, tool, wait_for};

/// How long Kafka may take to acknowledge what one call produces.
const PRODUCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a producer waits for acknowledgements at a time: always all of it, whatever arrives.
const PRODUCER_POLL: Duration = Duration::from_millis(5);

/// One broker, which is its own controller.
pub struct Kafka {
    server: Option<Server>,
    folder: tempfile::TempDir,
    port: u16,
    secured_port: Option<u16>,
}

/// Who may come in through the secured listener.
#[derive(Clone, Copy)]
pub struct Login {
    pub user: &'static str,
    pub password: &'static str,
}

/// What is in a topic: partition, offset, value, key, header `id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub value: Vec<u8>,
    pub key: Option<Vec<u8>>,
    pub id: Option<String>,
}

impl Kafka {
    /// The broker that tests share: started by the first that asks, killed when the test binary exits.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| {
            let shared = Self::start();
            delete_at_exit(shared.folder.path());
            shared
        })
    }

    /// A broker of one's own, for tests that kill it.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// A broker that has, beside the open listener, one with TLS and SASL/PLAIN; see [`Self::secured_bootstrap`] and [`Self::ca`].
    pub fn start_secured(login: Login) -> Self {
        Self::start_with(Some(login))
    }

    fn start_with(login: Option<Login>) -> Self {
        let folder = folder("kafka-");
        let (port, controller_port) = (free_port(), free_port());
        let data = folder.path().join("data");
        let mut lines = vec![
            "process.roles=broker,controller".to_string(),
            "node.id=1".to_string(),
            format!("controller.quorum.voters=1@localhost:{controller_port}"),
            "controller.listener.names=CONTROLLER".to_string(),
            format!("log.dirs={}", data.display()),
            "num.partitions=1".to_string(),
            "auto.create.topics.enable=false".to_string(),
            "offsets.topic.replication.factor=1".to_string(),
            "offsets.topic.num.partitions=1".to_string(),
            "transaction.state.log.replication.factor=1".to_string(),
            "transaction.state.log.min.isr=1".to_string(),
            "transaction.state.log.num.partitions=1".to_string(),
            "share.coordinator.state.topic.replication.factor=1".to_string(),
            "share.coordinator.state.topic.min.isr=1".to_string(),
            "group.initial.rebalance.delay.ms=0".to_string(),
            // Events carry old timestamps: nothing may be deleted for its age.
            "log.retention.ms=-1".to_string(),
            // After kill -9 the node may register again only when its old session has run out (12.5 s by default).
            "broker.session.timeout.ms=2000".to_string(),
            "broker.heartbeat.interval.ms=500".to_string(),
        ];
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let secured_port = login.map(|login| {
            let secured_port = free_port();
            listeners.push_str(&format!(",SASL_SSL://127.0.0.1:{secured_port}"));
            lines.extend(secured(folder.path(), login));
            secured_port
        });
        lines.push(format!("listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}"));
        lines.push(format!("advertised.listeners={listeners}"));
        lines.push("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL".to_string());
        std::fs::write(folder.path().join("server.properties"), lines.join("\n")).expect("server.properties");
        std::fs::write(folder.path().join("log4j2.yaml"), LOG4J).expect("log4j2.yaml");
        let mut kafka = Self { server: None, folder, port, secured_port };
        let cluster = "4L6g3nShT-eMCtK--X86sw";
        let output = kafka
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", cluster, "-c"])
            .arg(kafka.properties())
            .output()
            .expect("java runs; `make test` installs it");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "Kafka's storage could not be formatted ({}): {out}{err}", output.status);
        kafka.restart();
        kafka
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("kafka.log")
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new(java_tool("java"));
        command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.folder.path().join("log4j2.yaml").display()));
        command.arg("-cp").arg(tool("kafka").join("*")).arg(class);
        command
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the listener with TLS and SASL.
    pub fn secured_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.secured_port.expect("started with a login"))
    }

    /// The certificate that signs the secured listener's, as PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts the broker on its old data and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = self.java("kafka.Kafka");
        command.arg(self.properties());
        self.server = Some(Server::start(&command, &self.log()));
        let client = self.asking();
        wait_for(
            "Kafka answers",
            Duration::from_secs(60),
            || tail(&self.log(), 30),
            || {
                let metadata = client.fetch_metadata(None, Duration::from_millis(500)).ok()?;
                (!metadata.brokers().is_empty()).then_some(())
            },
        );
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        config.set("log_level", "0");
        config
    }

    /// A client that asks for metadata. One of `AdminClient` would take up to 100 ms to end.
    fn asking(&self) -> BaseConsumer {
        self.client().create().expect("a client")
    }

    /// Creates a topic and waits until its partitions have a leader.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// As [`Self::create_topic`], with settings of the topic.
    pub fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        self.administer(async |admin, options| {
            for result in admin.create_topics([&new], options).await.expect("Kafka answers") {
                result.unwrap_or_else(|(topic, e)| panic!("topic {topic} was not created: {e}"));
            }
        });
        self.wait_for_partitions(topic, partitions);
    }

    /// Makes a topic have so many partitions.
    pub fn add_partitions(&self, topic: &str, partitions: i32) {
        let new = NewPartitions::new(topic, usize::try_from(partitions).expect("a count"));
        self.administer(async |admin, options| {
            for result in admin.create_partitions([&new], options).await.expect("Kafka answers") {
                result.unwrap_or_else(|(topic, e)| panic!("topic {topic} did not grow: {e}"));
            }
        });
        self.wait_for_partitions(topic, partitions);
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete_topic(&self, topic: &str) {
        self.administer(async |admin, options| {
            for result in admin.delete_topics(&[topic], options).await.expect("Kafka answers") {
                result.unwrap_or_else(|(topic, e)| panic!("topic {topic} was not deleted: {e}"));
            }
        });
        let client = self.asking();
        wait_for(
            "the topic is gone",
            Duration::from_secs(20),
            || tail(&self.log(), 30),
            || {
                let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
                metadata.topics().first()?.error().map(drop)
            },
        );
    }

    /// Deletes all records of a partition below an offset, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(below)).expect("an offset");
        self.administer(async |admin, options| {
            let deleted = admin.delete_records(&offsets, options).await.expect("Kafka answers");
            assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "records were not deleted: {deleted:?}");
        });
    }

    fn administer(&self, work: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions)) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work(&admin, &AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))));
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) {
        let client = self.asking();
        wait_for(
            "the topic has leaders",
            Duration::from_secs(20),
            || tail(&self.log(), 30),
            || {
                let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
                let found = metadata.topics().first()?.partitions();
                (found.len() == usize::try_from(partitions).ok()? && found.iter().all(|p| p.leader() >= 0)).then_some(())
            },
        );
    }

    /// Writes values to their partitions, in order within each, and waits until all are acknowledged.
    pub fn produce<'a>(&self, topic: &str, values: impl IntoIterator<Item = (i32, &'a [u8])>) {
        self.produce_keyed(topic, values.into_iter().map(|(partition, value)| (partition, None, Some(value))));
    }

    /// As [`Self::produce`], of records with keys, and of some without a value; of any size.
    pub fn produce_keyed<'a>(&self, topic: &str, records: impl IntoIterator<Item = (i32, Option<&'a [u8]>, Option<&'a [u8]>)>) {
        let mut client = self.client();
        client.set("enable.idempotence", "true").set("linger.ms", "5").set("message.max.bytes", "20000000");
        let producer: BaseProducer = client.create().expect("a producer");
        for (partition, key, value) in records {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
            record.key = key;
            record.payload = value;
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        record = again;
                        producer.poll(PRODUCER_POLL);
                    }
                    Err((e, _)) => panic!("the record was not accepted: {e}"),
                }
            }
        }
        // A flush of its own looks every 100 ms only, and tests produce hundreds of times.
        let start = Instant::now();
        while producer.in_flight_count() > 0 && start.elapsed() < PRODUCE_LIMIT {
            producer.poll(PRODUCER_POLL);
        }
        producer.flush(Duration::ZERO).expect("all records are acknowledged");
    }

    /// Puts values into one transaction for each list; those whose flag is false are aborted. Each leaves a marker that no reader sees.
    pub fn transact(&self, topic: &str, partition: i32, transactions: &[(bool, &[Vec<u8>])]) {
        let mut client = self.client();
        client.set("transactional.id", format!("{topic}-{partition}")).set("linger.ms", "0");
        let producer: BaseProducer = client.create().expect("a producer");
        producer.init_transactions(PRODUCE_LIMIT).expect("transactions");
        for (commits, values) in transactions {
            producer.begin_transaction().expect("a transaction");
            for value in *values {
                producer
                    .send(BaseRecord::<[u8], [u8]>::to(topic).partition(partition).payload(value))
                    .map_err(|(e, _)| e)
                    .expect("accepted");
            }
            producer.flush(PRODUCE_LIMIT).expect("all records are acknowledged");
            let ended = if *commits { producer.commit_transaction(PRODUCE_LIMIT) } else { producer.abort_transaction(PRODUCE_LIMIT) };
            ended.expect("the transaction ends");
        }
    }

    /// The end of each partition: the offset the next record will have.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        ends(&self.client(), topic)
    }

    /// All that is in a topic now, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        read(self.client(), topic)
    }
}

/// All that is in a topic of the broker at `bootstrap` now, by partition and offset.
pub fn read_at(bootstrap: &str, topic: &str) -> Vec<Record> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    read(config, topic)
}

fn ends(client: &ClientConfig, topic: &str) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("Kafka answers");
    let partitions = metadata.topics().first().expect("the topic").partitions();
    let end = |p: i32| consumer.fetch_watermarks(topic, p, Duration::from_secs(10)).expect("Kafka answers").1;
    partitions.iter().map(|p| (p.id(), end(p.id()))).collect()
}

fn read(mut config: ClientConfig, topic: &str) -> Vec<Record> {
    let ends = ends(&config, topic);
    config.set("group.id", "e2e-reader").set("enable.auto.commit", "false").set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut from = TopicPartitionList::new();
    for (partition, _) in ends.iter().filter(|(_, end)| **end > 0) {
        from.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&from).expect("assigned");
    let expected = usize::try_from(ends.values().sum::<i64>()).expect("a count");
    let mut records = Vec::with_capacity(expected);
    let start = Instant::now();
    while records.len() < expected {
        assert!(start.elapsed() < Duration::from_secs(60), "read {} of {expected} records of {topic} in a minute", records.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(m)) => {
                let id = m.headers().and_then(|headers| headers.iter().find(|header| header.key == "id"));
                records.push(Record {
                    partition: m.partition(),
                    offset: m.offset(),
                    value: m.payload().unwrap_or_default().to_vec(),
                    key: m.key().map(<[u8]>::to_vec),
                    id: id.and_then(|id| Some(String::from_utf8_lossy(id.value?).into_owned())),
                });
            }
            Some(Err(e)) => panic!("{topic} cannot be read: {e}"),
            None => {}
        }
    }
    records.sort();
    records
}

fn java_tool(name: &str) -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or(PathBuf::from(name), |home| PathBuf::from(home).join("bin").join(name))
}

/// Makes a certificate for the secured listener and gives the settings that use it.
fn secured(folder: &Path, login: Login) -> Vec<String> {
    let store = folder.join("keys.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new(java_tool("keytool"));
        command.args(arguments).args(["-alias", "broker", "-storetype", "PKCS12", "-storepass", "test-only", "-keystore"]).arg(&store);
        let output = command.output().expect("keytool comes with Java");
        assert!(output.status.success(), "keytool {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    };
    let name = ["-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost"];
    keytool(&[&["-genkeypair", "-keyalg", "EC", "-validity", "2"], &name[..]].concat());
    keytool(&["-exportcert", "-rfc", "-file", &folder.join("ca.pem").display().to_string()]);
    let Login { user, password } = login;
    vec![
        "ssl.keystore.type=PKCS12".to_string(),
        format!("ssl.keystore.location={}", store.display()),
        "ssl.keystore.password=test-only".to_string(),
        "sasl.enabled.mechanisms=PLAIN".to_string(),
        format!(
            "listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{user}=\"{password}\";"
        ),
    ]
}

const LOG4J: &str = "\
Configuration:
  Appenders:
    Console: { name: out, PatternLayout: { pattern: '%d %p %m (%c)%n' } }
  Loggers:
    Root: { level: WARN, AppenderRef: [ { ref: out } ] }
";
