//! Whether a peer speaks, and for how long it has not.

use crate::SILENT_AFTER;
use std::time::{Duration, Instant};

/// For every such time without a new silence one earlier silence is forgiven.
const FORGIVE: Duration = Duration::from_secs(60);
/// The longest time that a peer which speaks again still counts as stale.
const MAX_HOLD: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Silence {
    connections: usize,
    heard: Option<Instant>,
    /// Set when a connection closes and none is left.
    cut: bool,
    /// How many silences ended lately, and when the last one did.
    flaps: u32,
    flapped: Option<Instant>,
    hold: Option<Hold>,
}

/// The time after a silence in which it is not yet believed to be over.
#[derive(Clone, Copy, Debug)]
struct Hold {
    silent_since: Instant,
    until: Instant,
}

impl Silence {
    pub(super) fn handle_open(&mut self) {
        self.connections += 1;
    }

    pub(super) fn handle_closed(&mut self) {
        self.connections = self.connections.saturating_sub(1);
        self.cut |= self.connections == 0;
    }

    pub(super) fn handle_heard(&mut self, now: Instant) {
        if self.connections == 0 {
            return;
        }
        if let Some(silent_since) = self.heard.filter(|_| self.is_silent(now)) {
            self.flap(now, silent_since);
        }
        self.heard = Some(now);
        self.cut = false;
    }

    fn flap(&mut self, now: Instant, silent_since: Instant) {
        let quiet = self.flapped.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let forgiven = u32::try_from(quiet.as_secs() / FORGIVE.as_secs()).unwrap_or(u32::MAX);
        let earlier = self.flaps.saturating_sub(forgiven);
        // the first silence costs nothing, the next ones 1, 2, 4, ... seconds
        let hold = match earlier {
            0 => Duration::ZERO,
            1..=5 => Duration::from_secs(1 << (earlier - 1)),
            _ => MAX_HOLD,
        };
        let silent_since = self.hold.filter(|hold| now < hold.until).map_or(silent_since, |h| h.silent_since);
        self.flaps = earlier.saturating_add(1);
        self.flapped = Some(now);
        self.hold = Some(Hold { silent_since, until: now + hold });
    }

    pub(super) fn last_heard(&self) -> Option<Instant> {
        self.heard
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.cut || self.heard.is_none_or(|at| now.saturating_duration_since(at) >= SILENT_AFTER)
    }

    pub(super) fn stale_for(&self, now: Instant) -> Option<Duration> {
        let heard = self.heard?;
        let held = self.hold.filter(|hold| now < hold.until).map(|hold| hold.silent_since);
        let since = if self.is_silent(now) { Some(held.unwrap_or(heard)) } else { held };
        since.map(|since| now.saturating_duration_since(since))
    }

    /// When staleness changes by itself; `stale` is what it was found to be.
    pub(super) fn next_change(&self, stale: bool) -> Option<Instant> {
        let heard = self.heard?;
        if !stale {
            return Some(heard + SILENT_AFTER);
        }
        // in a hold: it ends, unless the peer is silent by then
        let speaks_until = if self.cut { heard } else { heard + SILENT_AFTER };
        self.hold.map(|hold| hold.until).filter(|until| *until < speaks_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_silence_is_over_at_once_and_repeated_ones_are_held() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert_eq!(silence.stale_for(at(9)), None, "never heard");
        silence.handle_open();
        silence.handle_heard(at(10));
        assert_eq!(silence.next_change(false), Some(at(13)));
        assert_eq!(silence.stale_for(at(12)), None);
        assert_eq!(silence.stale_for(at(13)), Some(Duration::from_secs(3)));
        silence.handle_heard(at(14));
        assert_eq!(silence.stale_for(at(14)), None);
        silence.handle_heard(at(18));
        assert_eq!(silence.stale_for(at(18)), Some(Duration::from_secs(4)), "the second one costs 1 s");
        assert_eq!(silence.next_change(true), Some(at(19)));
        assert_eq!(silence.stale_for(at(19)), None);
        for round in 0..20 {
            silence.handle_heard(at(30 + 10 * round));
        }
        assert!(silence.stale_for(at(220)).is_some());
        silence.handle_closed();
        assert!(silence.stale_for(at(221)).is_some());
        silence.handle_open();
        silence.handle_heard(at(3000));
        assert_eq!(silence.stale_for(at(3000)), None, "forgiven");
    }

    #[test]
    fn closing_the_last_connection_is_silence() {
        let now = Instant::now();
        let mut silence = Silence::default();
        silence.handle_open();
        silence.handle_open();
        silence.handle_heard(now);
        silence.handle_closed();
        assert_eq!(silence.stale_for(now), None);
        silence.handle_closed();
        assert_eq!(silence.stale_for(now), Some(Duration::ZERO));
        silence.handle_heard(now);
        assert_eq!(silence.stale_for(now), Some(Duration::ZERO), "a late frame of a closed connection");
    }
}
