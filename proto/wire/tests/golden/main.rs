//! Golden files: an example of everything that this crate writes, as each release wrote it.
//!
//! `v1/` holds the examples of the releases that speak version 1. The samples they are compared with are built here:
//! `UPDATE_GOLDEN=1 cargo test -p causeway-wire --test golden` rewrites the files of the present version.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside test functions"
)]

mod ctl;
mod data;
mod folder;
mod link;
mod messages;
mod nouns;
mod packets;
mod peer;
mod tokens;

use causeway_wire::ctl::{ToGateway, ToSidecar};
use causeway_wire::data::DataMessage;
use causeway_wire::link::LinkMessage;
use causeway_wire::peer::PeerMessage;
use folder::{Golden, Sample};
use messages::{Examples, known_kinds};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

/// The files, rewritten at most once however many tests look at them.
static UPDATED: LazyLock<()> = LazyLock::new(|| drop(golden()));

fn golden() -> Golden {
    let mut samples: Vec<Sample> = Vec::new();
    samples.extend(ctl::to_gateway().samples());
    samples.extend(ctl::to_sidecar().samples());
    samples.extend(data::messages().samples());
    samples.extend(link::messages().samples());
    samples.extend(peer::messages().samples());
    samples.extend(packets::samples());
    samples.extend(tokens::samples());
    Golden::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), samples)
}

#[test]
fn everything_is_written_as_its_golden_file_has_it() {
    LazyLock::force(&UPDATED);
    golden().check_written();
}

#[test]
fn the_golden_files_of_every_release_are_read() {
    LazyLock::force(&UPDATED);
    let read = golden().check_read();
    println!("{read} golden files read");
}

#[test]
fn every_kind_of_message_has_a_sample() {
    fn missing<M: causeway_wire::Message>(examples: &Examples<M>) -> Vec<u16> {
        let sampled: BTreeSet<u16> = examples.kinds().collect();
        known_kinds::<M>().difference(&sampled).copied().collect()
    }
    let none: Vec<u16> = Vec::new();
    assert_eq!(missing::<ToGateway>(&ctl::to_gateway()), none, "kinds of ToGateway without a sample");
    assert_eq!(missing::<ToSidecar>(&ctl::to_sidecar()), none, "kinds of ToSidecar without a sample");
    assert_eq!(missing::<DataMessage>(&data::messages()), none, "kinds of DataMessage without a sample");
    assert_eq!(missing::<LinkMessage>(&link::messages()), none, "kinds of LinkMessage without a sample");
    assert_eq!(missing::<PeerMessage>(&peer::messages()), none, "kinds of PeerMessage without a sample");
}
