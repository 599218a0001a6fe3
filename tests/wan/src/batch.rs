//! Many datagrams a system call: receiving with `recvmmsg` and GRO, sending with GSO.
//!
//! The one module of this crate with `unsafe` in it.
#![allow(unsafe_code)]

use socket2::{SockAddr, SockAddrStorage};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::{mem, ptr};

/// Messages that one call receives at most.
const MESSAGES: usize = 16;
const VECTOR_LENGTH: libc::c_uint = 16;
/// The largest message, with GRO too.
const MESSAGE_SIZE: usize = 65_536;
/// Room for one control message with an integer in it, aligned as `cmsghdr` is: 16 + 8 bytes.
type Control = [u64; 3];

/// Asks the kernel to hand over runs of equal datagrams as one message. A kernel without it is slower, not wrong.
pub(crate) fn enable_gro(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    let size = socklen(mem::size_of_val(&on));
    // SAFETY: the descriptor is open while `socket` is borrowed, and the option reads `size` bytes of `on`.
    let _refused = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, (&raw const on).cast(), size)
    };
}

/// A received message: one datagram, or a run of them of `segment` bytes each, of which the last may be shorter.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Who sent it.
    pub(crate) source: SocketAddr,
    /// The bytes of all its datagrams.
    pub(crate) data: &'a [u8],
    /// The size of each datagram but the last.
    segment: usize,
}

impl<'a> Message<'a> {
    /// The datagrams of the message; an empty one is a datagram too.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty = self.data.is_empty().then_some(self.data);
        empty.into_iter().chain(self.data.chunks(self.segment.max(1)))
    }

    /// How many `datagrams` gives.
    pub(crate) fn count(&self) -> u64 {
        self.data.len().div_ceil(self.segment.max(1)).max(1) as u64
    }
}

/// What the kernel said of one message.
#[derive(Debug, Clone, Copy)]
struct Received {
    source: Option<SocketAddr>,
    length: usize,
    segment: usize,
}

/// The buffers of receiving.
pub(crate) struct Receiver {
    data: Box<[u8]>,
    names: Vec<SockAddrStorage>,
    received: Vec<Received>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            data: vec![0; MESSAGES * MESSAGE_SIZE].into(),
            names: (0..MESSAGES).map(|_| SockAddrStorage::zeroed()).collect(),
            received: Vec::with_capacity(MESSAGES),
        }
    }

    /// Receives what is there, without waiting, in place of what was received before; false if that was nothing.
    ///
    /// # Errors
    /// What the socket reports, which may be the answer to an earlier send. `WouldBlock` is not an error here.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.received.clear();
        // SAFETY: both are integers and pointers, for which all zeros is a value.
        let (mut headers, mut vectors): ([libc::mmsghdr; MESSAGES], [libc::iovec; MESSAGES]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut controls: [Control; MESSAGES] = [[0; 3]; MESSAGES];
        let parts = self.data.chunks_exact_mut(MESSAGE_SIZE).zip(&mut self.names).zip(&mut controls);
        for ((header, vector), ((data, name), control)) in headers.iter_mut().zip(&mut vectors).zip(parts) {
            *vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = name.size_of();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = mem::size_of::<Control>();
        }
        // SAFETY: every pointer set above is into `self`, `vectors` or `controls`, which outlive the call and are not
        // touched during it, and comes with the length of what it points to; `headers` holds `MESSAGES` headers.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                VECTOR_LENGTH,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) };
        };
        for ((header, control), name) in headers.iter().zip(&controls).zip(&self.names).take(count) {
            let length = header.msg_len as usize;
            let segment = gro_segment(control, header.msg_hdr.msg_controllen).unwrap_or(length);
            let source = source_of(name, header.msg_hdr.msg_namelen);
            self.received.push(Received { source, length, segment });
        }
        Ok(count > 0)
    }

    /// What the last `receive` received. A message without an IP address as its source is left out.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.received.iter().zip(self.data.chunks_exact(MESSAGE_SIZE)).filter_map(|(received, data)| {
            Some(Message {
                source: received.source?,
                data: data.get(..received.length)?,
                segment: received.segment,
            })
        })
    }
}

