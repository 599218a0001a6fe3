use super::super::source::SourceLimits;
use super::super::tables::{Fixed, Inputs, LinkRoute, ServiceRoute, TransitRoutes};
use super::super::target::Target;
use super::*;
use causeway_model::{Epoch, ServiceHandle, WorkloadId};
use causeway_wire::CidKeys;
use causeway_wire::envelope::MAX_HOPS;
use proptest::prelude::*;
use rustc_hash::FxHashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

const HERE: NodeId = NodeId(1);
const SIBLING: NodeId = NodeId(2);
const ATTACHED: WorkloadId = WorkloadId(0xa);
const ELSEWHERE: WorkloadId = WorkloadId(0xe);
const FOR_ALL: ServiceHandle = ServiceHandle(0x51);
const FOR_NEIGHBOUR: ServiceHandle = ServiceHandle(0x52);
/// This cluster.
const OWN: u32 = 1;
/// Linked, with transit.
const NEIGHBOUR: u32 = 2;
/// Linked, reached through the neighbour only.
const BEHIND: u32 = 3;
/// Not linked, reached through the neighbour.
const STRANGER: u32 = 4;
/// Linked, without transit.
const PLAIN: u32 = 5;
/// Linked, with transit; it is on the way to [`FAR`].
const OTHER: u32 = 6;
const FAR: u32 = 7;

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

fn keys(id: u32) -> CidKeys {
    CidKeys::new(cluster(id), [(Epoch(1), [u8::try_from(id).unwrap(); 16])])
}

fn workload(id: u32, workload: WorkloadId) -> Cid {
    keys(id).mint(workload, 1).unwrap()
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 7443))
}

/// A linked cluster with two gateways, 10 and 11 times its id.
fn link(id: u32) -> (ClusterId, LinkRoute) {
    let gateway =
        |times: u8| (NodeId(u64::from(id) * u64::from(times)), addr(times * u8::try_from(id).unwrap()));
    let gateways = vec![gateway(10), gateway(11)];
    let nodes = gateways.iter().map(|(node, _)| *node).collect();
    (cluster(id), LinkRoute { key: [7; 32], gateways, nodes })
}

/// Routes by destination, next cluster and its gateways; origins by neighbour.
fn transit(next: &[(u32, u32, &[u64])], origins: &[(u32, &[u32])]) -> TransitRoutes {
    let nodes = |nodes: &[u64]| nodes.iter().map(|&node| NodeId(node)).collect();
    let set = |ids: &[u32]| ids.iter().map(|&id| cluster(id)).collect::<FxHashSet<_>>();
    TransitRoutes {
        next: next.iter().map(|&(to, next, all)| (cluster(to), (cluster(next), nodes(all)))).collect(),
        origins: origins.iter().map(|&(from, ids)| (cluster(from), set(ids))).collect(),
    }
}

fn build(own: u32, links: &[u32], transit: TransitRoutes, change: impl FnOnce(&mut Inputs)) -> Tables {
    let fixed = Fixed { cluster: cluster(own), node: HERE, ports: 2, limits: SourceLimits::default() };
    let mut inputs = Inputs::new(&fixed);
    inputs.ready = true;
    inputs.probe_keys = vec![(Epoch(1), [9; 32])];
    inputs.set_gateways(
        links.iter().copied().map(link).collect(),
        [(SIBLING, vec![addr(2)])].into_iter().collect(),
    );
    inputs.transit = transit.into();
    change(&mut inputs);
    let tables = Tables::build(&fixed, &inputs, None);
    for target in &tables.targets {
        target.ports.iter().for_each(|port| port.alive.store(true, Relaxed));
    }
    tables
}

fn tables() -> Tables {
    let transit = transit(
        &[
            (NEIGHBOUR, NEIGHBOUR, &[20, 22]),
            (OTHER, OTHER, &[60, 66]),
            (BEHIND, NEIGHBOUR, &[20]),
            (FAR, OTHER, &[66]),
        ],
        &[(NEIGHBOUR, &[NEIGHBOUR, BEHIND, STRANGER]), (OTHER, &[OTHER, FAR])],
    );
    build(OWN, &[NEIGHBOUR, BEHIND, PLAIN, OTHER], transit, |inputs| {
        assert!(inputs.set_keys(keys(OWN)));
        inputs.admit(addr(10), Class::Workload(ATTACHED), 0, 0);
        inputs.elsewhere.insert(ELSEWHERE, SIBLING);
        inputs.endpoints.insert(0x7a6, ATTACHED);
        let both: FxHashSet<ClusterId> = [cluster(NEIGHBOUR), cluster(BEHIND)].into_iter().collect();
        let one: FxHashSet<ClusterId> = [cluster(NEIGHBOUR)].into_iter().collect();
        for (handle, exported_to) in [(FOR_ALL, both), (FOR_NEIGHBOUR, one)] {
            inputs.set_service(handle, ServiceRoute { endpoints: vec![ATTACHED], exported_to });
        }
    })
}

