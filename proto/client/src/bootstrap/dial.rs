//! Reaching any gateway out of a list of addresses.
//!
//! The addresses are tried in their order, the next one as soon as the one before failed or was silent for a moment, so that a
//! dead first gateway costs little. The first that completes the handshake is used and the others are dropped.

use causeway_identity::{BundleStore, IdentityError, ServerRule, SvidSource, client_config};
use causeway_model::{ClusterId, GatewayFacts, GatewayRole, HostPort, NodeId};
use causeway_transport::{BootstrapEndpoint, Connection, close_reason_text, resolve};
use causeway_wire::alpn;
use causeway_wire::token::JoinToken;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long one handshake may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// How long one resolution may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);
/// How long an address may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(300);
/// The most addresses that are tried in one round.
const MAX_TRIED: usize = 64;

/// A gateway that was reached.
pub(super) struct Reached {
    pub(super) connection: Connection,
    /// Its address, as text.
    pub(super) peer: String,
    pub(super) addr: SocketAddr,
}

/// Addresses that completed a handshake and then did not do what they were asked, the latest one last. They are tried after
/// all others: a gateway that is full says so only after the handshake, and the next one may have room.
#[derive(Debug, Default)]
pub(super) struct Setbacks(Vec<SocketAddr>);

impl Setbacks {
    pub(super) fn note(&mut self, addr: SocketAddr) {
        self.forget(addr);
        if self.0.len() == MAX_TRIED {
            self.0.remove(0);
        }
        self.0.push(addr);
    }

    pub(super) fn forget(&mut self, addr: SocketAddr) {
        self.0.retain(|other| *other != addr);
    }

    /// When `addr` is due: those without a setback first, then those whose setback is the oldest.
    fn rank(&self, addr: SocketAddr) -> usize {
        self.0.iter().position(|other| *other == addr).map_or(0, |at| at + 1)
    }
}

/// Why no gateway was reached, one cause an address.
#[derive(Debug, Default)]
pub(super) struct Unreached(pub(super) Vec<(String, String)>);

impl Unreached {
    /// Whether every address answered with a certificate of another root than the pinned one.
    pub(super) fn is_wrong_root(&self) -> bool {
        self.all("wrong-fingerprint")
    }

    /// Whether every address answered with a certificate of another trust domain than the token's.
    pub(super) fn is_wrong_domain(&self) -> bool {
        self.all("wrong-identity")
    }

