//! Pipelines that run in this process, as a table or as one line.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use watershed_lake::TableName;
use watershed_query::shell::{Cell, Column, Layout, Style, duration, expanded, grouped};
use watershed_stream::{Phase, PipelineMetrics};

use crate::terminal::{Terminal, paint, terminal_width};

/// Shows metrics again and again. State: the last counts (for rates), what was said, how many lines stand on the screen.
pub struct Live {
    terminal: Terminal,
    before: HashMap<TableName, (Instant, u64, f64)>,
    /// Errors that were shown already.
    said: HashMap<TableName, String>,
    lines_shown: usize,
}

impl Live {
    /// For this terminal.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal, before: HashMap::new(), said: HashMap::new(), lines_shown: 0 }
    }

    /// Rows read per second since the last call, by pipeline. Calls within half a second repeat the last answer.
    fn rates(&mut self, metrics: &[PipelineMetrics]) -> Vec<f64> {
        let now = Instant::now();
        let mut rates = Vec::with_capacity(metrics.len());
        for pipeline in metrics {
            let rows = pipeline.counters.rows_in;
            let entry = self.before.entry(pipeline.pipeline.clone()).or_insert((now, rows, 0.0));
            let seconds = now.duration_since(entry.0).as_secs_f64();
            if seconds >= 0.5 {
                *entry = (now, rows, rows.saturating_sub(entry.1) as f64 / seconds);
            }
            rates.push(entry.2);
        }
        rates
    }

    /// The pipelines as a table.
    pub fn table(&mut self, metrics: &[PipelineMetrics]) -> String {
        let rates = self.rates(metrics);
        let number = |name: &str| Column { name: name.to_owned(), number: true, whole: true };
        let text = |name: &str| Column { name: name.to_owned(), number: false, whole: true };
        let columns = [
            text("table"),
            text("state"),
            number("rows/s"),
            number("rows in"),
            number("out"),
            number("late"),
            number("quarantined"),
            number("duplicates"),
            number("lag"),
            number("watermark"),
            number("epoch"),
        ];
        let rows: Vec<Vec<Cell>> = metrics.iter().zip(rates).map(|(pipeline, rate)| row(pipeline, rate)).collect();
        let width = if self.terminal.output { terminal_width() } else { None };
        let style = Style { width, unicode: self.terminal.output, color: self.terminal.color_output() };
        match Layout::fit(&columns, &rows, &style) {
            Some(layout) => layout.head(&columns, &style) + &layout.rows(&columns, &rows, &style),
            None => expanded(&columns, &rows, 1, &style),
        }
    }

    /// Everything in one line, for logs and pipes.
    pub fn line(&mut self, metrics: &[PipelineMetrics]) -> String {
        let rate: f64 = self.rates(metrics).iter().sum();
        let sum = |value: &dyn Fn(&PipelineMetrics) -> u64| grouped(metrics.iter().map(value).sum::<u64>() as usize);
        let running = metrics.iter().filter(|pipeline| pipeline.phase == Phase::Running).count();
        let behind = metrics.iter().filter_map(|pipeline| pipeline.watermark_lag_ms).max();
        let behind = behind.map_or("no watermark yet".to_owned(), |ms| format!("watermark {} behind", span(ms)));
        format!(
            "{running}/{} pipelines running, {} rows/s, {} in, {} out, {} late, {} quarantined, {} duplicates, lag {}, {behind}, {} commits",
            metrics.len(),
            grouped(rate.round() as usize),
            sum(&|pipeline| pipeline.counters.rows_in),
            sum(&|pipeline| pipeline.counters.rows_out),
            sum(&|pipeline| pipeline.counters.rows_late),
            sum(&|pipeline| pipeline.counters.rows_quarantined),
            sum(&|pipeline| pipeline.counters.rows_deduplicated),
            sum(&|pipeline| pipeline.lag_records),
            sum(&|pipeline| pipeline.commits),
        )
    }

    /// Writes `text` over what the last call wrote, on a terminal.
    pub fn rewrite(&mut self, text: &str) {
        let up = if self.lines_shown > 0 { format!("\x1b[{}A\r\x1b[J", self.lines_shown) } else { String::new() };
        let mut out = std::io::stdout().lock();
        // If the terminal is gone, the signal that says so ends the program.
        let _ = out.write_all(format!("{up}{text}").as_bytes()).and_then(|()| out.flush());
        self.lines_shown = text.lines().count();
    }

    /// Errors of pipelines that have not been said yet.
    pub fn news(&mut self, metrics: &[PipelineMetrics]) -> Vec<String> {
        let error = |pipeline: &PipelineMetrics| match &pipeline.phase {
            Phase::Retrying { error } => Some((false, error.clone())),
            Phase::Failed { error } => Some((true, error.clone())),
            _ => None,
        };
        let found = metrics.iter().filter_map(|pipeline| Some((&pipeline.pipeline, error(pipeline)?)));
        found.filter_map(|(table, (ended, error))| self.failure(table, ended, &error)).collect()
    }

    /// How a failure is said; `None` if it was said before.
    pub fn failure(&mut self, table: &TableName, ended: bool, error: &str) -> Option<String> {
        let said = format!("{ended} {error}");
        if self.said.insert(table.clone(), said.clone()).as_ref() == Some(&said) {
            return None;
        }
        let what = if ended { "ended" } else { "failed and starts again" };
        let (error, hint) = error.split_once("; ").map_or((error, String::new()), |(error, hint)| (error, format!("\n  hint: {hint}")));
        let name = paint(&table.to_string(), "1;31", self.terminal.color_error());
        Some(format!("{name} {what}: {error}{hint}"))
    }

    /// Writes failures to standard error, the table on the screen out of their way.
    pub fn tell(&mut self, metrics: &[PipelineMetrics]) {
        let news = self.news(metrics);
        if news.is_empty() {
            return;
        }
        if self.lines_shown > 0 {
            self.rewrite("");
        }
        for text in news {
            eprintln!("{text}");
        }
    }
}

fn row(pipeline: &PipelineMetrics, rate: f64) -> Vec<Cell> {
    let text = |text: String| Cell::Text(text);
    let number = |number: u64| Cell::Text(grouped(number as usize));
    vec![
        text(pipeline.pipeline.to_string()),
        text(pipeline.phase.name().to_owned()),
        number(rate.round() as u64),
        number(pipeline.counters.rows_in),
        number(pipeline.counters.rows_out),
        number(pipeline.counters.rows_late),
        number(pipeline.counters.rows_quarantined),
        number(pipeline.counters.rows_deduplicated),
        number(pipeline.lag_records),
        text(pipeline.watermark_lag_ms.map_or("-".to_owned(), |ms| format!("-{}", span(ms)))),
        number(pipeline.epoch),
    ]
}

/// A distance in time as a person reads it.
pub fn span(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 60_000 => format!("{} min", ms / 60_000),
        ms => duration(std::time::Duration::from_millis(ms.max(0) as u64)),
    }
}
