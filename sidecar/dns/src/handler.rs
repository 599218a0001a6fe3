//! From a message to its answer: what can be said at once is said at once, everything else waits within bounds.

use crate::absent::Absent;
use crate::config::DnsConfig;
use crate::flights::Flights;
use crate::forward::{Forwarded, Forwarder};
use crate::metrics::{DnsMetrics, Source};
use crate::question::{Question, Refused, Transport};
use crate::reply::{Reply, Why, WhyCode};
use crate::zone::{Found, Owner, Writer, Zones};
use crate::{NameError, Names, Resolved};
use causeway_model::{Vip, VipName};
use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What every loop of a server shares.
pub(crate) struct Handler {
    names: Arc<dyn Names>,
    zones: Zones,
    writer: Writer,
    forwarder: Option<Forwarder>,
    absent: Absent,
    flights: Flights<VipName, Result<Resolved, NameError>>,
    pending: Arc<Semaphore>,
    question_timeout: Duration,
    pub(crate) metrics: DnsMetrics,
}

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send what was written.
    Send,
    /// Nothing.
    Drop,
    /// Wait for the answer, see [`Handler::finish`].
    Wait(Box<Waiting>),
}

/// A question that cannot be answered yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    question: Question,
    wanted: Wanted,
    since: Instant,
    permit: OwnedSemaphorePermit,
}

/// What must be found out about to answer a question.
#[derive(Debug)]
enum Wanted {
    /// A service.
    Service(VipName),
    /// The name of a virtual address.
    Reverse(Vip),
    /// What an upstream says.
    Other,
}

impl Wanted {
    fn source(&self) -> Source {
        match self {
            Self::Service(_) | Self::Reverse(_) => Source::Mesh,
            Self::Other => Source::Forwarded,
        }
    }
}

/// What can be said of a question without waiting.
enum Known {
    Written(Result<ResponseCode, ProtoError>),
    Not(Wanted),
}

impl Handler {
    pub(crate) fn new(
        config: &DnsConfig,
        upstreams: &[SocketAddr],
        names: Arc<dyn Names>,
        metrics: DnsMetrics,
    ) -> Self {
        Self {
            names,
            zones: Zones::new(&config.zone, config.clusterset),
            writer: Writer::new(config, !upstreams.is_empty()),
            forwarder: Forwarder::new(upstreams, &config.limits, metrics.clone()),
            absent: Absent::new(config.negative_ttl),
            flights: Flights::default(),
            pending: Arc::new(Semaphore::new(config.limits.pending)),
            question_timeout: config.limits.question_timeout,
            metrics,
        }
    }

    pub(crate) fn forwarder(&self) -> Option<&Forwarder> {
        self.forwarder.as_ref()
    }

