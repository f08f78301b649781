//! The prompt: line editing, history, completion, colours; and what Ctrl-C and Ctrl-D mean.
//!
//! Ctrl-C empties the line; on a line that was empty already, a second one leaves, as Ctrl-D does at once. A command within a statement runs
//! at once, and the prompt comes back with the statement, to go on from there.
//!
//! Programs, and terminals without bracketed paste, send many lines at once. What follows the first Enter is kept for the next
//! prompt (rustyline's feature `buffer-redux`), and a tab in it is a tab.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use rustyline::completion::{Completer, Pair};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter, HistoryHinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::complete::{Names, complete, tables_named};
use super::input::{self, UnitKind};
use super::{Backend, Outcome, Shell, ShellError, command};

/// Lines remembered.
const HISTORY_LINES_MAX: usize = 5000;
/// Keys that follow one another faster than this were not typed by a person.
const BURST_US: u64 = 4_000;
/// Completion waits no longer than this for the warehouse.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);

impl Shell {
    /// Reads and runs what a person types until they leave. Needs a multi-threaded runtime.
    pub async fn interactive(&mut self) -> Result<(), ShellError> {
        self.timing = self.options.timing.unwrap_or(true);
        let mut editor = self.editor().map_err(|why| ShellError::Io(why.to_string()))?;
        // Between two prompts the terminal makes a signal of Ctrl-C, which would end the process.
        let mut between = signal(SignalKind::interrupt()).map_err(|why| ShellError::Io(why.to_string()))?;
        let mut interrupted = false;
        // The statement that a command came into.
        let mut begun = String::new();
        loop {
            self.refresh_names(&mut editor).await;
            if between.recv().now_or_never().is_some() && interrupted {
                return Ok(());
            }
            let prompt = ("watershed> ", if self.options.color { "\x1b[1;36mwatershed>\x1b[0m " } else { "watershed> " });
            let initial = std::mem::take(&mut begun);
            match tokio::task::block_in_place(|| editor.readline_with_initial(&prompt, (&initial, ""))) {
                Ok(text) => {
                    interrupted = false;
                    if let Some(statement) = goes_on(&text) {
                        begun = statement + "\n";
                    } else if !text.trim().is_empty() && editor.add_history_entry(text.trim_end()).is_ok() {
                        // One that goes on is remembered when it is whole.
                        self.remember(&mut editor);
                    }
                    if self.run_typed(&text).await == Outcome::Leave {
                        return Ok(());
                    }
                    // One that cancelled a query.
                    let _ = between.recv().now_or_never();
                }
                Err(ReadlineError::Interrupted) if editor.helper().is_some_and(Assistant::has_text) => interrupted = false,
                Err(ReadlineError::Interrupted) if interrupted => return Ok(()),
                Err(ReadlineError::Interrupted) => {
                    interrupted = true;
                    let _ = writeln!(std::io::stdout(), "(Ctrl-C again, Ctrl-D or \\q leaves)");
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(why) => return Err(ShellError::Io(why.to_string())),
            }
        }
    }

    /// Runs all that one Enter sent, but a statement that goes on; the first failure ends it, the prompt returns.
    async fn run_typed(&mut self, text: &str) -> Outcome {
        let goes_on = goes_on(text).is_some();
        for unit in input::split(text) {
            if goes_on && unit.kind == UnitKind::Sql && !unit.complete {
                continue;
            }
            match self.run_unit(text, &unit, None).await {
                Outcome::Done => {}
                other => return other,
            }
        }
        Outcome::Done
    }

    fn editor(&self) -> rustyline::Result<Editor<Assistant, FileHistory>> {
        let color = if self.options.color { ColorMode::Enabled } else { ColorMode::Disabled };
        let config = Config::builder().completion_type(CompletionType::List).color_mode(color).auto_add_history(false);
        let config = config.completion_show_all_if_ambiguous(true).build();
        let mut editor = Editor::with_config(config)?;
        editor.set_max_history_size(HISTORY_LINES_MAX)?;
        editor.set_history_ignore_dups(true)?;
        if let Some(history) = &self.options.history {
            // The first start has none.
            let _ = editor.load_history(history);
        }
        let assistant = Assistant {
            names: Names::default(),
            backend: self.backend.clone(),
            columns: Mutex::default(),
            has_text: AtomicBool::new(false),
            begun: Instant::now(),
            last_key_us: AtomicU64::new(0),
            history: HistoryHinter::new(),
            color: self.options.color,
        };
        editor.set_helper(Some(assistant));
        Ok(editor)
    }

    async fn refresh_names(&self, editor: &mut Editor<Assistant, FileHistory>) {
        let tables = tokio::time::timeout(LOOKUP_TIMEOUT, self.backend.tables()).await;
        let Some(assistant) = editor.helper_mut() else { return };
        if let Ok(Ok(tables)) = tables {
            assistant.names.tables = tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
        }
        if assistant.names.functions.is_empty() {
            let functions = tokio::time::timeout(LOOKUP_TIMEOUT, self.backend.functions()).await;
            assistant.names.functions = functions.ok().and_then(Result::ok).unwrap_or_default();
            let host = self.options.commands.iter().map(|command| command.name());
            assistant.names.commands = super::HELP.iter().map(|(name, ..)| *name).chain(host).map(str::to_owned).collect();
        }
        assistant.columns.lock().expect("lock").clear();
    }

    /// Appends to the history file; that it cannot be written is said once.
    fn remember(&mut self, editor: &mut Editor<Assistant, FileHistory>) {
        let Some(path) = &self.options.history else { return };
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let saved = made.map_err(|why| why.to_string()).and_then(|()| editor.append_history(path).map_err(|why| why.to_string()));
        if let Err(why) = saved {
            let _ = writeln!(std::io::stderr(), "warning: cannot remember lines in {}: {why}", path.display());
            self.options.history = None;
        }
    }
}

/// The statement that has no end yet, and so is not run.
fn goes_on(text: &str) -> Option<String> {
    input::unfinished(text).filter(|statement| command::bare_word(statement).is_none())
}

/// What rustyline asks while a line is typed.
#[derive(Helper)]
struct Assistant {
    names: Names,
    backend: Backend,
    /// Columns by table, asked for when Tab needs them.
    columns: Mutex<HashMap<String, Vec<String>>>,
    /// Whether anything is in the line. Ctrl-C comes without the line.
    has_text: AtomicBool,
    begun: Instant,
    /// When the line last changed, from `begun`.
    last_key_us: AtomicU64,
    history: HistoryHinter,
    color: bool,
}

impl Assistant {
    fn has_text(&self) -> bool {
        self.has_text.load(Ordering::Relaxed)
    }

