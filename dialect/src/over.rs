//! `agg(…) OVER (PARTITION BY k ORDER BY event_time RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW)` in streams: which of it can
//! run, and what a frame means.
//!
//! A frame that reaches back by a time, and not ahead, is complete once the watermark has passed its row, and rows that no frame reaches any more can
//! be forgotten. Frames by rows, without a beginning, or with a look ahead have one of these properties only.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{Expr, LogicalPlan, Window, WindowFrame, WindowFrameBound, WindowFrameUnits};

use crate::SqlError;
use crate::interval::{NoLength, interval_us};
use crate::streamable::{placed, unaliased};

/// Aggregates that can take back a row that has left the frame; the others would be computed again over the whole frame for each row.
const AGGREGATES: [&str; 9] = ["count", "sum", "avg", "min", "max", "stddev", "stddev_pop", "var", "var_pop"];
const FRAME: &str = "RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW";

/// Which rows a result is made from: those whose time is at least `from_us` and at most `to_us` before the row's own, itself and its peers included
/// if `to_us` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// How far the frame reaches back, in microseconds.
    pub from_us: i64,
    /// How long before the row it ends, in microseconds; at most `from_us`.
    pub to_us: i64,
}

impl Frame {
    /// The meaning of a frame that can run in a stream; fails with the reason if it cannot. The plan must have been analysed, which makes bounds intervals.
    pub fn of(frame: &WindowFrame) -> Result<Self, SqlError> {
        let counted = match frame.units {
            WindowFrameUnits::Range => None,
            WindowFrameUnits::Rows => Some("ROWS"),
            WindowFrameUnits::Groups => Some("GROUPS"),
        };
        if let Some(units) = counted {
            return Err(SqlError::new(format!("a frame of {units} in OVER cannot run as a stream"))
                .detail("it reaches back to rows of any age, so that none could ever be forgotten")
                .hint(format!("reach back by time: {FRAME}")));
        }
        let from_us = match &frame.start_bound {
            WindowFrameBound::Preceding(interval) if interval.is_null() => {
                return Err(SqlError::new("OVER without a beginning would remember every row for ever")
                    .detail("RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW is also what ORDER BY without a frame means")
                    .hint(format!("say how far back it reaches: {FRAME}")));
            }
            WindowFrameBound::Preceding(interval) => micros(interval)?,
            WindowFrameBound::CurrentRow => 0,
            WindowFrameBound::Following(_) => return Err(ahead()),
        };
        let to_us = match &frame.end_bound {
            WindowFrameBound::Preceding(interval) => micros(interval)?,
            WindowFrameBound::CurrentRow => 0,
            WindowFrameBound::Following(_) => return Err(ahead()),
        };
        if from_us < to_us {
            return Err(SqlError::new("the frame of OVER ends before it begins").hint("write the longer interval first"));
        }
        Ok(Self { from_us, to_us })
    }
}

fn ahead() -> SqlError {
    SqlError::new("OVER cannot look ahead in a stream: the rows it waits for may never come")
        .hint(format!("end the frame at the row itself: {FRAME}; or use OVER when you query the table"))
}

fn micros(interval: &ScalarValue) -> Result<i64, SqlError> {
    let refused = |why: &str| {
        Err(SqlError::new(format!("the frame of OVER {why}")).hint("write it as days, hours, minutes or seconds: INTERVAL '10 minutes'"))
    };
    match interval_us(interval) {
        Ok(us) if us >= 0 => Ok(us),
        Ok(_) | Err(NoLength::TooLong) => refused("is negative or too long"),
        Err(NoLength::Months) => refused("is in months, which differ in length"),
        Err(NoLength::Fraction) => refused("is finer than a microsecond"),
        Err(NoLength::NoInterval) => refused("is not an interval"),
    }
}

/// The call in an expression of a [`Window`] node.
pub fn call(expr: &Expr) -> Option<&WindowFunction> {
    match unaliased(expr) {
        Expr::WindowFunction(call) => Some(call.as_ref()),
        _ => None,
    }
}

/// Fails, with the reason, if an expression of `window` cannot run as a stream; else gives the column that it is ordered by.
pub(crate) fn check<'a>(window: &'a Window, node: &LogicalPlan) -> Result<&'a Column, SqlError> {
    let mut time = None;
    for expr in &window.window_expr {
        let Some(call) = call(expr) else { return Err(SqlError::new(format!("{expr} cannot run as a stream"))) };
        let checked = check_function(call).and_then(|()| ordered_by(call)).and_then(|column| {
            Frame::of(&call.params.window_frame)?;
            Ok(column)
        });
        // The call's own columns know their place; `count(*) OVER ()` has none, and the node's must do.
        let place = crate::streamable::place_of(std::slice::from_ref(expr));
        time = Some(checked.map_err(|e| match place {
            Some((line, column)) => e.at_least(line, column),
            None => placed(e, node),
        })?);
    }
    time.ok_or_else(|| SqlError::new("OVER without a function cannot run as a stream"))
}

