//! Reads a document, and goes on after a mistake so that every one is told.
//!
//! serde stops at the first mistake. What it stumbled over is taken away, and it reads the rest again.

use super::faults::{Faults, MAX_IN_DOCUMENT, meant};
use crate::admin::api::API_VERSION;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use std::collections::BTreeMap;

/// A document before anything of its kind is known.
pub(super) struct Envelope {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) spec: Value,
}

/// The fields of every document; that they are there is checked afterwards, all at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<Map<String, Value>>,
    #[serde(rename = "spec")]
    _spec: Option<Map<String, Value>>,
    #[serde(rename = "status")]
    _status: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "name")]
    _name: Option<String>,
}

/// What every document has. A document with mistakes is read as far as it goes.
pub(super) fn envelope(document: &Value, faults: &mut Faults) -> Option<Envelope> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let (kind, name) = (text(document.get("kind")), text(document.pointer("/metadata/name")));
    faults.about(kind.as_deref(), name.as_deref());
    if !document.is_object() {
        let rule = "a document is a mapping with apiVersion, kind, metadata and spec";
        faults.add("", Some(document), "invalid-value", rule);
        return None;
    }
    recover::<Fields>(document, "", faults);
    match document.get("apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => {}
        // what is no text was told above
        Some(version) if !version.is_string() && !version.is_null() => {}
        version => {
            faults.add("apiVersion", version, "api-version", format!("write `apiVersion: {API_VERSION}`"))
        }
    }
    if is_missing(document, "kind") {
        faults.add("kind", None, "missing-field", "say what it is, for example `kind: Export`");
    }
    let metadata = document.get("metadata").filter(|metadata| metadata.is_object());
    if let Some(metadata) = metadata {
        recover::<Named>(metadata, "metadata", faults);
    }
    if is_missing(document, "metadata") || metadata.is_some_and(|metadata| is_missing(metadata, "name")) {
        faults.add(
            "metadata.name",
            None,
            "missing-field",
            "say what it is called: `metadata: { name: ... }`",
        );
    }
    let spec = document.get("spec").filter(|spec| spec.is_object()).cloned();
    Some(Envelope { kind: kind?, name: name?, spec: spec.unwrap_or_else(|| Value::Object(Map::new())) })
}

fn is_missing(value: &Value, field: &str) -> bool {
    value.get(field).is_none_or(Value::is_null)
}

/// `value`, which stands at `root`, as a `T`; nothing when it has mistakes.
pub(super) fn decode<T: DeserializeOwned>(value: &Value, root: &str, faults: &mut Faults) -> Option<T> {
    let (decoded, mistakes) = recover(value, root, faults);
    decoded.filter(|_| mistakes == 0)
}

/// What is left of `value` as a `T` without what is wrong, and how many mistakes that were.
fn recover<T: DeserializeOwned>(value: &Value, root: &str, faults: &mut Faults) -> (Option<T>, usize) {
    let mut left = value.clone();
    let mut gone = Gone::default();
    let mut told: Vec<String> = Vec::new();
    for mistakes in 0..MAX_IN_DOCUMENT {
        let error = match serde_path_to_error::deserialize(&left) {
            Ok(decoded) => return (Some(decoded), mistakes),
            Err(error) => error,
        };
        let steps: Vec<Step> = error.path().iter().filter_map(Step::of).collect();
        let (found, cut) = gone.cut(&mut left, &steps);
        let said = error.inner().to_string();
        let path = place(&join(root, &found), &said);
        // a list without its wrong items may be wrong itself, and a field that was taken away is missing
        if !told.iter().any(|earlier| is_at_or_below(earlier, &path)) {
            tell(faults, &path, cut.as_ref(), &said);
            told.push(path);
        }
        if cut.is_none() {
            return (None, mistakes + 1);
        }
    }
    (None, MAX_IN_DOCUMENT)
}

/// Where the mistake is of which serde says `said` at `path`: a field that is missing is no step of the path.
fn place(path: &str, said: &str) -> String {
    let field = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match field {
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path.to_owned(),
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || above.is_empty() || rest.starts_with(['.', '[']))
}

fn tell(faults: &mut Faults, path: &str, value: Option<&Value>, said: &str) {
    let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((field, known)) if said.starts_with("unknown field ") => {
            let have = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let rule =
                format!("there is no field {field:?} here{}; the fields are: {have}", meant(field, known));
            // what stands there may be a secret that belongs under another name
            faults.add(path, None, "unknown-field", rule);
        }
        Some((word, known)) if said.starts_with("unknown variant ") => {
            let rule = format!("{word:?} is not one of {}{}", known.join(", "), meant(word, known));
            faults.add(path, value, "invalid-value", rule);
        }
        _ if said.starts_with("missing field ") => {
            faults.add(path, None, "missing-field", "it has to be given")
        }
        _ => faults.add(path, value, "invalid-value", said),
    }
}

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    /// The key that says which of several forms a mapping has.
    Variant(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Self::Key(key.clone())),
            Segment::Enum { variant } => Some(Self::Variant(variant.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Unknown => None,
        }
    }
}

/// `root` and the steps from there as text.
fn join(root: &str, steps: &[Step]) -> String {
    let mut path = root.to_owned();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) | Step::Variant(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
        }
    }
    path
}

/// What was taken out of lists, so that what is left there is told with the place it had.
#[derive(Default)]
struct Gone(BTreeMap<Vec<Step>, Vec<usize>>);

