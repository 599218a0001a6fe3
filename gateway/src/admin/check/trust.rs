//! Whom the cluster trusts: a rotation that does not go on, roots that end, revocations that pile up.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::authority::Awaited;
use causeway_catalog::GATEWAY_REVOCATIONS;
use causeway_model::Revocation;
use std::time::{Duration, SystemTime};

/// A root that ends within this time is to be replaced.
const ROOT_NEAR: Duration = Duration::from_secs(30 * 24 * 3600);
/// A step of a rotation that takes longer waits for somebody who does not come, in seconds.
const STEP: u64 = 600;

/// The rotation of roots: what its step waits for, which began at `since`; both unix times.
pub(super) fn rotation(awaited: &[Awaited], since: Option<u64>, now: u64) -> Check {
    const NAME: &str = "root rotation";
    let Some(since) = since else { return ok(NAME, "none under way") };
    let took = now.saturating_sub(since);
    let seen = format!("under way, this step for {}", spell(Duration::from_secs(took)));
    let held: Vec<String> = awaited.iter().filter_map(explain).collect();
    if held.is_empty() || took <= STEP {
        return ok(NAME, seen);
    }
    let fix = "`causeway gateways` and `causeway link list` show who is away; `causeway ca` shows the rotation, and its help how a step \
               is forced: whoever is away then is shut out until it joins again";
    warning(NAME, seen, format!("it waits for {}", held.join("; and for ")), fix)
}

/// Whom a step waits for; a time that simply has to pass is no trouble.
fn explain(awaited: &Awaited) -> Option<String> {
    match awaited {
        Awaited::Members => Some(
            "a gateway of this cluster, or sidecars of one, that does not have the announced root".to_owned(),
        ),
        Awaited::Cluster(name) => Some(format!("cluster {name}, where not everybody has the announced root")),
        Awaited::Renewals => Some(
            "somebody who is connected with a certificate of the older root, and does not renew it"
                .to_owned(),
        ),
        Awaited::Time(_) => None,
    }
}

/// A root certificate: of this cluster, or of the linked one that is named.
pub(super) fn root(of: Option<&str>, expires: SystemTime, now: SystemTime) -> Check {
    let name =
        of.map_or_else(|| "root certificate".to_owned(), |cluster| format!("root certificate of {cluster}"));
    let fix = of.map_or_else(
        || "`causeway ca rotate` replaces it without an interruption".to_owned(),
        |cluster| format!("ask who runs {cluster}: `causeway ca rotate` there replaces it, and the link brings the new one"),
    );
    let Ok(left) = expires.duration_since(now) else {
        let ago = now.duration_since(expires).unwrap_or_default();
        let cause = "nothing that it signed is believed any more, or this gateway's clock is wrong";
        return failed(name, format!("expired {} ago", spell(ago)), cause, fix);
    };
    let seen = format!("ends in {}", spell(left));
    if left < ROOT_NEAR { warning(name, seen, "the root nears its end", fix) } else { ok(name, seen) }
}

/// How many certificates are refused by name.
pub(super) fn revocations(count: usize) -> Check {
    const NAME: &str = "revocations";
    let most = Revocation::MAX_PER_DOMAIN - GATEWAY_REVOCATIONS;
    let seen = format!("{count} of at most {most}");
    let fix = "each is forgotten a little more than a day after it was made; `causeway reinstate` takes back those that are not needed; if \
               very many must be refused, `causeway ca rotate` refuses all older certificates";
    if count >= most {
        return failed(NAME, seen, "no further certificate can be revoked", fix);
    }
    if count * 5 >= most * 4 {
        return warning(NAME, seen, "soon no further certificate can be revoked", fix);
    }
    ok(NAME, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_that_waits_for_long_says_for_whom() {
        let waits = [Awaited::Members, Awaited::Cluster("phx".into())];
        assert_eq!(rotation(&[], None, 5_000).state, "ok");
        assert_eq!(rotation(&waits, Some(4_400), 5_000).state, "ok", "it has its time");
        let check = rotation(&waits, Some(4_000), 5_000);
        assert_eq!(
            (check.state.as_str(), check.seen.as_str()),
            ("warning", "under way, this step for 16 minutes")
        );
        let cause = check.cause.unwrap();
        assert!(
            cause.contains("a gateway of this cluster") && cause.contains("; and for cluster phx"),
            "{cause}"
        );
        let kept = rotation(&[Awaited::Time(90_000)], Some(4_000), 50_000);
        assert_eq!(kept.state, "ok", "a time that has to pass is no trouble");
        let renewals = rotation(&[Awaited::Renewals, Awaited::Time(90_000)], Some(4_000), 50_000);
        assert!(renewals.state == "warning" && renewals.cause.unwrap().contains("older root"));
    }

    #[test]
    fn a_root_is_told_of_in_time() {
        let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
        assert_eq!(root(None, now + 365 * day, now).state, "ok");
        let near = root(None, now + 29 * day, now);
        assert!(near.state == "warning" && near.fix.unwrap().contains("causeway ca rotate"));
        assert_eq!(root(None, now - day, now).state, "failed");
        let theirs = root(Some("phx"), now + 2 * day, now);
        assert!(
            theirs.name == "root certificate of phx" && theirs.fix.unwrap().starts_with("ask who runs phx")
        );
    }

    #[test]
    fn revocations_near_their_limit_are_told_of() {
        let most = Revocation::MAX_PER_DOMAIN - GATEWAY_REVOCATIONS;
        let state = |count| revocations(count).state;
        assert_eq!((state(0), state(most / 2)), ("ok".into(), "ok".into()));
        assert_eq!((state(most * 9 / 10), state(most)), ("warning".into(), "failed".into()));
    }
}
