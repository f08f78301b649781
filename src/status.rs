//! `watershed status`: the pipelines and jobs as the warehouse knows them, of all processes; its exit code says whether all is well.

use anyhow::Result;
use watershed_batch::{JobStatus, RunStatus, Runs, Views, statuses};
use watershed_lake::clock::now_ms;
use watershed_lake::{Definitions, Warehouse, kind};
use watershed_query::shell::{Format, Shell, ShellOptions};
use watershed_stream::{Held, PipelineReport, reports, with_refused};

use crate::say::{self, span};
use crate::system::{jobs, pipelines};
use crate::terminal::paint;
use crate::{Context, batch, project, warehouse};

/// Show each pipeline: who runs it, its newest epoch, how far it lags, its counts; and each job's last run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the newest epoch record of each pipeline and the records of jobs from the warehouse; nothing needs to run here.
A pipeline is running, failing (it tries again and again), failed (it gave up, or this version cannot run it as it was
applied), stopped, or silent: whoever ran it last was not heard of for a while. Exit code 1 if one is failing, failed or
silent, if a job's last run failed, or if nothing is applied; standard error says why. It also tells of event times that
lie more than a minute ahead of the clock.

Examples:
  watershed status
  watershed status --offsets
  watershed status --output json | jq .
  watershed status > /dev/null || alert        from cron
The same are tables: watershed shell -c 'SELECT * FROM system.pipelines', system.epochs, system.jobs, system.job_runs")]
pub struct Args {
    /// Also the next offset of each partition and who wrote the epoch
    #[arg(long)]
    offsets: bool,
    /// table, csv or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Prints the pipelines.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let warehouse = warehouse::open_to_read(&context.config)?;
    warehouse::check_there(&warehouse).await?;
    let definitions = warehouse.definitions().await?;
    let views = project::applied_views(&definitions)?;
    if args.output == Format::Table {
        say!("{}: {}", warehouse.url(), defined(&definitions, &views));
    }
    let now_ms = now_ms();
    let reports = with_refused(reports(&warehouse).await?, pipelines::Refused::default().of(definitions.clone()).await);
    let (troubles, waiting) = troubles(&warehouse, &definitions, &views, &reports, now_ms).await?;
    let mut shell = Shell::new(
        warehouse::session(&context.config, warehouse)?,
        ShellOptions {
            format: args.output,
            timing: Some(false),
            history: None,
            terminal: context.terminal.output,
            color: context.terminal.color_output(),
            commands: Vec::new(),
        },
    );
    // A program gets the reasons as columns, too; a person, below the table.
    let reasons = if args.output == Format::Table { "" } else { ", restarts, last_error, failing_since" };
    let more = if args.offsets { ", offsets, writer" } else { "" };
    let sql = format!("SELECT {}{reasons}{more} FROM system.pipelines ORDER BY 1;", pipelines::SHOWN);
    let mut failed = shell.run_text(&sql, None).await.is_err();
    // A program that reads CSV or JSON wants one table; it asks for `system.jobs` itself.
    if args.output == Format::Table && !views.is_empty() {
        failed |= shell.run_text(&format!("SELECT {} FROM system.jobs;", jobs::SHOWN), None).await.is_err();
    }
    for waits in waiting.iter().filter(|_| args.output == Format::Table) {
        say!("{waits}");
    }
    for said in troubles.iter().chain(&reports.iter().filter_map(|report| ahead_of_clock(report, now_ms)).collect::<Vec<_>>()) {
        tell!("{} {said}", paint("warning:", "1;33", context.terminal.color_error()));
    }
    Ok(u8::from(failed || !troubles.is_empty()))
}

fn defined(definitions: &Definitions, views: &Views) -> String {
    if definitions.revision == 0 {
        return NOTHING_APPLIED.to_owned();
    }
    let tables = definitions.items.iter().filter(|item| item.kind == kind::TABLE).count();
    let pipelines = if tables == 1 { "1 pipeline".to_owned() } else { format!("{tables} pipelines") };
    let pipelines = if views.is_empty() { pipelines } else { format!("{pipelines}, {}", batch::counted(views)) };
    format!("{pipelines} defined (revision {})", definitions.revision)
}

