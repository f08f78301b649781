//! Where the log goes: standard error, or a file. One event a line: as text, or as a JSON object.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use watershed_message::Message;

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
    // A folder of our own is made; one that somebody has named may be misspelt.
    if let Some(folder) = path.parent().filter(|_| config.optional("log.file").is_none()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of the log, {}", folder.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|why| {
        let message = Message::new(format!("cannot write the log to {}", path.display())).why(why.to_string());
        anyhow!(message.next("name as log.file a file in a folder that is there and may be written"))
    })?;
    install(context, Mutex::new(file), false)
}

/// What is logged, as `log.filter` says it. The library would take a word that is no level for the name of a module, of which all is logged.
pub fn filter(text: &str) -> Result<EnvFilter, Message> {
    let wrong =
        |why: String| Message::new(format!("'{text}' is not a filter")).why(why).next("write for example info, or warn,watershed=debug");
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    for part in &parts {
        // Fields of a span are in brackets and have signs of equality of their own.
        let after_span = part.rsplit(']').next().unwrap_or_default();
        let level = after_span.split_once('=').map_or(*part, |(_, level)| level);
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(wrong(format!("'{level}' is none of the levels off, error, warn, info, debug, trace")));
        }
    }
    if parts.is_empty() {
        return Err(wrong("it names no level; 'off' logs nothing".to_owned()));
    }
    EnvFilter::try_new(parts.join(",")).map_err(|why| wrong(why.to_string()))
}

fn install<W>(context: &Context, writer: W, color: bool) -> Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = context.config.text("log.filter");
    let filter = filter(text)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(color);
    // When standard error has no reader any more, that is not reported: writing it there would panic.
    let log = log.log_internal_errors(false);
    if context.config.text("log.format") == "json" {
        log.json().init()
    } else {
        log.with_target(false).map_writer(OneLine).init()
    }
    Ok(())
}

/// Keeps each event on its line: errors of libraries may have several.
struct OneLine<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// An event comes in one piece, with a line break at its end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if !text.contains(&b'\n') {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut line = Vec::with_capacity(event.len() + 16);
        for &byte in text {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                byte => line.push(byte),
            }
        }
        line.extend_from_slice(&event[text.len()..]);
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_of_levels() {
        for right in ["info", "WARN", "off", "info,watershed=debug", " warn , watershed=debug ", "[run{pipeline=gold}]=trace", "warn,"] {
            assert!(filter(right).is_ok(), "{right}");
        }
        for (text, wrong) in [
            ("loud", "loud"),
            ("info,watershed", "watershed"),
            ("watershed=loud", "loud"),
            ("watershed=", ""),
            ("a[b]", "a[b]"),
            ("[{a=b}]", "[{a=b}]"),
        ] {
            let said = filter(text).unwrap_err().to_string();
            let named = format!("'{text}' is not a filter: '{wrong}' is none of the levels off, ");
            assert!(said.starts_with(&named) && said.ends_with("write for example info, or warn,watershed=debug"), "{said}");
        }
        assert!(filter(" ,").unwrap_err().to_string().contains("it names no level"));
    }

    #[test]
    fn an_event_stays_on_its_line() {
        let mut out = OneLine(Vec::new());
        out.write_all(b"WARN failed error=first\r\nsecond pipeline=a\n").unwrap();
        out.write_all(b"INFO done\n").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "WARN failed error=first\\r\\nsecond pipeline=a\nINFO done\n");
    }
}
