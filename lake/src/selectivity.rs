//! What part of the rows passes a filter, judged by the bounds in the log before anything is read.
//!
//! Comparisons of whole numbers, dates and times with constants are judged, as if values lay evenly between the bounds. Texts and numbers with
//! fractions are seldom spread evenly: whatever is asked of them counts as passed by all rows, but for texts that must equal a constant.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::{ColumnStatistics, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

/// The part of the rows that passes where texts must equal constants: of one column or of several, as texts of one row tend to go together.
const TEXTS_EQUAL: f64 = 0.2;

/// From 0, no row passes, to 1, all may pass. `statistics` are those of the columns of `schema`, in its order.
pub(crate) fn of(filters: &[Expr], schema: &Schema, statistics: &[ColumnStatistics]) -> f64 {
    let mut ranges: HashMap<usize, Range> = HashMap::new();
    let mut texts = 1.0;
    for condition in filters.iter().flat_map(split_conjunction) {
        let Some((column, operator, constant)) = comparison(condition) else { continue };
        let Ok(index) = schema.index_of(column) else { continue };
        let data_type = schema.field(index).data_type();
        if operator == Operator::Eq && matches!(data_type, DataType::Utf8 | DataType::Utf8View) {
            texts = TEXTS_EQUAL;
        }
        let Some(position) = position(constant, data_type) else { continue };
        if let Some(all) = statistics.get(index).and_then(|statistics| Range::all(statistics, data_type)) {
            ranges.entry(index).or_insert(all).narrow(operator, position);
        }
    }
    ranges.values().map(Range::part).product::<f64>() * texts
}

/// `column operator constant`, whichever side they were written on.
fn comparison(condition: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(binary) = condition else { return None };
    match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(constant, _)) => Some((&column.name, binary.op, constant)),
        (Expr::Literal(constant, _), Expr::Column(column)) => Some((&column.name, binary.op.swap()?, constant)),
        _ => None,
    }
}

/// Where a value of a column of `data_type` lies among its values.
fn position(value: &ScalarValue, data_type: &DataType) -> Option<f64> {
    if !(data_type.is_integer() || matches!(data_type, DataType::Date32 | DataType::Timestamp(..))) {
        return None;
    }
    match value.cast_to(data_type).ok()?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(whole)) => Some(whole as f64),
        _ => None,
    }
}

/// The values of one column between its bounds, and those that a filter leaves of them, ends included.
#[derive(Debug, Clone, Copy)]
struct Range {
    lowest: f64,
    highest: f64,
    low: f64,
    high: f64,
}

impl Range {
    fn all(statistics: &ColumnStatistics, data_type: &DataType) -> Option<Self> {
        let lowest = position(statistics.min_value.get_value()?, data_type)?;
        let highest = position(statistics.max_value.get_value()?, data_type)?;
        Some(Self { lowest, highest, low: lowest, high: highest })
    }

    fn narrow(&mut self, operator: Operator, position: f64) {
        match operator {
            Operator::Eq => (self.low, self.high) = (self.low.max(position), self.high.min(position)),
            Operator::Lt => self.high = self.high.min(position - 1.0),
            Operator::LtEq => self.high = self.high.min(position),
            Operator::Gt => self.low = self.low.max(position + 1.0),
            Operator::GtEq => self.low = self.low.max(position),
            _ => {}
        }
    }

    fn part(&self) -> f64 {
        ((self.high - self.low + 1.0).max(0.0) / (self.highest - self.lowest + 1.0)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};
    use datafusion::common::stats::Precision;
    use datafusion::prelude::{col, lit};

    use super::*;

    fn part(filters: &[Expr]) -> f64 {
        let time = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
        let schema = Schema::new(vec![
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("partition", DataType::Int32, true),
            Field::new("speed", DataType::Float64, true),
            Field::new("city", DataType::Utf8View, true),
        ]);
        let bounds = [
            (time(0), time(999_999)),
            (ScalarValue::from(0_i32), ScalarValue::from(3_i32)),
            (ScalarValue::from(0.0), ScalarValue::from(100.0)),
            (ScalarValue::Utf8View(Some("a".into())), ScalarValue::Utf8View(Some("z".into()))),
        ];
        let known = |(low, high)| ColumnStatistics {
            min_value: Precision::Inexact(low),
            max_value: Precision::Exact(high),
            ..ColumnStatistics::new_unknown()
        };
        of(filters, &schema, &bounds.map(known))
    }

    #[test]
    fn bounds_say_what_part_of_the_rows_passes() {
        let time = |us| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let narrow = col("time").gt_eq(time(10_000)).and(col("time").lt(time(20_000)));
        assert_eq!(part(&[]), 1.0);
        assert_eq!(part(std::slice::from_ref(&narrow)), 0.01);
        // Constants of another unit, on the other side.
        let later = lit(ScalarValue::TimestampMillisecond(Some(500), Some("UTC".into()))).lt_eq(col("time"));
        assert_eq!(part(&[later]), 0.5);
        assert_eq!(part(&[col("partition").eq(lit(2_i32))]), 0.25);
        assert_eq!(part(&[narrow.clone(), col("partition").gt(lit(1_i32))]), 0.005);
        assert_eq!(part(&[col("partition").gt(lit(7_i32))]), 0.0);
        assert_eq!(part(&[col("city").eq(lit("Linz")), col("city").eq(lit("Graz")), narrow.clone()]), 0.002);
        // Nobody knows.
        let unknown =
            [col("speed").lt(lit(1.0)), col("city").gt(lit("Linz")), col("partition").not_eq(lit(2_i32)), narrow.or(col("x").is_null())];
        assert_eq!(part(&unknown), 1.0);
    }
}
