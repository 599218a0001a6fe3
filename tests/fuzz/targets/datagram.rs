//! Payloads come out of a flow's stream however it arrives, and what came out is written and read the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use causeway_wire::datagram::{CapsuleDecoder, CapsuleError, FLOW_PREFIX, FlowId, MAX_PAYLOAD, put_capsule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let whole = payloads(std::iter::once(stream));
    // pieces of 1 to 32 bytes, cut where the input itself says
    let pieces = stream.chunk_by(|before, _| before % 32 != 0).flat_map(|piece| piece.chunks(32));
    assert_eq!(payloads(pieces), whole);
    let mut written = BytesMut::new();
    for payload in &whole.0 {
        assert!(payload.len() <= MAX_PAYLOAD);
        put_capsule(&mut written, payload).expect("it was read");
    }
    assert_eq!(payloads(std::iter::once(&written[..])), (whole.0, Ok(true)));
    match FlowId::split(Bytes::copy_from_slice(stream)) {
        Some((flow, payload)) => assert_eq!([&flow.prefix()[..], &payload].concat(), stream),
        None => assert!(stream.len() < FLOW_PREFIX),
    }
});

/// The payloads in a stream, and how it ended: in an error, between two capsules, or inside one.
fn payloads<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Result<bool, CapsuleError>) {
    let mut decoder = CapsuleDecoder::new();
    let mut payloads = Vec::new();
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
