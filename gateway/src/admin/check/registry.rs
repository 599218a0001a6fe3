//! Whether changes of intent are taken, and how much may still fail.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::hub::Lag;
use causeway_model::NodeId;
use causeway_store::{CAUGHT_UP, ProposeError, RegistryStatus};
use std::collections::BTreeMap;
use std::time::Duration;

const NAME: &str = "registry";
const REPLICA: &str = "registry replica";
const VOTERS: &str = "registry voters";
/// A replica that lacks a revision for longer than this does not follow.
const FOLLOWS: Duration = Duration::from_secs(5);

/// The voters as this gateway hears them.
pub(super) struct Voters<'a> {
    /// For how long each of the other gateways has been silent; who speaks is not among them.
    pub(super) silent: &'a BTreeMap<NodeId, Duration>,
    /// How many gateways of the cluster can vote: forwarders never do, those that are being drained not any longer.
    pub(super) able: usize,
}

impl Voters<'_> {
    fn answer(&self, voters: &[NodeId]) -> (Vec<NodeId>, Vec<NodeId>) {
        voters.iter().partition(|voter| !self.silent.contains_key(voter))
    }

    /// Who answers and who does not, in words.
    fn described(&self, voters: &[NodeId]) -> String {
        let (answering, silent) = self.answer(voters);
        let silent = silent.iter().map(|node| {
            format!("{node}, silent for {}", spell(self.silent.get(node).copied().unwrap_or_default()))
        });
        let missing: Vec<String> = silent.collect();
        let missing = if missing.is_empty() {
            String::new()
        } else {
            format!("; not answering: {}", missing.join("; "))
        };
        format!("answering: {}{missing}", list(&answering))
    }
}