    /// Called whenever the line has changed, and when a new one begins.
    fn line_changed(&self, line: &str) {
        self.has_text.store(!line.trim().is_empty(), Ordering::Relaxed);
        self.last_key_us.store(self.begun.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// Whether the key before came just now.
    fn in_burst(&self) -> bool {
        (self.begun.elapsed().as_micros() as u64).saturating_sub(self.last_key_us.load(Ordering::Relaxed)) < BURST_US
    }

    /// The columns of the tables that `text` names, as far as the warehouse tells them in time.
    fn columns_of(&self, text: &str) -> HashMap<String, Vec<String>> {
        let mut known = self.columns.lock().expect("lock");
        let mut found = HashMap::new();
        for table in tables_named(text, &self.names) {
            let columns = known.entry(table.clone()).or_insert_with(|| {
                let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, self.backend.describe(&table));
                match Handle::current().block_on(lookup) {
                    Ok(Ok(Some(schema))) => schema.fields().iter().map(|field| field.name().clone()).collect(),
                    _ => Vec::new(),
                }
            });
            found.insert(table, columns.clone());
        }
        found
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if self.in_burst() {
            return Ok((pos, vec![Pair { display: String::new(), replacement: "\t".to_owned() }]));
        }
        let (start, found) = complete(line, pos, &self.names, &self.columns_of(line));
        let only = found.len() == 1;
        let pair = |candidate: String| {
            let space = if only && !candidate.ends_with('(') { " " } else { "" };
            Pair { replacement: candidate.clone() + space, display: candidate }
        };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

/// What is shown after the cursor.
enum Shown {
    /// The rest of an earlier statement; the right arrow takes it.
    Earlier(String),
    /// Why nothing happened.
    NotYet,
}

impl Hint for Shown {
    fn display(&self) -> &str {
        match self {
            Self::Earlier(rest) => rest,
            Self::NotYet => "a semicolon ends the statement",
        }
    }

    fn completion(&self) -> Option<&str> {
        match self {
            Self::Earlier(rest) => Some(rest),
            Self::NotYet => None,
        }
    }
}

impl Hinter for Assistant {
    type Hint = Shown;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<Shown> {
        self.line_changed(line);
        let earlier = self.history.hint(line, pos, context).map(Shown::Earlier);
        earlier.or_else(|| (pos == line.len() && line.ends_with('\n')).then_some(Shown::NotYet))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        Ok(if command::bare_word(text).is_some() || input::is_complete(text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.color { Cow::Owned(format!("\x1b[2m{hint}\x1b[0m")) } else { Cow::Borrowed(hint) }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        false
    }
}
