//! The newest epochs of all pipelines, in short, for those who ask again and again: a record never changes, so each is read once.
//!
//! State: what was read of the records that were wanted last. A record is known by its place and by when it was written: a table that is dropped
//! and made again counts its epochs from 1 again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use watershed_lake::{TableName, Warehouse};

use crate::StreamError;
use crate::epoch::{self, Counters, EpochRecord};
use crate::pipelines::shards;

/// Records read at once.
const READS_AT_ONCE: usize = 16;

/// Where a record is, and when it was written there, in microseconds since 1970.
type Place = (Path, i64);

/// What an epoch record says, but for files and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochSummary {
    /// The pipeline.
    pub pipeline: TableName,
    /// The epoch's number.
    pub epoch: u64,
    /// When the record was written, in milliseconds since 1970.
    pub written_ms: u64,
    /// [`EpochRecord::watermark_us`].
    pub watermark_us: Option<i64>,
    /// All rows up to this epoch.
    pub counters: Counters,
    /// Files that the epoch adds to its tables.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// [`EpochRecord::state_bytes`].
    pub state_bytes: u64,
    /// Who wrote it.
    pub writer: String,
}

impl EpochSummary {
    fn of(record: &EpochRecord) -> Self {
        let files = || record.tables.iter().flat_map(|table| &table.files);
        Self {
            pipeline: record.pipeline.clone(),
            epoch: record.epoch,
            written_ms: record.written_ms,
            watermark_us: record.watermark_us(),
            counters: record.counters,
            files: files().count() as u64,
            file_bytes: files().map(|file| file.size_bytes).sum(),
            state_bytes: record.state_bytes(),
            writer: record.writer.to_string(),
        }
    }
}

/// The newest epochs of a warehouse's pipelines.
#[derive(Debug)]
pub struct EpochHistory {
    warehouse: Warehouse,
    /// Of each pipeline.
    count: usize,
    known: Mutex<HashMap<Place, EpochSummary>>,
}

impl EpochHistory {
    /// The newest `count` epochs of each pipeline.
    pub fn new(warehouse: Warehouse, count: usize) -> Self {
        Self { warehouse, count, known: Mutex::default() }
    }

    /// By pipeline in name order, each pipeline's oldest first.
    pub async fn newest(&self) -> Result<Vec<EpochSummary>, StreamError> {
        let mut wanted = Vec::new();
        for shard in shards(&self.warehouse).await? {
            let listed: Vec<ObjectMeta> = self.warehouse.store().list(Some(&shard.records())).try_collect().await?;
            let numbered = listed.into_iter().filter_map(|object| Some((epoch::number(&object.location)?, object)));
            let mut numbered: Vec<(u64, ObjectMeta)> = numbered.collect();
            numbered.sort_unstable_by_key(|(number, _)| *number);
            let surplus = numbered.len().saturating_sub(self.count);
            wanted.extend(numbered.into_iter().skip(surplus).map(|(_, object)| (object.location, object.last_modified.timestamp_micros())));
        }
        let read = wanted.into_iter().map(|key| async move {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            let summary = match known {
                Some(summary) => Some(summary),
                None => self.read(&key.0).await?,
            };
            Ok::<_, StreamError>(summary.map(|summary| (key, summary)))
        });
        let found: Vec<Option<_>> = futures::stream::iter(read).buffered(READS_AT_ONCE).try_collect().await?;
        let found: Vec<(Place, EpochSummary)> = found.into_iter().flatten().collect();
        let summaries = found.iter().map(|(_, summary)| summary.clone()).collect();
        // What is not wanted any more is let go.
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found.into_iter().collect();
        Ok(summaries)
    }

