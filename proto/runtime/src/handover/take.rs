//! The new process: what it got, and what of that it wants.

use super::channel::Channel;
use super::error::HandoverError;
use super::message::{FromPredecessor, FromSuccessor, Item, Kind, VERSION};
use super::{MAX_SOCKETS, Socket, path};
use crate::files::{DirLock, LockError, adopt_lock};
use rustix::net::{SocketType, sockopt};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long the process that runs may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The process that runs, and what it handed over. Dropped, it goes on as before.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    lock: Option<OwnedFd>,
    sockets: Vec<(String, Socket)>,
}

/// Asks the process that runs with the folder `dir` for its sockets; `None` if there is none, or it does not hand over at all. Call it
/// on a tokio runtime.
///
/// # Errors
/// It refuses, or what it says cannot be used. The folder is then in use.
pub async fn take_over(dir: &Path) -> Result<Option<Predecessor>, HandoverError> {
    let Some(channel) = Channel::connect(&path(dir))? else { return Ok(None) };
    let mut taken = Predecessor { channel, lock: None, sockets: Vec::new() };
    timeout(ANSWER, taken.receive()).await.map_err(|_| HandoverError::Timeout)??;
    Ok(Some(taken))
}

impl Predecessor {
    async fn receive(&mut self) -> Result<(), HandoverError> {
        // one that refuses at once may be gone by now, and still be read
        let said = self.channel.send(&FromSuccessor::Hello { version: VERSION }, &[]).await;
        loop {
            let Some((message, fds)) = self.channel.receive().await? else {
                said?;
                return Err(HandoverError::Refused { why: "it is about to end".to_owned() });
            };
            let (items, more) = match message {
                FromPredecessor::Offer { items, more } => (items, more),
                FromPredecessor::Refused { why } => return Err(HandoverError::Refused { why }),
                FromPredecessor::Leaving => {
                    return Err(HandoverError::Malformed("it leaves before anybody took over".to_owned()));
                }
            };
            self.add(items, fds)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn add(&mut self, items: Vec<Item>, fds: Vec<OwnedFd>) -> Result<(), HandoverError> {
        if items.len() != fds.len() || items.is_empty() || self.sockets.len() + items.len() > MAX_SOCKETS + 1
        {
            let counts = format!("{} descriptors for {} names", fds.len(), items.len());
            return Err(HandoverError::Malformed(counts));
        }
        for (item, fd) in items.into_iter().zip(fds) {
            let socket = match item.kind {
                Kind::Lock => {
                    self.lock = Some(fd);
                    continue;
                }
                Kind::Tcp => Socket::Tcp(TcpListener::from(checked(&item, fd, SocketType::STREAM)?)),
                Kind::Udp => Socket::Udp(UdpSocket::from(checked(&item, fd, SocketType::DGRAM)?)),
            };
            if item.addr.is_none() || socket.local_addr() != item.addr {
                let text =
                    format!("{} is bound to {:?}, not to {:?}", item.name, socket.local_addr(), item.addr);
                return Err(HandoverError::Malformed(text));
            }
            self.sockets.push((item.name, socket));
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.channel.peer()
    }

    /// The lock of the folder, which both have from now on.
    ///
    /// # Errors
    /// It did not hand over the lock of `dir`.
    pub fn lock(&mut self, dir: &Path) -> Result<DirLock, LockError> {
        match self.lock.take() {
            Some(fd) => adopt_lock(dir, fd),
            None => Err(LockError::InUse { dir: dir.to_owned(), pid: Some(self.pid()) }),
        }
    }

    /// What is there to take: what each socket was used for, and where it is bound.
    pub fn left(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.sockets.iter().filter_map(|(name, socket)| Some((name.as_str(), socket.local_addr()?)))
    }

    /// The listener that it used for `name`, or another one on `addr` unless that leaves the port to the system.
    pub fn tcp(&mut self, name: &str, addr: SocketAddr) -> Option<TcpListener> {
        match self.take(name, addr, |socket| matches!(socket, Socket::Tcp(_)))? {
            Socket::Tcp(listener) => Some(listener),
            Socket::Udp(_) => None,
        }
    }

    /// As [`Predecessor::tcp`], for a UDP socket.
    pub fn udp(&mut self, name: &str, addr: SocketAddr) -> Option<UdpSocket> {
        match self.take(name, addr, |socket| matches!(socket, Socket::Udp(_)))? {
            Socket::Udp(socket) => Some(socket),
            Socket::Tcp(_) => None,
        }
    }

    fn take(&mut self, name: &str, addr: SocketAddr, kind: impl Fn(&Socket) -> bool) -> Option<Socket> {
        let fits = |bound: Option<SocketAddr>| {
            bound.is_some_and(|bound| {
                bound.ip() == addr.ip() && (addr.port() == 0 || bound.port() == addr.port())
            })
        };
        let named =
            |(had, socket): &(String, Socket)| had == name && kind(socket) && fits(socket.local_addr());
        let there = |(_, socket): &(String, Socket)| {
            addr.port() != 0 && kind(socket) && socket.local_addr() == Some(addr)
        };
        let at = self.sockets.iter().position(named).or_else(|| self.sockets.iter().position(there))?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Tells it that this process does the work from now on, and waits until it takes nothing new. What it handed over and nobody
    /// took is closed. That it has ended meanwhile is no failure.
    pub async fn confirm(mut self) {
        let pid = self.pid();
        for (name, _) in self.sockets.drain(..) {
            tracing::info!(socket = name, "a socket of the process before is not used any more");
        }
        let leaves = async {
            self.channel.send(&FromSuccessor::Ready, &[]).await?;
            self.channel.receive::<FromPredecessor>().await
        };
        match timeout(ANSWER, leaves).await {
            Ok(Ok(Some((FromPredecessor::Leaving, _)))) => {
                tracing::info!(pid, "took over; the process before drains and ends");
            }
            Ok(Ok(None)) => tracing::warn!(pid, "took over from a process that has ended"),
            Ok(Ok(Some(_))) => {
                tracing::warn!(pid, "took over from a process that did not say that it leaves")
            }
            Ok(Err(error)) => {
                tracing::warn!(pid, %error, reason = error.reason(), "took over from a process that does not answer");
            }
            Err(_) => tracing::warn!(pid, "took over from a process that does not answer"),
        }
    }
}

/// The descriptor, if it is a socket of this type.
fn checked(item: &Item, fd: OwnedFd, wanted: SocketType) -> Result<OwnedFd, HandoverError> {
    let malformed = |text: String| HandoverError::Malformed(format!("{}: {text}", item.name));
    let kind = sockopt::socket_type(&fd).map_err(|error| malformed(error.to_string()))?;
    let listens = wanted != SocketType::STREAM
        || sockopt::socket_acceptconn(&fd).map_err(|error| malformed(error.to_string()))?;
    if kind != wanted || !listens {
        return Err(malformed("it is no socket of its kind".to_owned()));
    }
    Ok(fd)
}
