//! The handle of a running relay.

use crate::flows::{self, Flows};
use crate::pipe::Pipe;
use crate::worker::{self, Worker};
use crate::{Counters, Direction, Impairment, RelayError};
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Source addresses that a relay serves at the same time.
const MAX_FLOWS: usize = 1024;

/// What the handle and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    forward: Mutex<Pipe>,
    back: Mutex<Pipe>,
    stop: AtomicBool,
    wake: OwnedFd,
}

impl Shared {
    /// The pipe of a direction, held. The thread holds it while it receives or sends a batch, so what was sent to the
    /// relay after `Relay::set` returned meets the new settings.
    pub(crate) fn pipe(&self, direction: Direction) -> MutexGuard<'_, Pipe> {
        let pipe = match direction {
            Direction::Forward => &self.forward,
            Direction::Back => &self.back,
        };
        pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A running relay. Dropping it stops its thread, closes its sockets and forgets what is on its way.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts to relay what arrives at `listen` (port 0 chooses one) to `target`, and its answers back, on a thread of
    /// its own. The two directions draw from `seed`, each a sequence of its own.
    ///
    /// # Errors
    /// If the address cannot be bound, or descriptors are exhausted.
    pub fn start(
        listen: SocketAddr,
        target: SocketAddr,
        forward: Impairment,
        back: Impairment,
        seed: u64,
    ) -> Result<Self, RelayError> {
        let bind = |source| RelayError::Bind { address: listen, source };
        let socket = flows::prepared(listen).map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| RelayError::Setup { what: "eventfd", source: errno.into() })?;
        let epoll =
            prepare_epoll(&socket, &wake).map_err(|source| RelayError::Setup { what: "epoll", source })?;
        let shared = Arc::new(Shared {
            forward: Mutex::new(Pipe::new(forward, seed)),
            back: Mutex::new(Pipe::new(back, !seed)),
            stop: AtomicBool::new(false),
            wake,
        });
        let flows = Flows::new(target, MAX_FLOWS, worker::FIRST_FLOW);
        let worker = Worker::new(socket, epoll, flows, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name(format!("wan-{}", address.port()))
            .spawn(move || worker.run())
            .map_err(|source| RelayError::Setup { what: "a thread", source })?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Changes what a direction does. What is sent to the relay after this returns meets the new settings; what is on
    /// its way keeps the time at which it is due, and is lost if the new setting is a cut.
    pub fn set(&self, direction: Direction, impairment: Impairment) {
        self.shared.pipe(direction).set(impairment);
    }

    /// What a direction does now.
    pub fn impairment(&self, direction: Direction) -> Impairment {
        self.shared.pipe(direction).impairment()
    }

    /// What a direction has done since the start.
    pub fn counters(&self, direction: Direction) -> Counters {
        self.shared.pipe(direction).counters()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // an eventfd refuses a write only when it is signalled already
        let _signalled = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _panic_was_printed = thread.join();
        }
    }
}

fn prepare_epoll(listen: &UdpSocket, wake: &OwnedFd) -> io::Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&epoll, listen, epoll::EventData::new_u64(worker::LISTEN), readable)?;
    epoll::add(&epoll, wake, epoll::EventData::new_u64(worker::WAKE), readable)?;
    Ok(epoll)
}
