//! Certificates, and the key that opens the certificate authority's.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use causeway_model::GatewayRole;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// A root that ends within this time is to be replaced.
const ROOT_NEAR: Duration = Duration::from_secs(60 * 24 * 3600);
/// How long after the time for it a renewal may take.
const RENEWAL: Duration = Duration::from_secs(10 * 60);

const OWN: &str = "gateway certificate";
const ROOT: &str = "root certificate";
const SEAL: &str = "seal key";

/// This gateway's SVID.
pub(super) fn own(not_after: SystemTime, renew_at: SystemTime, now: SystemTime) -> Check {
    let fix = "see `journalctl` for why it is not renewed: a gateway signs its own when it has the seal key, a forwarder asks \
               another gateway; check the clock, too";
    let Ok(left) = not_after.duration_since(now) else {
        return failed(
            OWN,
            format!("expired {} ago", age(not_after, now)),
            "it was not renewed in time",
            fix,
        );
    };
    let seen = format!("ends in {}", spell(left));
    match now.duration_since(renew_at) {
        Ok(late) if late > RENEWAL => {
            warning(OWN, seen, format!("its renewal has been due for {}", spell(late)), fix)
        }
        _ => ok(OWN, seen),
    }
}

/// The cluster's active root.
pub(super) fn root(expires: SystemTime, now: SystemTime) -> Check {
    let fix = "plan a new cluster with a new root, and move workloads to it over a link before this one ends";
    let Ok(left) = expires.duration_since(now) else {
        let cause = "nothing that it signed is believed any more, or this gateway's clock is wrong";
        return failed(ROOT, format!("expired {} ago", age(expires, now)), cause, fix);
    };
    let seen = format!("ends in {}", spell(left));
    if left < ROOT_NEAR { warning(ROOT, seen, "the root nears its end", fix) } else { ok(ROOT, seen) }
}

/// Whether this gateway can sign. `refused` is why it cannot.
pub(super) fn seal_key(role: GatewayRole, present: bool, refused: Option<&impl Display>) -> Check {
    match (role, refused) {
        (GatewayRole::Forwarder, _) => ok(SEAL, "not needed: a forwarder signs nothing"),
        (GatewayRole::Gateway, None) => ok(SEAL, "present, and it opens the certificate authority's key"),
        (GatewayRole::Gateway, Some(cause)) => {
            let seen =
                if present { "present, but the certificate authority's key stays shut" } else { "missing" };
            let fix = "copy seal.key from the data directory of another gateway of the cluster, and give it with --seal-key-file; \
                       until then sidecars join and renew at the other gateways only";
            failed(SEAL, seen, cause.to_string(), fix)
        }
    }
}

fn age(then: SystemTime, now: SystemTime) -> String {
    spell(now.duration_since(then).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_own_certificate_is_watched_from_its_renewal_on() {
        let now = SystemTime::now();
        let check = |left: Duration, renewed: Duration| own(now + left, now + left - renewed, now);
        assert_eq!(check(20 * HOUR, 8 * HOUR).state, "ok");
        assert_eq!(
            check(8 * HOUR - Duration::from_secs(60), 8 * HOUR).state,
            "ok",
            "a renewal takes a moment"
        );
        assert_eq!(check(6 * HOUR, 8 * HOUR).state, "warning");
        let gone = own(now - 3 * HOUR, now - 9 * HOUR, now);
        assert_eq!((gone.state.as_str(), gone.seen.as_str()), ("failed", "expired 3 hours ago"));
    }

    #[test]
    fn a_root_is_told_of_in_time() {
        let now = SystemTime::now();
        assert_eq!(root(now + 24 * HOUR * 365, now).state, "ok");
        assert_eq!(root(now + 24 * HOUR * 30, now).state, "warning");
        assert_eq!(root(now - HOUR, now).state, "failed");
    }

    #[test]
    fn a_forwarder_needs_no_seal_key() {
        let none: Option<&String> = None;
        let wrong = Some("it is the key of another cluster".to_owned());
        assert_eq!(seal_key(GatewayRole::Forwarder, false, wrong.as_ref()).state, "ok");
        assert_eq!(seal_key(GatewayRole::Gateway, true, none).state, "ok");
        let check = seal_key(GatewayRole::Gateway, false, wrong.as_ref());
        assert_eq!((check.state.as_str(), check.seen.as_str()), ("failed", "missing"));
        assert_eq!(check.cause, wrong);
    }
}
