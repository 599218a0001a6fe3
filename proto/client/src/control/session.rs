//! One control connection: from the handshake to its end.
//!
//! What the gateway says is taken by [`Inbound`], what it has to be told is said by [`Outbound`]; both run at once, so that neither
//! side of the connection can wait for the other for ever.

mod inbound;
mod outbound;

use super::picture::Picture;
use super::vips::{Question, Said};
use crate::bootstrap::clocks_agree;
use crate::exchange::{Exchange, Fault};
use crate::moment::{show, unix};
use causeway_identity::{ServerRule, Svid, client_config};
use causeway_model::{NodeId, SpiffeId};
use causeway_transport::{
    Connection, ConnectionError, ConnectionKind, Destination, FrameError, OverlayEndpoint, close_reason,
    close_reason_text,
};
use causeway_wire::ctl::{Issued, Welcome};
use causeway_wire::view::Refusal;
use causeway_wire::{CloseCode, alpn};
use inbound::Inbound;
use outbound::Outbound;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long a handshake may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

/// What a session is asked to ask.
pub(super) enum Request {
    /// A new SVID.
    Renew { csr: Vec<u8>, answer: oneshot::Sender<Result<Issued, String>> },
    /// A virtual address, or the name of one.
    Vip { question: Question, answer: oneshot::Sender<Said> },
    /// To say goodbye; answered when the gateway has it.
    Goodbye(oneshot::Sender<()>),
}

/// What happened to a session.
#[derive(Debug)]
pub(super) enum Event {
    /// The gateway welcomed it.
    Connected,
    /// The registration stands.
    Registered,
    /// The registration was refused; whether that is for good.
    Refused { refusal: Refusal, fatal: bool },
    /// The gateway is about to stop.
    Draining,
    /// It ended; `None` when this side ended it.
    Ended { lost: Option<Lost>, lived: Duration },
}

/// How a session was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Why, for operators.
    pub(super) cause: String,
    /// The gateway has more to do than it can: to ask again soon makes it worse.
    pub(super) overloaded: bool,
}

impl Lost {
    fn of(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), overloaded: false }
    }
}

impl From<&ConnectionError> for Lost {
    fn from(error: &ConnectionError) -> Self {
        Self { cause: close_reason_text(error), overloaded: says_overloaded(close_reason(error)) }
    }
}

impl From<&Fault> for Lost {
    fn from(fault: &Fault) -> Self {
        let overloaded = match fault {
            Fault::Stream(FrameError::Connection(error)) => says_overloaded(close_reason(error)),
            Fault::Refused(refusal) => says_overloaded(&refusal.reason),
            _ => false,
        };
        Self { cause: fault.to_string(), overloaded }
    }
}

fn says_overloaded(reason: &str) -> bool {
    reason == CloseCode::Overloaded.reason()
}

/// A session to run.
pub(super) struct Session {
    pub(super) picture: Arc<Picture>,
    pub(super) endpoint: OverlayEndpoint,
    pub(super) node: NodeId,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) events: mpsc::Sender<(NodeId, Event)>,
    pub(super) stop: CancellationToken,
}

/// What both directions of a session know.
struct Dialogue {
    node: NodeId,
    events: mpsc::Sender<(NodeId, Event)>,
    pending: Mutex<Pending>,
    /// The answer to the last registration.
    registered: watch::Sender<Option<Result<(), Refusal>>>,
    /// The SVID that the connection was made with.
    svid: Arc<Svid>,
}

/// The requests that wait for an answer.
#[derive(Default)]
struct Pending {
    last: u32,
    registration: Option<(u32, Instant)>,
    renewals: BTreeMap<u32, oneshot::Sender<Result<Issued, String>>>,
    vips: BTreeMap<u32, (Question, oneshot::Sender<Said>)>,
}

impl Pending {
    fn next(&mut self) -> u32 {
        // 0 stands for no request in particular
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }
}

