//! The thread of a relay: it waits for datagrams and for due times, and moves batches.

use crate::Direction;
use crate::batch::{self, Receiver};
use crate::flows::Flows;
use crate::pipe::{Packet, Pipe};
use crate::relay::Shared;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What epoll says of the eventfd that ends the thread.
pub(crate) const WAKE: u64 = 0;
/// What epoll says of the listening socket.
pub(crate) const LISTEN: u64 = 1;
/// The number of the first flow; epoll says the number of a flow of its socket.
pub(crate) const FIRST_FLOW: u64 = 2;

/// The shortest wait: datagrams due within it go out together, a fifth of the accuracy that is promised.
const TICK: Duration = Duration::from_micros(200);
/// Datagrams sent in one go at most, before receiving has its turn again.
const BUDGET: usize = 2048;
/// What one GSO call carries at most.
const RUN_BYTES: usize = 65_000;
const RUN_PACKETS: usize = 64;

/// What the thread owns.
pub(crate) struct Worker {
    listen: UdpSocket,
    epoll: OwnedFd,
    flows: Flows,
    receiver: Receiver,
    shared: Arc<Shared>,
}

impl Worker {
    pub(crate) fn new(listen: UdpSocket, epoll: OwnedFd, flows: Flows, shared: Arc<Shared>) -> Self {
        Self { listen, epoll, flows, receiver: Receiver::new(), shared }
    }

    /// Works until the handle is dropped.
    pub(crate) fn run(mut self) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        while !self.shared.stopped() {
            self.wait();
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            if let Ok((ready, _)) = epoll::wait(&self.epoll, &mut events, Some(&zero)) {
                for event in ready.iter() {
                    match event.data.u64() {
                        WAKE => {}
                        LISTEN => self.receive_forward(),
                        number => self.receive_back(number),
                    }
                }
            }
            self.deliver(Direction::Forward);
            self.deliver(Direction::Back);
        }
    }

    /// Waits until something arrives or is due. `poll` on the epoll descriptor, because its time-out is in nanoseconds.
    fn wait(&self) {
        let due = [Direction::Forward, Direction::Back]
            .into_iter()
            .filter_map(|direction| self.shared.pipe(direction).next_due())
            .min();
        let timeout = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() { left } else { left.max(TICK) }
        });
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        // an interrupted wait is a short one
        let _ready = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], timeout.as_ref());
    }

    fn receive_forward(&mut self) {
        let mut pipe = self.shared.pipe(Direction::Forward);
        // an error here is news of an earlier answer that nobody took, and reading it has cleared it
        let Ok(true) = self.receiver.receive(&self.listen) else { return };
        let now = Instant::now();
        for message in self.receiver.messages() {
            let flow = self.flows.of_source(message.source, now, |socket, number| {
                Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
            });
            match flow {
                Some(flow) => {
                    message.datagrams().for_each(|d| pipe.offer(now, Packet { flow, data: d.into() }))
                }
                None => pipe.no_flow(message.count()),
            }
        }
    }

    fn receive_back(&mut self, number: u64) {
        let mut pipe = self.shared.pipe(Direction::Back);
        // the flow may have been evicted since epoll spoke of it
        let Some(flow) = self.flows.get(number) else { return };
        let Ok(true) = self.receiver.receive(&flow.socket) else { return };
        let now = Instant::now();
        for message in self.receiver.messages() {
            message.datagrams().for_each(|d| pipe.offer(now, Packet { flow: number, data: d.into() }));
        }
    }

    /// Sends what is due, in runs that one call can carry.
    fn deliver(&self, direction: Direction) {
        let mut pipe = self.shared.pipe(direction);
        let now = Instant::now();
        let mut run = Run::default();
        for _ in 0..BUDGET {
            let Some(packet) = pipe.poll(now) else { break };
            if !run.takes(&packet) {
                self.send(direction, &mut run, &mut pipe);
            }
            run.push(packet);
        }
        self.send(direction, &mut run, &mut pipe);
    }

    fn send(&self, direction: Direction, run: &mut Run, pipe: &mut Pipe) {
        let Some(first) = run.packets.first() else { return };
        match self.flows.get(first.flow) {
            None => pipe.send_failed(run.packets.len() as u64),
            Some(flow) => {
                let (socket, to) = match direction {
                    Direction::Forward => (&flow.socket, None),
                    Direction::Back => (&self.listen, Some(flow.source)),
                };
                pipe.send_failed(run.send(socket, to));
            }
        }
        run.packets.clear();
        run.bytes = 0;
    }
}

/// Datagrams of one flow and one size, of which the last may be shorter.
#[derive(Debug, Default)]
struct Run {
    packets: Vec<Packet>,
    bytes: usize,
}

impl Run {
    /// Whether `packet` may follow.
    fn takes(&self, packet: &Packet) -> bool {
        let (Some(first), Some(last)) = (self.packets.first(), self.packets.last()) else { return true };
        let size = packet.data.len();
        first.flow == packet.flow
            && last.data.len() == first.data.len()
            && (1..=first.data.len()).contains(&size)
            && self.bytes + size <= RUN_BYTES
            && self.packets.len() < RUN_PACKETS
    }

    fn push(&mut self, packet: Packet) {
        self.bytes += packet.data.len();
        self.packets.push(packet);
    }

    /// Sends the run, and says how many of its datagrams the system would not take.
    fn send(&self, socket: &UdpSocket, to: Option<SocketAddr>) -> u64 {
        let parts: Vec<IoSlice<'_>> = self.packets.iter().map(|packet| IoSlice::new(&packet.data)).collect();
        let segment = parts.first().map_or(0, |part| part.len());
        if batch::send(socket, to, &parts, segment).is_ok() {
            return 0;
        }
        // one by one: the error may have been news of an earlier datagram, or a device that does no GSO of this size
        parts.chunks(1).filter(|part| batch::send(socket, to, part, segment).is_err()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flow: u64, size: usize) -> Packet {
        Packet { flow, data: vec![0; size].into() }
    }

    #[test]
    fn a_run_is_of_one_flow_and_one_size_and_ends_with_a_shorter_one() {
        let mut run = Run::default();
        assert!(run.takes(&packet(1, 1452)));
        run.push(packet(1, 1452));
        assert!(run.takes(&packet(1, 1452)));
        assert!(!run.takes(&packet(2, 1452)), "another flow");
        assert!(!run.takes(&packet(1, 1453)), "larger");
        assert!(!run.takes(&packet(1, 0)), "empty");
        assert!(run.takes(&packet(1, 10)));
        run.push(packet(1, 10));
        assert!(!run.takes(&packet(1, 10)), "after the short one");
    }

    #[test]
    fn a_run_keeps_within_what_gso_carries() {
        let mut run = Run::default();
        while run.takes(&packet(1, 1452)) {
            run.push(packet(1, 1452));
        }
        assert_eq!(run.packets.len(), 44);
        let mut run = Run::default();
        while run.takes(&packet(1, 100)) {
            run.push(packet(1, 100));
        }
        assert_eq!(run.packets.len(), 64);
    }
}
