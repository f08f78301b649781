//! Pipelines that run in this process, as a table or as one line.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use watershed_lake::TableName;
use watershed_message::Message;
use watershed_query::shell::{Cell, Column, grouped};
use watershed_stream::{Phase, PipelineMetrics};

use crate::say::{ahead, behind};
use crate::terminal::{Terminal, paint, terminal_size};

/// Columns of the table in narrow windows.
const NARROW: [&[usize]; 2] = [&[0, 1, 3, 4, 8, 9], &[0, 1, 3]];

/// Shows metrics again and again. State: the last counts (for rates), what was said, how many lines are on the screen.
pub struct Live {
    terminal: Terminal,
    before: HashMap<TableName, (Instant, u64, f64)>,
    /// Errors that were shown already, and the epoch in which the pipeline was then.
    said: HashMap<TableName, (u64, String)>,
    lines_shown: usize,
    /// Width of the terminal when they were written.
    width_shown: Option<usize>,
}

impl Live {
    /// For this terminal.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal, before: HashMap::new(), said: HashMap::new(), lines_shown: 0, width_shown: None }
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
        let columns: Vec<Column> = vec![
            text("table"),
            text("state"),
            number("rows/s"),
            number("rows in"),
            number("out"),
            number("late"),
            number("quarantined"),
            number("duplicates"),
            number("lag"),
            number("behind"),
            number("epoch"),
        ];
        let rows: Vec<Vec<Cell>> = metrics.iter().zip(rates).map(|(pipeline, rate)| row(pipeline, rate)).collect();
        self.terminal.table_of(&columns, &rows, &NARROW)
    }

    /// Everything in one line, for logs and pipes.
    pub fn line(&mut self, metrics: &[PipelineMetrics]) -> String {
        let rate: f64 = self.rates(metrics).iter().sum();
        let sum = |value: &dyn Fn(&PipelineMetrics) -> u64| grouped(metrics.iter().map(value).sum::<u64>() as usize);
        let running = metrics.iter().filter(|pipeline| pipeline.phase == Phase::Running).count();
        let lags = || metrics.iter().filter_map(|pipeline| pipeline.watermark_lag_ms);
        let behind = match (lags().min().and_then(ahead), lags().max()) {
            (Some(ahead), _) => format!("a watermark {ahead} ahead of the clock"),
            (None, Some(ms)) => format!("behind {}", behind(ms)),
            (None, None) => "no watermark yet".to_owned(),
        };
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
        let (width, height) = terminal_size().unzip();
        let text = cut_to(text, height);
        // Lines that were written at another width are elsewhere now, and those above the window cannot be reached: begin below.
        let reachable = self.lines_shown > 0 && self.width_shown == width && height.is_none_or(|height| self.lines_shown < height);
        let up = if reachable { format!("\x1b[{}A\r\x1b[J", self.lines_shown) } else { String::new() };
        let mut out = std::io::stdout().lock();
        // If the terminal is gone, the signal that says so ends the program.
        let _ = out.write_all(format!("{up}{text}").as_bytes()).and_then(|()| out.flush());
        (self.lines_shown, self.width_shown) = (text.lines().count(), width);
    }

    /// Errors of pipelines that have not been said yet.
    pub fn news(&mut self, metrics: &[PipelineMetrics]) -> Vec<String> {
        for pipeline in metrics {
            // Once it has got on, the same error is news again.
            match self.said.get_mut(&pipeline.pipeline) {
                Some((epoch, said)) if *epoch < pipeline.epoch => (*epoch, *said) = (pipeline.epoch, String::new()),
                _ => {}
            }
        }
        let error = |pipeline: &PipelineMetrics| match &pipeline.phase {
            Phase::Retrying { error } => Some((false, error.clone())),
            Phase::Failed { error } => Some((true, error.clone())),
            _ => None,
        };
        let mut news = Vec::new();
        for pipeline in metrics {
            let Some((ended, error)) = error(pipeline) else { continue };
            news.extend(self.failure(&pipeline.pipeline, ended, &error));
            self.said.entry(pipeline.pipeline.clone()).or_default().0 = pipeline.epoch;
        }
        news
    }

    /// How a failure is said; `None` if it was said before.
    pub fn failure(&mut self, table: &TableName, ended: bool, error: &Message) -> Option<String> {
        let said = format!("{ended} {error}");
        let (_, before) = self.said.entry(table.clone()).or_default();
        if *before == said {
            return None;
        }
        *before = said;
        let what = if ended { "ended" } else { "failed and starts again" };
        let hint = error.next.as_ref().map_or(String::new(), |next| format!("\n  hint: {next}"));
        let name = paint(&table.to_string(), "1;31", self.terminal.color_error());
        Some(format!("{name} {what}: {}{hint}", error.said()))
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
            tell!("{text}");
        }
    }
}

