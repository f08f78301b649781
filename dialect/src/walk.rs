//! Walks over a statement as it was parsed. sqlparser's own walk is compiled again, over the whole grammar, for each kind of visitor; this is
//! one kind that passes each step on.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::SqlError;

/// Why a walk ends before its end.
#[derive(Debug)]
pub enum End {
    /// What was looked for is there.
    Found,
    /// Something is there that must not be.
    Refused(Box<SqlError>),
}

/// What a step says.
pub type Flow = ControlFlow<End>;

/// Goes on if all is well.
pub(crate) fn flow(checked: Result<(), SqlError>) -> Flow {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(End::Refused(Box::new(error))),
    }
}

/// The error that ended a walk, if one did.
fn refused(flow: Flow) -> Result<(), SqlError> {
    match flow {
        ControlFlow::Break(End::Refused(error)) => Err(*error),
        ControlFlow::Break(End::Found) | ControlFlow::Continue(()) => Ok(()),
    }
}

/// Shows a part of a statement to `visitor`. Says whether that found what it looks for.
pub fn finds(part: &impl Visit, visitor: &mut dyn Visitor<Break = End>) -> bool {
    part.visit(&mut Look(visitor)).is_break()
}

/// Shows a part of a statement to `visitor`, which may refuse it.
pub(crate) fn check(part: &impl Visit, visitor: &mut dyn Visitor<Break = End>) -> Result<(), SqlError> {
    refused(part.visit(&mut Look(visitor)))
}

/// Lets `visitor` change a part of a statement, or refuse it.
pub(crate) fn change(part: &mut impl VisitMut, visitor: &mut dyn VisitorMut<Break = End>) -> Result<(), SqlError> {
    refused(part.visit(&mut Change(visitor)))
}

/// [`check`] of what a statement says beyond DataFusion's own words.
pub(crate) fn check_statement(statement: &DfStatement, visitor: &mut dyn Visitor<Break = End>) -> Result<(), SqlError> {
    match statement {
        DfStatement::Statement(inner) => check(inner.as_ref(), visitor),
        DfStatement::Explain(explain) => check_statement(&explain.statement, visitor),
        DfStatement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => check(query.as_ref(), visitor),
            CopyToSource::Relation(_) => Ok(()),
        },
        DfStatement::CreateExternalTable(_) | DfStatement::Reset(_) => Ok(()),
    }
}

/// [`change`] of what a statement says beyond DataFusion's own words.
pub(crate) fn change_statement(statement: &mut DfStatement, visitor: &mut dyn VisitorMut<Break = End>) -> Result<(), SqlError> {
    match statement {
        DfStatement::Statement(inner) => change(inner.as_mut(), visitor),
        DfStatement::Explain(explain) => change_statement(&mut explain.statement, visitor),
        DfStatement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => change(query.as_mut(), visitor),
            CopyToSource::Relation(_) => Ok(()),
        },
        DfStatement::CreateExternalTable(_) | DfStatement::Reset(_) => Ok(()),
    }
}

struct Look<'a>(&'a mut dyn Visitor<Break = End>);

struct Change<'a>(&'a mut dyn VisitorMut<Break = End>);

macro_rules! passed_on {
    ($($step:ident: $node:ty),* $(,)?) => {$(
        fn $step(&mut self, node: $node) -> Flow {
            self.0.$step(node)
        }
    )*};
}

impl Visitor for Look<'_> {
    type Break = End;

    passed_on!(
        pre_visit_query: &Query,
        post_visit_query: &Query,
        pre_visit_select: &Select,
        post_visit_select: &Select,
        pre_visit_relation: &ObjectName,
        post_visit_relation: &ObjectName,
        pre_visit_table_factor: &TableFactor,
        post_visit_table_factor: &TableFactor,
        pre_visit_expr: &Expr,
        post_visit_expr: &Expr,
        pre_visit_statement: &Statement,
        post_visit_statement: &Statement,
        pre_visit_value: &ValueWithSpan,
        post_visit_value: &ValueWithSpan,
    );
}

impl VisitorMut for Change<'_> {
    type Break = End;

    passed_on!(
        pre_visit_query: &mut Query,
        post_visit_query: &mut Query,
        pre_visit_select: &mut Select,
        post_visit_select: &mut Select,
        pre_visit_relation: &mut ObjectName,
        post_visit_relation: &mut ObjectName,
        pre_visit_table_factor: &mut TableFactor,
        post_visit_table_factor: &mut TableFactor,
        pre_visit_expr: &mut Expr,
        post_visit_expr: &mut Expr,
        pre_visit_statement: &mut Statement,
        post_visit_statement: &mut Statement,
        pre_visit_value: &mut ValueWithSpan,
        post_visit_value: &mut ValueWithSpan,
    );
}
