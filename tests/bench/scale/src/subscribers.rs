//! Control sessions of many sidecars with one real gateway, and a change that all of them are told.

use crate::args::Args;
use crate::figures::Figures;
use crate::played::{Identity, Session, Told, User};
use crate::times::Times;
use crate::{probes, process};
use causeway_model::{Health, ServiceName};
use causeway_test_chaos::{Admin, Answer};
use causeway_test_mesh::{Mesh, wait_until};
use causeway_transport::{BootstrapEndpoint, TransportSettings};
use causeway_wire::token::JoinToken;
use causeway_wire::view::ServiceView;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// The services that every sidecar uses.
const USED: usize = 10;
/// How many sidecars share a socket for their control connections, and so a gateway's allowance for handshakes.
const SHARE: u32 = 100;
/// Handshakes at a time.
const AT_ONCE: usize = 64;
/// How long all of them may take to attach.
const ATTACHED: Duration = Duration::from_secs(600);
/// How long a change may take to all of them.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the gateway is watched at rest.
const QUIET: Duration = Duration::from_secs(5);

/// A token of a cluster for a workload that serves these services.
pub(crate) fn token(admin: &Admin, services: &[ServiceName], account: &str) -> JoinToken {
    let declared: Vec<String> = services.iter().map(|name| format!("{name}:80/http")).collect();
    let wanted = json!({"role": "workload", "services": declared, "namespace": "shop", "account": account, "uses": 10});
    let made = admin.post("/v1/tokens", &wanted).done();
    made["token"].as_str().expect("a token").parse().expect("a join token")
}

/// An endpoint for control connections at a loopback address of its own.
pub(crate) fn endpoint(number: u32) -> BootstrapEndpoint {
    let octet = |value: u32| u8::try_from(value).expect("less than 256");
    let ip = Ipv4Addr::new(127, 19, octet(number / 250), octet(1 + number % 250));
    BootstrapEndpoint::bind(ip.into(), &TransportSettings::default()).expect("a free port")
}

/// Measures sessions at rest and changes.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    let (mesh, runtime) = (Mesh::new("scale-subscribers"), Runtime::new().unwrap());
    let cluster = mesh.cluster("iad").flag("--log", "warn").start();
    let admin = Admin::of("iad", &mesh.path("contexts/iad.toml")).within(Duration::from_secs(20));
    let (pid, gateway) = (cluster.gateways[0].process.pid(), cluster.gateways[0].overlay());
    let services: Vec<ServiceName> =
        (0..USED).map(|number| format!("pay{number}.shop").parse().unwrap()).collect();
    let probing = probes::start();
    let of = format!("{} sidecars", args.sidecars);

    // two workloads serve them: one of them stays, so that nothing is ever without an endpoint
    let serving = token(&admin, &services, "pay");
    let mut changing = runtime.block_on(async {
        let endpoint = endpoint(0);
        let identity = Identity::join(&endpoint, gateway, &serving).await;
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let attached = identity.attach(&endpoint).await.expect("it attaches");
            probing.send(identity.probed(&attached)).unwrap();
            let session = identity.session(&endpoint, attached.workload, &services).await;
            sessions.push(session.expect("it registers"));
        }
        sessions
    });
    std::thread::sleep(QUIET);
    let (resident, worked, begun) = (process::resident(pid), process::worked(pid), Instant::now());
    let using = token(&admin, &[], "web");
    let ((sender, told), lost) = (channel(), Arc::new(AtomicU64::new(0)));
    attach(args.sidecars, &runtime, gateway, &using, &services, (&probing, &sender, &lost));
    wait_until(Duration::from_secs(120), "every sidecar is attached", || match admin.get("/v1/status") {
        Answer::Done(status) => status["attached"].as_u64() == Some(u64::from(args.sidecars) + 2),
        _ => false,
    });
    let took = begun.elapsed().as_secs_f64();
    let busy = (process::worked(pid) - worked).as_secs_f64();
    figures.note(format!("{of}: attached, registered and subscribed"), took, "s");
    figures.note(
        format!("{of}: CPU time of the gateway for each"),
        busy * 1e3 / f64::from(args.sidecars),
        "ms",
    );
    figures.note(
        format!("{of}: connections lost meanwhile, and made again"),
        lost.swap(0, Relaxed) as f64,
        "",
    );
    drain(&told);
    let alive = admin.get("/v1/status").done()["workloads"].as_u64().unwrap_or(0);
    figures.note(
        format!("{of}: attached and not alive, for a lease lapsed"),
        f64::from(args.sidecars) + 2.0 - alive as f64,
        "",
    );
    let worked = process::worked(pid);
    std::thread::sleep(QUIET);
    let rest = (process::worked(pid) - worked).as_secs_f64() / QUIET.as_secs_f64();
    figures.note(format!("{of}: gateway at rest (probes, keep-alives), of a core"), rest * 1e2, "%");
    let each = (process::resident(pid) - resident) / f64::from(args.sidecars);
    figures.note(format!("{of}: gateway, resident for each"), each / 1e3, "kB");
    fan_out(args, &runtime, &mut changing[1], (&services[0], pid, rest), &told, figures);
    figures.note(format!("{of}: connections lost later"), lost.load(Relaxed) as f64, "");
}

