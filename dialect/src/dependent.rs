//! Computes a correlated subquery for all rows that ask at once.
//!
//! The distinct values of the outer columns that a subquery names are its *questions*. They are joined to the subquery where it reads its tables, and
//! every operator above hands them on: an aggregate groups by them, a limit counts for each of them, a join joins on them. What comes out is the
//! subquery's answer to each question, with the question beside it. Nothing in a plan made so refers to an outer query, so any operator may
//! be where DataFusion's own rules would have to pull a predicate up through it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, NullEquality, Result, ScalarValue, plan_err};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Join, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Union, Window,
    WindowFrame, binary_expr, cast, lit, when,
};
use datafusion::prelude::coalesce;

use crate::streamable::unaliased;

/// Makes names that no query has.
#[derive(Default)]
pub(crate) struct Names {
    used: usize,
}

impl Names {
    pub(crate) fn next(&mut self) -> Column {
        self.used += 1;
        Column::from_name(format!("__sub_{}", self.used))
    }
}

/// The outer columns that a plan names itself, each once; those of subqueries in its expressions are not among them.
pub(crate) fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::OuterReferenceColumn(_, column) = part
                    && !found.contains(column)
                {
                    found.push(column.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// The questions that rows of a plan ask, as a plan, and what its columns are called.
pub(crate) struct Questions<'a> {
    plan: LogicalPlan,
    /// By outer column.
    names: HashMap<Column, Column>,
    /// The outer columns and their names here, in one order.
    pub(crate) outer: Vec<Column>,
    pub(crate) columns: Vec<Column>,
    made: &'a mut Names,
}

impl<'a> Questions<'a> {
    /// Of the outer columns of a subquery those that `asking` has; the others are of a query further out.
    pub(crate) fn of(asking: &LogicalPlan, subquery: &LogicalPlan, made: &'a mut Names) -> Result<Self> {
        let mut outer = outer_columns(subquery)?;
        outer.retain(|column| asking.schema().has_column(column));
        let columns: Vec<Column> = outer.iter().map(|_| made.next()).collect();
        let names: HashMap<Column, Column> = outer.iter().cloned().zip(columns.iter().cloned()).collect();
        let plan = if outer.is_empty() {
            LogicalPlanBuilder::empty(true).build()?
        } else {
            let named = outer.iter().zip(&columns).map(|(column, name)| Expr::Column(column.clone()).alias(name.name.clone()));
            LogicalPlanBuilder::from(asking.clone()).project(named)?.distinct()?.build()?
        };
        Ok(Self { plan, names, outer, columns, made })
    }

    /// The whole rows of `asking` as questions, for subqueries that [give each its own rows](hands_rows_on): nothing has to be joined to them later.
    pub(crate) fn whole_rows(asking: &LogicalPlan, subquery: &LogicalPlan, made: &'a mut Names) -> Result<Self> {
        let mut outer = outer_columns(subquery)?;
        outer.retain(|column| asking.schema().has_column(column));
        let names = outer.iter().map(|column| (column.clone(), column.clone())).collect();
        let columns = asking.schema().columns();
        Ok(Self { plan: asking.clone(), names, outer, columns, made })
    }

    /// True if the subquery gives the same answer to all.
    pub(crate) fn is_one(&self) -> bool {
        self.outer.is_empty()
    }

    /// The columns of the questions as expressions.
    pub(crate) fn exprs(&self) -> Vec<Expr> {
        self.columns.iter().cloned().map(Expr::Column).collect()
    }

    fn asked_in(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(outer_columns(plan)?.iter().any(|column| self.names.contains_key(column)))
    }

    fn inner(&self, expr: Expr) -> Result<Expr> {
        expr.transform(|part| match &part {
            Expr::OuterReferenceColumn(_, column) if self.names.contains_key(column) => {
                Ok(Transformed::yes(Expr::Column(self.names[column].clone())))
            }
            _ => Ok(Transformed::no(part)),
        })
        .data()
    }

    fn inners(&self, exprs: &[Expr]) -> Result<Vec<Expr>> {
        exprs.iter().map(|expr| self.inner(expr.clone())).collect()
    }

    /// The plan's rows for each question, beside it.
    pub(crate) fn answered(&mut self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if let LogicalPlan::EmptyRelation(empty) = plan
            && empty.produce_one_row
        {
            return Ok(self.plan.clone());
        }
        if !self.asked_in(plan)? {
            return LogicalPlanBuilder::from(self.plan.clone()).cross_join(plan.clone())?.build();
        }
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.answered(&projection.input)?;
                let exprs = self.inners(&projection.expr)?;
                self.named(input, exprs, &projection.schema)
            }
            LogicalPlan::Filter(filter) => {
                let input = self.answered(&filter.input)?;
                let predicate = self.inner(filter.predicate.clone())?;
                LogicalPlanBuilder::from(input).filter(predicate)?.build()
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.answered(&alias.input)?;
                let exprs = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
                self.named(input, exprs, &alias.schema)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let input = self.answered(&sort.input)?;
                let by = self.sorted(&sort.expr)?;
                LogicalPlanBuilder::from(input).sort(by)?.build()
            }
            LogicalPlan::Subquery(subquery) => self.answered(&subquery.subquery),
            LogicalPlan::Distinct(Distinct::All(input)) => LogicalPlanBuilder::from(self.answered(input)?).distinct()?.build(),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Unnest(unnest) => {
                let input = self.answered(&unnest.input)?;
                let unnested = LogicalPlanBuilder::from(input)
                    .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
                    .build()?;
                let exprs = unnest.schema.columns().into_iter().map(Expr::Column).collect();
                self.named(unnested, exprs, &unnest.schema)
            }
            other => {
                let node = other.display().to_string();
                let node = node.split([':', ' ']).next().unwrap_or_default();
                plan_err!("a subquery with a column of the outer query below its {node} cannot be computed")
            }
        }
    }

    /// The expressions under the names that a schema gave them, with the questions beside them.
    fn named(&self, input: LogicalPlan, exprs: Vec<Expr>, schema: &DFSchema) -> Result<LogicalPlan> {
        let named = exprs.into_iter().zip(schema.iter()).map(|(expr, (qualifier, field))| {
            let column = Column::from((qualifier, field));
            if expr == Expr::Column(column) { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) }
        });
        let exprs: Vec<Expr> = named.chain(self.exprs()).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
    }

    fn sorted(&self, by: &[SortExpr]) -> Result<Vec<SortExpr>> {
        by.iter().map(|sort| Ok(SortExpr { expr: self.inner(sort.expr.clone())?, ..sort.clone() })).collect()
    }

    /// Without GROUP BY each question has one row even where nothing answers it.
    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<LogicalPlan> {
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return plan_err!("a subquery with GROUPING SETS, ROLLUP or CUBE over a column of the outer query cannot be computed");
        }
        let input = self.answered(&aggregate.input)?;
        let mut groups = self.inners(&aggregate.group_expr)?;
        let computed = self.inners(&aggregate.aggr_expr)?;
        let own = groups.len();
        groups.extend(self.exprs());
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, computed.clone())?);
        let columns = grouped.schema().columns();
        let values = |at: usize| Expr::Column(columns[at].clone());
        let skipped = own + self.columns.len();
        if own > 0 || self.is_one() {
            let exprs = (0..own).chain(skipped..columns.len()).map(values).collect();
            return self.named(grouped, exprs, &aggregate.schema);
        }
        let answers: Vec<Column> = self.columns.iter().map(|_| self.made.next()).collect();
        let there = self.made.next();
        let mut renamed: Vec<Expr> = answers
            .iter()
            .enumerate()
            .map(|(at, name)| values(at).alias(name.name.clone()))
            .chain([lit(true).alias(there.name.clone())])
            .collect();
        let results: Vec<Column> = computed.iter().map(|_| self.made.next()).collect();
        renamed.extend(results.iter().enumerate().map(|(at, name)| values(skipped + at).alias(name.name.clone())));
        let grouped = LogicalPlanBuilder::from(grouped).project(renamed)?.build()?;
        let joined = LogicalPlanBuilder::from(self.plan.clone())
            .join_on(grouped, JoinType::Left, same_values(&self.columns, &answers, self.plan.schema())?)?
            .build()?;
        let mut exprs = Vec::new();
        for (call, result) in computed.iter().zip(results) {
            let result = Expr::Column(result);
            let of_nothing = match unaliased(call) {
                Expr::AggregateFunction(AggregateFunction { func, .. }) => func.default_value(&result.get_type(joined.schema())?)?,
                _ => return plan_err!("a subquery with the aggregate {call} over a column of the outer query cannot be computed"),
            };
            exprs.push(match of_nothing.is_null() {
                true => result,
                false => when(Expr::Column(there.clone()).is_null(), lit(of_nothing)).otherwise(result)?,
            });
        }
        self.named(joined, exprs, &aggregate.schema)
    }

    fn window(&mut self, window: &Window) -> Result<LogicalPlan> {
        let input = self.answered(&window.input)?;
        let calls = self.inners(&window.window_expr)?.into_iter().map(|call| self.for_each(call)).collect::<Result<Vec<_>>>()?;
        let before = input.schema().fields().len();
        let computed = LogicalPlan::Window(Window::try_new(calls, Arc::new(input))?);
        let columns = computed.schema().columns();
        let exprs = window.input.schema().columns().into_iter().chain(columns[before..].iter().cloned()).map(Expr::Column).collect();
        self.named(computed, exprs, &window.schema)
    }

    /// The window function with a partition for each question.
    fn for_each(&self, call: Expr) -> Result<Expr> {
        let exprs = self.exprs();
        call.transform(|part| match part {
            Expr::WindowFunction(mut function) => {
                function.params.partition_by.extend(exprs.iter().cloned());
                Ok(Transformed::new(Expr::WindowFunction(function), true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    /// Counts rows for each question in the order of the sort below.
    fn limit(&mut self, limit: &Limit) -> Result<LogicalPlan> {
        if let LogicalPlan::Projection(projection) = limit.input.as_ref() {
            // What is sorted by may not be among the columns, so the limit goes below.
            let below = Limit { input: Arc::clone(&projection.input), ..limit.clone() };
            let input = self.answered(&LogicalPlan::Limit(below))?;
            let exprs = self.inners(&projection.expr)?;
            return self.named(input, exprs, &projection.schema);
        }
        let by = match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => self.sorted(&sort.expr)?,
            _ => Vec::new(),
        };
        let input = self.answered(&limit.input)?;
        let mut number = WindowFunction::new(row_number_udwf(), vec![]);
        number.params.partition_by = self.exprs();
        number.params.order_by = by;
        if !number.params.order_by.is_empty() {
            number.params.window_frame = WindowFrame::new(Some(false));
        }
        let before = input.schema().fields().len();
        let numbered = LogicalPlan::Window(Window::try_new(vec![Expr::from(number)], Arc::new(input))?);
        let number = cast(Expr::Column(numbered.schema().columns()[before].clone()), DataType::Int64);
        let bound = |expr: &Option<Box<Expr>>| expr.as_deref().map(|expr| self.inner(expr.clone())).transpose();
        let (skip, fetch) = (bound(&limit.skip)?, bound(&limit.fetch)?);
        let skip = coalesce(vec![cast(skip.unwrap_or_else(|| lit(0_i64)), DataType::Int64), lit(0_i64)]);
        let mut wanted = number.clone().gt(skip.clone());
        if let Some(fetch) = fetch {
            wanted = wanted.and((number - skip).lt_eq(cast(fetch, DataType::Int64)));
        }
        let kept = LogicalPlanBuilder::from(numbered).filter(wanted)?.build()?;
        let exprs = limit.input.schema().columns().into_iter().map(Expr::Column).collect();
        self.named(kept, exprs, limit.input.schema())
    }

    fn union(&mut self, union: &Union) -> Result<LogicalPlan> {
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let answered = self.answered(input)?;
            let exprs = input.schema().columns().into_iter().map(Expr::Column).collect();
            inputs.push(Arc::new(self.named(answered, exprs, input.schema())?));
        }
        let united = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let columns = united.schema().columns();
        let exprs = columns[..union.schema.fields().len()].iter().cloned().map(Expr::Column).collect();
        self.named(united, exprs, &union.schema)
    }

    /// A side that names no outer column answers all questions alike, unless rows of it alone may come out.
    fn join(&mut self, join: &Join) -> Result<LogicalPlan> {
        use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        let filter = join.filter.clone().map(|filter| self.inner(filter)).transpose()?;
        let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
        for (left, right) in &join.on {
            left_keys.push(self.inner(left.clone())?);
            right_keys.push(self.inner(right.clone())?);
        }
        let same = match join.null_equality {
            NullEquality::NullEqualsNull => |l: Expr, r: Expr| binary_expr(l, Operator::IsNotDistinctFrom, r),
            NullEquality::NullEqualsNothing => |l: Expr, r: Expr| l.eq(r),
        };
        let own: Vec<Expr> = left_keys.into_iter().zip(right_keys).map(|(l, r)| same(l, r)).chain(filter).collect();
        let left = self.answered(&join.left)?;
        // The questions of the right side under names of its own.
        let right_alone = join.join_type == Inner && !self.asked_in(&join.right)?;
        let (right, answers) = if right_alone {
            (join.right.as_ref().clone(), Vec::new())
        } else {
            let answers: Vec<Column> = self.columns.iter().map(|_| self.made.next()).collect();
            let right = self.answered(&join.right)?;
            let own = join.right.schema().columns().into_iter().map(Expr::Column);
            let renamed = self.exprs().into_iter().zip(&answers).map(|(expr, name)| expr.alias(name.name.clone()));
            (LogicalPlanBuilder::from(right).project(own.chain(renamed))?.build()?, answers)
        };
        if join.null_aware || matches!(join.join_type, LeftMark | RightMark) {
            return plan_err!("a subquery within a subquery cannot be computed here");
        }
        let same_question = if right_alone { Vec::new() } else { same_values(&self.columns, &answers, left.schema())? };
        let joined = LogicalPlanBuilder::from(left).join_on(right, join.join_type, same_question.into_iter().chain(own))?.build()?;
        let own = join.schema.columns().into_iter().map(Expr::Column);
        let questions = self.columns.iter().zip(answers.iter().map(Some).chain(std::iter::repeat(None))).map(|(name, answer)| {
            let left = Expr::Column(name.clone());
            match (join.join_type, answer.cloned().map(Expr::Column)) {
                (Full, Some(right)) => coalesce(vec![left, right]).alias(name.name.clone()),
                (Right | RightSemi | RightAnti, Some(right)) => right.alias(name.name.clone()),
                (Inner | Left | LeftSemi | LeftAnti, _) | (_, None) => left,
                (LeftMark | RightMark, Some(_)) => left,
            }
        });
        let exprs: Vec<Expr> = own.chain(questions).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?))
    }
}

/// That columns of two sides of a join have the same values, where NULL is one. Said with equalities of values that are never NULL: DataFusion's rules
/// take a join on IS NOT DISTINCT FROM for one that may be joined to others on that, too.
pub(crate) fn same_values(left: &[Column], right: &[Column], left_schema: &DFSchema) -> Result<Vec<Expr>> {
    let mut same = Vec::new();
    for (l, r) in left.iter().zip(right) {
        let field = left_schema.field_from_column(l)?;
        let (nullable, zero) = (field.is_nullable(), some_value(field.data_type()));
        let (l, r) = (Expr::Column(l.clone()), Expr::Column(r.clone()));
        match zero {
            _ if !nullable => same.push(l.eq(r)),
            Some(zero) => {
                same.push(coalesce(vec![l.clone(), lit(zero.clone())]).eq(coalesce(vec![r.clone(), lit(zero)])));
                same.push(l.is_null().eq(r.is_null()));
            }
            _ => same.push(binary_expr(l, Operator::IsNotDistinctFrom, r)),
        }
    }
    Ok(same)
}

/// Any value of a type that is not NULL, if one is known.
fn some_value(data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        // DataFusion's own default forgets what the fields of lists are called, and panics where such a list is within a struct.
        DataType::Struct(fields) => {
            let values = fields.iter().map(|field| some_value(field.data_type())?.to_array().ok());
            let values = values.collect::<Option<Vec<_>>>()?;
            let rows = StructArray::try_new_with_length(fields.clone(), values, None, 1).ok()?;
            Some(ScalarValue::Struct(Arc::new(rows)))
        }
        DataType::List(item) => {
            let empty = ListArray::new(item.clone(), OffsetBuffer::from_lengths([0]), new_empty_array(item.data_type()), None);
            Some(ScalarValue::List(Arc::new(empty)))
        }
        flat => ScalarValue::new_default(flat).ok().filter(|value| !value.is_null()),
    }
}

/// True if each question of a subquery gets rows of its own whatever the others are, so that equal questions need not be told apart.
pub(crate) fn hands_rows_on(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Subquery(_) => plan.inputs().into_iter().all(hands_rows_on),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}
