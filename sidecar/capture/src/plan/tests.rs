//! Plans against golden files: `UPDATE_GOLDEN=1 cargo test -p causeway-capture` rewrites them.

use super::*;
use crate::config::{Inbound, Networks, Ports, Redirect};
use proptest::prelude::*;
use std::path::PathBuf;

fn golden(name: &str, plan: &Plan) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = plan.to_string();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, kept, "{name} is not what it was");
}

fn config(means: Means) -> CaptureConfig {
    CaptureConfig { ipv4: true, ipv6: true, unprivileged_ports: false, means }
}

fn usual() -> Redirect {
    Redirect { uids: vec![991], outbound_port: 15001, dns_port: 15053, ..Redirect::default() }
}

fn ports(text: &str) -> Ports {
    text.split(',').map(|range| Ports::range(range).unwrap()).collect()
}

/// Every rule that there can be.
fn everything() -> Redirect {
    Redirect {
        uids: vec![991, 992],
        gids: vec![990],
        exclude_uids: vec![0, 1001],
        resolver_uids: vec![193],
        outbound_port: 1501,
        dns_port: 1553,
        include_ports: ports("80,443,8000-8010"),
        exclude_ports: ports("22"),
        include: Networks { v4: vec!["10.0.0.0/8".parse().unwrap()], v6: vec!["fd00::/8".parse().unwrap()] },
        exclude: Networks {
            v4: vec!["10.1.0.0/16".parse().unwrap()],
            v6: vec!["fd00:1::/32".parse().unwrap()],
        },
        inbound: Inbound::Refuse,
        served_tcp: ports("8080"),
        served_udp: ports("53,5000-5010"),
    }
}

#[test]
fn the_usual_rules() {
    golden("redirect.txt", &Plan::new(&config(Means::Redirect(Box::new(usual())))));
}

#[test]
fn all_rules_at_once() {
    let mut config = config(Means::Redirect(Box::new(everything())));
    config.unprivileged_ports = true;
    golden("redirect-all.txt", &Plan::new(&config));
}

#[test]
fn one_family_and_no_dns() {
    let mut redirect = usual();
    redirect.exclude_ports = ports("53");
    redirect.include.v4 = vec!["0.0.0.0/0".parse().unwrap()];
    let mut config = config(Means::Redirect(Box::new(redirect)));
    config.ipv6 = false;
    golden("redirect-v4.txt", &Plan::new(&config));
}

#[test]
fn routes_and_a_resolver() {
    let resolv_conf = ResolvConf { path: "/etc/resolv.conf".into(), dns: "127.0.0.1".parse().unwrap() };
    golden("vip.txt", &Plan::new(&config(Means::Vip(Some(resolv_conf)))));
}

#[test]
fn listening_needs_nothing() {
    assert!(Plan::new(&config(Means::Listen)).is_empty());
    assert!(!Plan::new(&config(Means::Vip(None))).is_empty());
}

#[test]
fn a_removal_takes_what_any_plan_installs() {
    let removal = Plan::removal();
    golden("removal.txt", &removal);
    let plan = Plan::new(&config(Means::Redirect(Box::new(usual()))));
    assert!(plan.nft_script.starts_with(&removal.nft_script));
    assert_eq!(plan.commands.len(), removal.commands.len());
}

#[test]
fn rules_are_found_again_by_comments_that_fit() {
    let plan = Plan::new(&config(Means::Redirect(Box::new(everything()))));
    let mut marks = plan.marks.clone();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), plan.marks.len(), "two rules have one comment: {:?}", plan.marks);
    for mark in &plan.marks {
        // NFTNL_UDATA_COMMENT_MAXLEN
        assert!(mark.len() < 128, "{mark}");
    }
    let other = Plan::new(&config(Means::Redirect(Box::new(Redirect { dns_port: 5353, ..everything() }))));
    assert_ne!(plan.marks[0], other.marks[0], "other settings are not told apart");
}

proptest! {
    /// Whatever is excluded: the sidecar's own traffic is let go first, and virtual addresses are captured before anything is.
    #[test]
    fn the_order_of_rules_holds(
        uids in prop::collection::vec(any::<u32>(), 1..4),
        exclude in prop::collection::vec(any::<u32>(), 0..3),
        port in 1u16..,
        ipv6 in any::<bool>(),
    ) {
        let redirect = Redirect {
            uids, exclude_uids: exclude, exclude_ports: std::iter::once(port..=port).collect(), ..everything()
        };
        let mut config = config(Means::Redirect(Box::new(redirect)));
        config.ipv6 = ipv6;
        let marks = Plan::new(&config).marks;
        let at = |mark: &str| marks.iter().position(|m| m == mark);
        prop_assert!(at("the sidecar itself").unwrap() < at("TCP to 240.0.0.0/8").unwrap());
        prop_assert!(at("TCP to 240.0.0.0/8").unwrap() < at("ports excluded").unwrap());
        prop_assert_eq!(at("DNS over udp").is_some(), port != 53);
        prop_assert!(at("DNS over udp").is_none_or(|dns| dns < at("this host").unwrap()));
        prop_assert_eq!(at("UDP to fd9c:43a6:77c1::/48").is_some(), ipv6);
    }
}
