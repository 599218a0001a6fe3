//! `causeway diff`: what applying files would change.

use super::documents::{self, Files, Found, short};
use super::usage;
use crate::api::Api;
use crate::context::Target;
use crate::output::{self, OutputClosed};
use crate::report::report;
use anyhow::{Context, Result};
use causeway_gateway::admin::api::{API_VERSION, Action, AppliedDocument, Document, Metadata};
use serde_json::{Map, Value};
use similar::TextDiff;
use std::process::ExitCode;

/// The exit code when something differs.
const DIFFERS: u8 = 1;
/// The exit code when that cannot be said.
const FAILED: u8 = 2;

const AFTER: &str = "\
Lines with - are what the cluster has, lines with + what the files say; fields that the files leave out stand there with \
their defaults. Nothing is changed.

Exit codes:
  0 the cluster is as the files say
  1 something differs
  2 failed, or a document is wrong; standard error says why

Examples:
  causeway diff -f mesh.yaml
  causeway diff -f clusters/iad/ || causeway apply -f clusters/iad/";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    target: Target,
}

impl Args {
    /// Not a result: what is an error for other commands has a code of its own here.
    pub(crate) fn run(&self) -> ExitCode {
        match self.compare() {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(DIFFERS),
            Err(error) if error.is::<OutputClosed>() => ExitCode::from(DIFFERS),
            Err(error) => {
                report(&error);
                ExitCode::from(FAILED)
            }
        }
    }

    /// Writes every difference down; whether there is one.
    fn compare(&self) -> Result<bool> {
        if self.files.is_empty() {
            return Err(usage("name the documents: -f FILE, -f FOLDER or -f - for standard input"));
        }
        let found = self.files.read()?;
        let planned = documents::apply(&Api::of(&self.target)?, &found, true, |_| Ok(()))?;
        let mut differs = false;
        for (document, found) in planned.iter().zip(&found) {
            if document.action != Action::Unchanged {
                differs = true;
                output::say(&difference(document, found)?)?;
            }
        }
        Ok(differs)
    }
}

/// The unified diff of one document.
fn difference(document: &AppliedDocument, found: &Found) -> Result<String> {
    let (before, after) =
        (text(document, document.before.as_ref())?, text(document, document.after.as_ref())?);
    let name = short(&document.kind, &document.name);
    let old = if document.before.is_some() { format!("{name} (cluster)") } else { "/dev/null".to_owned() };
    let new = format!("{name} ({})", found.place(""));
    Ok(TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(100)
        .header(&old, &new)
        .to_string())
}

/// The document with `spec` as YAML; nothing when there is none.
fn text(document: &AppliedDocument, spec: Option<&Value>) -> Result<String> {
    let Some(spec) = spec else { return Ok(String::new()) };
    let document = Document {
        api_version: API_VERSION.to_owned(),
        kind: document.kind.clone(),
        metadata: Metadata { name: document.name.clone() },
        spec: spec.as_object().cloned().unwrap_or_default(),
        status: Map::new(),
    };
    documents::yaml(&[document]).context("cannot write YAML")
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_gateway::admin::api::Progress;
    use serde_json::json;

    fn planned(before: Option<Value>) -> AppliedDocument {
        AppliedDocument {
            kind: "Export".into(),
            name: "orders.shop".into(),
            action: if before.is_some() { Action::Configured } else { Action::Created },
            state: Progress::Planned,
            changes: vec![],
            done: vec![],
            before,
            after: Some(json!({ "to": ["phx"] })),
        }
    }

    fn found() -> Found {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.yaml");
        std::fs::write(&path, "\nkind: Export\n").unwrap();
        let args = <FilesOnly as clap::Parser>::parse_from(["x", "-f", path.to_str().unwrap()]);
        let mut found = args.files.read().unwrap().remove(0);
        found.file = "mesh.yaml".into();
        found
    }

    #[derive(clap::Parser)]
    struct FilesOnly {
        #[command(flatten)]
        files: Files,
    }

    #[test]
    fn a_difference_is_unified() {
        let head = "--- export/orders.shop (cluster)\n+++ export/orders.shop (mesh.yaml:2)\n";
        let told = difference(&planned(Some(json!({ "to": ["lhr", "phx"] }))), &found()).unwrap();
        assert!(told.starts_with(head), "{told}");
        let lines: Vec<&str> =
            told.lines().filter(|line| line.starts_with('-') && !line.starts_with("---")).collect();
        assert_eq!(lines.len(), 1, "{told}");
        assert!(lines[0].trim_start_matches(['-', ' ']) == "lhr" && !told.contains("\n+ "), "{told}");
    }

    #[test]
    fn what_is_new_stands_against_nothing() {
        let told = difference(&planned(None), &found()).unwrap();
        assert!(told.starts_with("--- /dev/null\n+++ export/orders.shop (mesh.yaml:2)\n"), "{told}");
        assert!(told.contains("\n+kind: Export\n") && !told.contains("\n-"), "{told}");
    }
}
