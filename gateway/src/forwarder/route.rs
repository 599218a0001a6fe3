//! Where a packet goes: a pure function of its header, where it came from, and the tables.

use super::counters::DropReason;
use super::envelope::way;
use super::source::{Class, Source};
use super::tables::{ServiceRoute, Tables};
use super::target::{Path, choose};
use causeway_model::{ClusterId, WorkloadId};
use causeway_wire::cid::rendezvous;
use causeway_wire::packet::{Header, PacketType};
use causeway_wire::{Cid, CidKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What is done with a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict<'a> {
    /// It is delivered to a sidecar that is admitted here.
    Deliver(&'a Arc<Source>),
    /// It goes to another gateway.
    Send(Path<'a>),
    /// It goes to another gateway in an envelope, through other clusters.
    Wrap(Path<'a>),
    /// It is for this gateway.
    Own,
    /// It is dropped.
    Drop(DropReason),
}

impl PartialEq for Verdict<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deliver(a), Self::Deliver(b)) => Arc::ptr_eq(a, b),
            (Self::Send(a), Self::Send(b)) | (Self::Wrap(a), Self::Wrap(b)) => a == b,
            (Self::Own, Self::Own) => true,
            (Self::Drop(a), Self::Drop(b)) => a == b,
            _ => false,
        }
    }
}

/// Where a packet from `class` with this header goes; `None` stands for a source that is not admitted.
pub(super) fn route<'a>(tables: &'a Tables, class: Option<Class>, header: &Header) -> Verdict<'a> {
    if let Some(reason) = refuse_source_id(tables, class, header) {
        return Verdict::Drop(reason);
    }
    let Some(cluster) = header.dcid.cluster() else { return Verdict::Drop(DropReason::Malformed) };
    let own = cluster == tables.cluster;
    match (class, header.dcid.kind()) {
        (_, None) => Verdict::Drop(DropReason::Malformed),
        (_, Some(CidKind::Gateway)) if own => to_gateway(tables, class, &header.dcid),
        // somebody with a token of another cluster: the handshake tells it so, where silence would tell nothing
        (None, Some(CidKind::Gateway)) => Verdict::Own,
        (None | Some(Class::Control), _) => Verdict::Drop(DropReason::UnknownSource),
        _ if !tables.ready => Verdict::Drop(DropReason::NotReady),
        (Some(Class::Workload(_)), _) if !own => match to_cluster(tables, cluster, &header.dcid) {
            Verdict::Drop(DropReason::NoPath) => beside(tables, cluster, &header.dcid),
            verdict => verdict,
        },
        // a gateway of this cluster hands over what its sidecars send when it has no way itself: it leaves the cluster here, or not at all
        (Some(Class::Sibling(_)), _) if !own => to_cluster(tables, cluster, &header.dcid),
        // what came from another cluster's gateway is delivered here or not at all: the rule that makes loops impossible
        (Some(_), _) if !own => Verdict::Drop(DropReason::Loop),
        (Some(class), Some(CidKind::Workload)) => match tables.cid_keys.open(&header.dcid) {
            Some(workload) => to_workload(tables, class, workload),
            None => Verdict::Drop(DropReason::UnknownWorkload),
        },
        (Some(class), Some(CidKind::Endpoint)) => {
            match header.dcid.tag().and_then(|tag| tables.endpoints.get(&tag)) {
                Some(&workload) => to_workload(tables, class, workload),
                None => Verdict::Drop(DropReason::UnknownWorkload),
            }
        }
        (Some(class), Some(CidKind::Service | CidKind::Gateway)) => to_service(tables, class, &header.dcid),
    }
}

/// A long header tells who sends: a sidecar may speak for itself only, a linked cluster for its own workloads only.
fn refuse_source_id(tables: &Tables, class: Option<Class>, header: &Header) -> Option<DropReason> {
    if header.packet_type == PacketType::Short {
        return None;
    }
    let honest = match class {
        Some(Class::Workload(workload)) => {
            header.scid.and_then(|scid| tables.cid_keys.open(&scid)) == Some(workload)
        }
        Some(Class::Link(cluster, _)) => {
            let from =
                header.scid.filter(|scid| matches!(scid.kind(), Some(CidKind::Workload | CidKind::Gateway)));
            from.and_then(|scid| scid.cluster()) == Some(cluster)
        }
        // a sibling has checked it; a stranger can reach the gateway itself only
        Some(Class::Sibling(_) | Class::Control) | None => true,
    };
    (!honest).then_some(DropReason::ForeignSourceId)
}

