//! Lineage from logical plans, node by node: columns are known by their place in what a node gives.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan, Unnest, WindowFunctionDefinition};
use watershed_functions::deduplicate::Deduplicate;
use watershed_functions::numbers::as_written;
use watershed_functions::window::WindowAssign;

use super::{Lineage, Origins, Role};

/// The lineage of what a plan gives.
pub fn lineage(plan: &LogicalPlan) -> Lineage {
    let Flow { columns, rows } = Walker::default().plan(plan);
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    Lineage { columns: names.zip(columns).collect(), rows }
}

/// What a node gives.
#[derive(Debug, Clone, Default)]
struct Flow {
    columns: Vec<Origins>,
    rows: Origins,
}

#[derive(Default)]
struct Walker {
    /// The rows around a subquery, innermost last.
    outer: Vec<(DFSchema, Vec<Origins>)>,
    /// What recursive queries begin with, by name.
    recursive: BTreeMap<String, Vec<Origins>>,
}

/// The columns that an expression is over.
struct Scope<'a> {
    schema: &'a DFSchema,
    columns: &'a [Origins],
}

impl Walker {
    fn plan(&mut self, plan: &LogicalPlan) -> Flow {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let input = match scan.table_name.schema() {
                    Some(schema) => format!("{schema}.{}", scan.table_name.table()),
                    None => scan.table_name.table().to_owned(),
                };
                let names = scan.projected_schema.fields().iter();
                let columns = match self.recursive.get(&input) {
                    Some(columns) => columns.clone(),
                    None => names.map(|field| Origins::column(&input, field.name())).collect(),
                };
                let mut flow = Flow { columns, rows: Origins::default() };
                self.rows(&mut flow, &scan.projected_schema, &scan.filters, Role::Filter);
                flow
            }
            LogicalPlan::Projection(projection) => {
                let mut flow = self.plan(&projection.input);
                self.project(&mut flow, projection.input.schema(), &projection.expr);
                flow
            }
            LogicalPlan::Filter(filter) => {
                let mut flow = self.plan(&filter.input);
                self.rows(&mut flow, filter.input.schema(), [&filter.predicate], Role::Filter);
                flow
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut flow = self.plan(&aggregate.input);
                let keys = grouping_set_to_exprlist(&aggregate.group_expr).unwrap_or_default();
                self.rows(&mut flow, aggregate.input.schema(), keys.iter().copied(), Role::GroupBy);
                let scope = Scope { schema: aggregate.input.schema(), columns: &flow.columns };
                let keys: Vec<Origins> = keys.into_iter().map(|key| self.value(key, &scope)).collect();
                let results: Vec<Origins> = aggregate.aggr_expr.iter().map(|expr| self.value(expr, &scope)).collect();
                let width = aggregate.schema.fields().len();
                // Grouping sets have a column more, which says which of them a row is of.
                let which = (keys.len() + results.len() < width).then(|| Origins::all(keys.iter().cloned()).transformed());
                flow.columns = keys.into_iter().chain(which).chain(results).collect();
                flow
            }
            LogicalPlan::Window(window) => {
                let mut flow = self.plan(&window.input);
                let scope = Scope { schema: window.input.schema(), columns: &flow.columns };
                let results: Vec<Origins> = window.window_expr.iter().map(|expr| self.value(expr, &scope)).collect();
                flow.columns.extend(results);
                flow
            }
            LogicalPlan::Sort(sort) => {
                let mut flow = self.plan(&sort.input);
                self.rows(&mut flow, sort.input.schema(), sorted(&sort.expr), Role::Sort);
                flow
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let mut inputs = union.inputs.iter().map(|input| self.plan(input)).collect::<Vec<_>>().into_iter();
                let mut flow = inputs.next().unwrap_or_default();
                for other in inputs {
                    flow.columns.iter_mut().zip(other.columns).for_each(|(column, more)| column.add(more));
                    flow.rows.add(other.rows);
                }
                flow
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut flow = self.plan(input);
                flow.rows.add(Origins::all(flow.columns.iter().cloned()).deciding(Role::GroupBy));
                flow
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let mut flow = self.plan(&on.input);
                self.rows(&mut flow, on.input.schema(), &on.on_expr, Role::GroupBy);
                self.rows(&mut flow, on.input.schema(), sorted(on.sort_expr.as_deref().unwrap_or_default()), Role::Sort);
                self.project(&mut flow, on.input.schema(), &on.select_expr);
                flow
            }
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Subquery(subquery) => self.plan(&subquery.subquery),
            LogicalPlan::Limit(limit) => self.plan(&limit.input),
            LogicalPlan::Repartition(repartition) => self.plan(&repartition.input),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => {
                let mut flow = self.plan(&query.static_term);
                let before = self.recursive.insert(query.name.clone(), flow.columns.clone());
                let repeated = self.plan(&query.recursive_term);
                match before {
                    Some(before) => drop(self.recursive.insert(query.name.clone(), before)),
                    None => drop(self.recursive.remove(&query.name)),
                }
                flow.columns.iter_mut().zip(repeated.columns).for_each(|(column, more)| column.add(more));
                flow.rows.add(repeated.rows);
                flow
            }
            LogicalPlan::Values(values) => {
                let schema = DFSchema::empty();
                let empty = Scope { schema: &schema, columns: &[] };
                let mut columns = vec![Origins::default(); values.schema.fields().len()];
                for row in &values.values {
                    columns.iter_mut().zip(row).for_each(|(column, value)| column.add(self.value(value, &empty)));
                }
                Flow { columns, rows: Origins::default() }
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_ref();
                if let Some(windows) = node.as_any().downcast_ref::<WindowAssign>() {
                    let mut flow = self.plan(&windows.input);
                    let time = of_column(&windows.time_column, windows.input.schema(), &flow.columns).unwrap_or_default().transformed();
                    flow.columns.extend([time.clone(), time.clone(), time]);
                    flow
                } else if let Some(deduplicate) = node.as_any().downcast_ref::<Deduplicate>() {
                    let mut flow = self.plan(&deduplicate.input);
                    let columns = deduplicate.keys.iter().chain([&deduplicate.time_column]);
                    let found = columns.filter_map(|column| of_column(column, deduplicate.input.schema(), &flow.columns));
                    flow.rows.add(Origins::all(found).deciding(Role::Filter));
                    flow
                } else {
                    self.unknown(plan)
                }
            }
            other => self.unknown(other),
        }
    }

    /// Of a node whose meaning is not known here: anything may be made of everything.
    fn unknown(&mut self, plan: &LogicalPlan) -> Flow {
        let inputs: Vec<Flow> = plan.inputs().into_iter().map(|input| self.plan(input)).collect();
        let everything = Origins::all(inputs.iter().flat_map(|input| input.columns.iter().cloned())).transformed();
        let rows = Origins::all(inputs.into_iter().map(|input| input.rows));
        Flow { columns: vec![everything; plan.schema().fields().len()], rows }
    }

    fn join(&mut self, join: &Join) -> Flow {
        let (left, right) = (self.plan(&join.left), self.plan(&join.right));
        let mut both = Flow { columns: left.columns.clone(), rows: Origins::all([left.rows, right.rows]) };
        both.columns.extend(right.columns.clone());
        let mut met = Origins::default();
        if let Ok(schema) = join.left.schema().join(join.right.schema()) {
            let keys = join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
            let mut keyed = Flow { columns: both.columns.clone(), rows: Origins::default() };
            self.rows(&mut keyed, &schema, keys, Role::Join);
            met = keyed.rows;
        }
        both.rows.add(met.clone());
        match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => both.columns = left.columns,
            JoinType::RightSemi | JoinType::RightAnti => both.columns = right.columns,
            // A column more says whether a row met one.
            JoinType::LeftMark => both.columns = left.columns.into_iter().chain([met]).collect(),
            JoinType::RightMark => both.columns = right.columns.into_iter().chain([met]).collect(),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {}
        }
        both
    }

    fn unnest(&mut self, unnest: &Unnest) -> Flow {
        let flow = self.plan(&unnest.input);
        let taken_apart = |place: usize| {
            unnest.struct_type_columns.contains(&place) || unnest.list_type_columns.iter().any(|(column, _)| *column == place)
        };
        let column = |place: &usize| {
            let from = flow.columns.get(*place).cloned().unwrap_or_default();
            if taken_apart(*place) { from.transformed() } else { from }
        };
        Flow { columns: unnest.dependency_indices.iter().map(column).collect(), rows: flow.rows }
    }

    /// The columns that `exprs` compute, in place of those there are.
    fn project(&mut self, flow: &mut Flow, schema: &DFSchema, exprs: &[Expr]) {
        let scope = Scope { schema, columns: &flow.columns };
        flow.columns = exprs.iter().map(|expr| self.value(expr, &scope)).collect();
    }

    /// Adds what decides about rows.
    fn rows<'a>(&mut self, flow: &mut Flow, schema: &DFSchema, exprs: impl IntoIterator<Item = &'a Expr>, role: Role) {
        let scope = Scope { schema, columns: &flow.columns };
        let by = Origins::all(exprs.into_iter().map(|expr| self.value(expr, &scope)).collect::<Vec<_>>());
        flow.rows.add(by.deciding(role));
    }

    /// What an expression of a query is made of: as it was written, without what guards it.
    fn value(&mut self, expr: &Expr, scope: &Scope) -> Origins {
        self.expr(&as_written(expr), scope)
    }

    /// What an expression is made of.
    fn expr(&mut self, expr: &Expr, scope: &Scope) -> Origins {
        match expr {
            Expr::Alias(alias) => self.expr(&alias.expr, scope),
            Expr::Column(column) => of_column(column, scope.schema, scope.columns).unwrap_or_default(),
            Expr::OuterReferenceColumn(_, column) => {
                let around = self.outer.iter().rev();
                around.into_iter().find_map(|(schema, columns)| of_column(column, schema, columns)).unwrap_or_default()
            }
            Expr::Case(case) => {
                let mut conditions: Vec<&Expr> = case.expr.iter().map(AsRef::as_ref).collect();
                let mut values: Vec<&Expr> = case.else_expr.iter().map(AsRef::as_ref).collect();
                for (when, then) in &case.when_then_expr {
                    conditions.push(when);
                    values.push(then);
                }
                let mut made = self.exprs(values, scope).transformed();
                made.add(self.exprs(conditions, scope).deciding(Role::Conditional));
                made
            }
            Expr::AggregateFunction(function) => {
                let params = &function.params;
                let mut made = self.exprs(&params.args, scope).aggregated();
                made.add(self.exprs(params.filter.as_deref(), scope).deciding(Role::Filter));
                made.add(self.exprs(sorted(&params.order_by), scope).deciding(Role::Sort));
                made
            }
            Expr::WindowFunction(function) => {
                let params = &function.params;
                let mut made = self.exprs(&params.args, scope);
                let sums_up = match &function.fun {
                    WindowFunctionDefinition::AggregateUDF(aggregate) => !super::picks_one(aggregate.name()),
                    WindowFunctionDefinition::WindowUDF(_) => false,
                };
                made = if sums_up { made.aggregated() } else { made.transformed() };
                made.add(self.exprs(params.filter.as_deref(), scope).deciding(Role::Filter));
                made.add(self.exprs(params.partition_by.iter().chain(sorted(&params.order_by)), scope).deciding(Role::Window));
                made
            }
            Expr::ScalarFunction(function) if function.name() == "get_field" => {
                let mut made = function.args.first().map(|of| self.expr(of, scope)).unwrap_or_default();
                for key in function.args.iter().skip(1) {
                    made = match key {
                        Expr::Literal(value, _) if value.try_as_str().flatten().is_some() => {
                            made.field(value.try_as_str().flatten().unwrap_or_default())
                        }
                        other => Origins::all([made, self.expr(other, scope)]).transformed(),
                    };
                }
                made
            }
            Expr::ScalarSubquery(subquery) => self.subquery(&subquery.subquery, scope),
            Expr::Exists(exists) => self.subquery(&exists.subquery.subquery, scope).transformed(),
            Expr::InSubquery(within) => {
                let found = self.subquery(&within.subquery.subquery, scope);
                Origins::all([self.expr(&within.expr, scope), found]).transformed()
            }
            Expr::SetComparison(comparison) => {
                let found = self.subquery(&comparison.subquery.subquery, scope);
                Origins::all([self.expr(&comparison.expr, scope), found]).transformed()
            }
            other => {
                let mut parts = Vec::new();
                // Never fails: what it calls does not.
                let _ = other.apply_children(|child| {
                    parts.push(self.expr(child, scope));
                    Ok(TreeNodeRecursion::Continue)
                });
                Origins::all(parts).transformed()
            }
        }
    }

    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>, scope: &Scope) -> Origins {
        Origins::all(exprs.into_iter().map(|expr| self.expr(expr, scope)).collect::<Vec<_>>())
    }

    /// The values of a subquery, and what decides about its rows, which is what decides about its values.
    fn subquery(&mut self, plan: &LogicalPlan, scope: &Scope) -> Origins {
        self.outer.push((scope.schema.clone(), scope.columns.to_vec()));
        let flow = self.plan(plan);
        self.outer.pop();
        Origins::all(flow.columns.into_iter().chain([flow.rows]))
    }
}

fn of_column(column: &Column, schema: &DFSchema, columns: &[Origins]) -> Option<Origins> {
    columns.get(schema.maybe_index_of_column(column)?).cloned()
}

fn sorted(sorts: &[Sort]) -> impl Iterator<Item = &Expr> {
    sorts.iter().map(|sort| &sort.expr)
}
