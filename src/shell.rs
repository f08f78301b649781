//! `watershed shell`: SQL over the lake, at a prompt or from a script.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use watershed_message::Message;
use watershed_query::flight::Remote;
use watershed_query::shell::{Backend, Format, Shell, ShellError, ShellOptions};

use crate::signals::INTERRUPTED;
use crate::{Context, report, warehouse};

/// Query the tables with SQL, at a prompt or from a script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
At the prompt, statements end with a semicolon, Tab completes, \\? lists the commands, Ctrl-C cancels a query. \
With -c, -f or a pipe, the first failure ends it with exit code 1.

Examples:
  watershed shell
  watershed shell -c 'SELECT city, sum(requests) FROM gold.city_demand GROUP BY city'
  watershed shell -f report.sql --output csv > report.csv
  echo 'SHOW TABLES;' | watershed shell --warehouse s3://lake/prod
  watershed shell --url grpc://127.0.0.1:8815     through a running `watershed serve` or demo")]
pub struct Args {
    /// Ask this Flight SQL server instead of reading the warehouse here
    #[arg(long, value_name = "URL", conflicts_with = "warehouse")]
    url: Option<String>,
    /// Run this and leave; may be given several times
    #[arg(short, long, value_name = "SQL")]
    command: Vec<String>,
    /// Run the statements of this file and leave (- for standard input); may be given several times
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// table, csv or json
    #[arg(short, long, value_name = "FORMAT", alias = "format", default_value = "table")]
    output: Format,
    /// Say how long each statement took (the prompt does anyway)
    #[arg(long)]
    timing: bool,
    /// Neither read nor write the history of the prompt
    #[arg(long)]
    no_history: bool,
}

/// Runs what was given, or opens the prompt.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    if args.command.iter().any(|text| text.trim().is_empty()) {
        // A script whose variable is empty must not pass for one that did its work.
        let message = Message::new("there is no statement in -c ''").next("write it after -c; without -c and -f the shell reads a prompt");
        report::error(&message.into(), &context.terminal);
        return Ok(2);
    }
    let (backend, place) = backend(&args, context).await?;
    let scripted = !args.command.is_empty() || !args.file.is_empty() || !context.terminal.input;
    let options = ShellOptions {
        format: args.output,
        timing: args.timing.then_some(true),
        history: if args.no_history || scripted { None } else { history() },
        terminal: context.terminal.output,
        color: context.terminal.color_output(),
        commands: Vec::new(),
    };
    let mut shell = Shell::new(backend, options);
    if !scripted {
        say!("Watershed {} over {place}\n\\? lists commands, \\d tables; statements end with a semicolon.", env!("CARGO_PKG_VERSION"));
        return ended(shell.interactive().await);
    }
    for text in &args.command {
        match shell.run_text(text, None).await {
            Ok(()) => {}
            failed => return ended(failed),
        }
    }
    let piped = args.command.is_empty() && args.file.is_empty();
    let standard_input = piped.then(|| PathBuf::from("-"));
    for path in args.file.iter().chain(&standard_input) {
        let (text, name) = read(path)?;
        match shell.run_text(&text, name.as_deref()).await {
            Ok(()) => {}
            failed => return ended(failed),
        }
    }
    Ok(0)
}

/// What the shell reads from, and its name for people.
async fn backend(args: &Args, context: &Context) -> Result<(Backend, String)> {
    if let Some(url) = &args.url {
        let remote = Remote::connect(url).await?;
        let place = remote.place().to_owned();
        return Ok((remote.into(), place));
    }
    let warehouse = warehouse::open_to_read(&context.config)?;
    let place = warehouse.url().to_string();
    if let Err(nothing) = warehouse::check_there(&warehouse).await {
        // Statements without tables run all the same.
        tell!("{}", report::render(&nothing, context.terminal.color_error()).replacen("error:", "warning:", 1).trim_end());
    }
    Ok((warehouse::session(&context.config, warehouse)?.into(), place))
}

/// Failed statements have said so themselves.
fn ended(result: Result<(), ShellError>) -> Result<u8> {
    match result {
        Ok(()) => Ok(0),
        Err(ShellError::StatementFailed) => Ok(1),
        Err(ShellError::Cancelled) => Ok(INTERRUPTED),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &PathBuf) -> Result<(String, Option<String>)> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok((without_mark(text), None));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((without_mark(text), Some(path.display().to_string())))
}

/// Editors on Windows put a mark at the beginning of a file.
fn without_mark(text: String) -> String {
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

/// Where the prompt's history is kept; `None` if there is no home folder.
pub fn history() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("watershed/history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_at_the_beginning_of_a_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.sql");
        for text in ["\u{feff}SELECT 1;", "SELECT 1;"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), ("SELECT 1;".to_owned(), Some(path.display().to_string())));
        }
    }
}