fn to_gateway<'a>(tables: &'a Tables, class: Option<Class>, dcid: &Cid) -> Verdict<'a> {
    let node = dcid.node().unwrap_or(causeway_model::NodeId::ANY);
    if node == tables.node || node == causeway_model::NodeId::ANY {
        return Verdict::Own;
    }
    match class {
        Some(Class::Workload(_) | Class::Link(..)) => {
            to_sibling(tables, node, dcid, DropReason::UnknownGateway)
        }
        _ => Verdict::Drop(DropReason::UnknownGateway),
    }
}

fn to_sibling<'a>(
    tables: &'a Tables,
    node: causeway_model::NodeId,
    dcid: &Cid,
    unknown: DropReason,
) -> Verdict<'a> {
    let Some(target) = tables.siblings.get(&node) else { return Verdict::Drop(unknown) };
    match choose(std::slice::from_ref(target), dcid.spread(), tables.ports) {
        Some(path) => Verdict::Send(path),
        None => Verdict::Drop(DropReason::NoPath),
    }
}

fn to_cluster<'a>(tables: &'a Tables, cluster: ClusterId, dcid: &Cid) -> Verdict<'a> {
    let Some(targets) = tables.links.get(&cluster) else { return Verdict::Drop(DropReason::UnknownCluster) };
    match choose(targets, dcid.spread(), tables.ports) {
        Some(path) => Verdict::Send(path),
        None => way(tables, cluster, dcid).map_or(Verdict::Drop(DropReason::NoPath), Verdict::Wrap),
    }
}

/// Another gateway of this cluster that says it reaches `cluster`: one that was just started, or holds no links, knows fewer ways.
fn beside<'a>(tables: &'a Tables, cluster: ClusterId, dcid: &Cid) -> Verdict<'a> {
    let siblings = tables.beside.get(&cluster).map(Vec::as_slice).unwrap_or_default();
    choose(siblings, dcid.spread(), tables.ports).map_or(Verdict::Drop(DropReason::NoPath), Verdict::Send)
}

/// A workload that is attached here is reached from here, unless the way to it is in doubt and another gateway reaches it, too.
fn to_workload(tables: &Tables, class: Class, workload: WorkloadId) -> Verdict<'_> {
    let here = tables.workloads.get(&workload);
    if let Some(source) = here.filter(|source| !source.doubtful.load(Relaxed)) {
        return Verdict::Deliver(source);
    }
    let there = match tables.elsewhere.get(&workload) {
        Some(&node) if !matches!(class, Class::Sibling(_)) => to_sibling(
            tables,
            node,
            &Cid::gateway(tables.cluster, node, workload.0),
            DropReason::UnknownWorkload,
        ),
        _ => Verdict::Drop(DropReason::UnknownWorkload),
    };
    match (here, there) {
        (Some(source), Verdict::Drop(_)) => Verdict::Deliver(source),
        (_, there) => there,
    }
}

fn to_service<'a>(tables: &'a Tables, class: Class, dcid: &Cid) -> Verdict<'a> {
    let Some(service) = dcid.handle().and_then(|handle| tables.services.get(&handle)) else {
        return Verdict::Drop(DropReason::UnknownService);
    };
    if let Class::Link(cluster, _) = class
        && !service.exported_to.contains(&cluster)
    {
        return Verdict::Drop(DropReason::NotExported);
    }
    match pick_endpoint(service, dcid.random()) {
        Some(workload) => to_workload(tables, class, workload),
        None => Verdict::Drop(DropReason::NoEndpoint),
    }
}

/// Every gateway picks the same endpoint for the same random half, so a retransmitted first flight reaches the same server.
fn pick_endpoint(service: &ServiceRoute, random: u64) -> Option<WorkloadId> {
    service.endpoints.iter().copied().max_by_key(|workload| rendezvous(random, workload.0))
}

#[cfg(test)]
mod tests {
    use super::super::source::SourceLimits;
    use super::super::tables::{Fixed, Inputs, LinkRoute};
    use super::*;
    use causeway_model::{Epoch, NodeId, ServiceHandle};
    use causeway_wire::CidKeys;
    use rustc_hash::FxHashSet;
    use std::net::SocketAddr;

    const HERE: NodeId = NodeId(1);
    const SIBLING: NodeId = NodeId(2);
    const ATTACHED: WorkloadId = WorkloadId(0xa);
    const ELSEWHERE: WorkloadId = WorkloadId(0xe);
    const CLIENT: WorkloadId = WorkloadId(0xc);
    const EXPORTED: ServiceHandle = ServiceHandle(0x51);
    const EMPTY: ServiceHandle = ServiceHandle(0x52);

    fn cluster(id: u32) -> ClusterId {
        ClusterId::new(id).unwrap()
    }

