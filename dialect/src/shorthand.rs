//! Short ways of writing that DataFusion has no plan for, or passes over, written out: each function changes one node of the syntax tree.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, OrderBy, OrderByKind, Query,
    Select, SelectFlavor, SelectItem, SetExpr, Subscript, TableAlias, TableFactor, Value, WildcardAdditionalOptions, WindowType, With,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::forms::{both, parsed};
use crate::syntax::{WatershedDialect, normalised};

/// `FROM t` is `SELECT * FROM t`.
pub(crate) fn star_of_from(select: &mut Select) {
    if select.flavor == SelectFlavor::FromFirstNoSelect {
        select.flavor = SelectFlavor::FromFirst;
        select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    }
}

/// `SELECT * REPLACE (x AS a)`: a condition that is always true names `a`, so that a column that is not there is an error.
pub(crate) fn name_what_is_replaced(select: &mut Select) {
    let replaced = select.projection.iter().filter_map(|item| match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => options.opt_replace.as_ref(),
        _ => None,
    });
    let is_there = |name: &Ident| Expr::BinaryOp {
        left: Box::new(Expr::IsNull(Box::new(Expr::Identifier(name.clone())))),
        op: BinaryOperator::Or,
        right: Box::new(Expr::Value(Value::Boolean(true).into())),
    };
    let conditions = replaced.flat_map(|replaced| &replaced.items).map(|item| Expr::Nested(Box::new(is_there(&item.column_name))));
    if let Some(condition) = conditions.reduce(both) {
        select.selection = Some(match select.selection.take() {
            Some(selection) => both(Expr::Nested(Box::new(selection)), condition),
            None => condition,
        });
    }
}

/// `(s).a`, `f(x).a` and `list[1].a` as `s['a']`, `f(x)['a']` and `list[1]['a']`. Dots after a name are part of it.
pub(crate) fn index_by_field(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    let mut is_name = matches!(root.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    if let Expr::Nested(inner) = root.as_mut() {
        **root = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.into()));
    }
    for access in access_chain {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) if !is_name => {
                let index = Expr::Value(Value::SingleQuotedString(normalised(field)).with_span(field.span));
                *access = AccessExpr::Subscript(Subscript::Index { index });
            }
            AccessExpr::Dot(_) => {}
            AccessExpr::Subscript(_) => is_name = false,
        }
    }
}

/// `x < ANY (list)` as a function of ours. Of a subquery it stays what it is.
pub(crate) fn compare_with_list(expr: &mut Expr) {
    let (function, left, op, right) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => ("array_any", left, compare_op, right),
        Expr::AllOp { left, compare_op, right } => ("array_all", left, compare_op, right),
        _ => return,
    };
    if matches!(right.as_ref(), Expr::Subquery(_)) {
        return;
    }
    let Ok(Expr::Function(mut call)) = parsed(&format!("{function}()")) else { return };
    let null = || Expr::Value(Value::Null.into());
    let op = Expr::Value(Value::SingleQuotedString(op.to_string()).into());
    let arguments = [std::mem::replace(left.as_mut(), null()), op, std::mem::replace(right.as_mut(), null())];
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    }
    *expr = Expr::Function(call);
}

/// `ARRAY(SELECT x … ORDER BY k)` as the list of what the query gives.
pub(crate) fn list_of_query(expr: &mut Expr) {
    let Expr::Function(Function { name, args: FunctionArguments::Subquery(query), over: None, filter: None, .. }) = expr else { return };
    if !name.to_string().eq_ignore_ascii_case("array") {
        return;
    }
    let mut query = query.clone();
    let list = match places_added(&mut query) {
        None => return,
        Some(true) => "(SELECT coalesce(array_agg(__element ORDER BY __place), []) FROM (SELECT 1) AS __list (__element, __place))",
        Some(false) => "(SELECT coalesce(array_agg(__element), []) FROM (SELECT 1) AS __list (__element))",
    };
    let Ok(Expr::Subquery(mut outer)) = parsed(list) else { return };
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        *subquery = query;
        *expr = Expr::Subquery(outer);
    }
}

/// Gives the rows of an ordered query their places as a second column: the order of a subquery is lost. Says whether they have them; `None` if
/// they cannot get them.
fn places_added(query: &mut Query) -> Option<bool> {
    let Some(OrderBy { kind, .. }) = &query.order_by else { return Some(false) };
    let OrderByKind::Expressions(keys) = kind else { return None };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let Ok(Expr::Function(mut place)) = parsed("row_number() OVER ()") else { return None };
    if let Some(WindowType::WindowSpec(spec)) = &mut place.over {
        spec.order_by = keys.clone();
    }
    select.projection.push(SelectItem::UnnamedExpr(Expr::Function(place)));
    select.distinct.is_none().then_some(true)
}

/// `(SELECT 1, 1) AS t (a, b)`: columns of one name get their names where they are made, as DataFusion wants a name of its own for each.
pub(crate) fn name_columns(query: &mut Query, alias: &TableAlias) {
    let mut body = query.body.as_mut();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = inner.body.as_mut(),
            _ => return,
        }
    };
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => Some(expr.to_string()),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.to_string()),
        _ => None,
    };
    let Some(names) = select.projection.iter().map(name).collect::<Option<Vec<_>>>() else { return };
    let named = alias.columns.len();
    if names.len() < named {
        return;
    }
    let is_repeated = |at: usize| names.iter().enumerate().any(|(other, name)| (other < at || other >= named) && *name == names[at]);
    for (at, (item, column)) in select.projection.iter_mut().zip(&alias.columns).enumerate() {
        if !is_repeated(at) {
            continue;
        }
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *item = SelectItem::ExprWithAlias { expr, alias: column.name.clone() };
            }
            SelectItem::ExprWithAlias { alias, .. } => *alias = column.name.clone(),
            _ => {}
        }
    }
}

/// `WITH w (a) AS (SELECT 1, 2)`: names for the first columns only are given where a query is in FROM (`relation.rs`).
pub(crate) fn names_of_with(with: &mut With) {
    if with.recursive {
        return;
    }
    for table in &mut with.cte_tables {
        if table.alias.columns.is_empty() || width(&table.query.body) == Some(table.alias.columns.len()) {
            continue;
        }
        let outer = Parser::new(&WatershedDialect::default()).try_with_sql("SELECT * FROM t").and_then(|mut parser| parser.parse_query());
        let Ok(outer) = outer else { continue };
        let alias = table.alias.clone();
        let subquery = std::mem::replace(&mut table.query, outer);
        if let SetExpr::Select(select) = table.query.body.as_mut()
            && let Some(from) = select.from.first_mut()
        {
            from.relation = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
            table.alias.columns.clear();
        }
    }
}

/// How many columns a query has, if its text tells.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) => {
            let is_one = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(is_one).then_some(select.projection.len())
        }
        SetExpr::SetOperation { left, .. } => width(left),
        SetExpr::Query(query) => width(&query.body),
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        _ => None,
    }
}
