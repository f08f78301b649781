//! Writes the batches of a result as a table, CSV or JSON.
//!
//! CSV and JSON are written batch by batch in constant memory. A table on a terminal shows the first rows and, when it could count
//! all, the last; a table written elsewhere has its column widths from the first rows and then streams, too.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use futures::{Stream, StreamExt};
use tokio::time::timeout_at;

use watershed_lake::{pieces, row_bytes};

use super::cells::{cells, columns};
use super::table::{self, Cell, Column, Layout, Style};
use crate::memory::PIECE_BYTES_TARGET;
use crate::printable::printable;
use crate::{QueryError, csv, json};

/// Rows that decide the column widths of a table without a limit.
const LAYOUT_ROWS: usize = 1000;
/// Bytes of theirs, at most: fewer rows decide if they are large.
const LAYOUT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a table that are laid out at once.
const PRINTED_BYTES: usize = 256 << 10;
/// Of a long result so many last rows are shown, at most.
const TAIL_ROWS_MAX: usize = 10;
/// Rows too wide for the terminal are shown one line per column if they are not more than these; else columns are left out.
const EXPANDED_ROWS_MAX: usize = 3;
/// After the first rows, the rest is counted for so long.
const COUNT_FOR: Duration = Duration::from_secs(2);
/// For so long nothing is shown of a long result, so that the width of a column fits its end, too.
const HOLD_FOR: Duration = Duration::from_millis(300);

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// RFC 4180 with a header; NULL is an empty field, an empty string is `""`.
    Csv,
    /// One JSON object per line; NaN and the infinities are `null`, as JSON has no word for them.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Rows of the result, as far as they were counted.
    pub rows: usize,
    /// Rows that were shown, from the first on.
    pub first: usize,
    /// Rows that were shown, up to the last.
    pub last: usize,
    /// False if counting the rest was given up.
    pub counted_all: bool,
    /// Columns that did not fit the terminal and were left out.
    pub hidden: Vec<String>,
}

