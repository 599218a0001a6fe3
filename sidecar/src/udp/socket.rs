//! Sockets to applications: their buffers, and reading from them without a buffer for each.

use causeway_wire::datagram::{FLOW_PREFIX, MAX_PAYLOAD};
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Once;

/// What is asked for: more than 100 ms of 5,000 payloads of 1,400 bytes a second, with what the kernel adds to each.
const BUFFER: usize = 2 << 20;
/// What should be granted at least.
const ENOUGH: usize = 1 << 20;

/// A non-blocking socket on `addr` that an application sends to.
///
/// # Errors
/// What the system says.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(addr)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// A non-blocking socket that sends to the application at `addr` from `from`, and takes only what comes from there.
///
/// # Errors
/// What the system says.
pub(crate) fn connect(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<UdpSocket> {
    let socket = open(addr)?;
    if let Some(ip) = from {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    make_room(&socket);
    Ok(socket)
}

/// Asks for buffers that hold what comes while this thread does something else.
fn make_room(socket: &Socket) {
    static SAID: Once = Once::new();
    // the system grants what it allows without an error; what it refuses is seen below
    let _ = (socket.set_recv_buffer_size(BUFFER), socket.set_send_buffer_size(BUFFER));
    // Linux reports twice what was granted, half of it for its own bookkeeping (socket(7))
    let granted =
        socket.recv_buffer_size().map_or(0, |size| if cfg!(target_os = "linux") { size / 2 } else { size });
    if granted < ENOUGH {
        SAID.call_once(|| {
            tracing::warn!(
                granted,
                "the system grants UDP sockets less than {ENOUGH} bytes, so that bursts are lost: raise net.core.rmem_max and net.core.wmem_max"
            );
        });
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; FLOW_PREFIX + MAX_PAYLOAD + 1]);
}

/// Runs `use_it` with this thread's buffer: room for the number of a flow, and for any payload behind it.
pub(super) fn with_scratch<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| use_it(scratch))
}

/// Sends a payload, whether or not the runtime knows that there is room: it knows only after it has waited.
///
/// # Errors
/// What the system says; [`ErrorKind::WouldBlock`] if there is no room.
pub(super) fn send(socket: &impl AsFd, payload: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
    let socket = SockRef::from(socket);
    loop {
        let sent = match to {
            Some(to) => socket.send_to(payload, &to.into()),
            None => socket.send(payload),
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            sent => return sent.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_payload_passes_and_a_closed_port_is_noticed() {
        let application = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = application.local_addr().unwrap();
        let near = connect(addr, Some("127.0.0.6".parse().unwrap())).unwrap();
        send(&near, &[7; 65_507], None).unwrap();
        let (length, from) = with_scratch(|scratch| application.recv_from(scratch)).unwrap();
        assert_eq!((length, from), (65_507, near.local_addr().unwrap()));
        assert_eq!(from.ip().to_string(), "127.0.0.6");
        send(&application, b"answer", Some(from)).unwrap();
        assert_eq!(near.recv(&mut [0; 10]).unwrap(), 6);
        assert!(send(&near, &vec![0; 65_508], None).is_err());
        drop(application);
        send(&near, b"gone?", None).unwrap();
        assert_eq!(near.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
