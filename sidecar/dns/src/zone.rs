//! The zones that we answer for, and what a name in them means. It does not know which services exist.

mod answer;
mod reverse;

pub(crate) use answer::{Found, Writer};

use crate::config::{clusterset_zone, zone};
use crate::question::wire_len;
use causeway_model::{ClusterName, Label, Protocol, ServiceName, ServicePort, Vip, VipName};
use hickory_proto::rr::Name;
use std::str::FromStr;

/// The most labels before a zone that mean anything: `_http._tcp.pay.shop.at.phx`.
const LABELS: usize = 6;

/// What a name in one of our zones means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The zone itself.
    Apex,
    /// A name with nothing of its own, above others (RFC 8020).
    Between,
    /// `dns-version.clusterset.local`.
    SchemaVersion,
    /// A service, or ports of it.
    Service(VipName, Option<Ports>),
    /// A virtual address, in a reverse zone.
    Reverse(Vip),
    /// Such a name cannot exist.
    Nothing,
}

/// The ports of a service that a name with underscores means (RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// `_udp`, or else `_tcp`.
    udp: bool,
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// `_tcp` without anything before it: a name between others.
    All,
    /// Ports have no names, so the protocol that is declared takes the place of one.
    Speaking(Protocol),
    Numbered(u16),
}

impl Ports {
    pub(crate) fn has(self, port: ServicePort) -> bool {
        let which = match self.which {
            Which::All => true,
            Which::Speaking(protocol) => port.protocol == protocol,
            Which::Numbered(number) => port.port == number,
        };
        which && self.udp == (port.protocol == Protocol::Udp)
    }

    /// Whether the name stands for ports, and not only above names that do.
    pub(crate) fn is_leaf(self) -> bool {
        self.which != Which::All
    }

    /// How many labels of a name stand before the service's.
    pub(crate) fn labels(self) -> usize {
        if self.is_leaf() { 2 } else { 1 }
    }

    /// Reads `_tcp` or `_http._tcp`.
    fn read(labels: &[&[u8]]) -> Option<Self> {
        let (which, transport) = match labels {
            [transport] => (Which::All, transport),
            [port, transport] => (Which::read(text(&port[1..])?.as_str())?, transport),
            _ => return None,
        };
        let udp = match () {
            () if transport.eq_ignore_ascii_case(b"_tcp") => false,
            () if transport.eq_ignore_ascii_case(b"_udp") => true,
            () => return None,
        };
        Some(Self { udp, which })
    }
}

impl Which {
    fn read(port: &str) -> Option<Self> {
        if let Ok(protocol) = port.parse() {
            return Some(Self::Speaking(protocol));
        }
        let number = port.parse::<u16>().ok()?;
        // one spelling each, so that no name has two
        (number.to_string() == port).then_some(Self::Numbered(number))
    }
}

/// A zone of ours.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) apex: Name,
    /// The length of `apex` in a message.
    pub(crate) wire_len: usize,
    kind: ZoneKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZoneKind {
    Mesh,
    ClusterSet,
    Reverse4,
    Reverse6,
}

/// All zones of ours.
#[derive(Clone, Debug)]
pub(crate) struct Zones(Vec<Zone>);

impl Zones {
    pub(crate) fn new(mesh: &Name, clusterset: bool) -> Self {
        let mut zones = vec![(mesh.clone(), ZoneKind::Mesh)];
        if clusterset {
            zones.push((clusterset_zone(), ZoneKind::ClusterSet));
        }
        zones.push((reverse::zone_v4(), ZoneKind::Reverse4));
        zones.push((reverse::zone_v6(), ZoneKind::Reverse6));
        let zone = |(apex, kind): (Name, _)| Zone { wire_len: wire_len(&apex), apex, kind };
        Self(zones.into_iter().map(zone).collect())
    }

    /// The zone of ours that `name` lies in, if it does, and what `name` means there.
    pub(crate) fn find(&self, name: &Name) -> Option<(&Zone, Owner)> {
        let zone = self.0.iter().find(|zone| zone.apex.zone_of(name))?;
        Some((zone, zone.owner(name)))
    }
}