impl Written {
    fn all(rows: usize) -> Self {
        Self { rows, first: rows, last: 0, counted_all: true, hidden: Vec::new() }
    }
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
        Format::Json => write_json(&schema, batches, out).await,
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
    let mut printer = Printer { columns, look, layout: None, hidden: Vec::new(), shown: 0 };
    let mut held: Vec<Vec<Cell>> = Vec::new();
    // What may have to be shown below a gap, once all rows have been counted.
    let mut last: VecDeque<RecordBatch> = VecDeque::new();
    let (mut rows, mut bytes, style) = (0, 0, &look.style);
    while rows <= limit {
        let Some(batch) = batches.next().await else { break };
        let batch = batch?;
        let room = limit - rows.min(limit);
        rows += batch.num_rows();
        for piece in pieces(batch.slice(0, batch.num_rows().min(room)), PIECE_BYTES_TARGET) {
            bytes += row_bytes(&piece);
            held.extend(cells(&piece, style)?);
            if limit == usize::MAX && (held.len() >= LAYOUT_ROWS || bytes >= LAYOUT_BYTES_MAX) {
                printer.print(&held, out)?;
                (held, bytes) = (Vec::new(), 0);
            }
        }
        if batch.num_rows() > room {
            last.push_back(batch.slice(room, batch.num_rows() - room));
        }
    }
    let mut counted_all = true;
    if rows <= limit {
        if !held.is_empty() || printer.shown == 0 {
            printer.print(&held, out)?;
        }
        return Ok(Written { rows, first: printer.shown, last: 0, counted_all, hidden: printer.hidden });
    }
    let tail = (limit / 4).min(TAIL_ROWS_MAX);
    let gap = held.split_off(limit - tail);
    let mut count = |batch: RecordBatch, last: &mut VecDeque<RecordBatch>| {
        rows += batch.num_rows();
        last.push_back(batch);
        while last.len() > 1 && last.iter().skip(1).map(RecordBatch::num_rows).sum::<usize>() >= tail {
            last.pop_front();
        }
    };
    let (until, held_until) = (Instant::now() + COUNT_FOR, Instant::now() + HOLD_FOR);
    // Of most results the end is known soon enough for the widths of columns.
    let ended = loop {
        match timeout_at(held_until.into(), batches.next()).await {
            Ok(Some(batch)) => count(batch?, &mut last),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let end = if ended { end_of(&gap, &last, tail, style)? } else { Vec::new() };
    printer.fix_layout(&[held.as_slice(), gap.as_slice(), end.as_slice()].concat(), out)?;
    printer.print(&held, out)?;
    out.flush()?;
    while !ended && let Some(batch) = batches.next().await {
        count(batch?, &mut last);
        if Instant::now() > until {
            counted_all = false;
            break;
        }
    }
    if !counted_all || tail == 0 {
        // The end is not known: on with the beginning.
        printer.print(&gap, out)?;
        return Ok(Written { rows, first: printer.shown, last: 0, counted_all, hidden: printer.hidden });
    }
    let end = if ended { end } else { end_of(&gap, &last, tail, style)? };
    let first = printer.shown;
    let mark = if look.style.unicode { "⋮" } else { ":" };
    writeln!(out, " {mark}")?;
    printer.shown = rows - tail;
    printer.print(&end, out)?;
    Ok(Written { rows, first, last: tail, counted_all, hidden: printer.hidden })
}

/// The last `tail` rows of a result: `last` comes after `gap`.
fn end_of(gap: &[Vec<Cell>], last: &VecDeque<RecordBatch>, tail: usize, style: &Style) -> Result<Vec<Vec<Cell>>, OutputError> {
    let mut end = gap.to_vec();
    for batch in last {
        end.extend(cells(&batch.slice(batch.num_rows().saturating_sub(tail), batch.num_rows().min(tail)), style)?);
    }
    Ok(end.split_off(end.len() - tail))
}

/// How rows are laid out: fixed by the first ones.
enum Shape {
    /// One line a row.
    Lines(Layout),
    /// One line a row, with these columns only.
    Part(Layout, Vec<usize>),
    /// One line a column.
    Expanded,
}

struct Printer<'a> {
    columns: Vec<Column>,
    look: &'a Look,
    layout: Option<Shape>,
    /// Names of columns that did not fit.
    hidden: Vec<String>,
    /// The number of the last row shown.
    shown: usize,
}

impl Printer<'_> {
    /// Chooses widths by these rows and writes the headings.
    fn fix_layout(&mut self, rows: &[Vec<Cell>], out: &mut dyn Write) -> io::Result<()> {
        let style = &self.look.style;
        let (shape, head) = match self.look.expanded {
            Expanded::On => (Shape::Expanded, String::new()),
            Expanded::Off => lines(Layout::nearly(&self.columns, rows, style), &self.columns, style),
            Expanded::Auto => match Layout::fit(&self.columns, rows, style) {
                Some(layout) => lines(layout, &self.columns, style),
                None if rows.len() <= EXPANDED_ROWS_MAX => (Shape::Expanded, String::new()),
                None => {
                    let shown = Layout::some(&self.columns, rows, style);
                    let (columns, rows) = table::pick(&self.columns, rows, &shown);
                    let hidden = (0..self.columns.len()).filter(|at| !shown.contains(at));
                    self.hidden = hidden.map(|at| self.columns[at].name.clone()).collect();
                    let layout = Layout::nearly(&columns, &rows, style);
                    let head = layout.head(&columns, style);
                    (Shape::Part(layout, shown), head)
                }
            },
        };
        self.layout = Some(shape);
        out.write_all(head.as_bytes())
    }

