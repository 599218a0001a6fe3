use super::*;
use causeway_model::{ClusterFacts, ClusterId, PortSet};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

pub(super) fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

pub(super) fn view(service: &str, healthy: u32) -> ServiceView {
    let offer = Offer {
        cluster: ClusterFacts {
            name: "iad".parse().unwrap(),
            id: ClusterId::new(7).unwrap(),
            trust_domain: "iad.mesh".parse().unwrap(),
            locality: Locality { region: "r".to_owned(), zone: "z".to_owned() },
        },
        handle: None,
        ports: PortSet::default(),
        identities: Vec::new(),
        healthy,
        total: healthy,
        stale_for: None,
        endpoints: Vec::new(),
    };
    ServiceView { name: name(service), offers: vec![offer] }
}

fn views(saved: Vec<ServiceView>) -> (Arc<Views>, ClientMetrics) {
    let metrics = ClientMetrics::default();
    (Arc::new(Views::new(saved, Instant::now(), metrics.clone())), metrics)
}

#[tokio::test]
async fn the_latest_counts_and_the_same_again_is_no_news() {
    let (views, _) = views(Vec::new());
    let mut subscription = views.subscribe(&name("pay.shop"));
    assert!(subscription.current().is_none());
    assert_eq!(views.publish(A, view("pay.shop", 1), Instant::now()), Published::Changed);
    subscription.changed().await;
    assert_eq!(subscription.current().unwrap().offers[0].healthy, 1);
    // the second gateway says the same, then the first one something else
    assert_eq!(views.publish(B, view("pay.shop", 1), Instant::now()), Published::Ignored);
    assert!(!subscription.receiver.has_changed().unwrap());
    assert_eq!(views.publish(A, view("pay.shop", 2), Instant::now()), Published::Changed);
    assert!(subscription.receiver.has_changed().unwrap());
}

#[test]
fn a_service_is_in_use_until_its_last_user_goes() {
    let (views, metrics) = views(Vec::new());
    let mut version = views.version();
    let (first, second) = (views.subscribe(&name("pay.shop")), views.subscribe(&name("pay.shop")));
    assert!(version.has_changed().unwrap());
    version.mark_unchanged();
    drop(first);
    assert!(!version.has_changed().unwrap(), "there is a user left");
    assert_eq!((views.in_use(), metrics.subscriptions.get()), (vec![name("pay.shop")], 1));
    drop(second);
    assert!(version.has_changed().unwrap());
    assert_eq!((views.in_use().len(), metrics.subscriptions.get()), (0, 0));
    assert_eq!(views.publish(A, view("pay.shop", 1), Instant::now()), Published::Ignored, "nobody uses it");
}

#[test]
fn what_was_saved_is_there_at_once_and_what_was_used_stays_for_an_hour() {
    let (views, _) = views(vec![view("pay.shop", 3)]);
    assert!(views.in_use().is_empty());
    let subscription = views.subscribe(&name("pay.shop"));
    assert_eq!(subscription.current().unwrap().offers[0].healthy, 3);
    views.publish(A, view("pay.shop", 4), Instant::now());
    drop(subscription);
    assert_eq!(views.subscribe(&name("pay.shop")).current().unwrap().offers[0].healthy, 4);
    assert_eq!(views.known(Instant::now()), [view("pay.shop", 4)]);
    assert!(views.known(Instant::now() + 2 * KEEP).is_empty());
    assert_eq!(views.count_known(), 0);
}

#[test]
fn services_in_use_are_bounded_and_idle_ones_make_room() {
    let saved = (0..MAX_SUBSCRIPTIONS + 5).map(|n| view(&format!("s{n}.shop"), 1)).collect();
    let (views, metrics) = views(saved);
    assert_eq!(views.count_known(), MAX_SUBSCRIPTIONS);
    let held: Vec<Subscription> =
        (0..MAX_SUBSCRIPTIONS).map(|n| views.subscribe(&name(&format!("t{n}.shop")))).collect();
    assert_eq!(views.count_known(), 0, "all that was idle made room");
    let mut beyond = views.subscribe(&name("beyond.shop"));
    assert_eq!(metrics.subscriptions_refused.get(), 1);
    assert_eq!(views.publish(A, view("beyond.shop", 1), Instant::now()), Published::Ignored);
    assert!(beyond.current().is_none());
    let waiting = std::pin::pin!(beyond.changed());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.poll(&mut context).is_pending());
    drop(held);
    assert!(views.in_use().is_empty());
}

#[test]
fn a_view_beyond_the_limits_is_refused() {
    let (views, _) = views(Vec::new());
    let _subscription = views.subscribe(&name("pay.shop"));
    let mut wide = view("pay.shop", 1);
    wide.offers[0].cluster.locality.zone = "z".repeat(Locality::MAX_LEN + 1);
    assert_eq!(views.publish(A, wide, Instant::now()), Published::Refused);
    let mut many = view("pay.shop", 1);
    many.offers[0].identities = vec!["spiffe://iad.mesh/ns/shop/sa/pay".parse().unwrap(); MAX_IDENTITIES + 1];
    assert_eq!(views.publish(A, many, Instant::now()), Published::Refused);
}

#[test]
fn a_gateway_that_is_lost_and_comes_back_empty_wipes_nothing_for_a_while() {
    let (views, _) = views(Vec::new());
    let subscription = views.subscribe(&name("pay.shop"));
    let healthy = || subscription.current().unwrap().offers.first().map(|offer| offer.healthy);
    let (now, empty) = (Instant::now(), ServiceView { name: name("pay.shop"), offers: Vec::new() });
    views.publish(A, view("pay.shop", 1), now);
    views.publish(B, view("pay.shop", 2), now);
    assert_eq!(views.publish(A, empty.clone(), now), Published::Ignored);
    assert_eq!(healthy(), Some(2));
    assert!(views.leave(B), "what is left is what A says");
    assert_eq!(healthy(), None);
    views.publish(A, view("pay.shop", 3), now);
    assert!(!views.leave(A));
    views.publish(A, empty, now);
    assert!(!views.expire(now));
    assert_eq!(healthy(), Some(3));
    assert!(views.expire(now + Duration::from_secs(60)) && !views.expire(now + Duration::from_secs(60)));
    assert_eq!(healthy(), None);
}
