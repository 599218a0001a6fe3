//! The listening sockets of a start: from the process before where there is one, bound anew otherwise, and offered to the next.

use crate::config::SidecarConfig;
use anyhow::Context;
use causeway_runtime::files::{create_private_dir, lock_dir};
use causeway_runtime::{DirLock, Offers, Predecessor, Socket, bind_tcp, take_over};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;

/// Where sockets come from, and to whom they go.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    predecessor: Option<Predecessor>,
    offers: Option<Offers>,
    lock: Option<Arc<DirLock>>,
}

impl Sockets {
    /// Locks the state directory, if there is one, with the process that runs there, if it hands over.
    ///
    /// # Errors
    /// Another process has the directory and keeps it.
    pub(super) async fn open(config: &SidecarConfig) -> anyhow::Result<Self> {
        let Some(dir) = &config.state_dir else { return Ok(Self::default()) };
        create_private_dir(dir)?;
        let mut predecessor = if config.handover { predecessor(dir).await } else { None };
        let lock = Arc::new(match &mut predecessor {
            Some(process) => process.lock(dir)?,
            None => lock_dir(dir)?,
        });
        let offers = config.handover.then(|| Offers::new(Arc::clone(&lock)));
        Ok(Self { predecessor, offers, lock: Some(lock) })
    }

    /// Whether this process takes the work of another one over.
    pub(super) fn is_successor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// The lock of the state directory, if there is one.
    pub(super) fn lock(&self) -> Option<Arc<DirLock>> {
        self.lock.clone()
    }

    /// A listener on `addr`, used for `name`; `flag` is how to choose another address.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(super) fn tcp(
        &mut self,
        what: &'static str,
        flag: &'static str,
        name: String,
        addr: SocketAddr,
    ) -> anyhow::Result<TcpListener> {
        let taken = self.predecessor.as_mut().and_then(|process| process.tcp(&name, addr));
        let listener = taken.map_or_else(|| bind_tcp(what, flag, addr), Ok)?;
        if let Some(offers) = &self.offers {
            let shared =
                listener.try_clone().with_context(|| format!("cannot share the listener on {addr}"))?;
            offers.add(name, Socket::Tcp(shared));
        }
        Ok(listener)
    }

    /// A UDP socket on `addr`, used for `name`, by `bind` unless the process before has it.
    ///
    /// # Errors
    /// What `bind` says.
    pub(super) fn udp(
        &mut self,
        name: String,
        addr: SocketAddr,
        bind: impl FnOnce() -> io::Result<UdpSocket>,
    ) -> io::Result<UdpSocket> {
        let taken = self.predecessor.as_mut().and_then(|process| process.udp(&name, addr));
        let socket = taken.map_or_else(bind, Ok)?;
        if let Some(offers) = &self.offers {
            offers.add(name, Socket::Udp(socket.try_clone()?));
        }
        Ok(socket)
    }

    /// The sockets that the process before used for what begins with `prefix`.
    pub(super) fn inherit(&mut self, prefix: &str) -> Vec<(SocketAddr, Socket)> {
        let Some(process) = &mut self.predecessor else { return Vec::new() };
        let there = process.left().filter(|(name, _)| name.starts_with(prefix));
        let there: Vec<_> = there.map(|(name, addr)| (name.to_owned(), addr)).collect();
        let mut take = |name: &str, addr| {
            let tcp = process.tcp(name, addr).map(Socket::Tcp);
            tcp.or_else(|| process.udp(name, addr).map(Socket::Udp))
        };
        there.iter().filter_map(|(name, addr)| Some((*addr, take(name, *addr)?))).collect()
    }

    /// Where sockets that are bound later are offered to the next process, if they are.
    pub(super) fn offers(&self) -> Option<Offers> {
        self.offers.clone()
    }

    /// The process before, and what goes to the next.
    pub(super) fn into_parts(self) -> (Option<Predecessor>, Option<Offers>) {
        (self.predecessor, self.offers)
    }
}

async fn predecessor(dir: &Path) -> Option<Predecessor> {
    match take_over(dir).await {
        Ok(Some(process)) => {
            tracing::info!(
                pid = process.pid(),
                "taking over from the process that runs with this state directory"
            );
            Some(process)
        }
        Ok(None) => None,
        Err(error) => {
            // if it runs, it has the lock, which says so
            tracing::warn!(%error, reason = error.reason(), "cannot take over from the process that runs with this state directory");
            None
        }
    }
}
