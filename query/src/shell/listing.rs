//! What the listing commands show: tables, columns, schemas, functions, help.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::HostCommand;
use super::command::HELP;
use super::output::Look;
use super::table::{Cell, Column, Layout, Style, expanded, visible};
use crate::{QueryError, Session};

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
pub(super) async fn tables(session: &Session, word: Option<&str>) -> Result<Listing, QueryError> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for name in session.tables().await? {
        let kind = match name.table().rsplit_once('$') {
            Some((_, "late")) => "late rows",
            Some((_, "quarantine")) => "rows not accepted",
            _ => "table",
        };
        rows.push(vec![name.schema().to_owned(), name.table().to_owned(), kind.to_owned()]);
    }
    rows.extend(session.system_tables().into_iter().map(|name| vec!["system".to_owned(), name, "computed when read".to_owned()]));
    rows.retain(|row| contains(&format!("{}.{}", row[0], row[1]), word));
    let empty = match word {
        Some(word) => format!("no table's name contains '{word}'; \\dt lists all"),
        None => "the warehouse has no tables yet; `watershed apply DIR` defines them".to_owned(),
    };
    Ok(Listing { headings: vec!["schema", "table", "what"], rows, empty })
}

/// `\d table`
pub(super) async fn columns(session: &Session, table: &str) -> Result<Listing, QueryError> {
    let Some(schema) = session.describe(table).await? else {
        return Err(QueryError::Refused { what: format!("there is no table '{table}'"), hint: "\\d lists all".to_owned() });
    };
    let row = |field: &arrow::datatypes::FieldRef| {
        let null = if field.is_nullable() { "" } else { "NOT NULL" };
        vec![field.name().clone(), sql_type(field.data_type()), null.to_owned()]
    };
    Ok(Listing { headings: vec!["column", "type", ""], rows: schema.fields().iter().map(row).collect(), empty: "no columns".to_owned() })
}

/// `\dn`
pub(super) async fn schemas(session: &Session) -> Result<Listing, QueryError> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for name in session.tables().await? {
        *counts.entry(name.schema().to_owned()).or_default() += 1;
    }
    if !session.system_tables().is_empty() {
        counts.insert("system".to_owned(), session.system_tables().len());
    }
    let rows = counts.into_iter().map(|(schema, tables)| vec![schema, tables.to_string()]).collect();
    Ok(Listing { headings: vec!["schema", "tables"], rows, empty: "the warehouse has no tables yet".to_owned() })
}

/// `\df [word]`
pub(super) fn functions(session: &Session, word: Option<&str>) -> Result<Listing, QueryError> {
    let rows = session.functions().into_iter().filter(|name| contains(name, word)).map(|name| vec![name]).collect();
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

/// The SQL name of an Arrow type.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Timestamp(_, _) => "TIMESTAMP".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| format!("{} {}", field.name(), sql_type(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}
