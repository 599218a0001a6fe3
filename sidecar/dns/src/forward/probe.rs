//! Questions that nobody else asks, sent to see whether they come back: then an upstream forwards to us, and every question would
//! go round in circles.

use super::exchange;
use super::upstream::Upstream;
use crate::metrics::DnsMetrics;
use crate::question::{Question, Transport};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long to wait between two looks at upstreams that do not answer.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while one of them is known to send questions back.
const PAUSE_LOOPING: Duration = Duration::from_secs(10);

/// The questions that are out.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// By name as it is in a message; whether it came back.
    out: Mutex<HashMap<Vec<u8>, bool>>,
    suspicion: Notify,
}

impl Probes {
    fn out(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, bool>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an upstream did not answer, which it cannot if it waits for us.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Whether the name of a question is one of ours that came back.
    pub(super) fn came_back(&self, raw_name: &[u8]) -> bool {
        let mut out = self.out();
        match out.get_mut(&raw_name.to_ascii_lowercase()) {
            Some(came_back) => {
                *came_back = true;
                true
            }
            None => false,
        }
    }

    /// Looks at every upstream, at once and when there is reason to.
    pub(super) async fn watch(&self, upstreams: &[Upstream], timeout: Duration, metrics: &DnsMetrics) {
        loop {
            for upstream in upstreams {
                self.look(upstream, timeout).await;
            }
            let looping = upstreams.iter().filter(|upstream| upstream.is_looping()).count();
            metrics.loops.set(i64::try_from(looping).unwrap_or(i64::MAX));
            if looping > 0 {
                tokio::time::sleep(PAUSE_LOOPING).await;
            } else {
                tokio::time::sleep(PAUSE).await;
                self.suspicion.notified().await;
            }
        }
    }

    async fn look(&self, upstream: &Upstream, timeout: Duration) {
        let Some(question) = question() else { return };
        let name = question.raw_name().to_vec();
        self.out().insert(name.clone(), false);
        // what it answers is of no interest, and it need not: in a circle it answers when we have
        let _ = tokio::time::timeout(timeout, exchange::ask(upstream.address, &question)).await;
        let looping = self.out().remove(&name).unwrap_or_default();
        if upstream.set_looping(looping) {
            let address = upstream.address;
            if looping {
                tracing::error!(
                    upstream = %address,
                    reason = "dns-loop",
                    "this DNS upstream sends questions back to this server, so it is not asked any more: \
                     name another upstream, or the one that it used before"
                );
            } else {
                tracing::info!(upstream = %address, "this DNS upstream no longer sends questions back, and is asked again");
            }
        }
    }
}

/// A question for a random name at the root, of a type that hardly anybody asks for. No zone would do: a resolver may forward
/// one zone to us and be right.
fn question() -> Option<Question> {
    let label = || getrandom::u64().ok().map(|random| format!("{random:016x}"));
    let name = Name::from_ascii(format!("{}.{}.", label()?, label()?)).ok()?;
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::HINFO));
    Question::read(&message.to_vec().ok()?, Transport::Udp).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_known_when_it_comes_back_in_any_case() {
        let probes = Probes::default();
        let (one, other) = (question().unwrap(), question().unwrap());
        assert_ne!(one.raw_name(), other.raw_name());
        probes.out().insert(one.raw_name().to_vec(), false);
        assert!(!probes.came_back(other.raw_name()));
        assert!(probes.came_back(&one.raw_name().to_ascii_uppercase()));
        assert_eq!(probes.out().remove(one.raw_name()), Some(true));
    }
}
