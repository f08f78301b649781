//! `USING`: in RIGHT and FULL joins the column is that of the side that has the row.
//!
//! DataFusion takes the left side's column, which is NULL where the left side has no row, and in WHERE it knows of two. So the join is written with `ON` here, and where its SELECT
//! names the column without a table, the right side's column takes its place, or `COALESCE` of both.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, ExcludeSelectItem, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::SqlError;
use crate::forms::{both, coalesce, equal};
use crate::syntax::normalised;
use crate::walk::{self, End, Flow};

/// Rewrites the joins of a query's own SELECT. Where that cannot be done, joins that DataFusion reads as they are meant stay.
pub(crate) fn rewrite(query: &mut Query) -> Result<(), SqlError> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(()) };
    let joins = || select.from.iter().flat_map(|from| &from.joins).map(|join| &join.join_operator);
    let must = joins().any(takes_other_side);
    if !must && !joins().any(|operator| matches!(constraint(operator), Some(JoinConstraint::Using(_)))) {
        return Ok(());
    }
    let mut rewritten = query.clone();
    match rewrite_select(&mut rewritten) {
        Ok(()) => *query = rewritten,
        Err(error) if must => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    match operator {
        FullOuter(constraint)
        | Inner(constraint)
        | Join(constraint)
        | Left(constraint)
        | LeftOuter(constraint)
        | Right(constraint)
        | RightOuter(constraint) => Some(constraint),
        _ => None,
    }
}

fn rewrite_select(query: &mut Query) -> Result<(), SqlError> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let mut sides = Sides::default();
    for from in &mut select.from {
        sides.join(from)?;
    }
    sides.expand(select)?;
    let named_in_result = |name: &str| {
        select.projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => normalised(alias) == name,
            _ => false,
        })
    };
    let of_result: Vec<String> = sides.merged.iter().map(|(name, _)| name.clone()).filter(|name| named_in_result(name)).collect();
    sides.replace_in(select);
    if let Some(order) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order.kind
    {
        // What the result has under that name is merged already.
        sides.merged.retain(|(name, _)| !of_result.contains(name));
        for key in exprs {
            sides.replace(&mut key.expr);
        }
    }
    Ok(())
}

