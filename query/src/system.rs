//! Tables of the schema `system`: not stored, computed again whenever a statement names them.

use std::fmt::Debug;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use watershed_message::Message;

/// One table of the schema `system`. The binary hands them to a session, since it alone knows the pipelines.
#[async_trait]
pub trait SystemTable: Debug + Send + Sync {
    /// The part after `system.`.
    fn name(&self) -> &str;
    /// Columns, always the same.
    fn schema(&self) -> SchemaRef;
    /// The columns that `SHOW <name>` lists, as SQL; the table may have more.
    fn shown(&self) -> &str {
        "*"
    }
    /// The rows as of now; an error is shown to the person who asked.
    async fn rows(&self) -> Result<RecordBatch, Message>;
}
