//! Sidecars that were lost: killed, or cut off, without a goodbye.

use super::{ok, spell, warning};
use crate::admin::api::Check;
use causeway_model::{ServiceName, SpiffeId, WorkloadId};
use std::collections::BTreeSet;
use std::time::Duration;

const NAME: &str = "lost sidecars";
/// The most that are named.
const MAX_NAMED: usize = 8;

/// A sidecar that was attached to this gateway and went without a goodbye.
pub(super) struct Lost {
    pub(super) workload: WorkloadId,
    pub(super) identity: SpiffeId,
    pub(super) ago: Duration,
    /// What its identity may serve, and how many healthy endpoints each has left.
    pub(super) services: Vec<(ServiceName, usize)>,
}

/// `lost` are those of the last ten minutes, the oldest first.
pub(super) fn check(lost: &[Lost]) -> Check {
    if lost.is_empty() {
        return ok(NAME, "none in the last 10 minutes");
    }
    let newest = lost.iter().rev().take(MAX_NAMED);
    let named: Vec<String> = newest
        .map(|lost| format!("workload {} of {} {} ago", lost.workload, lost.identity, spell(lost.ago)))
        .collect();
    let more = lost.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let seen = format!("{} in the last 10 minutes: {}{more}", lost.len(), named.join(", "));
    let bare: BTreeSet<String> = lost
        .iter()
        .flat_map(|lost| &lost.services)
        .filter(|(_, healthy)| *healthy == 0)
        .map(|(service, _)| service.to_string())
        .collect();
    if bare.is_empty() {
        return ok(NAME, format!("{seen}; every service has healthy endpoints left"));
    }
    let bare = bare.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    let cause = format!(
        "{bare} has no healthy endpoint left in this cluster: the sidecar was killed, its host died, or the network to it is cut"
    );
    let fix = "start it again: `systemctl status 'causeway-sidecar@*'` and `journalctl` on its host say what ended it (out of memory, for \
               instance); in Kubernetes `kubectl describe pod`";
    warning(NAME, seen, cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(workload: u64, healthy: usize) -> Lost {
        Lost {
            workload: WorkloadId(workload),
            identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
            ago: Duration::from_secs(30),
            services: vec![("payments.shop".parse().unwrap(), healthy)],
        }
    }

    #[test]
    fn a_lost_sidecar_is_a_warning_when_its_service_has_nobody_left() {
        assert_eq!(check(&[]).state, "ok");
        let others = check(&[lost(1, 2)]);
        assert_eq!(others.state, "ok");
        assert!(others.seen.starts_with(
            "1 in the last 10 minutes: workload 0000000000000001 of spiffe://iad.mesh/ns/shop/sa/payments 30 s ago; every"
        ), "{}", others.seen);
        let bare = check(&[lost(1, 2), lost(2, 0)]);
        assert!(
            bare.state == "warning"
                && bare.cause.unwrap().starts_with("payments.shop has no healthy endpoint left")
        );
        let many: Vec<Lost> = (0..20).map(|workload| lost(workload, 1)).collect();
        assert!(
            check(&many).seen.contains("workload 0000000000000013 of")
                && check(&many).seen.contains(", and 12 more")
        );
    }
}
