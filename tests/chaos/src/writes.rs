//! Writers that keep a ledger of what they were promised: what was acknowledged is there, what was withdrawn is not.
//!
//! Each writer owns one service and exports it to clusters that do not exist, a new one with each write, and withdraws the oldest,
//! so that nothing grows. What it was told is the truth of that service, for nobody else writes it.

use crate::admin::{Admin, Answer};
use crate::fleet::Fleet;
use crate::gap::Gaps;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many exports a writer leaves standing.
const STANDING: u64 = 8;
/// How long a writer that may go to another gateway waits for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of a value that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Writing it was acknowledged.
    There,
    /// Withdrawing it was acknowledged.
    Gone,
    /// An outcome is unknown.
    Maybe,
}

/// What one writer was promised.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    fates: BTreeMap<String, Fate>,
    acknowledged: u64,
    unknown: u64,
    refused: BTreeMap<String, u64>,
    /// Values whose writing was acknowledged, and which were not there when they were withdrawn.
    lost: BTreeSet<String>,
}

/// What became of the promises.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose outcome nobody knows.
    pub unknown: u64,
    /// Writes that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Acknowledged values that are not there.
    pub lost: Vec<String>,
    /// Withdrawn values that are there.
    pub ghosts: Vec<String>,
}

impl Ledger {
    fn added(&mut self, value: String, answer: &Answer) {
        let fate = match answer {
            Answer::Done(_) => Fate::There,
            Answer::Refused { .. } => Fate::Gone,
            Answer::Unknown(_) => Fate::Maybe,
        };
        self.count(answer);
        self.fates.insert(value, fate);
    }

    fn withdrawn(&mut self, value: &str, answer: &Answer) {
        self.count(answer);
        let Some(fate) = self.fates.get_mut(value) else { return };
        *fate = match (answer, *fate) {
            (Answer::Done(_), _) => Fate::Gone,
            (Answer::Unknown(_), _) => Fate::Maybe,
            (Answer::Refused { reason, .. }, before) if reason == "not-exported" => {
                if before == Fate::There {
                    self.lost.insert(value.to_owned());
                }
                // a write whose outcome is unknown may still take effect
                if before == Fate::Maybe { Fate::Maybe } else { Fate::Gone }
            }
            (Answer::Refused { .. }, before) => before,
        };
    }

    fn count(&mut self, answer: &Answer) {
        match answer {
            Answer::Done(_) => self.acknowledged += 1,
            Answer::Unknown(_) => self.unknown += 1,
            Answer::Refused { reason, .. } => *self.refused.entry(reason.clone()).or_default() += 1,
        }
    }

    /// Compares the promises with what is there.
    pub fn judge(&self, there: &BTreeSet<String>) -> Verdict {
        let values = |fate: Fate, is_there: bool| {
            let fits =
                move |(value, of): &(&String, &Fate)| **of == fate && there.contains(*value) == is_there;
            self.fates.iter().filter(fits).map(|(value, _)| value.clone())
        };
        Verdict {
            acknowledged: self.acknowledged,
            unknown: self.unknown,
            refused: self.refused.clone(),
            lost: values(Fate::There, false).chain(self.lost.iter().cloned()).collect(),
            ghosts: values(Fate::Gone, true).collect(),
        }
    }
}

impl Verdict {
    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self.lost.extend(other.lost);
        self.ghosts.extend(other.ghosts);
        self
    }
}

/// Running writers of one cluster.
#[derive(Debug)]
pub struct Writes {
    cluster: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    gaps: Gaps,
    /// Those of each writer.
    own: Vec<Gaps>,
    /// The writers stay where they are.
    stay: bool,
    /// The gateways, which change as they are replaced.
    admins: Mutex<Vec<Admin>>,
    ledgers: Vec<Mutex<Ledger>>,
}

impl Writes {
    /// Starts `writers` writers, each of which begins at another gateway and goes to the next when one does not acknowledge.
    pub fn start(fleet: &mut Fleet, writers: usize) -> Self {
        let admins = impatient(fleet);
        Self::begin(fleet, writers, admins, false)
    }

    /// Starts a writer at each gateway that stays there, whatever it is answered.
    pub fn start_at_each(fleet: &mut Fleet) -> Self {
        let admins = fleet.admins();
        Self::begin(fleet, admins.len(), admins, true)
    }

