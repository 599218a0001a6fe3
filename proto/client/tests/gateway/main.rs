//! The client against scripted gateways, over loopback, with real certificates and the real overlay.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail")]

mod fake;
mod trust;
mod vips;

use causeway_client::{
    ClientConfig, ClientMetrics, Control, ControlConfig, ControlState, JoinError, Joined, bootstrap,
};
use causeway_model::{Health, NodeId, PortSet, Revision, ServiceName, WorkloadId};
use causeway_runtime::Tasks;
use causeway_transport::{Overlay, OverlayEndpoint, TransportSettings};
use causeway_wire::ctl::{ExportedTo, InstancesGone, ServedService, ToGateway};
use causeway_wire::token::JoinToken;
use causeway_wire::view::{Refusal, ServiceView};
use fake::{FakeGateway, Trust, World};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEADLINE: Duration = Duration::from_secs(20);

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn served(service: &str) -> ServedService {
    ServedService { name: name(service), ports: PortSet::default(), health: Health::Healthy }
}

fn config(token: Option<JoinToken>, state_dir: Option<&Path>) -> ClientConfig {
    let state_dir = state_dir.map(Path::to_owned);
    ClientConfig { token, state_dir, serve: vec![served("web.shop")], weight: 100, ..ClientConfig::default() }
}

async fn join(config: ClientConfig) -> Result<Joined, JoinError> {
    let settings = TransportSettings::default();
    let joining = bootstrap(config, LOOPBACK, &settings);
    tokio::time::timeout(DEADLINE, joining).await.expect("joining takes too long")
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waited).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

/// A sidecar that runs.
struct Sidecar {
    control: Control,
    metrics: ClientMetrics,
    tasks: Tasks,
    endpoint: OverlayEndpoint,
}

impl Sidecar {
    fn start(joined: Joined) -> Self {
        let (settings, tasks) = (TransportSettings::default(), Tasks::new());
        let overlay = Overlay::bind((LOOPBACK, 0).into(), &settings).unwrap();
        let endpoint = OverlayEndpoint::new(&overlay, None, &settings).unwrap();
        tasks.spawn("prober", overlay.run_prober(tasks.token()));
        let metrics = ClientMetrics::default();
        let config = ControlConfig { metrics: metrics.clone(), gateways: 2 };
        let control = Control::start(joined, endpoint.clone(), &overlay, config, &tasks);
        Self { control, metrics, tasks, endpoint }
    }

    fn state(&self) -> ControlState {
        self.control.state().borrow().clone()
    }

    async fn connected(&self, count: usize) {
        until(&format!("{count} gateways are connected"), || {
            self.state().connected.len() == count && self.state().registered
        })
        .await;
    }

    async fn stop(self) {
        self.tasks.shutdown(DEADLINE).await.unwrap();
        assert_eq!(self.tasks.failure(), None);
        drop(self.endpoint);
    }
}

fn three(world: &Arc<World>) -> Vec<FakeGateway> {
    (1..=3).map(|node| FakeGateway::start(world, node, "127.0.0.1:0")).collect()
}

