//! A connection between gateways of linked clusters, from the first frame to the last. Both sides do the same.
//!
//! `session/tell.rs` decides what is said next, `session/hear.rs` takes what the peer says, `session/pulse.rs` sends heartbeats, and this
//! module moves frames between them and the stream. What is to be said is remembered as what has changed, not as a queue of messages, so a peer that reads
//! slowly costs no memory.

mod end;
mod guide;
mod hear;
mod limits;
mod open;
mod pace;
mod pulse;
mod tell;
mod update;

use super::transit::{Roundabout, Speaking};
use super::{FAREWELL, HELLO_WITHIN, WRITE_WITHIN};
use crate::hub::{Change, Hub, Meter};
use causeway_catalog::Link;
use causeway_federation::SILENT_AFTER;
use causeway_model::{ClusterFacts, Epoch, NodeId, Revision};
use causeway_runtime::clock::unix_now;
use causeway_transport::{Connection, FrameReader, FrameWriter, RecvStream, SendStream, close};
use causeway_wire::link::{LinkHello, LinkMessage, Unlink};
use causeway_wire::view::VersionInfo;
use end::End;
use guide::Guide;
use hear::Ear;
use limits::Limits;
use open::Open;
use pulse::Heart;
use std::pin::pin;
use std::time::{Duration, Instant};
use tell::Voice;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames that wait to be written: enough that the writer never waits for the next one.
const QUEUE: usize = 2;
/// A connection over which nothing came for this long is closed, so that another one is made.
const QUIET: Duration = SILENT_AFTER.saturating_add(Duration::from_secs(2));
/// How often it is looked whether a connection through other clusters is still needed.
const DIRECT_EVERY: Duration = Duration::from_secs(1);
/// Clocks further apart than this are reported, in seconds: the slack that certificates have.
const CLOCK_SLACK_SECS: u64 = 300;
/// The longest release that a peer may name, in bytes.
const MAX_RELEASE: usize = 64;

/// A gateway of a linked cluster.
#[derive(Clone, Debug)]
pub(super) struct PeerGateway {
    pub(super) cluster: ClusterFacts,
    /// The revision at which the link was made: a link that is made again is another one.
    pub(super) established: Revision,
    pub(super) node: NodeId,
    /// Whether this side called.
    pub(super) dialled: bool,
}

impl PeerGateway {
    pub(super) fn of(link: &Link, node: NodeId, dialled: bool) -> Self {
        Self { cluster: link.peer.clone(), established: link.established, node, dialled }
    }
}

/// Speaks with `peer` until the connection ends, and closes it. Returns whether they came to terms, which is when both said
/// hello.
pub(super) async fn run(
    hub: &Hub,
    connection: &Connection,
    peer: PeerGateway,
    send: SendStream,
    recv: RecvStream,
) -> bool {
    let remote = connection.remote_address();
    let (cluster, node, dialled) = (peer.cluster.name.clone(), peer.node, peer.dialled);
    let _admitted = hub.forwarder.admit_control(remote);
    let (queue, frames) = mpsc::channel(QUEUE);
    let mut writing = pin!(write(FrameWriter::new(send), frames));
    let mut greeted = false;
    let end = {
        let talking = talk(hub, connection, &peer, queue, FrameReader::new(recv), &mut greeted);
        tokio::select! {
            end = talking => end,
            end = &mut writing => end,
        }
    };
    if matches!(end, End::Removed) {
        // the queue is closed: what is in it, the farewell, is still written
        let _ = timeout(FAREWELL, writing).await;
    }
    if matches!(end, End::Unlinked) {
        update::remove_link(hub, &peer);
    }
    let (code, message) = end.closing();
    close(connection, code, &message);
    let reason = end.reason();
    if end.is_fault() {
        tracing::warn!(%cluster, %node, %remote, dialled, reason, "link connection ended: {end}");
    } else {
        tracing::info!(%cluster, %node, %remote, dialled, reason, "link connection ended: {end}");
    }
    greeted
}