impl Dialogue {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, event: Event) {
        // without a supervisor the process is ending
        let _ = self.events.send((self.node, event)).await;
    }
}

impl Session {
    /// Runs until the connection is lost or the session is stopped, and says so.
    pub(super) async fn run(self) {
        let (events, node, stop, began) = (self.events.clone(), self.node, self.stop.clone(), Instant::now());
        let lost = tokio::select! {
            biased;
            // dropping the connection closes it with code 0, done
            () = stop.cancelled() => None,
            lost = self.live() => Some(lost),
        };
        let _ = events.send((node, Event::Ended { lost, lived: began.elapsed() })).await;
    }

    /// Why it ended.
    async fn live(self) -> Lost {
        let (svid, picture) = (self.picture.svid.current(), self.picture.clone());
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(lost) => return lost,
        };
        let fault = match Exchange::open(&connection, Some(self.picture.workload)).await {
            Ok(exchange) => match self.check(&exchange.welcome) {
                Ok(()) => self.talk(exchange, svid.clone()).await,
                Err(cause) => return Lost::of(cause),
            },
            Err(fault) => fault,
        };
        if fault.says_revoked() {
            picture.refused_as_revoked(&svid, fault.to_string());
        }
        Lost::from(&fault)
    }

    async fn connect(&self) -> Result<Connection, Lost> {
        let (cluster, node) = (&self.picture.cluster, self.node);
        let rule = ServerRule::GatewayNode(SpiffeId::gateway(&cluster.trust_domain, node));
        let tls = client_config(rule, &self.picture.bundles, Some(&self.picture.svid), alpn::CTL)
            .map_err(|error| Lost::of(error.to_string()))?;
        let destination = Destination::Gateway { cluster: cluster.id, node };
        let connecting = self
            .endpoint
            .connect(destination, tls, "gateway", ConnectionKind::Control)
            .map_err(|error| Lost::of(error.to_string()))?;
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| Lost::from(&error)),
            Err(_) => Err(Lost::of(format!("no answer within {CONNECT_WITHIN:?}"))),
        }
    }

    fn check(&self, welcome: &Welcome) -> Result<(), String> {
        let cluster = &self.picture.cluster;
        if welcome.cluster.id != cluster.id || welcome.node != self.node {
            return Err(format!("gateway {} of cluster {} answered", welcome.node, welcome.cluster.name));
        }
        let (ours, theirs) = (unix(SystemTime::now()), welcome.unix_time);
        if !clocks_agree(ours, theirs) {
            let (gateway, ours, theirs) = (self.node, show(ours), show(theirs));
            tracing::warn!(%gateway, ours, theirs, "the clocks differ by more than 5 minutes: correct the wrong one");
        }
        Ok(())
    }

    async fn talk(self, exchange: Exchange, svid: Arc<Svid>) -> Fault {
        let Exchange { reader, writer, .. } = exchange;
        let dialogue = Arc::new(Dialogue {
            node: self.node,
            events: self.events,
            pending: Mutex::default(),
            registered: watch::Sender::new(None),
            svid,
        });
        dialogue.tell(Event::Connected).await;
        let inbound = Inbound::new(reader, self.picture.clone(), dialogue.clone());
        let outbound = Outbound::new(writer, self.picture, dialogue, self.requests);
        tokio::select! {
            ended = inbound.run() => ended,
            ended = outbound.run() => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_overloaded_is_told_from_one_that_is_gone() {
        let refusal = |reason: &str| {
            Fault::Refused(Refusal { request: 0, reason: reason.into(), message: "too many sessions".into() })
        };
        let full = Lost::from(&refusal("overloaded"));
        assert!(full.overloaded && full.cause == "too many sessions (overloaded)", "{full:?}");
        assert!(!Lost::from(&refusal("not-ready")).overloaded);
        assert!(!Lost::from(&ConnectionError::TimedOut).overloaded);
        assert!(!Lost::from(&Fault::Protocol("it ended the stream")).overloaded);
    }
}
