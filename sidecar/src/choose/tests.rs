//! Order, subsets and spread of the choice.

use super::*;
use causeway_model::{ClusterFacts, PortSet};
use causeway_wire::Cid;
use causeway_wire::view::EndpointView;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn locality(text: &str) -> Locality {
    let (region, zone) = text.split_once('/').unwrap();
    Locality { region: region.into(), zone: zone.into() }
}

fn endpoint(instance: u64, place: &str, weight: u16, health: Health) -> EndpointView {
    EndpointView {
        instance: WorkloadId(instance),
        cid: Cid([u8::try_from(instance % 256).unwrap(); 20]),
        locality: locality(place),
        weight,
        health,
    }
}

fn offer(id: u32, place: &str, endpoints: Vec<EndpointView>) -> Offer {
    let healthy = u32::try_from(endpoints.len()).unwrap();
    Offer {
        cluster: ClusterFacts {
            name: format!("c{id}").parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: format!("c{id}.mesh").parse().unwrap(),
            locality: locality(place),
        },
        handle: None,
        ports: PortSet::try_from(vec!["80".parse().unwrap()]).unwrap(),
        identities: vec![format!("spiffe://c{id}.mesh/ns/shop/sa/pay").parse().unwrap()],
        healthy,
        total: healthy,
        stale_for: None,
        endpoints,
    }
}

fn view(offers: Vec<Offer>) -> ServiceView {
    ServiceView { name: "pay.shop".parse().unwrap(), offers }
}

fn chooser(own: u64) -> Chooser {
    Chooser { own: WorkloadId(own), locality: locality("east/1"), most: 8 }
}

/// The instances (or handles) that may be chosen, sorted.
fn chosen(view: &ServiceView, without: &[u64]) -> Vec<u64> {
    let number = |target| match target {
        Target::Endpoint(_, instance) => instance.0,
        Target::Service(_, handle) => handle.0,
    };
    let found = chooser(9).candidates(view, 80, |target| !without.contains(&number(target)));
    let mut numbers: Vec<u64> = found.iter().map(|candidate| number(candidate.target)).collect();
    numbers.sort_unstable();
    numbers
}

const UP: Health = Health::Healthy;

#[test]
fn nearer_goes_first_and_spills_over() {
    let near = offer(1, "east/1", vec![endpoint(1, "east/1", 1, UP), endpoint(2, "east/2", 1, UP)]);
    let far = offer(2, "west/1", vec![endpoint(3, "west/1", 1, UP), endpoint(4, "west/2", 1, UP)]);
    let view = view(vec![far, near]);
    assert_eq!(chosen(&view, &[]), [1]);
    assert_eq!(chosen(&view, &[1]), [2]);
    assert_eq!(chosen(&view, &[1, 2]), [3, 4]);
    assert_eq!(chosen(&view, &[1, 2, 3, 4]), [0u64; 0]);
}

#[test]
fn what_does_not_take_requests_is_left_out() {
    let endpoints = vec![
        endpoint(1, "east/1", 1, Health::Draining),
        endpoint(2, "east/1", 1, Health::Unhealthy),
        endpoint(3, "west/1", 1, UP),
    ];
    let mut offers = vec![offer(1, "east/1", endpoints)];
    assert_eq!(chosen(&view(offers.clone()), &[]), [3]);
    assert!(chooser(9).candidates(&view(offers.clone()), 81, |_| true).is_empty(), "it has no such port");
    offers[0].identities.clear();
    assert_eq!(chosen(&view(offers), &[]), [0u64; 0], "nobody may serve it");
}

#[test]
fn a_silent_link_comes_last() {
    let mut silent = offer(1, "east/1", vec![endpoint(1, "east/1", 1, UP)]);
    silent.stale_for = Some(3);
    let far = offer(2, "west/1", vec![endpoint(2, "west/1", 1, UP)]);
    let view = view(vec![silent, far]);
    assert_eq!(chosen(&view, &[]), [2]);
    assert_eq!(chosen(&view, &[2]), [1]);
}

#[test]
fn the_gateway_picks_before_endpoints_are_known_and_when_none_of_them_will_do() {
    let mut unknown = offer(1, "east/1", vec![]);
    (unknown.handle, unknown.healthy) = (Some(ServiceHandle(77)), 5);
    assert_eq!(chosen(&view(vec![unknown.clone()]), &[]), [77]);
    unknown.healthy = 0;
    assert_eq!(chosen(&view(vec![unknown.clone()]), &[]), [0u64; 0]);
    let mut known = offer(1, "east/1", vec![endpoint(1, "east/1", 1, UP)]);
    known.handle = Some(ServiceHandle(77));
    assert_eq!(chosen(&view(vec![known.clone()]), &[]), [1]);
    assert_eq!(chosen(&view(vec![known]), &[1]), [77]);
}

