//! Where the sources of a pipeline go on: after its newest record, at their `start` before the first, after a gap if they say so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use watershed_dialect::{OnGap, SourceDefinition};
use watershed_ingest::PartitionRange;

use crate::StreamError;
use crate::epoch::{EpochRecord, SourceEpoch};
use crate::idle::{self, AtEnd};
use crate::same_source::Origin;
use crate::shard::ShardSpec;

/// Where the partitions of a source go on.
#[derive(Clone)]
pub struct Positions {
    /// The next offset to be read of each.
    pub offsets: BTreeMap<i32, i64>,
    /// Which are at their end, and since when.
    pub at_end: AtEnd,
}

impl Positions {
    /// Of partitions that were found to be `ranges`. One that has had no row yet, and of which the newest record says that it was read to its end,
    /// has been there since then: else a pipeline that never runs for long would wait for its first row for ever. No more than `idle_timeout` of
    /// it counts. Those with rows count from now, since a clock that jumps between two runs must not make their rows late; that they were there
    /// before is another matter ([`crate::idle`]).
    pub fn new(offsets: BTreeMap<i32, i64>, ranges: &[PartitionRange], record: Option<&SourceEpoch>, idle_timeout: Duration) -> Self {
        let now = Instant::now();
        let mut at_end = AtEnd::default();
        for range in ranges.iter().filter(|range| offsets.get(&range.partition).is_some_and(|&offset| offset >= range.high)) {
            let partition = range.partition;
            let record = record.filter(|record| record.offsets.get(&partition) == offsets.get(&partition));
            let is_empty = record.filter(|record| !record.newest_us.contains_key(&partition));
            let known = is_empty.and_then(|record| idle::since(*record.caught_up_ms.get(&partition)?, idle_timeout));
            at_end.caught_up.insert(partition, known.unwrap_or(now));
            if let Some(quiet) = record.and_then(|record| record.quiet.get(&partition)?.in_run(idle_timeout)) {
                at_end.quiet.insert(partition, quiet);
            }
        }
        Self { offsets, at_end }
    }
}

/// Where one source goes on.
pub struct Resumed {
    /// The next offset to be read of each of its partitions.
    pub offsets: BTreeMap<i32, i64>,
    /// Records that were deleted before they were read, and are passed over.
    pub lost: u64,
}

/// Where each source of a shard goes on, which were found to be `origins`, in the order of its plan.
pub async fn resume(spec: &ShardSpec, record: Option<&EpochRecord>, origins: &[Origin]) -> Result<Vec<Resumed>, StreamError> {
    let mut all = Vec::with_capacity(origins.len());
    for (source, Origin { ranges, .. }) in spec.blueprint.sources.iter().zip(origins) {
        let source = &source.definition;
        let mut offsets = match record.and_then(|record| record.source(&source.name)) {
            None => first_offsets(spec, source, ranges).await?,
            Some(known) => {
                // A partition that no record names was added later and starts at its oldest record; the next epoch record says so.
                let mut offsets: BTreeMap<i32, i64> = ranges.iter().map(|r| (r.partition, r.low)).collect();
                offsets.extend(known.offsets.clone());
                offsets
            }
        };
        let lost = skip_gaps(spec, source, ranges, &mut offsets);
        all.push(Resumed { offsets, lost });
    }
    Ok(all)
}

/// Where a source begins without any record. The record that is written next says so: another start goes on from there, whatever `start` is then.
async fn first_offsets(spec: &ShardSpec, source: &SourceDefinition, ranges: &[PartitionRange]) -> Result<BTreeMap<i32, i64>, StreamError> {
    let (source, sources, ranges) = (source.clone(), spec.sources.clone(), ranges.to_vec());
    let found = tokio::task::spawn_blocking(move || sources.starts(&source, &ranges)).await;
    Ok(found.map_err(|e| StreamError::TaskDied { pipeline: spec.id.pipeline.to_string(), what: e.to_string() })??)
}

/// Goes on after records that are no longer there, if the source says so. Gives how many they were.
fn skip_gaps(spec: &ShardSpec, source: &SourceDefinition, ranges: &[PartitionRange], offsets: &mut BTreeMap<i32, i64>) -> u64 {
    if source.on_gap != OnGap::Skip {
        return 0;
    }
    let mut lost = 0;
    for range in ranges {
        let Some(offset) = offsets.get_mut(&range.partition).filter(|offset| **offset < range.low) else { continue };
        let (pipeline, source, partition, from, to) = (&spec.id.pipeline, &source.name, range.partition, *offset, range.low);
        tracing::warn!(%pipeline, source, partition, from, to, "records were deleted before they were read: going on behind them");
        lost += (range.low - *offset) as u64;
        *offset = range.low;
    }
    lost
}
