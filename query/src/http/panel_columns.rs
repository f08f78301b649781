//! Whether the columns of a query are what a panel's picture needs.

use arrow::datatypes::{DataType, Schema};
use watershed_dialect::{Chart, PanelDefinition, SqlError, did_you_mean};

use crate::json::name_twice;

/// An error if a panel names columns that its query has not, or that its picture cannot be made of.
pub fn check_panel(panel: &PanelDefinition, schema: &Schema) -> Result<(), SqlError> {
    let name = &panel.name;
    if let Some(twice) = name_twice(schema) {
        let hint = "give one of them another name with AS";
        return Err(SqlError::new(format!("two columns of the query of panel '{name}' are named '{twice}'")).hint(hint));
    }
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for wanted in [&panel.x, &panel.y, &panel.series, &panel.size, &panel.label].into_iter().flatten() {
        if !columns.contains(&wanted.as_str()) {
            let near = did_you_mean(wanted, columns.iter().copied());
            let hint = near.unwrap_or_else(|| format!("its query has: {}", columns.join(", ")));
            return Err(SqlError::new(format!("panel '{name}' names the column '{wanted}', which its query does not have")).hint(hint));
        }
    }
    let along = panel.x.as_ref().filter(|_| panel.chart == Chart::Map);
    let measured = panel.y.as_ref().filter(|_| panel.chart != Chart::Table);
    for (option, column) in [("x", along), ("y", measured), ("size", panel.size.as_ref())] {
        let Some((_, field)) = column.and_then(|column| schema.column_with_name(column)) else { continue };
        let kind = field.data_type();
        if !kind.is_numeric() && *kind != DataType::Null {
            let (column, kind) = (field.name(), watershed_functions::sql_type(kind));
            let error = SqlError::new(format!("panel '{name}' draws {option} = '{column}', which is a {kind} and no number"));
            return Err(error.hint("name a column of numbers, CAST it to one, or show the rows with chart = 'table'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use watershed_dialect::{StatementKind, parse};

    use super::*;

    fn checked(options: &str, columns: &[(&str, DataType)]) -> Result<(), String> {
        let text = format!("CREATE PANEL p WITH ({options}) AS SELECT 1");
        let StatementKind::CreatePanel(panel) = parse(&text).unwrap().remove(0).kind else { panic!("{text}") };
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        check_panel(&panel, &Schema::new(fields)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_picture_needs_its_columns_and_numbers() {
        let (at, n, text) = (("at", DataType::Date32), ("n", DataType::Int64), ("name", DataType::Utf8));
        let line = "chart = 'line', x = 'at', y = 'n'";
        assert_eq!(checked(line, &[at.clone(), n.clone()]), Ok(()));
        assert!(checked(line, &[at.clone(), text.clone()]).unwrap_err().contains("names the column 'n'"));
        let near = checked("chart = 'line', x = 'at', y = 'nmae'", &[at.clone(), text.clone()]).unwrap_err();
        assert!(near.contains("did you mean 'name'?"), "{near}");
        let of_text = checked("chart = 'line', x = 'at', y = 'name'", &[at.clone(), text.clone()]).unwrap_err();
        assert!(of_text.contains("y = 'name', which is a VARCHAR and no number"), "{of_text}");
        assert!(checked("chart = 'map', x = 'name', y = 'n'", &[text.clone(), n.clone()]).is_err());
        assert_eq!(checked("chart = 'bar', x = 'name', y = 'n', series = 'name'", &[text.clone(), n.clone()]), Ok(()));
        assert_eq!(checked("chart = 'table'", &[text.clone(), at]), Ok(()));
        let twice = checked("chart = 'table'", &[text.clone(), n, text]).unwrap_err();
        assert!(twice.contains("two columns of the query of panel 'p' are named 'name'"), "{twice}");
    }
}
