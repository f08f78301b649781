//! Tables of a warehouse that others write: materialized views may read them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use watershed_lake::kind::{TABLE, VIEW};
use watershed_lake::{LakeError, TableName, Warehouse};

/// The columns of those of `names` that are tables of others. What a pipeline or a job of this warehouse has made is none: a view over it
/// would keep on reading what nobody renews.
pub async fn find(warehouse: &Warehouse, names: &BTreeSet<TableName>) -> Result<BTreeMap<TableName, SchemaRef>> {
    let mut found = BTreeMap::new();
    if names.is_empty() || warehouse.is_empty().await? {
        return Ok(found);
    }
    let own = watershed_stream::started(warehouse).await?;
    let definitions = warehouse.definitions().await?;
    let defined: BTreeSet<&str> =
        definitions.items.iter().filter(|item| item.kind == TABLE || item.kind == VIEW).map(|item| item.name.as_str()).collect();
    for name in names {
        if own.contains(name) || defined.contains(name.to_string().as_str()) || name.table().contains('$') {
            continue;
        }
        match warehouse.table(name).await {
            Ok(table) => drop(found.insert(name.clone(), table.schema())),
            Err(LakeError::NoSuchTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use crate::project::{SqlFile, check, check_over};
    use watershed_lake::{TableName, Warehouse};

    #[tokio::test]
    async fn views_read_tables_that_others_write() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let theirs: TableName = "others.orders".parse().unwrap();
        warehouse.create_table(&theirs, schema.clone(), &[]).await.unwrap();
        let view = |query: &str| {
            let text = format!("CREATE MATERIALIZED VIEW gold.v AS {query};");
            [SqlFile { name: "v.sql".to_owned(), text }]
        };
        let good = view("SELECT count(id) AS orders FROM others.orders");
        let checked = check_over(&good, Some(&warehouse)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(checked.foreign[&theirs], schema);
        assert!(check(&good).await.is_err(), "without a warehouse there is no such table");
        let error = check_over(&view("SELECT idd FROM others.orders"), Some(&warehouse)).await.err().expect("no such column").to_string();
        assert!(error.contains("v.sql:1:") && error.contains("did you mean 'id'?"), "{error}");
        assert!(check_over(&view("SELECT 1 AS one FROM others.order"), Some(&warehouse)).await.is_err());

        // What was defined here and is no longer, nobody renews.
        let own = warehouse.save_definitions(&Default::default(), checked.definitions).await.unwrap();
        assert_eq!(own.items.len(), 1);
        warehouse.create_table(&"gold.v".parse().unwrap(), schema, &[]).await.unwrap();
        let over = [SqlFile { name: "w.sql".to_owned(), text: "CREATE MATERIALIZED VIEW gold.w AS SELECT id FROM gold.v;".to_owned() }];
        assert!(check_over(&over, Some(&warehouse)).await.is_err());
    }
}
