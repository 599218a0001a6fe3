//! The inbound decision of a sidecar: may this peer open a stream for this service?

use crate::ExportSet;
use causeway_model::{PortKey, PortSet, ServiceName, SpiffeId, SpiffeRole, TrustDomain};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a stream was refused. The messages are for the operator of the serving side; a peer gets only the code of
/// [`RefuseReason::reason`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum RefuseReason {
    /// The peer's identity is not that of a workload (a gateway, or a path with no role in the mesh).
    #[error(
        "peer {peer} is not a workload: only identities of the form spiffe://TD/ns/NAMESPACE/sa/ACCOUNT open streams"
    )]
    NotAWorkload {
        /// Who asked.
        peer: SpiffeId,
    },
    /// This endpoint does not serve the service.
    #[error(
        "service {service} is not served here: the peer's view is old, or the service is missing from this workload"
    )]
    ServiceUnknown {
        /// What was asked for.
        service: ServiceName,
    },
    /// Whether it is served here or not, the exports do not name the peer's trust domain.
    #[error(
        "service {service} is not exported to trust domain {cluster}: export it to that cluster to allow this"
    )]
    NotExported {
        /// What was asked for.
        service: ServiceName,
        /// The peer's trust domain.
        cluster: TrustDomain,
    },
    /// The service has no such port.
    #[error("service {service} has no port {port}: declare it, or correct the client")]
    PortUnknown {
        /// What was asked for.
        service: ServiceName,
        /// The port that was asked for.
        port: PortKey,
    },
}

impl RefuseReason {
    /// The stable code that logs, metrics and answers to the peer share.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAWorkload { .. } => "not-a-workload",
            Self::ServiceUnknown { .. } => "service-unknown",
            Self::NotExported { .. } => "not-exported",
            Self::PortUnknown { .. } => "port-unknown",
        }
    }
}

/// What a policy says to one request.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The stream may be served.
    Allow,
    /// It may not, and why.
    Refuse(RefuseReason),
}

impl Decision {
    /// True when the stream may be served.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// Who may open a stream to this workload, compiled from a snapshot of its cluster's intent. An empty policy (no served
/// services) refuses everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPolicy {
    own: TrustDomain,
    served: BTreeMap<ServiceName, PortSet>,
    exports: ExportSet,
}

impl InboundPolicy {
    /// The policy of a workload of trust domain `own_td` that serves `served`, of which `exported` names the trust
    /// domains outside its own that may use each.
    ///
    /// An export of a service that is not served changes nothing. A served service with an empty port set refuses every
    /// port.
    pub fn new(
        own_td: TrustDomain,
        served: BTreeMap<ServiceName, PortSet>,
        exported: BTreeMap<ServiceName, BTreeSet<TrustDomain>>,
    ) -> Self {
        Self { own: own_td, served, exports: ExportSet::new(exported) }
    }

