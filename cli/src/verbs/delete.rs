//! `causeway delete`: ends resources.

use super::documents::{Files, Found, short};
use super::get::{Which, Word, one_name};
use super::usage;
use crate::api::Api;
use crate::context::Target;
use crate::failure::Failure;
use crate::output;
use anyhow::Result;
use causeway_gateway::admin::api::kinds;
use std::cmp::Reverse;

/// Why something cannot be deleted that is not there.
const NOT_THERE: &str = "resource-unknown";

const AFTER: &str = "\
With -f, what the documents name is deleted, links first, then exports, then services; what they say beside kind and name does \
not matter. Streams that run over what is deleted are ended. Nothing is asked.

Examples:
  causeway delete export orders.shop
  causeway delete link/phx
  causeway delete -f mesh.yaml --ignore-not-found";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Which kind, or KIND/NAME
    #[arg(value_name = "KIND", conflicts_with = "paths")]
    kind: Option<Which>,
    /// Which one
    #[arg(value_name = "NAME", conflicts_with = "paths")]
    name: Option<Word>,
    /// What is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let subjects = match &self.kind {
            Some(which) => match one_name(which, self.name.as_ref())? {
                Some(name) => vec![(which.kind.to_string(), name.to_string())],
                None => return Err(usage("say which one: KIND NAME")),
            },
            None if self.files.is_empty() => return Err(usage("say what to delete: KIND NAME, or -f FILE")),
            None => subjects(&self.files.read()?)?,
        };
        let api = Api::of(&self.target)?;
        let mut left = Vec::new();
        for (kind, name) in &subjects {
            match api.delete(&format!("/v1/resources/{kind}/{name}")) {
                Ok(()) => output::say(&format!("{} deleted", short(kind, name)))?,
                Err(error) => match error.downcast::<Failure>()? {
                    failure if failure.reason == NOT_THERE && self.ignore_not_found => {
                        output::say(&format!("{} not found", short(kind, name)))?;
                    }
                    failure => left.push((short(kind, name), failure)),
                },
            }
        }
        outcome(left, subjects.len())
    }
}

/// What is told when `left` of `all` were not deleted.
fn outcome(mut left: Vec<(String, Failure)>, all: usize) -> Result<()> {
    match left.len() {
        0 => Ok(()),
        1 if all == 1 => Err(left.remove(0).1.into()),
        count => {
            let reason = left.first().map(|(_, failure)| failure.reason.clone()).unwrap_or_default();
            let failure = Failure::new(reason, format!("{count} of {all} were not deleted"));
            let tell =
                |failure: Failure, (name, why): (String, Failure)| failure.cause(format!("{name}: {why}"));
            Err(left.into_iter().fold(failure, tell).into())
        }
    }
}

/// What documents are about, in the order in which it can be deleted; every document that does not say so is told.
fn subjects(documents: &[Found]) -> Result<Vec<(String, String)>> {
    let kinds: Vec<String> = kinds().into_iter().map(|kind| kind.name).collect();
    let (mut named, mut wrong) = (Vec::new(), Vec::new());
    for found in documents {
        match found.subject() {
            // what goes into a path has to be plain
            Some((kind, name)) if kind.parse::<Word>().is_ok() && name.parse::<Word>().is_ok() => {
                named.push((kind, name))
            }
            _ => wrong.push(format!(
                "{}: the document has no kind and metadata.name that could be",
                found.place("")
            )),
        }
    }
    if !wrong.is_empty() {
        let failure = Failure::new("invalid-documents", "nothing was deleted");
        return Err(wrong.into_iter().fold(failure, Failure::cause).into());
    }
    named.sort_by_key(|(kind, _)| Reverse(kinds.iter().position(|known| known == kind)));
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Found> {
        #[derive(clap::Parser)]
        struct Read {
            #[command(flatten)]
            files: Files,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.yaml");
        std::fs::write(&path, text).unwrap();
        <Read as clap::Parser>::parse_from(["x", "-f", path.to_str().unwrap()]).files.read().unwrap()
    }

    #[test]
    fn what_others_build_on_is_deleted_last() {
        let text = "\
{ kind: Service, metadata: { name: a.b } }
---
{ kind: Export, metadata: { name: a.b } }
---
{ kind: Link, metadata: { name: phx } }
---
{ kind: Export, metadata: { name: c.d } }
";
        let order: Vec<String> =
            subjects(&found(text)).unwrap().iter().map(|(kind, name)| short(kind, name)).collect();
        assert_eq!(order, ["link/phx", "export/a.b", "export/c.d", "service/a.b"]);
    }

    #[test]
    fn a_document_without_a_name_is_told_with_its_line() {
        let error =
            subjects(&found("kind: Link\n---\n\nkind: Export\nmetadata: { name: ../x }\n")).unwrap_err();
        let failure = error.downcast::<Failure>().unwrap();
        assert!(
            failure.causes[0].contains("mesh.yaml:1: ") && failure.causes[1].contains("mesh.yaml:4: "),
            "{failure:?}"
        );
    }

    #[test]
    fn one_that_fails_says_why_and_several_are_counted() {
        let failure = || Failure::new("service-exported", "it is exported");
        let one = outcome(vec![("service/a.b".into(), failure())], 1).unwrap_err();
        assert_eq!(one.downcast::<Failure>().unwrap(), failure());
        let many =
            outcome(vec![("service/a.b".into(), failure())], 3).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(
            (many.message.as_str(), many.causes[0].as_str()),
            ("1 of 3 were not deleted", "service/a.b: it is exported")
        );
        assert!(outcome(vec![], 3).is_ok());
    }
}