    fn keys(id: u32) -> CidKeys {
        CidKeys::new(cluster(id), [(Epoch(1), [u8::try_from(id).unwrap(); 16])])
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7443))
    }

    fn tables(ready: bool) -> Tables {
        let fixed = Fixed { cluster: cluster(1), node: HERE, ports: 2, limits: SourceLimits::default() };
        let mut inputs = Inputs::new(&fixed);
        inputs.ready = ready;
        assert!(inputs.set_keys(keys(1)));
        inputs.probe_keys = vec![(Epoch(1), [9; 32])];
        inputs.admit(addr(10), Class::Workload(ATTACHED), 0, 0);
        inputs.admit(addr(11), Class::Workload(CLIENT), 0, 0);
        inputs.elsewhere.insert(ELSEWHERE, SIBLING);
        inputs.endpoints.insert(0x7a6, ATTACHED);
        let exported_to: FxHashSet<ClusterId> = [cluster(2)].into_iter().collect();
        for (handle, endpoints) in [(EXPORTED, vec![ATTACHED]), (EMPTY, Vec::new())] {
            inputs.set_service(handle, ServiceRoute { endpoints, exported_to: exported_to.clone() });
        }
        let link = |id: u32| {
            let gateways = vec![(NodeId(u64::from(id)), addr(100 + u8::try_from(id).unwrap()))];
            let nodes = gateways.iter().map(|(node, _)| *node).collect();
            (cluster(id), LinkRoute { key: [7; 32], gateways, nodes })
        };
        let siblings = [(SIBLING, vec![addr(2)])].into_iter().collect();
        inputs.set_gateways([2, 3].map(link).into_iter().collect(), siblings);
        let tables = Tables::build(&fixed, &inputs, None);
        for target in tables.targets.iter().filter(|target| target.cluster() != Some(cluster(3))) {
            target.ports.iter().for_each(|port| port.alive.store(true, Relaxed));
        }
        tables
    }

    fn short(dcid: Cid) -> Header {
        Header { packet_type: PacketType::Short, dcid, scid: None }
    }

    fn initial(dcid: Cid, scid: Cid) -> Header {
        Header { packet_type: PacketType::Initial, dcid, scid: Some(scid) }
    }

    fn workload(id: u32, workload: WorkloadId) -> Cid {
        keys(id).mint(workload, 1).unwrap()
    }

    fn outcome(tables: &Tables, class: Option<Class>, header: &Header) -> String {
        match route(tables, class, header) {
            Verdict::Deliver(source) => format!("deliver {}", source.addr),
            Verdict::Send(path) => format!("send {}", path.target.addr),
            Verdict::Wrap(path) => format!("wrap {}", path.target.addr),
            Verdict::Own => "own".into(),
            Verdict::Drop(reason) => reason.reason().into(),
        }
    }

    #[test]
    fn a_workload_whose_way_is_in_doubt_is_reached_through_another_gateway_that_has_it() {
        let mut tables = tables(true);
        let link = Some(Class::Link(cluster(2), NodeId(2)));
        let packet = short(workload(1, ATTACHED));
        tables.workloads.get(&ATTACHED).unwrap().doubtful.store(true, Relaxed);
        assert_eq!(outcome(&tables, link, &packet), "deliver 127.0.0.10:7443", "there is no other");
        tables.elsewhere.insert(ATTACHED, SIBLING);
        assert_eq!(outcome(&tables, link, &packet), "send 127.0.0.2:7443");
        let sibling = Some(Class::Sibling(SIBLING));
        assert_eq!(
            outcome(&tables, sibling, &packet),
            "deliver 127.0.0.10:7443",
            "it has not got a way either"
        );
        let paths = tables.siblings[&SIBLING].ports.iter();
        paths.for_each(|path| path.alive.store(false, Relaxed));
        assert_eq!(outcome(&tables, link, &packet), "deliver 127.0.0.10:7443", "the other does not answer");
        let source = tables.workloads.get(&ATTACHED).unwrap();
        source.doubtful.store(false, Relaxed);
        assert_eq!(outcome(&tables, link, &packet), "deliver 127.0.0.10:7443");
    }

    #[test]
    fn every_admission_rule() {
        let tables = tables(true);
        let sidecar = Some(Class::Workload(CLIENT));
        let link = Some(Class::Link(cluster(2), NodeId(2)));
        let sibling = Some(Class::Sibling(SIBLING));
        let (own, peer, silent) = (cluster(1), cluster(2), cluster(3));
        let mine = workload(1, CLIENT);
        let theirs = workload(2, WorkloadId(0xd));
        let service = |handle| Cid::service(own, handle, 77);
        let endpoint = |tag| Cid::endpoint(own, Epoch(1), tag, 5);
        let gateway = |cluster, node| Cid::gateway(cluster, node, 3);
        let cases: Vec<(&str, Option<Class>, Header, &str)> = vec![
            ("a workload here", sidecar, short(workload(1, ATTACHED)), "deliver 127.0.0.10:7443"),
            ("a workload of a sibling", sidecar, short(workload(1, ELSEWHERE)), "send 127.0.0.2:7443"),
            (
                "a workload that does not exist",
                sidecar,
                short(workload(1, WorkloadId(1))),
                "unknown-workload",
            ),
            ("another cluster", sidecar, short(theirs), "send 127.0.0.102:7443"),
            ("a cluster that does not answer", sidecar, short(workload(3, ATTACHED)), "no-path"),
            ("a cluster that is not linked", sidecar, short(workload(4, ATTACHED)), "unknown-cluster"),
            ("from a link to a workload here", link, short(workload(1, ATTACHED)), "deliver 127.0.0.10:7443"),
            (
                "from a link to a workload of a sibling",
                link,
                short(workload(1, ELSEWHERE)),
                "send 127.0.0.2:7443",
            ),
            ("from a link to a third cluster", link, short(workload(3, ATTACHED)), "loop"),
            ("from a link back to itself", link, short(theirs), "loop"),
            (
                "from a sibling to a workload here",
                sibling,
                short(workload(1, ATTACHED)),
                "deliver 127.0.0.10:7443",
            ),
            (
                "from a sibling to a workload elsewhere",
                sibling,
                short(workload(1, ELSEWHERE)),
                "unknown-workload",
            ),
            ("from a sibling to another cluster", sibling, short(theirs), "send 127.0.0.102:7443"),
            (
                "from a sibling to a cluster that does not answer",
                sibling,
                short(workload(3, ATTACHED)),
                "no-path",
            ),
            ("from a stranger to a workload", None, short(workload(1, ATTACHED)), "unknown-source"),
            ("from a stranger to another cluster", None, short(theirs), "unknown-source"),
            ("from a stranger to this gateway", None, initial(gateway(own, HERE), mine), "own"),
            ("from a stranger to any gateway", None, initial(gateway(own, NodeId::ANY), mine), "own"),
            (
                "from a stranger to a gateway of another cluster",
                None,
                initial(gateway(peer, NodeId(7)), mine),
                "own",
            ),
            ("from a stranger to a sibling", None, initial(gateway(own, SIBLING), mine), "unknown-gateway"),
            (
                "from a control connection to a workload",
                Some(Class::Control),
                short(workload(1, ATTACHED)),
                "unknown-source",
            ),
            ("from a sidecar to a sibling", sidecar, short(gateway(own, SIBLING)), "send 127.0.0.2:7443"),
            ("to a gateway that does not exist", sidecar, short(gateway(own, NodeId(9))), "unknown-gateway"),
            (
                "a first flight in one's own name",
                sidecar,
                initial(endpoint(0x7a6), mine),
                "deliver 127.0.0.10:7443",
            ),
            (
                "a first flight in another's name",
                sidecar,
                initial(endpoint(0x7a6), workload(1, ATTACHED)),
                "foreign-source-id",
            ),
            (
                "a first flight in a foreign cluster's name",
                sidecar,
                initial(endpoint(0x7a6), theirs),
                "foreign-source-id",
            ),
            (
                "a first flight of a linked cluster",
                link,
                initial(endpoint(0x7a6), theirs),
                "deliver 127.0.0.10:7443",
            ),
            ("a linked cluster in our name", link, initial(endpoint(0x7a6), mine), "foreign-source-id"),
            (
                "a linked cluster in a third's name",
                link,
                initial(endpoint(0x7a6), workload(3, ATTACHED)),
                "foreign-source-id",
            ),
            ("an endpoint that nobody gave out", link, initial(endpoint(1), theirs), "unknown-workload"),
            (
                "a service that is exported",
                link,
                initial(service(EXPORTED), theirs),
                "deliver 127.0.0.10:7443",
            ),
            ("a service without endpoints", link, initial(service(EMPTY), theirs), "no-endpoint"),
            (
                "a service that nobody has",
                link,
                initial(service(ServiceHandle(9)), theirs),
                "unknown-service",
            ),
            ("a kind that is not known", sidecar, short(Cid([0xf0; 20])), "malformed"),
            (
                "no cluster",
                sidecar,
                short(Cid([0x10, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
                "malformed",
            ),
        ];
        for (what, class, header, expected) in cases {
            assert_eq!(outcome(&tables, class, &header), expected, "{what}");
        }
        let other = Some(Class::Link(silent, NodeId(3)));
        let from_third = initial(service(EXPORTED), workload(3, ATTACHED));
        assert_eq!(outcome(&tables, other, &from_third), "not-exported");
    }

    #[test]
    fn a_gateway_without_tables_takes_only_what_is_for_itself() {
        let tables = tables(false);
        let sidecar = Some(Class::Workload(CLIENT));
        assert_eq!(outcome(&tables, sidecar, &short(workload(1, ATTACHED))), "not-ready");
        assert_eq!(outcome(&tables, sidecar, &short(Cid::gateway(cluster(1), HERE, 0))), "own");
    }
}