/// Writes what is queued until the queue is closed and the peer has everything.
async fn write(mut writer: FrameWriter, mut frames: mpsc::Receiver<LinkMessage>) -> End {
    while let Some(frame) = frames.recv().await {
        match timeout(WRITE_WITHIN, writer.send(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::from_write(error),
            Err(_) => return End::Stuck,
        }
    }
    if writer.finish().is_ok() {
        let _ = writer.get_mut().stopped().await;
    }
    End::Finished
}

async fn talk(
    hub: &Hub,
    connection: &Connection,
    peer: &PeerGateway,
    queue: mpsc::Sender<LinkMessage>,
    mut frames: FrameReader,
    greeted: &mut bool,
) -> End {
    // before anything is read, so that no change is missed
    let changes = hub.changes();
    let Some((mut open, have)) = Open::new(hub, peer) else {
        // a link that was made a moment ago may not be known everywhere here; the peer must not take it for removed
        let stands = hub.catalog().link_by_id(peer.cluster.id).is_some();
        return if stands { End::Confused } else { End::Removed };
    };
    let hello = match greet(hub, peer, have, &queue, &mut frames).await {
        Ok(hello) => hello,
        Err(end) => return end,
    };
    *greeted = true;
    let ahead = ahead(hello.unix_time, unix_now());
    let Some(pulse) = open.greeted(hello.version.release.clone(), ahead) else { return End::Removed };
    tracing::info!(
        cluster = %peer.cluster.name, node = %peer.node, remote = %connection.remote_address(),
        release = hello.version.release, dialled = peer.dialled,
        "link connection up"
    );
    let now = Instant::now();
    let voice = Voice::new(hub, peer, hello.have, now);
    let speaking = Speaking::new(hub, peer.cluster.id, peer.node, connection.remote_address());
    let round = Roundabout::new(hub, peer.cluster.id, peer.node, connection.remote_address());
    let guide = speaking.as_ref().map(|_| Guide::new(peer.cluster.id, hub.transit.watch(), now));
    let ear = Ear::new(hub, peer, open.holds_imports(), speaking);
    let (limits, meter) = (Limits::new(), hub.metrics.meter("link"));
    let heart = Heart::new(connection, pulse);
    let mut talk = Talk { hub, connection, peer, queue, heart, guide, round, voice, ear, limits, meter };
    let end = talk.run(&mut frames, changes).await;
    talk.meter.skipped(frames.skipped());
    end
}

/// Swaps the first frames.
async fn greet(
    hub: &Hub,
    peer: &PeerGateway,
    have: Option<(Epoch, Revision)>,
    queue: &mpsc::Sender<LinkMessage>,
    frames: &mut FrameReader,
) -> Result<LinkHello, End> {
    let hello = LinkHello {
        version: VersionInfo::current(),
        cluster: hub.cluster(),
        node: hub.node.id(),
        unix_time: unix_now(),
        have,
    };
    // the queue is empty; if the writer is gone, its end is the connection's
    let _ = queue.send(hello.into()).await;
    match timeout(HELLO_WITHIN, frames.next::<LinkMessage>()).await {
        Ok(Ok(Some(LinkMessage::Hello(hello)))) => check_hello(peer, hello, unix_now()),
        Ok(Ok(Some(_))) => Err(End::Violation("its first message is no hello".to_owned())),
        Ok(Ok(None)) => Err(End::Finished),
        Ok(Err(error)) => Err(End::from_frame(error)),
        Err(_) => Err(End::NoHello),
    }
}

/// Whether the peer says it is whom its certificate and the link name.
fn check_hello(peer: &PeerGateway, hello: LinkHello, now: u64) -> Result<LinkHello, End> {
    let link = &peer.cluster;
    let told = &hello.cluster;
    let same = told.name == link.name && told.id == link.id && told.trust_domain == link.trust_domain;
    if !same || hello.node != peer.node {
        return Err(End::WrongPeer(format!(
            "it says it is {}, and {} was expected",
            who(told, hello.node),
            who(link, peer.node)
        )));
    }
    if hello.version.release.len() > MAX_RELEASE {
        return Err(End::Violation(format!("its release has {} bytes", hello.version.release.len())));
    }
    if hello.unix_time.abs_diff(now) > CLOCK_SLACK_SECS {
        tracing::warn!(
            cluster = %link.name, node = %peer.node, here = now, there = hello.unix_time,
            "the clocks of linked gateways are more than 5 minutes apart: certificates will be refused; correct the wrong one"
        );
    }
    Ok(hello)
}

/// By how many seconds the clock that says `there` is ahead of the one that says `here`.
fn ahead(there: u64, here: u64) -> i64 {
    let apart = i64::try_from(there.abs_diff(here)).unwrap_or(i64::MAX);
    if there >= here { apart } else { -apart }
}

fn who(cluster: &ClusterFacts, node: NodeId) -> String {
    let ClusterFacts { name, id, trust_domain, .. } = cluster;
    format!("gateway {node} of cluster {name} (id {id}, trust domain {trust_domain})")
}

struct Talk<'h> {
    hub: &'h Hub,
    connection: &'h Connection,
    peer: &'h PeerGateway,
    queue: mpsc::Sender<LinkMessage>,
    heart: Heart<'h>,
    /// What is told of paths through this cluster; nothing on a connection that passes through others.
    guide: Option<Guide>,
    /// Set where it passes through others.
    round: Option<Roundabout>,
    voice: Voice<'h>,
    ear: Ear<'h>,
    limits: Limits,
    meter: Meter,
}

