//! Names against a directory of the test's own.

use super::*;
use causeway_dns::{NameError, Names};
use causeway_model::{ClusterFacts, ClusterId, Locality};
use causeway_wire::view::Offer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::watch;

type Told = watch::Sender<Option<Arc<ServiceView>>>;

/// Says of each service what the test tells it, counts what it is asked, and gives out addresses one after the other.
#[derive(Default)]
struct Fake {
    views: Mutex<BTreeMap<String, Told>>,
    vips: Mutex<Vec<VipName>>,
    subscribed: AtomicUsize,
    /// No gateway gives out addresses.
    silent: std::sync::atomic::AtomicBool,
}

impl Fake {
    fn told(&self, service: &str) -> Told {
        self.views.lock().unwrap().entry(service.to_owned()).or_insert_with(|| watch::channel(None).0).clone()
    }

    /// A gateway says what ports `service` has in each cluster.
    fn tell(&self, service: &str, offers: &[&str]) {
        self.told(service).send_replace(Some(Arc::new(view(service, offers))));
    }

    fn asked(&self) -> usize {
        self.subscribed.load(Relaxed)
    }
}

impl Directory for Fake {
    fn subscribe(&self, name: &VipName) -> Subscribed {
        self.subscribed.fetch_add(1, Relaxed);
        let told = self.told(&name.service.to_string());
        Subscribed { view: told.subscribe(), guard: Box::new(told) }
    }

    fn vip(&self, name: VipName) -> Answer<Result<Vip, VipError>> {
        if self.silent.load(Relaxed) {
            return Box::pin(async { Err(VipError::NoGateway) });
        }
        let mut vips = self.vips.lock().unwrap();
        let at = vips.iter().position(|known| *known == name).unwrap_or_else(|| {
            vips.push(name);
            vips.len() - 1
        });
        Box::pin(async move { Ok(vip(at)) })
    }

    fn name_of(&self, vip: Vip) -> Answer<Result<VipName, VipError>> {
        let known = self.vips.lock().unwrap().get(vip.get() as usize - 1).cloned();
        let unknown = || VipError::Unknown { reason: "vip-unknown".into(), message: String::new() };
        Box::pin(async move { known.ok_or_else(unknown) })
    }
}

/// The address that was given out after `count` others.
fn vip(count: usize) -> Vip {
    Vip::new(u32::try_from(count).unwrap() + 1).unwrap()
}

