//! Certificates, and the key that opens the certificate authority's.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use causeway_model::GatewayRole;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// How long after the time for it a renewal may take.
const RENEWAL: Duration = Duration::from_secs(10 * 60);

const OWN: &str = "gateway certificate";
const SEAL: &str = "seal key";

/// When this gateway's SVID was issued, is to be renewed, and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) issued: SystemTime,
    pub(super) renew_at: SystemTime,
    pub(super) not_after: SystemTime,
}

/// This gateway's SVID.
pub(super) fn own(life: Life, now: SystemTime) -> Check {
    let fix = "see `journalctl -u causeway-gateway` for why it is not renewed: a gateway signs its own when it has the seal key, a \
               forwarder asks another gateway; check the clock, too";
    let Ok(left) = life.not_after.duration_since(now) else {
        let seen = format!("expired {} ago", age(life.not_after, now));
        return failed(OWN, seen, "it was not renewed in time", fix);
    };
    let seen = format!("ends in {}", spell(left));
    let whole = life.not_after.duration_since(life.issued).unwrap_or_default();
    let late = now.duration_since(life.renew_at).unwrap_or_default();
    if late > RENEWAL && left < whole / 6 {
        let cause =
            format!("its renewal has failed for {}: without it this gateway is refused soon", spell(late));
        return failed(OWN, seen, cause, fix);
    }
    if late > RENEWAL {
        return warning(OWN, seen, format!("its renewal has been due for {}", spell(late)), fix);
    }
    ok(OWN, seen)
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
        let (minute, issued) = (Duration::from_secs(60), SystemTime::now());
        let life = Life { issued, renew_at: issued + 16 * HOUR, not_after: issued + 24 * HOUR };
        let check = |after: Duration| own(life, issued + after);
        assert_eq!(check(4 * HOUR).state, "ok");
        assert_eq!(check(16 * HOUR + minute).state, "ok", "a renewal takes a moment");
        assert_eq!(check(18 * HOUR).state, "warning");
        assert_eq!(check(20 * HOUR + minute).state, "failed", "five sixths of its life are over");
        let gone = check(27 * HOUR);
        assert_eq!((gone.state.as_str(), gone.seen.as_str()), ("failed", "expired 3 hours ago"));
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
