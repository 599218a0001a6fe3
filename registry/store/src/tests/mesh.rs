//! Registries of one process that call each other, and commands for them.

use crate::message::SNAPSHOT_CHUNK;
use crate::{CallError, CallFuture, MAX_BODY, PeerCalls, Registry, StoreConfig, StoreError};
use causeway_catalog::{
    AddGateway, Command, CommandBody, DeclarePorts, DrainGateway, InitCluster, UpdateGateway,
};
use causeway_model::*;
use causeway_wire::codec::to_vec_unlimited;
use causeway_wire::peer::Method;
use futures_util::future::join_all;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take that must happen.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// How a link is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cut {
    /// Calls fail at once.
    Refused,
    /// Calls are swallowed.
    Swallowed,
}

/// The network.
#[derive(Default)]
pub(super) struct Mesh {
    nodes: Mutex<HashMap<NodeId, Registry>>,
    cut: Mutex<HashMap<NodeId, Cut>>,
    /// From whom to whom nothing gets through.
    one_way: Mutex<HashSet<(NodeId, NodeId)>>,
    /// Which methods were called, by whom.
    pub(super) seen: Mutex<HashSet<(NodeId, Method)>>,
}

/// One node's way into the network.
struct Port {
    from: NodeId,
    mesh: Arc<Mesh>,
}

impl PeerCalls for Port {
    fn call(&self, to: NodeId, method: Method, body: Vec<u8>, timeout: Duration) -> CallFuture {
        assert!(body.len() <= MAX_BODY, "{method:?} of {} bytes", body.len());
        let (from, mesh) = (self.from, self.mesh.clone());
        Box::pin(async move {
            mesh.seen.lock().unwrap().insert((from, method));
            match mesh.way(from, to) {
                Err(Cut::Refused) => Err(CallError::Unreachable("the link is cut".into())),
                Err(Cut::Swallowed) => {
                    sleep(timeout).await;
                    Err(CallError::Timeout)
                }
                Ok(node) => {
                    let call = tokio::spawn(async move { node.handle_call(from, method, body).await });
                    let answer = tokio::time::timeout(timeout, call).await.map_err(|_| CallError::Timeout)?;
                    let answer = answer.map_err(|_| CallError::Timeout)??;
                    if mesh.way(to, from).is_err() {
                        sleep(timeout).await;
                        return Err(CallError::Timeout);
                    }
                    assert!(answer.len() <= MAX_BODY);
                    Ok(answer)
                }
            }
        })
    }
}

impl Mesh {
    fn way(&self, from: NodeId, to: NodeId) -> Result<Registry, Cut> {
        if self.one_way.lock().unwrap().contains(&(from, to)) {
            return Err(Cut::Swallowed);
        }
        let cut = self.cut.lock().unwrap();
        match cut.get(&from).or(cut.get(&to)) {
            Some(&cut) => Err(cut),
            None => self.nodes.lock().unwrap().get(&to).cloned().ok_or(Cut::Refused),
        }
    }

    /// Takes a node off the network.
    pub(super) fn cut(&self, node: u64, how: Cut) {
        self.cut.lock().unwrap().insert(NodeId(node), how);
    }

    /// Swallows what `from` says to `to`, or no longer.
    pub(super) fn cut_one_way(&self, from: u64, to: u64, cut: bool) {
        let mut one_way = self.one_way.lock().unwrap();
        match cut {
            true => one_way.insert((NodeId(from), NodeId(to))),
            false => one_way.remove(&(NodeId(from), NodeId(to))),
        };
    }

    /// Ends a node at once: nothing that it says or is told any more arrives. Its directory can be opened again, after
    /// [`Mesh::heal`].
    pub(super) async fn kill(&self, node: u64) {
        self.cut(node, Cut::Swallowed);
        self.stop(node).await;
    }

    /// Puts it back.
    pub(super) fn heal(&self, node: u64) {
        self.cut.lock().unwrap().remove(&NodeId(node));
    }

