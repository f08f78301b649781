//! Rows as RFC 4180 text with a header. NULL is an empty field, an empty string is `""`; lists, structs and maps are JSON, in which a
//! NULL, an empty text and a text with commas differ, too.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::json;
use crate::printable::printable;

/// The header's line.
pub(crate) fn head(schema: &Schema) -> String {
    let names: Vec<String> = schema.fields().iter().map(|name| field(name.name())).collect();
    format!("{}\n", names.join(","))
}

/// The lines of a batch.
pub(crate) fn lines(batch: &RecordBatch) -> Result<String, ArrowError> {
    let batch = &printable(batch)?;
    let options = FormatOptions::new();
    let formats: Result<Vec<_>, _> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect();
    let formats = formats?;
    // An untyped NULL has no bitmap that says so.
    let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
    // What JSON has no form for, such as a map with numbers as keys, is written as it is shown.
    let as_json = |column: &ArrayRef| json::is_nested(column.data_type()).then(|| json::values(column).ok()).flatten();
    let nested: Vec<_> = batch.columns().iter().map(as_json).collect();
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (at, format) in formats.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            if nulls[at].as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                match &nested[at] {
                    Some(values) => text.push_str(&field(&values[row])),
                    None => text.push_str(&field(&format.value(row).to_string())),
                }
            }
        }
        text.push('\n');
    }
    Ok(text)
}

/// Quotes a field where it must be; an empty string is quoted so that it differs from NULL.
fn field(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListBuilder, StringBuilder, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn a_null_in_a_list_is_not_an_empty_text() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a, b"), None, Some("")]);
        lists.append_null();
        lists.append_value(Vec::<Option<&str>>::new());
        let batch = RecordBatch::try_from_iter([("l", Arc::new(lists.finish()) as Arc<dyn Array>)]).unwrap();
        assert_eq!(lines(&batch).unwrap(), "\"[\"\"a, b\"\",null,\"\"\"\"]\"\n\n[]\n");
    }

    #[test]
    fn times_that_no_formatter_knows_are_texts() {
        let times = TimestampMicrosecondArray::from(vec![i64::MIN, 0]).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter([("t", Arc::new(times) as Arc<dyn Array>)]).unwrap();
        assert_eq!(lines(&batch).unwrap(), "-290308-12-21T19:59:05.224192Z\n1970-01-01T00:00:00Z\n");
    }
}
