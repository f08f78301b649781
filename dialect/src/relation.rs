//! Plans `TUMBLE(…)`, `HOP(…)`, `CUMULATE(…)` and `DEDUPLICATE(…)` in FROM to plan nodes.
//!
//! Arguments are given in order or by name (`DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1 minute'`).
//!
//! It also gives the first columns of a relation the names that its alias has for them, where those are fewer than the columns.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, DataFusionError, Diagnostic, Result, Span};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Spanned, TableAlias, TableFactor, TableFunctionArgs,
};
use watershed_functions::deduplicate::Deduplicate;
use watershed_functions::window::{Us, WindowAssign, WindowKind};

use crate::interval::{NoLength, interval_us};
use crate::nearest::did_you_mean;
use crate::row_values::TUPLE;
use crate::syntax::as_table_argument;
use crate::table_function::TableFunction;
use crate::unique::without_wrong_notes;

/// Knows the window table functions, and aliases that name columns.
#[derive(Debug)]
pub(crate) struct WindowFunctionPlanner;

impl RelationPlanner for WindowFunctionPlanner {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let function = match &relation {
            TableFactor::Table { name, args: Some(_), .. } => TableFunction::of(name),
            _ => None,
        };
        let (call, alias, args) = match (function, relation) {
            (Some(function), TableFactor::Table { name, alias, args: Some(args), .. }) => {
                (Call { function, place: place(&name) }, alias, args)
            }
            (_, mut other) => {
                refuse_near_miss(&other)?;
                return match column_names(&mut other) {
                    Some(alias) => aliased(context.plan(other)?, alias, context),
                    None => planned_by_others(other, context),
                };
            }
        };
        let plan = call.plan(args, context)?;
        match alias {
            Some(alias) if !alias.columns.is_empty() => aliased(plan, alias, context),
            alias => Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias)))),
        }
    }
}

/// The alias of a relation, which then has none, if it names columns.
fn column_names(relation: &mut TableFactor) -> Option<TableAlias> {
    let alias = match relation {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias,
        _ => return None,
    };
    alias.take_if(|alias| !alias.columns.is_empty())
}

/// `t AS a (x, y)`: where the relation has more columns, the rest keep their names.
fn aliased(plan: LogicalPlan, mut alias: TableAlias, context: &dyn RelationPlannerContext) -> Result<RelationPlanning> {
    let columns = plan.schema().columns();
    let (given, found) = (alias.columns.len(), columns.len());
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let refused = |message: String, help: &str| {
        let diagnostic = Diagnostic::new_error(message.clone(), Span::try_from_sqlparser_span(alias.name.span)).with_help(help, None);
        Err(DataFusionError::Plan(message).with_diagnostic(diagnostic))
    };
    if alias.name.value == TUPLE && given != found {
        let message = format!("a row of {} is compared with the rows of a query of {}", counted(given, "part"), counted(found, "column"));
        return refused(message, "select as many columns as the row has parts");
    }
    if given > found {
        let message = format!("'{}' has {}, and {given} names are given", alias.name.value, counted(found, "column"));
        return refused(message, "leave out the names that are too many");
    }
    let mut plan = plan;
    if given < found {
        let names: Vec<String> = alias.columns.drain(..).map(|column| context.normalize_ident(column.name)).collect();
        let mut names = names.into_iter();
        let columns = columns.into_iter().map(|column| match names.next() {
            Some(name) => Expr::Column(column).alias(name),
            None => Expr::Column(column),
        });
        plan = LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()?;
    }
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
}

thread_local! {
    /// Set while the planner is asked for a relation that it has seen and left to others.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// A relation as DataFusion plans it, without wrong notes on which columns determine others.
fn planned_by_others(relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
    let may_aggregate = matches!(relation, TableFactor::Derived { .. } | TableFactor::Table { args: None, .. });
    if !may_aggregate || SEEN.replace(false) {
        return Ok(RelationPlanning::Original(Box::new(relation)));
    }
    SEEN.set(true);
    let plan = context.plan(relation);
    SEEN.set(false);
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(without_wrong_notes(plan?)?, None))))
}

/// A function that is not ours but takes DESCRIPTOR was meant to be.
fn refuse_near_miss(relation: &TableFactor) -> Result<()> {
    let TableFactor::Table { name, args: Some(args), .. } = relation else { return Ok(()) };
    let has_descriptor = args.args.iter().any(|arg| {
        let (FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. } | FunctionArg::ExprNamed { arg: value, .. }) = arg;
        matches!(value, FunctionArgExpr::Expr(SqlExpr::Function(f)) if is_named(&f.name, "descriptor"))
    });
    if !has_descriptor {
        return Ok(());
    }
    let message = format!("table function '{name}' does not exist");
    let near = did_you_mean(&name.to_string(), TableFunction::NAMES).unwrap_or_else(|| "use TUMBLE, HOP, CUMULATE or DEDUPLICATE".into());
    let diagnostic = Diagnostic::new_error(message.clone(), place(name)).with_help(near, None);
    Err(DataFusionError::Plan(message).with_diagnostic(diagnostic))
}

