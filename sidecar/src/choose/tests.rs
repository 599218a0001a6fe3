//! Order and subsets of candidates.

use super::*;
use causeway_model::{ClusterFacts, PortKey, PortSet};
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

fn number(target: Target) -> u64 {
    match target {
        Target::Endpoint(_, instance) => instance.0,
        Target::Service(_, handle) => handle.0,
    }
}

/// No path is known.
fn unknown(_: ClusterId) -> u8 {
    causeway_balance::UNKNOWN_PATH
}

/// The instances (or handles) of the nearest tier that take connections, sorted.
fn chosen(view: &ServiceView, without: &[u64]) -> Vec<u64> {
    let mut found = chooser(9).candidates(view, PortKey::tcp(80), unknown);
    found.retain(|candidate| candidate.healthy && !without.contains(&number(candidate.target)));
    let nearest = found.first().map(|candidate| candidate.tier);
    let near = found.iter().filter(|candidate| Some(candidate.tier) == nearest);
    let mut numbers: Vec<u64> = near.map(|candidate| number(candidate.target)).collect();
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
    assert!(
        chooser(9).candidates(&view(offers.clone()), PortKey::tcp(81), unknown).is_empty(),
        "it has no such port"
    );
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
        let found = chooser.candidates(&view, PortKey::tcp(80), unknown);
        assert_eq!(found.len(), 4);
        found.iter().for_each(|candidate| *uses.entry(candidate.target).or_default() += 1);
        let again: Vec<_> =
            chooser.candidates(&view, PortKey::tcp(80), unknown).iter().map(|c| c.target).collect();
        assert_eq!(again, found.iter().map(|c| c.target).collect::<Vec<_>>(), "the order is its own");
    }
    // 400 x 4 over 16: 100 each, and a binomial deviation of 9
    assert!(uses.len() == 16 && uses.values().all(|n| (55..=145).contains(n)), "{uses:?}");
}

#[test]
fn elsewhere_the_shorter_path_goes_first() {
    let offers = vec![
        offer(1, "west/1", vec![endpoint(1, "west/1", 1, UP)]),
        offer(2, "north/1", vec![endpoint(2, "north/1", 1, UP)]),
        offer(3, "south/1", vec![endpoint(3, "south/1", 1, UP)]),
    ];
    let view = view(offers);
    assert_eq!(chosen(&view, &[]), [1, 2, 3], "nothing is known of any");
    let path = |cluster: ClusterId| [9, 4, causeway_balance::UNKNOWN_PATH][cluster.get() as usize - 1];
    let found = chooser(9).candidates(&view, PortKey::tcp(80), path);
    assert_eq!(found.iter().map(|candidate| number(candidate.target)).collect::<Vec<_>>(), [2, 1, 3]);
}

#[test]
fn those_that_take_nothing_are_shown_in_proportion() {
    let endpoints = (0..30).map(|n| endpoint(n, "east/1", 1, if n < 20 { UP } else { Health::Unhealthy }));
    let endpoints = endpoints.chain([endpoint(99, "east/1", 1, Health::Draining)]).collect();
    let view = view(vec![offer(1, "east/1", endpoints)]);
    let found = chooser(3).candidates(&view, PortKey::tcp(80), unknown);
    let well = found.iter().filter(|candidate| candidate.healthy).count();
    assert_eq!((well, found.len() - well), (8, 4));
}

proptest! {
    #[test]
    fn the_nearest_come_first(
        places in prop::collection::vec((0u8..3, 0u8..3, any::<bool>(), 0u8..3), 1..24), own: u64
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
        let candidates = chooser.candidates(&view, PortKey::tcp(80), unknown);
        prop_assert!(candidates.iter().map(|candidate| score(candidate.offer)).is_sorted());
        prop_assert_eq!(candidates.iter().map(|c| c.target).collect::<BTreeSet<_>>().len(), candidates.len());
        let best = view.offers.iter().filter(|offer| offer.endpoints[0].health == UP).map(score).min();
        let first = candidates.iter().find(|candidate| candidate.healthy);
        prop_assert_eq!(first.map(|candidate| score(candidate.offer)), best);
    }
}
