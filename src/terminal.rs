//! What the program is connected to: a person at a terminal, or another program.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use watershed_message::Message;
use watershed_query::shell::{Cell, Column, Layout, Style, expanded};

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What standard input, output and error are.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// A person types.
    pub input: bool,
    /// A person reads the results.
    pub output: bool,
    /// A person reads the messages.
    pub error: bool,
    /// Colours are wanted where a person reads.
    color: bool,
    always: bool,
}

impl Terminal {
    /// Finds out.
    pub fn look(choice: ColorChoice) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Self {
            input: std::io::stdin().is_terminal(),
            output: std::io::stdout().is_terminal(),
            error: std::io::stderr().is_terminal(),
            color: choice != ColorChoice::Never && !refused && !dumb,
            always: choice == ColorChoice::Always,
        }
    }

    /// Colours on standard output.
    pub fn color_output(&self) -> bool {
        self.always || self.color && self.output
    }

    /// Colours on standard error.
    pub fn color_error(&self) -> bool {
        self.always || self.color && self.error
    }

    /// Someone can be asked.
    pub fn interactive(&self) -> bool {
        self.input && self.output
    }

    /// Asks a person; without one it is an error that names `--yes`.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if !self.interactive() {
            bail!(Message::new("there is no terminal to ask at").next("give --yes to go ahead"));
        }
        write!(std::io::stdout(), "{question} [y/N] ")?;
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// How tables are drawn on standard output.
    fn style(&self) -> Style {
        let width = if self.output { terminal_width() } else { None };
        Style { width, unicode: self.output, color: self.color_output() }
    }

    /// A table for standard output; `None` if the window is too narrow for it.
    pub fn fit(&self, columns: &[Column], rows: &[Vec<Cell>]) -> Option<String> {
        let style = self.style();
        let layout = Layout::fit(columns, rows, &style)?;
        Some(layout.head(columns, &style) + &layout.rows(columns, rows, &style))
    }

    /// The same; in a window that is too narrow, with the first of `narrower` that fits: which columns are left.
    pub fn table_of(&self, columns: &[Column], rows: &[Vec<Cell>], narrower: &[&[usize]]) -> String {
        let left = |shown: &&[usize]| {
            let (columns, rows) = picked(columns, rows, shown);
            self.fit(&columns, &rows)
        };
        self.fit(columns, rows).or_else(|| narrower.iter().find_map(left)).unwrap_or_else(|| self.table(columns, rows))
    }

    /// The same; in a window that is too narrow, each value has a line of its own.
    pub fn table(&self, columns: &[Column], rows: &[Vec<Cell>]) -> String {
        self.fit(columns, rows).unwrap_or_else(|| expanded(columns, rows, 1, &self.style()))
    }
}

/// Some columns of a table, in this order.
pub fn picked(columns: &[Column], rows: &[Vec<Cell>], shown: &[usize]) -> (Vec<Column>, Vec<Vec<Cell>>) {
    let of_row = |row: &Vec<Cell>| shown.iter().map(|&at| row[at].clone()).collect();
    (shown.iter().map(|&at| columns[at].clone()).collect(), rows.iter().map(of_row).collect())
}

/// `text` in an ANSI style such as `"1;31"`, or as it is.
pub fn paint(text: &str, style: &str, color: bool) -> String {
    if color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

/// How the terminal was before a prompt changed it.
pub struct Screen(Option<libc::termios>);

impl Screen {
    /// Looks at the terminal of standard input.
    pub fn remember() -> Self {
        let mut now = std::mem::MaybeUninit::uninit();
        // SAFETY: on success the call has filled in the whole structure.
        Self(unsafe { (libc::tcgetattr(libc::STDIN_FILENO, now.as_mut_ptr()) == 0).then(|| now.assume_init()) })
    }

    /// Makes it so again.
    pub fn restore(&self) {
        let Some(before) = &self.0 else { return };
        // SAFETY: reads the structure only. If the terminal is gone, there is nothing to restore.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, before) };
        // Pasted text is marked only where a prompt understands the marks.
        let _ = write!(std::io::stdout(), "\x1b[?2004l\r");
    }
}

/// Columns and lines of the terminal; `None` where there is none.
pub fn terminal_size() -> Option<(usize, usize)> {
    terminal_size::terminal_size().map(|(width, height)| (usize::from(width.0), usize::from(height.0)))
}

/// Columns of the terminal; `None` where there is none.
fn terminal_width() -> Option<usize> {
    terminal_size().map(|(width, _)| width)
}
