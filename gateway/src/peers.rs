//! `causeway-raft/1`: the other gateways of this cluster.
//!
//! Each gateway dials every other one and uses the connection it dialled for its own calls and its own presence; what it
//! accepts it serves. A pair thus has two connections, and neither side waits for the other to dial.

mod dial;
mod serve;
mod silence;

use crate::hub::Hub;
use crate::siblings::STATUS_EVERY;
use causeway_catalog::CommandBody;
use causeway_model::{GatewayFacts, NodeId, SpiffeRole};
use causeway_presence::{Incarnation, Message};
use causeway_runtime::Tasks;
use causeway_store::{CallError, CallFuture, PeerCalls};
use causeway_transport::{Connection, FrameReader, FrameWriter, close, close_reason_text, peer_identity};
use causeway_wire::CloseCode;
use causeway_wire::peer::{Call, Method, PeerHello, PeerMessage, Presence, UpdateFacts};
use causeway_wire::view::VersionInfo;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

pub(crate) use dial::keep;

/// Presence messages that may wait for one sibling.
const QUEUE: usize = 64;

/// A connection that this gateway dialled.
struct Link {
    connection: Connection,
    presence: mpsc::Sender<Message>,
    /// The process at the other end, once it has said so.
    incarnation: Option<Incarnation>,
    /// Told when there is reason to think that nobody is at the other end.
    doubt: Arc<Notify>,
}

struct Inner {
    links: Mutex<BTreeMap<NodeId, Link>>,
    /// Counts changes of `links`, so that a call can wait for a connection.
    changed: watch::Sender<u64>,
    tasks: Tasks,
    /// Wakes the dialling task when the registry knows other gateways.
    pub(crate) redial: Notify,
}

/// The other gateways; cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

