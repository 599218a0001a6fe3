//! What is written event by event equals what is written anew, whatever happens to workloads, gateways and keys.

use super::*;
use causeway_model::{Epoch, Locality, PortSet};
use causeway_presence::{Incarnation, PresenceConfig, ServedService};
use causeway_wire::CidKeys;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OWN: NodeId = NodeId(1);
const SIBLINGS: [NodeId; 2] = [NodeId(2), NodeId(3)];

fn cluster() -> ClusterId {
    ClusterId::new(1).unwrap()
}

fn service(number: u8) -> ServiceName {
    format!("s{number}.shop").parse().unwrap()
}

/// Of the three services two are exported.
fn offered(service: &ServiceName) -> Option<Offer> {
    let handle = match service.to_string().as_str() {
        "s0.shop" => 10,
        "s1.shop" => 11,
        _ => return None,
    };
    Some((ServiceHandle(handle), [cluster()].into_iter().collect()))
}

fn row(workload: u64, served: u8, healthy: bool) -> Row {
    let health = if healthy { Health::Healthy } else { Health::Unhealthy };
    Row {
        workload: WorkloadId(workload),
        identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
        services: vec![ServedService { name: service(served), ports: PortSet::default(), health }],
        locality: Locality { region: "r".into(), zone: "z".into() },
        weight: 1,
        overlay: Vec::new(),
        release: "0.1.0".into(),
        svid_key: [0; 32],
        older_keys: Box::default(),
        seq: 0,
        attached: true,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Attach { at: usize, workload: u64, served: u8, healthy: bool },
    Detach { at: usize, workload: u64 },
    Goodbye { at: usize, workload: u64 },
    Pause { millis: u64, silent: bool },
    Keys(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (at, workload) = (|| 0usize..3, || 0u64..8);
    prop_oneof![
        6 => (at(), workload(), 0u8..3, any::<bool>())
            .prop_map(|(at, workload, served, healthy)| Step::Attach { at, workload, served, healthy }),
        1 => (at(), workload()).prop_map(|(at, workload)| Step::Detach { at, workload }),
        2 => (at(), workload()).prop_map(|(at, workload)| Step::Goodbye { at, workload }),
        2 => (1u64..4000, any::<bool>()).prop_map(|(millis, silent)| Step::Pause { millis, silent }),
        1 => (1u8..4).prop_map(Step::Keys),
    ]
}

/// This gateway and its siblings.
struct Cluster {
    now: Instant,
    cores: Vec<Presence>,
}

impl Cluster {
    fn new() -> Self {
        let now = Instant::now();
        let core = |node| Presence::new(node, Incarnation(1), PresenceConfig::default(), now);
        let mut cores: Vec<Presence> = std::iter::once(OWN).chain(SIBLINGS).map(core).collect();
        for core in &mut cores {
            std::iter::once(OWN).chain(SIBLINGS).for_each(|node| core.handle_peer_up(now, node));
        }
        Self { now, cores }
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Attach { at, workload, served, healthy } => {
                self.cores[at].handle_attach(now, row(workload, served, healthy)).unwrap();
            }
            Step::Detach { at, workload } => self.cores[at].handle_detach(now, WorkloadId(workload)),
            Step::Goodbye { at, workload } => self.cores[at].handle_goodbye(now, WorkloadId(workload)),
            Step::Pause { millis, silent } => self.pause(millis, silent),
            Step::Keys(_) => {}
        }
    }

    /// While it is `silent` nothing comes through between gateways.
    fn pause(&mut self, millis: u64, silent: bool) {
        for _ in 0..millis / 100 {
            self.now += Duration::from_millis(100);
            self.cores.iter_mut().for_each(|core| core.handle_timeout(self.now));
            while !silent && self.exchange() {}
        }
    }

    fn exchange(&mut self) -> bool {
        let mut sent = Vec::new();
        for core in &mut self.cores {
            let from = core.node();
            sent.extend(std::iter::from_fn(|| core.poll_transmit()).map(|(to, message)| (from, to, message)));
        }
        let any = !sent.is_empty();
        for (from, to, message) in sent {
            if let Some(core) = self.cores.iter_mut().find(|core| core.node() == to) {
                core.handle_message(self.now, from, message).unwrap();
            }
        }
        any
    }
}

fn keys(epoch: u8) -> CidKeys {
    CidKeys::new(cluster(), [epoch, epoch + 1].map(|epoch| (Epoch(u64::from(epoch)), [epoch; 16])))
}

/// Everything, without a look at what was.
fn anew(presence: &Presence, keys: CidKeys) -> Inputs {
    let mut inputs = Inputs::of(cluster());
    assert!(inputs.set_keys(keys));
    inputs.replace_workloads(workloads(presence));
    for name in [0, 1].map(service) {
        let (handle, exported_to) = offered(&name).unwrap();
        inputs.set_service(handle, service_route(presence, &name, exported_to));
    }
    inputs
}

proptest! {
    #[test]
    fn tables_that_follow_events_equal_those_made_anew(steps in prop::collection::vec(step(), 1..60)) {
        let (mut cluster, mut epoch) = (Cluster::new(), 1);
        let mut inputs = anew(&cluster.cores[0], keys(epoch));
        for step in steps.into_iter().chain([Step::Pause { millis: 8000, silent: false }]) {
            cluster.take(&step);
            let presence = &mut cluster.cores[0];
            let events: Vec<Event> = std::iter::from_fn(|| presence.poll_event()).collect();
            write(&mut inputs, presence, offered, &events);
            if let Step::Keys(new) = step {
                epoch = new;
                if inputs.set_keys(keys(epoch)) {
                    inputs.replace_workloads(workloads(presence));
                }
            }
            let (tags, elsewhere, services) = inputs.known();
            let (all_tags, all_elsewhere, all_services) = anew(presence, keys(epoch)).known();
            prop_assert_eq!((tags, elsewhere), (all_tags, all_elsewhere));
            // a service that was told a moment ago is told again a little later
            if matches!(step, Step::Pause { silent: false, millis } if millis >= 400) {
                let sorted = |services: Services| services.into_iter().collect::<BTreeMap<_, _>>();
                prop_assert_eq!(sorted(services), sorted(all_services));
            }
        }
    }
}
