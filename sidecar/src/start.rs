//! A sidecar from its configuration to its end.
//!
//! Owns the order in which the parts are started and stopped, and on which of the two runtimes each runs: control on the
//! caller's, and everything that touches traffic on one thread of its own.

mod control;
mod data;

use crate::choose::Chooser;
use crate::config::{ListenSpec, SidecarConfig};
use crate::direct::{Directs, own_addresses};
use crate::inbound::{Delivery, Inbound};
use crate::membership::Membership;
use crate::metrics::SidecarMetrics;
use crate::outbound::{Connector, Outbound, Pool, Route};
use anyhow::Context;
use causeway_client::{ClientConfig, ClientMetrics, Control, ControlConfig, Joined, bootstrap};
use causeway_identity::{ClientAuth, server_config};
use causeway_model::{ClusterFacts, Health, HostPort, SpiffeId, WorkloadId};
use causeway_runtime::{
    Drain, DrainTrigger, Failure, Metrics, Readiness, Tasks, TelemetryServer, bind_error, bind_tcp,
    control_runtime, init_logs, limits, shutdown_signal,
};
use causeway_transport::{Overlay, OverlayEndpoint};
use causeway_wire::ctl::ServedService;
use causeway_wire::token::JoinToken;
use causeway_wire::{CloseCode, alpn};
use control::{Discovered, policy};
use data::DataThread;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long connections may take to say goodbye at the end.
const CLOSING: Duration = Duration::from_secs(1);
/// How long tasks may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// Starts sidecars.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar;

/// A sidecar that runs. Dropping it cuts everything short; [`RunningSidecar::shutdown`] does not.
#[derive(Debug)]
pub struct RunningSidecar {
    overlay: SocketAddr,
    listen: Vec<(ListenSpec, SocketAddr)>,
    telemetry: Option<SocketAddr>,
    workload: WorkloadId,
    cluster: ClusterFacts,
    identity: SpiffeId,
    metrics: Metrics,
    readiness: Readiness,
    control: Control,
    endpoint: OverlayEndpoint,
    drain: DrainTrigger,
    /// Cuts the applications' connections that are left.
    cut: CancellationToken,
    tasks: Tasks,
    data: DataThread,
    /// Ends every task.
    _end: DropGuard,
}

impl Sidecar {
    /// Starts a sidecar, and returns once it is a member of its cluster: for as long as no gateway can be reached it waits; drop the
    /// future to give up. Call it on the runtime that control is to run on.
    ///
    /// # Errors
    /// An address that cannot be had, or a join that was refused.
    pub async fn start(config: SidecarConfig) -> anyhow::Result<RunningSidecar> {
        Box::pin(start(config)).await
    }
}

/// Runs a sidecar until SIGTERM or SIGINT, then drains it. Sets up logs if nobody has.
///
/// # Errors
/// It could not start, or a part of it failed for good.
pub fn run(config: SidecarConfig) -> anyhow::Result<()> {
    if let Err(error) = init_logs(config.log.as_deref(), config.log_format)
        && !matches!(error, causeway_runtime::LogError::Again(_))
    {
        return Err(error.into());
    }
    if let Err(error) = limits::raise_nofile() {
        tracing::warn!(%error, "cannot raise the limit on open descriptors, which bounds how many connections are carried");
    }
    let drain = config.drain.get();
    let runtime = control_runtime(1).context("cannot start the control runtime")?;
    runtime.block_on(async move {
        let mut signal = std::pin::pin!(shutdown_signal().context("cannot handle signals")?);
        let sidecar = tokio::select! {
            sidecar = Sidecar::start(config) => sidecar?,
            _ = &mut signal => return Ok(()),
        };
        tokio::select! {
            _ = &mut signal => {}
            () = sidecar.failed() => {}
        }
        let failure = sidecar.failure();
        sidecar.shutdown(if failure.is_some() { Duration::ZERO } else { drain }).await;
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    })
}

