//! How long a change in one cluster takes to a sidecar of another one, through two real gateways.

use crate::args::Args;
use crate::figures::Figures;
use crate::played::{Identity, Session, Told, User};
use crate::probes;
use crate::subscribers::{endpoint, token};
use crate::times::Times;
use causeway_model::{Health, ServiceName};
use causeway_test_chaos::Admin;
use causeway_test_mesh::{Cluster, Mesh, loopback};
use causeway_wan::{Impairment, Relay};
use causeway_wire::view::ServiceView;
use rand::RngExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Services whose endpoints change, in turn.
const SERVICES: usize = 10;
/// One way of the WAN: half of the round trip.
const DELAY: Duration = Duration::from_millis(40);
/// How long a change may take, in milliseconds.
const GOAL: f64 = 1000.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two changes, in milliseconds.
const PAUSE: std::ops::Range<u64> = 50..200;

/// Measures with the WAN and without.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    one(args, DELAY, "80 ms RTT", figures);
    one(args, Duration::ZERO, "no delay", figures);
}

fn one(args: &Args, delay: Duration, of: &str, figures: &mut Figures) {
    let (mesh, runtime) = (Mesh::new("scale-visibility"), Runtime::new().unwrap());
    let path = Impairment::CLEAR.with_delay(delay);
    let mut relays = Vec::new();
    let [iad, phx] = ["iad", "phx"].map(|name| {
        let ip = loopback();
        // what others send to this cluster passes its relay
        let relay = Relay::start((loopback(), 7443).into(), (ip, 7443).into(), path, path, 1)
            .expect("a relay starts");
        let [far, near] = [format!("link={}", relay.local_addr()), format!("cluster={ip}:7443")];
        relays.push(relay);
        mesh.cluster(name)
            .at(&[ip])
            .flag("--advertise", &far)
            .flag("--advertise", &near)
            .flag("--log", "warn")
            .start()
    });
    mesh.link(&iad, &phx);
    let [near, far] =
        ["iad", "phx"].map(|name| Admin::of(name, &mesh.path(&format!("contexts/{name}.toml"))));
    let mut world = World::start(&runtime, (&iad, &near), (&phx, &far));
    world.health(args, &runtime).note(figures, &format!("{of}: health of a workload"), Some(GOAL));
    let (exports, withdrawals) = world.exports(args, &near);
    exports.note(figures, &format!("{of}: a new export"), Some(GOAL));
    withdrawals.note(figures, &format!("{of}: an export withdrawn"), Some(GOAL));
}

/// Workloads in one cluster, and a sidecar in the other one that uses their services.
struct World {
    services: Vec<ServiceName>,
    /// The service that is exported and withdrawn.
    coming: ServiceName,
    /// Two workloads serve everything; the second one's health changes.
    serving: Vec<Session>,
    told: Receiver<Told>,
    known: BTreeMap<ServiceName, ServiceView>,
    _probing: std::sync::mpsc::Sender<probes::Probed>,
}

impl World {
    fn start(runtime: &Runtime, (iad, near): (&Cluster, &Admin), (phx, far): (&Cluster, &Admin)) -> Self {
        let services: Vec<ServiceName> =
            (0..SERVICES).map(|number| format!("pay{number}.shop").parse().unwrap()).collect();
        let coming: ServiceName = "coming.shop".parse().unwrap();
        let all: Vec<ServiceName> = services.iter().chain([&coming]).cloned().collect();
        let (serving_token, using_token) = (token(near, &all, "pay"), token(far, &[], "web"));
        let (probing, (sender, told)) = (probes::start(), channel());
        let serving = runtime.block_on(async {
            let (here, there) = (endpoint(0), endpoint(1));
            let identity = Identity::join(&here, iad.gateways[0].overlay(), &serving_token).await;
            let mut serving = Vec::new();
            for _ in 0..2 {
                let attached = identity.attach(&here).await.expect("it attaches");
                probing.send(identity.probed(&attached)).unwrap();
                serving.push(identity.session(&here, attached.workload, &all).await.expect("it registers"));
            }
            let identity = Identity::join(&there, phx.gateways[0].overlay(), &using_token).await;
            let user = User { number: 0, identity, endpoint: there, services: all, sender };
            user.start(probing.clone(), Arc::default()).await;
            serving
        });
        for service in &services {
            near.put(&format!("/v1/exports/{service}"), &json!({})).done();
        }
        let mut world = Self { services, coming, serving, told, known: BTreeMap::new(), _probing: probing };
        for service in world.services.clone() {
            world.wait(&service, Instant::now(), |view| offered(view) == Some((2, 2)));
        }
        world
    }

    /// Waits until the sidecar is told what `wanted` says of a service, and returns how long after `since` that was.
    fn wait(
        &mut self,
        service: &ServiceName,
        since: Instant,
        wanted: impl Fn(&ServiceView) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        if self.known.get(service).is_some_and(&wanted) {
            return Duration::ZERO;
        }
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let (_, at, view) = self
                .told
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("not told in time of {service}: {:?}", self.known.get(service)));
            let found = view.name == *service && wanted(&view);
            self.known.insert(view.name.clone(), view);
            if found {
                return at.saturating_duration_since(since);
            }
        }
    }

    /// A workload's health changes: the offer and the endpoint that the sidecar has are to say so.
    fn health(&mut self, args: &Args, runtime: &Runtime) -> Times {
        let mut times = Times::default();
        for round in 0..args.changes as usize {
            let service = self.services[round % SERVICES].clone();
            let is_even = (round / SERVICES).is_multiple_of(2);
            let (health, want) = if is_even { (Health::Unhealthy, 1) } else { (Health::Healthy, 2) };
            pause();
            let begun = Instant::now();
            runtime.block_on(self.serving[1].report(service.clone(), health)).expect("it is heard");
            times.add(self.wait(&service, begun, |view| offered(view) == Some((want, want))));
        }
        times
    }

    /// A service is exported, and withdrawn.
    fn exports(&mut self, args: &Args, near: &Admin) -> (Times, Times) {
        let (mut exports, mut withdrawals) = (Times::default(), Times::default());
        let (service, path) = (self.coming.clone(), format!("/v1/exports/{}", self.coming));
        for _ in 0..args.changes.div_ceil(2) {
            pause();
            let begun = Instant::now();
            near.put(&path, &json!({})).done();
            exports.add(
                self.wait(&service, begun, |view| offered(view).is_some_and(|(healthy, _)| healthy == 2)),
            );
            pause();
            let begun = Instant::now();
            near.delete(&path).done();
            withdrawals.add(self.wait(&service, begun, |view| offered(view).is_none()));
        }
        (exports, withdrawals)
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(rand::rng().random_range(PAUSE)));
}

/// How many endpoints the other cluster says are healthy, and how many healthy ones are known.
fn offered(view: &ServiceView) -> Option<(u32, u32)> {
    let offer = view.offers.iter().find(|offer| offer.cluster.name.as_str() == "iad")?;
    let known = offer.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy).count();
    Some((offer.healthy, u32::try_from(known).expect("few")))
}
