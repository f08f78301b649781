//! A source in Kafka, read: fetch and decode glued together for the pipelines.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use watershed_dialect::definition::{ClientSetting, Connector, Format, Metadata, OnError, SourceDefinition, Start, Tombstones};

use crate::error::{IngestError, Result};
use crate::json::JsonDecode;
use crate::kafka::{KafkaFetch, KafkaIdentity, KafkaSettings};
use crate::origin::Origin;
use crate::source::{
    Decode, Decoded, Fetch, FetchLimits, Identify, OpenSource, PartitionProgress, PartitionRange, Positions, RawBatch, SourceBatch,
    SourceRead,
};

/// Reads some partitions of a source in Kafka from given positions. Blocking; one instance for each thread.
///
/// State: the transport's positions and the decoder's builders; dropped with it, nothing is kept outside.
pub struct KafkaReader {
    source_name: String,
    topic: String,
    on_error: OnError,
    tombstones: Tombstones,
    fetch: KafkaFetch,
    decode: JsonDecode,
    /// Records that must not be passed, once they were met: offset and reason, by partition.
    barred: BTreeMap<i32, (i64, String)>,
}

impl KafkaReader {
    /// Connects and assigns the partitions in `positions`, each from the offset given there (the next one to be read).
    ///
    /// `wanted` are indices into the definition's columns; rows come out in that order. Settings of the definition go over those of
    /// `kafka`. Blocks up to ten seconds for the broker.
    pub fn open(definition: &SourceDefinition, kafka: &KafkaSettings, wanted: &[usize], positions: &Positions) -> Result<Self> {
        let (topic, properties) = kafka_of(definition)?;
        let decode = match definition.format {
            Format::Json => JsonDecode::new(definition, wanted)?,
            Format::Csv { .. } | Format::Parquet => {
                let reason = "messages in Kafka are read as JSON; CSV and Parquet are formats of files".into();
                return Err(IngestError::Definition { source_name: definition.name.clone(), reason });
            }
        };
        let want_headers = wanted.iter().any(|&index| definition.columns[index].metadata == Some(Metadata::Headers));
        let fetch = KafkaFetch::open(&kafka.overlaid(properties)?, topic, positions, want_headers)?;
        Ok(Self {
            source_name: definition.name.clone(),
            topic: topic.into(),
            on_error: definition.on_error,
            tombstones: definition.tombstones,
            fetch,
            decode,
            barred: BTreeMap::new(),
        })
    }

    /// The columns that come out.
    pub fn schema(&self) -> SchemaRef {
        self.decode.schema()
    }

    fn decode_one(&mut self, raw: RawBatch) -> Result<SourceBatch> {
        let mut decoded = self.decode.decode(&raw)?;
        let (mut next_offset, mut records) = (raw.offsets.last().map_or(0, |offset| offset + 1), raw.len());
        if self.on_error == OnError::Fail
            && let Some((offset, reason)) = cut_at_first_refused(&mut decoded)
        {
            (next_offset, records) = (offset, raw.offsets.partition_point(|&known| known < offset));
            self.barred.insert(raw.partition, (offset, reason));
        }
        Ok(SourceBatch {
            partition: raw.partition,
            next_offset,
            decoded,
            append_time_ms_max: raw.timestamps_ms.iter().copied().max().unwrap_or(-1),
            records,
            tombstones: if self.tombstones == Tombstones::Skip { raw.tombstones(records) } else { 0 },
            bytes: raw.byte_len(),
            origin: Origin::of_topic(&self.source_name, &self.topic, raw),
        })
    }
}

/// Cuts rows off from the first record on that was not accepted. Gives its offset and the reason.
pub(crate) fn cut_at_first_refused(decoded: &mut Decoded) -> Option<(i64, String)> {
    let refused = decoded.quarantined.take()?;
    let offset = refused.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?.value(0);
    let reason = refused.column_by_name("reason")?.as_string_opt::<i32>()?.value(0).to_string();
    let before = decoded.offsets.values().partition_point(|&known| known < offset);
    decoded.rows = decoded.rows.slice(0, before);
    decoded.offsets = Int64Array::new(decoded.offsets.values().slice(0, before), None);
    Some((offset, reason))
}

