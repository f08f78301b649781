//! What an expression of a plan computes, as a value of our own: the same for expressions that compute the same from the same columns, whatever the
//! columns are called and however DataFusion words it.
//!
//! ```text
//! WHERE b < 2 AND upper(a) LIKE 'x%'      canonical:  AND(<($1, 2:BIGINT), LIKE(upper($0), 'x%':VARCHAR))
//! WHERE upper(t.a) LIKE 'x%' AND 2 > t.b  canonical:  the same
//! ```

use std::fmt;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, NullTreatment, Sort, WindowFunctionParams};
use datafusion::logical_expr::{Case, Expr, Like, Operator, WindowFrameBound};
use serde::{Serialize, Serializer};
use watershed_dialect::over::Frame;
use watershed_functions::numbers::as_written;

use super::literal;
use super::types::type_name;

/// An expression; see the module documentation.
#[derive(Debug, Clone)]
pub enum Expression {
    /// A column of the rows that come in, by its place among them.
    Column {
        /// Its place.
        place: usize,
        /// Its name, for people only.
        name: String,
    },
    /// A constant.
    Literal {
        /// Its exact value.
        exact: String,
        /// Its type.
        data_type: String,
        /// As people write it.
        shown: String,
    },
    /// A word that alters what is around it: a type, `DISTINCT`.
    Word(String),
    /// An operator or a function over arguments.
    Call {
        /// How it is written.
        form: Form,
        /// Its name.
        name: String,
        /// Its arguments, and clauses such as `FILTER` after them.
        arguments: Vec<Expression>,
    },
    /// What is not known by its structure: DataFusion's own text. A change of its wording counts as a change of the expression.
    Unknown(String),
}

/// How a call is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name(a, b)`
    Function,
    /// `a name b`
    Infix,
    /// `name a`
    Prefix,
    /// `a name`
    Postfix,
    /// `name(a AS type)`
    Cast,
    /// `FILTER (a)`, `WHEN a b`: a part of another call.
    Clause,
}

impl Expression {
    /// What `expr` computes from rows of `schema`.
    pub fn of(expr: &Expr, schema: &DFSchema) -> Self {
        let expr = &as_written(expr);
        Reader { schema }.read(expr)
    }

    /// The column at `place`, called `name`.
    pub fn column(place: usize, name: &str) -> Self {
        Self::Column { place, name: name.to_owned() }
    }

    /// Equal for expressions that compute the same.
    pub fn canonical(&self) -> String {
        self.canonical_with(&|place| format!("${place}"), &|text, _| text)
    }

    /// [`Self::canonical`] with `column` for columns, by their place, and `value` for every other value in it; that is told whether it is known by
    /// its structure.
    pub(super) fn canonical_with(&self, column: &dyn Fn(usize) -> String, value: &dyn Fn(String, bool) -> String) -> String {
        match self {
            Self::Column { place, .. } => column(*place),
            Self::Word(word) => word.clone(),
            Self::Literal { exact, data_type, .. } => value(format!("{exact}:{data_type}"), true),
            Self::Unknown(text) => value(format!("?{text:?}"), false),
            Self::Call { name, arguments, .. } => {
                let mut parts: Vec<String> = arguments.iter().map(|argument| argument.canonical_with(column, value)).collect();
                let mut name = name.as_str();
                match name {
                    "AND" | "OR" => {
                        parts.sort();
                        parts.dedup();
                    }
                    "=" | "<>" | "+" | "*" | "IS DISTINCT FROM" | "IS NOT DISTINCT FROM" => parts.sort(),
                    "IN" | "NOT IN" => {
                        parts[1..].sort();
                        parts.dedup();
                    }
                    // `2 > a` is `a < 2`.
                    ">" | ">=" => {
                        parts.reverse();
                        name = if name == ">" { "<" } else { "<=" };
                    }
                    _ => {}
                }
                value(format!("{name}({})", parts.join(", ")), true)
            }
        }
    }