impl Peers {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self(Arc::new(Inner {
            links: Mutex::default(),
            changed: watch::Sender::new(0),
            tasks: tasks.clone(),
            redial: Notify::new(),
        }))
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, node: NodeId) -> Option<Connection> {
        self.links().get(&node).map(|link| link.connection.clone())
    }

    /// A connection to `node` stands. What is returned is told when it should be doubted.
    fn set(&self, node: NodeId, connection: Connection, presence: mpsc::Sender<Message>) -> Arc<Notify> {
        let doubt = Arc::<Notify>::default();
        self.links().insert(node, Link { connection, presence, incarnation: None, doubt: doubt.clone() });
        self.0.changed.send_modify(|count| *count += 1);
        doubt
    }

    /// `node` dials anew: it has lost the connection that it had dialled, and may have lost ours.
    fn doubt(&self, node: NodeId) {
        if let Some(link) = self.links().get(&node) {
            link.doubt.notify_one();
        }
    }

    fn unset(&self, node: NodeId, connection: &Connection) {
        let mut links = self.links();
        if links.get(&node).is_some_and(|link| link.connection.stable_id() == connection.stable_id()) {
            links.remove(&node);
        }
        drop(links);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// `node` says, on a connection that it dialled, which process it is. A connection of ours that leads to an older one is
    /// closed, so that it is dialled anew now and not when it has been silent for long.
    fn note(&self, node: NodeId, incarnation: Incarnation) {
        let mut links = self.links();
        let Some(link) = links.get_mut(&node) else { return };
        if *link.incarnation.get_or_insert(incarnation) != incarnation {
            close(&link.connection, CloseCode::Superseded, "the gateway was started anew");
        }
    }

    /// The siblings that presence can be sent to.
    pub(crate) fn ready(&self) -> Vec<NodeId> {
        self.links().keys().copied().collect()
    }

    /// Whether another presence message for `node` finds room.
    pub(crate) fn has_room(&self, node: NodeId) -> bool {
        self.links().get(&node).is_some_and(|link| link.presence.capacity() > 0)
    }

    /// Sends presence to a sibling. What does not arrive is repaired by digests.
    pub(crate) fn send(&self, node: NodeId, message: &Message) {
        if let Some(link) = self.links().get(&node) {
            let _ = link.presence.try_send(message.clone());
        }
    }

    /// Asks a connected gateway to record this forwarder's facts.
    pub(crate) async fn tell_facts(&self, facts: &GatewayFacts) -> Result<(), String> {
        let mut cause = "no gateway of the cluster is connected".to_owned();
        for node in self.ready() {
            match self.ask(node, UpdateFacts { facts: facts.clone() }.into(), Duration::from_secs(5)).await {
                Ok(PeerMessage::FactsUpdated(_)) => return Ok(()),
                Ok(_) => cause = format!("gateway {node} answered something else"),
                Err(error) => cause = format!("gateway {node}: {error}"),
            }
        }
        Err(cause)
    }

    /// Waits until a connection to `node` stands.
    async fn wait(&self, node: NodeId) -> Connection {
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(connection) = self.connection(node) {
                return connection;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends one message on a stream of its own and reads the answer.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        message: PeerMessage,
        within: Duration,
    ) -> Result<PeerMessage, CallError> {
        // a connection that is being made is worth a moment: at the start all of them are
        let wait = within.min(Duration::from_millis(500));
        let connection = tokio::time::timeout(wait, self.wait(node))
            .await
            .map_err(|_| CallError::Unreachable(format!("no connection to gateway {node}")))?;
        tokio::time::timeout(within, exchange(&connection, message)).await.map_err(|_| CallError::Timeout)?
    }
}

async fn exchange(connection: &Connection, message: PeerMessage) -> Result<PeerMessage, CallError> {
    let lost = |cause: String| CallError::Unreachable(cause);
    let (send, receive) = connection.open_bi().await.map_err(|error| lost(close_reason_text(&error)))?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    writer.send(&message).await.map_err(|error| lost(error.to_string()))?;
    let _ = writer.finish();
    match reader.next::<PeerMessage>().await {
        Ok(Some(PeerMessage::Refused(refusal))) => {
            Err(CallError::Refused { reason: refusal.reason, message: refusal.message })
        }
        Ok(Some(answer)) => Ok(answer),
        // it may have been done: the caller must not take this for "not sent"
        Ok(None) | Err(_) => Err(CallError::Timeout),
    }
}

impl PeerCalls for Peers {
    fn call(&self, to: NodeId, method: Method, body: Vec<u8>, timeout: Duration) -> CallFuture {
        let peers = self.clone();
        Box::pin(async move {
            match peers.ask(to, Call { method, body }.into(), timeout).await? {
                PeerMessage::Reply(reply) => Ok(reply.body),
                _ => Err(CallError::Refused {
                    reason: "protocol-violation".into(),
                    message: "not a reply".into(),
                }),
            }
        })
    }
}

/// Writes presence, status, what is reached and what is known of links to a sibling until its queue or the connection ends.
async fn write_presence(hub: Hub, connection: Connection, mut queue: mpsc::Receiver<Message>) {
    let Ok(stream) = connection.open_uni().await else { return };
    let mut writer = FrameWriter::new(stream);
    let hello = PeerHello {
        version: VersionInfo::current(),
        node: hub.node.id(),
        commands: CommandBody::KNOWN.to_vec(),
    };
    let mut next = Some(PeerMessage::from(hello));
    let mut status = tokio::time::interval(STATUS_EVERY);
    let mut reach = tokio::time::interval(STATUS_EVERY);
    // a forwarder holds no links
    let holds_links = peer_identity(&connection).is_ok_and(|id| matches!(id.role(), SpiffeRole::Gateway(_)));
    let mut links = hub.bulletin.subscribe();
    loop {
        if let Some(message) = next.take()
            && writer.send(&message).await.is_err()
        {
            return;
        }
        next = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => causeway_wire::codec::to_vec(&message).ok().map(|body| Presence { body }.into()),
                None => return,
            },
            // what is missed is said again in a moment
            said = links.recv(), if holds_links => said.ok().map(|reports| PeerMessage::PairReports((*reports).clone())),
            _ = status.tick() => Some(hub.own_status().into()),
            _ = reach.tick() => Some(crate::links::reaches(&hub).into()),
        };
    }
}

/// The gateways that are dialled: all but this one.
fn others(gateways: &[GatewayFacts], own: NodeId) -> impl Iterator<Item = &GatewayFacts> {
    gateways.iter().filter(move |gateway| gateway.node != own && gateway.node != NodeId::ANY)
}
