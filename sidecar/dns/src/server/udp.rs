//! Questions in datagrams. What is known is answered by the loop that reads.

use crate::handler::{Handler, Step, Waiting};
use crate::question::Transport;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest question that is read; a sensible one has less than 600 bytes.
const DATAGRAM: usize = 4096;
/// Datagrams that are read before other tasks have their turn.
const BATCH: usize = 64;
/// The pause after an error of the socket, so that one that stays does not take a core.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes to `socket` until `stop`.
pub(super) async fn serve(
    handler: Arc<Handler>,
    socket: Arc<UdpSocket>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let mut loops =
        Loop { handler, socket, tasks, packet: vec![0; DATAGRAM], out: Vec::with_capacity(DATAGRAM) };
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let ready = tokio::select! {
            biased;
            () = &mut stopped => return,
            ready = loops.socket.readable() => ready,
        };
        let read = match ready {
            Ok(()) => loops.read_batch().await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::warn!(%error, "a DNS socket fails");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Loop {
    handler: Arc<Handler>,
    socket: Arc<UdpSocket>,
    tasks: TaskTracker,
    packet: Vec<u8>,
    out: Vec<u8>,
}

impl Loop {
    async fn read_batch(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            let (len, from) = match self.socket.try_recv_from(&mut self.packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match self.handler.begin(&self.packet[..len], Transport::Udp, &mut self.out) {
                Step::Send => send(&self.socket, &self.out, from).await,
                Step::Drop => {}
                Step::Wait(waiting) => self.wait(*waiting, from),
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn wait(&self, waiting: Waiting, from: SocketAddr) {
        let (handler, socket) = (Arc::clone(&self.handler), Arc::clone(&self.socket));
        self.tasks.spawn(async move {
            let mut out = Vec::new();
            if handler.finish(waiting, &mut out).await {
                send(&socket, &out, from).await;
            }
        });
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    let sent = match socket.try_send_to(answer, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send_to(answer, to).await,
        sent => sent,
    };
    // the asker's address may be one that nothing can be sent to; it asks again
    if let Err(error) = sent {
        tracing::debug!(%error, %to, "a DNS answer cannot be sent");
    }
}
