//! Backslash commands: what was typed, and what was meant.

use super::output::{Expanded, Format};

/// What a backslash command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `\?`: the list of commands.
    Help,
    /// `\q`: leave.
    Quit,
    /// `\d`, `\dt`: all tables, or those whose name contains the word.
    Tables(Option<String>),
    /// `\d table`: its columns.
    Describe(String),
    /// `\dn`: all schemas.
    Schemas,
    /// `\df [word]`: functions whose name contains the word.
    Functions(Option<String>),
    /// `\format table|csv|json`; without a word, says which.
    Format(Option<Format>),
    /// `\x [on|off|auto]`: one line a column; without a word, on or back to auto.
    Expanded(Option<Expanded>),
    /// `\timing [on|off]`; without a word, the other way.
    Timing(Option<bool>),
    /// `\limit [rows]`: rows shown on a terminal, 0 for all; without a number, says which.
    Limit(Option<usize>),
    /// `\o [file]`: results go to a file; without a name, to the terminal again.
    Output(Option<String>),
    /// `\i file`: runs a file.
    Include(String),
    /// A command that the program around the shell brought along, with its arguments.
    Host(String, String),
}

/// The names of all built-in commands with their arguments and meaning, in the order `\?` shows them.
pub const HELP: &[(&str, &str, &str)] = &[
    ("d", "[table]", "list tables, or the columns of one"),
    ("dt", "[word]", "list tables whose name contains the word"),
    ("dn", "", "list schemas"),
    ("df", "[word]", "list functions whose name contains the word"),
    ("format", "[table|csv|json]", "how results are written"),
    ("x", "[on|off|auto]", "one line per column; auto does so when a row is wider than the terminal"),
    ("limit", "[rows]", "rows shown on a terminal, 0 for all"),
    ("timing", "[on|off]", "say how long each statement took"),
    ("o", "[file]", "write results to a file; without a name, to the terminal again"),
    ("i", "file", "run the statements of a file"),
    ("?", "", "this list"),
    ("q", "", "leave (also Ctrl-D)"),
];

/// Reads a command, typed without its backslash. `host` are the names of the commands brought along.
/// The error says what is wrong and what works.
pub fn parse(text: &str, host: &[&str]) -> Result<Command, String> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let argument = Some(rest.trim().trim_end_matches(';').trim_end()).filter(|word| !word.is_empty());
    let word = || argument.map(str::to_owned);
    Ok(match name.trim_end_matches(';') {
        "?" | "h" | "help" => Command::Help,
        "q" | "quit" | "exit" => Command::Quit,
        "d" => match word() {
            Some(table) => Command::Describe(table),
            None => Command::Tables(None),
        },
        "dt" => Command::Tables(word()),
        "dn" => Command::Schemas,
        "df" => Command::Functions(word()),
        "format" => Command::Format(argument.map(str::parse).transpose()?),
        "x" => Command::Expanded(match argument {
            None => None,
            Some("on") => Some(Expanded::On),
            Some("off") => Some(Expanded::Off),
            Some("auto") => Some(Expanded::Auto),
            Some(other) => return Err(format!("\\x takes on, off or auto, not '{other}'")),
        }),
        "timing" => Command::Timing(match argument {
            None => None,
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(other) => return Err(format!("\\timing takes on or off, not '{other}'")),
        }),
        "limit" => Command::Limit(match argument {
            None => None,
            Some(number) => {
                Some(number.replace('_', "").parse().map_err(|_| format!("\\limit takes a number of rows (0 for all), not '{number}'"))?)
            }
        }),
        "o" => Command::Output(word()),
        "i" => Command::Include(word().ok_or("\\i takes the name of a file")?),
        name if host.contains(&name) => Command::Host(name.to_owned(), argument.unwrap_or_default().to_owned()),
        name => return Err(format!("there is no command \\{name}; \\? lists them all")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        assert_eq!(parse("d", &[]), Ok(Command::Tables(None)));
        assert_eq!(parse("d  silver.x ;", &[]), Ok(Command::Describe("silver.x".into())));
        assert_eq!(parse("q;", &[]), Ok(Command::Quit));
        assert_eq!(parse("format csv", &[]), Ok(Command::Format(Some(Format::Csv))));
        assert_eq!(parse("limit 10_000", &[]), Ok(Command::Limit(Some(10_000))));
        assert_eq!(parse("status 5", &["status"]), Ok(Command::Host("status".into(), "5".into())));
    }

    #[test]
    fn a_wrong_command_says_what_works() {
        assert_eq!(parse("timing perhaps", &[]).unwrap_err(), "\\timing takes on or off, not 'perhaps'");
        assert_eq!(parse("status", &[]).unwrap_err(), "there is no command \\status; \\? lists them all");
        assert_eq!(parse("format xml", &[]).unwrap_err(), "there is no format 'xml'; use table, csv or json");
        assert_eq!(parse("i", &[]).unwrap_err(), "\\i takes the name of a file");
    }
}
