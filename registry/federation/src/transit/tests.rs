use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

fn set(ids: &[u32]) -> BTreeSet<ClusterId> {
    ids.iter().map(|&id| cluster(id)).collect()
}

fn path(ids: &[u32]) -> TransitPath {
    TransitPath { clusters: ids.iter().map(|&id| cluster(id)).collect() }
}

fn routes(paths: &[&[u32]]) -> Routes {
    Routes { transit: true, paths: paths.iter().map(|ids| path(ids)).collect() }
}

const B1: Speaker = (NodeId(1), 1);
const B2: Speaker = (NodeId(2), 2);

/// Cluster 1, connected with two gateways of cluster 2.
fn routing(said: [&Routes; 2]) -> Routing {
    let mut routing = Routing::new(cluster(1));
    for (speaker, said) in [B1, B2].into_iter().zip(said) {
        routing.open(cluster(2), speaker);
        routing.handle_routes(cluster(2), speaker, said);
    }
    routing
}

fn nodes(plan: &Plan, to: u32) -> Vec<u64> {
    plan.routes
        .get(&cluster(to))
        .map(|route| route.nodes.iter().map(|node| node.0).collect())
        .unwrap_or_default()
}

#[test]
fn nonsense_is_refused_and_counted_and_a_way_back_is_left_out() {
    let said = routes(&[
        &[2, 3],
        &[2, 4, 3],
        &[3, 4],
        &[2],
        &[],
        &[2, 5, 5],
        &[2, 3, 4, 5, 6],
        &[2, 2],
        &[2, 1],
        &[2, 7, 1],
        &[2, 3, 4, 8],
    ]);
    let routing = routing([&said, &routes(&[])]);
    assert_eq!(routing.refused(), 7);
    let plan = routing.plan(&set(&[2]), &set(&[2]));
    let known: Vec<u32> = plan.routes.keys().map(|id| id.get()).collect();
    assert_eq!(known, [2, 3, 8]);
    assert_eq!(plan.routes[&cluster(3)].path, path(&[2, 3]).clusters);
    let many: Vec<TransitPath> = (0..300).map(|i| path(&[2, 100 + i])).collect();
    let mut flooded = Routing::new(cluster(1));
    flooded.open(cluster(2), B1);
    flooded.handle_routes(cluster(2), B1, &Routes { transit: true, paths: many });
    assert_eq!((flooded.refused(), flooded.plan(&set(&[2]), &set(&[2])).routes.len()), (44, MAX_PATHS + 1));
}

#[test]
fn both_ends_must_agree_and_the_way_must_be_open() {
    let said = routes(&[&[2, 3]]);
    let mut routing = routing([&said, &said]);
    let used = |routing: &Routing, on: &[u32], up: &[u32]| routing.plan(&set(on), &set(up)).routes.len();
    assert_eq!(used(&routing, &[2], &[2]), 2);
    assert_eq!(used(&routing, &[], &[2]), 0, "off here");
    assert_eq!(used(&routing, &[2], &[]), 0, "it does not answer");
    assert_eq!(routing.plan(&set(&[]), &set(&[2])), Plan::default());
    assert_eq!(routing.plan(&set(&[2]), &set(&[])).origins[&cluster(2)], set(&[2, 3]));
    for speaker in [B1, B2] {
        routing.handle_routes(cluster(2), speaker, &Routes { transit: false, ..said.clone() });
    }
    assert_eq!(used(&routing, &[2], &[2]), 0, "off there");
    assert_eq!(routing.plan(&set(&[2]), &set(&[2])).origins[&cluster(2)], set(&[2]));
}

