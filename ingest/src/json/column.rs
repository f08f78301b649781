//! One column being built: values of any supported type, appended from JSON and taken back when their row turns out bad.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, ListArray, NullBufferBuilder, PrimitiveArray, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use watershed_dialect::Epoch;

use super::cursor::{Cursor, Reject, check_depth, unescape};
use super::kept::value_as_text;
use super::record::Record;
use super::{number, time};
use crate::event_time::TIMES_US;

const BASE64_CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, BASE64_CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, BASE64_CONFIG);

/// A field's values so far.
#[derive(Debug)]
pub(super) struct Column {
    field: FieldRef,
    /// Then it is not NULL, whatever it is declared to be.
    is_event_time: bool,
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Text(ByteStrings),
    /// Values as the text they are written in.
    Json(ByteStrings),
    Binary(ByteStrings),
    /// Days since 1970.
    Date(Vec<i32>),
    /// In the unit of the type.
    Timestamp(Vec<i64>, TimeUnit, Count),
    Struct(Record),
    List(Vec<i32>, Box<Column>),
}

/// What numbers of a timestamp count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Milliseconds since 1970; nothing in the definition says so.
    Assumed,
    /// The same of an event time: numbers that evidently count something else are refused.
    AssumedOfEvents,
    /// What the column's declaration says.
    Declared(Epoch),
}

/// Byte strings one after another.
#[derive(Debug)]
struct ByteStrings {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl ByteStrings {
    fn new() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }

    /// Closes the string that was appended to `bytes`.
    fn close(&mut self) -> Result<(), Reject> {
        let end = i32::try_from(self.bytes.len()).map_err(|_| Reject::new("a batch holds at most 2 GiB of one column"))?;
        self.ends.push(end);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.bytes.truncate(self.ends[len] as usize);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, arrow::buffer::Buffer) {
        let taken = std::mem::replace(self, Self { ends: vec![0], bytes: Vec::with_capacity(self.bytes.len()) });
        (OffsetBuffer::new(ScalarBuffer::from(taken.ends)), taken.bytes.into())
    }
}

impl Column {
    /// An empty column; `Err` names the type that JSON cannot fill, with the path to it.
    pub(super) fn new(field: FieldRef) -> Result<Self, (String, DataType)> {
        let within = |(path, unsupported): (String, DataType)| {
            (if path.is_empty() { field.name().clone() } else { format!("{}.{path}", field.name()) }, unsupported)
        };
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal(Vec::new(), *precision, *scale),
            DataType::Utf8 => Values::Text(ByteStrings::new()),
            DataType::Binary => Values::Binary(ByteStrings::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(unit, _) => Values::Timestamp(Vec::new(), *unit, Count::Assumed),
            DataType::Struct(fields) => {
                let columns: Result<Vec<_>, _> = fields.iter().map(|field| Self::new(field.clone())).collect();
                Values::Struct(Record::new(columns.map_err(within)?))
            }
            DataType::List(element) => Values::List(vec![0], Box::new(Self::new(element.clone()).map_err(within)?)),
            other => return Err((field.name().clone(), other.clone())),
        };
        Ok(Self { field, is_event_time: false, nulls: NullBufferBuilder::new(0), values })
    }

    /// Says what numbers count, if this is a column of timestamps. Of event times, those that evidently count something else are refused.
    /// `fields` lead to the column that is meant, if it is within this one.
    pub(super) fn count(&mut self, fields: &[usize], epoch: Option<Epoch>, is_event_time: bool) {
        match (fields, &mut self.values) {
            ([field, within @ ..], Values::Struct(record)) => record.count(*field, within, epoch, is_event_time),
            (_, Values::Timestamp(_, _, count)) => {
                self.is_event_time |= is_event_time;
                *count = match epoch {
                    Some(epoch) => Count::Declared(epoch),
                    None if is_event_time => Count::AssumedOfEvents,
                    None => Count::Assumed,
                }
            }
            _ => {}
        }
    }

    /// Says that values are kept as the text they are written in, if this is a column of text. `fields` lead to the column that is meant, if it
    /// is within this one; the elements of a list are field 0.
    pub(super) fn keep(&mut self, fields: &[usize]) {
        match (fields, &mut self.values) {
            ([field, within @ ..], Values::Struct(record)) => record.keep(*field, within),
            ([_, within @ ..], Values::List(_, element)) => element.keep(within),
            ([], values @ Values::Text(_)) => *values = Values::Json(ByteStrings::new()),
            _ => {}
        }
    }

    /// The columns of an object, if this is one.
    pub(super) fn record(&self) -> Option<&Record> {
        match &self.values {
            Values::Struct(record) => Some(record),
            _ => None,
        }
    }