    /// Whether all of it is known by its structure.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Call { arguments, .. } => arguments.iter().all(Self::is_known),
            _ => true,
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

/// As people write it.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column { name, .. } => f.write_str(name),
            Self::Literal { shown, .. } => f.write_str(shown),
            Self::Word(text) | Self::Unknown(text) => f.write_str(text),
            Self::Call { form, name, arguments } => match form {
                Form::Infix => listed(f, arguments, &format!(" {name} "), true),
                Form::Prefix => {
                    write!(f, "{name} ")?;
                    listed(f, arguments, " ", true)
                }
                Form::Postfix => {
                    listed(f, arguments, " ", true)?;
                    write!(f, " {name}")
                }
                Form::Cast => {
                    write!(f, "{name}(")?;
                    listed(f, arguments, " AS ", false)?;
                    f.write_str(")")
                }
                Form::Clause if matches!(name.as_str(), "FILTER" | "OVER") => {
                    write!(f, "{name} (")?;
                    listed(f, arguments, " ", false)?;
                    f.write_str(")")
                }
                Form::Clause => {
                    write!(f, "{name} ")?;
                    listed(f, arguments, if matches!(name.as_str(), "WHEN") { " THEN " } else { ", " }, false)
                }
                Form::Function if name == "CASE" => {
                    f.write_str("CASE ")?;
                    listed(f, arguments, " ", false)?;
                    f.write_str(" END")
                }
                Form::Function => {
                    let is_clause = |e: &&Expression| matches!(e, Self::Call { form: Form::Clause, .. });
                    let (clauses, plain): (Vec<_>, Vec<_>) = arguments.iter().partition(is_clause);
                    let (words, plain): (Vec<_>, Vec<_>) = plain.into_iter().partition(|e| matches!(e, Self::Word(_)));
                    write!(f, "{name}(")?;
                    for word in words {
                        write!(f, "{word} ")?;
                    }
                    for (i, argument) in plain.into_iter().enumerate() {
                        write!(f, "{}{argument}", if i == 0 { "" } else { ", " })?;
                    }
                    f.write_str(")")?;
                    clauses.into_iter().try_for_each(|clause| write!(f, " {clause}"))
                }
            },
        }
    }
}

fn listed(f: &mut fmt::Formatter<'_>, expressions: &[Expression], between: &str, bracketed: bool) -> fmt::Result {
    for (i, expression) in expressions.iter().enumerate() {
        let inner = matches!(expression, Expression::Call { form: Form::Infix | Form::Prefix | Form::Postfix, .. });
        let (open, close) = if bracketed && inner { ("(", ")") } else { ("", "") };
        write!(f, "{}{open}{expression}{close}", if i == 0 { "" } else { between })?;
    }
    Ok(())
}

fn call(form: Form, name: &str, arguments: Vec<Expression>) -> Expression {
    Expression::Call { form, name: name.to_owned(), arguments }
}

fn word(word: &str) -> Expression {
    Expression::Word(word.to_owned())
}

/// A constant of a query.
pub(super) fn constant(value: &ScalarValue) -> Expression {
    match literal::exact(value) {
        Some(exact) => Expression::Literal { exact, data_type: type_name(&value.data_type()), shown: literal::shown(value) },
        None => Expression::Unknown(format!("{value} {}", type_name(&value.data_type()))),
    }
}

struct Reader<'a> {
    schema: &'a DFSchema,
}

