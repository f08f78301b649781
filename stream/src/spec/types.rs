//! Arrow types by name, without loss: two types have one name only if rows of one can be read as the other.
//!
//! The names are those of SQL where SQL has one. They are part of what state is guarded by, so they must not change.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// The name of a type.
pub fn type_name(data_type: &DataType) -> String {
    let plain = match data_type {
        DataType::Null => "NULL",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 => "HALF",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 => "VARCHAR",
        DataType::LargeUtf8 => "LARGE VARCHAR",
        DataType::Utf8View => "VARCHAR VIEW",
        DataType::Binary => "BINARY",
        DataType::LargeBinary => "LARGE BINARY",
        DataType::BinaryView => "BINARY VIEW",
        DataType::Date32 => "DATE",
        DataType::Date64 => "DATE(3)",
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH",
        DataType::Interval(IntervalUnit::DayTime) => "INTERVAL DAY TO SECOND",
        DataType::Interval(IntervalUnit::MonthDayNano) => "INTERVAL",
        _ => return composed(data_type),
    };
    plain.to_owned()
}

fn composed(data_type: &DataType) -> String {
    match data_type {
        DataType::FixedSizeBinary(bytes) => format!("BINARY({bytes})"),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({}) WITHOUT TIME ZONE", digits(*unit)),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => "TIMESTAMP".to_owned(),
        DataType::Timestamp(unit, Some(zone)) => format!("TIMESTAMP({}) AT '{zone}'", digits(*unit)),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(*unit)),
        DataType::Duration(unit) => format!("DURATION({})", digits(*unit)),
        DataType::Decimal32(precision, scale) => format!("DECIMAL32({precision}, {scale})"),
        DataType::Decimal64(precision, scale) => format!("DECIMAL64({precision}, {scale})"),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Decimal256(precision, scale) => format!("DECIMAL256({precision}, {scale})"),
        DataType::List(item) => format!("LIST<{}>", of_field(item)),
        DataType::LargeList(item) => format!("LARGE LIST<{}>", of_field(item)),
        DataType::ListView(item) => format!("LIST VIEW<{}>", of_field(item)),
        DataType::LargeListView(item) => format!("LARGE LIST VIEW<{}>", of_field(item)),
        DataType::FixedSizeList(item, length) => format!("LIST({length})<{}>", of_field(item)),
        DataType::Struct(fields) => {
            let named = |field: &std::sync::Arc<Field>| format!("{} {}", quoted(field.name()), of_field(field));
            format!("STRUCT<{}>", fields.iter().map(named).collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => format!("MAP<{}>", of_field(entries)),
        DataType::Dictionary(keys, values) => format!("DICTIONARY<{}, {}>", type_name(keys), type_name(values)),
        // No query makes one today; its own text is the best name it has.
        other => format!("arrow {other}"),
    }
}

/// Type and nullability.
pub fn of_field(field: &Field) -> String {
    format!("{}{}", type_name(field.data_type()), if field.is_nullable() { "" } else { " NOT NULL" })
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// A name in double quotes if it would not be read as one word.
fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
