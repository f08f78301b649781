//! What the plan of a streaming table means, as data: of its sources what it reads, its stages with their steps, and the columns of the table.
//!
//! Made beside the operators (`plan.rs`), and what everything else is made from that must know the plan: the fingerprint that guards state, the
//! difference that `watershed apply` shows, and what `EXPLAIN STREAMING TABLE` says (`explain.rs`). Names of inner columns are for people: a
//! column is known by its place, so that one may be called otherwise without a change of what the plan means.

pub mod difference;
pub mod explain;
pub mod expression;
mod flow;
pub mod lineage;
mod literal;
#[cfg(test)]
mod tests;
pub mod types;
pub mod v1;

use arrow::datatypes::FieldRef;
use serde::Serialize;
use watershed_dialect::definition::SourceColumn;
use watershed_dialect::{Epoch, Metadata, OnViolation};

pub use self::expression::Expression;
use self::flow::Flow;
use self::types::of_field;
use crate::operators::rebase::Rebase;
use crate::state::Layout;

/// The layout of these values. A new one takes all running pipelines' records along: see [`PlanSpec::accepts`].
pub const VERSION: u32 = 2;
/// The layout of fingerprints. Those of layout 2 are hashes of all of a plan, so a column more was another plan.
const FINGERPRINT: u32 = 3;

/// A plan.
#[derive(Debug, Clone)]
pub struct PlanSpec {
    /// [`VERSION`].
    pub version: u32,
    /// What is read.
    pub sources: Vec<SourceSpec>,
    /// The stages, each after those whose rows it takes.
    pub stages: Vec<StageSpec>,
    /// How often the query asks for the rows of a key to be brought together.
    pub crossings: usize,
    /// The columns of the table.
    pub table: Vec<ColumnSpec>,
    /// The fingerprint of layout 1.
    pub v1: String,
}

/// A stage: steps that one task runs one after another, for its part of the rows.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// The source that it is beside, by its place; `None` after an exchange.
    pub source: Option<usize>,
    /// The stages whose rows it takes; none beside a source.
    pub inputs: Vec<usize>,
    /// Which rows a task has.
    pub sharing: Sharing,
    /// The steps.
    pub steps: Vec<StepSpec>,
    /// Steps that need the rows of a key together and have them so, as the stage's own keys are among theirs: place, and these keys.
    pub together: Vec<(usize, Vec<String>)>,
}

/// How rows are shared out to the tasks of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// A task reads whole partitions of the source.
    ByPartition,
    /// A task has the rows of its keys.
    ByKey {
        /// Places of the key columns in the rows that come.
        keys: Vec<usize>,
        /// What the keys are called.
        names: Vec<String>,
    },
    /// One task has all rows.
    ToOne,
}

/// What a plan reads of a source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceSpec {
    /// The source.
    pub name: String,
    /// The columns that are read, in this order.
    pub columns: Vec<ColumnSpec>,
    /// The event time's place among them, if the source has one.
    pub time: Option<usize>,
    /// How far the watermark lags, in microseconds; absent without an event time.
    pub delay_us: Option<i64>,
}

/// A column of a source or of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnSpec {
    /// Its name.
    pub name: String,
    /// Its type, and whether it may be NULL.
    pub data_type: String,
    /// Where it comes from if not from the message's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// What numbers in the message count, if the column says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Which field of another column it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Where its values are kept as the text they are written in: see [`SourceColumn::json`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<Vec<usize>>,
}

impl ColumnSpec {
    /// A column of a table.
    pub(crate) fn of(field: &FieldRef) -> Self {
        Self { name: field.name().clone(), data_type: of_field(field), metadata: None, epoch: None, within: None, json: Vec::new() }
    }

    /// A column of a source.
    pub(crate) fn read(column: &SourceColumn) -> Self {
        let unit = |epoch: Epoch| Epoch::ALL.iter().find(|(_, known)| *known == epoch).map(|(name, _)| (*name).to_owned());
        Self {
            metadata: column.metadata.map(|from| metadata_name(from).to_owned()),
            epoch: column.epoch.and_then(unit),
            within: (!column.path.is_empty()).then(|| column.path.join(".")),
            json: column.json.clone(),
            ..Self::of(&column.field)
        }
    }
}

