//! `COPY … TO 'file'`: the file has its name only when it is whole, and its CSV tells NULL from an empty text, as all CSV here does.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, when};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use url::Url;
use uuid::Uuid;
use watershed_lake::pieces;

use crate::memory::PIECE_BYTES_TARGET;
use crate::session::refused;
use crate::{QueryError, csv};

/// A file that is to be written.
pub(crate) struct Copying {
    target: PathBuf,
    temporary: Temporary,
    /// The rows are those of the query; else they have been written, and what comes is their count.
    writes: bool,
    /// One column, the count.
    schema: SchemaRef,
}

/// A file under a name of its own beside the target; goes unless it is renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Takes over a `COPY … TO` that writes one local file. Folders and other stores are left to DataFusion.
pub(crate) fn aside(plan: LogicalPlan) -> Result<(LogicalPlan, Option<Copying>), QueryError> {
    let LogicalPlan::Copy(mut copy) = plan else { return Ok((plan, None)) };
    check_null_is_told(&copy)?;
    copy.input = with_folders_for_null(&copy)?;
    let Some(target) = one_file(&copy.output_url).filter(|_| copy.partition_by.is_empty()) else {
        return Ok((LogicalPlan::Copy(copy), None));
    };
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = target.with_file_name(format!(".{}-{name}", Uuid::new_v4()));
    let schema = Arc::clone(copy.output_schema.inner());
    let writes = copy.file_type.get_ext() == "csv" && name.ends_with(".csv") && copy.options.is_empty();
    let plan = if writes {
        Arc::unwrap_or_clone(copy.input)
    } else {
        copy.output_url = temporary.display().to_string();
        LogicalPlan::Copy(copy)
    };
    Ok((plan, Some(Copying { target, temporary: Temporary(temporary), writes, schema })))
}

/// With options it is DataFusion that writes CSV, and it writes NULL as nothing, as an empty text.
fn check_null_is_told(copy: &CopyTo) -> Result<(), QueryError> {
    if copy.file_type.get_ext() != "csv" || copy.options.is_empty() || copy.options.keys().any(|key| key.ends_with("null_value")) {
        return Ok(());
    }
    Err(refused(
        "COPY to CSV with OPTIONS, and none of them says what NULL is",
        "say it, as it would look like an empty text: OPTIONS ('format.null_value' 'NULL', …)",
    ))
}

/// The folder that readers of partitioned files know for NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The rows to write, where NULL in a column of `PARTITIONED BY` has its folder: DataFusion would take that of the empty text.
fn with_folders_for_null(copy: &CopyTo) -> Result<Arc<LogicalPlan>, QueryError> {
    if copy.partition_by.is_empty() {
        return Ok(Arc::clone(&copy.input));
    }
    let columns = copy.input.schema().iter().map(|(table, field)| {
        let column = Expr::Column(Column::from((table, field)));
        if !copy.partition_by.contains(field.name()) || !field.is_nullable() {
            return Ok(column);
        }
        let folder = when(column.clone().is_null(), lit(NULL_FOLDER)).otherwise(cast(column, DataType::Utf8))?;
        Ok(folder.alias_qualified(table.cloned(), field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
    Ok(Arc::new(LogicalPlanBuilder::from(copy.input.as_ref().clone()).project(columns)?.build()?))
}

/// The path of a local file with an extension: what has none is written as a folder.
fn one_file(url: &str) -> Option<PathBuf> {
    let path = match Url::parse(url) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok()?,
        Ok(url) if url.scheme().len() > 1 => return None,
        _ => PathBuf::from(url),
    };
    (path.extension().is_some() && !url.ends_with('/') && !path.is_dir()).then_some(path)
}

impl Copying {
    /// Writes what `stream` brings, gives the file its name, and tells the count.
    pub(crate) fn finish(self, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(self.write(stream))))
    }

    async fn write(self, mut stream: SendableRecordBatchStream) -> Result<RecordBatch, DataFusionError> {
        let Self { target, temporary, writes, schema } = self;
        let cannot = |why: std::io::Error| DataFusionError::Execution(format!("cannot write {}: {why}", target.display()));
        let rows = if writes {
            write_csv(&mut stream, &temporary.0, cannot).await?
        } else {
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch?.column(0).as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
            }
            rows
        };
        // Of no rows DataFusion may have made no file.
        if rows > 0 || temporary.0.exists() {
            fs::rename(&temporary.0, &target).map_err(cannot)?;
        }
        Ok(RecordBatch::try_new(schema, vec![Arc::new(UInt64Array::from(vec![rows]))])?)
    }
}

