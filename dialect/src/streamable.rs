//! Says whether a plan can run as a stream, and if not, what comes nearest that can.
//!
//! What can: a source, or several united by `UNION ALL` or joined within an interval; filters and projections; window functions; `DEDUPLICATE`; `OVER` with frames that reach back by a time; `GROUP BY` with a
//! column of the window in it, so that each group is finished once the watermark passes the end of its window. They may follow one another, as each
//! hands rows on with a watermark that holds for them: by the event time of the source, and after a `GROUP BY` by the times of its window.

use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, TableScan, UserDefinedLogicalNode, Window};
use watershed_functions::deduplicate::Deduplicate;
use watershed_functions::window::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowAssign, WindowKind};

use crate::SqlError;
use crate::definition::SourceDefinition;
use crate::source_table::SourceTable;
use crate::union_all;
use crate::{interval_join, over};

/// Fails, with the reason and a hint, if `plan` cannot run as a stream. Takes an analysed or optimised plan of a query over a [`SourceTable`].
pub fn check_streamable(plan: &LogicalPlan) -> Result<(), SqlError> {
    walk(plan, plan, Seen::default())
}

fn walk<'a>(mut node: &'a LogicalPlan, plan: &LogicalPlan, mut seen: Seen<'a>) -> Result<(), SqlError> {
    loop {
        check_expressions(node)?;
        node = match node {
            LogicalPlan::Projection(p) => &p.input,
            LogicalPlan::Filter(f) => &f.input,
            LogicalPlan::SubqueryAlias(a) => &a.input,
            LogicalPlan::Aggregate(aggregate) => seen.aggregate(aggregate, node)?,
            LogicalPlan::Window(window) => seen.over(window, node)?,
            LogicalPlan::Extension(extension) => seen.extension(extension, node)?,
            LogicalPlan::TableScan(scan) => return seen.scan(scan, plan),
            LogicalPlan::Union(union) => {
                union_all::check(union, seen.above())?;
                for (part, input) in union.inputs.iter().enumerate() {
                    walk(input, plan, seen.within(part))?;
                }
                return Ok(());
            }
            LogicalPlan::Join(join) => {
                let meeting = interval_join::of(join).map_err(|error| placed(error, node))?;
                interval_join::check_sides(join)?;
                for (side, (input, time)) in [&join.left, &join.right].into_iter().zip(meeting.times).enumerate() {
                    let mut seen = seen.within(side);
                    seen.time(input, time, "JOIN");
                    walk(input, plan, seen)?;
                }
                return Ok(());
            }
            other => return Err(refusal(other)),
        };
    }
}

