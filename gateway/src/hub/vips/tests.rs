use super::*;
use crate::hub::fixture::{Fixture, SOON};
use causeway_catalog::{CreateToken, EstablishLink, LinkKey, MergeRule, ServiceDeclaration, TokenKind};
use causeway_model::{ClusterFacts, ClusterId, PortSet, Revision};
use tokio::time::timeout;

fn name(text: &str) -> VipName {
    text.parse().unwrap()
}

/// Declares the service, by a token.
async fn declare(gateway: &Fixture, id: u64, service: &str) {
    let identity = format!("spiffe://{}/ns/shop/sa/web", gateway.hub.node.cluster().trust_domain);
    let services = vec![ServiceDeclaration { name: service.parse().unwrap(), ports: PortSet::default() }];
    let kind = TokenKind::Workload { identity: identity.parse().unwrap(), services };
    let expires_at = causeway_runtime::clock::unix_now() + 600;
    let id = id.to_be_bytes().into();
    let token = CreateToken { id, verifier: [0; 32].into(), kind, uses: 1, expires_at };
    gateway.hub.propose("test", token).await.unwrap();
}

async fn link(gateway: &Fixture, cluster: &str, id: u32) {
    let peer = ClusterFacts {
        name: cluster.parse().unwrap(),
        id: ClusterId::new(id).unwrap(),
        trust_domain: format!("{cluster}.mesh").parse().unwrap(),
        locality: gateway.hub.node.locality().clone(),
    };
    let link = EstablishLink {
        invite: None,
        peer,
        roots: vec![vec![1]],
        gateways: gateway.hub.gateways(),
        key: LinkKey([3; 32]),
        merge_namespaces: MergeRule::All,
    };
    gateway.hub.propose("test", link).await.unwrap();
}

/// Asks until it is answered.
async fn allocated(gateway: &Fixture, names: &[VipName]) -> Vec<Result<Vip, NoVip>> {
    let (answer, mut answers) = mpsc::channel(names.len());
    for (request, name) in (0..).zip(names) {
        let waiter = Waiter { request, answer: answer.clone() };
        gateway.hub.allocate_vip(name.clone(), waiter).unwrap();
    }
    let mut heard: Vec<VipAnswer> = Vec::new();
    for _ in names {
        heard.push(timeout(SOON, answers.recv()).await.unwrap().unwrap());
    }
    heard.sort_by_key(|answer| answer.request);
    heard.into_iter().map(|answer| answer.vip).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_allocated_once_however_many_ask() {
    let gateway = Fixture::start().await;
    declare(&gateway, 1, "web.shop").await;
    let hub = &gateway.hub;
    assert_eq!(hub.vip(&name("web.shop")), Ok(None));
    let before = hub.registry.revision();
    let answers = allocated(&gateway, &vec![name("web.shop"); 200]).await;
    let vip = answers[0].clone().unwrap();
    assert!(answers.iter().all(|answer| *answer == Ok(vip)));
    assert_eq!(hub.vip(&name("web.shop")), Ok(Some(vip)));
    assert_eq!(hub.vip_name(vip), Ok(name("web.shop")));
    // those that came while the first was proposed are answered from the replica
    assert!(hub.registry.revision() <= Revision(before.0 + 2), "{:?}", hub.registry.revision());
    let revision = hub.registry.revision();
    assert_eq!(allocated(&gateway, &[name("web.shop")]).await, [Ok(vip)]);
    assert_eq!(hub.registry.revision(), revision, "nothing is proposed for a name that has one");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_are_a_few_commands() {
    let gateway = Fixture::start().await;
    let names: Vec<VipName> = (0..1_000).map(|n| name(&format!("s{n}.shop"))).collect();
    let before = gateway.hub.registry.revision();
    let answers = allocated(&gateway, &names).await;
    let numbers: std::collections::BTreeSet<Vip> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(numbers.len(), 1_000);
    let commands = gateway.hub.registry.revision().0 - before.0;
    assert!(commands < 20, "{commands} commands");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_offers_is_refused_before_the_registry_hears_of_it() {
    let gateway = Fixture::start().await;
    declare(&gateway, 1, "web.shop").await;
    link(&gateway, "phx", 2).await;
    let hub = &gateway.hub;
    let own = hub.node.cluster().name.clone();
    assert_eq!(hub.vip(&name(&format!("web.shop@{own}"))), Ok(None));
    // linked, but it exports nothing
    for unknown in ["pay.shop", "web.shop@phx", "web.shop@lhr", &format!("pay.shop@{own}")] {
        let refused = hub.vip(&name(unknown)).unwrap_err();
        assert_eq!(refused.reason, "service-unknown", "{refused:?}");
    }
    assert_eq!(hub.vip_name(Vip::new(77).unwrap()).unwrap_err().reason, "vip-unknown");
    // the link went after it was looked at: the others have theirs
    let answers = allocated(&gateway, &[name("web.shop@lhr"), name("web.shop")]).await;
    assert_eq!(answers[0].clone().unwrap_err().reason, "link-unknown");
    assert!(answers[1].is_ok());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_registry_names_that_have_an_address_are_answered_and_others_are_told_why_not() {
    let gateway = Fixture::start().await;
    declare(&gateway, 1, "web.shop").await;
    let vip = allocated(&gateway, &[name("web.shop")]).await[0].clone().unwrap();
    declare(&gateway, 2, "pay.shop").await;
    gateway.hub.registry.shutdown().await.unwrap();
    assert_eq!(gateway.hub.vip(&name("web.shop")), Ok(Some(vip)));
    let refused = allocated(&gateway, &[name("pay.shop")]).await[0].clone().unwrap_err();
    assert!(["no-quorum", "registry-failed", "timeout"].contains(&refused.reason), "{refused:?}");
    gateway.stop().await;
}

#[test]
fn what_waits_is_bounded_and_who_is_gone_is_forgotten() {
    let desk = VipDesk::default();
    let (answer, answers) = mpsc::channel(1);
    let (kept, _answers) = mpsc::channel(1);
    let waiter = |answer: &mpsc::Sender<VipAnswer>| Waiter { request: 1, answer: answer.clone() };
    desk.add(name("kept.shop"), waiter(&kept)).unwrap();
    for n in 1..MAX_WAITING {
        desk.add(name(&format!("s{}.shop", n % 3)), waiter(&answer)).unwrap();
    }
    assert_eq!(desk.add(name("a.b"), waiter(&answer)).unwrap_err().reason, "overloaded");
    drop(answers);
    assert_eq!(desk.take().into_keys().collect::<Vec<_>>(), [name("kept.shop")]);
    assert!(desk.take().is_empty() && desk.add(name("a.b"), waiter(&kept)).is_ok());
}
