//! The CLI's own verbs, run as an operator would: as processes, with their output caught.

use super::child::Place;
use anyhow::{Context, Result, bail};
use causeway_gateway::admin::api::{Offer, Service, ServicePage, Workload};
use serde::de::DeserializeOwned;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a verb may take.
const LIMIT: Duration = Duration::from_secs(40);

/// What a verb said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
    pub(super) took: Duration,
}

impl Place {
    /// Runs `causeway ARGS`.
    pub(super) async fn verb(&self, args: &[&str]) -> Result<Said> {
        let line = || format!("causeway {}", args.first().copied().unwrap_or_default());
        let mut command = tokio::process::Command::from(self.command());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let start = Instant::now();
        let output = match tokio::time::timeout(LIMIT, command.output()).await {
            Ok(output) => output.with_context(|| format!("cannot run `{}`", line()))?,
            Err(_) => bail!("`{}` did not end within {LIMIT:?}", line()),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(Said {
            ok: output.status.success(),
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
            took: start.elapsed(),
        })
    }

    /// What a verb that must succeed writes to standard output.
    pub(super) async fn out(&self, args: &[&str]) -> Result<String> {
        let said = self.verb(args).await?;
        if !said.ok {
            // a token may be among the arguments
            let shown: Vec<_> = args.iter().filter(|arg| !arg.starts_with("cw")).copied().collect();
            bail!("`causeway {}` failed:\n{}", shown.join(" "), said.err);
        }
        Ok(said.out)
    }

    async fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let out = self.out(args).await?;
        serde_json::from_str(&out)
            .with_context(|| format!("`causeway {}` wrote no such JSON", args.join(" ")))
    }

    /// What the gateway of a context knows of services.
    pub(super) async fn services(&self, context: &str) -> Result<Vec<Service>> {
        let page: ServicePage = self.json(&["services", "-o", "json", "--context", context]).await?;
        Ok(page.services)
    }

    /// The workloads that the gateway of a context knows.
    pub(super) async fn workloads(&self, context: &str) -> Result<Vec<Workload>> {
        self.json(&["workloads", "-o", "json", "--context", context]).await
    }
}

/// A cluster's offer of a service, if it is among those.
pub(super) fn offer<'a>(services: &'a [Service], name: &str, cluster: &str) -> Option<&'a Offer> {
    let service = services.iter().find(|service| service.name == name)?;
    service.offers.iter().find(|offer| offer.cluster == cluster)
}

/// An offer in one line.
pub(super) fn describe(name: &str, offer: &Offer) -> String {
    let stale = offer.stale_for.map_or("not stale".to_owned(), |seconds| format!("stale for {seconds} s"));
    format!(
        "{name}: cluster {}, region {}, zones {}, {}/{} healthy, {}, {stale}",
        offer.cluster,
        offer.region,
        offer.zones.join(","),
        offer.healthy,
        offer.total,
        offer.origin
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Vec<Service> {
        let json = r#"[{"name": "payments.shop", "offers": [{"cluster": "phx", "region": "us-phoenix-1", "zones": ["AD-1"],
            "ports": ["80/tcp"], "healthy": 2, "total": 2, "origin": "imported", "exported_to": [], "identities": [],
            "stale_for": null, "endpoints": []}]}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_offer_is_found_and_described() {
        let services = services();
        assert!(offer(&services, "payments.shop", "iad").is_none());
        assert!(offer(&services, "orders.shop", "phx").is_none());
        let found = offer(&services, "payments.shop", "phx").unwrap();
        assert_eq!(
            describe("payments.shop", found),
            "payments.shop: cluster phx, region us-phoenix-1, zones AD-1, 2/2 healthy, imported, not stale"
        );
    }

    #[tokio::test]
    async fn a_verb_that_fails_is_told_with_its_error() {
        let place = Place { exe: "/bin/sh".into(), dir: "/nonexistent".into() };
        let said = place.verb(&["-c", "echo out; echo why >&2; exit 3"]).await.unwrap();
        assert_eq!(
            (said.ok, said.code, said.out.as_str(), said.err.as_str()),
            (false, Some(3), "out", "why")
        );
        let error = place.out(&["-c", "echo why >&2; exit 1"]).await.unwrap_err().to_string();
        assert!(error.ends_with("failed:\nwhy"), "{error}");
    }
}
