//! What the listing commands show: tables, columns, schemas, functions, help.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::{executor, stream};
use watershed_functions::sql_type;
use watershed_lake::side;

use super::command::HELP;
use super::output::{self, Format, Look, OutputError};
use super::table::{Cell, Column, Layout, Style, expanded};
use super::{Backend, HostCommand};
use crate::QueryError;
use watershed_message::visible;

/// Names and what is known of them, to be shown as a table.
pub(super) struct Listing {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Said when there are no rows.
    empty: String,
}

impl Listing {
    /// In the format of results.
    pub(super) fn render(&self, look: &Look) -> Result<String, OutputError> {
        if look.format != Format::Table {
            return self.for_programs(look);
        }
        if self.rows.is_empty() {
            return Ok(self.empty.clone());
        }
        let columns: Vec<Column> =
            self.headings.iter().map(|name| Column { name: (*name).to_owned(), number: false, whole: false }).collect();
        let rows: Vec<Vec<Cell>> = self.rows.iter().map(|row| row.iter().map(|text| Cell::Text(visible(text))).collect()).collect();
        let style: &Style = &look.style;
        Ok(match Layout::fit(&columns, &rows, style) {
            Some(layout) => layout.head(&columns, style) + &layout.rows(&columns, &rows, style),
            None => expanded(&columns, &rows, 1, style),
        })
    }

    /// As CSV or JSON; what is empty for people is NULL.
    fn for_programs(&self, look: &Look) -> Result<String, OutputError> {
        let field = |name: &&str| Field::new(if name.is_empty() { "constraint" } else { *name }, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(self.headings.iter().map(field).collect::<Vec<_>>()));
        let column = |at: usize| {
            Arc::new(self.rows.iter().map(|row| Some(row[at].as_str()).filter(|text| !text.is_empty())).collect::<StringArray>())
                as ArrayRef
        };
        let batch = RecordBatch::try_new(schema.clone(), (0..self.headings.len()).map(column).collect());
        let batch = batch.map_err(|error| OutputError::Query(QueryError::Failed(error.to_string().into())))?;
        let mut bytes = Vec::new();
        executor::block_on(output::write(schema, stream::iter([Ok(batch)]), look, &mut bytes))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn contains(name: &str, word: Option<&str>) -> bool {
    word.is_none_or(|word| name.to_lowercase().contains(&word.to_lowercase()))
}

/// `\dt [word]`
pub(super) async fn tables(backend: &Backend, word: Option<&str>) -> Result<Listing, QueryError> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for table in backend.tables().await? {
        let kind = if table.computed { "computed when read" } else { side::words(&table.name).unwrap_or("table") };
        rows.push(vec![table.schema, table.name, kind.to_owned()]);
    }
    rows.retain(|row| contains(&format!("{}.{}", row[0], row[1]), word));
    let empty = match word {
        Some(word) => format!("no table's name contains '{word}'; \\dt lists all"),
        None => "the warehouse has no tables yet; `watershed apply DIR` defines them".to_owned(),
    };
    Ok(Listing { headings: vec!["schema", "table", "what"], rows, empty })
}

/// `\d table`
pub(super) async fn columns(backend: &Backend, table: &str) -> Result<Listing, QueryError> {
    let Some(schema) = backend.describe(table).await? else {
        return Err(QueryError::Refused { what: format!("there is no table '{table}'"), hint: "\\d lists all".to_owned() });
    };
    let row = |field: &arrow::datatypes::FieldRef| {
        let null = if field.is_nullable() { "" } else { "NOT NULL" };
        vec![field.name().clone(), sql_type(field.data_type()), null.to_owned()]
    };
    Ok(Listing { headings: vec!["column", "type", ""], rows: schema.fields().iter().map(row).collect(), empty: "no columns".to_owned() })
}

/// `\dn`
pub(super) async fn schemas(backend: &Backend) -> Result<Listing, QueryError> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for table in backend.tables().await? {
        *counts.entry(table.schema).or_default() += 1;
    }
    let rows = counts.into_iter().map(|(schema, tables)| vec![schema, tables.to_string()]).collect();
    Ok(Listing { headings: vec!["schema", "tables"], rows, empty: "the warehouse has no tables yet".to_owned() })
}

/// `\df [word]`
pub(super) async fn functions(backend: &Backend, word: Option<&str>) -> Result<Listing, QueryError> {
    let rows = backend.functions().await?.into_iter().filter(|name| contains(name, word)).map(|name| vec![name]).collect();
    let empty = format!("no function's name contains '{}'", word.unwrap_or_default());
    Ok(Listing { headings: vec!["function"], rows, empty })
}

/// `\?`
pub(super) fn help(host: &[Arc<dyn HostCommand>]) -> String {
    let mut out = String::from("Statements end with a semicolon; Tab completes; Ctrl-C cancels.\n\n");
    let brought = host.iter().map(|command| (command.name(), "", command.help()));
    for (name, arguments, meaning) in HELP.iter().copied().chain(brought) {
        out.push_str(&format!("  {:<28}{meaning}\n", format!("\\{name} {arguments}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use watershed_lake::Warehouse;

    use super::*;
    use crate::Session;
    use crate::shell::output::Expanded;

    #[tokio::test]
    async fn side_tables_are_listed_with_what_is_in_them() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        for name in ["gold.x", "gold.x$late", "gold.x$violations", "bronze.s$quarantine"] {
            warehouse.create_table(&name.parse().unwrap(), schema.clone(), &[]).await.unwrap();
        }
        let backend = Backend::from(Session::new(warehouse).unwrap());
        let listing = tables(&backend, None).await.unwrap();
        let lines: Vec<String> = listing.rows.iter().map(|row| row.join("|")).collect();
        let violations = "gold|x$violations|rows violating an expectation";
        assert_eq!(lines, ["bronze|s$quarantine|rows not accepted", "gold|x|table", "gold|x$late|late rows", violations]);
        assert_eq!(tables(&backend, Some("VIOL")).await.unwrap().rows.len(), 1);
    }

    #[test]
    fn listings_come_in_the_format_of_results() {
        let look =
            |format| Look { format, expanded: Expanded::Auto, row_limit: 0, style: Style { width: None, unicode: false, color: false } };
        let rows = [["id", "BIGINT", "NOT NULL"], ["city", "VARCHAR", ""]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let listing = |rows| Listing { headings: vec!["column", "type", ""], rows, empty: "no columns".to_owned() };
        assert_eq!(
            listing(rows.clone()).render(&look(Format::Csv)).unwrap(),
            "column,type,constraint\nid,BIGINT,NOT NULL\ncity,VARCHAR,\n"
        );
        assert_eq!(
            listing(rows).render(&look(Format::Json)).unwrap().lines().last(),
            Some("{\"column\":\"city\",\"type\":\"VARCHAR\",\"constraint\":null}")
        );
        assert_eq!(listing(Vec::new()).render(&look(Format::Csv)).unwrap(), "column,type,constraint\n");
        assert_eq!(listing(Vec::new()).render(&look(Format::Table)).unwrap(), "no columns");
    }
}
