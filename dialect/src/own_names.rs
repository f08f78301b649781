//! Names that tell expressions apart. DataFusion names a column by its expression, but without the types of casts, brackets, and what subqueries ask; and
//! refuses two columns of one name: `sum(v), sum(CAST(v AS DOUBLE))`. A statement that is refused for that is planned again with such parts marked.
//!
//! ```text
//! sum(CAST(v AS DOUBLE))  ──►  sum(__written(CAST(v AS DOUBLE)))  ──►  planned: sum(CAST(v AS DOUBLE) AS "CAST(t.v AS DOUBLE)")
//! ```
//!
//! All other statements keep the names that they have always had: columns of tables, and state, go by them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, SchemaError, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, OrderByKind, Query, Select, SelectItem, Value, VisitorMut,
};
use watershed_functions::sql_type;

use crate::diagnose::root;
use crate::forms;
use crate::walk::{self, End, Flow};

/// The function around what is marked. No text can name it: it is known only while a marked statement is planned.
const MARK: &str = "__written";

/// Whether a statement was refused because two of its columns have one name.
pub(crate) fn is_clash(error: &DataFusionError) -> bool {
    match root(error) {
        DataFusionError::SchemaError(error, _) => matches!(
            error.as_ref(),
            SchemaError::DuplicateQualifiedField { .. }
                | SchemaError::DuplicateUnqualifiedField { .. }
                | SchemaError::AmbiguousReference { .. }
        ),
        DataFusionError::Plan(message) => message.contains("require unique expression names"),
        _ => false,
    }
}

/// Plans a statement in which DataFusion has found two columns of one name.
pub(crate) async fn planned(state: &SessionState, mut statement: DfStatement) -> Result<LogicalPlan> {
    let marked = walk::change_statement(&mut statement, &mut Headings)
        .and_then(|()| walk::change_statement(&mut statement, &mut Selects::default()));
    marked.map_err(|error| DataFusionError::Plan(error.message))?;
    let mut state = state.clone();
    state.register_udf(Arc::new(ScalarUDF::new_from_impl(Mark { signature: Signature::variadic_any(Volatility::Immutable) })))?;
    unmarked(state.statement_to_plan(statement).await?)
}

/// Marks what is computed in every SELECT.
#[derive(Default)]
struct Selects {
    /// Subqueries that have been met, by their text: each has a number.
    queries: Vec<String>,
}

impl Selects {
    fn mark(&mut self, part: &mut impl datafusion::sql::sqlparser::ast::VisitMut) -> Flow {
        walk::flow(walk::change(part, &mut Marks { queries: &mut self.queries, depth: 0 }))
    }
}

impl VisitorMut for Selects {
    type Break = End;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        forms::order_by_headings(query);
        match query.order_by.as_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(keys)) => keys.iter_mut().try_for_each(|key| self.mark(&mut key.expr)),
            _ => Flow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.mark(expr)?;
            }
        }
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            self.mark(keys)?;
        }
        self.mark(&mut select.group_by)?;
        self.mark(&mut select.named_window)?;
        let conditions = select.having.iter_mut().chain(&mut select.qualify);
        for condition in conditions {
            self.mark(condition)?;
        }
        Flow::Continue(())
    }
}

/// Gives what is computed the text that it is written as for a name, before there are marks in it.
struct Headings;

impl VisitorMut for Headings {
    type Break = End;

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        forms::head_select(select, forms::Repeated::Stay);
        Flow::Continue(())
    }
}

/// Marks parts of one expression, but nothing within its subqueries.
struct Marks<'a> {
    queries: &'a mut Vec<String>,
    depth: usize,
}

impl VisitorMut for Marks<'_> {
    type Break = End;

    fn pre_visit_query(&mut self, _: &mut Query) -> Flow {
        self.depth += 1;
        Flow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> Flow {
        self.depth -= 1;
        Flow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> Flow {
        if self.depth > 0 {
            return Flow::Continue(());
        }
        operands(expr).into_iter().for_each(mark_brackets);
        match expr {
            SqlExpr::Cast { .. } | SqlExpr::TypedString(_) => mark(expr, None),
            SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => self.mark_query(expr),
            SqlExpr::AnyOp { right, .. } | SqlExpr::AllOp { right, .. } if is_marked(right) => {
                bare(right);
                self.mark_query(expr);
            }
            // A field is taken of what is written, which decides how.
            SqlExpr::CompoundFieldAccess { root, .. } if is_marked(root) => {
                bare(root);
                self.mark_query(expr);
            }
            _ => {}
        }
        Flow::Continue(())
    }
}

impl Marks<'_> {
    fn mark_query(&mut self, expr: &mut SqlExpr) {
        let text = expr.to_string();
        let known = self.queries.iter().position(|query| *query == text);
        let number = known.unwrap_or_else(|| {
            self.queries.push(text);
            self.queries.len() - 1
        });
        mark(expr, Some(format!("(subquery {})", number + 1)));
    }
}