/// The address that the kernel wrote into `name`.
fn source_of(name: &SockAddrStorage, length: libc::socklen_t) -> Option<SocketAddr> {
    // SAFETY: plain bytes, of which any value may be copied; the kernel wrote family, content and length to match.
    let address = unsafe { SockAddr::new(ptr::read(name), length) };
    address.as_socket()
}

/// The size of the segments, from the control message `UDP_GRO` if it is there.
fn gro_segment(control: &Control, length: usize) -> Option<usize> {
    let mut bytes = [0u8; mem::size_of::<Control>()];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(control) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    let bytes = bytes.get(..length)?;
    let field = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    // the length of a `cmsghdr` takes 8 bytes, its level and type 4 each, and the value follows
    (field(8)? == libc::SOL_UDP && field(12)? == libc::UDP_GRO).then_some(())?;
    usize::try_from(field(16)?).ok().filter(|segment| *segment > 0)
}

/// Sends `parts` as a datagram each, in one call: all of `segment` bytes, the last not longer. A connected socket takes
/// no address. The caller keeps the whole at or under 64 parts and 65,000 bytes, which is what GSO carries.
///
/// # Errors
/// What the system says; then nothing was sent.
pub(crate) fn send(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    parts: &[IoSlice<'_>],
    segment: usize,
) -> io::Result<()> {
    let to = to.map(SockAddr::from);
    // SAFETY: integers and pointers, for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    let mut control: Control = [0; 3];
    if let Some(to) = &to {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
    }
    // `IoSlice` has the layout of `iovec` by its documentation
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len();
    if parts.len() > 1 {
        fill_gso(&mut control, segment)?;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of::<Control>();
    }
    // SAFETY: `sendmsg` reads only, and what the header points to (`to`, `parts`, `control`) outlives the call with the
    // lengths given.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the control message `UDP_SEGMENT`: a `cmsghdr` (its length in 8 bytes, level and type in 4 each) and a `u16`.
fn fill_gso(control: &mut Control, segment: usize) -> io::Result<()> {
    let segment = u16::try_from(segment).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut bytes = [0u8; mem::size_of::<Control>()];
    bytes[..8].copy_from_slice(&18u64.to_ne_bytes());
    bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    bytes[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    bytes[16..18].copy_from_slice(&segment.to_ne_bytes());
    for (word, chunk) in control.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
    }
    Ok(())
}

fn socklen(size: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(size).unwrap_or(libc::socklen_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_out_in_one_call_and_arrives_as_its_datagrams() {
        for gro in [false, true] {
            let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
            if gro {
                enable_gro(&b);
            }
            let (one, two, short) = ([1u8; 1200], [2u8; 1200], [3u8; 7]);
            let parts = [IoSlice::new(&one), IoSlice::new(&two), IoSlice::new(&short)];
            send(&a, Some(b.local_addr().unwrap()), &parts, 1200).unwrap();
            let mut receiver = Receiver::new();
            // over loopback a sent datagram is in the receiver's queue when the call returns
            assert!(receiver.receive(&b).unwrap());
            let got: Vec<&[u8]> = receiver.messages().flat_map(|m| m.datagrams()).collect();
            assert_eq!(got, [&one[..], &two[..], &short[..]], "gro {gro}");
            assert_eq!(receiver.messages().map(|m| m.count()).sum::<u64>(), 3);
            assert!(receiver.messages().all(|m| m.source == a.local_addr().unwrap()));
            assert!(!receiver.receive(&b).unwrap());
        }
    }

    #[test]
    fn an_empty_datagram_is_one() {
        let (a, b) = (UdpSocket::bind("[::1]:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        send(&a, None, &[IoSlice::new(&[])], 0).unwrap();
        let mut receiver = Receiver::new();
        assert!(receiver.receive(&b).unwrap());
        assert_eq!(receiver.messages().flat_map(|m| m.datagrams()).collect::<Vec<_>>(), [&[] as &[u8]]);
        assert_eq!(receiver.messages().map(|m| m.count()).sum::<u64>(), 1);
    }
}
