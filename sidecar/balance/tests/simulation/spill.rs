//! Tiers: who gets what a nearer one cannot take, and how it comes back.

use crate::world::{FARTHER, REMOTE, Random, SEEDS, Server, World, ZONE, ms};
use causeway_balance::{Settings, Spread, Tier, TierLoad};
use std::time::{Duration, Instant};

fn world(seed: u64, settings: Settings, tiers: &[(Tier, usize)]) -> World {
    let servers = tiers.iter().flat_map(|(tier, count)| vec![Server::new(*tier, ms(5)); *count]);
    World::new(seed, settings, servers)
}

/// The part of connections after `from` that went to `tier`.
fn part(world: &World, tier: Tier, from: Duration) -> f64 {
    let all = world.log.iter().filter(|served| served.at > from);
    let (count, there) =
        all.fold((0, 0), |(all, there), served| (all + 1, there + usize::from(served.tier == tier)));
    there as f64 / f64::from(count.max(1))
}

fn run(world: &mut World, time: Duration) {
    let until = world.elapsed() + time;
    while world.elapsed() < until {
        assert!(world.connect());
    }
}

#[test]
fn the_nearest_has_all_while_it_is_well_enough() {
    for seed in 0..SEEDS {
        let mut world = world(seed, Settings::default(), &[(ZONE, 10), (REMOTE, 10)]);
        run(&mut world, ms(2000));
        world.servers.values_mut().take(3).for_each(|server| server.healthy = false);
        run(&mut world, ms(3000));
        assert!(world.log.iter().all(|served| served.tier == ZONE), "seed {seed}");
    }
}

#[test]
fn the_part_that_is_missing_spills_over() {
    for (gone, expected) in [(4, 6.0 / 7.0), (6, 4.0 / 7.0), (9, 1.0 / 7.0), (10, 0.0)] {
        for seed in 0..SEEDS {
            let mut world = world(seed, Settings::default(), &[(ZONE, 10), (REMOTE, 10), (FARTHER, 10)]);
            run(&mut world, ms(1000));
            world.servers.values_mut().take(gone).for_each(|server| server.healthy = false);
            let from = world.elapsed() + ms(1);
            run(&mut world, ms(20_000));
            let near = part(&world, ZONE, from);
            assert!((near - expected).abs() < 0.04, "seed {seed}: {gone} gone, {near}");
            assert!(part(&world, FARTHER, from) < 1e-9);
        }
    }
}

#[test]
fn a_region_that_is_cut_off_is_left_at_once_and_comes_back_without_a_herd() {
    const CLIENTS: u64 = 50;
    for seed in 0..SEEDS / 10 {
        let mut returned = Vec::new();
        for client in 0..CLIENTS {
            let mut world = world(seed * CLIENTS + client, Settings::default(), &[(REMOTE, 5), (FARTHER, 5)]);
            run(&mut world, ms(1000));
            world.servers.values_mut().take(5).for_each(|server| server.reachable = false);
            let cut = world.elapsed();
            run(&mut world, ms(5000));
            assert!(part(&world, REMOTE, cut) < 1e-9, "seed {seed}");
            world.servers.values_mut().for_each(|server| server.reachable = true);
            let healed = world.elapsed();
            run(&mut world, ms(10_000));
            assert!(part(&world, REMOTE, healed + ms(7000)) > 1.0 - 1e-9, "seed {seed}: it is back");
            let near =
                world.log.iter().filter(|served| served.at >= healed && served.at < healed + ms(10_000));
            returned
                .extend(near.map(|served| ((served.at - healed).as_millis() / 100, served.tier == REMOTE)));
        }
        let share = |slot: u128| {
            let here = returned.iter().filter(|(at, _)| *at == slot);
            let (all, near) =
                here.fold((0u32, 0u32), |(all, near), (_, is)| (all + 1, near + u32::from(*is)));
            f64::from(near) / f64::from(all.max(1))
        };
        // a share of 2 % each 100 ms, and what chance adds
        let steps: Vec<f64> = (0..100).map(share).collect();
        let greatest = steps.windows(2).map(|two| two[1] - two[0]).fold(steps[0], f64::max);
        assert!(greatest < 0.12, "seed {seed}: {greatest} in {steps:?}");
    }
}

