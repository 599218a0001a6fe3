//! `causeway get`: the cluster's resources as documents.

use super::documents::{short, yaml};
use super::usage;
use crate::api::{Api, Request};
use crate::context::Target;
use crate::output::{self, Table};
use anyhow::{Context, Result};
use causeway_gateway::admin::api::{Document, ResourcePage, kinds};
use clap::ValueEnum;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What stands for every kind.
const ALL: &str = "all";
/// How many resources are asked for at once.
const PAGE: &str = "1000";

const AFTER: &str = "\
KIND is service, export or link (`causeway explain` lists the kinds), or all. What is printed as YAML or JSON can be applied \
again, to this cluster or, where the names in it are right, to another. `status` says what is known beside what is wanted.

Examples:
  causeway get exports
  causeway get link phx -o yaml
  causeway get all -o yaml > iad.yaml";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Which kind, or KIND/NAME
    #[arg(value_name = "KIND")]
    kind: Which,
    /// Which one; all of the kind unless given
    #[arg(value_name = "NAME")]
    name: Option<Word>,
    /// How to write them
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people and for grep
    #[default]
    Table,
    /// A list of documents
    Json,
    /// Documents set apart by ---
    Yaml,
    /// KIND/NAME, one a line
    Name,
}

/// A part of a path: letters, digits, hyphens and dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(String);

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if !text.is_empty() && text.len() <= 256 && text.chars().all(plain) && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err("write letters, digits, hyphens and dots, for example orders.shop")
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A kind, with the name behind a slash if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) kind: Word,
    pub(super) name: Option<Word>,
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((kind, name)) => Ok(Self { kind: kind.parse()?, name: Some(name.parse()?) }),
            None => Ok(Self { kind: text.parse()?, name: None }),
        }
    }
}

/// The one name that is given: behind the kind, or on its own.
pub(super) fn one_name(which: &Which, name: Option<&Word>) -> Result<Option<Word>> {
    match (&which.name, name) {
        (Some(_), Some(_)) => Err(usage("the name is given twice: write KIND NAME or KIND/NAME")),
        (behind, alone) => Ok(behind.as_ref().or(alone).cloned()),
    }
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let name = one_name(&self.kind, self.name.as_ref())?;
        let all = self.kind.kind.0.eq_ignore_ascii_case(ALL);
        if all && name.is_some() {
            return Err(usage("a name belongs to one kind: write KIND NAME"));
        }
        let api = Api::of(&self.target)?;
        let documents = match name {
            Some(name) => vec![api.get(&format!("/v1/resources/{}/{name}", self.kind.kind))?],
            None if all => every_kind(&api)?,
            None => every(&api, &self.kind.kind.0)?,
        };
        output::say(&shown(&documents, self.format)?)
    }
}

fn every_kind(api: &Api) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for kind in kinds() {
        documents.extend(every(api, &kind.plural)?);
    }
    Ok(documents)
}

/// All resources of a kind.
fn every(api: &Api, kind: &str) -> Result<Vec<Document>> {
    let (mut documents, mut after) = (Vec::new(), None::<String>);
    loop {
        let request = Request::get(&format!("/v1/resources/{kind}")).query("limit", Some(PAGE));
        let page: ResourcePage = api.send(&request.query("after", after.as_deref()))?;
        let more = !page.items.is_empty();
        documents.extend(page.items);
        // a page that does not lead on would be asked for again and again
        match page.next.filter(|next| more && after.as_ref() != Some(next)) {
            Some(next) => after = Some(next),
            None => return Ok(documents),
        }
    }
}

fn shown(documents: &[Document], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(table(documents)),
        Format::Json => serde_json::to_string_pretty(documents).context("cannot write JSON"),
        Format::Yaml => yaml(documents).context("cannot write YAML"),
        Format::Name => {
            let names: Vec<String> =
                documents.iter().map(|document| short(&document.kind, &document.metadata.name)).collect();
            Ok(names.join("\n"))
        }
    }
}

