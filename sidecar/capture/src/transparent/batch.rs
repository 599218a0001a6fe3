//! `recvmmsg(2)` with the original destination of each datagram: the unsafe part of this crate, which is the calls themselves. What
//! the kernel wrote is read as bytes.
#![allow(
    unsafe_code,
    reason = "recvmmsg and two socket options take pointers; each block says why its pointers are valid"
)]

use causeway_model::Vip;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many datagrams one call takes at most.
const SLOTS: usize = 16;
/// More than the largest datagram. Pages that nothing was ever written to take no memory.
const ROOM: usize = 65_536;
/// `sockaddr_in6`, the largest address.
const NAME: usize = 28;
/// One control message with an address: a header of 16 bytes (12 with 32 bits), 28 bytes, padding.
const CONTROL: usize = 64;

/// What one call took in. The memory is kept between calls.
pub struct Batch {
    payloads: Vec<u8>,
    names: [[u8; NAME]; SLOTS],
    controls: [[u8; CONTROL]; SLOTS],
    /// The bytes of payload and of control messages of each datagram.
    lengths: [(usize, usize); SLOTS],
    used: usize,
}

/// A redirected datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What it carries.
    pub payload: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom it was for.
    pub original: SocketAddr,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().map(|datagram| (datagram.source, datagram.original))).finish()
    }
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            payloads: vec![0; SLOTS * ROOM],
            names: [[0; NAME]; SLOTS],
            controls: [[0; CONTROL]; SLOTS],
            lengths: [(0, 0); SLOTS],
            used: 0,
        }
    }

    /// The datagrams to virtual addresses, in the order of arrival. What was sent straight to the socket is left out: it was
    /// never meant for the mesh.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.all().filter(|datagram| Vip::contains(datagram.original.ip()))
    }

    /// Every datagram of which source and destination are known.
    pub(super) fn all(&self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self.payloads.chunks_exact(ROOM).zip(&self.names).zip(&self.controls).zip(&self.lengths);
        slots.take(self.used).filter_map(|(((payload, name), control), &(length, control_length))| {
            Some(Datagram {
                payload: payload.get(..length)?,
                source: address(name)?,
                original: destination(control.get(..control_length)?)?,
            })
        })
    }

    /// Takes what waits at `socket`, at least one datagram.
    ///
    /// # Errors
    /// `WouldBlock` if nothing waits, or what the system says.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.used = 0;
        let mut parts: [libc::iovec; SLOTS] =
            std::array::from_fn(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: ROOM });
        // SAFETY: all fields of mmsghdr are integers and pointers, for which zero is a value
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { std::mem::zeroed() };
        for (index, payload) in self.payloads.chunks_exact_mut(ROOM).enumerate() {
            parts[index].iov_base = payload.as_mut_ptr().cast();
            let message = &mut headers[index].msg_hdr;
            message.msg_name = self.names[index].as_mut_ptr().cast();
            message.msg_namelen = u32::try_from(NAME).unwrap_or_default();
            message.msg_iov = &raw mut parts[index];
            message.msg_iovlen = 1;
            message.msg_control = self.controls[index].as_mut_ptr().cast();
            // its type differs between C libraries
            message.msg_controllen = CONTROL as _;
        }
        // SAFETY: `headers` holds SLOTS messages; their names, parts, controls and payloads point into `self` and `parts`, which
        // live through the call and are not used otherwise in it, and each length is that of what is pointed to
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                u32::try_from(SLOTS).unwrap_or_default(),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(taken) = usize::try_from(result) else { return Err(io::Error::last_os_error()) };
        for (lengths, header) in self.lengths.iter_mut().zip(&headers[..taken.min(SLOTS)]) {
            let payload = usize::try_from(header.msg_len).unwrap_or_default();
            #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
            let control = header.msg_hdr.msg_controllen as usize;
            *lengths = (payload, control);
        }
        self.used = taken.min(SLOTS);
        Ok(())
    }
}

/// Makes the kernel tell with each datagram at `socket` whom it was for.
///
/// # Errors
/// What the system says.
pub(super) fn tell_destinations(socket: BorrowedFd<'_>, v4: bool) -> io::Result<()> {
    let (level, option) = if v4 {
        (libc::SOL_IP, libc::IP_RECVORIGDSTADDR)
    } else {
        (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR)
    };
    let on: libc::c_int = 1;
    // a c_int has four bytes everywhere
    let length: libc::socklen_t = 4;
    // SAFETY: the descriptor is open as long as it is borrowed, and the option's value is a c_int that outlives the call
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The original destination among control messages (cmsg(3)): a length of the header and data, a level, a kind, the data.
fn destination(mut control: &[u8]) -> Option<SocketAddr> {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    while let Some((header, _)) = control.split_at_checked(HEADER) {
        let length = usize::from_ne_bytes(*header.first_chunk()?);
        let level = i32::from_ne_bytes(*header.get(WORD..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*header.get(WORD + 4..)?.first_chunk()?);
        let data = control.get(HEADER..length)?;
        if matches!(
            (level, kind),
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR)
        ) {
            return address(data);
        }
        control = control.get(length.checked_next_multiple_of(WORD)?..)?;
    }
    None
}

/// A `sockaddr_in` (family, port, address) or `sockaddr_in6` (family, port, flow, address, scope).
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip: IpAddr = match family {
        libc::AF_INET => Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    // the scope of a link-local source, without which it cannot be answered
    match (ip, bytes.get(24..).and_then(|rest| rest.first_chunk())) {
        (IpAddr::V6(ip), Some(scope)) => {
            Some(std::net::SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(*scope)).into())
        }
        _ => Some(SocketAddr::new(ip, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_both_families_are_read() {
        let mut v4 = [0; 16];
        v4[..2].copy_from_slice(&2_u16.to_ne_bytes());
        v4[2..8].copy_from_slice(&[0x1f, 0x90, 240, 1, 2, 3]);
        assert_eq!(address(&v4), Some("240.1.2.3:8080".parse().unwrap()));
        let mut v6 = [0; 28];
        v6[..2].copy_from_slice(&10_u16.to_ne_bytes());
        v6[2..4].copy_from_slice(&[0, 53]);
        v6[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(address(&v6), Some("[::1]:53".parse().unwrap()));
        assert_eq!(address(&v6[..20]), None);
        assert_eq!(address(&[1, 0, 0, 0]), None);
    }

    #[test]
    fn the_destination_is_found_after_other_control_messages() {
        let word = size_of::<usize>();
        let message = |level: i32, kind: i32, data: &[u8]| {
            let mut bytes = (word + 8 + data.len()).to_ne_bytes().to_vec();
            bytes.extend(
                level.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).chain(data.iter().copied()),
            );
            bytes.resize(bytes.len().next_multiple_of(word), 0);
            bytes
        };
        let mut addr = 2_u16.to_ne_bytes().to_vec();
        addr.extend([0, 53, 240, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut control = message(libc::SOL_SOCKET, 29, &[1, 2, 3]);
        control.extend(message(libc::SOL_IP, libc::IP_ORIGDSTADDR, &addr));
        assert_eq!(destination(&control), Some("240.0.0.9:53".parse().unwrap()));
        assert_eq!(destination(&control[..control.len() - 4]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(control in prop::collection::vec(any::<u8>(), 0..CONTROL), small in 0usize..80) {
            let _ = destination(&control);
            let _ = address(&control);
            // a length that fits is the interesting case
            let mut control = control;
            let word = size_of::<usize>();
            if control.len() >= word {
                control[..word].copy_from_slice(&small.to_ne_bytes());
            }
            let _ = destination(&control);
        }
    }
}