    fn print(&mut self, rows: &[Vec<Cell>], out: &mut dyn Write) -> io::Result<()> {
        if self.layout.is_none() {
            self.fix_layout(rows, out)?;
        }
        let widest = match &self.layout {
            Some(Shape::Lines(layout) | Shape::Part(layout, _)) => layout.width(),
            Some(Shape::Expanded) | None => rows.iter().map(|row| table::text_bytes(row)).max().unwrap_or(0),
        };
        for rows in rows.chunks((PRINTED_BYTES / widest.max(1)).max(1)) {
            let style = &self.look.style;
            let text = match &self.layout {
                Some(Shape::Lines(layout)) => layout.rows(&self.columns, rows, style),
                Some(Shape::Part(layout, shown)) => {
                    let (columns, rows) = table::pick(&self.columns, rows, shown);
                    layout.rows(&columns, &rows, style)
                }
                Some(Shape::Expanded) | None => table::expanded(&self.columns, rows, self.shown + 1, style),
            };
            self.shown += rows.len();
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

fn lines(layout: Layout, columns: &[Column], style: &Style) -> (Shape, String) {
    let head = layout.head(columns, style);
    (Shape::Lines(layout), head)
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
    Ok(Written::all(rows))
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
        for piece in pieces(batch?, PIECE_BYTES_TARGET) {
            out.write_all(csv::lines(&piece).map_err(failed)?.as_bytes())?;
            rows += piece.num_rows();
        }
        out.flush()?;
    }
    Ok(Written::all(rows))
}

async fn write_json<S>(schema: &SchemaRef, mut batches: S, out: &mut (dyn Write + Send)) -> Result<Written, OutputError>
where
    S: Stream<Item = Result<RecordBatch, QueryError>> + Unpin + Send,
{
    if let Some(twice) = json::name_twice(schema) {
        return Err(OutputError::Query(QueryError::Refused {
            what: format!("two columns of the result are named '{twice}', and a JSON object holds a name once"),
            hint: "give one of them another name with AS, or use CSV".to_owned(),
        }));
    }
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        for piece in pieces(batch?, PIECE_BYTES_TARGET) {
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
            printable(&piece).and_then(|piece| writer.write(&piece)).and_then(|()| writer.finish()).map_err(failed)?;
            out.write_all(&writer.into_inner())?;
            rows += piece.num_rows();
        }
        out.flush()?;
    }
    Ok(Written::all(rows))
}

pub(super) fn failed(error: arrow::error::ArrowError) -> OutputError {
    OutputError::Query(DataFusionError::from(error).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray};
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let written = runtime.block_on(write(schema, stream::iter(batches.into_iter().map(Ok)), look, &mut out)).unwrap();
        (String::from_utf8(out).unwrap(), written)
    }

    fn look(format: Format) -> Look {
        Look { format, expanded: Expanded::Auto, row_limit: 0, style: Style { width: None, unicode: false, color: false } }
    }

    #[test]
    fn csv_tells_null_from_empty_and_quotes() {
        let (out, _) = run(vec![batch(0, 2)], &look(Format::Csv));
        assert_eq!(
            out,
            "n,text,list,at\n0,\"a \"\"0\"\", b\",\"[1,null]\",1970-01-01T00:00:00Z\n1,,\"[1,null]\",1970-01-01T00:00:01.500Z\n"
        );
    }

