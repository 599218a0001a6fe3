//! A sidecar from its configuration to its end.
//!
//! Owns the order in which the parts are started and stopped, and on which of the two runtimes each runs: control on the
//! caller's, and everything that touches traffic on one thread of its own.

mod capture;
mod control;
mod data;
mod directory;
mod dns;
mod parts;
mod quiet;
mod running;
mod sockets;
mod succession;

pub use running::RunningSidecar;

use crate::config::{ListenSpec, SidecarConfig};
use crate::direct::own_addresses;
use crate::health;
use crate::turn::Turn;
use crate::udp;
use anyhow::Context;
use capture::CaptureSockets;
use causeway_client::{ClientConfig, ClientMetrics, Control, ControlConfig, Joined, bootstrap};
use causeway_identity::{ClientAuth, server_config};
use causeway_model::{HostPort, WorkloadId};
use causeway_runtime::{
    DirLock, Drain, LogError, Metrics, Readiness, Tasks, TelemetryServer, bind_error, control_runtime, files,
    init_logs, limits, shutdown_signal,
};
use causeway_transport::{Overlay, OverlayEndpoint};
use causeway_wire::alpn;
use causeway_wire::ctl::ServedService;
use causeway_wire::token::JoinToken;
use data::DataThread;
use parts::Parts;
use sockets::Sockets;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use succession::Succession;
use tokio_util::sync::CancellationToken;

/// Starts sidecars.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar;

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
        && !matches!(error, LogError::Again(_))
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
            () = sidecar.taken_over() => {}
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
    let mut sockets = Sockets::open(&config).await?;
    let turn = Turn::new(!sockets.is_successor());
    let (listeners, listen) = bind(&config, &mut sockets)?;
    let mut capture = CaptureSockets::open(&config.capture, &mut sockets)?;
    let dns = capture.dns_addrs();
    let telemetry = telemetry(&config, &metrics, &readiness, (&tasks, &mut sockets, &turn))?;
    let data = DataThread::start().context("cannot start the data thread")?;
    capture.answer(&config.capture, (&data, &tasks, &turn), &metrics)?;
    let overlay = overlay(&config, &data, sockets.is_successor()).await?;
    metrics.registry(|registry| overlay.metrics().register(registry));
    let token = join_token(&config)?;
    let direct = direct(token.as_ref(), overlay.local_addr());
    let joined = join(&config, token, direct.clone(), &overlay, sockets.lock()).await?;
    drop(attached);

    let (trigger, drain) = Drain::new();
    let (svid, bundles) = (joined.svid().clone(), joined.bundles().clone());
    let tls = server_config(&svid, &bundles, &[alpn::DATA], ClientAuth::Required, None)?;
    let over = overlay.clone();
    let settings = config.transport.clone();
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
        drain: drain.clone(),
        tasks: &tasks,
        readiness: &readiness,
        turn: &turn,
    };
    let (cut, quiet) = parts.start(&data, listeners, capture, &metrics)?;
    let succession = Succession::new(sockets, config.state_dir.clone(), turn.clone());
    tasks
        .spawn("succession", until(tasks.token(), succession.run(readiness.clone(), control.clone(), drain)));
    tasks.spawn("readiness", say_ready(readiness.clone(), control.workload(), tasks.token()));
    Ok(RunningSidecar {
        overlay: overlay.local_addr(),
        listen,
        dns,
        telemetry,
        workload: control.workload(),
        cluster: control.cluster(),
        identity,
        metrics,
        readiness,
        control,
        endpoint,
        drain: trigger,
        serves: !config.serve.is_empty(),
        turn,
        cut,
        quiet,
        tasks,
        data,
        _end: end,
    })
}

async fn say_ready(readiness: Readiness, workload: WorkloadId, end: CancellationToken) {
    tokio::select! {
        () = readiness.wait() => tracing::info!(%workload, "the sidecar is ready"),
        () = end.cancelled() => {}
    }
}

/// The listeners, each with its place in the configuration, and what they are bound to.
type Bound = (Listeners, Vec<(ListenSpec, SocketAddr)>);
/// Those for connections, and those for datagrams.
type Listeners = (Vec<(ListenSpec, TcpListener)>, Vec<(ListenSpec, UdpSocket)>);

