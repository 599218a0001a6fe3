//! Gateways come and go at the operator's wish: drained, taken into use again, removed.

use crate::traffic::Traffic;
use causeway_test_mesh::{Cluster, Mesh, SOON, Service, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;

fn row(all: &[Value], node: &str) -> Option<Value> {
    all.iter().find(|row| row["node"] == node).cloned()
}

/// How many sidecars are attached to each of the cluster's gateways, as the one of `context` knows.
fn attached(mesh: &Mesh, cluster: &Cluster, context: &str) -> Vec<u64> {
    let all = mesh.gateways(context);
    let of = |node: &str| row(&all, node).and_then(|row| row["attached"].as_u64()).unwrap_or_default();
    cluster.gateways.iter().map(|gateway| of(&gateway.node())).collect()
}

#[test]
fn a_drained_gateway_is_missed_by_nobody() {
    let mesh = Mesh::new("drain");
    let mut iad = mesh.cluster("iad").gateways(3).start();
    let phx = mesh.cluster("phx").start();
    mesh.link(&iad, &phx);
    mesh.wait_voters("iad", 3);
    let (orders, payments) = (Service::http("orders"), Service::http("payments"));
    let pay =
        mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).listen("orders.shop:80").start();
    let web =
        mesh.sidecar(&iad, "web").serve("orders.shop:80", orders.addr()).listen("payments.shop:80").start();
    let mut more = vec![mesh.sidecar(&iad, "more-0").listen("payments.shop:80").start()];
    for (service, from, at) in [("payments.shop", "phx", "iad"), ("orders.shop", "iad", "phx")] {
        mesh.ok(&["export", service, "--context", from]);
        mesh.wait_offer(at, service, from, 1);
    }
    // the leader, with sidecars: they choose their gateways themselves
    let leader = iad.leader("iad");
    wait_until(SOON, "a sidecar is attached to the leader", || {
        let has = attached(&mesh, &iad, "iad")[leader] > 0;
        if !has && more.len() < 8 {
            let name = format!("more-{}", more.len());
            more.push(mesh.sidecar(&iad, &name).listen("payments.shop:80").start());
        }
        has
    });
    let (node, context) = (iad.gateways[leader].node(), iad.gateways[(leader + 1) % 3].context.clone());
    let traffic =
        [web.addr("payments.shop:80"), pay.addr("orders.shop:80")].map(|addr| Traffic::paced(addr, 100));
    let go_on = |count: u64| traffic.iter().for_each(|traffic| traffic.go_on(count));
    go_on(30);

    // through itself, and by the beginning of its id
    let own = iad.gateways[leader].context.clone();
    let said = mesh.ok(&["gateways", "drain", &node[..12], "--context", &own]);
    assert!(said.contains(&node) && said.contains("is drained"), "{said}");
    let drained = || {
        wait_for(SOON, "the gateway's place in the cluster", || {
            let row = row(&mesh.gateways(&context), &node)?;
            (row["draining"] == true && row["attached"] == 0 && row["registry"] != "leader").then_some(())
        });
    };
    drained();
    // of three gateways all have to vote, but the lead is another's
    assert_ne!(iad.leader(&context), leader);
    let sidecars = 2 + more.len() as u64 - 1;
    wait_until(SOON, "its sidecars are attached elsewhere", || {
        attached(&mesh, &iad, &context).iter().sum::<u64>() == 2 * sidecars
    });
    go_on(50);

    mesh.ok(&["gateways", "undrain", &node, "--context", &context]);
    mesh.wait_voters(&context, 3);
    go_on(50);

    mesh.ok(&["gateways", "drain", &node, "--context", &context]);
    drained();
    let exit = iad.gateways[leader].process.terminate(SOON);
    assert_eq!(exit.code(), Some(0), "{}", iad.gateways[leader].process.tail());
    go_on(50);
    traffic.into_iter().for_each(Traffic::end_well);

    // it is drained still when it comes back, and the last one in use cannot be
    iad.gateways[leader].restart();
    iad.gateways[leader].wait_ready();
    assert_eq!(row(&mesh.gateways(&context), &node).unwrap()["draining"], true);
    let others: Vec<String> = (0..3).filter(|at| *at != leader).map(|at| iad.gateways[at].node()).collect();
    mesh.ok(&["gateways", "drain", &others[0], "--context", &context]);
    mesh.run(&["gateways", "drain", &others[1], "--context", &context])
        .refused(&["gateway-last", &others[1]]);
}

#[test]
fn a_live_a_hung_and_a_dead_gateway_are_removed_for_good() {
    let mesh = Mesh::new("remove");
    let mut iad = mesh.cluster("iad").gateways(5).start();
    mesh.wait_voters("iad", 5);
    let leader = iad.leader("iad");
    let context = iad.gateways[leader].context.clone();
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    let (live, hung, dead) = (others[0], others[1], others[2]);
    let gone = |at: usize, cluster: &Cluster, left: usize, voters: usize| {
        let node = cluster.gateways[at].node();
        let all = mesh.wait_voters(&context, voters);
        assert!(all.len() == left && row(&all, &node).is_none(), "{node} in {all:?}");
        mesh.run(&["gateways", "remove", &node, "--context", &context]).refused(&["gateway-unknown"]);
    };
    let remove = |node: &str| mesh.ok(&["gateways", "remove", node, "--context", &context]);
    let ended = |cluster: &mut Cluster, at: usize| {
        let gateway = &mut cluster.gateways[at];
        let exit = gateway.process.wait_exit(SOON);
        assert!(exit.code().is_some_and(|code| code != 0), "{exit}");
        let tail = gateway.process.tail();
        assert!(tail.contains("was removed") && !tail.contains("panicked"), "{tail}");
    };

    let said = remove(&iad.gateways[live].node());
    assert!(said.contains("is removed"), "{said}");
    ended(&mut iad, live);
    gone(live, &iad, 4, 3);

    iad.gateways[hung].process.signal(Signal::STOP);
    remove(&iad.gateways[hung].node());
    gone(hung, &iad, 3, 3);
    iad.gateways[hung].process.signal(Signal::CONT);
    ended(&mut iad, hung);

    iad.gateways[dead].process.kill();
    remove(&iad.gateways[dead].node());
    gone(dead, &iad, 2, 1);

    // what is on their disks is of no use, whether or not they ever heard of it
    for at in [live, hung, dead] {
        let before = iad.gateways[at].process.log().matches("was removed").count();
        iad.gateways[at].restart();
        ended(&mut iad, at);
        let after = iad.gateways[at].process.log().matches("was removed").count();
        assert!(after > before, "{}", iad.gateways[at].process.tail());
    }
    assert_eq!(mesh.gateways(&context).len(), 2);

    // the only voter takes the registry with it, unless another one votes first
    let (last, rest) = (iad.gateways[leader].node(), iad.gateways[others[3]].context.clone());
    mesh.run(&["gateways", "remove", &last, "--context", &rest]).refused(&[
        "gateway-last-voter",
        &last,
        "drain",
    ]);
    mesh.ok(&["gateways", "drain", &last, "--context", &rest]);
    wait_until(SOON, "the other one leads", || iad.leader(&rest) == others[3]);
    mesh.ok(&["gateways", "remove", &last, "--context", &rest]);
    ended(&mut iad, leader);
    let all = mesh.wait_voters(&rest, 1);
    assert_eq!(all.len(), 1, "{all:?}");
    mesh.ok(&["token", "create", "--service", "a.c:80", "--context", &rest]);
}
