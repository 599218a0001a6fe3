use super::*;
use crate::fault::check_offer;
use causeway_model::ClusterId;
use proptest::prelude::*;

fn peer() -> ClusterFacts {
    ClusterFacts {
        name: "phx".parse().unwrap(),
        id: ClusterId::new(2).unwrap(),
        trust_domain: "phx.mesh".parse().unwrap(),
        locality: Locality { region: "us-phoenix-1".into(), zone: "AD-1".into() },
    }
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![Just("shop".to_owned()), "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", "[a-z]{63}"]
}

fn region() -> impl Strategy<Value = String> {
    prop_oneof![Just("us-phoenix-1".to_owned()), "\\PC{0,12}", Just("x".repeat(Locality::MAX_LEN))]
}

fn any_offer() -> impl Strategy<Value = ExportSummary> {
    let ports = prop::collection::btree_map(1u16.., 0usize..4, 1..64);
    let identities = prop::collection::vec((label(), label()), 1..64);
    let localities = prop::collection::vec((region(), region(), any::<u32>()), 0..64);
    ((label(), label()), any::<u64>(), ports, identities, any::<(u32, u32)>(), localities).prop_map(
        |((service, namespace), handle, ports, identities, (a, b), localities)| {
            let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Http, Protocol::Grpc];
            let port = |(port, index): (u16, usize)| ServicePort { port, protocol: protocols[index] };
            ExportSummary {
                name: format!("{service}.{namespace}").parse().unwrap(),
                handle: ServiceHandle(handle),
                ports: ports.into_iter().map(port).collect::<Vec<_>>().try_into().unwrap(),
                identities: identities
                    .into_iter()
                    .map(|(ns, sa)| format!("spiffe://phx.mesh/ns/{ns}/sa/{sa}").parse().unwrap())
                    .collect(),
                healthy: a.min(b),
                total: a.max(b),
                localities: localities
                    .into_iter()
                    .map(|(region, zone, count)| (Locality { region, zone }, count))
                    .filter(|(locality, _)| crate::fault::check_locality(locality).is_ok())
                    .collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_packed_opens_as_it_was(offer in any_offer()) {
        prop_assert_eq!(check_offer(&peer(), &offer), Ok(()));
        let packed = Packed::new(&peer(), &offer);
        prop_assert_eq!(packed.counts(), (offer.healthy, offer.total));
        prop_assert_eq!(packed.name(), offer.name.clone());
        prop_assert_eq!(packed.open(&peer()), offer);
    }

    #[test]
    fn bytes_are_in_the_order_of_names(a in any_offer(), b in any_offer()) {
        let (left, right) = (Packed::new(&peer(), &a), Packed::new(&peer(), &b));
        if a.name != b.name {
            prop_assert_eq!(left.bytes().cmp(right.bytes()), a.name.cmp(&b.name));
        }
        prop_assert_eq!(left.is_same(&right), a == b);
        prop_assert_eq!(left.shares_name(&right), a.name == b.name);
    }
}
