//! `/metrics`: what the runtime knows of each pipeline, stage and job, read at each scrape. The guide's page on metrics lists all of them;
//! a test holds the two together.
//!
//! Counters count what this process did. Times are in seconds, as Prometheus wants; tables and the log say milliseconds.

mod jobs;
mod process;
mod servers;
mod upkeep;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use watershed_batch::JobObserver;
use watershed_lake::Warehouse;
use watershed_query::ServerCounters;
use watershed_stream::{COMMIT_BUCKETS_MS, Observer, Phase, PipelineMetrics, SourceMetrics};

use jobs::Jobs;
use process::Process;
use servers::Served;
use upkeep::Upkeep;

/// What a process does that tells of itself.
#[derive(Clone, Default)]
pub struct Observed {
    /// The pipelines that run here.
    pub pipelines: Option<Observer>,
    /// The jobs that are scheduled here.
    pub jobs: Option<JobObserver>,
    /// The warehouse whose tables are written here.
    pub tables: Option<Warehouse>,
    /// Flight SQL, if it is served here.
    pub flight: Option<Arc<ServerCounters>>,
}

/// Gathers the metrics of one process.
pub struct Telemetry {
    registry: Registry,
}

impl Telemetry {
    /// Of what runs here; `http` is the server that will tell it.
    pub fn new(observed: Observed, http: Arc<ServerCounters>) -> Self {
        let mut registry = Registry::with_prefix("watershed");
        registry.register("build", "The version that runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Process));
        registry.register_collector(Box::new(Served::over_http(http)));
        if let Some(flight) = observed.flight {
            registry.register_collector(Box::new(Served::over_flight(flight)));
        }
        if let Some(warehouse) = observed.tables {
            registry.register_collector(Box::new(Upkeep(warehouse)));
        }
        if let Some(pipelines) = observed.pipelines {
            registry.register_collector(Box::new(Pipelines(Box::new(move || pipelines.metrics()))));
        }
        if let Some(jobs) = observed.jobs {
            registry.register_collector(Box::new(Jobs(jobs)));
        }
        Self { registry }
    }

    /// In OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a string does not fail; an empty answer is one that Prometheus notices.
            Err(_) => String::new(),
        }
    }
}

/// A number as it is written.
enum Number {
    Whole(u64),
    Part(f64),
}

/// One metric of each pipeline, or of each job.
struct Metric<T> {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    counter: bool,
    value: fn(&T) -> Option<Number>,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<Number>) -> Metric<T> {
    Metric { name, unit: None, help, counter: true, value }
}

const fn gauge<T>(name: &'static str, unit: Option<Unit>, help: &'static str, value: fn(&T) -> Option<Number>) -> Metric<T> {
    Metric { name, unit, help, counter: false, value }
}

fn whole(number: u64) -> Option<Number> {
    Some(Number::Whole(number))
}

fn seconds(ms: f64) -> Option<Number> {
    Some(Number::Part(ms / 1e3))
}

