//! Who may speak which protocol to a gateway: every identity on every ALPN, on a real process.

use causeway_test_mesh::{Intruder, Mesh, Stolen};
use causeway_transport::close_reason;
use causeway_wire::alpn;

#[test]
fn a_wrong_role_is_refused_on_every_protocol() {
    let mesh = Mesh::new("roles");
    let (iad, phx) = mesh.pair(1);
    let fra = mesh.cluster("fra").start();
    let [ours, theirs] = [&iad, &phx].map(|cluster| {
        let sidecar = mesh.sidecar(cluster, "client").listen("a.b:80").start();
        Stolen::from_sidecar(&sidecar.state_dir)
    });
    let [own, linked, unlinked] =
        [&iad, &phx, &fra].map(|cluster| Stolen::from_gateway(&cluster.gateways[0].data_dir));
    let addr = iad.gateways[0].overlay();

    // the combinations that are missing are those that are right
    let cases = [
        (alpn::RAFT, "our workload", &ours, "wrong-role"),
        (alpn::RAFT, "a linked gateway", &linked, "wrong-role"),
        (alpn::RAFT, "a linked workload", &theirs, "wrong-role"),
        (alpn::LINK, "our gateway", &own, "wrong-role"),
        (alpn::LINK, "our workload", &ours, "wrong-role"),
        (alpn::LINK, "a linked workload", &theirs, "wrong-role"),
        (alpn::CTL, "our gateway", &own, "wrong-role"),
        (alpn::CTL, "a linked gateway", &linked, "wrong-role"),
        (alpn::CTL, "a linked workload", &theirs, "wrong-role"),
        // nobody vouches for these, so that the handshake ends
        (alpn::RAFT, "an unlinked gateway", &unlinked, "tls-failed"),
        (alpn::LINK, "an unlinked gateway", &unlinked, "tls-failed"),
        (alpn::CTL, "an unlinked gateway", &unlinked, "tls-failed"),
        // sidecars speak it among themselves
        (alpn::DATA, "our workload", &ours, "tls-failed"),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let intruder = Intruder::new();
        for (protocol, who, stolen, expected) in cases {
            let protocol_name = String::from_utf8_lossy(protocol);
            let end = intruder.verdict(addr, &own, Some(&stolen.svid), protocol).await;
            assert_eq!(close_reason(&end), expected, "{who} on {protocol_name}: {end:?}");
            if expected == "wrong-role" {
                let said = causeway_transport::close_reason_text(&end);
                let id = stolen.svid.current().id().to_string();
                assert!(said.contains(&id), "{who} on {protocol_name}: {id} is not in {said}");
            }
        }
    });
    let log = iad.gateways[0].process.log();
    assert!(log.contains("wrong-role") && !log.contains("panicked"), "{}", iad.gateways[0].process.tail());
}
