//! Configuration: `watershed.toml`, then the environment (`WATERSHED_…`), then flags; the later one wins.
//!
//! Every setting is one line of [`SETTINGS`]; its environment variable is its name in capitals with `_` for `.`.
//! Settings under `kafka.` and `storage.` that are not in the list go to the Kafka client and the object store unread.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use watershed_message::Message;

use crate::environment::{self, Variable};
use crate::log;

/// The file looked for in the working folder.
pub const FILE: &str = "watershed.toml";

/// What may be written as the value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// Brokers: `a:9092,b:9092`.
    Brokers,
    /// What is logged: `warn,watershed=debug`.
    Filter,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number.
    Count,
    /// A whole number from 1.
    Places,
    /// A size: `512MiB`.
    Bytes,
    /// `true` or `false`.
    Switch,
    /// A time span: `7d`; may be empty.
    Span,
    /// A time span that there must be, up to a day.
    Limit,
    /// An address to listen on; may be empty.
    Address,
}

/// One setting: name, what may be written, default (`""`: none), meaning.
pub struct Setting {
    /// `section.name`.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// As it would be written.
    pub default: &'static str,
    /// One line for people.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind, default, meaning }
}

use Kind::{Address, Brokers, Bytes, Count, Filter, Limit, Places, Span, Switch, Text, Word};

/// All settings there are.
pub const SETTINGS: &[Setting] = &[
    setting("warehouse", Text, "warehouse", "where tables live: a folder, or s3://bucket/prefix"),
    setting("project", Text, "sql", "the folder of .sql definitions"),
    setting("kafka.bootstrap", Brokers, "localhost:9092", "Kafka brokers, with commas between"),
    setting("stream.parallelism", Count, "0", "tasks (threads) of each stage of a pipeline; 0: processors / pipelines"),
    setting(
        "stream.state_limit",
        Bytes,
        "8GiB",
        "memory that the state of all pipelines may take; beyond it state is put aside, or its pipeline ends",
    ),
    setting("stream.pipeline_state_limit", Bytes, "8GiB", "the same of each pipeline"),
    setting("stream.spill_dir", Text, "", "where state is put aside; else the system's temporary folder"),
    setting("stream.http_address", Address, "", "where `stream` answers /metrics, /healthz and /readyz; nowhere if empty"),
    setting("batch.parallel", Count, "2", "jobs that run at once"),
    setting("batch.memory_limit", Bytes, "1GiB", "memory for jobs; beyond it they spill where queries do, or fail"),
    setting("batch.http_address", Address, "", "where `batch` answers /metrics, /healthz and /readyz; nowhere if empty"),
    setting("serve.http_address", Address, "127.0.0.1:8321", "HTTP of `serve` and the demo: dashboard, SQL, metrics; nowhere if empty"),
    setting("serve.http_queries", Places, "8", "queries over /sql that run at once; panels have places of their own"),
    setting("serve.http_query_wait", Limit, "2s", "how long a further one waits before it is sent away"),
    setting("serve.http_query_time", Limit, "5m", "how long one may take, from the request to the last row"),
    setting("serve.flight_address", Address, "127.0.0.1:8815", "where Flight SQL is served: host:port of this machine; nowhere if empty"),
    setting("lake.compact", Switch, "true", "merge small files of the tables that this process writes, in the background"),
    setting("lake.compact_files", Count, "32", "small files of about one size that must have come together to be merged"),
    setting("lake.file_size", Bytes, "128MiB", "the size of merged files"),
    setting("lake.vacuum_retention", Span, "7d", "how long data files are kept after they were replaced; for ever if empty"),
    setting("lake.log_retention", Span, "7d", "how far back versions of a table can be asked for; fixed when a table is made"),
    setting("query.memory_limit", Bytes, "1GiB", "memory for queries; beyond it they spill or fail"),
    setting("query.spill_dir", Text, "", "where queries spill; else the system's temporary folder"),
    setting("query.spill_limit", Bytes, "32GiB", "how much queries may spill"),
    // The Delta kernel logs as an error what it returns as one, such as that a table is not there yet.
    setting("log.filter", Filter, "warn,watershed=info,buoyant_kernel=off,delta_kernel=off", "what is logged"),
    setting("log.file", Text, "", "where the log goes; else standard error"),
    setting("log.format", Word(&["text", "json"]), "text", "text or json"),
];

