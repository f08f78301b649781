//! `CREATE SOURCE name (columns, WATERMARK FOR …) WITH (options)`.
//!
//! ```sql
//! CREATE SOURCE rides (
//!     ride_id VARCHAR NOT NULL,
//!     event_time TIMESTAMP NOT NULL,
//!     trip STRUCT<id VARCHAR, fare DECIMAL(10, 2), extra JSON>,
//!     fare AS trip.fare,
//!     kafka_offset BIGINT METADATA FROM 'offset',
//!     WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
//! ) WITH (connector = 'kafka', topic = 'rides', format = 'json')
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use watershed_functions::event_time_type;
use watershed_functions::sql_type;

use crate::SqlError;
use crate::clauses::check_length;
use crate::column_type::parse_type;
use crate::cursor::{Cursor, error_at};
use crate::definition::{
    Connector, Epoch, Format, Metadata, OnError, OnGap, SourceColumn, SourceDefinition, Start, Tombstones, WatermarkDefinition,
};
use crate::nearest::did_you_mean;
use crate::options::{Options, parse_interval_us};

const MAX_SKEW: Duration = Duration::from_secs(24 * 60 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_secs(5);

const METADATA: [(&str, Metadata); 9] = [
    ("key", Metadata::Key),
    ("value", Metadata::Value),
    ("topic", Metadata::Topic),
    ("partition", Metadata::Partition),
    ("offset", Metadata::Offset),
    ("timestamp", Metadata::Timestamp),
    ("headers", Metadata::Headers),
    ("file", Metadata::File),
    ("row", Metadata::Row),
];

/// Parses what follows `CREATE SOURCE`.
pub(crate) fn parse_create_source(cursor: &mut Cursor) -> Result<SourceDefinition, SqlError> {
    if cursor.peeks("IF") {
        return Err(cursor.error("IF NOT EXISTS is not needed").hint("leave it out: apply compares the definition with what is there"));
    }
    let (name, name_place) = cursor.name("a name for the source")?;
    if cursor.parser.peek_token_ref().token == Token::Period {
        return Err(cursor.error("a source has no schema").hint(format!("name it '{name}' or with an underscore")));
    }
    if name.contains('$') {
        return Err(error_at(name_place, format!("'{name}' cannot name a source: '$' is for side tables")));
    }
    check_length(&name, "a source", name_place)?;
    cursor.expect_token(&Token::LParen)?;
    let mut columns: Vec<SourceColumn> = vec![];
    let mut names = HashSet::new();
    let mut places: Vec<Location> = vec![];
    let mut watermark: Option<(WatermarkDefinition, Location)> = None;
    cursor.list(|cursor| {
        let starts_watermark = cursor.peeks("WATERMARK") && {
            let [_, next] = cursor.parser.peek_tokens_ref::<2>();
            matches!(&next.token, Token::Word(w) if w.value.eq_ignore_ascii_case("for"))
        };
        if starts_watermark {
            let place = cursor.here();
            let parsed = parse_watermark(cursor)?;
            return match watermark.replace(parsed) {
                None => Ok(()),
                Some(_) => Err(error_at(place, "a source has one watermark")),
            };
        }
        let (column, place) = parse_column(cursor, &columns)?;
        if !names.insert(column.field.name().clone()) {
            return Err(error_at(place, format!("column '{}' stands twice", column.field.name())));
        }
        columns.push(column);
        places.push(place);
        Ok(())
    })?;
    if columns.is_empty() {
        return Err(error_at(name_place, format!("source '{name}' has no columns")));
    }
    let watermark = watermark.map(|(watermark, place)| check_watermark(watermark, place, &columns)).transpose()?;
    if !cursor.peeks("WITH") {
        return Err(cursor.expected("WITH (…)").hint(
            "write WITH (connector = 'kafka', topic = '…', format = 'json') or WITH (connector = 'files', path = '…', format = 'csv')",
        ));
    }
    let place = cursor.here();
    let mut options = Options::parse(cursor)?;
    let files = options.take_word("connector", &[("kafka", false), ("files", true)], false)?;
    let (connector, format) = if files { parse_files(&mut options, &name, place)? } else { parse_kafka(&mut options, &name, place)? };
    let on_error = options.take_word("on_error", &[("quarantine", OnError::Quarantine), ("fail", OnError::Fail)], OnError::Quarantine)?;
    let on_gap =
        if files { OnGap::Fail } else { options.take_word("on_gap", &[("fail", OnGap::Fail), ("skip", OnGap::Skip)], OnGap::Fail)? };
    let start = if files { Start::Earliest } else { parse_start(&mut options)? };
    let tombstones = match files {
        true => Tombstones::Error,
        false => options.take_word("tombstones", &[("error", Tombstones::Error), ("skip", Tombstones::Skip)], Tombstones::Error)?,
    };
    let max_skew = options.take_duration("max_skew", MAX_SKEW)?;
    let idle_timeout = options.take_duration("idle_timeout", IDLE_TIMEOUT)?;
    let also: &[&str] = if files { &[] } else { &["kafka.bootstrap.servers", "kafka.<any client setting>"] };
    options.finish("a source", also)?;
    for (column, place) in columns.iter().zip(places) {
        check_metadata_connector(column, place, files)?;
        if column.epoch.is_some() && column.metadata.is_some() {
            return Err(error_at(
                place,
                format!("column '{}' is METADATA, which has a unit of its own, so EPOCH says nothing", column.field.name()),
            )
            .hint("leave EPOCH out"));
        }
    }
    Ok(SourceDefinition { name, columns, watermark, connector, format, start, on_error, tombstones, on_gap, max_skew, idle_timeout })
}

/// `start = …`.
fn parse_start(options: &mut Options) -> Result<Start, SqlError> {
    let Some(given) = options.take("start") else { return Ok(Start::Earliest) };
    if given.text.eq_ignore_ascii_case("earliest") {
        return Ok(Start::Earliest);
    }
    if given.text.eq_ignore_ascii_case("latest") {
        return Ok(Start::Latest);
    }
    match string_to_timestamp_nanos(&given.text) {
        Ok(ns) if ns >= 0 => Ok(Start::At { ms: ns / 1_000_000 }),
        _ => Err(error_at(given.place, format!("start cannot be '{}'", given.text))
            .detail("it is 'earliest', 'latest' or a time since 1970 such as '2026-01-01T00:00:00Z'; without a zone it is UTC")
            .maybe_hint(did_you_mean(&given.text, ["earliest", "latest"]))),
    }
}

/// The options of a Kafka topic.
fn parse_kafka(options: &mut Options, name: &str, place: Location) -> Result<(Connector, Format), SqlError> {
    let topic = options.take("topic");
    let format = options.take_word("format", &[("json", Format::Json)], Format::Json)?;
    let properties = options.take_client_settings();
    let topic = topic.filter(|t| !t.text.is_empty()).map(|t| t.text);
    let topic = topic.ok_or_else(|| error_at(place, format!("source '{name}' names no topic")).hint("add topic = '…'"))?;
    Ok((Connector::Kafka { topic, properties }, format))
}

/// The options of a folder of files.
fn parse_files(options: &mut Options, name: &str, place: Location) -> Result<(Connector, Format), SqlError> {
    let path = options.take("path").filter(|p| !p.text.is_empty()).map(|p| p.text);
    let path =
        path.ok_or_else(|| error_at(place, format!("source '{name}' names no folder")).hint("add path = '/data/trips' or 's3://…'"))?;
    let kinds = [("csv", ".csv"), ("json", ".json"), ("parquet", ".parquet")];
    let kind = options.take_word("format", &kinds.map(|(word, suffix)| (word, Some((word, suffix)))), None)?;
    let Some((kind, suffix)) = kind else {
        return Err(error_at(place, format!("source '{name}' does not say how its files are written"))
            .hint("add format = 'csv', 'json' or 'parquet'"));
    };
    let suffix = options.take("suffix").map_or_else(|| suffix.to_string(), |s| s.text);
    let poll_interval = options.take_duration("poll_interval", POLL_INTERVAL)?;
    let format = match kind {
        "csv" => {
            let header = options.take_word("header", &[("true", true), ("false", false)], true)?;
            let delimiter = match options.take("delimiter") {
                None => b',',
                Some(given) => match given.text.as_bytes() {
                    [b'\\', b't'] => b'\t',
                    [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
                    _ => return Err(error_at(given.place, "delimiter must be one character").hint("such as ',' or ';' or '\\t'")),
                },
            };
            Format::Csv { delimiter, header }
        }
        "json" => Format::Json,
        _ => Format::Parquet,
    };
    Ok((Connector::Files { path, suffix, poll_interval }, format))
}

fn check_metadata_connector(column: &SourceColumn, place: Location, files: bool) -> Result<(), SqlError> {
    let (of_files, what) = match column.metadata {
        Some(Metadata::File | Metadata::Row) => (true, "a file"),
        Some(Metadata::Key | Metadata::Value | Metadata::Topic | Metadata::Headers) => (false, "a Kafka message"),
        Some(Metadata::Partition | Metadata::Offset | Metadata::Timestamp) | None => return Ok(()),
    };
    if of_files == files {
        return Ok(());
    }
    let there = if files { "file, row, timestamp, partition, offset" } else { "key, value, topic, partition, offset, timestamp, headers" };
    Err(error_at(place, format!("column '{}' takes what only {what} has", column.field.name())).hint(format!("metadata here: {there}")))
}

fn parse_column(cursor: &mut Cursor, before: &[SourceColumn]) -> Result<(SourceColumn, Location), SqlError> {
    let (name, place) = cursor.name("a column's name")?;
    let type_place = cursor.here();
    let is_within = cursor.take(&["AS"]);
    let Typed { data_type, mut nullable, path, json } = if is_within { parse_path(cursor, before)? } else { Typed::parse(cursor)? };
    let (mut metadata, mut epoch) = (None, None);
    loop {
        if is_within && (cursor.peeks("NOT") || cursor.peeks("METADATA")) {
            return Err(cursor.error(format!("'{name}' is what {} is", path.join("."))).hint("say it of that field"));
        } else if cursor.take(&["NOT", "NULL"]) {
            nullable = false;
        } else if cursor.take(&["NULL"]) {
            nullable = true;
        } else if cursor.take(&["EPOCH"]) {
            let unit_place = cursor.here();
            let unit = cursor.string("a unit of time")?;
            if data_type != event_time_type() {
                return Err(error_at(
                    unit_place,
                    format!("EPOCH says what the numbers of a TIMESTAMP count, and '{name}' is {}", sql_type(&data_type)),
                )
                .hint(format!("write {name} TIMESTAMP EPOCH '{unit}'")));
            }
            let known = Epoch::ALL.into_iter().find(|(known, _)| unit.eq_ignore_ascii_case(known));
            let (_, known) = known.ok_or_else(|| {
                error_at(unit_place, format!("'{unit}' is not a unit of EPOCH"))
                    .detail("numbers count 'seconds', 'milliseconds', 'microseconds' or 'nanoseconds' since 1970")
                    .maybe_hint(did_you_mean(&unit, Epoch::ALL.map(|(known, _)| known)))
            })?;
            epoch = Some(known);
        } else if cursor.take(&["METADATA"]) {
            // Without FROM the column is called what it holds.
            let named = cursor.take(&["FROM"]);
            let key_place = if named { cursor.here() } else { place };
            let key = if named { cursor.string("what metadata")? } else { name.clone() };
            let found = METADATA.into_iter().find(|(known, _)| key.eq_ignore_ascii_case(known));
            let (_, what) = found.ok_or_else(|| {
                error_at(key_place, format!("a message has no metadata '{key}'"))
                    .detail("a message has 'key', 'value', 'topic', 'partition', 'offset', 'timestamp', 'headers'; a row of a file 'file', 'row', 'timestamp'")
                    .maybe_hint(did_you_mean(&key, METADATA.map(|(known, _)| known)))
            })?;
            check_metadata_type(what, &data_type).map_err(|wanted| {
                error_at(type_place, format!("metadata '{key}' is {wanted}, not {}", sql_type(&data_type)))
                    .hint(format!("write {name} {wanted}"))
            })?;
            if !json.is_empty() {
                return Err(error_at(type_place, format!("metadata '{key}' is no JSON")).hint(format!("write {name} VARCHAR")));
            }
            metadata = Some(what);
        } else {
            break;
        }
    }
    if !matches!(cursor.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        let hint = match cursor.peek_word() {
            Some(w) if ["PRIMARY", "UNIQUE", "REFERENCES", "CHECK", "DEFAULT"].contains(&w.value.to_uppercase().as_str()) => {
                Some(format!("a stream cannot hold to {}: leave it out", w.value.to_uppercase()))
            }
            Some(w) => did_you_mean(&w.value, ["NOT NULL", "METADATA", "EPOCH"]),
            None => None,
        };
        return Err(cursor.expected("NOT NULL, METADATA FROM '…', ',' or ')'").maybe_hint(hint));
    }
    Ok((SourceColumn { field: Arc::new(Field::new(name, data_type, nullable)), metadata, epoch, path, json }, place))
}

/// What a column holds: see [`SourceColumn`].
struct Typed {
    data_type: DataType,
    nullable: bool,
    path: Vec<String>,
    json: Vec<Vec<usize>>,
}

impl Typed {
    /// The type of a column that has a value of its own.
    fn parse(cursor: &mut Cursor) -> Result<Self, SqlError> {
        let (data_type, json) = parse_type(cursor)?;
        Ok(Self { data_type, nullable: true, path: Vec::new(), json })
    }
}

/// `p.at`: a field of one of the columns `before`.
fn parse_path(cursor: &mut Cursor, before: &[SourceColumn]) -> Result<Typed, SqlError> {
    let (root, place) = cursor.name("a column of type STRUCT")?;
    let plain = || before.iter().filter(|column| column.is_value());
    let Some(column) = plain().find(|column| *column.field.name() == root) else {
        return Err(error_at(place, format!("no column '{root}' comes before this one"))
            .detail("AS names a field of a STRUCT column that is declared before: at AS payload.at")
            .maybe_hint(did_you_mean(&root, plain().map(|column| column.field.name().as_str()))));
    };
    let (mut field, mut path, mut places) = (&column.field, vec![root], Vec::new());
    let mut nullable = field.is_nullable();
    while cursor.take_token(&Token::Period) {
        let (name, place) = cursor.name("a field's name")?;
        let DataType::Struct(fields) = field.data_type() else {
            return Err(error_at(place, format!("'{}' is {} and has no fields", path.join("."), sql_type(field.data_type()))));
        };
        let index = fields.iter().position(|field| *field.name() == name).ok_or_else(|| {
            error_at(place, format!("'{}' has no field '{name}'", path.join(".")))
                .maybe_hint(did_you_mean(&name, fields.iter().map(|field| field.name().as_str())))
        })?;
        field = &fields[index];
        places.push(index);
        nullable |= field.is_nullable();
        path.push(name);
    }
    if path.len() == 1 {
        return Err(error_at(place, format!("'{}' is a column already", path[0])).hint("name a field of it: column.field"));
    }
    let json = column.json.iter().filter_map(|at| at.strip_prefix(places.as_slice())).map(<[usize]>::to_vec).collect();
    Ok(Typed { data_type: field.data_type().clone(), nullable, path, json })
}

/// Fails with the type that the metadata has.
fn check_metadata_type(what: Metadata, data_type: &DataType) -> Result<(), &'static str> {
    let is_header = |t: &DataType| {
        matches!(t, DataType::Struct(f) if f.len() == 2
            && f[0].name() == "key" && f[0].data_type() == &DataType::Utf8 && f[1].name() == "value" && f[1].data_type() == &DataType::Binary)
    };
    let (fits, wanted) = match what {
        Metadata::Key | Metadata::Value => (matches!(data_type, DataType::Utf8 | DataType::Binary), "VARCHAR or BINARY"),
        Metadata::Topic | Metadata::File => (data_type == &DataType::Utf8, "VARCHAR"),
        Metadata::Partition => (data_type == &DataType::Int32, "INT"),
        Metadata::Offset | Metadata::Row => (data_type == &DataType::Int64, "BIGINT"),
        Metadata::Timestamp => (data_type == &event_time_type(), "TIMESTAMP"),
        Metadata::Headers => {
            (matches!(data_type, DataType::List(item) if is_header(item.data_type())), "LIST<STRUCT<key VARCHAR, value BINARY>>")
        }
    };
    if fits { Ok(()) } else { Err(wanted) }
}

/// `WATERMARK FOR c AS c - INTERVAL '…'`, or `AS c` where rows come in order.
fn parse_watermark(cursor: &mut Cursor) -> Result<(WatermarkDefinition, Location), SqlError> {
    cursor.expect(&["WATERMARK", "FOR"])?;
    let (column, place) = cursor.name("the event-time column")?;
    if cursor.parser.peek_token_ref().token == Token::Period {
        return Err(error_at(place, "the event time is a column, not a field of one").hint(format!(
            "make the field a column, event_time AS {column}.…, and write WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'"
        )));
    }
    cursor.expect(&["AS"])?;
    let (again, again_place) = cursor.name("the event-time column")?;
    let form = format!("write WATERMARK FOR {column} AS {column} - INTERVAL '10 seconds'");
    if again != column {
        return Err(error_at(again_place, format!("the watermark for '{column}' must be made of '{column}', not '{again}'")).hint(form));
    }
    let delay_us = if cursor.take_token(&Token::Minus) { parse_interval_us(cursor)? } else { 0 };
    if !matches!(cursor.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Err(cursor.expected("'- INTERVAL', ',' or ')'").hint(form));
    }
    Ok((WatermarkDefinition { column, delay_us }, place))
}

fn check_watermark(watermark: WatermarkDefinition, place: Location, columns: &[SourceColumn]) -> Result<WatermarkDefinition, SqlError> {
    let times = || columns.iter().filter(|c| c.field.data_type() == &event_time_type()).map(|c| c.field.name().as_str());
    match columns.iter().find(|c| c.field.name() == &watermark.column) {
        None => {
            Err(error_at(place, format!("column '{}' does not exist", watermark.column))
                .maybe_hint(did_you_mean(&watermark.column, times())))
        }
        Some(column) if column.field.data_type() != &event_time_type() => {
            let all: Vec<&str> = times().collect();
            Err(error_at(
                place,
                format!("the watermark column must be TIMESTAMP, but '{}' is {}", watermark.column, sql_type(column.field.data_type())),
            )
            .maybe_hint(column.field.data_type().is_integer().then(|| {
                let name = column.field.name();
                format!("if it counts seconds since 1970, say so: {name} TIMESTAMP EPOCH 'seconds' (or 'microseconds', 'nanoseconds')")
            }))
            .maybe_hint((!all.is_empty()).then(|| format!("columns of type TIMESTAMP: {}", all.join(", ")))))
        }
        Some(_) => Ok(watermark),
    }
}