/// Where the first column in some expressions is in the text.
pub(crate) fn place_of(exprs: &[Expr]) -> Option<(u64, u64)> {
    let mut place = None;
    for expr in exprs {
        let _ = expr.apply(|part| {
            if let Expr::Column(column) = part
                && let Some(span) = column.spans.first()
            {
                place = Some((span.start.line, span.start.column));
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if place.is_some() {
            break;
        }
    }
    place
}

/// The error at the place of the node's first column, unless it has one.
pub(crate) fn placed(error: SqlError, node: &LogicalPlan) -> SqlError {
    match place_of(&node.expressions()) {
        Some((line, column)) => error.at_least(line, column),
        None => error,
    }
}

/// What was met on the way down.
#[derive(Default, Clone)]
struct Seen<'a> {
    /// Whether an OVER has rows that no GROUP BY lies under yet.
    over: bool,
    /// Whether a GROUP BY is above.
    grouped: bool,
    /// Event-time columns, which must be those that the watermark speaks of.
    times: Vec<Time<'a>>,
    /// Which part was taken of each UNION ALL, and which side of each JOIN.
    way: Vec<usize>,
}

/// An event-time column.
#[derive(Clone)]
struct Time<'a> {
    /// The plan whose rows it is of.
    input: &'a LogicalPlan,
    column: &'a Column,
    operator: &'static str,
    /// How many of these were above.
    depth: usize,
}

impl<'a> Seen<'a> {
    /// A step above that goes by time.
    fn above(&self) -> Option<&'static str> {
        self.times.last().map(|time| time.operator).or(self.grouped.then_some("GROUP BY"))
    }

    /// The same for the part of this number of a UNION ALL, or the side of a JOIN.
    fn within(&self, part: usize) -> Self {
        let mut seen = self.clone();
        seen.way.push(part);
        seen
    }

    fn time(&mut self, input: &'a LogicalPlan, column: &'a Column, operator: &'static str) {
        self.times.push(Time { input, column, operator, depth: self.way.len() });
    }

    fn aggregate(&mut self, aggregate: &'a Aggregate, node: &'a LogicalPlan) -> Result<&'a LogicalPlan, SqlError> {
        (self.over, self.grouped) = (false, true);
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(placed(SqlError::new("GROUPING SETS, ROLLUP and CUBE cannot run as a stream yet"), node)
                .hint("group by the finest columns in the stream and roll up when you query the table"));
        }
        for expr in &aggregate.aggr_expr {
            if let Expr::AggregateFunction(call) = unaliased(expr)
                && !call.params.order_by.is_empty()
            {
                return Err(placed(SqlError::new(format!("ORDER BY inside {}() cannot run as a stream yet", call.func.name())), node)
                    .hint("leave it out, or use min() and max()"));
            }
        }
        let closing = closing(&aggregate.input);
        let windows = aggregate.group_expr.iter().filter_map(|expr| match unaliased(expr) {
            Expr::Column(column) => match origin(&aggregate.input, column, &[]) {
                Origin::Window { assign, name, .. } if is_same(closing, assign) => Some((assign.kind, name)),
                _ => None,
            },
            _ => None,
        });
        let windows: Vec<_> = windows.collect();
        // Cumulating windows share their start, so only an end tells them apart.
        let enough = windows.iter().any(|(kind, name)| !matches!(kind, WindowKind::Cumulate { .. }) || *name != WINDOW_START);
        if enough {
            return Ok(&aggregate.input);
        }
        if !windows.is_empty() {
            return Err(placed(SqlError::new("GROUP BY over CUMULATE needs window_end: all windows of a series begin together"), node)
                .hint("write GROUP BY window_start, window_end, …"));
        }
        Err(placed(unbounded(aggregate), node))
    }

    fn over(&mut self, window: &'a Window, node: &'a LogicalPlan) -> Result<&'a LogicalPlan, SqlError> {
        self.over = true;
        self.time(&window.input, over::check(window, node)?, "OVER");
        Ok(&window.input)
    }

    fn extension(&mut self, extension: &'a Extension, node: &'a LogicalPlan) -> Result<&'a LogicalPlan, SqlError> {
        if let Some(assign) = node_of::<WindowAssign>(extension) {
            if self.over {
                return Err(placed(SqlError::new(format!("OVER over {} cannot run as a stream yet", assign.kind.name())), node)
                    .hint("put OVER into the query that the window function reads"));
            }
            self.time(&assign.input, &assign.time_column, assign.kind.name());
            return Ok(&assign.input);
        }
        if let Some(deduplicate) = node_of::<Deduplicate>(extension) {
            self.time(&deduplicate.input, &deduplicate.time_column, "DEDUPLICATE");
            return Ok(&deduplicate.input);
        }
        Err(SqlError::new(format!("{} cannot run as a stream", extension.node.name())))
    }

    fn scan(&self, scan: &TableScan, plan: &LogicalPlan) -> Result<(), SqlError> {
        let provider = source_as_provider(&scan.source).ok();
        let provider: Option<&dyn TableProvider> = provider.as_deref();
        let Some(source) = provider.and_then(|p| p.downcast_ref::<SourceTable>()) else {
            return Err(placed(SqlError::new(format!("'{}' is a table, and a streaming table reads a source", scan.table_name)), plan)
                .hint("define the input with CREATE SOURCE, or query the table in batch"));
        };
        for time in &self.times {
            check_time(source.definition(), time, &self.way[time.depth..])?;
        }
        Ok(())
    }
}

