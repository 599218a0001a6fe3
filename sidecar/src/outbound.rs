//! Outbound: local listeners whose connections are carried to services.
//!
//! Owns the listeners, the retries, and what an application sees when its service cannot be reached: a TCP reset, with one
//! line in the access log that says why.

mod connect;
mod open;
mod pool;

pub(crate) use connect::Connector;
pub(crate) use pool::Pool;

use crate::access::{Access, Direction};
use crate::choose::{Candidate, Chooser, Target, pick};
use crate::config::{Limits, ListenSpec};
use crate::failure::Failure;
use crate::membership::View;
use crate::metrics::SidecarMetrics;
use crate::peer::Peer;
use crate::relay::{Begun, relay, reset_tcp};
use causeway_identity::SvidSource;
use causeway_model::Protocol;
use causeway_runtime::Drain;
use causeway_wire::view::ServiceView;
use connect::Dial;
use open::{Attempt, Opened, Said};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How many endpoints are tried for one connection.
const ATTEMPTS: u32 = 3;
/// How long one attempt to connect may take while there are others to try: longer than a handshake over any distance.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long a connection waits for a service that is not known, or has no endpoint.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait after an accept that failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all outbound connections share.
pub(crate) struct Outbound {
    pub(crate) pool: Pool,
    pub(crate) chooser: Chooser,
    pub(crate) svid: SvidSource,
    pub(crate) limits: Limits,
    pub(crate) metrics: SidecarMetrics,
    pub(crate) drain: Drain,
    /// Whether any gateway answers.
    pub(crate) gateways: watch::Receiver<bool>,
    /// One permit for each connection that may be open.
    pub(crate) permits: Arc<Semaphore>,
    /// Cuts what is left at the end.
    pub(crate) cut: CancellationToken,
}

/// How an endpoint is come by.
enum Way {
    /// By a connection that stands.
    Up(Target, Arc<Peer>),
    /// By one that is to be made.
    Dial(Dial),
}

impl Way {
    fn target(&self) -> Target {
        match self {
            Self::Up(target, _) => *target,
            Self::Dial(dial) => dial.target,
        }
    }
}

