//! The SQL shell: statements and backslash commands in, tables, CSV or JSON out.
//!
//! ```text
//!  prompt.rs (a person)  ─┐                     ┌─► output.rs ─► table.rs
//!                         ├─► input.rs ─► Shell ┤
//!  -c, -f, a pipe ────────┘   command.rs   │    └─► listing.rs (\d, \dn, \df, \?)
//!                                          └─ backend.rs: a session here, or a server
//! ```
//!
//! State: the settings that commands change, and the file named by `\o`. A query runs on threads of
//! its own (`workers.rs`), so the prompt returns at once when it is cancelled, whatever the query is doing.

mod backend;
mod cells;
mod command;
mod complete;
mod input;
mod listing;
mod output;
mod prompt;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use watershed_message::visible_lines;

pub use backend::Backend;
pub use command::HELP;
pub use output::{Expanded, Format};
pub use table::{Cell, Column, Layout, Style, cut, expanded};

use crate::{QueryError, QueryResult};
use command::Command;
use input::{Unit, UnitKind};
use output::{Look, OutputError, Written};

/// Rows of a result that a terminal shows unless set otherwise.
const ROWS_SHOWN: usize = 100;
/// How deep `\i` may nest.
const INCLUDE_DEPTH_MAX: usize = 16;

/// A command that the program around the shell brings along, such as `\status`.
#[async_trait]
pub trait HostCommand: Send + Sync {
    /// Its name, without the backslash.
    fn name(&self) -> &'static str;
    /// One line for `\?`.
    fn help(&self) -> &'static str;
    /// Does it. Ctrl-C drops the future.
    async fn run(&self, arguments: &str) -> Result<(), String>;
}

/// What a shell is to be like.
#[derive(Clone)]
pub struct ShellOptions {
    /// How results are written at first.
    pub format: Format,
    /// Whether the time is said after each statement; `None`: at a prompt only.
    pub timing: Option<bool>,
    /// Where lines typed are remembered; `None`: nowhere.
    pub history: Option<PathBuf>,
    /// True if results go to a terminal: rows are limited, columns cut to its width.
    pub terminal: bool,
    /// Colours.
    pub color: bool,
    /// Commands brought along.
    pub commands: Vec<Arc<dyn HostCommand>>,
}

/// Why a shell or script ended early.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A statement or command failed; what was wrong has been shown already.
    #[error("a statement failed")]
    StatementFailed,
    /// Ctrl-C during a script.
    #[error("cancelled")]
    Cancelled,
    /// Input or output failed.
    #[error("cannot go on: {0}")]
    Io(String),
}

/// What became of one unit of input.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Shown to the person already.
    Failed,
    Cancelled,
    /// `\q`, or nobody reads the output any more.
    Leave,
}

/// A shell over a session here or a server elsewhere.
pub struct Shell {
    backend: Backend,
    options: ShellOptions,
    look: Look,
    timing: bool,
    /// The file named by `\o`.
    output: Option<BufWriter<File>>,
    include_depth: usize,
}

impl Shell {
    /// A shell that reads from `backend`.
    pub fn new(backend: impl Into<Backend>, options: ShellOptions) -> Self {
        let width = options.terminal.then(terminal_width);
        let style = Style { width, unicode: options.terminal, color: options.terminal && options.color };
        let row_limit = if options.terminal { ROWS_SHOWN } else { 0 };
        let look = Look { format: options.format, expanded: Expanded::Auto, row_limit, style };
        let timing = options.timing.unwrap_or(false);
        Self { backend: backend.into(), options, look, timing, output: None, include_depth: 0 }
    }

