//! Messages on QUIC streams.
//!
//! Owns reading and writing whole frames; their layout and their limit of 1 MiB are `causeway-wire`'s.

use crate::error::FrameError;
use bytes::{Bytes, BytesMut};
use causeway_wire::codec::MAX_FRAME;
use causeway_wire::{CodecError, Frame, FrameDecoder, Message};
use quinn::{RecvStream, SendStream};

/// The most bytes taken from quinn at once.
const READ_SIZE: usize = 64 << 10;

/// Reads messages from a stream. Holds at most one frame and 64 KiB after it.
#[derive(Debug)]
pub struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
    decoder: FrameDecoder,
    skipped: u64,
}

impl FrameReader {
    /// A reader at the start of `stream`.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), decoder: FrameDecoder::new(), skipped: 0 }
    }

    /// The next message; `None` when the peer has finished the stream after a whole frame. Frames of kinds and versions that this
    /// release does not know are skipped. Cancel safe: a call that is dropped has lost nothing.
    ///
    /// # Errors
    /// After an error the stream is of no more use.
    pub async fn next<M: Message>(&mut self) -> Result<Option<M>, FrameError> {
        loop {
            while let Some(frame) = self.cut()? {
                if let Some(message) = M::from_frame(&frame)? {
                    return Ok(Some(message));
                }
                self.skipped += 1;
                tracing::debug!(kind = frame.kind, version = frame.version, "skipped an unknown message");
            }
            match self.stream.read_chunk(READ_SIZE, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Truncated),
            }
        }
    }

    /// The next frame, once all of it is in the buffer. What follows it stays there.
    fn cut(&mut self) -> Result<Option<Frame>, CodecError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let whole = 4 + u64::from(u32::from_be_bytes(*head));
        // a length that no frame has is given to the decoder at once: it says what is wrong
        let take = usize::try_from(whole).ok().filter(|&whole| whole <= MAX_FRAME).unwrap_or(4);
        if self.buffer.len() < take {
            return Ok(None);
        }
        self.decoder.push(&self.buffer.split_to(take));
        self.decoder.next_frame()
    }

    /// How many frames were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The stream, and the bytes that were read beyond the last message: they come first.
    pub fn into_inner(self) -> (RecvStream, Bytes) {
        (self.stream, self.buffer.freeze())
    }
}

/// Writes messages to a stream.
#[derive(Debug)]
pub struct FrameWriter {
    stream: SendStream,
}

impl FrameWriter {
    /// A writer on `stream`.
    pub fn new(stream: SendStream) -> Self {
        Self { stream }
    }

    /// Writes `message`; returns when quinn has taken all of it. Not cancel safe: a call that is dropped may leave half a frame,
    /// after which the stream can only be reset.
    ///
    /// # Errors
    /// [`FrameError::Codec`] leaves the stream as it was; after any other it is of no more use.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        Ok(self.stream.write_chunk(message.to_frame()?).await?)
    }

    /// Says that no message follows.
    ///
    /// # Errors
    /// [`FrameError::Closed`] if that was said before.
    pub fn finish(&mut self) -> Result<(), FrameError> {
        Ok(self.stream.finish()?)
    }

    /// The stream, to reset it or to write what is no message.
    pub fn get_mut(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// The stream.
    pub fn into_inner(self) -> SendStream {
        self.stream
    }
}
