//! What the statements define: sources, streaming tables, materialized views and sinks, as plain values.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

/// An unbounded input: what `CREATE SOURCE` says.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDefinition {
    /// The name by which queries read it, without quotes.
    pub name: String,
    /// Columns in declared order, metadata columns included.
    pub columns: Vec<SourceColumn>,
    /// The event-time column and how much disorder is expected; `None` if there is no `WATERMARK` clause.
    pub watermark: Option<WatermarkDefinition>,
    /// Where rows come from.
    pub connector: Connector,
    /// How a message becomes a row.
    pub format: Format,
    /// Where a pipeline begins that has no record yet.
    pub start: Start,
    /// What becomes of rows that cannot be decoded, cast or accepted.
    pub on_error: OnError,
    /// What becomes of messages without a value.
    pub tombstones: Tombstones,
    /// What becomes of a pipeline whose next records were deleted before it could read them.
    pub on_gap: OnGap,
    /// An event time further ahead than this of Kafka's append timestamp (or the time at which the file was written), or of when it was read, is not
    /// accepted (default one day).
    pub max_skew: Duration,
    /// A partition that is caught up for this long no longer holds back the watermark (default 10 seconds).
    pub idle_timeout: Duration,
}

/// One column of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceColumn {
    /// Name, Arrow type and nullability.
    pub field: FieldRef,
    /// Set if the column comes from the message's coordinates instead of its value.
    pub metadata: Option<Metadata>,
    /// What numbers in the message count, of a TIMESTAMP; `None` if it is not said: then milliseconds.
    pub epoch: Option<Epoch>,
    /// Set if the column is a field within another one: that column's name, then the names of the fields down to it.
    pub path: Vec<String>,
    /// Where type JSON was written: for each place the numbers of the fields that lead to it (0 for the elements of a list), none for the column
    /// itself. The Arrow type there is VARCHAR, and its text is that of the value in the message, whatever that is.
    pub json: Vec<Vec<usize>>,
}

impl SourceColumn {
    /// Whether the column has a value of its own in the record.
    pub fn is_value(&self) -> bool {
        self.metadata.is_none() && self.path.is_empty()
    }
}

/// `TIMESTAMP EPOCH '…'`: the unit of numbers that count since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// `'seconds'`.
    Seconds,
    /// `'milliseconds'`.
    Milliseconds,
    /// `'microseconds'`.
    Microseconds,
    /// `'nanoseconds'`.
    Nanoseconds,
}

impl Epoch {
    /// All, by the name they have in SQL.
    pub const ALL: [(&str, Self); 4] = [
        ("seconds", Self::Seconds),
        ("milliseconds", Self::Milliseconds),
        ("microseconds", Self::Microseconds),
        ("nanoseconds", Self::Nanoseconds),
    ];
}

/// `METADATA FROM '…'`: what can be had of a message beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metadata {
    /// `'key'`: the message key; VARCHAR or BINARY.
    Key,
    /// `'value'`: the whole message as it came; VARCHAR or BINARY.
    Value,
    /// `'topic'`: VARCHAR.
    Topic,
    /// `'partition'`: INT.
    Partition,
    /// `'offset'`: BIGINT.
    Offset,
    /// `'timestamp'`: Kafka's append or create timestamp, or when the file was written; TIMESTAMP.
    Timestamp,
    /// `'headers'`: LIST of STRUCT<key VARCHAR, value BINARY>.
    Headers,
    /// `'file'`: the file's path below the source's folder; VARCHAR. For `connector = 'files'`.
    File,
    /// `'row'`: the row's number in its file, the first being 1; BIGINT. For `connector = 'files'`.
    Row,
}

/// `WATERMARK FOR column AS column - INTERVAL '…'`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDefinition {
    /// The event-time column, a timestamp in microseconds.
    pub column: String,
    /// By how much a row may lag the greatest event time seen in its partition and still be in time, in microseconds.
    pub delay_us: i64,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Connector {
    /// A Kafka topic.
    Kafka {
        /// The topic's name.
        topic: String,
        /// Client settings handed through (`WITH ('kafka.security.protocol' = …)`), without the `kafka.` prefix.
        properties: BTreeMap<String, ClientSetting>,
    },
    /// The files of a folder, those in folders below it included.
    Files {
        /// The folder: a path, `file://…` or `s3://bucket/prefix`.
        path: String,
        /// Only files whose name ends so are read.
        suffix: String,
        /// How often the folder is looked at for new files (default 5 seconds).
        poll_interval: Duration,
    },
}

/// The value of a client setting. `Debug` shows no text: older definitions may hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientSetting {
    /// As it is written in the definition.
    Text(String),
    /// To be looked up where the pipeline runs.
    Secret(Secret),
}

/// Where a secret is found: definitions hold this, never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// `secret('NAME')`: an environment variable of the process that runs the pipeline.
    Environment(String),
    /// `secret_file('/path')`: the text of a file, without the line break at its end.
    File(String),
}

