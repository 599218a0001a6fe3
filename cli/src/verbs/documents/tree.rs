//! A YAML document as a tree that knows its lines.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use std::fmt;

/// A value and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    line: u64,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    /// Each key with its line.
    Map(Vec<(String, u64, Node)>),
}

/// The limits of a file. They keep what a few bytes can be blown up to by aliases small.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 20_000,
            max_nodes: 1_000_000,
            max_events: 3_000_000,
        },
        // `no` is a name like any other
        strict_booleans: true,
        // a snippet could show a secret
        with_snippet: false,
    }
}

/// Why a text is no YAML: the line, if it is known, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: Option<u64>,
    pub(super) cause: String,
}

/// The documents in `text`; one that is a list stands for its items.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Unreadable> {
    let read: Result<Vec<Node>, _> = serde_saphyr::from_multiple_with_options(text, options());
    let nodes = read.map_err(|error| Unreadable {
        line: error.location().map(|at| at.line()).filter(|line| *line > 0),
        cause: error.without_snippet().to_string(),
    })?;
    let mut documents = Vec::new();
    for node in nodes {
        match node.content {
            Content::List(items) => documents.extend(items),
            _ => documents.push(node),
        }
    }
    Ok(documents)
}

impl Node {
    /// The value without its lines.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::value).collect(),
            Content::Map(fields) => {
                let fields = fields.iter().map(|(key, _, node)| (key.clone(), node.value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// The line of what stands at `path` (`spec.to[1]`), or of what is nearest to it on the way there.
    pub(super) fn line_of(&self, path: &str) -> u64 {
        let (mut node, mut line, mut rest) = (self, self.line, path);
        while !rest.is_empty() {
            let Some((further, at, left)) = node.step(rest) else { break };
            (node, line, rest) = (further, at, left);
        }
        line
    }

    /// The first step of `path`: the value there, the line where it begins, and the rest of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Self, u64, &'p str)> {
        match &self.content {
            Content::Scalar(_) => None,
            Content::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let node = items.get(index.parse::<usize>().ok()?)?;
                Some((node, node.line, rest))
            }
            Content::Map(fields) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                // a key may itself have dots
                let ends = |key: &str| {
                    let rest = path.strip_prefix(key)?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
                };
                fields.iter().find_map(|(key, line, node)| Some((node, *line, ends(key)?)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), content: value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("write a number that is finite"))?;
        Ok(Content::Scalar(number.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(Spanned { value: key, referenced, .. }) = map.next_key::<Spanned<String>>()? {
            fields.push((key, referenced.line(), map.next_value()?));
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const TWO: &str = "\
# comment
apiVersion: causeway/v1
kind: Export
metadata: { name: orders.shop }
spec:
  to:
    - phx
    - PHX
  a.b: no
---
kind: Link
spec:
  mergeNamespaces: '*'
  transit: true
  big: 18446744073709551615
  port: 80
";

    #[test]
    fn documents_are_read_with_their_lines() {
        let [export, link] = &read(TWO).unwrap()[..] else { panic!() };
        assert_eq!(export.value()["spec"], json!({ "to": ["phx", "PHX"], "a.b": "no" }));
        let spec = json!({ "mergeNamespaces": "*", "transit": true, "big": u64::MAX, "port": 80 });
        assert_eq!(link.value()["spec"], spec);
        for (path, line) in [
            ("", 2),
            ("kind", 3),
            ("metadata.name", 4),
            ("spec.to", 6),
            ("spec.to[1]", 8),
            ("spec.to[7]", 6),
            ("spec.a.b", 9),
            ("spec.missing", 5),
        ] {
            assert_eq!(export.line_of(path), line, "{path}");
        }
        assert_eq!((link.line_of("spec.transit"), link.line_of("metadata.name")), (14, 11));
    }

    #[test]
    fn lists_json_and_empty_documents_are_taken() {
        let values = |text: &str| read(text).unwrap().iter().map(Node::value).collect::<Vec<_>>();
        assert_eq!(
            values("[{\"kind\": \"A\"}, {\"kind\": \"B\"}]"),
            [json!({ "kind": "A" }), json!({ "kind": "B" })]
        );
        assert_eq!(values("---\n---\nkind: A\n---\n# nothing\n"), [json!({ "kind": "A" })]);
        assert!(values("").is_empty());
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        for (text, line) in [("a: 1\nb: [\n", 2), ("a: 1\na: 2\n", 2), ("a:\n\t- b\n", 2)] {
            let error = read(text).unwrap_err();
            assert!(error.line.is_some_and(|found| found >= line), "{text:?}: {error:?}");
        }
        let laughs = format!(
            "a: &a [{}]\nb: &b [{}]\nc: [{}]\n",
            "x,".repeat(100),
            "*a,".repeat(100),
            "*b,".repeat(500)
        );
        assert!(read(&laughs).is_err());
        assert!(read(&"[".repeat(100)).is_err());
        let secret = read("token: cwl1_secret\ntoken: [\n").unwrap_err();
        assert!(!secret.cause.contains("cwl1_secret"), "{secret:?}");
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_is_read_or_refused(text in "[-a-c:\\[\\]{}&*#'\"|> \n\t0-9.,!?%@`]{0,200}") {
            if let Ok(nodes) = read(&text) {
                for node in nodes {
                    node.value();
                    node.line_of("a.b[1]");
                }
            }
        }
    }
}
