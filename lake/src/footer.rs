//! Footers of Parquet files that others have written, made fit for a scan or a compaction of the table they belong to.
//!
//! - Columns are found whatever their case: Delta's names do not differ in case alone, so `ID` in a file is `id` of the table.
//! - Bounds of floats go: Parquet's leave NaN out, which SQL orders above all numbers, so rows would be skipped that a filter wants.
//! - Times in INT96 are read in µs: in ns, which Arrow takes, they end in 1677 and 2262, and what lies beyond becomes another time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, TimeUnit};
use datafusion::datasource::physical_plan::parquet::Int96Coercer;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{LogicalType, Type as PhysicalType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{FileMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

/// Refuses a footer whose places cannot be: what reads Parquet panics over them.
pub(crate) fn check(footer: &ParquetMetaData) -> Result<()> {
    let columns = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in columns {
        let places = [column.dictionary_page_offset().unwrap_or(0), column.data_page_offset(), column.compressed_size()];
        if places.iter().any(|&place| place < 0) {
            let name = column.column_path();
            return Err(ParquetError::General(format!("the footer says that column {name} begins or ends before the file does")));
        }
    }
    Ok(())
}

/// The footer without what Arrow's writer noted of its own types: the table's log says them, and damage in that note is a panic in Arrow.
pub(crate) fn without_note(footer: Arc<ParquetMetaData>) -> Arc<ParquetMetaData> {
    let pairs = footer.file_metadata().key_value_metadata();
    if !pairs.is_some_and(|pairs| pairs.iter().any(|pair| pair.key == ARROW_SCHEMA_META_KEY)) {
        return footer;
    }
    let schema = footer.file_metadata().schema_descr_ptr();
    Arc::new(with_schema(footer.as_ref().clone(), schema))
}

/// The footer with the names that the table has, and without bounds that do not hold. `table` are the columns that its files store.
pub(crate) fn adapted(footer: Arc<ParquetMetaData>, table: &Schema) -> Result<Arc<ParquetMetaData>> {
    let renamed = renamed(footer.file_metadata().schema_descr().root_schema(), table.fields())?;
    let floats = floats(&footer);
    if renamed.is_none() && floats.is_empty() {
        return Ok(footer);
    }
    let mut footer = footer.as_ref().clone();
    if let Some(root) = renamed {
        footer = with_schema(footer, Arc::new(SchemaDescriptor::new(root)));
    }
    if !floats.is_empty() {
        footer = without_bounds(footer, &floats)?;
    }
    Ok(Arc::new(footer))
}

/// How the rows of a file with this footer are read into Arrow.
pub(crate) fn reading(footer: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata> {
    check(&footer)?;
    let footer = without_note(footer);
    let plain = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new())?;
    let in_micros = Int96Coercer::new(footer.file_metadata().schema_descr(), plain.schema(), &TimeUnit::Microsecond).coerce();
    match in_micros {
        Some(schema) => ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new().with_schema(Arc::new(schema))),
        None => Ok(plain),
    }
}

/// The leaves that are floats.
fn floats(footer: &ParquetMetaData) -> Vec<usize> {
    let leaves = footer.file_metadata().schema_descr().columns().iter().enumerate();
    let floats = leaves.filter(|(_, leaf)| {
        matches!(leaf.physical_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE)
            || matches!(leaf.logical_type_ref(), Some(LogicalType::Float16))
    });
    floats.map(|(index, _)| index).collect()
}

fn without_bounds(footer: ParquetMetaData, leaves: &[usize]) -> Result<ParquetMetaData> {
    let mut builder = footer.into_builder();
    let bare = |group: RowGroupMetaData| {
        let mut group = group.into_builder();
        let mut columns = group.take_columns();
        for &leaf in leaves {
            if let Some(column) = columns.get_mut(leaf) {
                let bare = column.clone().into_builder().clear_statistics().set_column_index_offset(None).set_column_index_length(None);
                *column = bare.build()?;
            }
        }
        group.set_column_metadata(columns).build()
    };
    let groups = builder.take_row_groups().into_iter().map(bare).collect::<Result<Vec<_>>>()?;
    let pages = builder.take_column_index().map(|mut pages| {
        for group in &mut pages {
            for &leaf in leaves {
                if let Some(column) = group.get_mut(leaf) {
                    *column = ColumnIndexMetaData::NONE;
                }
            }
        }
        pages
    });
    Ok(builder.set_row_groups(groups).set_column_index(pages).build())
}

/// The same footer with a schema whose leaves are the same but for their names.
fn with_schema(footer: ParquetMetaData, schema: SchemaDescPtr) -> ParquetMetaData {
    let said = footer.file_metadata();
    // Arrow's own schema has the old names.
    let pairs = said.key_value_metadata().map(|pairs| pairs.iter().filter(|pair| pair.key != ARROW_SCHEMA_META_KEY).cloned().collect());
    let file = FileMetaData::new(
        said.version(),
        said.num_rows(),
        said.created_by().map(str::to_owned),
        pairs,
        schema,
        said.column_orders().cloned(),
    );
    let mut builder = footer.into_builder();
    let (groups, columns, offsets) = (builder.take_row_groups(), builder.take_column_index(), builder.take_offset_index());
    let renamed = ParquetMetaData::new(file, groups).into_builder();
    renamed.set_column_index(columns).set_offset_index(offsets).build()
}

/// A group with the names that the table has for its fields; `None` if it has them already.
fn renamed(group: &Type, fields: &Fields) -> Result<Option<TypePtr>> {
    let names = names(group, fields)?;
    let mut changed = false;
    let mut children = Vec::with_capacity(group.get_fields().len());
    for (child, field) in group.get_fields().iter().zip(names) {
        let inner = match field {
            Some(field) => within(child, field.data_type())?,
            None => None,
        };
        let name = field.map_or(child.name(), |field| field.name());
        if inner.is_none() && name == child.name() {
            children.push(Arc::clone(child));
            continue;
        }
        changed = true;
        children.push(rebuilt(child, name, inner.unwrap_or_else(|| fields_of(child)))?);
    }
    if changed { Ok(Some(rebuilt(group, group.name(), children)?)) } else { Ok(None) }
}

/// The field of the table that each column of a group is, if any.
fn names<'a>(group: &Type, fields: &'a Fields) -> Result<Vec<Option<&'a FieldRef>>> {
    let exact = fields.iter().map(|field| (field.name().as_str(), field)).collect::<HashMap<_, _>>();
    let there = |name: &str| group.get_fields().iter().any(|child| child.name() == name);
    let mut found = Vec::with_capacity(group.get_fields().len());
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for child in group.get_fields() {
        if let Some(field) = exact.get(child.name()) {
            found.push(Some(*field));
            continue;
        }
        let lower = child.name().to_lowercase();
        let alike = fields.iter().find(|field| field.name().to_lowercase() == lower && !there(field.name()));
        if let Some(field) = alike
            && let Some(other) = taken.insert(field.name(), child.name())
        {
            let column = field.name();
            return Err(ParquetError::General(format!("columns '{other}' and '{}' of it could both be '{column}'", child.name())));
        }
        found.push(alike);
    }
    Ok(found)
}

