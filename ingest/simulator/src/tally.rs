//! The truth about one windowed table: counters by window and group, for the tables that `sql/gold` defines.
//!
//! Counters of a window lie one after another (`groups × measures`), windows one after another without gaps, so adding a row
//! is an index, not a look-up.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::Topic;
use crate::calendar::SECOND_US;
use crate::geometry::Ground;
use crate::session::{AD_CLICK, AD_IMPRESSION, CAMPAIGNS, REQUEST_RIDE};
use crate::truth::{Facts, type_names};

const MINUTE_US: i64 = 60 * SECOND_US;

/// What a table of `sql/gold` is: how rows find their group, and what each adds to it.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    topic: Topic,
    size_us: i64,
    slide_us: i64,
    dimensions: &'static [&'static str],
    /// The first is `events`, the count of rows: a group without any has no row.
    measures: &'static [&'static str],
    group: fn(&Facts) -> usize,
    add: fn(&Facts, &mut [i64]),
}

static SHAPES: [Shape; 5] = [
    Shape {
        name: "gold.city_demand",
        topic: Topic::RideEvents,
        size_us: MINUTE_US,
        slide_us: MINUTE_US,
        dimensions: &["city"],
        measures: &["events", "requests", "completions", "cancellations", "revenue_cents"],
        group: |facts| usize::from(facts.city),
        add: add_ride,
    },
    Shape {
        name: "gold.hot_zones",
        topic: Topic::RideEvents,
        size_us: 5 * MINUTE_US,
        slide_us: MINUTE_US,
        dimensions: &["city", "zone"],
        measures: &["events", "requests", "completions", "cancellations", "revenue_cents"],
        group: |facts| usize::from(facts.zone),
        add: add_ride,
    },
    Shape {
        name: "gold.driver_supply",
        topic: Topic::DriverLocations,
        size_us: MINUTE_US,
        slide_us: MINUTE_US,
        dimensions: &["city", "state"],
        measures: &["events"],
        group: |facts| usize::from(facts.city) * type_names(Topic::DriverLocations).len() + usize::from(facts.kind),
        add: |_, _| (),
    },
    Shape {
        name: "gold.payments_by_minute",
        topic: Topic::Payments,
        size_us: MINUTE_US,
        slide_us: MINUTE_US,
        dimensions: &["city", "currency"],
        measures: &["events", "authorised", "declined", "refunded", "charged_back", "authorised_amount_cents", "returned_amount_cents"],
        group: |facts| usize::from(facts.city),
        add: |facts, sums| {
            sums[1 + usize::from(facts.kind)] += 1;
            match facts.kind {
                0 => sums[5] += facts.cents,
                1 => (),
                _ => sums[6] += facts.cents,
            }
        },
    },
    Shape {
        name: "gold.campaign_clicks",
        topic: Topic::Clickstream,
        size_us: MINUTE_US,
        slide_us: MINUTE_US,
        dimensions: &["campaign"],
        measures: &["events", "impressions", "clicks", "requests"],
        group: |facts| usize::from(facts.campaign),
        add: |facts, sums| {
            for (index, kind) in [AD_IMPRESSION, AD_CLICK, REQUEST_RIDE].into_iter().enumerate() {
                sums[1 + index] += i64::from(facts.kind == kind);
            }
        },
    },
];

fn add_ride(facts: &Facts, sums: &mut [i64]) {
    for (index, kind) in [0, 4, 5].into_iter().enumerate() {
        sums[1 + index] += i64::from(facts.kind == kind);
    }
    sums[4] += facts.cents;
}

/// What one windowed table must hold, rows that came too late left out.
#[derive(Debug)]
pub struct WindowTruth {
    shape: &'static Shape,
    /// Values of the dimensions by group.
    groups: Vec<Vec<String>>,
    /// `window_start / slide` of the first of `windows`.
    first: i64,
    windows: VecDeque<Box<[i64]>>,
    late_rows: u64,
    late_pairs: u64,
}

/// One row of a windowed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRow<'a> {
    /// `window_start`, in microseconds since 1970.
    pub start_us: i64,
    /// `window_end`, in microseconds since 1970.
    pub end_us: i64,
    /// Values of [`WindowTruth::dimensions`].
    pub group: &'a [String],
    /// Values of [`WindowTruth::measures`]; sums of money in hundredths.
    pub measures: &'a [i64],
}

