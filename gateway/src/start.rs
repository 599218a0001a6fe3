//! Starting and stopping a gateway.

use crate::config::GatewayConfig;
use crate::disk;
use crate::forwarder::{BoundForwarder, ForwarderCollector, ForwarderConfig, SourceLimits};
use crate::hub::{self, Hub};
use crate::node::Node;
use crate::peers::{self, Peers};
use crate::{authority, links, members, operator, renew, server};
use anyhow::Context as _;
use causeway_catalog::{Command, InitCluster, UpdateGateway};
use causeway_identity::{ClientAuth, server_config};
use causeway_model::GatewayRole;
use causeway_runtime::{
    Drain, DrainTrigger, Metrics, Readiness, ReadyGuard, Tasks, TelemetryServer, control_runtime, init_logs,
    shutdown_signal,
};
use causeway_store::{Registry, StoreConfig};
use causeway_transport::gateway::GatewayEndpoint;
use causeway_wire::{CloseCode, alpn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long the first round of probes may take.
const PROBE_ROUND: Duration = Duration::from_millis(400);
/// How long nothing may have been forwarded before a gateway that drains stops.
const QUIET: Duration = Duration::from_millis(300);
/// How long tasks have to end after everything was told to stop.
const STOP: Duration = Duration::from_secs(5);

/// A running gateway.
pub struct Gateway {
    hub: Hub,
    drain: DrainTrigger,
    readiness: Readiness,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    telemetry: Option<SocketAddr>,
}

/// Runs a gateway until it is told to stop.
pub fn run(config: GatewayConfig) -> anyhow::Result<()> {
    init_logs(config.log.as_deref(), config.log_format)?;
    let _ = causeway_runtime::limits::raise_nofile();
    let mut signal = std::pin::pin!(shutdown_signal()?);
    let runtime = control_runtime(2).context("starting the control runtime")?;
    let drain = config.drain;
    runtime.block_on(async {
        let gateway = tokio::select! {
            gateway = Gateway::start(config) => gateway?,
            name = &mut signal => {
                tracing::info!(signal = name, "stopped before the gateway was up");
                return Ok(());
            }
        };
        let tasks = gateway.hub.tasks.clone();
        tokio::select! {
            name = signal => tracing::info!(signal = name, "stopping"),
            () = tasks.cancelled() => {}
        }
        if let Some(failure) = tasks.failure() {
            anyhow::bail!("{failure}");
        }
        gateway.stop(drain).await
    })
}

impl Gateway {
    /// Starts a gateway on the current runtime.
    pub async fn start(config: GatewayConfig) -> anyhow::Result<Self> {
        let (tasks, metrics, readiness) = (Tasks::new(), Metrics::new(), Readiness::new());
        let booting = readiness.block("start");
        let forwarder = BoundForwarder::bind(&ForwarderConfig {
            listen: config.listen.clone(),
            threads: config.threads,
            limits: SourceLimits::default(),
        })?;
        let listen = forwarder.local_addrs();
        let (node, init) = Node::open(&config, &listen).await?;
        disk::prove(&config.data_dir)?;
        let (own, sockets) = forwarder.own().context("the overlay sockets")?;
        let forwarder = forwarder.start(node.cluster().id, node.id(), Node::random_secret(), &tasks)?;
        metrics.registry(|registry| {
            registry.register_collector(Box::new(ForwarderCollector(forwarder.clone())))
        });
        let tls = server_config(
            node.svid(),
            node.bundles(),
            &[alpn::RAFT, alpn::LINK, alpn::CTL],
            ClientAuth::Optional,
            node.roots().first().cloned(),
        )?;
        let ids = (node.cluster().id, node.id());
        let endpoint = GatewayEndpoint::new(&own, sockets, ids, tls, &config.transport)?;
        let peers = Peers::new(&tasks);
        let registry_dir = node.registry_dir();
        causeway_runtime::files::create_private_dir(&registry_dir)?;
        let store = StoreConfig::new(registry_dir, node.id());
        let registry =
            Registry::open(store, Arc::new(peers.clone())).await.context("opening the registry")?;
        if let Some(init) = init {
            found(&node, &registry, init).await?;
        }
        // a database that is there may open without a write; not before now, so that no file of ours looks like half a start
        disk::prove(&node.registry_dir())?;
        let (drain, drained) = Drain::new();
        let hub = Hub::new(node, registry, forwarder, endpoint, (tasks, drained));
        let gateway = Self { hub, drain, readiness, listen, admin: None, telemetry: None };
        gateway.serve(&config, &metrics, &peers, booting).await
    }

    async fn serve(
        mut self,
        config: &GatewayConfig,
        metrics: &Metrics,
        peers: &Peers,
        booting: ReadyGuard,
    ) -> anyhow::Result<Self> {
        let hub = &self.hub;
        let tasks = &hub.tasks;
        tasks.spawn_critical("control server", server::run(hub.clone(), peers.clone()));
        tasks.spawn_critical("gateways of the cluster", peers::keep(hub.clone(), peers.clone()));
        hub::drive(hub, peers);
        tasks.spawn_critical("registry members", members::keep(hub.clone()));
        tasks.spawn_critical("own SVID", renew::keep(hub.clone(), peers.clone()));
        tasks.spawn_critical("certificate authority", authority::keep(hub.clone()));
        tasks.spawn_critical("disk", hub.disk.clone().keep(self.readiness.clone(), tasks.token()));
        tasks.spawn_critical("registry failure", watch_registry(hub.clone()));
        links::start(hub);
        metrics.registry(|registry| {
            registry.register_collector(Box::new(links::LinkCollector::new(hub.clone())));
            hub.metrics.register(registry);
        });
        if let Some(addr) = config.telemetry {
            let server = TelemetryServer::bind(addr, metrics.clone(), self.readiness.clone())?;
            self.telemetry = Some(server.local_addr());
            tasks.spawn_critical("telemetry", server.serve(tasks.token()));
        }
        wait_for_registry(hub).await?;
        tasks.spawn("own facts", publish_facts(hub.clone(), peers.clone()));
        if let Some(addr) = config.admin {
            self.admin = operator::serve(hub, config, addr)?;
        }
        self.become_ready(booting);
        Ok(self)
    }

    /// Ready means: it has its tables, and one round of probes has been sent and answered, or has had its time.
    fn become_ready(&self, booting: ReadyGuard) {
        let hub = self.hub.clone();
        let tasks = hub.tasks.clone();
        tasks.spawn("readiness", async move {
            let stop = hub.tasks.token();
            let mut deadline = tokio::time::Instant::now() + PROBE_ROUND;
            hub.tables_work.notify_one();
            while !stop.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(25)).await;
                if !hub.forwarder.has_tables() {
                    deadline = tokio::time::Instant::now() + PROBE_ROUND;
                    continue;
                }
                let paths = hub.forwarder.paths();
                if tokio::time::Instant::now() > deadline
                    || paths.iter().all(|path| path.ports_alive == path.ports)
                {
                    break;
                }
            }
            hub.forwarder.update(|inputs| inputs.ready = true);
            drop(booting);
            tracing::info!(cluster = %hub.node.cluster().name, node = %hub.node.id(), "the gateway is ready");
        });
    }

    /// The overlay's addresses.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The admin API's address.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address of metrics and readiness.
    pub fn telemetry_addr(&self) -> Option<SocketAddr> {
        self.telemetry
    }

    /// Stops: sidecars and gateways are told, get until `grace` to turn to others, then everything ends.
    pub async fn stop(self, grace: Duration) -> anyhow::Result<()> {
        let hub = self.hub;
        let stopping = self.readiness.block("stopping");
        // probes are answered with "not ready" from now on, and sidecars are told: packets go elsewhere within a round trip,
        // and those that are on their way are still forwarded
        hub.forwarder.update(|inputs| inputs.draining = true);
        let _ = self.drain.drain(Duration::from_millis(100)).await;
        let quiet = until_quiet(&hub, grace).await;
        tracing::info!(quiet, "drained");
        hub.endpoint.close(CloseCode::GoingAway, "the gateway stops");
        let _ = tokio::time::timeout(Duration::from_secs(1), hub.endpoint.wait_idle()).await;
        if let Err(error) = hub.registry.shutdown().await {
            tracing::warn!(%error, "the registry did not close cleanly; it recovers at the next start");
        }
        drop(stopping);
        if let Err(alive) = hub.tasks.shutdown(STOP).await {
            anyhow::bail!("tasks did not end: {}", alive.join(", "));
        }
        Ok(())
    }
}

