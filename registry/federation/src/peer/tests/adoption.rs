//! What a gateway has may be here already, from another one of its cluster or from before it restarted.

use super::*;
use crate::peer::adopt::POOL_AFTER;
use causeway_wire::link::ExportsDigest;

fn sets(world: &World) -> Vec<*const Offers> {
    let nodes = world.imports.nodes.values().map(|node| Arc::as_ptr(node.importer.offers()));
    nodes.chain([Arc::as_ptr(&world.imports.merged)]).collect()
}

fn set(world: &mut World, node: NodeId, list: &[(u64, u32)]) {
    world.exporters.get_mut(&node).unwrap().set_exports(offers(list));
}

#[test]
fn what_another_gateway_told_is_not_asked_for_again() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5), (2, 5)]);
    set(&mut world, B, &[(1, 5), (2, 5)]);
    assert_eq!(
        world.digest(B),
        PeerDigest { verdict: DigestVerdict::InStep, adopted: true, change: ImportChange::default() }
    );
    assert_eq!((world.imports.adopted(), world.imports.voices().count()), (1, 2));
    let sets = sets(&world);
    assert!(sets.iter().all(|set| *set == sets[0]), "one set for all: {sets:?}");
    // a delta follows from what was adopted
    let change = world.tell(B, &[(1, 5), (2, 4)]);
    assert_eq!((world.held(), change.changed.len()), (vec![(1, 5), (2, 4)], 1));
    assert_eq!(world.imports.nodes[&A].importer.offers().get(ServiceHandle(2)).unwrap().counts().0, 5);
}

#[test]
fn a_gateway_that_restarted_with_the_same_exports_is_not_asked() {
    let mut world = World::new();
    world.open(A);
    world.tell(A, &[(1, 5)]);
    world.exporters.insert(A, Exporter::new(causeway_model::Epoch(77)));
    set(&mut world, A, &[(1, 5)]);
    let said = world.digest(A);
    assert_eq!((said.verdict, world.imports.adopted()), (DigestVerdict::InStep, 1));
    assert!(world.tell(A, &[(1, 6)]).changed.len() == 1 && world.held() == [(1, 6)]);
}

#[test]
fn what_a_voice_adopts_shows_in_the_answers() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(B, &[(1, 5), (3, 5)]);
    world.tell(A, &[(1, 4), (2, 5)]);
    assert_eq!(world.held(), [(1, 4), (2, 5), (3, 5)]);
    // the delta to what the other gateway has is lost
    set(&mut world, A, &[(1, 5), (3, 5)]);
    let said = world.digest(A);
    assert_eq!((said.verdict, world.held()), (DigestVerdict::InStep, vec![(1, 5), (3, 5)]));
    assert_eq!(said.change.changed.len(), 2, "{:?}", said.change.changed);
}

#[test]
fn a_flood_of_digests_has_nobody_look_at_all_offers_each_time() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5)]);
    world.tell(B, &[(1, 4)]);
    let digests = [A, B].map(|node| world.exporters[&node].digest());
    let epoch = causeway_model::Epoch;
    let mut changed = 0;
    for number in 0..1000 {
        world.now += Duration::from_millis(1);
        // B says now that it has what A has, now that it has what it had
        let digest =
            ExportsDigest { epoch: epoch(100 + number), ..digests[usize::from(number % 2 == 1)].clone() };
        let said = world.imports.handle_digest(world.now, B, &digest, true);
        changed += said.change.changed.len();
    }
    assert!(changed <= 1, "{changed} changes in a second");
    world.pass(2);
    assert_eq!(world.digest(A).verdict, DigestVerdict::InStep);
    let digest = ExportsDigest { epoch: epoch(2000), ..digests[0].clone() };
    assert!(world.imports.handle_digest(world.now, B, &digest, true).adopted, "later it is looked at again");
}

#[test]
fn snapshots_come_one_after_the_other_and_nobody_waits_for_ever() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    set(&mut world, A, &[(1, 5)]);
    set(&mut world, B, &[(1, 4)]);
    let digest = world.exporters[&A].digest();
    let refused = world.imports.handle_digest(world.now, A, &digest, false);
    assert_eq!((refused.verdict, world.imports.is_fetching(world.now)), (DigestVerdict::Wait, false));
    assert_eq!(world.digest(A).verdict, DigestVerdict::Ask);
    assert!(world.imports.is_fetching(world.now));
    assert_eq!(world.digest(B).verdict, DigestVerdict::Wait, "the other one's turn comes next");
    // the request is lost: somebody else is asked
    world.pass(2);
    assert_eq!(world.digest(B).verdict, DigestVerdict::Ask);
    // parts that trickle in hold nobody up for long
    let many: Vec<(u64, u32)> = (0..3000).map(|handle| (handle, 5)).collect();
    set(&mut world, B, &many);
    let first = world.exporters[&B].snapshot().remove(0);
    let begun = world.now;
    let mut waited = Duration::ZERO;
    for index in 0.. {
        world.now = begun + Duration::from_secs(2) * index;
        let part = causeway_wire::link::SnapshotPart { index, last: false };
        let frame = Exports { snapshot: Some(part), upserts: Vec::new(), ..first.clone() };
        world.imports.handle_exports(world.now, B, frame).unwrap();
        match world.digest(A).verdict {
            DigestVerdict::Ask => break,
            verdict => assert_eq!(verdict, DigestVerdict::Wait),
        }
        waited = world.now - begun;
        assert!(waited < Duration::from_secs(20));
    }
    assert_eq!(waited, Duration::from_secs(8));
}

#[test]
fn gateways_that_agree_for_a_while_share_one_set() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5), (2, 5)]);
    world.tell(B, &[(1, 5)]);
    world.tell(B, &[(1, 5), (2, 5)]);
    let distinct = |world: &World| sets(world).into_iter().collect::<BTreeSet<_>>().len();
    assert!(distinct(&world) > 1);
    for _ in 0..POOL_AFTER.as_secs() {
        world.digest(A);
        assert!(distinct(&world) > 1, "it may change again at once");
        world.pass(1);
        world.digest(B);
    }
    world.digest(A);
    assert_eq!(distinct(&world), 1);
    world.tell(A, &[(1, 5)]);
    assert_eq!(world.held(), [(1, 5), (2, 5)], "the other one offers it yet");
    world.tell(B, &[(1, 5)]);
    assert_eq!(world.held(), [(1, 5)]);
}
