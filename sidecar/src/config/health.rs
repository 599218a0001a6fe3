//! Checks of what the workload serves: the tables `[[health]]`, and the flag for the common case.

use super::ServeSpec;
use causeway_model::{Health, ParseError, Protocol, ServiceName};
use causeway_runtime::config::{ConfigDuration, Section};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The most checks that may be configured.
const MAX_CHECKS: usize = 64;

/// How a port of a service is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HealthCheck {
    /// The service.
    pub service: ServiceName,
    /// Its port; `None` checks every TCP port that is served.
    pub port: Option<u16>,
    /// What is done.
    pub kind: CheckKind,
    /// What is asked for, by an HTTP check; `/` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The `Host` of an HTTP check; the name of the service unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Which status an HTTP check expects; 200 to 399 unless given.
    pub expect: StatusRange,
    /// The time from one check to the next; 100 ms to 1 h, usually 5 s. One that was refused is repeated sooner, see
    /// [`crate::SidecarConfig::passive_health`].
    pub interval: ConfigDuration,
    /// How long a check may take; 10 ms to 5 min, usually 1 s.
    pub timeout: ConfigDuration,
    /// After how many checks in a row that passed it is healthy again; 1 to 100, usually 1.
    pub healthy_threshold: u32,
    /// After how many checks in a row that failed it is unhealthy; 1 to 100, usually 3. A connection that is refused needs no second
    /// one: then nobody listens.
    pub unhealthy_threshold: u32,
    /// What it counts as until the first check is done; unhealthy unless given, so that nobody is sent to an application that
    /// has not started yet.
    pub start: StartHealth,
}

/// The kinds of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// A TCP connection that is made.
    Tcp,
    /// A `GET` over HTTP/1.1, whose status is as expected.
    Http,
}

/// What counts until the first check is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartHealth {
    /// Nobody is sent there.
    Unhealthy,
    /// As if a check had passed.
    Healthy,
}

/// A range of HTTP status codes, both ends included: `200-399`, or `204`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

/// A check as a flag says it: `SERVICE.NAMESPACE[:PORT]=tcp` or `SERVICE.NAMESPACE[:PORT]=http:/PATH`. The rest is as usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec(HealthCheck);

const KIND: &str = "write tcp or http";
const START: &str = "write unhealthy or healthy";
const RANGE: &str = "write a status such as 204 or a range such as 200-399, from 100 to 599";
const SPEC: &str = "write SERVICE.NAMESPACE=tcp or SERVICE.NAMESPACE=http:/PATH, for example payments.shop=http:/healthz; a port may follow the name, as in payments.shop:80=tcp";

impl HealthCheck {
    /// The check of `kind` that is usual.
    fn usual(service: ServiceName, port: Option<u16>, kind: CheckKind) -> Self {
        Self {
            service,
            port,
            kind,
            path: None,
            host: None,
            expect: StatusRange { first: 200, last: 399 },
            interval: ConfigDuration::from_secs(5),
            timeout: ConfigDuration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 3,
            start: StartHealth::Unhealthy,
        }
    }

    /// Whether it is a check of `serve`.
    pub(crate) fn covers(&self, serve: &ServeSpec) -> bool {
        serve.service == self.service
            && serve.port.protocol != Protocol::Udp
            && self.port.is_none_or(|port| port == serve.port.port)
    }

    /// What it counts as until the first check is done.
    pub(crate) fn initial(&self) -> Health {
        match self.start {
            StartHealth::Healthy => Health::Healthy,
            StartHealth::Unhealthy => Health::Unhealthy,
        }
    }
}

