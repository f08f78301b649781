//! A sink at work: its query over the rows of its table, an id for each row, and the wait until Kafka has them.
//!
//! The id is a function of where the row came from, never of when it was sent: a row that is sent again after a crash carries the same one.
//!
//! | rows | leave | id |
//! |---|---|---|
//! | each made of one message | at once | `<source>/<partition>/<offset>` |
//! | made of several (windows, deduplication) | once their epoch is decided | `<table>/<its life>/<epoch>/<file>/<row>` |

use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, Int32Array, Int64Array};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use watershed_ingest::{IngestError, OpenSink, SinkWrite, Unsent};

use crate::StreamError;
use crate::fault::Refused;
use crate::hidden::{self, SourceNames};
use crate::limits::SINK_ACKNOWLEDGE_TIMEOUT;
use crate::operator::{Chain, Output};
use crate::sink_plan::SinkBlueprint;

/// How long an outlet waits for acknowledgements before it looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// A sink that is connected.
pub struct Outlet {
    name: String,
    topic: String,
    schema: SchemaRef,
    id: Option<usize>,
    chain: Chain,
    write: Box<dyn SinkWrite>,
    /// Rows handed over since [`Outlet::settle`] last said how many.
    unsettled: u64,
    /// Rows that the sink will never take.
    unsent: Vec<Unsent>,
}

impl Outlet {
    /// Connects. Blocks up to ten seconds for a broker.
    pub fn open(blueprint: &SinkBlueprint, sinks: &dyn OpenSink) -> Result<Self, StreamError> {
        let definition = &blueprint.definition;
        let (name, topic) = (definition.name.clone(), definition.topic.clone());
        let write = sinks.open(definition, &blueprint.schema).map_err(|reason| failure(&name, &topic, reason))?;
        Ok(Self {
            name,
            topic,
            schema: blueprint.schema.clone(),
            id: blueprint.id,
            chain: blueprint.chain().setting_aside(),
            write,
            unsettled: 0,
            unsent: Vec::new(),
        })
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends rows of the table, which end in hidden columns. Ids begin with one of `origins`. A full queue makes it wait. Gives the rows that the
    /// sink's query fails on, which are not sent.
    pub fn send(&mut self, rows: RecordBatch, origins: &SourceNames) -> Result<Vec<Refused>, StreamError> {
        let mut out = Output::default();
        self.chain.process(rows, &mut out)?;
        for rows in out.rows {
            let ids = self.ids(&rows, origins)?;
            let visible: Vec<usize> = (0..self.schema.fields().len()).collect();
            let sent = self.write.send(&rows.project(&visible)?, &ids);
            sent.map_err(|reason| failure(&self.name, &self.topic, reason))?;
            self.unsettled += ids.len() as u64;
        }
        for refused in &mut out.refused {
            refused.reason.insert_str(0, &format!("not sent to sink '{}': ", self.name));
        }
        Ok(out.refused)
    }

    fn ids(&self, rows: &RecordBatch, origins: &SourceNames) -> Result<Vec<String>, StreamError> {
        let place = hidden::hidden_columns(rows);
        let partitions: &Int32Array = place[0].as_primitive::<Int32Type>();
        let offsets: &Int64Array = place[1].as_primitive::<Int64Type>();
        let own = self.id.map(|column| rows.column(column));
        let text = own.map(|column| ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())).transpose()?;
        let of = |row: usize| match (own, &text) {
            (Some(column), Some(text)) if column.is_valid(row) => Ok(text.value(row).try_to_string()?),
            // A row without an id of its own has that of its place.
            _ => Ok(origins.id(partitions.value(row), offsets.value(row))),
        };
        (0..rows.num_rows()).map(of).collect()
    }

    /// Waits until everything sent is acknowledged, and says how many rows that were since the last time. `None` if `stopped` came first.
    pub fn settle(&mut self, stopped: impl Fn() -> bool) -> Result<Option<u64>, StreamError> {
        let started = Instant::now();
        while !self.write.flush(STOP_CHECK).map_err(|reason| failure(&self.name, &self.topic, reason))? {
            if stopped() {
                return Ok(None);
            }
            if started.elapsed() > SINK_ACKNOWLEDGE_TIMEOUT {
                let waited_ms = started.elapsed().as_millis() as u64;
                return Err(failure(&self.name, &self.topic, IngestError::QueueFull { waited_ms, queued: self.unsettled }));
            }
        }
        let unsent = self.write.refused();
        let delivered = std::mem::take(&mut self.unsettled).saturating_sub(unsent.len() as u64);
        self.unsent.extend(unsent);
        Ok(Some(delivered))
    }