fn short(dcid: Cid) -> Header {
    Header { packet_type: PacketType::Short, dcid, scid: None }
}

fn initial(dcid: Cid, scid: Cid) -> Header {
    Header { packet_type: PacketType::Initial, dcid, scid: Some(scid) }
}

fn outcome(tables: &Tables, class: Option<Class>, (origin, hops): (u32, u8), header: &Header) -> String {
    let envelope = Envelope { hops, origin: cluster(origin) };
    match pass(tables, class, &envelope, header) {
        Passage::Relay(path, hops) => format!("relay {} {hops}", path.target.addr),
        Passage::HandOn(path) => format!("hand on {}", path.target.addr),
        Passage::Open(Verdict::Deliver(source)) => format!("deliver {}", source.addr),
        Passage::Open(Verdict::Send(path)) => format!("send {}", path.target.addr),
        Passage::Open(Verdict::Wrap(path)) => format!("wrap {}", path.target.addr),
        Passage::Open(Verdict::Own) => "own".into(),
        Passage::Open(Verdict::Drop(reason)) => reason.reason().into(),
    }
}

#[test]
fn every_admission_rule_of_envelopes() {
    let tables = tables();
    let from = |id: u32| Some(Class::Link(cluster(id), NodeId(u64::from(id) * 10)));
    let (neighbour, sibling) = (from(NEIGHBOUR), Some(Class::Sibling(SIBLING)));
    let here = short(workload(OWN, ATTACHED));
    let far = short(workload(FAR, ATTACHED));
    let gateway = |id, node| Cid::gateway(cluster(id), node, 3);
    let service = |handle| Cid::service(cluster(OWN), handle, 77);
    let endpoint = |tag| Cid::endpoint(cluster(OWN), Epoch(1), tag, 5);
    let (behind, strange) = (workload(BEHIND, WorkloadId(5)), gateway(STRANGER, NodeId(5)));
    type Case = (&'static str, Option<Class>, (u32, u8), Header, &'static str);
    let cases: Vec<Case> = vec![
        // who may bring an envelope
        ("a stranger", None, (BEHIND, 3), here, "unknown-source"),
        ("a sidecar", Some(Class::Workload(ATTACHED)), (BEHIND, 3), far, "no-transit"),
        ("a control connection", Some(Class::Control), (BEHIND, 3), here, "no-transit"),
        ("a link without transit", from(PLAIN), (PLAIN, 3), here, "no-transit"),
        ("a link without transit, onward", from(PLAIN), (PLAIN, 3), far, "no-transit"),
        ("a neighbour of its own", neighbour, (NEIGHBOUR, 3), here, "deliver 127.0.0.10:7443"),
        ("a neighbour of one behind it", neighbour, (BEHIND, 0), here, "deliver 127.0.0.10:7443"),
        ("a neighbour of one that is not behind it", neighbour, (FAR, 3), here, "foreign-origin"),
        ("a neighbour of another neighbour", neighbour, (OTHER, 3), here, "foreign-origin"),
        ("the same, onward", neighbour, (PLAIN, 3), far, "foreign-origin"),
        ("what comes back", neighbour, (OWN, 3), here, "loop"),
        // what is in it, as if it had come directly
        (
            "a workload of a sibling",
            neighbour,
            (BEHIND, 3),
            short(workload(OWN, ELSEWHERE)),
            "send 127.0.0.2:7443",
        ),
        ("no such workload", neighbour, (BEHIND, 3), short(workload(OWN, WorkloadId(1))), "unknown-workload"),
        (
            "a first flight",
            neighbour,
            (BEHIND, 3),
            initial(endpoint(0x7a6), behind),
            "deliver 127.0.0.10:7443",
        ),
        (
            "in the neighbour's name",
            neighbour,
            (BEHIND, 3),
            initial(endpoint(0x7a6), workload(NEIGHBOUR, WorkloadId(5))),
            "foreign-source-id",
        ),
        (
            "in our name",
            neighbour,
            (BEHIND, 3),
            initial(endpoint(0x7a6), workload(OWN, ATTACHED)),
            "foreign-source-id",
        ),
        (
            "exported to it",
            neighbour,
            (BEHIND, 3),
            initial(service(FOR_ALL), behind),
            "deliver 127.0.0.10:7443",
        ),
        (
            "exported to the neighbour only",
            neighbour,
            (BEHIND, 3),
            initial(service(FOR_NEIGHBOUR), behind),
            "not-exported",
        ),
        (
            "no such service",
            neighbour,
            (BEHIND, 3),
            initial(service(ServiceHandle(1)), behind),
            "unknown-service",
        ),
        ("a kind that is not known", neighbour, (BEHIND, 3), short(Cid([0xf0; 20])), "malformed"),
        // control connections, and tokens of clusters that are not linked yet
        ("this gateway", neighbour, (BEHIND, 3), short(gateway(OWN, HERE)), "own"),
        ("any gateway", neighbour, (STRANGER, 3), initial(gateway(OWN, NodeId::ANY), strange), "own"),
        (
            "not in its own name",
            neighbour,
            (STRANGER, 3),
            initial(gateway(OWN, NodeId::ANY), gateway(BEHIND, HERE)),
            "foreign-source-id",
        ),
        ("another gateway", neighbour, (STRANGER, 2), short(gateway(OWN, SIBLING)), "hand on 127.0.0.2:7443"),
        ("no such gateway", neighbour, (STRANGER, 3), short(gateway(OWN, NodeId(9))), "unknown-gateway"),
        ("a stranger to a workload", neighbour, (STRANGER, 3), here, "unknown-source"),
        (
            "a stranger to a service",
            neighbour,
            (STRANGER, 3),
            initial(service(FOR_ALL), strange),
            "unknown-source",
        ),
        ("handed on to this gateway", sibling, (STRANGER, 2), short(gateway(OWN, HERE)), "own"),
        (
            "handed on to a third gateway",
            sibling,
            (BEHIND, 2),
            short(gateway(OWN, NodeId(9))),
            "unknown-gateway",
        ),
        ("a sibling with a workload's", sibling, (BEHIND, 2), here, "no-transit"),
        ("a sibling, onward", sibling, (BEHIND, 2), far, "no-transit"),
        // onward
        ("to a cluster behind another", neighbour, (BEHIND, 3), far, "relay 127.0.0.66:7443 2"),
        (
            "to a neighbour, whose gateway is named",
            neighbour,
            (BEHIND, 1),
            short(gateway(OTHER, NodeId(60))),
            "relay 127.0.0.60:7443 0",
        ),
        (
            "the other one is named",
            neighbour,
            (BEHIND, 1),
            short(gateway(OTHER, NodeId(66))),
            "relay 127.0.0.66:7443 0",
        ),
        ("through as many as it may", neighbour, (BEHIND, 0), far, "loop"),
        ("to where it came from", neighbour, (BEHIND, 3), short(workload(NEIGHBOUR, ATTACHED)), "loop"),
        ("back by the same way", neighbour, (STRANGER, 3), short(workload(BEHIND, ATTACHED)), "loop"),
        ("to its origin", neighbour, (BEHIND, 3), short(workload(BEHIND, ATTACHED)), "loop"),
        ("to a link without transit", neighbour, (BEHIND, 3), short(workload(PLAIN, ATTACHED)), "no-path"),
        ("to nobody that is known", neighbour, (BEHIND, 3), short(workload(99, ATTACHED)), "no-path"),
    ];
    for (what, class, envelope, header, expected) in cases {
        assert_eq!(outcome(&tables, class, envelope, &header), expected, "{what}");
    }
}

