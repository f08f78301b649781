//! The process itself, as Linux tells of it; elsewhere these metrics are left out.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use watershed_lake::clock;

/// Memory, time and files.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Some(bytes) = resident_bytes() {
            let help = "Memory of the process that is in use";
            encoder.encode_descriptor("process_resident", help, Some(&Unit::Bytes), MetricType::Gauge)?.encode_gauge(&bytes)?;
        }
        if let Some(files) = open_files() {
            let help = "Files and connections that are open";
            encoder.encode_descriptor("process_open_files", help, None, MetricType::Gauge)?.encode_gauge(&files)?;
        }
        let Some(times) = times() else { return Ok(()) };
        let help = "Time that the process computed, on all processors together";
        let mut cpu = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        cpu.encode_counter::<NoLabelSet, f64, f64>(&times.cpu_s, None)?;
        if let Some(start_s) = times.start_s {
            let help = "When the process started, as seconds since 1970";
            let mut start = encoder.encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?;
            start.encode_gauge(&start_s)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn open_files() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

struct Times {
    cpu_s: f64,
    start_s: Option<f64>,
}

/// Out of `/proc/self/stat`, whose times are in ticks, and the start in ticks since the machine did.
fn times() -> Option<Times> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program comes second, in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // SAFETY: it reads a constant of the system.
    let ticks_per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / ticks_per_s);
    // The third field is the first here.
    let (user, system, start) = (seconds(11)?, seconds(12)?, seconds(19)?);
    Some(Times { cpu_s: user + system, start_s: started_at_s(start) })
}

fn started_at_s(since_boot_s: f64) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let up_s: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64(up_s - since_boot_s).ok()?;
    Some(clock::now_ms() as f64 / 1_000.0 - age.as_secs_f64())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_started_computed_and_opened_files() {
        let times = times().expect("times");
        let now = clock::now_ms() as f64 / 1_000.0;
        let age_s = now - times.start_s.expect("a start");
        assert!((0.0..3_600.0).contains(&age_s), "{age_s}");
        assert!((0.0..=age_s.max(1.0) * 64.0).contains(&times.cpu_s), "{}", times.cpu_s);
        assert!(open_files().is_some_and(|count| count > 2));
    }
}
