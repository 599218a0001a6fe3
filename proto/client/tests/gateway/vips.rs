//! Virtual addresses: asked for once, remembered, and known after a restart.

use super::*;
use causeway_client::VipError;
use causeway_model::{Vip, VipName};

fn vip_name(text: &str) -> VipName {
    text.parse().unwrap()
}

fn vip(number: u32) -> Vip {
    Vip::new(number).unwrap()
}

/// How many questions the gateways have heard.
fn asked(world: &World) -> usize {
    let question =
        |(_, message): &&(NodeId, ToGateway)| matches!(message, ToGateway::AskVip(_) | ToGateway::FindVip(_));
    world.heard.lock().unwrap().iter().filter(question).count()
}

/// A sidecar with two sessions, and its three gateways, which know the address of one name.
async fn start(world: &Arc<World>, state_dir: Option<&Path>) -> (Vec<FakeGateway>, Sidecar) {
    let gateways = three(world);
    world.vips.lock().unwrap().insert(vip_name("pay.shop"), vip(7));
    let token = world.token(&[gateways[0].addr], &["web.shop"]);
    let sidecar = Sidecar::start(join(config(Some(token), state_dir)).await.unwrap());
    sidecar.connected(2).await;
    (gateways, sidecar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_asked_for_once_and_known_after_a_restart() {
    let (world, dir) = (World::new("iad.mesh"), tempfile::tempdir().unwrap());
    let (gateways, sidecar) = start(&world, Some(dir.path())).await;
    let control = &sidecar.control;
    assert_eq!(control.known_vip(&vip_name("pay.shop")), None);
    let at_once: Vec<_> = (0..50)
        .map(|_| {
            let control = control.clone();
            tokio::spawn(async move { control.vip(vip_name("pay.shop")).await })
        })
        .collect();
    for asking in at_once {
        assert_eq!(asking.await.unwrap(), Ok(vip(7)));
    }
    assert_eq!(asked(&world), 1);
    assert_eq!(control.known_vip(&vip_name("pay.shop")), Some(vip(7)));
    assert_eq!(control.vip_name(vip(7)).await, Ok(vip_name("pay.shop")));
    assert_eq!(asked(&world), 1, "it is known in both directions");
    world.vips.lock().unwrap().insert(vip_name("pay.shop@phx"), vip(8));
    assert_eq!(control.vip_name(vip(8)).await, Ok(vip_name("pay.shop@phx")));
    assert_eq!(control.known_vip(&vip_name("pay.shop@phx")), Some(vip(8)));
    assert_eq!(sidecar.metrics.vips.get(), 2);
    sidecar.stop().await;

    // nobody knows it any more
    world.vips.lock().unwrap().clear();
    let sidecar = Sidecar::start(join(config(None, Some(dir.path()))).await.unwrap());
    assert_eq!(sidecar.control.known_vip(&vip_name("pay.shop")), Some(vip(7)));
    assert_eq!(sidecar.control.vip(vip_name("pay.shop@phx")).await, Ok(vip(8)));
    assert_eq!(asked(&world), 2);
    sidecar.stop().await;
    drop(gateways);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_answer_is_told_why() {
    let world = World::new("iad.mesh");
    let (gateways, sidecar) = start(&world, None).await;
    let control = &sidecar.control;
    let unknown = control.vip(vip_name("nobody.shop")).await.unwrap_err();
    assert!(
        matches!(unknown, VipError::Unknown { .. }) && unknown.reason() == "service-unknown",
        "{unknown}"
    );
    assert_eq!(asked(&world), 2, "one gateway may lag behind the other");
    assert_eq!(control.vip_name(vip(99)).await.unwrap_err().reason(), "vip-unknown");
    *world.vip_refusal.lock().unwrap() = Some("no-quorum".to_owned());
    let refused = control.vip(vip_name("nobody.shop")).await.unwrap_err();
    assert!(matches!(refused, VipError::Refused { .. }) && refused.reason() == "no-quorum", "{refused}");
    assert_eq!(sidecar.metrics.vip_failures.get(), 3);
    // all silent
    world.silent.lock().unwrap().extend(gateways.iter().map(|gateway| gateway.node));
    let began = Instant::now();
    assert_eq!(control.vip(vip_name("pay.shop")).await, Err(VipError::Timeout));
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&began.elapsed()));
    // all gone
    gateways.iter().for_each(FakeGateway::crash);
    until("the sidecar is alone", || sidecar.state().alone_since.is_some()).await;
    let began = Instant::now();
    assert_eq!(control.vip(vip_name("pay.shop")).await, Err(VipError::NoGateway));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateway_answers_for_one_that_is_silent_or_ends() {
    let world = World::new("iad.mesh");
    let (gateways, sidecar) = start(&world, None).await;
    let first = sidecar.state().connected[0];
    world.silent.lock().unwrap().push(first);
    for n in 10..20 {
        let name = vip_name(&format!("s{n}.shop"));
        world.vips.lock().unwrap().insert(name.clone(), vip(n));
        assert_eq!(sidecar.control.vip(name).await, Ok(vip(n)));
    }
    // a question that is under way when its gateway goes
    world.silent.lock().unwrap().extend(gateways.iter().map(|gateway| gateway.node));
    let before = asked(&world);
    let control = sidecar.control.clone();
    let asking = tokio::spawn(async move { control.vip(vip_name("pay.shop")).await });
    until("both gateways were asked", || asked(&world) >= before + 2).await;
    world.silent.lock().unwrap().clear();
    let connected = sidecar.state().connected;
    let (gone, left): (Vec<_>, Vec<_>) =
        gateways.into_iter().partition(|gateway| connected.contains(&gateway.node));
    drop(gone);
    assert_eq!(asking.await.unwrap(), Ok(vip(7)));
    sidecar.stop().await;
    drop(left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_something_else_is_not_believed() {
    let world = World::new("iad.mesh");
    let (gateways, sidecar) = start(&world, None).await;
    *world.vip_lie.lock().unwrap() = Some((vip_name("evil.shop"), vip(66)));
    let refused = sidecar.metrics.refused_messages.get();
    assert_eq!(sidecar.control.vip(vip_name("pay.shop")).await, Err(VipError::Timeout));
    assert!(sidecar.metrics.refused_messages.get() > refused);
    assert_eq!(sidecar.control.known_vip(&vip_name("evil.shop")), None);
    sidecar.stop().await;
    drop(gateways);
}