fn place(node: &impl Spanned) -> Option<Span> {
    Span::try_from_sqlparser_span(node.span())
}

/// One use of a window function.
struct Call {
    function: TableFunction,
    place: Option<Span>,
}

/// The arguments, told apart.
#[derive(Default)]
struct Arguments {
    data: Option<SqlExpr>,
    time: Option<SqlExpr>,
    intervals: [Option<SqlExpr>; 3],
}

impl Call {
    fn error(&self, message: impl Into<String>, place: Option<Span>, help: impl Into<String>) -> DataFusionError {
        let message = message.into();
        let diagnostic = Diagnostic::new_error(message.clone(), place.or(self.place)).with_help(help, None);
        DataFusionError::Plan(message).with_diagnostic(diagnostic)
    }

    fn wrong(&self, message: impl Into<String>, place: Option<Span>) -> DataFusionError {
        self.error(message, place, self.function.usage())
    }

    fn plan(&self, args: TableFunctionArgs, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
        let name = self.function.name().to_uppercase();
        let arguments = self.sort(args, &name)?;
        let data = arguments.data.ok_or_else(|| self.wrong(format!("{name} needs a table"), None))?;
        let data_place = place(&data);
        let (relation, keys) =
            as_table_argument(data).ok_or_else(|| self.wrong(format!("the first argument of {name} must be a table"), data_place))?;
        let input = Arc::new(context.plan(relation)?);

        let time = arguments.time.ok_or_else(|| self.wrong(format!("{name} needs DESCRIPTOR(time_column)"), None))?;
        let time_place = place(&time);
        let time_column = self.column(self.descriptor(time, &name)?, &input, context)?;
        self.check_time(&time_column, &input, &name, time_place)?;

        let (names, needed) = self.function.intervals();
        let mut us = [None; 3];
        for (i, (expr, argument)) in arguments.intervals.into_iter().zip(names).enumerate() {
            match expr {
                Some(expr) => us[i] = Some(self.interval(expr, argument, &name, context)?),
                None if i < needed => return Err(self.wrong(format!("{name} needs an interval for its {argument}"), None)),
                None => {}
            }
        }
        let first = us[0].unwrap_or_default();
        let kind = match self.function {
            TableFunction::Deduplicate => return self.deduplicate(input, keys, time_column, first, context),
            TableFunction::Tumble => WindowKind::Tumble { size_us: first, offset_us: us[1].unwrap_or(0) },
            TableFunction::Hop => WindowKind::Hop { slide_us: first, size_us: us[1].unwrap_or_default(), offset_us: us[2].unwrap_or(0) },
            TableFunction::Cumulate => {
                WindowKind::Cumulate { step_us: first, size_us: us[1].unwrap_or_default(), offset_us: us[2].unwrap_or(0) }
            }
            TableFunction::Session => return Err(self.wrong("SESSION windows are not supported yet", self.place)),
        };
        if let Some(key) = keys.first() {
            return Err(self.error(
                format!("{name} takes no PARTITION BY"),
                place(key),
                "leave it out and put the column in GROUP BY: each group then has its own windows",
            ));
        }
        kind.check().map_err(|why| {
            let swapped = matches!(kind, WindowKind::Hop { size_us, slide_us, .. } if slide_us > size_us);
            self.wrong(if swapped { format!("{why}; the slide comes before the size") } else { why }, None)
        })?;
        let node = WindowAssign::try_new(input, time_column, kind).map_err(|e| {
            let help = "rename the column in a subquery, or group by its windows first";
            self.error(e.message().into_owned(), self.place, help)
        })?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn deduplicate(
        &self,
        input: Arc<LogicalPlan>,
        keys: Vec<SqlExpr>,
        time_column: Column,
        within_us: i64,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        if keys.is_empty() {
            return Err(self.wrong("DEDUPLICATE needs PARTITION BY: the columns that make two rows the same event", None));
        }
        if within_us <= 0 {
            return Err(self.wrong(format!("the interval of DEDUPLICATE must be above zero, not {}", Us(within_us)), None));
        }
        let keys = keys.into_iter().map(|key| self.column(key, &input, context)).collect::<Result<Vec<_>>>()?;
        let node = Deduplicate::try_new(input, keys, time_column, within_us)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// Tells arguments apart by position or name.
    fn sort(&self, args: TableFunctionArgs, name: &str) -> Result<Arguments> {
        let (interval_names, _) = self.function.intervals();
        let mut sorted = Arguments::default();
        for (position, arg) in args.args.into_iter().enumerate() {
            let arg_place = place(&arg);
            let (slot, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (position, expr),
                FunctionArg::Named { name: ident, arg: FunctionArgExpr::Expr(expr), .. } => {
                    let wanted = ident.value.to_ascii_lowercase();
                    let slot = match wanted.as_str() {
                        "data" => Some(0),
                        "timecol" => Some(1),
                        other => interval_names.iter().position(|n| *n == other).map(|i| i + 2),
                    };
                    let known = || ["data", "timecol"].into_iter().chain(interval_names.iter().copied()).collect::<Vec<_>>().join(", ");
                    match slot {
                        Some(slot) => (slot, expr),
                        None => {
                            let help = format!("its arguments are {}", known());
                            return Err(self.error(format!("{name} has no argument '{wanted}'"), arg_place, help));
                        }
                    }
                }
                other => return Err(self.wrong(format!("{name} does not take '{other}'"), arg_place)),
            };
            let target = match slot {
                0 => &mut sorted.data,
                1 => &mut sorted.time,
                i if i - 2 < interval_names.len() => &mut sorted.intervals[i - 2],
                _ => return Err(self.wrong(format!("{name} takes at most {} arguments", interval_names.len() + 2), arg_place)),
            };
            if target.replace(expr).is_some() {
                return Err(self.wrong(format!("an argument of {name} is given twice"), arg_place));
            }
        }
        Ok(sorted)
    }

    /// `column` of `DESCRIPTOR(column)`.
    fn descriptor(&self, expr: SqlExpr, name: &str) -> Result<SqlExpr> {
        let whole = place(&expr);
        if let SqlExpr::Function(function) = expr
            && is_named(&function.name, "descriptor")
            && let FunctionArguments::List(mut list) = function.args
            && list.args.len() == 1
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(column))) = list.args.pop()
        {
            return Ok(column);
        }
        Err(self.wrong(format!("the second argument of {name} must be DESCRIPTOR(time_column)"), whole))
    }

