//! `a JOIN b ON a.k = b.k AND a.t BETWEEN b.t - INTERVAL '10 minutes' AND b.t + INTERVAL '10 minutes'` in streams: which joins can run, and what
//! their conditions mean.
//!
//! Rows that agree in the keys meet if their event times are close. So a row can be forgotten once the watermark has passed all times that it could
//! still meet, and one without a partner is known to have none.

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator};

use crate::SqlError;
use crate::interval::interval_us;
use crate::streamable::placed;
use crate::union_all::{keeper, only_source, sources_of};

/// How it is written.
const EXAMPLE: &str = "a JOIN b ON a.k = b.k AND a.t BETWEEN b.t - INTERVAL '10 minutes' AND b.t + INTERVAL '10 minutes'";

/// The conditions of a join, taken apart.
#[derive(Debug)]
pub struct IntervalJoin<'a> {
    /// Expressions over the columns of each side that must be equal.
    pub keys: Vec<(&'a Expr, &'a Expr)>,
    /// The event time of each side.
    pub times: [&'a Column; 2],
    /// The time of the left row less that of the right one is at least this, in microseconds.
    pub least_us: i64,
    /// It is at most this.
    pub most_us: i64,
    /// What else must be true of the two rows together.
    pub rest: Vec<&'a Expr>,
}

/// What is said of the difference between two times.
struct Bound<'a> {
    times: [&'a Column; 2],
    least_us: Option<i64>,
    most_us: Option<i64>,
    said: Vec<&'a Expr>,
}

/// The conditions of a join that can run as a stream. Errors say why one cannot, and what comes nearest.
pub fn of(join: &Join) -> Result<IntervalJoin<'_>, SqlError> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) {
        return Err(SqlError::new(format!("a {} JOIN cannot run as a stream", join.join_type)).hint(format!("write {EXAMPLE}")));
    }
    let (left, right) = (join.left.schema(), join.right.schema());
    // Those of ON become keys only in rules that no stream has.
    let mut keys: Vec<(&Expr, &Expr)> = join.on.iter().map(|(left, right)| (left, right)).collect();
    let (mut bounds, mut rest): (Vec<Bound>, Vec<&Expr>) = (Vec::new(), Vec::new());
    for condition in join.filter.iter().flat_map(split_conjunction) {
        if let Some(key) = key_of(condition, left, right) {
            keys.push(key);
            continue;
        }
        let Some(bound) = bound_of(condition, left, right) else {
            rest.push(condition);
            continue;
        };
        match bounds.iter_mut().find(|known| known.times == bound.times) {
            Some(known) => known.add(bound),
            None => bounds.push(bound),
        }
    }
    if keys.is_empty() || join.null_equality == NullEquality::NullEqualsNull {
        return Err(SqlError::new("a JOIN without an equality of keys cannot run as a stream: every row could meet every other")
            .hint(format!("say in ON what they have in common: {EXAMPLE}")));
    }
    if bounds.iter().all(|bound| bound.least_us.is_none() || bound.most_us.is_none()) {
        // Times that must be equal are keys, and as close as can be.
        bounds.extend(keys.iter().filter_map(|&(one, other)| compared(one, Operator::Eq, other, left, right)));
    }
    let mut whole = bounds.iter().filter_map(|bound| Some((bound.times, bound.least_us?, bound.most_us?)));
    let (times, least_us, most_us) = match (whole.next(), whole.next()) {
        (Some(only), None) => only,
        (Some(_), Some(_)) => {
            return Err(SqlError::new("a JOIN with bounds between several pairs of times cannot run as a stream yet")
                .hint("bound the event times in ON, and compare the others in WHERE over the result of the JOIN, in a query around it"));
        }
        (None, _) => {
            let said = match bounds.first() {
                Some(_) => "a JOIN with a bound in time on one side only would keep rows for ever",
                None => "a JOIN without a bound in time would keep rows of both sides for ever",
            };
            return Err(SqlError::new(said)
                .detail("any row could still find a partner, however late that comes")
                .hint(format!("bound the event times: {EXAMPLE}; or make a streaming table of each side and join them when you query")));
        }
    };
    // Other times are compared as any other columns.
    rest.extend(bounds.iter().filter(|bound| bound.times != times).flat_map(|bound| bound.said.iter().copied()));
    if least_us > most_us {
        return Err(SqlError::new("the bounds of the JOIN leave no time between them")
            .hint("write the earlier time first: BETWEEN earlier AND later"));
    }
    Ok(IntervalJoin { keys, times, least_us, most_us, rest })
}

/// The two sides of an equality of something of the left row and something of the right one, in this order.
fn key_of<'a>(condition: &'a Expr, left: &DFSchema, right: &DFSchema) -> Option<(&'a Expr, &'a Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = condition else { return None };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.maybe_index_of_column(column).is_some())
    };
    if is_of(one, left) && is_of(other, right) {
        Some((one, other))
    } else if is_of(one, right) && is_of(other, left) {
        Some((other, one))
    } else {
        None
    }
}

