//! Subqueries in expressions become joins here where DataFusion has no plan for them, or one that gives other rows than SQL says.
//!
//! DataFusion keeps those that it computes rightly and fast: `IN`, `EXISTS` and `NOT EXISTS` as a condition of WHERE over plain filters, and scalar
//! subqueries of one aggregate by equality. All others (`NOT IN` beside NULL, `ALL`, `ANY`, subqueries in the SELECT list, over limits, aggregates
//! or other subqueries, `LATERAL`) are [asked](Questions) at once for all rows, and their answers are joined to the rows that ask.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::count::{count, count_all};
use datafusion::functions_aggregate::first_last::first_value;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Sort, Window,
    binary_expr, cast, lit, not, when,
};
use datafusion::prelude::coalesce;
use watershed_functions::numbers::{common, max, min};

use crate::dependent::{Names, Questions, hands_rows_on, outer_columns, same_values};
use crate::one_value::one_value;
use crate::streamable::unaliased;

/// The plan with the subqueries that are ours as joins.
pub(crate) fn with_subqueries_joined(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply(|node| {
        any |= matches!(node, LogicalPlan::Subquery(_)) || node.expressions().iter().any(has_subquery);
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !any {
        return Ok(plan);
    }
    let mut names = Names::default();
    // From the innermost: a subquery's own subqueries are joined when it is looked at.
    plan.transform_up_with_subqueries(|node| joined(node, &mut names)).data()
}

fn joined(node: LogicalPlan, names: &mut Names) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Join(join) = &node
        && let Some(subquery) = lateral(&join.right)
        && outer_columns(subquery)?.is_empty()
    {
        // It is LATERAL in name only.
        let right = Arc::new(without_lateral(&join.right)?);
        return joined(LogicalPlan::Join(Join { right, ..join.clone() }), names)?.transform_data(|node| Ok(Transformed::yes(node)));
    }
    if let LogicalPlan::Join(join) = &node
        && let Some(subquery) = lateral(&join.right)
        && outer_columns(subquery)?.iter().any(|column| join.left.schema().has_column(column))
    {
        return Ok(Transformed::yes(joined_laterally(join, names)?));
    }
    if !node.expressions().iter().any(has_subquery) {
        return Ok(Transformed::no(node));
    }
    match node {
        LogicalPlan::Filter(filter) => filtered(filter, names),
        LogicalPlan::Projection(projection) => {
            let mut asking = Asking::new(&projection.input, names);
            let exprs = asking.replace_all(projection.expr.clone(), Place::Looked)?;
            if !asking.joined {
                return Ok(Transformed::no(LogicalPlan::Projection(projection)));
            }
            Ok(Transformed::yes(named(asking.plan, exprs, &projection.schema)?))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let mut asking = Asking::new(&aggregate.input, names);
            let groups = asking.replace_all(aggregate.group_expr.clone(), Place::Other)?;
            let computed = asking.replace_all(aggregate.aggr_expr.clone(), Place::Other)?;
            if !asking.joined {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            let computed = Aggregate::try_new(Arc::new(asking.plan), groups, computed)?;
            let exprs = computed.schema.columns().into_iter().map(Expr::Column).collect();
            Ok(Transformed::yes(named(LogicalPlan::Aggregate(computed), exprs, &aggregate.schema)?))
        }
        LogicalPlan::Window(window) => {
            let mut asking = Asking::new(&window.input, names);
            let calls = asking.replace_all(window.window_expr.clone(), Place::Other)?;
            if !asking.joined {
                return Ok(Transformed::no(LogicalPlan::Window(window)));
            }
            let before = asking.plan.schema().fields().len();
            let computed = LogicalPlan::Window(Window::try_new(calls, Arc::new(asking.plan))?);
            let calls = computed.schema().columns().split_off(before);
            let exprs = window.input.schema().columns().into_iter().chain(calls).map(Expr::Column).collect();
            Ok(Transformed::yes(named(computed, exprs, &window.schema)?))
        }
        LogicalPlan::Sort(sort) => {
            let mut asking = Asking::new(&sort.input, names);
            let mut by = sort.expr.clone();
            for key in &mut by {
                key.expr = asking.replace(key.expr.clone(), Place::Other)?;
            }
            if !asking.joined {
                return Ok(Transformed::no(LogicalPlan::Sort(sort)));
            }
            let sorted = LogicalPlan::Sort(Sort { expr: by, input: Arc::new(asking.plan), fetch: sort.fetch });
            let exprs = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
            Ok(Transformed::yes(named(sorted, exprs, sort.input.schema())?))
        }
        LogicalPlan::Join(join) => {
            if join.join_type != JoinType::Inner {
                return plan_err!("a subquery in ON of an outer join cannot be computed: put it in a query of its own, and join that");
            }
            let on = join.on.into_iter().map(|(left, right)| left.eq(right));
            let conditions = conjunction(on.chain(join.filter));
            let both = LogicalPlanBuilder::from(Arc::unwrap_or_clone(join.left)).cross_join(Arc::unwrap_or_clone(join.right))?.build()?;
            let Some(condition) = conditions else { return Ok(Transformed::yes(both)) };
            let filter = Filter::try_new(condition, Arc::new(both))?;
            Ok(Transformed::yes(filtered(filter, names)?.data))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn filtered(filter: Filter, names: &mut Names) -> Result<Transformed<LogicalPlan>> {
    let mut asking = Asking::new(&filter.input, names);
    let conditions = split_conjunction_owned(filter.predicate.clone());
    let conditions = conditions.into_iter().map(|condition| asking.replace_condition(condition)).collect::<Result<Vec<_>>>()?;
    if !asking.joined {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let Some(predicate) = conjunction(conditions) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
    let kept = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(asking.plan))?);
    let exprs = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(named(kept, exprs, filter.input.schema())?))
}

/// The expressions under the names of a schema.
fn named(input: LogicalPlan, exprs: Vec<Expr>, schema: &datafusion::common::DFSchema) -> Result<LogicalPlan> {
    let named = exprs.into_iter().zip(schema.iter()).map(|(expr, (qualifier, field))| {
        if expr == Expr::Column(Column::from((qualifier, field))) { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(input))?))
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |part: &Expr| matches!(part, Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_));
    expr.exists(|part| Ok(is_one(part))).unwrap_or(true)
}

/// The subquery of `LATERAL` on the right of a join.
fn lateral(right: &LogicalPlan) -> Option<&LogicalPlan> {
    match right {
        LogicalPlan::Subquery(_) => Some(right),
        LogicalPlan::SubqueryAlias(alias) => lateral(&alias.input).map(|_| right),
        _ => None,
    }
}

/// A plan that [`lateral`] finds, as any other.
fn without_lateral(right: &LogicalPlan) -> Result<LogicalPlan> {
    match right {
        LogicalPlan::Subquery(subquery) => Ok(subquery.subquery.as_ref().clone()),
        LogicalPlan::SubqueryAlias(alias) => LogicalPlanBuilder::from(without_lateral(&alias.input)?).alias(alias.alias.clone())?.build(),
        other => Ok(other.clone()),
    }
}

fn joined_laterally(join: &Join, names: &mut Names) -> Result<LogicalPlan> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return plan_err!("LATERAL is of an inner or a left join: the rows of its right side are made for each of the left");
    }
    let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let mut conditions: Vec<Expr> = on.chain(join.filter.clone()).collect();
    let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
    if join.join_type == JoinType::Inner && hands_rows_on(&join.right) {
        let answered = Questions::whole_rows(&join.left, &join.right, names)?.answered(&join.right)?;
        let answered = match conjunction(conditions) {
            Some(condition) => LogicalPlanBuilder::from(answered).filter(condition)?.build()?,
            None => answered,
        };
        return named(answered, columns, &join.schema);
    }
    let mut questions = Questions::of(&join.left, &join.right, names)?;
    let answers = questions.answered(&join.right)?;
    conditions.extend(same_values(&questions.outer, &questions.columns, join.left.schema())?);
    let joined = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_on(answers, join.join_type, conditions)?.build()?;
    named(joined, columns, &join.schema)
}

