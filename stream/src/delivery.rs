//! Sends the rows of a decided epoch to the sinks that wait for it.
//!
//! The rows are read back from the files that the epoch record names, so that after a crash they are found again, in the same places and
//! hence with the same ids. Record *n+1* is written only once the rows of epoch *n* are acknowledged; so a restart can owe nothing but those
//! of the newest epoch, and sends them again unless a note says that they have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use watershed_lake::{StagedFile, StagedRows, Table, Warehouse};

use crate::StreamError;
use crate::epoch::{EpochRecord, ShardId};
use crate::hidden::{self, SourceNames};
use crate::outlet::Outlet;
use crate::tables;

/// How much of a table's Delta id is in the ids of its rows: enough to tell a table made again from the one before.
const LIFE_CHARS: usize = 8;

/// Rows acknowledged, by sink.
pub type Delivered = BTreeMap<String, u64>;

/// Sends the rows that the epoch of `record` added to `table` (whose rows have the columns `schema`) and waits until they are acknowledged.
/// Gives the outlets back.
pub async fn deliver(
    record: &EpochRecord,
    table: &Table,
    schema: &SchemaRef,
    mut outlets: Vec<Outlet>,
) -> Result<(Vec<Outlet>, Delivered), StreamError> {
    let files: Vec<StagedFile> = record.tables.iter().find(|t| t.table == *table.name()).map(|t| t.files.clone()).unwrap_or_default();
    if outlets.is_empty() || files.is_empty() {
        return Ok((outlets, Delivered::new()));
    }
    let life: String = table.id().chars().take(LIFE_CHARS).collect();
    let origin = SourceNames::new([format!("{}/{life}/{}", table.name(), record.epoch)]);
    let schema = &tables::nullable(schema);
    for (number, file) in files.iter().enumerate() {
        let rows = table.staged_rows(file).await?;
        let (origin, schema) = (origin.clone(), schema.clone());
        outlets = blocking(record, move || {
            send_file(rows, &schema, number as i32, &origin, &mut outlets)?;
            Ok(outlets)
        })
        .await?;
    }
    watershed_lake::step("sink_rows_sent");
    let settled = blocking(record, move || {
        let mut delivered = Delivered::new();
        for outlet in &mut outlets {
            // Nothing stops this wait but its own timeout: rows of a decided epoch are owed.
            let rows = outlet.settle(|| false)?.unwrap_or_default();
            delivered.insert(outlet.name().to_string(), rows);
            // As for those that the query fails on.
            for unsent in outlet.take_unsent(&origin) {
                tracing::error!(origin = origin.get(0), "{}", unsent.reason);
            }
        }
        Ok((outlets, delivered))
    })
    .await?;
    watershed_lake::step("sink_rows_acknowledged");
    Ok(settled)
}

async fn blocking<T: Send + 'static>(
    record: &EpochRecord,
    body: impl FnOnce() -> Result<T, StreamError> + Send + 'static,
) -> Result<T, StreamError> {
    let pipeline = record.pipeline.to_string();
    tokio::task::spawn_blocking(body).await.map_err(|e| StreamError::TaskDied { pipeline, what: e.to_string() })?
}

fn send_file(rows: StagedRows, schema: &SchemaRef, file: i32, origin: &SourceNames, outlets: &mut [Outlet]) -> Result<(), StreamError> {
    let with_place = hidden::with_hidden(schema);
    let mut first = 0;
    for batch in rows {
        let batch = as_emitted(&batch?, schema)?;
        let behind = first + batch.num_rows() as i64;
        let places: ArrayRef = Arc::new(Int64Array::from_iter_values(first..behind));
        let no_watermarks = Int64Array::from_value(i64::MIN, batch.num_rows());
        let batch = hidden::attach(batch, with_place.clone(), file, places, no_watermarks)?;
        first = behind;
        for outlet in outlets.iter_mut() {
            // Their epoch is decided: they are in the table, and no quarantine takes them any more.
            for refused in outlet.send(batch.clone(), origin)? {
                tracing::error!(origin = origin.get(0), "{}; correct the sink's query with TRY_CAST or NULLIF", refused.reason);
            }
        }
    }
    Ok(())
}