impl StatusRange {
    /// Whether `status` is in it.
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// Reads the tables `[[health]]`; flags win over all of them.
pub(super) fn read(file: &Section, flags: Vec<HealthSpec>, serve: &[ServeSpec]) -> Vec<HealthCheck> {
    let written: Vec<HealthCheck> = file.tables("health").iter().filter_map(read_one).collect();
    let checks = if flags.is_empty() { written } else { flags.into_iter().map(|spec| spec.0).collect() };
    if checks.len() > MAX_CHECKS {
        file.reject("health", format!("{} checks, at most {MAX_CHECKS}", checks.len()));
    }
    for check in &checks {
        if !serve.iter().any(|serve| check.covers(serve)) {
            let port = check.port.map_or_else(String::new, |port| format!(":{port}"));
            file.reject(
                "health",
                format!("{}{port} is not served over TCP: check what serve names", check.service),
            );
        }
    }
    checks
}

fn read_one(section: &Section) -> Option<HealthCheck> {
    let service = section.required("service");
    let port = section.optional("port");
    let kind = section.required("kind");
    let path: Option<String> = section.optional("path");
    let host: Option<String> = section.optional("host");
    let expect = section.optional("expect");
    let (interval, timeout) = (section.optional("interval"), section.optional("timeout"));
    let healthy = section.optional("healthy-threshold");
    let unhealthy = section.optional("unhealthy-threshold");
    let start = section.optional("start");
    // every key was read by now, so that whatever is wrong with the others is told as well
    let usual = HealthCheck::usual(service?, port, kind?);
    let check = HealthCheck {
        expect: expect.unwrap_or(usual.expect),
        interval: interval.unwrap_or(usual.interval),
        timeout: timeout.unwrap_or(usual.timeout),
        healthy_threshold: healthy.unwrap_or(usual.healthy_threshold),
        unhealthy_threshold: unhealthy.unwrap_or(usual.unhealthy_threshold),
        start: start.unwrap_or(usual.start),
        path,
        host,
        ..usual
    };
    check_bounds(section, &check);
    Some(check)
}

fn check_bounds(section: &Section, check: &HealthCheck) {
    if check.port == Some(0) {
        section.reject("port", "write a port from 1 to 65535");
    }
    if check.kind == CheckKind::Tcp {
        for key in ["path", "host", "expect"] {
            if section.has(key) {
                section.reject(key, "only a check of kind \"http\" has it");
            }
        }
    }
    if check.path.as_ref().is_some_and(|path| !is_path(path)) {
        section.reject("path", "write an absolute path, such as /healthz");
    }
    if check
        .host
        .as_ref()
        .is_some_and(|host| host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        section.reject("host", "write a host name");
    }
    for (key, value, least, most, words) in [
        ("interval", check.interval, 100, 3_600_000, "write a duration from 100ms to 1h"),
        ("timeout", check.timeout, 10, 300_000, "write a duration from 10ms to 5m"),
    ] {
        if !(Duration::from_millis(least)..=Duration::from_millis(most)).contains(&*value) {
            section.reject(key, words);
        }
    }
    for (key, value) in
        [("healthy-threshold", check.healthy_threshold), ("unhealthy-threshold", check.unhealthy_threshold)]
    {
        if !(1..=100).contains(&value) {
            section.reject(key, "write a whole number from 1 to 100");
        }
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 1024 && path.parse::<hyper::http::uri::PathAndQuery>().is_ok()
}

impl FromStr for HealthSpec {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("health", s, SPEC);
        let (name, what) = s.split_once('=').ok_or_else(error)?;
        let (service, port) = match name.split_once(':') {
            Some((service, port)) => {
                (service, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?))
            }
            None => (name, None),
        };
        let service = service.parse().map_err(|_| error())?;
        let (kind, path) = match what.split_once(':') {
            None if what == "tcp" => (CheckKind::Tcp, None),
            None if what == "http" => (CheckKind::Http, None),
            Some(("http", path)) if is_path(path) => (CheckKind::Http, Some(path.to_owned())),
            _ => return Err(error()),
        };
        Ok(Self(HealthCheck { path, ..HealthCheck::usual(service, port, kind) }))
    }
}

impl FromStr for CheckKind {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "tcp" => Ok(Self::Tcp),
            "http" => Ok(Self::Http),
            _ => Err(ParseError::new("kind", s, KIND)),
        }
    }
}

impl FromStr for StartHealth {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "unhealthy" => Ok(Self::Unhealthy),
            "healthy" => Ok(Self::Healthy),
            _ => Err(ParseError::new("start", s, START)),
        }
    }
}

impl FromStr for StatusRange {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("expect", s, RANGE);
        let (first, last) = s.split_once('-').unwrap_or((s, s));
        let number =
            |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code)).ok_or_else(error);
        let range = Self { first: number(first)?, last: number(last)? };
        if range.first <= range.last { Ok(range) } else { Err(error()) }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_the_usual_check() {
        let check = |text: &str| text.parse::<HealthSpec>().unwrap().0;
        let tcp = check("pay.shop=tcp");
        assert_eq!((tcp.kind, tcp.port, tcp.path.as_deref()), (CheckKind::Tcp, None, None));
        assert_eq!((*tcp.interval, tcp.unhealthy_threshold), (Duration::from_secs(5), 3));
        let http = check("pay.shop:80=http:/healthz?deep=1");
        assert_eq!(
            (http.kind, http.port, http.path.as_deref()),
            (CheckKind::Http, Some(80), Some("/healthz?deep=1"))
        );
        assert_eq!(check("pay.shop=http").path, None);
        for wrong in
            ["pay.shop", "pay=tcp", "pay.shop=udp", "pay.shop=http:healthz", "pay.shop:0=tcp", "=tcp"]
        {
            let said = wrong.parse::<HealthSpec>().unwrap_err().to_string();
            assert!(said.contains("write SERVICE.NAMESPACE=tcp"), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_range_of_status_codes_is_read_and_shown() {
        let range: StatusRange = "200-399".parse().unwrap();
        assert!(range.contains(200) && range.contains(399) && !range.contains(199) && !range.contains(400));
        assert_eq!(
            (range.to_string().as_str(), "204".parse::<StatusRange>().unwrap().to_string().as_str()),
            ("200-399", "204")
        );
        for wrong in ["", "2xx", "99", "600", "300-200", "200-", "-200"] {
            assert!(wrong.parse::<StatusRange>().is_err(), "{wrong}");
        }
    }
}
