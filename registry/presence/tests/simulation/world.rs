//! The simulated cluster: gateways, their connections, workloads, and the truth to compare with.

use crate::rng::Rng;
use causeway_model::{Health, Locality, NodeId, PortSet, Protocol, ServiceName, ServicePort, WorkloadId};
use causeway_presence::{
    Counters, Event, Incarnation, Message, Presence, PresenceConfig, Row, ServedService, WorkloadView,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PROBE: Duration = Duration::from_millis(500);
/// How long a broken connection stays unnoticed.
const NOTICE: Duration = Duration::from_millis(1000);

/// How the network treats messages between gateways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) loss_percent: u64,
    pub(crate) delay_ms: (u64, u64),
    pub(crate) repeat_percent: u64,
}

enum Action {
    Deliver { from: NodeId, to: NodeId, message: Message },
    PeerUp(NodeId, NodeId),
    PeerDown(NodeId, NodeId),
    Probe(WorkloadId),
    Attach(WorkloadId, NodeId),
}

/// A gateway process and what was learned from its events alone.
struct Gateway {
    core: Presence,
    known: BTreeSet<WorkloadId>,
    counts: BTreeMap<ServiceName, (usize, usize)>,
    events: Vec<Event>,
}

struct Workload {
    row: Row,
    homes: BTreeSet<NodeId>,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) net: Net,
    now: Instant,
    start: Instant,
    config: PresenceConfig,
    gateways: BTreeMap<NodeId, Option<Gateway>>,
    incarnations: BTreeMap<NodeId, u64>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    agenda: BTreeMap<(Instant, u64), Action>,
    sequence: u64,
    workloads: BTreeMap<WorkloadId, Workload>,
    next_workload: u64,
    delivered: u64,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl World {
    pub(crate) fn new(seed: u64, gateways: u64, config: PresenceConfig, net: Net) -> Self {
        let now = Instant::now();
        let mut world = Self {
            rng: Rng::new(seed),
            net,
            now,
            start: now,
            config,
            gateways: (1..=gateways).map(|node| (NodeId(node), None)).collect(),
            incarnations: BTreeMap::new(),
            cuts: BTreeSet::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            workloads: BTreeMap::new(),
            next_workload: 1,
            delivered: 0,
        };
        (1..=gateways).for_each(|node| world.restart(NodeId(node)));
        world
    }

    pub(crate) fn size(&self) -> u64 {
        self.gateways.len() as u64
    }

    pub(crate) fn live(&self) -> Vec<NodeId> {
        self.gateways.iter().filter(|(_, gateway)| gateway.is_some()).map(|(&node, _)| node).collect()
    }

    pub(crate) fn all(&self) -> Vec<WorkloadId> {
        self.workloads.keys().copied().collect()
    }

    pub(crate) fn homes(&self, id: WorkloadId) -> Vec<NodeId> {
        self.workloads[&id].homes.iter().copied().collect()
    }

    pub(crate) fn workloads_at(&self, node: NodeId) -> Vec<WorkloadId> {
        self.core(node).workloads().map(|view| view.row.workload).collect()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = Counters> {
        self.gateways.values().flatten().map(|gateway| gateway.core.counters())
    }

    /// How often the process at `node` told `event`.
    pub(crate) fn saw(&self, node: NodeId, event: &Event) -> usize {
        self.gateways[&node].as_ref().unwrap().events.iter().filter(|&seen| seen == event).count()
    }

    pub(crate) fn fingerprint(&self) -> (u64, Vec<Vec<Event>>) {
        (self.delivered, self.gateways.values().flatten().map(|gateway| gateway.events.clone()).collect())
    }

    fn core(&self, node: NodeId) -> &Presence {
        &self.gateways[&node].as_ref().unwrap().core
    }

    fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Presence, Instant)) {
        let now = self.now;
        if let Some(gateway) = self.gateways.get_mut(&node).and_then(Option::as_mut) {
            act(&mut gateway.core, now);
        }
        self.drain();
    }

    fn schedule(&mut self, delay: Duration, action: Action) {
        self.sequence += 1;
        self.agenda.insert((self.now + delay, self.sequence), action);
    }

    fn random_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.below(to.saturating_sub(from) + 1))
    }

    // gateways

    pub(crate) fn kill(&mut self, node: NodeId) {
        if self.live().len() > 1 && self.gateways.insert(node, None).flatten().is_some() {
            self.workloads.values_mut().for_each(|workload| _ = workload.homes.remove(&node));
            for other in self.live() {
                self.schedule(NOTICE, Action::PeerDown(other, node));
            }
        }
    }

    /// Starts a gateway that is not running.
    pub(crate) fn restart(&mut self, node: NodeId) {
        if self.gateways[&node].is_some() {
            return;
        }
        let incarnation = self.incarnations.entry(node).or_default();
        *incarnation += 1;
        let core = Presence::new(node, Incarnation(*incarnation), self.config.clone(), self.now);
        let gateway = Gateway { core, known: BTreeSet::new(), counts: BTreeMap::new(), events: Vec::new() };
        self.gateways.insert(node, Some(gateway));
        for other in self.live().into_iter().filter(|&other| other != node) {
            self.connect(node, other);
        }
    }

    fn connect(&mut self, a: NodeId, b: NodeId) {
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.random_ms(1, 100);
            self.schedule(delay, Action::PeerUp(at, peer));
        }
    }

    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        if a != b && self.cuts.insert(pair(a, b)) {
            self.schedule(NOTICE, Action::PeerDown(a, b));
            self.schedule(NOTICE, Action::PeerDown(b, a));
        }
    }

    pub(crate) fn heal(&mut self, a: NodeId, b: NodeId) {
        if self.cuts.remove(&pair(a, b)) {
            // a connection is only made anew once the old one is known to be broken
            self.agenda
                .retain(|_, action| !matches!(action, Action::PeerDown(x, y) if pair(*x, *y) == pair(a, b)));
            self.connect(a, b);
        }
    }

    /// Everything is connected and running, every workload is attached somewhere.
    pub(crate) fn end_disturbance(&mut self) {
        self.cuts.clone().into_iter().for_each(|(a, b)| self.heal(a, b));
        (1..=self.size()).for_each(|node| self.restart(NodeId(node)));
        self.reattach_orphans(Duration::ZERO, Duration::from_millis(1000));
    }

    // workloads

    pub(crate) fn birth(&mut self, homes: u64) -> WorkloadId {
        let id = WorkloadId(self.next_workload);
        self.next_workload += 1;
        let row = row(id);
        self.workloads.insert(id, Workload { row, homes: BTreeSet::new() });
        for _ in 0..homes {
            let live = self.live();
            let node = *self.rng.pick(&live).unwrap();
            self.attach(id, node);
        }
        let phase = self.random_ms(0, 500);
        self.schedule(phase, Action::Probe(id));
        id
    }

    fn attach(&mut self, id: WorkloadId, node: NodeId) {
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        if self.gateways[&node].is_some() {
            workload.homes.insert(node);
            let row = workload.row.clone();
            self.with(node, |core, now| core.handle_attach(now, row).unwrap());
        }
    }

    /// Every workload whose gateways all died attaches to a live one, between two times from now.
    pub(crate) fn reattach_orphans(&mut self, earliest: Duration, latest: Duration) {
        let orphans: Vec<_> =
            self.workloads.iter().filter(|(_, w)| w.homes.is_empty()).map(|(&id, _)| id).collect();
        let span = u64::try_from(latest.saturating_sub(earliest).as_millis()).unwrap();
        for id in orphans {
            let live = self.live();
            let node = *self.rng.pick(&live).unwrap();
            let delay = earliest + self.random_ms(0, span);
            self.schedule(delay, Action::Attach(id, node));
        }
    }

    /// Silently.
    pub(crate) fn die(&mut self, id: WorkloadId) {
        self.workloads.remove(&id);
    }

    pub(crate) fn goodbye(&mut self, id: WorkloadId) {
        for node in self.workloads.remove(&id).map(|workload| workload.homes).unwrap_or_default() {
            self.with(node, |core, now| core.handle_goodbye(now, id));
        }
    }

    pub(crate) fn change_health(&mut self, id: WorkloadId) {
        let health = if self.rng.percent(50) { Health::Healthy } else { Health::Unhealthy };
        let workload = self.workloads.get_mut(&id).unwrap();
        let service = workload.row.services.first_mut().unwrap();
        service.health = health;
        let name = service.name.clone();
        for node in workload.homes.clone() {
            self.with(node, |core, now| core.handle_health(now, id, &name, health));
        }
    }

    pub(crate) fn change_release(&mut self, id: WorkloadId) {
        let release = self.rng.below(1000).to_string();
        let workload = self.workloads.get_mut(&id).unwrap();
        workload.row.release = release;
        for node in workload.homes.clone() {
            self.attach(id, node);
        }
    }

    /// Attaches to another gateway first, then leaves one without a word.
    pub(crate) fn relocate(&mut self, id: WorkloadId) {
        let live = self.live();
        let to = *self.rng.pick(&live).unwrap();
        self.attach(id, to);
        let homes = &mut self.workloads.get_mut(&id).unwrap().homes;
        if let Some(&from) = homes.iter().find(|&&home| home != to) {
            homes.remove(&from);
            self.with(from, |core, now| core.handle_detach(now, id));
        }
    }

    pub(crate) fn detach(&mut self, id: WorkloadId) {
        for node in self.homes(id) {
            self.with(node, |core, now| core.handle_detach(now, id));
        }
    }

    // time

    pub(crate) fn run(&mut self, length: Duration) {
        let end = self.now + length;
        self.drain();
        loop {
            let timers = self.gateways.values().flatten().filter_map(|gateway| gateway.core.poll_timeout());
            let next = timers.chain(self.agenda.first_key_value().map(|((time, _), _)| *time)).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let action = entry.remove();
            self.act(action);
        }
        for gateway in self.gateways.values_mut().flatten() {
            if gateway.core.poll_timeout().is_some_and(|due| due <= now) {
                gateway.core.handle_timeout(now);
            }
        }
        self.drain();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver { from, to, message } if !self.cuts.contains(&pair(from, to)) => {
                self.delivered += 1;
                // refused only where the receiver does not know of the connection yet
                self.with(to, |core, now| {
                    let result = core.handle_message(now, from, message);
                    assert!(result.is_ok() || core.peers().all(|peer| peer.node != from), "{result:?}");
                });
            }
            Action::Deliver { .. } => {}
            Action::PeerUp(at, peer) => {
                if !self.cuts.contains(&pair(at, peer)) && self.gateways[&peer].is_some() {
                    self.with(at, |core, now| core.handle_peer_up(now, peer));
                }
            }
            Action::PeerDown(at, peer) => {
                if self.cuts.contains(&pair(at, peer)) || self.gateways[&peer].is_none() {
                    self.with(at, |core, now| core.handle_peer_down(now, peer));
                }
            }
            Action::Probe(id) => {
                if self.workloads.contains_key(&id) {
                    self.homes(id)
                        .into_iter()
                        .for_each(|node| self.with(node, |core, now| core.handle_seen(now, id)));
                    self.schedule(PROBE, Action::Probe(id));
                }
            }
            Action::Attach(id, node) => match (&self.gateways[&node], self.workloads.get(&id)) {
                (Some(_), Some(workload)) if workload.homes.is_empty() => self.attach(id, node),
                (None, Some(_)) => self.reattach_orphans(Duration::ZERO, Duration::from_millis(500)),
                _ => {}
            },
        }
    }

    fn drain(&mut self) {
        let mut sent = Vec::new();
        for (&from, gateway) in &mut self.gateways {
            let Some(gateway) = gateway else { continue };
            while let Some((to, message)) = gateway.core.poll_transmit() {
                sent.push((from, to, message));
            }
            gateway.take_events();
        }
        for (from, to, message) in sent {
            let copies = if self.rng.percent(self.net.repeat_percent) { 2 } else { 1 };
            for _ in 0..copies {
                if !self.rng.percent(self.net.loss_percent) {
                    let delay = self.random_ms(self.net.delay_ms.0, self.net.delay_ms.1);
                    self.schedule(delay, Action::Deliver { from, to, message: message.clone() });
                }
            }
        }
    }

    // truth

    /// Every live gateway says exactly what is true, and its events alone told the same.
    pub(crate) fn check_settled(&self) {
        for (node, gateway) in &self.gateways {
            let Some(gateway) = gateway else { continue };
            let views: BTreeMap<WorkloadId, WorkloadView<'_>> =
                gateway.core.workloads().map(|view| (view.row.workload, view)).collect();
            let peers: Vec<_> = gateway.core.peers().collect();
            let context = format!("gateway {node} after {:?}, siblings {peers:?}", self.now - self.start);
            let (said, truth): (Vec<_>, Vec<_>) = (views.keys().collect(), self.workloads.keys().collect());
            assert_eq!(said, truth, "{context}");
            assert!(
                gateway.known.iter().eq(views.keys()),
                "{context}: events do not tell what the view says"
            );
            for (id, workload) in &self.workloads {
                let view = &views[id];
                assert!(view.alive && view.row.says_the_same(&workload.row), "{context}: {view:?}");
                let gateways: BTreeSet<NodeId> = view.gateways.iter().copied().collect();
                assert_eq!(gateways, workload.homes, "{context}: {id}");
                let through = gateway.core.gateway_of(*id).unwrap();
                assert!(if gateways.contains(node) { through == *node } else { gateways.contains(&through) });
            }
            self.check_services(gateway, &context);
        }
    }

    fn check_services(&self, gateway: &Gateway, context: &str) {
        let mut truth: BTreeMap<ServiceName, (usize, usize)> = BTreeMap::new();
        for service in self.workloads.values().flat_map(|workload| &workload.row.services) {
            let (healthy, total) = truth.entry(service.name.clone()).or_default();
            *healthy += usize::from(service.health == Health::Healthy);
            *total += 1;
        }
        assert_eq!(gateway.counts, truth, "{context}: events of services do not tell what is true");
        assert!(gateway.core.services().eq(truth.keys()), "{context}");
        for (name, &counts) in &truth {
            assert_eq!((gateway.core.counts(name), gateway.core.endpoints(name).count()), (counts, counts.1));
        }
    }
}

