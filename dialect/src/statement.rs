//! A text to statements: ours parsed here, all others by DataFusion's parser, with places that count from the start of the text.

use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::bounds::{CALLS_MAX, check_statement, check_text, check_tokens, check_tree};
use crate::create_materialized_view::parse_view_head;
use crate::create_panel;
use crate::create_sink;
use crate::create_source::parse_create_source;
use crate::create_streaming_table::parse_head;
use crate::cursor::Cursor;
use crate::deep_stack::on_deep_stack;
use crate::definition::{
    Expectation, MaterializedViewDefinition, PanelDefinition, SinkDefinition, SourceDefinition, StreamingTableDefinition,
};
use crate::diagnose::{from_parser, from_tokenizer};
use crate::expectation::Parsed;
use crate::syntax::{WatershedDialect, normalise};
use crate::{SqlError, parameter};

/// One statement of a text.
#[derive(Debug, Clone)]
pub struct Statement {
    /// What it says.
    pub kind: StatementKind,
    /// As written, without the semicolon and what is around it.
    pub text: String,
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Column at which it begins, in characters from 1.
    pub column: u64,
    /// Line on which the query of a streaming table, view or sink begins; else that of the statement.
    pub query_line: u64,
    /// Column at which the query of a streaming table, view or sink begins; else that of the statement.
    pub query_column: u64,
    /// Whether planning it takes so little that a thread need not be freed of others' tasks for it.
    pub is_brief: bool,
}

/// What a statement says.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "statements are few and short-lived")]
pub enum StatementKind {
    /// `CREATE SOURCE`.
    CreateSource(SourceDefinition),
    /// `CREATE STREAMING TABLE`.
    CreateStreamingTable(StreamingTableDefinition),
    /// `CREATE MATERIALIZED VIEW`.
    CreateMaterializedView(MaterializedViewDefinition),
    /// `CREATE SINK`.
    CreateSink(SinkDefinition),
    /// `CREATE PANEL`.
    CreatePanel(PanelDefinition),
    /// `EXPLAIN MATERIALIZED VIEW`.
    ExplainView(ViewName),
    /// `EXPLAIN STREAMING TABLE`.
    ExplainTable(ViewName),
    /// A query, EXPLAIN, SHOW, … for DataFusion.
    Other(DfStatement),
}

/// The name of a materialized view or a streaming table as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewName {
    /// Schema part, if there is one.
    pub schema: Option<String>,
    /// Table part.
    pub table: String,
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Column at which it begins, in characters from 1.
    pub column: u64,
}

impl std::fmt::Display for ViewName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

impl Statement {
    /// Moves the place in an error about the query of this streaming table, view or sink, counted from the start of the query, to the whole text.
    pub fn place(&self, error: SqlError) -> SqlError {
        error.within(self.query_line, self.query_column)
    }
}

/// Parses a file or an input of the prompt: any number of statements, separated by semicolons.
///
/// What is too long, too deep or too much to plan is refused here, before anything recursive runs over it.
pub fn parse(text: &str) -> Result<Vec<Statement>, SqlError> {
    check_text(text)?;
    let mut tokens = Tokenizer::new(&WatershedDialect::default(), text).tokenize_with_location().map_err(|e| from_tokenizer(&e))?;
    check_tokens(&tokens)?;
    parameter::number(&mut tokens)?;
    let dialect = WatershedDialect::for_tokens(tokens.len());
    on_deep_stack(|| parse_tokens(text, tokens, &dialect)).map_err(|error| dialect.refusal().map_or(error, |refusal| refusal.at(1, 1)))
}

fn parse_tokens(text: &str, tokens: Vec<TokenWithSpan>, dialect: &WatershedDialect) -> Result<Vec<Statement>, SqlError> {
    let parser = DFParserBuilder::new(tokens).with_dialect(dialect).with_recursion_limit(CALLS_MAX).build();
    let mut parser = parser.map_err(|e| SqlError::new(e.message().into_owned()))?;
    let places = Places::new(text);
    let mut statements = vec![];
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {}
        if parser.parser.peek_token_ref().token == Token::EOF {
            return Ok(statements);
        }
        let statement = parse_one(&mut parser, &places).map_err(|e| {
            let (line, column) = places.end();
            e.at_least(line, column)
        })?;
        if !matches!(parser.parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            let found = parser.parser.peek_token();
            let message = format!("Expected: end of statement, found: {}{}", found.token, found.span.start);
            return Err(from_parser(&ParserError::ParserError(message), text));
        }
        statements.push(statement);
    }
}

