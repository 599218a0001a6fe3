//! `causeway ca`: the cluster's certificate authority.

use crate::api::{Api, Request};
use crate::context::Target;
use crate::failure::Failure;
use crate::output::{self, Output, Table, instant, yes_no};
use anyhow::{Context, Result};
use causeway_gateway::admin::api::{Ca, Rotate, Rotated};
use causeway_runtime::ConfigDuration;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked at while a rotation is waited for.
const LOOK: Duration = Duration::from_millis(250);

/// What `causeway ca` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the roots, and what a rotation waits for
    Show(Show),
    /// Replace the root: announced to everybody, then used, then the older one is dropped
    Rotate(RotateArgs),
    /// Use the announced root now, though not everybody has it
    Activate(Activate),
    /// Trust a root no longer
    Drop(DropArgs),
}

impl Command {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Show(args) => args.run(),
            Self::Rotate(args) => args.run(),
            Self::Activate(args) => args.run(),
            Self::Drop(args) => args.run(),
        }
    }
}

const SHOW: &str = "\
STATE is signing, announced (trusted, signs nothing yet) or kept (older, still trusted). IN USE: somebody who is connected \
has a certificate of it.

Examples:
  causeway ca show
  causeway ca show --pem > roots.pem";

#[derive(Debug, clap::Args)]
#[command(after_help = SHOW)]
pub(crate) struct Show {
    /// Write the trusted root certificates (PEM) and nothing else
    #[arg(long)]
    pem: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Show {
    fn run(&self) -> Result<()> {
        let ca: Ca = Api::of(&self.target)?.get("/v1/ca")?;
        if self.pem {
            let pem: String = ca.roots.iter().map(|root| root.pem.as_str()).collect();
            return output::say(pem.trim_end());
        }
        self.output.show(&ca, details)
    }
}

fn details(ca: &Ca) -> String {
    let mut facts = Table::headless();
    facts.fact("trust domain", ca.trust_domain.as_str());
    facts.fact("signing since", instant(ca.activated_at));
    if !ca.intermediates.is_empty() {
        facts.fact("signer, SHA-256", ca.intermediates.join(", "));
    }
    facts.fact("rotation", if ca.rotating { "under way" } else { "none" });
    for waits_for in &ca.waits_for {
        facts.fact("waits for", waits_for.as_str());
    }
    if let Some(warning) = &ca.warning {
        facts.fact("warning", warning.as_str());
    }
    let mut roots = Table::new(["ROOT, SHA-256", "STATE", "IN USE", "ENDS"]);
    for root in &ca.roots {
        roots.row([
            root.fingerprint.clone(),
            root.state.clone(),
            yes_no(root.in_use).to_owned(),
            root.not_after.map(instant).unwrap_or_default(),
        ]);
    }
    format!("{facts}\n\n{roots}")
}

const ROTATE: &str = "\
The new root is announced first; it signs when every gateway, every sidecar and everybody in every linked cluster has it; then \
gateways and sidecars renew, and when nobody who is connected has a certificate of the older root it is kept for --keep, for \
workloads that are stopped meanwhile, and dropped. Nothing restarts and no connection breaks. `causeway ca show` says what it \
waits for. Contexts of this command line that a gateway wrote are brought up to date by it; copies need `ca show --pem`.

With --certificates and --key the root is yours: PEM, the certificate whose key is given first, the root last.

Examples:
  causeway ca rotate
  causeway ca rotate --keep 0s --wait 2m
  causeway ca rotate --certificates chain.pem --key intermediate.key";

#[derive(Debug, clap::Args)]
#[command(after_help = ROTATE)]
pub(crate) struct RotateArgs {
    /// For how long the older root stays trusted once nobody who is connected has a certificate of it; at most 90 days
    #[arg(long, value_name = "DURATION", default_value = "25h")]
    keep: ConfigDuration,
    /// A certificate authority of your own: its certificates (PEM file), the signer first, the root last
    #[arg(long, value_name = "FILE", requires = "key")]
    certificates: Option<PathBuf>,
    /// The signer's private key (PEM file, PKCS#8 or SEC1, not encrypted)
    #[arg(long, value_name = "FILE", requires = "certificates")]
    key: Option<PathBuf>,
    /// Wait until the rotation has ended, for so long at most; 0s returns at once
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: ConfigDuration,
    #[command(flatten)]
    target: Target,
}

impl RotateArgs {
    fn run(&self) -> Result<()> {
        let read = |path: &Option<PathBuf>| -> Result<Option<String>> {
            let read = |path: &PathBuf| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            path.as_ref().map(read).transpose()
        };
        let body = Rotate {
            keep_seconds: Some(self.keep.get().as_secs()),
            certificates: read(&self.certificates)?,
            key: read(&self.key)?,
        };
        let api = Api::of(&self.target)?;
        let made: Rotated = api.post("/v1/ca/rotate", &body)?;
        output::note(&format!(
            "# root {} is announced; `causeway ca show` says how far the rotation is",
            made.root
        ));
        self.wait(&api)
    }

