//! What sqlparser reads and DataFusion's planner passes over without a word: each is refused by name, as the answer would be one to another
//! question.
//!
//! Structures of the syntax tree are taken apart field by field, so that a field that a later sqlparser adds does not compile until somebody has
//! looked at what the planner makes of it.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Join, NamedWindowExpr, OrderByKind, PipeOperator, Query, Select, SelectItem, TableAlias, TableFactor,
    TableFunctionArgs, TableWithJoins, UnaryOperator, Value, Visit, Visitor, WildcardAdditionalOptions, WindowSpec, WindowType,
};

use crate::SqlError;
use crate::syntax::normalised;
use crate::walk::{self, End, Flow};

/// Checks a statement that is about to be planned.
pub(crate) fn check_statement(statement: &DfStatement, state: &SessionState) -> Result<(), SqlError> {
    walk::check_statement(statement, &mut Ignored { state })
}

/// Checks a part of a statement: a query, an expression.
pub(crate) fn check_tree(tree: &impl Visit, state: &SessionState) -> Result<(), SqlError> {
    walk::check(tree, &mut Ignored { state })
}

const COLUMN: &str = "a name stands in double quotes, or in none: \"column\", column";

/// What a key of ORDER BY or GROUP BY is that is the same for all rows, and what is to be written instead.
pub(crate) fn constant_key(key: &Expr) -> Option<(&'static str, &'static str)> {
    const POSITION: &str = "a position is a whole number from 1: ORDER BY 2 DESC";
    const NAME: &str = "write the name of the column into the statement: a parameter is a value, the same for all rows";
    match key {
        Expr::Nested(inner) => constant_key(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } if is_number(expr) => {
            Some(("a constant number with a sign", POSITION))
        }
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::DollarQuotedString(_) => Some(("a constant text", COLUMN)),
            Value::Placeholder(_) => Some(("a parameter", NAME)),
            Value::Number(digits, _) if !digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                Some(("a constant number that is not whole", POSITION))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_number(inner),
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        _ => false,
    }
}

fn refuse_constant_key(key: &Expr, clause: &str) -> Flow {
    match constant_key(key) {
        Some((what, instead)) => refuse_if(true, &format!("{clause} of {what}"), instead),
        None => ControlFlow::Continue(()),
    }
}

fn refuse_if(there: bool, what: &str, instead: &str) -> Flow {
    walk::flow(if there { Err(SqlError::new(format!("{what} is not supported")).hint(instead)) } else { Ok(()) })
}

struct Ignored<'a> {
    state: &'a SessionState,
}

