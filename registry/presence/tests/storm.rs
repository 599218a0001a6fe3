//! A gateway with 50,000 sidecars dies, and they attach to the two others: nobody is taken for gone, and what the gateways tell
//! each other and their sidecars is bounded. Virtual time; the driver polls after every single input, which is the worst there is.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use causeway_model::{Health, Locality, NodeId, PortSet, Protocol, ServiceName, ServicePort, WorkloadId};
use causeway_presence::{
    Event, Incarnation, Message, Presence, PresenceConfig, Row, RowChange, ServedService,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DEAD: usize = 0;
const LOST: u64 = 50_000;
const ALL: u64 = 100_000;
/// The endpoints of each service.
const EACH: u64 = 1_000;
const STEP: Duration = Duration::from_millis(1);
const DELAY: Duration = Duration::from_millis(5);
/// A sidecar attaches again between one and four seconds after its gateway died.
const REATTACH: (u64, u64) = (1_000, 4_000);

/// What one gateway sent and told since the counts were reset.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    bytes: usize,
    largest: usize,
    up: u64,
    changed: u64,
    gone: u64,
    services: u64,
    worst: Duration,
}

struct Gateway {
    core: Presence,
    alive: bool,
    tally: Tally,
}

struct World {
    now: Instant,
    gateways: Vec<Gateway>,
    wire: VecDeque<(Instant, usize, NodeId, Message)>,
    /// At which gateway each workload is.
    homes: Vec<usize>,
}

fn node(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn row(number: u64, weight: u16) -> Row {
    let port = ServicePort { port: 80, protocol: Protocol::Http };
    let served = ServedService {
        name: format!("s{}.shop", number / EACH).parse().unwrap(),
        ports: PortSet::try_from(vec![port]).unwrap(),
        health: Health::Healthy,
    };
    Row {
        workload: WorkloadId(number),
        identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
        services: vec![served],
        locality: Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() },
        weight,
        overlay: vec!["192.0.2.1:7000".parse().unwrap()],
        release: "0.1.0".into(),
        svid_key: [7; 32],
        older_keys: Box::default(),
        seq: 0,
        attached: true,
    }
}

/// An upper bound of a message's size, in bytes.
fn size(message: &Message) -> usize {
    match message {
        Message::Deltas { changes, .. } => changes.iter().map(change_size).sum::<usize>() + 40,
        Message::Snapshot { rows, .. } => rows.iter().map(|row| row.encoded_len()).sum::<usize>() + 40,
        _ => 60,
    }
}

fn change_size(change: &RowChange) -> usize {
    match change {
        RowChange::Up(row) => row.encoded_len() + 9,
        RowChange::Gone { .. } => 27,
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let core = |index| Presence::new(node(index), Incarnation(1), PresenceConfig::default(), now);
        let gateway = |index| Gateway { core: core(index), alive: true, tally: Tally::default() };
        let homes = (0..ALL).map(|number| if number < LOST { DEAD } else { 1 + index(number % 2) });
        let mut world = Self {
            now,
            gateways: (0..3).map(gateway).collect(),
            wire: VecDeque::new(),
            homes: homes.collect(),
        };
        for (at, peer) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            world.with(at, |core, now| core.handle_peer_up(now, node(peer)));
        }
        world
    }

    /// One input of a gateway, and what it leads to.
    fn with(&mut self, at: usize, input: impl FnOnce(&mut Presence, Instant)) {
        let gateway = &mut self.gateways[at];
        if !gateway.alive {
            return;
        }
        let began = Instant::now();
        input(&mut gateway.core, self.now);
        gateway.tally.worst = gateway.tally.worst.max(began.elapsed());
        while let Some((to, message)) = gateway.core.poll_transmit() {
            let size = size(&message);
            gateway.tally.frames += 1;
            gateway.tally.bytes += size;
            gateway.tally.largest = gateway.tally.largest.max(size);
            self.wire.push_back((self.now + DELAY, at, to, message));
        }
        while let Some(event) = gateway.core.poll_event() {
            match event {
                Event::Up(_) => gateway.tally.up += 1,
                Event::Changed(_) => gateway.tally.changed += 1,
                Event::Gone(_) => gateway.tally.gone += 1,
                Event::ServiceChanged(_) => gateway.tally.services += 1,
            }
        }
    }

    fn attach(&mut self, number: u64, at: usize, weight: u16) {
        self.homes[index(number)] = at;
        self.with(at, |core, now| core.handle_attach(now, row(number, weight)).unwrap());
    }

    fn step(&mut self) {
        self.now += STEP;
        while let Some((_, from, to, message)) = self.wire.pop_front_if(|(due, ..)| *due <= self.now) {
            let at = index(to.0 - 1);
            self.with(at, |core, now| core.handle_message(now, node(from), message).unwrap());
        }
        for at in 0..self.gateways.len() {
            let due = self.gateways[at].core.poll_timeout();
            if due.is_some_and(|due| due <= self.now) {
                self.with(at, |core, now| core.handle_timeout(now));
            }
        }
    }

    /// Every workload probes its gateway, as it does twice a second.
    fn probe(&mut self) {
        let now = self.now;
        for (number, &home) in self.homes.iter().enumerate() {
            self.gateways[home].core.handle_seen(now, WorkloadId(number as u64));
        }
    }

    fn run(&mut self, millis: u64, mut each: impl FnMut(&mut Self, u64)) {
        for at in 0..millis {
            self.step();
            if at % 500 == 0 {
                self.probe();
            }
            each(self, at);
        }
    }

    fn reset(&mut self) {
        self.gateways.iter_mut().for_each(|gateway| gateway.tally = Tally::default());
    }
}