fn view(service: &str, offers: &[&str]) -> ServiceView {
    let offer = |(id, ports): (u32, &&str)| Offer {
        cluster: ClusterFacts {
            name: format!("c{id}").parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: format!("c{id}.mesh").parse().unwrap(),
            locality: Locality { region: "east".into(), zone: "1".into() },
        },
        handle: None,
        ports: ports.split(' ').map(|port| port.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap(),
        identities: Vec::new(),
        healthy: 1,
        total: 1,
        stale_for: None,
        endpoints: Vec::new(),
    };
    ServiceView { name: service.parse().unwrap(), offers: (1..).zip(offers).map(offer).collect() }
}

fn name(name: &str) -> VipName {
    name.parse().unwrap()
}

/// A table for `most` names, and those whose connections are to be made ready.
fn table(most: usize) -> (Arc<Fake>, Arc<NameTable>, mpsc::Receiver<Arc<Name>>) {
    let (warm, warmed) = mpsc::channel(WARM_QUEUE);
    let fake = Arc::new(Fake::default());
    let names = NameTable::new(Arc::clone(&fake) as _, most, warm);
    (fake, names, warmed)
}

fn numbers(ports: &PortSet) -> Vec<String> {
    ports.iter().map(|port| port.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_once_and_known_from_then_on() {
    let (fake, names, mut warmed) = table(8);
    let questions = Questions::of(&names);
    fake.tell("pay.shop", &["80/http 443"]);
    assert_eq!(questions.known(&name("pay.shop")), None);
    let resolved = questions.resolve(name("pay.shop")).await.unwrap();
    assert_eq!((resolved.vip, numbers(&resolved.ports)), (vip(0), vec!["80/http".into(), "443/tcp".into()]));
    assert_eq!(questions.known(&name("pay.shop")), Some(resolved.clone()));
    assert_eq!(questions.resolve(name("pay.shop")).await, Ok(resolved));
    assert_eq!((questions.name_of(vip(0)), fake.asked()), (Some(name("pay.shop")), 1));

    // the first question has the connection made ready, and those of the next seconds do not
    assert_eq!(warmed.try_recv().unwrap().name, name("pay.shop"));
    assert!(warmed.try_recv().is_err());
    tokio::time::advance(WARM_EVERY).await;
    questions.known(&name("pay.shop")).unwrap();
    assert!(warmed.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_offers_does_not_exist_for_a_moment() {
    let (fake, names, _warmed) = table(8);
    fake.tell("gone.shop", &[]);
    for _ in 0..3 {
        assert_eq!(names.find(name("gone.shop")).await.unwrap_err(), LookupError::Unknown);
    }
    assert_eq!(fake.asked(), 1, "asked for once");
    fake.tell("gone.shop", &["80"]);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(names.find(name("gone.shop")).await.unwrap().vip, vip(0));

    // and one in use that nobody offers any more is gone, with its address kept
    let questions = Questions::of(&names);
    fake.tell("gone.shop", &[]);
    assert_eq!(questions.known(&name("gone.shop")), None);
    assert_eq!(questions.resolve(name("gone.shop")).await, Err(NameError::Unknown));
    fake.tell("gone.shop", &["81"]);
    let back = questions.known(&name("gone.shop")).unwrap();
    assert_eq!((back.vip, numbers(&back.ports)), (vip(0), vec!["81/tcp".into()]));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_say_now_is_a_failure_in_time_and_not_remembered() {
    let (fake, names, _warmed) = table(8);
    let began = Instant::now();
    let error = names.find(name("late.shop")).await.unwrap_err().to_string();
    assert_eq!(
        (error.as_str(), began.elapsed()),
        ("no gateway has said anything of late.shop yet", PATIENCE)
    );
    fake.silent.store(true, Relaxed);
    fake.tell("late.shop", &["80"]);
    let error = Questions::of(&names).resolve(name("late.shop")).await.unwrap_err();
    assert!(matches!(&error, NameError::Unavailable(why) if why.contains("no gateway")), "{error:?}");
    fake.silent.store(false, Relaxed);
    assert!(names.find(name("late.shop")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_names_than_may_be_looked_up_at_once_wait_for_their_turn() {
    let (fake, names, _warmed) = table(4 * MAX_PENDING);
    let finding: Vec<_> = (0..2 * MAX_PENDING)
        .map(|n| {
            let names = Arc::clone(&names);
            tokio::spawn(async move { names.find(name(&format!("s{n}.shop"))).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.asked(), MAX_PENDING);
    (0..2 * MAX_PENDING).for_each(|n| fake.tell(&format!("s{n}.shop"), &["80"]));
    for found in finding {
        found.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn questions_wait_until_there_is_somebody_to_ask() {
    let (fake, names, _warmed) = table(8);
    fake.tell("pay.shop", &["80"]);
    let questions = Questions::default();
    assert_eq!((questions.known(&name("pay.shop")), questions.name_of(vip(0))), (None, None));
    let (early, reverse) = (questions.resolve(name("pay.shop")), questions.resolve_name_of(vip(0)));
    let early = tokio::spawn(early);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!early.is_finished() && fake.asked() == 0);
    questions.begin(&names);
    assert_eq!(early.await.unwrap().unwrap().vip, vip(0));
    assert_eq!(reverse.await, Ok(name("pay.shop")));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_known_whether_or_not_its_name_is_in_use() {
    let (fake, names, _warmed) = table(8);
    let questions = Questions::of(&names);
    fake.tell("pay.shop", &["80"]);
    fake.vips.lock().unwrap().push(name("pay.shop"));
    assert_eq!(questions.name_of(vip(0)), None);
    assert_eq!(questions.resolve_name_of(vip(0)).await, Ok(name("pay.shop")));
    assert_eq!(fake.asked(), 0, "a reverse question does not bring it into use");
    assert_eq!(names.by_vip(vip(0)).await.unwrap().name, name("pay.shop"));
    assert_eq!((fake.asked(), names.by_vip(vip(1)).await.unwrap_err()), (1, LookupError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn the_name_that_was_used_longest_ago_makes_room() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);
    impl Follow for Heard {
        fn follow(&self, name: &Arc<Name>) {
            self.0.lock().unwrap().push(format!("+{}", name.name));
        }
        fn forget(&self, name: &VipName) {
            self.0.lock().unwrap().push(format!("-{name}"));
        }
    }
    let (fake, names, _warmed) = table(2);
    let heard = Arc::new(Heard::default());
    names.set_follow(Arc::clone(&heard) as _);
    for service in ["a.shop", "b.shop", "a.shop", "c.shop"] {
        fake.tell(service, &["80"]);
        names.find(name(service)).await.unwrap();
    }
    assert_eq!(*heard.0.lock().unwrap(), ["+a.shop", "+b.shop", "-b.shop", "+c.shop"]);
    let table = names.table();
    assert!(table.by_name(&name("b.shop")).is_none() && table.by_vip(vip(1)).is_none());
    assert_eq!(table.all().count(), 2);
}

#[test]
fn names_that_nobody_knows_are_remembered_within_bounds() {
    let (mut table, now) = (Table::new(8), Instant::now());
    (0..2_000).for_each(|n| table.add_unknown(name(&format!("s{n}.shop")), now));
    let known =
        |table: &Table, at| (0..2_000).filter(|n| table.is_unknown(&name(&format!("s{n}.shop")), at)).count();
    assert_eq!(known(&table, now), 1_024);
    let later = now + Duration::from_secs(2);
    assert_eq!(known(&table, later), 0);
    table.add_unknown(name("late.shop"), later);
    assert!(table.is_unknown(&name("late.shop"), later), "those that are over make room");
}

#[test]
fn where_clusters_differ_about_a_port_the_nearest_one_counts() {
    let ports = offered(&view("pay.shop", &["80/http", "80/tcp 443 53/udp"]));
    assert_eq!(ports.iter().find(|port| port.port == 80).unwrap().to_string(), "80/http");
    assert_eq!(ports.iter().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn names_that_were_remembered_are_in_use_before_anybody_asks() {
    /// What it was told of each name.
    #[derive(Default)]
    struct Followed(Mutex<Vec<(VipName, Option<Vec<String>>)>>);

    impl Follow for Followed {
        fn follow(&self, name: &Arc<Name>) {
            let ports = name.ports().map(|ports| numbers(&ports));
            self.0.lock().unwrap().push((name.name.clone(), ports));
        }

        fn forget(&self, _: &VipName) {}
    }

    let (fake, names, _warm) = table(2);
    let followed = Arc::new(Followed::default());
    names.set_follow(Arc::clone(&followed) as _);
    fake.tell("b.shop", &["80/tcp"]);
    // of too many the first is left out
    names.restore((0..3).map(|at| (name(["a.shop", "b.shop", "c.shop"][at]), vip(at))).collect());
    assert_eq!(names.by_vip(vip(1)).await.unwrap().name, name("b.shop"));
    assert_eq!(names.table().by_name(&name("a.shop")).map(|name| name.vip), None);
    // one of which no gateway has said anything yet exists, as far as anybody knows
    assert!(matches!(names.find(name("c.shop")).await, Err(LookupError::Unavailable(_))));
    // a question that learns of other ports first does not keep them from the follower
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&names).keep_following(stop.clone()));
    fake.tell("c.shop", &["53/udp"]);
    assert!(names.find(name("c.shop")).await.unwrap().ports().is_some());
    tokio::time::sleep(2 * LOOK_EVERY).await;
    stop.cancel();
    let told = followed.0.lock().unwrap();
    let last = |of: &str| told.iter().rev().find(|(told, _)| *told == name(of)).unwrap().1.clone();
    assert_eq!((told[0].0.clone(), told[1].1.clone()), (name("b.shop"), None));
    assert_eq!((last("b.shop"), last("c.shop")), (Some(vec!["80/tcp".into()]), Some(vec!["53/udp".into()])));
}