fn parse_one(parser: &mut DFParser, places: &Places) -> Result<Statement, SqlError> {
    let start = parser.parser.peek_token_ref().span.start;
    let mut query_start = start;
    let mut is_brief = false;
    let expectation = |parsed: Parsed| Expectation {
        name: parsed.name,
        predicate: places.slice(parsed.from, parsed.to).to_string(),
        action: parsed.action,
        line: parsed.from.line,
        column: parsed.from.column,
    };
    let mut cursor = Cursor::new(&mut parser.parser);
    let kind = if cursor.take(&["CREATE", "SOURCE"]) {
        StatementKind::CreateSource(parse_create_source(&mut cursor)?)
    } else if cursor.take(&["CREATE", "STREAMING", "TABLE"]) {
        let head = parse_head(&mut cursor, places.text)?;
        query_start = cursor.here();
        parse_query(&mut cursor, places)?;
        StatementKind::CreateStreamingTable(StreamingTableDefinition {
            schema: head.schema,
            table: head.table,
            partitioned_by: head.partitioned_by,
            commit_interval: head.commit_interval,
            late_rows: head.late_rows,
            max_ahead: head.max_ahead,
            expectations: head.expectations.into_iter().map(expectation).collect(),
            query: places.slice(query_start, end_of_last(parser)).to_string(),
        })
    } else if cursor.take(&["CREATE", "MATERIALIZED", "VIEW"]) {
        let head = parse_view_head(&mut cursor, places.text)?;
        query_start = cursor.here();
        parse_query(&mut cursor, places)?;
        StatementKind::CreateMaterializedView(MaterializedViewDefinition {
            schema: head.schema,
            table: head.table,
            partitioned_by: head.partitioned_by,
            schedule: head.schedule,
            timeout: head.timeout,
            expectations: head.expectations.into_iter().map(expectation).collect(),
            query: places.slice(query_start, end_of_last(parser)).to_string(),
        })
    } else if cursor.take(&["CREATE", "SINK"]) {
        let head = create_sink::parse_head(&mut cursor)?;
        query_start = cursor.here();
        let query = parse_query(&mut cursor, places)?;
        let (schema, table) = create_sink::table_of(&query, query_start)?;
        let query = places.slice(query_start, end_of_last(parser)).to_string();
        StatementKind::CreateSink(head.into_definition(schema, table, query))
    } else if cursor.take(&["CREATE", "PANEL"]) {
        let head = create_panel::parse_head(&mut cursor)?;
        query_start = cursor.here();
        parse_query(&mut cursor, places)?;
        StatementKind::CreatePanel(PanelDefinition { query: places.slice(query_start, end_of_last(parser)).to_string(), ..head })
    } else if cursor.take(&["EXPLAIN", "MATERIALIZED", "VIEW"]) {
        StatementKind::ExplainView(parse_view_name(&mut cursor, "the name of a materialized view")?)
    } else if cursor.take(&["EXPLAIN", "STREAMING", "TABLE"]) {
        StatementKind::ExplainTable(parse_view_name(&mut cursor, "the name of a streaming table")?)
    } else {
        refuse_unsupported(&cursor)?;
        let mut parsed = parser.parse_statement().map_err(|e| places.parser_error(&e))?;
        is_brief = check_statement(&parsed).map_err(|e| e.at_least(start.line, start.column))?;
        normalise(&mut parsed)?;
        StatementKind::Other(parsed)
    };
    Ok(Statement {
        kind,
        text: places.slice(start, end_of_last(parser)).to_string(),
        line: start.line,
        column: start.column,
        query_line: query_start.line,
        query_column: query_start.column,
        is_brief,
    })
}

/// `view` or `schema.view`.
fn parse_view_name(cursor: &mut Cursor, what: &str) -> Result<ViewName, SqlError> {
    let (first, place) = cursor.name(what)?;
    let second = if cursor.take_token(&Token::Period) { Some(cursor.name(what)?.0) } else { None };
    let (schema, table) = match second {
        Some(table) => (Some(first), table),
        None => (None, first),
    };
    Ok(ViewName { schema, table, line: place.line, column: place.column })
}

