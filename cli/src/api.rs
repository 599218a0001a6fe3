//! The client of the admin API: HTTPS that trusts the cluster's own root, a bearer credential, and errors that say what to
//! try.
//!
//! What is asked and answered is `causeway_gateway::admin::api`.

mod request;
mod roots;
mod unreachable;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use request::Request;
pub(crate) use roots::roots;
pub(crate) use watch::{Watch, ended};

use crate::context::{Access, Target};
use crate::failure::Failure;
use anyhow::Result;
use causeway_gateway::admin::api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use unreachable::explain;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

/// How long a connection may take, with TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a request may take in all, unless it says otherwise.
const OVERALL: Duration = Duration::from_secs(10);
/// Reasons for which a request did not reach anybody.
const UNREACHED: [&str; 4] = ["refused", "connect_timeout", "no_route", "host_not_found"];
/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// A cluster's admin API.
#[derive(Debug)]
pub(crate) struct Api {
    access: Access,
    agent: Agent,
    /// The gateways of the context, the first one first.
    addresses: Vec<String>,
    /// The one that is asked first: it answered last.
    current: AtomicUsize,
}

impl Api {
    /// The API of the cluster that is meant.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        Self::new(target.access(|name| std::env::var_os(name))?)
    }

    /// The API of a cluster. Nothing is sent yet.
    pub(crate) fn new(access: Access) -> Result<Self> {
        let agent = agent(&access)?;
        let file = &access.file;
        let addresses = std::iter::once(&file.admin).chain(&file.also).cloned().collect();
        Ok(Self { access, agent, addresses, current: AtomicUsize::new(0) })
    }

    /// What the requests go to.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The answer to a request.
    pub(crate) fn send<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        self.read(self.respond(request)?)
    }

    /// The answer to a `GET` of `path`.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(&Request::get(path))
    }

    /// The answer to a `POST` of `body`.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.send(&Request::post(path, body)?)
    }

    /// Deletes what is at `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.send::<serde_json::Value>(&Request::delete(path)).map(drop)
    }

    /// The lines that the gateway sends until it ends or the caller has enough.
    pub(crate) fn watch(&self, request: &Request) -> Result<Watch> {
        Ok(Watch::new(self.respond(&request.clone().endless())?))
    }

    /// The gateway that is asked.
    pub(crate) fn address(&self) -> &str {
        self.addresses.get(self.current.load(Relaxed)).map_or("", String::as_str)
    }

    /// Asks the next gateway of the context from now on, if there is another.
    pub(crate) fn try_another(&self) {
        self.current.store((self.current.load(Relaxed) + 1) % self.addresses.len(), Relaxed);
    }

    /// The answer to a request before its body is read. Another gateway of the context is asked when one cannot be reached,
    /// and so has not heard of the request.
    pub(crate) fn respond(&self, request: &Request) -> Result<Response<Body>> {
        self.reach(|| self.respond_here(request))
    }

    /// The answer to a request, or what the gateway says in more words than a [`Problem`] has when it does not do it.
    pub(crate) fn ask<T: DeserializeOwned, E: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<Result<T, E>> {
        let mut response = self.reach(|| self.exchange(request))?;
        let status = response.status();
        if status.is_success() {
            return self.read(response).map(Ok);
        }
        let told = response.body_mut().with_config().limit(MAX_ANSWER).read_json::<serde_json::Value>().ok();
        let access = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match told.clone().filter(|_| !access).map(serde_json::from_value) {
            Some(Ok(told)) => Ok(Err(told)),
            _ => Err(self.refusal(status, told.and_then(|told| serde_json::from_value(told).ok())).into()),
        }
    }

    /// What `attempt` gives with the first gateway that can be reached.
    fn reach<R>(&self, attempt: impl Fn() -> Result<R, Failure>) -> Result<R> {
        let mut first: Option<Failure> = None;
        for _ in &self.addresses {
            let failure = match attempt() {
                Ok(response) => return Ok(response),
                Err(failure) if UNREACHED.contains(&failure.reason.as_str()) => failure,
                Err(failure) => return Err(failure.into()),
            };
            let nor = format!("nor can {}: {}", self.address(), failure.causes.join("; "));
            first = Some(first.map(|first| first.cause(nor)).unwrap_or(failure));
            self.try_another();
        }
        Err(first.unwrap_or_else(|| Failure::new("unreachable", "the context names no gateway")).into())
    }

    fn respond_here(&self, request: &Request) -> Result<Response<Body>, Failure> {
        let response = self.exchange(request)?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response)) }
    }

    /// The answer of the gateway that is asked, whatever it is.
    fn exchange(&self, request: &Request) -> Result<Response<Body>, Failure> {
        let (url, bearer) = (self.url(request), format!("Bearer {}", self.access.file.credential));
        let sent = request.send(&self.agent, &url, &bearer);
        sent.map_err(|error| explain(&url, &self.access.origin, &error))
    }

    /// The body of an answer.
    pub(crate) fn read<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T> {
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_json();
        Ok(read.map_err(|error| explain(self.address(), &self.access.origin, &error))?)
    }

    fn url(&self, request: &Request) -> String {
        format!("{}{}", self.address(), request.path())
    }

    /// What a refused request is told as.
    fn problem(&self, mut response: Response<Body>) -> Failure {
        let told = response.body_mut().with_config().limit(1 << 20).read_json::<Problem>();
        self.refusal(response.status(), told.ok())
    }

    /// What a request is told as that was answered with `status` and `told`.
    fn refusal(&self, status: StatusCode, told: Option<Problem>) -> Failure {
        let admin = self.address();
        let failure = match told {
            Some(problem) => Failure::new(problem.reason, problem.message),
            None => Failure::new("not_a_gateway", format!("{admin} answered HTTP {status}"))
                .cause("that is no answer of an admin API: something else listens there, or a proxy is in between")
                .fix("give --admin with the address that the gateway's --admin has"),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => failure
                .cause(format!("the credential of {} was not accepted", self.access.origin))
                .fix("use the context that this gateway's cluster wrote: --context NAME"),
            StatusCode::NOT_FOUND if is_unknown_path(&failure) => {
                failure.fix("compare the releases: `causeway --version` here and `causeway status`")
            }
            _ => failure,
        }
    }
}

/// Whether it is the path that the gateway does not know, and not the thing asked for.
fn is_unknown_path(failure: &Failure) -> bool {
    failure.reason == "not_a_gateway"
}

fn agent(access: &Access) -> Result<Agent> {
    let roots = roots(&access.file.ca, &access.origin)?;
    let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(causeway_identity::provider())
        .root_certs(RootCerts::new_with_certs(&roots))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        // a gateway is reached directly; a proxy for the web does not know it
        .proxy(None)
        .user_agent(concat!("causeway/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(OVERALL))
        .build();
    Ok(config.new_agent())
}
