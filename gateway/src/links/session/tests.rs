use super::*;
use crate::links::introduction::tests::facts;

fn peer() -> PeerGateway {
    PeerGateway { cluster: facts("phx", 2), established: Revision(5), node: NodeId(7), dialled: true }
}

fn hello() -> LinkHello {
    LinkHello {
        version: VersionInfo::current(),
        cluster: facts("phx", 2),
        node: NodeId(7),
        unix_time: 1000,
        have: None,
    }
}

#[test]
fn a_hello_of_the_peer_passes_whatever_its_clock_says() {
    assert!(check_hello(&peer(), hello(), 1000).is_ok());
    assert!(check_hello(&peer(), hello(), 5000).is_ok());
    let mut moved = hello();
    moved.cluster.locality.zone = "b".into();
    assert!(check_hello(&peer(), moved, 1000).is_ok());
}

#[test]
fn a_hello_of_somebody_else_ends_the_connection() {
    let mut cases = vec![hello(), hello(), hello(), hello()];
    cases[0].node = NodeId(8);
    cases[1].cluster.id = 3.try_into().unwrap();
    cases[2].cluster.name = "lhr".parse().unwrap();
    cases[3].cluster.trust_domain = "lhr.mesh".parse().unwrap();
    for case in cases {
        let end = check_hello(&peer(), case, 1000).unwrap_err();
        assert_eq!(end.reason(), "wrong-identity");
        assert!(end.to_string().contains("gateway 0000000000000007 of cluster phx"), "{end}");
    }
    let mut long = hello();
    long.version.release = "x".repeat(65);
    assert_eq!(check_hello(&peer(), long, 1000).unwrap_err().reason(), "protocol-violation");
}
