//! Several cores against each other in virtual time, over a network that loses, delays, repeats and reorders, with
//! partitions, dying and restarting gateways. A failing run prints its seed; `SEED=N` runs only that one,
//! `SEEDS=N` many of each test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside test functions"
)]

mod rng;
mod world;

use causeway_model::{NodeId, WorkloadId};
use causeway_presence::{Event, PresenceConfig};
use rng::{Rng, each_seed};
use std::time::Duration;
use world::{Net, World};

const CALM: Net = Net { loss_percent: 0, delay_ms: (1, 50), repeat_percent: 0 };

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_workload_that_dies_is_gone_everywhere_within_two_seconds() {
    each_seed(30, |seed| {
        let mut world = World::new(seed, 3, PresenceConfig::default(), CALM);
        let ids: Vec<WorkloadId> = (0..20).map(|_| world.birth(2)).collect();
        let phase = world.rng.below(700);
        world.run(ms(3000 + phase));
        for node in world.live() {
            assert_eq!(world.workloads_at(node).len(), 20);
        }
        ids.iter().step_by(2).for_each(|&id| world.die(id));
        world.run(ms(2000));
        for node in world.live() {
            assert_eq!(world.workloads_at(node).len(), 10, "{node}");
        }
        world.check_settled();
    });
}

#[test]
fn a_goodbye_is_told_at_once() {
    each_seed(10, |seed| {
        let mut world = World::new(seed, 3, PresenceConfig::default(), CALM);
        let id = world.birth(2);
        world.run(ms(1000));
        world.goodbye(id);
        world.run(ms(51));
        world.check_settled();
        assert!(world.live().into_iter().all(|node| world.saw(node, &Event::Gone(id)) == 1));
    });
}

#[test]
fn workloads_of_a_dead_gateway_that_reattach_in_time_are_never_gone() {
    each_seed(30, |seed| {
        let mut world = World::new(seed, 3, PresenceConfig::default(), CALM);
        let ids: Vec<WorkloadId> = (0..20).map(|_| world.birth(1)).collect();
        world.run(ms(2000));
        let dead = NodeId(1 + world.rng.below(3));
        world.kill(dead);
        world.reattach_orphans(ms(0), ms(4900));
        world.run(ms(12_000));
        world.check_settled();
        for (node, id) in world.live().into_iter().flat_map(|node| ids.iter().map(move |&id| (node, id))) {
            assert_eq!(world.saw(node, &Event::Gone(id)), 0, "{id} at {node}");
        }
    });
}

#[test]
fn workloads_of_a_restarted_gateway_that_reattach_in_time_are_never_gone() {
    each_seed(30, |seed| {
        let mut world = World::new(seed, 3, PresenceConfig::default(), CALM);
        let ids: Vec<WorkloadId> = (0..20).map(|_| world.birth(1)).collect();
        world.run(ms(2000));
        let node = NodeId(1 + world.rng.below(3));
        world.kill(node);
        let pause = ms(50 + world.rng.below(3000));
        world.run(pause);
        world.restart(node);
        world.reattach_orphans(ms(0), ms(4900).saturating_sub(pause));
        world.run(ms(12_000));
        world.check_settled();
        for (other, id) in world.live().into_iter().flat_map(|other| ids.iter().map(move |&id| (other, id))) {
            assert_eq!(world.saw(other, &Event::Gone(id)), 0, "{id} at {other}");
        }
    });
}

#[test]
fn what_died_with_its_gateway_is_no_ghost() {
    each_seed(10, |seed| {
        let mut world = World::new(seed, 3, PresenceConfig::default(), CALM);
        let ids: Vec<WorkloadId> = (0..20).map(|_| world.birth(1)).collect();
        world.run(ms(2000));
        let lost: Vec<WorkloadId> =
            ids.into_iter().filter(|&id| world.homes(id).contains(&NodeId(2))).collect();
        world.kill(NodeId(2));
        lost.iter().for_each(|&id| world.die(id));
        world.run(ms(6000));
        if seed % 2 == 0 {
            world.restart(NodeId(2));
        }
        world.run(ms(2000));
        world.check_settled();
    });
}

