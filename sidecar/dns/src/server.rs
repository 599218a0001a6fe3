//! The sockets of a DNS server and its life.

mod tcp;
mod udp;

use crate::handler::Handler;
use crate::metrics::DnsMetrics;
use crate::{DnsConfig, DnsError, Limits, Names, resolv};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a free port is looked for that UDP and TCP both have.
const PORT_TRIES: usize = 16;
/// Connections that the kernel keeps until they are taken.
const BACKLOG: i32 = 256;

/// The sockets of a DNS server, to be handed to the process that comes after.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: Vec<UdpSocket>,
    /// For connections.
    pub tcp: Vec<TcpListener>,
}

/// A DNS server that has its sockets.
#[derive(Debug)]
pub struct DnsServer {
    sockets: Sockets,
    handler: Arc<Handler>,
    limits: Limits,
}

impl DnsServer {
    /// Binds the addresses of `config.listen`, over UDP and TCP.
    ///
    /// # Errors
    /// If a setting cannot work, an address is taken, the upstreams cannot be read, or one of them is this server.
    pub fn bind(config: &DnsConfig, names: Arc<dyn Names>, metrics: DnsMetrics) -> Result<Self, DnsError> {
        config.check()?;
        let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
        for &address in &config.listen {
            let (udp, tcp) = bind_both(address, &config.limits)?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Self::from_sockets(sockets, config, names, metrics)
    }

    /// Takes sockets that are bound, and listen, already; `config.listen` is not read.
    ///
    /// # Errors
    /// As [`DnsServer::bind`].
    pub fn from_sockets(
        sockets: Sockets,
        config: &DnsConfig,
        names: Arc<dyn Names>,
        metrics: DnsMetrics,
    ) -> Result<Self, DnsError> {
        config.check()?;
        let listen = addresses(&sockets).map_err(|source| DnsError::Socket { source })?;
        if listen.is_empty() {
            return Err(DnsError::NoListener);
        }
        let upstreams = resolv::upstreams(&config.upstream, &listen)?;
        tracing::info!(?listen, ?upstreams, zone = %config.zone, "DNS begins");
        let handler = Arc::new(Handler::new(config, &upstreams, names, metrics));
        Ok(Self { sockets, handler, limits: config.limits.clone() })
    }

    /// Where it listens; each address once, though it has two sockets.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        addresses(&self.sockets).unwrap_or_default()
    }

    /// Its sockets once more, for the process that comes after: both may serve them at the same time.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn sockets(&self) -> io::Result<Sockets> {
        Ok(Sockets {
            udp: self.sockets.udp.iter().map(UdpSocket::try_clone).collect::<Result<_, _>>()?,
            tcp: self.sockets.tcp.iter().map(TcpListener::try_clone).collect::<Result<_, _>>()?,
        })
    }

    /// Answers until `stop`, and then the questions that are waiting already. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the runtime does not take a socket.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), DnsError> {
        let tasks = TaskTracker::new();
        let Self { sockets, handler, limits } = self;
        self::begin(sockets, &handler, &limits, &stop, &tasks)
            .inspect_err(|_| stop.cancel())
            .map_err(|source| DnsError::Socket { source })?;
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

fn begin(
    sockets: Sockets,
    handler: &Arc<Handler>,
    limits: &Limits,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> io::Result<()> {
    let listener = tcp::Listener::new(handler, limits, stop, tasks);
    for socket in sockets.udp {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
        tasks.spawn(udp::serve(Arc::clone(handler), socket, stop.clone(), tasks.clone()));
    }
    for socket in sockets.tcp {
        socket.set_nonblocking(true)?;
        tasks.spawn(listener.clone().serve(tokio::net::TcpListener::from_std(socket)?));
    }
    let (handler, stop) = (Arc::clone(handler), stop.clone());
    tasks.spawn(async move {
        if let Some(forwarder) = handler.forwarder() {
            forwarder.watch_for_loops(&stop).await;
        }
    });
    Ok(())
}

fn addresses(sockets: &Sockets) -> io::Result<Vec<SocketAddr>> {
    let udp = sockets.udp.iter().map(UdpSocket::local_addr);
    let mut all =
        udp.chain(sockets.tcp.iter().map(TcpListener::local_addr)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = Vec::new();
    all.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    Ok(all)
}

fn bind_both(address: SocketAddr, limits: &Limits) -> Result<(UdpSocket, TcpListener), DnsError> {
    let failed = |protocol, source| DnsError::Bind { protocol, address, source };
    let mut tries = 1;
    loop {
        let udp = bind_udp(address, limits).map_err(|source| failed("udp", source))?;
        let bound = udp.local_addr().map_err(|source| failed("udp", source))?;
        match bind_tcp(bound) {
            Ok(tcp) => return Ok((udp, tcp)),
            // a port that happens to be free for UDP need not be for TCP
            Err(source)
                if address.port() == 0 && source.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            Err(source) => return Err(failed("tcp", source)),
        }
    }
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // so that `::` and `0.0.0.0` can both be listened on
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind_udp(address: SocketAddr, limits: &Limits) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    // a smaller buffer than asked for works, only not as well in a burst
    if let Err(error) = socket.set_recv_buffer_size(limits.udp_buffer) {
        tracing::debug!(%error, "the receive buffer of DNS stays as it is");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
