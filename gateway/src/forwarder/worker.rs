//! One forwarder thread: receives a batch, decides for each run of packets, sends the batch on.

use super::arena::{Arena, Room};
use super::counters::{Counters, DropReason, Tally};
use super::envelope::{Passage, consider};
use super::probing::{Pace, Probing, check};
use super::route::{Verdict, route};
use super::source::{Class, Source};
use super::tables::Tables;
use super::target::{LinkSockets, Path};
use super::{Event, Shared};
use causeway_transport::forward::{ForwardSocket, ReceiveBatch, Received, SendBatch, SendQueue};
use causeway_transport::gateway::{OwnPackets, transit_addr, transit_cluster};
use causeway_wire::Envelope;
use causeway_wire::cid::CID_LEN;
use causeway_wire::envelope::{ENVELOPE_LEN, MAX_HOPS};
use causeway_wire::packet::{Datagram, Header, PacketType, dcid};
use causeway_wire::probe::PROBE_LEN;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The most sockets that packets leave through: listening addresses, and a source port a thread and listening address.
pub(super) const MAX_EXITS: usize = super::MAX_LISTENERS * (1 + super::MAX_THREADS);
/// The most sockets that one thread reads.
const SOCKETS: usize = 2 * super::MAX_LISTENERS;
/// Receive calls on one socket before the others get their turn.
const TURNS: usize = 4;

/// Where a datagram came in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Listener(usize),
    Link(usize),
}

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Vec<ForwardSocket>,
    pub(super) links: Arc<LinkSockets>,
    pub(super) own: OwnPackets,
    pub(super) counters: Arc<Counters>,
}

/// What a thread needs while it looks at a batch.
struct Turn<'t, 'q, 'd> {
    worker: &'t Worker,
    tables: &'t Tables,
    exits: [Option<SendBatch<'q, 'd>>; MAX_EXITS],
    room: Room<'d>,
    probing: &'t mut Probing,
    pace: &'t mut Pace,
    tally: &'t mut Tally,
    entry: Entry,
    now: Instant,
    now_ns: u64,
}

impl Worker {
    /// Runs until `stop` is cancelled.
    pub(super) fn run(self, stop: &CancellationToken) {
        let (mut batch, mut arena) = (ReceiveBatch::new(), Arena::new());
        let exits = self.listeners.len() * (1 + self.links.sockets.len());
        let mut queues: Vec<SendQueue> = (0..exits).map(|_| SendQueue::new()).collect();
        let (mut probing, mut pace, mut tally) = (Probing::new(self.index), Pace::new(), Tally::default());
        let mut tables = self.shared.tables.load_full();
        probing.follow(&tables);
        while !stop.is_cancelled() {
            if !std::ptr::eq(Arc::as_ptr(&tables), Arc::as_ptr(&*self.shared.tables.load())) {
                tables = self.shared.tables.load_full();
                probing.follow(&tables);
            }
            let now = Instant::now();
            let now_ms = self.shared.millis(now);
            let wait = probing.run(&tables, &self.links, now, now_ms, &mut tally);
            tally.pour(&self.counters);
            for entry in self.wait(wait) {
                for _ in 0..TURNS {
                    match self.socket(entry).receive(&mut batch) {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(error) => {
                            self.shared.receive_failed(&error);
                            break;
                        }
                    }
                    let memory = (&mut queues[..], &mut arena);
                    self.turn(entry, &tables, &batch, memory, (&mut probing, &mut pace, &mut tally));
                    tally.pour(&self.counters);
                    if !batch.is_full() {
                        break;
                    }
                }
            }
        }
    }

    fn socket(&self, entry: Entry) -> &ForwardSocket {
        match entry {
            Entry::Listener(index) => &self.listeners[index],
            Entry::Link(index) => &self.links.sockets[self.index][index],
        }
    }

