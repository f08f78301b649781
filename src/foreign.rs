//! Tables of a warehouse that others write: materialized views may read them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use watershed_lake::kind::{TABLE, VIEW};
use watershed_lake::{Definitions, LakeError, TableName, Warehouse};

/// The columns of those of `names` that are tables of others. What a pipeline or a job of this warehouse, where `in_force` is defined, has
/// made is none: a view over it would keep on reading what nobody renews.
pub async fn find(warehouse: &Warehouse, in_force: &Definitions, names: &BTreeSet<TableName>) -> Result<BTreeMap<TableName, SchemaRef>> {
    let mut found = BTreeMap::new();
    if names.is_empty() || warehouse.is_empty().await? {
        return Ok(found);
    }
    let own = watershed_stream::started(warehouse).await?;
    let defined: BTreeSet<&str> =
        in_force.items.iter().filter(|item| item.kind == TABLE || item.kind == VIEW).map(|item| item.name.as_str()).collect();
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

    use crate::project::{Checked, Home, SqlFile, check, check_at};
    use watershed_ingest::kafka::KafkaSettings;
    use watershed_lake::{Definitions, TableName, Warehouse};

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
        let over = async |files: &[SqlFile], in_force: &Definitions| -> anyhow::Result<Checked> {
            check_at(files, Some(Home { warehouse: &warehouse, in_force, kafka: &KafkaSettings::default() })).await
        };
        let nothing = Definitions::default();
        let checked = over(&good, &nothing).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(checked.foreign[&theirs], schema);
        assert!(check(&good).await.is_err(), "without a warehouse there is no such table");
        let wrong = view("SELECT idd FROM others.orders");
        let error = over(&wrong, &nothing).await.err().expect("no such column").to_string();
        assert!(error.contains("v.sql:1:") && error.contains("did you mean 'id'?"), "{error}");
        assert!(over(&view("SELECT 1 AS one FROM others.order"), &nothing).await.is_err());

        // What was defined here and is no longer, nobody renews.
        let in_force = Definitions { revision: 1, items: checked.definitions };
        assert_eq!(in_force.items.len(), 1);
        warehouse.create_table(&"gold.v".parse().unwrap(), schema, &[]).await.unwrap();
        let of_own = [SqlFile { name: "w.sql".to_owned(), text: "CREATE MATERIALIZED VIEW gold.w AS SELECT id FROM gold.v;".to_owned() }];
        assert!(over(&of_own, &nothing).await.is_ok());
        assert!(over(&of_own, &in_force).await.is_err());
    }
}
