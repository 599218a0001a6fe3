//! Where a redirected TCP connection was meant to go.

use rustix::net::{getsockname, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// Where the application wanted to connect, for a connection that a rule redirected to the listener that accepted `socket`.
///
/// # Errors
/// `NotConnected` if the connection was not redirected: somebody connected to the listener itself, and passing that on would go in
/// circles. Otherwise what the system says; `NotFound` means that connections are not tracked here, so that no rule redirected it.
pub fn original_destination(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let local = SocketAddr::try_from(getsockname(socket)?)?;
    let original = match local.ip().to_canonical() {
        IpAddr::V4(_) => sockopt::ip_original_dst(socket)?.into(),
        IpAddr::V6(_) => sockopt::ipv6_original_dst(socket)?.into(),
    };
    if same(original, local) {
        let problem = format!("the connection to {local} was not redirected by a rule");
        return Err(io::Error::new(io::ErrorKind::NotConnected, problem));
    }
    Ok(original)
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_that_no_rule_redirected_has_no_original_destination() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            // tracked or not, as it happens to be on this host
            let error = original_destination(&accepted).unwrap_err();
            let kinds = [io::ErrorKind::NotConnected, io::ErrorKind::NotFound];
            let unsupported = error.raw_os_error() == Some(libc::ENOPROTOOPT);
            assert!(kinds.contains(&error.kind()) || unsupported, "{bind}: {error:?}");
        }
    }
}
