//! A stream of bytes is cut into the same frames however it arrives, and every protocol reads every frame without harm.
#![no_main]

use causeway_wire::codec::MAX_FRAME;
use causeway_wire::ctl::{ToGateway, ToSidecar};
use causeway_wire::data::DataMessage;
use causeway_wire::link::LinkMessage;
use causeway_wire::peer::PeerMessage;
use causeway_wire::{CodecError, Frame, FrameDecoder, Message};
use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;

fuzz_target!(|stream: &[u8]| {
    let whole = frames(std::iter::once(stream));
    // pieces of 1 to 32 bytes, cut where the input itself says
    let pieces = stream.chunk_by(|before, _| before % 32 != 0).flat_map(|piece| piece.chunks(32));
    assert_eq!(frames(pieces), whole);
    for frame in &whole.0 {
        check::<ToGateway>(frame);
        check::<ToSidecar>(frame);
        check::<DataMessage>(frame);
        check::<LinkMessage>(frame);
        check::<PeerMessage>(frame);
    }
});

/// The frames in a stream, and how it ended: in an error, between two frames, or inside one.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<bool, CodecError>) {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(decoder.is_empty()))
}

fn check<M: Message + PartialEq + Debug>(frame: &Frame) {
    let Ok(Some(message)) = M::from_frame(frame) else { return };
    assert_eq!((message.kind(), M::VERSION), (frame.kind, frame.version));
    let written = match message.to_frame() {
        Ok(written) => written,
        // an address may be longer as we write it
        Err(CodecError::TooLarge { .. }) if frame.body.len() > MAX_FRAME / 8 => return,
        Err(error) => panic!("{message:?} cannot be written: {error}"),
    };
    let (read, end) = frames(std::iter::once(&written[..]));
    assert_eq!((read.len(), end), (1, Ok(true)));
    assert_eq!(M::from_frame(&read[0]), Ok(Some(message)));
}
