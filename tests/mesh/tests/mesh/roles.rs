//! Who may speak which protocol to a gateway: every identity on every ALPN, on a real process.

use causeway_test_mesh::{Intruder, Mesh, Stolen};
use causeway_transport::{Connection, FrameReader, FrameWriter, close_reason, close_reason_text};
use causeway_wire::alpn;
use causeway_wire::peer::{Call, Method, PeerMessage};
use std::time::Duration;
use tokio::time::timeout;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_wrong_role_is_refused_on_every_protocol() {
    let mesh = Mesh::new("roles");
    let (mut iad, mut phx) = mesh.pair(1);
    let [forwarder, linked_forwarder] =
        [&mut iad, &mut phx].map(|cluster| Stolen::from_gateway(&cluster.add_forwarder().data_dir));
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
        (alpn::RAFT, "a linked forwarder", &linked_forwarder, "wrong-role"),
        (alpn::LINK, "our gateway", &own, "wrong-role"),
        (alpn::LINK, "our forwarder", &forwarder, "wrong-role"),
        (alpn::LINK, "a linked forwarder", &linked_forwarder, "wrong-role"),
        (alpn::LINK, "our workload", &ours, "wrong-role"),
        (alpn::LINK, "a linked workload", &theirs, "wrong-role"),
        (alpn::CTL, "our gateway", &own, "wrong-role"),
        (alpn::CTL, "our forwarder", &forwarder, "wrong-role"),
        (alpn::CTL, "a linked forwarder", &linked_forwarder, "wrong-role"),
        (alpn::CTL, "a linked gateway", &linked, "wrong-role"),
        (alpn::CTL, "a linked workload", &theirs, "wrong-role"),
        // nobody vouches for these, so that the handshake ends
        (alpn::RAFT, "an unlinked gateway", &unlinked, "tls-failed"),
        (alpn::LINK, "an unlinked gateway", &unlinked, "tls-failed"),
        (alpn::CTL, "an unlinked gateway", &unlinked, "tls-failed"),
        // sidecars speak it among themselves
        (alpn::DATA, "our workload", &ours, "tls-failed"),
    ];
    runtime().block_on(async {
        let intruder = Intruder::new();
        for (protocol, who, stolen, expected) in cases {
            let protocol_name = String::from_utf8_lossy(protocol);
            let end = intruder.verdict(addr, &own, Some(&stolen.svid), protocol).await;
            assert_eq!(close_reason(&end), expected, "{who} on {protocol_name}: {end:?}");
            if expected == "wrong-role" {
                let said = close_reason_text(&end);
                let id = stolen.svid.current().id().to_string();
                assert!(said.contains(&id), "{who} on {protocol_name}: {id} is not in {said}");
            }
        }
    });
    let log = iad.gateways[0].process.log();
    assert!(log.contains("wrong-role") && !log.contains("panicked"), "{}", iad.gateways[0].process.tail());
}

/// What a gateway says to a call, or the reason of its refusal.
async fn call(connection: &Connection, method: Method) -> Result<PeerMessage, String> {
    let (send, recv) = connection.open_bi().await.unwrap();
    let mut writer = FrameWriter::new(send);
    // one byte that no call's argument begins with: what is not refused for the role is refused for the argument
    writer.send(&PeerMessage::from(Call { method, body: vec![0xff] })).await.unwrap();
    let mut reader = FrameReader::new(recv);
    let answer =
        timeout(Duration::from_secs(10), reader.next::<PeerMessage>()).await.expect("an answer in time");
    match answer.unwrap().expect("an answer") {
        PeerMessage::Refused(refusal) => Err(refusal.reason),
        other => Ok(other),
    }
}

#[test]
fn a_forwarder_has_no_say_in_the_registry_and_serves_no_sidecar() {
    let mesh = Mesh::new("forwarder-role");
    let mut iad = mesh.cluster("iad").start();
    let place = iad.add_forwarder().overlay();
    let [gateway, forwarder] = [0, 1].map(|index: usize| Stolen::from_gateway(&iad.gateways[index].data_dir));
    let id = forwarder.svid.current().id().to_string();
    assert!(id.starts_with("spiffe://") && id.contains("/causeway/forwarder/"), "{id}");
    runtime().block_on(async {
        let intruder = Intruder::new();
        let addr = iad.gateways[0].overlay();
        let connection = intruder.dial(addr, &gateway, Some(&forwarder.svid), alpn::RAFT).await.unwrap();
        for method in [Method::Append, Method::Vote, Method::Snapshot, Method::Propose, Method::AddLearner] {
            assert_eq!(call(&connection, method).await.unwrap_err(), "wrong-role", "{method:?}");
        }
        // the same calls of a gateway fail by their argument only
        let connection = intruder.dial(addr, &gateway, Some(&gateway.svid), alpn::RAFT).await.unwrap();
        for method in [Method::Append, Method::Vote, Method::Snapshot, Method::Propose, Method::AddLearner] {
            assert_ne!(call(&connection, method).await.unwrap_err(), "wrong-role", "{method:?}");
        }
        // who expects a gateway does not take a forwarder for one
        for protocol in [alpn::CTL, alpn::LINK, alpn::RAFT] {
            let refused = intruder.dial(place, &gateway, None, protocol).await.unwrap_err();
            let said = close_reason_text(&refused);
            assert!(said.contains(&id) && said.contains("role gateway"), "{said}");
        }
    });
}