/// As many lines of `text` as fit a window, so that they can be written over.
fn cut_to(text: &str, height: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The cursor is in a line of its own below; and some terminals keep what was there when their whole window is cleared.
    let room = height.map_or(usize::MAX, |height| height.saturating_sub(2).max(2));
    if lines.len() <= room {
        return text.to_owned();
    }
    let mut cut = lines[..room - 1].join("\n");
    cut.push_str(&format!("\n… {} more lines in a higher window\n", lines.len() - (room - 1)));
    cut
}

/// The words of `watershed status`.
fn state(pipeline: &PipelineMetrics) -> &'static str {
    match (&pipeline.phase, &pipeline.failure) {
        (Phase::Retrying { .. } | Phase::Starting | Phase::Running, Some(_)) => "failing",
        (phase, _) => phase.name(),
    }
}

fn row(pipeline: &PipelineMetrics, rate: f64) -> Vec<Cell> {
    let text = |text: String| Cell::Text(text);
    let number = |number: u64| Cell::Text(grouped(number as usize));
    vec![
        text(pipeline.pipeline.to_string()),
        text(state(pipeline).to_owned()),
        number(rate.round() as u64),
        number(pipeline.counters.rows_in),
        number(pipeline.counters.rows_out),
        number(pipeline.counters.rows_late),
        number(pipeline.counters.rows_quarantined),
        number(pipeline.counters.rows_deduplicated),
        number(pipeline.lag_records),
        text(pipeline.watermark_lag_ms.map_or("-".to_owned(), behind)),
        number(pipeline.epoch),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::ColorChoice;

    #[test]
    fn a_text_is_cut_to_the_window() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!([None, Some(7), Some(9)].map(|height| cut_to(text, height)), [text; 3]);
        assert_eq!(cut_to(text, Some(5)), "1\n2\n… 3 more lines in a higher window\n");
        assert_eq!(cut_to(text, Some(1)).lines().count(), 2);
    }

    /// Not `watermark -10 s` here and `behind 13 s` there.
    #[test]
    fn the_distance_of_the_watermark_to_now_has_one_word() {
        let metrics =
            watershed_stream::Metrics::new("gold.a".parse().unwrap(), watershed_stream::hidden::SourceNames::new(["s".to_owned()]));
        let shown = PipelineMetrics { watermark_us: Some(1), watermark_lag_ms: Some(13_000), ..metrics.read() };
        let mut live = Live::new(Terminal::look(ColorChoice::Never));
        assert!(live.line(std::slice::from_ref(&shown)).contains(", behind 13.00 s, "));
        let table = live.table(std::slice::from_ref(&shown));
        assert!(table.contains("behind") && table.contains("13.00 s"), "{table}");
        let ahead = PipelineMetrics { watermark_lag_ms: Some(-400 * 86_400_000), ..shown.clone() };
        assert!(live.table(std::slice::from_ref(&ahead)).contains("400 days ahead"));
        assert!(live.line(&[shown, ahead]).contains(", a watermark 400 days ahead of the clock, "), "the other hides it not");
        assert!(crate::system::pipelines::SHOWN.split(", ").any(|column| column == "behind"), "the same in SHOW PIPELINES");
    }

    /// Values may hold what the parts are shown with.
    #[test]
    fn a_failure_is_shown_whole_and_once() {
        let mut live = Live::new(Terminal::look(ColorChoice::Never));
        let table: TableName = "a.b".parse().unwrap();
        let bare = Message::new("no topic 'x; y: z'");
        assert_eq!(live.failure(&table, true, &bare).unwrap(), "a.b ended: no topic 'x; y: z'");
        assert_eq!(live.failure(&table, true, &bare), None);
        let whole = bare.why("it is 'gone; away'").next("make 'it; now'");
        let shown = live.failure(&table, false, &whole).unwrap();
        assert_eq!(shown, "a.b failed and starts again: no topic 'x; y: z': it is 'gone; away'\n  hint: make 'it; now'");
    }
}
