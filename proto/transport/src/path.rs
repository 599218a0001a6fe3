//! Whether a path answers: the probe state machine of one path, without I/O or clock.
//!
//! The driver sends what [`PathState::poll_probe`] asks for, feeds answers and timeouts in, and acts on the [`Transition`] that
//! comes out. It sleeps until the earlier of [`PathState::next_due`] and [`PathState::next_timeout`]. Keys, addresses and tags
//! are the driver's: an answer is given here only after its tag has been verified.

use causeway_wire::probe::ResponderState;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The most probes whose answers are waited for.
const MAX_OUTSTANDING: usize = 64;
/// How long the first probe's answer may take, before the round-trip time is known (RFC 6298 section 2.1).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer later than this says nothing about the path now; also the longest timeout.
const FORGET: Duration = Duration::from_secs(3);
/// The longest interval that a responder may ask for: a hostile or broken one must not stop detection.
const MAX_ASKED: Duration = Duration::from_secs(5);
/// The clock granularity of RFC 6298: what a timer and a scheduler may be late by.
const GRANULARITY: Duration = Duration::from_millis(2);

/// When to probe and what counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTiming {
    /// The interval while the path is in use, or has missed an answer.
    pub fast: Duration,
    /// The interval otherwise.
    pub slow: Duration,
    /// The least time that an answer has.
    pub min_timeout: Duration,
    /// How many misses in a row mean dead.
    pub misses: u32,
}

impl Default for ProbeTiming {
    fn default() -> Self {
        Self {
            fast: Duration::from_millis(20),
            slow: Duration::from_millis(500),
            min_timeout: Duration::from_millis(20),
            misses: 3,
        }
    }
}

/// A path that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It answers and takes packets: use it.
    Alive,
    /// It stopped answering, or its responder takes no packets: use another.
    Dead,
}

/// The smoothed round-trip time and its variation (RFC 6298 section 2).
#[derive(Clone, Copy, Debug)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    fn first(sample: Duration) -> Self {
        Self { smoothed: sample, variation: sample / 2 }
    }

    fn update(&mut self, sample: Duration) {
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: u64,
    at: Instant,
    missed: bool,
    /// What it echoed.
    cookie: [u8; 16],
    /// Whether it was sent at once because the cookie had changed.
    urgent: bool,
}

/// The state of one path.
///
/// A probe without an answer after max(20 ms, srtt + 4 rttvar) is a miss; three in a row mean dead, and only an answer makes the
/// path alive again. It is dead until the first one: to assume otherwise costs seconds in the first handshake. An answer that comes
/// after its timeout still counts, for the path is slower, not dead; misses of probes sent after the answered one stay. A responder
/// that is not ready keeps the path dead, yet its cookie is taken, so that the path is admitted by the time it is.
///
/// A responder drops the packets of whom it has not admitted, and it admits who echoes its cookie: an answer makes the path alive
/// only if its cookie is the one that its probe carried. A cookie that changes is that of a process that was started again, which
/// has admitted nobody: the path is dead until the new cookie has been echoed, which the next probe does at once.
#[derive(Debug)]
pub struct PathState {
    timing: ProbeTiming,
    next_seq: u64,
    sent: VecDeque<Sent>,
    last_sent: Option<Instant>,
    was_in_use: bool,
    hurried: bool,
    /// There is a cookie that no probe has carried.
    urgent: bool,
    /// Whether the newest probe that was answered had carried the cookie of its answer.
    echoed: bool,
    asked: Duration,
    rtt: Option<Rtt>,
    answered: u64,
    misses: u32,
    alive: bool,
    cookie: [u8; 16],
    generation: u64,
    last_answer: Option<Instant>,
    loss: f32,
    missed: u64,
}

impl PathState {
    /// A path that has not been probed.
    pub fn new(timing: ProbeTiming) -> Self {
        Self {
            timing,
            next_seq: 1,
            sent: VecDeque::new(),
            last_sent: None,
            was_in_use: false,
            hurried: false,
            urgent: false,
            echoed: false,
            asked: Duration::ZERO,
            rtt: None,
            answered: 0,
            misses: 0,
            alive: false,
            cookie: [0; 16],
            generation: 0,
            last_answer: None,
            loss: 0.0,
            missed: 0,
        }
    }

