//! Delta statistics of one data file, taken from its Parquet footer.
//!
//! ```json
//! {"numRecords":2,"minValues":{"fare":1.50,"pickup":{"lat":47.1}},"maxValues":{…},"nullCount":{"fare":0,"pickup":{"lat":1}}}
//! ```
//!
//! Bounds must hold for every row, so whatever cannot be bounded is left out: a column with a NaN has none (Parquet
//! ignores NaN, SQL orders it above all numbers), nor have booleans, binaries, lists and maps.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Schema};
use chrono::{DateTime, Datelike, Days, NaiveDate};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;

use crate::limits::STATISTICS_CHARS;

/// A column that gets statistics: a leaf outside lists and maps, or a list or map itself.
#[derive(Debug, Clone)]
struct Tracked {
    path: Vec<String>,
    data_type: DataType,
    /// Position among the Parquet leaves; `None` for lists and maps.
    leaf: Option<usize>,
}

/// Collects what the Parquet footer does not say while rows pass, and makes the statistics at the end.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    tracked: Vec<Tracked>,
    has_nan: Vec<bool>,
    /// Nulls of lists and maps, whose Parquet leaves count other things.
    nulls: Vec<Option<u64>>,
}

impl Collector {
    pub(crate) fn new(file_schema: &Schema) -> Self {
        let (mut tracked, mut leaves) = (Vec::new(), 0);
        for field in file_schema.fields() {
            track(field, &mut Vec::new(), &mut leaves, &mut tracked);
        }
        Self { has_nan: vec![false; tracked.len()], nulls: vec![Some(0); tracked.len()], tracked }
    }

    /// Looks at rows on their way into the file, and gives them as they are written: a column of floats has one NaN only. Readers compare bits, and a
    /// division leaves its NaN with a sign on some machines.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> RecordBatch {
        let mut changed: Option<Vec<ArrayRef>> = None;
        for (index, column) in self.tracked.iter().enumerate() {
            let whole = batch.schema_ref().index_of(&column.path[0]).ok().filter(|_| column.path.len() == 1);
            match (&column.data_type, column.leaf) {
                (DataType::Float32 | DataType::Float64, _) if whole.is_some() || !self.has_nan[index] => {
                    let array = descend(batch, &column.path);
                    let has_nan = array.as_ref().is_none_or(any_nan);
                    self.has_nan[index] |= has_nan;
                    if let (true, Some(place), Some(array)) = (has_nan, whole, array) {
                        changed.get_or_insert_with(|| batch.columns().to_vec())[place] = one_nan(array);
                    }
                }
                (_, None) if column.path.len() == 1 => {
                    let nulls = descend(batch, &column.path).map(|array| array.null_count() as u64);
                    self.nulls[index] = self.nulls[index].zip(nulls).map(|(total, nulls)| total + nulls);
                }
                // Nulls of a list inside a struct would have to count the struct's nulls, too: not worth it.
                (_, None) => self.nulls[index] = None,
                _ => {}
            }
        }
        // Types and lengths are those of before.
        changed.and_then(|columns| RecordBatch::try_new(batch.schema(), columns).ok()).unwrap_or_else(|| batch.clone())
    }

    /// Columns with a NaN, for which Parquet's own bounds do not hold either.
    pub(crate) fn unbounded(&self) -> Vec<ColumnPath> {
        let with_nan = self.tracked.iter().zip(&self.has_nan).filter(|(_, has_nan)| **has_nan);
        with_nan.map(|(column, _)| ColumnPath::new(column.path.clone())).collect()
    }

    /// The statistics JSON of a file with this footer.
    pub(crate) fn finish(&self, footer: &ParquetMetaData) -> String {
        let (mut lower, mut upper, mut nulls) = (Tree::default(), Tree::default(), Tree::default());
        for (index, column) in self.tracked.iter().enumerate() {
            let Some(leaf) = column.leaf else {
                if let Some(count) = self.nulls[index] {
                    nulls.insert(&column.path, count.to_string());
                }
                continue;
            };
            let summary = summarize(footer.row_groups(), leaf);
            if let Some(count) = summary.nulls {
                nulls.insert(&column.path, count.to_string());
            }
            if self.has_nan[index] {
                continue;
            }
            if let Some((low, high)) = summary.bounds {
                // Half a pair would be right, but some readers expect both.
                if let (Some(low), Some(high)) = (low.render(&column.data_type, false), high.render(&column.data_type, true)) {
                    lower.insert(&column.path, low);
                    upper.insert(&column.path, high);
                }
            }
        }
        let rows = footer.file_metadata().num_rows();
        let mut text = format!("{{\"numRecords\":{rows},\"minValues\":");
        lower.write(&mut text);
        text.push_str(",\"maxValues\":");
        upper.write(&mut text);
        text.push_str(",\"nullCount\":");
        nulls.write(&mut text);
        text.push('}');
        text
    }
}

