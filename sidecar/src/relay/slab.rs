//! The buffer that all TCP reads of a thread share.
//!
//! A large read hands out its part of the slab without a copy, so that quinn gets big chunks; a small one is copied, so
//! that a few bytes which wait for an acknowledgement do not keep the whole slab.

use bytes::buf::BufMut;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::io;
use tokio::net::TcpStream;

const SLAB: usize = 256 << 10;
/// A read always has at least this much room.
const ROOM: usize = 64 << 10;
/// Reads up to this size are copied.
const COPIED: usize = 4 << 10;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// What `tcp` has to read now, at most `most` bytes; empty at its end.
pub(super) fn try_read(tcp: &TcpStream, most: usize) -> io::Result<Bytes> {
    BUFFER.with_borrow_mut(|slab| {
        if slab.capacity() < ROOM && !slab.try_reclaim(SLAB) {
            *slab = BytesMut::with_capacity(SLAB);
        }
        let count = tcp.try_read_buf(&mut (&mut *slab).limit(most))?;
        if count > COPIED {
            return Ok(slab.split().freeze());
        }
        let copy = Bytes::copy_from_slice(slab);
        slab.clear();
        Ok(copy)
    })
}