#[test]
fn a_short_partition_is_not_noticed_and_a_long_one_heals() {
    each_seed(10, |seed| {
        for (length, gone) in [(4000, 0), (9000, 1)] {
            let mut world = World::new(seed, 2, PresenceConfig::default(), CALM);
            let ids: Vec<WorkloadId> = (0..10).map(|_| world.birth(1)).collect();
            world.run(ms(2000));
            world.cut(NodeId(1), NodeId(2));
            world.run(ms(length));
            world.heal(NodeId(1), NodeId(2));
            world.run(ms(2000));
            world.check_settled();
            for id in ids {
                let home = world.homes(id)[0];
                let other = NodeId(3 - home.0);
                assert_eq!(
                    (world.saw(home, &Event::Gone(id)), world.saw(other, &Event::Gone(id))),
                    (0, gone)
                );
            }
        }
    });
}

#[test]
fn after_chaos_all_gateways_agree_within_ten_seconds() {
    let (mut gaps, mut fenced) = (0, 0);
    each_seed(60, |seed| {
        let config =
            PresenceConfig { max_rows_per_message: 4, max_tombstones: 6, ..PresenceConfig::default() };
        let gateways = 2 + seed % 3;
        let mut world = World::new(seed, gateways, config, CALM);
        (0..20).for_each(|_| _ = world.birth(1 + seed % 2));
        world.run(ms(1000));
        for _ in 0..120 {
            disturb(&mut world);
            let pause = world.rng.below(300);
            world.run(ms(pause));
        }
        world.end_disturbance();
        world.net = CALM;
        world.run(ms(10_000));
        world.check_settled();
        gaps += world.counters().map(|counters| counters.requests).sum::<u64>();
        fenced += world.counters().map(|counters| counters.fenced_messages).sum::<u64>();
    });
    if std::env::var_os("SEED").is_none() {
        assert!(gaps > 100 && fenced > 0, "the chaos was too tame: {gaps} gaps, {fenced} fenced messages");
    }
}

fn disturb(world: &mut World) {
    let (a, b) = (world.rng.below(world.size()) + 1, world.rng.below(world.size()) + 1);
    match world.rng.below(20) {
        0..4 => _ = world.birth(1 + a % 2),
        4..6 => with_any(world, World::die),
        6 => with_any(world, World::goodbye),
        7..10 => with_any(world, World::change_health),
        10..12 => with_any(world, World::relocate),
        12 => with_any(world, World::detach),
        13 => with_any(world, World::change_release),
        14 => world.cut(NodeId(a), NodeId(b)),
        15..17 => world.heal(NodeId(a), NodeId(b)),
        17 => {
            world.kill(NodeId(a));
            if world.rng.percent(50) {
                world.restart(NodeId(a));
            }
            world.reattach_orphans(ms(100), ms(4000));
        }
        18 => world.restart(NodeId(a)),
        _ => {
            let (loss_percent, longest) = (world.rng.below(40), 1 + world.rng.below(400));
            world.net = Net { loss_percent, delay_ms: (0, longest), repeat_percent: world.rng.below(10) };
        }
    }
}

fn with_any(world: &mut World, act: fn(&mut World, WorkloadId)) {
    let ids: Vec<WorkloadId> = world.all();
    if let Some(&id) = world.rng.pick(&ids) {
        act(world, id);
    }
}

#[test]
fn a_large_table_comes_in_parts_and_survives_some_loss() {
    each_seed(5, |seed| {
        let config =
            PresenceConfig { max_rows_per_message: 8, max_tombstones: 4, ..PresenceConfig::default() };
        let mut world = World::new(seed, 2, config, CALM);
        (0..300).for_each(|_| _ = world.birth(1));
        world.run(ms(2000));
        world.cut(NodeId(1), NodeId(2));
        world.run(ms(9000));
        world.all().into_iter().step_by(3).for_each(|id| world.goodbye(id));
        world.net = Net { loss_percent: 1, delay_ms: (5, 5), repeat_percent: 2 };
        world.heal(NodeId(1), NodeId(2));
        world.run(ms(10_000));
        world.check_settled();
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(7, 3, PresenceConfig::default(), Net { loss_percent: 10, ..CALM });
        (0..10).for_each(|_| _ = world.birth(2));
        world.run(ms(1000));
        (0..40).for_each(|_| {
            disturb(&mut world);
            world.run(ms(100));
        });
        world.fingerprint()
    };
    assert_eq!(run(), run());
    let mut rng = Rng::new(1);
    assert_ne!(rng.below(1 << 40), rng.below(1 << 40));
}