/// What an operator has beside it, where brackets say what belongs together.
fn operands(expr: &mut SqlExpr) -> Vec<&mut SqlExpr> {
    match expr {
        SqlExpr::BinaryOp { left, right, .. } | SqlExpr::IsDistinctFrom(left, right) | SqlExpr::IsNotDistinctFrom(left, right) => {
            vec![left.as_mut(), right.as_mut()]
        }
        SqlExpr::UnaryOp { expr, .. }
        | SqlExpr::IsNull(expr)
        | SqlExpr::IsNotNull(expr)
        | SqlExpr::IsTrue(expr)
        | SqlExpr::IsNotTrue(expr)
        | SqlExpr::IsFalse(expr)
        | SqlExpr::IsNotFalse(expr)
        | SqlExpr::IsUnknown(expr)
        | SqlExpr::IsNotUnknown(expr) => vec![expr.as_mut()],
        SqlExpr::Between { expr, low, high, .. } => vec![expr.as_mut(), low.as_mut(), high.as_mut()],
        SqlExpr::Like { expr, pattern, .. } | SqlExpr::ILike { expr, pattern, .. } | SqlExpr::SimilarTo { expr, pattern, .. } => {
            vec![expr.as_mut(), pattern.as_mut()]
        }
        SqlExpr::InList { expr, list, .. } => std::iter::once(expr.as_mut()).chain(list).collect(),
        _ => Vec::new(),
    }
}

fn mark_brackets(operand: &mut SqlExpr) {
    if let SqlExpr::Nested(inner) = operand
        && !operands(inner).is_empty()
    {
        mark(operand, None);
    }
}

/// Puts an expression into a mark, which has its own name for it if it is given none.
fn mark(expr: &mut SqlExpr, name: Option<String>) {
    let Ok(SqlExpr::Function(mut call)) = forms::parsed(&format!("{MARK}()")) else { return };
    let inner = std::mem::replace(expr, SqlExpr::Value(Value::Null.into()));
    let name = name.map(|name| SqlExpr::Value(Value::SingleQuotedString(name).into()));
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = std::iter::once(inner).chain(name).map(|part| FunctionArg::Unnamed(FunctionArgExpr::Expr(part))).collect();
    }
    *expr = SqlExpr::Function(call);
}

fn is_marked(expr: &SqlExpr) -> bool {
    matches!(expr, SqlExpr::Function(call) if call.name.to_string() == MARK)
}

/// Takes a mark away again.
fn bare(expr: &mut SqlExpr) {
    if let SqlExpr::Function(call) = expr
        && let FunctionArguments::List(list) = &mut call.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))) = list.args.first_mut()
    {
        let inner = std::mem::replace(inner, SqlExpr::Value(Value::Null.into()));
        *expr = inner;
    }
}

/// The plan with aliases in the place of marks, under the same names.
fn unmarked(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        // What these compute has no name.
        let has_names = !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Sort(_));
        node.map_expressions(|expr| {
            expr.transform_up(|part| match part {
                Expr::ScalarFunction(mut call) if call.func.name() == MARK => {
                    let name = call.func.schema_name(&call.args)?;
                    let inner = call.args.swap_remove(0);
                    Ok(Transformed::yes(if has_names { inner.alias(name) } else { inner }))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })
    .data()
}

/// Its first argument, under another name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        MARK
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [_, Expr::Literal(name, _)] => name.try_as_str().flatten().unwrap_or_default().to_owned(),
            [Expr::Cast(cast), ..] => format!("CAST({} AS {})", cast.expr.schema_name(), sql_type(cast.field.data_type())),
            [Expr::TryCast(cast), ..] => format!("TRY_CAST({} AS {})", cast.expr.schema_name(), sql_type(cast.field.data_type())),
            [other, ..] => format!("({})", other.schema_name()),
            [] => MARK.to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().map_or_else(|| internal_err!("a mark is around an expression"), Ok)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        args.arg_fields.first().map_or_else(|| internal_err!("a mark is around an expression"), |field| Ok(Arc::clone(field)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("a mark is taken away while planning")
    }
}