    fn begin(fleet: &mut Fleet, writers: usize, admins: Vec<Admin>, stay: bool) -> Self {
        let services: Vec<String> = (0..writers).map(|writer| format!("{}:80", service(writer))).collect();
        fleet.ask("services to write to", |admin| {
            admin.post("/v1/tokens", &json!({"role": "workload", "services": services, "account": "writer"}))
        });
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            gaps: Gaps::default(),
            own: (0..writers).map(|_| Gaps::default()).collect(),
            stay,
            admins: Mutex::new(admins),
            ledgers: (0..writers).map(|_| Mutex::default()).collect(),
        });
        let threads = (0..writers)
            .map(|writer| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.write(writer))
            })
            .collect();
        Self { cluster: fleet.name().to_owned(), shared, threads }
    }

    /// The gateways have changed.
    pub fn use_gateways(&self, fleet: &Fleet) {
        *self.shared.admins.lock().unwrap() = impatient(fleet);
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// The times between acknowledged writes.
    pub fn gaps(&self) -> &Gaps {
        &self.shared.gaps
    }

    /// The times between acknowledged writes of one writer.
    pub fn gaps_of(&self, writer: usize) -> &Gaps {
        &self.shared.own[writer]
    }

    /// Stops the writers and waits for their last writes.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer ends well");
        }
    }

    /// Compares what was promised with the `exports` that a gateway shows.
    pub fn judge(&self, exports: &BTreeMap<String, BTreeSet<String>>) -> Verdict {
        let each = self.shared.ledgers.iter().enumerate().map(|(writer, ledger)| {
            let there = exports.get(&service(writer)).cloned().unwrap_or_default();
            let mut verdict = ledger.lock().unwrap().judge(&there);
            for value in verdict.lost.iter_mut().chain(&mut verdict.ghosts) {
                *value = format!("{} of {} in {}", value, service(writer), self.cluster);
            }
            verdict
        });
        each.fold(Verdict::default(), Verdict::and)
    }
}

fn impatient(fleet: &Fleet) -> Vec<Admin> {
    fleet.admins().into_iter().map(|admin| admin.within(PATIENCE)).collect()
}

fn service(writer: usize) -> String {
    format!("w{writer}.writes")
}

impl Shared {
    fn write(&self, writer: usize) {
        let (path, mut at) = (format!("/v1/exports/{}", service(writer)), writer);
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let value = |number: u64| format!("c{number}");
            let admin = self.admin(at);
            let answer = admin.put(&path, &json!({"to": [value(number)]}));
            at += self.judge(writer, &answer);
            self.ledgers[writer].lock().unwrap().added(value(number), &answer);
            if let Some(old) = number.checked_sub(STANDING) {
                let answer = self.admin(at).delete(&format!("{path}?from={}", value(old)));
                at += self.judge(writer, &answer);
                self.ledgers[writer].lock().unwrap().withdrawn(&value(old), &answer);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn admin(&self, at: usize) -> Admin {
        let admins = self.admins.lock().unwrap();
        admins[at % admins.len()].clone()
    }

    /// How far to go on to another gateway.
    fn judge(&self, writer: usize, answer: &Answer) -> usize {
        match answer {
            Answer::Done(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.gaps.success();
                self.own[writer].success();
                0
            }
            Answer::Refused { reason, .. } if reason == "not-exported" => 0,
            _ => usize::from(!self.stay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn refused(reason: &str) -> Answer {
        Answer::Refused { status: 404, reason: reason.into(), message: String::new() }
    }

    #[test]
    fn a_ledger_finds_what_was_lost_and_what_came_back() {
        let (done, unknown) = (Answer::Done(Value::Null), Answer::Unknown("timeout".into()));
        let mut ledger = Ledger::default();
        for (value, added, withdrawn) in [
            ("stays", &done, None),
            ("lost", &done, None),
            ("gone", &done, Some(&done)),
            ("ghost", &done, Some(&done)),
            ("maybe", &unknown, None),
            ("never", &refused("no-quorum"), None),
            ("refused-ghost", &refused("no-quorum"), None),
            ("half", &done, Some(&unknown)),
            ("kept", &done, Some(&refused("no-quorum"))),
            ("lost-early", &done, Some(&refused("not-exported"))),
            ("maybe-late", &unknown, Some(&refused("not-exported"))),
        ] {
            ledger.added(value.to_owned(), added);
            if let Some(withdrawn) = withdrawn {
                ledger.withdrawn(value, withdrawn);
            }
        }
        let there = ["stays", "ghost", "refused-ghost", "kept", "maybe-late"].map(str::to_owned).into();
        let verdict = ledger.judge(&there);
        assert_eq!(verdict.lost, ["lost", "lost-early"]);
        assert_eq!(verdict.ghosts, ["ghost", "refused-ghost"]);
        assert_eq!((verdict.acknowledged, verdict.unknown), (9, 3));
    }
}