impl fmt::Debug for ClientSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Secret(secret) => fmt::Debug::fmt(secret, f),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "secret('{name}')"),
            Self::File(path) => write!(f, "secret_file('{path}')"),
        }
    }
}

/// Whether a client setting of this name holds a secret.
pub fn is_secret(setting: &str) -> bool {
    let name = setting.to_lowercase();
    let holds = |word: &str| name.contains(word);
    let token = holds("token") && !holds("url") && !holds("endpoint");
    const WORDS: [&str; 10] = [
        "password",
        "passphrase",
        "secret",
        "credential",
        "jaas",
        "key.pem",
        "keystore.key",
        "private.key",
        "user.info",
        "oauthbearer.config",
    ];
    token || WORDS.into_iter().any(holds)
}

/// Whether a value holds a secret, whatever the setting is called: `… password=x`, a private key.
pub fn holds_secret(value: &str) -> bool {
    let value: String = value.to_lowercase().split_whitespace().collect();
    ["password=", "passphrase=", "secret=", "privatekey-----"].into_iter().any(|mark| value.contains(mark))
}

/// The first of these settings that is a secret in clear text.
pub fn clear_secret(settings: &BTreeMap<String, ClientSetting>) -> Option<&str> {
    let is_clear = |name: &str, value: &ClientSetting| matches!(value, ClientSetting::Text(text) if is_secret(name) || holds_secret(text));
    settings.iter().find(|(name, value)| is_clear(name, value)).map(|(name, _)| name.as_str())
}

/// How a message becomes a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// One JSON object a message, or a line of a file; columns are found by name, unknown keys are passed over.
    Json,
    /// Files of comma-separated values, quoted as RFC 4180 says; an empty field is NULL.
    Csv {
        /// What is between two fields.
        delimiter: u8,
        /// Whether the first line names the columns; if not, they are in declared order.
        header: bool,
    },
    /// Parquet files; columns are found by name.
    Parquet,
}

/// `start = 'earliest' | 'latest' | '2026-01-01T00:00:00Z'`: where a pipeline begins in each partition that is there when it first runs. Partitions
/// that are added later are read from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record (the default).
    Earliest,
    /// After the newest record.
    Latest,
    /// With the first record whose Kafka timestamp is this or later, in milliseconds since 1970.
    At {
        /// The time.
        ms: i64,
    },
}

/// `on_error = 'quarantine' | 'fail'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The row goes to `<source>$quarantine` and the pipeline goes on.
    Quarantine,
    /// The pipeline stops with a named error.
    Fail,
}

/// `tombstones = 'error' | 'skip'`: messages with a key and no value, by which a compacted topic says that the key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// They cannot be decoded, and `on_error` says what becomes of them (the default).
    Error,
    /// They are counted and passed over.
    Skip,
}

/// `on_gap = 'fail' | 'skip'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// The pipeline stops with a named error (the default).
    Fail,
    /// It goes on with the oldest record that is there; those it missed are counted.
    Skip,
}

impl SourceDefinition {
    /// The schema queries see.
    pub fn schema(&self) -> SchemaRef {
        Schema::new(self.columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()).into()
    }
}

/// A Delta table that a pipeline keeps writing: what `CREATE STREAMING TABLE … AS` says.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamingTableDefinition {
    /// Schema part of the name.
    pub schema: String,
    /// Table part of the name.
    pub table: String,
    /// `PARTITIONED BY (…)`, columns of the result.
    pub partitioned_by: Vec<String>,
    /// How often an epoch is committed when there is something to commit (default 5 seconds).
    pub commit_interval: Duration,
    /// What becomes of late rows.
    pub late_rows: LateRows,
    /// How far in event time one source may be ahead of another that it meets, if the definition says so.
    pub max_ahead: Option<Duration>,
    /// What must be true of each row, in the order given.
    pub expectations: Vec<Expectation>,
    /// The text of the query after `AS`, as written.
    pub query: String,
}

/// `late_rows = 'divert' | 'drop'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateRows {
    /// To `<table>$late` (the default).
    Divert,
    /// Counted, not kept.
    Drop,
}

/// `CONSTRAINT name EXPECT (predicate) [ON VIOLATION action]`: what must be true of each row of a table.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Under which violations are counted.
    pub name: String,
    /// Over the columns of the result, as written. A row meets it only if it is true: false and NULL violate it.
    pub predicate: String,
    /// What becomes of rows that violate it.
    pub action: OnViolation,
    /// Line on which the predicate begins in the text that was parsed, from 1.
    pub line: u64,
    /// Column at which it begins, in characters from 1.
    pub column: u64,
}

/// Two that say the same are equal, wherever they are written.
impl PartialEq for Expectation {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.predicate, self.action) == (&other.name, &other.predicate, other.action)
    }
}