/// A column that a step computes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Computed {
    /// Its name; not part of what it means.
    #[serde(skip)]
    pub name: String,
    /// What is computed.
    pub expression: Expression,
    /// Its type, and whether it may be NULL.
    pub data_type: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepSpec {
    /// `WHERE`
    Filter {
        /// What must be true.
        predicate: Expression,
    },
    /// `SELECT`
    Project {
        /// All columns of the rows that leave.
        columns: Vec<Computed>,
    },
    /// `UNION ALL` of parts that read one source.
    Fork {
        /// The steps of each part.
        ways: Vec<Vec<StepSpec>>,
    },
    /// `TUMBLE`, `HOP`, `CUMULATE`
    AssignWindows {
        /// Which.
        function: String,
        /// Length of the (longest) window.
        size_us: i64,
        /// From one window to the next.
        step_us: i64,
        /// Shift of all windows.
        offset_us: i64,
        /// The event time.
        time: Expression,
    },
    /// Sets late rows aside.
    Late {
        /// What is late.
        by: LateBy,
        /// The end of the window, or the event time.
        deadline: Expression,
    },
    /// The first half of `GROUP BY`.
    AggregatePartial {
        /// Start and end of the window.
        window: [Expression; 2],
        /// Keys beside them.
        keys: Vec<Computed>,
        /// Aggregates.
        aggregates: Vec<Computed>,
        /// Whether each partition has its own partial results.
        by_partition: bool,
    },
    /// The second half of `GROUP BY`.
    AggregateFinal {
        /// Where each column of the result comes from: `window_start`, `key 0`, `aggregate 1`.
        columns: Vec<String>,
    },
    /// Gives rows that several records made a place, which tells those of one time apart.
    Place,
    /// Counts time by another column of a window that has ended.
    Rebase {
        /// How.
        to: Rebase,
    },
    /// Puts rows into the order of their event time.
    InOrder {
        /// The event time.
        time: Expression,
    },
    /// `OVER`
    Over {
        /// The functions with their windows.
        functions: Vec<Computed>,
        /// The longest frame.
        #[serde(skip)]
        reach_us: i64,
    },
    /// `JOIN` within an interval.
    IntervalJoin {
        /// `inner`, `left`, `right`, `full`
        kind: String,
        /// What both rows agree in.
        keys: Vec<Expression>,
        /// The time of the left row less that of the right one is at least this.
        least_us: i64,
        /// It is at most this.
        most_us: i64,
        /// How many columns each side has, after the keys, the time, and the side.
        columns: [usize; 2],
        /// The types of the columns of pairs.
        types: Vec<String>,
    },
    /// `DEDUPLICATE`
    Deduplicate {
        /// Rows that agree in them are repeats.
        keys: Vec<Expression>,
        /// The event time.
        time: Expression,
        /// How close they must be.
        within_us: i64,
    },
    /// `CONSTRAINT … EXPECT`. State means the same with this step and without it.
    Expect {
        /// The constraints.
        rules: Vec<RuleSpec>,
    },
    /// Hands on the table's columns.
    Deliver {
        /// Whether the place of rows goes with them, for sinks.
        #[serde(skip)]
        with_places: bool,
    },
}

/// What makes a row late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LateBy {
    /// The watermark has reached the end of its window.
    Window,
    /// The watermark has passed its own time.
    Time,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSpec {
    /// Its name.
    pub name: String,
    /// What must be true, as written.
    pub predicate: String,
    /// What becomes of rows that violate it.
    #[serde(skip)]
    pub action: OnViolation,
}

impl StepSpec {
    /// Whether state that other steps keep means the same with this step and without it.
    pub fn is_aside(&self) -> bool {
        matches!(self, Self::Expect { .. })
    }

    /// Whether it hands on the first columns as they are, under whatever names.
    fn only_renames(&self) -> bool {
        let stays =
            |(place, column): (usize, &Computed)| matches!(column.expression, Expression::Column { place: from, .. } if from == place);
        matches!(self, Self::Project { columns } if columns.iter().enumerate().all(stays))
    }

    /// Whether it keeps state.
    pub fn keeps_state(&self) -> bool {
        matches!(
            self,
            Self::AggregatePartial { .. }
                | Self::AggregateFinal { .. }
                | Self::InOrder { .. }
                | Self::Over { .. }
                | Self::IntervalJoin { .. }
                | Self::Deduplicate { .. }
        )
    }

