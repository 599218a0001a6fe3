//! Reaching a service: one attempt after the other, while the application cannot have noticed.

use super::connect::Dial;
use super::next::{Next, Way};
use super::open::{self, Attempt, Opening};
use super::{Outbound, Route};
use crate::access::Access;
use crate::balance::{Verdict, fault_of};
use crate::choose::{Chooser, Target};
use crate::failure::Failure;
use crate::peer::Peer;
use causeway_balance::{Class, Fault};
use causeway_wire::view::ServiceView;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a connection waits for a service that is not known, or has no endpoint.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an attempt may go on.
#[derive(Clone, Copy)]
struct Bounds {
    /// How long all attempts may take together.
    limit: Duration,
    /// When that is over.
    deadline: Instant,
    /// Whether another attempt may follow.
    may_leave: bool,
    /// Nobody else could be tried instead.
    alone: bool,
}

impl Outbound {
    /// What `opening` opens, on an endpoint that took it. Tries others while the application cannot have noticed.
    pub(crate) async fn reach<O: Opening>(
        &self,
        opening: &mut O,
        route: &mut Route,
        access: &mut Access,
    ) -> Result<O::Opened, Failure> {
        let limit = self.limits.connect_timeout.get();
        let deadline = Instant::now() + limit;
        self.known(route, deadline).await?;
        let line = self.balances.line(&route.service, route.port);
        let attempts = self.balances.config.attempts;
        let mut tried = Vec::new();
        let mut last: Option<Failure> = None;
        for attempt in 1..=attempts {
            let Some(Next { way, protocol, pick, alone }) = self.next(route, &line, &tried, !O::UDP) else {
                break;
            };
            if attempt > 1 {
                self.metrics.retries.inc();
                self.metrics.balance().retried(last.as_ref().map_or("unknown", Failure::reason));
            }
            access.chose(pick);
            (access.attempts, access.protocol) = (attempt, protocol);
            let bounds = Bounds { limit, deadline, may_leave: attempt < attempts, alone };
            // what it takes to open a connection is not to be held as long as that is open
            let attempt = Box::pin(self.attempt(opening, way, bounds, &mut tried, route, access));
            match attempt.await {
                Ok(opened) => return Ok(opened),
                Err(Attempt { failure, harmless: true }) => last = Some(telling(last, failure)),
                Err(Attempt { failure, .. }) => return Err(failure),
            }
        }
        Err(self.explain(last, route))
    }

    /// One attempt, by `way`. What need not be tried again is added to `tried`.
    async fn attempt<O: Opening>(
        &self,
        opening: &mut O,
        way: Way,
        bounds: Bounds,
        tried: &mut Vec<Target>,
        route: &Route,
        access: &mut Access,
    ) -> Result<O::Opened, Attempt> {
        let target = way.target();
        // where a gateway picks, it may pick another endpoint the next time; where a connection is in doubt, it may be
        // replaced, or answer, until the deadline
        let again = matches!(&way, Way::Dial(dial, _) if matches!(dial.target, Target::Service(..)))
            || self.pool.is_doubtful(target);
        if !again {
            tried.push(target);
        }
        let peer = self.connect(way, bounds, route).await.map_err(|failure| {
            if let (Failure::WrongIdentity { .. }, Some(pick)) = (&failure, access.pick()) {
                pick.failed(Fault::Refused);
            }
            Attempt { failure, harmless: true }
        })?;
        access.dst = Some((peer.cluster, peer.instance));
        access.dst_identity = Some(peer.identity.clone());
        // it stands now, so another attempt by the service would lead to the same peer
        let endpoint = Target::Endpoint(peer.cluster, peer.instance);
        tried.extend([target, endpoint]);
        let left = millis_until(bounds.deadline);
        let header = open::header(&route.service, route.port.port, access.protocol, left);
        let (began, received) = (Instant::now(), peer.received());
        let opened = opening.open(&peer, &header, &access.meter, bounds.may_leave);
        let opened = timeout_at(bounds.deadline, opened);
        let opened = self.unless_silent(opened, (&peer, received), access, bounds.may_leave, route).await;
        let result = opened.unwrap_or_else(|_| {
            let failure = Failure::Timeout { what: "the service did not answer", limit: bounds.limit };
            Err(Attempt { failure, harmless: false })
        });
        if matches!(&result, Err(Attempt { failure: Failure::Silent { .. }, .. })) {
            // the next attempt replaces the connection
            tried.retain(|tried| *tried != target && *tried != endpoint);
        }
        if let Some(pick) = access.pick() {
            match &result {
                Ok(_) => pick.accepted(began.into_std(), access.meter.bytes().0 > 0),
                // the connection lives, so it was the endpoint that did not answer
                Err(Attempt { failure: Failure::Timeout { .. }, .. }) if peer.received() != received => {
                    pick.failed(Fault::Silent);
                }
                Err(Attempt { failure, .. }) => {
                    fault_of(failure).into_iter().for_each(|fault| pick.failed(fault))
                }
            }
        }
        result
    }