/// How many of 100 first flights pass that come from gateway 20 of the neighbour at once, if it may start 10 handshakes and strangers 4.
fn flights(tables: &Tables, origin: impl Fn(usize) -> u32, dcid: &Cid) -> usize {
    let limits = SourceLimits {
        gateway_handshakes: 10 * 4,
        stranger_handshakes: 4 * 4,
        stranger_packets: 4 * 4,
        ..SourceLimits::default()
    };
    let neighbour = Class::Link(cluster(NEIGHBOUR), NodeId(20));
    let source = Arc::new(Source::new(addr(20), neighbour, 0, 0, &limits));
    let strangers = Strangers::new(7, &limits);
    let passed = |at: &usize| {
        let origin = cluster(origin(*at));
        let header = initial(*dcid, Cid::gateway(origin, NodeId(5), 3));
        let envelope = Envelope { hops: 3, origin };
        let passage = consider(tables, Some(&source), (&strangers, 1), &envelope, &header);
        !matches!(passage, Passage::Open(Verdict::Drop(_)))
    };
    (0..100).filter(passed).count()
}

#[test]
fn first_flights_count_as_the_neighbours_wherever_they_go() {
    let tables = tables();
    let gateway = |id, node| Cid::gateway(cluster(id), node, 3);
    for (what, dcid) in [
        ("to this gateway", gateway(OWN, HERE)),
        ("to another gateway of this cluster", gateway(OWN, SIBLING)),
        ("to another cluster", gateway(FAR, NodeId(9))),
    ] {
        let passed = flights(&tables, |_| BEHIND, &dcid);
        assert!((10..=12).contains(&passed), "{what}: {passed}");
    }
}