/// Less is a mistake.
const MEMORY_MIN_BYTES: u64 = 1 << 20;
/// What is waited for longer than this is not waited for.
const LIMIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// More at once is a mistake.
const PLACES_MAX: usize = 10_000;

/// Sections whose further settings are handed on unread.
const OPEN_SECTIONS: &[&str] = &["kafka", "storage"];

/// What AWS' own tools read and an object store needs: settings of `storage.` under AWS' names. `WATERSHED_STORAGE_…` wins over them.
const AWS_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
];

/// A flag that overrides a setting: the setting, the flag, what was typed after it.
pub type SettingFlag = (&'static str, &'static str, Option<String>);

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// The values in force and where each came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<String, (String, Origin)>,
    /// What is likely a mistake, but stops nothing.
    pub remarks: Vec<String>,
}

impl Config {
    /// Reads `file` (or `watershed.toml` if it is there), then `environment`, then `flags`.
    pub fn load<E>(file: Option<&Path>, environment: E, flags: &[SettingFlag]) -> Result<Self>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        let mut config = Self { values: BTreeMap::new(), remarks: Vec::new() };
        for setting in SETTINGS {
            config.set(setting.name, setting.default.to_owned(), Origin::Default);
        }
        match file {
            Some(path) => config.read_file(path)?,
            None if Path::new(FILE).exists() => config.read_file(Path::new(FILE))?,
            None => {}
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        for (name, value) in environment.iter().filter(|(name, _)| AWS_VARIABLES.contains(&name.as_str())) {
            config.set(&format!("storage.{}", name.to_lowercase()), value.clone(), Origin::Environment(name.clone()));
        }
        for (name, value) in environment {
            match environment::read(&name, &value) {
                Variable::Setting(key) => config.set(&key, value, Origin::Environment(name)),
                Variable::Other => {}
                Variable::Unknown(said) => config.remarks.push(said),
            }
        }
        for (name, flag, value) in flags {
            if let Some(value) = value {
                config.set(name, value.clone(), Origin::Flag(flag));
            }
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: String, origin: Origin) {
        self.values.insert(name.to_owned(), (value, origin));
    }

    /// Another default, for this subcommand.
    pub fn default_to(&mut self, name: &'static str, value: String) {
        if self.chosen(name).is_none() {
            self.set(name, value, Origin::Default);
        }
    }

    /// A setting if someone made it: not its default.
    pub fn chosen(&self, name: &str) -> Option<&str> {
        self.values.get(name).filter(|(_, origin)| *origin != Origin::Default).map(|(value, _)| value.as_str())
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let table: toml::Table = text.parse().map_err(|why| not_toml(path, &text, &why))?;
        for (key, value) in flatten("", &table) {
            if !is_known(&key) {
                let next = did_you_mean(&key, SETTINGS.iter().map(|setting| setting.name));
                bail!(Message::new(format!("{}: there is no setting '{key}'", path.display())).next(next));
            }
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
                _ => bail!("{}: '{key}' must be a text, a number or true/false", path.display()),
            };
            let value = if key.ends_with("_dir") || matches!(key.as_str(), "warehouse" | "project" | "log.file") {
                beside(path, value)
            } else {
                value
            };
            self.set(&key, value, Origin::File(path.to_owned()));
        }
        Ok(())
    }

    /// Reads every setting once, so that a wrong value is reported at the start and not when it is first used.
    fn check(&self) -> Result<()> {
        SETTINGS.iter().try_for_each(|setting| self.check_one(setting))?;
        for property in self.handed_on("kafka").keys() {
            if let Err(why) = known_to_client(property) {
                return Err(self.wrong(&format!("kafka.{property}"), why));
            }
        }
        Ok(())
    }

