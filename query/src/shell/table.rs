//! Rows as a table for people. Pure: values in, text out.
//!
//! Columns shrink to fit the width given: headings that are wider than what is below them first, then texts (a cut number would be
//! a lie). When that is not enough, the first columns are shown that fit; with few rows, one line per column. Texts that differ look
//! different also when cut. Control characters in values are made visible, so that data cannot steer the terminal.

use std::collections::HashSet;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Least width a text column is cut to.
const TEXT_WIDTH_MIN: usize = 12;
/// Names of rows are not cut further than they can be told apart, if that takes no more than this.
const NAME_WIDTH_MAX: usize = 40;
/// Least width a heading is cut to.
const HEADING_WIDTH_MIN: usize = 5;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// As it is to be read.
    Text(String),
}

/// One column's heading and nature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// Numbers are aligned to the right and never cut.
    pub number: bool,
    /// Other values that must not be cut (times).
    pub whole: bool,
}

/// How a table looks.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns of the terminal; `None` for no limit.
    pub width: Option<usize>,
    /// Box-drawing lines instead of ASCII.
    pub unicode: bool,
    /// ANSI colours.
    pub color: bool,
}

/// Widths of the columns, fixed when the first rows are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    widths: Vec<usize>,
    /// Columns whose texts differ at their ends: these are cut in the middle.
    middle: Vec<bool>,
}