/// The event time of windows, OVER and deduplication must be one that the watermark speaks of, else nothing ever closes.
fn check_time(source: &SourceDefinition, time: &Time, way: &[usize]) -> Result<(), SqlError> {
    let Time { input, column, operator, .. } = *time;
    let at = |error: SqlError| match column.spans.first() {
        Some(span) => error.at(span.start.line, span.start.column),
        None => error,
    };
    let Some(watermark) = &source.watermark else {
        return Err(at(SqlError::new(format!("{operator} needs a watermark, and source '{}' declares none", source.name))
            .detail("without it no window ever closes and no key is ever forgotten")
            .hint(format!("add to CREATE SOURCE: WATERMARK FOR {0} AS {0} - INTERVAL '10 seconds'", column.name))));
    };
    let write = |name: &str| match operator {
        "OVER" => format!("write ORDER BY {name}"),
        "JOIN" => format!("bound {name} in ON"),
        _ => format!("write DESCRIPTOR({name})"),
    };
    match origin(input, column, way) {
        Origin::Source(name) if name == watermark.column => Ok(()),
        Origin::Window { ended: true, .. } | Origin::Elsewhere => Ok(()),
        Origin::Lacking => Err(at(SqlError::new(format!("{operator} is by '{}', which is NULL in rows without a partner", column.name))
            .detail("what such rows have of the other side of the JOIN has no time")
            .hint("go by the event time of the side whose rows are all kept, or write an INNER JOIN"))),
        _ if !way.is_empty() => Err(at(SqlError::new(format!(
            "{operator} is by '{}', which is not '{}' in the part of the query that reads source '{}'",
            column.name, watermark.column, source.name
        ))
        .detail("the rows of each source go by the event time that its watermark follows")
        .hint(match operator {
            "JOIN" => format!("bound {} in ON, as the source has it", watermark.column),
            _ => format!("put {} AS {} in its place there, as the source has it", watermark.column, column.name),
        }))),
        _ if is_grouped(input) => {
            Err(at(SqlError::new(format!("{operator} is by '{}', which is no time of the windows of the GROUP BY in it", column.name))
                .detail("rows of a GROUP BY come once their window has ended, and then only its own times are known to be over")
                .hint(format!("{}, or one of window_start and window_end, and name it in GROUP BY", write(WINDOW_TIME)))))
        }
        Origin::Computed => Err(at(SqlError::new(format!(
            "{operator} is by '{}', which is computed, and the watermark of source '{}' follows '{}' as the source has it",
            column.name, source.name, watermark.column
        ))
        .hint(format!("hand '{0}' on as it is, and give what is computed of it another name: {0}, … AS computed", watermark.column)))),
        _ => Err(at(SqlError::new(format!(
            "{operator} is by '{}', but the watermark of source '{}' follows '{}'",
            column.name, source.name, watermark.column
        ))
        .hint(write(&watermark.column)))),
    }
}

fn unbounded(aggregate: &Aggregate) -> SqlError {
    let group = &aggregate.group_expr;
    // An expression over the time, such as date_bin(…), is what the window takes the place of.
    let columns = group.iter().filter_map(|expr| match unaliased(expr) {
        Expr::Column(column) => Some(format!(", {}", column.name)),
        _ => None,
    });
    let more: String = columns.collect();
    let hint =
        format!("window it: FROM TUMBLE(TABLE t, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start, window_end{more}");
    if has_window(&aggregate.input) {
        return SqlError::new("GROUP BY has no column of the window in it")
            .detail("without one a group is never finished")
            .hint(format!("write GROUP BY window_start, window_end{more}"));
    }
    let function = aggregate.aggr_expr.iter().find_map(|expr| match unaliased(expr) {
        Expr::AggregateFunction(call) => Some(call.func.name().to_string()),
        _ => None,
    });
    let what = match function {
        Some(function) if group.is_empty() => format!("{function}() over the whole stream"),
        _ => "GROUP BY without a window".to_string(),
    };
    SqlError::new(format!("{what} is never finished")).detail("a stream has no end, so the result would change for ever").hint(hint)
}

