//! A failure as an operator needs it: what failed, why, and what to try.

use std::fmt;

/// What a command reports when it fails. Displayed as what failed alone; the report shows the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A stable word, the same as in logs and answers.
    pub(crate) reason: String,
    /// What failed: name and value.
    pub(crate) message: String,
    /// Why, as far as it is known.
    pub(crate) causes: Vec<String>,
    /// What to try, best first.
    pub(crate) fixes: Vec<String>,
}

impl Failure {
    /// A failure with a stable word and what failed.
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), causes: Vec::new(), fixes: Vec::new() }
    }

    /// Adds why.
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds what to try.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes.push(fix.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
