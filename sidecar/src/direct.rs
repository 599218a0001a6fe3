//! Peers of the own cluster that are reached without a gateway: which of their connections vouches for the address.
//!
//! Owns that choice and the own addresses that peers are told; probing and use are the overlay's.

use causeway_model::{SpiffeId, WorkloadId};
use causeway_transport::{Connection, Overlay, Side, exporter};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most direct addresses that a sidecar tells.
pub(crate) const MAX_DIRECT: usize = 8;
/// The label of the exporter that gives both ends the key of their probes (RFC 8446 section 7.5).
const LABEL: &[u8] = b"EXPORTER-causeway-direct";

/// What one connection says of its peer. An instance id in a hello is a claim: whoever a sidecar has *called* was told apart by
/// its gateway, but a caller may name any instance of its cluster.
#[derive(Clone)]
struct Entry {
    connection: usize,
    /// Who the peer is, by its certificate.
    identity: SpiffeId,
    /// This side called, so the claim was checked.
    called: bool,
    /// The connection was begun by the side with the lower instance id. Both sides prefer such a one, and so probe under
    /// the same key when each has connected to the other.
    preferred: bool,
    addr: SocketAddr,
    key: [u8; 32],
}

type Entries = FxHashMap<WorkloadId, Vec<Entry>>;

/// Why `addr` must not be used for `peer`, if it must not.
fn disputed(peer: WorkloadId, addr: SocketAddr, entries: &Entries) -> Option<&'static str> {
    let list = entries.get(&peer)?;
    if list.windows(2).any(|two| two[0].identity != two[1].identity) {
        return Some("two identities claim the instance");
    }
    let others = entries.iter().filter(|(other, _)| **other != peer);
    let taken = others.flat_map(|(_, list)| list).any(|entry| entry.addr == addr);
    taken.then_some("another instance has the address")
}

/// The direct addresses that live connections vouch for.
#[derive(Clone)]
pub(crate) struct Directs {
    own: WorkloadId,
    overlay: Overlay,
    entries: Arc<Mutex<Entries>>,
}

impl Directs {
    pub(crate) fn new(own: WorkloadId, overlay: Overlay) -> Self {
        Self { own, overlay, entries: Arc::default() }
    }

    /// Uses the first of `addrs` that can be one for `peer`, which is `identity`, until the guard is dropped. Where two identities claim
    /// one instance, or two instances one address, packets go by gateways.
    pub(crate) fn add(
        &self,
        peer: WorkloadId,
        identity: &SpiffeId,
        connection: &Connection,
        addrs: &[SocketAddr],
    ) -> Option<DirectGuard> {
        let addr = *addrs.iter().find(|addr| usable(**addr))?;
        let key = exporter(connection, LABEL, b"").ok()?;
        let called = connection.side() == Side::Client;
        let client = if called { self.own } else { peer };
        let id = connection.stable_id();
        let (identity, preferred) = (identity.clone(), client == self.own.min(peer));
        let entry = Entry { connection: id, identity, called, preferred, addr, key };
        let mut entries = self.lock();
        entries.entry(peer).or_default().push(entry);
        if let Some(why) = disputed(peer, addr, &entries) {
            tracing::warn!(%peer, %addr, why, "a direct address is disputed, so packets go by gateways");
        }
        self.apply_all(addr, &entries);
        Some(DirectGuard { directs: self.clone(), peer, connection: id })
    }

    fn remove(&self, peer: WorkloadId, connection: usize) {
        self.retain(peer, |entry| entry.connection != connection);
    }

    /// Forgets what callers that claim to be `peer` said, because it could not be reached: one of them may keep its packets.
    pub(crate) fn doubt(&self, peer: WorkloadId) {
        self.retain(peer, |entry| entry.called);
    }