    pub(super) async fn open_with(self: &Arc<Self>, config: StoreConfig) -> Result<Registry, StoreError> {
        let node = config.node;
        let registry = Registry::open(config, Arc::new(Port { from: node, mesh: self.clone() })).await?;
        self.nodes.lock().unwrap().insert(node, registry.clone());
        Ok(registry)
    }

    pub(super) async fn open(self: &Arc<Self>, dir: &Path, node: u64) -> Registry {
        self.open_with(StoreConfig::new(dir, NodeId(node))).await.unwrap()
    }

    /// Shuts a node down; its directory can be opened again.
    pub(super) async fn stop(&self, node: u64) {
        let registry = self.nodes.lock().unwrap().remove(&NodeId(node)).unwrap();
        registry.shutdown().await.unwrap();
    }

    /// A port for a registry that nobody calls.
    pub(super) fn port(self: &Arc<Self>, node: u64) -> Arc<dyn PeerCalls> {
        Arc::new(Port { from: NodeId(node), mesh: self.clone() })
    }
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not in {SOON:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Admits a gateway.
pub(super) fn admit(node: u64, role: GatewayRole) -> Command {
    command(AddGateway { facts: GatewayFacts { node: NodeId(node), role, ..gateway(1) } })
}

/// The first command that not every release knows.
pub(super) fn later_command() -> Command {
    command(DrainGateway { node: NodeId(1), draining: false, ready: BTreeSet::new() })
}

fn gateway(port: u16) -> GatewayFacts {
    GatewayFacts {
        node: NodeId(1),
        role: GatewayRole::Gateway,
        locality: Locality { region: "iad".into(), zone: "AD-1".into() },
        cluster_addrs: vec![format!("10.0.0.1:{port}").parse().unwrap()],
        link_addrs: vec![],
    }
}

fn command(body: impl Into<CommandBody>) -> Command {
    Command { at: 1_700_000_000, by: "test".into(), body: body.into() }
}

/// The first command.
pub(super) fn init() -> Command {
    command(InitCluster {
        facts: ClusterFacts {
            name: "iad".parse().unwrap(),
            id: ClusterId::new(1).unwrap(),
            trust_domain: "iad.mesh".parse().unwrap(),
            locality: Locality { region: "iad".into(), zone: "AD-1".into() },
        },
        root_der: vec![1],
        sealed_ca: vec![2],
        cid_key: (Epoch(1), [1; 16].into()),
        probe_key: (Epoch(1), [1; 32].into()),
        gateway: gateway(1),
    })
}

/// A change that can be made again and again: [`port`] reads it back.
pub(super) fn set_port(port: u16) -> Command {
    command(UpdateGateway { facts: gateway(port) })
}

/// A large command that the catalog refuses, and the log keeps.
pub(super) fn refused_command(size: usize) -> Command {
    let mut command = init();
    if let CommandBody::InitCluster(init) = &mut command.body {
        init.sealed_ca = vec![9; size];
    }
    command
}

/// Makes the catalog larger than a chunk of a snapshot, by its audit.
pub(super) async fn fill(registry: &Registry) {
    let ports: Vec<ServicePort> =
        (1001..=1064).map(|number: u16| number.to_string().parse().unwrap()).collect();
    let ports = PortSet::try_from(ports).unwrap();
    let service: ServiceName = format!("{}.{}", "s".repeat(60), "n".repeat(60)).parse().unwrap();
    for _ in 0..20 {
        let changes = (0..50).map(|_| {
            let mut command = command(DeclarePorts { service: service.clone(), ports: ports.clone() });
            command.by = "a".repeat(256);
            registry.propose(command)
        });
        for refused in join_all(changes).await {
            assert_eq!(refused.unwrap_err().reason(), "service-unknown");
        }
    }
    let size = to_vec_unlimited(&*registry.catalog()).unwrap().len() as u64;
    assert!(size > SNAPSHOT_CHUNK, "{size}");
}

/// What [`set_port`] set last.
pub(super) fn port(registry: &Registry) -> Option<u16> {
    Some(registry.catalog().gateway(NodeId(1))?.cluster_addrs.first()?.port())
}