/// Where an expression is, as far as DataFusion's rules look for subqueries.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The condition of a filter, or a column of a projection.
    Looked,
    Other,
}

/// A plan whose rows ask, and to which answers are joined.
struct Asking<'a> {
    base: LogicalPlan,
    plan: LogicalPlan,
    joined: bool,
    names: &'a mut Names,
}

impl<'a> Asking<'a> {
    fn new(input: &Arc<LogicalPlan>, names: &'a mut Names) -> Self {
        Self { base: input.as_ref().clone(), plan: input.as_ref().clone(), joined: false, names }
    }

    fn replace_all(&mut self, exprs: Vec<Expr>, place: Place) -> Result<Vec<Expr>> {
        exprs.into_iter().map(|expr| self.replace(expr, place)).collect()
    }

    fn replace(&mut self, expr: Expr, place: Place) -> Result<Expr> {
        expr.transform_up(|part| match part {
            Expr::Exists(exists) => Ok(Transformed::yes(self.exists(&exists)?)),
            Expr::InSubquery(within) => Ok(Transformed::yes(self.within(*within.expr, &within.subquery.subquery, within.negated)?)),
            Expr::SetComparison(comparison) => Ok(Transformed::yes(self.compared(comparison)?)),
            Expr::ScalarSubquery(ref subquery) => {
                let (own, outer) = self.outer_columns(&subquery.subquery)?;
                let alone = own == 0 && outer == 0 && !may_lack_its_row(&subquery.subquery);
                let left_to_datafusion = alone || own > 0 && outer == 0 && place != Place::Other && is_plain_value(&subquery.subquery)?;
                match left_to_datafusion {
                    true => Ok(Transformed::no(part)),
                    false => Ok(Transformed::yes(self.value(&subquery.subquery)?)),
                }
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    /// A condition that must hold for a row to be kept.
    fn replace_condition(&mut self, condition: Expr) -> Result<Expr> {
        let (inner, denied) = match &condition {
            Expr::Not(inner) => (inner.as_ref(), true),
            other => (other, false),
        };
        let left_to_datafusion = match inner {
            Expr::Exists(Exists { subquery, .. }) => {
                let (_, outer) = self.outer_columns(&subquery.subquery)?;
                outer == 0 && is_plain(&subquery.subquery)?
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) if !has_subquery(expr) => {
                let (own, outer) = self.outer_columns(&subquery.subquery)?;
                let plain_column = matches!(unaliased(expr), Expr::Column(_));
                match negated ^ denied {
                    true => own == 0 && outer == 0 && plain_column,
                    false => outer == 0 && (own == 0 || is_plain(&subquery.subquery)?) && !expr.column_refs().is_empty(),
                }
            }
            _ => false,
        };
        if left_to_datafusion { Ok(condition) } else { self.replace(condition, Place::Looked) }
    }

    /// How many outer columns of a subquery are of these rows, and how many of a query further out.
    fn outer_columns(&self, subquery: &LogicalPlan) -> Result<(usize, usize)> {
        let columns = outer_columns(subquery)?;
        let own = columns.iter().filter(|column| self.base.schema().has_column(column)).count();
        Ok((own, columns.len() - own))
    }

    /// Joins answers, at most one for each question, under the names they have.
    fn join(&mut self, answers: LogicalPlan, outer: &[Column], columns: &[Column], more: Vec<Expr>) -> Result<()> {
        let mut on = same_values(outer, columns, self.plan.schema())?;
        on.extend(more);
        if on.is_empty() {
            on.push(lit(true));
        }
        let plan = std::mem::replace(&mut self.plan, LogicalPlanBuilder::empty(false).build()?);
        self.plan = LogicalPlanBuilder::from(plan).join_on(answers, JoinType::Left, on)?.build()?;
        self.joined = true;
        Ok(())
    }

    fn exists(&mut self, exists: &Exists) -> Result<Expr> {
        let there = self.names.next();
        let mut questions = Questions::of(&self.base, &exists.subquery.subquery, self.names)?;
        let answered = questions.answered(&exists.subquery.subquery)?;
        let answered = LogicalPlanBuilder::from(answered);
        // Without questions one row is enough.
        let some = if questions.is_one() { answered.limit(0, Some(1))? } else { answered.project(questions.exprs())?.distinct()? };
        let answers = some.project(questions.exprs().into_iter().chain([lit(true).alias(there.name.clone())]))?.build()?;
        let (outer, columns) = (questions.outer.clone(), questions.columns.clone());
        self.join(answers, &outer, &columns, vec![])?;
        let there = Expr::Column(there);
        Ok(if exists.negated { there.is_null() } else { there.is_not_null() })
    }

    /// `value IN (subquery)`: unknown if there are rows, none is equal, and the value or one of them is NULL.
    fn within(&mut self, value: Expr, subquery: &LogicalPlan, negated: bool) -> Result<Expr> {
        let (value, subquery) = self.comparable(value, subquery, Operator::Eq)?;
        let value = self.column_of(value)?;
        let (there, found) = (self.names.next(), self.names.next());
        let mut questions = Questions::of(&self.base, &subquery, self.names)?;
        let answered = questions.answered(&subquery)?;
        let (outer, columns) = (questions.outer.clone(), questions.columns.clone());
        let column = Expr::Column(subquery.schema().columns().remove(0));
        let exprs: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
        let equal = LogicalPlanBuilder::from(answered.clone())
            .filter(column.clone().is_not_null())?
            .project(exprs.iter().cloned().chain([column.clone().alias(found.name.clone())]))?
            .distinct()?;
        // The names must differ from those of the join below.
        let renamed: Vec<Column> = columns.iter().map(|_| self.names.next()).collect();
        let again = exprs.iter().cloned().zip(&renamed).map(|(expr, name)| expr.alias(name.name.clone()));
        let equal = equal.project(again.chain([Expr::Column(found.clone()), lit(true).alias(there.name.clone())]))?.build()?;
        self.join(equal, &outer, &renamed, vec![value.clone().eq(Expr::Column(found))])?;
        let (rows, known) = self.counted(answered, &outer, &columns, column)?;
        let answer = when(Expr::Column(there).is_not_null(), lit(true))
            .when(rows.clone().eq(lit(0_i64)), lit(false))
            .when(value.is_null().or(known.lt(rows)), lit(ScalarValue::Boolean(None)))
            .otherwise(lit(false))?;
        Ok(if negated { not(answer) } else { answer })
    }

    /// `value op ANY|ALL (subquery)`: decided by the least and the greatest.
    fn compared(&mut self, comparison: SetComparison) -> Result<Expr> {
        let SetComparison { expr, subquery, op, quantifier } = comparison;
        match (op, quantifier) {
            (Operator::Eq, SetQuantifier::Any) => return self.within(*expr, &subquery.subquery, false),
            (Operator::NotEq, SetQuantifier::All) => return self.within(*expr, &subquery.subquery, true),
            _ => {}
        }
        let (value, subquery) = self.comparable(*expr, &subquery.subquery, op)?;
        let value = self.column_of(value)?;
        let mut questions = Questions::of(&self.base, &subquery, self.names)?;
        let answered = questions.answered(&subquery)?;
        let (outer, columns) = (questions.outer.clone(), questions.columns.clone());
        let column = Expr::Column(subquery.schema().columns().remove(0));
        let (least, greatest) = (self.names.next(), self.names.next());
        let ends = [min(column.clone()), max(column.clone())];
        self.aggregated(answered.clone(), &outer, &columns, ends.into(), &[least.clone(), greatest.clone()])?;
        let (rows, known) = self.counted(answered, &outer, &columns, column)?;
        let holds = |end: Column| binary_expr(value.clone(), op, Expr::Column(end));
        let all = quantifier == SetQuantifier::All;
        // One row decides ANY by agreeing and ALL by not doing so: which of them is the likeliest?
        let decided = match op {
            Operator::Lt | Operator::LtEq => holds(if all { least } else { greatest }),
            Operator::Gt | Operator::GtEq => holds(if all { greatest } else { least }),
            _ if all => holds(least).and(holds(greatest)),
            _ => holds(least).or(holds(greatest)),
        };
        let decided = if all { decided.is_false() } else { decided.is_true() };
        when(rows.clone().eq(lit(0_i64)), lit(all))
            .when(decided, lit(!all))
            .when(value.is_null().or(known.lt(rows)), lit(ScalarValue::Boolean(None)))
            .otherwise(lit(all))
    }

    /// The value of the one row that a scalar subquery may have.
    fn value(&mut self, subquery: &LogicalPlan) -> Result<Expr> {
        let mut questions = Questions::of(&self.base, subquery, self.names)?;
        let answered = questions.answered(subquery)?;
        let (outer, columns) = (questions.outer.clone(), questions.columns.clone());
        let column = Expr::Column(subquery.schema().columns().remove(0));
        let result = self.names.next();
        if has_one_row(subquery) {
            let exprs = columns.iter().cloned().map(Expr::Column).chain([column.alias(result.name.clone())]);
            let answers = LogicalPlanBuilder::from(answered).project(exprs)?.build()?;
            self.join(answers, &outer, &columns, vec![])?;
            return Ok(Expr::Column(result));
        }
        let rows = self.names.next();
        let computed = vec![first_value(column, vec![]), count_all()];
        self.aggregated(answered, &outer, &columns, computed, &[result.clone(), rows.clone()])?;
        Ok(one_value(Expr::Column(rows), Expr::Column(result)))
    }

    /// How many rows answer, and how many of them have a value.
    fn counted(&mut self, answered: LogicalPlan, outer: &[Column], columns: &[Column], column: Expr) -> Result<(Expr, Expr)> {
        let (rows, known) = (self.names.next(), self.names.next());
        self.aggregated(answered, outer, columns, vec![count_all(), count(column)], &[rows.clone(), known.clone()])?;
        let counted = |name: Column| coalesce(vec![Expr::Column(name), lit(0_i64)]);
        Ok((counted(rows), counted(known)))
    }

    /// Joins aggregates of the answers to each question.
    fn aggregated(
        &mut self,
        answered: LogicalPlan,
        outer: &[Column],
        columns: &[Column],
        computed: Vec<Expr>,
        results: &[Column],
    ) -> Result<()> {
        let groups: Vec<Expr> = columns.iter().cloned().map(Expr::Column).collect();
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(answered), groups, computed)?);
        let renamed: Vec<Column> = columns.iter().map(|_| self.names.next()).collect();
        let exprs = grouped.schema().columns().into_iter().zip(renamed.iter().chain(results));
        let exprs: Vec<Expr> = exprs.map(|(column, name)| Expr::Column(column).alias(name.name.clone())).collect();
        let answers = LogicalPlanBuilder::from(grouped).project(exprs)?.build()?;
        self.join(answers, outer, &renamed, vec![])
    }

    /// The value as a column of the plan, so that it is computed once.
    fn column_of(&mut self, value: Expr) -> Result<Expr> {
        if matches!(value, Expr::Column(_)) {
            return Ok(value);
        }
        let name = self.names.next();
        let exprs = self.plan.schema().columns().into_iter().map(Expr::Column).chain([value.alias(name.name.clone())]);
        let exprs: Vec<Expr> = exprs.collect();
        let plan = std::mem::replace(&mut self.plan, LogicalPlanBuilder::empty(false).build()?);
        self.plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        Ok(Expr::Column(name))
    }

    /// The value and the subquery's column as one type.
    fn comparable(&self, value: Expr, subquery: &LogicalPlan, op: Operator) -> Result<(Expr, LogicalPlan)> {
        let given = value.get_type(self.plan.schema())?;
        let column = subquery.schema().columns().remove(0);
        let found = subquery.schema().field(0).data_type().clone();
        let (mine, theirs) = match common(&[given.clone(), found.clone()]) {
            _ if given == found => (given.clone(), found.clone()),
            Some(common) => (common.clone(), common),
            None => BinaryTypeCoercer::new(&given, &op, &found).get_input_types()?,
        };
        let value = if mine == given { value } else { cast(value, mine) };
        let subquery = match theirs == found {
            true => subquery.clone(),
            false => {
                let name = subquery.schema().field(0).name().clone();
                LogicalPlanBuilder::from(subquery.clone()).project([cast(Expr::Column(column), theirs).alias(name)])?.build()?
            }
        };
        Ok((value, subquery))
    }
}

/// True if a plan is of filters over tables only, so that a predicate with an outer column may be taken out of it.
fn is_plain(plan: &LogicalPlan) -> Result<bool> {
    let here = match plan {
        LogicalPlan::Projection(projection) => {
            let is_odd = |expr: &Expr| expr.contains_outer() || is_unnest(expr) || has_subquery(expr) || hides(expr, &projection.input);
            !projection.expr.iter().any(is_odd)
        }
        LogicalPlan::Filter(filter) => !has_subquery(&filter.predicate),
        LogicalPlan::Join(join) => {
            let within = join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
            join.join_type == JoinType::Inner && !within.into_iter().any(|expr| expr.contains_outer() || has_subquery(expr))
        }
        LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => true,
        // What is uncorrelated is computed as it is.
        _ => return Ok(outer_columns(plan)?.is_empty() && matches!(plan, LogicalPlan::Distinct(Distinct::All(_)))),
    };
    Ok(here && plan.inputs().into_iter().map(is_plain).collect::<Result<Vec<_>>>()?.into_iter().all(|plain| plain))
}

/// True for a column with a name that a column below has, which could then not be handed on beside it.
fn hides(expr: &Expr, input: &LogicalPlan) -> bool {
    match expr {
        Expr::Alias(alias) if matches!(alias.expr.as_ref(), Expr::Column(column) if column.name == alias.name) => false,
        Expr::Alias(alias) => input.schema().fields().iter().any(|field| *field.name() == alias.name),
        _ => false,
    }
}

fn is_unnest(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::Unnest(_)))).unwrap_or(true)
}