impl Layout {
    /// Fits columns to the style's width; `None` if they do not fit even when cut.
    pub fn fit(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> Option<Self> {
        Self::squeeze(columns, rows, style).ok()
    }

    /// As [`Layout::fit`], but as narrow as can be if the columns do not fit.
    pub fn nearly(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> Self {
        Self::squeeze(columns, rows, style).unwrap_or_else(|narrowest| narrowest)
    }

    /// The columns to show of those that do not fit together: first those without any value are left out, then the last ones.
    pub fn some(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> Vec<usize> {
        let has_values = |at: &usize| rows.iter().any(|row| row[*at] != Cell::Null);
        let mut shown: Vec<usize> = (0..columns.len()).filter(has_values).collect();
        while shown.len() > 1 {
            let (some, of_some) = pick(columns, rows, &shown);
            if Self::fit(&some, &of_some, style).is_some() {
                break;
            }
            shown.pop();
        }
        shown
    }

    /// Narrows columns until all fit; the narrowest layout as an error if they do not.
    fn squeeze(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> Result<Self, Self> {
        let headings: Vec<usize> = columns.iter().map(|column| column.name.width()).collect();
        let widest = |at: usize| rows.iter().map(|row| cell_text(&row[at]).width()).max().unwrap_or(0);
        let cells: Vec<usize> = (0..columns.len()).map(widest).collect();
        let mut widths: Vec<usize> = headings.iter().zip(&cells).map(|(heading, cells)| *heading.max(cells)).collect();
        let laid_out = |widths: Vec<usize>| {
            let alike = |at: usize| widths[at] < cells[at] && alike_when_cut(rows, at, widths[at]);
            Self { middle: (0..widths.len()).map(alike).collect(), widths }
        };
        let Some(limit) = style.width else { return Ok(laid_out(widths)) };
        // ` a │ b ` takes three characters a column, less the last bar.
        let room = (limit + 1).saturating_sub(3 * columns.len());
        // Names and other values are worth more than the headings above them.
        let uncut: Vec<usize> = headings.iter().zip(&cells).map(|(heading, cells)| *cells.max(heading.min(&HEADING_WIDTH_MIN))).collect();
        let least = |at: usize| {
            // The first one names the row.
            let text = if at == 0 { told_apart(rows, at) } else { TEXT_WIDTH_MIN };
            let cell = if columns[at].number || columns[at].whole { cells[at] } else { cells[at].min(text) };
            cell.max(headings[at].min(HEADING_WIDTH_MIN))
        };
        let least: Vec<usize> = (0..columns.len()).map(least).collect();
        let fits = narrow(&mut widths, &uncut, room) || narrow(&mut widths, &least, room);
        if fits { Ok(laid_out(widths)) } else { Err(laid_out(widths)) }
    }

    /// Of a line that is not longer.
    pub fn width(&self) -> usize {
        self.widths.iter().map(|width| width + 3).sum()
    }

    /// Headings and the line below them.
    pub fn head(&self, columns: &[Column], style: &Style) -> String {
        let bar = if style.unicode { " │ " } else { " | " };
        let mut out = String::from(" ");
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push_str(bar);
            }
            let text = cut(&column.name, self.widths[at]);
            let padded = pad(&text, self.widths[at], column.number, at + 1 == columns.len());
            out.push_str(&paint(&padded, "1", style));
        }
        let (dash, cross) = if style.unicode { ("─", "┼") } else { ("-", "+") };
        out.push('\n');
        let lines: Vec<String> = self.widths.iter().map(|width| dash.repeat(width + 2)).collect();
        out.push_str(&lines.join(cross));
        out.push('\n');
        out
    }

    /// Rows, one line each.
    pub fn rows(&self, columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> String {
        let bar = if style.unicode { " │ " } else { " | " };
        let mut out = String::new();
        for row in rows {
            out.push(' ');
            for (at, cell) in row.iter().enumerate() {
                if at > 0 {
                    out.push_str(bar);
                }
                // What is not cut, and wider than the first rows were, only shifts its own line.
                let whole = style.width.is_none() || columns[at].number || columns[at].whole;
                let text = match cell_text(cell) {
                    text if whole => text.to_owned(),
                    text if self.middle[at] => cut_in_the_middle(text, self.widths[at]),
                    text => cut(text, self.widths[at]),
                };
                let padded = pad(&text, self.widths[at], columns[at].number, at + 1 == row.len());
                match cell {
                    Cell::Null => out.push_str(&paint(&padded, "2", style)),
                    Cell::Text(_) => out.push_str(&padded),
                }
            }
            out.push('\n');
        }
        out
    }
}

/// Takes from the widest columns until all fit into `room`, none below its least. Down to the next widest each time, so that columns
/// become alike instead of one being crushed. False if they do not fit.
fn narrow(widths: &mut [usize], least: &[usize], room: usize) -> bool {
    loop {
        let over = widths.iter().sum::<usize>().saturating_sub(room);
        if over == 0 {
            return true;
        }
        let wide = |at: &usize| widths[*at] > least[*at];
        let Some(widest) = (0..widths.len()).filter(wide).max_by_key(|at| widths[*at]) else { return false };
        let next = (0..widths.len()).filter(|at| *at != widest && wide(at)).map(|at| widths[at]).max().unwrap_or(0);
        let step = over.min((widths[widest] - next).max(1));
        widths[widest] = widths[widest].saturating_sub(step).max(least[widest]);
    }
}

/// Some of the columns, and of each row.
pub fn pick(columns: &[Column], rows: &[Vec<Cell>], shown: &[usize]) -> (Vec<Column>, Vec<Vec<Cell>>) {
    let of_row = |row: &Vec<Cell>| shown.iter().map(|at| row[*at].clone()).collect();
    (shown.iter().map(|at| columns[*at].clone()).collect(), rows.iter().map(of_row).collect())
}

/// Whether texts of a column that differ look the same when their ends are cut off.
fn alike_when_cut(rows: &[Vec<Cell>], at: usize, width: usize) -> bool {
    let texts: HashSet<&str> = rows.iter().map(|row| cell_text(&row[at])).collect();
    texts.iter().map(|text| cut(text, width)).collect::<HashSet<_>>().len() < texts.len()
}

/// The least width at which texts of a column that differ look different, cut at their ends or in their middle; as any text if none will do.
fn told_apart(rows: &[Vec<Cell>], at: usize) -> usize {
    let texts: HashSet<&str> = rows.iter().map(|row| cell_text(&row[at])).collect();
    let differ = |width: &usize| {
        let count = |cut: fn(&str, usize) -> String| texts.iter().map(|text| cut(text, *width)).collect::<HashSet<_>>().len();
        count(cut) == texts.len() || count(cut_in_the_middle) == texts.len()
    };
    (TEXT_WIDTH_MIN..=NAME_WIDTH_MAX).find(differ).unwrap_or(TEXT_WIDTH_MIN)
}

/// Rows shown one line per column; `first` is the number of the first row.
pub fn expanded(columns: &[Column], rows: &[Vec<Cell>], first: usize, style: &Style) -> String {
    let heading = columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
    let (bar, dash) = if style.unicode { ("│", "─") } else { ("|", "-") };
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        let title = format!("{dash}[ row {} ]", first + at);
        let line = dash.repeat((heading + 20).saturating_sub(title.width()));
        out.push_str(&paint(&format!("{title}{line}"), "2", style));
        out.push('\n');
        for (column, cell) in columns.iter().zip(row) {
            let name = paint(&pad(&column.name, heading, false, false), "1", style);
            let text = cell_text(cell);
            let text = match style.width {
                Some(width) if !column.number => cut(text, width.saturating_sub(heading + 3).max(TEXT_WIDTH_MIN)),
                _ => text.to_owned(),
            };
            let text = if *cell == Cell::Null { paint(&text, "2", style) } else { text };
            out.push_str(&format!("{name} {bar} {text}\n"));
        }
    }
    out
}

/// Bytes of the values of a row.
pub fn text_bytes(row: &[Cell]) -> usize {
    row.iter().map(|cell| cell_text(cell).len()).sum()
}

fn cell_text(cell: &Cell) -> &str {
    match cell {
        Cell::Null => "NULL",
        Cell::Text(text) => text,
    }
}

/// `text` in at most `width` columns, with an ellipsis if something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut out = String::new();
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if taken + next + 1 > width {
            break;
        }
        taken += next;
        out.push(c);
    }
    out.push('…');
    out
}

