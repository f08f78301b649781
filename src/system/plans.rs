//! `system.plans`: how each streaming table is computed, and what its state holds: what `EXPLAIN STREAMING TABLE` shows.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use watershed_lake::{TableName, Warehouse};
use watershed_message::Message;
use watershed_query::SystemTable;
use watershed_stream::spec::explain::Holds;
use watershed_stream::{Blueprint, Planned, StreamError, newest_epochs};

use super::columns::{maybe, text, texts};
use crate::project;
use crate::report::message_of;

/// The table; plans the applied definitions again each time.
#[derive(Debug)]
pub struct Plans {
    warehouse: Warehouse,
}

impl Plans {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
    }

    async fn batch(&self) -> Result<RecordBatch> {
        let records = newest_epochs(&self.warehouse).await?;
        let Planned { blueprints, refused } = project::applied(&self.warehouse.definitions().await?).plan_each().await;
        let explained = |(name, blueprint): (&TableName, &Blueprint)| {
            let record = records.iter().find(|record| record.pipeline == *name);
            let holds = record.map(Holds::of).unwrap_or_default();
            (name.to_string(), blueprint.explain(&holds), Some(blueprint.fingerprint()))
        };
        let mut rows: Vec<_> = blueprints.iter().map(explained).collect();
        rows.extend(refused.into_iter().map(|(name, error)| (name.to_string(), StreamError::cannot_plan(&name, error).to_string(), None)));
        let columns = vec![
            texts(&rows, |(pipeline, ..)| Some(pipeline.clone())),
            texts(&rows, |(_, plan, _)| Some(plan.clone())),
            texts(&rows, |(.., fingerprint)| fingerprint.clone()),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

#[async_trait::async_trait]
impl SystemTable for Plans {
    fn name(&self) -> &str {
        "plans"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![text("pipeline"), text("plan"), maybe(text("fingerprint"))]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        self.batch().await.map_err(|error| message_of(error.as_ref()))
    }
}
