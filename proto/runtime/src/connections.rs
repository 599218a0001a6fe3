//! How the HTTP servers of a process treat connections: how many at once, how long a client may take, how they end.
//! Plain and TLS servers share it; what is served is theirs.

use axum_server::accept::Accept;
use axum_server::{Handle, Server};
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the headers of a request.
const HEADERS: Duration = Duration::from_secs(15);
/// How often an HTTP/2 client is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// How long requests in flight may take after shutdown began.
const GRACE: Duration = Duration::from_secs(5);

/// Sets a server's timeouts and the handle by which [`until_cancelled`] stops it.
pub(crate) fn bounded<A>(
    mut server: Server<SocketAddr, A>,
    handle: &Handle<SocketAddr>,
) -> Server<SocketAddr, A> {
    server.http_builder().http1().header_read_timeout(HEADERS);
    server.http_builder().http2().keep_alive_interval(PING);
    server
        .handle(handle.clone())
        .first_request_timeout(HEADERS)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "a connection was refused"))
}

/// Serves until `token` is cancelled, then lets requests in flight finish within [`GRACE`].
pub(crate) async fn until_cancelled(
    serving: impl Future<Output = io::Result<()>>,
    handle: Handle<SocketAddr>,
    token: CancellationToken,
) -> io::Result<()> {
    let mut serving = pin!(serving);
    tokio::select! {
        end = &mut serving => return end,
        () = token.cancelled() => {}
    }
    handle.graceful_shutdown(Some(GRACE));
    serving.await
}

/// Accepts at most so many connections at once; one more is closed at once, before it costs a TLS handshake.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    free: Arc<Semaphore>,
}

impl Limit {
    pub(crate) fn new(connections: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections)) }
    }
}

impl<S> Accept<TcpStream, S> for Limit {
    type Stream = Limited;
    type Service = S;
    type Future = Ready<io::Result<(Limited, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let permit = self.free.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections at once"));
        ready(permit.and_then(|permit| {
            stream.set_nodelay(true)?;
            Ok((Limited { stream, _permit: permit }, service))
        }))
    }
}

/// A connection that counts towards a [`Limit`].
#[derive(Debug)]
pub(crate) struct Limited {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
