//! The probe state machine in virtual time.

use super::*;
use proptest::prelude::*;

const READY: ResponderState = ResponderState::Ready;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A path, its responder, and what is in flight between them.
struct World {
    start: Instant,
    now: Instant,
    path: PathState,
    in_use: bool,
    rtt: Duration,
    answers: bool,
    cookie: [u8; 16],
    in_flight: Vec<(Instant, u64, [u8; 16])>,
    sent: Vec<Instant>,
    changes: Vec<(Duration, Transition)>,
}

impl World {
    fn new(rtt: Duration, in_use: bool) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            path: PathState::new(ProbeTiming::default()),
            in_use,
            rtt,
            answers: true,
            cookie: [1; 16],
            in_flight: vec![],
            sent: vec![],
            changes: vec![],
        }
    }

    fn note(&mut self, change: Option<Transition>) {
        self.changes.extend(change.map(|change| (self.now - self.start, change)));
    }

    /// Advances by `time` in steps of half a millisecond.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let (arrived, rest) = self.in_flight.iter().partition(|(at, _, _)| *at <= self.now);
            self.in_flight = rest;
            for (_, seq, cookie) in arrived {
                let change = self.path.on_answer(self.now, seq, READY, 0, cookie);
                self.note(change);
            }
            if self.path.next_timeout().is_some_and(|at| at <= self.now) {
                let change = self.path.on_timeout(self.now);
                self.note(change);
            }
            if let Some(seq) = self.path.poll_probe(self.now, self.in_use) {
                self.sent.push(self.now);
                if self.answers {
                    self.in_flight.push((self.now + self.rtt, seq, self.cookie));
                }
            }
            let at_once = self.path.next_due(self.in_use).is_none_or(|due| due <= self.now);
            assert!(!at_once, "one probe at a time");
            self.now += Duration::from_micros(500);
        }
    }
}

#[test]
fn a_path_is_dead_until_its_cookie_has_been_echoed() {
    for in_use in [true, false] {
        let mut world = World::new(ms(30), in_use);
        world.run(ms(29));
        assert!(!world.path.is_alive());
        assert_eq!((world.path.srtt(), world.path.cookie()), (None, [0; 16]));
        world.run(ms(5));
        // it answers, and drops packets: no probe that has arrived carried the cookie
        assert!(!world.path.is_alive());
        assert_eq!((world.path.srtt(), world.path.cookie()), (Some(ms(30)), [1; 16]));
        let first = if in_use { 2 } else { 1 };
        assert_eq!(world.sent.get(first), Some(&(world.start + ms(30))), "the cookie goes back at once");
        world.run(ms(25));
        assert!(!world.path.is_alive(), "an answer to a probe without it is none to the cookie");
        world.run(ms(5));
        assert!(world.path.is_alive());
        world.run(ms(2000));
        assert_eq!(world.changes.len(), 1, "{:?}", world.changes);
        assert!(world.path.loss() < 0.01);
        assert_eq!(world.path.generation(), 0);
    }
}

#[test]
fn a_responder_that_was_started_again_is_dead_until_it_admits_the_path() {
    let mut world = World::new(ms(1), true);
    world.run(ms(100));
    assert!(world.path.is_alive());
    world.cookie = [2; 16];
    world.run(ms(100));
    let changes: Vec<Transition> = world.changes.iter().map(|change| change.1).collect();
    assert_eq!(changes, [Transition::Alive, Transition::Dead, Transition::Alive]);
    let outage = world.changes[2].0 - world.changes[1].0;
    assert!(outage <= ms(2), "{outage:?}");
    assert_eq!(world.path.generation(), 1);
}

#[test]
fn an_admission_that_is_lost_is_tried_again_soon() {
    let mut world = World::new(ms(1), false);
    world.run(ms(1));
    world.answers = false;
    world.run(ms(1));
    assert_eq!((world.sent.len(), world.path.is_alive()), (2, false));
    world.answers = true;
    world.run(ms(25));
    assert!(world.path.is_alive());
}

