//! What several targets need: inputs that are sequences, and values that must survive their own encoding.

use causeway_wire::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The parts of an input, each with its length (2 bytes, network byte order) before it. What is cut short ends it.
pub fn parts(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        input = rest;
        Some(part)
    })
}

/// Checks that `value`, which was read, is written as something that reads as the same. It need not be written as it was
/// read: there are several ways to write a number or an address.
pub fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let written = codec::to_vec_unlimited(value).expect("what was read can be written");
    let read: T = codec::from_slice_unlimited(&written).expect("what was written can be read");
    assert_eq!(&read, value);
}
