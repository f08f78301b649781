//! Metrics of upkeep: what became of the small and the replaced files of the tables that are written here.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use watershed_lake::{UpkeepCounts, Warehouse};

/// Of one warehouse.
#[derive(Debug)]
pub(super) struct Upkeep(pub(super) Warehouse);

type Value = fn(&UpkeepCounts) -> u64;

impl Collector for Upkeep {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.0.upkeep_counts();
        let metrics: [(&str, Option<Unit>, &str, Value); 8] = [
            ("lake_compactions", None, "Commits that replaced small files by merged ones", |c| c.compactions),
            ("lake_compacted_files", None, "Small files that were replaced by merged ones", |c| c.compacted_files),
            ("lake_compacted", Some(Unit::Bytes), "Size of the small files that were replaced by merged ones", |c| c.compacted_bytes),
            ("lake_merged_files", None, "Files that took the place of small ones", |c| c.written_files),
            ("lake_merged", Some(Unit::Bytes), "Size of the files that took the place of small ones", |c| c.written_bytes),
            ("lake_compactions_given_up", None, "Merges thrown away because another writer came first", |c| c.given_up),
            ("lake_vacuumed_files", None, "Data files deleted because nobody needs them any more", |c| c.vacuumed_files),
            ("lake_upkeep_failures", None, "Times a table could not be compacted or vacuumed", |c| c.failures),
        ];
        for (name, unit, help, value) in metrics {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, u64, f64>(&value(&counts), None)?;
        }
        Ok(())
    }
}
