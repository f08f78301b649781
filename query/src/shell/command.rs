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

/// What a single word means that is a statement in other shells.
pub fn bare_word(text: &str) -> Option<Command> {
    match text.trim().trim_end_matches(';').trim_end().to_ascii_lowercase().as_str() {
        "exit" | "quit" | "bye" => Some(Command::Quit),
        "help" | "?" => Some(Command::Help),
        _ => None,
    }
}

/// What does here what a command of psql does there.
const OF_PSQL: &[(&str, &str)] = &[
    ("l", "a warehouse is one database; \\dn lists its schemas"),
    ("c", "another warehouse takes another shell: watershed shell --warehouse URL, or --url grpc://host:port"),
    ("e", "the arrow keys bring a statement back, and it can be edited over several lines"),
    ("g", "a semicolon runs the statement"),
    ("gx", "\\x on shows one line per column"),
    ("pset", "\\format, \\x and \\limit say how results look"),
    ("a", "\\format csv writes rows without a frame"),
    ("t", "\\format csv writes rows without a frame"),
    ("copy", "COPY (SELECT …) TO 'file.csv' writes a file, or \\o FILE with \\format csv"),
    ("du", "there are no users"),
    ("dv", "\\dt lists tables and views"),
    ("ds", "\\dt lists tables and views"),
    ("di", "tables have no indexes; PARTITIONED BY does what they would"),
    ("w", "\\o FILE writes results to a file"),
    ("watch", "the dashboard of `watershed serve` is live"),
];

/// What does here what a command of sqlite or duckdb does there.
const OF_SQLITE: &[(&str, &str)] = &[
    ("tables", "\\dt lists tables"),
    ("schema", "\\d TABLE shows its columns"),
    ("databases", "\\dn lists schemas"),
    ("mode", "\\format table, csv or json"),
    ("headers", "\\format table, csv or json; CSV has a line of headings"),
    ("read", "\\i FILE runs the statements of a file"),
    ("output", "\\o FILE writes results to a file"),
    ("once", "\\o FILE writes results to a file"),
    ("timer", "\\timing on or off"),
    ("maxrows", "\\limit ROWS"),
    ("quit", "\\q leaves"),
    ("exit", "\\q leaves"),
    ("help", "\\? lists the commands"),
];

fn elsewhere(name: &str, known: &[(&str, &str)]) -> String {
    known.iter().find(|(known, _)| *known == name).map_or("\\? lists them all", |(_, here)| here).to_owned()
}

/// Reads a command, typed without its backslash. `host` are the names of the commands brought along.
/// The error says what is wrong and what works.
pub fn parse(text: &str, host: &[&str]) -> Result<Command, String> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if let Some(dotted) = name.strip_prefix('.') {
        let dotted = dotted.trim_end_matches(';');
        return Err(format!("commands begin with a backslash, not with '.{dotted}'; {}", elsewhere(dotted, OF_SQLITE)));
    }
    let argument = Some(rest.trim().trim_end_matches(';').trim_end()).filter(|word| !word.is_empty());
    let word = || argument.map(str::to_owned);
    // What psql's \d+ and \dt+ show more of is not kept here.
    Ok(match name.trim_end_matches(';').trim_end_matches('+') {
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
        name => return Err(format!("there is no command \\{name}; {}", elsewhere(name, OF_PSQL))),
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

    #[test]
    fn people_of_other_shells_find_their_way() {
        assert_eq!(parse("d+ silver.x", &[]), Ok(Command::Describe("silver.x".into())));
        assert_eq!(parse("l", &[]).unwrap_err(), "there is no command \\l; a warehouse is one database; \\dn lists its schemas");
        assert_eq!(parse(".tables", &[]).unwrap_err(), "commands begin with a backslash, not with '.tables'; \\dt lists tables");
        assert!(parse(".nothing;", &[]).unwrap_err().ends_with("'.nothing'; \\? lists them all"));
        assert_eq!(
            ["help;", "Quit", "exit ;", "quit()", "select 1;"].map(bare_word),
            [Some(Command::Help), Some(Command::Quit), Some(Command::Quit), None, None]
        );
    }
}