#[test]
fn a_false_alarm_moves_nothing_for_long() {
    for seed in 0..SEEDS {
        let mut world = world(seed, Settings::default(), &[(REMOTE, 5), (FARTHER, 5)]);
        run(&mut world, ms(1000));
        world.servers.values_mut().take(5).for_each(|server| server.reachable = false);
        run(&mut world, ms(400));
        world.servers.values_mut().for_each(|server| server.reachable = true);
        let from = world.elapsed();
        run(&mut world, ms(2000));
        assert!(part(&world, REMOTE, from) > 1.0 - 1e-9, "seed {seed}");
    }
}

#[test]
fn when_all_clusters_are_silent_the_nearest_is_tried() {
    let mut world = world(1, Settings::default(), &[(REMOTE, 5), (FARTHER, 5)]);
    world.servers.values_mut().for_each(|server| server.reachable = false);
    run(&mut world, ms(500));
    assert!(world.log.iter().all(|served| served.tier == REMOTE));
}

#[test]
fn a_saturated_tier_shares_with_the_next() {
    let settings = Settings { spill_in_flight: Some(10), ..Settings::default() };
    for seed in 0..SEEDS / 4 {
        let mut world = world(seed, settings, &[(ZONE, 5), (REMOTE, 5)]);
        // twice what the zone may have: 200 a second that stay half a second are 100, and it may have 50
        while world.elapsed() < ms(30_000) {
            world.hold(ms(500));
            world.wait(ms(5));
        }
        let near = part(&world, ZONE, ms(10_000));
        assert!((0.35..=0.65).contains(&near), "seed {seed}: {near}");
        let held: Vec<u32> = (0..5).map(|key| world.balancer.in_flight(key)).collect();
        assert!(held.iter().sum::<u32>() <= 75, "seed {seed}: {held:?}");
        // and takes all again when there is less
        while world.elapsed() < ms(60_000) {
            world.hold(ms(50));
            world.wait(ms(5));
        }
        assert!(part(&world, ZONE, ms(45_000)) > 1.0 - 1e-9, "seed {seed}");
    }
}

#[test]
fn paths_that_are_measured_anew_move_nothing() {
    let mut world = world(3, Settings::default(), &[(REMOTE, 5), (FARTHER, 5)]);
    run(&mut world, ms(1000));
    for path in [8, 9, 10, 9, 8] {
        for server in world.servers.values_mut().take(5) {
            server.tier = Tier { path, ..REMOTE };
        }
        run(&mut world, ms(300));
    }
    assert!(world.log.iter().all(|served| served.tier != FARTHER));
}

#[test]
fn one_client_returns_by_small_steps() {
    let load = |tier, available| TierLoad { tier, total: 10.0, available, in_flight: 0.0 };
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut spread = Spread::new(&Settings::default(), 0.8 + 0.4 * random.unit());
        let mut now = Instant::now();
        spread.step(&[load(REMOTE, 10.0), load(FARTHER, 10.0)], now);
        for _ in 0..30 {
            now += ms(100);
            assert!(spread.step(&[load(REMOTE, 0.0), load(FARTHER, 10.0)], now)[1] > 1.0 - 1e-9);
        }
        let (mut before, mut steps) = (0.0, 0);
        while before < 1.0 - 1e-9 {
            now += ms(100);
            let shares = spread.step(&[load(REMOTE, 10.0), load(FARTHER, 10.0)], now);
            let step = shares[0] - before;
            assert!(step > 0.0 && step <= 0.1 / 5.0 * 1.2 + 1e-9, "seed {seed}: {step}");
            (before, steps) = (shares[0], steps + 1);
        }
        assert!((40..=63).contains(&steps), "seed {seed}: {steps} steps");
    }
}