    fn check_one(&self, setting: &Setting) -> Result<()> {
        let name = setting.name;
        match setting.kind {
            Kind::Text if name == "warehouse" && self.text(name).trim().is_empty() => {
                let message =
                    Message::new("it is empty").next("name a folder, or s3://bucket/prefix; leave it out for the folder 'warehouse'");
                Err(self.wrong(name, message))
            }
            Kind::Text => Ok(()),
            Kind::Brokers => check_brokers(self.text(name)).map_err(|why| self.wrong(name, why)),
            Kind::Filter => log::filter(self.text(name)).map(drop).map_err(|why| self.wrong(name, why)),
            Kind::Word(words) if words.contains(&self.text(name)) => Ok(()),
            Kind::Word(words) => Err(self.wrong(name, Message::new(format!("'{}' is none of {}", self.text(name), words.join(", "))))),
            Kind::Count => self.number(name).map(drop),
            Kind::Places => self.places(name).map(drop),
            Kind::Limit => self.limit(name).map(drop),
            Kind::Bytes if (name.ends_with(".memory_limit") || name.ends_with("state_limit")) && self.bytes(name)? < MEMORY_MIN_BYTES => {
                let message = Message::new(format!("'{}' is too little to compute anything", self.text(name)));
                Err(self.wrong(name, message.next("give it 64MiB or more")))
            }
            Kind::Bytes => self.bytes(name).map(drop),
            Kind::Switch => self.flag(name).map(drop),
            Kind::Span => self.span(name).map(drop),
            Kind::Address => self.address(name).map(drop),
        }
    }

    fn wrong(&self, name: &str, what: Message) -> anyhow::Error {
        let origin = self.values.get(name).map_or(Origin::Default, |(_, origin)| origin.clone());
        anyhow!(what.within(format!("{name} (from {origin})")))
    }

    /// A setting as it was written.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(value, _)| value.as_str())
    }

    /// A setting that may be left out.
    pub fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A count.
    pub fn number(&self, name: &str) -> Result<usize> {
        self.text(name).parse().map_err(|_| self.wrong(name, Message::new(format!("'{}' is not a whole number", self.text(name)))))
    }

    /// A size: `512MiB`, `1GiB`, `2GB`, `1048576`.
    pub fn bytes(&self, name: &str) -> Result<u64> {
        parse_bytes(self.text(name)).map_err(|why| self.wrong(name, why))
    }

    /// A setting that is `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.text(name).parse().map_err(|_| self.wrong(name, Message::new(format!("'{}' is neither true nor false", self.text(name)))))
    }

    /// A time span: `90s`, `5m`, `2h`, `7d`; none if the setting is empty.
    pub fn span(&self, name: &str) -> Result<Option<Duration>> {
        self.optional(name).map(|text| parse_duration(text).map_err(|why| self.wrong(name, why))).transpose()
    }

    /// A count from 1.
    pub fn places(&self, name: &str) -> Result<usize> {
        match self.number(name)? {
            places @ 1..=PLACES_MAX => Ok(places),
            other => Err(self.wrong(name, Message::new(format!("{other} is not between 1 and {PLACES_MAX}")))),
        }
    }

    /// A time span that there must be.
    pub fn limit(&self, name: &str) -> Result<Duration> {
        let text = self.text(name);
        match parse_duration(text).map_err(|why| self.wrong(name, why))? {
            limit if limit <= LIMIT_MAX => Ok(limit),
            _ => Err(self.wrong(name, Message::new(format!("'{text}' is longer than a day")).next("give it 24h or less"))),
        }
    }

    /// An address to listen on; none if the setting is empty.
    pub fn address(&self, name: &str) -> Result<Option<SocketAddr>> {
        let Some(text) = self.optional(name) else { return Ok(None) };
        let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
        let wrong = || self.wrong(name, Message::new(format!("'{text}' is not an address")).next("write for example 127.0.0.1:8815"));
        numeric.parse().map(Some).map_err(|_| wrong())
    }

    /// The settings of an open section that are not Watershed's own, without the section's name.
    pub fn handed_on(&self, section: &str) -> HashMap<String, String> {
        let own = |key: &str| SETTINGS.iter().any(|setting| setting.name == key);
        let prefix = format!("{section}.");
        let entries = self.values.iter().filter(|(key, _)| !own(key));
        entries.filter_map(|(key, (value, _))| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()))).collect()
    }
}