impl Visitor for Ignored<'_> {
    type Break = End;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let Query { with, body: _, order_by, limit_clause: _, fetch, locks, for_clause, settings, format_clause, pipe_operators } = query;
        for Cte { alias, query: _, from, materialized: _, closing_paren_token: _ } in with.iter().flat_map(|with| &with.cte_tables) {
            refuse_if(from.is_some(), "FROM of a query in WITH", "leave it out")?;
            check_alias(alias)?;
        }
        refuse_if(fetch.is_some(), "FETCH", "write LIMIT n; to keep rows of equal rank: SELECT … QUALIFY rank() OVER (ORDER BY …) <= n")?;
        refuse_if(
            !locks.is_empty(),
            "FOR UPDATE or FOR SHARE",
            "leave it out: a query reads one version of every table and locks nothing",
        )?;
        refuse_if(for_clause.is_some(), "FOR XML, FOR JSON or FOR BROWSE", "leave it out: the client chooses the form of the answer")?;
        refuse_if(settings.is_some(), "SETTINGS", "write SET name = value as a statement of its own")?;
        refuse_if(format_clause.is_some(), "FORMAT of a query", "leave it out: the client chooses the form of the answer")?;
        if let Some(OrderByKind::Expressions(keys)) = order_by.as_ref().map(|order_by| &order_by.kind) {
            keys.iter().try_for_each(|key| refuse_named_window(&key.expr, "ORDER BY"))?;
            keys.iter().try_for_each(|key| refuse_constant_key(&key.expr, "ORDER BY"))?;
        }
        for operator in pipe_operators {
            match operator {
                PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => exprs.iter().try_for_each(check_item)?,
                PipeOperator::OrderBy { exprs } => exprs.iter().try_for_each(|key| refuse_constant_key(&key.expr, "ORDER BY"))?,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let Select {
            select_token: _,
            optimizer_hints: _,
            distinct: _,
            // No syntax of this dialect.
            select_modifiers: _,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into: _,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by: _,
            sort_by,
            having: _,
            named_window,
            qualify,
            window_before_qualify: _,
            // No syntax of this dialect.
            value_table_mode: _,
            flavor: _,
        } = select;
        refuse_if(top.is_some(), "TOP", "write LIMIT n at the end")?;
        projection.iter().try_for_each(check_item)?;
        refuse_if(exclude.is_some(), "EXCLUDE after the list of SELECT", "write it behind the star: SELECT * EXCLUDE (a)")?;
        refuse_if(!lateral_views.is_empty(), "LATERAL VIEW", "write CROSS JOIN UNNEST(…)")?;
        refuse_if(prewhere.is_some(), "PREWHERE", "write WHERE")?;
        refuse_if(!connect_by.is_empty(), "CONNECT BY", "write WITH RECURSIVE")?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = group_by;
        let instead = "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)";
        refuse_if(!modifiers.is_empty(), "WITH after GROUP BY", instead)?;
        if let GroupByExpr::Expressions(keys, _) = group_by {
            // Programs group by each column of SELECT, constants too.
            let is_selected = |key: &Expr| {
                projection
                    .iter()
                    .any(|item| matches!(item, SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } if expr == key))
            };
            keys.iter().filter(|key| !is_selected(key)).try_for_each(|key| refuse_constant_key(key, "GROUP BY"))?;
        }
        refuse_if(!cluster_by.is_empty(), "CLUSTER BY", "write ORDER BY")?;
        refuse_if(!sort_by.is_empty(), "SORT BY", "write ORDER BY")?;
        for window in named_window {
            match &window.1 {
                NamedWindowExpr::WindowSpec(spec) => check_window(spec)?,
                NamedWindowExpr::NamedWindow(_) => refuse_if(true, "a WINDOW that is another one", "write its definition in brackets")?,
            }
        }
        if let Some(qualify) = qualify {
            refuse_named_window(qualify, "QUALIFY")?;
        }
        from.iter().try_for_each(check_from)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        const ORDINALITY: &str = "WITH ORDINALITY";
        const NUMBER: &str = "number the rows: row_number() OVER ()";
        const SAMPLE: &str = "TABLESAMPLE";
        const RANDOM: &str = "write WHERE random() < 0.1 for about a tenth of the rows";
        match factor {
            TableFactor::Table {
                name: _,
                alias,
                args,
                with_hints,
                // No syntax of this dialect.
                version: _,
                with_ordinality,
                partitions,
                json_path: _,
                sample,
                index_hints: _,
            } => {
                alias.iter().try_for_each(check_alias)?;
                if let Some(TableFunctionArgs { args: _, settings }) = args {
                    refuse_if(settings.is_some(), "SETTINGS of a table function", "leave it out")?;
                }
                refuse_if(!with_hints.is_empty(), "WITH (…) after a table", "leave it out: there are no hints")?;
                refuse_if(*with_ordinality, ORDINALITY, NUMBER)?;
                refuse_if(!partitions.is_empty(), "PARTITION (…) after a table", "filter by the partition's column in WHERE")?;
                refuse_if(sample.is_some(), SAMPLE, RANDOM)
            }
            TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
                alias.iter().try_for_each(check_alias)?;
                refuse_if(sample.is_some(), SAMPLE, RANDOM)
            }
            TableFactor::Function { lateral: _, name: _, args: _, with_ordinality, alias } => {
                alias.iter().try_for_each(check_alias)?;
                refuse_if(*with_ordinality, ORDINALITY, NUMBER)
            }
            TableFactor::UNNEST { alias, array_exprs: _, with_offset, with_offset_alias: _, with_ordinality } => {
                alias.iter().try_for_each(check_alias)?;
                refuse_if(*with_ordinality, ORDINALITY, NUMBER)?;
                refuse_if(*with_offset, "WITH OFFSET", NUMBER)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                alias.iter().try_for_each(check_alias)?;
                check_from(table_with_joins)
            }
            // The planner refuses these itself.
            TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Function(function) => check_function(function, self.state),
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => refuse_if(
                true,
                "the operator ^, which is a power in some systems and an exclusive OR in others,",
                "write power(a, b), or a XOR b for the bits in which two whole numbers differ",
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_from(from: &TableWithJoins) -> Flow {
    for Join { relation: _, global, join_operator: _ } in &from.joins {
        refuse_if(*global, "GLOBAL JOIN", "write JOIN")?;
    }
    ControlFlow::Continue(())
}

fn check_alias(alias: &TableAlias) -> Flow {
    // AT is no syntax of this dialect.
    let TableAlias { explicit: _, name: _, columns, at: _ } = alias;
    let typed = columns.iter().any(|column| column.data_type.is_some());
    refuse_if(typed, "a type in the columns of an alias", "cast the column in SELECT: CAST(a AS INT) AS a")
}

fn check_item(item: &SelectItem) -> Flow {
    let options = match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => options,
        SelectItem::ExprWithAliases { .. } => return refuse_if(true, "more than one alias of an expression", "give it one name"),
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => return ControlFlow::Continue(()),
    };
    let WildcardAdditionalOptions { wildcard_token: _, opt_ilike, opt_exclude: _, opt_except: _, opt_replace: _, opt_rename, opt_alias } =
        options;
    refuse_if(opt_ilike.is_some(), "ILIKE after a star", "name the columns, or leave some out: SELECT * EXCLUDE (a)")?;
    refuse_if(opt_rename.is_some(), "RENAME after a star", "name the columns: SELECT a AS b, …")?;
    refuse_if(opt_alias.is_some(), "AS after a star", "name the columns: SELECT a AS b, …")
}

fn check_window(spec: &WindowSpec) -> Flow {
    let WindowSpec { window_name, partition_by: _, order_by: _, window_frame: _ } = spec;
    refuse_if(window_name.is_some(), "a window that begins with another one's name", "write all of it in the brackets of OVER")
}

/// The planner knows the names of WINDOW in the list of SELECT only; elsewhere it takes `sum(x) OVER w` for `sum(x)`.
fn refuse_named_window(expr: &Expr, place: &str) -> Flow {
    struct Named;
    impl Visitor for Named {
        type Break = End;

        fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
            match expr {
                Expr::Function(Function { over: Some(WindowType::NamedWindow(_)), .. }) => ControlFlow::Break(End::Found),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let instead = "write the window in brackets, or give the expression a name in SELECT and use that";
    refuse_if(walk::finds(expr, &mut Named), &format!("a window of WINDOW in {place}"), instead)
}

fn check_function(function: &Function, state: &SessionState) -> Flow {
    let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } = function;
    let name = match name.0.as_slice() {
        [part] => part.as_ident().map(normalised).unwrap_or_default(),
        _ => return ControlFlow::Continue(()),
    };
    refuse_if(!matches!(parameters, FunctionArguments::None), "a function with two pairs of brackets", "write all arguments in one")?;
    if let Some(WindowType::WindowSpec(spec)) = over {
        check_window(spec)?;
    }
    if let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses: _ }) = args {
        if let ("to_char" | "date_format", [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(format)))]) =
            (name.as_str(), args.as_slice())
            && let Value::SingleQuotedString(format) = &format.value
        {
            let instead = "write it as strftime has it: '%Y-%m-%d %H:%M:%S'; other letters are given back as they are";
            refuse_if(!format.contains('%'), &format!("a format without % in {name}()"), instead)?;
        }
        let of = |wanted: fn(&FunctionArgExpr) -> bool| args.iter().any(|arg| matches!(arg, FunctionArg::Unnamed(arg) if wanted(arg)));
        let is_distinct = *duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let instead = "write the columns as a row: count(DISTINCT (a, b))";
        refuse_if(name == "count" && is_distinct && args.len() > 1, "count(DISTINCT …) of several columns", instead)?;
        let rows = "count the rows of a query: SELECT count(*) FROM (SELECT DISTINCT * FROM t)";
        refuse_if(is_distinct && of(|arg| matches!(arg, FunctionArgExpr::Wildcard)), "DISTINCT * in a function", rows)?;
        let columns = "write count(*), or count a column that is never NULL where the table has a row: count(e.id)";
        refuse_if(of(|arg| matches!(arg, FunctionArgExpr::QualifiedWildcard(_))), "a table's star in a function", columns)?;
    }
    let is_unnest = name == "unnest" || name == "unnest_outer";
    if !is_unnest && !state.scalar_functions().contains_key(&name) {
        return ControlFlow::Continue(());
    }
    // A function of one row: what is said about many of them would be passed over.
    let instead = format!("leave it out: {name}() sees one row at a time");
    let refuse = |there: bool, what: &str| refuse_if(there, &format!("{what} of {name}()"), &instead);
    refuse(filter.is_some(), "FILTER")?;
    refuse(over.is_some(), "OVER")?;
    refuse(null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS")?;
    refuse(!within_group.is_empty(), "WITHIN GROUP")?;
    if let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args: _, clauses }) = args {
        refuse(duplicate_treatment.is_some(), "DISTINCT or ALL")?;
        refuse(clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_))), "ORDER BY")?;
        refuse(clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::IgnoreOrRespectNulls(_))), "IGNORE NULLS")?;
    }
    ControlFlow::Continue(())
}
