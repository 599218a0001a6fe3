//! Documents against a gateway's real registry.

use super::*;
use crate::admin::api::{Action, AppliedDocument, Progress};
use crate::hub::fixture::Fixture;
use causeway_catalog::{EstablishLink, ExportTo, LinkKey, MergeRule, StalePolicy};
use causeway_model::{ClusterFacts, ClusterId, GatewayFacts, GatewayRole, Locality, NodeId};
use causeway_wire::token::{LinkToken, TokenCore};

const SECRET: &str = "token";

/// A document.
#[expect(clippy::needless_pass_by_value, reason = "so that callers can write it in place")]
fn doc(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "causeway/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

async fn post(fixture: &Fixture, documents: &[Value], dry_run: bool) -> Result<Applied, (u16, ApplyProblem)> {
    let body =
        Bytes::from(serde_json::to_vec(&json!({ "documents": documents, "dry_run": dry_run })).unwrap());
    let answer = apply(State(fixture.hub.clone()), Actor("test".into()), Ok(body)).await;
    answer.map(|Json(applied)| applied).map_err(|refused| (refused.status.as_u16(), *refused.problem))
}

async fn applied(fixture: &Fixture, documents: &[Value]) -> Vec<AppliedDocument> {
    post(fixture, documents, false).await.unwrap_or_else(|problem| panic!("{problem:?}")).documents
}

async fn mistaken(fixture: &Fixture, documents: &[Value]) -> Vec<(usize, String, String)> {
    let before = fixture.hub.catalog().revision();
    let (status, problem) = post(fixture, documents, false).await.unwrap_err();
    assert_eq!((status, problem.reason.as_str()), (400, "invalid-documents"), "{problem:?}");
    assert_eq!(fixture.hub.catalog().revision(), before, "something was changed");
    let mistakes = problem.mistakes.into_iter();
    mistakes
        .map(|mistake| (mistake.document, mistake.path, format!("{}: {}", mistake.reason, mistake.rule)))
        .collect()
}

fn actions(documents: &[AppliedDocument]) -> Vec<Action> {
    documents.iter().map(|document| document.action).collect()
}

async fn declare(fixture: &Fixture, service: &str) {
    let request = json!({ "role": "workload", "services": [service] });
    let body = serde_json::from_value(request).unwrap();
    let made = crate::admin::tokens::create(
        State(fixture.hub.clone()),
        Actor("test".into()),
        crate::admin::extract::Body(body),
    );
    assert!(made.await.is_ok());
}

async fn link(fixture: &Fixture, cluster: &str) {
    let command = EstablishLink {
        invite: None,
        peer: ClusterFacts {
            name: cluster.parse().unwrap(),
            id: ClusterId::new(77).unwrap(),
            trust_domain: format!("{cluster}.mesh").parse().unwrap(),
            locality: Locality { region: "us-phoenix-1".into(), zone: "AD-1".into() },
        },
        roots: vec![vec![1; 16]],
        gateways: vec![GatewayFacts {
            node: NodeId(1),
            role: GatewayRole::Gateway,
            locality: Locality { region: "us-phoenix-1".into(), zone: "AD-1".into() },
            cluster_addrs: Vec::new(),
            link_addrs: vec!["192.0.2.1:7443".parse().unwrap()],
        }],
        key: LinkKey([3; 32]),
        merge_namespaces: MergeRule::All,
    };
    let proposed = fixture.hub.propose("test", command).await.unwrap();
    fixture.hub.registry.wait_applied(proposed.revision, crate::hub::fixture::SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_twice_writes_nothing() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    link(&fixture, "phx").await;
    // the link comes first here, and last where it is carried out
    let documents = [
        doc(
            "Link",
            "phx",
            json!({ "mergeNamespaces": ["shop"], "stale": { "ejectAfter": "30s" }, "paused": true }),
        ),
        doc("Export", "orders.shop", json!({ "to": ["phx", "lhr"] })),
        doc("Service", "orders.shop", json!({ "ports": ["80", "443/http"] })),
    ];
    let first = applied(&fixture, &documents).await;
    assert_eq!(actions(&first), [Action::Configured, Action::Created, Action::Configured]);
    assert!(first.iter().all(|document| document.state == Progress::Done && document.before.is_none()));
    let paths: Vec<&str> = first[0].changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["spec.mergeNamespaces", "spec.paused", "spec.stale"]);
    assert_eq!((&first[1].changes[0].from, &first[1].changes[0].to), (&Value::Null, &json!(["lhr", "phx"])));

    let catalog = fixture.hub.catalog();
    let phx = catalog.link(&"phx".parse().unwrap()).unwrap();
    assert_eq!((phx.paused, phx.stale), (true, StalePolicy::EjectAfter { seconds: 30 }));
    assert!(matches!(&phx.merge_namespaces, MergeRule::Only(namespaces) if namespaces.len() == 1));
    let service = catalog.service(&"orders.shop".parse().unwrap()).unwrap();
    assert_eq!(service.ports.to_string(), "80/tcp,443/http");

    let audited = catalog.audit().len();
    let second = applied(&fixture, &documents).await;
    assert_eq!(actions(&second), [Action::Unchanged; 3]);
    assert!(second.iter().all(|document| document.changes.is_empty() && document.state == Progress::Done));
    assert_eq!(
        (fixture.hub.catalog().revision(), fixture.hub.catalog().audit().len()),
        (catalog.revision(), audited)
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_has_its_default() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop:80").await;
    link(&fixture, "phx").await;
    applied(&fixture, &[doc("Link", "phx", json!({ "paused": true, "stale": "fence" }))]).await;
    applied(
        &fixture,
        &[json!({ "apiVersion": "causeway/v1", "kind": "Link", "metadata": { "name": "phx" } })],
    )
    .await;
    let catalog = fixture.hub.catalog();
    let phx = catalog.link(&"phx".parse().unwrap()).unwrap();
    assert_eq!((phx.paused, phx.transit, phx.stale), (false, false, StalePolicy::ServeLast));
    let unchanged = applied(&fixture, &[doc("Service", "orders.shop", json!({ "ports": ["80/tcp"] }))]).await;
    assert_eq!(actions(&unchanged), [Action::Unchanged]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_ends_up_with_exactly_the_clusters_that_are_named() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    let name = "orders.shop".parse().unwrap();
    let mut handle = None;
    for to in [
        json!(["a", "b"]),
        json!(["b", "c"]),
        json!(["d"]),
        json!(["*"]),
        json!(["a"]),
        json!(["a", "b", "c"]),
    ] {
        let done = applied(&fixture, &[doc("Export", "orders.shop", json!({ "to": to }))]).await;
        assert_eq!(done[0].action, if handle.is_none() { Action::Created } else { Action::Configured });
        let catalog = fixture.hub.catalog();
        let export = catalog.export_of(&name).unwrap();
        assert_eq!(json!(crate::admin::exports::clusters(&export.to)), to);
        assert_eq!(
            *handle.get_or_insert(export.handle),
            export.handle,
            "peers lose the service for a moment"
        );
    }
    applied(&fixture, &[doc("Export", "orders.shop", json!({}))]).await;
    assert_eq!(fixture.hub.catalog().export_of(&name).unwrap().to, ExportTo::All);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_and_changes_nothing() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    let before = fixture.hub.catalog().revision();
    let documents = [doc("Export", "orders.shop", json!({ "to": ["phx"] }))];
    let planned = post(&fixture, &documents, true).await.unwrap().documents;
    assert_eq!((planned[0].action, planned[0].state), (Action::Created, Progress::Planned));
    assert_eq!((&planned[0].before, &planned[0].after), (&None, &Some(json!({ "to": ["phx"] }))));
    assert_eq!(fixture.hub.catalog().revision(), before);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_every_document_is_told_and_nothing_is_changed() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop:80").await;
    link(&fixture, "phx").await;
    let documents = [
        doc("Export", "orders.shop", json!({ "to": ["phx", "PHX", "ok", "no_"], "too": 1 })),
        doc("Exprot", "orders.shop", json!({})),
        doc("Link", "Phx", json!({ "stale": "serve-lst", "paused": "yes", "mergeNamespaces": ["Shop"] })),
        doc("Service", "orders.shop", json!({ "ports": ["81"] })),
        doc("Service", "nobody.shop", json!({ "ports": ["80"] })),
        doc("Export", "nobody.shop", json!({})),
        doc("Export", "orders.shop", json!({ "to": ["iad"] })),
        doc("Export", "orders.shop", json!({ "to": ["phx"] })),
        json!({ "kind": "Link", "metadata": {} }),
        json!("text"),
        // this one is fine, and not applied
        doc("Link", "phx", json!({ "paused": true })),
    ];
    let found = mistaken(&fixture, &documents).await;
    let expected = [
        (0, "spec.to[1]", "cluster name"),
        (0, "spec.to[3]", "cluster name"),
        (0, "spec.too", "did you mean \"to\"?"),
        (1, "kind", "did you mean \"Export\"?"),
        (2, "metadata.name", "cluster name"),
        (2, "spec.stale", "did you mean \"serve-last\"?"),
        (2, "spec.paused", "boolean"),
        (2, "spec.mergeNamespaces[0]", "DNS label"),
        (3, "spec.ports", "ports-differ"),
        (4, "metadata.name", "causeway token create --service nobody.shop"),
        (5, "spec.to", "service-unknown"),
        (6, "spec.to", "export-to-self"),
        (7, "metadata.name", "duplicate"),
        (8, "apiVersion", "causeway/v1"),
        (8, "metadata.name", "missing-field"),
        (9, "", "mapping"),
    ];
    for (document, path, part) in expected {
        let hit = found.iter().find(|(at, where_, _)| (*at, where_.as_str()) == (document, path));
        assert!(hit.is_some_and(|(_, _, rule)| rule.contains(part)), "{document} {path} {part}: {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!fixture.hub.catalog().link(&"phx".parse().unwrap()).unwrap().paused);
    fixture.stop().await;
}

fn link_token(cluster: &str, for_cluster: Option<&str>, expires_at: u64) -> String {
    let core = TokenCore {
        id: [1; 8],
        secret: [2; 32],
        cluster: cluster.parse().unwrap(),
        cluster_id: ClusterId::new(9).unwrap(),
        trust_domain: format!("{cluster}.mesh").parse().unwrap(),
        root_fingerprint: [3; 32],
        gateways: vec!["127.0.0.1:1".parse().unwrap()],
        expires_at,
    };
    LinkToken { core, for_cluster: for_cluster.map(|name| name.parse().unwrap()) }.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_make_the_link_is_refused_before_anybody_is_called() {
    let fixture = Fixture::start().await;
    let later = causeway_runtime::clock::unix_now() + 600;
    for (token, part) in [
        (None, "causeway link invite --for iad"),
        (Some("cwl1_x".to_owned()), "token-damaged"),
        (Some(link_token("lhr", None, later)), "link-name-clash"),
        (Some(link_token("phx", Some("lhr"), later)), "invite-for-another"),
        (Some(link_token("phx", None, 5)), "invite-expired"),
    ] {
        let found = mistaken(&fixture, &[doc("Link", "phx", json!({ SECRET: token }))]).await;
        assert!(found.len() == 1 && found[0].1 == "spec.token", "{found:?}");
        assert!(found[0].2.contains(part), "{part}: {found:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_shows_a_token() {
    let fixture = Fixture::start().await;
    let token = link_token("phx", None, causeway_runtime::clock::unix_now() + 600);
    let document = doc("Link", "phx", json!({ SECRET: token, "paused": true }));
    let planned = post(&fixture, std::slice::from_ref(&document), true).await.unwrap();
    assert!(!serde_json::to_string(&planned).unwrap().contains(&token), "{planned:?}");
    let misspelt = doc("Link", "phx", json!({ "tokn": token, SECRET: [token] }));
    let (_, problem) = post(&fixture, &[misspelt], false).await.unwrap_err();
    assert_eq!(problem.mistakes.len(), 2, "{problem:?}");
    assert!(!serde_json::to_string(&problem).unwrap().contains(&token), "{problem:?}");
    link(&fixture, "phx").await;
    // the link stands: its token is not looked at any more
    let done = applied(&fixture, &[document]).await;
    assert_eq!(done[0].action, Action::Configured);
    let Json(shown) = show(State(fixture.hub.clone()), Path(("link".into(), "phx".into()))).await.unwrap();
    assert!(shown.spec.get(SECRET).is_none() && shown.status.contains_key("trustDomain"), "{shown:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_on_the_way_says_what_was_done() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    let token = link_token("phx", None, causeway_runtime::clock::unix_now() + 600);
    let documents = [
        doc("Link", "phx", json!({ SECRET: token })),
        doc("Link", "lhr", json!({ SECRET: link_token("lhr", None, u64::MAX) })),
        doc("Export", "orders.shop", json!({})),
    ];
    // nobody is where the token says
    let (status, problem) = post(&fixture, &documents, false).await.unwrap_err();
    assert_eq!((status, problem.reason.as_str()), (502, "link-unreachable"), "{problem:?}");
    let states: Vec<Progress> = problem.documents.iter().map(|document| document.state).collect();
    assert_eq!(states, [Progress::Failed, Progress::NotTried, Progress::Done]);
    assert!(problem.message.contains("1 of 3"), "{}", problem.message);
    assert!(fixture.hub.catalog().export_of(&"orders.shop".parse().unwrap()).is_some());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_is_taken_back_unchanged() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop:80/http").await;
    declare(&fixture, "plain.shop").await;
    link(&fixture, "phx").await;
    let documents = [
        doc("Export", "orders.shop", json!({ "to": ["lhr"] })),
        doc("Export", "plain.shop", json!({})),
        doc("Link", "phx", json!({ "mergeNamespaces": [], "stale": { "ejectAfter": "90s" } })),
    ];
    applied(&fixture, &documents).await;
    let mut shown = Vec::new();
    for kind in kinds() {
        let hub = State(fixture.hub.clone());
        let Json(page) = list(hub, Segment(kind.plural), Ask(ResourceQuery::default())).await.unwrap();
        shown.extend(page.items.into_iter().map(|document| serde_json::to_value(document).unwrap()));
    }
    assert_eq!(shown.len(), 5, "{shown:#?}");
    assert_eq!(actions(&applied(&fixture, &shown).await), [Action::Unchanged; 5]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_are_paged_and_deleted() {
    let fixture = Fixture::start().await;
    for service in ["a.shop", "b.shop", "c.shop"] {
        declare(&fixture, service).await;
        applied(&fixture, &[doc("Export", service, json!({}))]).await;
    }
    for kind in ["Export", "services"] {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let query = ResourceQuery { limit: Some(2), after: after.take() };
            let Json(page) =
                list(State(fixture.hub.clone()), Segment(kind.into()), Ask(query)).await.unwrap();
            names.extend(page.items.into_iter().map(|document| document.metadata.name));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(names, ["a.shop", "b.shop", "c.shop"], "{kind}");
    }
    let delete = async |kind: &str, name: &str| {
        let path = Path((kind.to_owned(), name.to_owned()));
        let answer = remove(State(fixture.hub.clone()), Actor("test".into()), path).await;
        answer.map(drop).map_err(|error| (error.status.as_u16(), error.problem.reason))
    };
    assert_eq!(delete("Service", "a.shop").await, Err((409, "service-exported".into())));
    assert_eq!(delete("Export", "a.shop").await, Ok(()));
    assert_eq!(delete("Export", "a.shop").await, Err((404, "resource-unknown".into())));
    assert_eq!(delete("Service", "a.shop").await, Ok(()));
    assert_eq!(delete("Link", "phx").await, Err((404, "resource-unknown".into())));
    assert_eq!(delete("Lnik", "phx").await, Err((404, "kind-unknown".into())));
    assert_eq!(delete("Link", "PHX").await, Err((400, "invalid-request".into())));
    fixture.stop().await;
}

/// Over HTTP, where the limits of bodies and the paths are those of the router.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_may_be_larger_than_other_requests() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = crate::admin::router(fixture.hub.clone(), "sesame".into());
    let service = routes.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let ask = async |request: &str, body: &str| {
        let (status, body) = crate::admin::tests::ask(addr, request, "Bearer sesame", body).await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    };
    let mut document = doc("Export", "orders.shop", json!({}));
    document["status"] = json!({ "padding": "x".repeat(crate::admin::MAX_BODY) });
    let body = json!({ "documents": [document] }).to_string();
    let (status, applied) = ask("POST /v1/apply", &body).await;
    assert_eq!((status, &applied["documents"][0]["action"]), (200, &json!("created")), "{applied}");
    let (status, problem) = ask("POST /v1/apply", &"x".repeat(MAX_BODY + 1)).await;
    assert_eq!((status, &problem["reason"]), (413, &json!("too-large")), "{problem}");
    let (status, problem) = ask("POST /v1/apply", r#"{ "documents": [], "dryrun": true }"#).await;
    assert_eq!((status, &problem["reason"]), (400, &json!("invalid-request")), "{problem}");
    let (status, shown) = ask("GET /v1/resources/exports/orders.shop", "").await;
    assert_eq!((status, &shown["spec"]), (200, &json!({ "to": ["*"] })), "{shown}");
    let (status, page) = ask("GET /v1/resources/export?limit=5", "").await;
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(1)), "{page}");
    assert_eq!(ask("GET /v1/resources/export?limit=0", "").await.0, 400);
    assert_eq!(ask("DELETE /v1/resources/export/orders.shop", "").await.0, 200);
    fixture.stop().await;
}

#[test]
fn a_kind_is_found_by_any_of_its_names() {
    for name in ["Export", "export", "exports", "EXPORTS"] {
        assert_eq!(find(name).map(|(_, kind)| kind.name()), Some("Export"), "{name}");
    }
    assert!(no_kind("Exprot").contains("did you mean \"Export\"?"));
}

/// The schema and the decoder are of one type; this holds that the schema says what operators need to know.
#[test]
fn schemas_say_what_there_is() {
    for kind in kinds() {
        let spec = &kind.schema["properties"]["spec"];
        assert_eq!(spec["additionalProperties"], json!(false), "{}: {spec:#}", kind.name);
        for (field, schema) in spec["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{} {field}: {schema:#}", kind.name);
        }
        assert!(kind.example.contains(&format!("kind: {}\n", kind.name)), "{}", kind.example);
        assert!(!kind.schema.to_string().contains("$ref"), "{:#}", kind.schema);
    }
    let link = &kinds()[2].schema["properties"]["spec"]["properties"];
    assert_eq!(
        (&link["mergeNamespaces"]["default"], &link["paused"]["default"]),
        (&json!("*"), &json!(false))
    );
    assert_eq!(link["token"]["writeOnly"], json!(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transit_is_turned_on_and_off() {
    let fixture = Fixture::start().await;
    link(&fixture, "phx").await;
    let transit = || fixture.hub.catalog().link(&"phx".parse().unwrap()).unwrap().transit;
    for on in [true, false] {
        let document = [doc("Link", "phx", json!({ "transit": on }))];
        let made = applied(&fixture, &document).await;
        assert_eq!(actions(&made), [Action::Configured]);
        let change = &made[0].changes[0];
        assert_eq!(
            (change.path.as_str(), &change.from, &change.to),
            ("spec.transit", &json!(!on), &json!(on))
        );
        assert_eq!(transit(), on);
        assert_eq!(actions(&applied(&fixture, &document).await), [Action::Unchanged]);
    }
    fixture.stop().await;
}

/// What `documents` take, as it is now.
fn planned(fixture: &Fixture, documents: &[Value]) -> Vec<Planned> {
    let ground = Ground {
        catalog: fixture.hub.catalog(),
        own: fixture.hub.node.cluster().name.clone(),
        now: causeway_runtime::clock::unix_now(),
        by: "test".into(),
    };
    plan::plan(&ground, documents).unwrap_or_else(|found| panic!("{:?}", found.mistakes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_changed_meanwhile_is_not_taken_back() {
    let fixture = Fixture::start().await;
    declare(&fixture, "orders.shop").await;
    declare(&fixture, "plain.shop").await;
    link(&fixture, "phx").await;
    let paused = doc("Link", "phx", json!({ "paused": true }));
    let fenced = doc("Link", "phx", json!({ "stale": "fence" }));
    for (mine, theirs, resource) in [
        (&paused, &fenced, "link phx"),
        (
            &doc("Export", "orders.shop", json!({ "to": ["phx"] })),
            &doc("Export", "orders.shop", json!({ "to": ["lhr"] })),
            "export orders.shop",
        ),
        (
            &doc("Export", "orders.shop", json!({ "to": ["phx", "fra"] })),
            &doc("Export", "orders.shop", json!({ "to": ["gru"] })),
            "export orders.shop",
        ),
        (
            &doc("Service", "plain.shop", json!({ "ports": ["80"] })),
            &doc("Service", "plain.shop", json!({ "ports": ["80"] })),
            "service plain.shop",
        ),
    ] {
        let mine = planned(&fixture, std::slice::from_ref(mine));
        applied(&fixture, std::slice::from_ref(theirs)).await;
        let before = fixture.hub.catalog();
        let refused = run::run(&fixture.hub, &Actor("test".into()), mine).await.err().unwrap();
        let (status, problem) = (refused.status.as_u16(), refused.problem);
        assert_eq!((status, problem.reason.as_str()), (409, "resource-changed"), "{problem:?}");
        for part in [resource, "by somebody else meanwhile", "run this again", "0 of 1"] {
            assert!(problem.message.contains(part), "{part}: {}", problem.message);
        }
        let now = fixture.hub.catalog();
        assert_eq!(before.links().collect::<Vec<_>>(), now.links().collect::<Vec<_>>());
        assert_eq!(before.exports().collect::<Vec<_>>(), now.exports().collect::<Vec<_>>());
    }
    // run again it works, from what is there now
    let done = applied(&fixture, &[paused]).await;
    assert_eq!(done[0].changes.len(), 2, "{done:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_of_a_document_that_failed_half_way_is_told() {
    let fixture = Fixture::start().await;
    link(&fixture, "phx").await;
    let document = doc("Link", "phx", json!({ "paused": true, "stale": "fence" }));
    let mut plans = planned(&fixture, std::slice::from_ref(&document));
    assert_eq!(plans[0].steps.len(), 2);
    // between the two somebody sets the policy
    let plan::Deed::Change(second) = &mut plans[0].steps[1].deed else { panic!("no change") };
    second.was = causeway_catalog::Witness::Link(None);
    let refused = run::run(&fixture.hub, &Actor("test".into()), plans).await.err().unwrap();
    let problem = refused.problem;
    assert_eq!(
        (problem.documents[0].state, &problem.documents[0].done[..]),
        (Progress::Failed, &["spec.stale".to_owned()][..])
    );
    for part in ["Link phx: ", "spec.stale of it was done before", "0 of 1"] {
        assert!(problem.message.contains(part), "{part}: {}", problem.message);
    }
    let (phx, catalog) = ("phx".parse().unwrap(), fixture.hub.catalog());
    assert_eq!(
        (catalog.link(&phx).unwrap().stale, catalog.link(&phx).unwrap().paused),
        (StalePolicy::Fence, false)
    );
    assert_eq!(actions(&applied(&fixture, &[document]).await), [Action::Configured]);
    assert!(fixture.hub.catalog().link(&phx).unwrap().paused);
    fixture.stop().await;
}