fn check_function(call: &WindowFunction) -> Result<(), SqlError> {
    let name = call.fun.name();
    let refused = |why: &str, hint: &str| {
        Err(SqlError::new(format!("{name}() OVER cannot run as a stream{why}"))
            .hint(format!("{hint}; or use OVER when you query the table")))
    };
    if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return refused(" with IGNORE NULLS", "leave rows without the value out in an inner query: WHERE x IS NOT NULL");
    }
    match (&call.fun, name) {
        (WindowFunctionDefinition::WindowUDF(_), "first_value" | "last_value") => Ok(()),
        (WindowFunctionDefinition::WindowUDF(_), "lag") => refused(
            ": it reaches back to a row of any age",
            "write last_value(x) OVER (PARTITION BY k ORDER BY event_time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND INTERVAL '1 microsecond' PRECEDING)",
        ),
        (WindowFunctionDefinition::WindowUDF(_), "row_number" | "rank" | "dense_rank") => refused(
            "",
            "for the first row of each key use DEDUPLICATE(TABLE t PARTITION BY key, DESCRIPTOR(event_time), INTERVAL '10 minutes'); to number rows \
             by time use count(*) OVER",
        ),
        (WindowFunctionDefinition::WindowUDF(_), _) => {
            refused("", &format!("use first_value or last_value, or one of {}", AGGREGATES.join(", ")))
        }
        (WindowFunctionDefinition::AggregateUDF(_), _) if call.params.distinct && name != "count" => {
            refused(" with DISTINCT", "leave DISTINCT out, or use count(DISTINCT x)")
        }
        (WindowFunctionDefinition::AggregateUDF(_), _) if AGGREGATES.contains(&name) => Ok(()),
        (WindowFunctionDefinition::AggregateUDF(_), _) => refused(" yet", &format!("use one of {}", AGGREGATES.join(", "))),
    }
}

fn ordered_by(call: &WindowFunction) -> Result<&Column, SqlError> {
    let example = format!("{}(…) OVER (PARTITION BY k ORDER BY event_time {FRAME})", call.fun.name());
    match call.params.order_by.as_slice() {
        [] => Err(SqlError::new("OVER without ORDER BY looks at the whole stream, which never ends").hint(format!("write {example}"))),
        [sort] if !sort.asc => Err(SqlError::new("OVER cannot run as a stream from new to old").hint(format!("leave DESC out: {example}"))),
        [sort] => match &sort.expr {
            Expr::Column(column) => Ok(column),
            other => Err(SqlError::new(format!("OVER is ordered by {other}, which is no column"))
                .hint(format!("order it by the event time: {example}"))),
        },
        _ => Err(SqlError::new("OVER can only be ordered by the event time in a stream").hint(format!("write {example}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::IntervalMonthDayNano;

    fn interval(months: i32, days: i32, nanoseconds: i64) -> ScalarValue {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
    }

    #[test]
    fn frames_are_lengths_of_time() {
        let of = |from, to| Frame::of(&WindowFrame::new_bounds(WindowFrameUnits::Range, WindowFrameBound::Preceding(from), to));
        let day_and_a_half = of(interval(0, 1, 43_200_000_000_000), WindowFrameBound::CurrentRow);
        assert_eq!(day_and_a_half, Ok(Frame { from_us: 129_600_000_000, to_us: 0 }));
        let before = of(interval(0, 0, 5_000), WindowFrameBound::Preceding(interval(0, 0, 1_000)));
        assert_eq!(before, Ok(Frame { from_us: 5, to_us: 1 }));

        let said = |frame: Result<Frame, SqlError>| frame.unwrap_err().message;
        assert!(said(of(interval(1, 0, 0), WindowFrameBound::CurrentRow)).contains("months"));
        assert!(said(of(interval(0, 0, -1_000), WindowFrameBound::CurrentRow)).contains("negative"));
        assert!(said(of(interval(0, 0, 1), WindowFrameBound::CurrentRow)).contains("finer"));
        assert!(said(of(interval(0, i32::MAX, 0), WindowFrameBound::CurrentRow)).contains("too long"));
        assert!(said(of(interval(0, 1, 0), WindowFrameBound::Following(interval(0, 0, 0)))).contains("ahead"));
        assert!(said(of(interval(0, 0, 1_000), WindowFrameBound::Preceding(interval(0, 0, 2_000)))).contains("ends before"));
    }
}
