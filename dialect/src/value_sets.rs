//! `x IN (1, 2) AND x NOT IN (2, NULL)`: lists that are asked of one value, put together by their values.
//!
//! DataFusion's simplification puts such lists together by how their elements are written: it takes columns that are written otherwise for
//! other values, forgets NULL, and takes what is left of a list without elements for false or true, where it is NULL if the value is. This
//! rule runs before it, and leaves it nothing to put together wrongly: a list holds constants only, NULL and the rest are beside it, and the
//! lists of one value that are joined by AND or by OR are one.

use std::collections::HashMap;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use watershed_functions::balanced;

/// The rule.
#[derive(Debug)]
pub(crate) struct ValueSets;

impl OptimizerRule for ValueSets {
    fn name(&self) -> &str {
        "value_sets"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !has_two_sets(&plan)? {
            return Ok(Transformed::no(plan));
        }
        let context = SimplifyContext::builder().with_config_options(config.options());
        let context = context.with_query_execution_start_time(config.query_execution_start_time()).build();
        let constants = ExprSimplifier::new(context);
        plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(together(expr, &constants)?.update_data(|expr| name.restore(expr)))
            })
        })
    }
}

/// Whether a plan asks of two lists, or of more: a single one is right as it is. `x = 1 OR x = 2` becomes a list.
fn has_two_sets(plan: &LogicalPlan) -> Result<bool> {
    let mut sets = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let is_set = match part {
                    Expr::InList(_) => true,
                    Expr::BinaryExpr(either) => either.op == Operator::Or,
                    _ => false,
                };
                sets += usize::from(is_set);
                Ok(if sets > 1 { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(sets > 1)
}

/// Puts the lists of an expression together.
fn together(expr: Expr, constants: &ExprSimplifier) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
            let mut changed = false;
            let mut terms = Vec::new();
            for term in terms_of(expr.clone(), op) {
                let term = together(term, constants)?;
                changed |= term.transformed;
                terms.extend(terms_of(term.data, op));
            }
            changed |= merge(&mut terms, op);
            let done = if changed { Transformed::yes(joined(terms, op)) } else { Transformed::no(expr) };
            Ok(Transformed::new(done.data, done.transformed, TreeNodeRecursion::Jump))
        }
        Expr::InList(list) => apart(list, constants),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (left, right) = (constant(*left, constants)?, constant(*right, constants)?);
            let changed = left.transformed || right.transformed;
            let equal = BinaryExpr::new(Box::new(left.data), Operator::Eq, Box::new(right.data));
            Ok(match either_zero(&equal) {
                Some(zeros) => Transformed::new(zeros, true, TreeNodeRecursion::Jump),
                None => Transformed::new_transformed(Expr::BinaryExpr(equal), changed),
            })
        }
        other => Ok(Transformed::no(other)),
    })
}

/// A list with nothing but constants; NULL, and what rows have values of, beside it.
fn apart(list: InList, constants: &ExprSimplifier) -> Result<Transformed<Expr>> {
    if list.list.iter().all(is_known) || list.expr.is_volatile() {
        return Ok(Transformed::no(Expr::InList(list)));
    }
    let InList { expr, list, negated } = list;
    let (op, compared) = if negated { (Operator::And, Operator::NotEq) } else { (Operator::Or, Operator::Eq) };
    let (mut known, mut terms, mut has_null) = (Vec::new(), Vec::new(), false);
    for item in list {
        match constant(item, constants)?.data {
            Expr::Literal(value, _) if value.is_null() => has_null = true,
            item @ Expr::Literal(..) => known.push(item),
            item => terms.push(Expr::BinaryExpr(BinaryExpr::new(expr.clone(), compared, Box::new(item)))),
        }
    }
    if !known.is_empty() {
        terms.insert(0, Expr::InList(InList::new(expr, known, negated)));
    }
    if has_null {
        terms.push(unknown());
    }
    Ok(Transformed::new(joined(terms, op), true, TreeNodeRecursion::Jump))
}

/// What names no column is computed.
fn constant(expr: Expr, constants: &ExprSimplifier) -> Result<Transformed<Expr>> {
    let stays = matches!(expr, Expr::Literal(..)) || !expr.column_refs().is_empty() || expr.is_volatile() || has_query(&expr)?;
    if stays { Ok(Transformed::no(expr)) } else { constants.simplify(expr).map(Transformed::yes) }
}

fn has_query(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..)
        ))
    })
}

fn is_known(item: &Expr) -> bool {
    matches!(item, Expr::Literal(value, _) if !value.is_null())
}

fn unknown() -> Expr {
    lit(ScalarValue::Boolean(None))
}

/// What a chain of one operator joins, in its order.
fn terms_of(expr: Expr, op: Operator) -> Vec<Expr> {
    let (mut left, mut terms) = (vec![expr], Vec::new());
    while let Some(expr) = left.pop() {
        match expr {
            Expr::BinaryExpr(chain) if chain.op == op => left.extend([*chain.right, *chain.left]),
            term => terms.push(term),
        }
    }
    terms
}

