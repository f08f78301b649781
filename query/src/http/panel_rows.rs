//! Which rows of its query a panel shows: so many, and of so many bytes, as a picture has use for.

use std::fmt;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use watershed_lake::{compacted, row_bytes};

use super::encode::{Encoder, Format, Numbers};
use super::problem::Problem;
use crate::QueryError;

/// Rows of a panel: a picture of more shows nothing more.
pub(super) const ROWS_MAX: usize = 5_000;
/// Bytes of a panel's rows, in memory and as JSON: every page that is open loads them again and again.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// What keeps a panel from showing all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Rows,
    Bytes,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => write!(f, "{},{:03} rows", ROWS_MAX / 1000, ROWS_MAX % 1000),
            Self::Bytes => write!(f, "{} MiB", BYTES_MAX >> 20),
        }
    }
}

/// The rows of a panel.
pub(super) struct Shown {
    pub(super) rows: RecordBatch,
    /// As JSON.
    pub(super) json: Vec<u8>,
    pub(super) cut: Option<Cut>,
}

/// The rows that are shown, in their order: the greatest along a column, or the first.
pub(super) async fn shown(mut stream: SendableRecordBatchStream, schema: &SchemaRef, along: Option<usize>) -> Result<Shown, Problem> {
    let mut held = Held::new(schema, along);
    let mut cut = None;
    while let Some(batch) = stream.next().await {
        held.push(batch.map_err(QueryError::from)?);
        let over = if held.rows > ROWS_MAX { Some(Cut::Rows) } else { (held.bytes > BYTES_MAX).then_some(Cut::Bytes) };
        cut = over.or(cut);
        match along {
            // Twice as many, so that a row is looked at about twice, however many there are.
            Some(_) if held.rows > 2 * ROWS_MAX || held.bytes > 2 * BYTES_MAX => {
                let kept = held.kept(ROWS_MAX)?;
                held = Held::new(schema, along);
                held.push(kept);
            }
            None if cut.is_some() => break,
            _ => {}
        }
    }
    let mut rows = held.kept(ROWS_MAX)?;
    loop {
        let json = json(&rows)?;
        if json.len() <= BYTES_MAX {
            return Ok(Shown { rows, json, cut });
        }
        // Names of columns and escapes make some rows larger than they are in memory.
        let fewer = fewer(rows.num_rows(), json.len()).ok_or_else(|| too_large(json.len()))?;
        rows = held.kept(fewer)?;
        cut = Some(Cut::Bytes);
    }
}

