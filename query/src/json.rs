//! What JSON cannot say of a result, and values of nested types as JSON in other formats.

use std::collections::HashSet;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};

/// The name that two columns have: a JSON object holds a name once.
pub(crate) fn name_twice(schema: &Schema) -> Option<&str> {
    let mut names = HashSet::new();
    schema.fields().iter().map(|field| field.name().as_str()).find(|name| !names.insert(*name))
}

/// True for lists, structs and maps.
pub(crate) fn is_nested(kind: &DataType) -> bool {
    kind.is_nested() && !matches!(kind, DataType::Union(..) | DataType::Dictionary(..))
}

/// Each value of a column as JSON.
pub(crate) fn values(column: &ArrayRef) -> Result<Vec<String>, ArrowError> {
    const OPENING: &str = "{\"v\":";
    let batch = RecordBatch::try_from_iter_with_nullable([("v", column.clone(), true)])?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    // Line breaks within a value are escaped, so each line is one object of one member.
    let value = |line: &str| line.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix('}')).unwrap_or(line).to_owned();
    Ok(lines.lines().map(value).collect())
}
