//! SQL types of source columns to Arrow: `DECIMAL(10, 2)`, `STRUCT<lat DOUBLE, lon DOUBLE>`, `LIST<VARCHAR>`, `INT[]`, ….

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields};
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_functions::event_time_type;

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::nearest::did_you_mean;

/// How deep types may nest.
const DEPTH_MAX: usize = 32;

/// All types, one name each.
const ALL: &str =
    "VARCHAR, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP, BINARY, JSON, STRUCT<…>, LIST<…>";

/// What a mistyped type may have been meant to be.
const NAMES: [&str; 24] = [
    "VARCHAR",
    "STRING",
    "TEXT",
    "CHAR",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "DATE",
    "TIMESTAMP",
    "BINARY",
    "VARBINARY",
    "BYTEA",
    "JSON",
    "STRUCT",
    "LIST",
    "ARRAY",
];

/// Parses a type. Gives with it the places of JSON in it: see [`crate::SourceColumn::json`].
pub(crate) fn parse_type(cursor: &mut Cursor) -> Result<(DataType, Vec<Vec<usize>>), SqlError> {
    let mut places = Places::default();
    let parsed = parse_nested(cursor, &mut places)?;
    Ok((parsed, places.json))
}

/// Where in a type the parser is, and where it has found JSON.
#[derive(Default)]
struct Places {
    here: Vec<usize>,
    json: Vec<Vec<usize>>,
}

impl Places {
    /// Parses the type of field `index` of the one being parsed.
    fn within(&mut self, index: usize, cursor: &mut Cursor) -> Result<DataType, SqlError> {
        self.here.push(index);
        let parsed = parse_nested(cursor, self)?;
        self.here.pop();
        Ok(parsed)
    }
}

