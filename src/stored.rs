//! Tables as the warehouse has them, where their definitions say more than is true of older rows.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use watershed_lake::{TableName, Warehouse};

/// Lets columns be NULL that their tables hold NULL in: those that were added after there were rows, whatever their query says of new ones, and
/// those that are added now.
pub async fn loosen(warehouse: &Warehouse, tables: &mut BTreeMap<TableName, SchemaRef>) -> Result<()> {
    if warehouse.is_empty().await? {
        return Ok(());
    }
    for (name, schema) in tables {
        if schema.fields().iter().all(|field| field.is_nullable()) {
            continue;
        }
        let held = match warehouse.table(name).await {
            Ok(table) => table.schema(),
            // One that cannot be opened is told of by whoever reads or writes it.
            Err(_) => continue,
        };
        let may_be_null = |field: &FieldRef| held.field_with_name(field.name()).map_or(true, |held| held.is_nullable());
        let loose = |field: &FieldRef| field.as_ref().clone().with_nullable(field.is_nullable() || may_be_null(field));
        *schema = Schema::new(schema.fields().iter().map(loose).collect::<Vec<_>>()).into();
    }
    Ok(())
}