/// Attaches the sidecars; each passes on what it is told.
fn attach(
    sidecars: u32,
    runtime: &Runtime,
    gateway: SocketAddr,
    token: &JoinToken,
    services: &[ServiceName],
    (probing, sender, lost): (&Sender<probes::Probed>, &Sender<Told>, &Arc<AtomicU64>),
) {
    let attaching = async {
        let endpoints: Vec<_> = (0..=sidecars / SHARE).map(|number| endpoint(1 + number)).collect();
        let identity = Identity::join(&endpoints[0], gateway, token).await;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut attaching = tokio::task::JoinSet::new();
        for number in 0..sidecars {
            let turn = turns.clone().acquire_owned().await.expect("it is never closed");
            let endpoint =
                endpoints[(number % u32::try_from(endpoints.len()).expect("few")) as usize].clone();
            let (identity, services, sender) = (identity.clone(), services.to_vec(), sender.clone());
            let user = User { number, identity, endpoint, services, sender };
            let (probing, lost) = (probing.clone(), lost.clone());
            attaching.spawn(async move {
                user.start(probing, lost).await;
                drop(turn);
            });
        }
        while let Some(ended) = attaching.join_next().await {
            ended.expect("a sidecar attaches");
        }
    };
    runtime.block_on(async {
        let attached = tokio::time::timeout(ATTACHED, attaching).await;
        attached.unwrap_or_else(|_| panic!("not all sidecars attached within {ATTACHED:?}"));
    });
}

fn drain(told: &Receiver<Told>) {
    while told.recv_timeout(Duration::from_millis(500)).is_ok() {}
}

/// How many endpoints of the cluster's own offer are healthy.
fn healthy(view: &ServiceView) -> Option<u32> {
    view.offers.first().map(|offer| offer.healthy)
}

fn fan_out(
    args: &Args,
    runtime: &Runtime,
    session: &mut Session,
    (service, pid, rest): (&ServiceName, u32, f64),
    told: &Receiver<Told>,
    figures: &mut Figures,
) {
    let (mut delays, mut lasts, mut work) = (Times::default(), Times::default(), 0.0);
    let rounds = (args.changes / 10).max(2);
    for round in 0..rounds {
        let (health, want) = if round % 2 == 0 { (Health::Unhealthy, 1) } else { (Health::Healthy, 2) };
        let (worked, begun) = (process::worked(pid), Instant::now());
        runtime.block_on(session.report(service.clone(), health)).expect("it is heard");
        let (mut heard, mut last) = (BTreeSet::new(), begun);
        while heard.len() < args.sidecars as usize {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let (sidecar, at, view) = told
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("{} of {} were told in time", heard.len(), args.sidecars));
            if view.name == *service && healthy(&view) == Some(want) && heard.insert(sidecar) {
                last = last.max(at);
                delays.add(at - begun);
            }
        }
        lasts.add(last - begun);
        // what acknowledges it follows
        std::thread::sleep(Duration::from_millis(500));
        work += (process::worked(pid) - worked).as_secs_f64() - rest * begun.elapsed().as_secs_f64();
    }
    let of = format!("a change told to {} sidecars", args.sidecars);
    delays.note(figures, &format!("{of}: to one of them"), None);
    lasts.note(figures, &format!("{of}: to the last"), None);
    figures.note(format!("{of}: CPU time of the gateway"), (work / f64::from(rounds)).max(0.0) * 1e3, "ms");
}