fn view(service: &str) -> ServiceView {
    ServiceView { name: name(service), offers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_joins_registers_and_learns_what_it_asks_for() {
    let world = World::new("iad.mesh");
    let gateways = three(&world);
    world.services.lock().unwrap().insert(name("pay.shop"), view("pay.shop"));
    let joined = join(config(Some(world.token(&[gateways[0].addr], &["web.shop"])), None)).await.unwrap();
    assert_eq!(joined.svid().current().id().to_string(), "spiffe://iad.mesh/ns/shop/sa/web");
    let sidecar = Sidecar::start(joined);
    sidecar.connected(2).await;

    let mut pay = sidecar.control.subscribe(&name("pay.shop"));
    tokio::time::timeout(DEADLINE, pay.changed()).await.unwrap();
    assert_eq!(*pay.current().unwrap(), view("pay.shop"));

    let instance = sidecar.control.watch_instance(world.facts.id, WorkloadId(5));
    until("the instance is watched at two gateways", || {
        let heard = world.heard.lock().unwrap();
        let watching =
            |message: &ToGateway| matches!(message, ToGateway::WatchInstances(w) if !w.instances.is_empty());
        heard.iter().filter(|(_, message)| watching(message)).count() >= 2
    })
    .await;
    world.tell(None, InstancesGone { instances: vec![(world.facts.id, WorkloadId(5))] });
    tokio::time::timeout(DEADLINE, instance.gone()).await.unwrap();

    let exported = ExportedTo {
        revision: Revision(1),
        services: vec![(name("web.shop"), vec!["phx.mesh".parse().unwrap()])],
    };
    world.tell(None, exported);
    let told = sidecar.control.exported();
    until("the export is known", || told.borrow().contains_key(&name("web.shop"))).await;

    sidecar.control.report_health(&name("web.shop"), Health::Unhealthy);
    until("the health is reported", || {
        world.has_heard(
            |_, message| matches!(message, ToGateway::ReportHealth(r) if r.health == Health::Unhealthy),
        )
    })
    .await;
    sidecar.control.drain();
    until("the draining is registered", || {
        world.has_heard(|_, message| {
            matches!(message, ToGateway::Register(r) if r.services[0].health == Health::Draining)
        })
    })
    .await;
    sidecar.control.goodbye().await;
    let goodbyes =
        world.heard.lock().unwrap().iter().filter(|(_, m)| matches!(m, ToGateway::Goodbye(_))).count();
    assert_eq!(goodbyes, 2);
    assert_eq!(sidecar.metrics.refused_messages.get(), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateway_takes_over_and_alone_it_goes_on_with_what_it_knows() {
    let world = World::new("iad.mesh");
    let mut gateways = three(&world);
    world.services.lock().unwrap().insert(name("pay.shop"), view("pay.shop"));
    let joined = join(config(Some(world.token(&[gateways[0].addr], &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    let mut pay = sidecar.control.subscribe(&name("pay.shop"));
    sidecar.connected(2).await;
    tokio::time::timeout(DEADLINE, pay.changed()).await.unwrap();

    let before = sidecar.state().connected;
    let third = (1..=3).map(NodeId).find(|node| !before.contains(node)).unwrap();
    gateways.iter().filter(|gateway| gateway.node == before[0]).for_each(FakeGateway::crash);
    let killed = std::time::Instant::now();
    until("the third gateway took over", || sidecar.state().connected.contains(&third)).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");

    gateways.clear();
    until("the sidecar knows that it is alone", || sidecar.state().alone_since.is_some()).await;
    assert_eq!(sidecar.metrics.alone.get(), 1);
    assert_eq!(*sidecar.control.subscribe(&name("pay.shop")).current().unwrap(), view("pay.shop"));

    let addr =
        world.gateways.lock().unwrap().iter().find(|g| g.node == third).unwrap().cluster_addrs[0].to_string();
    until("the port is free", || std::net::UdpSocket::bind(&addr).is_ok()).await;
    let _back = FakeGateway::start(&world, third.0, &addr);
    until("it is not alone any more", || sidecar.state().alone_since.is_none()).await;
    assert_eq!(sidecar.metrics.alone.get(), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_waits_for_its_gateway_and_starts_again_without_a_token() {
    let (world, dir) = (World::new("iad.mesh"), tempfile::tempdir().unwrap());
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let free = silent.local_addr().unwrap();
    let token = world.token(&[free], &["web.shop"]);
    world.services.lock().unwrap().insert(name("pay.shop"), view("pay.shop"));
    let joining = tokio::spawn(join(config(Some(token), Some(dir.path()))));
    tokio::time::timeout(DEADLINE, silent.recv_from(&mut [0; 2048])).await.unwrap().unwrap();
    assert!(!joining.is_finished(), "there is no gateway yet");
    drop(silent);
    // so short a life that it is due for renewal soon
    *world.ttl.lock().unwrap() = Duration::from_secs(4);
    let gateway = FakeGateway::start(&world, 1, &free.to_string());
    let sidecar = Sidecar::start(joining.await.unwrap().unwrap());
    sidecar.connected(1).await;
    until("the identity is renewed", || sidecar.metrics.renewals.get() == 1).await;
    let mut pay = sidecar.control.subscribe(&name("pay.shop"));
    tokio::time::timeout(DEADLINE, pay.changed()).await.unwrap();
    let (first, id) = (sidecar.control.workload(), sidecar.control.svid().current().id().clone());
    drop(pay);
    sidecar.stop().await;

    let joined = join(config(None, Some(dir.path()))).await.unwrap();
    assert_eq!(joined.svid().current().id(), &id);
    assert!(joined.svid().current().expires_in(std::time::SystemTime::now()) > Duration::from_secs(3600));
    drop(gateway);
    let sidecar = Sidecar::start(joined);
    assert_ne!(sidecar.control.workload(), first, "a new start is a new instance");
    let saved = sidecar.control.subscribe(&name("pay.shop"));
    assert_eq!(*saved.current().unwrap(), view("pay.shop"), "known before any gateway answers");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_room_is_not_asked_for_ever() {
    let world = World::new("iad.mesh");
    let gateways =
        [FakeGateway::start(&world, 1, "127.0.0.1:0"), FakeGateway::start(&world, 2, "127.0.0.1:0")];
    world.full.lock().unwrap().push(NodeId(1));
    let token = world.token(&[gateways[0].addr, gateways[1].addr], &["web.shop"]);
    join(config(Some(token.clone()), None)).await.unwrap();
    // the order of the addresses does not matter
    *world.full.lock().unwrap() = vec![NodeId(2)];
    world.uses.store(1, Ordering::Relaxed);
    let dir = tempfile::tempdir().unwrap();
    join(config(Some(token), Some(dir.path()))).await.unwrap();
    // with the saved identity as with the token
    *world.full.lock().unwrap() = vec![NodeId(1)];
    join(config(None, Some(dir.path()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_lost_answer_is_the_same_use_of_the_token() {
    let world = World::new("iad.mesh");
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    let (token, dir) = (world.token(&[gateway.addr], &["web.shop"]), tempfile::tempdir().unwrap());
    world.mute.store(true, Ordering::Relaxed);
    let first = tokio::spawn(join(config(Some(token.clone()), Some(dir.path()))));
    until("the token is used", || !world.joined.lock().unwrap().is_empty()).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled(), "it had no answer");

    world.mute.store(false, Ordering::Relaxed);
    let key = dir.path().join("join-key.der");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    join(config(Some(token), Some(dir.path()))).await.unwrap();
    assert_eq!(world.joined.lock().unwrap().len(), 1);
    assert!(!key.exists(), "the identity has it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_final_and_say_why() {
    let world = World::new("iad.mesh");
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    let good = world.token(&[gateway.addr], &["web.shop"]);

    world.uses.store(0, Ordering::Relaxed);
    let error = join(config(Some(good.clone()), None)).await.unwrap_err();
    assert_eq!(error.reason(), "token-used-up");
    assert!(error.to_string().contains(&gateway.addr.to_string()), "{error}");

    let mut wrong = good.clone();
    wrong.core.secret = [3; 32];
    assert_eq!(join(config(Some(wrong), None)).await.unwrap_err().reason(), "token-unknown");

    let mut other_root = good.clone();
    other_root.core.root_fingerprint = [3; 32];
    assert_eq!(join(config(Some(other_root), None)).await.unwrap_err().reason(), "wrong-fingerprint");

    world.ahead.store(3600, Ordering::Relaxed);
    let error = join(config(Some(good.clone()), None)).await.unwrap_err();
    assert_eq!(error.reason(), "clock");
    assert!(error.to_string().contains("3600 s") || error.to_string().contains("3599 s"), "{error}");

    let mut other_cluster = good;
    other_cluster.core.trust_domain = "phx.mesh".parse().unwrap();
    let error = join(config(Some(other_cluster), None)).await.unwrap_err();
    assert_eq!(error.reason(), "wrong-cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_registration_is_told_and_tried_again_when_it_may_be_mended() {
    let world = World::new("iad.mesh");
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    let refusal = |reason: &str| {
        Some(Refusal { request: 0, reason: reason.to_owned(), message: "the ports differ".to_owned() })
    };
    *world.refuse.lock().unwrap() = refusal("no-quorum");
    let joined = join(config(Some(world.token(&[gateway.addr], &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    until("the refusal is known", || sidecar.state().error.is_some()).await;
    assert_eq!(sidecar.state().registration_error, None, "it may pass");
    *world.refuse.lock().unwrap() = None;
    sidecar.connected(1).await;
    assert_eq!(sidecar.state().error, None);

    *world.refuse.lock().unwrap() = refusal("ports-differ");
    sidecar.control.drain();
    until("the mistake is known", || sidecar.state().registration_error.is_some()).await;
    let error = sidecar.state().registration_error.unwrap();
    assert_eq!(error.reason, "ports-differ");
    assert!(error.to_string().contains("the ports differ"), "{error}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_lags_takes_no_trust_and_no_export_back() {
    let world = World::new("iad.mesh");
    let (phx, lhr) = (World::new("phx.mesh"), World::new("lhr.mesh"));
    let gateways =
        [FakeGateway::start(&world, 1, "127.0.0.1:0"), FakeGateway::start(&world, 2, "127.0.0.1:0")];
    let joined = join(config(Some(world.token(&[gateways[0].addr], &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    sidecar.connected(2).await;
    until("both have the registration", || {
        let heard = world.heard.lock().unwrap();
        heard.iter().filter(|(_, message)| matches!(message, ToGateway::Register(_))).count() == 2
    })
    .await;
    let bundles = |revision, of: &[&World]| Trust {
        revision,
        bundles: of.iter().map(|world| world.bundle()).collect(),
    };
    let exported = |revision, to: &[&World]| ExportedTo {
        revision: Revision(revision),
        services: vec![(name("web.shop"), to.iter().map(|world| world.facts.trust_domain.clone()).collect())],
    };
    let (old, new) = ([&*world, &*phx], [&*world, &*phx, &*lhr]);
    let told = sidecar.control.exported();
    for (revision, now) in [(5, &old[..]), (7, &new[..])] {
        world.tell_trust(Some(NodeId(1)), bundles(revision, now));
        world.tell(Some(NodeId(1)), exported(revision, now));
        until("the bundles are believed", || sidecar.control.bundles().domains().len() == now.len()).await;
        until("the exports are known", || told.borrow().values().any(|to| to.len() == now.len())).await;
    }
    let believed = sidecar.control.bundles().generation();
    world.tell_trust(Some(NodeId(2)), bundles(6, &old));
    world.tell(Some(NodeId(2)), exported(6, &old));
    // what follows on the same stream has been refused, so what came before it has been taken
    world.tell_trust(Some(NodeId(2)), bundles(8, &[&phx]));
    until("all is taken", || sidecar.metrics.refused_messages.get() == 1).await;
    assert_eq!(sidecar.control.bundles().domains().len(), new.len());
    assert_eq!(told.borrow()[&name("web.shop")].len(), new.len());
    assert_eq!(sidecar.control.bundles().generation(), believed);
    // a link that is removed is not believed from then on, whoever says so first, though it was so once before
    world.tell_trust(Some(NodeId(2)), bundles(8, &old));
    until("the link's bundle is gone", || sidecar.control.bundles().domains().len() == old.len()).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_may_not_be_served_is_a_mistake_soon() {
    let world = World::new("iad.mesh");
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    world.uses.store(2, Ordering::Relaxed);
    let (reason, message) = ("may-not-serve".to_owned(), "ask the operator".to_owned());
    *world.refuse.lock().unwrap() = Some(Refusal { request: 0, reason, message });
    let joined = join(config(Some(world.token(&[gateway.addr], &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    until("the refusal is known", || sidecar.state().error.is_some()).await;
    let refused = Instant::now();
    assert_eq!(sidecar.state().registration_error, None, "the registry may lag");
    until("the mistake is known", || sidecar.state().registration_error.is_some()).await;
    let took = refused.elapsed();
    // 500 ms, and more on a machine that is busy; how many refusals it takes is tested in virtual time
    assert!(took < Duration::from_secs(4), "{took:?}");
    let asked = {
        let heard = world.heard.lock().unwrap();
        heard.iter().filter(|(_, message)| matches!(message, ToGateway::Register(_))).count()
    };
    assert!(asked >= 2, "it asked {asked} times before it believed the refusal");
    assert_eq!(sidecar.state().registration_error.unwrap().reason, "may-not-serve");
    sidecar.stop().await;

    // a registry that lags a little is no mistake
    let sidecar =
        Sidecar::start(join(config(Some(world.token(&[gateway.addr], &["web.shop"])), None)).await.unwrap());
    until("the refusal is known", || sidecar.state().error.is_some()).await;
    *world.refuse.lock().unwrap() = None;
    sidecar.connected(1).await;
    assert_eq!(sidecar.state().registration_error, None);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_started_again_is_connected_to_at_once_and_wipes_nothing() {
    let world = World::new("iad.mesh");
    let gateway = FakeGateway::start(&world, 1, "127.0.0.1:0");
    let joined = join(config(Some(world.token(&[gateway.addr], &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    sidecar.connected(1).await;
    let web = |domains: &[&str]| {
        let domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
        ExportedTo { revision: Revision(1), services: vec![(name("web.shop"), domains)] }
    };
    world.tell(None, web(&["phx.mesh"]));
    let told = sidecar.control.exported();
    until("the export is known", || told.borrow().contains_key(&name("web.shop"))).await;
    let registrations = || {
        let heard = world.heard.lock().unwrap();
        heard.iter().filter(|(_, message)| matches!(message, ToGateway::Register(_))).count()
    };
    assert_eq!(registrations(), 1);

    let restarted = Instant::now();
    gateway.restart();
    until("the workload is registered anew", || registrations() == 2).await;
    let took = restarted.elapsed();
    // silence alone is noticed after 4 s
    assert!(took < Duration::from_secs(3), "{took:?}");
    sidecar.connected(1).await;
    assert_eq!(sidecar.metrics.reconnects.get(), 1);
    world.tell(None, ExportedTo { revision: Revision(1), services: Vec::new() });
    world.tell(None, web(&[]));
    until("the export is withdrawn", || told.borrow()[&name("web.shop")].is_empty()).await;
    sidecar.stop().await;
}

/// The registry was lost with its gateways, and a backup of it was restored: at an address that the sidecar knows there is a gateway
/// with a number of which nobody has told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_in_the_place_of_those_that_were_lost_is_found_soon() {
    let world = World::new("iad.mesh");
    let gateways = three(&world);
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let known = [gateways[0].addr, reserved.local_addr().unwrap()];
    let joined = join(config(Some(world.token(&known, &["web.shop"])), None)).await.unwrap();
    let sidecar = Sidecar::start(joined);
    sidecar.connected(2).await;
    let addr = known[1].to_string();
    gateways.iter().for_each(FakeGateway::crash);
    until("the sidecar knows that it is alone", || sidecar.state().alone_since.is_some()).await;
    drop(reserved);
    world.gateways.lock().unwrap().clear();
    let _restored = FakeGateway::start(&world, 9, &addr);
    let restored = Instant::now();
    sidecar.connected(1).await;
    let took = restored.elapsed();
    assert_eq!(sidecar.state().connected, [NodeId(9)]);
    assert!(took < Duration::from_secs(6), "{took:?}");
    sidecar.stop().await;
}
