use super::*;

const LATENCY: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(10);
/// When a connection over which nothing arrives is given up.
const IDLE: Duration = Duration::from_secs(4);

fn id(cluster: u32, node: u64) -> GatewayId {
    GatewayId { cluster: ClusterId::new(cluster).unwrap(), node: NodeId(node) }
}

enum Message {
    Heartbeat(Heartbeat),
    Reports(Vec<PairReport>),
}

/// One end of a connection.
struct End {
    from: GatewayId,
    to: GatewayId,
    /// When something arrived here last; nothing once this end has given up.
    alive: Option<Instant>,
}

/// Two clusters; connections between some of their gateways; directions that lose everything.
struct World {
    start: Instant,
    now: Instant,
    gateways: BTreeMap<GatewayId, LinkHealth>,
    ends: Vec<End>,
    cut: Vec<(GatewayId, GatewayId)>,
    dead: Vec<GatewayId>,
    queue: Vec<(Instant, GatewayId, GatewayId, Message)>,
}

impl World {
    fn new(connections: &[(GatewayId, GatewayId)]) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            gateways: BTreeMap::new(),
            ends: Vec::new(),
            cut: Vec::new(),
            dead: Vec::new(),
            queue: Vec::new(),
        };
        for (a, b) in connections {
            world.connect(*a, *b);
        }
        world
    }

    fn connect(&mut self, a: GatewayId, b: GatewayId) {
        self.ends.retain(|end| !(end.from == a && end.to == b || end.from == b && end.to == a));
        for (from, to) in [(a, b), (b, a)] {
            let health = self.gateways.entry(from).or_insert_with(|| LinkHealth::new(from, to.cluster));
            health.handle_open(self.now, to.node);
            self.ends.push(End { from, to, alive: Some(self.now) });
        }
    }

    fn send(&mut self, from: GatewayId, to: GatewayId, message: Message) {
        if !self.cut.contains(&(from, to)) && !self.dead.contains(&from) && !self.dead.contains(&to) {
            self.queue.push((self.now + LATENCY, from, to, message));
        }
    }

    fn deliver(&mut self) {
        let due: Vec<_> = self.queue.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, from, to, message) in due {
            let sibling = from.cluster == to.cluster;
            let end = self.ends.iter_mut().find(|end| end.from == to && end.to == from);
            if !sibling {
                let Some(alive) = end.and_then(|end| end.alive.as_mut()) else { continue };
                *alive = self.now;
            }
            let gateway = self.gateways.get_mut(&to).unwrap();
            match message {
                Message::Heartbeat(heartbeat) => gateway.handle_heartbeat(self.now, from.node, &heartbeat),
                Message::Reports(reports) if sibling => gateway.handle_sibling_reports(self.now, &reports),
                Message::Reports(reports) => gateway.handle_peer_reports(self.now, &reports),
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.deliver();
        let now = self.now;
        for end in &mut self.ends {
            end.alive.take_if(|alive| now.saturating_duration_since(*alive) >= IDLE);
        }
        let ids: Vec<GatewayId> = self.gateways.keys().copied().collect();
        for own in &ids {
            let open: Vec<GatewayId> = self
                .ends
                .iter()
                .filter(|end| end.from == *own && end.alive.is_some())
                .map(|end| end.to)
                .collect();
            let gateway = self.gateways.get_mut(own).unwrap();
            let clock = millis(now - self.start).into();
            let reports = gateway.poll_reports(now, clock);
            let mut out: Vec<(GatewayId, Message)> = Vec::new();
            for to in open {
                let heartbeat = gateway.poll_heartbeat(now, clock, to.node);
                out.extend(heartbeat.map(|heartbeat| (to, Message::Heartbeat(heartbeat))));
                out.extend(reports.as_ref().map(|r| (to, Message::Reports(r.to_peer.clone()))));
            }
            for sibling in ids.iter().filter(|id| id.cluster == own.cluster && *id != own) {
                out.extend(reports.as_ref().map(|r| (*sibling, Message::Reports(r.to_siblings.clone()))));
            }
            for (to, message) in out {
                self.send(*own, to, message);
            }
        }
    }

    fn verdict(&self, at: GatewayId, of: GatewayId) -> Verdict {
        self.gateways[&at].verdict(self.now, of.node).unwrap()
    }

    /// Runs for `seconds`; `check` sees the time since the beginning of the run after every step.
    fn run(&mut self, seconds: u64, mut check: impl FnMut(&Self, Duration)) {
        let start = self.now;
        while self.now < start + Duration::from_secs(seconds) {
            self.step();
            check(self, self.now - start);
        }
    }

    /// Both ends of the pair say `verdict`, from 3 s on and as long as this runs.
    fn expect(&mut self, seconds: u64, (a, b): (GatewayId, GatewayId), verdict: Verdict) {
        self.run(seconds, |world, since| {
            let both = [world.verdict(a, b), world.verdict(b, a)];
            let allowed = |said: &Verdict| *said == verdict || since < Duration::from_secs(3);
            assert!(both.iter().all(allowed), "{since:?} ({:?}): {both:?}", world.now - world.start);
        });
    }
}

/// Gateways 1 and 2 of clusters 1 and 2; node ids are the same in both on purpose.
fn four() -> (GatewayId, GatewayId, GatewayId, GatewayId) {
    (id(1, 1), id(1, 2), id(2, 1), id(2, 2))
}

