//! The open flows of one connection to a peer, by their numbers, and what reads the connection's datagrams.

use super::counts::{DropReason, UdpDirection};
use super::sink::Sink;
use bytes::Bytes;
use causeway_transport::{Connection, ConnectionError};
use causeway_wire::datagram::FlowId;
use rustc_hash::FxHashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::task::AbortHandle;

/// So many datagrams are taken before others may run.
const TURN: usize = 64;

#[derive(Debug, Default)]
struct Open {
    flows: FxHashMap<u16, Arc<Sink>>,
    next: u16,
}

/// The open flows of one connection. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlowTable {
    open: Arc<Mutex<Open>>,
}

/// A flow's place in the table, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    table: FlowTable,
    pub(super) id: FlowId,
}

/// Reads a connection's datagrams, until it is dropped or the connection ends.
#[derive(Debug)]
pub(crate) struct Reader(AbortHandle);

impl FlowTable {
    /// A place with a number of its own, as the client of the connection chooses it; `None` if all are taken. Numbers are used in
    /// turn, so that what is late for a flow that has ended comes to no other.
    pub(super) fn choose(&self, sink: &Arc<Sink>) -> Option<Place> {
        let mut open = self.lock();
        if open.flows.len() > usize::from(u16::MAX) {
            return None;
        }
        while open.flows.contains_key(&open.next) {
            open.next = open.next.wrapping_add(1);
        }
        let id = open.next;
        open.next = id.wrapping_add(1);
        open.flows.insert(id, Arc::clone(sink));
        Some(Place { table: self.clone(), id: FlowId(id) })
    }

    /// A place with the number that the client chose; `None` if another flow has it.
    pub(super) fn take(&self, id: FlowId, sink: &Arc<Sink>) -> Option<Place> {
        let mut open = self.lock();
        if open.flows.contains_key(&id.0) {
            return None;
        }
        open.flows.insert(id.0, Arc::clone(sink));
        Some(Place { table: self.clone(), id })
    }

    /// Gives the datagrams of `connection` to their flows. Without it a peer could fill the connection's buffer.
    pub(crate) fn read(&self, connection: &Connection, all: &Arc<UdpDirection>) -> Reader {
        let (table, connection, all) = (self.clone(), connection.clone(), Arc::clone(all));
        let task = tokio::spawn(async move {
            // the end of the connection is others' to tell
            let _ = table.run(&connection, &all).await;
        });
        Reader(task.abort_handle())
    }

    async fn run(&self, connection: &Connection, all: &UdpDirection) -> Result<(), ConnectionError> {
        loop {
            let first = connection.read_datagram().await?;
            if self.turn(first, connection, all) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Delivers `first` and what else has arrived; whether there may be more. One look at the clock and one lock do for all.
    fn turn(&self, first: Bytes, connection: &Connection, all: &UdpDirection) -> bool {
        let (open, now) = (self.lock(), Instant::now());
        open.deliver(first, now, all);
        for _ in 1..TURN {
            let mut look = Context::from_waker(Waker::noop());
            match pin!(connection.read_datagram()).poll(&mut look) {
                Poll::Ready(Ok(datagram)) => open.deliver(datagram, now, all),
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn deliver(&self, datagram: Bytes, now: Instant, all: &UdpDirection) {
        let flow = FlowId::split(datagram).and_then(|(id, payload)| Some((self.flows.get(&id.0)?, payload)));
        match flow {
            Some((sink, payload)) => sink.deliver(&payload, now),
            // it is late: datagrams follow the acceptance of their flow
            None => all.dropped(DropReason::FlowUnknown),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().flows.remove(&self.id.0);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::counts::{Counts, UdpMetrics};
    use super::super::sink::Socket;
    use super::super::socket::bind;
    use super::*;
    use crate::access::Direction;

    fn sink(metrics: &UdpMetrics) -> Arc<Sink> {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let counts = Counts::new(metrics.direction(Direction::Outbound));
        Arc::new(Sink::new(Socket::Shared(Arc::new(socket), to), counts))
    }

    #[test]
    fn numbers_are_used_in_turn_and_never_twice() {
        let (table, sink) = (FlowTable::default(), sink(&UdpMetrics::default()));
        let first = table.choose(&sink).unwrap();
        let second = table.choose(&sink).unwrap();
        assert_eq!((first.id, second.id), (FlowId(0), FlowId(1)));
        drop(first);
        assert_eq!(table.choose(&sink).unwrap().id, FlowId(2));
        table.lock().next = u16::MAX;
        let last = table.choose(&sink).unwrap();
        let around = table.choose(&sink).unwrap();
        assert_eq!((last.id, around.id), (FlowId(u16::MAX), FlowId(0)));
        // one is still open
        assert_eq!(table.choose(&sink).unwrap().id, FlowId(2));
        assert!(table.take(FlowId(1), &sink).is_none());
        drop(second);
        assert!(table.take(FlowId(1), &sink).is_some());
    }

    #[test]
    fn there_are_as_many_places_as_numbers() {
        let (table, sink) = (FlowTable::default(), sink(&UdpMetrics::default()));
        let all: Vec<Place> = std::iter::from_fn(|| table.choose(&sink)).collect();
        assert_eq!(all.len(), 1 << 16);
        drop(all);
        assert!(table.lock().flows.is_empty());
    }

    #[test]
    fn what_is_for_no_flow_is_counted() {
        let metrics = UdpMetrics::default();
        let (table, sink) = (FlowTable::default(), sink(&metrics));
        let place = table.choose(&sink).unwrap();
        let all = metrics.direction(Direction::Outbound);
        let payload = [&place.id.prefix()[..], b"known"].concat();
        table.lock().deliver(payload.into(), Instant::now(), all);
        table.lock().deliver(Bytes::from_static(&[9, 9, 1]), Instant::now(), all);
        table.lock().deliver(Bytes::from_static(&[9]), Instant::now(), all);
        assert_eq!(sink.counts.datagrams(), [0, 1, 0]);
        let registry = causeway_runtime::Metrics::new();
        registry.registry(|registry| metrics.register(registry));
        let text = registry.encode();
        let line = "udp_dropped_datagrams_total{direction=\"outbound\",reason=\"flow-unknown\"} 2";
        assert!(text.contains(line), "{text}");
    }
}