    /// Waits until something is known of the service that can be tried, for [`PATIENCE`] at most.
    async fn known(&self, route: &mut Route, deadline: Instant) -> Result<(), Failure> {
        let port = route.port;
        let ready =
            |view: &Option<Arc<ServiceView>>| view.as_ref().is_some_and(|view| Chooser::has_any(view, port));
        let until = deadline.min(Instant::now() + PATIENCE);
        let found = timeout_at(until, route.view.wait_for(ready)).await.is_ok_and(|found| found.is_ok());
        if found { Ok(()) } else { Err(self.explain(None, route)) }
    }

    /// The connection that `way` leads to. While there are others to try, it waits for an attempt's time only.
    async fn connect(&self, way: Way, bounds: Bounds, route: &Route) -> Result<Arc<Peer>, Failure> {
        let peer = match way {
            Way::Up(_, peer) => peer,
            Way::Dial(dial, class) => self.dial(dial, class, bounds, route).await?,
        };
        self.check_identity(&peer, route)?;
        Ok(peer)
    }

    async fn dial(
        &self,
        dial: Dial,
        class: Class,
        bounds: Bounds,
        route: &Route,
    ) -> Result<Arc<Peer>, Failure> {
        let (target, cluster) = (dial.target, dial.target.cluster());
        let (began, ear) = (Instant::now(), self.pool.ear(cluster, Some(target)));
        let attempt = self.balances.config.attempt_timeout.get();
        let patience = if bounds.alone { attempt } else { attempt.min(self.balances.suspect_after(cluster)) };
        let left = bounds.deadline.saturating_duration_since(began);
        let limit = if bounds.may_leave { left.min(patience) } else { left };
        if let Ok(got) = timeout(limit, self.pool.get(dial, class)).await {
            return got;
        }
        // the attempt goes on for those who wait longer; meanwhile another endpoint is better
        if limit >= patience && self.balances.unanswered(target, began.into_std(), &ear) == Verdict::Suspected
        {
            self.probe(cluster, route);
        }
        Err(Failure::Timeout { what: "no endpoint could be connected to", limit })
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
            service: route.service.clone(),
        })
    }

    /// Why there is no stream, when `last` was the last thing that failed.
    fn explain(&self, last: Option<Failure>, route: &Route) -> Failure {
        let service = route.service.clone();
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
            None if offers().all(|offer| offer.ports.protocol(route.port).is_none()) => {
                Failure::PortUnknown { service, port: route.port.port }
            }
            None => Failure::NoEndpoint { service, total: offers().map(|offer| offer.total).sum() },
        }
    }
}

/// Which of two failures in a row is told: what an endpoint answered says more than that another one could not be reached.
fn telling(before: Option<Failure>, now: Failure) -> Failure {
    match before {
        Some(refused @ Failure::Refused { .. }) if !matches!(now, Failure::Refused { .. }) => refused,
        _ => now,
    }
}

fn millis_until(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    // 0 would mean without end
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}
