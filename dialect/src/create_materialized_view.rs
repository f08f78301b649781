//! `CREATE MATERIALIZED VIEW schema.table [(CONSTRAINT …)] [PARTITIONED BY (…)] [WITH (…)] [SCHEDULE … | TRIGGER …] AS query`, clauses in any
//! order.
//!
//! ```sql
//! CREATE MATERIALIZED VIEW gold.revenue_by_day
//! SCHEDULE CRON '5 * * * *'                  -- or SCHEDULE EVERY 1 HOUR, or TRIGGER ON UPDATE [AT MOST EVERY 5 MINUTES]
//! AS SELECT day, city, sum(revenue) AS revenue FROM gold.city_demand GROUP BY day, city
//! ```

use std::time::Duration;

use croner::Cron;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::SqlError;
use crate::clauses::{names_constraints, parse_partitioning, parse_table_name};
use crate::cursor::{Cursor, error_at};
use crate::definition::{OnViolation, Schedule};
use crate::expectation::{Parsed, parse_expectations};
use crate::nearest::did_you_mean;
use crate::options::{Options, parse_duration_us, parse_interval_us};

const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How long a view that follows its inputs waits at least, unless it says itself: pipelines commit every few seconds.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// Shorter than this a job would do nothing but start.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longer than this a number was mistyped.
const EVERY_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// All but the query.
pub(crate) struct ViewHead {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) partitioned_by: Vec<String>,
    pub(crate) schedule: Schedule,
    pub(crate) timeout: Duration,
    pub(crate) expectations: Vec<Parsed>,
}

/// Parses what follows `CREATE MATERIALIZED VIEW`, up to and with `AS`. `text` is the whole text.
pub(crate) fn parse_view_head(cursor: &mut Cursor, text: &str) -> Result<ViewHead, SqlError> {
    if cursor.peeks("IF") {
        return Err(cursor.error("IF NOT EXISTS is not needed").hint("leave it out: apply compares the definition with what is there"));
    }
    let (schema, table) = parse_table_name(cursor, "a materialized view")?;
    let mut expectations = vec![];
    if cursor.parser.peek_token_ref().token == Token::LParen {
        if !names_constraints(cursor) {
            return Err(cursor
                .error("a materialized view has no list of columns")
                .hint("its columns are those of the query: name and cast them there; in parentheses stand CONSTRAINT … EXPECT (…)"));
        }
        expectations = parse_expectations(cursor, text)?;
        if let Some(aside) = expectations.iter().find(|expectation| expectation.action == OnViolation::Quarantine) {
            return Err(error_at(aside.from, format!("constraint '{}' cannot QUARANTINE rows of a materialized view", aside.name))
                .detail("each refresh makes all rows anew, so a row set aside would be set aside again and again")
                .hint("write DROP ROW, and keep such rows by a view of their own: … WHERE NOT (predicate)"));
        }
    }
    let mut partitioned_by = None;
    let mut options = None;
    let mut schedule = None;
    loop {
        let place = cursor.here();
        let twice = |there: bool, what: &str| if there { Err(error_at(place, format!("{what} stands twice"))) } else { Ok(()) };
        if cursor.take(&["PARTITIONED", "BY"]) {
            twice(partitioned_by.replace(parse_partitioning(cursor)?).is_some(), "PARTITIONED BY")?;
        } else if cursor.peeks("WITH") {
            twice(options.replace(Options::parse(cursor)?).is_some(), "WITH")?;
        } else if cursor.peeks("SCHEDULE") || cursor.peeks("TRIGGER") {
            let parsed = if cursor.take(&["SCHEDULE"]) { parse_schedule(cursor)? } else { parse_trigger(cursor)? };
            if schedule.replace(parsed).is_some() {
                return Err(error_at(place, "a materialized view is refreshed in one way: it has a SCHEDULE or TRIGGER already"));
            }
        } else {
            break;
        }
    }
    if !cursor.take(&["AS"]) {
        let hint = match cursor.peek_word().map(|w| w.value.to_uppercase()) {
            Some(word) if word == "PARTITION" => "write PARTITIONED BY (column)".to_string(),
            Some(word) if word == "SELECT" => "write AS before the query".to_string(),
            Some(word) if ["CRON", "EVERY"].contains(&word.as_str()) => format!("write SCHEDULE {word} …"),
            Some(word) if word == "REFRESH" => "write SCHEDULE EVERY 1 HOUR, SCHEDULE CRON '…' or TRIGGER ON UPDATE".to_string(),
            Some(word) => did_you_mean(&word, ["SCHEDULE", "TRIGGER", "PARTITIONED"])
                .unwrap_or_else(|| format!("write CREATE MATERIALIZED VIEW {schema}.{table} SCHEDULE EVERY 1 HOUR AS SELECT …")),
            None => format!("write CREATE MATERIALIZED VIEW {schema}.{table} SCHEDULE EVERY 1 HOUR AS SELECT …"),
        };
        return Err(cursor.expected("SCHEDULE, TRIGGER, PARTITIONED BY, WITH or AS").hint(hint));
    }
    let mut options = options.unwrap_or_default();
    let timeout = options.take_duration("timeout", TIMEOUT)?;
    options.finish("a materialized view", &[])?;
    Ok(ViewHead {
        schema,
        table,
        partitioned_by: partitioned_by.unwrap_or_default(),
        schedule: schedule.unwrap_or(Schedule::OnDemand),
        timeout,
        expectations,
    })
}