impl Gone {
    /// Takes the value at `steps` out of `left`, or the nearest to it on the way there: with the place that it had at first.
    /// Nothing is taken when there is nothing but `left` itself.
    fn cut(&mut self, left: &mut Value, steps: &[Step]) -> (Vec<Step>, Option<Value>) {
        let (mut at, mut reach) = (&*left, 0);
        while let Some(next) = steps.get(reach).and_then(|step| child(at, step)) {
            (at, reach) = (next, reach + 1);
        }
        let (place, value) = (self.places(&steps[..reach]), at.clone());
        // a mapping that says which form it has is nothing without that
        let end = steps[..reach].iter().rposition(|step| !matches!(step, Step::Variant(_)));
        let Some((last, way)) = end.and_then(|end| steps[..=end].split_last()) else { return (place, None) };
        let Some(parent) = way.iter().try_fold(left, child_mut) else { return (place, None) };
        match (parent, last) {
            (Value::Object(map), Step::Key(key)) => {
                map.remove(key);
            }
            (Value::Array(list), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                let around = self.places(way);
                let original = self.original(&around, *index);
                self.0.entry(around).or_default().push(original);
            }
            _ => return (place, None),
        }
        (place, Some(value))
    }

    /// The steps as they were before anything was taken.
    fn places(&self, steps: &[Step]) -> Vec<Step> {
        let mut places = Vec::new();
        for step in steps {
            places.push(match step {
                Step::Index(index) => Step::Index(self.original(&places, *index)),
                other => other.clone(),
            });
        }
        places
    }

    /// The place that the item had, which is the `index`th now, in the list at `place`.
    fn original(&self, place: &[Step], index: usize) -> usize {
        let mut gone = self.0.get(place).cloned().unwrap_or_default();
        gone.sort_unstable();
        gone.iter().fold(index, |at, &taken| if taken <= at { at + 1 } else { at })
    }
}

fn child<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Key(key) | Step::Variant(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
    }
}

fn child_mut<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match step {
        Step::Key(key) | Step::Variant(key) => value.as_object_mut()?.get_mut(key),
        Step::Index(index) => value.as_array_mut()?.get_mut(*index),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Found;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    #[derive(Default)]
    struct Plate {
        size: u8,
        food: Vec<u8>,
        side: Side,
        #[serde(deserialize_with = "not_empty")]
        some: Vec<u8>,
    }

    fn not_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let list = Vec::deserialize(deserializer)?;
        if list.is_empty() { Err(serde::de::Error::custom("it is empty")) } else { Ok(list) }
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Side {
        #[default]
        Empty,
        MuchOf(u8),
    }

    fn told<T>(read: impl FnOnce(&mut Faults) -> T) -> (T, Vec<(String, String)>) {
        let mut faults = Faults::new(0);
        let value = read(&mut faults);
        let mut found = Found::default();
        found.add(faults);
        (value, found.mistakes.into_iter().map(|mistake| (mistake.path, mistake.rule)).collect())
    }

    fn paths(value: &Value) -> Vec<String> {
        let (decoded, told) = told(|faults| decode::<Plate>(value, "spec", faults));
        assert_eq!(decoded.is_some(), told.is_empty(), "{told:?}");
        told.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let value = json!({ "size": "big", "food": [1, "x", 2, "y", "z", 3], "colour": 1, "side": { "much-of": "a" } });
        let mut found = paths(&value);
        found.sort();
        assert_eq!(
            found,
            ["spec.colour", "spec.food[1]", "spec.food[3]", "spec.food[4]", "spec.side.much-of", "spec.size"]
        );
        assert!(paths(&json!({ "side": "empty", "food": [] })).is_empty());
        assert_eq!(paths(&json!("text")), ["spec"]);
        // a list that has nothing left is not told, too
        assert_eq!(paths(&json!({ "some": ["x"] })), ["spec.some[0]"]);
        assert_eq!(paths(&json!({ "side": "emtpy" })), ["spec.side"]);
        assert_eq!(paths(&json!({ "side": { "much": 1 } })), ["spec.side"]);
    }

    #[test]
    fn a_slip_in_a_name_is_answered_with_the_name() {
        let (_, told) =
            told(|faults| decode::<Plate>(&json!({ "sizes": 3, "side": "emtpy" }), "spec", faults));
        let rules: Vec<&str> = told.iter().map(|(_, rule)| rule.as_str()).collect();
        assert!(rules.iter().any(|rule| rule.contains("did you mean \"size\"?")), "{rules:?}");
        assert!(rules.iter().any(|rule| rule.contains("did you mean \"empty\"?")), "{rules:?}");
    }

    #[test]
    fn what_every_document_has_is_asked_for_at_once() {
        let (read, told) = told(|faults| envelope(&json!({ "metadata": {}, "specs": {} }), faults));
        assert!(read.is_none());
        let mut paths: Vec<String> = told.into_iter().map(|(path, _)| path).collect();
        paths.sort();
        assert_eq!(paths, ["apiVersion", "kind", "metadata.name", "specs"]);
    }

    #[test]
    fn a_status_is_not_looked_at() {
        let document = json!({
            "apiVersion": "causeway/v1", "kind": "Export", "metadata": { "name": "a.b" }, "status": { "x": 1 }
        });
        let (read, told) = told(|faults| envelope(&document, faults));
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(read.map(|read| (read.kind, read.name)), Some(("Export".into(), "a.b".into())));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,4}|empty|much-of".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("size|food|side|some|much-of|[a-z]{1,3}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_told(value in any_json()) {
            let (decoded, told) = told(|faults| decode::<Plate>(&value, "spec", faults));
            prop_assert_eq!(decoded.is_some(), told.is_empty());
            prop_assert_eq!(decoded.is_some(), serde_json::from_value::<Plate>(value.clone()).is_ok());
            let _ = self::told(|faults| envelope(&value, faults).is_some());
        }
    }
}
