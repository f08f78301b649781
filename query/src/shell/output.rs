//! Writes the batches of a result as a table, CSV or JSON.
//!
//! CSV and JSON are written batch by batch in constant memory. A table on a terminal shows the first rows and counts the
//! rest; a table written elsewhere has its column widths from the first rows and then streams, too.

use std::io::{self, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{Stream, StreamExt};

use super::table::{self, Cell, Column, Layout, Style};
use crate::{QueryError, csv};

/// Rows that decide the column widths of a table that is not for a terminal.
const LAYOUT_ROWS: usize = 1000;
/// After the shown rows, the rest is counted for so long.
const COUNT_FOR: Duration = Duration::from_secs(2);

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// RFC 4180 with a header; NULL is an empty field, an empty string is `""`.
    Csv,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            other => Err(format!("there is no format '{other}'; use table, csv or json")),
        }
    }
}

/// When to show one line per column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expanded {
    /// Always.
    On,
    /// Never.
    Off,
    /// When a row is wider than the terminal.
    Auto,
}

/// How a result is to look.
#[derive(Debug, Clone)]
pub struct Look {
    /// The format.
    pub format: Format,
    /// One line per column?
    pub expanded: Expanded,
    /// Rows of a table shown at most; 0 for all.
    pub row_limit: usize,
    /// Terminal width, lines and colours of tables.
    pub style: Style,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows of the result, as far as they were counted.
    pub rows: usize,
    /// Rows that were shown.
    pub shown: usize,
    /// False if counting the rest was given up.
    pub counted_all: bool,
}

/// Why writing ended early.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The reader of the output went away: not worth a word.
    #[error("the reader of the output went away")]
    Closed,
    /// The output could not be written.
    #[error("cannot write the result: {0}")]
    Io(io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Io(error) }
    }
}

/// Writes all of `batches`.
pub async fn write<S>(schema: SchemaRef, batches: S, look: &Look, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    let written = match look.format {
        Format::Table if is_explain(&schema) => write_plans(batches, look, out).await,
        Format::Table => write_table(schema, batches, look, out).await,
        Format::Csv => write_csv(schema, batches, out).await,
        Format::Json => write_json(batches, out).await,
    }?;
    out.flush()?;
    Ok(written)
}

async fn write_table<S>(schema: SchemaRef, mut batches: S, look: &Look, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    let columns = columns(&schema);
    let limit = if look.row_limit == 0 { usize::MAX } else { look.row_limit };
    let first_rows = if look.style.width.is_some() { limit } else { limit.min(LAYOUT_ROWS) };
    let mut printer = Printer { columns, look, layout: None, shown: 0 };
    let mut held: Vec<Vec<Cell>> = Vec::new();
    let mut rows = 0;
    while rows < limit {
        let Some(batch) = batches.next().await else { break };
        let batch = batch?;
        let batch_rows = batch.num_rows();
        let wanted = batch.slice(0, batch_rows.min(limit - rows));
        rows += batch_rows;
        held.extend(cells(&wanted)?);
        if held.len() >= first_rows && (look.style.width.is_none() || rows >= limit) {
            printer.print(&held, out)?;
            held.clear();
        }
    }
    if !held.is_empty() || printer.shown == 0 {
        printer.print(&held, out)?;
    }
    out.flush()?;
    let shown = printer.shown;
    let until = Instant::now() + COUNT_FOR;
    let mut counted_all = true;
    if rows >= limit {
        while let Some(batch) = batches.next().await {
            rows += batch?.num_rows();
            if Instant::now() > until {
                counted_all = false;
                break;
            }
        }
    }
    Ok(Written { rows, shown, counted_all })
}

struct Printer<'a> {
    columns: Vec<Column>,
    look: &'a Look,
    /// Set with the first rows; `Some(None)` means one line per column.
    layout: Option<Option<Layout>>,
    shown: usize,
}

impl Printer<'_> {
    fn print(&mut self, rows: &[Vec<Cell>], out: &mut dyn Write) -> io::Result<()> {
        let style = &self.look.style;
        if self.layout.is_none() {
            let layout = match self.look.expanded {
                Expanded::On => None,
                Expanded::Auto => Layout::fit(&self.columns, rows, style),
                Expanded::Off => Some(Layout::nearly(&self.columns, rows, style)),
            };
            if let Some(layout) = &layout {
                out.write_all(layout.head(&self.columns, style).as_bytes())?;
            }
            self.layout = Some(layout);
        }
        let text = match self.layout.as_ref().and_then(Option::as_ref) {
            Some(layout) => layout.rows(&self.columns, rows, style),
            None => table::expanded(&self.columns, rows, self.shown + 1, style),
        };
        self.shown += rows.len();
        out.write_all(text.as_bytes())
    }
}

/// `EXPLAIN` answers with plans of many lines each: shown as they are, under their names.
async fn write_plans<S>(mut batches: S, look: &Look, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let options = FormatOptions::new();
        let format = |at: usize| ArrayFormatter::try_new(batch.column(at), &options).map_err(failed);
        let (kinds, plans) = (format(0)?, format(1)?);
        for row in 0..batch.num_rows() {
            let kind = kinds.value(row).to_string();
            let (bold, plain) = if look.style.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            writeln!(out, "{bold}{kind}{plain}\n{}", plans.value(row).to_string().trim_end())?;
        }
        rows += batch.num_rows();
    }
    Ok(Written { rows, shown: rows, counted_all: true })
}

fn is_explain(schema: &SchemaRef) -> bool {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names == ["plan_type", "plan"]
}

