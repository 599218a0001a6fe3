//! One pair of gateways, as this one sees it.

use super::window::Window;
use super::{HEARTBEAT_INTERVAL, Hearing, Heartbeat};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Heartbeats whose time of sending is remembered: more than are under way on any path.
const MAX_SENT: usize = 64;
/// A number that is lower by so much than the highest is not late: the peer counts anew.
const RESTARTED: u64 = 8;
/// A round trip that a heartbeat can show; a longer one is a peer that makes things up.
const MAX_RTT: Duration = Duration::from_secs(30);

/// What is measured between this gateway and one of the peer's: hearing, round trip, loss in both directions.
///
/// It outlives connections: it counts over all that the pair makes.
#[derive(Clone, Debug)]
pub struct PairHealth {
    /// The last time that a connection was made.
    opened: Instant,
    /// The highest number that was heard, and when.
    heard: Option<(u64, Instant)>,
    received: u64,
    seq: u64,
    due: Instant,
    said: Hearing,
    sent: VecDeque<(u64, Instant)>,
    rtt: Option<Duration>,
    inward: Window,
    outward: Window,
    /// The peer's silence as it said it last, and when.
    unheard: Option<(Instant, Duration)>,
}

impl PairHealth {
    /// Nothing has been heard yet; a connection is made now.
    pub fn new(now: Instant) -> Self {
        Self {
            opened: now,
            heard: None,
            received: 0,
            seq: 0,
            due: now,
            said: Hearing::Hears,
            sent: VecDeque::new(),
            rtt: None,
            inward: Window::default(),
            outward: Window::default(),
            unheard: None,
        }
    }

    /// A connection was made, which shows that both directions work.
    pub fn handle_open(&mut self, now: Instant) {
        self.opened = now;
        self.due = now;
    }

    /// A heartbeat of the other gateway arrived. Returns whether it is news: late and repeated ones are not.
    pub fn handle_heartbeat(&mut self, now: Instant, heartbeat: &Heartbeat) -> bool {
        if let Some((highest, _)) = self.heard {
            if highest.saturating_sub(heartbeat.seq) >= RESTARTED {
                self.received = 0;
            } else if heartbeat.seq <= highest {
                return false;
            }
        }
        self.heard = Some((heartbeat.seq, now));
        self.received += 1;
        self.inward.push(now, heartbeat.seq, self.received);
        let ago = Duration::from_millis(u64::from(heartbeat.heard_ago_ms));
        self.outward.push(now, heartbeat.heard, heartbeat.received);
        self.unheard = Some((now, ago));
        self.measure(now, heartbeat.heard, ago);
        true
    }

