//! The buffer that all TCP reads of a thread share.
//!
//! A large read hands out its part of the slab without a copy, so that quinn gets big chunks; a small one is copied, so
//! that a few bytes which wait for an acknowledgement do not keep the whole slab.

use bytes::buf::BufMut;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use tokio::io::Interest;
use tokio::net::TcpStream;

const SLAB: usize = 256 << 10;
/// A read always has at least this much room.
const ROOM: usize = 64 << 10;
/// Reads up to this size are copied.
const COPIED: usize = 4 << 10;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads once. A read that does not fill its room has taken all there is, so readiness is cleared at once: the next wait does not
/// begin with a system call that finds nothing. What arrives meanwhile makes a new event, which the clearing leaves alone; the
/// end of the connection is never cleared.
fn read(tcp: &TcpStream, slab: &mut BytesMut, most: usize) -> io::Result<usize> {
    let mut slab = slab.limit(most);
    let room = slab.chunk_mut().len();
    let mut result = Err(ErrorKind::WouldBlock.into());
    let cleared: io::Result<()> = tcp.try_io(Interest::READABLE, || {
        result = tcp.try_read_buf(&mut slab);
        match &result {
            Ok(count) if (1..room).contains(count) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    // that it would block is how readiness is cleared
    drop(cleared);
    result
}

/// What `tcp` has to read now, at most `most` bytes; empty at its end.
pub(super) fn try_read(tcp: &TcpStream, most: usize) -> io::Result<Bytes> {
    BUFFER.with_borrow_mut(|slab| {
        if slab.capacity() < ROOM && !slab.try_reclaim(SLAB) {
            *slab = BytesMut::with_capacity(SLAB);
        }
        let count = read(tcp, slab, most)?;
        if count > COPIED {
            return Ok(slab.split().freeze());
        }
        let copy = Bytes::copy_from_slice(slab);
        slab.clear();
        Ok(copy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn is_readable(tcp: &TcpStream) -> bool {
        pin!(tcp.readable()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn a_short_read_leaves_nothing_to_try_and_more_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        for text in [b"one", b"two"] {
            far.write_all(text).await.unwrap();
            near.readable().await.unwrap();
            let got = loop {
                match try_read(&near, usize::MAX) {
                    // an accepted connection is taken for readable until the first event
                    Err(error) if error.kind() == ErrorKind::WouldBlock => near.readable().await.unwrap(),
                    got => break got.unwrap(),
                }
            };
            assert_eq!(got, &text[..]);
            assert!(!is_readable(&near));
        }
        // a read that was bounded may have left something
        far.write_all(b"three").await.unwrap();
        near.readable().await.unwrap();
        assert_eq!(try_read(&near, 2).unwrap(), &b"th"[..]);
        assert!(is_readable(&near));
        assert_eq!(try_read(&near, 10).unwrap(), &b"ree"[..]);
        drop(far);
        near.readable().await.unwrap();
        assert!(try_read(&near, 10).unwrap().is_empty());
    }
}