#[test]
fn sidecars_keep_to_different_endpoints() {
    let endpoints = (0..16).map(|n| endpoint(1000 + n, "east/1", 1, UP)).collect();
    let view = view(vec![offer(1, "east/1", endpoints)]);
    let mut uses: BTreeMap<Target, u32> = BTreeMap::new();
    for own in 0..400 {
        let mut chooser = chooser(own);
        chooser.most = 4;
        let found = chooser.candidates(&view, 80, |_| true);
        assert_eq!(found.len(), 4);
        found.iter().for_each(|candidate| *uses.entry(candidate.target).or_default() += 1);
        let again: Vec<_> = chooser.candidates(&view, 80, |_| true).iter().map(|c| c.target).collect();
        assert_eq!(again, found.iter().map(|c| c.target).collect::<Vec<_>>(), "the order is its own");
    }
    // 400 x 4 over 16: 100 each, and a binomial deviation of 9
    assert!(uses.len() == 16 && uses.values().all(|n| (55..=145).contains(n)), "{uses:?}");
}

proptest! {
    #[test]
    fn the_load_is_spread(count in 2u64..12, seed: u64) {
        let endpoints = (0..count).map(|n| endpoint(n, "east/1", 10, UP)).collect();
        let view = view(vec![offer(1, "east/1", endpoints)]);
        let mut chooser = chooser(3);
        chooser.most = 16;
        let candidates = chooser.candidates(&view, 80, |_| true);
        let mut loads: BTreeMap<Target, u32> = candidates.iter().map(|c| (c.target, 0)).collect();
        let mut state = seed;
        let mut random = || { state = state.wrapping_add(0x9e37_79b9_7f4a_7c15); causeway_wire::cid::mix(state) };
        for _ in 0..count * 50 {
            let target = pick(&candidates, |target| loads[&target], [random(), random()]).unwrap().target;
            *loads.get_mut(&target).unwrap() += 1;
        }
        let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
        prop_assert!(most - least <= 12, "{loads:?}");
    }

    #[test]
    fn a_weight_is_a_share(light in 1u16..20, seed: u64) {
        let endpoints = vec![endpoint(1, "east/1", light, UP), endpoint(2, "east/1", light * 3, UP)];
        let view = view(vec![offer(1, "east/1", endpoints)]);
        let candidates = chooser(3).candidates(&view, 80, |_| true);
        let mut loads: BTreeMap<Target, u32> = candidates.iter().map(|c| (c.target, 0)).collect();
        let mut state = seed;
        let mut random = || { state = state.wrapping_add(0x9e37_79b9_7f4a_7c15); causeway_wire::cid::mix(state) };
        for _ in 0..400 {
            let target = pick(&candidates, |target| loads[&target], [random(), random()]).unwrap().target;
            *loads.get_mut(&target).unwrap() += 1;
        }
        let heavy = loads[&Target::Endpoint(ClusterId::new(1).unwrap(), WorkloadId(2))];
        prop_assert!((290..=310).contains(&heavy), "{loads:?}");
    }

    #[test]
    fn a_choice_is_always_of_the_best_tier(
        places in prop::collection::vec((0u8..3, 0u8..3, any::<bool>(), 0u8..3), 1..24), own: u64, random: [u64; 2]
    ) {
        let offers: Vec<Offer> = places.iter().enumerate().map(|(n, (region, zone, stale, health))| {
            let region = ["east", "west", "north"][usize::from(*region)];
            let health = [UP, Health::Draining, Health::Unhealthy][usize::from(*health)];
            let place = format!("{region}/{zone}");
            let mut offer = offer(1 + u32::try_from(n).unwrap(), &place, vec![endpoint(n as u64, &place, 1, health)]);
            offer.stale_for = stale.then_some(1);
            offer
        }).collect();
        let view = view(offers);
        let chooser = chooser(own);
        let score = |offer: &Offer| (offer.stale_for.is_some(), chooser.locality.distance(&offer.endpoints[0].locality));
        let best = view.offers.iter().filter(|offer| offer.endpoints[0].health == UP).map(score).min();
        let candidates = chooser.candidates(&view, 80, |_| true);
        prop_assert!(candidates.len() <= chooser.most);
        prop_assert_eq!(candidates.iter().map(|c| c.target).collect::<BTreeSet<_>>().len(), candidates.len());
        let picked = pick(&candidates, |_| 0, random).map(|candidate| score(candidate.offer));
        prop_assert_eq!(picked, best);
    }
}
