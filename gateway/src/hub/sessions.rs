//! How many control connections of sidecars there may be, and connections of strangers, and how many there are. Pure.

use causeway_model::{SpiffeId, WorkloadId};
use std::collections::BTreeMap;

/// The most control connections of all sidecars. A sidecar has one with each of two gateways.
pub(crate) const MAX_SESSIONS: usize = 120_000;
/// The most connections without a certificate, over any protocol, apart from those of sidecars: strangers cannot keep those away
/// who have one.
pub(crate) const MAX_STRANGERS: usize = 10_000;
/// The most of one SPIFFE ID, which thousands of workloads may share, once there are [`CROWDED`].
const MAX_PER_IDENTITY: usize = 60_000;
/// From how many on an identity is held to its share. Below, a cluster whose workloads have one identity can attach again after it
/// lost a gateway; the rest is room that no identity keeps the others out of.
const CROWDED: usize = 100_000;
/// The most of one workload. It needs one, and a further one while a lost one has not timed out, which takes 4 s.
const MAX_PER_WORKLOAD: usize = 8;

/// Why a control connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    #[error(
        "this gateway has {open} control connections, at most {MAX_SESSIONS}: use another gateway, or add one"
    )]
    Sessions { open: usize },
    #[error(
        "this gateway has {open} connections without a certificate, at most {MAX_STRANGERS}: join again in a moment"
    )]
    Strangers { open: usize },
    #[error(
        "{identity} has {open} control connections with this gateway, at most {MAX_PER_IDENTITY} when there are {CROWDED} in all: use \
         another gateway, or give its workloads identities of their own"
    )]
    Identity { identity: SpiffeId, open: usize },
    #[error(
        "workload {workload} of {identity} has {open} control connections with this gateway, at most {MAX_PER_WORKLOAD}: close those \
         that are not used"
    )]
    Workload { identity: SpiffeId, workload: WorkloadId, open: usize },
}

/// The control connections and connections of strangers that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    strangers: usize,
    identified: usize,
    identities: BTreeMap<SpiffeId, usize>,
}

impl Sessions {
    /// One more control connection, of `identity`.
    pub(super) fn open(&mut self, identity: &SpiffeId) -> Result<(), TooMany> {
        let open = self.identified;
        if open >= MAX_SESSIONS {
            return Err(TooMany::Sessions { open });
        }
        let of_identity = self.identities.get(identity).copied().unwrap_or(0);
        if open >= CROWDED && of_identity >= MAX_PER_IDENTITY {
            return Err(TooMany::Identity { identity: identity.clone(), open: of_identity });
        }
        self.identified += 1;
        self.identities.insert(identity.clone(), of_identity + 1);
        Ok(())
    }

    /// One control connection of `identity` is no more.
    pub(super) fn close(&mut self, identity: &SpiffeId) {
        let Some(count) = self.identities.get_mut(identity) else { return };
        *count -= 1;
        self.identified -= 1;
        if *count == 0 {
            self.identities.remove(identity);
        }
    }

    /// One more connection of a stranger.
    pub(super) fn open_stranger(&mut self) -> Result<(), TooMany> {
        if self.strangers >= MAX_STRANGERS {
            return Err(TooMany::Strangers { open: self.strangers });
        }
        self.strangers += 1;
        Ok(())
    }

    /// One connection of a stranger is no more.
    pub(super) fn close_stranger(&mut self) {
        self.strangers = self.strangers.saturating_sub(1);
    }

    /// How many control connections are open.
    pub(super) fn len(&self) -> usize {
        self.identified
    }

    /// How many connections of strangers are open.
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }
}

/// Whether `workload`, which has `open` control connections, may have another one.
pub(super) fn check_workload(identity: &SpiffeId, workload: WorkloadId, open: usize) -> Result<(), TooMany> {
    if open < MAX_PER_WORKLOAD {
        return Ok(());
    }
    Err(TooMany::Workload { identity: identity.clone(), workload, open })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(account: usize) -> SpiffeId {
        format!("spiffe://iad.mesh/ns/shop/sa/a{account}").parse().unwrap()
    }

    fn fill(mut open: impl FnMut() -> Result<(), TooMany>) -> (usize, String) {
        let mut opened = 0;
        loop {
            match open() {
                Ok(()) => opened += 1,
                Err(refused) => return (opened, refused.to_string()),
            }
        }
    }

    #[test]
    fn strangers_keep_no_sidecar_away() {
        let mut sessions = Sessions::default();
        let (strangers, refused) = fill(|| sessions.open_stranger());
        assert_eq!(strangers, MAX_STRANGERS);
        assert!(refused.contains("10000 connections without a certificate, at most 10000"), "{refused}");
        for account in 0..MAX_SESSIONS / 1_000 {
            (0..1_000).for_each(|_| sessions.open(&id(account)).unwrap());
        }
        let (more, refused) = fill(|| sessions.open(&id(77)));
        assert_eq!((more, sessions.len(), sessions.strangers()), (0, MAX_SESSIONS, MAX_STRANGERS));
        assert!(refused.contains("120000 control connections, at most 120000"), "{refused}");
    }

    /// 50,000 workloads of one identity lose one of their two gateways.
    #[test]
    fn an_identity_alone_has_room_to_attach_again_and_leaves_some_to_the_others() {
        let mut sessions = Sessions::default();
        let (first, refused) = fill(|| sessions.open(&id(1)));
        assert_eq!(first, CROWDED);
        assert!(refused.contains("sa/a1 has 100000 control connections"), "{refused}");
        let (second, refused) = fill(|| sessions.open(&id(2)));
        assert_eq!(second, MAX_SESSIONS - CROWDED);
        assert!(refused.contains("120000 control connections, at most 120000"), "{refused}");
    }

    #[test]
    fn an_identity_among_many_has_its_share() {
        let mut sessions = Sessions::default();
        for account in 2..12 {
            (0..5_000).for_each(|_| sessions.open(&id(account)).unwrap());
        }
        let (first, refused) = fill(|| sessions.open(&id(1)));
        assert_eq!(first, MAX_PER_IDENTITY);
        assert!(refused.contains("sa/a1 has 60000 control connections"), "{refused}");
        assert_eq!(sessions.open(&id(2)), Ok(()));
    }

    #[test]
    fn what_is_closed_leaves_room_and_nothing_behind() {
        let mut sessions = Sessions::default();
        sessions.open_stranger().unwrap();
        for account in [1, 1, 2] {
            sessions.open(&id(account)).unwrap();
        }
        assert_eq!((sessions.len(), sessions.strangers()), (3, 1));
        sessions.close_stranger();
        for account in [1, 1, 2] {
            sessions.close(&id(account));
        }
        assert_eq!((sessions.len(), sessions.strangers(), sessions.identities.len()), (0, 0, 0));
        sessions.close_stranger();
        sessions.close(&id(1));
        assert_eq!((sessions.len(), sessions.strangers()), (0, 0));
    }

    #[test]
    fn a_workload_has_a_few_and_the_refusal_names_the_numbers() {
        let (identity, workload) = (id(1), WorkloadId(7));
        assert_eq!(check_workload(&identity, workload, MAX_PER_WORKLOAD - 1), Ok(()));
        let text = check_workload(&identity, workload, MAX_PER_WORKLOAD).unwrap_err().to_string();
        for part in ["workload 0000000000000007", "sa/a1", "has 8 control", "at most 8"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