fn has_window(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Extension(e) if node_of::<WindowAssign>(e).is_some()))).unwrap_or(false)
}

/// What an expression is without the names given to it.
pub(crate) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// Whether a GROUP BY made the rows of a plan, at whatever depth.
fn is_grouped(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)))).unwrap_or(false)
}

pub(crate) fn node_of<T: 'static>(extension: &Extension) -> Option<&T> {
    let user: &dyn UserDefinedLogicalNode = extension.node.as_ref();
    user.as_any().downcast_ref()
}

/// The windows that the rows of a plan are in, or are results of: those that were assigned last.
fn closing(plan: &LogicalPlan) -> Option<&WindowAssign> {
    match plan {
        LogicalPlan::Extension(e) => match node_of::<WindowAssign>(e) {
            Some(assign) => Some(assign),
            None => node_of::<Deduplicate>(e).and_then(|deduplicate| closing(&deduplicate.input)),
        },
        LogicalPlan::Projection(p) => closing(&p.input),
        LogicalPlan::Filter(f) => closing(&f.input),
        LogicalPlan::SubqueryAlias(a) => closing(&a.input),
        LogicalPlan::Window(w) => closing(&w.input),
        LogicalPlan::Aggregate(a) => closing(&a.input),
        _ => None,
    }
}

fn is_same(known: Option<&WindowAssign>, assign: &WindowAssign) -> bool {
    known.is_some_and(|known| std::ptr::eq(known, assign))
}

/// Where a column comes from.
enum Origin<'a> {
    /// A bound of a row's window; `ended` says that a GROUP BY has made the row a result of it.
    Window {
        assign: &'a WindowAssign,
        name: &'static str,
        ended: bool,
    },
    Source(String),
    Computed,
    /// Of another side of a join than the one that is asked about.
    Elsewhere,
    /// Of a side of a join whose rows may be lacking.
    Lacking,
}

/// Follows a column down through operators that hand it on unchanged; `way` says which part to take of each UNION ALL.
fn origin<'a>(plan: &'a LogicalPlan, column: &Column, way: &[usize]) -> Origin<'a> {
    let Some(index) = plan.schema().maybe_index_of_column(column) else { return Origin::Computed };
    origin_at(plan, index, way)
}

