//! What follows from what was said: the best path to each cluster, whose packets may come in where, and what is told to whom.

use super::Routing;
use causeway_model::{ClusterId, NodeId};
use causeway_wire::link::{MAX_PATH, MAX_PATHS, Routes, TransitPath};
use std::collections::{BTreeMap, BTreeSet};

/// The best path to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The clusters on it in order, the destination last. One that is linked and reached directly is its own path.
    pub path: Vec<ClusterId>,
    /// The gateways of the first one that say they forward along it.
    pub nodes: BTreeSet<NodeId>,
}

impl Route {
    /// The cluster to which packets are sent.
    pub fn next(&self) -> Option<ClusterId> {
        self.path.first().copied()
    }
}

/// Where packets go, where they may come from, and what is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By destination: the shortest path; of several the one whose first different cluster has the lower id.
    pub routes: BTreeMap<ClusterId, Route>,
    /// By neighbour with transit on: the clusters whose packets may come in from it. Itself, and whom it says it reaches, at most
    /// [`MAX_PATHS`]: paths lead both ways.
    pub origins: BTreeMap<ClusterId, BTreeSet<ClusterId>>,
    /// By neighbour with transit on: what it is told.
    pub told: BTreeMap<ClusterId, Routes>,
}

impl Plan {
    pub(super) fn of(routing: &Routing, on: &BTreeSet<ClusterId>, up: &BTreeSet<ClusterId>) -> Self {
        let usable: BTreeSet<ClusterId> = on.intersection(up).copied().collect();
        let heard = routing.heard(on);
        let mut plan = Self { routes: routes(routing, &usable, &heard), ..Self::default() };
        for &neighbour in on {
            plan.origins.insert(neighbour, BTreeSet::from([neighbour]));
            let told = Routes { transit: true, paths: plan.paths_for(routing.own, neighbour) };
            plan.told.insert(neighbour, told);
        }
        // a neighbour may send what it has even while we see no way to it
        for (neighbour, reached) in heard {
            plan.origins.entry(neighbour).or_default().extend(reached);
        }
        plan
    }

    /// The best paths that `neighbour` may use: those that do not lead through it, the shortest first. If there are too many, each
    /// cluster to which packets would be sent has as many of them as any other: one that says it reaches everybody crowds out nobody.
    fn paths_for(&self, own: ClusterId, neighbour: ClusterId) -> Vec<TransitPath> {
        let usable = self.routes.values().map(|route| &route.path);
        let usable = usable.filter(|path| path.len() < MAX_PATH && !path.contains(&neighbour));
        let mut by_next: BTreeMap<Option<&ClusterId>, Vec<&Vec<ClusterId>>> = BTreeMap::new();
        usable.for_each(|path| by_next.entry(path.first()).or_default().push(path));
        let mut ranked: Vec<(usize, usize, &Vec<ClusterId>)> = Vec::new();
        for paths in by_next.values_mut() {
            paths.sort_by_key(|path| (path.len(), *path));
            ranked.extend(paths.iter().enumerate().map(|(rank, path)| (rank, path.len(), *path)));
        }
        ranked.sort();
        ranked.truncate(MAX_PATHS);
        ranked.sort_by_key(|(_, len, path)| (*len, *path));
        let from_here = |path: &Vec<ClusterId>| TransitPath {
            clusters: std::iter::once(own).chain(path.iter().copied()).collect(),
        };
        ranked.into_iter().map(|(_, _, path)| from_here(path)).collect()
    }
}

fn routes(
    routing: &Routing,
    usable: &BTreeSet<ClusterId>,
    heard: &BTreeMap<ClusterId, BTreeSet<ClusterId>>,
) -> BTreeMap<ClusterId, Route> {
    let mut routes: BTreeMap<ClusterId, Route> = BTreeMap::new();
    for (neighbour, node, said) in routing.agreed(usable) {
        let direct = [neighbour];
        let counts = |to: &ClusterId| heard.get(&neighbour).is_some_and(|reached| reached.contains(to));
        let learned = said.paths.iter().filter(|(to, _)| counts(to)).map(|(&to, path)| (to, &path[..]));
        for (to, path) in std::iter::once((neighbour, &direct[..])).chain(learned) {
            let best =
                routes.entry(to).or_insert_with(|| Route { path: path.to_vec(), nodes: BTreeSet::new() });
            if (path.len(), path) < (best.path.len(), &best.path[..]) {
                *best = Route { path: path.to_vec(), nodes: BTreeSet::new() };
            }
            // a gateway that goes another way may not have heard yet what this one has
            if path == best.path {
                best.nodes.insert(node);
            }
        }
    }
    routes
}