    /// All expressions in it.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Filter { predicate } => vec![predicate],
            Self::Project { columns } => columns.iter().map(|column| &column.expression).collect(),
            Self::AssignWindows { time, .. } | Self::InOrder { time } | Self::Late { deadline: time, .. } => vec![time],
            Self::AggregatePartial { keys, aggregates, window, .. } => {
                window.iter().chain(keys.iter().chain(aggregates).map(|column| &column.expression)).collect()
            }
            Self::Over { functions, .. } => functions.iter().map(|column| &column.expression).collect(),
            Self::Deduplicate { keys, time, .. } => keys.iter().chain([time]).collect(),
            Self::IntervalJoin { keys, .. } => keys.iter().collect(),
            Self::Fork { ways } => ways.iter().flatten().flat_map(Self::expressions).collect(),
            Self::AggregateFinal { .. } | Self::Place | Self::Rebase { .. } | Self::Expect { .. } | Self::Deliver { .. } => Vec::new(),
        }
    }
}

impl PlanSpec {
    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &StepSpec> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// How many steps each stage has.
    pub fn layout(&self) -> Layout {
        Layout(self.stages.iter().map(|stage| stage.steps.len()).collect())
    }

    /// All of the plan, as text: equal for plans that make the same rows in the same steps.
    pub fn meaning(&self) -> String {
        // The place of a step is part of the address of state. Where there is none, a step that only gives columns other names means nothing.
        let addressed = self.steps().any(StepSpec::keeps_state);
        let counts = |step: &&StepSpec| !step.is_aside() && (addressed || !step.only_renames());
        let mut kept = self.stages.iter().map(|stage| stage.steps.iter().filter(counts).collect::<Vec<_>>());
        let [source] = self.sources.as_slice() else {
            let stages: Vec<_> = self.stages.iter().map(|stage| (stage.source, &stage.inputs, stage.sharing.keys())).collect();
            return serde_json::to_string(&(self.version, &self.sources, stages, kept.collect::<Vec<_>>(), &self.table))
                .unwrap_or_default();
        };
        let text = Text {
            version: self.version,
            source,
            local: kept.next().unwrap_or_default(),
            exchange: self.stages.get(1).map(|stage| Exchange::of(&stage.sharing, self.crossings)),
            keyed: kept.flatten().collect(),
            table: &self.table,
        };
        // Plain values without maps: this cannot fail, and their order is that of the fields.
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// A hash of what state means, with its layout before it: what epoch records hold.
    pub fn fingerprint(&self) -> String {
        format!("{FINGERPRINT}:{}", Flow::of(self).state())
    }

    /// The fingerprint of layout 2.
    fn v2(&self) -> String {
        format!("2:{:016x}", fnv(self.meaning().as_bytes()))
    }

    /// Whether state of a record with this fingerprint is state of this plan. Records of layout 1 hold the hash of a text.
    pub fn accepts(&self, recorded: &str) -> bool {
        match recorded.split_once(':') {
            None => recorded == self.v1,
            Some(("2", _)) => recorded == self.v2(),
            Some(_) => recorded == self.fingerprint(),
        }
    }
}

/// A plan of one source as layout 2 writes it, from the time when there was one exchange at most: stages after the first follow from what their steps ask for.
#[derive(Serialize)]
struct Text<'a> {
    version: u32,
    source: &'a SourceSpec,
    local: Vec<&'a StepSpec>,
    exchange: Option<Exchange>,
    keyed: Vec<&'a StepSpec>,
    table: &'a [ColumnSpec],
}

/// The first exchange, and whether its keys were shared out: with a second one they were not.
#[derive(Serialize)]
struct Exchange {
    keys: Vec<usize>,
    in_parallel: bool,
    crossings: usize,
}

impl Exchange {
    fn of(sharing: &Sharing, crossings: usize) -> Self {
        let keys = sharing.keys().to_vec();
        Self { in_parallel: crossings == 1 && !keys.is_empty(), keys, crossings }
    }
}

impl Sharing {
    /// Places of the key columns; none unless rows are shared out by key.
    pub fn keys(&self) -> &[usize] {
        match self {
            Self::ByKey { keys, .. } => keys,
            Self::ByPartition | Self::ToOne => &[],
        }
    }
}

/// FNV-1a, 64 bits. Part of what records hold, so it must not change.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What a metadata column is made from. Part of what records hold, so it must not change.
pub(crate) fn metadata_name(metadata: Metadata) -> &'static str {
    match metadata {
        Metadata::Key => "key",
        Metadata::Value => "value",
        Metadata::Topic => "topic",
        Metadata::Partition => "partition",
        Metadata::Offset => "offset",
        Metadata::Timestamp => "timestamp",
        Metadata::Headers => "headers",
        Metadata::File => "file",
        Metadata::Row => "row",
    }
}