fn parse_nested(cursor: &mut Cursor, places: &mut Places) -> Result<DataType, SqlError> {
    let found_before = places.json.len();
    if places.here.len() > DEPTH_MAX {
        return Err(cursor.error(format!("types may nest {DEPTH_MAX} deep at most")));
    }
    let (name, place) = cursor.name("a type")?;
    let mut parsed = match name.to_ascii_uppercase().as_str() {
        "VARCHAR" | "CHAR" => {
            // A length is taken as a remark: no system that reads the table would hold to it.
            if cursor.take_token(&Token::LParen) {
                cursor.number::<u64>("a length")?;
                cursor.expect_token(&Token::RParen)?;
            }
            DataType::Utf8
        }
        "STRING" | "TEXT" => DataType::Utf8,
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => {
            cursor.take(&["PRECISION"]);
            DataType::Float64
        }
        "DECIMAL" | "NUMERIC" => parse_decimal(cursor)?,
        "DATE" => DataType::Date32,
        "TIMESTAMP" | "TIMESTAMPTZ" => parse_timestamp(cursor)?,
        "BINARY" | "VARBINARY" | "BYTEA" | "BYTES" => DataType::Binary,
        "STRUCT" | "ROW" => DataType::Struct(parse_struct(cursor, places)?),
        "LIST" | "ARRAY" => {
            cursor.expect_token(&Token::Lt)?;
            let item = places.within(0, cursor)?;
            cursor.close_angle()?;
            list_of(item)
        }
        "DATETIME" => return Err(error_at(place, "type DATETIME is not supported").hint("use TIMESTAMP: microseconds in UTC")),
        "JSON" => {
            places.json.push(places.here.clone());
            DataType::Utf8
        }
        "JSONB" | "VARIANT" | "OBJECT" | "SUPER" => {
            return Err(error_at(place, format!("type {} is not supported in sources", name.to_uppercase()))
                .hint("JSON keeps any value as text; STRUCT<key VARCHAR, …> and LIST<…> read it"));
        }
        "UUID" | "TIME" | "INTERVAL" => {
            return Err(error_at(place, format!("type {} is not supported in sources", name.to_uppercase()))
                .hint("read it as VARCHAR and cast it in the query"));
        }
        "MAP" => {
            return Err(error_at(place, "type MAP is not supported yet")
                .hint("name the keys you need: STRUCT<key VARCHAR, …>; or keep the object as text: JSON"));
        }
        _ => {
            let error = error_at(place, format!("'{name}' is not a type"));
            return Err(error.detail(format!("types: {ALL}")).maybe_hint(did_you_mean(&name, NAMES)));
        }
    };
    while !cursor.is_half_closed() && cursor.take_token(&Token::LBracket) {
        cursor.expect_token(&Token::RBracket)?;
        parsed = list_of(parsed);
        // What was found is a step deeper than it seemed.
        let depth = places.here.len();
        places.json[found_before..].iter_mut().for_each(|place| place.insert(depth, 0));
    }
    Ok(parsed)
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn parse_decimal(cursor: &mut Cursor) -> Result<DataType, SqlError> {
    let (mut precision, mut scale) = (DECIMAL128_MAX_PRECISION, 10);
    if cursor.take_token(&Token::LParen) {
        let place = cursor.here();
        precision = cursor.number("a precision")?;
        scale = if cursor.take_token(&Token::Comma) { cursor.number("a scale")? } else { 0 };
        cursor.expect_token(&Token::RParen)?;
        if precision == 0 || precision > DECIMAL128_MAX_PRECISION || scale < 0 || scale as u8 > precision {
            return Err(error_at(place, format!("DECIMAL({precision}, {scale}) is out of range"))
                .hint(format!("the precision is 1 to {DECIMAL128_MAX_PRECISION}, the scale 0 up to the precision")));
        }
    }
    Ok(DataType::Decimal128(precision, scale))
}

fn parse_timestamp(cursor: &mut Cursor) -> Result<DataType, SqlError> {
    if cursor.take_token(&Token::LParen) {
        let place = cursor.here();
        let digits: u8 = cursor.number("a precision")?;
        cursor.expect_token(&Token::RParen)?;
        if digits > 6 {
            return Err(
                error_at(place, format!("TIMESTAMP({digits}) is finer than a microsecond")).hint("write TIMESTAMP: microseconds in UTC")
            );
        }
    }
    let _ = cursor.take(&["WITH", "TIME", "ZONE"])
        || cursor.take(&["WITH", "LOCAL", "TIME", "ZONE"])
        || cursor.take(&["WITHOUT", "TIME", "ZONE"]);
    Ok(event_time_type())
}

/// `<name type [NOT NULL], …>` or the same in parentheses; a colon may come between name and type.
fn parse_struct(cursor: &mut Cursor, places: &mut Places) -> Result<Fields, SqlError> {
    let angled = cursor.take_token(&Token::Lt);
    if !angled {
        cursor.expect_token(&Token::LParen).map_err(|_| cursor.expected("'<' after STRUCT"))?;
    }
    let mut fields: Vec<Field> = vec![];
    let mut names = HashSet::new();
    loop {
        let (name, place) = cursor.name("a field's name")?;
        cursor.take_token(&Token::Colon);
        if !names.insert(name.clone()) {
            return Err(error_at(place, format!("field '{name}' stands twice in the STRUCT")));
        }
        let field_type = places.within(fields.len(), cursor)?;
        let nullable = cursor.is_half_closed() || !cursor.take(&["NOT", "NULL"]);
        fields.push(Field::new(name, field_type, nullable));
        if cursor.is_half_closed() || !cursor.take_token(&Token::Comma) {
            break;
        }
    }
    if angled {
        cursor.close_angle()?
    } else {
        cursor.expect_token(&Token::RParen)?
    }
    Ok(fields.into())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::syntax::WatershedDialect;
    use watershed_functions::sql_type;

    fn parsed(text: &str) -> (DataType, Vec<Vec<usize>>) {
        let dialect = WatershedDialect::default();
        let mut parser = Parser::new(&dialect).try_with_sql(text).unwrap();
        let mut cursor = Cursor::new(&mut parser);
        let parsed = parse_type(&mut cursor).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(parser.peek_token_ref().token, Token::EOF, "{text}");
        parsed
    }

    #[test]
    fn types_are_named_as_they_are_written() {
        for (text, name) in [
            ("STRING", "VARCHAR"),
            ("CHAR(3)", "VARCHAR"),
            ("BOOL", "BOOLEAN"),
            ("TINYINT", "TINYINT"),
            ("SMALLINT", "SMALLINT"),
            ("INTEGER", "INT"),
            ("LONG", "BIGINT"),
            ("FLOAT", "REAL"),
            ("DOUBLE PRECISION", "DOUBLE"),
            ("NUMERIC", "DECIMAL(38, 10)"),
            ("DECIMAL(10, 2)", "DECIMAL(10, 2)"),
            ("DATE", "DATE"),
            ("TIMESTAMP(3) WITH TIME ZONE", "TIMESTAMP"),
            ("BYTEA", "BINARY"),
            ("LIST<LIST<SMALLINT>>", "SMALLINT[][]"),
            ("ROW(lat DOUBLE, stops: LIST<STRUCT<at TIMESTAMP>>)", "STRUCT<lat DOUBLE, stops STRUCT<at TIMESTAMP>[]>"),
            ("STRUCT<a STRUCT<b STRUCT<c DATE>>>", "STRUCT<a STRUCT<b STRUCT<c DATE>>>"),
        ] {
            let (data_type, json) = parsed(text);
            assert_eq!(sql_type(&data_type), name, "{text}");
            assert_eq!(parsed(name), (data_type, json), "{name}");
        }
    }

    #[test]
    fn json_is_text_whose_places_are_known() {
        for (text, name, places) in [
            ("JSON", "VARCHAR", vec![vec![]]),
            ("LIST<JSON>", "VARCHAR[]", vec![vec![0]]),
            ("json[][]", "VARCHAR[][]", vec![vec![0, 0]]),
            ("STRUCT<a INT, b JSON, c JSON>", "STRUCT<a INT, b VARCHAR, c VARCHAR>", vec![vec![1], vec![2]]),
            ("STRUCT<a STRUCT<b INT, c JSON[]>[], d VARCHAR>", "STRUCT<a STRUCT<b INT, c VARCHAR[]>[], d VARCHAR>", vec![vec![0, 0, 1, 0]]),
        ] {
            let (data_type, json) = parsed(text);
            assert_eq!((sql_type(&data_type).as_str(), json), (name, places), "{text}");
        }
    }
}
