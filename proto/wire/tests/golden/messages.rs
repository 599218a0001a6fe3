//! Examples of the messages of one protocol and direction, as frames.

use crate::folder::Sample;
use causeway_wire::{Frame, FrameDecoder, Message};
use std::collections::BTreeSet;
use std::fmt::Debug;

/// The examples of one protocol and direction.
pub(crate) struct Examples<M> {
    protocol: &'static str,
    all: Vec<(&'static str, M)>,
}

impl<M: Message> Examples<M> {
    /// No examples of `protocol`.
    pub(crate) fn of(protocol: &'static str) -> Self {
        Self { protocol, all: Vec::new() }
    }

    /// One more example.
    pub(crate) fn with(mut self, name: &'static str, message: impl Into<M>) -> Self {
        self.all.push((name, message.into()));
        self
    }

    /// The kinds that have an example.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = u16> {
        self.all.iter().map(|(_, message)| message.kind())
    }
}

impl<M: Message + PartialEq + Debug + 'static> Examples<M> {
    pub(crate) fn samples(self) -> impl Iterator<Item = Sample> {
        let protocol = self.protocol;
        self.all.into_iter().map(move |(name, message)| {
            let frame = message.to_frame().unwrap();
            Sample::bytes(format!("{protocol}.{name}"), frame, move |bytes| same(bytes, &message))
        })
    }
}

/// Whether `bytes` are one frame with `message` in it.
fn same<M: Message + PartialEq + Debug>(bytes: &[u8], message: &M) -> Result<(), String> {
    let mut decoder = FrameDecoder::new();
    decoder.push(bytes);
    let frame = decoder.next_frame().map_err(|e| e.to_string())?.ok_or("not a whole frame")?;
    if !decoder.is_empty() {
        return Err("bytes are left over after the frame".to_owned());
    }
    match M::from_frame(&frame).map_err(|e| e.to_string())? {
        Some(read) if read == *message => Ok(()),
        Some(read) => Err(format!("reads as {read:?}")),
        None => Err(format!("kind {} version {} is not known any more", frame.kind, frame.version)),
    }
}

/// The kinds that `M` knows: every other one is skipped, whatever is in it.
pub(crate) fn known_kinds<M: Message>() -> BTreeSet<u16> {
    let known = |&kind: &u16| {
        let frame = Frame { kind, version: M::VERSION, body: bytes::Bytes::new() };
        !matches!(M::from_frame(&frame), Ok(None))
    };
    (0..=u16::MAX).filter(known).collect()
}
