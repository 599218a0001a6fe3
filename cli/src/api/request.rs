//! One request to the admin API.

use super::OVERALL;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;
use ureq::http::Response;
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, Error, RequestBuilder};

/// How long a watch may be silent: the gateway sends an empty line every 10 s.
const SILENCE: Duration = Duration::from_secs(30);

/// What is asked, and how long the answer may take.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    path: String,
    body: Vec<u8>,
    within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Request {
    fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), body: Vec::new(), within: Some(OVERALL) }
    }

    fn with_body(method: Method, path: &str, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).context("cannot write the request as JSON")?;
        Ok(Self { body, ..Self::new(method, path) })
    }

    /// A `GET`.
    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::Get, path)
    }

    /// A `DELETE`.
    pub(crate) fn delete(path: &str) -> Self {
        Self::new(Method::Delete, path)
    }

    /// A `POST` of JSON.
    pub(crate) fn post(path: &str, body: &impl Serialize) -> Result<Self> {
        Self::with_body(Method::Post, path, body)
    }

    /// A `PUT` of JSON.
    pub(crate) fn put(path: &str, body: &impl Serialize) -> Result<Self> {
        Self::with_body(Method::Put, path, body)
    }

    /// Adds a query parameter, if there is one.
    pub(crate) fn query(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.path.push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(name);
            self.path.push('=');
            encode(value, &mut self.path);
        }
        self
    }

    /// Gives the answer this long in all.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Lets the answer go on for ever, once it has begun.
    pub(super) fn endless(mut self) -> Self {
        self.within = None;
        self
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn send(&self, agent: &Agent, url: &str, bearer: &str) -> Result<Response<Body>, Error> {
        match self.method {
            Method::Get => self.prepare(agent.get(url), bearer).call(),
            Method::Delete => self.prepare(agent.delete(url), bearer).call(),
            Method::Post => self.send_body(agent.post(url), bearer),
            Method::Put => self.send_body(agent.put(url), bearer),
        }
    }

    fn send_body(&self, builder: RequestBuilder<WithBody>, bearer: &str) -> Result<Response<Body>, Error> {
        let builder = builder.header("authorization", bearer).header("content-type", "application/json");
        builder.config().timeout_global(self.within).build().send(&self.body)
    }

    fn prepare(&self, builder: RequestBuilder<WithoutBody>, bearer: &str) -> RequestBuilder<WithoutBody> {
        let config = builder.header("authorization", bearer).config().timeout_global(self.within);
        match self.within {
            Some(_) => config.build(),
            // what may go on for ever must begin in time, and not fall silent
            None => config.timeout_recv_response(Some(OVERALL)).timeout_per_read(Some(SILENCE)).build(),
        }
    }
}

/// Appends `text`, percent-encoded where it is not unreserved (RFC 3986 section 2.3).
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // writing to a string cannot fail
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded_and_absent_ones_left_out() {
        let request = Request::get("/v1/services").query("name", None).query("region", Some("a b&c=ü"));
        assert_eq!(request.path(), "/v1/services?region=a%20b%26c%3D%C3%BC");
        assert_eq!(
            request.query("limit", Some("5")).path(),
            "/v1/services?region=a%20b%26c%3D%C3%BC&limit=5"
        );
    }
}
