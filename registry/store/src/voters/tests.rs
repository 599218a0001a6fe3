use super::*;
use proptest::prelude::*;

fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn fine(node: u64) -> Candidate {
    Candidate {
        node: NodeId(node),
        signs: true,
        alive: true,
        draining: false,
        behind: Some(0),
        zone: "AD-1".into(),
        dead_for: None,
    }
}

fn dead(node: u64, secs: u64) -> Candidate {
    Candidate { alive: false, behind: None, dead_for: Some(Duration::from_secs(secs)), ..fine(node) }
}

fn draining(node: u64) -> Candidate {
    Candidate { draining: true, ..fine(node) }
}

fn all(ids: std::ops::RangeInclusive<u64>) -> Vec<Candidate> {
    ids.map(fine).collect()
}

#[test]
fn a_group_grows_by_two() {
    assert_eq!(choose_voters(&nodes(&[1]), &all(1..=2)), None);
    assert_eq!(choose_voters(&nodes(&[1]), &all(1..=3)), Some(nodes(&[1, 2, 3])));
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &all(1..=4)), None);
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &all(1..=5)), Some(nodes(&[1, 2, 3, 4, 5])));
    assert_eq!(choose_voters(&nodes(&[1, 2, 3, 4, 5]), &all(1..=9)), None);
}

#[test]
fn only_who_caught_up_and_signs_gets_a_vote() {
    let behind = |behind| Candidate { behind, ..fine(3) };
    let forwarder = Candidate { signs: false, ..fine(3) };
    for third in [behind(None), behind(Some(CAUGHT_UP + 1)), forwarder, draining(3), dead(3, 1)] {
        assert_eq!(choose_voters(&nodes(&[1]), &[fine(1), fine(2), third]), None);
    }
    let third = behind(Some(CAUGHT_UP));
    assert_eq!(choose_voters(&nodes(&[1]), &[fine(1), fine(2), third]), Some(nodes(&[1, 2, 3])));
}

#[test]
fn who_drains_or_died_is_replaced_if_somebody_can() {
    for gone in [draining(3), dead(3, 30), Candidate { signs: false, ..fine(3) }] {
        let three = nodes(&[1, 2, 3]);
        let spare = [fine(1), fine(2), gone.clone(), fine(4)];
        assert_eq!(choose_voters(&three, &spare), Some(nodes(&[1, 2, 4])));
        assert_eq!(choose_voters(&three, &[fine(1), fine(2), gone]), None, "three do not shrink");
    }
    let waits = [fine(1), fine(2), dead(3, 29), fine(4)];
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &waits), None, "a restart");
    let forgotten = [fine(1), fine(2), fine(4)];
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &forgotten), Some(nodes(&[1, 2, 4])));
    assert_eq!(choose_voters(&nodes(&[1]), &[draining(1), fine(2)]), Some(nodes(&[2])));
    assert_eq!(choose_voters(&nodes(&[1]), &[draining(1)]), None);
}

#[test]
fn a_dead_one_is_replaced_before_one_that_drains() {
    let group = [fine(1), draining(2), dead(3, 60), fine(4)];
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &group), Some(nodes(&[1, 2, 4])));
}

#[test]
fn five_become_three_when_three_are_left() {
    let five = nodes(&[1, 2, 3, 4, 5]);
    let four = [fine(1), fine(2), fine(3), fine(4), dead(5, 60)];
    assert_eq!(choose_voters(&five, &four), None, "four of five live");
    let three = [fine(1), fine(2), fine(3), draining(4), dead(5, 60)];
    assert_eq!(choose_voters(&five, &three), Some(nodes(&[1, 2, 3])));
}

#[test]
fn an_even_group_becomes_odd() {
    assert_eq!(choose_voters(&nodes(&[1, 2]), &all(1..=3)), Some(nodes(&[1, 2, 3])));
    assert_eq!(choose_voters(&nodes(&[1, 2]), &all(1..=2)), Some(nodes(&[1])));
    assert_eq!(choose_voters(&nodes(&[1, 2, 3, 4]), &all(1..=4)), Some(nodes(&[1, 2, 3])));
    let four = [fine(1), fine(2), dead(3, 60), fine(4)];
    assert_eq!(choose_voters(&nodes(&[1, 2, 3, 4]), &four), Some(nodes(&[1, 2, 4])));
}

#[test]
fn zones_are_shared_out() {
    let at = |node: u64, zone: &str| Candidate { zone: zone.into(), ..fine(node) };
    let group = [at(1, "a"), at(2, "a"), at(3, "a"), at(4, "b"), at(5, "c")];
    assert_eq!(choose_voters(&nodes(&[1]), &group[..4]), Some(nodes(&[1, 2, 4])));
    let seven = [at(1, "a"), at(2, "a"), at(3, "a"), at(4, "a"), at(5, "a"), at(6, "b"), at(7, "c")];
    assert_eq!(choose_voters(&nodes(&[1, 2, 3]), &seven), Some(nodes(&[1, 2, 3, 6, 7])));
}