#[test]
fn only_the_gateways_that_go_the_best_way_are_used() {
    let mut routing = routing([&routes(&[&[2, 3]]), &routes(&[&[2, 4, 3]])]);
    let plan = |routing: &Routing| routing.plan(&set(&[2]), &set(&[2]));
    assert_eq!((nodes(&plan(&routing), 3), nodes(&plan(&routing), 2)), (vec![1], vec![1, 2]));
    // two connections with one gateway: it counts until the last has ended
    routing.open(cluster(2), (NodeId(1), 9));
    routing.handle_routes(cluster(2), (NodeId(1), 9), &routes(&[&[2, 3]]));
    routing.close(cluster(2), B1);
    assert!(routing.is_open(cluster(2), NodeId(1)));
    assert_eq!(nodes(&plan(&routing), 3), [1]);
    routing.close(cluster(2), (NodeId(1), 9));
    assert_eq!((plan(&routing).routes[&cluster(3)].path.len(), nodes(&plan(&routing), 3)), (3, vec![2]));
    routing.close(cluster(2), B2);
    assert!(plan(&routing).routes.is_empty() && !routing.is_open(cluster(2), NodeId(1)));
    // who is not connected is not heard
    routing.handle_routes(cluster(2), B2, &routes(&[&[2, 3]]));
    assert!(plan(&routing).routes.is_empty());
}

#[test]
fn a_neighbour_is_told_no_way_through_itself() {
    let mut routing = routing([&routes(&[&[2, 3]]), &routes(&[])]);
    routing.open(cluster(4), (NodeId(1), 3));
    routing.handle_routes(cluster(4), (NodeId(1), 3), &routes(&[&[4, 5, 6, 7]]));
    let on = set(&[2, 4]);
    let told = routing.plan(&on, &on).told;
    assert_eq!(told[&cluster(2)].paths, [path(&[1, 4])], "and none that is longer than an envelope goes");
    assert_eq!(told[&cluster(4)].paths, [path(&[1, 2]), path(&[1, 2, 3])]);
}

#[test]
fn what_a_message_takes_back_is_told_from_what_it_adds() {
    let mut routing = Routing::new(cluster(1));
    routing.open(cluster(2), B1);
    let mut hear = |said: &Routes| routing.handle_routes(cluster(2), B1, said);
    assert_eq!(hear(&routes(&[&[2, 3]])), News::More);
    assert_eq!(hear(&routes(&[&[2, 3], &[2, 4]])), News::More);
    assert_eq!(hear(&routes(&[&[2, 4], &[2, 3]])), News::Nothing);
    assert_eq!(hear(&routes(&[&[2, 5, 3], &[2, 4]])), News::Less);
    assert_eq!(hear(&routes(&[&[2, 4]])), News::Less);
    assert_eq!(hear(&Routes { transit: false, ..routes(&[&[2, 4]]) }), News::Less);
    assert_eq!(hear(&routes(&[&[2, 9]])), News::More, "nothing of it stood");
    assert_eq!(
        routing.handle_routes(cluster(2), B2, &routes(&[&[2, 9]])),
        News::Nothing,
        "it is not connected"
    );
}

#[test]
fn a_neighbour_reaches_so_many_clusters_at_most_over_however_many_connections() {
    let mut routing = Routing::new(cluster(1));
    for session in 0..4u32 {
        let speaker = (NodeId(u64::from(session)), u64::from(session));
        let paths = (0..200).map(|i| path(&[2, 1000 * (session + 1) + i])).collect();
        routing.open(cluster(2), speaker);
        routing.handle_routes(cluster(2), speaker, &Routes { transit: true, paths });
    }
    let plan = routing.plan(&set(&[2]), &set(&[2]));
    assert_eq!((plan.routes.len(), plan.origins[&cluster(2)].len()), (MAX_PATHS + 1, MAX_PATHS + 1));
    assert!(plan.routes.keys().all(|to| plan.origins[&cluster(2)].contains(to)));
}

