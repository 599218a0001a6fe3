//! `causeway apply`: makes the cluster what files say.

use super::documents::{self, Files, short};
use super::usage;
use crate::api::Api;
use crate::context::Target;
use crate::output;
use anyhow::Result;
use causeway_gateway::admin::api::{Action, AppliedDocument, Progress};

const AFTER: &str = "\
Every document is checked before anything is changed, and every mistake is told at once, with file and line. Services are \
applied first, then exports, then links. A field that is left out has its default (`causeway explain KIND`), `status` is not \
looked at. Applying the same files again changes nothing and writes nothing. What no file names stays as it is.

A link that does not stand yet is made with `spec.token`; where it stands, the token is not looked at. No output shows it.

Examples:
  causeway apply -f mesh.yaml
  causeway apply -f clusters/iad/ -f exports.yaml --dry-run
  causeway apply -f clusters/ --check            # in a pipeline
  causeway get all -o yaml | causeway apply -f -";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Only check the form of the documents; no gateway is asked
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        if self.files.is_empty() {
            return Err(usage("name the documents: -f FILE, -f FOLDER or -f - for standard input"));
        }
        let found = self.files.read()?;
        if self.check {
            documents::check(&found)?;
            let s = if found.len() == 1 { "" } else { "s" };
            return output::say(&format!("{} document{s} of the right form", found.len()));
        }
        let api = Api::of(&self.target)?;
        let say = |document: &AppliedDocument| output::say(&line(document));
        let applied = documents::apply(&api, &found, self.dry_run, say)?;
        applied.iter().try_for_each(say)
    }
}

/// `export/orders.shop created`.
fn line(document: &AppliedDocument) -> String {
    let action = match document.action {
        Action::Created => "created",
        Action::Configured => "configured",
        Action::Unchanged => "unchanged",
    };
    let dry = if document.state == Progress::Planned { " (dry run)" } else { "" };
    format!("{} {action}{dry}", short(&document.kind, &document.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_a_line() {
        let mut document = AppliedDocument {
            kind: "Export".into(),
            name: "orders.shop".into(),
            action: Action::Created,
            state: Progress::Done,
            changes: vec![],
            done: vec![],
            before: None,
            after: None,
        };
        assert_eq!(line(&document), "export/orders.shop created");
        (document.action, document.state) = (Action::Unchanged, Progress::Planned);
        assert_eq!(line(&document), "export/orders.shop unchanged (dry run)");
    }
}
