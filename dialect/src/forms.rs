//! Forms of SQL that DataFusion has no plan for, as others that mean the same: done to the syntax tree before it is planned.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, OrderBy, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement as SqlStatement, Subscript, TableFactor, Value, Visitor, VisitorMut,
    WindowFrameBound, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::SqlError;
use crate::order_keys;
use crate::row_values;
use crate::shorthand;
use crate::syntax::{WatershedDialect, normalised};
use crate::using;
use crate::walk::{self, End, Flow};

/// Rewrites every query of a statement. Says whether one of them orders its rows by [names that two columns have](order_keys).
pub(crate) fn rewrite(statement: &mut DfStatement) -> Result<bool, SqlError> {
    let mut forms = Forms { has_ordered_names: false };
    walk::change_statement(statement, &mut forms)?;
    Ok(forms.has_ordered_names)
}

/// Gives the columns of a query's answer the text that they are written as, where DataFusion's own heading would say a constant's type.
pub(crate) fn with_headings(statement: &mut DfStatement) {
    if let DfStatement::Statement(inner) = statement
        && let SqlStatement::Query(query) = inner.as_mut()
    {
        head(&mut query.body);
        order_by_headings(query);
    }
}

/// `SELECT DISTINCT k + 1 … ORDER BY k + 1` orders by the column that now has a name.
pub(crate) fn order_by_headings(query: &mut Query) {
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by else { return };
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    for key in keys {
        let heading = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == expr.to_string() && alias.value == key.expr.to_string() => {
                Some(alias.clone())
            }
            _ => None,
        });
        if let Some(heading) = heading {
            key.expr = Expr::Identifier(heading);
        }
    }
}

fn head(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => head_select(select, Repeated::Numbered),
        SetExpr::SetOperation { left, .. } => head(left),
        SetExpr::Query(query) => head(&mut query.body),
        _ => {}
    }
}

/// What becomes of a column that is selected twice.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Repeated {
    Numbered,
    /// DataFusion refuses it.
    Stay,
}

pub(crate) fn head_select(select: &mut Select, repeated: Repeated) {
    let mut headings: Vec<String> = Vec::new();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let heading = expr.to_string();
        let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let is_repeated = is_column && repeated == Repeated::Numbered && headings.contains(&heading);
        if !is_computed(expr) && !is_repeated {
            headings.push(heading);
            continue;
        }
        // DataFusion wants a name of its own for each column.
        let more = (2..).map(|n| format!("{heading} ({n})"));
        let heading = std::iter::once(heading.clone()).chain(more).find(|heading| !headings.contains(heading)).unwrap_or_default();
        let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        headings.push(heading.clone());
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', heading) };
    }
}

/// True for what is no column: DataFusion would head it with how it names tables, types and functions itself.
fn is_computed(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Wildcard(_) => false,
        Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter().any(|access| match access {
            AccessExpr::Subscript(Subscript::Index { index }) => {
                !matches!(index, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
            }
            AccessExpr::Subscript(Subscript::Slice { .. }) => true,
            AccessExpr::Dot(_) => false,
        }),
        // One item may become several columns.
        Expr::Function(function) => !function.name.to_string().eq_ignore_ascii_case("unnest"),
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => is_computed(inner),
        _ => true,
    }
}

struct Forms {
    has_ordered_names: bool,
}

impl VisitorMut for Forms {
    type Break = End;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        if let Some(with) = &mut query.with {
            shorthand::names_of_with(with);
            with.cte_tables.iter_mut().for_each(|table| shorthand::name_columns(&mut table.query, &table.alias));
        }
        walk::flow(using::rewrite(query))?;
        order_by_names(query);
        self.has_ordered_names |= order_keys::has_name_of_result(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor {
            shorthand::name_columns(subquery, alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        shorthand::star_of_from(select);
        shorthand::name_what_is_replaced(select);
        qualify_stars(select);
        if let Some(condition) = &mut select.selection {
            row_values::of_condition(condition);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = expr {
            without_constant_order(list);
        }
        match expr {
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(escape) = escape_char {
                    walk::flow(with_backslashes(pattern, &escape.value))?;
                    *escape_char = None;
                }
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                walk::flow(row_values::of_value(expr))?;
                shorthand::compare_with_list(expr);
            }
            Expr::CompoundFieldAccess { .. } => shorthand::index_by_field(expr),
            Expr::Function(Function { args: FunctionArguments::Subquery(_), .. }) => shorthand::list_of_query(expr),
            Expr::Array(array) if !array.elem.is_empty() => *expr = list_of(std::mem::take(&mut array.elem)),
            Expr::InSubquery { .. }
            | Expr::InList { .. }
            | Expr::BinaryOp { .. }
            | Expr::Between { .. }
            | Expr::Case { .. }
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_) => walk::flow(row_values::of_value(expr))?,
            Expr::Function(Function { over: Some(WindowType::WindowSpec(spec)), .. }) => without_endless_bounds(spec),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A frame that reaches further than any table has rows is one without a bound; DataFusion adds such numbers up without a look at their size.
fn without_endless_bounds(spec: &mut WindowSpec) {
    const ROWS_MAX: u64 = 1 << 53;
    let endless = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) => {
            matches!(rows.as_ref(), Expr::Value(value) if matches!(&value.value, Value::Number(digits, _) if digits.parse::<u64>().is_ok_and(|rows| rows > ROWS_MAX)))
        }
        _ => false,
    };
    let Some(frame) = &mut spec.window_frame else { return };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if endless(bound) {
            match bound {
                WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => *rows = None,
                WindowFrameBound::CurrentRow => {}
            }
        }
    }
}

/// `a.*` where the table is `s.a`: DataFusion knows it by its whole name only.
fn qualify_stars(select: &mut Select) {
    let factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let mut tables: Vec<ObjectName> = Vec::new();
    let mut aliases: Vec<String> = Vec::new();
    for factor in factors {
        match factor {
            TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
                aliases.push(normalised(&alias.name))
            }
            TableFactor::Table { name, args: None, .. } => tables.push(name.clone()),
            _ => {}
        }
    }
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            && let [part] = name.0.as_slice()
            && let Some(wanted) = part.as_ident().map(normalised)
            && !aliases.contains(&wanted)
        {
            let same = |table: &&ObjectName| table.0.last().and_then(|part| part.as_ident()).map(normalised).as_deref() == Some(&wanted);
            let mut found = tables.iter().filter(same);
            if let (Some(table), None) = (found.next(), found.next()) {
                *name = table.clone();
            }
        }
    }
}