fn takes_other_side(operator: &JoinOperator) -> bool {
    use JoinOperator::{FullOuter, Right, RightOuter};
    matches!(operator, FullOuter(_) | Right(_) | RightOuter(_))
        && matches!(constraint(operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

/// A relation by the name that comes before its columns.
struct Relation {
    name: ObjectName,
    /// Its columns that are merged with others.
    merged: Vec<Ident>,
}

/// The relations of a FROM, and what its merged columns are.
#[derive(Default)]
struct Sides {
    relations: Vec<Relation>,
    merged: Vec<(String, Expr)>,
    /// The merged columns as they are first written.
    names: Vec<Ident>,
}

impl Sides {
    fn join(&mut self, from: &mut TableWithJoins) -> Result<(), SqlError> {
        use JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
        let first = self.relations.len();
        self.relations.push(relation(&from.relation)?);
        for join in &mut from.joins {
            let right = relation(&join.relation)?;
            let (constraint, full, takes_right) = match &mut join.join_operator {
                FullOuter(constraint) => (constraint, true, false),
                Right(constraint) | RightOuter(constraint) => (constraint, false, true),
                Join(constraint) | Inner(constraint) | Left(constraint) | LeftOuter(constraint) => (constraint, false, false),
                _ => {
                    self.relations.push(right);
                    continue;
                }
            };
            if matches!(constraint, JoinConstraint::Natural) {
                return Err(SqlError::new(
                    "NATURAL beside a RIGHT or FULL JOIN is not supported: its columns are known only when it is planned",
                )
                .hint("name the columns: … JOIN … USING (column)"));
            }
            let JoinConstraint::Using(columns) = constraint else {
                self.relations.push(right);
                continue;
            };
            let idents: Vec<Ident> = columns.iter().filter_map(|name| name.0.last()?.as_ident().cloned()).collect();
            let mut condition = None;
            let mut right = right;
            for column in idents {
                let name = normalised(&column);
                let left_expr = match self.merged.iter().find(|(merged, _)| *merged == name) {
                    Some((_, expr)) => expr.clone(),
                    None if self.relations.len() == first + 1 => {
                        self.relations[first].merged.push(column.clone());
                        qualified(&self.relations[first].name, &column)
                    }
                    None => {
                        return Err(SqlError::new(format!("whose '{name}' USING means is not known: more than one table is to the left of the join"))
                            .hint(format!("write ON left_table.{name} = right_table.{name}, and coalesce(left_table.{name}, right_table.{name}) for the column")));
                    }
                };
                let right_expr = qualified(&right.name, &column);
                let this = equal(left_expr.clone(), right_expr.clone());
                condition = Some(match condition {
                    Some(all) => both(all, this),
                    None => this,
                });
                let merged = match (full, takes_right) {
                    (true, _) => coalesce(left_expr, right_expr),
                    (_, true) => right_expr,
                    _ => left_expr,
                };
                right.merged.push(column.clone());
                match self.merged.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, expr)) => *expr = merged,
                    None => {
                        self.merged.push((name, merged));
                        self.names.push(column);
                    }
                }
            }
            if let Some(condition) = condition {
                *constraint = JoinConstraint::On(condition);
            }
            self.relations.push(right);
        }
        Ok(())
    }

    /// `*` as the merged columns once, and the others of each table.
    fn expand(&self, select: &mut Select) -> Result<(), SqlError> {
        let mut items = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(options) => {
                    let plain = WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() };
                    if options != plain {
                        return Err(SqlError::new(
                            "* with EXCLUDE, REPLACE or the like is not supported beside USING in a RIGHT or FULL JOIN",
                        )
                        .hint("name the columns"));
                    }
                    items.extend(self.names.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(name.clone()))));
                    items.extend(self.relations.iter().map(|relation| {
                        let merged = relation.merged.iter().cloned().map(|name| ObjectName::from(vec![name])).collect::<Vec<_>>();
                        let opt_exclude = (!merged.is_empty()).then_some(ExcludeSelectItem::Multiple(merged));
                        let options = WildcardAdditionalOptions { opt_exclude, ..Default::default() };
                        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(relation.name.clone()), options)
                    }));
                }
                other => items.push(other),
            }
        }
        select.projection = items;
        // Columns keep their names.
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
                && self.merged.iter().any(|(merged, _)| *merged == normalised(name))
            {
                *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(name.clone()), alias: name.clone() };
            }
        }
        Ok(())
    }

    fn replace_in(&self, select: &mut Select) {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.replace(expr);
            }
        }
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            exprs.iter_mut().for_each(|expr| self.replace(expr));
        }
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(|expr| self.replace(expr));
        }
        for expr in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
            self.replace(expr);
        }
        let _ = walk::change(&mut select.named_window, &mut Merge { merged: &self.merged, depth: 0 });
    }

    fn replace(&self, expr: &mut Expr) {
        let _ = walk::change(expr, &mut Merge { merged: &self.merged, depth: 0 });
    }
}

/// Puts merged columns in place of their names, but not in subqueries: there the name is of another table, or ambiguous, which is reported.
struct Merge<'a> {
    merged: &'a [(String, Expr)],
    depth: usize,
}

impl VisitorMut for Merge<'_> {
    type Break = End;

    fn pre_visit_query(&mut self, _: &mut Query) -> Flow {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && let Some((_, merged)) = self.merged.iter().find(|(merged, _)| *merged == normalised(name))
        {
            *expr = merged.clone();
        }
        ControlFlow::Continue(())
    }
}

fn relation(factor: &TableFactor) -> Result<Relation, SqlError> {
    let name = match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => ObjectName::from(vec![alias.name.clone()]),
        TableFactor::Table { name, args: None, .. } => name.clone(),
        other => {
            return Err(SqlError::new(format!("'{other}' beside USING in a RIGHT or FULL JOIN has no name"))
                .hint("give it one with AS, or write ON"));
        }
    };
    Ok(Relation { name, merged: Vec::new() })
}

fn qualified(relation: &ObjectName, column: &Ident) -> Expr {
    let mut parts: Vec<Ident> = relation.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    // The place of the join's column is where an error points.
    parts.iter_mut().for_each(|part| part.span = Span::empty());
    parts.push(column.clone());
    Expr::CompoundIdentifier(parts)
}