    fn wait(&self, api: &Api) -> Result<()> {
        let wait = self.wait.get();
        if wait.is_zero() {
            return Ok(());
        }
        let deadline = Instant::now() + wait;
        loop {
            let ca: Ca = api.get("/v1/ca")?;
            if !ca.rotating {
                return output::say("the rotation has ended");
            }
            if Instant::now() >= deadline {
                let mut failure =
                    Failure::new("timeout", format!("the rotation has not ended within {wait:?}"))
                        .fix("look again with `causeway ca show`: the rotation goes on");
                for waits_for in &ca.waits_for {
                    failure = failure.cause(format!("it waits for {waits_for}"));
                }
                return Err(failure.into());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Use the announced root now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Who has not taken the root yet refuses everybody whose certificate it signs, until it has. Meant for a rotation that waits for a \
cluster that will not come back; better remove that link.

Examples:
  causeway ca activate --yes")]
pub(crate) struct Activate {
    /// Connections may be refused: do it all the same
    #[arg(long, required = true)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

impl Activate {
    fn run(&self) -> Result<()> {
        let empty = serde_json::json!({});
        Api::of(&self.target)?.send::<serde_json::Value>(&Request::post("/v1/ca/activate", &empty)?)?;
        output::say("the announced root signs now")
    }
}

/// Trust a root no longer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of a root that is only announced it ends the rotation. Who still has a certificate of a dropped root cannot connect any more and \
has to join again. The root that signs cannot be dropped.

Examples:
  causeway ca drop 3f9a20c1")]
pub(crate) struct DropArgs {
    /// The root's SHA-256, or the first 8 or more digits of it
    #[arg(value_name = "ROOT")]
    root: String,
    #[command(flatten)]
    target: Target,
}

impl DropArgs {
    fn run(&self) -> Result<()> {
        Api::of(&self.target)?.delete(&format!("/v1/ca/roots/{}", self.root))?;
        output::say(&format!("root {} is not trusted any more", self.root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_gateway::admin::api::CaRoot;

    #[test]
    fn a_rotation_is_shown_with_what_it_waits_for() {
        let root = |fingerprint: &str, state: &str, in_use| CaRoot {
            fingerprint: fingerprint.into(),
            state: state.into(),
            in_use,
            not_after: None,
            pem: String::new(),
        };
        let ca = Ca {
            trust_domain: "iad.mesh".into(),
            roots: vec![root("aa", "signing", true), root("bb", "announced", false)],
            intermediates: Vec::new(),
            activated_at: 0,
            rotating: true,
            waits_for: vec!["everybody in cluster phx".into()],
            warning: None,
        };
        let shown = details(&ca);
        assert!(shown.contains("waits for      everybody in cluster phx\n"), "{shown}");
        let expected = "\
ROOT, SHA-256  STATE      IN USE  ENDS
aa             signing    yes     -
bb             announced  no      -";
        assert!(shown.ends_with(expected), "{shown}");
    }
}