/// A row for each document, with a column for each field of `spec` when they are of one kind.
fn table(documents: &[Document]) -> String {
    let kinds: BTreeSet<&str> = documents.iter().map(|document| document.kind.as_str()).collect();
    if kinds.len() != 1 {
        let mut table = Table::new(["KIND", "NAME", "SPEC"]);
        for document in documents {
            let fields: Vec<String> =
                document.spec.iter().map(|(field, value)| format!("{field}={}", cell(value))).collect();
            table.row([document.kind.to_lowercase(), document.metadata.name.clone(), fields.join(" ")]);
        }
        return table.to_string();
    }
    let fields: BTreeSet<&String> = documents.iter().flat_map(|document| document.spec.keys()).collect();
    let header = std::iter::once("NAME".to_owned()).chain(fields.iter().map(|field| column(field)));
    let mut table = Table::headless();
    table.add(header);
    for document in documents {
        let cells = fields.iter().map(|field| document.spec.get(*field).map(cell).unwrap_or_default());
        table.add(std::iter::once(document.metadata.name.clone()).chain(cells));
    }
    table.to_string()
}

/// `mergeNamespaces` as the name of a column: `MERGE-NAMESPACES`.
fn column(field: &str) -> String {
    let mut name = String::new();
    for c in field.chars() {
        if c.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// A value as one cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => fields
            .iter()
            .map(|(field, value)| format!("{field}:{}", cell(value)))
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents::Files;
    use super::*;
    use causeway_gateway::admin::api::Metadata;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "so that callers can write it in place")]
    fn document(kind: &str, name: &str, spec: Value) -> Document {
        Document {
            api_version: "causeway/v1".into(),
            kind: kind.into(),
            metadata: Metadata { name: name.into() },
            spec: spec.as_object().unwrap().clone(),
            status: json!({ "handle": "00ff", "notLinked": ["no"] }).as_object().unwrap().clone(),
        }
    }

    fn documents() -> Vec<Document> {
        let spec = json!({ "mergeNamespaces": "*", "stale": { "ejectAfter": "1m 30s" }, "paused": false, "transit": true });
        vec![
            document("Service", "orders.shop", json!({ "ports": ["80/http", "443/tcp"] })),
            document("Export", "orders.shop", json!({ "to": ["*"] })),
            document("Export", "idle.shop", json!({ "to": ["no", "phx", "1e3"] })),
            document("Link", "phx", spec),
            document("Link", "lhr", json!({ "mergeNamespaces": [], "stale": "serve-last" })),
        ]
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        #[derive(clap::Parser)]
        struct Read {
            #[command(flatten)]
            files: Files,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.yaml");
        for format in [Format::Yaml, Format::Json] {
            let text = shown(&documents(), format).unwrap();
            std::fs::write(&path, &text).unwrap();
            let args = <Read as clap::Parser>::parse_from(["x", "-f", path.to_str().unwrap()]);
            let read: Vec<Document> = args
                .files
                .read()
                .unwrap()
                .iter()
                .map(|found| serde_json::from_value(found.value()).unwrap())
                .collect();
            assert_eq!(read, documents(), "{text}");
        }
    }

    #[test]
    fn documents_of_one_kind_have_their_columns() {
        let all = documents();
        let expected = "\
NAME  MERGE-NAMESPACES  PAUSED  STALE              TRANSIT
phx   *                 false   ejectAfter:1m 30s  true
lhr   -                 -       serve-last         -";
        assert_eq!(table(&all[3..]), expected);
        assert!(
            table(&all)
                .starts_with("KIND     NAME         SPEC\nservice  orders.shop  ports=80/http,443/tcp\n")
        );
        assert_eq!(shown(&all[1..2], Format::Name).unwrap(), "export/orders.shop");
    }

    #[test]
    fn a_name_is_given_once() {
        let which = |text: &str| text.parse::<Which>().unwrap();
        let word = |text: &str| text.parse::<Word>().unwrap();
        assert_eq!(one_name(&which("export/a.b"), None).unwrap(), Some(word("a.b")));
        assert_eq!(one_name(&which("export"), Some(&word("a.b"))).unwrap(), Some(word("a.b")));
        assert_eq!(one_name(&which("export"), None).unwrap(), None);
        assert!(one_name(&which("export/a.b"), Some(&word("a.b"))).is_err());
        for bad in ["", "a b", "../x", "a?b", "a/b/c", "a/"] {
            assert!(bad.parse::<Which>().is_err(), "{bad}");
        }
    }
}