/// What follows `SCHEDULE`.
fn parse_schedule(cursor: &mut Cursor) -> Result<Schedule, SqlError> {
    // Databricks has the word, and it says nothing.
    cursor.take(&["REFRESH"]);
    if cursor.take(&["EVERY"]) {
        return Ok(Schedule::Every(parse_span(cursor)?));
    }
    if !cursor.take(&["CRON"]) {
        let hint = "write SCHEDULE CRON '5 * * * *' or SCHEDULE EVERY 1 HOUR";
        return Err(cursor.expected("CRON '…' or EVERY").hint(hint));
    }
    let place = cursor.here();
    let expression =
        cursor.string("a cron expression").map_err(|e| e.hint("write SCHEDULE CRON '5 * * * *': minute, hour, day, month, weekday"))?;
    if let Err(why) = expression.parse::<Cron>() {
        return Err(error_at(place, format!("'{expression}' is not a cron expression: {}", readable(&why.to_string())))
            .hint("write minute, hour, day, month, weekday, such as '5 * * * *' (five past each hour) or '0 6 * * MON-FRI'; a sixth field in front is seconds"));
    }
    if cursor.peeks("AT") {
        return Err(cursor.error("cron times are UTC").hint("leave AT TIME ZONE out and write the hours in UTC"));
    }
    Ok(Schedule::Cron(expression))
}

/// `TRIGGER ON UPDATE` and how often at most.
fn parse_trigger(cursor: &mut Cursor) -> Result<Schedule, SqlError> {
    cursor.expect(&["TRIGGER"])?;
    cursor.expect(&["ON", "UPDATE"]).map_err(|e| e.hint("write TRIGGER ON UPDATE"))?;
    let at_most_every = if cursor.take(&["AT", "MOST", "EVERY"]) { parse_span(cursor)? } else { AT_MOST_EVERY };
    Ok(Schedule::OnUpdate { at_most_every })
}

/// `n UNIT` or `INTERVAL '…'`.
fn parse_span(cursor: &mut Cursor) -> Result<Duration, SqlError> {
    const FORM: &str = "write a number and a unit, such as EVERY 5 MINUTES";
    let place = cursor.here();
    let us = if cursor.peeks("INTERVAL") {
        parse_interval_us(cursor)?
    } else {
        let number: u32 = cursor.number("a number").map_err(|e| e.hint(FORM))?;
        let Some(unit) = cursor.peek_word().map(|w| w.value.to_lowercase()) else {
            return Err(cursor.expected("a unit of time").hint(FORM));
        };
        let us = parse_duration_us(&format!("{number} {unit}")).map_err(|why| cursor.error(why).hint(FORM))?;
        cursor.parser.advance_token();
        us
    };
    let span = Duration::from_micros(us.max(0) as u64);
    if span < EVERY_MIN || span > EVERY_MAX {
        return Err(error_at(place, "a view is refreshed every second at most and every 366 days at least").hint(FORM));
    }
    Ok(span)
}

/// croner's messages begin like `Component error: …` and end in a full stop.
fn readable(why: &str) -> String {
    let why = why.trim_end_matches('.');
    let mut letters = why.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