    async fn read(&self, path: &Path) -> Result<Option<EpochSummary>, StreamError> {
        match self.warehouse.store().get(path).await {
            Ok(object) => Ok(Some(EpochSummary::of(&EpochRecord::from_bytes(&object.bytes().await?, path)?))),
            // Removed since it was listed, by the pipeline that writes new ones.
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watershed_lake::Patience;
    use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};

    use super::*;

    async fn write(warehouse: &Warehouse, pipeline: &str, epoch: u64, rows_in: u64) {
        write_of_shard(warehouse, pipeline, 0, epoch, rows_in).await;
    }

    async fn write_of_shard(warehouse: &Warehouse, pipeline: &str, shard: u32, epoch: u64, rows_in: u64) {
        let source = crate::epoch::SourceEpoch { offsets: [(0, 7)].into(), watermarks_us: [(0, 5)].into(), ..Default::default() };
        let record = EpochRecord {
            version: crate::epoch::VERSION,
            pipeline: pipeline.parse().unwrap(),
            shard,
            epoch,
            writer: crate::holder::Identity::of_this_process(),
            definition: String::new(),
            written_ms: 1_000 * epoch,
            sources: [("s".to_owned(), source)].into(),
            keyed_tasks: 1,
            state: Default::default(),
            state_files: Default::default(),
            tables: Vec::new(),
            counters: Counters { rows_in, ..Counters::default() },
            constraints: Vec::new(),
            sinks: Vec::new(),
        };
        let shard = crate::epoch::ShardId { pipeline: record.pipeline.clone(), shard };
        warehouse.store().put(&shard.record_path(epoch), record.to_bytes().into()).await.unwrap();
    }

    fn shown(summaries: &[EpochSummary]) -> Vec<(String, u64, u64)> {
        summaries.iter().map(|s| (s.pipeline.to_string(), s.epoch, s.counters.rows_in)).collect()
    }

    /// A vacuum spares what the newest records name: it must know those of all shards.
    #[tokio::test]
    async fn records_of_every_shard_are_found() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        write(&warehouse, "gold.a", 1, 1).await;
        write(&warehouse, "gold.a", 2, 2).await;
        write_of_shard(&warehouse, "gold.a", 1, 5, 3).await;
        write_of_shard(&warehouse, "gold.b", 12, 7, 4).await;
        let newest = crate::pipelines::newest_epochs(&warehouse).await.unwrap();
        let newest: Vec<_> = newest.iter().map(|record| (record.pipeline.to_string(), record.shard, record.epoch)).collect();
        let of = |pipeline: &str, shard, epoch| (pipeline.to_owned(), shard, epoch);
        assert_eq!(newest, [of("gold.a", 0, 2), of("gold.a", 1, 5), of("gold.b", 12, 7)]);
    }

    #[tokio::test]
    async fn each_record_is_read_once_and_only_the_newest_are_kept() {
        let store = FaultStore::new(Arc::new(object_store::memory::InMemory::new()));
        let patience = Patience { attempts: 1, timeout: std::time::Duration::from_secs(9), backoff: std::time::Duration::ZERO };
        let url = Warehouse::open("memory://", &HashMap::new()).await.unwrap().url().clone();
        let warehouse = Warehouse::with_patience(Arc::new(store.clone()), url, patience);
        for epoch in 1..=5 {
            write(&warehouse, "gold.a", epoch, epoch).await;
        }
        write(&warehouse, "gold.b", 1, 10).await;
        let history = EpochHistory::new(warehouse.clone(), 3);
        let row = |name: &str, epoch, rows| (name.to_owned(), epoch, rows);
        let first = [row("gold.a", 3, 3), row("gold.a", 4, 4), row("gold.a", 5, 5), row("gold.b", 1, 10)];
        assert_eq!(shown(&history.newest().await.unwrap()), first);
        // Whoever reads a known record again fails.
        store.plan(Fault::new(Operation::Get, "gold.b", Outcome::FailBefore).times(9));
        store.plan(Fault::new(Operation::Get, "epochs/00000000000000000005", Outcome::FailBefore).times(9));
        write(&warehouse, "gold.a", 6, 6).await;
        assert_eq!(shown(&history.newest().await.unwrap())[..3], [row("gold.a", 4, 4), row("gold.a", 5, 5), row("gold.a", 6, 6)]);
        assert_eq!(store.fired(), 0);
        // Made again: the same number, another record.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        write(&warehouse, "gold.a", 6, 66).await;
        assert_eq!(shown(&history.newest().await.unwrap())[2], row("gold.a", 6, 66));
    }
}
