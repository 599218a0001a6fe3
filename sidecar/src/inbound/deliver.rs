//! Delivery to the application: where it listens, and where a connection to it comes from.

use super::source;
use crate::config::SidecarConfig;
use crate::udp;
use causeway_model::{PortKey, ServiceName};
use causeway_wire::CloseCode;
use rustc_hash::FxHashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

#[derive(Clone, Debug)]
struct Upstream {
    addr: SocketAddr,
    from: Option<IpAddr>,
    /// Told of each delivery that the application refused.
    refused: Arc<Notify>,
}

/// Where each port of each served service is delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    upstreams: FxHashMap<(ServiceName, PortKey), Upstream>,
}

/// The application could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the application at {addr} {what}; check that it runs and listens there")]
pub(crate) struct DeliveryError {
    addr: SocketAddr,
    what: String,
    /// What the peer is told.
    pub(crate) code: CloseCode,
}

impl DeliveryError {
    fn unknown(service: &ServiceName, port: u16) -> Self {
        let addr = SocketAddr::from(([0, 0, 0, 0], 0));
        let what = format!("for port {port} of {service} is not configured");
        Self { addr, what, code: CloseCode::PortUnknown }
    }
}

impl Delivery {
    pub(crate) fn new(config: &SidecarConfig) -> Self {
        let upstream = |addr| Upstream { addr, from: config.delivery_to(addr), refused: Arc::default() };
        let upstreams = config
            .serve
            .iter()
            .map(|spec| ((spec.service.clone(), spec.port.key()), upstream(spec.upstream)));
        Self { upstreams: upstreams.collect() }
    }

    /// What is told of each delivery to TCP port `port` of `service` that the application refused; `None` if it is not served.
    pub(crate) fn refusals(&self, service: &ServiceName, port: u16) -> Option<Arc<Notify>> {
        self.find(service, PortKey::tcp(port)).map(|upstream| Arc::clone(&upstream.refused))
    }

    /// A connection to the application as a delivery makes it, of which nobody is told.
    ///
    /// # Errors
    /// What the system says; that it is not served is [`ErrorKind::NotFound`].
    pub(crate) async fn probe(&self, service: &ServiceName, port: u16) -> io::Result<TcpStream> {
        match self.find(service, PortKey::tcp(port)) {
            Some(upstream) => connect(upstream).await,
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn find(&self, service: &ServiceName, port: PortKey) -> Option<&Upstream> {
        self.upstreams.get(&(service.clone(), port))
    }

    /// A socket of its own for a flow to the application behind `port` of `service`.
    pub(crate) fn flow(&self, service: &ServiceName, port: u16) -> Result<UdpSocket, DeliveryError> {
        let upstream =
            self.find(service, PortKey::udp(port)).ok_or_else(|| DeliveryError::unknown(service, port))?;
        udp::connect(upstream.addr, upstream.from).map_err(|cause| DeliveryError {
            addr: upstream.addr,
            what: format!("cannot be sent to: {cause}"),
            code: CloseCode::UpstreamUnreachable,
        })
    }

    /// A connection to the application behind `port` of `service`, within `limit`.
    pub(crate) async fn dial(
        &self,
        service: &ServiceName,
        port: u16,
        limit: Duration,
    ) -> Result<TcpStream, DeliveryError> {
        let unknown = || DeliveryError::unknown(service, port);
        let upstream = self.find(service, PortKey::tcp(port)).ok_or_else(unknown)?;
        let error = |what, code| DeliveryError { addr: upstream.addr, what, code };
        match timeout(limit, connect(upstream)).await {
            Ok(Ok(tcp)) => Ok(tcp),
            Ok(Err(cause)) => {
                let code = match cause.kind() {
                    ErrorKind::ConnectionRefused => {
                        upstream.refused.notify_one();
                        CloseCode::UpstreamRefused
                    }
                    ErrorKind::TimedOut => CloseCode::UpstreamTimeout,
                    _ => CloseCode::UpstreamUnreachable,
                };
                Err(error(format!("cannot be reached: {cause}"), code))
            }
            Err(_) => Err(error(format!("did not accept within {limit:?}"), CloseCode::UpstreamTimeout)),
        }
    }
}

async fn connect(upstream: &Upstream) -> io::Result<TcpStream> {
    let socket = if upstream.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = upstream.from {
        source::choose_port_late(&socket)?;
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(upstream.addr).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SidecarOptions;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(10);

    fn delivery(serve: &str) -> Delivery {
        let text = format!("state-dir = \"/s\"\nserve = \"{serve}\"");
        Delivery::new(&SidecarConfig::from_toml(Path::new("x"), &text, SidecarOptions::default()).unwrap())
    }

    #[tokio::test]
    async fn the_application_does_not_see_localhost() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let delivery = delivery(&format!("pay.shop:80={}", listener.local_addr().unwrap()));
        let service = "pay.shop".parse().unwrap();
        let _open = delivery.dial(&service, 80, LONG).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip().to_string(), "127.0.0.6");
        assert_eq!(delivery.dial(&service, 81, LONG).await.unwrap_err().code, CloseCode::PortUnknown);
    }

    #[tokio::test]
    async fn an_application_that_does_not_listen_refuses() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let delivery = delivery(&format!("pay.shop:80={closed}"));
        let error = delivery.dial(&"pay.shop".parse().unwrap(), 80, LONG).await.unwrap_err();
        assert_eq!(error.code, CloseCode::UpstreamRefused);
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
    }
}