fn list(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether changes are taken. `current` is what came of asking for the newest state, which needs a majority.
pub(super) fn check(
    status: &RegistryStatus,
    current: &Result<(), ProposeError>,
    heard: &Voters<'_>,
) -> Check {
    let (voters, learners) = (status.voters.len(), status.learners.len());
    let members = format!("{voters} voters, {learners} learners, revision {}", status.applied);
    if let Some(failure) = &status.failure {
        let fix = "see to the disk of this gateway, then restart it; the other gateways go on without it; \
                   `causeway check --data-dir DIR` on its host looks at its files";
        return failed(NAME, members, failure.as_str(), fix);
    }
    if let Err(error) = current {
        return stopped(status, &members, error, heard);
    }
    let leader = status.leader.map_or_else(|| "unknown".to_owned(), |leader| leader.to_string());
    let seen = format!("{members}, leader {leader}");
    let lost: Vec<NodeId> =
        status.lag.iter().filter(|lag| lag.behind.is_none()).map(|lag| lag.node).collect();
    if !lost.is_empty() {
        let cause = format!("gateway {} has not answered the leader yet", list(&lost));
        return warning(NAME, seen, cause, "start it, or see why this gateway does not reach it");
    }
    if let Some(cause) = lagging(status) {
        let fix = "see the checks of that gateway, of its disk first: `causeway check` with a context of it; one that was away for long \
                   catches up by itself";
        return warning(NAME, seen, cause, fix);
    }
    ok(NAME, seen)
}

/// Who follows the leader and does not keep up, as only the leader knows.
fn lagging(status: &RegistryStatus) -> Option<String> {
    let far = status.lag.iter().filter_map(|lag| Some((lag.node, lag.behind.filter(|by| *by > CAUGHT_UP)?)));
    let far: Vec<String> =
        far.map(|(node, by)| format!("gateway {node} is {by} changes behind the leader")).collect();
    (!far.is_empty()).then(|| format!("{}: it answers from old state, and is given no vote", far.join("; ")))
}

/// Changes are not taken: `error` says why.
fn stopped(status: &RegistryStatus, members: &str, error: &ProposeError, heard: &Voters<'_>) -> Check {
    let majority = status.voters.len() / 2 + 1;
    let (answering, _) = heard.answer(&status.voters);
    let seen = format!("{members}; voters {}", heard.described(&status.voters));
    let started = "start the gateways that vote, or repair the paths between them (UDP, the overlay port); running traffic and \
                   discovery go on meanwhile";
    if answering.len() < majority {
        let cause = format!(
            "no quorum: {} of {} voters answer and {majority} are needed; {error}",
            answering.len(),
            status.voters.len()
        );
        let fix = format!(
            "{started}; if a majority is lost for good, `causeway restore` a backup into a new --data-dir"
        );
        return failed(NAME, seen, cause, fix);
    }
    if status.leader.is_none() {
        let cause = format!(
            "no leader, though enough voters answer: an election is under way, or the voters do not reach each other; {error}"
        );
        let fix = "ask again in a few seconds; if it lasts, look at the checks of the gateways here and at the other voters, and at \
                   their disks";
        return failed(NAME, seen, cause, fix);
    }
    failed(NAME, seen, error.to_string(), started)
}

/// Whether this gateway's replica follows the leader.
pub(super) fn replica(status: &RegistryStatus, lag: Option<Lag>) -> Check {
    let seen = format!("revision {}", status.applied);
    let Some(lag) = lag.filter(|lag| lag.lasts >= FOLLOWS) else { return ok(REPLICA, seen) };
    let seen = format!("{seen}, {} behind for {}", lag.revisions, spell(lag.lasts));
    let cause = "this gateway answers from old state: it does not reach the leader, the leader does not reach it, or its disk is slow";
    let fix = "see the checks of the other gateways and of the disk; let UDP between the gateways through in both directions; if it \
               lasts, restart this gateway";
    warning(REPLICA, seen, cause, fix)
}

/// How many voters may still fail.
pub(super) fn voters(status: &RegistryStatus, heard: &Voters<'_>) -> Check {
    let (all, (answering, silent)) = (status.voters.len(), heard.answer(&status.voters));
    let seen = heard.described(&status.voters);
    let majority = all / 2 + 1;
    if !silent.is_empty() {
        let missing = format!("{} of {all} voters is missing", silent.len());
        let fix = "start it; if it is lost for good, `causeway gateways remove NODE`, and another gateway votes in its place";
        return match answering.len().checked_sub(majority) {
            None => failed(VOTERS, seen, format!("{missing}: changes are refused"), fix),
            Some(0) => warning(VOTERS, seen, format!("{missing}: one more failure stops changes"), fix),
            Some(spare) => {
                warning(VOTERS, seen, format!("{missing}: {spare} more may fail before changes stop"), fix)
            }
        };
    }
    if all >= 3 {
        return ok(VOTERS, seen);
    }
    let cause = match all {
        0 => "this gateway is in no group yet: it waits to be let in",
        1 => "with a single voter its loss stops changes, and with its disk the registry is lost",
        _ => "with two voters both must run: the loss of either one stops changes",
    };
    let fix = if heard.able >= 3 {
        "enough gateways are there: they vote once they have caught up".to_owned()
    } else {
        "let another signing gateway join: `causeway token create --role gateway` here, and `causeway gateway --join TOKEN` there; \
         three survive the loss of one; take a `causeway backup` meanwhile"
            .to_owned()
    };
    warning(VOTERS, seen, cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::tests::follower;
    use causeway_store::LearnerLag;

    fn silent(nodes: &[u64]) -> BTreeMap<NodeId, Duration> {
        nodes.iter().map(|&node| (NodeId(node), Duration::from_secs(12))).collect()
    }

    fn hear(silent: &BTreeMap<NodeId, Duration>) -> Voters<'_> {
        Voters { silent, able: 3 }
    }

    #[test]
    fn each_trouble_is_told() {
        let none = silent(&[]);
        let state = |status: &RegistryStatus, current: &Result<(), ProposeError>| {
            check(status, current, &hear(&none)).state
        };
        let fine = Ok(());
        assert_eq!(state(&follower(), &fine), "ok");
        assert_eq!(
            check(&follower(), &fine, &hear(&none)).seen,
            "3 voters, 1 learners, revision 41, leader 0000000000000002"
        );
        let disk = RegistryStatus { failure: Some("the disk is full".into()), ..follower() };
        assert_eq!(check(&disk, &fine, &hear(&none)).cause.as_deref(), Some("the disk is full"));
        let lagging = LearnerLag { node: NodeId(3), behind: None };
        assert_eq!(state(&RegistryStatus { lag: vec![lagging], ..follower() }, &fine), "warning");
        let near = LearnerLag { node: NodeId(3), behind: Some(2) };
        assert_eq!(state(&RegistryStatus { lag: vec![near], ..follower() }, &fine), "ok");
        let far = LearnerLag { node: NodeId(3), behind: Some(CAUGHT_UP + 1) };
        let far = check(&RegistryStatus { lag: vec![far], ..follower() }, &fine, &hear(&none));
        assert_eq!(far.state, "warning");
        assert!(
            far.cause.as_ref().unwrap().starts_with(
                "gateway 0000000000000003 is 257 changes behind the leader: it answers from old state"
            ),
            "{far:?}"
        );
    }

    #[test]
    fn who_answers_and_who_does_not_is_named() {
        let gone = silent(&[2, 3]);
        let lost = Err(ProposeError::NoLeader { answering: 1, voters: 3 });
        let check = super::check(&RegistryStatus { leader: None, ..follower() }, &lost, &hear(&gone));
        assert_eq!(check.state, "failed");
        assert!(check.cause.unwrap().starts_with("no quorum: 1 of 3 voters answer and 2 are needed; "));
        assert!(
            check.seen.ends_with(
                "; voters answering: 0000000000000001; not answering: 0000000000000002, silent for 12 s; 0000000000000003, silent for 12 s"
            ),
            "{}",
            check.seen
        );
    }

    #[test]
    fn no_leader_among_enough_voters_is_another_trouble() {
        let (one, lost) = (silent(&[3]), Err(ProposeError::NoLeader { answering: 2, voters: 3 }));
        let check = super::check(&RegistryStatus { leader: None, ..follower() }, &lost, &hear(&one));
        assert!(check.state == "failed" && check.cause.unwrap().starts_with("no leader, though"));
        let slow = Err(ProposeError::Timeout { cause: "the leader did not answer".into() });
        let check = super::check(&follower(), &slow, &hear(&one));
        assert!(check.state == "failed" && check.cause.unwrap().contains("did not answer"));
    }

    #[test]
    fn a_replica_that_does_not_follow_says_by_how_much_and_for_how_long() {
        let lag = |seconds| Some(Lag { revisions: 7, lasts: Duration::from_secs(seconds) });
        assert_eq!(replica(&follower(), None).state, "ok");
        assert_eq!(replica(&follower(), lag(4)).state, "ok");
        let check = replica(&follower(), lag(30));
        assert_eq!(
            (check.state.as_str(), check.seen.as_str()),
            ("warning", "revision 41, 7 behind for 30 s")
        );
    }

    #[test]
    fn what_may_still_fail_is_counted() {
        let judge = |count: u64, gone: &[u64], able| {
            let status = RegistryStatus { voters: (1..=count).map(NodeId).collect(), ..follower() };
            let gone = silent(gone);
            let check = voters(&status, &Voters { silent: &gone, able });
            (check.state, check.cause.unwrap_or_default(), check.fix.unwrap_or_default())
        };
        assert_eq!(judge(3, &[], 3).0, "ok");
        assert_eq!(judge(5, &[], 5).0, "ok");
        let (state, cause, fix) = judge(1, &[], 1);
        assert!(
            state == "warning" && cause.contains("single voter") && fix.contains("token create"),
            "{cause}"
        );
        assert!(judge(2, &[], 2).1.contains("two voters"));
        assert!(judge(1, &[], 3).2.contains("caught up"));
        let (state, cause, _) = judge(3, &[2], 3);
        assert_eq!(
            (state.as_str(), cause.as_str()),
            ("warning", "1 of 3 voters is missing: one more failure stops changes")
        );
        assert!(judge(5, &[2], 5).1.ends_with("1 more may fail before changes stop"));
        let (state, cause, _) = judge(3, &[2, 3], 3);
        assert!(state == "failed" && cause.ends_with("changes are refused"), "{cause}");
    }
}
