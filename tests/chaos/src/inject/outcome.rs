//! What a run came to: whether everybody agrees, and what is not as it should be.

use super::{ASKED, Injector};
use crate::admin::Admin;
use crate::fleet::Fleet;
use crate::summary::Summary;
use crate::view::{View, wait_equal};
use crate::watcher::Watcher;
use crate::writes::Verdict;
use causeway_test_mesh::{wait_for, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long it may take after the last fault until everybody agrees.
const HEALED: Duration = Duration::from_secs(60);

impl Injector {
    /// Ends the load, waits until everybody agrees, and says what it came to.
    #[track_caller]
    pub fn end(&mut self, took: Duration) -> Summary {
        for writes in &mut self.writes {
            writes.stop();
        }
        let answered = self.requests.done();
        wait_until(HEALED, "requests are answered at the end", || self.requests.done() > answered + 10);
        let views = self.agreed();
        self.summary.took = took;
        self.summary.unavailable = std::iter::zip(&self.fleets, &self.writes)
            .map(|(fleet, writes)| (fleet.name().to_owned(), writes.gaps().longest_closed()))
            .collect();
        self.summary.writes = std::iter::zip(&self.writes, &views)
            .fold(Verdict::default(), |all, (writes, view)| all.and(writes.judge(&view.exports)));
        self.summary.ghosts = self.ghosts(&views);
        for watcher in self.watchers.iter().flatten() {
            self.summary.watched += watcher.watched();
        }
        let told = self.requests.end();
        if !told.failures.is_empty() {
            self.print_endings();
        }
        self.summary.requests = Some(told);
        self.summary.clone()
    }

    /// Prints how the caller's sidecar ended connections other than well: the reasons of requests that failed are there.
    fn print_endings(&self) {
        let log = self.client.process.log();
        let ended = log.lines().filter(|line| line.contains("access:") && !line.contains("reason=\"done\""));
        ended.for_each(|line| println!("           {}: {line}", self.client.process.name()));
    }

    /// Waits until all gateways of each cluster answer the same, and watchers saw it; returns that for each cluster.
    #[track_caller]
    fn agreed(&mut self) -> [View; 2] {
        let (exporter, importer) = (self.fleets[1].name().to_owned(), self.fleets[0].admins());
        wait_until(HEALED, "the service that is asked is offered at the end", || {
            importer.iter().all(|admin| View::of(admin).is_ok_and(|view| view.healthy(ASKED, &exporter) == 1))
        });
        let names = self.fleets.each_ref().map(|fleet| fleet.name().to_owned());
        let all: [Vec<Admin>; 2] = self.fleets.each_ref().map(Fleet::admins);
        let (views, _) = wait_for(HEALED, "imports are what is exported", || {
            let views = all.each_ref().map(|admins| wait_equal(admins, HEALED));
            let agree =
                (0..2).all(|at| differing_imports(&views[at], &views[1 - at], &names[1 - at]).is_empty());
            agree.then_some(views)
        });
        for (watchers, admins) in self.watchers.iter().zip(&all) {
            for watcher in watchers {
                wait_agrees(watcher, admins);
            }
        }
        views
    }

    /// What is in an answer and not in the world, or the other way round.
    fn ghosts(&self, views: &[View; 2]) -> Vec<String> {
        let mut ghosts = Vec::new();
        // a caller's identity is its own; a server's that of its service
        for (view, suffix) in views.iter().zip(["/ns/default/sa/web", "/ns/shop/sa/payments"]) {
            let identities = view.identities();
            if identities.len() != 1 || !identities[0].ends_with(suffix) {
                ghosts.push(format!("one workload {suffix} runs, and there are {identities:?}"));
            }
        }
        for at in 0..2 {
            ghosts.extend(differing_imports(&views[at], &views[1 - at], self.fleets[1 - at].name()));
        }
        ghosts
    }
}

/// Waits until a watcher has seen what the gateways of its cluster answer.
#[track_caller]
fn wait_agrees(watcher: &Watcher, admins: &[Admin]) {
    let began = Instant::now();
    while let Some(what) = watcher.difference(&wait_equal(admins, HEALED)) {
        assert!(began.elapsed() < HEALED, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The services that one of two has and the other has not: what `importer` sees of cluster `name`, and what that one exports to
/// every linked cluster.
fn differing_imports(importer: &View, exporter: &View, name: &str) -> Vec<String> {
    let seen = importer.offered_by(name);
    let to_all = |to: &BTreeSet<String>| to.contains("*");
    let exported =
        exporter.exports.iter().filter(|(_, to)| to_all(to)).map(|(service, _)| service.clone()).collect();
    let apart = seen.symmetric_difference(&exported);
    apart
        .map(|service| {
            format!(
                "{service} of {name}: exported {}, imported {}",
                exported.contains(service),
                seen.contains(service)
            )
        })
        .collect()
}
