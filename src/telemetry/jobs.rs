//! Metrics of the jobs that are scheduled in this process. What a run did is in its record, whatever process ran it; counters count what
//! this process did.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use watershed_batch::{JobMetrics, JobObserver};
use watershed_lake::clock;

use super::{Metric, counter, encode, gauge, seconds, whole};

const JOB: &[Metric<JobMetrics>] = &[
    counter("job_retries", "Attempts beyond the first of their run", |job| whole(job.counts.retries)),
    gauge("job_running", None, "Runs of the job that are under way here", |job| whole(job.counts.running)),
    gauge("job_last_start_timestamp", Some(Unit::Seconds), "When the newest run started, as seconds since 1970", |job| {
        seconds(job.status.last.as_ref()?.started_ms as f64)
    }),
    gauge("job_last_duration", Some(Unit::Seconds), "How long the newest run that has ended took", |job| {
        seconds(job.status.last_ended.as_ref()?.took_ms()? as f64)
    }),
    gauge("job_last_rows", None, "Rows that the newest successful run wrote", |job| whole(job.status.last_success.as_ref()?.rows)),
    gauge("job_last", Some(Unit::Bytes), "Bytes of the files that the newest successful run wrote", |job| {
        whole(job.status.last_success.as_ref()?.bytes)
    }),
    gauge("job_staleness", Some(Unit::Seconds), "Age of the view's rows: time since the start of the run that made them", |job| {
        seconds((clock::now().timestamp_millis() - job.status.last_success.as_ref()?.started_ms).max(0) as f64)
    }),
    gauge("job_next_due_timestamp", Some(Unit::Seconds), "When its schedule makes it due next, as seconds since 1970", |job| {
        seconds(job.status.next?.timestamp_millis() as f64)
    }),
];

/// All jobs of the process.
#[derive(Debug)]
pub(super) struct Jobs(pub(super) JobObserver);

impl Collector for Jobs {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let jobs = self.0.metrics();
        encode(&mut encoder, JOB, &jobs, labels)?;
        let help = "Runs that this process made, by outcome";
        let mut family = encoder.encode_descriptor("job_runs", help, None, MetricType::Counter)?;
        for job in &jobs {
            let counts = job.counts;
            for (outcome, count) in [("succeeded", counts.succeeded), ("failed", counts.failed), ("stopped", counts.stopped)] {
                let mut labels = labels(job);
                labels.push(("outcome", outcome.to_owned()));
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
        }
        Ok(())
    }
}

fn labels(job: &JobMetrics) -> Vec<(&'static str, String)> {
    vec![("job", job.status.job.to_string())]
}