fn origin_at<'a>(plan: &'a LogicalPlan, index: usize, way: &[usize]) -> Origin<'a> {
    match plan {
        LogicalPlan::Projection(p) => origin_through(&p.input, p.expr.get(index), way),
        LogicalPlan::Aggregate(a) => match origin_through(&a.input, a.group_expr.get(index), way) {
            Origin::Window { assign, name, .. } if is_same(closing(&a.input), assign) => Origin::Window { assign, name, ended: true },
            // Of other times the watermark says nothing any more: rows of a window come when that has ended.
            _ => Origin::Computed,
        },
        LogicalPlan::Filter(f) => origin_at(&f.input, index, way),
        LogicalPlan::Window(w) if index < w.input.schema().fields().len() => origin_at(&w.input, index, way),
        LogicalPlan::SubqueryAlias(a) => origin_at(&a.input, index, way),
        LogicalPlan::TableScan(scan) => Origin::Source(scan.projected_schema.field(index).name().clone()),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            let (side, index) = if index < left { (0, index) } else { (1, index - left) };
            match way.split_first() {
                _ if interval_join::may_lack(join, side) => Origin::Lacking,
                Some((taken, way)) if *taken == side => origin_at([&join.left, &join.right][side], index, way),
                Some(_) => Origin::Elsewhere,
                None => Origin::Computed,
            }
        }
        LogicalPlan::Union(union) => match way.split_first() {
            Some((part, way)) => origin_at(&union.inputs[*part], index, way),
            None => Origin::Computed,
        },
        LogicalPlan::Extension(e) => {
            if let Some(assign) = node_of::<WindowAssign>(e) {
                match index.checked_sub(assign.input.schema().fields().len()) {
                    None => match origin_at(&assign.input, index, way) {
                        // The windows that count are from here on these.
                        Origin::Window { .. } => Origin::Computed,
                        other => other,
                    },
                    Some(0) => Origin::Window { assign, name: WINDOW_START, ended: false },
                    Some(1) => Origin::Window { assign, name: WINDOW_END, ended: false },
                    Some(_) => Origin::Window { assign, name: WINDOW_TIME, ended: false },
                }
            } else if let Some(deduplicate) = node_of::<Deduplicate>(e) {
                origin_at(&deduplicate.input, index, way)
            } else {
                Origin::Computed
            }
        }
        _ => Origin::Computed,
    }
}

fn origin_through<'a>(input: &'a LogicalPlan, expr: Option<&Expr>, way: &[usize]) -> Origin<'a> {
    match expr.map(unaliased) {
        Some(Expr::Column(column)) => origin(input, column, way),
        _ => Origin::Computed,
    }
}

pub(crate) fn check_expressions(node: &LogicalPlan) -> Result<(), SqlError> {
    for expr in node.expressions() {
        let subquery = expr
            .exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))));
        if subquery.unwrap_or(false) {
            return Err(placed(SqlError::new("a subquery in an expression cannot run as a stream"), node)
                .detail("it would have to be asked anew for each row, and its answer could change between a row and its replay")
                .hint("keep the column in the streaming table and compare when you query it"));
        }
    }
    Ok(())
}

/// The reason and the way out for operators that no stream has (yet).
fn refusal(node: &LogicalPlan) -> SqlError {
    let (message, hint): (String, &str) = match node {
        LogicalPlan::Sort(_) => (
            "ORDER BY over a stream never ends: the last row may be the first in order".into(),
            "leave it out and sort when you query the table",
        ),
        LogicalPlan::Limit(_) => ("LIMIT over a stream has no bound to count in".into(), "leave it out and limit when you query the table"),
        LogicalPlan::Distinct(distinct) if matches!(distinct.input().as_ref(), LogicalPlan::Union(_)) => (
            "UNION over streams would remember every row for ever".into(),
            "write UNION ALL, and put DEDUPLICATE around it if rows may repeat: \
             DEDUPLICATE(TABLE (SELECT … UNION ALL SELECT …) PARTITION BY key, DESCRIPTOR(event_time), INTERVAL '10 minutes')",
        ),
        LogicalPlan::Distinct(_) => (
            "DISTINCT over a stream would remember every row for ever".into(),
            "use DEDUPLICATE(TABLE t PARTITION BY key, DESCRIPTOR(event_time), INTERVAL '10 minutes'), or GROUP BY window_start, …",
        ),
        LogicalPlan::Unnest(_) => {
            ("UNNEST is not supported in streams yet".into(), "keep the list in the table and unnest it when you query")
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            ("the query reads no source, so it is no stream".into(), "read a source: SELECT … FROM a source that CREATE SOURCE defines")
        }
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE cannot run as a stream".into(), "compute it when you query the table"),
        other => (
            format!("{} cannot run as a stream", other.display()),
            "write a query of SELECT, WHERE, JOIN, UNION ALL, TUMBLE or HOP with GROUP BY, OVER, or DEDUPLICATE",
        ),
    };
    placed(SqlError::new(message).hint(hint), node)
}