    fn all(&self, word: &str) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, cause)| cause.contains(word))
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (address, cause)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {cause}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Where gateways are reached: those that are known, then those of the token, each once. Forwarders speak no control
/// protocol and are left out.
pub(crate) fn hosts(gateways: &[GatewayFacts], token: Option<&JoinToken>) -> Vec<HostPort> {
    let known = gateways.iter().filter(|gateway| gateway.role == GatewayRole::Gateway);
    let known = known.flat_map(|gateway| &gateway.cluster_addrs);
    let of_token = token.into_iter().flat_map(|token| &token.core.gateways);
    let mut hosts: Vec<HostPort> = Vec::new();
    for host in known.chain(of_token) {
        if !hosts.contains(host) && hosts.len() < MAX_TRIED {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// How a round of dialling authenticates.
pub(super) struct Credentials<'a> {
    pub(super) rule: ServerRule,
    pub(super) bundles: &'a BundleStore,
    pub(super) svid: Option<&'a SvidSource>,
}

/// A connection to the first of `hosts` that completes a handshake; those in `setbacks` are tried last.
pub(super) async fn any(
    endpoint: &BootstrapEndpoint,
    cluster: ClusterId,
    hosts: &[HostPort],
    setbacks: &Setbacks,
    credentials: Credentials<'_>,
) -> Result<Result<Reached, Unreached>, IdentityError> {
    let Credentials { rule, bundles, svid } = credentials;
    let tls = client_config(rule, bundles, svid, alpn::CTL)?;
    let (mut addresses, mut failed) = resolve_all(endpoint, hosts).await;
    addresses.sort_by_key(|(_, addr)| setbacks.rank(*addr));
    addresses.truncate(MAX_TRIED);
    let mut waiting = addresses.into_iter();
    let mut trying = JoinSet::new();
    loop {
        if let Some((name, addr)) = waiting.next() {
            match endpoint.connect(addr, cluster, NodeId::ANY, tls.clone(), "gateway") {
                Ok(connecting) => {
                    trying.spawn(async move {
                        let outcome = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
                        (name, addr, outcome)
                    });
                }
                Err(error) => failed.0.push((name, error.to_string())),
            }
        } else if trying.is_empty() {
            return Ok(Err(failed));
        }
        let ended = match waiting.len() {
            0 => trying.join_next().await,
            _ => tokio::time::timeout(STAGGER, trying.join_next()).await.ok().flatten(),
        };
        let Some(Ok((peer, addr, outcome))) = ended else { continue };
        match outcome {
            Ok(Ok(connection)) => return Ok(Ok(Reached { connection, peer, addr })),
            Ok(Err(error)) => failed.0.push((peer, close_reason_text(&error))),
            Err(_) => failed.0.push((peer, format!("no answer within {CONNECT_WITHIN:?}"))),
        }
    }
}

/// The addresses of `hosts` with a name for each, in their order, and why the others have none.
async fn resolve_all(
    endpoint: &BootstrapEndpoint,
    hosts: &[HostPort],
) -> (Vec<(String, SocketAddr)>, Unreached) {
    let (mut addresses, mut failed) = (Vec::new(), Unreached::default());
    for host in hosts {
        let resolved = match host.socket_addr() {
            Some(addr) => Ok(vec![addr]),
            None => match tokio::time::timeout(RESOLVE_WITHIN, resolve(host)).await {
                Ok(resolved) => resolved.map_err(|error| error.to_string()),
                Err(_) => Err(format!("cannot resolve {host} within {RESOLVE_WITHIN:?}")),
            },
        };
        match resolved.map(|addrs| endpoint.reachable(&addrs)) {
            Ok(addrs) if addrs.is_empty() => {
                let cause = "it has no address of the overlay's family; listen on [::] for both";
                failed.0.push((host.to_string(), cause.to_owned()));
            }
            Ok(addrs) => addresses.extend(addrs.into_iter().map(|addr| (name(host, addr), addr))),
            Err(cause) => failed.0.push((host.to_string(), cause)),
        }
    }
    (addresses, failed)
}

fn name(host: &HostPort, addr: SocketAddr) -> String {
    match host.socket_addr() {
        Some(_) => addr.to_string(),
        None => format!("{host} ({})", addr.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::Locality;

    fn gateway(role: GatewayRole, addr: &str) -> GatewayFacts {
        GatewayFacts {
            node: NodeId(1),
            role,
            locality: Locality { region: "r".to_owned(), zone: "z".to_owned() },
            cluster_addrs: vec![addr.parse().unwrap()],
            link_addrs: vec!["203.0.113.9:7443".parse().unwrap()],
        }
    }

    #[test]
    fn only_gateways_are_dialled_each_address_once() {
        let gateways = [
            gateway(GatewayRole::Gateway, "10.0.0.1:7443"),
            gateway(GatewayRole::Forwarder, "10.0.0.2:7443"),
            gateway(GatewayRole::Gateway, "gw.example.org:7443"),
            gateway(GatewayRole::Gateway, "10.0.0.1:7443"),
        ];
        let hosts: Vec<String> = hosts(&gateways, None).iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["10.0.0.1:7443", "gw.example.org:7443"]);
    }

    #[test]
    fn who_did_not_do_what_was_asked_is_due_after_the_others() {
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let order = |setbacks: &Setbacks| {
            let mut ports = [1, 2, 3];
            ports.sort_by_key(|port| setbacks.rank(addr(*port)));
            ports
        };
        let mut setbacks = Setbacks::default();
        for (full, expected) in [(1, [2, 3, 1]), (2, [3, 1, 2]), (1, [3, 2, 1])] {
            setbacks.note(addr(full));
            assert_eq!(order(&setbacks), expected);
        }
        setbacks.forget(addr(1));
        assert_eq!(order(&setbacks), [1, 3, 2]);
        (100..1_000).for_each(|port| setbacks.note(addr(port)));
        assert_eq!(setbacks.0.len(), MAX_TRIED);
    }

    #[test]
    fn every_cause_is_named_with_its_address() {
        let cause = |text: &str| ("10.0.0.1:7443".to_owned(), text.to_owned());
        let both = Unreached(vec![cause("x wrong-fingerprint: y"), cause("no answer")]);
        assert_eq!(both.to_string(), "10.0.0.1:7443: x wrong-fingerprint: y; 10.0.0.1:7443: no answer");
        assert!(!both.is_wrong_root() && !Unreached::default().is_wrong_root());
        assert!(Unreached(vec![cause("wrong-fingerprint: y")]).is_wrong_root());
    }
}
