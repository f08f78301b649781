//! Names of tables: `schema.table`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A table of the warehouse; stored under `<warehouse>/<schema>/<table>/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    schema: String,
    table: String,
}

impl TableName {
    /// Joins two parts. Each must be non-empty, of ASCII letters, digits, `_`, `-` or `$`.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Result<Self, String> {
        let (schema, table) = (schema.into(), table.into());
        for part in [&schema, &table] {
            // Other letters are spelled differently by different stores and readers of URLs.
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
            if part.is_empty() || part.starts_with('_') || !part.chars().all(allowed) {
                return Err(format!(
                    "'{schema}.{table}' is not a table name: use letters a-z, digits, '_', '-', '$', not starting with '_'"
                ));
            }
        }
        Ok(Self { schema, table })
    }

    /// The part before the dot.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The part after the dot.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The side table `<table>$<suffix>` in the same schema.
    pub fn side(&self, suffix: &str) -> Self {
        Self { schema: self.schema.clone(), table: format!("{}${suffix}", self.table) }
    }

    /// The folder below the warehouse root: `schema/table`.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.schema, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((schema, table)) => Self::new(schema, table),
            None => Err(format!("'{text}' is not a table name: write schema.table")),
        }
    }
}

impl TryFrom<String> for TableName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}
