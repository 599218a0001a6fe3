//! What is wrong with documents, gathered so that all of it is told at once.

use crate::admin::api::Mistake;
use serde_json::Value;

/// The most mistakes that are told of one document. Finding each costs a look at all of it.
pub(super) const MAX_IN_DOCUMENT: usize = 64;
/// The most that are told in all.
const MAX_TOLD: usize = 500;
/// The longest value that is told, in characters.
const MAX_VALUE: usize = 128;
/// How alike two words have to be for one to be a slip of the other: 0 nothing, 1 equal.
const ALIKE: f64 = 0.75;
/// What stands for a secret.
const MASKED: &str = "****";

/// What is wrong with all documents.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first of them.
    pub(super) mistakes: Vec<Mistake>,
    /// How many there are.
    pub(super) count: usize,
}

impl Found {
    /// Adds what is wrong with one document.
    pub(super) fn add(&mut self, faults: Faults) {
        let Faults { document, kind, name, list, .. } = faults;
        self.count += list.len();
        let room = MAX_TOLD.saturating_sub(self.mistakes.len());
        self.mistakes.extend(list.into_iter().take(room).map(|fault| Mistake {
            document,
            kind: kind.clone(),
            name: name.clone(),
            path: fault.path,
            value: fault.value,
            reason: fault.reason.to_owned(),
            rule: fault.rule,
        }));
    }
}

/// What is wrong with one document.
#[derive(Debug)]
pub(super) struct Faults {
    document: usize,
    kind: Option<String>,
    name: Option<String>,
    /// Paths whose values are not told.
    secrets: &'static [&'static str],
    list: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    path: String,
    value: Option<String>,
    reason: &'static str,
    rule: String,
}

impl Faults {
    pub(super) fn new(document: usize) -> Self {
        Self { document, kind: None, name: None, secrets: &[], list: Vec::new() }
    }

    /// Says which resource it is about, as far as the document tells.
    pub(super) fn about(&mut self, kind: Option<&str>, name: Option<&str>) {
        let cut = |text: &str| text.chars().take(MAX_VALUE).collect();
        (self.kind, self.name) = (kind.map(cut), name.map(cut));
    }

    /// Says what must not be told.
    pub(super) fn hide(&mut self, secrets: &'static [&'static str]) {
        self.secrets = secrets;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `value` at `path` breaks `rule`.
    pub(super) fn add(
        &mut self,
        path: &str,
        value: Option<&Value>,
        reason: &'static str,
        rule: impl Into<String>,
    ) {
        let secret = self.secrets.contains(&path);
        let value = value.map(|value| if secret { MASKED.to_owned() } else { brief(value) });
        let rule = if secret && reason == "invalid-value" {
            // what a parser says of a value repeats it
            "this is not the text that belongs here".to_owned()
        } else {
            rule.into()
        };
        self.list.push(Fault { path: path.to_owned(), value, reason, rule });
    }
}

/// The beginning of `value` as JSON.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(MAX_VALUE).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// ` (did you mean "X"?)` if one of `known` looks like `word`.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    let lower = word.to_ascii_lowercase();
    let alike = |known: &&&str| strsim::jaro_winkler(&lower, &known.to_ascii_lowercase());
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|known| alike(known) >= ALIKE) {
        Some(known) => format!(" (did you mean {known:?}?)"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["mergeNamespaces", "paused", "stale", "transit"];
        assert_eq!(meant("mergeNamespace", &known), " (did you mean \"mergeNamespaces\"?)");
        assert_eq!(meant("pasued", &known), " (did you mean \"paused\"?)");
        assert_eq!(meant("colour", &known), "");
        assert_eq!(meant("x", &[]), "");
    }

    #[test]
    fn a_secret_is_never_told() {
        let mut faults = Faults::new(3);
        faults.hide(&["spec.token"]);
        faults.add("spec.token", Some(&json!(55)), "invalid-value", "invalid type: integer `55`");
        faults.add("spec.to", Some(&json!("y".repeat(500))), "invalid-value", "no");
        let mut found = Found::default();
        found.add(faults);
        let [token, to] = &found.mistakes[..] else { panic!("{found:?}") };
        assert_eq!((token.document, token.value.as_deref()), (3, Some("****")));
        assert!(!token.rule.contains("55"), "{token:?}");
        assert_eq!(to.value.as_ref().map(|value| value.chars().count()), Some(MAX_VALUE + 1));
    }

    #[test]
    fn only_so_many_are_told_and_all_are_counted() {
        let mut found = Found::default();
        for document in 0..MAX_TOLD {
            let mut faults = Faults::new(document);
            faults.add("a", None, "invalid-value", "no");
            faults.add("b", None, "invalid-value", "no");
            found.add(faults);
        }
        assert_eq!((found.mistakes.len(), found.count), (MAX_TOLD, 2 * MAX_TOLD));
    }
}
