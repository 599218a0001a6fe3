//! The gateways' addresses: names are resolved, and the overlay is told.

use super::picture::Picture;
use causeway_model::{GatewayFacts, HostPort};
use causeway_transport::{GatewayTarget, resolve};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often names are resolved anew: their addresses may change.
const REFRESH: Duration = Duration::from_secs(30);
/// When a name that could not be resolved is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one resolution may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);

/// The addresses of names, as last resolved.
#[derive(Debug, Default)]
struct Directory {
    of: BTreeMap<HostPort, Vec<SocketAddr>>,
}

/// Keeps the overlay's gateways up to date until `token` is cancelled.
pub(super) async fn run(picture: Arc<Picture>, token: CancellationToken) {
    let mut gateways = picture.gateways.subscribe();
    let (mut directory, mut last) = (Directory::default(), Vec::new());
    loop {
        let facts = gateways.borrow_and_update().clone();
        // those that need no resolver are told at once: a resolver may be reached through the mesh
        tell(&picture, directory.targets(&facts), &mut last);
        let resolved = directory.refresh(&facts).await;
        tell(&picture, directory.targets(&facts), &mut last);
        let wait = async {
            match resolved {
                Resolved::NoNames => std::future::pending().await,
                Resolved::All => tokio::time::sleep(REFRESH).await,
                Resolved::NotAll => tokio::time::sleep(AGAIN).await,
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            // the picture has the sender, so this cannot fail
            _ = gateways.changed() => {}
            () = wait => {}
        }
    }
}

fn tell(picture: &Picture, targets: Vec<GatewayTarget>, last: &mut Vec<GatewayTarget>) {
    if !targets.is_empty() && targets != *last {
        tracing::debug!(gateways = targets.len(), "the overlay's gateways changed");
        picture.overlay.set_gateways(targets.clone());
        *last = targets;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolved {
    /// There are only IP addresses.
    NoNames,
    All,
    NotAll,
}

impl Directory {
    /// Resolves the names in `facts`; one that cannot be resolved keeps what it had.
    async fn refresh(&mut self, facts: &[GatewayFacts]) -> Resolved {
        let names = facts.iter().flat_map(|gateway| &gateway.cluster_addrs);
        let names: Vec<HostPort> = names.filter(|host| host.socket_addr().is_none()).cloned().collect();
        self.of.retain(|host, _| names.contains(host));
        if names.is_empty() {
            return Resolved::NoNames;
        }
        let mut resolving = JoinSet::new();
        for host in names {
            resolving.spawn(async move {
                let outcome = tokio::time::timeout(RESOLVE_WITHIN, resolve(&host)).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    Err(std::io::Error::other(format!("cannot resolve {host} within {RESOLVE_WITHIN:?}")))
                });
                (host, outcome)
            });
        }
        let mut all = true;
        while let Some(ended) = resolving.join_next().await {
            let Ok((host, outcome)) = ended else { continue };
            all &= self.learn(host, outcome);
        }
        if all { Resolved::All } else { Resolved::NotAll }
    }

    /// Takes the outcome of a resolution; whether it was one.
    fn learn(&mut self, host: HostPort, outcome: std::io::Result<Vec<SocketAddr>>) -> bool {
        match outcome {
            Ok(mut addrs) if !addrs.is_empty() => {
                // resolvers rotate their answers, which is no change
                addrs.sort_unstable();
                addrs.dedup();
                self.of.insert(host, addrs);
                true
            }
            Ok(_) => false,
            Err(error) => {
                let kept = self.of.contains_key(&host);
                tracing::warn!(%error, kept, "a gateway's name cannot be resolved, trying again");
                false
            }
        }
    }

    /// Where each gateway is reached, as far as it is known, best first.
    fn targets(&self, facts: &[GatewayFacts]) -> Vec<GatewayTarget> {
        let target = |gateway: &GatewayFacts| {
            let mut addrs: Vec<SocketAddr> = Vec::new();
            for host in &gateway.cluster_addrs {
                let known = self.of.get(host).into_iter().flatten().copied();
                for addr in host.socket_addr().into_iter().chain(known) {
                    if !addrs.contains(&addr) {
                        addrs.push(addr);
                    }
                }
            }
            (!addrs.is_empty()).then_some(GatewayTarget { node: gateway.node, addrs })
        };
        facts.iter().filter_map(target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{GatewayRole, Locality, NodeId};

    fn gateway(node: u64, addrs: &[&str]) -> GatewayFacts {
        GatewayFacts {
            node: NodeId(node),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".to_owned(), zone: "z".to_owned() },
            cluster_addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
            link_addrs: Vec::new(),
        }
    }

    fn addrs(addrs: &[&str]) -> Vec<SocketAddr> {
        addrs.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn addresses_need_no_resolver() {
        let mut directory = Directory::default();
        let facts = [gateway(1, &["10.0.0.1:7443", "10.0.0.2:7443", "10.0.0.1:7443"])];
        let target = GatewayTarget { node: NodeId(1), addrs: addrs(&["10.0.0.1:7443", "10.0.0.2:7443"]) };
        assert_eq!(directory.targets(&facts), [target]);
        assert_eq!(directory.refresh(&facts).await, Resolved::NoNames);
    }

    #[test]
    fn a_name_that_resolves_no_more_keeps_its_addresses() {
        let mut directory = Directory::default();
        let (host, facts) = ("gw.example.org:7443", [gateway(1, &["gw.example.org:7443"])]);
        assert!(directory.targets(&facts).is_empty(), "nothing is known yet");
        assert!(directory.learn(host.parse().unwrap(), Ok(addrs(&["10.0.0.2:7443", "10.0.0.1:7443"]))));
        let known = directory.targets(&facts);
        assert_eq!(known[0].addrs, addrs(&["10.0.0.1:7443", "10.0.0.2:7443"]));
        assert!(!directory.learn(host.parse().unwrap(), Err(std::io::Error::other("no resolver"))));
        assert!(!directory.learn(host.parse().unwrap(), Ok(Vec::new())));
        assert_eq!(directory.targets(&facts), known);
        assert!(directory.learn(host.parse().unwrap(), Ok(addrs(&["10.0.0.1:7443", "10.0.0.2:7443"]))));
        assert_eq!(directory.targets(&facts), known, "another order is no change");
    }
}
