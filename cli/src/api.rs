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
use std::time::Duration;
use unreachable::explain;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

/// How long a connection may take, with TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a request may take in all, unless it says otherwise.
const OVERALL: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// A cluster's admin API.
#[derive(Debug)]
pub(crate) struct Api {
    access: Access,
    agent: Agent,
}

impl Api {
    /// The API of the cluster that is meant.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        Self::new(target.access(|name| std::env::var_os(name))?)
    }

    /// The API of a cluster. Nothing is sent yet.
    pub(crate) fn new(access: Access) -> Result<Self> {
        let agent = agent(&access)?;
        Ok(Self { access, agent })
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

    /// The answer to a request before its body is read.
    pub(crate) fn respond(&self, request: &Request) -> Result<Response<Body>> {
        let (url, bearer) = (self.url(request), format!("Bearer {}", self.access.file.credential));
        let sent = request.send(&self.agent, &url, &bearer);
        let response = sent.map_err(|error| explain(&url, &self.access.origin, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).into()) }
    }

    /// The body of an answer.
    pub(crate) fn read<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T> {
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_json();
        let admin = &self.access.file.admin;
        Ok(read.map_err(|error| explain(admin, &self.access.origin, &error))?)
    }

    fn url(&self, request: &Request) -> String {
        format!("{}{}", self.access.file.admin, request.path())
    }

    /// What a refused request is told as.
    fn problem(&self, mut response: Response<Body>) -> Failure {
        let status = response.status();
        let admin = &self.access.file.admin;
        let told = response.body_mut().with_config().limit(1 << 20).read_json::<Problem>();
        let failure = match told {
            Ok(problem) => Failure::new(problem.reason, problem.message),
            Err(_) => Failure::new("not_a_gateway", format!("{admin} answered HTTP {status}"))
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
