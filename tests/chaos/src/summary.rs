//! What a run of faults came to, for whoever reads it.

use crate::fault::Kind;
use crate::gap::Gap;
use crate::requests::RequestsTold;
use crate::watcher::Watched;
use crate::writes::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What happened for one kind of fault.
#[derive(Clone, Debug, Default)]
pub struct OfKind {
    /// How often it was injected.
    pub count: u64,
    /// The longest time without an acknowledged write in the cluster it was injected in, from it to the next one.
    pub writes: Duration,
    /// The longest time without an answered request.
    pub requests: Duration,
    /// What `check` named, as `NAME (STATE)`.
    pub named: BTreeSet<String>,
    /// How often `check` was asked while it lasted, and named nothing.
    pub silent: u64,
}

/// The summary of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// From which the faults followed.
    pub seed: u64,
    /// How long they were injected.
    pub took: Duration,
    /// By kind.
    pub kinds: BTreeMap<Kind, OfKind>,
    /// What became of requests.
    pub requests: Option<RequestsTold>,
    /// What became of writes.
    pub writes: Verdict,
    /// The longest time without an acknowledged write, by cluster.
    pub unavailable: BTreeMap<String, Gap>,
    /// Services and workloads that are in an answer and not in the world, or the other way round.
    pub ghosts: Vec<String>,
    /// What the watchers were told.
    pub watched: Watched,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.kinds.values().map(|kind| kind.count).sum();
        writeln!(f, "{faults} faults in {:.0} s, seed {}", self.took.as_secs_f64(), self.seed)?;
        writeln!(
            f,
            "  {:<20} {:>5}  {:>14}  {:>16}  check",
            "", "count", "without writes", "without requests"
        )?;
        for (kind, of) in &self.kinds {
            let (writes, requests) = (seconds(of.writes), seconds(of.requests));
            let named: Vec<&str> = of.named.iter().map(String::as_str).collect();
            let silent = if of.silent > 0 { format!("; silent {} times", of.silent) } else { String::new() };
            let named = if named.is_empty() { "-".to_owned() } else { named.join(", ") };
            writeln!(f, "  {kind:<20} {:>5}  {writes:>14}  {requests:>16}  {named}{silent}", of.count)?;
        }
        if let Some(told) = &self.requests {
            let (done, excused, failed) = (told.done, told.excused, told.failures.len());
            writeln!(
                f,
                "requests: {done} answered, {excused} failed where there was no path, {failed} failed"
            )?;
            writeln!(f, "  longest unavailability {}", gap(told.longest))?;
        }
        let verdict = &self.writes;
        writeln!(
            f,
            "writes: {} acknowledged, {} unknown, refused {:?}",
            verdict.acknowledged, verdict.unknown, verdict.refused
        )?;
        for (cluster, longest) in &self.unavailable {
            writeln!(f, "  longest unavailability in {cluster} {}", gap(*longest))?;
        }
        let Watched { streams, resumed, events, repeats } = self.watched;
        writeln!(
            f,
            "watches: {streams} streams, {resumed} of them resumed, {events} events, {repeats} that told nothing new"
        )?;
        write!(f, "lost {}, ghosts {}", verdict.lost.len(), verdict.ghosts.len() + self.ghosts.len())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn gap(gap: Gap) -> String {
    format!("{} (from {:.0} s on)", seconds(gap.length), gap.began.as_secs_f64())
}
