//! `causeway revoke`, `reinstate` and `revocations`: certificates that are refused before they expire.

use super::listing::Listing;
use crate::api::{Api, Request};
use crate::context::Target;
use crate::output::{self, Table, instant};
use anyhow::Result;
use causeway_gateway::admin::api::{self, Revocation};

const REVOKE: &str = "\
Certificates of the subject that were issued until now are refused in this cluster and in every linked one, and connections made \
with them end within 5 s. Tokens of the identity are revoked, too. A new token gives the identity a new, good certificate.

--workload revokes the keys of the certificates that the workload has: the newest, and up to three before it. One that may have \
asked for more is shut out by its identity alone.

Examples:
  causeway revoke shop/payments
  causeway revoke spiffe://iad.mesh/ns/shop/sa/payments
  causeway revoke --workload 5f1c2a9b00d4e6f7";

/// Refuse the certificates of an identity, or of one workload, from now on
#[derive(Debug, clap::Args)]
#[command(after_help = REVOKE)]
#[group(id = "whom", required = true, multiple = false)]
pub(crate) struct Revoke {
    /// The identity: NAMESPACE/ACCOUNT, or a SPIFFE ID of this cluster
    #[arg(value_name = "IDENTITY", group = "whom")]
    identity: Option<String>,
    /// Only the certificates of this live workload
    #[arg(long, value_name = "ID", group = "whom")]
    workload: Option<String>,
    /// Only certificates of this public key: key: and its SHA-256
    #[arg(long, value_name = "KEY", group = "whom")]
    key: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Revoke {
    pub(crate) fn run(&self) -> Result<()> {
        let body = api::Revoke {
            identity: self.identity.clone(),
            workload: self.workload.clone(),
            key: self.key.clone(),
        };
        let made: Vec<Revocation> = Api::of(&self.target)?.post("/v1/revocations", &body)?;
        let line = |made: &Revocation| {
            format!("revoked: {}, issued until {}", made.subject, instant(made.issued_before))
        };
        output::say(&made.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// Accept revoked certificates again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tokens that the revocation ended stay revoked.

Examples:
  causeway reinstate spiffe://iad.mesh/ns/shop/sa/payments")]
pub(crate) struct Reinstate {
    /// A SPIFFE ID or key as `causeway revocations` shows it
    #[arg(value_name = "SUBJECT")]
    subject: String,
    #[command(flatten)]
    target: Target,
}

impl Reinstate {
    pub(crate) fn run(&self) -> Result<()> {
        let request = Request::delete("/v1/revocations").query("subject", Some(&self.subject));
        Api::of(&self.target)?.send::<serde_json::Value>(&request)?;
        output::say(&format!("{} is accepted again", self.subject))
    }
}

/// List the revocations of this cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A revocation is forgotten when everything that it refuses has expired.

Examples:
  causeway revocations
  causeway revocations -o json")]
pub(crate) struct Revocations {
    #[command(flatten)]
    listing: Listing,
}

impl Revocations {
    pub(crate) fn run(&self) -> Result<()> {
        self.listing.show("/v1/revocations", table)
    }
}

fn table(revocations: &[Revocation]) -> String {
    let mut table = Table::new(["SUBJECT", "ISSUED UNTIL", "FORGOTTEN", "BY"]);
    for revocation in revocations {
        table.row([
            revocation.subject.clone(),
            instant(revocation.issued_before),
            instant(revocation.ends_at),
            revocation.by.clone(),
        ]);
    }
    table.to_string()
}
