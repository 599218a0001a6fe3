//! A flow of the application's: what its listener knows of it, and the task that opens it and sees to its stream.

use super::counts::{Counts, DropReason};
use super::listener::Routes;
use super::open::{FlowOpening, OpenedFlow};
use super::outbox::{Budget, Outbox};
use super::pump::{FlowEnd, Lane, pump};
use super::sink::{Sink, Socket};
use super::source::Ends;
use super::uplink::{Uplink, queue};
use crate::access::Access;
use crate::failure::Failure;
use crate::outbound::{Outbound, elsewhere};
use crate::peer::Peer;
use crate::relay::End;
use causeway_balance::Fault;
use causeway_wire::CloseCode;
use causeway_wire::datagram::FLOW_PREFIX;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// How long a flow that could not be opened, or was refused, refuses what the application sends.
const REFUSES: Duration = Duration::from_secs(1);
/// How long one does whose application was not there: another endpoint may have one.
const REFUSES_SHORTLY: Duration = Duration::from_millis(100);

const OPEN: u8 = 0;
const REFUSING: u8 = 1;
const ENDED: u8 = 2;

/// A flow of the application's.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) sink: Arc<Sink>,
    pub(super) outbox: Outbox,
    link: OnceLock<Uplink>,
    state: AtomicU8,
}

impl Flow {
    /// One whose answers go to `socket`.
    pub(super) fn new(socket: Socket, counts: Counts, budget: &Budget) -> Self {
        Self {
            sink: Arc::new(Sink::new(socket, counts)),
            outbox: Outbox::new(budget, true),
            link: OnceLock::new(),
            state: AtomicU8::new(OPEN),
        }
    }

    /// Takes what the application sent, which is behind the first [`FLOW_PREFIX`] bytes of `framed`. Never waits.
    pub(super) fn take(&self, framed: &mut [u8], now: Instant) {
        let counts = &self.sink.counts;
        if self.state.load(Relaxed) != OPEN {
            return counts.dropped(DropReason::FlowRefused);
        }
        self.sink.activity.touch(now);
        match self.link.get() {
            Some(link) => link.send(framed, &self.outbox, counts),
            None => queue(framed.get(FLOW_PREFIX..).unwrap_or_default(), &self.outbox, counts),
        }
    }

    /// The peer accepted it: from now on payloads go by `link`.
    pub(super) fn accept(&self, link: Uplink) {
        // it is accepted once
        self.outbox.accept(|| drop(self.link.set(link)));
    }

    /// Whether what the application sends is another flow.
    pub(super) fn is_ended(&self) -> bool {
        self.state.load(Relaxed) == ENDED
    }

    /// Refuses what comes for a while, and has ended then.
    async fn end(&self, refuses: Option<Duration>) {
        if let Some(time) = refuses {
            self.state.store(REFUSING, Relaxed);
            self.outbox.clear();
            sleep(time).await;
        }
        self.state.store(ENDED, Relaxed);
    }
}

/// Marks a flow as ended however its task ends.
struct Ending(Arc<Flow>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.state.store(ENDED, Relaxed);
    }
}

/// One flow with all that it holds.
pub(super) async fn run(
    outbound: Arc<Outbound>,
    flow: Arc<Flow>,
    (routes, ends): (Routes, Ends),
    mut access: Access,
    permit: OwnedSemaphorePermit,
) {
    let ending = Ending(Arc::clone(&flow));
    let refuses = tokio::select! {
        () = outbound.cut.cancelled() => None,
        refuses = carry(&outbound, &flow, (&routes, ends), &mut access) => refuses,
    };
    flow.sink.counts.tell(&access.meter);
    access.datagrams = Some(flow.sink.counts.datagrams());
    drop(access);
    tokio::select! {
        () = outbound.cut.cancelled() => {}
        () = flow.end(refuses) => {}
    }
    drop((ending, permit));
}

/// Carries a flow to its end; for how long it is to refuse then what the application sends.
async fn carry(
    outbound: &Outbound,
    flow: &Flow,
    (routes, ends): (&Routes, Ends),
    access: &mut Access,
) -> Option<Duration> {
    let refused = |access: &mut Access, failure: Failure| {
        access.failed(failure.reason(), &failure);
        Some(REFUSES)
    };
    let mut route = match routes.find(ends).await {
        Ok(route) => route,
        Err(failure) => return refused(access, failure),
    };
    access.service = Some((route.service.clone(), route.port.port));
    let opened = outbound.reach(&mut FlowOpening { flow }, &mut route, access).await;
    let OpenedFlow { mut stream, writer, lease, place } = match opened {
        Ok(opened) => opened,
        Err(failure) => return refused(access, failure),
    };
    drop(route);
    access.connected();
    let lane = Lane {
        outbox: &flow.outbox,
        sink: &flow.sink,
        meter: &access.meter,
        idle: outbound.flows.idle,
        drain: &outbound.drain,
    };
    let end = pump(&mut stream, writer, &lane).await;
    drop(place);
    tell(end, access, lease.peer());
    let FlowEnd::Relay(End::Stream(code)) = end else { return None };
    let answered = flow.sink.counts.is_answered();
    match (elsewhere(code), answered) {
        (false, _) => Some(REFUSES),
        (true, true) => None,
        (true, false) => {
            if let Some(pick) = access.pick() {
                pick.failed(Fault::Refused);
            }
            Some(REFUSES_SHORTLY)
        }
    }
}

/// Tells the record of a flow how it ended.
pub(super) fn tell(end: FlowEnd, access: &mut Access, peer: &Peer) {
    match end {
        FlowEnd::Done => access.ended("done"),
        FlowEnd::Idle => access.ended("idle"),
        FlowEnd::Broken => {
            access.failed(CloseCode::ProtocolViolation.reason(), &"a capsule is longer than any payload");
        }
        FlowEnd::Relay(end) => access.relayed(end, peer),
    }
}