    fn retain(&self, peer: WorkloadId, keep: impl Fn(&Entry) -> bool) {
        let mut entries = self.lock();
        let Some(list) = entries.get_mut(&peer) else { return };
        let gone: Vec<SocketAddr> =
            list.iter().filter(|entry| !keep(entry)).map(|entry| entry.addr).collect();
        list.retain(keep);
        if list.is_empty() {
            entries.remove(&peer);
        }
        self.apply(peer, &entries);
        for addr in gone {
            self.apply_all(addr, &entries);
        }
    }

    /// Applies what holds for every instance that names `addr`.
    fn apply_all(&self, addr: SocketAddr, entries: &Entries) {
        for (peer, _) in entries.iter().filter(|(_, list)| list.iter().any(|entry| entry.addr == addr)) {
            self.apply(*peer, entries);
        }
    }

    fn apply(&self, peer: WorkloadId, entries: &Entries) {
        let best = entries.get(&peer).and_then(|list| list.iter().max_by_key(|entry| entry.preferred));
        match best.filter(|entry| disputed(peer, entry.addr, entries).is_none()) {
            Some(entry) => self.overlay.set_direct(peer, entry.addr, entry.key),
            None => self.overlay.remove_direct(peer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a direct address in use.
pub(crate) struct DirectGuard {
    directs: Directs,
    peer: WorkloadId,
    connection: usize,
}

impl Drop for DirectGuard {
    fn drop(&mut self) {
        self.directs.remove(self.peer, self.connection);
    }
}

fn usable(addr: SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

/// Where peers may reach an overlay socket bound to `bound`: there, or, if it is bound to every address, at the addresses
/// from which `towards` and the default routes are reached.
pub(crate) fn own_addresses(bound: SocketAddr, towards: &[SocketAddr]) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // addresses for documentation: nothing is sent there, the system only says which way it would go
    let routes =
        [IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    let targets = towards.iter().copied().chain(routes.map(|ip| SocketAddr::new(ip, 9)));
    let mut found: Vec<SocketAddr> = Vec::new();
    for target in targets.filter(|target| bound.is_ipv6() || target.is_ipv4()) {
        if let Some(ip) = source_towards(target) {
            let addr = SocketAddr::new(ip, bound.port());
            if !found.contains(&addr) && found.len() < MAX_DIRECT {
                found.push(addr);
            }
        }
    }
    found
}

fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(account: &str, addr: &str) -> Entry {
        let identity = format!("spiffe://iad.mesh/ns/shop/sa/{account}").parse().unwrap();
        let addr = addr.parse().unwrap();
        Entry { connection: 1, identity, called: false, preferred: true, addr, key: [0; 32] }
    }

    #[test]
    fn neither_an_instance_nor_an_address_can_be_taken_over() {
        let (peer, other) = (WorkloadId(1), WorkloadId(2));
        let mut entries = Entries::default();
        let honest = entry("pay", "10.0.0.1:7444");
        entries.insert(peer, vec![honest.clone(), honest.clone()]);
        assert_eq!(disputed(peer, honest.addr, &entries), None);
        entries.insert(other, vec![entry("pay", "10.0.0.1:7444")]);
        assert_eq!(disputed(peer, honest.addr, &entries), Some("another instance has the address"));
        assert_eq!(disputed(other, honest.addr, &entries), Some("another instance has the address"));
        entries.remove(&other);
        entries.insert(peer, vec![honest.clone(), entry("mallory", "10.0.0.2:7444")]);
        assert_eq!(disputed(peer, honest.addr, &entries), Some("two identities claim the instance"));
    }

    #[test]
    fn a_bound_address_is_told_as_it_is() {
        let bound: SocketAddr = "127.0.0.1:7444".parse().unwrap();
        assert_eq!(own_addresses(bound, &[]), [bound]);
    }

    #[test]
    fn of_every_address_the_one_towards_the_gateway_is_told_first() {
        let found = own_addresses("0.0.0.0:7444".parse().unwrap(), &["127.0.0.9:7443".parse().unwrap()]);
        assert_eq!(found[0], "127.0.0.1:7444".parse().unwrap());
        assert!(found.iter().all(|addr| addr.is_ipv4() && usable(*addr)));
    }
}
