//! `CREATE PANEL name WITH (title = …, chart = …, x = …, y = …, …) AS query`: one picture of the dashboard.
//!
//! ```sql
//! CREATE PANEL city_demand
//! WITH (title = 'Demand', chart = 'line', x = 'minute', y = 'requests', series = 'city', unit = 'rides a minute', position = 1)
//! AS SELECT window_start AS minute, city, requests FROM gold.city_demand ORDER BY 1;
//! ```

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::definition::{Chart, PanelDefinition};
use crate::options::Options;

/// Charts by the word that names them.
const CHARTS: [(&str, Chart); 6] = [
    ("line", Chart::Line),
    ("area", Chart::Area),
    ("bar", Chart::Bar),
    ("map", Chart::Map),
    ("funnel", Chart::Funnel),
    ("table", Chart::Table),
];

/// A panel's position if it does not say.
const POSITION_LAST: u32 = 1_000;

/// Parses what follows `CREATE PANEL`, up to and with `AS`; the query is left empty.
pub(crate) fn parse_head(cursor: &mut Cursor) -> Result<PanelDefinition, SqlError> {
    let (name, place) = cursor.name("a panel's name")?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(error_at(place, format!("'{name}' cannot name a panel")).hint("use letters, digits and '_', starting with a letter"));
    }
    let options_place = cursor.here();
    let mut options = Options::parse(cursor)?;
    if !cursor.take(&["AS"]) {
        return Err(cursor
            .expected("WITH or AS")
            .hint(format!("write CREATE PANEL {name} WITH (title = '…', chart = 'line', …) AS SELECT …")));
    }
    let chart = options.take_word("chart", &CHARTS.map(|(word, chart)| (word, Some(chart))), None)?;
    let mut text = |name: &str| options.take(name).map(|value| value.text).filter(|text| !text.trim().is_empty());
    let (title, about, unit) = (text("title"), text("about"), text("unit"));
    let (x, y, series, size, label) = (text("x"), text("y"), text("series"), text("size"), text("label"));
    let position = match options.take("position") {
        None => POSITION_LAST,
        Some(value) => value
            .text
            .parse()
            .map_err(|_| error_at(value.place, format!("position cannot be '{}'", value.text)).detail("it is a whole number"))?,
    };
    let wide = options.take_word("wide", &[("true", true), ("false", false)], false)?;
    options.finish("a panel", &[])?;
    let missing = |option: &str, meaning: &str| {
        error_at(options_place, format!("panel '{name}' has no {option}")).hint(format!("add {option} = '…' to WITH (…): {meaning}"))
    };
    let chart = chart.ok_or_else(|| missing("chart", "line, area, bar, map, funnel or table"))?;
    if chart != Chart::Table {
        if x.is_none() {
            return Err(missing("x", "the column along the picture (time of a line, label of a bar, longitude of a map)"));
        }
        if y.is_none() {
            return Err(missing("y", "the column that is measured (latitude of a map)"));
        }
    }
    let title = title.unwrap_or_else(|| name.replace('_', " "));
    Ok(PanelDefinition { name, title, about, chart, x, y, series, size, label, unit, position, wide, query: String::new() })
}