impl Zone {
    fn owner(&self, name: &Name) -> Owner {
        let count = name.iter().len() - self.apex.iter().len();
        if matches!(self.kind, ZoneKind::Reverse4 | ZoneKind::Reverse6) {
            return reverse::owner(self.kind == ZoneKind::Reverse4, name.iter().take(count));
        }
        let mut labels: [&[u8]; LABELS] = [&[]; LABELS];
        let Some(labels) = labels.get_mut(..count) else { return Owner::Nothing };
        labels.iter_mut().zip(name.iter()).for_each(|(slot, label)| *slot = label);
        match self.kind {
            ZoneKind::ClusterSet => clusterset_owner(labels),
            _ => mesh_owner(labels),
        }
    }
}

/// A name of one label does not exist, though names of services stand above it (RFC 8020 would have it exist): a resolver with
/// this zone in its search list asks for `www` here first, and some (musl) end their search at a name that exists without
/// an address.
fn mesh_owner(labels: &[&[u8]]) -> Owner {
    let (ports, name) = split_ports(labels);
    match name {
        [] if ports.is_empty() => Owner::Apex,
        [service, namespace] => service_owner(ports, service, namespace, None),
        [service, namespace, at, cluster] if at.eq_ignore_ascii_case(b"at") => {
            service_owner(ports, service, namespace, Some(cluster))
        }
        _ => Owner::Nothing,
    }
}

/// The Kubernetes multi-cluster DNS specification 1.0.0, sections 2.2 and 2.3. There are no names for a service in one cluster
/// (section 2.3.4).
fn clusterset_owner(labels: &[&[u8]]) -> Owner {
    let (ports, name) = split_ports(labels);
    match name {
        [] if ports.is_empty() => Owner::Apex,
        [svc] if ports.is_empty() && svc.eq_ignore_ascii_case(b"svc") => Owner::Between,
        [version] if ports.is_empty() && version.eq_ignore_ascii_case(b"dns-version") => Owner::SchemaVersion,
        [service, namespace, svc] if svc.eq_ignore_ascii_case(b"svc") => {
            service_owner(ports, service, namespace, None)
        }
        _ => Owner::Nothing,
    }
}

fn split_ports<'a, 'b>(labels: &'b [&'a [u8]]) -> (&'b [&'a [u8]], &'b [&'a [u8]]) {
    labels.split_at(labels.iter().take_while(|label| label.starts_with(b"_")).count())
}

fn service_owner(ports: &[&[u8]], service: &[u8], namespace: &[u8], cluster: Option<&[u8]>) -> Owner {
    let name = || {
        let service = ServiceName::new(parse::<Label>(service)?, parse::<Label>(namespace)?);
        let cluster = match cluster {
            Some(cluster) => Some(parse::<ClusterName>(cluster)?),
            None => None,
        };
        Some(VipName { service, cluster })
    };
    match (ports, name()) {
        (_, None) => Owner::Nothing,
        ([], Some(name)) => Owner::Service(name, None),
        (ports, Some(name)) => match Ports::read(ports) {
            Some(ports) => Owner::Service(name, Some(ports)),
            None => Owner::Nothing,
        },
    }
}