    #[test]
    fn json_refuses_two_columns_of_one_name() {
        let one = || Arc::new(Int64Array::from(vec![1])) as Arc<dyn Array>;
        let twice = RecordBatch::try_from_iter([("n", one()), ("n", one())]).unwrap();
        let (look, mut out) = (look(Format::Json), Vec::new());
        let written = write(twice.schema(), stream::iter([Ok(twice)]), &look, &mut out);
        let error = futures::executor::block_on(written).unwrap_err().to_string();
        assert!(error.contains("two columns of the result are named 'n'"), "{error}");
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
    fn times_that_no_formatter_knows_are_texts_in_every_format() {
        let times = TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC");
        let far = RecordBatch::try_from_iter([("t", Arc::new(times) as Arc<dyn Array>)]).unwrap();
        for (format, right) in [
            (Format::Table, "+294247-01-10T04:00:54.775807Z"),
            (Format::Csv, "+294247-01-10T04:00:54.775807Z"),
            (Format::Json, "{\"t\":\"+294247-01-10T04:00:54.775807Z\"}"),
        ] {
            let (out, _) = run(vec![far.clone()], &look(format));
            assert_eq!(out.lines().last().map(str::trim), Some(right), "{format:?}");
        }
    }

    #[test]
    fn names_and_values_in_a_table_steer_no_terminal() {
        let texts = StringArray::from(vec!["red\u{1b}[31m\nand more"]);
        let batch = RecordBatch::try_from_iter([("a\tb", Arc::new(texts) as Arc<dyn Array>)]).unwrap();
        for expanded in [Expanded::Off, Expanded::On] {
            let (out, _) = run(vec![batch.clone()], &Look { expanded, ..look(Format::Table) });
            assert!(out.contains("a\\tb") && out.contains("red\\u{1b}[31m\\nand more"), "{out}");
            assert!(!out.contains(['\u{1b}', '\t']), "{out}");
        }
        // For programs it is as it is.
        assert_eq!(run(vec![batch], &look(Format::Csv)).0, "a\tb\n\"red\u{1b}[31m\nand more\"\n");
    }

    #[test]
    fn a_terminal_shows_the_first_rows_and_counts_the_rest() {
        let look = Look { row_limit: 3, style: Style { width: Some(80), unicode: false, color: false }, ..look(Format::Table) };
        let (out, written) = run(vec![batch(0, 2), batch(2, 5)], &look);
        assert_eq!(out.lines().count(), 2 + 3, "{out}");
        assert_eq!(written, Written { rows: 7, first: 3, last: 0, counted_all: true, hidden: Vec::new() });
    }

    #[test]
    fn a_long_result_shows_its_head_and_its_tail() {
        let look = Look { row_limit: 8, style: Style { width: Some(80), unicode: true, color: false }, ..look(Format::Table) };
        for cuts in [vec![20], vec![5, 5, 5, 5], vec![8, 1, 11], vec![9, 10, 1]] {
            let mut from = 0;
            let batches = cuts.iter().map(|rows| (batch(from, *rows), from += rows).0).collect();
            let (out, written) = run(batches, &look);
            let numbers: Vec<&str> = out.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
            assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "⋮", "18", "19"], "{cuts:?}\n{out}");
            assert_eq!(written, Written { rows: 20, first: 6, last: 2, counted_all: true, hidden: Vec::new() }, "{cuts:?}");
        }
        let (out, written) = run(vec![batch(0, 8)], &look);
        assert_eq!((out.lines().count(), written.first), (2 + 8, 8), "{out}");
    }

    #[test]
    fn many_wide_rows_show_the_columns_that_fit() {
        let column = |n: i32| (format!("column_{n}"), Arc::new(Float64Array::from(vec![1.5; 9])) as Arc<dyn Array>);
        let wide = RecordBatch::try_from_iter((0..20).map(column)).unwrap();
        let look = Look { style: Style { width: Some(60), unicode: false, color: false }, ..look(Format::Table) };
        let (out, written) = run(vec![wide], &look);
        assert_eq!(out.lines().count(), 2 + 9, "{out}");
        assert!(out.lines().all(|line| line.chars().count() <= 60) && out.contains("colu…"), "{out}");
        assert!(written.hidden.len() < 20 && written.hidden.last().is_some_and(|name| name == "column_19"), "{written:?}");
    }

    #[test]
    fn a_table_elsewhere_streams_every_row() {
        let (out, written) = run(vec![batch(0, 900), batch(900, 900), batch(1800, 10)], &look(Format::Table));
        assert_eq!((out.lines().count(), written.first), (2 + 1810, 1810));
        assert!(out.starts_with("    n | text"), "{out}");
    }

    #[test]
    fn large_values_are_written_as_they_come_and_shown_without_their_middle() {
        let texts = StringArray::from_iter_values((0..20).map(|n| format!("{n:02}{}{n:02}", "ä".repeat(500_000))));
        let large = RecordBatch::try_from_iter([("text", Arc::new(texts) as Arc<dyn Array>)]).unwrap();
        // Not all are held for the widths of columns, and each is laid out by itself.
        let (mut out, mut seen) = (Vec::new(), 0);
        let batches = stream::iter([Ok(large.clone()), Ok(large.slice(0, 1))]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(write(large.schema(), batches, &look(Format::Table), &mut Watched(&mut out, &mut seen))).unwrap();
        assert!(seen < 6_000_000 && out.len() > 21_000_000, "{seen} {}", out.len());
        for expanded in [Expanded::Off, Expanded::On] {
            let style = Style { width: Some(60), unicode: true, color: false };
            let cells = cells(&large, &style).unwrap();
            assert!(cells.iter().all(|row| table::text_bytes(row) < 20_000));
            let (out, _) = run(vec![large.clone()], &Look { expanded, style, ..look(Format::Table) });
            assert!(out.contains("19ä") && out.contains('…') && out.len() < 50_000, "{}", out.len());
        }
    }

    /// Knows the largest part that was written at once.
    struct Watched<'a>(&'a mut Vec<u8>, &'a mut usize);

    impl Write for Watched<'_> {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            *self.1 = (*self.1).max(part.len());
            self.0.write(part)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
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
