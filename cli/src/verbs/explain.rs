//! `causeway explain`: the fields of documents, from their schemas. No gateway is asked.

use crate::failure::Failure;
use crate::output::{Output, Table};
use anyhow::Result;
use causeway_gateway::admin::api::{KindInfo, kinds};
use serde_json::Value;

const AFTER: &str = "\
As JSON it is the JSON Schema (draft 2020-12) of the kind's documents, for editors and checks in a pipeline.

Examples:
  causeway explain
  causeway explain link
  causeway explain export -o json > export.schema.json";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Which kind; all of them in a list unless given
    #[arg(value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let kinds = kinds();
        let Some(name) = &self.kind else {
            return self.output.show(&kinds, |kinds| list(kinds));
        };
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        match kinds.iter().find(|kind| same(&kind.name) || same(&kind.plural)) {
            Some(kind) => self.output.show(&kind.schema, |_| explain(kind)),
            None => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
                let failure = Failure::new("kind-unknown", format!("there is no kind {name:?}"));
                Err(failure.fix(format!("one of {}", names.join(", "))).into())
            }
        }
    }
}

fn list(kinds: &[KindInfo]) -> String {
    let mut table = Table::new(["KIND", "PLURAL", "ABOUT"]);
    for kind in kinds {
        table.row([kind.name.clone(), kind.plural.clone(), kind.about.clone()]);
    }
    table.to_string()
}

/// What the kind is, its fields and an example.
fn explain(kind: &KindInfo) -> String {
    let mut text = format!("{}: {}\n\nFields of spec:\n", kind.name, kind.about);
    let fields = kind.schema.pointer("/properties/spec/properties").and_then(Value::as_object);
    for (name, schema) in fields.into_iter().flatten() {
        text.push_str(&format!("  {name}  {}\n", form(schema)));
        for line in wrapped(schema.get("description").and_then(Value::as_str).unwrap_or_default(), 88) {
            text.push_str(&format!("      {line}\n"));
        }
        if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
            text.push_str(&format!("      default: {default}\n"));
        }
    }
    text.push_str("\nA field that is left out has its default. `status` is only shown.\n\nExample:\n");
    for line in kind.example.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// What a schema allows, in a few words.
fn form(schema: &Value) -> String {
    let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array);
    if let Some(alternatives) = alternatives {
        return alternatives.iter().map(form).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            let named: Vec<&str> =
                types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            named.join(" | ")
        }
        Some(Value::String(kind)) if kind == "array" => list_form(schema),
        Some(Value::String(kind)) if kind == "object" => {
            let fields = schema.get("properties").and_then(Value::as_object);
            let fields: Vec<String> = fields
                .into_iter()
                .flatten()
                .map(|(name, schema)| format!("{name}: {}", form(schema)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Some(Value::String(kind)) => schema.get("title").and_then(Value::as_str).unwrap_or(kind).to_owned(),
        _ => "anything".to_owned(),
    }
}

fn list_form(schema: &Value) -> String {
    let items = schema.get("items").map_or_else(|| "anything".to_owned(), form);
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    match (bound("minItems").unwrap_or(0), bound("maxItems")) {
        (0, None) => format!("list of {items}"),
        (0, Some(most)) => format!("list of at most {most} of {items}"),
        (least, Some(most)) => format!("list of {least} to {most} of {items}"),
        (least, None) => format!("list of at least {least} of {items}"),
    }
}

/// `text` in lines of at most `width` characters where its words allow.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_explained_with_types_defaults_limits_and_an_example() {
        for kind in kinds() {
            let text = explain(&kind);
            assert!(!text.contains("anything"), "{text}");
            assert!(text.contains("\nExample:\n  apiVersion: causeway/v1\n"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
        }
        let text = |name: &str| explain(kinds().iter().find(|kind| kind.name == name).unwrap());
        assert!(
            text("Export").contains("  to  list of 1 to 1000 of cluster name | \"*\"\n"),
            "{}",
            text("Export")
        );
        assert!(text("Service").contains("  ports  list of at most 64 of port\n"), "{}", text("Service"));
        for part in [
            "default: \"serve-last\"",
            "default: \"*\"",
            "{ ejectAfter: duration }",
            "\"fence\"",
            "  token  string\n",
        ] {
            assert!(text("Link").contains(part), "{part}: {}", text("Link"));
        }
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert!(wrapped("", 7).is_empty());
    }
}
