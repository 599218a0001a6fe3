//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

/// The resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has VmRSS");
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
    kib * 1024.0
}

/// The user and system time of a process, all threads; in steps of 10 ms.
pub(crate) fn worked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // PID (NAME) STATE ...: utime and stime are fields 14 and 15
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// The time that this thread has been on a processor: other programs share the machine.
pub(crate) fn thread_worked() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    Duration::from_nanos(
        stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"),
    )
}
