//! The part of a QUIC packet that a gateway reads: the invariants of RFC 8999 with connection IDs of 20 bytes.

use crate::cid::{CID_LEN, Cid};
use crate::envelope::Envelope;

/// The longest datagram that is read, in bytes (the largest UDP payload over IPv4).
pub const MAX_DATAGRAM: usize = 65_507;

/// What a datagram is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// A QUIC packet: the long-header bit (RFC 8999 section 5.1) or the fixed bit (RFC 9000 section 17.3.1) is set.
    Quic,
    /// A probe or its answer: neither bit is set, as in anything else that is no packet.
    Probe,
    /// A packet on its way through a third cluster ([`Envelope`]): neither bit is set, and the rest is not a probe's.
    Envelope,
}

impl Datagram {
    /// What the datagram with this first byte is.
    #[inline]
    pub fn classify(first: u8) -> Self {
        // packets first: they are nearly all there is
        if first & 0xc0 != 0 {
            Self::Quic
        } else if Envelope::is_kind(first) {
            Self::Envelope
        } else {
            Self::Probe
        }
    }
}

/// The type of a packet, of QUIC version 1 (RFC 9000 section 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// The first flight.
    Initial,
    /// Early data.
    ZeroRtt,
    /// The rest of the handshake.
    Handshake,
    /// A server's demand to prove the address.
    Retry,
    /// A server that does not know the version.
    VersionNegotiation,
    /// Any packet with a short header.
    Short,
}

/// The header of the first packet in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub packet_type: PacketType,
    /// The destination connection ID.
    pub dcid: Cid,
    /// The source connection ID of a long header, when it has 20 bytes.
    pub scid: Option<Cid>,
}

/// Why a datagram is not a packet of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It ends inside the header.
    #[error("the datagram ends inside the packet header")]
    Truncated,
    /// Its destination connection ID does not have 20 bytes.
    #[error("the destination connection id does not have 20 bytes")]
    CidLength,
    /// It is of another QUIC version than 1.
    #[error("the packet is not of QUIC version 1")]
    Version,
    /// Neither the long-header bit nor the fixed bit is set.
    #[error("the first byte is not that of a QUIC packet")]
    NotQuic,
}

/// The destination connection ID of the first packet in `datagram`, without a look at anything else.
#[inline]
pub fn dcid(datagram: &[u8]) -> Option<&[u8; CID_LEN]> {
    let first = *datagram.first()?;
    if first & 0x80 == 0 {
        return datagram.get(1..=CID_LEN)?.try_into().ok();
    }
    if *datagram.get(5)? as usize != CID_LEN {
        return None;
    }
    datagram.get(6..6 + CID_LEN)?.try_into().ok()
}

impl Header {
    /// Reads the header of the first packet in `datagram`.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, HeaderError> {
        let first = *datagram.first().ok_or(HeaderError::Truncated)?;
        if first & 0x80 != 0 {
            return Self::parse_long(first, datagram);
        }
        if first & 0x40 == 0 {
            return Err(HeaderError::NotQuic);
        }
        // a short-header packet has at least one byte of packet number and a tag of 16 after the id (RFC 9001 section 5.4.2)
        if datagram.len() < 1 + CID_LEN + 4 + 16 {
            return Err(HeaderError::Truncated);
        }
        let dcid = dcid(datagram).ok_or(HeaderError::Truncated)?;
        Ok(Self { packet_type: PacketType::Short, dcid: Cid(*dcid), scid: None })
    }

    fn parse_long(first: u8, datagram: &[u8]) -> Result<Self, HeaderError> {
        let head = datagram.get(..7 + CID_LEN).ok_or(HeaderError::Truncated)?;
        if usize::from(head[5]) != CID_LEN {
            return Err(HeaderError::CidLength);
        }
        let dcid = Cid::from_slice(&head[6..6 + CID_LEN]).ok_or(HeaderError::CidLength)?;
        let scid_len = usize::from(head[6 + CID_LEN]);
        let scid = datagram.get(7 + CID_LEN..7 + CID_LEN + scid_len).ok_or(HeaderError::Truncated)?;
        let packet_type = match (u32::from_be_bytes([head[1], head[2], head[3], head[4]]), first & 0x30) {
            (0, _) => PacketType::VersionNegotiation,
            (1, 0x00) => PacketType::Initial,
            (1, 0x10) => PacketType::ZeroRtt,
            (1, 0x20) => PacketType::Handshake,
            (1, _) => PacketType::Retry,
            _ => return Err(HeaderError::Version),
        };
        if packet_type != PacketType::VersionNegotiation && first & 0x40 == 0 {
            return Err(HeaderError::NotQuic);
        }
        Ok(Self { packet_type, dcid, scid: Cid::from_slice(scid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(first: u8, version: u32, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
        let mut p = vec![first];
        p.extend(version.to_be_bytes());
        for id in [dcid, scid] {
            p.push(u8::try_from(id.len()).unwrap());
            p.extend(id);
        }
        p.extend([0; 30]);
        p
    }

    #[test]
    fn long_and_short_headers_are_read() {
        let p = long(0xc0, 1, &[3; 20], &[4; 20]);
        let h = Header::parse(&p).unwrap();
        assert_eq!((h.packet_type, h.dcid, h.scid), (PacketType::Initial, Cid([3; 20]), Some(Cid([4; 20]))));
        assert_eq!(dcid(&p), Some(&[3; 20]));
        assert_eq!(Header::parse(&long(0xe0, 1, &[3; 20], &[])).unwrap().packet_type, PacketType::Handshake);
        assert_eq!(
            Header::parse(&long(0x80, 0, &[3; 20], &[])).unwrap().packet_type,
            PacketType::VersionNegotiation
        );
        let mut short = vec![0x41];
        short.extend([5; 20]);
        assert_eq!(Header::parse(&short), Err(HeaderError::Truncated));
        short.extend([0; 20]);
        assert_eq!(Header::parse(&short).unwrap().dcid, Cid([5; 20]));
    }

    #[test]
    fn what_is_not_of_the_mesh_is_named() {
        assert_eq!(Header::parse(&[]), Err(HeaderError::Truncated));
        assert_eq!(Header::parse(&long(0xc0, 1, &[3; 8], &[])), Err(HeaderError::CidLength));
        assert_eq!(Header::parse(&long(0xc0, 2, &[3; 20], &[])), Err(HeaderError::Version));
        assert_eq!(Header::parse(&long(0x80, 1, &[3; 20], &[])), Err(HeaderError::NotQuic));
        assert_eq!(Header::parse(&[0x01; 64]), Err(HeaderError::NotQuic));
        let cut = long(0xc0, 1, &[3; 20], &[4; 20]);
        for len in 0..47 {
            assert!(Header::parse(&cut[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn both_readers_agree(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(dcid(&bytes), Some(&header.dcid.0));
            }
        }
    }
}