fn track(field: &FieldRef, parents: &mut Vec<String>, leaves: &mut usize, tracked: &mut Vec<Tracked>) {
    parents.push(field.name().clone());
    match field.data_type() {
        DataType::Struct(fields) => {
            for field in fields {
                track(field, parents, leaves, tracked);
            }
        }
        DataType::List(_) | DataType::Map(_, _) => {
            *leaves += count_leaves(field.data_type());
            tracked.push(Tracked { path: parents.clone(), data_type: field.data_type().clone(), leaf: None });
        }
        data_type => {
            tracked.push(Tracked { path: parents.clone(), data_type: data_type.clone(), leaf: Some(*leaves) });
            *leaves += 1;
        }
    }
    parents.pop();
}

fn count_leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| count_leaves(field.data_type())).sum(),
        DataType::List(field) | DataType::Map(field, _) => count_leaves(field.data_type()),
        _ => 1,
    }
}

fn descend(batch: &RecordBatch, path: &[String]) -> Option<ArrayRef> {
    let (first, rest) = path.split_first()?;
    let mut array = batch.column_by_name(first)?.clone();
    for name in rest {
        array = array.as_struct_opt()?.column_by_name(name)?.clone();
    }
    Some(array)
}

fn any_nan(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
        DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
        _ => false,
    }
}

/// Floats of which all NaN are the same.
fn one_nan(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let one = |value: f32| if value.is_nan() { f32::NAN } else { value };
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Float64 => {
            let one = |value: f64| if value.is_nan() { f64::NAN } else { value };
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        _ => array,
    }
}

#[derive(Default)]
struct Summary {
    nulls: Option<u64>,
    bounds: Option<(Bound, Bound)>,
}

/// The bounds of a leaf over all row groups; none if one row group with values does not say.
fn summarize(row_groups: &[RowGroupMetaData], leaf: usize) -> Summary {
    let mut nulls = Some(0);
    let mut bounds: Option<(Bound, Bound)> = None;
    let mut bounded = true;
    for group in row_groups {
        let column = group.column(leaf);
        let statistics = column.statistics();
        let group_nulls = statistics.and_then(Statistics::null_count_opt);
        nulls = nulls.zip(group_nulls).map(|(total, group)| total + group);
        match statistics.and_then(Bound::pair) {
            Some((low, high)) => {
                bounds = Some(match bounds {
                    None => (low, high),
                    Some((lowest, highest)) => (lowest.smaller(low), highest.greater(high)),
                });
            }
            None => bounded &= group_nulls.is_some_and(|nulls| nulls == group.num_rows() as u64),
        }
    }
    Summary { nulls, bounds: bounds.filter(|_| bounded) }
}

/// A Parquet bound; within one column all are of one kind.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
    Decimal(i128),
}

impl Bound {
    fn pair(statistics: &Statistics) -> Option<(Self, Self)> {
        Some(match statistics {
            Statistics::Int32(values) => (Self::Int((*values.min_opt()?).into()), Self::Int((*values.max_opt()?).into())),
            Statistics::Int64(values) => (Self::Int(*values.min_opt()?), Self::Int(*values.max_opt()?)),
            Statistics::Float(values) => (Self::Float((*values.min_opt()?).into()), Self::Float((*values.max_opt()?).into())),
            Statistics::Double(values) => (Self::Float(*values.min_opt()?), Self::Float(*values.max_opt()?)),
            Statistics::ByteArray(values) => {
                (Self::Bytes(values.min_opt()?.data().to_vec()), Self::Bytes(values.max_opt()?.data().to_vec()))
            }
            Statistics::FixedLenByteArray(values) => {
                (Self::Decimal(big_endian(values.min_opt()?.data())?), Self::Decimal(big_endian(values.max_opt()?.data())?))
            }
            Statistics::Boolean(_) | Statistics::Int96(_) => return None,
        })
    }

    fn smaller(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    fn greater(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    /// The JSON form; `None` where the value cannot be written so that every reader takes it as a bound.
    fn render(&self, data_type: &DataType, is_upper: bool) -> Option<String> {
        match (self, data_type) {
            (Self::Int(days), DataType::Date32) => render_date(*days),
            (Self::Int(micros), DataType::Timestamp(_, zone)) => render_time(*micros, zone.is_some()),
            (Self::Int(value), DataType::Decimal128(_, scale)) => Some(render_decimal(i128::from(*value), *scale)),
            (Self::Decimal(value), DataType::Decimal128(_, scale)) => Some(render_decimal(*value, *scale)),
            (Self::Int(value), data_type) if data_type.is_integer() => Some(value.to_string()),
            // Shortest text that reads back as the same number: of its own width.
            (Self::Float(value), DataType::Float32) if value.is_finite() => Some(format!("{:?}", *value as f32)),
            (Self::Float(value), DataType::Float64) if value.is_finite() => Some(format!("{value:?}")),
            (Self::Bytes(bytes), DataType::Utf8) => {
                let text = std::str::from_utf8(bytes).ok()?;
                let bound = if is_upper { shorten_up(text)? } else { text.chars().take(STATISTICS_CHARS).collect() };
                serde_json::to_string(&bound).ok()
            }
            _ => None,
        }
    }
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let mut wide = if bytes[0] & 0x80 == 0 { [0; 16] } else { [0xff; 16] };
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn render_decimal(value: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        return value.to_string();
    }
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn render_date(days: i64) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = if days < 0 {
        epoch.checked_sub_days(Days::new(days.unsigned_abs()))
    } else {
        epoch.checked_add_days(Days::new(days.unsigned_abs()))
    };
    let date = date.filter(|date| (1..=9999).contains(&date.year()))?;
    Some(format!("\"{}\"", date.format("%Y-%m-%d")))
}

fn render_time(micros: i64, has_zone: bool) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros).filter(|time| (1..=9999).contains(&time.year()))?;
    let form = if has_zone { "\"%Y-%m-%dT%H:%M:%S%.6fZ\"" } else { "\"%Y-%m-%dT%H:%M:%S%.6f\"" };
    Some(time.format(form).to_string())
}

