//! The standard process metrics, read from `/proc` at each scrape. What cannot be read is left out.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;

/// Collects the metrics of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encode = |name: &str, help: &str, metric: &dyn Value| -> fmt::Result {
            metric.encode_as(&mut encoder, name, help)
        };
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            let cpu = ConstCounter::new(seconds(stat.cpu_ticks));
            encode("process_cpu_seconds", "User and system CPU time", &cpu)?;
            encode("process_threads", "Threads", &ConstGauge::new(stat.threads))?;
            if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
                let start = ConstGauge::new(boot + seconds(stat.start_ticks));
                encode("process_start_time_seconds", "When the process started, since the epoch", &start)?;
            }
        }
        if let Some([all, resident]) = fs::read_to_string("/proc/self/statm").ok().as_deref().and_then(pages)
        {
            let page = u64::try_from(page_size()).unwrap_or(4096);
            encode("process_virtual_memory_bytes", "Address space in use", &ConstGauge::new(all * page))?;
            encode("process_resident_memory_bytes", "Memory in use", &ConstGauge::new(resident * page))?;
        }
        if let Some(open) = open_fds() {
            encode("process_open_fds", "Open descriptors", &ConstGauge::new(open))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            encode("process_max_fds", "Limit on open descriptors", &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

/// A metric of either kind, so that one closure encodes both.
trait Value {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Value for M {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

/// What we use of `/proc/self/stat`, see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // the second field is the name in parentheses, which may hold anything; field 3 comes after the last of them
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            start_ticks: field(22)?,
        })
    }
}

/// When the system started, from `/proc/stat`, in seconds since the epoch.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Pages in use and resident, from `/proc/self/statm`.
fn pages(text: &str) -> Option<[u64; 2]> {
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?])
}

/// How many descriptors are open. Since Linux 6.2 the size of the folder says so; before, they are counted, less the one
/// that counting opens.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        open => Some(open),
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_nasty_name_is_read() {
        let line = "17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 20 0 9 0 12345 16 17";
        assert_eq!(Stat::parse(line), Some(Stat { cpu_ticks: 300, threads: 9, start_ticks: 12345 }));
        assert_eq!(Stat::parse("17 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_other_files_are_read() {
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(boot_time("cpu 1 2\n"), None);
        assert_eq!(pages("100 20 3 4 5 6 7\n"), Some([100, 20]));
        assert_eq!(pages("100"), None);
    }
}
