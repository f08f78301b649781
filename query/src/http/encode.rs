//! Batches to the bytes of an answer, one batch at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, Writer, WriterBuilder};
use bytes::Bytes;
use datafusion::error::DataFusionError;

use super::exact::ExactNumbers;
use super::problem::Problem;
use crate::json::name_twice;
use crate::printable::printable;
use crate::{QueryError, csv};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// An array of one object a row; NULL is `null`. Timestamps are ISO 8601, in UTC.
    Json(Numbers),
    /// With a header.
    Csv,
}

/// How JSON tells numbers that its readers would round, and those that it has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// As numbers with all digits; NaN and the infinities are `null`.
    Plain,
    /// Long ones as text, and `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Exact,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Json(_) => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Writes one result.
pub(super) enum Encoder {
    Json(Writer<Vec<u8>, JsonArray>),
    /// With the header, until it is written.
    Csv(Option<String>),
}

impl Encoder {
    /// Fails if the format cannot keep the columns apart.
    pub(super) fn new(format: Format, schema: &Schema) -> Result<Self, Problem> {
        match format {
            Format::Csv => Ok(Self::Csv(Some(csv::head(schema)))),
            Format::Json(numbers) => match name_twice(schema) {
                Some(twice) => Err(Problem::request(
                    &format!("two columns of the result are named '{twice}', and a JSON object holds a name once"),
                    "give one of them another name with AS, or ask for format=csv",
                )),
                None => {
                    let builder = WriterBuilder::new().with_explicit_nulls(true);
                    let builder = match numbers {
                        Numbers::Plain => builder,
                        Numbers::Exact => builder.with_encoder_factory(Arc::new(ExactNumbers)),
                    };
                    Ok(Self::Json(builder.build::<_, JsonArray>(Vec::new())))
                }
            },
        }
    }

    /// The bytes of some rows.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let written = match self {
            Self::Json(writer) => printable(batch).and_then(|batch| writer.write(&batch)).map(|()| std::mem::take(writer.get_mut())),
            Self::Csv(head) => csv::lines(batch).map(|lines| (head.take().unwrap_or_default() + &lines).into_bytes()),
        };
        written.map(Bytes::from).map_err(failed)
    }

    /// What follows the last row.
    pub(super) fn end(&mut self) -> Result<Bytes, QueryError> {
        match self {
            Self::Json(writer) => {
                writer.finish().map_err(failed)?;
                let mut bytes = std::mem::take(writer.get_mut());
                bytes.push(b'\n');
                Ok(bytes.into())
            }
            Self::Csv(head) => Ok(head.take().unwrap_or_default().into()),
        }
    }
}

fn failed(error: ArrowError) -> QueryError {
    // Some values have no text, such as a time in a zone that there is not.
    DataFusionError::from(error).into()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn times_that_no_formatter_knows_are_texts_in_every_format() {
        let times = TimestampMicrosecondArray::from(vec![Some(i64::MAX), Some(0), None]).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).unwrap();
        let json = "[{\"t\":\"+294247-01-10T04:00:54.775807Z\"},{\"t\":\"1970-01-01T00:00:00Z\"},{\"t\":null}]\n";
        for (format, right) in [
            (Format::Json(Numbers::Plain), json),
            (Format::Json(Numbers::Exact), json),
            (Format::Csv, "t\n+294247-01-10T04:00:54.775807Z\n1970-01-01T00:00:00Z\n\n"),
        ] {
            let mut encoder = Encoder::new(format, &batch.schema()).unwrap();
            let bytes = [encoder.rows(&batch).unwrap(), encoder.end().unwrap()].concat();
            assert_eq!(String::from_utf8(bytes).unwrap(), right, "{format:?}");
        }
    }
}
