//! Releases: which run, as far as they said.

use super::{ok, warning};
use crate::admin::api::Check;
use std::collections::BTreeMap;

const NAME: &str = "releases";
/// The most releases that are named.
const MAX_NAMED: usize = 8;

/// `own` is this gateway's, `workloads` counts sidecars by release, `peers` are linked clusters with theirs.
pub(super) fn check(own: &str, workloads: &BTreeMap<String, usize>, peers: &[(String, String)]) -> Check {
    let others = workloads.iter().filter(|(release, _)| *release != own);
    let mut different: Vec<String> =
        others.map(|(release, count)| format!("{count} sidecars run {release}")).collect();
    let others = peers.iter().filter(|(_, release)| release != own);
    different.extend(others.map(|(cluster, release)| format!("cluster {cluster} runs {release}")));
    if different.is_empty() {
        let sidecars: usize = workloads.values().sum();
        return ok(NAME, format!("{own}, as {sidecars} sidecars and {} linked clusters", peers.len()));
    }
    let more = different.len().saturating_sub(MAX_NAMED);
    different.truncate(MAX_NAMED);
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    let seen = format!("{own} here; {}{rest}", different.join(", "));
    let cause = "an upgrade is under way, or was not finished; neighbouring releases work together";
    warning(NAME, seen, cause, "finish it: gateways first, then sidecars")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_releases_are_counted() {
        let workloads: BTreeMap<String, usize> = [("0.1.0".to_owned(), 7)].into();
        let peer = |release: &str| vec![("phx".to_owned(), release.to_owned())];
        let same = check("0.1.0", &workloads, &peer("0.1.0"));
        assert_eq!(
            (same.state.as_str(), same.seen.as_str()),
            ("ok", "0.1.0, as 7 sidecars and 1 linked clusters")
        );
        let old = check("0.2.0", &workloads, &peer("0.1.1"));
        assert_eq!(old.seen, "0.2.0 here; 7 sidecars run 0.1.0, cluster phx runs 0.1.1");
        let many: BTreeMap<String, usize> = (0..20).map(|n| (format!("1.0.{n}"), 1)).collect();
        assert!(check("0.2.0", &many, &[]).seen.ends_with("and 12 more"));
    }
}