const NOTHING_APPLIED: &str = "nothing is applied yet; `watershed apply DIR` does";

/// What is not well, a sentence each, and which sources wait for others, which is well.
async fn troubles(
    warehouse: &Warehouse,
    definitions: &Definitions,
    views: &Views,
    reports: &[PipelineReport],
    now_ms: u64,
) -> Result<(Vec<String>, Vec<String>)> {
    if definitions.revision == 0 {
        return Ok((vec![NOTHING_APPLIED.to_owned()], Vec::new()));
    }
    let mut troubles: Vec<String> = reports.iter().filter_map(|report| of_pipeline(report, now_ms)).collect();
    let runs = if views.is_empty() { Vec::new() } else { Runs::new(warehouse.clone()).all().await? };
    troubles.extend(statuses(views, &runs).iter().filter_map(of_job));
    let waits = |report: &PipelineReport| {
        let waiting = pipelines::waiting(report)?;
        Some(format!("{}: waiting, as one source is further ahead in event time than max_ahead allows: {waiting}", report.pipeline))
    };
    Ok((troubles, reports.iter().filter_map(waits).collect()))
}

fn of_pipeline(report: &PipelineReport, now_ms: u64) -> Option<String> {
    if let Some(refused) = &report.refused {
        return Some(refused.clone());
    }
    let (name, vitals) = (&report.pipeline, report.vitals.as_ref());
    let failure = vitals.and_then(|vitals| vitals.failure.as_ref());
    let since = failure.map_or_else(String::new, |failure| format!(" for {}", span(now_ms.saturating_sub(failure.since_ms) as i64)));
    let error = failure.map_or("", |failure| failure.error.as_str());
    match report.held {
        Held::Running | Held::Stopped => None,
        Held::Failing => {
            let restarts = vitals.map_or(0, |vitals| vitals.restarts);
            let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
            Some(format!("{name} has been failing{since}, started again {times}: {error}"))
        }
        Held::Failed => Some(format!("{name} has failed: {error}")),
        Held::Silent if error.is_empty() => {
            Some(format!("{name} is silent: who ran it was not heard of for a while, has died or cannot write to the warehouse"))
        }
        Held::Silent => Some(format!("{name} is silent: who ran it was not heard of for a while; its last error: {error}")),
    }
}

/// What is said of a pipeline whose rows move its watermark ahead of the clock. A drain alone, or what other partitions have, may do so, too.
pub fn ahead_of_clock(report: &PipelineReport, now_ms: u64) -> Option<String> {
    let (name, record) = (&report.pipeline, report.record.as_ref()?);
    let of_sources = record.sources.iter().flat_map(|(source, of)| {
        let moved =
            move |(partition, newest_us): (&i32, &i64)| Some((*of.watermarks_us.get(partition)?.min(newest_us), *partition, source));
        of.newest_us.iter().filter_map(moved)
    });
    let (watermark_us, partition, source) = of_sources.max()?;
    let ahead = say::ahead(now_ms as i64 - watermark_us / 1_000)?;
    Some(format!(
        "event times of {name} are {ahead} ahead of the clock, and with them the watermark of partition {partition} of {source}: rows of now may be late \
         there; if the times are wrong, correct the producer, give the source a smaller max_skew, and `watershed rebuild {name}`"
    ))
}

fn of_job(job: &JobStatus) -> Option<String> {
    let last = job.last.as_ref()?;
    match last.status {
        RunStatus::Failed => Some(format!("the last run of {} failed: {}", job.job, last.error.as_deref().unwrap_or("it did not say why"))),
        RunStatus::Lost => Some(format!("the last run of {} was lost: its process ended before it did", job.job)),
        RunStatus::Running | RunStatus::Succeeded | RunStatus::Stopped => None,
    }
}
