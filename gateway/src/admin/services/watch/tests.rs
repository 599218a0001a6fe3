//! A watcher over a gateway's real hub: what it tells at its beginning, after a cut, and when it falls behind.

use super::*;
use crate::admin::api::ServiceQuery;
use crate::hub::fixture::{Fixture, SOON};
use causeway_catalog::{CommandBody, CreateToken, RemoveService, ServiceDeclaration, TokenId, TokenKind};
use causeway_model::PortSet;
use tokio::time::timeout;

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

async fn change(gateway: &Fixture, body: impl Into<CommandBody>) {
    let proposed = gateway.hub.propose("test", body).await.unwrap();
    gateway.hub.registry.wait_applied(proposed.revision, SOON).await.unwrap();
}

async fn declare(gateway: &Fixture, text: &str) {
    let identity = format!("spiffe://{}/ns/a/sa/b", gateway.hub.node.cluster().trust_domain).parse().unwrap();
    let services = vec![ServiceDeclaration { name: name(text), ports: PortSet::default() }];
    let token = CreateToken {
        id: TokenId(rand::random()),
        verifier: [1; 32].into(),
        kind: TokenKind::Workload { identity, services },
        uses: 1,
        expires_at: u64::MAX,
    };
    change(gateway, token).await;
}

async fn remove(gateway: &Fixture, text: &str) {
    change(gateway, RemoveService { name: name(text) }).await;
}

fn watch(gateway: &Fixture, pattern: Option<&str>, resume: Option<&str>) -> Watcher {
    let query = ServiceQuery { name: pattern.map(str::to_owned), ..ServiceQuery::default() };
    Watcher::new(
        gateway.hub.clone(),
        Filter::of(&query).unwrap(),
        resume.map(|cursor| cursor.parse().unwrap()),
    )
}

/// What is told up to the next cursor, in short, and that cursor.
async fn burst(watcher: &mut Watcher) -> (Vec<String>, String) {
    let mut told = Vec::new();
    loop {
        let lines = timeout(SOON, watcher.next()).await.unwrap().unwrap();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            told.push(match serde_json::from_slice(line).unwrap() {
                ServiceEvent::Snapshot { .. } => "snapshot".to_owned(),
                ServiceEvent::Resumed { .. } => "resumed".to_owned(),
                ServiceEvent::Set { service } => format!("+{}", service.name),
                ServiceEvent::Removed { name } => format!("-{name}"),
                ServiceEvent::Synced { .. } => "synced".to_owned(),
                ServiceEvent::Cursor { cursor, .. } => return (told, cursor),
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_cut_off_goes_on_where_it_was() {
    let gateway = Fixture::start().await;
    declare(&gateway, "a.shop").await;
    declare(&gateway, "b.shop").await;
    let mut first = watch(&gateway, None, None);
    let (told, cursor) = burst(&mut first).await;
    assert_eq!(told, ["snapshot", "+a.shop", "+b.shop", "synced"]);
    drop(first);

    declare(&gateway, "c.shop").await;
    remove(&gateway, "a.shop").await;
    let mut second = watch(&gateway, None, Some(&cursor));
    let (told, later) = burst(&mut second).await;
    assert_eq!(told, ["resumed", "-a.shop", "+c.shop", "synced"], "b.shop was told and did not change");
    declare(&gateway, "d.shop").await;
    gateway.hub.tell_services([name("b.shop")]);
    let (told, _) = burst(&mut second).await;
    assert!(told.contains(&"+d.shop".to_owned()), "{told:?}");

    let (told, _) = burst(&mut watch(&gateway, None, Some(&later))).await;
    assert!(told[0] == "resumed" && told.contains(&"+d.shop".to_owned()), "{told:?}");
    let (told, _) = burst(&mut watch(&gateway, Some("a*.shop"), Some(&cursor))).await;
    assert_eq!(told, ["resumed", "-a.shop", "synced"], "the filter still holds");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_registry_is_news_once_whoever_else_follows_it() {
    let gateway = Fixture::start().await;
    let mut changes = gateway.hub.changes();
    let mut position = gateway.hub.position();
    declare(&gateway, "a.shop").await;
    // by now the gateway's own follower has taken the change in
    while timeout(SOON, changes.recv()).await.unwrap().unwrap() != Change::Service(name("a.shop")) {}
    assert_eq!(gateway.hub.news(&mut position), News::These(vec![name("a.shop")]));
    assert_eq!(gateway.hub.news(&mut position), News::These(Vec::new()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_nobody_remembers_brings_everything() {
    let gateway = Fixture::start().await;
    declare(&gateway, "a.shop").await;
    let (_, cursor) = burst(&mut watch(&gateway, None, None)).await;
    let parts: Vec<&str> = cursor.split('.').collect();
    for other in [
        format!("{}.{}.{}.{}", parts[0], "ff", parts[2], parts[3]),
        format!("{}.{}.{}.{}", parts[0], parts[1], "1", parts[3]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "ffffffff"),
    ] {
        let (told, _) = burst(&mut watch(&gateway, None, Some(&other))).await;
        assert_eq!(told, ["snapshot", "+a.shop", "synced"], "{other}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_falls_behind_holds_each_service_once_and_no_more_than_a_number() {
    let gateway = Fixture::start().await;
    declare(&gateway, "a.shop").await;
    let mut watcher = watch(&gateway, None, None);
    burst(&mut watcher).await;
    for _ in 0..100 {
        gateway.hub.tell_services([name("a.shop")]);
    }
    watcher.follow();
    assert_eq!(watcher.dirty.len(), 1);
    gateway.hub.tell_services((0..=MAX_DIRTY).map(|index| name(&format!("s{index}.shop"))));
    watcher.follow();
    assert!(watcher.dirty.is_empty(), "{}", watcher.dirty.len());
    assert_eq!(burst(&mut watcher).await.0, ["snapshot", "+a.shop", "synced"]);
    for _ in 0..4 {
        gateway.hub.tell_services((0..10_000).map(|_| name("a.shop")));
    }
    assert_eq!(burst(&mut watcher).await.0, ["snapshot", "+a.shop", "synced"], "so many nobody remembers");
    gateway.stop().await;
}
