use super::*;

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