#[test]
fn a_neighbour_that_makes_up_origins_brings_no_more_of_strangers() {
    let origins: Vec<u32> = (100..200).collect();
    let transit = transit(&[], &[(NEIGHBOUR, &origins)]);
    let tables = build(OWN, &[NEIGHBOUR], transit, |_| {});
    for node in [HERE, SIBLING] {
        let to = Cid::gateway(cluster(OWN), node, 3);
        let passed = flights(&tables, |at| 100 + u32::try_from(at).unwrap(), &to);
        assert!((4..=6).contains(&passed), "{passed}");
    }
}

#[test]
fn what_starts_here_goes_directly_while_that_works() {
    let tables = tables();
    let sidecar = Some(Class::Workload(ATTACHED));
    let to = |id: u32| match route(&tables, sidecar, &short(workload(id, WorkloadId(8)))) {
        Verdict::Send(path) => ("send", path.target.cluster()),
        Verdict::Wrap(path) => ("wrap", path.target.cluster()),
        Verdict::Drop(reason) => (reason.reason(), None),
        Verdict::Deliver(_) | Verdict::Own => ("here", None),
    };
    let kill = |id: u32| {
        let of = tables.targets.iter().filter(|target| target.cluster() == Some(cluster(id)));
        of.flat_map(|target| &target.ports).for_each(|port| port.alive.store(false, Relaxed));
    };
    assert_eq!(to(BEHIND), ("send", Some(cluster(BEHIND))));
    kill(BEHIND);
    assert_eq!(to(BEHIND), ("wrap", Some(cluster(NEIGHBOUR))));
    assert_eq!(to(FAR), ("unknown-cluster", None), "a sidecar speaks with linked clusters only");
    kill(PLAIN);
    assert_eq!(to(PLAIN), ("no-path", None));
    kill(NEIGHBOUR);
    assert_eq!(to(BEHIND), ("no-path", None));
    assert!(way(&tables, cluster(FAR), &workload(FAR, ATTACHED)).is_some(), "a link token may go there");
}

#[test]
fn where_there_is_no_way_a_sibling_that_has_one_is_asked_and_asks_nobody() {
    let beside = |inputs: &mut Inputs| {
        let of = |id| (cluster(id), vec![SIBLING, NodeId(99)]);
        inputs.beside = Arc::new([BEHIND, PLAIN, FAR].map(of).into_iter().collect());
        inputs.admit(addr(10), Class::Workload(ATTACHED), 0, 0);
    };
    let ways = transit(&[(BEHIND, NEIGHBOUR, &[20])], &[(NEIGHBOUR, &[NEIGHBOUR, BEHIND])]);
    let tables = build(OWN, &[NEIGHBOUR, BEHIND, PLAIN, OTHER], ways, beside);
    let to = |class, id: u32| match route(&tables, Some(class), &short(workload(id, WorkloadId(8)))) {
        Verdict::Send(path) => format!("send {}", path.target.addr),
        Verdict::Wrap(path) => format!("wrap {}", path.target.addr),
        Verdict::Drop(reason) => reason.reason().to_owned(),
        Verdict::Deliver(_) | Verdict::Own => "here".to_owned(),
    };
    let kill = |of: &dyn Fn(&Target) -> bool| {
        let targets = tables.targets.iter().filter(|target| of(target));
        targets.flat_map(|target| &target.ports).for_each(|port| port.alive.store(false, Relaxed));
    };
    kill(&|target| [BEHIND, PLAIN, OTHER].map(cluster).iter().any(|&id| target.cluster() == Some(id)));
    let (sidecar, sibling) = (Class::Workload(ATTACHED), Class::Sibling(SIBLING));
    let link = Class::Link(cluster(NEIGHBOUR), NodeId(20));
    assert_eq!(to(sidecar, BEHIND), "wrap 127.0.0.20:7443", "its own way comes first");
    assert_eq!(to(sidecar, PLAIN), "send 127.0.0.2:7443");
    assert_eq!(to(sidecar, OTHER), "no-path", "nobody reaches it");
    assert_eq!(to(sidecar, FAR), "unknown-cluster");
    assert_eq!(to(sibling, NEIGHBOUR).split(' ').next(), Some("send"));
    assert_eq!(to(sibling, BEHIND), "wrap 127.0.0.20:7443");
    assert_eq!(to(sibling, PLAIN), "no-path", "it is not handed on to a third");
    assert_eq!(to(sibling, FAR), "unknown-cluster");
    assert_eq!((to(link, PLAIN), to(link, BEHIND)), ("loop".to_owned(), "loop".to_owned()));
    kill(&|target| target.cluster().is_none());
    assert_eq!(to(sidecar, PLAIN), "no-path", "the sibling does not answer");
}