/// Rows of a table as the pipeline emitted them: Delta calls the elements of lists by another name, and the table may have got columns that another
/// definition writes.
fn as_emitted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, StreamError> {
    let column = |field: &FieldRef| {
        let column = rows.column(rows.schema_ref().index_of(field.name())?);
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { arrow::compute::cast(column, field.data_type()) }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Says that the rows of an epoch have arrived. Only spares messages: without it they are sent again, with the same ids.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    epoch: u64,
    rows: Delivered,
}

fn note_path(shard: &ShardId) -> Path {
    Path::from(format!("{}/delivered.json", shard.folder()))
}

/// Notes that the rows of `epoch` have arrived. Failing to is no error.
pub async fn note(warehouse: &Warehouse, shard: &ShardId, epoch: u64, rows: &Delivered) {
    let note = serde_json::to_vec(&Note { epoch, rows: rows.clone() }).unwrap_or_default();
    if let Err(error) = warehouse.put_own(&note_path(shard), note.into()).await {
        tracing::debug!(%error, "not noted that an epoch's rows have arrived");
    }
}

/// What a note says of `epoch`; `None` if its rows may not have arrived.
pub async fn noted(warehouse: &Warehouse, shard: &ShardId, epoch: u64) -> Option<Delivered> {
    let note: Note = serde_json::from_slice(&warehouse.read(&note_path(shard)).await.ok()??).ok()?;
    (note.epoch == epoch).then_some(note.rows)
}

/// A record whose sinks count the rows of its own epoch, too, as far as it is noted that these have arrived: the record was written before.
pub async fn with_noted(warehouse: &Warehouse, mut record: EpochRecord) -> EpochRecord {
    if record.sinks.iter().all(|sink| sink.at_once) {
        return record;
    }
    let shard = ShardId { pipeline: record.pipeline.clone(), shard: record.shard };
    let rows = noted(warehouse, &shard, record.epoch).await.unwrap_or_default();
    for sink in &mut record.sinks {
        sink.rows += rows.get(&sink.name).copied().unwrap_or_default();
    }
    record
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::StringArray;

    use super::*;
    use watershed_lake::TableName;

    use crate::epoch::{Counters, SinkEpoch, TableEpoch, VERSION};
    use crate::holder::Identity;
    use crate::outlet::tests::{Recorders, blueprint};
    use crate::writer::Target;

    /// Of epoch 7.
    fn record(pipeline: TableName) -> EpochRecord {
        EpochRecord {
            version: VERSION,
            pipeline,
            shard: 0,
            epoch: 7,
            writer: Identity::of_this_process(),
            definition: String::new(),
            written_ms: 0,
            sources: BTreeMap::new(),
            keyed_tasks: 1,
            state: BTreeMap::new(),
            state_files: BTreeMap::new(),
            tables: Vec::new(),
            counters: Counters::default(),
            constraints: Vec::new(),
            sinks: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_decided_epochs_rows_are_sent_again_under_the_same_ids() {
        let definitions = "CREATE STREAMING TABLE gold.cities PARTITIONED BY (city) AS SELECT id, city, fare FROM rides;
                           CREATE SINK out TO KAFKA (topic = 't') AS SELECT city, fare FROM STREAM(gold.cities) WHERE fare > 1;";
        let blueprint = blueprint(definitions).await;
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let shard = ShardId { pipeline: tables::main_name(&blueprint).unwrap(), shard: 0 };
        let tables = tables::open(&warehouse, &blueprint, &shard, None).await.unwrap();
        let main = &tables[&Target::Main];
        let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("Lima"), None, Some("Lima"), Some("Lagos")]));
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
        let fares: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("city", cities, true), ("fare", fares, true)]).unwrap();
        let mut writer = main.writer("test");
        writer.write(rows).await.unwrap();
        let files = writer.finish().await.unwrap();
        let tables = vec![TableEpoch { table: main.name().clone(), table_id: main.id().into(), previous_epoch: None, files }];
        let record = EpochRecord { tables, ..record(main.name().clone()) };
        let recorders = Recorders::default();
        let outlets = vec![Outlet::open(&blueprint.sinks[0], &recorders).unwrap()];
        let (outlets, delivered) = deliver(&record, main, &blueprint.schema, outlets).await.unwrap();
        assert_eq!(delivered, Delivered::from([("out".to_string(), 3)]));
        let first = std::mem::take(&mut *recorders.0.sent.lock().unwrap());
        let mut values: Vec<&str> = first.iter().map(|(_, row)| row.as_str()).collect();
        values.sort_unstable();
        assert_eq!(values, ["Lagos|4", "Lima|3", "|2"]);
        let begin = format!("gold.cities/{}/7/", &main.id()[..8]);
        assert!(first.iter().all(|(id, _)| id.starts_with(&begin)), "{first:?}");

        deliver(&record, main, &blueprint.schema, outlets).await.unwrap();
        assert_eq!(*recorders.0.sent.lock().unwrap(), first);
    }

    #[tokio::test]
    async fn rows_of_the_newest_epoch_count_once_they_are_noted() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let shard = ShardId { pipeline: "gold.cities".parse().unwrap(), shard: 0 };
        let sink = |name: &str, at_once| SinkEpoch { name: name.into(), topic: "t".into(), at_once, rows: 4 };
        let record = EpochRecord { sinks: vec![sink("out", false), sink("other", false)], ..record(shard.pipeline.clone()) };
        let rows = async |record: &EpochRecord| {
            with_noted(&warehouse, record.clone()).await.sinks.iter().map(|sink| sink.rows).collect::<Vec<_>>()
        };
        assert_eq!(rows(&record).await, [4, 4]);
        note(&warehouse, &shard, 7, &Delivered::from([("out".to_string(), 3)])).await;
        assert_eq!(rows(&record).await, [7, 4]);
        let next = EpochRecord { epoch: 8, ..record };
        assert_eq!(rows(&next).await, [4, 4], "the record of a later epoch has counted them");
    }

    #[tokio::test]
    async fn a_note_speaks_of_one_epoch_only() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let shard = ShardId { pipeline: "gold.cities".parse().unwrap(), shard: 0 };
        let rows = Delivered::from([("out".to_string(), 3)]);
        assert_eq!(noted(&warehouse, &shard, 7).await, None);
        note(&warehouse, &shard, 7, &rows).await;
        assert_eq!(noted(&warehouse, &shard, 7).await, Some(rows));
        assert_eq!(noted(&warehouse, &shard, 8).await, None);
    }

    /// Warehouses hold this: a later version must read it.
    #[tokio::test]
    async fn notes_are_written_as_ever() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let shard = ShardId { pipeline: "gold.x".parse().unwrap(), shard: 0 };
        let rows: Delivered = [("a".to_owned(), 1), ("b".to_owned(), 20)].into();
        note(&warehouse, &shard, 7, &rows).await;
        let path = Path::from("_watershed/pipelines/gold.x/0/delivered.json");
        let bytes = warehouse.read(&path).await.unwrap().expect("a note");
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), r#"{"epoch":7,"rows":{"a":1,"b":20}}"#);
        assert_eq!(noted(&warehouse, &shard, 7).await, Some(rows));
        assert_eq!(noted(&warehouse, &shard, 8).await, None);
    }
}
