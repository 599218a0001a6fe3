//! Whether changes of intent are taken, and how much may still fail.

use super::{failed, ok, warning};
use crate::admin::api::Check;
use causeway_model::NodeId;
use causeway_store::{ProposeError, RegistryStatus};

const NAME: &str = "registry";

/// `current` is what came of asking for the newest state, which needs a majority.
pub(super) fn check(status: &RegistryStatus, current: &Result<(), ProposeError>) -> Check {
    let (voters, learners) = (status.voters.len(), status.learners.len());
    let members = format!("{voters} voters, {learners} learners, revision {}", status.applied);
    if let Some(failure) = &status.failure {
        let fix = "see to the disk of this gateway, then restart it; the other gateways go on without it";
        return failed(NAME, members, failure.as_str(), fix);
    }
    if let Err(error) = current {
        let fix = "start the gateways that vote, or repair the paths between them (UDP, the overlay port); running traffic \
                   and discovery go on meanwhile";
        return failed(NAME, members, error.to_string(), fix);
    }
    let leader = status.leader.map_or_else(|| "unknown".to_owned(), |leader| leader.to_string());
    let seen = format!("{members}, leader {leader}");
    let lost: Vec<NodeId> =
        status.lag.iter().filter(|lag| lag.behind.is_none()).map(|lag| lag.node).collect();
    if !lost.is_empty() {
        let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
        let cause = format!("gateway {} has not answered the leader yet", lost.join(", "));
        return warning(NAME, seen, cause, "start it, or see why this gateway does not reach it");
    }
    if voters == 2 {
        let cause = "with two voters both must run: the loss of either one stops changes";
        return warning(
            NAME,
            seen,
            cause,
            "let a third gateway join (`causeway token create --role gateway`)",
        );
    }
    ok(NAME, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::tests::follower;
    use causeway_store::LearnerLag;

    #[test]
    fn each_trouble_is_told() {
        let state =
            |status: &RegistryStatus, current: &Result<(), ProposeError>| check(status, current).state;
        let fine = Ok(());
        assert_eq!(state(&follower(), &fine), "ok");
        assert_eq!(
            check(&follower(), &fine).seen,
            "3 voters, 1 learners, revision 41, leader 0000000000000002"
        );
        let silent = check(&follower(), &Err(ProposeError::NoLeader { answering: 1, voters: 3 }));
        assert_eq!(silent.state, "failed");
        assert!(silent.cause.unwrap().contains("1 of 3 voters"));
        let disk = RegistryStatus { failure: Some("the disk is full".into()), ..follower() };
        assert_eq!(check(&disk, &fine).cause.as_deref(), Some("the disk is full"));
        let lagging = LearnerLag { node: NodeId(3), behind: None };
        assert_eq!(state(&RegistryStatus { lag: vec![lagging], ..follower() }, &fine), "warning");
        let near = LearnerLag { node: NodeId(3), behind: Some(2) };
        assert_eq!(state(&RegistryStatus { lag: vec![near], ..follower() }, &fine), "ok");
        assert_eq!(
            state(&RegistryStatus { voters: vec![NodeId(1), NodeId(2)], ..follower() }, &fine),
            "warning"
        );
    }
}