/// True for one aggregate over a [plain](is_plain) plan that is correlated by equalities, perhaps in arithmetic: TPC-H writes such.
fn is_plain_value(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_plain_value(&alias.input),
        LogicalPlan::Projection(projection) => {
            let arithmetic =
                |part: &Expr| matches!(part, Expr::Column(_) | Expr::Alias(_) | Expr::Literal(..) | Expr::BinaryExpr(_) | Expr::Cast(_));
            let other = |expr: &Expr| expr.exists(|part| Ok(!arithmetic(part))).unwrap_or(true);
            Ok(!projection.expr.iter().any(other) && is_plain_value(&projection.input)?)
        }
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let of_nothing_null = aggregate.aggr_expr.iter().all(|expr| match unaliased(expr) {
                Expr::AggregateFunction(call) => {
                    !has_subquery(expr)
                        && !expr.contains_outer()
                        && call.func.default_value(&DataType::Int64).is_ok_and(|value| value.is_null())
                }
                _ => false,
            });
            Ok(of_nothing_null && is_plain(&aggregate.input)? && correlated_by_equality(&aggregate.input)?)
        }
        _ => Ok(false),
    }
}

fn correlated_by_equality(plan: &LogicalPlan) -> Result<bool> {
    let mut all = true;
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            for condition in split_conjunction_owned(filter.predicate.clone()) {
                all &= !condition.contains_outer()
                    || match &condition {
                        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
                            let is_outer = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(..));
                            is_outer(&binary.left) && matches!(*binary.right, Expr::Column(_))
                                || is_outer(&binary.right) && matches!(*binary.left, Expr::Column(_))
                        }
                        _ => false,
                    };
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

/// True if there may be no row where the column says that it is never NULL: DataFusion takes it at its word, and fails while it runs.
fn may_lack_its_row(plan: &LogicalPlan) -> bool {
    !plan.schema().field(0).is_nullable() && !has_its_row(plan)
}

fn has_its_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => plan.inputs().into_iter().all(has_its_row),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

/// True if a plan has one row at most for each question.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().all(has_one_row)
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Limit(limit) => match limit.fetch.as_deref() {
            Some(Expr::Literal(ScalarValue::Int64(Some(fetch)), _)) => *fetch <= 1,
            _ => false,
        },
        _ => false,
    }
}
