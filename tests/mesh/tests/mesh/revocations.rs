//! Certificates that are refused before they expire.

use crate::traffic::{echoes, echoing, ended};
use causeway_test_mesh::{Intruder, Mesh, SOON, Service, Sidecar, Stolen, reset, wait_until};
use causeway_transport::close_reason_text;
use causeway_wire::alpn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a connection may live whose peer is revoked.
const WITHIN: Duration = Duration::from_secs(5);

/// An echo that tells when each of its connections ended.
fn mourning() -> (Service, Receiver<Instant>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let service = Service::tcp(move |mut stream| {
        let end = io::copy(&mut stream.try_clone()?, &mut stream);
        tell.lock().unwrap().send(Instant::now()).map_err(io::Error::other)?;
        if end.is_err() {
            reset(stream);
        }
        Ok(())
    });
    (service, told)
}

/// What a gateway at `addr` says to whoever has the key and SVID of `stolen`.
fn verdict(addr: SocketAddr, stolen: &Stolen) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        close_reason_text(&Intruder::new().verdict(addr, stolen, Some(&stolen.svid), alpn::CTL).await)
    })
}

fn id(mesh: &Mesh, at: &str, account: &str) -> String {
    let all = mesh.json(&["workloads", "--context", at]);
    let ends = format!("/sa/{account}");
    let row = all.as_array().unwrap().iter().find(|row| row["identity"].as_str().unwrap().ends_with(&ends));
    row.unwrap_or_else(|| panic!("{account} in {all}"))["id"].as_str().unwrap().to_owned()
}

/// Both ends of `stream`, of which the service tells `told`, are gone soon after `at`.
#[track_caller]
fn ends_soon(what: &str, at: Instant, stream: &TcpStream, told: &Receiver<Instant>) {
    ended(stream);
    let (client, server) = (at.elapsed(), told.recv_timeout(SOON).unwrap().saturating_duration_since(at));
    println!("{what}: the client's end after {client:?}, the server's after {server:?}");
    assert!(client < WITHIN && server < WITHIN, "{what}: {client:?} and {server:?}");
}

#[test]
fn a_revoked_workload_and_a_revoked_identity_are_cut_off_in_both_clusters() {
    let mesh = Mesh::new("revoke");
    let (iad, phx) = mesh.pair(1);
    let (service, told) = mourning();
    let token =
        mesh.ok(&["token", "create", "--service", "payments.shop:80", "--uses", "3", "--context", "phx"]);
    let mut pay = mesh.sidecar(&phx, "pay").token(&token).serve("payments.shop:80", service.addr()).start();
    let mut web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let addr = web.addr("payments.shop:80");
    let (caller, server) = (Stolen::from_sidecar(&web.state_dir), Stolen::from_sidecar(&pay.state_dir));

    // one workload, by its key: its token is good for a new certificate, which it asks for by itself
    let open = echoing(addr);
    let workload = id(&mesh, "phx", "payments");
    mesh.ok(&["revoke", "--workload", &workload, "--context", "phx"]);
    ends_soon("the server is revoked", Instant::now(), &open, &told);
    let said = verdict(phx.gateways[0].overlay(), &server);
    assert!(said.contains("revoked"), "{said}");
    wait_until(SOON, "the server has a new certificate and is called again", || echoes(addr));
    told.recv_timeout(SOON).unwrap();
    pay.process.assert_running();

    // an identity, with its tokens
    let open = echoing(addr);
    let said = mesh.ok(&["revoke", "test/web", "--context", "iad"]);
    ends_soon("the client is revoked", Instant::now(), &open, &told);
    assert!(said.contains("/ns/test/sa/web"), "{said}");
    let subject = caller.svid.current().id().to_string();
    let list = mesh.ok(&["revocations", "--context", "iad"]);
    assert!(list.contains(&subject), "{list}");
    let said = verdict(iad.gateways[0].overlay(), &caller);
    assert!(said.contains("revoked"), "{said}");
    assert!(!echoes(addr));
    refused_start(&mut web);

    // a new token makes it good again, with the same state directory
    let token = mesh.ok(&["token", "create", "--namespace", "test", "--account", "web", "--context", "iad"]);
    let mut web = mesh.sidecar(&iad, "web").token(&token).listen("payments.shop:80").start();
    wait_until(SOON, "the client calls again", || echoes(web.addr("payments.shop:80")));
    web.process.assert_running();
    // and what was revoked stays so
    let said = verdict(iad.gateways[0].overlay(), &caller);
    assert!(said.contains("revoked"), "{said}");
}

/// Both the connection that it made with its first certificate and the certificate that it renewed to end, though each gateway has
/// seen a part of that alone, and nobody waits for a lease.
#[test]
fn a_workload_that_renewed_is_revoked_with_all_that_it_has() {
    let mesh = Mesh::new("revoke-renewed");
    let iad = mesh.cluster("iad").gateways(2).start();
    let (service, told) = mourning();
    let token = mesh.ok(&["token", "create", "--service", "payments.shop:80", "--context", "iad"]);
    let mut pay = mesh.sidecar(&iad, "pay").token(&token).serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the client calls", || echoes(addr));
    told.recv_timeout(SOON).unwrap();
    let open = echoing(addr);
    let first = Stolen::from_sidecar(&pay.state_dir);
    mesh.ok(&["ca", "rotate", "--keep", "1h", "--context", "iad"]);
    let renewed = || Stolen::from_sidecar(&pay.state_dir);
    wait_until(SOON * 2, "it has renewed", || {
        renewed().svid.current().key_hash() != first.svid.current().key_hash()
    });
    let second = renewed();

    let workload = id(&mesh, "iad", "payments");
    let said = mesh.ok(&["revoke", "--workload", &workload, "--context", "iad"]);
    let revoked = Instant::now();
    assert_eq!(said.matches("key:").count(), 2, "{said}");
    let here = |at: &str| mesh.json(&["workloads", "--context", at]).to_string().contains(&workload);
    for at in ["iad", "iad-2"] {
        wait_until(SOON, "it is in no answer any more", || !here(at));
        // goodbye was said for it: one whose lease ran out counts as lost
        let checked = mesh.run(&["check", "-o", "json", "--context", at]).stdout;
        assert!(checked.contains("lost sidecars") && !checked.contains(&workload), "{checked}");
    }
    ends_soon("the server that had renewed is revoked", revoked, &open, &told);
    let said = verdict(iad.gateways[0].overlay(), &second);
    assert!(said.contains("revoked"), "{said}");
    // its token names a root that signs no more: it ends and says why
    let exit = pay.process.wait_exit(SOON);
    assert!(exit.code().is_some_and(|code| code != 0), "{exit}");
    assert!(pay.process.tail().contains("SVID was revoked"), "{}", pay.process.tail());
}

/// A start with the old certificate and the old token is refused, and says why.
#[track_caller]
fn refused_start(web: &mut Sidecar) {
    web.restart();
    let exit = web.process.wait_exit(SOON);
    assert!(exit.code().is_some_and(|code| code != 0), "{exit}");
    let tail = web.process.tail();
    assert!(tail.contains("revoked") && tail.contains("causeway token create"), "{tail}");
}