    /// Waits until a socket can be read, or `wait` has passed.
    fn wait(&self, wait: Duration) -> impl Iterator<Item = Entry> + use<> {
        let (listeners, links) = (self.listeners.len(), &self.links.sockets[self.index]);
        let count = listeners + links.len();
        let socket = |index: usize| match index.checked_sub(listeners) {
            Some(link) => links.get(link).map_or(&self.listeners[0], AsRef::as_ref),
            None => &self.listeners[index],
        };
        // on the stack: the slots beyond `count` are never polled
        let mut polled: [PollFd<'_>; SOCKETS] =
            std::array::from_fn(|index| PollFd::new(socket(index), PollFlags::IN));
        let mut ready = [None; SOCKETS];
        let timeout = Timespec::try_from(wait + Duration::from_micros(200)).ok();
        if poll(&mut polled[..count], timeout.as_ref()).is_ok_and(|count| count > 0) {
            for (index, (fd, ready)) in polled[..count].iter().zip(&mut ready).enumerate() {
                if !fd.revents().is_empty() {
                    *ready = Some(index.checked_sub(listeners).map_or(Entry::Listener(index), Entry::Link));
                }
            }
        }
        ready.into_iter().flatten()
    }

    fn turn(
        &self,
        entry: Entry,
        tables: &Tables,
        batch: &ReceiveBatch,
        (queues, arena): (&mut [SendQueue], &mut Arena),
        (probing, pace, tally): (&mut Probing, &mut Pace, &mut Tally),
    ) {
        let now = Instant::now();
        let mut begun = queues.iter_mut().map(SendQueue::begin);
        let mut turn = Turn {
            worker: self,
            tables,
            exits: std::array::from_fn(|_| begun.next()),
            room: arena.begin(),
            probing,
            pace,
            tally,
            entry,
            now,
            now_ns: self.shared.nanos(now),
        };
        for message in batch.iter() {
            turn.message(&message);
        }
        turn.flush();
    }
}

/// The run of packets that is being gathered.
struct Run<'t> {
    start: usize,
    verdict: Option<Verdict<'t>>,
    /// The destination of the last short header: the next packet with the same one goes the same way.
    last: Option<[u8; CID_LEN]>,
}

