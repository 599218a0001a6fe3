//! Outbound: local listeners whose connections are carried to services.
//!
//! Owns the listeners, the attempts, and what an application sees when its service cannot be reached: a TCP reset, with one
//! line in the access log that says why.

mod connect;
mod next;
mod open;
mod pool;
mod reach;
mod silence;

pub(crate) use connect::Connector;
pub(crate) use open::{Attempt, Opening, begin, elsewhere, in_doubt, judge};
pub(crate) use pool::Pool;

use crate::access::{Access, Direction};
use crate::balance::Balances;
use crate::choose::Chooser;
use crate::config::Limits;
use crate::descriptors::Descriptors;
use crate::failure::Failure;
use crate::membership::View;
use crate::metrics::SidecarMetrics;
use crate::names::Name;
use crate::relay::{Begun, relay, reset_tcp};
use crate::udp::FlowLimits;
use causeway_identity::SvidSource;
use causeway_model::{PortKey, ServiceName};
use causeway_runtime::Drain;
use open::{Opened, Said, TcpOpening};
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long to wait after an accept that failed, mostly for want of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all outbound connections share.
pub(crate) struct Outbound {
    pub(crate) pool: Pool,
    pub(crate) chooser: Chooser,
    pub(crate) balances: Arc<Balances>,
    pub(crate) svid: SvidSource,
    pub(crate) limits: Limits,
    pub(crate) metrics: SidecarMetrics,
    pub(crate) drain: Drain,
    /// Whether any gateway answers.
    pub(crate) gateways: watch::Receiver<bool>,
    /// What flows of UDP may take.
    pub(crate) flows: FlowLimits,
    /// One permit for each connection that may be open.
    pub(crate) permits: Arc<Semaphore>,
    /// What all connections take one of.
    pub(crate) descriptors: Descriptors,
    /// Cuts what is left at the end.
    pub(crate) cut: CancellationToken,
}

/// What an application writes is a message already: waiting for more only delays it. Connections inherit this from their
/// listener.
pub(crate) fn without_delay(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// A connection of the application, with its place among those that may be open and its record.
pub(crate) struct Taken {
    pub(crate) tcp: TcpStream,
    pub(crate) access: Access,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Taken {
    /// Ends it in a reset, for `failure`.
    pub(crate) fn refuse(mut self, failure: &Failure) {
        self.access.failed(failure.reason(), failure);
        reset_tcp(&self.tcp);
    }
}

/// Where a connection goes, and what is known of that.
#[derive(Clone)]
pub(crate) struct Route {
    /// The service.
    pub(crate) service: ServiceName,
    /// The port of the service.
    pub(crate) port: PortKey,
    pub(crate) view: View,
}

impl Route {
    /// To `port` of `name`.
    pub(crate) fn to(name: &Name, port: PortKey) -> Self {
        Self { service: name.name.service.clone(), port, view: name.view.clone() }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl Outbound {
    /// Accepts connections on `listener` until the drain begins.
    ///
    /// # Errors
    /// The listener cannot be used on this runtime.
    pub(crate) async fn listen(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        route: Route,
    ) -> io::Result<()> {
        let listener = without_delay(listener)?;
        let mut draining = pin!(self.drain.started());
        loop {
            let accepted = tokio::select! {
                () = &mut draining => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, from)) => {
                    if let Some(taken) = self.take(tcp, from, Some(&route)) {
                        tokio::spawn(Arc::clone(&self).run(taken, route.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(listen = ?listener.local_addr(), service = %route, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes a connection that was accepted; `None` if there are too many, and it is reset. `route` is where it goes, if that is known.
    pub(crate) fn take(&self, tcp: TcpStream, from: SocketAddr, route: Option<&Route>) -> Option<Taken> {
        let mut access = Access::begin(Direction::Outbound, &self.metrics, self.drain.guard());
        access.src = Some(self.svid.current().id().clone());
        access.src_addr = Some(from);
        access.service = route.map(|route| (route.service.clone(), route.port.port));
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let failure = Failure::Overloaded { limit: self.limits.max_connections };
            access.failed(failure.reason(), &failure);
            reset_tcp(&tcp);
            return None;
        };
        match self.descriptors.take() {
            Ok(descriptor) => access.descriptor = Some(descriptor),
            Err(exhausted) => {
                Taken { tcp, access, permit }.refuse(&exhausted.into());
                return None;
            }
        }
        Some(Taken { tcp, access, permit })
    }

    /// One connection with all that it holds.
    pub(crate) async fn run(self: Arc<Self>, taken: Taken, route: Route) {
        let Taken { tcp, mut access, permit } = taken;
        access.service = Some((route.service.clone(), route.port.port));
        tokio::select! {
            () = self.cut.cancelled() => reset_tcp(&tcp),
            () = self.carry(&tcp, route, &mut access) => {}
        }
        drop(permit);
    }

    /// Carries one connection to its end.
    async fn carry(&self, tcp: &TcpStream, mut route: Route, access: &mut Access) {
        let mut said = Said::default();
        // what it takes to reach an endpoint is given back once one is reached
        let opened = Box::pin(self.reach(&mut TcpOpening { tcp, said: &mut said }, &mut route, access)).await;
        match opened {
            Ok(Opened { mut stream, lease, rest }) => {
                let begun = Begun { rest, all: said.all };
                drop((said, route));
                access.connected();
                let idle = self.limits.idle_timeout.get();
                let end = relay(tcp, &mut stream, begun, &access.meter, idle).await;
                access.relayed(end, lease.peer());
                if end == crate::relay::End::Done {
                    stream.done().await;
                }
                drop(lease);
            }
            Err(failure) => {
                access.failed(failure.reason(), &failure);
                reset_tcp(tcp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_sent_without_delay() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = without_delay(listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
