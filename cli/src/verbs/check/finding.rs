//! One check in the making.

use crate::failure::Failure;
use causeway_gateway::admin::api::Check;

/// A check that has a name and no result yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    name: &'static str,
}

impl Finding {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// All is well.
    pub(super) fn ok(self, seen: impl Into<String>) -> Check {
        Check {
            name: self.name.to_owned(),
            state: "ok".to_owned(),
            seen: seen.into(),
            cause: None,
            fix: None,
        }
    }

    /// It works, but not well.
    pub(super) fn warning(
        self,
        seen: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        let (cause, fix) = (Some(cause.into()), Some(fix.into()));
        Check { state: "warning".to_owned(), cause, fix, ..self.ok(seen) }
    }

    /// It does not work.
    pub(super) fn failed(
        self,
        seen: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check { state: "failed".to_owned(), ..self.warning(seen, cause, fix) }
    }

    /// It does not work, as `error` says.
    pub(super) fn failed_by(self, error: &anyhow::Error) -> Check {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let failure = error.chain().find_map(|link| link.downcast_ref::<Failure>());
        let more = failure.map_or(&[][..], |failure| &failure.causes);
        let causes = [causes.as_slice(), more].concat().join("; ");
        let fix = failure.map(|failure| failure.fixes.join("; ")).filter(|fix| !fix.is_empty());
        let cause = Some(causes).filter(|causes| !causes.is_empty());
        Check { state: "failed".to_owned(), cause, fix, ..self.ok(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_seen_cause_and_fix() {
        let failure =
            Failure::new("refused", "cannot reach it").cause("nothing listens").fix("start it").fix("wait");
        let check = Finding::new("admin API").failed_by(&failure.into());
        assert_eq!((check.state.as_str(), check.seen.as_str()), ("failed", "cannot reach it"));
        assert_eq!(
            (check.cause.as_deref(), check.fix.as_deref()),
            (Some("nothing listens"), Some("start it; wait"))
        );
        let check = Finding::new("x").failed_by(&anyhow::anyhow!("inner").context("outer"));
        assert_eq!((check.seen.as_str(), check.cause.as_deref(), check.fix), ("outer", Some("inner"), None));
    }
}