    /// Whether the value appended last is NULL.
    pub(super) fn last_is_null(&self) -> bool {
        self.len().checked_sub(1).is_none_or(|last| !self.nulls.is_valid(last))
    }

    pub(super) fn name(&self) -> &str {
        self.field.name()
    }

    pub(super) fn field(&self) -> &FieldRef {
        &self.field
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The value appended last in microseconds since 1970, if this is a column of timestamps and it is not NULL.
    pub(super) fn last_timestamp_us(&self) -> Option<i64> {
        let Values::Timestamp(values, unit, _) = &self.values else { return None };
        let last = *values.last()?;
        if self.last_is_null() {
            return None;
        }
        match unit {
            TimeUnit::Second => last.checked_mul(1_000_000),
            TimeUnit::Millisecond => last.checked_mul(1_000),
            TimeUnit::Microsecond => Some(last),
            TimeUnit::Nanosecond => Some(last.div_euclid(1_000)),
        }
    }

    /// Appends the value that comes next. On error something may have been appended already: the caller truncates.
    pub(super) fn parse(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Reject> {
        if cursor.peek() == Some(b'n') {
            cursor.expect_word("null")?;
            if !self.field.is_nullable() {
                let reason = if self.is_event_time { "NULL, yet it is the event time" } else { "null, yet it is NOT NULL" };
                return Err(Reject::new(reason));
            }
            self.append_null();
            return Ok(());
        }
        match &mut self.values {
            Values::Boolean(values) => values.push(boolean(cursor)?),
            Values::Int8(values) => push_integer(values, cursor, "TINYINT")?,
            Values::Int16(values) => push_integer(values, cursor, "SMALLINT")?,
            Values::Int32(values) => push_integer(values, cursor, "INT")?,
            Values::Int64(values) => push_integer(values, cursor, "BIGINT")?,
            Values::UInt8(values) => push_integer(values, cursor, "TINYINT UNSIGNED")?,
            Values::UInt16(values) => push_integer(values, cursor, "SMALLINT UNSIGNED")?,
            Values::UInt32(values) => push_integer(values, cursor, "INT UNSIGNED")?,
            Values::UInt64(values) => push_integer(values, cursor, "BIGINT UNSIGNED")?,
            Values::Float32(values) => values.push(number::float(cursor)?),
            Values::Float64(values) => values.push(number::float(cursor)?),
            Values::Decimal(values, precision, scale) => values.push(number::decimal(cursor, *precision, *scale)?),
            Values::Text(strings) => text(strings, cursor)?,
            Values::Json(strings) => {
                strings.bytes.extend_from_slice(value_as_text(cursor, depth)?);
                strings.close()?;
            }
            Values::Binary(strings) => binary(strings, cursor)?,
            Values::Date(values) => values.push(date(cursor)?),
            Values::Timestamp(values, unit, count) => values.push(timestamp(cursor, *unit, *count)?),
            Values::Struct(record) => {
                if cursor.peek() != Some(b'{') {
                    return Err(cursor.mismatch("an object"));
                }
                record.parse(cursor, depth + 1)?;
            }
            Values::List(ends, element) => {
                list(element, cursor, depth + 1)?;
                ends.push(i32::try_from(element.len()).map_err(|_| Reject::new("a batch holds at most 2^31 elements of one column"))?);
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends NULL for a key that is not there, if the column may be NULL.
    pub(super) fn append_missing(&mut self) -> Result<(), Reject> {
        if !self.field.is_nullable() {
            return Err(Reject::new("missing").within(self.name()));
        }
        self.append_null();
        Ok(())
    }

    /// Appends NULL, whether the column is nullable or not (below a parent that is NULL itself).
    pub(super) fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values, ..) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Text(strings) | Values::Json(strings) | Values::Binary(strings) => {
                strings.ends.push(strings.ends[strings.ends.len() - 1])
            }
            Values::Struct(record) => record.append_null(),
            Values::List(ends, _) => ends.push(ends[ends.len() - 1]),
        }
        self.nulls.append_null();
    }

    /// Forgets all values after the first `len`; also what a failed `parse` left half done.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) | Values::Date(values) => values.truncate(len),
            Values::Int64(values) | Values::Timestamp(values, ..) => values.truncate(len),
            Values::UInt8(values) => values.truncate(len),
            Values::UInt16(values) => values.truncate(len),
            Values::UInt32(values) => values.truncate(len),
            Values::UInt64(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values, ..) => values.truncate(len),
            Values::Text(strings) | Values::Json(strings) | Values::Binary(strings) => strings.truncate(len),
            Values::Struct(record) => record.truncate(len),
            Values::List(ends, element) => {
                ends.truncate(len + 1);
                element.truncate(ends[len] as usize);
            }
        }
        self.nulls.truncate(len);
    }