/// The renamed fields of a column that is a struct, or holds some; `None` if there is nothing to rename.
fn within(column: &TypePtr, data_type: &DataType) -> Result<Option<Vec<TypePtr>>> {
    if column.is_primitive() {
        return Ok(None);
    }
    let inner: Vec<&DataType> = match data_type {
        DataType::Struct(fields) => return Ok(renamed(column, fields)?.map(|renamed| fields_of(&renamed))),
        DataType::List(element) => vec![element.data_type()],
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.iter().map(|field| field.data_type()).collect(),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    // A list is a group of one repeated group of its element, a map one of its keys and values.
    let [repeated] = column.get_fields() else { return Ok(None) };
    if repeated.is_primitive() || repeated.get_fields().len() != inner.len() {
        return Ok(None);
    }
    let (mut changed, mut children) = (false, Vec::with_capacity(inner.len()));
    for (child, data_type) in repeated.get_fields().iter().zip(inner) {
        match within(child, data_type)? {
            Some(fields) => {
                changed = true;
                children.push(rebuilt(child, child.name(), fields)?);
            }
            None => children.push(Arc::clone(child)),
        }
    }
    if changed { Ok(Some(vec![rebuilt(repeated, repeated.name(), children)?])) } else { Ok(None) }
}

fn fields_of(column: &Type) -> Vec<TypePtr> {
    if column.is_primitive() { Vec::new() } else { column.get_fields().to_vec() }
}

/// A column of another name, and with these fields if it is a group.
fn rebuilt(column: &Type, name: &str, fields: Vec<TypePtr>) -> Result<TypePtr> {
    let info = column.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let built = match column {
        Type::PrimitiveType { physical_type, type_length, scale, precision, .. } => Type::primitive_type_builder(name, *physical_type)
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_length(*type_length)
            .with_precision(*precision)
            .with_scale(*scale)
            .with_id(id)
            .build()?,
        Type::GroupType { .. } => {
            let mut builder = Type::group_type_builder(name)
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields)
                .with_id(id);
            if info.has_repetition() {
                builder = builder.with_repetition(info.repetition());
            }
            builder.build()?
        }
    };
    Ok(Arc::new(built))
}
