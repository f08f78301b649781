//! `DESCRIBE`, `SHOW COLUMNS` and `information_schema.columns` name types as SQL does.
//!
//! DataFusion fills them with Arrow's names: `Utf8View`, `Timestamp(µs, "UTC")`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{
    ColumnarValue, DescribeTable, Expr, LogicalPlan, LogicalPlanBuilder, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast, lit,
};
use watershed_dialect::plain_message;
use watershed_functions::sql_type;

/// The plan with SQL's names of types wherever it lists columns of tables.
pub(crate) fn with_type_names(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::DescribeTable(describe) => Ok(Transformed::yes(described(&describe)?)),
        LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some("information_schema") && scan.table_name.table() == "columns" => {
            let scan = LogicalPlan::TableScan(scan);
            let columns = scan.schema().columns().into_iter();
            let exprs = columns.map(|column| match column.name.as_str() {
                "data_type" => named(column),
                "ordinal_position" => counted_from_one(column),
                _ => Expr::Column(column),
            });
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs.collect(), Arc::new(scan))?)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn described(describe: &DescribeTable) -> Result<LogicalPlan> {
    let rows = describe.schema.fields().iter().map(|field| {
        let nullable = if field.is_nullable() { "YES" } else { "NO" };
        vec![lit(field.name().as_str()), lit(sql_type(field.data_type())), lit(nullable)]
    });
    let values = LogicalPlanBuilder::values(rows.collect())?.build()?;
    let names = values.schema().columns().into_iter().zip(["column_name", "data_type", "is_nullable"]);
    let exprs: Vec<Expr> = names.map(|(column, name)| Expr::Column(column).alias(name)).collect();
    LogicalPlanBuilder::from(values).project(exprs)?.build()
}

fn named(column: Column) -> Expr {
    let (relation, name) = (column.relation.clone(), column.name.clone());
    let text = cast(Expr::Column(column), DataType::Utf8);
    let function = ScalarUDF::new_from_impl(SqlTypeName { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) });
    function.call(vec![text]).alias_qualified(relation, name)
}

/// DataFusion counts from 0, the SQL standard from 1.
fn counted_from_one(column: Column) -> Expr {
    let (relation, name) = (column.relation.clone(), column.name.clone());
    (Expr::Column(column) + lit(1_u64)).alias_qualified(relation, name)
}

/// SQL's name of a type that Arrow writes so.
fn sql_type_name(arrow: &str) -> String {
    arrow.parse().map_or_else(|_| plain_message(arrow).what, |data_type: DataType| sql_type(&data_type))
}

/// A warehouse has many columns and few types, and reading one takes long.
fn sql_type_names(types: &StringArray) -> StringArray {
    let mut known: HashMap<&str, String> = HashMap::new();
    let mut names = StringBuilder::with_capacity(types.len(), 0);
    for arrow in types {
        match arrow {
            Some(arrow) => names.append_value(known.entry(arrow).or_insert_with(|| sql_type_name(arrow))),
            None => names.append_null(),
        }
    }
    names.finish()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SqlTypeName {
    signature: Signature,
}

impl ScalarUDFImpl for SqlTypeName {
    fn name(&self) -> &str {
        "sql_type_name"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        Ok(ColumnarValue::Array(Arc::new(sql_type_names(arrays[0].as_string::<i32>()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_name_wherever_it_is() {
        let types = StringArray::from(vec![Some("Int64"), Some("Timestamp(µs, \"UTC\")"), None, Some("Utf8View"), Some("Int64")]);
        let right = StringArray::from(vec![Some("BIGINT"), Some("TIMESTAMP"), None, Some("VARCHAR"), Some("BIGINT")]);
        assert_eq!(sql_type_names(&types), right);
    }
}