#[test]
fn a_neighbour_that_reaches_everybody_does_not_crowd_out_the_others() {
    let mut routing = Routing::new(cluster(1));
    let neighbours = [(2, 100..400), (3, 1000..1010), (4, 2000..2300)];
    for (id, reached) in neighbours.clone() {
        let paths = reached.map(|to| path(&[id, to])).collect();
        routing.open(cluster(id), B1);
        routing.handle_routes(cluster(id), B1, &Routes { transit: true, paths });
    }
    routing.open(cluster(5), B1);
    routing.handle_routes(cluster(5), B1, &routes(&[]));
    let all = set(&[2, 3, 4, 5]);
    let told = &routing.plan(&all, &all).told[&cluster(5)].paths;
    let through = |id| told.iter().filter(|path| path.clusters[1] == cluster(id)).count();
    assert_eq!((told.len(), through(3)), (MAX_PATHS, 11));
    assert!(through(2).abs_diff(through(4)) <= 1, "{} {}", through(2), through(4));
    assert!(told.is_sorted_by_key(|path| path.clusters.len()));
}

/// Clusters that tell each other of their paths over links that come and go.
struct World {
    clusters: Vec<Routing>,
    edges: BTreeMap<(usize, usize), Edge>,
    sessions: u64,
}

#[derive(Default)]
struct Edge {
    up: bool,
    session: u64,
    /// From the lower to the higher cluster, and back.
    queues: [VecDeque<Routes>; 2],
    told: [Option<Routes>; 2],
}

impl World {
    fn new(count: usize, edges: &BTreeSet<(usize, usize)>) -> Self {
        let clusters = (0..count).map(|i| Routing::new(Self::id(i))).collect();
        let mut world = Self {
            clusters,
            edges: edges.iter().map(|&edge| (edge, Edge::default())).collect(),
            sessions: 0,
        };
        edges.iter().for_each(|&edge| world.set(edge, true));
        world
    }

    fn id(index: usize) -> ClusterId {
        cluster(u32::try_from(index).unwrap() + 1)
    }

    fn set(&mut self, edge: (usize, usize), up: bool) {
        let known = self.edges.get_mut(&edge).unwrap();
        if known.up == up {
            return;
        }
        self.sessions += 1;
        let session = if up { self.sessions } else { known.session };
        *known = Edge { up, session, ..Edge::default() };
        for (at, of) in [edge, (edge.1, edge.0)] {
            let speaker = (NodeId(1), session);
            let routing = &mut self.clusters[at];
            if up { routing.open(Self::id(of), speaker) } else { routing.close(Self::id(of), speaker) }
        }
    }

    fn plan(&self, at: usize) -> Plan {
        let open = self.edges.iter().filter(|(_, edge)| edge.up);
        let others = open.filter_map(|(&(a, b), _)| match at {
            _ if at == a => Some(Self::id(b)),
            _ if at == b => Some(Self::id(a)),
            _ => None,
        });
        let others: BTreeSet<ClusterId> = others.collect();
        self.clusters[at].plan(&others, &others)
    }

    /// Everybody says what it has not said yet.
    fn speak(&mut self) {
        let plans: Vec<Plan> = (0..self.clusters.len()).map(|at| self.plan(at)).collect();
        for (&(a, b), edge) in self.edges.iter_mut().filter(|(_, edge)| edge.up) {
            for (way, (from, to)) in [(a, b), (b, a)].into_iter().enumerate() {
                let told = &plans[from].told[&Self::id(to)];
                if edge.told[way].as_ref() != Some(told) {
                    edge.told[way] = Some(told.clone());
                    edge.queues[way].push_back(told.clone());
                }
            }
        }
    }

    /// One message arrives: which one, `pick` says. Returns whether there was any.
    fn deliver(&mut self, pick: usize) -> bool {
        let waiting: Vec<((usize, usize), usize)> = self
            .edges
            .iter()
            .flat_map(|(&at, edge)| {
                (0..2).filter(|&way| !edge.queues[way].is_empty()).map(move |way| (at, way))
            })
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let ((a, b), way) = waiting[pick % waiting.len()];
        let edge = self.edges.get_mut(&(a, b)).unwrap();
        let message = edge.queues[way].pop_front().unwrap();
        let (from, to) = if way == 0 { (a, b) } else { (b, a) };
        let speaker = (NodeId(1), edge.session);
        self.clusters[to].handle_routes(Self::id(from), speaker, &message);
        true
    }