    /// The rows that the sink will never take, such as one that is larger than its topic allows, as far as known once they were waited for.
    /// `origins` are what their ids begin with.
    pub fn take_unsent(&mut self, origins: &SourceNames) -> Vec<Refused> {
        let of = |Unsent { id, reason }: Unsent| Refused {
            // An id of the sink's own says nothing of a place.
            place: if self.id.is_none() { origins.place_of(&id) } else { None },
            reason: format!("not sent to sink '{}', under the id '{id}': {reason}", self.name),
        };
        std::mem::take(&mut self.unsent).into_iter().map(of).collect()
    }
}

fn failure(sink: &str, topic: &str, reason: IngestError) -> StreamError {
    StreamError::Sink { sink: sink.into(), topic: topic.into(), reason: Box::new(reason) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use arrow::array::{ArrayRef, StringArray};
    use watershed_dialect::SinkDefinition;
    use watershed_ingest::IngestError;

    use super::*;
    use crate::plan::Blueprint;
    use crate::project::Project;
    use crate::spec::explain::Holds;

    /// Keeps what it is given; says what a test tells it to say.
    #[derive(Debug, Default)]
    pub(crate) struct Recorder {
        /// Ids and messages, in order.
        pub(crate) sent: Mutex<Vec<(String, String)>>,
        /// What the next flushes say: acknowledged, not yet, or failed. Acknowledged once it is empty.
        pub(crate) flushes: Mutex<Vec<Result<bool, IngestError>>>,
        /// What is never taken.
        pub(crate) refused: Mutex<Vec<Unsent>>,
    }

    #[derive(Debug, Default, Clone)]
    pub(crate) struct Recorders(pub(crate) Arc<Recorder>);

    impl OpenSink for Recorders {
        fn open(&self, _: &SinkDefinition, _: &SchemaRef) -> Result<Box<dyn SinkWrite>, IngestError> {
            Ok(Box::new(self.clone()))
        }
    }

    impl SinkWrite for Recorders {
        fn send(&mut self, rows: &RecordBatch, ids: &[String]) -> Result<(), IngestError> {
            let mut sent = self.0.sent.lock().unwrap();
            let columns: Vec<_> =
                rows.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &FormatOptions::default()).unwrap()).collect();
            for (row, id) in ids.iter().enumerate() {
                sent.push((id.clone(), columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")));
            }
            Ok(())
        }

        fn flush(&mut self, _: Duration) -> Result<bool, IngestError> {
            self.0.flushes.lock().unwrap().pop().unwrap_or(Ok(true))
        }

        fn refused(&mut self) -> Vec<Unsent> {
            std::mem::take(&mut *self.0.refused.lock().unwrap())
        }
    }

    /// The blueprint of the only table of a project, with its sinks.
    pub(crate) async fn blueprint(definitions: &str) -> Blueprint {
        let source = "CREATE SOURCE rides (id VARCHAR, city VARCHAR, fare BIGINT) WITH (connector = 'kafka', topic = 'rides');";
        let project = Project::parse([format!("{source}{definitions}").as_str()]).unwrap();
        let blueprints: BTreeMap<_, _> = project.plan_all().await.unwrap();
        blueprints.into_values().next().unwrap()
    }

    fn rides() -> RecordBatch {
        let text = |values: [Option<&str>; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("id", text([Some("a"), None, Some("c")]), true),
            ("city", text([Some("Lima"), Some("Lagos"), Some("Lima")]), true),
            ("fare", Arc::new(Int64Array::from(vec![5, 6, 7])) as ArrayRef, true),
        ]);
        let rows = rows.unwrap();
        let schema = hidden::with_hidden(&rows.schema());
        let offsets: ArrayRef = Arc::new(Int64Array::from(vec![10, 11, 12]));
        hidden::attach(rows, schema, 2, offsets, Int64Array::from(vec![0, 0, 0])).unwrap()
    }

    fn origin() -> SourceNames {
        SourceNames::new(["rides".to_owned()])
    }

    const TABLE: &str = "CREATE STREAMING TABLE silver.rides AS SELECT * FROM rides;";

    #[tokio::test]
    async fn ids_are_places_or_the_sinks_own_and_where_leaves_rows_out() {
        let sinks = "CREATE SINK a TO KAFKA (topic = 't') AS SELECT upper(city) AS city FROM STREAM(silver.rides) WHERE fare <> 6;
                     CREATE SINK b TO KAFKA (topic = 't', id = 'id') AS SELECT r.id, r.fare FROM STREAM(silver.rides) AS r;";
        let blueprint = blueprint(&format!("{TABLE}{sinks}")).await;
        assert!(blueprint.at_once);
        let recorders = Recorders::default();
        for sink in &blueprint.sinks {
            let mut outlet = Outlet::open(sink, &recorders).unwrap();
            outlet.send(rides(), &origin()).unwrap();
            let rows = if outlet.name() == "a" { 2 } else { 3 };
            assert_eq!(outlet.settle(|| false).unwrap(), Some(rows));
            assert_eq!(outlet.settle(|| false).unwrap(), Some(0), "rows are counted once");
        }
        let sent = recorders.0.sent.lock().unwrap();
        let expected = [("rides/2/10", "LIMA"), ("rides/2/12", "LIMA"), ("a", "a|5"), ("rides/2/11", "|6"), ("c", "c|7")]
            .map(|(id, row)| (id.into(), row.into()));
        assert_eq!(*sent, expected);
    }

    #[tokio::test]
    async fn it_waits_for_acknowledgements_unless_it_is_stopped_and_failures_may_pass() {
        let blueprint = blueprint(&format!("{TABLE}CREATE SINK a TO KAFKA (topic = 't') AS SELECT id FROM STREAM(silver.rides);")).await;
        let recorders = Recorders::default();
        let mut outlet = Outlet::open(&blueprint.sinks[0], &recorders).unwrap();
        outlet.send(rides(), &origin()).unwrap();
        *recorders.0.flushes.lock().unwrap() = vec![Ok(true), Ok(false), Ok(false)];
        assert_eq!(outlet.settle(|| false).unwrap(), Some(3));
        *recorders.0.flushes.lock().unwrap() = vec![Ok(false), Ok(false), Ok(false)];
        assert_eq!(outlet.settle(|| true).unwrap(), None);
        *recorders.0.flushes.lock().unwrap() = vec![Err(IngestError::Delivery { failed: 2, reason: "timed out".into() })];
        let error = outlet.settle(|| false).unwrap_err();
        assert!(error.may_pass() && error.to_string().starts_with("sink 'a' cannot send to topic 't': 2 records"), "{error}");
    }

    #[tokio::test]
    async fn rows_that_are_never_taken_are_told_with_their_place() {
        let sinks = "CREATE SINK a TO KAFKA (topic = 't') AS SELECT id FROM STREAM(silver.rides);
                     CREATE SINK b TO KAFKA (topic = 't', id = 'id') AS SELECT id FROM STREAM(silver.rides);";
        let blueprint = blueprint(&format!("{TABLE}{sinks}")).await;
        for (sink, id, place) in [(0, "rides/2/11", Some((2, 11))), (1, "c", None)] {
            let recorders = Recorders::default();
            let mut outlet = Outlet::open(&blueprint.sinks[sink], &recorders).unwrap();
            outlet.send(rides(), &origin()).unwrap();
            recorders.0.refused.lock().unwrap().push(Unsent { id: id.into(), reason: "it is too large".into() });
            assert_eq!(outlet.settle(|| false).unwrap(), Some(2), "two of three have arrived");
            let unsent = outlet.take_unsent(&origin());
            assert_eq!((unsent.len(), unsent[0].place), (1, place));
            assert_eq!(unsent[0].reason, format!("not sent to sink '{}', under the id '{id}': it is too large", outlet.name()));
            assert!(outlet.take_unsent(&origin()).is_empty());
        }
        let gone = failure("a", "t", IngestError::Undeliverable { record: "rides/2/11".into(), reason: "invalid".into() });
        assert!(!gone.may_pass() && gone.to_string().contains("the record with the id 'rides/2/11'"), "{gone}");
    }

    #[tokio::test]
    async fn the_same_state_fits_with_sinks_and_constraints_and_without() {
        let plain = blueprint(TABLE).await;
        let constrained = TABLE.replace(" AS", " (CONSTRAINT c EXPECT (fare > 0) ON VIOLATION FAIL) AS");
        let more = blueprint(&format!("{constrained}CREATE SINK a TO KAFKA (topic = 't') AS SELECT id FROM STREAM(silver.rides);")).await;
        assert_eq!(plain.fingerprint(), more.fingerprint());
        let said = more.explain(&Holds::default());
        assert!(said.contains("c (fare > 0) FAIL") && said.contains("a to topic t, rows leave at once"), "{said}");
        assert_eq!(more.chain(0, 0).unwrap().schema(), hidden::with_hidden(&more.schema));
    }
}