#[test]
fn a_responder_whose_cookies_always_differ_is_not_probed_without_a_pause() {
    let mut world = World::new(ms(1), true);
    for at in 0..250u32 {
        world.cookie[..4].copy_from_slice(&at.to_be_bytes());
        world.run(ms(4));
    }
    assert!(!world.path.is_alive());
    assert!(world.sent.len() <= 110, "{}", world.sent.len());
}

#[test]
fn probes_go_out_fast_in_use_and_slowly_otherwise() {
    let mut world = World::new(ms(1), true);
    world.run(ms(1000));
    assert!((50..=51).contains(&world.sent.len()), "{}", world.sent.len());
    world.in_use = false;
    world.run(ms(1000));
    assert!((52..=54).contains(&world.sent.len()), "{}", world.sent.len());
    // the moment it is used again the next probe is due
    world.in_use = true;
    let now = world.now;
    world.run(ms(1));
    assert_eq!(world.sent.last(), Some(&now));
}

#[test]
fn an_idle_path_that_misses_is_probed_fast_until_it_is_dead() {
    let mut world = World::new(ms(1), false);
    world.run(ms(100));
    assert!(!world.path.is_unanswered());
    world.answers = false;
    world.run(ms(700));
    assert!(world.path.is_unanswered());
    assert_eq!(world.changes.last().map(|change| change.1), Some(Transition::Dead));
    let dead = world.changes[1].0;
    assert!(dead <= ms(500 + 90), "{dead:?}");
}

#[test]
fn the_responders_interval_is_kept_but_not_without_bound() {
    for (asked, kept) in [(0, 20), (100, 100), (u32::MAX, 5000)] {
        let start = Instant::now();
        let mut path = PathState::new(ProbeTiming::default());
        let seq = path.poll_probe(start, true).unwrap();
        assert_eq!(path.on_answer(start, seq, READY, asked, [0; 16]), Some(Transition::Alive));
        assert_eq!(path.next_due(true), Some(start + ms(kept)), "{asked}");
        // not even the start of use undercuts it
        assert_eq!(path.poll_probe(start + ms(5), false), None);
        let first_use = path.next_due(true);
        assert_eq!(first_use, Some(start + if asked == 0 { ms(0) } else { ms(kept) }));
    }
}

#[test]
fn a_responder_that_is_not_ready_is_dead_but_gives_its_cookie() {
    let mut now = Instant::now();
    let mut path = PathState::new(ProbeTiming::default());
    for (state, change) in [
        (ResponderState::NotReady, None),
        (ResponderState::NotReady, None),
        (READY, Some(Transition::Alive)),
        (READY, None),
        (ResponderState::NotReady, Some(Transition::Dead)),
        (ResponderState::NotReady, None),
        (READY, Some(Transition::Alive)),
    ] {
        let seq = path.poll_probe(now, true).unwrap();
        assert_eq!(path.on_answer(now + ms(1), seq, state, 0, [7; 16]), change, "{state:?}");
        assert_eq!(path.cookie(), [7; 16]);
        now += ms(20);
    }
}

#[test]
fn answers_to_probes_never_sent_change_nothing() {
    let now = Instant::now();
    let mut path = PathState::new(ProbeTiming::default());
    let seq = path.poll_probe(now, true).unwrap();
    assert_eq!(path.on_answer(now, seq + 1, READY, 0, [7; 16]), None);
    assert_eq!(path.on_answer(now + ms(3500), seq, READY, 0, [7; 16]), None);
    assert!(!path.is_alive() && path.cookie() == [0; 16]);
    let seq = path.poll_probe(now + ms(4000), true).unwrap();
    assert_eq!(path.on_answer(now + ms(4001), seq, READY, 0, [0; 16]), Some(Transition::Alive));
    assert_eq!(path.on_answer(now + ms(4001), seq, READY, 0, [8; 16]), None);
    assert_eq!((path.cookie(), path.generation()), ([0; 16], 0));
}