impl Gateway {
    fn take_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match &event {
                Event::Up(id) => assert!(self.known.insert(*id), "{id} came up twice"),
                Event::Changed(id) => assert!(self.known.contains(id), "{id} changed but was not up"),
                Event::Gone(id) => assert!(self.known.remove(id), "{id} went but was not up"),
                Event::ServiceChanged(name) => {
                    self.counts.insert(name.clone(), self.core.counts(name));
                    self.counts.retain(|_, (_, total)| *total > 0);
                }
            }
            self.events.push(event);
        }
    }
}

fn row(id: WorkloadId) -> Row {
    let port = ServicePort { port: 80, protocol: Protocol::Http };
    let served = |name: String| ServedService {
        name: name.parse().unwrap(),
        ports: PortSet::try_from(vec![port]).unwrap(),
        health: Health::Healthy,
    };
    Row {
        workload: id,
        identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
        services: vec![served(format!("s{}.shop", id.0 % 5)), served(format!("t{}.shop", id.0 % 3))],
        locality: Locality { region: "us-ashburn-1".into(), zone: format!("AD-{}", id.0 % 3) },
        weight: 100,
        overlay: vec!["192.0.2.1:7000".parse().unwrap()],
        release: "1".into(),
        svid_key: [0; 32],
        older_keys: Box::default(),
        seq: 0,
        attached: false,
    }
}