const PIPELINE: &[Metric<PipelineMetrics>] = &[
    counter("pipeline_rows_in", "Records read from the source", |p| whole(p.counted.rows_in)),
    counter("pipeline_rows_out", "Rows written to the table", |p| whole(p.counted.rows_out)),
    counter("pipeline_rows_late", "Rows that came after their window had closed", |p| whole(p.counted.rows_late)),
    counter("pipeline_rows_quarantined", "Records that could not be decoded, cast or accepted", |p| whole(p.counted.rows_quarantined)),
    counter("pipeline_rows_deduplicated", "Rows left out as duplicates", |p| whole(p.counted.rows_deduplicated)),
    counter("pipeline_rows_dropped", "Rows left out because they violate an expectation", |p| whole(p.counted.rows_dropped)),
    counter("pipeline_rows_lost", "Records deleted from the topic before they were read, and skipped", |p| whole(p.counted.rows_lost)),
    counter("pipeline_tombstones", "Messages without a value that were passed over", |p| whole(p.counted.tombstones)),
    counter("pipeline_rows_violating", "Rows set aside because they violate an expectation", |p| whole(p.counted.rows_violating)),
    counter("pipeline_commits", "Epochs committed", |p| whole(p.commits)),
    counter("pipeline_restarts", "Times the pipeline started again after an error", |p| whole(p.restarts)),
    gauge("pipeline_lag_records", None, "Records in the topic that were not read yet", |p| whole(p.lag_records)),
    gauge("pipeline_lag", Some(Unit::Seconds), "Age of the newest record read where there is more to read, else 0", |p| {
        seconds(p.lag_ms as f64)
    }),
    gauge("pipeline_watermark_timestamp", Some(Unit::Seconds), "The watermark, as seconds since 1970", |p| {
        p.watermark_us.and_then(|us| seconds(us as f64 / 1e3))
    }),
    gauge("pipeline_watermark_lag", Some(Unit::Seconds), "How far the watermark is behind the clock; less than zero if it is ahead", |p| {
        p.watermark_lag_ms.and_then(|ms| seconds(ms as f64))
    }),
    gauge("pipeline_epoch", None, "The newest epoch", |p| whole(p.epoch)),
    gauge("pipeline_state", Some(Unit::Bytes), "Operator state that the newest epoch holds", |p| whole(p.state_bytes)),
    gauge("pipeline_snapshot", Some(Unit::Bytes), "Operator state written with the newest epoch", |p| whole(p.snapshot_bytes)),
    gauge("pipeline_snapshot_duration", Some(Unit::Seconds), "Time that the newest epoch's state took to say and write", |p| {
        seconds(p.snapshot_ms as f64)
    }),
    gauge("pipeline_restore_duration", Some(Unit::Seconds), "Time that reading the state back took at the last start", |p| {
        seconds(p.restore_ms as f64)
    }),
    gauge("pipeline_state_keys", None, "Keys, groups and waiting rows that operators hold", |p| whole(p.held.keys)),
    gauge("pipeline_state_memory", Some(Unit::Bytes), "Memory that operator state takes", |p| whole(p.held.bytes)),
    gauge("pipeline_state_spilled", Some(Unit::Bytes), "Operator state that is put aside in local files", |p| whole(p.spilled_bytes)),
];

/// One source of one pipeline.
struct OfSource {
    pipeline: String,
    source: SourceMetrics,
}

const SOURCE: &[Metric<OfSource>] = &[
    gauge("source_lag_records", None, "Records of the source that a pipeline has not read yet", |of| whole(of.source.lag_records)),
    gauge("source_watermark_timestamp", Some(Unit::Seconds), "The watermark of the source in a pipeline, as seconds since 1970", |of| {
        of.source.watermark_us.and_then(|us| seconds(us as f64 / 1e3))
    }),
];

/// All pipelines of the process.
struct Pipelines(Box<dyn Fn() -> Vec<PipelineMetrics> + Send + Sync>);

impl fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipelines")
    }
}

impl Collector for Pipelines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let pipelines = (self.0)();
        encode(&mut encoder, PIPELINE, &pipelines, labels)?;
        sources(&mut encoder, &pipelines)?;
        phases(&mut encoder, &pipelines)?;
        commits(&mut encoder, &pipelines)?;
        stages(&mut encoder, &pipelines)
    }
}