/// The shortest text of at most [`STATISTICS_CHARS`] characters that is not below `text`.
fn shorten_up(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let mut kept = chars.by_ref().take(STATISTICS_CHARS).collect::<Vec<_>>();
    if chars.next().is_none() {
        return Some(kept.into_iter().collect());
    }
    while let Some(last) = kept.pop() {
        if let Some(next) = successor(last) {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

fn successor(character: char) -> Option<char> {
    match character {
        '\u{D7FF}' => Some('\u{E000}'),
        other => char::from_u32(u32::from(other) + 1),
    }
}

/// A JSON object that mirrors the nesting of columns.
#[derive(Default)]
struct Tree {
    children: BTreeMap<String, Node>,
}

enum Node {
    Value(String),
    Object(Tree),
}

impl Tree {
    fn insert(&mut self, path: &[String], value: String) {
        let Some((first, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.children.insert(first.clone(), Node::Value(value));
            return;
        }
        let child = self.children.entry(first.clone()).or_insert_with(|| Node::Object(Tree::default()));
        if let Node::Object(tree) = child {
            tree.insert(rest, value);
        }
    }

    fn write(&self, text: &mut String) {
        text.push('{');
        for (index, (name, node)) in self.children.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            let _ = write!(text, "{}:", serde_json::Value::from(name.as_str()));
            match node {
                Node::Value(value) => text.push_str(value),
                Node::Object(tree) => tree.write(text),
            }
        }
        text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array};

    use super::*;

    #[test]
    fn long_strings_are_bounded_from_above() {
        let just = "x".repeat(STATISTICS_CHARS);
        assert_eq!(shorten_up(&just).unwrap(), just);
        let longer = format!("{just}y");
        let bound = shorten_up(&longer).unwrap();
        assert!(bound.chars().count() <= STATISTICS_CHARS && bound > longer);
        let top = "\u{10FFFF}".repeat(40);
        assert_eq!(shorten_up(&top), None);
        let almost = format!("a{}", "\u{10FFFF}".repeat(40));
        assert_eq!(shorten_up(&almost).unwrap(), "b");
        let gap = "\u{D7FF}".repeat(40);
        assert!(shorten_up(&gap).unwrap() > gap);
    }

    #[test]
    fn floats_are_written_with_one_nan_and_without_bounds() {
        let signed = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let batch = |values: Vec<f64>| {
            let others: ArrayRef = Arc::new(Float32Array::from(vec![1.0; values.len()]));
            let values: ArrayRef = Arc::new(Float64Array::from(values));
            RecordBatch::try_from_iter([("x", values), ("y", others)]).unwrap()
        };
        let first = batch(vec![1.0, -0.0]);
        let mut collector = Collector::new(first.schema_ref());
        assert_eq!(collector.take(&first), first);
        assert!(collector.unbounded().is_empty());
        // In every batch, not only in the first that has one.
        for _ in 0..2 {
            let taken = collector.take(&batch(vec![signed, 2.0, f64::NAN]));
            let bits: Vec<u64> = taken.column(0).as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect();
            assert_eq!(bits, [f64::NAN, 2.0, f64::NAN].map(f64::to_bits));
            assert_eq!(collector.unbounded(), [ColumnPath::new(vec!["x".to_owned()])]);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(render_decimal(-105, 2), "-1.05");
        assert_eq!(render_decimal(5, 3), "0.005");
        assert_eq!(render_decimal(12_345_678_901_234_567_891, 2), "123456789012345678.91");
        assert_eq!(big_endian(&[0xff, 0xfe]), Some(-2));
        assert_eq!(Bound::Float(f64::from(0.1_f32)).render(&DataType::Float32, true).unwrap(), "0.1");
        assert_eq!(Bound::Float(f64::INFINITY).render(&DataType::Float64, true), None);
    }

    #[test]
    fn days_and_times_before_the_epoch() {
        assert_eq!(render_date(-1).unwrap(), "\"1969-12-31\"");
        assert_eq!(render_date(i64::from(i32::MAX)), None);
        assert_eq!(render_time(-1, true).unwrap(), "\"1969-12-31T23:59:59.999999Z\"");
    }
}
