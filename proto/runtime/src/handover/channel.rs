//! Packets with descriptors over a Unix socket, between two processes of one user.
//!
//! The socket keeps the bounds of packets (`SOCK_SEQPACKET`), so that a descriptor belongs to its document, and tells the end of
//! the other process as the end of the stream. tokio has no type for such sockets: its streams and listeners wait for them, and
//! what is read and written goes past them.

use super::error::HandoverError;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg,
    sendmsg, socket_with, sockopt,
};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// The most descriptors of one packet.
pub(super) const MAX_FDS: usize = 64;
/// The longest packet, in bytes.
const MAX_PACKET: usize = 128 << 10;
/// How many processes may wait to be heard.
const BACKLOG: i32 = 8;

/// One end of a conversation.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    path: PathBuf,
    peer: u32,
}

/// Where conversations begin.
#[derive(Debug)]
pub(super) struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

fn failed(op: &'static str, path: &Path, source: impl Into<io::Error>) -> HandoverError {
    HandoverError::Io { op, path: path.to_owned(), source: source.into() }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Listening {
    /// Listens at `path`, whatever was there before: the caller has the folder's lock. Call it on a tokio runtime.
    pub(super) fn bind(path: &Path) -> Result<Self, HandoverError> {
        let bound = || -> io::Result<UnixListener> {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let socket = socket()?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            listen(&socket, BACKLOG)?;
            UnixListener::from_std(socket.into())
        };
        Ok(Self {
            listener: bound().map_err(|error| failed("listen on", path, error))?,
            path: path.to_owned(),
        })
    }

    /// The next process of the same user that connects.
    pub(super) async fn accept(&self) -> Result<Channel, HandoverError> {
        let (stream, _) =
            self.listener.accept().await.map_err(|error| failed("accept on", &self.path, error))?;
        Channel::new(stream, &self.path)
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Channel {
    /// A conversation with whoever listens at `path`; `None` if nobody does. Call it on a tokio runtime.
    pub(super) fn connect(path: &Path) -> Result<Option<Self>, HandoverError> {
        let connected = || -> io::Result<UnixStream> {
            let socket = socket()?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            UnixStream::from_std(socket.into())
        };
        match connected() {
            Ok(stream) => Self::new(stream, path).map(Some),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed("connect to", path, error)),
        }
    }

    fn new(stream: UnixStream, path: &Path) -> Result<Self, HandoverError> {
        let peer = sockopt::socket_peercred(&stream).map_err(|error| failed("look at", path, error))?;
        let (uid, own) = (peer.uid.as_raw(), geteuid().as_raw());
        if uid != own {
            return Err(HandoverError::Foreign { path: path.to_owned(), uid, own });
        }
        let peer = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or_default();
        Ok(Self { stream, path: path.to_owned(), peer })
    }

    /// The process at the other end, as the system numbers it.
    pub(super) fn peer(&self) -> u32 {
        self.peer
    }

    /// Says `message`; `fds` come with it, at most [`MAX_FDS`].
    pub(super) async fn send(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), HandoverError> {
        let text =
            serde_json::to_vec(message).map_err(|error| HandoverError::Malformed(error.to_string()))?;
        if text.len() > MAX_PACKET || fds.len() > MAX_FDS {
            let size = format!("{} bytes and {} descriptors at once", text.len(), fds.len());
            return Err(HandoverError::Malformed(size));
        }
        let sent = self.stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(Errno::NOBUFS.into());
            }
            Ok(sendmsg(&self.stream, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?)
        });
        sent.await.map(drop).map_err(|error| failed("write to", &self.path, error))
    }

    /// The next message with its descriptors; `None` once the other end is gone.
    pub(super) async fn receive<M: DeserializeOwned>(
        &self,
    ) -> Result<Option<(M, Vec<OwnedFd>)>, HandoverError> {
        let received = self.stream.async_io(Interest::READABLE, || packet(self.stream.as_fd())).await;
        let Some((text, fds)) = received.map_err(|error| failed("read from", &self.path, error))? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&text);
        let message = message.map_err(|error| HandoverError::Malformed(error.to_string()))?;
        Ok(Some((message, fds)))
    }
}

type Packet = (Vec<u8>, Vec<OwnedFd>);

fn packet(socket: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut text = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let got = match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
        // the other end is gone and did not read all that it was told; what it said before is there all the same
        Err(Errno::CONNRESET) => recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?,
        got => got?,
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
    }
    // no packet of ours is empty
    if got.bytes == 0 {
        return Ok(None);
    }
    text.truncate(got.bytes);
    Ok(Some((text, fds)))
}