/// A label in lower case (RFC 4343), if it is ASCII.
fn text(label: &[u8]) -> Option<String> {
    label.is_ascii().then(|| label.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

fn parse<T: FromStr>(label: &[u8]) -> Option<T> {
    match std::str::from_utf8(label) {
        Ok(label) if !label.bytes().any(|byte| byte.is_ascii_uppercase()) => label.parse().ok(),
        _ => text(label)?.parse().ok(),
    }
}

/// The name that answers reverse questions for `name`.
pub(crate) fn forward_name(mesh: &Name, name: &VipName) -> Option<Name> {
    let service = [name.service.service().as_str(), name.service.namespace().as_str()];
    let cluster = name.cluster.as_ref().map(|cluster| ["at", cluster.as_str()]);
    zone(service.into_iter().chain(cluster.into_iter().flatten())).append_domain(mesh).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(name: &str) -> Option<Owner> {
        let zones = Zones::new(&zone(["mesh"]), true);
        zones.find(&Name::from_ascii(name).unwrap()).map(|(_, owner)| owner)
    }

    fn service(name: &str) -> Option<Owner> {
        Some(Owner::Service(name.parse().unwrap(), None))
    }

    fn ports(name: &str, udp: bool, which: Which) -> Option<Owner> {
        Some(Owner::Service(name.parse().unwrap(), Some(Ports { udp, which })))
    }

    #[test]
    fn names_of_services_are_read_in_any_case() {
        assert_eq!(owner("pay.shop.mesh."), service("pay.shop"));
        assert_eq!(owner("PAY.Shop.MESH."), service("pay.shop"));
        assert_eq!(owner("pay.shop.at.phx.mesh."), service("pay.shop@phx"));
        assert_eq!(owner("pay.shop.AT.PHX.mesh."), service("pay.shop@phx"));
        assert_eq!(owner("pay.shop.svc.clusterset.local."), service("pay.shop"));
        // a namespace may be called as the words are
        assert_eq!(owner("svc.at.mesh."), service("svc.at"));
        assert_eq!(owner("at.at.at.at.mesh."), service("at.at@at"));
    }

    #[test]
    fn names_with_underscores_mean_ports() {
        let http = Which::Speaking(Protocol::Http);
        assert_eq!(owner("_http._tcp.pay.shop.mesh."), ports("pay.shop", false, http));
        assert_eq!(owner("_HTTP._TCP.pay.shop.mesh."), ports("pay.shop", false, http));
        assert_eq!(owner("_http._tcp.pay.shop.at.phx.mesh."), ports("pay.shop@phx", false, http));
        assert_eq!(owner("_http._tcp.pay.shop.svc.clusterset.local."), ports("pay.shop", false, http));
        assert_eq!(owner("_53._udp.pay.shop.mesh."), ports("pay.shop", true, Which::Numbered(53)));
        assert_eq!(owner("_udp.pay.shop.mesh."), ports("pay.shop", true, Which::All));
        for nothing in
            ["_http.pay.shop.mesh.", "_053._udp.pay.shop.mesh.", "_x._tcp.pay.shop.mesh.", "_tcp.mesh."]
        {
            assert_eq!(owner(nothing), Some(Owner::Nothing), "{nothing}");
        }
        assert_eq!(owner("_a._http._tcp.pay.shop.mesh."), Some(Owner::Nothing));
    }

    #[test]
    fn other_names_of_our_zones_mean_nothing_and_other_zones_are_not_ours() {
        assert_eq!(owner("mesh."), Some(Owner::Apex));
        assert_eq!(owner("clusterset.local."), Some(Owner::Apex));
        assert_eq!(owner("svc.clusterset.local."), Some(Owner::Between));
        assert_eq!(owner("dns-version.clusterset.local."), Some(Owner::SchemaVersion));
        for nothing in [
            "www.mesh.",
            "a.b.c.mesh.",
            "www.example.com.mesh.",
            "a.b.c.d.e.f.g.mesh.",
            "*.shop.mesh.",
            "pay_.shop.mesh.",
            "phx.pay.shop.svc.clusterset.local.",
            "pay.shop.clusterset.local.",
        ] {
            assert_eq!(owner(nothing), Some(Owner::Nothing), "{nothing}");
        }
        for other in ["pay.shop.", ".", "pay.shop.default.svc.cluster.local.", "mesh.example.", "notmesh."] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn without_clusterset_its_zone_is_not_ours() {
        let zones = Zones::new(&zone(["mesh", "internal"]), false);
        let name = |name| Name::from_ascii(name).unwrap();
        assert!(zones.find(&name("pay.shop.svc.clusterset.local.")).is_none());
        assert!(zones.find(&name("pay.shop.mesh.")).is_none());
        assert!(zones.find(&name("pay.shop.mesh.internal.")).is_some());
    }

    #[test]
    fn a_reverse_answer_is_read_as_the_name_it_is_for() {
        for name in ["pay.shop", "pay.shop@phx"] {
            let forward = forward_name(&zone(["mesh"]), &name.parse().unwrap()).unwrap();
            assert_eq!(owner(&forward.to_ascii()), service(name));
        }
    }

    proptest! {
        #[test]
        fn labels_never_panic(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 0..9)) {
            let zones = Zones::new(&zone(["mesh"]), true);
            for apex in zones.0.iter().map(|zone| &zone.apex) {
                let name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
                prop_assert!(zones.find(&name.append_domain(apex).unwrap()).is_some());
            }
        }
    }
}
