//! Trust that changes while a sidecar runs: bundles, roots that rotate, revocations.

use super::fake::{FakeGateway, World, unix_now};
use super::{DEADLINE, Sidecar, config, join, until};
use causeway_client::JoinError;
use causeway_identity::{ClusterCa, OperatorCa};
use causeway_model::{NodeId, Revision, SpiffeId};
use causeway_wire::ctl::{Bundles, RenewNow, ToGateway, TrustReport};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyUsagePurpose};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

fn two(world: &Arc<World>) -> [FakeGateway; 2] {
    [FakeGateway::start(world, 1, "127.0.0.1:0"), FakeGateway::start(world, 2, "127.0.0.1:0")]
}

fn root(ca: &ClusterCa) -> [u8; 8] {
    ca.root_fingerprint()[..8].try_into().unwrap()
}

/// What both gateways were told of trust, in order.
fn reports(world: &World, node: u64) -> Vec<TrustReport> {
    let heard = world.heard.lock().unwrap();
    let of_node = heard.iter().filter(|(from, _)| *from == NodeId(node));
    let reports = of_node.filter_map(|(_, message)| match message {
        ToGateway::Trust(report) => Some(report.clone()),
        _ => None,
    });
    reports.collect()
}

fn renewals(world: &World) -> usize {
    let heard = world.heard.lock().unwrap();
    heard.iter().filter(|(_, message)| matches!(message, ToGateway::Renew(_))).count()
}

async fn start(world: &Arc<World>, gateways: &[FakeGateway], dir: Option<&Path>) -> Sidecar {
    let token = world.token(&[gateways[0].addr], &["web.shop"]);
    let sidecar = Sidecar::start(join(config(Some(token), dir)).await.unwrap());
    sidecar.connected(gateways.len()).await;
    sidecar
}

fn own_id(world: &World) -> SpiffeId {
    format!("spiffe://{}/ns/shop/sa/web", world.facts.trust_domain).parse().unwrap()
}

fn other_id(world: &World) -> SpiffeId {
    format!("spiffe://{}/ns/shop/sa/pay", world.facts.trust_domain).parse().unwrap()
}