    fn settle(&mut self, picks: &[usize]) -> usize {
        let mut steps = 0;
        loop {
            self.speak();
            if !self.deliver(picks[steps % picks.len()] + steps) {
                return steps;
            }
            steps += 1;
            assert!(steps < 20_000, "it never settles");
        }
    }

    /// How far everybody is from `from`, over links that stand.
    fn distances(&self, from: usize) -> BTreeMap<usize, usize> {
        let mut known = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for &(a, b) in self.edges.iter().filter(|(_, edge)| edge.up).map(|(edge, _)| edge) {
                let next = if a == at { b } else { a };
                if (a == at || b == at) && !known.contains_key(&next) {
                    known.insert(next, known[&at] + 1);
                    queue.push_back(next);
                }
            }
        }
        known
    }
}

fn graph() -> impl Strategy<Value = (usize, BTreeSet<(usize, usize)>)> {
    (2usize..8).prop_flat_map(|count| {
        let edge = (0..count, 0..count).prop_filter_map("no loop of one", |(a, b)| match a.cmp(&b) {
            std::cmp::Ordering::Less => Some((a, b)),
            std::cmp::Ordering::Greater => Some((b, a)),
            std::cmp::Ordering::Equal => None,
        });
        (Just(count), prop::collection::btree_set(edge, 1..12))
    })
}

proptest! {
    #[test]
    fn once_all_is_said_paths_are_shortest_and_have_no_loop(
        (count, edges) in graph(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0usize..12), 0..12),
        picks in prop::collection::vec(0usize..100, 1..40),
    ) {
        let mut world = World::new(count, &edges);
        let all: Vec<(usize, usize)> = edges.iter().copied().collect();
        for (which, up, deliveries) in changes {
            world.speak();
            for step in 0..deliveries {
                world.deliver(picks[step % picks.len()]);
                world.speak();
            }
            world.set(*which.get(&all), up);
        }
        world.settle(&picks);
        let plans: Vec<Plan> = (0..count).map(|at| world.plan(at)).collect();
        for from in 0..count {
            let distances = world.distances(from);
            let within: BTreeSet<ClusterId> = distances
                .iter()
                .filter(|(_, far)| (1..=MAX_PATH).contains(*far))
                .map(|(&to, _)| World::id(to))
                .collect();
            prop_assert_eq!(&plans[from].routes.keys().copied().collect::<BTreeSet<_>>(), &within);
            for (&to, route) in &plans[from].routes {
                let index = |id: ClusterId| usize::try_from(id.get()).unwrap() - 1;
                prop_assert_eq!(route.path.len(), distances[&index(to)]);
                // hop by hop, as packets go: each step is one of its own plan, and takes what comes from there
                let (mut at, mut steps) = (from, 0);
                while World::id(at) != to {
                    let next = plans[at].routes[&to].next().unwrap();
                    prop_assert!(plans[index(next)].origins[&World::id(at)].contains(&World::id(from)));
                    (at, steps) = (index(next), steps + 1);
                    prop_assert!(steps <= route.path.len(), "{} to {}: a loop", from, to);
                }
                prop_assert_eq!(steps, route.path.len());
            }
        }
        prop_assert!(world.clusters.iter().all(|routing| routing.refused() == 0));
    }

    #[test]
    fn nothing_that_is_said_does_harm(said in prop::collection::vec(prop::collection::vec(1u32..8, 0..6), 0..20)) {
        let paths = said.iter().map(|ids| path(ids)).collect();
        let routing = routing([&Routes { transit: true, paths }, &routes(&[])]);
        let plan = routing.plan(&set(&[2]), &set(&[2]));
        for (&to, route) in &plan.routes {
            prop_assert_eq!(route.next(), Some(cluster(2)));
            prop_assert!(!route.path.contains(&cluster(1)) && route.path.last() == Some(&to));
            prop_assert!(route.path.len() <= MAX_PATH);
        }
    }
}