/// As [`cut`], but what is left out is the middle.
fn cut_in_the_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let front = cut(text, width / 2 + 1);
    let mut room = width.saturating_sub(front.width());
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= room;
        room = if fits { room - wide } else { 0 };
        fits
    };
    let back: Vec<char> = text.chars().rev().take_while(fits).collect();
    front + &back.into_iter().rev().collect::<String>()
}

fn pad(text: &str, width: usize, right: bool, last: bool) -> String {
    let missing = " ".repeat(width.saturating_sub(text.width()));
    match (right, last) {
        (true, _) => missing + text,
        (false, true) => text.to_owned(),
        (false, false) => text.to_owned() + &missing,
    }
}

fn paint(text: &str, code: &str, style: &Style) -> String {
    if style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Cell {
        Cell::Text(value.to_owned())
    }

    fn column(name: &str, number: bool) -> Column {
        Column { name: name.to_owned(), number, whole: false }
    }

    const PLAIN: Style = Style { width: None, unicode: true, color: false };

    fn table(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> String {
        let layout = Layout::fit(columns, rows, style).expect("fits");
        layout.head(columns, style) + &layout.rows(columns, rows, style)
    }

    #[test]
    fn numbers_stand_right_and_null_is_seen() {
        let columns = [column("city", false), column("rides", true), column("note", false)];
        let rows = [vec![text("Köln"), text("7"), Cell::Null], vec![text("Zürich-Nord"), text("1234"), text("x")]];
        assert_eq!(
            table(&columns, &rows, &PLAIN),
            " city        │ rides │ note\n─────────────┼───────┼──────\n Köln        │     7 │ NULL\n Zürich-Nord │  1234 │ x\n"
        );
    }

    #[test]
    fn text_is_cut_to_the_terminal_but_numbers_are_not() {
        let columns = [column("comment", false), column("n", true)];
        let rows = [vec![text("a very long remark about nothing at all"), text("1234567890123456789")]];
        let style = Style { width: Some(40), ..PLAIN };
        let out = table(&columns, &rows, &style);
        assert!(out.lines().all(|line| line.width() <= 40), "{out}");
        assert!(out.contains("1234567890123456789") && out.contains('…'), "{out}");
        let narrow = Style { width: Some(30), ..PLAIN };
        assert_eq!(Layout::fit(&columns, &rows, &narrow), None);
        assert_eq!(Layout::nearly(&columns, &rows, &narrow).widths, [12, 19]);
    }

    #[test]
    fn two_wide_columns_share_the_loss() {
        let columns = [column("a", false), column("b", false)];
        let rows = [vec![text(&"x".repeat(100)), text(&"y".repeat(60))]];
        let layout = Layout::fit(&columns, &rows, &Style { width: Some(85), ..PLAIN }).expect("fits");
        assert_eq!(layout.widths.iter().sum::<usize>(), 80);
        assert!(layout.widths[0].abs_diff(layout.widths[1]) <= 1, "{:?}", layout.widths);
    }

    #[test]
    fn headings_give_way_before_names_and_names_stay_different() {
        let columns = [column("pipeline", false), column("a_very_long_heading", true), column("deduplicated", true), column("lag", true)];
        let names = ["gold.trips_by_city_and_hour", "gold.trips_by_city_and_day", "gold.trips_by_driver"];
        let rows: Vec<Vec<Cell>> = names.iter().map(|name| vec![text(name), text("7"), text("12"), Cell::Null]).collect();
        let wide = table(&columns, &rows, &Style { width: Some(60), ..PLAIN });
        assert!(names.iter().all(|name| wide.contains(name)), "{wide}");
        let narrow = table(&columns, &rows, &Style { width: Some(45), ..PLAIN });
        assert!(narrow.lines().all(|line| line.width() <= 45), "{narrow}");
        let shown: HashSet<&str> = narrow.lines().skip(2).map(|line| line.split('│').next().unwrap_or_default()).collect();
        assert_eq!(shown.len(), 3, "{narrow}");
        assert!(narrow.contains("and_hour") && narrow.contains("and_day"), "{narrow}");
    }

    /// The columns of SHOW PIPELINES and SHOW JOBS at the widths of terminals.
    #[test]
    fn rows_of_listings_are_told_apart_by_their_names() {
        let names = ["gold.ride_totals_by_city_and_hour", "gold.ride_totals_by_city_and_day", "gold.ride_totals_by_zone_and_hour"];
        let number = |name: &str| column(name, true);
        let time = Column { name: "started".into(), number: false, whole: true };
        let counts = ["rows_in", "rows_out", "late", "quarantined", "deduplicated"].map(number);
        let pipelines = [
            column("pipeline", false),
            column("state", false),
            number("epoch"),
            column("age", false),
            column("behind", false),
            number("lag"),
        ];
        let jobs = [column("job", false), column("schedule", false), column("status", false), time, number("took_ms"), number("rows")];
        let of_pipeline = ["running", "48213", "3 s", "12 s", "0", "123456789", "123456000", "17", "3", "456"];
        let of_job = ["every 10 minutes", "succeeded", "2026-01-01T00:00:00Z", "1234", "123456", "48213", "2"];
        for (width, columns, values) in [
            (80, pipelines.into_iter().chain(counts).collect::<Vec<_>>(), of_pipeline.as_slice()),
            (110, jobs.into_iter().chain(["runs", "failed"].map(number)).chain([column("error", false)]).collect(), of_job.as_slice()),
        ] {
            let row = |name: &&str| {
                let cells = [text(name)].into_iter().chain(values.iter().map(|value| text(value)));
                cells.chain([Cell::Null]).take(columns.len()).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<Cell>> = names.iter().map(row).collect();
            let style = Style { width: Some(width), ..PLAIN };
            let shown = Layout::some(&columns, &rows, &style);
            let (columns, rows) = pick(&columns, &rows, &shown);
            let table = table(&columns, &rows, &style);
            assert!(table.lines().all(|line| line.width() <= width), "{table}");
            let firsts: HashSet<&str> = table.lines().skip(2).map(|line| line.split('│').next().unwrap_or_default()).collect();
            assert!(firsts.len() == names.len() && shown.len() > 4, "{shown:?}\n{table}");
        }
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark_and_leaves_its_neighbours_in_sight() {
        let columns = [column("before", true), column("remark", false), column("after", false)];
        let long = "long ".repeat(600);
        let table = table(&columns, &[vec![text("7"), text(&long), text("seen")]], &Style { width: Some(80), ..PLAIN });
        let line = table.lines().find(|line| line.contains("seen")).unwrap_or_default();
        assert!(table.lines().all(|line| line.width() <= 80) && line.contains("long") && line.contains('…'), "{table}");
        assert!(line.contains('7') && line.trim_end().ends_with("seen"), "{table}");
    }

    #[test]
    fn of_columns_that_do_not_fit_the_first_with_values_are_shown() {
        let columns: Vec<Column> = (0..6).map(|n| column(&format!("column_{n}"), true)).collect();
        let row: Vec<Cell> = (0..6).map(|n| if n == 1 { Cell::Null } else { text(&"9".repeat(10)) }).collect();
        assert_eq!(Layout::some(&columns, &[row], &Style { width: Some(45), ..PLAIN }), [0, 2, 3]);
    }

    #[test]
    fn numbers_are_never_cut() {
        let columns = [column("n", true), column("t", false)];
        let style = Style { width: Some(20), ..PLAIN };
        let layout = Layout::fit(&columns, &[vec![text("1"), text("a")]], &style).expect("fits");
        assert!(layout.rows(&columns, &[vec![text("1234567890123456789"), text("b")]], &style).contains("1234567890123456789"));
    }

    #[test]
    fn wide_characters_count_twice_and_are_cut_whole() {
        assert_eq!(cut("東京都庁", 5), "東京…");
        assert_eq!(cut("東京都庁", 8), "東京都庁");
    }

    #[test]
    fn expanded_shows_a_line_per_column() {
        let columns = [column("city", false), column("n", true)];
        let out = expanded(&columns, &[vec![text("Bern"), Cell::Null]], 3, &PLAIN);
        assert_eq!(out, "─[ row 3 ]──────────────\ncity │ Bern\nn    │ NULL\n");
    }
}
