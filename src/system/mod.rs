//! The schema `system`: what the warehouse knows of pipelines and jobs, as tables. Each is read when it is asked for; `SHOW` lists some.
//!
//! | table | file |
//! |---|---|
//! | `system.pipelines` | `pipelines.rs` |
//! | `system.epochs` | `epochs.rs` |
//! | `system.plans` | `plans.rs` |
//! | `system.quality` | `quality.rs` |
//! | `system.sinks` | `sinks.rs` |
//! | `system.jobs`, `system.job_runs` | `jobs.rs` |
//! | `system.column_lineage` | `lineage.rs` |
//!
//! What their columns are made of: `columns.rs`.

mod columns;
mod epochs;
pub mod jobs;
mod lineage;
pub mod pipelines;
mod plans;
mod quality;
mod sinks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use watershed_lake::Warehouse;
use watershed_query::SystemTable;

/// All of them, over `warehouse`.
pub fn tables(warehouse: &Warehouse) -> Vec<Arc<dyn SystemTable>> {
    vec![
        Arc::new(pipelines::Pipelines::new(warehouse.clone())),
        Arc::new(epochs::Epochs::new(warehouse.clone())),
        Arc::new(plans::Plans::new(warehouse.clone())),
        Arc::new(quality::Quality::new(warehouse.clone())),
        Arc::new(sinks::Sinks::new(warehouse.clone())),
        Arc::new(jobs::Jobs::new(warehouse.clone())),
        Arc::new(jobs::JobRuns::new(warehouse.clone())),
        Arc::new(lineage::ColumnLineage::new(warehouse.clone())),
    ]
}
