//! What linked clusters offer and does not count here: definitions that contradict each other, and what the limit keeps out.

use super::{ok, warning};
use crate::admin::api::Check;
use causeway_federation::Why;
use causeway_model::{ClusterName, ServiceName};

const NAME: &str = "service definitions";
/// The most offers that are named.
const MAX_NAMED: usize = 8;

/// An offer that is left out.
pub(super) struct LeftOut {
    pub(super) service: ServiceName,
    /// Whose it is.
    pub(super) cluster: String,
    /// Whose definition it lost to.
    pub(super) against: String,
    pub(super) why: Why,
}

/// `left` was left out of the `looked` offers that were looked at, of `all`.
pub(super) fn definitions(left: &[LeftOut], looked: usize, all: usize) -> Check {
    let of = if looked < all {
        format!("the first {looked} of {all} imported offers")
    } else {
        format!("{all} imported offers")
    };
    // that a service which exists here is not joined with the peer's is the rule until the operator says otherwise
    let (apart, clash): (Vec<_>, Vec<_>) = left.iter().partition(|left| matches!(left.why, Why::NotMerged));
    let apart = match &apart[..] {
        [] => String::new(),
        [first, ..] => format!(
            "; {} have the name of a service here and are not merged with it: {} of {}{}",
            apart.len(),
            first.service,
            first.cluster,
            if apart.len() > 1 { " and others" } else { "" }
        ),
    };
    if clash.is_empty() {
        return ok(NAME, format!("no contradiction among {of}{apart}"));
    }
    let named: Vec<String> = clash
        .iter()
        .take(MAX_NAMED)
        .map(|left| format!("{} of {} against {}", left.service, left.cluster, left.against))
        .collect();
    let more = clash.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let seen = format!("{} of {of} are left out: {}{more}{apart}", clash.len(), named.join(", "));
    let whys = clash
        .iter()
        .take(MAX_NAMED)
        .map(|left| format!("{} of {}: {}", left.service, left.cluster, left.why));
    let fix = "make the definitions the same, or rename one of the services; `causeway services show NAME` shows every cluster's offer";
    warning(NAME, seen, whys.collect::<Vec<_>>().join("; "), fix)
}

/// The limit keeps offers of `cluster` out; `taken` are here.
pub(super) fn over_cap(cluster: &ClusterName, taken: usize, most: usize, kept_out: u64) -> Check {
    let seen =
        format!("{taken} services are taken, of at most {most}; {kept_out} offers were kept out so far");
    let cause = format!(
        "{cluster} offers more services than are taken of one cluster: some of them are unknown here"
    );
    let fix = format!(
        "export fewer in {cluster}, or spread them over clusters; `causeway link show {cluster}` names some of them"
    );
    warning(format!("imports of {cluster}"), seen, cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{ClusterId, Protocol};

    fn left(service: &str, cluster: &str, why: Why) -> LeftOut {
        LeftOut { service: service.parse().unwrap(), cluster: cluster.into(), against: "fra".into(), why }
    }

    fn other_protocol() -> Why {
        let defined_by = ClusterId::new(3).unwrap();
        Why::OtherProtocol { port: 80, expected: Protocol::Http, found: Protocol::Tcp, defined_by }
    }

    #[test]
    fn colliding_definitions_are_named_with_both_sides() {
        assert_eq!(definitions(&[], 5, 5).seen, "no contradiction among 5 imported offers");
        let check = definitions(&[left("payments.shop", "phx", other_protocol())], 5, 5);
        assert_eq!(
            (check.state.as_str(), check.seen.as_str()),
            ("warning", "1 of 5 imported offers are left out: payments.shop of phx against fra")
        );
        assert!(check.cause.unwrap().starts_with("payments.shop of phx: its port 80 speaks "));
        let many: Vec<_> = (0..20).map(|n| left(&format!("s{n}.shop"), "phx", other_protocol())).collect();
        let check = definitions(&many, 20_000, 500_000);
        assert!(
            check
                .seen
                .starts_with("20 of the first 20000 of 500000 imported offers are left out: s0.shop of")
        );
        assert!(check.seen.ends_with(", and 12 more"), "{}", check.seen);
    }

    #[test]
    fn a_service_that_is_kept_apart_on_purpose_is_no_trouble() {
        let apart = [left("a.shop", "phx", Why::NotMerged), left("b.shop", "phx", Why::NotMerged)];
        let check = definitions(&apart, 5, 5);
        assert_eq!(check.state, "ok");
        assert!(check.seen.ends_with(
            "; 2 have the name of a service here and are not merged with it: a.shop of phx and others"
        ));
    }

    #[test]
    fn a_limit_that_was_hit_is_told() {
        let check = over_cap(&"phx".parse().unwrap(), 10_000, 10_000, 42);
        assert_eq!((check.name.as_str(), check.state.as_str()), ("imports of phx", "warning"));
        assert!(check.seen.contains("of at most 10000; 42 offers were kept out"));
    }
}
