//! `CREATE SINK name TO KAFKA (options) AS SELECT … FROM STREAM(schema.table) [WHERE …]`: sends a streaming table's rows on as it emits them.
//!
//! ```sql
//! CREATE SINK fraud_scores TO KAFKA (topic = 'fraud-scores', format = 'json', key = 'payment_id', id = 'score_id')
//! AS SELECT score_id, payment_id, score FROM STREAM(gold.fraud_scores) WHERE score >= 50
//! ```
//!
//! The query sees one row at a time: it chooses, computes and leaves out.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, SetExpr, TableFactor};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::definition::{ClientSetting, SinkDefinition};
use crate::nearest::did_you_mean;
use crate::options::Options;
use crate::syntax::normalised;

const FORM: &str = "write CREATE SINK name TO KAFKA (topic = '…', format = 'json', key = '…') AS SELECT … FROM STREAM(schema.table)";

/// More partitions than this are a typing error, and a broker would be long in making them.
const PARTITIONS_MAX: i32 = 10_000;

/// All but the query.
pub(crate) struct Head {
    name: String,
    topic: String,
    properties: BTreeMap<String, ClientSetting>,
    partitions: Option<i32>,
    key: Option<String>,
    id: Option<String>,
}

impl Head {
    pub(crate) fn into_definition(self, schema: String, table: String, query: String) -> SinkDefinition {
        let Self { name, topic, properties, partitions, key, id } = self;
        SinkDefinition { name, topic, properties, partitions, key, id, schema, table, query }
    }
}

/// Parses what follows `CREATE SINK`, up to and with `AS`.
pub(crate) fn parse_head(cursor: &mut Cursor) -> Result<Head, SqlError> {
    if cursor.peeks("IF") {
        return Err(cursor.error("IF NOT EXISTS is not needed").hint("leave it out: apply compares the definition with what is there"));
    }
    let (name, place) = cursor.name("a name for the sink")?;
    if cursor.parser.peek_token_ref().token == Token::Period {
        return Err(cursor.error("a sink has no schema").hint(format!("name it '{name}' or with an underscore")));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(error_at(place, format!("'{name}' cannot name a sink")).hint("use letters a-z, digits, '_' and '-'"));
    }
    if !cursor.take(&["TO"]) {
        return Err(cursor.expected("TO KAFKA").hint(FORM));
    }
    if !cursor.take(&["KAFKA"]) {
        let near = cursor.peek_word().and_then(|w| did_you_mean(&w.value, ["KAFKA"]));
        return Err(cursor.expected("KAFKA").hint(near.unwrap_or_else(|| "a sink goes to Kafka: write TO KAFKA (topic = '…')".into())));
    }
    let place = cursor.here();
    let mut options = Options::parse_list(cursor)?;
    let topic = options.take("topic").map(|topic| topic.text).filter(|topic| !topic.is_empty());
    options.take_word("format", &[("json", ())], ())?;
    let key = options.take("key").map(|column| column.text);
    let id = options.take("id").map(|column| column.text);
    let partitions = options.take("partitions").map(|count| match count.text.parse() {
        Ok(count) if (1..=PARTITIONS_MAX).contains(&count) => Ok(count),
        _ => Err(error_at(count.place, format!("partitions cannot be '{}'", count.text))
            .hint(format!("write a number from 1 to {PARTITIONS_MAX}"))),
    });
    let partitions = partitions.transpose()?;
    let properties = options.take_client_settings();
    options.finish("a sink", &["kafka.bootstrap.servers", "kafka.<any client setting>"])?;
    let topic = topic.ok_or_else(|| error_at(place, format!("sink '{name}' names no topic")).hint("add topic = '…'"))?;
    if !cursor.take(&["AS"]) {
        return Err(cursor.expected("AS").hint(FORM));
    }
    Ok(Head { name, topic, properties, partitions, key, id })
}

/// The streaming table that a sink's query reads. `at` is where the query begins.
pub(crate) fn table_of(query: &Query, at: Location) -> Result<(String, String), SqlError> {
    let refusal = || error_at(at, "a sink sends the rows of one streaming table").hint("write SELECT … FROM STREAM(schema.table)");
    let SetExpr::Select(select) = query.body.as_ref() else { return Err(refusal()) };
    let [from] = select.from.as_slice() else { return Err(refusal()) };
    if !from.joins.is_empty() || query.with.is_some() {
        return Err(refusal());
    }
    let parts = match &from.relation {
        TableFactor::Table { name, args: Some(args), .. } if is_stream(name) => match args.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))] => parts,
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))] => {
                let place = name.span.start;
                return Err(error_at(place, format!("'{name}' names no schema"))
                    .hint(format!("write STREAM(schema.table), such as STREAM(gold.{name})")));
            }
            _ => return Err(refusal()),
        },
        TableFactor::Table { name, args: None, .. } => {
            let place = name.0.first().and_then(|part| part.as_ident()).map_or(at, |ident| ident.span.start);
            return Err(
                error_at(place, format!("a sink follows '{name}': it does not read it whole")).hint(format!("write FROM STREAM({name})"))
            );
        }
        _ => return Err(refusal()),
    };
    match parts.as_slice() {
        [schema, table] => Ok((normalised(schema), normalised(table))),
        [first, ..] => Err(error_at(first.span.start, "a streaming table's name has two parts").hint("write STREAM(schema.table)")),
        [] => Err(refusal()),
    }
}

fn is_stream(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("stream")))
}
