//! Questions over TCP (RFC 7766): several at a time on a connection, answers in the order in which they are known.

use crate::config::Limits;
use crate::handler::{Handler, Step};
use crate::question::Transport;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest question that is read, in bytes.
const QUESTION: usize = 4096;
/// The pause after a connection could not be taken: descriptors do not come back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What the listeners of a server share.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    handler: Arc<Handler>,
    connections: Arc<Semaphore>,
    idle: Duration,
    pipeline: usize,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    pub(super) fn new(
        handler: &Arc<Handler>,
        limits: &Limits,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        Self {
            handler: Arc::clone(handler),
            connections: Arc::new(Semaphore::new(limits.tcp_connections)),
            idle: limits.tcp_idle,
            pipeline: limits.tcp_pipeline,
            stop: stop.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Takes connections until the server stops.
    pub(super) async fn serve(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.take(stream),
                Err(error) => {
                    tracing::warn!(%error, "a DNS connection cannot be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.handler.metrics.refuse("tcp-connections");
            return;
        };
        let this = self.clone();
        self.tasks.spawn(async move { this.connection(stream, permit).await });
    }

    async fn connection(self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        self.handler.metrics.tcp_open.inc();
        let (reader, writer) = stream.into_split();
        let (answers, queue) = mpsc::channel(self.pipeline);
        let ended = tokio::join!(self.read(reader, answers), write(writer, queue, self.idle));
        if let (Err(error), _) | (_, Err(error)) = ended {
            tracing::debug!(%error, "a DNS connection ended early");
        }
        self.handler.metrics.tcp_open.dec();
        drop(permit);
    }

    /// Reads questions until the connection ends, is silent for too long, or the server stops. Those that wait hold a
    /// sender, so the writer ends after them.
    async fn read(&self, mut reader: OwnedReadHalf, answers: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
        let pipeline = Arc::new(Semaphore::new(self.pipeline));
        let mut packet = vec![0; QUESTION];
        loop {
            let Ok(slot) = Arc::clone(&pipeline).acquire_owned().await else { return Ok(()) };
            let len = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = answers.closed() => return Ok(()),
                read = tokio::time::timeout(self.idle, read_question(&mut reader, &mut packet)) => match read {
                    Ok(Ok(Some(len))) => len,
                    Ok(Ok(None)) | Err(_) => return Ok(()),
                    Ok(Err(error)) => return Err(error),
                },
            };
            let mut out = Vec::new();
            match self.handler.begin(&packet[..len], Transport::Tcp, &mut out) {
                Step::Send => {
                    if answers.send(out).await.is_err() {
                        return Ok(());
                    }
                }
                Step::Drop => return Ok(()),
                Step::Wait(waiting) => {
                    let (handler, answers) = (Arc::clone(&self.handler), answers.clone());
                    self.tasks.spawn(async move {
                        if handler.finish(*waiting, &mut out).await {
                            // an asker that has gone needs no answer
                            let _ = answers.send(out).await;
                        }
                        drop(slot);
                    });
                }
            }
        }
    }
}

/// Reads one message; nothing at the end of the connection.
async fn read_question(reader: &mut OwnedReadHalf, packet: &mut [u8]) -> io::Result<Option<usize>> {
    let len = match reader.read_u16().await {
        Ok(len) => usize::from(len),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(packet) = packet.get_mut(..len) else {
        return Err(io::Error::other(format!("a question of {len} bytes is longer than {QUESTION}")));
    };
    reader.read_exact(packet).await?;
    Ok(Some(len))
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(answer) = queue.recv().await {
        // answers are bounded by what a length of two bytes can say
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let message = [&len.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(patience, writer.write_all(&message)).await??;
    }
    writer.shutdown().await
}
