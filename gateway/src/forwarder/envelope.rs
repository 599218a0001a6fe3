//! What is done with an envelope: a pure function of what it says, where it came from, and the tables.
//!
//! The cluster that it passes through looks at origin, destination and hops, and at nothing else; the one that it is for treats the
//! packet in it as it would if the origin's gateway had sent it directly. So links, exports and the checks of source IDs are between
//! the two clusters at the ends, whoever is in between.

use super::counters::DropReason;
use super::route::{Verdict, route};
use super::source::{Class, Source, Strangers};
use super::tables::Tables;
use super::target::{Path, choose};
use causeway_model::{ClusterId, NodeId};
use causeway_transport::gateway::transit_addr;
use causeway_wire::packet::{Header, PacketType};
use causeway_wire::{Cid, CidKind, Envelope};
use std::sync::Arc;

/// What is done with an envelope.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passage<'a> {
    /// It is for this cluster: what is in it goes there.
    Open(Verdict<'a>),
    /// It goes to a gateway of another cluster, and may pass through so many more clusters.
    Relay(Path<'a>, u8),
    /// It goes to another gateway of this cluster as it is.
    HandOn(Path<'a>),
}

impl Passage<'_> {
    const fn drop(reason: DropReason) -> Self {
        Self::Open(Verdict::Drop(reason))
    }
}

/// Where an envelope from `source` goes whose packet has this header, if its sender has not sent too much by `now_ns`.
pub(super) fn consider<'a>(
    tables: &'a Tables,
    source: Option<&Arc<Source>>,
    (strangers, now_ns): (&Strangers, u64),
    envelope: &Envelope,
    header: &Header,
) -> Passage<'a> {
    let passage = pass(tables, source.map(|source| source.class), envelope, header);
    match (source, &passage) {
        (None, _) | (_, Passage::Open(Verdict::Drop(_))) => passage,
        (Some(source), _) => match bound(tables, source, (strangers, now_ns), envelope, header) {
            Ok(()) => passage,
            Err(reason) => Passage::drop(reason),
        },
    }
}

/// What comes through a neighbour is part of what the neighbour may send, wherever it goes. Of clusters that are not linked, no more is
/// taken than of other strangers: of all that one neighbour brings together, as the origins are what it says they are.
fn bound(
    tables: &Tables,
    source: &Source,
    (strangers, now_ns): (&Strangers, u64),
    envelope: &Envelope,
    header: &Header,
) -> Result<(), DropReason> {
    let initial = header.packet_type == PacketType::Initial;
    if initial && !source.handshakes.take(now_ns, 1) {
        return Err(DropReason::HandshakeLimit);
    }
    let own = header.dcid.cluster() == Some(tables.cluster);
    if !own || tables.links.contains_key(&envelope.origin) {
        return Ok(());
    }
    let through = match source.class {
        Class::Link(neighbour, _) => transit_addr(neighbour),
        Class::Sibling(_) | Class::Workload(_) | Class::Control => source.addr,
    };
    let (packets, handshakes) = strangers.rates(through);
    if !packets.take(now_ns, 1) {
        return Err(DropReason::RateLimit);
    }
    if initial && !handshakes.take(now_ns, 1) {
        return Err(DropReason::HandshakeLimit);
    }
    Ok(())
}