#[test]
fn a_pair_that_works_is_up_and_stays_so() {
    let (a1, a2, b1, b2) = four();
    let mut world = World::new(&[(a1, b1), (a2, b2)]);
    world.run(30, |world, _| assert_eq!(world.verdict(a1, b1), Verdict::Up));
    assert_eq!(
        world.gateways[&a2].verdicts(world.now),
        [(a1, b1, Verdict::Up), (a2, b2, Verdict::Up)],
        "what others measure is known here, too"
    );
    assert_eq!(world.gateways[&a1].pair(b1.node).unwrap().rtt(), Some(LATENCY * 2));
}

#[test]
fn one_way_loss_has_one_name_at_both_ends_and_outlives_the_connection() {
    let (a1, a2, b1, b2) = four();
    for (from, to) in [(a1, b1), (b1, a1)] {
        for offset in 0..10 {
            let mut world = World::new(&[(a1, b1), (a2, b2)]);
            world.run(5, |_, _| {});
            (0..offset * 5).for_each(|_| world.step());
            world.cut = vec![(from, to)];
            world.expect(60, (a1, b1), Verdict::OneWay { from, to });
            assert!(world.ends.iter().all(|end| end.alive.is_some() == (end.from.node == NodeId(2))));
            for at in [a1, a2, b1, b2] {
                let verdicts = world.gateways[&at].verdicts(world.now);
                assert!(verdicts.iter().any(|(.., said)| *said == Verdict::OneWay { from, to }), "{at:?}");
            }
            world.cut.clear();
            world.connect(a1, b1);
            world.expect(10, (a1, b1), Verdict::Up);
        }
    }
}

#[test]
fn a_direct_third_connection_serves_as_well() {
    let (a1, _, b1, b2) = four();
    let mut world = World::new(&[(a1, b1), (a1, b2)]);
    world.run(5, |_, _| {});
    world.cut = vec![(a1, b1)];
    world.expect(30, (a1, b1), Verdict::OneWay { from: a1, to: b1 });
    assert_eq!(world.verdict(a1, b2), Verdict::Up);
}

#[test]
fn without_another_connection_both_ends_call_it_silent() {
    let (a1, _, b1, _) = four();
    for cut in [vec![(a1, b1)], vec![(b1, a1)], vec![(a1, b1), (b1, a1)]] {
        let mut world = World::new(&[(a1, b1)]);
        world.run(5, |_, _| {});
        world.cut = cut;
        world.expect(30, (a1, b1), Verdict::Silent);
        world.cut.clear();
        world.connect(a1, b1);
        world.expect(10, (a1, b1), Verdict::Up);
    }
}

#[test]
fn a_one_way_loss_becomes_silence_when_the_last_connection_goes() {
    let (a1, a2, b1, b2) = four();
    let mut world = World::new(&[(a1, b1), (a2, b2)]);
    world.cut = vec![(a1, b1)];
    world.expect(20, (a1, b1), Verdict::OneWay { from: a1, to: b1 });
    world.cut = vec![(a1, b1), (b1, a1), (a2, b2), (b2, a2)];
    world.run(10, |_, _| {});
    world.expect(10, (a1, b1), Verdict::Silent);
    assert_eq!(world.verdict(a2, b2), Verdict::Silent);
}

#[test]
fn a_gateway_that_dies_is_silent_and_never_one_way() {
    let (a1, a2, b1, b2) = four();
    for offset in 0..50 {
        let mut world = World::new(&[(a1, b1), (a2, b2)]);
        world.run(5, |_, _| {});
        (0..offset).for_each(|_| world.step());
        world.dead = vec![b1];
        world.run(20, |world, since| {
            let verdict = world.verdict(a1, b1);
            assert!(!matches!(verdict, Verdict::OneWay { .. }), "{since:?}: {verdict:?}");
            assert!(since < Duration::from_secs(3) || verdict == Verdict::Silent);
        });
    }
}

#[test]
fn a_peer_has_no_say_in_what_we_hear_and_cannot_fill_the_memory() {
    let (a1, _, b1, _) = four();
    let mut world = World::new(&[(a1, b1)]);
    world.run(5, |_, _| {});
    let now = world.now;
    let gateway = world.gateways.get_mut(&a1).unwrap();
    let lie = |from, to| PairReport {
        from,
        to,
        unix_ms: u64::MAX,
        heard_ago_ms: u32::MAX,
        said_ago_ms: 0,
        hearing: Hearing::OneWay,
    };
    let lies = [lie(b1, a1), lie(b1, id(1, 9)), lie(id(3, 1), b1), lie(a1, id(3, 1))];
    gateway.handle_peer_reports(now, &lies);
    assert_eq!(gateway.verdicts(now), [(a1, b1, Verdict::Up)]);
    for round in 0..20 {
        let many: Vec<_> = (0..1000).map(|node| lie(id(1, round * 1000 + node), b1)).collect();
        gateway.handle_peer_reports(now, &many);
        assert!(gateway.statements.len() <= MAX_STATEMENTS);
    }
    for node in 0..1000 {
        gateway.handle_open(now, NodeId(node));
    }
    assert_eq!(gateway.pairs.len(), MAX_PAIRS);
    gateway.forget(b1.node);
    assert_eq!(gateway.verdict(now, b1.node), None);
}

#[test]
fn the_timers_come_to_rest_between_heartbeats() {
    let (a1, _, b1, _) = four();
    let mut world = World::new(&[(a1, b1)]);
    world.run(3, |_, _| {});
    let gateway = world.gateways.get_mut(&a1).unwrap();
    let mut now = world.now;
    for _ in 0..20 {
        let clock = millis(now - world.start).into();
        let _ = (gateway.poll_heartbeat(now, clock, b1.node), gateway.poll_reports(now, clock));
        let next = gateway.poll_timeout(now).unwrap();
        assert!(next > now && next <= now + HEARTBEAT_INTERVAL);
        now = next;
    }
}
