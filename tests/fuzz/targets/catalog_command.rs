//! Commands of members, which may be broken or stolen: nothing panics, replicas stay equal, and what is stored reads back.
#![no_main]

use causeway_catalog::{Catalog, Command};
use causeway_fuzz::{parts, survives};
use causeway_model::Revision;
use causeway_wire::codec;
use data_encoding::HEXLOWER;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// A cluster, so that few commands are refused for want of one.
static INITIALISED: LazyLock<Catalog> = LazyLock::new(|| {
    let golden = include_str!("../../../registry/store/tests/golden/v1/command.init-cluster.hex");
    let bytes = HEXLOWER.decode(golden.replace('\n', "").as_bytes()).expect("a golden file");
    let mut catalog = Catalog::new();
    let init: Command = codec::from_slice(&bytes).expect("a golden file");
    catalog.apply(Revision(1), &init).outcome.expect("the first command");
    catalog
});

fuzz_target!(|input: &[u8]| {
    let mut one = INITIALISED.clone();
    let mut two = INITIALISED.clone();
    for (part, revision) in parts(input).zip(2..) {
        let Ok(command) = codec::from_slice::<Command>(part) else { continue };
        survives(&command);
        let applied = one.apply(Revision(revision), &command);
        if let Err(refusal) = &applied.outcome {
            assert!(!refusal.to_string().is_empty());
        }
        survives(&applied);
        assert_eq!(two.apply(Revision(revision), &command), applied);
    }
    assert_eq!(one, two);
    survives(&one);
});