impl SourceRead for KafkaReader {
    fn poll(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<SourceBatch>> {
        if let Some((&partition, (offset, reason))) = self.barred.first_key_value() {
            let (offset, reason) = (*offset, reason.clone());
            let (source_name, topic) = (self.source_name.clone(), self.topic.clone());
            return Err(IngestError::BadRow { source_name, topic, partition, offset, reason });
        }
        let raw = self.fetch.fetch(limits, timeout)?;
        raw.into_iter().map(|raw| self.decode_one(raw)).collect()
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        let mut progress = self.fetch.progress();
        // The client has read on past a record that must not be passed.
        for partition in &mut progress {
            if let Some((offset, _)) = self.barred.get(&partition.partition) {
                partition.next_offset = *offset;
            }
        }
        progress
    }

    /// See [`KafkaFetch::commit_offsets`].
    fn commit_offsets(&self, positions: &Positions) {
        self.fetch.commit_offsets(positions);
    }
}

/// The topic of a source in Kafka, and its client settings.
fn kafka_of(definition: &SourceDefinition) -> Result<(&str, &BTreeMap<String, ClientSetting>)> {
    match &definition.connector {
        Connector::Kafka { topic, properties } => Ok((topic, properties)),
        Connector::Files { .. } => {
            let reason = "it is a folder of files, and only Kafka can be reached here".into();
            Err(IngestError::Definition { source_name: definition.name.clone(), reason })
        }
    }
}

/// Sources in Kafka. Settings of a definition go over these.
impl OpenSource for KafkaSettings {
    fn partitions(&self, definition: &SourceDefinition) -> Result<Vec<PartitionRange>> {
        let (topic, properties) = kafka_of(definition)?;
        crate::kafka::partitions(&self.overlaid(properties)?, topic)
    }

    fn identify(&self, definition: &SourceDefinition) -> Result<Option<Box<dyn Identify>>> {
        let (topic, properties) = kafka_of(definition)?;
        Ok(Some(Box::new(KafkaIdentity::open(&self.overlaid(properties)?, topic)?)))
    }

    fn starts(&self, definition: &SourceDefinition, ranges: &[PartitionRange]) -> Result<Positions> {
        let (topic, properties) = kafka_of(definition)?;
        let of = |begin: fn(&PartitionRange) -> i64| ranges.iter().map(|range| (range.partition, begin(range))).collect();
        match definition.start {
            Start::Earliest => Ok(of(|range| range.low)),
            Start::Latest => Ok(of(|range| range.high)),
            Start::At { ms } => crate::kafka::positions_at(&self.overlaid(properties)?, topic, ms, ranges),
        }
    }