async fn write_csv<S>(schema: SchemaRef, mut batches: S, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    out.write_all(csv::head(&schema).as_bytes())?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        out.write_all(csv::lines(&batch).map_err(failed)?.as_bytes())?;
        rows += batch.num_rows();
        out.flush()?;
    }
    Ok(Written { rows, shown: rows, counted_all: true })
}

async fn write_json<S>(mut batches: S, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map_err(failed)?;
        out.write_all(&writer.into_inner())?;
        out.flush()?;
        rows += batch.num_rows();
    }
    Ok(Written { rows, shown: rows, counted_all: true })
}

fn failed(error: arrow::error::ArrowError) -> OutputError {
    OutputError::Query(QueryError::Failed(error.to_string()))
}

fn formatters<'a>(batch: &'a RecordBatch, options: &FormatOptions<'a>) -> Result<Vec<ArrayFormatter<'a>>, OutputError> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), options).map_err(failed)).collect()
}

/// Headings of a result.
pub fn columns(schema: &SchemaRef) -> Vec<Column> {
    let describe = |field: &arrow::datatypes::FieldRef| Column {
        name: table::visible(field.name()),
        number: field.data_type().is_numeric(),
        whole: field.data_type().is_temporal() || *field.data_type() == DataType::Boolean,
    };
    schema.fields().iter().map(describe).collect()
}

/// Values of a batch as a person reads them.
pub fn cells(batch: &RecordBatch) -> Result<Vec<Vec<Cell>>, OutputError> {
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let formats = formatters(batch, &options)?;
    let cell = |row: usize, at: usize| {
        if batch.column(at).is_null(row) { Cell::Null } else { Cell::Text(table::visible(&formats[at].value(row).to_string())) }
    };
    Ok((0..batch.num_rows()).map(|row| (0..formats.len()).map(|at| cell(row, at)).collect()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int32Type;
    use futures::stream;

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let numbers: Vec<i64> = (from..from + rows).collect();
        let texts: Vec<Option<String>> = numbers.iter().map(|n| if n % 3 == 1 { None } else { Some(format!("a \"{n}\", b")) }).collect();
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(numbers.iter().map(|_| Some(vec![Some(1), None])));
        let times: TimestampMicrosecondArray = numbers.iter().map(|n| Some(n * 1_500_000)).collect();
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(numbers)) as Arc<dyn Array>),
            ("text", Arc::new(StringArray::from(texts)) as _),
            ("list", Arc::new(lists) as _),
            ("at", Arc::new(times.with_timezone("UTC")) as _),
        ])
        .unwrap()
    }

    fn run(batches: Vec<RecordBatch>, look: &Look) -> (String, Written) {
        let schema = batches[0].schema();
        let mut out = Vec::new();
        let written = futures::executor::block_on(write(schema, stream::iter(batches.into_iter().map(Ok)), look, &mut out)).unwrap();
        (String::from_utf8(out).unwrap(), written)
    }

    fn look(format: Format) -> Look {
        Look { format, expanded: Expanded::Auto, row_limit: 0, style: Style { width: None, unicode: false, color: false } }
    }

    #[test]
    fn csv_tells_null_from_empty_and_quotes() {
        let (out, _) = run(vec![batch(0, 2)], &look(Format::Csv));
        assert_eq!(out, "n,text,list,at\n0,\"a \"\"0\"\", b\",\"[1, ]\",1970-01-01T00:00:00Z\n1,,\"[1, ]\",1970-01-01T00:00:01.500Z\n");
    }

    #[test]
    fn json_is_one_object_a_line_with_nulls_and_nesting() {
        let (out, _) = run(vec![batch(0, 1), batch(1, 1)], &look(Format::Json));
        assert_eq!(
            out,
            "{\"n\":0,\"text\":\"a \\\"0\\\", b\",\"list\":[1,null],\"at\":\"1970-01-01T00:00:00Z\"}\n\
             {\"n\":1,\"text\":null,\"list\":[1,null],\"at\":\"1970-01-01T00:00:01.500Z\"}\n"
        );
    }

    #[test]
    fn a_terminal_shows_the_first_rows_and_counts_the_rest() {
        let look = Look { row_limit: 3, style: Style { width: Some(80), unicode: false, color: false }, ..look(Format::Table) };
        let (out, written) = run(vec![batch(0, 2), batch(2, 5)], &look);
        assert_eq!(out.lines().count(), 2 + 3, "{out}");
        assert_eq!(written, Written { rows: 7, shown: 3, counted_all: true });
    }

    #[test]
    fn a_table_elsewhere_streams_every_row() {
        let (out, written) = run(vec![batch(0, 900), batch(900, 900), batch(1800, 10)], &look(Format::Table));
        assert_eq!((out.lines().count(), written.shown), (2 + 1810, 1810));
        assert!(out.starts_with("    n | text"), "{out}");
    }

    #[test]
    fn an_empty_result_still_has_its_headings() {
        let (out, written) = run(vec![batch(0, 0)], &look(Format::Table));
        assert_eq!((out.lines().count(), written.rows), (2, 0));
    }

    #[test]
    fn rows_wider_than_the_terminal_go_one_line_per_column() {
        let wide =
            RecordBatch::try_from_iter((0..20).map(|n| (format!("column_{n}"), Arc::new(Float64Array::from(vec![1.5])) as _))).unwrap();
        let look = Look { style: Style { width: Some(60), unicode: false, color: false }, ..look(Format::Table) };
        let (out, _) = run(vec![wide], &look);
        assert_eq!(out.lines().count(), 21, "{out}");
    }
}