#[test]
fn without_transit_and_without_its_link_nothing_passes() {
    let neighbour = Some(Class::Link(cluster(NEIGHBOUR), NodeId(20)));
    let here = short(Cid::gateway(cluster(OWN), HERE, 3));
    let off = build(OWN, &[NEIGHBOUR], TransitRoutes::default(), |_| {});
    assert_eq!(outcome(&off, neighbour, (NEIGHBOUR, 3), &here), "no-transit");
    assert!(way(&off, cluster(BEHIND), &here.dcid).is_none());
    let removed = build(OWN, &[], transit(&[(BEHIND, NEIGHBOUR, &[20])], &[]), |_| {});
    assert!(way(&removed, cluster(BEHIND), &here.dcid).is_none());
    let unready = build(
        OWN,
        &[NEIGHBOUR, OTHER],
        transit(&[(FAR, OTHER, &[66])], &[(NEIGHBOUR, &[BEHIND])]),
        |inputs| {
            inputs.ready = false;
        },
    );
    assert_eq!(outcome(&unready, neighbour, (BEHIND, 3), &short(workload(FAR, ATTACHED))), "not-ready");
    assert_eq!(outcome(&unready, neighbour, (BEHIND, 3), &here), "own");
}

/// Clusters 1 to 5, all linked with each other, of which each sends what is for cluster 9 to another one, however wrong that is.
fn circle(next: &[u32]) -> Vec<Tables> {
    let all: Vec<u32> = (1..=5).chain([8]).collect();
    let at = |(own, &next): (u32, &u32)| {
        let others: Vec<u32> = all.iter().copied().filter(|&id| id != own).collect();
        let nodes = [u64::from(next) * 10, u64::from(next) * 11];
        let origins: Vec<(u32, &[u32])> = others.iter().map(|&id| (id, &all[..])).collect();
        build(own, &others, transit(&[(9, next, &nodes)], &origins), |_| {})
    };
    (1..=5).zip(next).map(at).collect()
}

/// How many times a packet of cluster 8 is relayed that comes to cluster 1.
fn relayed(clusters: &[Tables]) -> usize {
    let (mut at, mut from, mut hops, mut count) = (1, cluster(8), MAX_HOPS, 0);
    loop {
        let envelope = Envelope { hops, origin: cluster(8) };
        let class = Some(Class::Link(from, NodeId(u64::from(from.get()) * 10)));
        match pass(&clusters[at - 1], class, &envelope, &short(workload(9, ATTACHED))) {
            Passage::Relay(path, left) => {
                assert!(left < hops);
                (from, hops, count) = (cluster(u32::try_from(at).unwrap()), left, count + 1);
                let next = path.target.cluster().unwrap();
                if !(1..=5).contains(&next.get()) {
                    return count;
                }
                at = usize::try_from(next.get()).unwrap();
            }
            Passage::Open(Verdict::Drop(DropReason::Loop)) => return count,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn three_forwarders_with_stale_routes_cannot_send_a_packet_round() {
    assert_eq!(relayed(&circle(&[2, 3, 1, 1, 1])), usize::from(MAX_HOPS));
    assert_eq!(relayed(&circle(&[2, 1, 1, 1, 1])), 1, "nothing goes back to where it came from");
}

proptest! {
    #[test]
    fn whatever_the_routes_a_packet_is_relayed_so_many_times_at_most(next in prop::collection::vec(1u32..=5, 5)) {
        let next: Vec<u32> = (1u32..).zip(next).map(|(own, to)| if to == own { own % 5 + 1 } else { to }).collect();
        prop_assert!(relayed(&circle(&next)) <= usize::from(MAX_HOPS));
    }
}