/// What an application writes is a message already: waiting for more only delays it. Connections inherit this from their
/// listener.
fn without_delay(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// A listener's service, and what is known of it.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) spec: ListenSpec,
    pub(crate) view: View,
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
                Ok((tcp, from)) => self.take(tcp, from, &route),
                Err(error) => {
                    tracing::warn!(listen = %route.spec, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, tcp: TcpStream, from: SocketAddr, route: &Route) {
        let mut access = Access::begin(Direction::Outbound, &self.metrics, self.drain.guard());
        access.src = Some(self.svid.current().id().clone());
        access.src_addr = Some(from);
        access.service = Some((route.spec.service.clone(), route.spec.port));
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let failure = Failure::Overloaded { limit: self.limits.max_connections };
            access.failed(failure.reason(), &failure);
            reset_tcp(&tcp);
            return;
        };
        tokio::spawn(Arc::clone(self).run(tcp, route.clone(), access, permit));
    }

    /// One connection with all that it holds.
    pub(crate) async fn run(
        self: Arc<Self>,
        tcp: TcpStream,
        route: Route,
        mut access: Access,
        permit: OwnedSemaphorePermit,
    ) {
        tokio::select! {
            () = self.cut.cancelled() => reset_tcp(&tcp),
            () = self.carry(&tcp, route, &mut access) => {}
        }
        drop(permit);
    }

    /// Carries one connection to its end.
    async fn carry(&self, tcp: &TcpStream, mut route: Route, access: &mut Access) {
        let mut said = Said::default();
        let opened = self.reach(tcp, &mut route, &mut said, access).await;
        match opened {
            Ok(Opened { mut stream, lease, rest }) => {
                let begun = Begun { rest, all: said.all };
                drop((said, route));
                let end = relay(tcp, &mut stream, begun, &access.meter).await;
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

    /// A stream to an endpoint that took it. Tries others while the application cannot have noticed.
    async fn reach(
        &self,
        tcp: &TcpStream,
        route: &mut Route,
        said: &mut Said,
        access: &mut Access,
    ) -> Result<Opened, Failure> {
        let limit = self.limits.connect_timeout.get();
        let deadline = Instant::now() + limit;
        self.known(route, deadline).await?;
        let mut tried = Vec::new();
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let Some((way, protocol)) = self.next(route, &tried) else { break };
            let target = way.target();
            // where a gateway picks, it may pick another endpoint the next time; where a connection is in doubt, it may be
            // replaced, or answer, until the deadline
            let again = matches!(&way, Way::Dial(dial) if matches!(dial.target, Target::Service(..)))
                || self.pool.is_doubtful(target);
            if !again {
                tried.push(target);
            }
            if attempt > 1 {
                self.metrics.retries.inc();
            }
            let until = if attempt == ATTEMPTS { deadline } else { deadline.min(Instant::now() + ATTEMPT) };
            let peer = match self.connect(way, until, route).await {
                Ok(peer) => peer,
                Err(failure) => {
                    last = Some(failure);
                    continue;
                }
            };
            access.dst = Some((peer.cluster, peer.instance));
            access.dst_identity = Some(peer.identity.clone());
            // it stands now, so another attempt by the service would lead to the same peer
            tried.extend([target, Target::Endpoint(peer.cluster, peer.instance)]);
            let header = open::header(&route.spec.service, route.spec.port, protocol, millis_until(deadline));
            let may_leave = attempt < ATTEMPTS;
            let opening = open::open(&peer, &header, tcp, said, &access.meter, may_leave);
            let opened = timeout_at(deadline, opening).await;
            match opened {
                Ok(Ok(opened)) => {
                    self.pool.proved(target);
                    return Ok(opened);
                }
                Ok(Err(Attempt { failure: failure @ Failure::Silent { .. }, .. })) => {
                    // the next attempt replaces the connection
                    tried.retain(|tried| {
                        *tried != target && *tried != Target::Endpoint(peer.cluster, peer.instance)
                    });
                    last = Some(failure);
                }
                Ok(Err(Attempt { failure, harmless: true })) => {
                    self.pool.cool(target);
                    last = Some(failure);
                }
                Ok(Err(Attempt { failure, .. })) => return Err(failure),
                Err(_) => {
                    self.pool.cool(target);
                    return Err(Failure::Timeout { what: "the service did not answer", limit });
                }
            }
        }
        Err(self.explain(last, route))
    }

    /// Waits until something is known of the service that can be tried, for [`PATIENCE`] at most.
    async fn known(&self, route: &mut Route, deadline: Instant) -> Result<(), Failure> {
        let port = route.spec.port;
        let ready =
            |view: &Option<Arc<ServiceView>>| view.as_ref().is_some_and(|view| Chooser::has_any(view, port));
        let until = deadline.min(Instant::now() + PATIENCE);
        let found = timeout_at(until, route.view.wait_for(ready)).await.is_ok_and(|found| found.is_ok());
        if found { Ok(()) } else { Err(self.explain(None, route)) }
    }

    /// What to try next: a connected endpoint of the best tier if there is one, while the others of the tier are connected to
    /// for later.
    fn next(&self, route: &Route, tried: &[Target]) -> Option<(Way, Protocol)> {
        let view = route.view.borrow().clone()?;
        let port = route.spec.port;
        let untried = |target: Target| !tried.contains(&target);
        let mut candidates =
            self.chooser.candidates(&view, port, |target| untried(target) && !self.pool.is_cooling(target));
        if candidates.is_empty() {
            candidates = self.chooser.candidates(&view, port, untried);
        }
        let (up, down): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| self.pool.up(candidate.target).is_some());
        let from = if up.is_empty() { &down } else { &up };
        if !up.is_empty() {
            self.warm(&down, route);
        }
        let picked = pick(from, |target| self.pool.load(target), [rand::random(), rand::random()])?;
        let protocol = picked.offer.ports.protocol(port).unwrap_or_default();
        let way = match self.pool.up(picked.target) {
            Some(peer) => Way::Up(picked.target, peer),
            None => Way::Dial(Dial::new(picked, &route.spec.service)),
        };
        Some((way, protocol))
    }

    fn warm(&self, candidates: &[Candidate<'_>], route: &Route) {
        for candidate in candidates {
            if self.pool.has(candidate.target) || self.pool.is_cooling(candidate.target) {
                continue;
            }
            self.pool.warm(Dial::new(candidate, &route.spec.service));
        }
    }

    async fn connect(&self, way: Way, until: Instant, route: &Route) -> Result<Arc<Peer>, Failure> {
        let peer = match way {
            Way::Up(_, peer) => peer,
            Way::Dial(dial) => {
                let limit = until.saturating_duration_since(Instant::now());
                let target = dial.target;
                timeout(limit, self.pool.get(dial)).await.unwrap_or_else(|_| {
                    // the attempt goes on for those who wait longer; meanwhile another endpoint is better
                    self.pool.cool(target);
                    Err(Failure::Timeout { what: "no endpoint could be connected to", limit })
                })?
            }
        };
        self.check_identity(&peer, route)?;
        Ok(peer)
    }

    /// The peer must be one of those that may serve the service *now*: the connection may have been made for another service, or
    /// before the set changed.
    fn check_identity(&self, peer: &Peer, route: &Route) -> Result<(), Failure> {
        let view = route.view.borrow();
        let mut offers = view.iter().flat_map(|view| &view.offers);
        if offers.any(|offer| offer.cluster.id == peer.cluster && offer.identities.contains(&peer.identity)) {
            return Ok(());
        }
        Err(Failure::WrongIdentity {
            endpoint: peer.to_string(),
            identity: peer.identity.clone(),
            service: route.spec.service.clone(),
        })
    }

    /// Why there is no stream, when `last` was the last thing that failed.
    fn explain(&self, last: Option<Failure>, route: &Route) -> Failure {
        let service = route.spec.service.clone();
        let view = route.view.borrow();
        let offers = || view.iter().flat_map(|view| &view.offers);
        let unreachable = |failure: &Failure| {
            matches!(
                failure,
                Failure::Timeout { .. }
                    | Failure::Silent { .. }
                    | Failure::Connection { reason: "timed-out", .. }
            )
        };
        match last {
            Some(failure) if unreachable(&failure) && !*self.gateways.borrow() => {
                Failure::NoGateway { service }
            }
            Some(failure) => failure,
            None if view.is_none() && !*self.gateways.borrow() => Failure::NoGateway { service },
            None if offers().next().is_none() => Failure::ServiceUnknown { service },
            None if offers().all(|offer| offer.ports.protocol(route.spec.port).is_none()) => {
                Failure::PortUnknown { service, port: route.spec.port }
            }
            None => Failure::NoEndpoint { service, total: offers().map(|offer| offer.total).sum() },
        }
    }
}

fn millis_until(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    // 0 would mean without end
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
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
