//! A client of one gateway's admin API that says what is known of a request's outcome. Every request has a connection of its own,
//! so that none fails for what happened to an earlier one.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Error, RequestBuilder, Timeout};

/// How long a request may take: more than the 3 s in which a gateway answers every change.
const OVERALL: Duration = Duration::from_secs(5);
/// How long a watch may be silent: a gateway sends an empty line every 10 s.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a connection may take, with TLS.
const CONNECT: Duration = Duration::from_secs(1);
/// The largest answer, in bytes.
const MOST: u64 = 64 << 20;

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done, with this answer.
    Done(Value),
    /// Refused: nothing was changed.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable word.
        reason: String,
        /// What the operator is told.
        message: String,
    },
    /// It may have been done, or may still be.
    Unknown(String),
}

impl Answer {
    /// The answer of a request that must succeed.
    #[track_caller]
    pub fn done(self) -> Value {
        match self {
            Self::Done(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// Why it was refused, if it was.
    pub fn reason(&self) -> Option<&str> {
        if let Self::Refused { reason, .. } = self { Some(reason) } else { None }
    }
}

/// The fields of a context file that lead to an admin API.
#[derive(Deserialize)]
struct Context {
    admin: String,
    credential: String,
    ca: String,
}

/// The admin API of one gateway. Clones share nothing but settings.
#[derive(Clone)]
pub struct Admin {
    name: String,
    url: String,
    bearer: String,
    agent: Agent,
    within: Duration,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Admin {
    /// The API that the context file at `path` leads to.
    pub fn of(name: &str, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a context file can be read");
        let context: Context = toml::from_str(&text).expect("a context file is TOML");
        let roots: Vec<_> = CertificateDer::pem_slice_iter(context.ca.as_bytes())
            .map(|root| Certificate::from_der(&root.expect("a root certificate")).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(causeway_identity::provider())
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(OVERALL))
            .build();
        let bearer = format!("Bearer {}", context.credential);
        Self { name: name.to_owned(), url: context.admin, bearer, agent: config.new_agent(), within: OVERALL }
    }

    /// The same for a client that waits no longer than this for any answer.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// The gateway's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `GET PATH`.
    pub fn get(&self, path: &str) -> Answer {
        answer(self.prepared(self.agent.get(self.at(path))).call())
    }

    /// `DELETE PATH`.
    pub fn delete(&self, path: &str) -> Answer {
        answer(self.prepared(self.agent.delete(self.at(path))).call())
    }

    /// `PUT PATH` of JSON.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        answer(self.prepared(self.agent.put(self.at(path))).send(body.to_string()))
    }

    /// `POST PATH` of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.prepared(self.agent.post(self.at(path))).send(body.to_string()))
    }

    fn prepared<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let connect = CONNECT.min(self.within.mul_f64(0.6));
        let request =
            request.header("authorization", &self.bearer).config().timeout_global(Some(self.within));
        request.timeout_connect(Some(connect)).build()
    }

    /// The lines of an endless answer, without the empty ones.
    ///
    /// # Errors
    /// It does not begin, in words.
    pub fn lines(&self, path: &str) -> Result<impl Iterator<Item = String> + use<>, String> {
        let request = self.agent.get(self.at(path)).header("authorization", &self.bearer).config();
        let request = request.timeout_global(None).timeout_recv_response(Some(OVERALL));
        let response =
            request.timeout_per_read(Some(SILENCE)).build().call().map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("HTTP {}", response.status()));
        }
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        Ok(lines.map_while(Result::ok).filter(|line| !line.trim().is_empty()))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

fn answer(sent: Result<Response<Body>, Error>) -> Answer {
    match sent {
        Ok(response) => read(response),
        // nobody listens, or who listens does not speak TLS in time: nothing was sent
        Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => away(&error),
        Err(error @ Error::Timeout(Timeout::Connect)) => away(&error),
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

fn away(error: &dyn fmt::Display) -> Answer {
    Answer::Refused { status: 0, reason: "not-running".into(), message: error.to_string() }
}

fn read(mut response: Response<Body>) -> Answer {
    let status = response.status().as_u16();
    let body = match response.body_mut().with_config().limit(MOST).read_json::<Value>() {
        Ok(body) => body,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    if status < 300 {
        return Answer::Done(body);
    }
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (reason, message) = (text("reason"), text("message"));
    // the words by which a gateway says that it does not know the outcome
    if status == 504 || status == 500 || reason.is_empty() {
        return Answer::Unknown(format!("{reason}: {message}"));
    }
    Answer::Refused { status, reason, message }
}