/// Each metric of each item that has a value for it.
fn encode<T>(
    encoder: &mut DescriptorEncoder,
    metrics: &[Metric<T>],
    items: &[T],
    labels: fn(&T) -> Vec<(&'static str, String)>,
) -> fmt::Result {
    for metric in metrics {
        let kind = if metric.counter { MetricType::Counter } else { MetricType::Gauge };
        let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
        for item in items {
            let Some(number) = (metric.value)(item) else { continue };
            let labels = labels(item);
            let mut one = family.encode_family(&labels)?;
            match (metric.counter, number) {
                (true, Number::Whole(value)) => one.encode_counter::<NoLabelSet, u64, f64>(&value, None)?,
                (true, Number::Part(value)) => one.encode_counter::<NoLabelSet, f64, f64>(&value, None)?,
                (false, Number::Whole(value)) => one.encode_gauge(&value)?,
                (false, Number::Part(value)) => one.encode_gauge(&value)?,
            }
        }
    }
    Ok(())
}

fn labels(pipeline: &PipelineMetrics) -> Vec<(&'static str, String)> {
    let sources: Vec<&str> = pipeline.sources.iter().map(|source| source.name.as_str()).collect();
    vec![("pipeline", pipeline.pipeline.to_string()), ("source", sources.join(","))]
}

fn sources(encoder: &mut DescriptorEncoder, pipelines: &[PipelineMetrics]) -> fmt::Result {
    let of = |pipeline: &PipelineMetrics| {
        let name = pipeline.pipeline.to_string();
        pipeline.sources.iter().map(move |source| OfSource { pipeline: name.clone(), source: source.clone() }).collect::<Vec<_>>()
    };
    let all: Vec<OfSource> = pipelines.iter().flat_map(of).collect();
    let labels = |of: &OfSource| vec![("pipeline", of.pipeline.clone()), ("source", of.source.name.clone())];
    encode(encoder, SOURCE, &all, labels)?;
    let help = "1 while the source waits for another one, which it is too far ahead of";
    let mut family = encoder.encode_descriptor("source_waiting", help, None, MetricType::Gauge)?;
    for of in &all {
        let mut labels = labels(of);
        labels.push(("waits_for", of.source.waits_for.clone().unwrap_or_default()));
        family.encode_family(&labels)?.encode_gauge(&u64::from(of.source.waits_for.is_some()))?;
    }
    Ok(())
}

fn phases(encoder: &mut DescriptorEncoder, pipelines: &[PipelineMetrics]) -> fmt::Result {
    let help = "1 for what the pipeline is doing, 0 for what it is not";
    let mut family = encoder.encode_descriptor("pipeline_phase", help, None, MetricType::Gauge)?;
    for pipeline in pipelines {
        for phase in Phase::NAMES {
            let mut labels = labels(pipeline);
            labels.push(("phase", phase.to_owned()));
            family.encode_family(&labels)?.encode_gauge(&u64::from(pipeline.phase.name() == phase))?;
        }
    }
    Ok(())
}

fn commits(encoder: &mut DescriptorEncoder, pipelines: &[PipelineMetrics]) -> fmt::Result {
    let help = "From the passing of an epoch's barrier to the commit of its tables";
    let mut family = encoder.encode_descriptor("pipeline_commit", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for pipeline in pipelines {
        let times = &pipeline.commit_times;
        // The last bucket has no bound.
        let bounds = COMMIT_BUCKETS_MS.iter().map(|&ms| ms as f64 / 1e3).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
        let labels = labels(pipeline);
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(times.sum_us as f64 / 1e6, times.count(), &buckets, None)?;
    }
    Ok(())
}

fn stages(encoder: &mut DescriptorEncoder, pipelines: &[PipelineMetrics]) -> fmt::Result {
    for (name, help, rows_in) in [
        ("stage_rows_in", "Rows that a stage of a pipeline took", true),
        ("stage_rows_out", "Rows that a stage of a pipeline handed on", false),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for pipeline in pipelines {
            for (stage, rows) in pipeline.stages.iter() {
                let mut labels = labels(pipeline);
                labels.push(("stage", stage.name().into_owned()));
                let value = if rows_in { rows.rows_in } else { rows.rows_out };
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            }
        }
    }
    Ok(())
}

/// Why the pipelines and jobs of this process cannot do their work; nothing if they can, or have done it.
pub fn not_ready(observed: &Observed) -> Vec<String> {
    let mut reasons = observed.pipelines.as_ref().map(|pipelines| stuck(&pipelines.metrics())).unwrap_or_default();
    let trouble = observed.jobs.as_ref().and_then(JobObserver::trouble);
    reasons.extend(trouble.map(|why| format!("the scheduler cannot see which jobs are due: {why}")));
    reasons
}

fn stuck(pipelines: &[PipelineMetrics]) -> Vec<String> {
    let why = |pipeline: &PipelineMetrics| match (&pipeline.phase, &pipeline.failure) {
        (Phase::Failed { error }, _) => Some(format!("{} has failed: {error}", pipeline.pipeline)),
        // Between two errors it is starting or running for a moment, which is not to say that it is well.
        (_, Some(failure)) => Some(format!("{} starts again: {}", pipeline.pipeline, failure.error)),
        (Phase::Starting, None) => Some(format!("{} is starting", pipeline.pipeline)),
        (Phase::Running | Phase::Stopped | Phase::Retrying { .. }, None) => None,
    };
    pipelines.iter().filter_map(why).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use watershed_batch::{JobRunner, Limits, Listener, Scheduler, SchedulerOptions, Views};
    use watershed_message::Message;
    use watershed_stream::hidden::SourceNames;
    use watershed_stream::{Metrics, Snapshot};

    use super::*;

    /// Two jobs; one has run.
    async fn observed_jobs() -> JobObserver {
        let warehouse = watershed_lake::Warehouse::open("memory://", &std::collections::HashMap::new()).await.unwrap();
        let runner = JobRunner::new(warehouse, Limits::default()).unwrap();
        let sql =
            "CREATE MATERIALIZED VIEW gold.one SCHEDULE EVERY 1 DAY AS SELECT 1 AS n; CREATE MATERIALIZED VIEW gold.never AS SELECT 2 AS n";
        let (ended, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let told: Listener = Arc::new(move |job, result| ended.send((job.to_string(), result.is_ok())).unwrap());
        let options = SchedulerOptions { listener: Some(told), look_every: Duration::from_millis(20), ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(runner.clone(), Views::parse([sql]).unwrap(), options);
        assert_eq!(heard.recv().await.unwrap(), ("gold.one".to_owned(), true));
        let seen = async {
            while !runner.observer().metrics().iter().any(|job| job.status.last_success.is_some()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the scheduler looks again");
        scheduler.stop().await;
        runner.observer().clone()
    }

    async fn text() -> String {
        let metrics = Metrics::new("gold.demand".parse().unwrap(), SourceNames::new(["rides".to_owned()]));
        metrics.phase(Phase::Running);
        metrics.committed(None, Duration::from_millis(30), Snapshot { bytes: 7, took: Duration::from_millis(20) });
        let warehouse = Warehouse::with_store(Arc::new(object_store::memory::InMemory::new()), "memory:///".parse().unwrap());
        let observed =
            Observed { pipelines: None, jobs: Some(observed_jobs().await), tables: Some(warehouse), flight: Some(Arc::default()) };
        let mut telemetry = Telemetry::new(observed, Arc::default());
        telemetry.registry.register_collector(Box::new(Pipelines(Box::new(move || {
            // A watermark is there only with rows; say one, so that every metric has a value.
            let waits = SourceMetrics {
                name: "rides".to_owned(),
                lag_records: 3,
                watermark_us: Some(2_500_000),
                waits_for: Some("trips".to_owned()),
            };
            vec![PipelineMetrics { sources: vec![waits], watermark_us: Some(2_000_000), watermark_lag_ms: Some(1_500), ..metrics.read() }]
        }))));
        telemetry.text()
    }

    /// Names as they are scraped, and their kinds.
    fn exported(text: &str) -> BTreeMap<String, String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let scraped = |(name, kind): (&str, &str)| {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{name}{suffix}"), kind.to_owned())
        };
        types.map(scraped).collect()
    }

    #[tokio::test]
    async fn the_guide_lists_exactly_the_metrics_there_are() {
        let page = include_str!("../docs/guide/metrics.md");
        let rows =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).filter(|(name, _)| name.starts_with("watershed_"));
        let documented: BTreeMap<String, String> =
            rows.map(|(name, rest)| (name.to_owned(), rest.split(" | ").next().unwrap_or_default().to_owned())).collect();
        let exported = exported(&text().await);
        let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&documented), names(&exported));
        assert_eq!(documented, exported, "kinds differ");
    }

    #[tokio::test]
    async fn a_scrape_holds_the_numbers_of_pipelines_and_jobs() {
        let text = text().await;
        for line in [
            r#"watershed_pipeline_phase{pipeline="gold.demand",source="rides",phase="running"} 1"#,
            r#"watershed_pipeline_phase{pipeline="gold.demand",source="rides",phase="failed"} 0"#,
            r#"watershed_pipeline_commits_total{pipeline="gold.demand",source="rides"} 1"#,
            r#"watershed_pipeline_commit_seconds_bucket{le="0.05",pipeline="gold.demand",source="rides"} 1"#,
            r#"watershed_pipeline_commit_seconds_bucket{le="+Inf",pipeline="gold.demand",source="rides"} 1"#,
            r#"watershed_pipeline_watermark_lag_seconds{pipeline="gold.demand",source="rides"} 1.5"#,
            r#"watershed_source_lag_records{pipeline="gold.demand",source="rides"} 3"#,
            r#"watershed_source_watermark_timestamp_seconds{pipeline="gold.demand",source="rides"} 2.5"#,
            r#"watershed_source_waiting{pipeline="gold.demand",source="rides",waits_for="trips"} 1"#,
            r#"watershed_pipeline_snapshot_bytes{pipeline="gold.demand",source="rides"} 7"#,
            r#"watershed_stage_rows_in_total{pipeline="gold.demand",source="rides",stage="sink"} 0"#,
            r#"watershed_job_runs_total{job="gold.one",outcome="succeeded"} 1"#,
            r#"watershed_job_runs_total{job="gold.one",outcome="failed"} 0"#,
            r#"watershed_job_runs_total{job="gold.never",outcome="succeeded"} 0"#,
            r#"watershed_job_last_rows{job="gold.one"} 1"#,
            r#"watershed_job_running{job="gold.one"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line}\n{text}");
        }
        let value = |name: &str| -> f64 {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{job=\"gold.one\"} "));
            found.unwrap_or_else(|| panic!("no {name}\n{text}")).parse().unwrap()
        };
        assert!((0.0..60.0).contains(&value("watershed_job_staleness_seconds")) && value("watershed_job_last_bytes") > 0.0);
        let (last, next) = (value("watershed_job_last_start_timestamp_seconds"), value("watershed_job_next_due_timestamp_seconds"));
        assert!(next > last && next - last <= 86_400.0 && next % 86_400.0 == 0.0, "{last} {next}");
        // What has never run has no last run, and what is run by hand is never due.
        assert!(!text.contains("watershed_job_staleness_seconds{job=\"gold.never\"}"));
        assert!(!text.contains("watershed_job_next_due_timestamp_seconds{job=\"gold.never\"}"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_not_running_is_named_with_its_reason() {
        let metrics = Metrics::new("gold.demand".parse().unwrap(), SourceNames::new(["rides".to_owned()]));
        assert_eq!(stuck(&[metrics.read()]), ["gold.demand is starting"]);
        metrics.phase(Phase::Retrying { error: Message::new("the broker is away") });
        assert_eq!(stuck(&[metrics.read()]), ["gold.demand starts again: the broker is away"]);
        metrics.phase(Phase::Running);
        assert_eq!(stuck(&[metrics.read()]), ["gold.demand starts again: the broker is away"]);
        metrics.committed(None, Duration::from_millis(3), Snapshot::default());
        assert!(stuck(&[metrics.read()]).is_empty());
    }
}