/// Whether these are addresses of brokers, as Kafka's client takes them. A host that cannot be found is told when it is looked for.
fn check_brokers(text: &str) -> Result<(), Message> {
    let brokers: Vec<&str> = text.split(',').map(str::trim).filter(|broker| !broker.is_empty()).collect();
    if brokers.is_empty() {
        return Err(Message::new("it is empty").next("name a broker, such as localhost:9092; leave it out for that one"));
    }
    let is_broker = |broker: &str| {
        let address = broker.split_once("://").map_or(broker, |(_, address)| address);
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !address.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let named = host.trim_matches(['[', ']']);
        let is_host = !named.is_empty() && !named.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ';' | '@'));
        is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match brokers.into_iter().find(|broker| !is_broker(broker)) {
        Some(wrong) => Err(Message::new(format!("'{wrong}' is not a broker")).next("write for example localhost:9092, or a:9092,b:9092")),
        None => Ok(()),
    }
}

/// Whether Kafka's client has a setting of this name; else what may be meant.
fn known_to_client(property: &str) -> Result<(), Message> {
    let names = watershed_ingest::client_settings();
    if names.iter().any(|name| name == property) || watershed_ingest::has_client_setting(property) {
        return Ok(());
    }
    let near = watershed_dialect::did_you_mean(property, names.iter().map(String::as_str).chain(["bootstrap"]));
    let next = near.unwrap_or_else(|| "the names are those of librdkafka, such as security.protocol".into());
    Err(Message::new("Kafka's client has no such setting").next(next))
}

/// Says where a file is not TOML, without the line itself, which may hold a secret.
fn not_toml(path: &Path, text: &str, why: &toml::de::Error) -> anyhow::Error {
    let at = why.span().map_or(String::new(), |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!(" (line {}, column {column})", before.matches('\n').count() + 1)
    });
    anyhow!(Message::new(format!("{} is not valid TOML{at}", path.display())).why(why.message()))
}

/// The environment variable of a setting.
pub fn variable(name: &str) -> String {
    format!("WATERSHED_{}", name.replace('.', "_").to_uppercase())
}

/// The list of settings for `--help`.
pub fn help() -> String {
    let mut out = String::from("Settings, from watershed.toml, the environment and flags; the later wins:\n");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { String::new() } else { format!(" [{}]", setting.default) };
        out.push_str(&format!("  {:<21} {}{default}\n", setting.name, setting.meaning));
    }
    out.push_str("  kafka.*, storage.*    for the Kafka client and the object store, such as kafka.security.protocol\n");
    out.push_str(&format!("In the environment: {}, {}, and so on.\n", variable("warehouse"), variable("kafka.bootstrap")));
    out
}

fn flatten(prefix: &str, table: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut out = Vec::new();
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => out.extend(flatten(&name, inner)),
            value => out.push((name, value.clone())),
        }
    }
    out
}

fn is_known(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == key) || OPEN_SECTIONS.iter().any(|section| key.starts_with(&format!("{section}.")))
}

/// Relative paths in a file start at the folder of the file.
fn beside(file: &Path, value: String) -> String {
    let path = Path::new(&value);
    if value.is_empty() || value.contains("://") || path.is_absolute() {
        return value;
    }
    file.parent().map_or_else(|| value.clone(), |folder| folder.join(path).to_string_lossy().into_owned())
}

/// `did you mean 'x'?` with the nearest of `names`, if one is near.
fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    match watershed_dialect::nearest(word, names) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "`watershed --help` lists all settings".to_owned(),
    }
}

/// A size as typed: `512MiB`, `1GiB`, `2GB`, `1048576`.
pub fn parse_bytes(text: &str) -> Result<u64, Message> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let wrong = || Message::new(format!("'{text}' is not a size")).next("write for example 512MiB or 2GiB");
    let number: f64 = text[..digits].replace('_', "").parse().map_err(|_| wrong())?;
    let unit: f64 = match text[digits..].trim().to_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        "tib" | "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    Ok((number * unit) as u64)
}

/// A time span as typed: `90`, `90s`, `5m`, `2h`, `7d`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, Message> {
    let wrong = || Message::new(format!("'{text}' is not a time span")).next("write for example 90s, 5m, 2h or 7d");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let seconds = match text[digits..].trim() {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
