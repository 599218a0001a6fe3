//! Does what documents take, and stops where the registry refuses.

use super::Refused;
use super::plan::{Deed, Planned, order};
use crate::admin::CATCH_UP;
use crate::admin::api::{Action, Applied, AppliedDocument, ApplyProblem, Progress};
use crate::admin::error::ApiError;
use crate::admin::extract::Actor;
use crate::hub::Hub;
use crate::links;
use causeway_catalog::ChangeIf;
use causeway_model::Revision;

/// Carries out `plans`, and waits a little until this replica shows it.
pub(super) async fn run(hub: &Hub, by: &Actor, plans: Vec<Planned>) -> Result<Applied, Refused> {
    let mut states = vec![Progress::NotTried; plans.len()];
    let mut last = None;
    for index in order(&plans) {
        let plan = &plans[index];
        let mut done = Vec::new();
        if let Err(error) = carry_out(hub, by, plan, &mut last, &mut done).await {
            states[index] = Progress::Failed;
            return Err(stopped(&plans, &states, index, done, &error));
        }
        states[index] = Progress::Done;
        if plan.action != Action::Unchanged {
            tracing::info!(kind = plan.kind, name = plan.name, by = by.0, "resource applied");
        }
    }
    if let Some(revision) = last
        && let Err(lagging) = hub.registry.wait_applied(revision, CATCH_UP).await
    {
        // the changes stand; only what is read here shows them later
        tracing::debug!(%lagging, "documents were applied that this replica does not show yet");
    }
    Ok(Applied { documents: told(&plans, &states) })
}

/// Carries out one plan. `last` is the revision of the last change, and `done` has the fields of the steps that were done.
async fn carry_out(
    hub: &Hub,
    by: &Actor,
    plan: &Planned,
    last: &mut Option<Revision>,
    done: &mut Vec<String>,
) -> Result<(), ApiError> {
    for step in &plan.steps {
        match &step.deed {
            Deed::Change(change) => *last = Some(hub.propose(&by.0, ChangeIf::clone(change)).await?.revision),
            Deed::Accept { token, merge } => {
                Box::pin(links::accept(hub, &by.0, token, merge.clone())).await?;
            }
        }
        done.push(step.path.to_owned());
    }
    Ok(())
}

/// What is told when a step of the plan `at` failed, and those of `parts` were done before.
fn stopped(
    plans: &[Planned],
    states: &[Progress],
    at: usize,
    parts: Vec<String>,
    error: &ApiError,
) -> Refused {
    let done = states.iter().filter(|state| **state == Progress::Done).count();
    let Planned { kind, name, .. } = &plans[at];
    let part = match parts.join(", ") {
        none if none.is_empty() => String::new(),
        parts => format!("{parts} of it was done before; "),
    };
    let message = format!(
        "{kind} {name}: {}; {part}{done} of {} documents are applied, the others are not: apply them again once the cause is gone",
        error.problem.message,
        plans.len()
    );
    let mut documents = told(plans, states);
    documents[at].done = parts;
    let problem =
        ApplyProblem { reason: error.problem.reason.clone(), message, mistakes: Vec::new(), documents };
    Refused { status: error.status, problem: Box::new(problem) }
}

fn told(plans: &[Planned], states: &[Progress]) -> Vec<AppliedDocument> {
    plans.iter().zip(states).map(|(plan, state)| plan.told(*state)).collect()
}