    fn open(&self, definition: &SourceDefinition, wanted: &[usize], positions: &Positions, reader: &str) -> Result<Box<dyn SourceRead>> {
        let mut settings = self.clone();
        settings.properties.entry("group.id".into()).or_insert(format!("watershed-{reader}"));
        Ok(Box::new(KafkaReader::open(definition, &settings, wanted, positions)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type};
    use watershed_dialect::definition::{OnGap, Secret, SourceColumn};
    use watershed_message::Message;

    use super::*;
    use crate::embedded::{EmbeddedBroker, EmbeddedSettings};
    use crate::producer::{Producer, ensure_topics};
    use crate::settings::Secrets;

    const LIMITS: FetchLimits = FetchLimits { rows: 100, bytes: 1 << 20 };

    fn definition(on_error: OnError) -> SourceDefinition {
        let column = |name: &str, metadata| SourceColumn {
            field: Arc::new(Field::new(name, DataType::Int64, false)),
            metadata,
            epoch: None,
            path: Vec::new(),
            json: Vec::new(),
        };
        SourceDefinition {
            name: "numbers".into(),
            columns: vec![column("n", None), column("at", Some(Metadata::Offset))],
            watermark: None,
            connector: Connector::Kafka { topic: "numbers".into(), properties: BTreeMap::new() },
            format: Format::Json,
            start: Start::Earliest,
            on_error,
            tombstones: Tombstones::Error,
            on_gap: OnGap::Fail,
            max_skew: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
        }
    }

    fn poll_until(reader: &mut KafkaReader, records: usize) -> Result<Vec<SourceBatch>> {
        let (mut batches, started) = (Vec::new(), Instant::now());
        while batches.iter().map(|batch: &SourceBatch| batch.records).sum::<usize>() < records {
            assert!(started.elapsed() < Duration::from_secs(30), "{batches:?}");
            batches.extend(reader.poll(LIMITS, Duration::from_millis(100))?);
        }
        Ok(batches)
    }

    #[test]
    fn a_source_is_read_with_the_secrets_that_it_names() {
        let broker = EmbeddedBroker::start(&EmbeddedSettings::default()).unwrap();
        let there = KafkaSettings::new(broker.bootstrap());
        ensure_topics(&there, &[("numbers", 2)]).unwrap();
        let known = Secrets::new(move |secret| match secret {
            Secret::Environment(name) if name == "KAFKA" => Ok(there.bootstrap.clone()),
            other => Err(Message::new(format!("there is no {other}"))),
        });
        let kafka = KafkaSettings { secrets: known, ..KafkaSettings::new("nobody.invalid:9092") };
        let named = |name: &str| {
            let setting = ClientSetting::Secret(Secret::Environment(name.into()));
            let properties = BTreeMap::from([("bootstrap.servers".to_owned(), setting)]);
            SourceDefinition { connector: Connector::Kafka { topic: "numbers".into(), properties }, ..definition(OnError::Fail) }
        };
        let source = named("KAFKA");
        assert_eq!(kafka.partitions(&source).unwrap().len(), 2);
        let mut asks = kafka.identify(&source).unwrap().expect("a topic has an id");
        assert!(asks.identity(Duration::from_secs(10)).unwrap().is_some());
        assert!(kafka.open(&source, &[0], &Positions::from([(0, 0), (1, 0)]), "test").is_ok());
        let error = kafka.partitions(&named("KAFKAA")).unwrap_err().to_string();
        assert!(error.contains("'bootstrap.servers' cannot be used: there is no secret('KAFKAA')"), "{error}");
        broker.stop();
    }

    #[test]
    fn a_source_says_where_to_begin() {
        let broker = EmbeddedBroker::start(&EmbeddedSettings::default()).unwrap();
        let kafka = KafkaSettings::new(broker.bootstrap());
        ensure_topics(&kafka, &[("numbers", 3)]).unwrap();
        let mut producer = Producer::new(&kafka).unwrap();
        // A message of each time by itself: some brokers find batches, not messages.
        for (partition, ms) in [(0, 1_000), (0, 2_000), (0, 3_000), (1, 500), (1, 600)] {
            producer.send("numbers", Some(partition), None, Some(b"{\"n\":1}"), ms).unwrap();
            producer.flush(Duration::from_secs(30)).unwrap();
        }
        let starts = |start| {
            let source = SourceDefinition { start, ..definition(OnError::Fail) };
            let ranges = kafka.partitions(&source).unwrap();
            kafka.starts(&source, &ranges).unwrap().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(starts(Start::Earliest), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(starts(Start::Latest), [(0, 3), (1, 2), (2, 0)]);
        assert_eq!(starts(Start::At { ms: 2_000 }), [(0, 1), (1, 2), (2, 0)], "where nothing is so young, at the end");
        assert_eq!(starts(Start::At { ms: 550 }), [(0, 0), (1, 1), (2, 0)]);
        assert_eq!(starts(Start::At { ms: 3_001 }), [(0, 3), (1, 2), (2, 0)]);
        broker.stop();
    }

    #[test]
    fn reads_rows_with_their_coordinates_and_stops_at_a_bad_one_if_told_to() {
        let broker = EmbeddedBroker::start(&EmbeddedSettings::default()).unwrap();
        let kafka = KafkaSettings::new(broker.bootstrap());
        ensure_topics(&kafka, &[("numbers", 2)]).unwrap();
        let mut producer = Producer::new(&kafka).unwrap();
        for value in ["{\"n\":10}", "{\"n\":11}", "{\"n\":true}", "{\"n\":13}"] {
            producer.send("numbers", Some(1), None, Some(value.as_bytes()), 1_700_000_000_000).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let positions = Positions::from([(0, 0), (1, 1)]);

        let mut reader = KafkaReader::open(&definition(OnError::Quarantine), &kafka, &[1, 0], &positions).unwrap();
        let batches = poll_until(&mut reader, 3).unwrap();
        let rows: Vec<_> = batches.iter().map(|batch| &batch.decoded.rows).collect();
        let column = |index: usize| rows.iter().flat_map(move |rows| rows.column(index).as_primitive::<Int64Type>().values().to_vec());
        assert!(column(0).eq([1, 3]) && column(1).eq([11, 13]), "{rows:?}");
        assert_eq!(batches.iter().filter_map(|batch| batch.decoded.quarantined.as_ref()).map(|bad| bad.num_rows()).sum::<usize>(), 1);
        let last = batches.last().unwrap();
        assert_eq!((last.partition, last.next_offset, last.append_time_ms_max), (1, 4, 1_700_000_000_000));
        let started = Instant::now();
        while !reader.progress().iter().all(PartitionProgress::is_caught_up) {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", reader.progress());
            assert!(reader.poll(LIMITS, Duration::from_millis(100)).unwrap().is_empty());
        }

        let mut reader = KafkaReader::open(&definition(OnError::Fail), &kafka, &[0], &positions).unwrap();
        let before = poll_until(&mut reader, 1).unwrap();
        assert_eq!(before.iter().map(|batch| batch.decoded.rows.num_rows()).sum::<usize>(), 1, "what came before it is good");
        assert_eq!(before.iter().map(|batch| batch.next_offset).max(), Some(2), "it goes on at the bad record");
        assert_eq!(reader.progress().iter().find(|p| p.partition == 1).unwrap().next_offset, 2, "nor does it pretend to be further");
        let error = poll_until(&mut reader, 1).unwrap_err();
        let IngestError::BadRow { topic, partition, offset, reason, .. } = error else { panic!("{error}") };
        assert_eq!((topic.as_str(), partition, offset), ("numbers", 1, 2));
        assert_eq!(reason, "column 'n': expected a whole number, found a boolean");
        broker.stop();
    }
}
