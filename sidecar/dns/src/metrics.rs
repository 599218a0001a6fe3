//! What a DNS server counts.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

type One<M> = Family<[(&'static str, &'static str); 1], M>;
type Seconds = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;
type Two<M> = Family<[(&'static str, &'static str); 2], M>;

/// The types of questions that are told apart; the last one stands for all others.
const TYPES: [(RecordType, &str); 9] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::SRV, "SRV"),
    (RecordType::HTTPS, "HTTPS"),
    (RecordType::PTR, "PTR"),
    (RecordType::TXT, "TXT"),
    (RecordType::SOA, "SOA"),
    (RecordType::ANY, "ANY"),
    (RecordType::ZERO, "other"),
];

/// The codes of answers that are told apart, in the order of their numbers; the last one stands for all others.
const CODES: [&str; 7] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"];

/// Who answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The zones of the mesh.
    Mesh,
    /// An upstream, or what is kept of its answers.
    Forwarded,
}

const SOURCES: [&str; 2] = ["mesh", "forwarded"];

/// The metrics of a DNS server. Clones share their values.
#[derive(Clone, Debug)]
pub struct DnsMetrics(Arc<Handles>);

/// What [`DnsMetrics`] shares.
#[derive(Debug)]
pub struct Handles {
    questions: Two<Counter>,
    answers: One<Counter>,
    seconds: Seconds,
    by_type: [[Counter; TYPES.len()]; SOURCES.len()],
    by_code: [Counter; CODES.len()],
    by_source: [Histogram; SOURCES.len()],
    upstream_failures: Family<[(&'static str, String); 2], Counter>,
    /// Forwarded questions that were answered from what is kept.
    pub cache_hits: Counter,
    /// Forwarded questions that were not.
    pub cache_misses: Counter,
    /// Bytes of answers that are kept.
    pub cache_bytes: Gauge,
    refused: One<Counter>,
    /// Questions that wait for an upstream or for a name.
    pub pending: Gauge,
    /// TCP connections that are open.
    pub tcp_open: Gauge,
    /// Upstreams that send questions back to this server.
    pub loops: Gauge,
}

impl Deref for DnsMetrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

impl Default for DnsMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From 4 us, a known name, to 8 s, beyond what an application waits.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_004, 4.0, 11))
}

impl DnsMetrics {
    /// Metrics at zero.
    pub fn new() -> Self {
        let (questions, answers) = (Two::<Counter>::default(), One::<Counter>::default());
        let seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let by_type = SOURCES.map(|source| {
            TYPES.map(|(_, kind)| questions.get_or_create_owned(&[("zone", source), ("type", kind)]))
        });
        let by_code = CODES.map(|code| answers.get_or_create_owned(&[("rcode", code)]));
        let by_source = SOURCES.map(|source| seconds.get_or_create_owned(&[("zone", source)]));
        Self(Arc::new(Handles {
            questions,
            answers,
            seconds,
            by_type,
            by_code,
            by_source,
            upstream_failures: Family::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_bytes: Gauge::default(),
            refused: Family::default(),
            pending: Gauge::default(),
            tcp_open: Gauge::default(),
            loops: Gauge::default(),
        }))
    }

    /// Adds the metrics to `registry`, under `dns_`.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("dns");
        r.register("questions", "Questions by type, and by who answers for the name", self.questions.clone());
        r.register("answers", "Answers by their code", self.answers.clone());
        r.register("seconds", "Time from a question to its answer", self.seconds.clone());
        r.register(
            "upstream_failures",
            "Questions that an upstream did not answer, by reason",
            self.upstream_failures.clone(),
        );
        r.register("cache_hits", "Forwarded questions answered from memory", self.cache_hits.clone());
        r.register("cache_misses", "Forwarded questions not in memory", self.cache_misses.clone());
        r.register("cache_bytes", "Bytes of answers in memory", self.cache_bytes.clone());
        r.register("refused", "Questions and connections beyond a bound, by bound", self.refused.clone());
        r.register("pending", "Questions that wait", self.pending.clone());
        r.register("tcp_open", "TCP connections that are open", self.tcp_open.clone());
        r.register("loops", "Upstreams that send questions back here", self.loops.clone());
    }

    pub(crate) fn question(&self, source: Source, kind: RecordType) {
        let at = TYPES.iter().position(|&(known, _)| known == kind).unwrap_or(TYPES.len() - 1);
        self.by_type[source as usize][at].inc();
    }

    pub(crate) fn answer(&self, code: ResponseCode) {
        let at = usize::from(u16::from(code)).min(CODES.len() - 1);
        self.by_code[at].inc();
    }

    pub(crate) fn took(&self, source: Source, time: Duration) {
        self.by_source[source as usize].observe(time.as_secs_f64());
    }

    pub(crate) fn upstream_failed(&self, upstream: SocketAddr, reason: &'static str) {
        let labels = [("upstream", upstream.to_string()), ("reason", reason.to_owned())];
        self.upstream_failures.get_or_create(&labels).inc();
    }

    pub(crate) fn refuse(&self, bound: &'static str) {
        self.refused.get_or_create(&[("bound", bound)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn metrics_are_told_by_type_code_and_bound() {
        let metrics = DnsMetrics::new();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.question(Source::Mesh, RecordType::A);
        metrics.question(Source::Forwarded, RecordType::CAA);
        metrics.answer(ResponseCode::NXDomain);
        metrics.answer(ResponseCode::BADVERS);
        metrics.took(Source::Mesh, Duration::from_micros(9));
        metrics.upstream_failed("192.0.2.1:53".parse().unwrap(), "timeout");
        metrics.refuse("pending");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"dns_questions_total{zone="mesh",type="A"} 1"#,
            r#"dns_questions_total{zone="forwarded",type="other"} 1"#,
            r#"dns_answers_total{rcode="NXDOMAIN"} 1"#,
            r#"dns_answers_total{rcode="other"} 1"#,
            r#"dns_seconds_count{zone="mesh"} 1"#,
            r#"dns_upstream_failures_total{upstream="192.0.2.1:53",reason="timeout"} 1"#,
            r#"dns_refused_total{bound="pending"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