    /// The values as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let nulls = self.nulls.finish();
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(values)), nulls)),
            Values::Int8(values) => primitive::<Int8Type>(values, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls),
            Values::UInt16(values) => primitive::<UInt16Type>(values, nulls),
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls),
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Decimal(values, precision, scale) => {
                let values = take(values);
                Arc::new(Decimal128Array::try_new(values, nulls)?.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Text(strings) | Values::Json(strings) => {
                let (ends, bytes) = strings.finish();
                Arc::new(StringArray::try_new(ends, bytes, nulls)?)
            }
            Values::Binary(strings) => {
                let (ends, bytes) = strings.finish();
                Arc::new(BinaryArray::try_new(ends, bytes, nulls)?)
            }
            Values::Date(values) => Arc::new(Date32Array::try_new(take(values), nulls)?),
            Values::Timestamp(values, unit, _) => {
                let (values, zone) = (take(values), zone(self.field.data_type()));
                match unit {
                    TimeUnit::Second => Arc::new(TimestampSecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
                    TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
                    TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
                    TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
                }
            }
            Values::Struct(record) => {
                let (fields, arrays) = (record.fields(), record.finish()?);
                Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, len)?)
            }
            Values::List(ends, element) => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])));
                Arc::new(ListArray::try_new(element.field.clone(), ends, element.finish()?, nulls)?)
            }
        })
    }
}

/// Takes the values out; the next batch will be about as long.
fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(take(values), nulls))
}