/// `ORDER BY 3` where the third column is a window function: by its name, which it gets if it has none.
fn order_by_names(query: &mut Query) {
    let Some(order) = &mut query.order_by else { return };
    let OrderByKind::Expressions(keys) = &mut order.kind else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    for key in keys {
        without_brackets(&mut key.expr);
        let Expr::Value(value) = &key.expr else { continue };
        let Value::Number(number, _) = &value.value else { continue };
        let Some(item) = number.parse::<usize>().ok().and_then(|at| select.projection.get_mut(at.checked_sub(1)?)) else { continue };
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &mut *item else { continue };
        if !is_over(expr) {
            continue;
        }
        let alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            SelectItem::UnnamedExpr(expr) => {
                let alias = Ident::with_quote('"', expr.to_string());
                let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *item = SelectItem::ExprWithAlias { expr, alias: alias.clone() };
                alias
            }
            _ => continue,
        };
        key.expr = Expr::Identifier(alias);
    }
}

/// `ORDER BY (2)` is `ORDER BY 2`.
fn without_brackets(key: &mut Expr) {
    let mut innermost = &*key;
    while let Expr::Nested(inner) = innermost {
        innermost = inner;
    }
    if matches!(innermost, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
        *key = innermost.clone();
    }
}

/// `array_agg(x ORDER BY 1)`: a constant orders nothing. DataFusion takes it for the first column of the table.
fn without_constant_order(list: &mut FunctionArgumentList) {
    for clause in &mut list.clauses {
        if let FunctionArgumentClause::OrderBy(keys) = clause {
            keys.iter_mut().for_each(|key| without_brackets(&mut key.expr));
            keys.retain(|key| !matches!(&key.expr, Expr::Value(value) if matches!(value.value, Value::Number(..))));
        }
    }
    list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::OrderBy(keys) if keys.is_empty()));
}

fn is_over(expr: &Expr) -> bool {
    struct Over;
    impl Visitor for Over {
        type Break = End;

        fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
            match expr {
                Expr::Function(function) if function.over.is_some() => ControlFlow::Break(End::Found),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk::finds(expr, &mut Over)
}

/// A pattern that is escaped by another character, with backslashes, which are what is computed with.
fn with_backslashes(pattern: &mut Expr, escape: &Value) -> Result<(), SqlError> {
    let refused = |why: &str| SqlError::new(format!("LIKE … ESCAPE {why}")).hint("write the pattern with backslashes: LIKE 'a\\_%'");
    let Some(escape) = escape.clone().into_string() else { return Err(refused("takes a text of one character")) };
    let mut chars = escape.chars();
    let (Some(escape), None) = (chars.next(), chars.next()) else { return Err(refused("takes a text of one character")) };
    if escape == '\\' {
        return Ok(());
    }
    let text = match pattern {
        Expr::Value(value) => match &mut value.value {
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::DollarQuotedString(datafusion::sql::sqlparser::ast::DollarQuotedString { value: text, .. }) => text,
            _ => return Err(refused("takes a constant text for a pattern")),
        },
        _ => return Err(refused("takes a constant text for a pattern")),
    };
    let mut escaped = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            next if next == escape => {
                let Some(literal) = rest.next() else { return Err(refused("has a pattern that ends with the escape character")) };
                if matches!(literal, '%' | '_' | '\\') {
                    escaped.push('\\');
                }
                escaped.push(literal);
            }
            '\\' => escaped.push_str("\\\\"),
            next => escaped.push(next),
        }
    }
    *text = escaped;
    Ok(())
}

pub(crate) fn equal(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Eq, right: Box::new(right) }
}

pub(crate) fn both(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

/// The first of two values that is there.
pub(crate) fn coalesce(left: Expr, right: Expr) -> Expr {
    let condition = Expr::IsNotNull(Box::new(left.clone()));
    match parsed("CASE WHEN true THEN true END") {
        Ok(Expr::Case { case_token, end_token, .. }) => Expr::Case {
            case_token,
            end_token,
            operand: None,
            conditions: vec![CaseWhen { condition, result: left }],
            else_result: Some(Box::new(right)),
        },
        _ => left,
    }
}

/// `[a, b]` as a function: the planner forgets the outer query and the names of WITH within such a literal.
fn list_of(elements: Vec<Expr>) -> Expr {
    let argument = |element| FunctionArg::Unnamed(FunctionArgExpr::Expr(element));
    match parsed("make_array()") {
        Ok(Expr::Function(mut call)) => {
            if let FunctionArguments::List(list) = &mut call.args {
                list.args = elements.into_iter().map(argument).collect();
            }
            Expr::Function(call)
        }
        _ => Expr::Array(Array { elem: elements, named: false }),
    }
}

pub(crate) fn parsed(text: &str) -> Result<Expr, datafusion::sql::sqlparser::parser::ParserError> {
    Parser::new(&WatershedDialect::default()).try_with_sql(text)?.parse_expr()
}
