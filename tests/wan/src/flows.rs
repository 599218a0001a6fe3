//! The upstream sockets: one for each source address heard, as NAT has it.

use crate::batch;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Socket buffers: a burst of a whole congestion window fits in.
const BUFFER: usize = 8 << 20;
/// A flow that was silent for so long makes room for a new one.
const IDLE: Duration = Duration::from_secs(30);

/// A source address and its socket towards the target.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Who sends through the relay.
    pub(crate) source: SocketAddr,
    /// Connected to the target.
    pub(crate) socket: UdpSocket,
    heard: Instant,
}

/// All flows of a relay, at most `limit` of them.
#[derive(Debug)]
pub(crate) struct Flows {
    target: SocketAddr,
    limit: usize,
    next: u64,
    numbers: HashMap<SocketAddr, u64>,
    flows: HashMap<u64, Flow>,
}

impl Flows {
    /// None yet. Numbers are never used twice, and begin with `first`.
    pub(crate) fn new(target: SocketAddr, limit: usize, first: u64) -> Self {
        Self { target, limit, next: first, numbers: HashMap::new(), flows: HashMap::new() }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Flow> {
        self.flows.get(&number)
    }

    /// The flow of `source`, made and given to `register` if it is new; `None` if there is no room or no socket for it.
    pub(crate) fn of_source(
        &mut self,
        source: SocketAddr,
        now: Instant,
        register: impl FnOnce(&UdpSocket, u64) -> io::Result<()>,
    ) -> Option<u64> {
        if let Some(&number) = self.numbers.get(&source) {
            self.flows.get_mut(&number)?.heard = now;
            return Some(number);
        }
        if self.flows.len() >= self.limit {
            self.evict(now)?;
        }
        let number = self.next;
        let socket = connected(self.target).ok()?;
        register(&socket, number).ok()?;
        self.next += 1;
        self.numbers.insert(source, number);
        self.flows.insert(number, Flow { source, socket, heard: now });
        Some(number)
    }

    /// Drops the flow that was silent longest, if it was for long enough.
    fn evict(&mut self, now: Instant) -> Option<()> {
        let (&number, flow) = self.flows.iter().min_by_key(|(_, flow)| flow.heard)?;
        (now.duration_since(flow.heard) >= IDLE).then_some(())?;
        self.numbers.remove(&flow.source);
        self.flows.remove(&number);
        Some(())
    }
}

fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = prepared(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    Ok(socket)
}

/// A socket bound to `address`, with large buffers and GRO.
///
/// # Errors
/// If it cannot be made or bound. Buffers smaller than wished for are no error.
pub(crate) fn prepared(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // the forced variant exceeds net.core.rmem_max and needs CAP_NET_ADMIN; what either gives is good enough to run
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        let _smaller = socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER);
    }
    let _smaller = socket2::SockRef::from(&socket).set_send_buffer_size(BUFFER);
    batch::enable_gro(&socket);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_bounded_and_only_idle_ones_make_room() {
        let target = "127.0.0.1:9".parse().unwrap();
        let mut flows = Flows::new(target, 2, 10);
        let source = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let start = Instant::now();
        assert_eq!(flows.of_source(source(1), start, |_, _| Ok(())), Some(10));
        assert_eq!(flows.of_source(source(2), start + IDLE / 2, |_, _| Ok(())), Some(11));
        assert_eq!(flows.of_source(source(1), start + IDLE / 2, |_, _| Ok(())), Some(10));
        assert_eq!(flows.of_source(source(3), start + IDLE, |_, _| Ok(())), None);
        assert_eq!(flows.of_source(source(1), start + IDLE, |_, _| Ok(())), Some(10));
        // the second was last heard at half the idle time, the first later
        assert_eq!(flows.of_source(source(3), start + IDLE * 3 / 2, |_, _| Ok(())), Some(12));
        assert!(flows.get(11).is_none());
        assert_eq!(flows.get(12).map(|flow| flow.source), Some(source(3)));
    }

    #[test]
    fn a_flow_that_cannot_be_registered_does_not_exist() {
        let mut flows = Flows::new("127.0.0.1:9".parse().unwrap(), 2, 0);
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        let refuse = |_: &UdpSocket, _| Err(io::Error::from(io::ErrorKind::OutOfMemory));
        assert_eq!(flows.of_source(source, Instant::now(), refuse), None);
        assert_eq!(flows.of_source(source, Instant::now(), |_, _| Ok(())), Some(0));
    }
}
