//! Two linked clusters under load, into which faults are injected.

mod checked;
mod gateways;
mod outcome;
mod paths;

use crate::admin::Answer;
use crate::damage::Damage;
use crate::disk::SmallDisk;
use crate::fault::{Kind, Planned};
use crate::fleet::Fleet;
use crate::relays::Lossy;
use crate::requests::Requests;
use crate::side::Side;
use crate::summary::Summary;
use crate::watcher::Watcher;
use crate::writes::Writes;
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;
use std::collections::BTreeSet;

/// The service that is asked from the other cluster.
const ASKED: &str = "payments.shop";
/// How many services of each cluster are exported to the other one and withdrawn again.
const CHURNED: usize = 6;
/// The size of the disk that can be filled, in bytes.
const DISK: u64 = 32 << 20;

/// The clusters and their loads.
#[derive(Debug)]
pub struct Injector {
    fleets: [Fleet; 2],
    server: Side,
    client: Side,
    _service: Service,
    writes: [Writes; 2],
    requests: Requests,
    watchers: [Vec<Watcher>; 2],
    /// What `check` finds wrong before a fault.
    usual: BTreeSet<String>,
    disk: bool,
    summary: Summary,
}

impl Injector {
    /// Starts clusters `iad` and `phx` with three gateways each, links them, and puts them under load.
    #[track_caller]
    pub fn start(mesh: &Mesh, seed: u64) -> Self {
        let disk = SmallDisk::refused().is_none();
        let mut fleets = ["iad", "phx"].map(|name| {
            let builder = Fleet::builder(mesh, name).relayed();
            if disk { builder.small_disk(2, DISK).start() } else { builder.start() }
        });
        link(&mut fleets);
        let service = Service::http("payments");
        let port = format!("{ASKED}:80");
        let [iad, phx] = &mut fleets;
        let server = Side::builder(phx, "pay").serve(&port, service.addr()).start();
        let client = Side::builder(iad, "web").listen(&port).start();
        phx.ask("an export", |admin| admin.put(&format!("/v1/exports/{ASKED}"), &json!({})));
        for fleet in [iad, phx] {
            let churned: Vec<String> =
                (0..CHURNED).map(|number| format!("{}:80", churned(fleet, number))).collect();
            fleet.ask("services that are exported now and then", |admin| {
                admin
                    .post("/v1/tokens", &json!({"role": "workload", "services": churned, "account": "churn"}))
            });
        }
        let requests = Requests::start(client.addr(&port), 2);
        let what = "requests are answered";
        wait_until(SOON, what, || requests.done() > 0);
        requests.gaps().take_recent();
        let writes = fleets.each_mut().map(|fleet| Writes::start(fleet, 2));
        let watchers = fleets
            .each_ref()
            .map(|fleet| (0..fleet.members.len()).map(|first| Watcher::start(fleet, first)).collect());
        Self {
            fleets,
            server,
            client,
            _service: service,
            writes,
            requests,
            watchers,
            usual: BTreeSet::new(),
            disk,
            summary: Summary { seed, ..Summary::default() },
        }
    }

    /// The kinds of faults that can be injected here; and the one that cannot, with the reason.
    pub fn kinds(&self) -> (Vec<Kind>, Option<(Kind, &'static str)>) {
        let left = (!self.disk).then_some((Kind::FullDisk, "this process may not mount a small disk"));
        let kinds = Kind::ALL.into_iter().filter(|kind| left.is_none_or(|(without, _)| *kind != without));
        (kinds.collect(), left)
    }

    /// Injects a fault, heals it, and waits until both clusters take changes again.
    #[track_caller]
    pub fn inject(&mut self, planned: &Planned, random: &mut StdRng) {
        let Planned { kind, cluster, pause, .. } = *planned;
        self.toggle(random);
        self.usual = (0..2).flat_map(|cluster| self.check(cluster).into_keys()).collect();
        for writes in &self.writes {
            writes.gaps().take_recent();
        }
        self.requests.gaps().take_recent();
        match kind {
            Kind::KillLeader | Kind::KillOther => self.kill(planned, 1, random),
            Kind::KillMajority => self.kill(planned, 2, random),
            Kind::StopLeader | Kind::StopOther => self.stop(planned, random),
            Kind::CutLink => self.lose(planned, [Lossy::Both; 2]),
            Kind::OneWay if cluster == 0 => self.lose(planned, [Lossy::Sent, Lossy::Received]),
            Kind::OneWay => self.lose(planned, [Lossy::Received, Lossy::Sent]),
            Kind::Part | Kind::PartOneWay => self.part(planned, random),
            Kind::FullDisk => self.fill(planned),
            Kind::Truncated => self.damage(planned, Damage::Truncated, random),
            Kind::Flipped => self.damage(planned, Damage::Flipped, random),
            Kind::KillSidecar => self.kill_sidecar(planned),
        }
        self.wait_healed(kind);
        let of = self.summary.kinds.entry(kind).or_default();
        of.count += 1;
        of.writes = of.writes.max(self.writes[cluster].gaps().take_recent().length);
        of.requests = of.requests.max(self.requests.gaps().take_recent().length);
        std::thread::sleep(pause);
    }

    /// Waits until both clusters acknowledge writes again, and requests are answered.
    #[track_caller]
    fn wait_healed(&self, kind: Kind) {
        for (writes, fleet) in self.writes.iter().zip(&self.fleets) {
            let before = writes.acknowledged();
            let what = format!("{} acknowledges writes after {kind}", fleet.name());
            wait_until(SOON * 2, &what, || writes.acknowledged() > before + 2);
        }
        let answered = self.requests.done();
        let what = format!("requests are answered after {kind}");
        wait_until(SOON * 2, &what, || self.requests.done() > answered + 2);
    }

    /// Exports a service to the other cluster, or withdraws it, through any gateway; whatever comes of it.
    fn toggle(&mut self, random: &mut StdRng) {
        let cluster = random.random_range(0..2);
        let fleet = &mut self.fleets[cluster];
        let path = format!("/v1/exports/{}", churned(fleet, random.random_range(0..CHURNED)));
        let admin = fleet.members[random.random_range(0..fleet.members.len())].admin().clone();
        if admin.put(&path, &json!({})).reason().is_none() && random.random_bool(0.5) {
            admin.delete(&path);
        }
    }
}

fn churned(fleet: &Fleet, number: usize) -> String {
    format!("{}-{number}.churn", fleet.name())
}

#[track_caller]
fn link(fleets: &mut [Fleet; 2]) {
    let [a, b] = fleets;
    let names = [a.name().to_owned(), b.name().to_owned()];
    let invited =
        a.ask("an invite", |admin| admin.post("/v1/links/invite", &json!({"for_cluster": names[1]})));
    b.ask("a link", |admin| admin.post("/v1/links/accept", &json!({"token": invited["token"]})));
    for (fleet, peer) in [(a, &names[1]), (b, &names[0])] {
        for admin in fleet.admins() {
            let what = format!("the link of {} to {peer} is up", admin.name());
            wait_until(
                SOON,
                &what,
                || matches!(admin.get(&format!("/v1/links/{peer}")), Answer::Done(link) if link["state"] == "up"),
            );
        }
    }
}
