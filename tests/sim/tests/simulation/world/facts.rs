//! The names of things, and the first commands of every cluster.

use super::{Addr, PER_CLUSTER, World};
use crate::oracle::History;
use causeway_catalog::{
    AddGateway, CommandBody, CreateToken, EstablishLink, Export, ExportTo, InitCluster, MergeRule,
    ServiceDeclaration, TokenKind,
};
use causeway_model::{
    ClusterFacts, ClusterId, ClusterName, Epoch, GatewayFacts, GatewayRole, Locality, NodeId, PortSet,
    ServiceHandle, ServiceName, SpiffeId,
};

/// How many services there are to be declared in each cluster; all clusters use the same names.
pub(crate) const SERVICES: u64 = 9;

pub(crate) fn cluster(index: usize) -> ClusterFacts {
    ClusterFacts {
        name: name(index),
        id: ClusterId::new(u32::try_from(index + 1).unwrap()).unwrap(),
        trust_domain: format!("c{index}.mesh").parse().unwrap(),
        locality: locality(index),
    }
}

pub(crate) fn name(index: usize) -> ClusterName {
    format!("c{index}").parse().unwrap()
}

fn locality(index: usize) -> Locality {
    Locality { region: format!("r{index}"), zone: "a".into() }
}

pub(crate) fn node(addr: Addr) -> NodeId {
    NodeId(addr as u64 + 1)
}

pub(crate) fn gateway(addr: Addr) -> GatewayFacts {
    GatewayFacts {
        node: node(addr),
        role: GatewayRole::Gateway,
        locality: locality(addr / PER_CLUSTER),
        cluster_addrs: vec![format!("10.0.0.{addr}:7443").parse().unwrap()],
        link_addrs: vec![format!("gw{addr}.example.org:7443").parse().unwrap()],
    }
}

pub(crate) fn service(number: u64) -> ServiceName {
    format!("s{number}.shop").parse().unwrap()
}

pub(crate) fn ports() -> PortSet {
    vec!["80/http".parse().unwrap()].try_into().unwrap()
}

pub(crate) fn identity(cluster: usize, account: u64) -> SpiffeId {
    format!("spiffe://c{cluster}.mesh/ns/shop/sa/w{account}").parse().unwrap()
}

/// A handle of the services of a cluster.
pub(crate) fn handle(cluster: usize, number: u64) -> ServiceHandle {
    ServiceHandle((cluster as u64 + 1) << 40 | number)
}

/// A token with a number of its own, that declares one service.
pub(crate) fn token(cluster: usize, number: u64, service_number: u64, expires_at: u64) -> CreateToken {
    let declared = ServiceDeclaration { name: service(service_number), ports: ports() };
    CreateToken {
        id: number.to_be_bytes().into(),
        verifier: [0; 32].into(),
        kind: TokenKind::Workload {
            identity: identity(cluster, service_number % 3),
            services: vec![declared],
        },
        uses: 2,
        expires_at,
    }
}

pub(crate) fn link(to: usize) -> EstablishLink {
    EstablishLink {
        invite: None,
        peer: cluster(to),
        roots: vec![vec![9]],
        gateways: (to * PER_CLUSTER..(to + 1) * PER_CLUSTER).map(gateway).collect(),
        key: [3; 32].into(),
        merge_namespaces: MergeRule::None,
    }
}

fn first_commands(index: usize, linked: &[usize]) -> Vec<CommandBody> {
    let first = index * PER_CLUSTER;
    let init = InitCluster {
        facts: cluster(index),
        root_der: vec![1],
        sealed_ca: vec![2],
        cid_key: (Epoch(1), [1; 16].into()),
        probe_key: (Epoch(1), [1; 32].into()),
        gateway: gateway(first),
    };
    let mut commands: Vec<CommandBody> = vec![init.into()];
    commands.extend((first + 1..first + PER_CLUSTER).map(|addr| AddGateway { facts: gateway(addr) }.into()));
    commands.extend(linked.iter().map(|peer| CommandBody::from(link(*peer))));
    commands
}

impl World {
    /// Writes the logs that all runs begin with, and starts every gateway.
    pub(crate) fn found_clusters(&mut self) {
        let count = self.clusters.len();
        for index in 0..count {
            self.oracle.clusters.push(History::default());
            // the first two are always linked, the others mostly
            let is_linked = |a: usize, b: usize| a + b == 1 || !(a + b).is_multiple_of(3);
            let linked: Vec<usize> =
                (0..count).filter(|peer| *peer != index && is_linked(*peer, index)).collect();
            let commands = first_commands(index, &linked);
            let tokens = (0..SERVICES).map(|n| token(index, n, n, u64::MAX / 2).into());
            let exports = (0..5)
                .map(|n| Export { service: service(n), handle: handle(index, n), to: ExportTo::All }.into());
            let commands: Vec<CommandBody> = commands.into_iter().chain(tokens).chain(exports).collect();
            self.write_logs(index, commands);
            for addr in self.members(index) {
                self.gateways[addr].clock_error_ms = i64::try_from(self.rng.below(4000)).unwrap() - 2000;
                self.start(addr);
            }
            (0..4).for_each(|_| self.birth(index));
            (0..2).for_each(|_| self.add_watcher(index));
        }
    }
}
