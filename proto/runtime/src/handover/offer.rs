//! The process that runs: what it would hand over, and to whom it did.

use super::channel::{Channel, Listening, MAX_FDS};
use super::error::HandoverError;
use super::message::{FromPredecessor, FromSuccessor, Item, Kind, VERSION};
use super::{MAX_NAME, MAX_SOCKETS, Socket, path};
use crate::files::DirLock;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the other process may take to say what it wants.
const HELLO: Duration = Duration::from_secs(5);
/// How long to wait after an accept that failed, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Sockets, each under the name of what it is used for.
type Named = Vec<(String, Socket)>;

/// What a process hands over: the lock of its folder, and sockets. Clones share it.
#[derive(Clone, Debug)]
pub struct Offers {
    lock: Arc<DirLock>,
    /// Nothing once they were cleared.
    sockets: Arc<Mutex<Option<Named>>>,
}

/// The process that takes the work over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its process id.
    pub pid: u32,
}

/// Waits for a process that takes the work over. Dropping it ends that.
#[derive(Debug)]
pub struct HandoverListener {
    listening: Listening,
}

impl Offers {
    /// Nothing but the lock.
    pub fn new(lock: Arc<DirLock>) -> Self {
        Self { lock, sockets: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// Adds a handle of a socket that is used for `name`. Beyond [`MAX_SOCKETS`], and under a name longer than [`MAX_NAME`], it is
    /// left out, which the log says.
    pub fn add(&self, name: String, socket: Socket) {
        let mut sockets = self.sockets();
        let Some(sockets) = &mut *sockets else { return };
        if sockets.len() >= MAX_SOCKETS || name.len() > MAX_NAME {
            tracing::warn!(socket = name, "a socket cannot be handed over to the next process");
            return;
        }
        sockets.push((name, socket));
    }

    /// Closes the handle of the socket that is used for `name`: it is not used any more.
    pub fn remove(&self, name: &str) {
        self.sockets().iter_mut().for_each(|sockets| sockets.retain(|(had, _)| had != name));
    }

    /// Closes all handles of sockets, and those that would be added later: what waits in a socket that nobody accepts from would hang
    /// instead of being refused.
    pub fn clear(&self) {
        *self.sockets() = None;
    }

    /// The lock.
    pub fn lock(&self) -> &Arc<DirLock> {
        &self.lock
    }

    fn sockets(&self) -> MutexGuard<'_, Option<Named>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, with a handle of its own.
    fn items(&self) -> io::Result<Vec<(Item, OwnedFd)>> {
        let lock = Item { kind: Kind::Lock, name: "lock".to_owned(), addr: None };
        let mut items = vec![(lock, self.lock.as_fd().try_clone_to_owned()?)];
        for (name, socket) in self.sockets().iter().flatten() {
            let (kind, fd) = match socket {
                Socket::Tcp(socket) => (Kind::Tcp, socket.as_fd()),
                Socket::Udp(socket) => (Kind::Udp, socket.as_fd()),
            };
            let item = Item { kind, name: name.clone(), addr: socket.local_addr() };
            items.push((item, fd.try_clone_to_owned()?));
        }
        Ok(items)
    }

    async fn send(&self, to: &Channel) -> Result<(), HandoverError> {
        let items = self.items();
        let all =
            items.map_err(|error| HandoverError::Malformed(format!("a socket cannot be shared: {error}")))?;
        let mut left = all.len();
        for part in all.chunks(MAX_FDS) {
            left -= part.len();
            let items = part.iter().map(|(item, _)| item.clone()).collect();
            let fds: Vec<BorrowedFd<'_>> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
            to.send(&FromPredecessor::Offer { items, more: left > 0 }, &fds).await?;
        }
        Ok(())
    }
}

impl HandoverListener {
    /// Listens in `dir`, whose lock the caller has. Call it on a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made; a path of more than 107 bytes is one cause.
    pub fn bind(dir: &Path) -> Result<Self, HandoverError> {
        Ok(Self { listening: Listening::bind(&path(dir))? })
    }

    /// Resolves when another process has taken over what is offered when it asks, and been told that this one takes nothing new:
    /// the caller stops now, and the handles in `offers` are closed. A process that ends before it is ready is waited out.
    pub async fn hand_over(&self, offers: &Offers) -> Successor {
        loop {
            let Some(channel) = self.next().await else { continue };
            let pid = channel.peer();
            let talk = tokio::select! {
                // one that has ended does not stand in the way of the next
                biased;
                talk = talk(&channel, offers) => talk,
                () = self.refuse_others(pid) => continue,
            };
            match talk {
                Ok(true) => {
                    offers.clear();
                    return Successor { pid };
                }
                Ok(false) => {
                    tracing::warn!(
                        pid,
                        "the process that was to take over ended before it was ready; this one goes on"
                    );
                }
                Err(error) => {
                    tracing::warn!(pid, %error, reason = error.reason(), "could not hand over; this process goes on");
                }
            }
        }
    }

    /// Removes the socket from the folder, so that nobody finds it. Only while the folder's lock is this process' alone.
    pub fn remove(self) {
        let path = self.listening.path();
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(path = %path.display(), %error, "the socket for hand-overs was gone already");
        }
    }

    async fn next(&self) -> Option<Channel> {
        match self.listening.accept().await {
            Ok(channel) => Some(channel),
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "refused a process that would take over");
                sleep(PAUSE).await;
                None
            }
        }
    }

    async fn refuse_others(&self, pid: u32) {
        loop {
            let Some(channel) = self.next().await else { continue };
            let why = format!("process {pid} is taking over already");
            // whoever does not hear it finds the conversation at its end
            let _ = timeout(HELLO, channel.send(&FromPredecessor::Refused { why }, &[])).await;
        }
    }
}

/// Whether the process at the other end took over.
async fn talk(channel: &Channel, offers: &Offers) -> Result<bool, HandoverError> {
    let hello = timeout(HELLO, channel.receive()).await.map_err(|_| HandoverError::Timeout)?;
    match hello? {
        Some((FromSuccessor::Hello { version: VERSION }, _)) => {}
        Some((FromSuccessor::Hello { version }, _)) => {
            let why = format!("it speaks version {VERSION} of the hand-over, not {version}: stop it first");
            channel.send(&FromPredecessor::Refused { why }, &[]).await?;
            return Ok(false);
        }
        Some((FromSuccessor::Ready, _)) => {
            return Err(HandoverError::Malformed("it was ready before it had anything".to_owned()));
        }
        None => return Ok(false),
    }
    tracing::info!(pid = channel.peer(), "another process is about to take over");
    timeout(HELLO, offers.send(channel)).await.map_err(|_| HandoverError::Timeout)??;
    match channel.receive().await? {
        Some((FromSuccessor::Ready, _)) => {}
        Some((FromSuccessor::Hello { .. }, _)) => {
            return Err(HandoverError::Malformed("it said hello twice".to_owned()));
        }
        None => return Ok(false),
    }
    // it has all that it needs and is ready: what it hears makes no difference any more
    let _ = timeout(HELLO, channel.send(&FromPredecessor::Leaving, &[])).await;
    Ok(true)
}
