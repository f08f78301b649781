//! Brings batches as a file has them into the shape that a source declares: columns of the declared types, and rows that do not fit set
//! aside one by one.
//!
//! A value that cannot be cast or that a cast changes, a NULL in a NOT NULL column, and an event time that cannot be make a row bad. Times without a zone are UTC.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use watershed_dialect::definition::SourceDefinition;

use crate::coordinates::Coordinate;
use crate::error::{IngestError, Result};
use crate::event_time::{self, EventTime};
use crate::files::times::{self, Units};
use crate::files::within;
use crate::folded::folded;
use crate::place::{Place, place_of};
use crate::quarantine::Quarantine;
use crate::source::{Decoded, RawBatch};

/// The shape, and how to get to it.
pub(crate) struct Shape {
    source_name: String,
    schema: SchemaRef,
    outputs: Vec<Output>,
    /// What is taken from the file: columns that are wanted, and the event time.
    values: Vec<FieldRef>,
    /// What numbers count in each of them.
    units: Vec<Units>,
    event_time: Option<EventTime>,
}

enum Output {
    Value(Place),
    Coordinate(Coordinate),
}

/// Columns of the declared types, and the rows that do not fit, by their number in the batch.
pub(crate) struct Checked {
    columns: Vec<ArrayRef>,
    pub(crate) bad: BTreeMap<usize, String>,
}

impl Shape {
    /// `wanted` are indices into the definition's columns; rows come out in that order.
    pub(crate) fn new(definition: &SourceDefinition, wanted: &[usize]) -> Result<Self> {
        let source_name = definition.name.clone();
        let (mut values, mut units): (Vec<FieldRef>, Vec<Units>) = (Vec::new(), Vec::new());
        let mut value_of = |index: usize| {
            let Place { column, fields } = place_of(definition, index);
            let field = &definition.columns[column].field;
            let column = values.iter().position(|known| known.name() == field.name()).unwrap_or_else(|| {
                values.push(field.clone());
                units.push(Units::default());
                values.len() - 1
            });
            if let Some(epoch) = definition.columns[index].epoch {
                units[column].epochs.push((fields.clone(), epoch));
            }
            Place { column, fields }
        };
        let (mut outputs, mut fields) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for &index in wanted {
            let column = &definition.columns[index];
            fields.push(column.field.clone());
            outputs.push(match column.metadata {
                None => Output::Value(value_of(index)),
                Some(metadata) => Output::Coordinate(Coordinate::new(metadata, column.field.clone()).map_err(|hint| {
                    let (column, data_type) = (column.field.name().clone(), column.field.data_type().to_string());
                    let source_name = source_name.clone();
                    IngestError::UnsupportedType { source_name, column, data_type, format: "METADATA FROM", hint: hint.into() }
                })?),
            });
        }
        let event_time = event_time::column_of(definition, is_time, "the files")?.map(|index| {
            let is_value = definition.columns[index].metadata.is_none();
            EventTime::new(definition, is_value.then(|| value_of(index)))
        });
        if let Some(Place { column, fields }) = event_time.as_ref().and_then(|time: &EventTime| time.place.as_ref()) {
            units[*column].event_time = Some(fields.clone());
        }
        Ok(Self { source_name, schema: Schema::new(fields).into(), outputs, values, units, event_time })
    }

