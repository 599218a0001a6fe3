//! The QUIC side of a relay: a stream that resets itself when it is dropped, and reads that hold no memory while they wait.

use super::End;
use super::tcp::VECTORS;
use bytes::Bytes;
use causeway_transport::{
    FrameError, ReadError, ReadExactError, RecvStream, ResetError, SendStream, VarInt, WriteError,
};
use causeway_wire::codec::FRAME_HEADER;
use causeway_wire::{CloseCode, CodecError, FrameDecoder, Message};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Frames of another release that are skipped before the peer is given up.
const SKIPPED: usize = 8;

/// Both halves of a stream. Unless it [ended well](Stream::done), dropping it resets both: quinn would finish the sending half, and
/// the peer would take what it got so far for all.
#[derive(Debug)]
pub(crate) struct Stream {
    send: SendStream,
    recv: RecvStream,
    ended: bool,
}

impl Stream {
    pub(crate) fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, ended: false }
    }

    pub(crate) fn halves(&mut self) -> (&mut SendStream, &mut RecvStream) {
        (&mut self.send, &mut self.recv)
    }

    /// Gives both halves up.
    pub(crate) fn abort(&mut self, code: CloseCode) {
        let code = VarInt::from_u32(code.code());
        // a half that is already closed has nothing to give up
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
        self.ended = true;
    }

    /// Stops reading and sends what was written, after which nothing follows.
    pub(crate) fn refuse(&mut self, code: CloseCode) {
        let _ = self.send.finish();
        let _ = self.recv.stop(VarInt::from_u32(code.code()));
        self.ended = true;
    }

    /// Waits until the peer has all that was written; the stream has ended well. Without this the end of a connection could
    /// overtake the last bytes.
    pub(crate) async fn done(mut self) {
        self.ended = true;
        // an error means that the connection is gone, and nothing is left to wait for
        let _ = self.send.stopped().await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.abort(CloseCode::TcpReset);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Bytes>> = RefCell::new(vec![Bytes::new(); VECTORS]);
}

/// The chunks that have arrived, at least one; `None` at the end. Cancel safe.
pub(super) async fn read_ready(recv: &mut RecvStream) -> Result<Option<Vec<Bytes>>, ReadError> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            // the future holds nothing but the two borrows: dropping it while it waits loses nothing
            let read = pin!(recv.read_chunks(scratch)).poll(cx);
            read.map_ok(|count| {
                count.map(|count| scratch.iter_mut().take(count).map(std::mem::take).collect())
            })
        })
    })
    .await
}

/// What follows what was read.
#[derive(Debug)]
pub(super) enum Next {
    /// That is not known yet.
    Unknown,
    /// Nothing: the peer said all.
    End,
    /// The peer reset the stream, or the connection is gone. quinn would not tell it twice.
    Failed(ReadError),
}

/// What follows `chunks`, as far as it is known without waiting; more of them are added.
pub(super) async fn look(recv: &mut RecvStream, chunks: &mut Vec<Bytes>) -> Next {
    poll_fn(|cx| {
        Poll::Ready(match pin!(read_ready(recv)).poll(cx) {
            Poll::Pending => Next::Unknown,
            Poll::Ready(Ok(Some(more))) => {
                chunks.extend(more);
                Next::Unknown
            }
            Poll::Ready(Ok(None)) => Next::End,
            Poll::Ready(Err(error)) => Next::Failed(error),
        })
    })
    .await
}

/// What is left of a stream whose connection is gone, if it had arrived to the end.
pub(super) async fn read_all(recv: &mut RecvStream) -> Result<Vec<Bytes>, ReadError> {
    let mut all = Vec::new();
    while let Some(chunks) = read_ready(recv).await? {
        all.extend(chunks);
    }
    Ok(all)
}

/// Resolves when the peer has reset the stream, or the connection is gone; never if all was read. Cancel safe.
pub(super) async fn ended(recv: &mut RecvStream) -> End {
    match recv.received_reset().await {
        Ok(Some(code)) => End::Stream(code.into_inner()),
        Err(ResetError::ConnectionLost(error)) => error.into(),
        Ok(None) | Err(_) => pending().await,
    }
}

/// Whether the peer still reads, without waiting.
pub(super) async fn check(send: &mut SendStream) -> Result<(), WriteError> {
    poll_fn(|cx| match pin!(send.write_chunks(&mut [])).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        // for want of room, or with nothing written
        _ => Poll::Ready(Ok(())),
    })
    .await
}

/// The next message, which with its header may have at most `most` bytes; nothing behind it is read. Not cancel safe.
pub(crate) async fn read_frame<M: Message>(recv: &mut RecvStream, most: usize) -> Result<M, FrameError> {
    for _ in 0..SKIPPED {
        let mut head = [0; 4];
        read_exact(recv, &mut head).await?;
        let rest = u32::from_be_bytes(head);
        let length = usize::try_from(rest)
            .ok()
            .filter(|rest| (FRAME_HEADER - 4..=most.saturating_sub(4)).contains(rest));
        let length = length.ok_or(CodecError::Length(u64::from(rest) + 4))?;
        let mut body = vec![0; length];
        read_exact(recv, &mut body).await?;
        let mut decoder = FrameDecoder::new();
        decoder.push(&head);
        decoder.push(&body);
        let frame = decoder.next_frame()?.ok_or(FrameError::Truncated)?;
        if let Some(message) = M::from_frame(&frame)? {
            return Ok(message);
        }
    }
    Err(FrameError::Truncated)
}

async fn read_exact(recv: &mut RecvStream, buffer: &mut [u8]) -> Result<(), FrameError> {
    recv.read_exact(buffer).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => FrameError::Truncated,
        ReadExactError::ReadError(error) => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(_: &T) {}

    #[test]
    fn reads_may_move_between_threads() {
        // compiles: the scratch buffer is borrowed within a poll only
        fn check(recv: &mut RecvStream) {
            sendable(&read_ready(recv));
        }
        let _ = check;
    }
}