    /// Runs a text (`-c`, `-f`, a pipe) up to its first failure. `file` is its name in messages.
    pub async fn run_text(&mut self, text: &str, file: Option<&str>) -> Result<(), ShellError> {
        // Editors on Windows put a mark at the beginning of a file.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for unit in input::split(text) {
            match self.run_unit(text, &unit, file).await {
                Outcome::Done => {}
                Outcome::Failed => return Err(ShellError::StatementFailed),
                Outcome::Cancelled => return Err(ShellError::Cancelled),
                Outcome::Leave => break,
            }
        }
        Ok(())
    }

    async fn run_unit(&mut self, text: &str, unit: &Unit, file: Option<&str>) -> Outcome {
        if let Some(command) = command::bare_word(&unit.text).filter(|_| unit.kind == UnitKind::Sql) {
            return Box::pin(self.run_command(command)).await;
        }
        match unit.kind {
            UnitKind::Sql => self.run_sql(&input::in_place(text, unit), file).await,
            UnitKind::Command => {
                let host: Vec<&str> = self.options.commands.iter().map(|command| command.name()).collect();
                match command::parse(&unit.text, &host) {
                    Ok(command) => Box::pin(self.run_command(command)).await,
                    Err(why) => self.fail(&format!("error: {why}")),
                }
            }
        }
    }

    /// Runs SQL; Ctrl-C cancels it.
    async fn run_sql(&mut self, text: &str, file: Option<&str>) -> Outcome {
        let started = Instant::now();
        if self.options.terminal {
            self.look.style.width = Some(terminal_width());
        }
        let result = {
            let work = show(&self.backend, text, &self.look, self.output.as_mut());
            tokio::select! {
                result = work => result,
                _ = tokio::signal::ctrl_c() => {
                    let _ = writeln!(io::stderr(), "cancelled after {}", duration(started.elapsed()));
                    return Outcome::Cancelled;
                }
            }
        };
        match result {
            Ok(shown) => self.say_result(shown, started.elapsed()),
            Err(OutputError::Closed) => Outcome::Leave,
            Err(OutputError::Query(error)) => self.fail(&error.render(text, file)),
            Err(error) => self.fail(&format!("error: {error}")),
        }
    }

    /// The line below a result: how many rows, how long it took.
    fn say_result(&self, shown: Option<Written>, took: Duration) -> Outcome {
        let mut line = match &shown {
            Some(written) if self.look.format == Format::Table || self.output.is_some() => rows_said(written),
            Some(_) => String::new(),
            None => "done".to_owned(),
        };
        if self.timing {
            line = if line.is_empty() { duration(took) } else { format!("{line} in {}", duration(took)) };
        } else if !self.options.terminal {
            return Outcome::Done;
        }
        if let Some(written) = &shown {
            line.push_str(&left_out(written));
        }
        if line.is_empty() {
            return Outcome::Done;
        }
        let (dim, plain) = if self.look.style.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        // With CSV and JSON the result must stay clean.
        let gone =
            if self.look.format == Format::Table { writeln!(io::stdout(), "{dim}{line}{plain}") } else { writeln!(io::stderr(), "{line}") };
        if gone.is_err() { Outcome::Leave } else { Outcome::Done }
    }

    fn fail(&self, message: &str) -> Outcome {
        // Messages hold values of rows, too.
        let message = visible_lines(message);
        let painted = match message.strip_prefix("error:") {
            Some(rest) if self.look.style.color => format!("\x1b[1;31merror:\x1b[0m{rest}"),
            _ => message.clone(),
        };
        // A failure of this has no reader: the outcome says it all the same.
        let _ = writeln!(io::stderr(), "{painted}");
        Outcome::Failed
    }

    async fn run_command(&mut self, command: Command) -> Outcome {
        let text = match command {
            Command::Quit => return Outcome::Leave,
            Command::Help => listing::help(&self.options.commands),
            Command::Tables(word) => return self.list(listing::tables(&self.backend, word.as_deref()).await),
            Command::Describe(table) => return self.list(listing::columns(&self.backend, &table).await),
            Command::Schemas => return self.list(listing::schemas(&self.backend).await),
            Command::Functions(word) => return self.list(listing::functions(&self.backend, word.as_deref()).await),
            Command::Format(format) => {
                self.look.format = format.unwrap_or(self.look.format);
                format!("format is {}", format!("{:?}", self.look.format).to_lowercase())
            }
            Command::Expanded(expanded) => {
                let other = if self.look.expanded == Expanded::On { Expanded::Auto } else { Expanded::On };
                self.look.expanded = expanded.unwrap_or(other);
                format!("one line per column: {}", format!("{:?}", self.look.expanded).to_lowercase())
            }
            Command::Timing(timing) => {
                self.timing = timing.unwrap_or(!self.timing);
                format!("timing is {}", if self.timing { "on" } else { "off" })
            }
            Command::Limit(limit) => {
                self.look.row_limit = limit.unwrap_or(self.look.row_limit);
                match self.look.row_limit {
                    0 => "all rows are shown".to_owned(),
                    rows => format!("{} rows are shown at most: the first and the last", grouped(rows)),
                }
            }
            Command::Output(None) => {
                self.output = None;
                "results go to the terminal".to_owned()
            }
            Command::Output(Some(path)) => match File::create(&path) {
                Ok(file) => {
                    self.output = Some(BufWriter::new(file));
                    format!("results go to {path}")
                }
                Err(why) => return self.fail(&format!("error: cannot write {path}: {why}")),
            },
            Command::Include(path) => return self.include(&path).await,
            Command::Host(name, arguments) => {
                let command = self.options.commands.iter().find(|command| command.name() == name).cloned();
                let Some(command) = command else { return Outcome::Failed };
                return tokio::select! {
                    result = command.run(&arguments) => match result {
                        Ok(()) => Outcome::Done,
                        Err(why) => self.fail(&format!("error: {why}")),
                    },
                    _ = tokio::signal::ctrl_c() => Outcome::Cancelled,
                };
            }
        };
        // What a setting has become interests a person, not a script's reader.
        if self.options.terminal { say(&text) } else { Outcome::Done }
    }

    fn list(&self, listing: Result<listing::Listing, QueryError>) -> Outcome {
        match listing {
            Ok(listing) => match listing.render(&self.look) {
                Ok(text) => say(&text),
                Err(error) => self.fail(&format!("error: {error}")),
            },
            Err(error) => self.fail(&format!("error: {error}")),
        }
    }

    async fn include(&mut self, path: &str) -> Outcome {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(why) => return self.fail(&format!("error: cannot read {path}: {why}")),
        };
        if self.include_depth == INCLUDE_DEPTH_MAX {
            return self.fail(&format!("error: {path}: files include each other more than {INCLUDE_DEPTH_MAX} deep"));
        }
        self.include_depth += 1;
        let result = self.run_text(&text, Some(path)).await;
        self.include_depth -= 1;
        match result {
            Ok(()) => Outcome::Done,
            Err(ShellError::Cancelled) => Outcome::Cancelled,
            Err(_) => Outcome::Failed,
        }
    }
}

