//! Virtual addresses of names.

use super::fixture::*;
use crate::*;
use causeway_model::*;

fn allocate(names: &[&str]) -> AllocateVips {
    AllocateVips { names: names.iter().map(|name| parsed(name)).collect() }
}

fn vips(outcome: Outcome) -> Vec<Result<Vip, Refusal>> {
    match outcome {
        Outcome::Vips { vips } => vips,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_has_one_address_and_keeps_it_when_its_service_is_gone() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", ""));
    let (outcome, events) = r.effect(allocate(&["web.shop", "web.shop@iad", "web.shop"]));
    assert_eq!(events, [Event::VipsAllocated]);
    let given: Vec<Vip> = vips(outcome).into_iter().map(Result::unwrap).collect();
    assert_eq!(given[0], given[2]);
    assert_ne!(given[0], given[1]);
    assert_eq!(r.catalog.vip(&parsed("web.shop")), Some(given[0]));
    assert_eq!(r.catalog.vip_name(given[1]), Some(parsed("web.shop@iad")));
    assert_eq!(r.catalog.vips(), 2);
    r.ok(RemoveService { name: parsed("web.shop") });
    let (outcome, events) = r.effect(allocate(&["web.shop"]));
    assert_eq!((vips(outcome), events), (vec![Ok(given[0])], vec![]));
    assert_eq!(r.catalog.vip_name(given[0]), Some(parsed("web.shop")));
    assert_eq!((r.catalog.vip(&parsed("pay.shop")), r.catalog.vip_name(Vip::new(1).unwrap())), (None, None));
}

#[test]
fn a_pinned_name_needs_a_cluster_that_is_linked_and_keeps_no_other_from_its_address() {
    let mut r = Replica::new();
    let unlinked = || Err(Refusal::LinkUnknown { cluster: parsed("phx") });
    let answered = vips(r.ok(allocate(&["web.shop@phx", "web.shop"])));
    assert!(answered[0] == unlinked() && answered[1].is_ok());
    r.ok(link(None, facts("phx", 2)));
    let given = vips(r.ok(allocate(&["web.shop@phx"])));
    assert!(given[0].is_ok());
    r.ok(RemoveLink { cluster: parsed("phx") });
    assert_eq!(vips(r.ok(allocate(&["web.shop@phx", "pay.shop@phx"]))), [given[0].clone(), unlinked()]);
}

#[test]
fn a_command_names_a_few_at_a_time() {
    let mut r = Replica::new();
    assert_eq!(Replica::empty().apply(allocate(&["a.b"])).outcome, Err(Refusal::NotInitialised));
    let names: Vec<VipName> = (0..=MAX_VIP_BATCH).map(|n| parsed(&format!("s{n}.shop"))).collect();
    for names in [Vec::new(), names.clone()] {
        assert_eq!(r.apply(AllocateVips { names }).outcome.unwrap_err().reason(), "invalid-value");
        assert_eq!(r.catalog.vips(), 0);
    }
    r.ok(AllocateVips { names: names[1..].to_vec() });
    assert_eq!(r.catalog.vips(), MAX_VIP_BATCH);
}

#[test]
fn what_sidecars_ask_for_pushes_nothing_out_of_the_audit() {
    let mut r = Replica::new();
    for n in 0..2_000 {
        r.ok(allocate(&[&format!("s{n}.shop")]));
    }
    let audited: Vec<&str> = r.catalog.audit().map(|entry| entry.command.as_str()).collect();
    assert_eq!(audited, ["init-cluster"]);
    assert_eq!(r.catalog.revision(), Revision(2_001));
}

#[test]
fn a_cluster_without_addresses_left_says_so() {
    let refusal = Refusal::VipExhausted { name: parsed("web.shop@phx") };
    assert_eq!(refusal.reason(), "vip-exhausted");
    let text = refusal.to_string();
    assert!(text.contains("1000000") && text.contains("web.shop@phx") && text.contains("--listen"), "{text}");
}

#[test]
fn a_restored_backup_has_the_addresses() {
    let mut r = Replica::new();
    let given = vips(r.ok(allocate(&["web.shop"])));
    r.catalog.rebase(Revision(1_000_000));
    r.catalog.replace_gateways(gateway(9), NOW);
    assert_eq!(r.catalog.vip(&parsed("web.shop")).map(Ok), Some(given[0].clone()));
}
