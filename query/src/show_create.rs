//! `SHOW CREATE TABLE name`: the statement of the applied project that defines a table.

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as SqlStatement};
use watershed_lake::Warehouse;

use crate::QueryError;
use crate::session::refused;

/// The table that `SHOW CREATE TABLE` asks for.
pub(crate) fn asked(statement: &DfStatement) -> Option<&ObjectName> {
    match statement {
        DfStatement::Statement(statement) => match statement.as_ref() {
            SqlStatement::ShowCreate { obj_name, .. } => Some(obj_name),
            _ => None,
        },
        _ => None,
    }
}

/// The statement that shows what defines a table, as it was applied.
pub(crate) async fn shown(warehouse: &Warehouse, name: &ObjectName) -> Result<String, QueryError> {
    let wanted = name.0.iter().filter_map(|part| part.as_ident());
    let wanted: Vec<String> =
        wanted.map(|part| if part.quote_style.is_some() { part.value.clone() } else { part.value.to_ascii_lowercase() }).collect();
    let wanted = wanted.join(".");
    let items = warehouse.definitions().await?.items;
    let mut found = items.iter().filter(|item| item.name == wanted || item.name.rsplit('.').next() == Some(wanted.as_str()));
    match (found.next(), found.next()) {
        (Some(item), None) => {
            let quoted = |text: &str| text.replace('\'', "''");
            Ok(format!("SELECT '{}' AS name, '{}' AS definition", quoted(&item.name), quoted(&item.sql)))
        }
        (Some(_), Some(_)) => Err(refused(&format!("'{wanted}' is defined more than once"), "write the schema, too")),
        (None, _) => Err(refused(
            &format!("no statement of the applied project defines '{wanted}'"),
            "SHOW TABLES lists all tables, DESCRIBE name shows the columns of one",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::AsArray;
    use futures::TryStreamExt;
    use watershed_lake::kind::TABLE;
    use watershed_lake::{Definition, Warehouse};

    use crate::Session;

    #[tokio::test]
    async fn a_table_shows_the_statement_that_defines_it() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let sql = "CREATE STREAMING TABLE silver.rides AS SELECT 'it''s' AS x FROM rides";
        let items = vec![Definition { name: "silver.rides".to_owned(), kind: TABLE.to_owned(), sql: sql.to_owned() }];
        let before = warehouse.definitions().await.unwrap();
        warehouse.save_definitions(&before, items).await.unwrap();
        let session = Session::new(warehouse).unwrap();
        for name in ["silver.rides", "rides", "Silver.RIDES"] {
            let rows: Vec<_> = session.query(&format!("SHOW CREATE TABLE {name}")).await.unwrap().stream.try_collect().await.unwrap();
            assert_eq!(rows[0].column(1).as_string::<i32>().value(0), sql);
        }
        let error = session.query("SHOW CREATE TABLE silver.rides$late").await.err().unwrap().to_string();
        assert!(error.contains("defines 'silver.rides$late'"), "{error}");
    }
}
