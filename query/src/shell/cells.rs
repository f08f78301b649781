//! Values of a batch as a person reads them.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use watershed_message::visible;

use super::output::{OutputError, failed};
use super::table::{Cell, Column, Style};
use crate::printable::printable;

/// Characters of a value that is shown on a terminal, which is narrower: of a longer one its beginning and its end are enough to cut it.
const CELL_CHARS_MAX: usize = 4_000;

/// The first and the last characters of a text that is longer than a terminal is wide.
fn without_middle(text: String) -> String {
    if text.len() <= 2 * CELL_CHARS_MAX {
        return text;
    }
    let mut places = text.char_indices().map(|(at, _)| at);
    match (places.nth(CELL_CHARS_MAX), places.nth_back(CELL_CHARS_MAX)) {
        (Some(first), Some(last)) => format!("{}…{}", &text[..first], &text[last..]),
        _ => text,
    }
}

fn formatters<'a>(batch: &'a RecordBatch, options: &FormatOptions<'a>) -> Result<Vec<ArrayFormatter<'a>>, OutputError> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), options).map_err(failed)).collect()
}

/// Headings of a result.
pub(super) fn columns(schema: &SchemaRef) -> Vec<Column> {
    let describe = |field: &arrow::datatypes::FieldRef| Column {
        name: visible(field.name()),
        number: field.data_type().is_numeric(),
        whole: field.data_type().is_temporal() || *field.data_type() == DataType::Boolean,
    };
    schema.fields().iter().map(describe).collect()
}

/// Values of a batch as a person reads them; long ones without their middle where a terminal would cut them anyway.
pub(super) fn cells(batch: &RecordBatch, style: &Style) -> Result<Vec<Vec<Cell>>, OutputError> {
    let batch = &printable(batch).map_err(failed)?;
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let formats = formatters(batch, &options)?;
    let cell = |row: usize, at: usize| {
        if batch.column(at).is_null(row) {
            return Cell::Null;
        }
        let text = formats[at].value(row).to_string();
        Cell::Text(visible(&if style.width.is_some() { without_middle(text) } else { text }))
    };
    Ok((0..batch.num_rows()).map(|row| (0..formats.len()).map(|at| cell(row, at)).collect()).collect())
}