impl<'t, 'd> Turn<'t, '_, 'd> {
    fn message(&mut self, message: &Received<'d>) {
        let packets = message.data.len().div_ceil(message.stride) as u64;
        self.tally.packets_in += packets;
        self.tally.bytes_in += message.data.len() as u64;
        let source = self.tables.sources.get(&message.from);
        let strangers = || &self.worker.shared.strangers.rates(message.from).0;
        let rate = source.map_or_else(strangers, |source| &source.packets);
        if !rate.take(self.now_ns, packets) {
            self.tally.drop(DropReason::RateLimit, packets);
            return;
        }
        self.runs(message, source);
    }

    fn runs(&mut self, message: &Received<'d>, source: Option<&'t Arc<Source>>) {
        let mut run = Run { start: 0, verdict: None, last: None };
        let mut at = 0;
        for datagram in message.data.chunks(message.stride) {
            let verdict = match Datagram::classify(datagram[0]) {
                Datagram::Probe => {
                    self.finish(&run, at, message);
                    self.probe(datagram, message);
                    run = Run { start: at + datagram.len(), verdict: None, last: None };
                    at += datagram.len();
                    continue;
                }
                Datagram::Envelope => {
                    self.finish(&run, at, message);
                    self.envelope(datagram, source, message);
                    run = Run { start: at + datagram.len(), verdict: None, last: None };
                    at += datagram.len();
                    continue;
                }
                Datagram::Quic => self.judge(datagram, source, &mut run, message),
            };
            if run.verdict != Some(verdict) {
                self.finish(&run, at, message);
                (run.start, run.verdict) = (at, Some(verdict));
            }
            at += datagram.len();
        }
        self.finish(&run, at, message);
    }

    fn judge(
        &self,
        datagram: &[u8],
        source: Option<&'t Arc<Source>>,
        run: &mut Run<'t>,
        message: &Received<'_>,
    ) -> Verdict<'t> {
        let short = datagram[0] & 0x80 == 0;
        if let (true, Some(verdict), Some(last)) = (short, run.verdict, &run.last)
            && datagram.len() > 40
            && dcid(datagram) == Some(last)
        {
            return verdict;
        }
        let header = match Header::parse(datagram) {
            Ok(header) => header,
            Err(_) => return Verdict::Drop(DropReason::Malformed),
        };
        run.last = short.then_some(header.dcid.0);
        if header.packet_type == PacketType::Initial {
            let strangers = || &self.worker.shared.strangers.rates(message.from).1;
            if !source.map_or_else(strangers, |source| &source.handshakes).take(self.now_ns, 1) {
                return Verdict::Drop(DropReason::HandshakeLimit);
            }
        }
        route(self.tables, source.map(|source| source.class), &header)
    }

    /// Disposes of the run that ends at `end`.
    fn finish(&mut self, run: &Run<'t>, end: usize, message: &Received<'d>) {
        let Some(verdict) = run.verdict else { return };
        let data = &message.data[run.start..end];
        if data.is_empty() {
            return;
        }
        self.dispose(verdict, data, message.stride, message);
    }

    /// Disposes of datagrams of `message`, each of `stride` bytes but the last.
    fn dispose(&mut self, verdict: Verdict<'t>, data: &'d [u8], stride: usize, message: &Received<'d>) {
        let count = || data.len().div_ceil(stride) as u64;
        match verdict {
            Verdict::Deliver(to) => _ = self.push(to.listener, to.addr, data, stride, message),
            Verdict::Send(path) => _ = self.send(path, data, stride, message),
            Verdict::Wrap(path) => {
                let envelope = Envelope { hops: MAX_HOPS, origin: self.tables.cluster };
                if self.wrapped(path, &envelope, data, stride, message) {
                    self.tally.wrapped += count();
                }
            }
            // what has the address of a gateway behind others comes in envelopes only
            Verdict::Own if transit_cluster(message.from).is_some() => {
                self.tally.drop(DropReason::UnknownSource, count());
            }
            Verdict::Own => self.own(message.from, self.local(), data, stride, message),
            Verdict::Drop(reason) => self.tally.drop(reason, count()),
        }
    }

    fn own(
        &mut self,
        from: std::net::SocketAddr,
        local: Option<std::net::IpAddr>,
        data: &[u8],
        stride: usize,
        message: &Received<'d>,
    ) {
        let full = self.worker.own.push((from, local), message.ecn, data, stride);
        self.tally.own += data.len().div_ceil(stride) as u64 - full;
        self.tally.drop(DropReason::QueueFull, full);
    }

    /// Returns whether a socket took them: what it cannot send is counted when it tries.
    fn send(&mut self, path: Path<'t>, data: &'d [u8], stride: usize, message: &Received<'d>) -> bool {
        let Some(family) = self.worker.links.family(path.target.addr) else {
            self.tally.drop(DropReason::NoPath, data.len().div_ceil(stride) as u64);
            return false;
        };
        if let Some(port) = path.target.ports.get(path.port) {
            port.last_sent_ms.store(self.now_ns / 1_000_000, Relaxed);
        }
        let listeners = self.worker.listeners.len();
        self.push(listeners * (1 + path.port) + family, path.target.addr, data, stride, message)
    }

    fn push(
        &mut self,
        exit: usize,
        to: std::net::SocketAddr,
        data: &'d [u8],
        stride: usize,
        message: &Received<'d>,
    ) -> bool {
        let Some(Some(batch)) = self.exits.get_mut(exit) else {
            self.tally.drop(DropReason::NoPath, data.len().div_ceil(stride) as u64);
            return false;
        };
        batch.push(to, message.ecn, data, stride);
        true
    }

    /// Sends datagrams on in envelopes; returns whether a socket took them.
    fn wrapped(
        &mut self,
        path: Path<'t>,
        envelope: &Envelope,
        data: &[u8],
        stride: usize,
        message: &Received<'d>,
    ) -> bool {
        let Some(wrapped) = self.room.wrap(envelope.encode(), data, stride) else {
            self.tally.drop(DropReason::QueueFull, data.len().div_ceil(stride) as u64);
            return false;
        };
        self.send(path, wrapped, stride + ENVELOPE_LEN, message)
    }

    fn envelope(&mut self, datagram: &'d [u8], source: Option<&'t Arc<Source>>, message: &Received<'d>) {
        let Ok((envelope, header, packet)) = Envelope::parse(datagram) else {
            return self.tally.drop(DropReason::Malformed, 1);
        };
        let strangers = &self.worker.shared.strangers;
        match consider(self.tables, source, (strangers, self.now_ns), &envelope, &header) {
            Passage::Relay(path, hops) => {
                if self.wrapped(path, &Envelope { hops, ..envelope }, packet, packet.len(), message) {
                    self.tally.relayed += 1;
                }
            }
            Passage::HandOn(path) => _ = self.send(path, datagram, datagram.len(), message),
            Passage::Open(Verdict::Own) => {
                self.own(transit_addr(envelope.origin), None, packet, packet.len(), message);
            }
            Passage::Open(verdict) => self.dispose(verdict, packet, packet.len(), message),
        }
    }

    fn probe(&mut self, datagram: &[u8], message: &Received<'_>) {
        let Ok(bytes) = <&[u8; PROBE_LEN]>::try_from(datagram) else {
            return self.tally.drop(DropReason::BadProbe, 1);
        };
        let outcome = match self.entry {
            Entry::Listener(listener) => self.answer(bytes, message, listener),
            Entry::Link(_) => self.probing.on_answer(self.now, message.from, bytes),
        };
        if let Err(reason) = outcome {
            self.tally.drop(reason, 1);
        }
    }

    fn answer(
        &mut self,
        bytes: &[u8; PROBE_LEN],
        message: &Received<'_>,
        listener: usize,
    ) -> Result<(), DropReason> {
        let shared = &self.worker.shared;
        let now_ms = self.now_ns / 1_000_000;
        let known = self.tables.sources.get(&message.from);
        if known.is_some_and(|source| !source.probes.take(self.now_ns, 1)) {
            return Err(DropReason::RateLimit);
        }
        let interval = self.pace.interval();
        let checked = check(self.tables, &shared.cookie_secret, bytes, message.from, interval)
            .ok_or(DropReason::BadProbe)?;
        if checked.echoed {
            self.pace.count(now_ms);
            let known = known.filter(|source| source.class == checked.class);
            if let Some(source) = known {
                source.last_seen_ms.store(now_ms, Relaxed);
                source.doubtful.store(checked.deaf, Relaxed);
            }
            if known.is_none() || self.moved(checked.class, message.from) {
                // a full queue loses nothing: the next probe asks again
                let _ = shared.events.try_send(Event::Admit {
                    addr: message.from,
                    class: checked.class,
                    listener,
                });
            }
        }
        // an answer that cannot be sent is a probe that was not answered
        if self.worker.listeners[listener].send_to(&checked.answer, message.from).is_ok() {
            self.tally.probes_answered += 1;
        }
        Ok(())
    }

    /// The address that packets for the gateway itself came in on, where the socket has one.
    fn local(&self) -> Option<std::net::IpAddr> {
        match self.entry {
            Entry::Listener(index) => {
                Some(self.worker.listeners[index].local_addr().ip()).filter(|ip| !ip.is_unspecified())
            }
            Entry::Link(_) => None,
        }
    }

    /// Whether the tables deliver to this workload at another address.
    fn moved(&self, class: Class, from: std::net::SocketAddr) -> bool {
        match class {
            Class::Workload(workload) => {
                self.tables.workloads.get(&workload).is_none_or(|source| source.addr != from)
            }
            _ => false,
        }
    }

    fn flush(self) {
        let listeners = self.worker.listeners.len();
        for (exit, batch) in self.exits.into_iter().enumerate() {
            let Some(batch) = batch.filter(|batch| !batch.is_empty()) else { continue };
            let socket = if exit < listeners {
                &self.worker.listeners[exit]
            } else {
                &*self.worker.links.sockets[exit / listeners - 1][exit % listeners]
            };
            let sent = batch.flush(socket);
            self.tally.packets_out += sent.datagrams;
            self.tally.messages_out += sent.messages;
            self.tally.drop(DropReason::SendFailed, sent.lost);
        }
    }
}
