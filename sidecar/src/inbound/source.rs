//! The one socket option that no library offers: `IP_BIND_ADDRESS_NO_PORT`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use tokio::net::TcpSocket;

/// Makes a bind to port 0 leave the choice of the port to the connect, which can share one between destinations.
///
/// Otherwise each delivery would take one of some 28,000 ports of its source address for itself, and keep it for a minute
/// after its end.
///
/// # Errors
/// What the system says.
pub(super) fn choose_port_late(socket: &TcpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // a c_int has four bytes everywhere
    let length: libc::socklen_t = 4;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the option's value is a c_int that outlives the call
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
