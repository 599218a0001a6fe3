//! What a client reads never goes back, whichever replica it reads from.

use super::{Invariant, Verdict, Violation};
use causeway_model::Revision;

/// A client that has seen `before` is shown `now`.
pub(crate) fn check_step(client: usize, before: Revision, now: Revision) -> Verdict {
    if now >= before {
        return Ok(());
    }
    let what = format!("client {client} saw revision {before} and then {now}");
    Err(Violation::new(Invariant::RevisionsNeverGoBack, what))
}
