//! The TCP side of a relay.

use super::slab;
use bytes::{Buf, Bytes};
use libc::MSG_MORE;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How many chunks go into one `writev`.
pub(super) const VECTORS: usize = 64;

/// The next bytes, empty at the end. Cancel safe, and holds no memory while it waits.
pub(super) async fn read(tcp: &TcpStream) -> io::Result<Bytes> {
    read_most(tcp, usize::MAX).await
}

/// [`read`] of at most `most` bytes.
pub(crate) async fn read_most(tcp: &TcpStream, most: usize) -> io::Result<Bytes> {
    loop {
        tcp.readable().await?;
        match slab::try_read(tcp, most) {
            Err(error) if again(&error) => {}
            result => return result,
        }
    }
}

/// What comes after what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// Nobody knows: it is sent at once.
    Perhaps,
    /// [`finish`] follows without delay, and shall share the last segment.
    No,
}

/// Writes all of `chunks`, which are empty afterwards.
pub(super) async fn write_all(tcp: &TcpStream, chunks: &mut [Bytes], more: More) -> io::Result<()> {
    let mut rest = chunks;
    loop {
        let done = rest.iter().take_while(|chunk| chunk.is_empty()).count();
        rest = &mut rest[done..];
        if rest.is_empty() {
            return Ok(());
        }
        match try_write(tcp, rest, more) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => advance(rest, count),
            Err(error) if again(&error) => tcp.writable().await?,
            Err(error) => return Err(error),
        }
    }
}

fn try_write(tcp: &TcpStream, chunks: &[Bytes], more: More) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); VECTORS];
    let mut count = 0;
    for (slice, chunk) in slices.iter_mut().zip(chunks) {
        *slice = IoSlice::new(chunk);
        count += 1;
    }
    match more {
        More::Perhaps => tcp.try_write_vectored(&slices[..count]),
        More::No => tcp.try_io(Interest::WRITABLE, || {
            SockRef::from(tcp).send_vectored_with_flags(&slices[..count], MSG_MORE)
        }),
    }
}

/// Takes the first `count` bytes off `chunks`.
fn advance(chunks: &mut [Bytes], mut count: usize) {
    for chunk in chunks {
        let part = count.min(chunk.len());
        if part == chunk.len() {
            *chunk = Bytes::new();
        } else {
            chunk.advance(part);
        }
        count -= part;
        if count == 0 {
            return;
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Says that nothing follows.
pub(super) fn finish(tcp: &TcpStream) {
    // an error means that the connection is gone, which the other half is told
    let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
}

/// Makes the connection end in a reset when it is dropped.
pub(crate) fn reset(tcp: &TcpStream) {
    // an error means that there is nothing left to reset
    let _ = tcp.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn advancing_takes_bytes_off_the_front(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10), cut in 0.0f64..=1.0
        ) {
            let all = chunks.concat();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a short length")]
            let count = (all.len() as f64 * cut) as usize;
            let mut parts: Vec<Bytes> = chunks.into_iter().map(Bytes::from).collect();
            advance(&mut parts, count);
            prop_assert_eq!(parts.concat(), &all[count..]);
        }
    }
}
