//! What the listing commands show: tables, columns, schemas, functions, help.

use std::sync::Arc;

use watershed_dialect::sql_type;

use super::command::HELP;
use super::output::Look;
use super::table::{Cell, Column, Layout, Style, expanded, visible};
use super::{Backend, HostCommand};
use crate::QueryError;

/// Names and what is known of them, to be shown as a table.
pub(super) struct Listing {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Said when there are no rows.
    empty: String,
}

impl Listing {
    pub(super) fn render(&self, look: &Look) -> String {
        if self.rows.is_empty() {
            return self.empty.clone();
        }
        let columns: Vec<Column> =
            self.headings.iter().map(|name| Column { name: (*name).to_owned(), number: false, whole: false }).collect();
        let rows: Vec<Vec<Cell>> = self.rows.iter().map(|row| row.iter().map(|text| Cell::Text(visible(text))).collect()).collect();
        let style: &Style = &look.style;
        match Layout::fit(&columns, &rows, style) {
            Some(layout) => layout.head(&columns, style) + &layout.rows(&columns, &rows, style),
            None => expanded(&columns, &rows, 1, style),
        }
    }
}

fn contains(name: &str, word: Option<&str>) -> bool {
    word.is_none_or(|word| name.to_lowercase().contains(&word.to_lowercase()))
}

/// `\dt [word]`
pub(super) async fn tables(backend: &Backend, word: Option<&str>) -> Result<Listing, QueryError> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for table in backend.tables().await? {
        let kind = match table.name.rsplit_once('$') {
            _ if table.computed => "computed when read",
            Some((_, "late")) => "late rows",
            Some((_, "quarantine")) => "rows not accepted",
            _ => "table",
        };
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