    fn measure(&mut self, now: Instant, heard: u64, ago: Duration) {
        let Some(at) = self.sent.iter().find(|(seq, _)| *seq == heard).map(|(_, at)| *at) else { return };
        // of one of ours only the first echo counts: after that the age may be of a new connection
        self.sent.retain(|(seq, _)| *seq > heard);
        let Some(sample) = now.saturating_duration_since(at).checked_sub(ago) else { return };
        if sample <= MAX_RTT {
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
    }

    /// The heartbeat that is due, if one is: `hearing` is what this gateway makes of the other's direction, `unix_ms` its clock.
    pub fn poll_heartbeat(&mut self, now: Instant, unix_ms: u64, hearing: Hearing) -> Option<Heartbeat> {
        if now < self.due && hearing == self.said {
            return None;
        }
        self.due = now + HEARTBEAT_INTERVAL;
        self.said = hearing;
        self.seq += 1;
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
        Some(Heartbeat {
            seq: self.seq,
            unix_ms,
            heard: self.heard.map_or(0, |(seq, _)| seq),
            received: self.received,
            heard_ago_ms: millis(self.silence(now)),
            hearing,
        })
    }

    /// When a heartbeat is due.
    pub fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// For how long nothing was heard.
    pub fn silence(&self, now: Instant) -> Duration {
        let since = self.heard.map_or(self.opened, |(_, at)| at.max(self.opened));
        now.saturating_duration_since(since)
    }

    /// The smoothed round trip; `None` before the first echo.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What is lost of the other's heartbeats, in percent of those of the last 20 s; `None` before there are two.
    pub fn loss_in(&self, now: Instant) -> Option<u8> {
        self.inward.loss(now, self.silence(now))
    }

    /// What is lost of ours, by what the other said last.
    pub fn loss_out(&self, now: Instant) -> Option<u8> {
        let (_, silent) = self.unheard?;
        self.outward.loss(now, silent)
    }
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends, 40 ms apart, where `passes` says which heartbeats arrive.
    fn run(seconds: u64, passes: impl Fn(bool, u64) -> bool) -> (PairHealth, PairHealth, Instant) {
        let start = Instant::now();
        let (mut a, mut b) = (PairHealth::new(start), PairHealth::new(start));
        let mut queue: Vec<(Instant, bool, Heartbeat)> = Vec::new();
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            now += Duration::from_millis(10);
            let due: Vec<_> = queue.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to_b, heartbeat) in due {
                let end = if to_b { &mut b } else { &mut a };
                assert!(end.handle_heartbeat(now, &heartbeat));
            }
            let sent = [
                (true, a.poll_heartbeat(now, 0, Hearing::Hears)),
                (false, b.poll_heartbeat(now, 0, Hearing::Hears)),
            ];
            for (to_b, heartbeat) in sent {
                let arrives = heartbeat.filter(|heartbeat| passes(to_b, heartbeat.seq));
                queue.extend(arrives.map(|heartbeat| (now + Duration::from_millis(40), to_b, heartbeat)));
            }
        }
        (a, b, now)
    }

    #[test]
    fn round_trips_are_measured_at_both_ends() {
        let (a, b, now) = run(30, |_, _| true);
        for end in [&a, &b] {
            assert_eq!(end.rtt(), Some(Duration::from_millis(80)));
            assert_eq!((end.loss_in(now), end.loss_out(now)), (Some(0), Some(0)));
        }
    }

    #[test]
    fn both_ends_know_the_loss_of_both_directions() {
        let (a, b, now) = run(60, |to_b, seq| !to_b || seq % 4 != 0);
        assert!((20..=30).contains(&b.loss_in(now).unwrap()), "{:?}", b.loss_in(now));
        assert!((20..=30).contains(&a.loss_out(now).unwrap()), "{:?}", a.loss_out(now));
        assert_eq!((a.loss_in(now), b.loss_out(now)), (Some(0), Some(0)));
    }

    #[test]
    fn a_direction_that_dies_is_lost_in_the_eyes_of_both() {
        let (a, b, now) = run(60, |to_b, seq| !to_b || seq < 40);
        assert_eq!((b.loss_in(now), a.loss_out(now)), (Some(100), Some(100)));
        assert!(b.silence(now) > Duration::from_secs(30) && a.silence(now) < Duration::from_secs(1));
        assert_eq!(a.loss_in(now), Some(0));
    }

    #[test]
    fn late_heartbeats_do_not_count_and_a_restarted_peer_counts_anew() {
        let start = Instant::now();
        let mut pair = PairHealth::new(start);
        let heartbeat = |seq| Heartbeat {
            seq,
            unix_ms: 0,
            heard: 0,
            received: 0,
            heard_ago_ms: 0,
            hearing: Hearing::Hears,
        };
        for seq in [1, 2, 50, u64::MAX] {
            assert!(pair.handle_heartbeat(start, &heartbeat(seq)));
            assert!(!pair.handle_heartbeat(start, &heartbeat(seq)), "repeated");
        }
        assert!(!pair.handle_heartbeat(start, &heartbeat(u64::MAX - 1)), "late");
        assert!(pair.handle_heartbeat(start, &heartbeat(1)), "restarted");
        let told = pair.poll_heartbeat(start, 0, Hearing::Hears).unwrap();
        assert_eq!((told.heard, told.received, told.seq), (1, 1, 1));
    }

    #[test]
    fn a_made_up_age_is_no_round_trip() {
        let start = Instant::now();
        let mut pair = PairHealth::new(start);
        let sent = pair.poll_heartbeat(start, 0, Hearing::Hears).unwrap().seq;
        let lie = Heartbeat {
            seq: 1,
            unix_ms: 0,
            heard: sent,
            received: 1,
            heard_ago_ms: u32::MAX,
            hearing: Hearing::Silent,
        };
        pair.handle_heartbeat(start + Duration::from_secs(1), &lie);
        assert_eq!(pair.rtt(), None);
    }
}