fn zone(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Reject> {
    match cursor.peek() {
        Some(b't') => cursor.expect_word("true").map(|()| true),
        Some(b'f') => cursor.expect_word("false").map(|()| false),
        _ => Err(cursor.mismatch("true or false")),
    }
}

fn push_integer<T: TryFrom<i128>>(values: &mut Vec<T>, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Reject> {
    let value = number::integer(cursor)?;
    values.push(T::try_from(value).map_err(|_| number::does_not_fit(value.to_string().as_bytes(), name))?);
    Ok(())
}

fn text(strings: &mut ByteStrings, cursor: &mut Cursor<'_>) -> Result<(), Reject> {
    if cursor.peek() != Some(b'"') {
        let reject = cursor.mismatch("a string");
        let nested = matches!(cursor.peek(), Some(b'{' | b'['));
        return Err(if nested { reject.more("; declare the column as JSON to keep its text") } else { reject });
    }
    let (raw, escaped) = cursor.raw_string()?;
    if escaped {
        unescape(raw, &mut strings.bytes)?;
    } else {
        strings.bytes.extend_from_slice(raw);
    }
    strings.close()
}

fn binary(strings: &mut ByteStrings, cursor: &mut Cursor<'_>) -> Result<(), Reject> {
    if cursor.peek() != Some(b'"') {
        return Err(cursor.mismatch("a string of base64"));
    }
    let encoded = cursor.string()?;
    let start = strings.bytes.len();
    if BASE64.decode_vec(&encoded, &mut strings.bytes).is_err() {
        strings.bytes.truncate(start);
        BASE64_URL.decode_vec(&encoded, &mut strings.bytes).map_err(|error| Reject::new(format!("not base64: {error}")))?;
    }
    strings.close()
}

fn date(cursor: &mut Cursor<'_>) -> Result<i32, Reject> {
    let days = match cursor.peek() {
        Some(b'"') => {
            let text = cursor.string()?;
            let days = time::date_days(&text);
            i128::from(days.ok_or_else(|| Reject::new(format!("'{}' is not a date (YYYY-MM-DD)", number::shown(&text))))?)
        }
        Some(b'-' | b'0'..=b'9') => number::integer(cursor)?,
        _ => return Err(cursor.mismatch("a date as a string, or days since 1970")),
    };
    let in_days = TIMES_US.start / 86_400_000_000..TIMES_US.end / 86_400_000_000;
    match i32::try_from(days) {
        Ok(days) if in_days.contains(&i64::from(days)) => Ok(days),
        _ => Err(number::does_not_fit(days.to_string().as_bytes(), "DATE (days since 1970, years 1 to 9999)")),
    }
}

/// Milliseconds that would be in the first months of 1970: seconds of the years 2001 to 2286.
const EVIDENT_SECONDS: std::ops::Range<i64> = 1_000_000_000..10_000_000_000;
/// Milliseconds from here on would be in the year 5138 or later: microseconds from 1973 on.
const EVIDENT_MICROSECONDS: i64 = 100_000_000_000_000;
/// Microseconds from here on would be in the year 5138 or later: nanoseconds from 1973 on.
const EVIDENT_NANOSECONDS: i64 = 100_000_000_000_000_000;

/// Microseconds since 1970 of a number of `epoch`, also in quotes; digits after the sixth of a second are cut off.
fn declared_us(cursor: &mut Cursor<'_>, epoch: Epoch) -> Result<i64, Reject> {
    let digits = match epoch {
        Epoch::Seconds => 9,
        Epoch::Milliseconds => 6,
        Epoch::Microseconds => 3,
        Epoch::Nanoseconds => 0,
    };
    let ns = number::decimal(cursor, 38, digits)?;
    let us = i64::try_from(ns.div_euclid(1_000)).ok();
    us.ok_or_else(|| Reject::new("does not fit a TIMESTAMP"))
}

/// Microseconds since 1970 of a number as JSON has it; else the reason why it is no time.
pub(crate) fn counted_us(number: &str, epoch: Option<Epoch>, is_event_time: bool) -> Result<i64, String> {
    let count = match epoch {
        Some(epoch) => Count::Declared(epoch),
        None if is_event_time => Count::AssumedOfEvents,
        None => Count::Assumed,
    };
    let mut cursor = Cursor::new(number.as_bytes());
    let us = timestamp(&mut cursor, TimeUnit::Microsecond, count).map_err(Reject::into_reason)?;
    if cursor.peek().is_some() { Err(format!("'{number}' is no number")) } else { Ok(us) }
}

fn timestamp(cursor: &mut Cursor<'_>, unit: TimeUnit, count: Count) -> Result<i64, Reject> {
    let us = match cursor.peek() {
        Some(b'-' | b'0'..=b'9') if let Count::Declared(epoch) = count => declared_us(cursor, epoch)?,
        Some(b'"') => {
            let text = cursor.string()?;
            let mut us = time::timestamp_us(&text);
            if let (None, Count::Declared(epoch)) = (us, count) {
                let mut inner = Cursor::new(&text);
                us = declared_us(&mut inner, epoch).ok().filter(|_| inner.peek().is_none());
            }
            us.ok_or_else(|| Reject::new(format!("'{}' is not a timestamp (ISO-8601)", number::shown(&text))))?
        }
        Some(b'-' | b'0'..=b'9') => {
            let ms = number::integer(cursor)?;
            let us = i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1000));
            if let Ok(ms) = i64::try_from(ms) {
                let evident = match ms {
                    EVIDENT_NANOSECONDS.. => Some("nanoseconds"),
                    EVIDENT_MICROSECONDS.. if count == Count::AssumedOfEvents => Some("microseconds"),
                    EVIDENT_MICROSECONDS.. if us.is_none_or(|us| us >= TIMES_US.end) => Some("microseconds"),
                    _ if count == Count::AssumedOfEvents && EVIDENT_SECONDS.contains(&ms) => Some("seconds"),
                    _ => None,
                };
                if let Some(evident) = evident {
                    return Err(Reject::new(format!(
                        "{ms} is taken for milliseconds since 1970 and evidently counts {evident}: declare the column as TIMESTAMP EPOCH '{evident}'"
                    )));
                }
            }
            us.ok_or_else(|| number::does_not_fit(ms.to_string().as_bytes(), "TIMESTAMP (milliseconds since 1970)"))?
        }
        _ => return Err(cursor.mismatch("a timestamp as a string, or milliseconds since 1970")),
    };
    if !TIMES_US.contains(&us) {
        return Err(Reject::new("not in the years 1 to 9999"));
    }
    match unit {
        TimeUnit::Second => Ok(us.div_euclid(1_000_000)),
        TimeUnit::Millisecond => Ok(us.div_euclid(1_000)),
        TimeUnit::Microsecond => Ok(us),
        TimeUnit::Nanosecond => {
            us.checked_mul(1_000).ok_or_else(|| Reject::new("does not fit a TIMESTAMP in nanoseconds (years 1678 to 2261)"))
        }
    }
}

fn list(element: &mut Column, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Reject> {
    check_depth(depth)?;
    if cursor.peek() != Some(b'[') {
        return Err(cursor.mismatch("an array"));
    }
    cursor.advance(1);
    cursor.skip_space();
    if cursor.eat(b']') {
        return Ok(());
    }
    loop {
        cursor.skip_space();
        element.parse(cursor, depth)?;
        cursor.skip_space();
        if cursor.eat(b']') {
            return Ok(());
        }
        if !cursor.eat(b',') {
            return Err(cursor.unexpected("',' or ']'"));
        }
    }
}