impl WindowTruth {
    /// Empty truths of all tables.
    pub(crate) fn all(grounds: &[Ground]) -> Vec<Self> {
        let groups = |name: &str| -> Vec<Vec<String>> {
            let cities = grounds.iter().map(|ground| ground.city);
            match name {
                "gold.city_demand" => cities.map(|city| vec![city.name.to_owned()]).collect(),
                "gold.hot_zones" => {
                    cities.flat_map(|city| city.zones.iter().map(|zone| vec![city.name.to_owned(), zone.name.to_owned()])).collect()
                }
                "gold.driver_supply" => cities
                    .flat_map(|city| type_names(Topic::DriverLocations).iter().map(|state| vec![city.name.to_owned(), (*state).to_owned()]))
                    .collect(),
                "gold.payments_by_minute" => cities.map(|city| vec![city.name.to_owned(), city.currency.to_owned()]).collect(),
                _ => CAMPAIGNS.iter().map(|campaign| campaign.name).chain(["none"]).map(|name| vec![name.to_owned()]).collect(),
            }
        };
        let empty = |shape: &'static Shape| Self {
            shape,
            groups: groups(shape.name),
            first: 0,
            windows: VecDeque::new(),
            late_rows: 0,
            late_pairs: 0,
        };
        SHAPES.iter().map(empty).collect()
    }

    pub(crate) fn add(&mut self, facts: &Facts, watermark_us: i64) {
        let Shape { size_us, slide_us, measures, group, add, .. } = *self.shape;
        let at = group(facts) * measures.len();
        let last = facts.event_time_us.div_euclid(slide_us);
        let mut late = 0;
        for window in last - (size_us / slide_us - 1)..=last {
            if window * slide_us + size_us <= watermark_us {
                late += 1;
                continue;
            }
            let sums = &mut self.window(window)[at..at + measures.len()];
            sums[0] += 1;
            add(facts, sums);
        }
        self.late_pairs += late;
        self.late_rows += u64::from(late > 0);
    }

    fn window(&mut self, number: i64) -> &mut [i64] {
        let cells = self.groups.len() * self.shape.measures.len();
        if self.windows.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.windows.push_front(vec![0; cells].into());
            self.first -= 1;
        }
        let index = (number - self.first) as usize;
        while self.windows.len() <= index {
            self.windows.push_back(vec![0; cells].into());
        }
        &mut self.windows[index]
    }

    /// `schema.table`.
    pub fn name(&self) -> &'static str {
        self.shape.name
    }

    /// The topic it is computed from.
    pub fn topic(&self) -> Topic {
        self.shape.topic
    }

    /// Length of its windows in microseconds.
    pub fn size_us(&self) -> i64 {
        self.shape.size_us
    }

    /// Distance of its windows in microseconds: the length, if they do not overlap.
    pub fn slide_us(&self) -> i64 {
        self.shape.slide_us
    }

    /// Names of the columns it is grouped by, beside the window.
    pub fn dimensions(&self) -> &'static [&'static str] {
        self.shape.dimensions
    }

    /// Names of the counts and sums, as in the table but for `…_cents`, which the table holds as a decimal without that ending.
    pub fn measures(&self) -> &'static [&'static str] {
        self.shape.measures
    }

    /// Rows late for at least one of their windows.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// (Row, window) pairs that were late: the rows of `<table>$late`.
    pub fn late_pairs(&self) -> u64 {
        self.late_pairs
    }

    /// (Row, window) pairs that were in time: the sum of `events` over the table.
    pub fn pairs(&self) -> u64 {
        self.rows().map(|row| row.measures[0] as u64).sum()
    }

    /// Its rows in order of window and group, windows that have not closed yet included (see [`crate::Truth::watermark_us`]).
    pub fn rows(&self) -> impl Iterator<Item = WindowRow<'_>> {
        let Shape { size_us, slide_us, measures, .. } = *self.shape;
        self.windows.iter().zip(self.first..).flat_map(move |(cells, number)| {
            let groups = self.groups.iter().zip(cells.chunks(measures.len()));
            groups.filter(|(_, sums)| sums[0] > 0).map(move |(group, sums)| WindowRow {
                start_us: number * slide_us,
                end_us: number * slide_us + size_us,
                group,
                measures: sums,
            })
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let row = |row: WindowRow| {
            let mut object = serde_json::Map::new();
            object.insert("window_start_us".to_owned(), row.start_us.into());
            let dimensions = self.dimensions().iter().zip(row.group).map(|(name, value)| (*name, Value::from(value.as_str())));
            let measures = self.measures().iter().zip(row.measures).map(|(name, value)| (*name, Value::from(*value)));
            object.extend(dimensions.chain(measures).map(|(name, value)| (name.to_owned(), value)));
            Value::Object(object)
        };
        json!({
            "topic": self.topic().name(),
            "size_us": self.size_us(),
            "slide_us": self.slide_us(),
            "late_rows": self.late_rows,
            "late_pairs": self.late_pairs,
            "rows": self.rows().map(row).collect::<Vec<_>>(),
        })
    }
}
