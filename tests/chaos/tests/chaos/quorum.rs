//! Without a majority nothing changes, and nothing that runs is lost.

use causeway_test_chaos::{Admin, Answer, Fleet, Side, View, wait_equal};
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a gateway may take to refuse a change.
const REFUSED: Duration = Duration::from_secs(5);
/// The word for it.
const REASON: &str = "no-quorum";

fn finds(admin: &Admin, service: &str) -> bool {
    View::of(admin).is_ok_and(|view| view.healthy(service, "iad") == 1)
}

#[test]
fn loss_of_quorum_refuses_changes_and_forgets_nothing() {
    let mesh = Mesh::new("quorum");
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let service = Service::http("payments");
    let _pay = Side::builder(&mut fleet, "pay").serve("payments.shop:80", service.addr()).start();
    let mut orders = Side::builder(&mut fleet, "orders").serve("orders.shop:80", service.addr()).start();
    fleet.ask("an export", |admin| admin.put("/v1/exports/payments.shop", &json!({"to": ["phx"]})));
    for admin in fleet.admins() {
        wait_until(SOON, "both services are found", || {
            finds(&admin, "payments.shop") && finds(&admin, "orders.shop")
        });
    }
    let before = wait_equal(&fleet.admins(), SOON);

    // the one that leads, and another
    let leader = fleet.wait_leader();
    let lost = [leader, (leader + 1) % 3];
    for index in lost {
        fleet.members[index].process.kill();
    }
    let left = fleet.members[(leader + 2) % 3].admin().clone();
    for attempt in 0..3 {
        let began = Instant::now();
        let answer = left.put("/v1/exports/orders.shop", &json!({"to": ["phx"]}));
        let took = began.elapsed();
        println!("refused after {took:?}: {answer:?}");
        assert!(took < REFUSED, "{took:?}");
        // the first may be on its way to the leader that has just died
        match &answer {
            Answer::Refused { reason, message, .. } => {
                assert_eq!(reason, REASON);
                assert!(message.contains("voters answer") && message.contains("majority"), "{message}");
            }
            Answer::Unknown(_) if attempt == 0 => {}
            other => panic!("{other:?}"),
        }
    }

    // what runs is found, what was known is known
    wait_until(SOON, "running workloads are found", || {
        finds(&left, "payments.shop") && finds(&left, "orders.shop")
    });
    // what dies is missed, and comes back with the SVID on its disk
    orders.process.kill();
    wait_until(SOON, "a dead workload is not found", || !finds(&left, "orders.shop"));
    orders.restart();
    orders.wait_ready();
    wait_until(SOON, "a restarted workload is found", || finds(&left, "orders.shop"));
    assert!(finds(&left, "payments.shop"));
    let during = View::of(&left).unwrap();
    assert_eq!((&during.exports, &during.tokens), (&before.exports, &before.tokens));

    for index in lost {
        fleet.members[index].restart();
    }
    for index in lost {
        fleet.members[index].wait_ready();
    }
    fleet.ask("a change", |admin| admin.put("/v1/exports/orders.shop", &json!({"to": ["phx"]})));
    for admin in fleet.admins() {
        wait_until(SOON, "everything is found again", || {
            finds(&admin, "payments.shop") && finds(&admin, "orders.shop")
        });
    }
    let after = wait_equal(&fleet.admins(), SOON);
    assert_eq!(after.tokens, before.tokens);
    assert_eq!(after.exports["payments.shop"], before.exports["payments.shop"]);
    assert_eq!(after.identities(), before.identities());
}
