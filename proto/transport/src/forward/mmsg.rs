//! `sendmmsg(2)` with GSO and ECN over borrowed buffers: the unsafe part of the forwarding sockets.
//!
//! quinn-udp sends one message of one contiguous buffer a call. A gateway gathers runs of many receive buffers into
//! one message, and many messages into one call: that is half of what a packet costs it.
#![allow(unsafe_code, reason = "sendmmsg takes pointers; each block says why its pointers are valid")]

use super::ForwardSocket;
use super::send::{SEARCH, Sent, room};
use quinn_udp::EcnCodepoint;
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;

/// Room for an ECN mark (int) and a segment size (u16), each with its header and padding, aligned as `cmsghdr`.
type Control = [u64; 8];

/// One message to be sent.
struct Outgoing {
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    /// The size of each datagram but the last, in bytes.
    size: usize,
    bytes: usize,
    segments: usize,
    /// A shorter datagram was added: nothing may follow it.
    closed: bool,
    parts: Vec<libc::iovec>,
}

/// The messages of a batch and the arrays that the system call wants. All memory is kept between batches.
#[derive(Default)]
pub(super) struct Messages {
    slots: Vec<Outgoing>,
    used: usize,
    addrs: Vec<SockAddr>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in `slots` and `headers` are only read between `begin` and `flush` of one `SendBatch`, whose lifetime
// keeps the buffers alive; between batches nobody reads them, so the memory may move to another thread.
unsafe impl Send for Messages {}

impl Messages {
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds as much of `run` as fits to the newest message for `to`; returns how many bytes.
    pub(super) fn extend_open(
        &mut self,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        run: &[u8],
        stride: usize,
    ) -> usize {
        let newest = self.slots[..self.used].iter_mut().rev().take(SEARCH).find(|message| message.to == to);
        let Some(message) = newest else { return 0 };
        let first = run.len().min(stride);
        let fits = first == message.size || (first < message.size && run.len() <= stride);
        if message.closed || message.ecn != ecn || !fits {
            return 0;
        }
        let take = run.len().min(room(message.segments, message.bytes, message.size) * stride);
        if take > 0 {
            message.add(&run[..take], stride);
        }
        take
    }

    /// Starts a message with `run`, which fits in one.
    pub(super) fn start(&mut self, to: SocketAddr, ecn: Option<EcnCodepoint>, run: &[u8], stride: usize) {
        if self.used == self.slots.len() {
            self.slots.push(Outgoing {
                to,
                ecn,
                size: 0,
                bytes: 0,
                segments: 0,
                closed: false,
                parts: Vec::new(),
            });
        }
        let message = &mut self.slots[self.used];
        self.used += 1;
        (message.to, message.ecn, message.size) = (to, ecn, run.len().min(stride));
        (message.bytes, message.segments, message.closed) = (0, 0, false);
        message.parts.clear();
        message.add(run, stride);
    }

    pub(super) fn send(&mut self, socket: &ForwardSocket) -> Sent {
        self.prepare(socket);
        let mut sent = Sent::default();
        let mut at = 0;
        while at < self.used {
            match self.call(socket, at) {
                Ok(count) => {
                    for message in &self.slots[at..at + count] {
                        sent.datagrams += message.segments as u64;
                        sent.messages += 1;
                    }
                    at += count;
                }
                Err(error) => {
                    let (datagrams, lost) = self.slots[at].singly(socket, &error);
                    (sent.datagrams, sent.lost, sent.messages) =
                        (sent.datagrams + datagrams, sent.lost + lost, sent.messages + datagrams);
                    at += 1;
                }
            }
        }
        sent
    }

    fn prepare(&mut self, socket: &ForwardSocket) {
        self.addrs.clear();
        self.controls.clear();
        self.controls.resize(self.used, [0; 8]);
        self.headers.clear();
        for message in &self.slots[..self.used] {
            self.addrs.push(socket.wire_addr(message.to).into());
        }
        for ((message, addr), control) in
            self.slots[..self.used].iter_mut().zip(&self.addrs).zip(&mut self.controls)
        {
            self.headers.push(message.header(addr, control));
        }
    }

    /// Sends the messages from `at` on; returns how many the kernel took, at least one.
    fn call(&mut self, socket: &ForwardSocket, at: usize) -> io::Result<usize> {
        let headers = &mut self.headers[at..];
        let count = libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: `headers` holds `count` initialised messages; their names, parts and controls point into `addrs`,
        // `slots` and `controls`, none of which changed since `prepare`, and the parts' buffers are borrowed by the batch.
        let result =
            unsafe { libc::sendmmsg(socket.raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        match usize::try_from(result) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(sent) => Ok(sent),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Outgoing {
    fn add(&mut self, run: &[u8], stride: usize) {
        self.parts.push(libc::iovec { iov_base: run.as_ptr().cast_mut().cast(), iov_len: run.len() });
        self.bytes += run.len();
        self.segments += run.len().div_ceil(stride);
        self.closed = !self.bytes.is_multiple_of(self.size.max(1));
    }

    fn header(&mut self, addr: &SockAddr, control: &mut Control) -> libc::mmsghdr {
        // SAFETY: all fields of mmsghdr are integers and pointers, for which zero is a value
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let message = &mut header.msg_hdr;
        message.msg_name = addr.as_ptr().cast_mut().cast();
        message.msg_namelen = addr.len();
        message.msg_iov = self.parts.as_mut_ptr();
        message.msg_iovlen = self.parts.len() as _;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = std::mem::size_of::<Control>() as _;
        let v4 = self.to.is_ipv4();
        let (level, kind) =
            if v4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        let mark = self.ecn.map_or(0, |ecn| ecn as libc::c_int);
        // SAFETY: `control` has room for both entries (asserted below by their sizes) and is aligned as u64
        let used = unsafe {
            let first = libc::CMSG_FIRSTHDR(message);
            let mut used = put(first, level, kind, mark);
            if self.segments > 1 {
                let size = u16::try_from(self.size).unwrap_or(u16::MAX);
                used += put(libc::CMSG_NXTHDR(message, first), libc::SOL_UDP, libc::UDP_SEGMENT, size);
            }
            used
        };
        message.msg_controllen = used as _;
        header
    }

    /// Sends the datagrams one by one after the message failed with `error`, where that can help. Returns how many left and
    /// how many did not.
    fn singly(&self, socket: &ForwardSocket, error: &io::Error) -> (u64, u64) {
        // a device without checksum offload refuses GSO with EIO, an old kernel with EINVAL
        let gso_refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) && self.segments > 1;
        if !gso_refused {
            return (0, self.segments as u64);
        }
        let (mut left, mut lost) = (0, 0);
        for part in &self.parts {
            // SAFETY: the part was made from a slice that the batch still borrows
            let run =
                unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>().cast_const(), part.iov_len) };
            for datagram in run.chunks(self.size.max(1)) {
                match socket.send_to(datagram, self.to) {
                    Ok(()) => left += 1,
                    Err(_) => lost += 1,
                }
            }
        }
        (left, lost)
    }
}

/// Writes one control message; returns the room it takes.
///
/// # Safety
/// `at` is null, or points to `CMSG_SPACE(size_of::<T>())` writable bytes aligned as `cmsghdr`.
unsafe fn put<T>(at: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = libc::c_uint::try_from(std::mem::size_of::<T>()).unwrap_or(0);
    if at.is_null() {
        return 0;
    }
    // SAFETY: as promised by the caller
    unsafe {
        (*at).cmsg_level = level;
        (*at).cmsg_type = kind;
        (*at).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(at).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(size) as usize
    }
}
