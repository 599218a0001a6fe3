//! Which clusters are reached through others: path vectors, as BGP has them (RFC 4271 section 9), between gateways of linked clusters.
//!
//! A gateway hears from the gateways of linked clusters whither they forward ([`Routes`]), picks the shortest path to each cluster
//! ([`Routing::plan`]), and tells each neighbour the paths that it may use. No path that contains the listener is told, and none that
//! contains this cluster is taken, so once everybody has heard of everything no path has a loop; while they have not, the hop
//! count in each envelope bounds what a stale path can do.
//!
//! It knows nothing of links, sessions and clocks: whoever drives it says which neighbours there are.

mod plan;

pub use plan::{Plan, Route};

use causeway_model::{ClusterId, NodeId};
use causeway_wire::link::{MAX_PATH, MAX_PATHS, Routes, TransitPath};
use std::collections::{BTreeMap, BTreeSet};

/// A connection with a gateway of a neighbour: the gateway, and a number that tells its connections apart.
pub type Speaker = (NodeId, u64);

/// What one connection says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    transit: bool,
    /// By destination.
    paths: BTreeMap<ClusterId, Vec<ClusterId>>,
}

/// What a message changes of what its connection said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    Nothing,
    /// All that was said stands, and there is more.
    More,
    /// Some of what was said does not stand any more.
    Less,
}

impl Said {
    fn since(&self, before: &Self) -> News {
        let stands = |(to, path): (&ClusterId, &Vec<ClusterId>)| self.paths.get(to) == Some(path);
        match self == before {
            true => News::Nothing,
            false if !before.transit => News::More,
            false if self.transit && before.paths.iter().all(stands) => News::More,
            false => News::Less,
        }
    }
}

/// What the gateways of linked clusters say of the clusters that they reach.
///
/// - Only who was told of by [`open`](Self::open) is heard, until [`close`](Self::close).
/// - A message takes the place of the one before it from the same connection.
/// - A path that does not begin with its speaker, is too short or too long, or names a cluster twice is refused and counted; one that
///   contains this cluster is left out, as the way back is no way.
#[derive(Clone, Debug)]
pub struct Routing {
    own: ClusterId,
    neighbours: BTreeMap<ClusterId, BTreeMap<Speaker, Said>>,
    refused: u64,
}

impl Routing {
    /// Nobody has said anything to cluster `own`.
    pub fn new(own: ClusterId) -> Self {
        Self { own, neighbours: BTreeMap::new(), refused: 0 }
    }

    /// A connection with a gateway of `cluster` is open.
    pub fn open(&mut self, cluster: ClusterId, speaker: Speaker) {
        self.neighbours.entry(cluster).or_default().insert(speaker, Said::default());
    }

    /// It ended: what was said on it counts no more.
    pub fn close(&mut self, cluster: ClusterId, speaker: Speaker) {
        let Some(speakers) = self.neighbours.get_mut(&cluster) else { return };
        speakers.remove(&speaker);
        if speakers.is_empty() {
            self.neighbours.remove(&cluster);
        }
    }

    /// Whether a connection with this gateway is open.
    pub fn is_open(&self, cluster: ClusterId, node: NodeId) -> bool {
        self.neighbours.get(&cluster).is_some_and(|speakers| speakers.keys().any(|speaker| speaker.0 == node))
    }

    /// `routes` were said over it. Paths beyond [`MAX_PATHS`] are refused.
    pub fn handle_routes(&mut self, cluster: ClusterId, speaker: Speaker, routes: &Routes) -> News {
        let Some(said) = self.neighbours.get_mut(&cluster).and_then(|speakers| speakers.get_mut(&speaker))
        else {
            return News::Nothing;
        };
        let before = std::mem::replace(said, Said { transit: routes.transit, paths: BTreeMap::new() });
        for path in routes.paths.iter().take(MAX_PATHS) {
            match judge(self.own, cluster, path) {
                Judged::Taken(destination) if !said.paths.contains_key(&destination) => {
                    said.paths.insert(destination, path.clusters.clone());
                }
                Judged::Loop => {}
                Judged::Taken(_) | Judged::Refused => self.refused += 1,
            }
        }
        self.refused += routes.paths.len().saturating_sub(MAX_PATHS) as u64;
        said.since(&before)
    }

    /// How many paths were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What follows from all that was said, if transit is on for the links with `on`, of which those with `up` reach a gateway.
    pub fn plan(&self, on: &BTreeSet<ClusterId>, up: &BTreeSet<ClusterId>) -> Plan {
        Plan::of(self, on, up)
    }

    /// The clusters that each neighbour of `among` says it reaches, over all connections together: the first [`MAX_PATHS`] of them.
    fn heard(&self, among: &BTreeSet<ClusterId>) -> BTreeMap<ClusterId, BTreeSet<ClusterId>> {
        let mut heard: BTreeMap<ClusterId, BTreeSet<ClusterId>> = BTreeMap::new();
        for (neighbour, _, said) in self.agreed(among) {
            let known = heard.entry(neighbour).or_default();
            for &to in said.paths.keys() {
                if known.len() < MAX_PATHS || known.contains(&to) {
                    known.insert(to);
                }
            }
        }
        heard
    }

    /// The connections with neighbours of `among` at whose end transit is on, too.
    fn agreed<'a>(
        &'a self,
        among: &'a BTreeSet<ClusterId>,
    ) -> impl Iterator<Item = (ClusterId, NodeId, &'a Said)> {
        let of = self.neighbours.iter().filter(|(cluster, _)| among.contains(cluster));
        of.flat_map(|(&cluster, speakers)| {
            let willing = speakers.iter().filter(|(_, said)| said.transit);
            willing.map(move |(&(node, _), said)| (cluster, node, said))
        })
    }
}

enum Judged {
    /// It leads to this cluster.
    Taken(ClusterId),
    /// It leads through this cluster.
    Loop,
    /// It is no path.
    Refused,
}

fn judge(own: ClusterId, speaker: ClusterId, path: &TransitPath) -> Judged {
    let clusters = &path.clusters;
    let [first, .., last] = clusters[..] else { return Judged::Refused };
    // the length comes first: nothing is done for each cluster of a path that is too long
    if first != speaker || clusters.len() > MAX_PATH {
        return Judged::Refused;
    }
    if clusters.iter().enumerate().any(|(at, cluster)| clusters[..at].contains(cluster)) {
        return Judged::Refused;
    }
    if clusters.contains(&own) { Judged::Loop } else { Judged::Taken(last) }
}

#[cfg(test)]
mod tests;