impl Reader<'_> {
    fn read(&self, expr: &Expr) -> Expression {
        let one = |form: Form, name: &str, inner: &Expr| call(form, name, vec![self.read(inner)]);
        match expr {
            Expr::Alias(alias) => self.read(&alias.expr),
            Expr::Column(column) => match self.schema.maybe_index_of_column(column) {
                Some(place) => Expression::column(place, &column.name),
                None => Expression::Unknown(expr.to_string()),
            },
            Expr::Literal(value, _) => constant(value),
            Expr::BinaryExpr(binary) => match operator(binary.op) {
                Some(name @ ("AND" | "OR")) => {
                    let mut terms = Vec::new();
                    self.flatten(expr, binary.op, &mut terms);
                    call(Form::Infix, name, terms)
                }
                Some(name) => call(Form::Infix, name, vec![self.read(&binary.left), self.read(&binary.right)]),
                None => Expression::Unknown(expr.to_string()),
            },
            Expr::Like(like) => self.like(like, if like.case_insensitive { "ILIKE" } else { "LIKE" }),
            Expr::SimilarTo(like) => self.like(like, "SIMILAR TO"),
            Expr::Not(inner) => one(Form::Prefix, "NOT", inner),
            Expr::IsNotNull(inner) => one(Form::Postfix, "IS NOT NULL", inner),
            Expr::IsNull(inner) => one(Form::Postfix, "IS NULL", inner),
            Expr::IsTrue(inner) => one(Form::Postfix, "IS TRUE", inner),
            Expr::IsFalse(inner) => one(Form::Postfix, "IS FALSE", inner),
            Expr::IsUnknown(inner) => one(Form::Postfix, "IS UNKNOWN", inner),
            Expr::IsNotTrue(inner) => one(Form::Postfix, "IS NOT TRUE", inner),
            Expr::IsNotFalse(inner) => one(Form::Postfix, "IS NOT FALSE", inner),
            Expr::IsNotUnknown(inner) => one(Form::Postfix, "IS NOT UNKNOWN", inner),
            Expr::Negative(inner) => one(Form::Prefix, "-", inner),
            Expr::Between(between) => {
                let name = if between.negated { "NOT BETWEEN" } else { "BETWEEN" };
                call(Form::Function, name, vec![self.read(&between.expr), self.read(&between.low), self.read(&between.high)])
            }
            Expr::Case(case) => self.case(case),
            Expr::Cast(cast) => call(Form::Cast, "CAST", vec![self.read(&cast.expr), Expression::Word(type_name(cast.field.data_type()))]),
            Expr::TryCast(cast) => {
                call(Form::Cast, "TRY_CAST", vec![self.read(&cast.expr), Expression::Word(type_name(cast.field.data_type()))])
            }
            Expr::ScalarFunction(function) => call(Form::Function, function.name(), self.all(&function.args)),
            Expr::AggregateFunction(aggregate) => self.aggregate(aggregate.func.name(), &aggregate.params),
            Expr::WindowFunction(window) => self.window(window.fun.name(), &window.params),
            Expr::InList(list) => {
                let arguments = std::iter::once(list.expr.as_ref()).chain(&list.list).map(|e| self.read(e)).collect();
                call(Form::Function, if list.negated { "NOT IN" } else { "IN" }, arguments)
            }
            _ => Expression::Unknown(expr.to_string()),
        }
    }

    fn all(&self, exprs: &[Expr]) -> Vec<Expression> {
        exprs.iter().map(|expr| self.read(expr)).collect()
    }

    /// The terms of a chain of one operator.
    fn flatten(&self, expr: &Expr, op: Operator, terms: &mut Vec<Expression>) {
        // A chain leans to one side, and may be long: the other side is what is read by recursion.
        let mut waiting = vec![expr];
        while let Some(expr) = waiting.pop() {
            match expr {
                Expr::BinaryExpr(binary) if binary.op == op => waiting.extend([binary.right.as_ref(), binary.left.as_ref()]),
                other => terms.push(self.read(other)),
            }
        }
    }

    fn like(&self, like: &Like, name: &str) -> Expression {
        let name = if like.negated { format!("NOT {name}") } else { name.to_owned() };
        let mut arguments = vec![self.read(&like.expr), self.read(&like.pattern)];
        if let Some(escape) = like.escape_char {
            arguments.push(call(Form::Clause, "ESCAPE", vec![constant(&ScalarValue::from(escape.to_string()))]));
        }
        call(Form::Infix, &name, arguments)
    }

    fn case(&self, case: &Case) -> Expression {
        let mut arguments = Vec::new();
        if let Some(subject) = &case.expr {
            arguments.push(call(Form::Clause, "OF", vec![self.read(subject)]));
        }
        for (when, then) in &case.when_then_expr {
            arguments.push(call(Form::Clause, "WHEN", vec![self.read(when), self.read(then)]));
        }
        if let Some(otherwise) = &case.else_expr {
            arguments.push(call(Form::Clause, "ELSE", vec![self.read(otherwise)]));
        }
        call(Form::Function, "CASE", arguments)
    }

    fn aggregate(&self, name: &str, params: &AggregateFunctionParams) -> Expression {
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
        let mut arguments = self.all(args);
        if *distinct {
            arguments.push(word("DISTINCT"));
        }
        arguments.extend(self.order(order_by));
        arguments.extend(treatment(*null_treatment));
        arguments.extend(filter.as_ref().map(|filter| call(Form::Clause, "FILTER", vec![self.read(filter)])));
        call(Form::Function, name, arguments)
    }

    fn window(&self, name: &str, params: &WindowFunctionParams) -> Expression {
        let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } = params;
        let mut arguments = self.all(args);
        if *distinct {
            arguments.push(word("DISTINCT"));
        }
        arguments.extend(treatment(*null_treatment));
        arguments.extend(filter.as_ref().map(|filter| call(Form::Clause, "FILTER", vec![self.read(filter)])));
        let mut over = Vec::new();
        if !partition_by.is_empty() {
            over.push(call(Form::Clause, "PARTITION BY", self.all(partition_by)));
        }
        over.extend(self.order(order_by));
        // Lengths of time are given in microseconds, so that an hour is sixty minutes.
        over.push(match Frame::of(window_frame) {
            Ok(frame) => Expression::Word(format!("RANGE {} us TO {} us", frame.from_us, frame.to_us)),
            Err(_) => {
                let bounds = vec![bound(&window_frame.start_bound), bound(&window_frame.end_bound)];
                call(Form::Clause, &format!("{}", window_frame.units), bounds)
            }
        });
        arguments.push(call(Form::Clause, "OVER", over));
        call(Form::Function, name, arguments)
    }

    fn order(&self, sorts: &[Sort]) -> Option<Expression> {
        let sort = |sort: &Sort| {
            let direction = if sort.asc { "ASC" } else { "DESC" };
            let nulls = if sort.nulls_first { "NULLS FIRST" } else { "NULLS LAST" };
            call(Form::Postfix, &format!("{direction} {nulls}"), vec![self.read(&sort.expr)])
        };
        (!sorts.is_empty()).then(|| call(Form::Clause, "ORDER BY", sorts.iter().map(sort).collect()))
    }
}