#[test]
fn a_removal_is_made_up_for_or_shrinks_to_the_leader() {
    let three = nodes(&[1, 2, 3]);
    let out =
        |gone, leader, candidates: &[Candidate]| without(&three, NodeId(gone), NodeId(leader), candidates);
    assert_eq!(out(3, 1, &all(1..=4)), Some(nodes(&[1, 2, 4])));
    assert_eq!(out(3, 2, &all(1..=3)), Some(nodes(&[2])), "to the leader");
    assert_eq!(out(3, 2, &[dead(1, 90), fine(2), fine(3)]), Some(nodes(&[2])));
    assert_eq!(out(3, 2, &[]), Some(nodes(&[2])), "gateways that are not known");
    assert_eq!(without(&nodes(&[1]), NodeId(1), NodeId(1), &all(1..=2)), Some(nodes(&[2])));
    assert_eq!(without(&nodes(&[1]), NodeId(1), NodeId(1), &all(1..=1)), None);
    let five = nodes(&[1, 2, 3, 4, 5]);
    assert_eq!(without(&five, NodeId(1), NodeId(5), &all(1..=5)), Some(nodes(&[2, 3, 5])));
    assert_eq!(without(&five, NodeId(1), NodeId(5), &all(1..=6)), Some(nodes(&[2, 3, 4, 5, 6])));
}

fn candidate(node: u64) -> impl Strategy<Value = Candidate> {
    let behind = prop_oneof![Just(None), Just(Some(0)), Just(Some(CAUGHT_UP + 1))];
    let zone = prop_oneof![Just("a"), Just("b"), Just("c")];
    (prop::bool::weighted(0.9), prop::bool::weighted(0.8), prop::bool::weighted(0.2), behind, zone, 0u64..60)
        .prop_map(move |(signs, alive, draining, behind, zone, secs)| Candidate {
            node: NodeId(node),
            signs,
            alive,
            draining,
            behind,
            zone: zone.into(),
            dead_for: (!alive).then(|| Duration::from_secs(secs)),
        })
}

fn group() -> impl Strategy<Value = (BTreeSet<NodeId>, Vec<Candidate>)> {
    let candidates: Vec<_> = (1..=9).map(candidate).collect();
    let current = prop::collection::btree_set((1u64..=9).prop_map(NodeId), 1..=7);
    (current, candidates, 3usize..=9).prop_map(|(current, mut candidates, known)| {
        candidates.truncate(known);
        (current, candidates)
    })
}

fn find(candidates: &[Candidate], node: NodeId) -> Option<&Candidate> {
    candidates.iter().find(|candidate| candidate.node == node)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_rules_hold((current, candidates) in group()) {
        let Some(next) = choose_voters(&current, &candidates) else { return Ok(()) };
        prop_assert!(!next.is_empty());
        prop_assert!(next != current);
        prop_assert!(next.len() % 2 == 1, "{next:?}");
        prop_assert!(next.len() <= 5 || next.len() < current.len());
        // who is new may vote
        for node in next.difference(&current) {
            prop_assert!(find(&candidates, *node).is_some_and(Candidate::ready));
        }
        // a majority of those that live stays, unless a lone one hands over
        let lives = |node: &&NodeId| find(&candidates, **node).is_some_and(|one| one.alive);
        let living = current.iter().filter(lives).count();
        let dropped = current.difference(&next).filter(lives).count();
        prop_assert!(dropped <= living / 2 || (living == 1 && !next.is_disjoint(&nodes(&[1,2,3,4,5,6,7,8,9]))));
        // who lives and should stay does, unless there were too many
        let stays = |node: &&NodeId| find(&candidates, **node).is_some_and(|one| one.alive && one.stays());
        let lost = current.difference(&next).filter(stays).count();
        prop_assert!(lost == 0 || current.len() % 2 == 0 || current.len() > 5);
        // three do not become one
        prop_assert!(current.len() < 3 || next.len() >= 3);
    }

    #[test]
    fn it_settles((current, candidates) in group()) {
        let Some(first) = choose_voters(&current, &candidates) else { return Ok(()) };
        let alive = |node: &&NodeId| find(&candidates, **node).is_some_and(|one| one.alive);
        let go = |node: &&NodeId| alive(node) && !find(&candidates, **node).is_some_and(Candidate::stays);
        let (living, going) = (current.iter().filter(alive).count(), current.iter().filter(go).count());
        // one step does, unless a majority is to go or the group is of no regular size
        if matches!(current.len(), 1 | 3 | 5) && going <= living / 2 {
            prop_assert_eq!(choose_voters(&first, &candidates), None, "after {:?}", first);
        }
        let mut voters = first;
        let mut steps = 1;
        while let Some(next) = choose_voters(&voters, &candidates) {
            voters = next;
            steps += 1;
            prop_assert!(steps < 6, "{voters:?}");
        }
    }

    #[test]
    fn a_removal_leaves_an_odd_group((current, candidates) in group(), gone: prop::sample::Index, leader: prop::sample::Index) {
        let pick = |index: prop::sample::Index| current.iter().copied().nth(index.index(current.len())).unwrap();
        let (gone, leader) = (pick(gone), pick(leader));
        match without(&current, gone, leader, &candidates) {
            None => prop_assert!(current.len() == 1),
            Some(next) => {
                prop_assert!(next.len() % 2 == 1 && !next.contains(&gone));
                prop_assert!(gone == leader || next.contains(&leader));
            }
        }
    }
}