/// Rows that may be shown.
struct Held {
    schema: SchemaRef,
    along: Option<usize>,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Held {
    fn new(schema: &SchemaRef, along: Option<usize>) -> Self {
        Self { schema: SchemaRef::clone(schema), along, batches: Vec::new(), rows: 0, bytes: 0 }
    }

    fn push(&mut self, batch: RecordBatch) {
        let batch = compacted(batch);
        self.rows += batch.num_rows();
        self.bytes += row_bytes(&batch);
        self.batches.push(batch);
    }

    /// So many of them at most, and fewer if they are large.
    fn kept(&self, mut rows: usize) -> Result<RecordBatch, Problem> {
        let failed = |why: ArrowError| QueryError::Failed(why.to_string().into());
        let all = concat_batches(&self.schema, &self.batches).map_err(failed)?;
        loop {
            let kept = match self.along {
                Some(column) if rows < all.num_rows() => greatest(&all, column, rows).map_err(failed)?,
                _ => all.slice(0, rows.min(all.num_rows())),
            };
            let bytes = row_bytes(&kept);
            if bytes <= BYTES_MAX {
                return Ok(kept);
            }
            rows = fewer(kept.num_rows(), bytes).ok_or_else(|| too_large(bytes))?;
        }
    }
}

/// How many of `rows` that have `bytes` together may fit; `None` if not even one does.
fn fewer(rows: usize, bytes: usize) -> Option<usize> {
    if rows < 2 {
        return None;
    }
    let fit = rows as u128 * BYTES_MAX as u128 / bytes.max(1) as u128;
    Some(usize::try_from(fit).unwrap_or(rows).clamp(1, rows - 1))
}

/// The rows with the greatest values of a column, in the order they had.
fn greatest(batch: &RecordBatch, column: usize, rows: usize) -> Result<RecordBatch, ArrowError> {
    let descending = SortOptions { descending: true, nulls_first: false };
    let mut places: Vec<u32> = sort_to_indices(batch.column(column), Some(descending), Some(rows))?.values().to_vec();
    places.sort_unstable();
    take_record_batch(batch, &UInt32Array::from(places))
}

fn json(rows: &RecordBatch) -> Result<Vec<u8>, Problem> {
    let mut encoder = Encoder::new(Format::Json(Numbers::Plain), &rows.schema())?;
    let parts: [Bytes; 2] = [encoder.rows(rows)?, encoder.end()?];
    Ok(parts.concat())
}

fn too_large(bytes: usize) -> Problem {
    Problem::request(
        &format!("a row of the panel has {} MiB, and all of its rows may have {} MiB", bytes >> 20, BYTES_MAX >> 20),
        "let its query leave the large column out, or show the beginning: left(column, 1000)",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{Int64Type, Schema};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    use super::*;

    fn of(numbers: std::ops::Range<i64>, text: &str) -> RecordBatch {
        let texts = StringViewArray::from_iter_values(numbers.clone().map(|_| text));
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef), ("text", Arc::new(texts) as _)])
            .unwrap()
    }

    async fn show(batches: Vec<RecordBatch>, along: Option<usize>) -> Result<Shown, Problem> {
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let rows = stream::iter(batches.into_iter().map(Ok));
        shown(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows)), &schema, along).await
    }

    fn numbers(shown: &Shown) -> (i64, i64, usize) {
        let numbers = shown.rows.column(0).as_primitive::<Int64Type>().values();
        (numbers[0], numbers[numbers.len() - 1], numbers.len())
    }

    #[tokio::test]
    async fn large_rows_are_cut_at_a_number_of_bytes() {
        let text = "x".repeat(1 << 20);
        let batches = || (0..20).map(|n| of(5 * n..5 * n + 5, &text)).collect::<Vec<_>>();
        let first = show(batches(), None).await.unwrap();
        assert_eq!((numbers(&first), first.cut), ((0, 2, 3), Some(Cut::Bytes)));
        let newest = show(batches(), Some(0)).await.unwrap();
        assert_eq!((numbers(&newest), newest.cut), ((97, 99, 3), Some(Cut::Bytes)));
        assert!(first.json.len() <= BYTES_MAX && newest.json.len() <= BYTES_MAX);
        // As JSON these are six times as large.
        let escaped = show(vec![of(0..30, &"\u{1}".repeat(100_000))], None).await.unwrap();
        assert!(escaped.cut == Some(Cut::Bytes) && escaped.json.len() <= BYTES_MAX && escaped.rows.num_rows() > 1);
    }

    #[tokio::test]
    async fn small_rows_are_cut_at_a_number_of_rows() {
        let all = show(vec![of(0..3_000, "x"), of(3_000..5_000, "x")], None).await.unwrap();
        assert_eq!((numbers(&all), all.cut), ((0, 4_999, 5_000), None));
        let batches = || (0..4).map(|n| of(4_000 * n..4_000 * n + 4_000, "x")).collect::<Vec<_>>();
        let first = show(batches(), None).await.unwrap();
        assert_eq!((numbers(&first), first.cut), ((0, 4_999, 5_000), Some(Cut::Rows)));
        let newest = show(batches(), Some(0)).await.unwrap();
        assert_eq!((numbers(&newest), newest.cut), ((11_000, 15_999, 5_000), Some(Cut::Rows)));
        assert_eq!(Cut::Rows.to_string(), "5,000 rows");
    }

    #[tokio::test]
    async fn a_row_that_is_larger_than_all_may_be_is_refused() {
        let problem = show(vec![of(0..1, &"x".repeat(5 << 20))], None).await.err().unwrap();
        assert!(
            problem.what.contains("a row of the panel has 5 MiB")
                && problem.next.as_ref().is_some_and(|next| next.contains("left(column, 1000)")),
            "{problem:?}"
        );
        assert!(show(vec![of(0..1, "x")], None).await.unwrap().cut.is_none());
    }
}