/// The chain of its terms, of which there is one at least.
fn joined(terms: Vec<Expr>, op: Operator) -> Expr {
    let join = |left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    balanced(terms, join).unwrap_or_else(|| lit(op == Operator::And))
}

/// The lists of one value among the terms of a chain.
#[derive(Default)]
struct Sets {
    /// Where the first of them is.
    first: usize,
    /// How many there are.
    count: usize,
    /// The elements that the value has to be one of.
    within: Option<Vec<Expr>>,
    /// The elements that the value may not be one of.
    without: Option<Vec<Expr>>,
}

impl Sets {
    fn take(&mut self, items: Vec<Expr>, negated: bool, op: Operator) {
        self.count += 1;
        let set = if negated { &mut self.without } else { &mut self.within };
        // AND narrows down what a value may be and adds to what it may not be; OR the other way round.
        let narrows = (op == Operator::And) != negated;
        match set {
            None => *set = Some(items),
            Some(known) if narrows => known.retain(|item| items.contains(item)),
            Some(known) => {
                let new: Vec<Expr> = items.into_iter().filter(|item| !known.contains(item)).collect();
                known.extend(new);
            }
        }
    }

    /// The one term, or the two, that say the same.
    fn terms(self, value: Expr, op: Operator) -> Vec<Expr> {
        let (mut within, mut without) = (self.within, self.without);
        if op == Operator::And
            && let Some(left) = &mut within
            && let Some(without) = without.take()
        {
            left.retain(|item| !without.contains(item));
        }
        let mut terms = Vec::new();
        for (items, negated) in [(within, false), (without, true)] {
            let Some(items) = items else { continue };
            terms.push(if !items.is_empty() {
                Expr::InList(InList::new(Box::new(value.clone()), items, negated))
            } else if negated {
                joined(vec![value.clone().is_not_null(), unknown()], Operator::Or)
            } else {
                joined(vec![value.clone().is_null(), unknown()], Operator::And)
            });
        }
        terms
    }
}

/// `x = 0.0` is true of -0.0, and a list with 0.0 in it, which DataFusion would make of many of them, is not.
fn either_zero(equal: &BinaryExpr) -> Option<Expr> {
    let (value, zero) = match (equal.left.as_ref(), equal.right.as_ref()) {
        (value, Expr::Literal(zero, _)) | (Expr::Literal(zero, _), value) => (value, zero),
        _ => return None,
    };
    let (low, high) = match zero {
        ScalarValue::Float64(Some(zero)) if *zero == 0.0 => (lit(-0.0_f64), lit(0.0_f64)),
        ScalarValue::Float32(Some(zero)) if *zero == 0.0 => (lit(-0.0_f32), lit(0.0_f32)),
        _ => return None,
    };
    Some(value.clone().between(low, high))
}

/// Puts those terms together that ask for lists of one value. True if there were any.
fn merge(terms: &mut Vec<Expr>, op: Operator) -> bool {
    let mut sets: HashMap<Expr, Sets> = HashMap::new();
    for (at, term) in terms.iter().enumerate() {
        let Some((value, items, negated)) = set_of(term, op) else { continue };
        let of_value = sets.entry(value.clone()).or_insert_with(|| Sets { first: at, ..Sets::default() });
        of_value.take(items, negated, op);
    }
    sets.retain(|_, sets| sets.count > 1);
    if sets.is_empty() {
        return false;
    }
    let mut placed: HashMap<usize, Vec<Expr>> = HashMap::new();
    let kept: Vec<bool> = terms.iter().map(|term| set_of(term, op).is_none_or(|(value, _, _)| !sets.contains_key(value))).collect();
    for (value, sets) in sets {
        placed.insert(sets.first, sets.terms(value, op));
    }
    let before = std::mem::take(terms);
    for (at, (term, kept)) in before.into_iter().zip(kept).enumerate() {
        if let Some(merged) = placed.remove(&at) {
            terms.extend(merged);
        } else if kept {
            terms.push(term);
        }
    }
    true
}

/// The value, the constants, and whether it may not be one of them.
fn set_of(term: &Expr, op: Operator) -> Option<(&Expr, Vec<Expr>, bool)> {
    match term {
        Expr::InList(list) if list.list.iter().all(is_known) && !list.list.is_empty() && !list.expr.is_volatile() => {
            Some((list.expr.as_ref(), list.list.clone(), list.negated))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if op == Operator::Or => match (left.as_ref(), right.as_ref()) {
            (value @ Expr::Column(_), item) | (item, value @ Expr::Column(_)) if is_known(item) => Some((value, vec![item.clone()], false)),
            _ => None,
        },
        _ => None,
    }
}
