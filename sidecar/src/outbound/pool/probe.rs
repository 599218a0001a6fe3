//! Trying to reach a cluster that is silent, so that connections go there again when it is not: one attempt at a time, whoever
//! waits for it.

use super::super::connect::Dial;
use super::{Key, Pool};
use crate::choose::Chooser;
use crate::failure::Failure;
use crate::membership::View;
use crate::peer::Peer;
use causeway_balance::Class;
use causeway_model::{ClusterId, PortKey, ServiceName};
use causeway_transport::close;
use causeway_wire::CloseCode;
use causeway_wire::data::DataHello;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(1);
/// How long to wait after the first attempt; twice as long after each further one, and a quarter more or less.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest wait at first: a cluster that is back shall have its connections within ten seconds, and those come gradually.
const PAUSE: Duration = Duration::from_secs(2);
/// After so long without success, a wait may be longer.
const LONG: Duration = Duration::from_secs(120);
/// The longest wait then.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// How often the connections that stand are listened to meanwhile.
const LISTEN: Duration = Duration::from_millis(100);

/// Where endpoints of a cluster are found.
pub(in crate::outbound) struct Prospects {
    pub(in crate::outbound) chooser: Chooser,
    pub(in crate::outbound) view: View,
    pub(in crate::outbound) service: ServiceName,
    pub(in crate::outbound) port: PortKey,
}

impl Prospects {
    /// Any endpoint of `cluster`; `None` if it has none any more.
    fn any(&self, cluster: ClusterId) -> Option<Dial> {
        let view = self.view.borrow().clone()?;
        let mut found = self.chooser.candidates(&view, self.port, |_| 0);
        found.retain(|candidate| candidate.target.cluster() == cluster && candidate.healthy);
        let at = rand::random::<u64>().checked_rem(found.len() as u64)?;
        found.get(usize::try_from(at).ok()?).map(|candidate| Dial::new(candidate, &self.service))
    }
}

impl Pool {
    /// Tries to reach `cluster`, which is suspected, until anything is heard of it.
    pub(in crate::outbound) fn probe(&self, cluster: ClusterId, prospects: Prospects) {
        let pool = self.clone();
        self.connector.tasks.spawn("probe", async move {
            let ear = pool.ear(cluster, None);
            let overheard = async {
                while !ear.heard() {
                    sleep(LISTEN).await;
                }
            };
            tokio::select! {
                () = pool.knock(cluster, &prospects) => {}
                () = overheard => pool.balances.heard(cluster, None),
            }
            // whatever ended this, nobody looks after the suspicion any more
            if pool.balances.is_suspect(cluster) {
                pool.balances.forget(cluster);
            }
        });
    }

    /// Returns when `cluster` has answered, or has no endpoint any more.
    async fn knock(&self, cluster: ClusterId, prospects: &Prospects) {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        while let Some(dial) = prospects.any(cluster) {
            match self.connector.connect(&dial, LIMIT).await {
                Ok((peer, hello)) => return self.keep((dial.target, Class::Small), peer, hello),
                Err(Failure::Connection { reason, .. }) if CloseCode::from_reason(reason).is_some() => {
                    // it was refused, but by somebody there
                    return self.balances.heard(cluster, None);
                }
                Err(failure) => tracing::debug!(%cluster, %failure, "a silent cluster does not answer"),
            }
            sleep(pause.mul_f64(0.75 + 0.5 * rand::random::<f64>())).await;
            if !self.balances.is_suspect(cluster) {
                return;
            }
            pause = (pause * 2).min(if began.elapsed() < LONG { PAUSE } else { LONG_PAUSE });
        }
    }

    /// Puts a connection where it is looked for, unless there is one that is as good.
    fn keep(&self, key: Key, peer: Peer, hello: DataHello) {
        let peer = Arc::new(peer);
        let slot = self.lock().slots.get(&key).cloned();
        if slot.as_ref().is_some_and(super::Slot::is_alive) {
            close(&peer.connection, CloseCode::Superseded, "another connection to this instance stands");
            return self.balances.heard(peer.cluster, Some(key.0));
        }
        let old = slot.as_ref().and_then(super::Slot::peer).filter(|old| old.is_open());
        let (_, mine) = self.adopt(key, &peer, old);
        let pool = self.clone();
        self.connector
            .tasks
            .spawn("peer", async move { pool.live_or_close(&peer, &hello.direct, mine).await });
    }
}
