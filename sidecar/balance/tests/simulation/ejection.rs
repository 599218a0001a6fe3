//! Endpoints that fail: who is left alone, and for how long.

use crate::world::{Mood, REMOTE, SEEDS, Server, World, ZONE, ms};
use causeway_balance::Settings;
use std::time::Duration;

fn ten() -> Vec<Server> {
    vec![Server::new(ZONE, ms(5)); 10]
}

fn run(world: &mut World, time: Duration) {
    let until = world.elapsed() + time;
    while world.elapsed() < until {
        world.connect();
        assert!(world.balancer.ejected() <= 1, "the other nine are never ejected");
    }
}

#[test]
fn a_failing_endpoint_is_out_within_a_second_and_comes_back() {
    for mood in [Mood::Refuses, Mood::Breaks, Mood::Hangs] {
        for seed in 0..SEEDS {
            let mut world = World::new(seed, Settings::default(), ten());
            run(&mut world, ms(1000));
            world.servers.get_mut(&7).unwrap().mood = mood;
            let failed = world.elapsed();
            run(&mut world, ms(11_000));
            let all = world.log.iter().filter(|served| served.at > failed + ms(1000));
            let to_it = all.filter(|served| served.by == 7).count();
            // one trial for each ejection, of which one half a second and one a second long began within the first second
            assert!(to_it <= 5, "seed {seed}, {mood:?}: {to_it} trials");
            assert!(to_it >= 1, "seed {seed}, {mood:?}: it is never tried again");
            world.servers.get_mut(&7).unwrap().mood = Mood::Well;
            // the longest ejection that can be under way
            run(&mut world, ms(22_000));
            let from = world.elapsed();
            run(&mut world, ms(5000));
            let counts = world.counts(from);
            let all: usize = counts.values().sum();
            assert!((all / 14..all / 7).contains(&counts[&7]), "seed {seed}, {mood:?}: {counts:?}");
        }
    }
}

#[test]
fn who_fails_costs_nobody_its_connection() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten());
        world.servers.values_mut().take(3).for_each(|server| server.mood = Mood::Refuses);
        let mut lost = 0;
        while world.elapsed() < ms(10_000) {
            lost += u32::from(!world.connect());
        }
        // three attempts meet the three that fail before any is known
        assert!(lost <= 1, "seed {seed}: {lost}");
    }
}

#[test]
fn not_more_than_half_are_ejected() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Settings::default(), ten());
        world.servers.values_mut().take(8).for_each(|server| server.mood = Mood::Refuses);
        while world.elapsed() < ms(20_000) {
            world.connect();
        }
        let counts = world.counts(ms(10_000));
        let (well, failing): (Vec<_>, Vec<_>) = counts.iter().partition(|(key, _)| **key >= 8);
        // three of the five that are in fail
        let failing: usize = failing.into_iter().map(|(_, count)| count).sum();
        let well: usize = well.into_iter().map(|(_, count)| count).sum();
        assert!(well > 0 && failing > well / 10, "seed {seed}: {counts:?}");
    }
}

#[test]
fn the_last_is_never_ejected() {
    for count in 1..=3 {
        for seed in 0..SEEDS {
            let mut world = World::new(seed, Settings::default(), vec![Server::new(ZONE, ms(5)); count]);
            for server in world.servers.values_mut() {
                server.mood = Mood::Breaks;
            }
            for _ in 0..100 {
                let before = world.log.len();
                assert!(!world.connect());
                assert!(world.log.len() > before, "seed {seed}: nobody was tried");
            }
            world.servers.values_mut().for_each(|server| server.mood = Mood::Well);
            assert!(world.connect(), "seed {seed}: {count}");
        }
    }
}

#[test]
fn one_alone_is_ejected_if_another_tier_can_stand_in() {
    for seed in 0..SEEDS {
        let servers = [Server::new(ZONE, ms(1)), Server::new(REMOTE, ms(40))];
        let mut world = World::new(seed, Settings::default(), servers);
        world.servers.get_mut(&0).unwrap().mood = Mood::Refuses;
        let until = ms(10_000);
        while world.elapsed() < until {
            assert!(world.connect(), "seed {seed}");
        }
        let counts = world.counts(ms(1000));
        assert!(counts[&0] <= 5 && counts[&1] > 100, "seed {seed}: {counts:?}");
        world.servers.get_mut(&0).unwrap().mood = Mood::Well;
        while world.elapsed() < until + ms(20_000) {
            world.connect();
        }
        let counts = world.counts(until + ms(16_000));
        assert!(counts[&0] > 100 && counts[&1] == 0, "seed {seed}: {counts:?}");
    }
}
