//! Payloads of UDP flows: how one travels between sidecars, alone or on the stream of its flow.
//!
//! ```text
//! DATAGRAM frame (RFC 9221)        flow id (2) | payload
//! stream, after header and answer  type (varint) | length (varint) | value      capsules of RFC 9297 section 3.2
//! ```
//!
//! A payload that fits goes in a DATAGRAM frame of its own. RFC 9297 would name the flow by a quarter of its stream's number, which
//! takes four bytes once a connection has had 16,384 streams, and then the usual 1,400 bytes do not fit in a packet of 1,452 any
//! more: two bytes of number, chosen by the client, are just what is left. A payload that does not fit goes as a capsule of type 0,
//! and so does what the client sends before it has the answer: a datagram could overtake the stream that names its flow. Capsules of
//! other types are skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest UDP payload, in bytes: 65,527 over IPv6; over IPv4 it is 65,507.
pub const MAX_PAYLOAD: usize = 65_527;
/// The bytes before the payload in a DATAGRAM frame.
pub const FLOW_PREFIX: usize = 2;
/// The most bytes before the payload in a capsule.
pub const MAX_CAPSULE_HEAD: usize = 5;

/// The type of a capsule with a payload (RFC 9297 section 3.5).
const DATAGRAM: u64 = 0;

/// The number of a flow: the client of a connection chooses one that none of its open flows has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowId(pub u16);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FlowId {
    /// What is written before a payload in a DATAGRAM frame.
    #[inline]
    pub fn prefix(self) -> [u8; FLOW_PREFIX] {
        self.0.to_be_bytes()
    }

    /// The flow and the payload of a DATAGRAM frame; `None` if it is too short to name a flow.
    #[inline]
    pub fn split(mut datagram: Bytes) -> Option<(Self, Bytes)> {
        let prefix = datagram.first_chunk::<FLOW_PREFIX>()?;
        let flow = Self(u16::from_be_bytes(*prefix));
        datagram.advance(FLOW_PREFIX);
        Some((flow, datagram))
    }
}

/// Capsules that cannot be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// No UDP payload is so long.
    #[error("a capsule of {0} bytes; the longest UDP payload has 65527")]
    Length(u64),
}

impl CapsuleError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Length(_) => "capsule-length",
        }
    }
}

/// Appends `payload` to `out` as a capsule.
///
/// # Errors
/// It is longer than [`MAX_PAYLOAD`]; nothing is appended.
pub fn put_capsule(out: &mut BytesMut, payload: &[u8]) -> Result<(), CapsuleError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let length = length.ok_or(CapsuleError::Length(payload.len() as u64))?;
    out.reserve(MAX_CAPSULE_HEAD + payload.len());
    out.put_u8(0);
    // RFC 9000 section 16, the shortest form
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 1 << 6 => out.put_u8(length),
        (_, Ok(length)) if length < 1 << 14 => out.put_u16(length | 0x4000),
        _ => out.put_u32(length | 0x8000_0000),
    }
    out.put_slice(payload);
    Ok(())
}

/// Cuts a stream of bytes into payloads. Holds at most one capsule and what was pushed after it.
#[derive(Debug, Default)]
pub struct CapsuleDecoder {
    buffer: BytesMut,
}

impl CapsuleDecoder {
    /// A decoder at the start of a stream's capsules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole payload, if it has arrived.
    ///
    /// # Errors
    /// A capsule announces more than any payload has; the stream cannot be read on.
    pub fn next_payload(&mut self) -> Result<Option<Bytes>, CapsuleError> {
        loop {
            let Some((kind, first)) = varint(&self.buffer) else { return Ok(None) };
            let rest = self.buffer.get(first..).unwrap_or_default();
            let Some((announced, second)) = varint(rest) else { return Ok(None) };
            let length = usize::try_from(announced).ok().filter(|length| *length <= MAX_PAYLOAD);
            let end = first + second + length.ok_or(CapsuleError::Length(announced))?;
            if self.buffer.len() < end {
                return Ok(None);
            }
            let mut capsule = self.buffer.split_to(end);
            capsule.advance(first + second);
            if kind == DATAGRAM {
                return Ok(Some(capsule.freeze()));
            }
        }
    }

    /// Whether the stream may end here: no capsule is half read.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The number at the start of `bytes` and how many bytes it takes (RFC 9000 section 16); `None` if it is not all there.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The payloads of a stream that arrives in `pieces`, and how it ended: in an error, between two capsules, or inside one.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Result<bool, CapsuleError>) {
        let (mut decoder, mut payloads) = (CapsuleDecoder::new(), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next_payload() {
                    Ok(Some(payload)) => payloads.push(payload),
                    Ok(None) => break,
                    Err(error) => return (payloads, Err(error)),
                }
            }
        }
        (payloads, Ok(decoder.is_empty()))
    }

    #[test]
    fn the_numbers_of_the_standard_are_read() {
        // RFC 9000 appendix A.1
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn every_length_that_a_payload_can_have_is_read_back() {
        for length in [0, 1, 63, 64, 1400, 16_383, 16_384, 65_507, MAX_PAYLOAD] {
            let payload = vec![7; length];
            let mut stream = BytesMut::new();
            put_capsule(&mut stream, &payload).unwrap();
            assert!(stream.len() - length <= MAX_CAPSULE_HEAD);
            assert_eq!(read([&stream[..]]), (vec![Bytes::from(payload)], Ok(true)));
        }
        let mut stream = BytesMut::new();
        let error = put_capsule(&mut stream, &vec![0; MAX_PAYLOAD + 1]).unwrap_err();
        assert_eq!((error.reason(), stream.len()), ("capsule-length", 0));
    }

    #[test]
    fn other_capsules_are_skipped_and_endless_ones_refused() {
        let stream = [0x40, 0x37, 2, 1, 1, 0, 1, 9];
        assert_eq!(read([&stream[..]]), (vec![Bytes::from_static(&[9])], Ok(true)));
        let endless = [0x37, 0x80, 0x01, 0x00, 0x00];
        assert_eq!(read([&endless[..]]), (Vec::new(), Err(CapsuleError::Length(65_536))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_arrives(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
            step in 1usize..50,
        ) {
            let mut stream = BytesMut::new();
            for payload in &payloads {
                put_capsule(&mut stream, payload).unwrap();
            }
            let (got, end) = read(stream.chunks(step));
            prop_assert_eq!(got, payloads.into_iter().map(Bytes::from).collect::<Vec<_>>());
            prop_assert_eq!(end, Ok(true));
        }

        #[test]
        fn any_bytes_are_read_the_same_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..20) {
            prop_assert_eq!(read(bytes.chunks(step)), read([&bytes[..]]));
        }

        #[test]
        fn any_frame_is_split_or_too_short(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            match FlowId::split(bytes.clone().into()) {
                Some((flow, payload)) => prop_assert_eq!([&flow.prefix()[..], &payload].concat(), bytes),
                None => prop_assert!(bytes.len() < FLOW_PREFIX),
            }
        }
    }
}
