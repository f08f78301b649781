//! `generate_series` and `range` in FROM over TIMESTAMP: DataFusion's know times in nanoseconds only. Rows are TIMESTAMP as everywhere.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::functions_table::generate_series::{GenerateSeriesFunc, RangeFunc};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col};

use crate::event_time_type;

/// DataFusion's, with times of ours.
#[derive(Debug)]
pub struct Series(Arc<dyn TableFunctionImpl>);

impl Series {
    /// Both, with their names.
    pub fn all() -> [(&'static str, Self); 2] {
        [("generate_series", Self(Arc::new(GenerateSeriesFunc {}))), ("range", Self(Arc::new(RangeFunc {})))]
    }
}

impl TableFunctionImpl for Series {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let is_time = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if matches!(value.data_type(), DataType::Timestamp(..)));
        if !args.exprs().first().is_some_and(is_time) {
            return self.0.call_with_args(args);
        }
        let exprs = args.exprs().iter().cloned().map(in_nanoseconds).collect::<Result<Vec<_>>>()?;
        let literal = |place: usize| match exprs.get(place) {
            Some(Expr::Literal(value, _)) => Some(value),
            _ => None,
        };
        if !matches!(literal(1), Some(ScalarValue::TimestampNanosecond(..) | ScalarValue::Null)) {
            return plan_err!("a series of times ends at a time; write it as TIMESTAMP '2024-01-02 00:00:00'");
        }
        if !matches!(literal(2), Some(ScalarValue::IntervalMonthDayNano(_) | ScalarValue::Null)) {
            return plan_err!("a series of times goes on by an interval; write it as INTERVAL '1 hour'");
        }
        let table = self.0.call_with_args(TableFunctionArgs::new(&exprs, args.session()))?;
        let rows = LogicalPlanBuilder::scan("series", provider_as_source(table), None)?;
        let rows = rows.project([cast(col("value"), event_time_type()).alias("value")])?.build()?;
        Ok(Arc::new(ViewTable::new(rows, None)))
    }
}

fn nanoseconds() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn in_nanoseconds(expr: Expr) -> Result<Expr> {
    Ok(match expr {
        Expr::Literal(value, metadata) if matches!(value.data_type(), DataType::Timestamp(..)) => {
            let time = value.cast_to(&nanoseconds()).ok().filter(|time| time.cast_to(&value.data_type()).is_ok_and(|back| back == value));
            let too_far =
                || plan_datafusion_err!("a series of times cannot reach {value}: it is from 1677 to 2262; make it of dates: DATE '…'");
            Expr::Literal(time.ok_or_else(too_far)?, metadata)
        }
        Expr::Literal(value @ (ScalarValue::Date32(Some(_)) | ScalarValue::Utf8(Some(_))), metadata) => {
            Expr::Literal(value.cast_to(&nanoseconds())?, metadata)
        }
        other => other,
    })
}