/// The query after `AS`.
fn parse_query(cursor: &mut Cursor, places: &Places) -> Result<Box<Query>, SqlError> {
    if !["SELECT", "WITH", "FROM"].iter().any(|word| cursor.peeks(word)) && cursor.parser.peek_token_ref().token != Token::LParen {
        return Err(cursor.expected("a query after AS").hint("write AS SELECT … FROM …"));
    }
    let start = cursor.here();
    let query = cursor.parser.parse_query().map_err(|e| from_parser(&e, places.text))?;
    check_tree(query.as_ref()).map_err(|e| e.at_least(start.line, start.column))?;
    Ok(query)
}

/// Statements of the dialect that are to come, and near misses of those that are there.
fn refuse_unsupported(cursor: &Cursor) -> Result<(), SqlError> {
    let tokens = cursor.parser.peek_tokens_ref::<4>();
    let words: Vec<String> = tokens
        .iter()
        .map_while(|t| match &t.token {
            Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_uppercase()),
            _ => None,
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let not_yet = |what: &str, hint: &str| Err(cursor.error(format!("{what} is not supported yet")).hint(hint));
    match words.as_slice() {
        ["CREATE", "MODEL", ..] => not_yet("CREATE MODEL", "score rows where the table is read"),
        ["EXPLAIN", "ANALYZE" | "VERBOSE", "MATERIALIZED", ..] => {
            Err(cursor.error("a view's job is explained in one way").hint("write EXPLAIN MATERIALIZED VIEW schema.view"))
        }
        ["CREATE", "OR", "REPLACE", what @ ("SOURCE" | "STREAMING" | "MATERIALIZED" | "SINK")] => Err(cursor
            .error("OR REPLACE is not needed")
            .hint(format!("write CREATE {what} …: apply compares the definition with what is there and shows the change"))),
        ["CREATE", "STREAM" | "STREAMING", ..] => {
            Err(cursor.error("a stream is made by CREATE STREAMING TABLE").hint("write CREATE STREAMING TABLE schema.table AS SELECT …"))
        }
        ["CREATE", "SOURCES" | "SORUCE" | "SOUCRE" | "SOURC", ..] => {
            Err(cursor.error("unknown statement").hint("did you mean CREATE SOURCE?"))
        }
        _ => Ok(()),
    }
}

/// Where the last token that was taken ends.
fn end_of_last(parser: &DFParser) -> Location {
    let mut index = parser.parser.index();
    while index > 0 {
        index -= 1;
        let token = parser.parser.token_at(index);
        if !matches!(token.token, Token::Whitespace(_) | Token::EOF) {
            return token.span.end;
        }
    }
    Location { line: 1, column: 1 }
}

/// How many characters lie between two whose bytes [`Places`] knows.
const STEP: usize = 64;

/// Finds byte positions of lines and columns, in a time that does not depend on where they are.
struct Places<'a> {
    text: &'a str,
    /// Of each line, how many characters come before it.
    lines: Vec<usize>,
    /// Where every [`STEP`]th character begins.
    steps: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let (mut lines, mut steps) = (vec![0], vec![]);
        for (count, (at, c)) in text.char_indices().enumerate() {
            if count % STEP == 0 {
                steps.push(at);
            }
            if c == '\n' {
                lines.push(count + 1);
            }
        }
        Self { text, lines, steps }
    }

    fn byte(&self, place: Location) -> usize {
        let Some(before) = self.lines.get(place.line.saturating_sub(1) as usize) else {
            return self.text.len();
        };
        let count = before + place.column.saturating_sub(1) as usize;
        let Some(step) = self.steps.get(count / STEP) else {
            return self.text.len();
        };
        self.text[*step..].char_indices().nth(count % STEP).map_or(self.text.len(), |(at, _)| step + at)
    }

    fn slice(&self, from: Location, to: Location) -> &'a str {
        let (from, to) = (self.byte(from), self.byte(to));
        self.text.get(from..to).unwrap_or("").trim()
    }

    /// Just after the last word of the text.
    fn end(&self) -> (u64, u64) {
        let text = self.text.trim_end();
        let line = text.matches('\n').count() as u64 + 1;
        (line, text.rsplit('\n').next().unwrap_or("").chars().count() as u64 + 1)
    }

    fn parser_error(&self, error: &datafusion::error::DataFusionError) -> SqlError {
        match error {
            datafusion::error::DataFusionError::SQL(parser, _) => from_parser(parser, self.text),
            datafusion::error::DataFusionError::Diagnostic(_, inner) => self.parser_error(inner),
            other => SqlError::new(other.message().into_owned()),
        }
    }
}