/// RESPECT NULLS is what leaving it out means.
fn treatment(treatment: Option<NullTreatment>) -> Option<Expression> {
    (treatment == Some(NullTreatment::IgnoreNulls)).then(|| call(Form::Clause, "IGNORE NULLS", Vec::new()))
}

fn bound(bound: &WindowFrameBound) -> Expression {
    let (name, value) = match bound {
        WindowFrameBound::CurrentRow => return word("CURRENT ROW"),
        WindowFrameBound::Preceding(value) => ("PRECEDING", value),
        WindowFrameBound::Following(value) => ("FOLLOWING", value),
    };
    call(Form::Postfix, name, vec![if value.is_null() { word("UNBOUNDED") } else { constant(value) }])
}

/// The symbol of an operator; `None` for those that no query can have.
fn operator(operator: Operator) -> Option<&'static str> {
    Some(match operator {
        Operator::Eq => "=",
        Operator::NotEq => "<>",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Modulo => "%",
        Operator::And => "AND",
        Operator::Or => "OR",
        Operator::IsDistinctFrom => "IS DISTINCT FROM",
        Operator::IsNotDistinctFrom => "IS NOT DISTINCT FROM",
        Operator::RegexMatch => "~",
        Operator::RegexIMatch => "~*",
        Operator::RegexNotMatch => "!~",
        Operator::RegexNotIMatch => "!~*",
        Operator::LikeMatch => "~~",
        Operator::ILikeMatch => "~~*",
        Operator::NotLikeMatch => "!~~",
        Operator::NotILikeMatch => "!~~*",
        Operator::BitwiseAnd => "&",
        Operator::BitwiseOr => "|",
        Operator::BitwiseXor => "^",
        Operator::BitwiseShiftRight => ">>",
        Operator::BitwiseShiftLeft => "<<",
        Operator::StringConcat => "||",
        _ => return None,
    })
}