/// Where an envelope from `class` goes whose packet has this header; `None` stands for a source that is not admitted.
pub(super) fn pass<'a>(
    tables: &'a Tables,
    class: Option<Class>,
    envelope: &Envelope,
    header: &Header,
) -> Passage<'a> {
    let Some(cluster) = header.dcid.cluster().filter(|_| header.dcid.kind().is_some()) else {
        return Passage::drop(DropReason::Malformed);
    };
    let own = cluster == tables.cluster;
    let from = match class {
        None => return Passage::drop(DropReason::UnknownSource),
        Some(Class::Link(neighbour, _)) => neighbour,
        // another gateway of this cluster took it, and hands on what is for this one
        Some(Class::Sibling(_)) if own => return Passage::Open(handed_on(tables, &header.dcid)),
        Some(Class::Sibling(_) | Class::Workload(_) | Class::Control) => {
            return Passage::drop(DropReason::NoTransit);
        }
    };
    let Some(origins) = tables.routes.origins.get(&from) else { return Passage::drop(DropReason::NoTransit) };
    if envelope.origin == tables.cluster || envelope.origin == cluster {
        return Passage::drop(DropReason::Loop);
    }
    if !origins.contains(&envelope.origin) {
        return Passage::drop(DropReason::ForeignOrigin);
    }
    if own { open(tables, envelope, header) } else { onward(tables, from, cluster, envelope, &header.dcid) }
}

/// The next gateway on the way to `cluster`, for what starts here or came in.
pub(super) fn way<'a>(tables: &'a Tables, cluster: ClusterId, dcid: &Cid) -> Option<Path<'a>> {
    let onward = tables.transit.get(&cluster)?;
    // the last step goes to the gateway that is named, if it can: nobody has to hand it on there
    let named = dcid.node().filter(|_| onward.next == cluster);
    let named = named.and_then(|node| onward.targets.iter().find(|target| target.node() == node));
    named
        .and_then(|target| choose(std::slice::from_ref(target), dcid.spread(), tables.ports))
        .or_else(|| choose(&onward.targets, dcid.spread(), tables.ports))
}

fn onward<'a>(
    tables: &'a Tables,
    from: ClusterId,
    cluster: ClusterId,
    envelope: &Envelope,
    dcid: &Cid,
) -> Passage<'a> {
    if !tables.ready {
        return Passage::drop(DropReason::NotReady);
    }
    let Some(hops) = envelope.hops.checked_sub(1) else { return Passage::drop(DropReason::Loop) };
    match tables.transit.get(&cluster) {
        Some(onward) if onward.next == from => Passage::drop(DropReason::Loop),
        _ => match way(tables, cluster, dcid) {
            Some(path) => Passage::Relay(path, hops),
            None => Passage::drop(DropReason::NoPath),
        },
    }
}

fn open<'a>(tables: &'a Tables, envelope: &Envelope, header: &Header) -> Passage<'a> {
    let origin = envelope.origin;
    let foreign = header.packet_type != PacketType::Short
        && header.scid.and_then(|scid| scid.cluster()) != Some(origin);
    if foreign {
        return Passage::drop(DropReason::ForeignSourceId);
    }
    if header.dcid.kind() == Some(CidKind::Gateway) {
        return to_gateway(tables, &header.dcid);
    }
    // a cluster that is not linked may reach gateways, to show a link token
    let class = tables.links.contains_key(&origin).then_some(Class::Link(origin, NodeId::ANY));
    Passage::Open(route(tables, class, header))
}

/// A gateway answers whom it knows by the envelope: it is handed on whole.
fn to_gateway<'a>(tables: &'a Tables, dcid: &Cid) -> Passage<'a> {
    let node = dcid.node().unwrap_or(NodeId::ANY);
    if node == NodeId::ANY || node == tables.node {
        return Passage::Open(Verdict::Own);
    }
    let Some(sibling) = tables.siblings.get(&node) else {
        return Passage::drop(DropReason::UnknownGateway);
    };
    match choose(std::slice::from_ref::<Arc<_>>(sibling), dcid.spread(), tables.ports) {
        Some(path) => Passage::HandOn(path),
        None => Passage::drop(DropReason::NoPath),
    }
}

fn handed_on<'a>(tables: &Tables, dcid: &Cid) -> Verdict<'a> {
    match dcid.node() {
        Some(node) if node == tables.node || node == NodeId::ANY => Verdict::Own,
        Some(_) => Verdict::Drop(DropReason::UnknownGateway),
        None => Verdict::Drop(DropReason::NoTransit),
    }
}

#[cfg(test)]
mod tests;