async fn start(config: SidecarConfig) -> anyhow::Result<RunningSidecar> {
    let tasks = Tasks::new();
    let end = tasks.token().drop_guard();
    let (metrics, readiness) = (Metrics::new(), Readiness::new());
    let attached = readiness.block("attached to the cluster");
    let registered = readiness.block("registered with a gateway");
    let (listeners, listen) = bind(&config)?;
    let telemetry = telemetry(&config, &metrics, &readiness, &tasks)?;
    let data = DataThread::start().context("cannot start the data thread")?;
    let (addr, settings) = (config.overlay, config.transport.clone());
    let overlay = data
        .on(move || Overlay::bind(addr, &settings))
        .await?
        .map_err(|source| bind_error("the overlay", "--overlay", addr, source))?;
    metrics.registry(|registry| overlay.metrics().register(registry));
    let token = join_token(&config)?;
    let direct = direct(token.as_ref(), overlay.local_addr());
    let joined = join(&config, token, direct.clone(), &overlay).await?;
    drop(attached);

    let (trigger, drain) = Drain::new();
    let (svid, bundles) = (joined.svid().clone(), joined.bundles().clone());
    let tls = server_config(&svid, &bundles, &[alpn::DATA], ClientAuth::Required, None)?;
    let over = overlay.clone();
    let mut settings = config.transport.clone();
    settings.max_streams = settings.max_streams.min(config.limits.max_streams_per_peer);
    let endpoint = data.on(move || OverlayEndpoint::new(&over, Some(tls), &settings)).await??;
    let prober = overlay.run_prober(tasks.token());
    tasks.spawn_critical_on(data.handle(), "prober", prober);
    let identity = svid.current().id().clone();
    let client_metrics = ClientMetrics::default();
    metrics.registry(|registry| client_metrics.register(registry));
    let control_config = ControlConfig { metrics: client_metrics, ..ControlConfig::default() };
    let control = Control::start(joined, endpoint.clone(), &overlay, control_config, &tasks);
    tasks.spawn_critical("registration", control::registration(control.state(), registered, tasks.token()));

    let parts = Parts {
        config: &config,
        overlay: &overlay,
        endpoint: &endpoint,
        control: &control,
        direct,
        drain,
        tasks: &tasks,
    };
    let cut = parts.start(&data, listeners, &metrics);
    Ok(RunningSidecar {
        overlay: overlay.local_addr(),
        listen,
        telemetry,
        workload: control.workload(),
        cluster: control.cluster(),
        identity,
        metrics,
        readiness,
        control,
        endpoint,
        drain: trigger,
        cut,
        tasks,
        data,
        _end: end,
    })
}

/// The listeners, each with its place in the configuration, and what they are bound to.
type Bound = (Vec<(ListenSpec, TcpListener)>, Vec<(ListenSpec, SocketAddr)>);

fn bind(config: &SidecarConfig) -> anyhow::Result<Bound> {
    let (mut listeners, mut addrs) = (Vec::new(), Vec::new());
    for spec in &config.listen {
        let listener = bind_tcp("a service", "--listen", spec.addr)?;
        addrs.push((spec.clone(), listener.local_addr().context("cannot read a listener's address")?));
        listeners.push((spec.clone(), listener));
    }
    Ok((listeners, addrs))
}

fn telemetry(
    config: &SidecarConfig,
    metrics: &Metrics,
    readiness: &Readiness,
    tasks: &Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(addr) = config.telemetry else { return Ok(None) };
    let server = TelemetryServer::bind(addr, metrics.clone(), readiness.clone())?;
    let bound = server.local_addr();
    tasks.spawn_critical("telemetry", server.serve(tasks.token()));
    Ok(Some(bound))
}

async fn join(
    config: &SidecarConfig,
    token: Option<JoinToken>,
    direct: Vec<SocketAddr>,
    overlay: &Overlay,
) -> anyhow::Result<Joined> {
    let serve = config.services().into_iter();
    let client = ClientConfig {
        token,
        state_dir: config.state_dir.clone(),
        serve: serve.map(|(name, ports)| ServedService { name, ports, health: Health::default() }).collect(),
        locality: config.locality(),
        weight: config.weight,
        overlay: direct,
    };
    Ok(bootstrap(client, overlay.local_addr().ip(), &config.transport).await?)
}

/// Where sidecars of the cluster may reach this one directly.
fn direct(token: Option<&JoinToken>, overlay: SocketAddr) -> Vec<SocketAddr> {
    let gateways = token.into_iter().flat_map(|token| &token.core.gateways);
    let towards: Vec<SocketAddr> = gateways.filter_map(HostPort::socket_addr).collect();
    own_addresses(overlay, &towards)
}

/// The join token, from where the configuration says. A token file that is gone is none if there is a state directory: it may
/// have been deleted once it was used.
fn join_token(config: &SidecarConfig) -> anyhow::Result<Option<JoinToken>> {
    const MAX_FILE: u64 = 64 << 10;
    if let Some(token) = &config.token {
        return Ok(Some(token.expose().parse()?));
    }
    let Some(path) = &config.token_file else { return Ok(None) };
    let bytes = match causeway_runtime::files::read_limited(path, MAX_FILE) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound && config.state_dir.is_some() => {
            return Ok(None);
        }
        read => read?,
    };
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(Some(text.trim().parse().with_context(|| format!("cannot use the token in {}", path.display()))?))
}

/// What traffic is built of.
struct Parts<'a> {
    config: &'a SidecarConfig,
    overlay: &'a Overlay,
    endpoint: &'a OverlayEndpoint,
    control: &'a Control,
    direct: Vec<SocketAddr>,
    drain: Drain,
    tasks: &'a Tasks,
}