async fn write_csv(
    stream: &mut SendableRecordBatchStream,
    path: &Path,
    cannot: impl Fn(std::io::Error) -> DataFusionError,
) -> Result<u64, DataFusionError> {
    let mut file = BufWriter::new(File::create(path).map_err(&cannot)?);
    file.write_all(csv::head(&stream.schema()).as_bytes()).map_err(&cannot)?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        for piece in pieces(batch?, PIECE_BYTES_TARGET) {
            rows += piece.num_rows() as u64;
            file.write_all(csv::lines(&piece)?.as_bytes()).map_err(&cannot)?;
        }
    }
    file.flush().map_err(&cannot)?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::Session;

    async fn session() -> Session {
        Session::new(watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap()
    }

    async fn copied(session: &Session, sql: &str) -> Result<u64, String> {
        let mut result = session.query(sql).await.map_err(|error| error.to_string())?;
        let mut rows = 0;
        while let Some(batch) = result.stream.next().await {
            rows += batch.map_err(|error| error.to_string())?.column(0).as_primitive::<UInt64Type>().value(0);
        }
        Ok(rows)
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn csv_tells_null_from_an_empty_text() {
        let (session, folder) = (session().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("x.csv");
        let query = "SELECT * FROM (VALUES ('a', 1), ('', 2), (NULL, 3)) AS t(text, n) ORDER BY n";
        assert_eq!(copied(&session, &format!("COPY ({query}) TO '{}'", path.display())).await, Ok(3));
        assert_eq!(fs::read_to_string(&path).unwrap(), "text,n\na,1\n\"\",2\n,3\n");
        assert_eq!(names(folder.path()), ["x.csv"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn options_and_partitions_tell_null_from_an_empty_text() {
        let (session, folder) = (session().await, tempfile::tempdir().unwrap());
        let query = "SELECT * FROM (VALUES ('a', 1), ('', 2), (NULL, 3)) AS t(text, n) ORDER BY n";
        let path = folder.path().join("x.csv");
        let copy = |options: &str| format!("COPY ({query}) TO '{}' OPTIONS ({options})", path.display());
        let refused = copied(&session, &copy("'format.delimiter' ';'")).await.unwrap_err();
        assert!(refused.contains("null_value"), "{refused}");
        assert_eq!(copied(&session, &copy("'format.delimiter' ';', 'format.null_value' 'NULL'")).await, Ok(3));
        assert_eq!(fs::read_to_string(&path).unwrap(), "text;n\na;1\n;2\nNULL;3\n");

        let parts = folder.path().join("parts");
        let partitioned = format!("COPY ({query}) TO '{}/' STORED AS PARQUET PARTITIONED BY (text)", parts.display());
        assert_eq!(copied(&session, &partitioned).await, Ok(3));
        let mut folders = names(&parts);
        folders.sort();
        assert_eq!(folders, ["text=", "text=__HIVE_DEFAULT_PARTITION__", "text=a"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_that_fails_leaves_what_was_there() {
        let (session, folder) = (session().await, tempfile::tempdir().unwrap());
        for name in ["x.csv", "x.json", "x.parquet"] {
            let path = folder.path().join(name);
            let copy = |query: &str| format!("COPY ({query}) TO '{}'", path.display());
            let fails = "SELECT 100 / (9000 - value) AS n FROM generate_series(1, 20000)";
            copied(&session, &copy(fails)).await.unwrap_err();
            assert_eq!(names(folder.path()), Vec::<String>::new(), "{name}");
            assert_eq!(copied(&session, &copy("SELECT value FROM generate_series(1, 20000)")).await, Ok(20_000));
            let before = fs::read(&path).unwrap();
            copied(&session, &copy(fails)).await.unwrap_err();
            assert_eq!((names(folder.path()), fs::read(&path).unwrap() == before), (vec![name.to_owned()], true));
            fs::remove_file(&path).unwrap();
        }
    }
}
