use super::*;
use proptest::prelude::*;

fn ports(list: &[&str]) -> PortSet {
    list.iter().map(|port| port.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap()
}

fn locality(text: &str) -> Locality {
    let (region, zone) = text.split_once('/').unwrap();
    Locality { region: region.into(), zone: zone.into() }
}

fn offer(id: u32, at: &str, list: &[&str]) -> Offer {
    Offer {
        cluster: ClusterFacts {
            name: format!("c{id}").parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: format!("c{id}.mesh").parse().unwrap(),
            locality: locality(at),
        },
        handle: None,
        ports: ports(list),
        identities: Vec::new(),
        healthy: 1,
        total: 1,
        stale_for: None,
        endpoints: Vec::new(),
    }
}

fn peer(offer: Offer, linked_at: u64) -> PeerOffer {
    PeerOffer { offer, may_merge: true, linked_at: Revision(linked_at) }
}

fn merge(local: Option<Offer>, peers: Vec<PeerOffer>) -> (Vec<u32>, Vec<(u32, &'static str)>, Merged) {
    let own = offer(1, "iad/a", &[]).cluster;
    let merged = merge_offers(&"pay.shop".parse().unwrap(), &own, local, peers, &locality("iad/a"));
    let order = merged.view.offers.iter().map(|offer| offer.cluster.id.get()).collect();
    let conflicts = merged.conflicts.iter().map(|c| (c.cluster.get(), c.why.reason())).collect();
    (order, conflicts, merged)
}

#[test]
fn near_offers_come_first_and_stale_ones_last() {
    let stale = Offer { stale_for: Some(9), ..offer(2, "iad/a", &["80/http"]) };
    let peers = vec![
        peer(stale, 1),
        peer(offer(6, "phx/a", &["80/http"]), 2),
        peer(offer(5, "phx/b", &["80/http"]), 3),
        peer(offer(4, "iad/b", &["80/http"]), 4),
        peer(offer(3, "iad/a", &["80/http"]), 5),
    ];
    let (order, conflicts, _) = merge(Some(offer(1, "iad/a", &["80/http"])), peers.clone());
    assert_eq!((order, conflicts), (vec![1, 3, 4, 5, 6, 2], vec![]));
    let (order, ..) = merge(None, peers);
    assert_eq!(order, [3, 4, 5, 6, 2]);
}

#[test]
fn the_local_definition_wins_and_needs_the_links_leave() {
    let mut foreign = peer(offer(2, "iad/a", &["80/http"]), 1);
    foreign.may_merge = false;
    let peers = vec![
        foreign.clone(),
        peer(offer(3, "iad/a", &["80/tcp"]), 2),
        peer(offer(4, "iad/a", &["81/http"]), 3),
        peer(offer(5, "iad/a", &["80/http", "9/udp"]), 4),
    ];
    let (order, conflicts, merged) = merge(Some(offer(1, "iad/a", &["80/http"])), peers);
    assert_eq!(order, [1, 5]);
    assert_eq!(conflicts, [(2, "not-merged"), (3, "other-protocol"), (4, "missing-port")]);
    assert!(merged.view.offers.iter().all(|offer| offer.ports == ports(&["80/http"])));
    let (order, conflicts, _) = merge(None, vec![foreign]);
    assert_eq!((order, conflicts), (vec![2], vec![]), "nothing here to merge with");
}

#[test]
fn among_peers_the_first_link_defines_whatever_the_majority_says() {
    let peers = vec![
        peer(offer(2, "phx/a", &["80/tcp"]), 30),
        peer(offer(3, "phx/a", &["80/tcp"]), 20),
        peer(Offer { stale_for: Some(5), ..offer(4, "phx/a", &["80/http"]) }, 10),
    ];
    let (order, conflicts, _) = merge(None, peers);
    assert_eq!(order, [4]);
    assert_eq!(conflicts, [(3, "other-protocol"), (2, "other-protocol")]);
}

#[test]
fn a_cluster_offers_once_and_nobody_offers_in_our_name() {
    let peers = vec![
        peer(offer(1, "iad/a", &["80/http"]), 1),
        peer(offer(2, "iad/a", &["80/http"]), 2),
        peer(offer(2, "iad/a", &["80/http"]), 3),
    ];
    let (order, conflicts, _) = merge(None, peers);
    assert_eq!(order, [2]);
    assert_eq!(conflicts, [(1, "same-cluster"), (2, "same-cluster")]);
}

#[test]
fn a_conflict_names_both_sides() {
    let against = |local: Option<Offer>, peers| -> Vec<(u32, u32)> {
        merge(local, peers).2.conflicts.iter().map(|c| (c.cluster.get(), c.against.get())).collect()
    };
    let foreign = PeerOffer { may_merge: false, ..peer(offer(2, "iad/a", &["80/http"]), 1) };
    let other = peer(offer(3, "iad/a", &["80/tcp"]), 2);
    let missing = peer(offer(4, "iad/a", &["81/tcp"]), 3);
    let peers = vec![foreign, other, missing];
    assert_eq!(against(Some(offer(1, "iad/a", &["80/http"])), peers.clone()), [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(against(None, peers), [(3, 2), (4, 2)], "no local one: the oldest link's defines it");
}

fn any_peers() -> impl Strategy<Value = Vec<PeerOffer>> {
    let ports = prop::sample::subsequence(vec!["80/http", "81/tcp", "82/udp"], 0..=3);
    let ports = (ports, any::<bool>()).prop_map(|(mut ports, tcp)| {
        if tcp && let Some(first) = ports.first_mut().filter(|port| **port == "80/http") {
            *first = "80/tcp";
        }
        ports
    });
    let zone = prop::sample::select(vec!["iad/a", "iad/b", "phx/a"]);
    // a link is made at a revision of its own
    let one = (ports, zone, any::<bool>(), prop::option::of(0u32..9), 0u32..9, 0u64..4);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let offers = all.into_iter().enumerate();
        offers
            .map(|(index, (ports, zone, may_merge, stale_for, healthy, linked))| {
                let id = u32::try_from(index).unwrap() + 2;
                let offer = Offer { stale_for, healthy, ..offer(id, zone, &ports) };
                PeerOffer { may_merge, ..peer(offer, linked) }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (peers, shuffled) in any_peers().prop_flat_map(|peers| (Just(peers.clone()), Just(peers).prop_shuffle())),
        local in any::<bool>(),
    ) {
        let local = local.then(|| offer(1, "iad/a", &["80/http"]));
        let merged = merge(local.clone(), peers.clone()).2;
        prop_assert_eq!(&merged, &merge(local.clone(), shuffled).2);
        // nobody is lost without a word, and all that is left agrees
        prop_assert_eq!(
            merged.view.offers.len() + merged.conflicts.len(),
            peers.len() + usize::from(local.is_some())
        );
        prop_assert!(merged.view.offers.windows(2).all(|pair| pair[0].ports == pair[1].ports));
    }

    #[test]
    fn what_a_peer_says_does_not_make_it_the_definition(
        peers in any_peers(),
        healthy in any::<u32>(),
        stale_for in prop::option::of(any::<u32>()),
    ) {
        let conflicts = merge(None, peers.clone()).2.conflicts;
        let boasts = peers.into_iter().map(|peer| PeerOffer {
            offer: Offer { healthy, total: u32::MAX, stale_for, ..peer.offer.clone() },
            ..peer
        });
        prop_assert_eq!(conflicts, merge(None, boasts.collect()).2.conflicts);
    }
}
