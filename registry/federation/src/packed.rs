//! An accepted offer in few bytes: what gateways keep hundreds of thousands of.
//!
//! It is packed against what is known already: the trust domain and the region of the peer, and the namespace of the service,
//! which its identities mostly share. The layout is this process's own and is never sent or stored.

mod cut;

use crate::digest;
use causeway_model::{
    ClusterFacts, Label, Locality, PortSet, Protocol, ServiceHandle, ServiceName, ServicePort, SpiffeId,
};
use causeway_wire::view::ExportSummary;
use cut::{Cut, Paste};
use std::sync::atomic::{AtomicU64, Ordering};

/// Stands for the region of the peer.
const SAME_REGION: u8 = u8::MAX;
/// Stands for the namespace of the service.
const SAME_NAMESPACE: u8 = 0;

/// An accepted offer.
#[derive(Debug)]
pub(crate) struct Packed {
    handle: ServiceHandle,
    hash: u64,
    /// The event that made one of the peer's gateways offer it.
    changed: AtomicU64,
    /// Begins with [`Self::key`] of the name, and the handle.
    bytes: Box<[u8]>,
}

impl Packed {
    /// Packs an offer that passed [`check_offer`](crate::fault::check_offer) for `peer`.
    pub(crate) fn new(peer: &ClusterFacts, offer: &ExportSummary) -> Self {
        let mut out = Paste(Self::key(&offer.name));
        out.0.extend_from_slice(&offer.handle.0.to_be_bytes());
        out.number(offer.healthy);
        out.number(offer.total);
        out.list(offer.ports.iter(), |out, port| {
            out.0.extend_from_slice(&port.port.to_be_bytes());
            out.0.push(port.protocol as u8);
        });
        out.list(&offer.identities, |out, identity| {
            let (namespace, account) = account(identity);
            if namespace == offer.name.namespace().as_str() {
                out.0.push(SAME_NAMESPACE);
            } else {
                out.text(namespace);
            }
            out.text(account);
        });
        out.list(&offer.localities, |out, (locality, count)| {
            if locality.region == peer.locality.region {
                out.0.push(SAME_REGION);
            } else {
                out.text(&locality.region);
            }
            out.text(&locality.zone);
            out.number(*count);
        });
        Self {
            handle: offer.handle,
            hash: digest::hash(offer),
            changed: AtomicU64::new(0),
            bytes: out.0.into_boxed_slice(),
        }
    }

    /// What the bytes of an offer of that name begin with: in the order of names.
    pub(crate) fn key(name: &ServiceName) -> Vec<u8> {
        let (namespace, service) = (name.namespace().as_str(), name.service().as_str());
        let mut key = Vec::with_capacity(namespace.len() + service.len() + 64);
        // no label has a 0, so no key begins another
        for label in [namespace, service] {
            key.extend_from_slice(label.as_bytes());
            key.push(0);
        }
        key
    }

    /// What it takes in memory, without the tables that it is in.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }

    pub(crate) fn handle(&self) -> &ServiceHandle {
        &self.handle
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether both are the same offer of the same peer.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.hash == other.hash && self.bytes == other.bytes
    }

    /// The event that last made a gateway offer it.
    pub(crate) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// One of the peer's gateways offers this since `event`.
    pub(crate) fn note_changed(&self, event: u64) {
        self.changed.fetch_max(event, Ordering::Relaxed);
    }

    /// Whether both have one name.
    pub(crate) fn shares_name(&self, other: &Self) -> bool {
        self.name_bytes() == other.name_bytes()
    }

    /// The [`Self::key`] of its name.
    pub(crate) fn name_bytes(&self) -> &[u8] {
        let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == 0);
        let end = ends.map(|(at, _)| at + 1).nth(1).unwrap_or(self.bytes.len());
        self.bytes.get(..end).unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        Cut(&self.bytes).label()
    }

    pub(crate) fn service(&self) -> &str {
        let mut cut = Cut(&self.bytes);
        cut.label();
        cut.label()
    }

    pub(crate) fn name(&self) -> ServiceName {
        ServiceName::new(label(self.service()), label(self.namespace()))
    }

    pub(crate) fn counts(&self) -> (u32, u32) {
        let mut cut = self.values();
        (cut.number(), cut.number())
    }

    /// The whole offer; `peer` is the one that it was packed for.
    pub(crate) fn open(&self, peer: &ClusterFacts) -> ExportSummary {
        let name = self.name();
        let mut cut = self.values();
        let (healthy, total) = (cut.number(), cut.number());
        let ports: Vec<ServicePort> = cut.list(port).collect();
        let identities = cut.list(|cut| identity(cut, peer, name.namespace())).collect();
        let localities = cut.list(|cut| locality(cut, peer)).collect();
        ExportSummary {
            name,
            handle: self.handle,
            ports: PortSet::try_from(ports).unwrap_or_default(),
            identities,
            healthy,
            total,
            localities,
        }
    }

    fn values(&self) -> Cut<'_> {
        let mut cut = Cut(&self.bytes);
        cut.label();
        cut.label();
        cut.take(size_of::<ServiceHandle>());
        cut
    }
}

/// Namespace and account: whether the path has them was checked, an offer with any other role is refused.
fn account(identity: &SpiffeId) -> (&str, &str) {
    let mut segments = identity.path().split('/').skip(2).step_by(2);
    (segments.next().unwrap_or_default(), segments.next().unwrap_or_default())
}

fn port(cut: &mut Cut<'_>) -> ServicePort {
    let port = u16::from_be_bytes([cut.byte(), cut.byte()]);
    let protocol = match cut.byte() {
        0 => Protocol::Tcp,
        1 => Protocol::Udp,
        2 => Protocol::Http,
        _ => Protocol::Grpc,
    };
    ServicePort { port, protocol }
}

fn identity(cut: &mut Cut<'_>, peer: &ClusterFacts, own: &Label) -> SpiffeId {
    let namespace = match cut.byte() {
        SAME_NAMESPACE => own.clone(),
        length => label(cut.text_of(length)),
    };
    SpiffeId::workload(&peer.trust_domain, &namespace, &label(cut.text()))
}

fn locality(cut: &mut Cut<'_>, peer: &ClusterFacts) -> (Locality, u32) {
    let region = match cut.byte() {
        SAME_REGION => peer.locality.region.clone(),
        length => cut.text_of(length).to_owned(),
    };
    let zone = cut.text().to_owned();
    (Locality { region, zone }, cut.number())
}

#[expect(clippy::expect_used, reason = "it was a label when it was packed")]
fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

#[cfg(test)]
mod tests;
