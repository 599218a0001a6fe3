//! The sockets on virtual addresses: from the process before where it had them, bound anew otherwise, and offered to the next.

use causeway_capture::{SocketError, any_ip};
use causeway_runtime::{Offers, Socket};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How the names begin under which they are handed over.
pub(crate) const SOCKETS_OF_VIPS: &str = "vip ";

/// Where the sockets come from, and to whom they go.
#[derive(Debug, Default)]
pub(crate) struct VipSockets {
    inherited: Mutex<Vec<(SocketAddr, Socket)>>,
    offers: Option<Offers>,
}

/// The next process' handle of a socket. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Kept {
    offers: Offers,
    name: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.offers.remove(&self.name);
    }
}

impl VipSockets {
    /// Those of the process before; all are added to `offers`.
    pub(crate) fn new(inherited: Vec<(SocketAddr, Socket)>, offers: Option<Offers>) -> Self {
        Self { inherited: Mutex::new(inherited), offers }
    }

    /// Where those are bound that nobody has claimed.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        self.inherited().iter().map(|(addr, _)| *addr).collect::<Vec<_>>().into_iter()
    }

    /// Closes these.
    pub(super) fn close_unclaimed(&self) {
        self.inherited().clear();
    }

    /// A listener on `addr`.
    pub(super) fn tcp(&self, addr: SocketAddr) -> io::Result<(TcpListener, Option<Kept>)> {
        let listener = match self.claim(addr, false) {
            Some(Socket::Tcp(listener)) => listener,
            _ => any_ip::bind_tcp(addr).map_err(said)?,
        };
        let kept =
            self.keep(format!("{SOCKETS_OF_VIPS}{addr}"), || Ok(Socket::Tcp(listener.try_clone()?)))?;
        Ok((listener, kept))
    }

    /// A socket for datagrams to `addr`.
    pub(super) fn udp(&self, addr: SocketAddr) -> io::Result<(UdpSocket, Option<Kept>)> {
        let socket = match self.claim(addr, true) {
            Some(Socket::Udp(socket)) => socket,
            _ => any_ip::bind_udp(addr).map_err(said)?,
        };
        let kept =
            self.keep(format!("{SOCKETS_OF_VIPS}{addr}/udp"), || Ok(Socket::Udp(socket.try_clone()?)))?;
        Ok((socket, kept))
    }

    fn claim(&self, addr: SocketAddr, udp: bool) -> Option<Socket> {
        let mut inherited = self.inherited();
        let fits = |(bound, socket): &(SocketAddr, Socket)| {
            *bound == addr && matches!(socket, Socket::Udp(_)) == udp
        };
        let at = inherited.iter().position(fits)?;
        Some(inherited.swap_remove(at).1)
    }

    fn keep(&self, name: String, socket: impl FnOnce() -> io::Result<Socket>) -> io::Result<Option<Kept>> {
        let Some(offers) = self.offers.clone() else { return Ok(None) };
        offers.add(name.clone(), socket()?);
        Ok(Some(Kept { offers, name }))
    }

    fn inherited(&self) -> MutexGuard<'_, Vec<(SocketAddr, Socket)>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(error: SocketError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_runtime::files::lock_dir;
    use std::net::TcpStream;
    use std::sync::Arc;

    #[test]
    fn what_is_inherited_is_used_before_anything_is_bound_and_offered_on() {
        let dir = tempfile::tempdir().unwrap();
        let offers = Offers::new(Arc::new(lock_dir(dir.path()).unwrap()));
        let of_before = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, other) = (of_before.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let unused = other.local_addr().unwrap();
        // as if another process still had it
        let still = of_before.try_clone().unwrap();
        let sockets = VipSockets::new(
            vec![(addr, Socket::Tcp(of_before)), (unused, Socket::Tcp(other))],
            Some(offers.clone()),
        );
        let (listener, kept) = sockets.tcp(addr).unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        assert_eq!(sockets.unclaimed().collect::<Vec<_>>(), [unused]);
        sockets.close_unclaimed();
        assert!(TcpStream::connect(unused).is_err());
        // it is bound, so another one cannot be had, and the error says so
        assert!(sockets.tcp(addr).unwrap_err().to_string().contains(&addr.to_string()));
        drop((still, listener));
        assert!(TcpStream::connect(addr).is_ok(), "the next process has it");
        drop(kept);
        assert!(TcpStream::connect(addr).is_err());
    }
}
