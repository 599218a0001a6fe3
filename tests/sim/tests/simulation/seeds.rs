//! Which seeds are run, and what is said of one that fails.

use crate::coverage::Coverage;
use crate::sabotage::Sabotage;
use crate::world::World;

/// How many seeds run if nobody says otherwise.
const SEEDS: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The one seed that is asked for.
pub(crate) fn only() -> Option<u64> {
    number("CAUSEWAY_SEED")
}

pub(crate) fn chosen() -> std::ops::Range<u64> {
    match only() {
        Some(seed) => seed..seed + 1,
        None => 0..number("CAUSEWAY_SEEDS").unwrap_or(SEEDS),
    }
}

/// Says how to run a seed again, also when a core panics in it.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "seed {seed} failed: CAUSEWAY_SEED={seed} cargo test -p causeway-test-sim every_promise"
            );
        }
    }
}

/// Runs a seed; what it has reached.
pub(crate) fn must_hold(seed: u64) -> Coverage {
    let named = Named(seed);
    let mut world = World::new(seed, Sabotage::None, only().is_some());
    if let Err(violation) = world.live() {
        panic!("{violation}");
    }
    drop(named);
    world.seen
}
