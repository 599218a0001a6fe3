//! How many control connections of sidecars there may be, and how many there are. Pure.

use causeway_model::{SpiffeId, WorkloadId};
use std::collections::BTreeMap;

/// The most control connections of all sidecars, short of the endpoint's own limit so that gateways always find room. A sidecar has
/// one with each of two gateways.
const MAX_SESSIONS: usize = 40_000;
/// The most without a certificate: strangers cannot keep those away who have one.
const MAX_STRANGERS: usize = 10_000;
/// The most of one SPIFFE ID, which thousands of workloads may share: half, so that no identity keeps the others away.
const MAX_PER_IDENTITY: usize = 20_000;
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
        "this gateway has {open} control connections without a certificate, at most {MAX_STRANGERS}: join again in a moment"
    )]
    Strangers { open: usize },
    #[error(
        "{identity} has {open} control connections with this gateway, at most {MAX_PER_IDENTITY}: use another gateway, or give its \
         workloads identities of their own"
    )]
    Identity { identity: SpiffeId, open: usize },
    #[error(
        "workload {workload} of {identity} has {open} control connections with this gateway, at most {MAX_PER_WORKLOAD}: close those \
         that are not used"
    )]
    Workload { identity: SpiffeId, workload: WorkloadId, open: usize },
}

/// The control connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    strangers: usize,
    identified: usize,
    identities: BTreeMap<SpiffeId, usize>,
}

impl Sessions {
    /// One more, of `identity` or of a stranger.
    pub(super) fn open(&mut self, identity: Option<&SpiffeId>) -> Result<(), TooMany> {
        let open = self.len();
        if open >= MAX_SESSIONS {
            return Err(TooMany::Sessions { open });
        }
        let Some(identity) = identity else {
            if self.strangers >= MAX_STRANGERS {
                return Err(TooMany::Strangers { open: self.strangers });
            }
            self.strangers += 1;
            return Ok(());
        };
        let of_identity = self.identities.get(identity).copied().unwrap_or(0);
        if of_identity >= MAX_PER_IDENTITY {
            return Err(TooMany::Identity { identity: identity.clone(), open: of_identity });
        }
        self.identified += 1;
        self.identities.insert(identity.clone(), of_identity + 1);
        Ok(())
    }

    /// One that was open is no more.
    pub(super) fn close(&mut self, identity: Option<&SpiffeId>) {
        let Some(identity) = identity else {
            self.strangers = self.strangers.saturating_sub(1);
            return;
        };
        let Some(count) = self.identities.get_mut(identity) else { return };
        *count -= 1;
        self.identified -= 1;
        if *count == 0 {
            self.identities.remove(identity);
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.strangers + self.identified
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

    fn fill(sessions: &mut Sessions, identity: Option<&SpiffeId>) -> (usize, TooMany) {
        let mut opened = 0;
        loop {
            match sessions.open(identity) {
                Ok(()) => opened += 1,
                Err(refused) => return (opened, refused),
            }
        }
    }

    #[test]
    fn strangers_and_identities_have_their_share_and_no_more() {
        let mut sessions = Sessions::default();
        let (strangers, refused) = fill(&mut sessions, None);
        assert_eq!(strangers, MAX_STRANGERS);
        assert!(
            refused.to_string().contains("10000 control connections without a certificate, at most 10000")
        );
        let (first, refused) = fill(&mut sessions, Some(&id(1)));
        assert_eq!(first, MAX_PER_IDENTITY);
        assert!(refused.to_string().contains("sa/a1 has 20000 control connections"), "{refused}");
        let (second, refused) = fill(&mut sessions, Some(&id(2)));
        assert_eq!(second, MAX_SESSIONS - MAX_STRANGERS - MAX_PER_IDENTITY);
        assert!(refused.to_string().contains("40000 control connections, at most 40000"), "{refused}");
        assert_eq!(sessions.len(), MAX_SESSIONS);
    }

    #[test]
    fn what_is_closed_leaves_room_and_nothing_behind() {
        let mut sessions = Sessions::default();
        for identity in [None, Some(id(1)), Some(id(1)), Some(id(2))] {
            sessions.open(identity.as_ref()).unwrap();
        }
        assert_eq!(sessions.len(), 4);
        for identity in [None, Some(id(1)), Some(id(1)), Some(id(2))] {
            sessions.close(identity.as_ref());
        }
        assert_eq!((sessions.len(), sessions.identities.len()), (0, 0));
        sessions.close(None);
        sessions.close(Some(&id(1)));
        assert_eq!(sessions.len(), 0);
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
