//! A client of the admin API that keeps its connection, as a controller does.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

#[derive(Deserialize)]
struct Context {
    admin: String,
    credential: String,
    ca: String,
}

/// The admin API of one gateway, over a connection of its own.
pub(crate) struct Operator {
    url: String,
    bearer: String,
    agent: Agent,
}

impl Operator {
    /// The API that the context file at `path` leads to.
    pub(crate) fn of(path: &Path) -> Self {
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
            .http_status_as_error(true)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)))
            .build();
        Self {
            url: context.admin,
            bearer: format!("Bearer {}", context.credential),
            agent: config.new_agent(),
        }
    }

    /// `PUT PATH` of JSON, which must succeed.
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let request = self.agent.put(format!("{}{path}", self.url)).header("authorization", &self.bearer);
        let answer = request.send(body.to_string()).and_then(|mut answer| answer.body_mut().read_to_vec());
        answer.unwrap_or_else(|error| panic!("PUT {path}: {error}"));
    }

    /// `DELETE PATH`, which must succeed.
    pub(crate) fn delete(&self, path: &str) {
        let request = self.agent.delete(format!("{}{path}", self.url)).header("authorization", &self.bearer);
        let answer = request.call().and_then(|mut answer| answer.body_mut().read_to_vec());
        answer.unwrap_or_else(|error| panic!("DELETE {path}: {error}"));
    }
}