/// Where and when, after the death, a workload attaches again.
fn again(number: u64) -> (usize, u64) {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (1 + index(hash % 2), REATTACH.0 + hash % (REATTACH.1 - REATTACH.0))
}

/// `weight` is what the sidecars register when they attach again; they registered 100.
fn storm(weight: u16) -> World {
    let mut world = World::new();
    for number in 0..ALL {
        if number % 1_000 == 0 {
            world.step();
        }
        world.attach(number, world.homes[index(number)], 100);
    }
    world.run(1_000, |_, _| ());
    assert!(world.gateways.iter().all(|gateway| gateway.core.workload_count() as u64 == ALL));
    world.reset();

    world.gateways[DEAD].alive = false;
    let mut agenda = vec![Vec::new(); index(REATTACH.1)];
    for number in 0..LOST {
        let (at, when) = again(number);
        agenda[index(when)].push((number, at));
    }
    world.run(9_000, |world, at| {
        for (number, home) in agenda.get_mut(index(at)).map(std::mem::take).unwrap_or_default() {
            world.attach(number, home, weight);
        }
    });
    for (at, gateway) in world.gateways.iter().enumerate().skip(1) {
        println!("re-attached with weight {weight}: gateway {at}: {:?}", gateway.tally);
    }
    world
}

fn check(world: &World) {
    for gateway in &world.gateways[1..] {
        let (core, tally) = (&gateway.core, &gateway.tally);
        assert_eq!((tally.gone, tally.up, core.workload_count() as u64), (0, 0, ALL));
        assert!(core.workloads().all(|view| view.alive));
        assert!(core.counters().requests == 0 && core.counters().refused_rows == 0, "{:?}", core.counters());
        // told that its gateway died, and that another one vouches for it
        assert!(tally.changed <= 2 * LOST + LOST, "{}", tally.changed);
        assert!(tally.frames < 2_000 && tally.bytes < 25_000_000 && tally.largest < 1 << 20, "{tally:?}");
    }
}

#[test]
fn a_gateway_with_fifty_thousand_sidecars_dies_without_a_storm() {
    let world = storm(100);
    check(&world);
    assert!(world.gateways[1..].iter().all(|gateway| gateway.tally.services == 0), "no endpoint changed");
}

#[test]
fn endpoints_that_come_back_changed_are_told_in_few_changes_of_their_service() {
    let world = storm(50);
    check(&world);
    let services = LOST / EACH;
    let most = services * ((REATTACH.1 - REATTACH.0) / 100 + 2);
    for gateway in &world.gateways[1..] {
        assert!((services..=most).contains(&gateway.tally.services), "{} of {most}", gateway.tally.services);
    }
    let name: ServiceName = "s0.shop".parse().unwrap();
    assert!(world.gateways[1].core.endpoints(&name).all(|row| row.weight == 50));
}
