//! Rows as a table for people. Pure: values in, text out.
//!
//! Columns shrink to fit the width given (text only: a cut number would be a lie); when that is not enough, rows are shown
//! one line per column. Control characters in values are made visible, so that data cannot steer the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Least width a text column is cut to.
const TEXT_WIDTH_MIN: usize = 12;
/// Least width a heading is cut to.
const HEADING_WIDTH_MIN: usize = 8;

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
    /// Numbers stand right and are never cut.
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
}

/// Makes control characters visible.
pub fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
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

    /// Cuts the widest text column until all fit; the narrowest layout as an error if they do not.
    fn squeeze(columns: &[Column], rows: &[Vec<Cell>], style: &Style) -> Result<Self, Self> {
        let mut widths: Vec<usize> = Vec::with_capacity(columns.len());
        let mut least: Vec<usize> = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            let heading = column.name.width();
            let cells = rows.iter().map(|row| cell_text(&row[at]).width()).max().unwrap_or(0);
            let uncut = if column.number || column.whole { cells } else { cells.min(TEXT_WIDTH_MIN) };
            widths.push(heading.max(cells));
            least.push(uncut.max(heading.min(HEADING_WIDTH_MIN)));
        }
        let Some(limit) = style.width else { return Ok(Self { widths }) };
        // ` a │ b ` takes three characters a column, less the last bar.
        let frame = (3 * columns.len()).saturating_sub(1);
        loop {
            let total: usize = widths.iter().sum::<usize>() + frame;
            if total <= limit {
                return Ok(Self { widths });
            }
            let over = total - limit;
            let Some(widest) = (0..widths.len()).filter(|at| widths[*at] > least[*at]).max_by_key(|at| widths[*at]) else {
                return Err(Self { widths });
            };
            // Down to the next widest, so that columns become alike instead of one being crushed.
            let next = (0..widths.len()).filter(|at| *at != widest && widths[*at] > least[*at]).map(|at| widths[at]).max().unwrap_or(0);
            let step = over.min((widths[widest] - next).max(1));
            widths[widest] = widths[widest].saturating_sub(step).max(least[widest]);
        }
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
                // Without a limit nothing is cut: a later row wider than the first ones only shifts its own line.
                let text = if style.width.is_some() { cut(cell_text(cell), self.widths[at]) } else { cell_text(cell).to_owned() };
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
    fn wide_characters_count_twice_and_are_cut_whole() {
        assert_eq!(cut("東京都庁", 5), "東京…");
        assert_eq!(cut("東京都庁", 8), "東京都庁");
    }

    #[test]
    fn control_characters_cannot_steer_the_terminal() {
        assert_eq!(visible("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
    }

    #[test]
    fn expanded_shows_a_line_per_column() {
        let columns = [column("city", false), column("n", true)];
        let out = expanded(&columns, &[vec![text("Bern"), Cell::Null]], 3, &PLAIN);
        assert_eq!(out, "─[ row 3 ]──────────────\ncity │ Bern\nn    │ NULL\n");
    }
}
