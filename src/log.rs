//! Where the log goes: standard error, or a file.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Context;

/// Starts the log on standard error, unless a setting says otherwise, then does the work.
pub async fn started(context: &Context, work: impl Future<Output = Result<u8>>) -> Result<u8> {
    start(context, None)?;
    work.await
}

/// Starts the log. `file` is where it goes if no setting says otherwise; `None`: standard error.
pub fn start(context: &Context, file: Option<&Path>) -> Result<()> {
    let config = &context.config;
    let path = config.optional("log.file").map(Path::new).or(file);
    let Some(path) = path else {
        return install(context, std::io::stderr, std::io::stderr().is_terminal() && context.terminal.color_error());
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of the log, {}", folder.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write the log to {}", path.display()))?;
    install(context, Mutex::new(file), false)
}

fn install<W>(context: &Context, writer: W, color: bool) -> Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = context.config.text("log.filter");
    let filter =
        EnvFilter::try_new(text).with_context(|| format!("log.filter '{text}' is not a filter; write for example info,watershed=debug"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(color);
    if context.config.text("log.format") == "json" {
        log.json().init()
    } else {
        log.with_target(false).init()
    }
    Ok(())
}