    /// Takes a message. With [`Step::Send`] the answer is in `out`.
    pub(crate) fn begin(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> Step {
        let since = Instant::now();
        let question = match Question::read(packet, transport) {
            Ok(question) => question,
            Err(Refused::Drop) => return Step::Drop,
            Err(Refused::Code(question, code)) => return self.sent(self.refuse(&question, code, None, out)),
        };
        let ours = self.zones.find(&question.name);
        let source = if ours.is_some() { Source::Mesh } else { Source::Forwarded };
        self.metrics.question(source, question.kind);
        let known = match ours {
            Some((zone, owner)) => match self.look_up(owner) {
                Ok(found) => Known::Written(self.writer.write(&question, zone, &found, out)),
                Err(wanted) => Known::Not(wanted),
            },
            None => self.look_up_other(&question, out),
        };
        match known {
            Known::Written(result) => {
                self.metrics.took(source, since.elapsed());
                self.sent(result)
            }
            Known::Not(wanted) => self.wait(question, wanted, since, out),
        }
    }

    /// What is known about a name of ours, or what to find out about.
    fn look_up(&self, owner: Owner) -> Result<Found, Wanted> {
        match owner {
            Owner::Reverse(vip) => {
                self.names.name_of(vip).map(|name| Found::Reverse(Ok(name))).ok_or(Wanted::Reverse(vip))
            }
            Owner::Service(name, ports) => match self.names.known(&name) {
                Some(resolved) => Ok(Found::Service(Ok(resolved), ports)),
                None if self.absent.has(&name, Instant::now()) => {
                    Ok(Found::Service(Err(NameError::Unknown), ports))
                }
                None => Err(Wanted::Service(name)),
            },
            owner => Ok(Found::Fixed(owner)),
        }
    }

    fn look_up_other(&self, question: &Question, out: &mut Vec<u8>) -> Known {
        let why = |text| Why::new(WhyCode::Prohibited, text);
        let Some(forwarder) = &self.forwarder else {
            let why = why("no upstream resolver is configured");
            return Known::Written(self.refuse(question, ResponseCode::Refused, Some(&why), out));
        };
        if forwarder.came_back(question) {
            let why = why("this question was sent to find resolver loops, and is in one");
            return Known::Written(self.refuse(question, ResponseCode::Refused, Some(&why), out));
        }
        match forwarder.kept(question) {
            Some((answer, age)) => {
                answer.write(question, age, out);
                Known::Written(Ok(answer.code()))
            }
            None => Known::Not(Wanted::Other),
        }
    }

    fn wait(&self, question: Question, wanted: Wanted, since: Instant, out: &mut Vec<u8>) -> Step {
        match Arc::clone(&self.pending).try_acquire_owned() {
            Ok(permit) => {
                self.metrics.pending.inc();
                Step::Wait(Box::new(Waiting { question, wanted, since, permit }))
            }
            Err(_) => {
                self.metrics.refuse("pending");
                let why = Why::new(WhyCode::Other, "too many questions wait for an answer already");
                self.sent(self.refuse(&question, ResponseCode::ServFail, Some(&why), out))
            }
        }
    }

    /// Waits for the answer to a question and writes it to `out`; false if there is nothing to send. Ends within
    /// [`crate::Limits::question_timeout`].
    pub(crate) async fn finish(&self, waiting: Waiting, out: &mut Vec<u8>) -> bool {
        let Waiting { question, wanted, since, permit } = waiting;
        let source = wanted.source();
        let result = match wanted {
            Wanted::Service(name) => self.finish_service(&question, name, out).await,
            Wanted::Reverse(vip) => self.finish_reverse(&question, vip, out).await,
            Wanted::Other => self.finish_other(&question, out).await,
        };
        drop(permit);
        self.metrics.pending.dec();
        self.metrics.took(source, since.elapsed());
        matches!(self.sent(result), Step::Send)
    }

    async fn finish_service(
        &self,
        question: &Question,
        name: VipName,
        out: &mut Vec<u8>,
    ) -> Result<ResponseCode, ProtoError> {
        let resolve = self.flights.join(name.clone(), async { self.names.resolve(name.clone()).await });
        let late = || Err(self.nobody_could_say(&name.to_string()));
        let resolved = match tokio::time::timeout(self.question_timeout, resolve).await {
            Ok(Some(resolved)) => resolved,
            Ok(None) | Err(_) => late(),
        };
        match &resolved {
            Err(NameError::Unknown) => self.absent.insert(name.clone(), Instant::now()),
            Err(NameError::Unavailable(why)) => tracing::debug!(%name, why, "a name cannot be resolved now"),
            Ok(_) => {}
        }
        match self.zones.find(&question.name) {
            Some((zone, Owner::Service(_, ports))) => {
                self.writer.write(question, zone, &Found::Service(resolved, ports), out)
            }
            _ => self.refuse(question, ResponseCode::ServFail, None, out),
        }
    }

    async fn finish_reverse(
        &self,
        question: &Question,
        vip: Vip,
        out: &mut Vec<u8>,
    ) -> Result<ResponseCode, ProtoError> {
        let resolve = tokio::time::timeout(self.question_timeout, self.names.resolve_name_of(vip));
        let name = resolve.await.unwrap_or_else(|_| Err(self.nobody_could_say(&vip.v4().to_string())));
        match self.zones.find(&question.name) {
            Some((zone, _)) => self.writer.write(question, zone, &Found::Reverse(name), out),
            None => self.refuse(question, ResponseCode::ServFail, None, out),
        }
    }

    fn nobody_could_say(&self, what: &str) -> NameError {
        let within = self.question_timeout;
        NameError::Unavailable(format!("nobody could say within {within:?} what {what} is"))
    }

    async fn finish_other(&self, question: &Question, out: &mut Vec<u8>) -> Result<ResponseCode, ProtoError> {
        let Some(forwarder) = &self.forwarder else {
            return self.refuse(question, ResponseCode::Refused, None, out);
        };
        let why = match tokio::time::timeout(self.question_timeout, forwarder.ask(question)).await {
            Ok(Forwarded::Answer(answer)) => {
                answer.write(question, 0, out);
                return Ok(answer.code());
            }
            Ok(Forwarded::Failed(why)) => why,
            Err(_) => Why::new(
                WhyCode::NoReachableAuthority,
                format!("no upstream resolver answered within {:?}", self.question_timeout),
            ),
        };
        self.refuse(question, ResponseCode::ServFail, Some(&why), out)
    }

    fn refuse(
        &self,
        question: &Question,
        code: ResponseCode,
        why: Option<&Why>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseCode, ProtoError> {
        Reply::new(out, question, code, why)?.recursive(self.forwarder.is_some()).finish()
    }

    fn sent(&self, result: Result<ResponseCode, ProtoError>) -> Step {
        match result {
            Ok(code) => {
                self.metrics.answer(code);
                Step::Send
            }
            Err(error) => {
                tracing::warn!(%error, "a DNS answer cannot be written");
                Step::Drop
            }
        }
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").field("zones", &self.zones).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