    fn column(&self, expr: SqlExpr, input: &LogicalPlan, context: &mut dyn RelationPlannerContext) -> Result<Column> {
        let whole = place(&expr);
        match context.sql_to_expr(expr, input.schema())? {
            Expr::Column(column) => Ok(column),
            other => Err(self.error(
                format!("'{other}' is not a column"),
                whole,
                "compute it in a subquery first: TABLE (SELECT *, … AS name FROM t)",
            )),
        }
    }

    fn check_time(&self, column: &Column, input: &LogicalPlan, name: &str, place: Option<Span>) -> Result<()> {
        use arrow::datatypes::DataType::Timestamp;
        let schema: &DFSchema = input.schema();
        let (_, field) = schema.qualified_field_from_column(column)?;
        if matches!(field.data_type(), Timestamp(..)) {
            return Ok(());
        }
        let times: Vec<&str> =
            schema.fields().iter().filter(|f| matches!(f.data_type(), Timestamp(..))).map(|f| f.name().as_str()).collect();
        let help = match times.as_slice() {
            [] => "the table has no TIMESTAMP column: make one with to_timestamp(…) in a subquery".to_string(),
            some => format!("columns of type TIMESTAMP: {}", some.join(", ")),
        };
        Err(self.error(format!("{name} needs a TIMESTAMP column, but '{}' is {}", column.name, field.data_type()), place, help))
    }

    /// Microseconds of a constant interval of fixed length.
    fn interval(&self, expr: SqlExpr, argument: &str, name: &str, context: &mut dyn RelationPlannerContext) -> Result<i64> {
        let whole = place(&expr);
        let shown = expr.to_string();
        let not_constant = |why: String| {
            let help = "write a constant, such as INTERVAL '1 minute'";
            self.error(format!("the {argument} of {name} must be an interval, not {why}"), whole, help)
        };
        let value = match context.sql_to_expr(expr, &DFSchema::empty()) {
            Ok(Expr::Literal(value, _)) => interval_us(&value),
            Ok(Expr::Negative(inner)) => match *inner {
                Expr::Literal(value, _) => interval_us(&value).map(|us| -us),
                other => return Err(not_constant(other.to_string())),
            },
            Ok(other) => return Err(not_constant(other.to_string())),
            Err(_) => return Err(not_constant(shown)),
        };
        let why = match value {
            Ok(us) => return Ok(us),
            Err(NoLength::NoInterval) => return Err(not_constant(shown)),
            Err(NoLength::Months) => "months and years have none",
            Err(NoLength::Fraction) => "it has a fraction of a microsecond",
            Err(NoLength::TooLong) => "it is too long",
        };
        Err(self.error(
            format!("the {argument} of {name} must have a fixed length in microseconds: {why}"),
            whole,
            "use days, hours, minutes, seconds or milliseconds",
        ))
    }
}

fn is_named(name: &ObjectName, wanted: &str) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|i| i.value.eq_ignore_ascii_case(wanted)))
}