/// What becomes of a row that violates an expectation; the later ones overrule the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnViolation {
    /// Counted; the row stays (the default).
    Warn,
    /// Counted; the row is left out.
    DropRow,
    /// To `<table>$violations`.
    Quarantine,
    /// The pipeline stops before the row's epoch is decided; the job fails before its commit.
    Fail,
}

impl OnViolation {
    /// As written in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Warn => "WARN",
            Self::DropRow => "DROP ROW",
            Self::Quarantine => "QUARANTINE",
            Self::Fail => "FAIL",
        }
    }
}

/// A Delta table that a job refreshes: what `CREATE MATERIALIZED VIEW … AS` says.
#[derive(Debug, Clone, PartialEq)]
pub struct MaterializedViewDefinition {
    /// Schema part of the name.
    pub schema: String,
    /// Table part of the name.
    pub table: String,
    /// `PARTITIONED BY (…)`, columns of the result.
    pub partitioned_by: Vec<String>,
    /// When it is refreshed.
    pub schedule: Schedule,
    /// One attempt to refresh it may take this long (default one hour).
    pub timeout: Duration,
    /// What must be true of each row, in the order given; none has [`OnViolation::Quarantine`].
    pub expectations: Vec<Expectation>,
    /// The text of the query after `AS`, as written.
    pub query: String,
}

/// When a materialized view is refreshed. Its [`Display`](fmt::Display) is what a person reads in a list of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// There is no clause: only when somebody asks for it.
    OnDemand,
    /// `SCHEDULE CRON '…'`: a cron expression that has been checked, in UTC; with six fields the first is seconds.
    Cron(String),
    /// `SCHEDULE EVERY n UNIT`: at whole multiples of it since 1970, so that every process comes to the same times.
    Every(Duration),
    /// `TRIGGER ON UPDATE [AT MOST EVERY n UNIT]`: when a table that the query reads has a new version.
    OnUpdate {
        /// The least time between the starts of two refreshes (default 10 seconds).
        at_most_every: Duration,
    },
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnDemand => f.write_str("on demand"),
            Self::Cron(expression) => write!(f, "cron {expression}"),
            Self::Every(span) => write!(f, "every {}", length(*span)),
            Self::OnUpdate { at_most_every } => write!(f, "on update, at most every {}", length(*at_most_every)),
        }
    }
}

/// Where the rows of a streaming table are sent: what `CREATE SINK … TO KAFKA` says.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkDefinition {
    /// Its name, without quotes.
    pub name: String,
    /// The Kafka topic. Each row becomes one message, a JSON object.
    pub topic: String,
    /// Client settings handed through (`'kafka.security.protocol' = …`), without the `kafka.` prefix.
    pub properties: BTreeMap<String, ClientSetting>,
    /// With how many partitions the topic is made if it does not exist; `None` if it must exist.
    pub partitions: Option<i32>,
    /// The column of the result that is the message's key; `None` for messages without one.
    pub key: Option<String>,
    /// The column of the result that is the message's id; `None` for ids made of the row's place.
    pub id: Option<String>,
    /// Schema part of the streaming table whose rows are sent.
    pub schema: String,
    /// Table part of it.
    pub table: String,
    /// The text of the query after `AS`, as written: `SELECT … FROM STREAM(schema.table) [WHERE …]`.
    pub query: String,
}

/// `90 seconds`, `1 hour`: in the greatest unit that divides it.
fn length(span: Duration) -> String {
    let ms = span.as_millis() as u64;
    let units = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"), (1, "millisecond")];
    let (size, unit) = units.into_iter().find(|(size, _)| ms.is_multiple_of(*size) && ms > 0).unwrap_or((1, "millisecond"));
    let count = ms / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// One picture of the dashboard: what `CREATE PANEL … AS` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelDefinition {
    /// Its name, in addresses and messages.
    pub name: String,
    /// Shown above it.
    pub title: String,
    /// One line below the title.
    pub about: Option<String>,
    /// How rows become a picture.
    pub chart: Chart,
    /// The column along the picture; `None` for a table.
    pub x: Option<String>,
    /// The column that is measured; `None` for a table.
    pub y: Option<String>,
    /// The column that tells several lines (or maps) apart.
    pub series: Option<String>,
    /// Map: the column that says how large a point is.
    pub size: Option<String>,
    /// Map: the column with a point's name.
    pub label: Option<String>,
    /// What `y` (or `size`) counts.
    pub unit: Option<String>,
    /// Panels come in this order, from 0.
    pub position: u32,
    /// Whether it takes the whole width.
    pub wide: bool,
    /// The text of the query after `AS`, as written.
    pub query: String,
}

/// How the rows of a panel become a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// Lines over time.
    Line,
    /// The same, stacked and filled.
    Area,
    /// Bars by rank.
    Bar,
    /// Points by longitude and latitude.
    Map,
    /// Steps, each a part of the one before.
    Funnel,
    /// Rows as they are.
    Table,
}
