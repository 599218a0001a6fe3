//! The cores of the registry as one system, in virtual time: many clusters of three gateways with their catalogs,
//! presence and federation, over a network that loses, delays, cuts in one direction and heals, on nodes that die, stand
//! still, lose their disks and have wrong clocks. What must hold is in `invariants/`, one promise a file.
//!
//! `CAUSEWAY_SEEDS=N` runs N seeds instead of 100, `CAUSEWAY_SEED=N` that one with a trace. Consensus is a stand-in: the
//! real one is tested in the store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside test functions"
)]

mod coverage;
mod invariants;
mod oracle;
mod rng;
mod sabotage;
mod seeds;
mod world;

use coverage::Coverage;
use sabotage::Sabotage;
use world::World;

#[test]
fn every_promise_holds_in_every_seed() {
    let mut seen = Coverage::default();
    for seed in seeds::chosen() {
        seen.absorb(&seeds::must_hold(seed));
    }
    if seeds::only().is_none() {
        assert!(seen.missing().is_empty(), "no seed has reached {:?}; reached: {seen:?}", seen.missing());
    }
}

#[test]
fn every_sabotage_is_caught_by_its_invariant() {
    for (sabotage, invariant) in Sabotage::ALL {
        let caught = (0..100).find_map(|seed| {
            let violation = World::new(seed, *sabotage, false).live().err()?;
            (violation.invariant == *invariant).then_some(seed)
        });
        assert!(caught.is_some(), "{invariant:?} does not notice {sabotage:?} in 100 seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, Sabotage::None, false);
        let verdict = world.live();
        (verdict, world.fingerprint())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}