    /// The sequence number of the probe to send now, if one is due; it counts as sent at `now`. `in_use` says whether packets go out
    /// on this path.
    pub fn poll_probe(&mut self, now: Instant, in_use: bool) -> Option<u64> {
        let due = self.next_due(in_use);
        self.was_in_use = in_use;
        if due.is_some_and(|due| now < due) {
            return None;
        }
        if self.sent.len() == MAX_OUTSTANDING
            && let Some(oldest) = self.sent.pop_front()
            && !oldest.missed
        {
            self.miss(oldest.seq);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.hurried = false;
        let urgent = std::mem::take(&mut self.urgent);
        self.last_sent = Some(now);
        self.sent.push_back(Sent { seq, at: now, missed: false, cookie: self.cookie, urgent });
        Some(seq)
    }

    /// Takes back a probe that could not be sent: it is due again at once, and no miss.
    pub fn cancel(&mut self, seq: u64) {
        self.sent.retain(|sent| sent.seq != seq);
        self.last_sent = None;
    }

    /// Makes the next probe due after one fast interval at the latest: something else says that the path may answer now.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// When the next probe is due; `None` means at once.
    pub fn next_due(&self, in_use: bool) -> Option<Instant> {
        let last = self.last_sent.filter(|_| !self.urgent)?;
        let admission = self.last_answer.is_some() && !self.echoed && self.misses < self.timing.misses;
        let suspect = self.alive && self.misses > 0 || admission;
        let interval = if in_use && !self.was_in_use {
            Duration::ZERO
        } else if in_use || suspect || self.hurried {
            self.timing.fast
        } else {
            self.timing.slow
        };
        Some(last + interval.max(self.asked))
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called; `None` while no answer is waited for.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timeout = self.timeout();
        self.sent.iter().find(|sent| !sent.missed).map(|sent| sent.at + timeout)
    }

    /// Takes the verified answer to probe `seq`. An answer to a probe that was never sent, or was forgotten, changes nothing.
    pub fn on_answer(
        &mut self,
        now: Instant,
        seq: u64,
        state: ResponderState,
        interval_ms: u32,
        cookie: [u8; 16],
    ) -> Option<Transition> {
        let at = self.sent.iter().position(|sent| sent.seq == seq)?;
        let sent = self.sent.remove(at)?;
        let sample = now.saturating_duration_since(sent.at);
        if sample > FORGET {
            return None;
        }
        match &mut self.rtt {
            Some(rtt) => rtt.update(sample),
            None => self.rtt = Some(Rtt::first(sample)),
        }
        if !sent.missed {
            self.loss -= self.loss / 16.0;
        }
        if seq < self.answered {
            return None;
        }
        self.answered = seq;
        self.last_answer = Some(now);
        self.learn_cookie(cookie, &sent);
        self.asked = Duration::from_millis(interval_ms.into()).min(MAX_ASKED);
        let missed_since = self.sent.iter().filter(|sent| sent.missed && sent.seq > seq).count();
        self.misses = u32::try_from(missed_since).unwrap_or(u32::MAX);
        self.settle(state == ResponderState::Ready && self.echoed && self.misses < self.timing.misses)
    }

    /// Takes the cookie of the answer to `sent`. The next probe, which is to echo a new one, is due at once; but not after one that
    /// was sent at once itself: a responder whose cookies always differ would be probed without a pause.
    fn learn_cookie(&mut self, cookie: [u8; 16], sent: &Sent) {
        self.echoed = cookie == sent.cookie;
        let before = std::mem::replace(&mut self.cookie, cookie);
        if before == cookie {
            return;
        }
        self.urgent = !sent.urgent;
        if before != [0; 16] {
            self.generation += 1;
        }
    }

    /// Whether no probe is answered any more: as many as mean dead were not, one after the other.
    pub fn is_unanswered(&self) -> bool {
        self.misses >= self.timing.misses
    }

    /// Counts the probes whose answer is overdue at `now`.
    pub fn on_timeout(&mut self, now: Instant) -> Option<Transition> {
        let timeout = self.timeout();
        for at in 0..self.sent.len() {
            if let Some(Sent { seq, missed: false, .. }) =
                self.sent.get_mut(at).filter(|s| s.at + timeout <= now).map(mark_missed)
            {
                self.miss(seq);
            }
        }
        while self.sent.front().is_some_and(|sent| sent.missed && sent.at + FORGET < now) {
            self.sent.pop_front();
        }
        self.settle(self.alive && self.misses < self.timing.misses)
    }

    fn miss(&mut self, seq: u64) {
        self.loss += (1.0 - self.loss) / 16.0;
        self.missed += 1;
        if seq > self.answered {
            self.misses = self.misses.saturating_add(1);
        }
    }

    fn settle(&mut self, alive: bool) -> Option<Transition> {
        let was = std::mem::replace(&mut self.alive, alive);
        match (was, alive) {
            (false, true) => Some(Transition::Alive),
            (true, false) => Some(Transition::Dead),
            _ => None,
        }
    }

    fn timeout(&self) -> Duration {
        self.rtt.map_or(INITIAL_TIMEOUT, |rtt| {
            (rtt.smoothed + (rtt.variation * 4).max(GRANULARITY)).max(self.timing.min_timeout).min(FORGET)
        })
    }

    /// Whether packets may go this way.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// The smoothed round-trip time, once there was an answer.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.smoothed)
    }

    /// The share of probes that were not answered in time, from 0 to 1, smoothed over about 16.
    pub fn loss(&self) -> f32 {
        self.loss
    }

    /// How many probes were not answered in time since the path was made.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How often the responder's cookie has changed, beyond the first: it was started again, or sees this side elsewhere.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What to echo in the next probe: zeros before the first answer.
    pub fn cookie(&self) -> [u8; 16] {
        self.cookie
    }

    /// When the newest probe that was answered was answered.
    pub fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }
}

/// Marks a probe as missed; returns it as it was.
fn mark_missed(sent: &mut Sent) -> Sent {
    let before = *sent;
    sent.missed = true;
    before
}