impl<'a> Bound<'a> {
    /// Both must hold.
    fn add(&mut self, other: Self) {
        self.least_us = self.least_us.max(other.least_us);
        self.most_us = match (self.most_us, other.most_us) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.said.extend(other.said);
    }
}

/// What a condition says of the difference between a time of the left and one of the right; `None` if it says something else.
fn bound_of<'a>(condition: &'a Expr, left: &DFSchema, right: &DFSchema) -> Option<Bound<'a>> {
    let mut bound = match condition {
        Expr::Between(between) if !between.negated => {
            let mut low = compared(&between.expr, Operator::GtEq, &between.low, left, right)?;
            let high = compared(&between.expr, Operator::LtEq, &between.high, left, right)?;
            if low.times != high.times {
                return None;
            }
            low.add(high);
            low
        }
        Expr::BinaryExpr(binary) => compared(&binary.left, binary.op, &binary.right, left, right)?,
        _ => return None,
    };
    bound.said = vec![condition];
    Some(bound)
}

/// `x op y`, where one is a time of the left and the other of the right, each shifted by a constant.
fn compared<'a>(x: &'a Expr, op: Operator, y: &'a Expr, left: &DFSchema, right: &DFSchema) -> Option<Bound<'a>> {
    let ((x, x_us), (y, y_us)) = (shifted(x)?, shifted(y)?);
    let is_of = |column: &Column, schema: &DFSchema| {
        let place = schema.maybe_index_of_column(column);
        place.is_some_and(|place| matches!(schema.field(place).data_type(), DataType::Timestamp(..)))
    };
    // As left + i op right + j, which is left - right op j - i.
    let (times, op, us) = if is_of(x, left) && is_of(y, right) {
        ([x, y], op, y_us.checked_sub(x_us)?)
    } else if is_of(y, left) && is_of(x, right) {
        ([y, x], op.swap()?, x_us.checked_sub(y_us)?)
    } else {
        return None;
    };
    let (least_us, most_us) = match op {
        Operator::Gt => (Some(us.checked_add(1)?), None),
        Operator::GtEq => (Some(us), None),
        Operator::Lt => (None, Some(us.checked_sub(1)?)),
        Operator::LtEq => (None, Some(us)),
        Operator::Eq => (Some(us), Some(us)),
        _ => return None,
    };
    Some(Bound { times, least_us, most_us, said: Vec::new() })
}

/// A column and by how much it is shifted.
fn shifted(expr: &Expr) -> Option<(&Column, i64)> {
    match expr {
        Expr::Column(column) => Some((column, 0)),
        Expr::BinaryExpr(binary) => {
            let constant = |expr: &Expr| match expr {
                Expr::Literal(value, _) => interval_us(value).ok(),
                _ => None,
            };
            let (of, us) = match (binary.op, constant(&binary.left), constant(&binary.right)) {
                (Operator::Plus, None, Some(us)) => (&binary.left, us),
                (Operator::Plus, Some(us), None) => (&binary.right, us),
                (Operator::Minus, None, Some(us)) => (&binary.left, us.checked_neg()?),
                _ => return None,
            };
            let (column, before_us) = shifted(of)?;
            Some((column, before_us.checked_add(us)?))
        }
        _ => None,
    }
}

/// Fails, with the reason, if the sides of a join cannot be joined in a stream.
pub(crate) fn check_sides(join: &Join) -> Result<(), SqlError> {
    let sides: [&LogicalPlan; 2] = [&join.left, &join.right];
    const HINT: &str = "make a streaming table of each side and join them when you query";
    for side in sides {
        if let Some(within) = keeper(side).filter(|within| !["DEDUPLICATE", "OVER"].contains(&within.as_str())) {
            return Err(placed(SqlError::new(format!("a JOIN over {within} cannot run as a stream yet")).hint(HINT), side));
        }
    }
    let [left, right] = sides.map(sources_of);
    if let Some(name) = left.iter().find(|name| right.contains(name))
        && sides.map(only_source).iter().any(Option::is_none)
    {
        let error = SqlError::new(format!("source '{name}' is read on both sides of a JOIN, and not both of them compute row by row"))
            .detail("it is read once for both of them, and steps that keep state need a stream of their own");
        return Err(placed(error.hint(HINT), sides[0]));
    }
    Ok(())
}

/// Whether rows of the side of this place, 0 or 1, are NULL where they have no partner.
pub(crate) fn may_lack(join: &Join, side: usize) -> bool {
    match join.join_type {
        JoinType::Left => side == 1,
        JoinType::Right => side == 0,
        JoinType::Full => true,
        _ => false,
    }
}