fn bind(config: &SidecarConfig, sockets: &mut Sockets) -> anyhow::Result<Bound> {
    let (mut listeners, mut datagrams, mut addrs) = (Vec::new(), Vec::new(), Vec::new());
    for spec in &config.listen {
        let (name, addr) = (format!("listen {spec}"), spec.addr);
        let bound = if spec.udp {
            let socket = sockets.udp(name, addr, || udp::bind(addr));
            let socket = socket.map_err(|source| bind_error("a service", "--listen", addr, source))?;
            let bound = socket.local_addr();
            datagrams.push((spec.clone(), socket));
            bound
        } else {
            let listener = sockets.tcp("a service", "--listen", name, addr)?;
            let bound = listener.local_addr();
            listeners.push((spec.clone(), listener));
            bound
        };
        addrs.push((spec.clone(), bound.context("cannot read a listener's address")?));
    }
    Ok(((listeners, datagrams), addrs))
}

fn telemetry(
    config: &SidecarConfig,
    metrics: &Metrics,
    readiness: &Readiness,
    (tasks, sockets, turn): (&Tasks, &mut Sockets, &Turn),
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(addr) = config.telemetry else { return Ok(None) };
    let listener = sockets.tcp("telemetry", "--telemetry", "telemetry".to_owned(), addr)?;
    let server = TelemetryServer::on(listener, metrics.clone(), readiness.clone())?;
    let bound = server.local_addr();
    tasks.spawn_critical("telemetry", in_turn(server, turn.clone(), tasks.token()));
    Ok(Some(bound))
}

/// Serves telemetry while it is this process' turn: two that accept from one socket would answer by chance.
async fn in_turn(server: TelemetryServer, turn: Turn, end: CancellationToken) -> io::Result<()> {
    if !turn.mine(&end).await {
        return Ok(());
    }
    let stop = end.child_token();
    let mut serving = std::pin::pin!(server.serve(stop.clone()));
    tokio::select! {
        ended = &mut serving => return ended,
        () = turn.over() => stop.cancel(),
    }
    serving.await?;
    end.cancelled().await;
    Ok(())
}

/// The overlay on the address that is configured; if this process takes over, another port will do: that of the process before is
/// in use until it ends.
async fn overlay(config: &SidecarConfig, data: &DataThread, successor: bool) -> anyhow::Result<Overlay> {
    let bind = async |addr: SocketAddr| {
        let settings = config.transport.clone();
        data.on(move || Overlay::bind(addr, &settings)).await
    };
    let addr = config.overlay;
    let bound = match bind(addr).await? {
        Err(error) if successor && error.kind() == ErrorKind::AddrInUse => {
            let free = SocketAddr::new(addr.ip(), 0);
            tracing::info!(overlay = %addr, "the process before still has the overlay's port, this one takes a free one");
            bind(free).await?
        }
        bound => bound,
    };
    Ok(bound.map_err(|source| bind_error("the overlay", "--overlay", addr, source))?)
}

/// Does `work` until `end`.
async fn until(end: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = end.cancelled() => {}
    }
}

async fn join(
    config: &SidecarConfig,
    token: Option<JoinToken>,
    direct: Vec<SocketAddr>,
    overlay: &Overlay,
    lock: Option<Arc<DirLock>>,
) -> anyhow::Result<Joined> {
    let serve = config.services().into_iter();
    let served = |(name, ports)| {
        let health = health::initial(config, &name);
        ServedService { name, ports, health }
    };
    let client = ClientConfig {
        token,
        state_dir: config.state_dir.clone(),
        lock,
        serve: serve.map(served).collect(),
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
    let bytes = match files::read_limited(path, MAX_FILE) {
        Err(error) if error.source.kind() == ErrorKind::NotFound && config.state_dir.is_some() => {
            return Ok(None);
        }
        read => read?,
    };
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(Some(text.trim().parse().with_context(|| format!("cannot use the token in {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SidecarOptions;

    fn config(state: &std::path::Path, more: SidecarOptions) -> SidecarConfig {
        let options = SidecarOptions { state_dir: Some(state.to_owned()), ..more };
        SidecarConfig::load(None, options).unwrap()
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = format!("{}=pay.shop:80", taken.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let options = SidecarOptions { listen: vec![listen.parse().unwrap()], ..SidecarOptions::default() };
        let error = Sidecar::start(config(dir.path(), options)).await.unwrap_err().to_string();
        assert!(error.contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn an_overlay_address_that_is_taken_is_named_once() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let overlay = taken.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = SidecarOptions { overlay: Some(overlay), ..SidecarOptions::default() };
        let error = Sidecar::start(config(dir.path(), options)).await.unwrap_err().to_string();
        assert!(error.contains("--overlay"), "{error}");
        assert_eq!(error.matches(&overlay.to_string()).count(), 1, "{error}");
    }

    #[tokio::test]
    async fn without_anything_to_join_with_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("token");
        let options = SidecarOptions { token_file: Some(gone), ..SidecarOptions::default() };
        let error = Sidecar::start(config(dir.path(), options)).await.unwrap_err().to_string();
        assert!(error.contains("there is nothing to join with"), "{error}");
    }
}
