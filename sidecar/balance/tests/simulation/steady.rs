//! What each endpoint gets while nothing fails.

use crate::world::{Random, SEEDS, Server, World, ZONE, ms};
use causeway_balance::Settings;
use std::time::Duration;

fn ten(latency: Duration) -> Vec<Server> {
    vec![Server::new(ZONE, latency); 10]
}

fn ratio(world: &World) -> f64 {
    let counts = world.counts(Duration::ZERO);
    let all = || counts.values().map(|count| *count as f64);
    all().fold(0.0, f64::max) / all().fold(f64::MAX, f64::min)
}

#[test]
fn ten_equal_endpoints_get_equal_parts_of_a_sequence() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten(ms(1)));
        for _ in 0..10_000 {
            assert!(world.connect());
        }
        assert!(ratio(&world) <= 1.2, "seed {seed}: {:?}", world.counts(Duration::ZERO));
    }
}

#[test]
fn equal_endpoints_far_away_get_equal_parts_too() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten(ms(80)));
        for _ in 0..2000 {
            assert!(world.connect());
        }
        assert!(ratio(&world) <= 1.2, "seed {seed}: {:?}", world.counts(Duration::ZERO));
    }
}

#[test]
fn connections_that_stay_are_spread_as_well() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten(ms(5)));
        for _ in 0..3000 {
            let held = ms(1 + world.random.below(2000));
            assert!(world.hold(held));
            world.wait(ms(2));
        }
        let held: Vec<u32> = (0..10).map(|key| world.balancer.in_flight(key)).collect();
        let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        assert!(most <= &(least * 3), "seed {seed}: {held:?}");
        assert!(ratio(&world) <= 1.2, "seed {seed}: {:?}", world.counts(Duration::ZERO));
    }
}

#[test]
fn an_endpoint_that_is_ten_times_slower_gets_less_than_a_twentieth_within_five_seconds() {
    for (fast, slow) in [(1, 10), (5, 50), (50, 500)] {
        for seed in 0..SEEDS {
            let mut world = World::new(seed, Settings::default(), ten(ms(fast)));
            while world.elapsed() < ms(1000) {
                world.connect();
            }
            world.servers.get_mut(&3).unwrap().latency = ms(slow);
            let from = world.elapsed() + ms(5000);
            while world.elapsed() < from + ms(5000) {
                world.connect();
            }
            let counts = world.counts(from);
            let all: usize = counts.values().sum();
            assert!(counts[&3] * 20 < all, "seed {seed}: {counts:?}");
            // it comes back when it is well again
            world.servers.get_mut(&3).unwrap().latency = ms(fast);
            let from = world.elapsed() + ms(20_000);
            while world.elapsed() < from + ms(3000) {
                world.connect();
                // most of the time nobody calls
                world.wait(ms(10));
            }
            let counts = world.counts(from);
            let all: usize = counts.values().sum();
            assert!(counts[&3] * 40 > all, "seed {seed}, {fast} ms: {counts:?}");
        }
    }
}

#[test]
fn a_slow_one_gets_little_of_a_load_of_many_at_once() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten(ms(5)));
        world.servers.get_mut(&3).unwrap().latency = ms(50);
        while world.elapsed() < ms(10_000) {
            // 400 a second, each as long as its endpoint takes
            let slow = world.hold(ms(0));
            assert!(slow);
            world.wait(Duration::from_micros(2500));
        }
        let counts = world.counts(ms(5000));
        let all: usize = counts.values().sum();
        assert!(counts[&3] * 20 < all, "seed {seed}: {counts:?}");
    }
}

#[test]
fn a_weight_is_a_share() {
    for held in [None, Some(ms(300))] {
        for seed in 0..SEEDS {
            let mut servers = ten(ms(5));
            servers.iter_mut().take(5).for_each(|server| server.weight = 200);
            let mut world = World::new(seed, Settings::default(), servers);
            for _ in 0..6000 {
                match held {
                    None => world.connect(),
                    Some(held) => {
                        world.wait(ms(5));
                        world.hold(held)
                    }
                };
            }
            let counts = world.counts(Duration::ZERO);
            let heavy: usize = (0..5).map(|key| counts[&key]).sum();
            let light: usize = (5..10).map(|key| counts[&key]).sum();
            let ratio = heavy as f64 / light as f64;
            assert!((1.8..=2.2).contains(&ratio), "seed {seed}: {ratio} {counts:?}");
        }
    }
}

#[test]
fn two_endpoints_of_any_weights_share_by_them() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let weights = [0, 1].map(|_| 1 + u16::try_from(random.below(10)).unwrap());
        let servers = weights.map(|weight| Server { weight, ..Server::new(ZONE, ms(2)) });
        let mut world = World::new(seed, Settings::default(), servers);
        for _ in 0..4000 {
            world.connect();
        }
        let counts = world.counts(Duration::ZERO);
        let expected = 4000.0 * f64::from(weights[0]) / f64::from(weights[0] + weights[1]);
        let off = (counts[&0] as f64 - expected).abs() / 4000.0;
        assert!(off < 0.1, "seed {seed}: {weights:?} {counts:?}");
    }
}

#[test]
fn a_new_endpoint_gets_no_burst() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten(ms(1)));
        for _ in 0..5000 {
            world.connect();
        }
        world.servers.insert(10, Server::new(ZONE, ms(1)));
        let from = world.elapsed();
        for _ in 0..1000 {
            world.connect();
        }
        let counts = world.counts(from);
        assert!(counts[&10] <= 1000 / 11, "seed {seed}: {counts:?}");
        while world.elapsed() < from + ms(6000) {
            world.connect();
        }
        let from = world.elapsed();
        for _ in 0..4000 {
            world.connect();
        }
        let counts = world.counts(from);
        let all: usize = counts.values().sum();
        assert!((all / 14..all / 9).contains(&counts[&10]), "seed {seed}: {counts:?}");
    }
}

#[test]
fn what_is_no_candidate_any_more_is_forgotten() {
    let mut world = World::new(1, Settings::default(), ten(ms(1)));
    for round in 0..200 {
        world.servers.clear();
        world.servers.extend((0..10).map(|n| (round * 10 + n, Server::new(ZONE, ms(1)))));
        world.connect();
        world.wait(ms(10_000));
    }
    assert!(world.balancer.len() <= 150, "{}", world.balancer.len());
}