/// Plans and runs `text`, writes what comes. `None` if there was nothing to show.
async fn show(backend: &Backend, text: &str, look: &Look, file: Option<&mut BufWriter<File>>) -> Result<Option<Written>, OutputError> {
    let mut counted = backend.begin(text);
    let result = backend.query(text).await;
    if let Some(counted) = &mut counted {
        counted.end_if_failed(&result);
    }
    let QueryResult { stream, has_rows, memory } = result?;
    let schema = stream.schema();
    let batches = stream.map(|batch| batch.map_err(QueryError::from));
    let written = match file {
        Some(file) => {
            let plain = Look { row_limit: 0, style: Style { width: None, unicode: false, color: false }, ..look.clone() };
            output::write(schema, batches, &plain, file).await?
        }
        None if has_rows => output::write(schema, batches, look, &mut BufWriter::new(io::stdout())).await?,
        None => output::write(schema, batches, &Look { format: Format::Json, ..look.clone() }, &mut io::sink()).await?,
    };
    if let Some(mut counted) = counted {
        counted.takes(memory);
        counted.sent(written.rows);
        counted.end(true);
    }
    Ok(has_rows.then_some(written))
}

fn say(text: &str) -> Outcome {
    let text = text.trim_end();
    // Without rows, CSV and JSON may have nothing to say.
    if !text.is_empty() && writeln!(io::stdout(), "{text}").is_err() { Outcome::Leave } else { Outcome::Done }
}

fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(20))
}

fn rows_said(written: &Written) -> String {
    match (written.rows, written.counted_all) {
        (1, _) => "1 row".to_owned(),
        (rows, true) => format!("{} rows", grouped(rows)),
        (rows, false) => format!("more than {} rows", grouped(rows)),
    }
}

/// What of a result is not to be seen, and how to see it.
fn left_out(written: &Written) -> String {
    let mut text = String::new();
    if written.rows > written.first + written.last {
        let last = if written.last > 0 { format!(" and the last {}", grouped(written.last)) } else { String::new() };
        text.push_str(&format!("; the first {}{last} are shown (\\limit 0 shows all)", grouped(written.first)));
    }
    if !written.hidden.is_empty() {
        let columns = if written.hidden.len() == 1 { "1 column does".to_owned() } else { format!("{} columns do", written.hidden.len()) };
        text.push_str(&format!("; {columns} not fit: {} (\\x on shows all)", written.hidden.join(", ")));
    }
    text
}

/// A number with its thousands apart.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time span in the unit a person would use.
pub fn duration(span: Duration) -> String {
    match span.as_secs_f64() {
        seconds if seconds < 0.0995 => format!("{:.0} ms", (seconds * 1e3).max(1.0)),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 60.0 => format!("{seconds:.2} s"),
        seconds => format!("{} min {:02.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use watershed_lake::Warehouse;

    use super::*;
    use crate::Session;

    /// Editors on Windows put one there.
    #[tokio::test]
    async fn a_mark_at_the_beginning_of_a_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (script, output) = (folder.path().join("script.sql"), folder.path().join("output.csv"));
        std::fs::write(&script, "\u{feff}SELECT 7 AS seven;").unwrap();
        let session = Session::new(Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap();
        let options =
            ShellOptions { format: Format::Csv, timing: None, history: None, terminal: false, color: false, commands: Vec::new() };
        let mut shell = Shell::new(session, options);
        shell.run_text(&format!("\\o {}\n\\i {}", output.display(), script.display()), None).await.unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "seven\n7\n");
        // As with -f.
        shell.run_text(&std::fs::read_to_string(&script).unwrap(), Some("script.sql")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "seven\n7\nseven\n7\n");
    }

    /// As in psql.
    #[tokio::test]
    async fn a_command_within_a_statement_runs_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output.csv");
        let session = Session::new(Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap();
        let options =
            ShellOptions { format: Format::Table, timing: None, history: None, terminal: false, color: false, commands: Vec::new() };
        let mut shell = Shell::new(session, options);
        let script = format!("SELECT 7\n\\format csv\nAS seven, \\o {}\n8 AS eight;\n\\timing on", output.display());
        shell.run_text(&script, None).await.unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "seven,eight\n7,8\n");
        assert!(shell.timing);
        let failed = shell.run_text("SELECT 9\n\\no_such\nAS nine;", None).await;
        assert!(matches!(failed, Err(ShellError::StatementFailed)), "{failed:?}");
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "seven,eight\n7,8\n", "nothing runs after a failure");
    }

    #[test]
    fn numbers_and_spans_read_well() {
        assert_eq!(["7", "1,234", "12,345,678"], [7, 1234, 12_345_678].map(grouped).each_ref().map(String::as_str));
        let spans = [12, 999, 1000, 59_994, 61_500].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(spans, ["12 ms", "999 ms", "1.00 s", "59.99 s", "1 min 01 s"]);
    }
}