    /// May `peer`, whose identity is proved, open a stream for `port` of `service`?
    ///
    /// A peer of another trust domain learns nothing of a service that is not exported to it: not its ports, nor whether it is
    /// served here.
    pub fn decide(&self, peer: &SpiffeId, service: &ServiceName, port: PortKey) -> Decision {
        if !matches!(peer.role(), SpiffeRole::Workload { .. }) {
            return Decision::Refuse(RefuseReason::NotAWorkload { peer: peer.clone() });
        }
        let domain = peer.trust_domain();
        if *domain != self.own && !self.exports.allows(service, domain) {
            let (service, cluster) = (service.clone(), domain.clone());
            return Decision::Refuse(RefuseReason::NotExported { service, cluster });
        }
        let Some(ports) = self.served.get(service) else {
            return Decision::Refuse(RefuseReason::ServiceUnknown { service: service.clone() });
        };
        if ports.protocol(port).is_none() {
            return Decision::Refuse(RefuseReason::PortUnknown { service: service.clone(), port });
        }
        Decision::Allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    fn ports(list: &[u16]) -> PortSet {
        let ports: Vec<_> = list.iter().map(|port| port.to_string().parse().unwrap()).collect();
        PortSet::try_from(ports).unwrap()
    }

    fn policy() -> InboundPolicy {
        let served =
            [("pay.shop", ports(&[80, 443])), ("db.shop", ports(&[5432])), ("bare.shop", ports(&[]))];
        let phx: BTreeSet<TrustDomain> = ["phx.mesh".parse().unwrap()].into();
        let exported = [("pay.shop", phx.clone()), ("gone.shop", phx), ("db.shop", BTreeSet::new())];
        InboundPolicy::new(
            "iad.mesh".parse().unwrap(),
            served.into_iter().map(|(name, ports)| (service(name), ports)).collect(),
            exported.into_iter().map(|(name, domains)| (service(name), domains)).collect(),
        )
    }

    #[test]
    fn each_row_of_the_table_is_decided() {
        let (own, phx, lhr) = ("spiffe://iad.mesh", "spiffe://phx.mesh", "spiffe://lhr.mesh");
        let rows = [
            (own, "/ns/shop/sa/web", "pay.shop", 80, "allow"),
            (own, "/ns/shop/sa/web", "pay.shop", 443, "allow"),
            (own, "/ns/shop/sa/web", "db.shop", 5432, "allow"),
            (own, "/ns/shop/sa/web", "db.shop", 80, "port-unknown"),
            (own, "/ns/shop/sa/web", "bare.shop", 80, "port-unknown"),
            (own, "/ns/shop/sa/web", "pay.shop", 0, "port-unknown"),
            (own, "/ns/shop/sa/web", "gone.shop", 80, "service-unknown"),
            (phx, "/ns/shop/sa/web", "pay.shop", 80, "allow"),
            (phx, "/ns/shop/sa/web", "pay.shop", 81, "port-unknown"),
            (phx, "/ns/shop/sa/web", "db.shop", 5432, "not-exported"),
            (phx, "/ns/shop/sa/web", "db.shop", 1, "not-exported"),
            (phx, "/ns/shop/sa/web", "gone.shop", 80, "service-unknown"),
            (lhr, "/ns/shop/sa/web", "pay.shop", 80, "not-exported"),
            (lhr, "/ns/shop/sa/web", "gone.shop", 80, "not-exported"),
            (phx, "/ns/shop/sa/web", "never.heard", 80, "not-exported"),
            (own, "/causeway/gateway/0000000000000001", "pay.shop", 80, "not-a-workload"),
            (phx, "/causeway/gateway/0000000000000001", "pay.shop", 80, "not-a-workload"),
            (own, "/ns/shop/sa/web/x", "pay.shop", 80, "not-a-workload"),
            (own, "", "pay.shop", 80, "not-a-workload"),
        ];
        for (domain, path, name, port, expected) in rows {
            let peer: SpiffeId = format!("{domain}{path}").parse().unwrap();
            let got = match policy().decide(&peer, &service(name), PortKey::tcp(port)) {
                Decision::Allow => "allow",
                Decision::Refuse(reason) => reason.reason(),
            };
            assert_eq!(got, expected, "{peer} {name}:{port}");
        }
    }

    #[test]
    fn messages_name_what_was_asked_for_and_survive_a_round_trip() {
        let peer: SpiffeId = "spiffe://phx.mesh/ns/shop/sa/web".parse().unwrap();
        let Decision::Refuse(reason) = policy().decide(&peer, &service("db.shop"), PortKey::udp(5432)) else {
            panic!("allowed");
        };
        let text = reason.to_string();
        assert!(text.contains("db.shop") && text.contains("phx.mesh"), "{text}");
        let json = serde_json::to_string(&reason).unwrap();
        assert_eq!(serde_json::from_str::<RefuseReason>(&json).unwrap(), reason);
    }

    #[test]
    fn an_empty_policy_refuses_everything() {
        let policy = InboundPolicy::new("iad.mesh".parse().unwrap(), BTreeMap::new(), BTreeMap::new());
        let peer: SpiffeId = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
        assert!(!policy.decide(&peer, &service("pay.shop"), PortKey::tcp(80)).is_allowed());
    }

    const DOMAINS: [&str; 3] = ["iad.mesh", "phx.mesh", "lhr.mesh"];
    const PATHS: [&str; 3] = ["/ns/shop/sa/web", "/causeway/gateway/0000000000000007", "/other"];

    /// The rules of the design, section 10, read off one after the other from flat lists.
    fn reference(
        served: &[(usize, u16)],
        exports: &[(usize, usize)],
        peer: (usize, usize),
        ask: (usize, u16),
    ) -> bool {
        let serves = served.contains(&ask);
        let exported = exports.contains(&(ask.0, peer.0));
        peer.1 == 0 && serves && (peer.0 == 0 || exported)
    }

    proptest! {
        #[test]
        fn decides_as_the_naive_reference(
            served in prop::collection::vec((0..4_usize, 1..4_u16), 0..8),
            exports in prop::collection::vec((0..4_usize, 0..3_usize), 0..8),
            peer in (0..3_usize, 0..3_usize),
            ask in (0..4_usize, 0..5_u16),
        ) {
            let name = |n: usize| service(&format!("s{n}.shop"));
            let mut by_service: BTreeMap<ServiceName, BTreeSet<u16>> = BTreeMap::new();
            for &(n, port) in &served {
                by_service.entry(name(n)).or_default().insert(port);
            }
            let mut exported: BTreeMap<ServiceName, BTreeSet<TrustDomain>> = BTreeMap::new();
            for &(n, domain) in &exports {
                exported.entry(name(n)).or_default().insert(DOMAINS[domain].parse().unwrap());
            }
            let by_service = by_service
                .into_iter()
                .map(|(name, list)| (name, ports(&list.into_iter().collect::<Vec<_>>())))
                .collect();
            let policy = InboundPolicy::new(DOMAINS[0].parse().unwrap(), by_service, exported);
            let id: SpiffeId = format!("spiffe://{}{}", DOMAINS[peer.0], PATHS[peer.1]).parse().unwrap();
            let allowed = policy.decide(&id, &name(ask.0), PortKey::tcp(ask.1)).is_allowed();
            prop_assert_eq!(allowed, reference(&served, &exports, peer, ask));
        }
    }
}
