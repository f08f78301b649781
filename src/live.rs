//! Pipelines that run in this process, as a table or as one line.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use watershed_lake::TableName;
use watershed_query::shell::{Cell, Column, Layout, Style, duration, expanded, grouped};
use watershed_stream::{Phase, PipelineMetrics};

use crate::terminal::{Terminal, paint};

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

    /// What is on the screen stays there; the next [`Live::rewrite`] begins below.
    pub fn leave(&mut self) {
        self.lines_shown = 0;
    }

    /// Errors of pipelines that have not been said yet.
    pub fn news(&mut self, metrics: &[PipelineMetrics]) -> Vec<String> {
        let mut news = Vec::new();
        for pipeline in metrics {
            let text = match &pipeline.phase {
                Phase::Retrying { error } => format!("{} failed and starts again: {error}", pipeline.pipeline),
                Phase::Failed { error } => format!("{} ended: {error}", pipeline.pipeline),
                _ => continue,
            };
            if self.said.insert(pipeline.pipeline.clone(), text.clone()).as_ref() != Some(&text) {
                news.push(format!("{} {text}", paint("pipeline:", "1;31", self.terminal.color_error())));
            }
        }
        news
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
fn span(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 60_000 => format!("{} min", ms / 60_000),
        ms => duration(std::time::Duration::from_millis(ms.max(0) as u64)),
    }
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}
