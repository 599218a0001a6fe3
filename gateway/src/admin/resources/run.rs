//! Does what documents take, and stops where the registry refuses.

use super::Refused;
use super::plan::{Deed, Planned, order};
use crate::admin::CATCH_UP;
use crate::admin::api::{Action, Applied, AppliedDocument, ApplyProblem, Progress};
use crate::admin::error::ApiError;
use crate::admin::extract::Actor;
use crate::hub::Hub;
use crate::links;

/// Carries out `plans`, and waits a little until this replica shows it.
pub(super) async fn run(hub: &Hub, by: &Actor, plans: Vec<Planned>) -> Result<Applied, Refused> {
    let mut states = vec![Progress::NotTried; plans.len()];
    let mut last = None;
    for index in order(&plans) {
        let plan = &plans[index];
        match carry_out(hub, by, plan).await {
            Ok(revision) => last = revision.or(last),
            Err(error) => {
                states[index] = Progress::Failed;
                return Err(stopped(&plans, &states, index, &error));
            }
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

/// Carries out one plan; the revision of its last change, if it has any.
async fn carry_out(
    hub: &Hub,
    by: &Actor,
    plan: &Planned,
) -> Result<Option<causeway_model::Revision>, ApiError> {
    let mut last = None;
    for step in &plan.steps {
        match &step.deed {
            Deed::Propose(command) => {
                last = Some(hub.propose(&by.0, (**command).clone()).await?.revision);
            }
            Deed::Accept { token, merge } => {
                Box::pin(links::accept(hub, &by.0, token, merge.clone())).await?;
            }
        }
    }
    Ok(last)
}

fn stopped(plans: &[Planned], states: &[Progress], at: usize, error: &ApiError) -> Refused {
    let done = states.iter().filter(|state| **state == Progress::Done).count();
    let Planned { kind, name, .. } = &plans[at];
    let message = format!(
        "{kind} {name}: {}; {done} of {} documents are applied, the others are not: apply them again once the cause is gone",
        error.problem.message,
        plans.len()
    );
    let problem = ApplyProblem {
        reason: error.problem.reason.clone(),
        message,
        mistakes: Vec::new(),
        documents: told(plans, states),
    };
    Refused { status: error.status, problem: Box::new(problem) }
}

fn told(plans: &[Planned], states: &[Progress]) -> Vec<AppliedDocument> {
    plans.iter().zip(states).map(|(plan, state)| plan.told(*state)).collect()
}
