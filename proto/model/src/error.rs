//! Why a name, id or address was not accepted.

/// A value that is not what its type requires: what it should have been, what it was, and the rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
pub struct ParseError {
    /// The kind of value that was expected, in the words of the design ("service name", "cluster id", ...).
    pub what: &'static str,
    /// The value as given, cut to 128 characters.
    pub value: String,
    /// The rule that the value breaks, and what to write instead.
    pub rule: &'static str,
}

impl ParseError {
    /// An error about `value`, which was to be a `what` and breaks `rule`.
    pub fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(128).collect(), rule }
    }
}