/// Whether the sidecar refuses certificates of `id`.
fn refuses(sidecar: &Sidecar, world: &World, id: &SpiffeId) -> bool {
    let bundle = sidecar.control.bundles().get(&world.facts.trust_domain).unwrap();
    bundle.revoked.iter().any(|revoked| revoked.subject.to_string() == id.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_is_told_what_was_taken_and_an_asked_renewal_is_done_once() {
    let world = World::new("iad.mesh");
    let gateways = two(&world);
    let sidecar = start(&world, &gateways, None).await;
    let report = |bundles, ca| TrustReport { bundles: Revision(bundles), root: root(ca) };
    for node in [1, 2] {
        until("the first report", || !reports(&world, node).is_empty()).await;
        assert_eq!(reports(&world, node), [report(0, &world.ca)]);
    }
    world.stage();
    world.tell_trust(Some(NodeId(1)), world.told(6));
    for node in [1, 2] {
        until("the bundles are reported", || reports(&world, node).len() == 2).await;
        assert_eq!(reports(&world, node)[1], report(6, &world.ca));
    }
    assert_eq!(sidecar.control.bundles().get(&world.facts.trust_domain).unwrap().roots.len(), 2);

    world.rotated.store(true, Ordering::Relaxed);
    let old = sidecar.control.svid().current();
    world.tell(None, RenewNow { root: root(&world.next), within_ms: 200 });
    world.tell(Some(NodeId(2)), RenewNow { root: root(&world.next), within_ms: 100 });
    for node in [1, 2] {
        until("the renewal is reported", || reports(&world, node).contains(&report(6, &world.next))).await;
    }
    assert_ne!(sidecar.control.svid().current().key_hash(), old.key_hash());
    // it is of that root now; what follows on the same stream shows that it was heard
    world.tell(None, RenewNow { root: root(&world.next), within_ms: 0 });
    world.tell_trust(None, world.told(7));
    for node in [1, 2] {
        until("what follows is reported", || reports(&world, node).contains(&report(7, &world.next))).await;
    }
    assert_eq!((renewals(&world), sidecar.metrics.renewals.get()), (1, 1));
    // the control connections stand
    assert_eq!(sidecar.metrics.reconnects.get(), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_takes_neither_revocations_nor_roots_back() {
    let world = World::new("iad.mesh");
    let gateways = two(&world);
    let sidecar = start(&world, &gateways, None).await;
    let other = other_id(&world);
    let behind = world.bundle();
    world.stage();
    world.revoke(&other, 5);
    world.tell_trust(None, world.told(6));
    until("the revocation is known", || refuses(&sidecar, &world, &other)).await;
    // the gateway that issues lags
    *world.issues.lock().unwrap() = Some(behind);
    world.tell(None, RenewNow { root: root(&world.next), within_ms: 0 });
    until("the identity is renewed", || sidecar.metrics.renewals.get() == 1).await;
    assert!(refuses(&sidecar, &world, &other));
    assert_eq!(sidecar.control.bundles().get(&world.facts.trust_domain).unwrap().roots.len(), 2);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_gateway_brings_no_older_trust_after_a_restart() {
    let (world, dir) = (World::new("iad.mesh"), tempfile::tempdir().unwrap());
    let gateways = two(&world);
    let other = other_id(&world);
    let sidecar = start(&world, &gateways, Some(dir.path())).await;
    let before = world.told(5);
    world.revoke(&other, 5);
    world.tell_trust(None, world.told(6));
    until("the revocation is known", || refuses(&sidecar, &world, &other)).await;
    sidecar.stop().await;

    let sidecar = Sidecar::start(join(config(None, Some(dir.path()))).await.unwrap());
    sidecar.connected(2).await;
    assert!(refuses(&sidecar, &world, &other), "known before any gateway says so");
    until("what was saved is reported", || {
        reports(&world, 1).last().is_some_and(|report| report.bundles == Revision(6))
    })
    .await;
    let generation = sidecar.control.bundles().generation();
    world.tell_trust(None, before);
    // what follows on the same stream is refused, so what came before it has been taken
    world.tell(None, Bundles { revision: Revision(9), domains: Vec::new() });
    until("all is heard", || sidecar.metrics.refused_messages.get() == 2).await;
    assert_eq!(sidecar.control.bundles().generation(), generation);
    assert!(refuses(&sidecar, &world, &other));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sidecar_without_a_token_ends_and_says_why() {
    let (world, dir) = (World::new("iad.mesh"), tempfile::tempdir().unwrap());
    let gateways = two(&world);
    let sidecar = start(&world, &gateways, Some(dir.path())).await;
    sidecar.stop().await;
    let sidecar = Sidecar::start(join(config(None, Some(dir.path()))).await.unwrap());
    sidecar.connected(2).await;
    world.revoke(&own_id(&world), unix_now());
    let ended = tokio::time::timeout(DEADLINE, sidecar.tasks.cancelled());
    assert!(ended.await.is_ok(), "it goes on");
    let failure = sidecar.tasks.failure().unwrap().to_string();
    for part in ["this workload's SVID was revoked", "/ns/shop/sa/web", "join again with a new token"] {
        assert!(failure.contains(part), "{failure}");
    }
    sidecar.tasks.shutdown(DEADLINE).await.unwrap();
    drop(sidecar);
    // nor does it start again with what it saved
    let error = join(config(None, Some(dir.path()))).await.unwrap_err();
    assert!(matches!(error, JoinError::Revoked { .. }), "{error}");
    assert_eq!(error.reason(), "revoked");
    // until it is given a token
    world.uses.store(1, Ordering::Relaxed);
    wait_a_second().await;
    let token = world.token(&[gateways[0].addr], &["web.shop"]);
    let joined = join(config(Some(token), Some(dir.path()))).await.unwrap();
    assert_eq!(joined.svid().current().id(), &own_id(&world));
    assert_eq!(world.joined.lock().unwrap().len(), 2, "with another key");
    drop(joined);
    join(config(None, Some(dir.path()))).await.unwrap();
}

/// Until certificates are issued in another second than before: revocations count whole seconds.
async fn wait_a_second() {
    let now = unix_now();
    until("the next second", || unix_now() > now).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sidecar_joins_again_with_a_token_that_still_works_once() {
    let world = World::new("iad.mesh");
    let gateways = two(&world);
    world.uses.store(10, Ordering::Relaxed);
    let sidecar = start(&world, &gateways, None).await;
    let first = sidecar.control.svid().current();
    // of the second before, so that what is issued now is good
    wait_a_second().await;
    let issued = first.issued_at().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    world.revoke(&own_id(&world), issued);
    let anew = || sidecar.control.svid().current().key_hash() != first.key_hash();
    until("it joined again", anew).await;
    let told = Instant::now();
    sidecar.connected(2).await;
    assert!(told.elapsed() < Duration::from_secs(10));
    assert_eq!(world.joined.lock().unwrap().len(), 2, "with another key");
    assert_eq!(sidecar.tasks.failure(), None);

    world.revoke(&own_id(&world), u64::MAX);
    assert!(tokio::time::timeout(DEADLINE, sidecar.tasks.cancelled()).await.is_ok(), "it goes on");
    assert!(sidecar.tasks.failure().unwrap().to_string().contains("again after it had joined anew"));
    assert_eq!(world.joined.lock().unwrap().len(), 2);
    sidecar.tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_used_up_brings_nobody_back() {
    let world = World::new("iad.mesh");
    let gateways = two(&world);
    let sidecar = start(&world, &gateways, None).await;
    // the gateways keep it to themselves: the bundle alone tells
    let subject = own_id(&world).to_string().parse().unwrap();
    let revoked = vec![causeway_model::Revocation { subject, issued_before: unix_now() }];
    let mut told = world.told(3);
    told.bundles[0].revoked = revoked;
    world.tell_trust(Some(NodeId(1)), told);
    assert!(tokio::time::timeout(DEADLINE, sidecar.tasks.cancelled()).await.is_ok(), "it goes on");
    let failure = sidecar.tasks.failure().unwrap().to_string();
    assert!(failure.contains("SVID was revoked") && failure.contains("token-used-up"), "{failure}");
    sidecar.tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_root_that_names_no_trust_domain_is_joined() {
    let make = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    };
    let ((mut root, root_key), (mut signer, signer_key)) = (make(), make());
    root.distinguished_name.push(rcgen::DnType::CommonName, "Root");
    signer.distinguished_name.push(rcgen::DnType::CommonName, "Mesh");
    let root_der = root.self_signed(&root_key).unwrap();
    let signer = signer.signed_by(&signer_key, &Issuer::from_params(&root, &root_key)).unwrap();
    let brought =
        OperatorCa::from_pem(&(signer.pem() + &root_der.pem()), &signer_key.serialize_pem()).unwrap();
    let ca = brought.for_trust_domain(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap();
    let world = World::of(ca);
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    let joined = join(config(Some(world.token(&[gateway.addr], &["web.shop"])), None)).await.unwrap();
    assert_eq!(joined.svid().current().id(), &own_id(&world));
}