/// Waits until no packets are forwarded any longer, for `grace` at most.
async fn until_quiet(hub: &Hub, grace: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + grace;
    let mut before = hub.forwarder.totals().packets_out;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = hub.forwarder.totals().packets_out;
        if now == before || tokio::time::Instant::now() >= deadline {
            return now == before;
        }
        before = now;
    }
}

/// The first start: makes the registry with the cluster in it, then says on disk that the gateway is complete.
async fn found(node: &Node, registry: &Registry, init: InitCluster) -> anyhow::Result<()> {
    let command =
        Command { at: causeway_runtime::clock::unix_now(), by: "first start".into(), body: init.into() };
    registry.initialise(command).await.context("making the registry")?;
    node.complete()?;
    let cluster = node.cluster();
    tracing::info!(cluster = %cluster.name, id = %cluster.id, trust_domain = %cluster.trust_domain, "cluster founded");
    Ok(())
}

/// A gateway that joined waits for its replica; one that has it goes on at once.
async fn wait_for_registry(hub: &Hub) -> anyhow::Result<()> {
    let mut watch = hub.registry.watch();
    let filled = watch.wait_for(|catalog| catalog.cluster().is_some());
    let stop = hub.tasks.token();
    tokio::select! {
        filled = tokio::time::timeout(Duration::from_secs(30), filled) => match filled {
            Ok(Ok(_)) => Ok(()),
            _ => anyhow::bail!(
                "the cluster's registry did not arrive within 30 s: the gateway that leads it must reach this one at {}; \
                 check --advertise and that the UDP port is open between gateways",
                hub.node.facts().cluster_addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        },
        () = stop.cancelled() => anyhow::bail!("stopped while waiting for the registry"),
    }
}

/// Tells the registry when this gateway's addresses differ from what it has. A forwarder may not change the registry: it asks a
/// gateway to.
async fn publish_facts(hub: Hub, peers: Peers) {
    let stop = hub.tasks.token();
    let mut told = false;
    loop {
        let facts = hub.node.facts();
        if hub.catalog().gateway(facts.node) == Some(&facts) {
            return;
        }
        let outcome = match hub.node.role() {
            GatewayRole::Gateway => {
                let by = format!("gateway {}", facts.node);
                hub.propose(&by, UpdateGateway { facts }).await.map(drop).map_err(|error| error.to_string())
            }
            GatewayRole::Forwarder => peers.tell_facts(&facts).await,
        };
        if let Err(cause) = outcome
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(
                cause,
                "this gateway's addresses differ from the registry's and could not be told to it yet"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A registry that fails (disk full, damage) ends the process with the cause: it never serves wrong data.
async fn watch_registry(hub: Hub) -> anyhow::Result<()> {
    let mut failure = hub.registry.failure();
    let stop = hub.tasks.token();
    let cause = tokio::select! {
        failed = failure.wait_for(Option::is_some) => match failed {
            Ok(cause) => cause.as_ref().map(ToString::to_string).unwrap_or_default(),
            Err(_) => return Ok(()),
        },
        () = stop.cancelled() => return Ok(()),
    };
    anyhow::bail!("the registry stopped: {cause}")
}
