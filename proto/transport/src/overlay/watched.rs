//! The UDP socket as the runtime watches it: for what arrives always, for room only while somebody waits for it.
//!
//! The kernel tells whoever watches a UDP socket for room of each packet that has left. That would wake the process once for every
//! packet that it sends, for nothing: the buffer is hardly ever full.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long to wait for room where the system has no descriptor left to watch for it.
const UNWATCHED: Duration = Duration::from_millis(1);

/// The socket.
pub(super) struct Watched {
    /// Watched for what arrives.
    socket: AsyncFd<UdpSocket>,
    /// Whether there is somebody to wait for in `full`, told without the lock.
    is_full: AtomicBool,
    full: Mutex<Option<Arc<Room>>>,
}

/// The room that a send found missing. All who wait for it share one watch, which ends with the last of them.
#[derive(Debug, Default)]
struct Room {
    /// A second descriptor of the socket; none if the system had none.
    watch: OnceLock<Option<AsyncFd<UdpSocket>>>,
}

/// Somebody who waits for room, or will.
#[derive(Default)]
pub(super) struct Waiting(Option<(Arc<Room>, Comes)>);

type Comes = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Watched {
    /// Watches `socket`, which does not block, on the current runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { socket, is_full: AtomicBool::new(false), full: Mutex::default() })
    }

    /// Resolves when something has arrived. It wakes one task only: the last that asked.
    pub(super) fn poll_arrival(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(drop)
    }

    /// Receives by `call`. `WouldBlock` says that nothing is left; so does the error before any call when that is known.
    pub(super) fn receive<R>(&self, call: impl FnOnce(&UdpSocket) -> io::Result<R>) -> io::Result<R> {
        self.socket.try_io(Interest::READABLE, call)
    }

    /// Sends by `call`. After `WouldBlock` there is something to wait for.
    pub(super) fn send<R>(&self, call: impl FnOnce(&UdpSocket) -> io::Result<R>) -> io::Result<R> {
        let result = call(self.socket.get_ref());
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.full().get_or_insert_default();
            self.is_full.store(true, Ordering::Release);
        }
        result
    }

    /// Resolves when there may be room: at once, unless the last send found none. Any number may wait.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, waiting: &mut Waiting) -> Poll<()> {
        while self.is_full.load(Ordering::Acquire) {
            let Some(room) = self.full().clone() else { break };
            let comes = match &mut waiting.0 {
                Some((known, comes)) if Arc::ptr_eq(known, &room) => comes,
                other => &mut other.insert((Arc::clone(&room), self.comes(&room))).1,
            };
            ready!(comes.as_mut().poll(cx));
            self.found(&room);
        }
        waiting.0 = None;
        Poll::Ready(())
    }

    /// Waits until there may be room.
    pub(super) async fn room(&self) {
        let mut waiting = Waiting::default();
        std::future::poll_fn(|cx| self.poll_room(cx, &mut waiting)).await;
    }

    /// Resolves when `room` is there.
    fn comes(&self, room: &Arc<Room>) -> Comes {
        // a new watch is told at once if there is room already
        room.watch.get_or_init(|| {
            let second = self.socket.get_ref().try_clone();
            let watch = second.and_then(|second| watch(second, Interest::WRITABLE));
            watch.inspect_err(|error| tracing::debug!(%error, "cannot watch for room to send")).ok()
        });
        let room = Arc::clone(room);
        Box::pin(async move {
            match room.watch.get() {
                // an error is for the next send to find
                Some(Some(watch)) => drop(watch.writable().await),
                _ => tokio::time::sleep(UNWATCHED).await,
            }
        })
    }

    /// Notes that `room` is there. Those who wait for another one, missing since, go on waiting.
    fn found(&self, room: &Arc<Room>) {
        let mut full = self.full();
        if full.as_ref().is_some_and(|missing| Arc::ptr_eq(missing, room)) {
            *full = None;
            self.is_full.store(false, Ordering::Release);
        }
    }

    fn full(&self) -> MutexGuard<'_, Option<Arc<Room>>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    deprecated,
    reason = "what is unsound is a descriptor that changes or is closed early, and a socket owns its own"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiting").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Handle;
    use tokio::time::timeout;

    fn sockets() -> (Watched, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(far.local_addr().unwrap()).unwrap();
        (Watched::new(socket).unwrap(), far)
    }

    fn blocked(io: &Watched) {
        let error = io.send(|_| Err::<(), _>(io::ErrorKind::WouldBlock.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn what_is_sent_wakes_nobody() {
        let (io, far) = sockets();
        let echo = std::thread::spawn(move || {
            for _ in 0..20 {
                let (_, from) = far.recv_from(&mut [0; 8]).unwrap();
                // by then what was sent has left the buffer, and nobody sleeps who would have been woken by that
                std::thread::sleep(Duration::from_millis(2));
                far.send_to(b"x", from).unwrap();
            }
        });
        let metrics = Handle::current().metrics();
        let before = metrics.worker_park_count(0);
        for _ in 0..20 {
            io.send(|socket| socket.send(b"x")).unwrap();
            std::future::poll_fn(|cx| io.poll_arrival(cx)).await.unwrap();
            io.receive(|socket| socket.recv(&mut [0; 8])).unwrap();
            let nothing = io.receive(|socket| socket.recv(&mut [0; 8]));
            assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        let parks = metrics.worker_park_count(0) - before;
        echo.join().unwrap();
        // one for each that arrives, and one for the registration
        assert!(parks < 30, "parked {parks} times for 20 datagrams");
    }

    #[tokio::test]
    async fn room_is_waited_for_only_after_a_send_that_found_none() {
        let (io, _far) = sockets();
        let mut first = Waiting::default();
        let poll = |waiting: &mut Waiting| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            io.poll_room(&mut cx, waiting)
        };
        assert!(poll(&mut first).is_ready());
        blocked(&io);
        let mut second = Waiting::default();
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        timeout(Duration::from_secs(10), io.room()).await.unwrap();
        // whoever waited finds it too; one who finds it taken again waits again, however often that was
        assert!(poll(&mut first).is_ready() && first.0.is_none());
        blocked(&io);
        blocked(&io);
        assert!(poll(&mut second).is_pending());
        timeout(Duration::from_secs(10), io.room()).await.unwrap();
        assert!(poll(&mut second).is_ready());
    }

    #[tokio::test]
    async fn every_one_who_waits_for_room_is_woken() {
        let (io, _far) = sockets();
        let io = Arc::new(io);
        blocked(&io);
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let io = Arc::clone(&io);
                tokio::spawn(async move { io.room().await })
            })
            .collect();
        for waiting in waiting {
            timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        }
    }
}
