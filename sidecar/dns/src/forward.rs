//! Everything that is not ours: asked of the upstreams, once for all who ask the same at the same time, and kept for as long
//! as the answer may be.

mod cache;
mod exchange;
mod message;
mod probe;
mod upstream;

pub(crate) use message::Stored;

use crate::config::Limits;
use crate::flights::Flights;
use crate::metrics::DnsMetrics;
use crate::question::Question;
use crate::reply::{Why, WhyCode};
use cache::{Cache, Key};
use exchange::Failure;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use probe::Probes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

/// How often all upstreams are asked before a question fails: a datagram may be lost.
const ROUNDS: u32 = 2;

/// What came of a forwarded question.
#[derive(Clone, Debug)]
pub(crate) enum Forwarded {
    Answer(Arc<Stored>),
    Failed(Why),
}

/// Asks upstreams and keeps their answers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstreams: Vec<Upstream>,
    cache: Mutex<Cache>,
    flights: Flights<Key, Forwarded>,
    probes: Probes,
    upstream_timeout: Duration,
    metrics: DnsMetrics,
}

impl Forwarder {
    /// One for these upstreams, or none if there is nobody to ask.
    pub(crate) fn new(upstreams: &[SocketAddr], limits: &Limits, metrics: DnsMetrics) -> Option<Self> {
        (!upstreams.is_empty()).then(|| Self {
            upstreams: upstreams.iter().map(|&address| Upstream::new(address)).collect(),
            cache: Mutex::new(Cache::new(limits.cache_bytes)),
            flights: Flights::default(),
            probes: Probes::default(),
            upstream_timeout: limits.upstream_timeout,
            metrics,
        })
    }

    /// The answer to `question` that is kept, and its age in seconds.
    pub(crate) fn kept(&self, question: &Question) -> Option<(Arc<Stored>, u32)> {
        let kept = self.cache().get(&Key::of(question), Instant::now());
        match kept {
            Some(_) => self.metrics.cache_hits.inc(),
            None => self.metrics.cache_misses.inc(),
        };
        kept
    }

    /// Asks the upstreams. Bounded in time by the caller.
    pub(crate) async fn ask(&self, question: &Question) -> Forwarded {
        let key = Key::of(question);
        let asked = self.flights.join(key.clone(), async {
            let forwarded = self.ask_upstreams(question).await;
            if let Forwarded::Answer(answer) = &forwarded {
                let mut cache = self.cache();
                cache.insert(key, answer, Instant::now());
                self.metrics.cache_bytes.set(i64::try_from(cache.bytes()).unwrap_or(i64::MAX));
            }
            forwarded
        });
        asked.await.unwrap_or_else(|| Forwarded::Failed(no_answer("an equal question got none in time")))
    }

    async fn ask_upstreams(&self, question: &Question) -> Forwarded {
        let mut excuse = None;
        let mut last = None;
        for _ in 0..ROUNDS {
            for upstream in upstream::in_order(&self.upstreams, Instant::now()) {
                match self.ask_one(upstream, question).await {
                    // it could not or would not say: another one may
                    Ok(answer) if is_excuse(answer.code()) => excuse = Some(answer),
                    Ok(answer) => return Forwarded::Answer(answer),
                    Err(failure) => last = Some(format!("{}: {failure}", upstream.address)),
                }
            }
            if let Some(excuse) = excuse {
                return Forwarded::Answer(excuse);
            }
        }
        Forwarded::Failed(no_answer(
            last.as_deref().unwrap_or("every upstream sends questions back to this server"),
        ))
    }

    async fn ask_one(&self, upstream: &Upstream, question: &Question) -> Result<Arc<Stored>, Failure> {
        let asked = exchange::ask(upstream.address, question);
        let asked = tokio::time::timeout(self.upstream_timeout, asked).await;
        let result = asked.unwrap_or(Err(Failure::Timeout)).map(Arc::new);
        match &result {
            Ok(_) => upstream.answered(),
            Err(failure) => {
                self.metrics.upstream_failed(upstream.address, failure.reason());
                upstream.failed(Instant::now());
                if matches!(failure, Failure::Timeout) {
                    self.probes.suspect();
                }
            }
        }
        result
    }

    /// Whether `question` is one that this server sent to see whether it comes back.
    pub(crate) fn came_back(&self, question: &Question) -> bool {
        question.kind == RecordType::HINFO && self.probes.came_back(question.raw_name())
    }

    /// Looks for upstreams that send questions back, at the start and when one does not answer, until `stop`.
    pub(crate) async fn watch_for_loops(&self, stop: &CancellationToken) {
        let watch = self.probes.watch(&self.upstreams, self.upstream_timeout, &self.metrics);
        tokio::select! {
            () = watch => {}
            () = stop.cancelled() => {}
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_excuse(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

fn no_answer(why: &str) -> Why {
    Why::new(WhyCode::NoReachableAuthority, format!("no upstream resolver answered; {why}"))
}
