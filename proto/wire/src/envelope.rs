//! Envelopes: how a packet travels between the gateways of two clusters that do not reach each other, through those of others.
//!
//! ```text
//! 0x31 | hops left (1) | origin cluster id (3) | QUIC packets, as the origin would send them directly
//! ```
//!
//! The first byte is the kind, in its high half, and the version. The destination is the cluster in the connection ID of the packet
//! inside. An envelope is not authenticated: it is taken only from the source address of a linked cluster's gateway, and what is inside
//! is as private and as proven as it is without.

use crate::packet::{Datagram, Header};
use causeway_model::ClusterId;

/// The length of what is before the packet, in bytes.
pub const ENVELOPE_LEN: usize = 5;
/// Through how many clusters a packet may pass between its own and its destination's.
pub const MAX_HOPS: u8 = 3;
/// The first byte's high half.
const KIND: u8 = 0x30;
const VERSION: u8 = 1;

/// What an envelope says. What is in it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Through how many more clusters it may pass.
    pub hops: u8,
    /// The cluster whose gateway made it.
    pub origin: ClusterId,
}

/// Why a datagram is no envelope that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It ends before the packet.
    #[error("the datagram ends before the packet in the envelope")]
    Truncated,
    /// The first byte is not that of an envelope of this version.
    #[error("the first byte is not that of an envelope of a version that is known")]
    Version,
    /// It may pass through more clusters than any path has.
    #[error("the envelope may pass through more clusters than any path has")]
    Hops,
    /// Its origin is no cluster.
    #[error("the origin of the envelope is no cluster")]
    Origin,
    /// What is in it is not a packet of the mesh.
    #[error("the envelope does not hold a packet of the mesh")]
    Content,
}

impl Envelope {
    /// Whether a datagram with this first byte is an envelope, of whatever version.
    #[inline]
    pub(crate) fn is_kind(first: u8) -> bool {
        first & 0xf0 == KIND
    }

    /// What is written before the packet.
    #[inline]
    pub fn encode(&self) -> [u8; ENVELOPE_LEN] {
        let [_, a, b, c] = self.origin.get().to_be_bytes();
        [KIND | VERSION, self.hops, a, b, c]
    }

    /// Reads an envelope, and the header of the packet in it, which follows it.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<(Self, Header, &[u8]), EnvelopeError> {
        let (head, packet) = datagram.split_first_chunk::<ENVELOPE_LEN>().ok_or(EnvelopeError::Truncated)?;
        let [first, hops, a, b, c] = *head;
        if first != KIND | VERSION {
            return Err(EnvelopeError::Version);
        }
        if hops > MAX_HOPS {
            return Err(EnvelopeError::Hops);
        }
        let origin = ClusterId::new(u32::from_be_bytes([0, a, b, c])).ok_or(EnvelopeError::Origin)?;
        match packet.first() {
            None => return Err(EnvelopeError::Truncated),
            // neither a probe nor another envelope
            Some(&first) if Datagram::classify(first) != Datagram::Quic => {
                return Err(EnvelopeError::Content);
            }
            Some(_) => {}
        }
        let header = Header::parse(packet).map_err(|_| EnvelopeError::Content)?;
        Ok((Self { hops, origin }, header, packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cid;
    use causeway_model::NodeId;
    use proptest::prelude::*;

    fn packet() -> Vec<u8> {
        let to = Cid::gateway(ClusterId::new(3).unwrap(), NodeId(7), 9);
        [&[0x40][..], &to.0, &[0; 40]].concat()
    }

    fn enveloped(envelope: &Envelope, packet: &[u8]) -> Vec<u8> {
        [&envelope.encode()[..], packet].concat()
    }

    #[test]
    fn what_is_no_envelope_is_named() {
        let envelope = Envelope { hops: MAX_HOPS, origin: ClusterId::new(1).unwrap() };
        let good = enveloped(&envelope, &packet());
        assert_eq!(Datagram::classify(good[0]), Datagram::Envelope);
        assert!(Envelope::parse(&good).is_ok());
        let spoilt = |at: usize, byte: u8| {
            let mut datagram = good.clone();
            datagram[at] = byte;
            Envelope::parse(&datagram).unwrap_err()
        };
        assert_eq!(spoilt(0, 0x32), EnvelopeError::Version);
        assert_eq!(spoilt(0, 0x01), EnvelopeError::Version);
        assert_eq!(spoilt(1, MAX_HOPS + 1), EnvelopeError::Hops);
        assert_eq!(spoilt(4, 0), EnvelopeError::Origin);
        assert_eq!(spoilt(5, 0x01), EnvelopeError::Content, "a probe");
        assert_eq!(spoilt(5, 0x31), EnvelopeError::Content, "an envelope");
        assert_eq!(Envelope::parse(&good[..5]), Err(EnvelopeError::Truncated));
        assert_eq!(Envelope::parse(&good[..30]), Err(EnvelopeError::Content));
        assert_eq!(Envelope::parse(&[]), Err(EnvelopeError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(hops in 0..=MAX_HOPS, origin in 1..=ClusterId::MAX) {
            let envelope = Envelope { hops, origin: ClusterId::new(origin).unwrap() };
            let (packet, datagram) = (packet(), enveloped(&envelope, &packet()));
            let header = Header::parse(&packet).unwrap();
            prop_assert_eq!(Envelope::parse(&datagram), Ok((envelope, header, &packet[..])));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..80), real: bool) {
            let mut bytes = bytes;
            if real && bytes.len() > 6 {
                (bytes[0], bytes[1], bytes[5]) = (0x31, bytes[1] % 4, bytes[5] | 0x40);
            }
            if let Ok((envelope, header, packet)) = Envelope::parse(&bytes) {
                prop_assert_eq!(enveloped(&envelope, packet), &bytes[..]);
                prop_assert_eq!(Header::parse(packet), Ok(header));
                prop_assert_eq!(Datagram::classify(bytes[0]), Datagram::Envelope);
            }
        }
    }
}
