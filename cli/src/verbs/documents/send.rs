//! Documents on their way to the gateway, and what it says of them.

use super::{Found, short};
use crate::api::{Api, Request};
use crate::failure::Failure;
use anyhow::Result;
use causeway_gateway::admin::api::{
    Action, Applied, AppliedDocument, Apply, ApplyProblem, Mistake, Progress, check_documents,
};
use std::time::Duration;

/// How long an answer may take: each change is written to the disks of a majority, and a new link takes some round trips.
const WITHIN: Duration = Duration::from_secs(300);

/// Asks the gateway to apply `documents`, or to say what that would do. Those that were done before one failed go to `done`.
pub(crate) fn apply(
    api: &Api,
    documents: &[Found],
    dry_run: bool,
    mut done: impl FnMut(&AppliedDocument) -> Result<()>,
) -> Result<Vec<AppliedDocument>> {
    let body = Apply { documents: documents.iter().map(Found::value).collect(), dry_run };
    let request = Request::post("/v1/apply", &body)?.within(WITHIN);
    match api.ask::<Applied, ApplyProblem>(&request)? {
        Ok(applied) => Ok(applied.documents),
        Err(problem) => {
            for document in problem.documents.iter().filter(|document| document.state == Progress::Done) {
                done(document)?;
            }
            Err(refused(documents, problem).into())
        }
    }
}

/// Refuses `documents` that no gateway would take, with every mistake.
pub(crate) fn check(documents: &[Found]) -> Result<()> {
    let values: Vec<_> = documents.iter().map(Found::value).collect();
    let mistakes = check_documents(&values);
    if mistakes.is_empty() {
        return Ok(());
    }
    let s = if mistakes.len() == 1 { "" } else { "s" };
    let message = format!("{} mistake{s} in the documents", mistakes.len());
    let problem =
        ApplyProblem { reason: "invalid-documents".to_owned(), message, mistakes, documents: Vec::new() };
    Err(refused(documents, problem).into())
}

/// What a refusal is told as: every mistake with the line it is on, or which documents were left.
fn refused(documents: &[Found], problem: ApplyProblem) -> Failure {
    let failure = Failure::new(problem.reason, problem.message);
    let failure =
        problem.mistakes.iter().fold(failure, |failure, mistake| failure.cause(describe(documents, mistake)));
    let left = problem.documents.iter().filter(|document| {
        matches!(document.state, Progress::Failed | Progress::NotTried)
            && document.action != Action::Unchanged
    });
    left.fold(failure, |failure, document| {
        let how = match (document.state, document.done.join(", ")) {
            (Progress::Failed, done) if done.is_empty() => "failed".to_owned(),
            (Progress::Failed, done) => format!("failed, after {done} of it was done"),
            _ => "was not tried".to_owned(),
        };
        failure.cause(format!("{} {how}", short(&document.kind, &document.name)))
    })
}

fn describe(documents: &[Found], mistake: &Mistake) -> String {
    let place = documents.get(mistake.document).map(|found| format!("{}: ", found.place(&mistake.path)));
    let subject = match (&mistake.kind, &mistake.name) {
        (Some(kind), Some(name)) => format!("{}: ", short(kind, name)),
        (Some(kind), None) => format!("{}: ", kind.to_lowercase()),
        _ => String::new(),
    };
    let value = mistake.value.as_deref().map(|value| format!(" {value}")).unwrap_or_default();
    let at = if mistake.path.is_empty() { "document" } else { &mistake.path };
    format!("{}{subject}{at}{value}: {}", place.unwrap_or_default(), mistake.rule)
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;
    use super::*;

    fn found(text: &str) -> Vec<Found> {
        let nodes = read(text).unwrap();
        nodes.into_iter().map(|node| Found { file: "mesh.yaml".into(), node }).collect()
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let documents = found("kind: A\n---\nkind: Export\nspec:\n  to:\n    - PHX\n");
        let mistake = Mistake {
            document: 1,
            kind: Some("Export".into()),
            name: Some("orders.shop".into()),
            path: "spec.to[0]".into(),
            value: Some("\"PHX\"".into()),
            reason: "invalid-value".into(),
            rule: "use lower-case letters".into(),
        };
        let problem = ApplyProblem {
            reason: "invalid-documents".into(),
            message: "1 mistake".into(),
            mistakes: vec![mistake],
            documents: vec![],
        };
        let failure = refused(&documents, problem);
        assert_eq!(
            failure.causes,
            ["mesh.yaml:6: export/orders.shop: spec.to[0] \"PHX\": use lower-case letters"]
        );
    }

    #[test]
    fn what_was_left_is_told() {
        let document = |name: &str, state| AppliedDocument {
            kind: "Link".into(),
            name: name.into(),
            action: Action::Configured,
            state,
            changes: vec![],
            done: vec![],
            before: None,
            after: None,
        };
        let problem = ApplyProblem {
            reason: "no-quorum".into(),
            message: "1 of 3".into(),
            mistakes: vec![],
            documents: vec![
                document("a", Progress::Done),
                document("b", Progress::Failed),
                document("c", Progress::NotTried),
                AppliedDocument { done: vec!["spec.token".into()], ..document("d", Progress::Failed) },
            ],
        };
        let causes = refused(&[], problem).causes;
        assert_eq!(
            causes,
            ["link/b failed", "link/c was not tried", "link/d failed, after spec.token of it was done"]
        );
    }
}