    /// What comes out.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Where in a file's columns each value is: by its exact name, else by its name in any case. `Err` says why the file cannot be of
    /// this source: a type that cannot be cast, or none of the columns.
    pub(crate) fn find(&self, columns: &[(&str, DataType)]) -> Result<Vec<Option<usize>>, String> {
        let mut places = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let exactly = columns.iter().position(|(name, _)| name == value.name());
            let wanted = folded(value.name());
            let place = exactly.or_else(|| columns.iter().position(|(name, _)| folded(name) == wanted));
            if let Some((name, data_type)) = place.map(|place| &columns[place])
                && !(can_cast_types(data_type, &without_zone(value.data_type())) || times::counts(data_type) && is_time(value.data_type()))
            {
                return Err(format!("column '{name}' is {data_type}, which cannot become {}", value.data_type()));
            }
            places.push(place);
        }
        if !places.is_empty() && places.iter().all(Option::is_none) {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            return Err(format!("it has none of the source's columns; it has: {}", names.join(", ")));
        }
        Ok(places)
    }

    /// Casts `columns` (one for each value; `None` where the file has none) and looks for rows that do not fit. The file was written at
    /// `modified_ms`, and the rows were read at `taken_ms`.
    pub(crate) fn check(&self, columns: &[Option<ArrayRef>], rows: usize, modified_ms: i64, taken_ms: Option<i64>) -> Result<Checked> {
        let mut checked = Checked { columns: Vec::with_capacity(columns.len()), bad: BTreeMap::new() };
        for ((field, units), column) in self.values.iter().zip(&self.units).zip(columns) {
            let cast = match column {
                None => new_null_array(field.data_type(), rows),
                Some(column) => {
                    let with_times = times::with_times(column, field.data_type(), units, &mut |row, reason| {
                        checked.bad.entry(row).or_insert_with(|| format!("column '{}': {reason}", field.name()));
                    })?;
                    let cast = convert(&with_times, field.data_type())?;
                    within::faults(column, &cast, &mut |row, reason| {
                        checked.bad.entry(row).or_insert_with(|| format!("column '{}': {}", field.name(), reason()));
                    });
                    cast
                }
            };
            if !field.is_nullable() && cast.null_count() > 0 {
                for row in (0..rows).filter(|&row| cast.is_null(row)) {
                    let reason = || format!("column '{}': no value, yet it is NOT NULL", field.name());
                    checked.bad.entry(row).or_insert_with(reason);
                }
            }
            checked.columns.push(cast);
        }
        if let Some(event_time) = self.event_time.as_ref().filter(|time| time.place.is_none())
            && let Err(reason) = event_time.check(modified_ms.saturating_mul(1_000), None, taken_ms)
        {
            for row in 0..rows {
                checked.bad.entry(row).or_insert_with(|| format!("of the file: {reason}"));
            }
        }
        if let Some(event_time) = &self.event_time
            && let Some(place) = &event_time.place
        {
            let Checked { columns, bad } = &mut checked;
            let times = place.values(columns)?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let name = self.values[place.column].name();
            for (row, time_us) in times.iter().enumerate() {
                let checked = match time_us {
                    // A row without event time belongs nowhere, whatever the column allows.
                    None => Err("no value, yet it is the event time".to_owned()),
                    Some(time_us) => event_time.check(time_us, Some((modified_ms, "when the file was written")), taken_ms),
                };
                if let Err(reason) = checked {
                    bad.entry(row).or_insert_with(|| format!("column '{name}': {reason}"));
                }
            }
        }
        Ok(checked)
    }

    /// Puts the rows that fit together, and the others into the quarantine with the reasons in `checked` and in `unreadable` (by number in
    /// `raw`). `places` says which record of `raw` each row of the batch is.
    pub(crate) fn assemble(
        &self,
        file: &str,
        raw: &RawBatch,
        places: &[usize],
        mut checked: Checked,
        unreadable: BTreeMap<usize, String>,
    ) -> Result<Decoded> {
        let mut accepted = places.to_vec();
        let mut refused = unreadable;
        if !checked.bad.is_empty() {
            let keep: BooleanArray = (0..places.len()).map(|row| Some(!checked.bad.contains_key(&row))).collect();
            for column in &mut checked.columns {
                *column = filter(column, &keep)?;
            }
            accepted = places.iter().enumerate().filter(|(row, _)| !checked.bad.contains_key(row)).map(|(_, place)| *place).collect();
            refused.extend(checked.bad.into_iter().map(|(row, reason)| (places[row], reason)));
        }
        let columns = self.outputs.iter().map(|output| match output {
            Output::Value(place) => place.values(&checked.columns),
            Output::Coordinate(coordinate) => coordinate.column(file, raw, &accepted),
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(accepted.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mut quarantine = Quarantine::default();
        refused.into_iter().for_each(|(place, reason)| quarantine.push(place, reason));
        let quarantined = quarantine.finish(&self.source_name, file, raw)?;
        let offsets = accepted.iter().map(|&place| raw.offsets[place]).collect::<Vec<_>>().into();
        Ok(Decoded { rows, offsets, quarantined })
    }
}

/// Casts; what cannot be cast becomes NULL. A time keeps its instant, and one without a zone is taken for UTC.
fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let safe = CastOptions { safe: true, ..CastOptions::default() };
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = to else {
        return if column.data_type() == to { Ok(column.clone()) } else { cast_with_options(column, to, &safe) };
    };
    let from_zone = match column.data_type() {
        DataType::Timestamp(_, from_zone) => from_zone.clone(),
        _ => None,
    };
    let times = cast_with_options(column, &DataType::Timestamp(TimeUnit::Microsecond, from_zone), &safe)?;
    Ok(Arc::new(times.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(zone.clone())))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

fn without_zone(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}