#[test]
fn an_old_answer_does_not_hide_newer_misses() {
    let start = Instant::now();
    let mut path = PathState::new(ProbeTiming::default());
    let first = path.poll_probe(start, true).unwrap();
    path.on_answer(start + ms(1), first, READY, 0, [0; 16]);
    let late = path.poll_probe(start + ms(20), true).unwrap();
    for at in [40, 60, 80] {
        path.poll_probe(start + ms(at), true).unwrap();
    }
    assert_eq!(path.on_timeout(start + ms(101)), Some(Transition::Dead));
    assert_eq!(path.on_answer(start + ms(102), late, READY, 0, [0; 16]), None);
    assert!(!path.is_alive());
    // one to a newer probe does revive the path
    assert_eq!(path.on_answer(start + ms(103), late + 2, READY, 0, [0; 16]), Some(Transition::Alive));
}

#[test]
fn a_probe_that_was_not_sent_is_due_again_and_no_miss() {
    let now = Instant::now();
    let mut path = PathState::new(ProbeTiming::default());
    let seq = path.poll_probe(now, true).unwrap();
    path.cancel(seq);
    assert_eq!((path.next_due(true), path.next_timeout()), (None, None));
    assert!(path.poll_probe(now, true).is_some());
}

#[test]
fn a_hurried_path_is_probed_after_one_fast_interval() {
    let now = Instant::now();
    let mut path = PathState::new(ProbeTiming::default());
    path.poll_probe(now, false).unwrap();
    assert_eq!(path.next_due(false), Some(now + ms(500)));
    path.hurry();
    assert_eq!(path.next_due(false), Some(now + ms(20)));
    assert!(path.poll_probe(now + ms(20), false).is_some());
    assert_eq!(path.next_due(false), Some(now + ms(520)));
}

#[test]
fn a_path_whose_delay_grows_recovers() {
    let mut world = World::new(ms(10), true);
    world.run(ms(500));
    world.rtt = ms(200);
    world.run(ms(2000));
    assert!(world.path.is_alive());
    let changes = world.changes.len();
    world.run(ms(5000));
    assert_eq!(world.changes.len(), changes, "{:?}", world.changes);
}

proptest! {
    #[test]
    fn a_path_in_use_is_dead_soon_after_its_responder_stops(rtt_us in 50u64..5000, alive_ms in 50u64..1000, off_us in 0u64..20_000) {
        let mut world = World::new(Duration::from_micros(rtt_us), true);
        world.run(ms(alive_ms) + Duration::from_micros(off_us));
        prop_assert!(world.path.is_alive());
        world.answers = false;
        let stopped = world.now - world.start;
        world.run(ms(200));
        prop_assert_eq!(world.changes.len(), 2);
        let (at, change) = world.changes[1];
        prop_assert_eq!(change, Transition::Dead);
        prop_assert!(at - stopped <= ms(90), "{:?}", at - stopped);
        // and it comes back with its first answer
        world.answers = true;
        world.in_use = false;
        world.run(ms(520));
        prop_assert!(world.path.is_alive());
    }

    #[test]
    fn any_order_of_events_keeps_the_bounds(events in proptest::collection::vec((0u8..6, 0u64..300, any::<u32>()), 0..400)) {
        let mut now = Instant::now();
        let mut path = PathState::new(ProbeTiming::default());
        let mut alive = false;
        for (kind, amount, word) in events {
            let change = match kind {
                0 => { now += ms(amount); None }
                1 => { path.poll_probe(now, word % 2 == 0); None }
                2 => path.on_timeout(now),
                3 => path.on_answer(now, amount, READY, word % 100, [u8::from(word % 16 == 0); 16]),
                4 => path.on_answer(now, amount, ResponderState::NotReady, word, [1; 16]),
                _ => { if word % 8 == 0 { path.cancel(amount) } else { path.hurry() }; None }
            };
            match change {
                Some(Transition::Alive) => { prop_assert!(!alive); alive = true; }
                Some(Transition::Dead) => { prop_assert!(alive); alive = false; }
                None => {}
            }
            prop_assert_eq!(path.is_alive(), alive);
            prop_assert!(path.sent.len() <= MAX_OUTSTANDING);
            prop_assert!((0.0..=1.0).contains(&path.loss()));
            prop_assert!(path.next_timeout().is_none_or(|at| at <= now + FORGET));
        }
    }
}