impl Talk<'_> {
    async fn run(&mut self, frames: &mut FrameReader, mut changes: Receiver<Change>) -> End {
        let stop = self.hub.tasks.token();
        let queue = self.queue.clone();
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            if now >= heard + QUIET {
                return End::Silent;
            }
            if self.round.as_ref().is_some_and(Roundabout::is_over) {
                return End::Roundabout;
            }
            self.meter.skipped(frames.skipped());
            self.ear.handle_timeout(now, &mut self.voice);
            let full = self.speak(now);
            let resume = self.limits.resume_at(now);
            let wake = resume.into_iter().fold(self.wake(heard, full), Instant::min);
            tokio::select! {
                // what is not read stays with the peer: nothing is lost, and what is to be said is still said
                frame = frames.next::<LinkMessage>(), if resume.is_none() => match frame {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        if let Err(end) = self.hear(heard, message) {
                            return end;
                        }
                    }
                    Ok(None) => return End::Finished,
                    Err(error) => return End::from_frame(error),
                },
                heartbeat = pulse::heard(self.connection, &mut self.limits), if resume.is_none() => {
                    heard = Instant::now();
                    if let Err(end) = self.hear(heard, heartbeat.into()) {
                        return end;
                    }
                }
                () = self.heart.changed() => {}
                () = guided(&mut self.guide) => {}
                change = changes.recv() => {
                    if let Err(end) = self.follow(change, &mut changes).await {
                        return end;
                    }
                }
                // there is room again; nothing is reserved by looking
                _ = queue.reserve(), if full => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                () = stop.cancelled() => return End::Stopping,
            }
        }
    }

    fn hear(&mut self, now: Instant, message: LinkMessage) -> Result<(), End> {
        if self.limits.charge(now, &message) {
            self.meter.delayed();
        }
        self.ear.hear(now, message, &mut self.voice)
    }

    /// Queues what is to be said; returns whether the queue was full before all was said.
    fn speak(&mut self, now: Instant) -> bool {
        self.heart.beat();
        loop {
            let Ok(permit) = self.queue.try_reserve() else { return true };
            let routes = self.guide.as_mut().and_then(|guide| guide.next(now)).map(LinkMessage::from);
            match routes.or_else(|| self.heart.next()).or_else(|| self.voice.next(now)) {
                Some(message) => permit.send(message),
                None => return false,
            }
        }
    }

    /// When to look again although nothing happened. While the queue is full, what is due to be said waits for room.
    fn wake(&self, heard: Instant, full: bool) -> Instant {
        let guide = self.guide.as_ref().and_then(Guide::poll_timeout);
        let say = if full { None } else { self.voice.poll_timeout().into_iter().chain(guide).min() };
        let look = self.round.is_some().then(|| Instant::now() + DIRECT_EVERY);
        say.into_iter().chain(self.ear.poll_timeout()).chain(look).fold(heard + QUIET, Instant::min)
    }

    /// Takes this change and those that wait behind it.
    async fn follow(
        &mut self,
        change: Result<Change, RecvError>,
        changes: &mut Receiver<Change>,
    ) -> Result<(), End> {
        let now = Instant::now();
        let mut catalog = false;
        let mut next = change.map_err(|error| match error {
            RecvError::Lagged(missed) => TryRecvError::Lagged(missed),
            RecvError::Closed => TryRecvError::Closed,
        });
        loop {
            match next {
                Ok(change) => {
                    catalog |= change == Change::Catalog;
                    self.voice.follow(now, &change);
                }
                Err(TryRecvError::Lagged(_)) => {
                    catalog = true;
                    self.voice.tell_everything(now);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return Err(End::Stopping),
            }
            next = changes.try_recv();
        }
        if catalog { self.check_link().await } else { Ok(()) }
    }

    /// Whether the link still stands as it did when the connection was made.
    async fn check_link(&mut self) -> Result<(), End> {
        let catalog = self.hub.catalog();
        match catalog.link_by_id(self.peer.cluster.id) {
            Some(link) if link.established == self.peer.established => Ok(()),
            Some(_) => Err(End::Renewed),
            None => {
                let _ = timeout(FAREWELL, self.queue.send(Unlink {}.into())).await;
                Err(End::Removed)
            }
        }
    }
}

/// Waits until there is something to tell of paths; for ever where nothing is told of them.
async fn guided(guide: &mut Option<Guide>) {
    match guide {
        Some(guide) => guide.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