impl Parts<'_> {
    /// Starts both directions on the data thread. The token that is returned cuts outbound connections.
    fn start(
        &self,
        data: &DataThread,
        listeners: Vec<(ListenSpec, TcpListener)>,
        all: &Metrics,
    ) -> CancellationToken {
        let metrics = SidecarMetrics::new();
        all.registry(|registry| metrics.register(registry));
        let discovered = Arc::new(Discovered::new(self.control.clone()));
        let membership = Arc::new(self.membership(&discovered));
        let inbound = self.inbound(&membership, &metrics);
        self.tasks.spawn_on(data.handle(), "inbound", inbound.accept(self.endpoint.clone()));
        let cut = self.tasks.token().child_token();
        let outbound = self.outbound(&membership, &metrics, &cut);
        for (spec, listener) in listeners {
            let view = discovered.subscribe(&spec.service);
            let name = format!("listen {spec}");
            self.tasks.spawn_on(
                data.handle(),
                name,
                Arc::clone(&outbound).listen(listener, Route { spec, view }),
            );
        }
        cut
    }

    fn membership(&self, discovered: &Arc<Discovered>) -> Membership {
        let (cluster, instance) = (self.control.cluster(), self.control.workload());
        Membership {
            cluster: cluster.id,
            trust_domain: cluster.trust_domain,
            instance,
            direct: self.direct.clone(),
            svid: self.control.svid(),
            bundles: self.control.bundles(),
            directs: Directs::new(instance, self.overlay.clone()),
            discovery: Arc::clone(discovered) as _,
        }
    }

    fn inbound(&self, membership: &Arc<Membership>, metrics: &SidecarMetrics) -> Arc<Inbound> {
        let limits = self.config.limits.clone();
        let permits = || Arc::new(Semaphore::new(limits.max_connections as usize));
        Arc::new(Inbound {
            membership: Arc::clone(membership),
            policy: policy(self.control, self.config.services(), self.tasks),
            delivery: Delivery::new(self.config),
            first_streams: self.config.transport.max_streams,
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            tasks: self.tasks.clone(),
            peers: permits(),
            streams: permits(),
            limits,
        })
    }

    fn outbound(
        &self,
        membership: &Arc<Membership>,
        metrics: &SidecarMetrics,
        cut: &CancellationToken,
    ) -> Arc<Outbound> {
        let limits = self.config.limits.clone();
        let connector = Connector {
            endpoint: self.endpoint.clone(),
            membership: Arc::clone(membership),
            metrics: metrics.clone(),
            tasks: self.tasks.clone(),
            timeout: limits.connect_timeout.get(),
        };
        let chooser = Chooser {
            own: membership.instance,
            locality: self.config.locality().unwrap_or_else(|| self.control.cluster().locality),
            most: limits.endpoints_per_service as usize,
        };
        Arc::new(Outbound {
            pool: Pool::new(connector),
            chooser,
            svid: membership.svid.clone(),
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            gateways: self.overlay.any_alive(),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            cut: cut.clone(),
            limits,
        })
    }
}

impl RunningSidecar {
    /// The address of the overlay socket.
    pub fn overlay_addr(&self) -> SocketAddr {
        self.overlay
    }

    /// The listeners in the order of the configuration, each with the address that it is bound to.
    pub fn listen_addrs(&self) -> &[(ListenSpec, SocketAddr)] {
        &self.listen
    }

    /// The address of the telemetry server, if there is one.
    pub fn telemetry_addr(&self) -> Option<SocketAddr> {
        self.telemetry
    }

    /// The instance id of this start.
    pub fn workload(&self) -> WorkloadId {
        self.workload
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterFacts {
        &self.cluster
    }

    /// The identity, as of the start.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Its metrics, as the telemetry server shows them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What it waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Resolves once it is registered and takes traffic.
    pub async fn wait_ready(&self) {
        self.readiness.wait().await;
    }

    /// Resolves when a part has failed for good; [`RunningSidecar::failure`] says which.
    pub async fn failed(&self) {
        self.tasks.cancelled().await;
    }

    /// The part that failed for good, if one did.
    pub fn failure(&self) -> Option<Failure> {
        self.tasks.failure()
    }

    /// Takes no more connections, gives those that are open `grace` to finish, says goodbye and ends. Takes at most `grace` and about
    /// five seconds.
    pub async fn shutdown(self, grace: Duration) {
        self.readiness.fail("draining", "the sidecar is about to stop");
        self.control.drain();
        let outcome = self.drain.drain(grace).await;
        if !outcome.finished {
            tracing::warn!(
                left = outcome.left,
                ?grace,
                "connections are still open after the drain and are cut"
            );
        }
        self.cut.cancel();
        self.control.goodbye().await;
        self.endpoint.close(CloseCode::GoingAway, "the sidecar has stopped");
        if timeout(CLOSING, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("not every peer heard the goodbye");
        }
        // who is alive after that is logged by name
        let _ = self.tasks.shutdown(ENDING).await;
        self.data.stop().await;
    }
}
