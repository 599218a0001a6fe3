//! Resources: what operators want of a cluster, as documents that are kept in files.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The form that documents have.
pub const API_VERSION: &str = "causeway/v1";

/// One resource: what is wanted (`spec`), and what has become of it (`status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `Service`, `Export`, `Link`.
    pub kind: String,
    /// What it is called.
    pub metadata: Metadata,
    /// What is wanted. Fields that are left out have their defaults.
    #[serde(default)]
    pub spec: Map<String, Value>,
    /// What is known of it beside that. It is only shown: applying a document pays no attention to it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub status: Map<String, Value>,
}

/// What a resource is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its name, unique within its kind.
    pub name: String,
}

/// Documents to be applied: all of them, or none if one of them is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The documents, each as a [`Document`]. A `spec` may hold secrets that no answer repeats.
    pub documents: Vec<Value>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of the documents, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// One for each document.
    pub documents: Vec<AppliedDocument>,
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedDocument {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it takes.
    pub action: Action,
    /// How far that is.
    pub state: Progress,
    /// What it changes.
    pub changes: Vec<FieldChange>,
    /// The fields whose part of it was done, where it failed half-way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// The `spec` as it is; only of a dry run, nothing when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The `spec` as it will be, without secrets; only of a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What a document takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// There is no such resource yet.
    Created,
    /// There is, and it is changed.
    Configured,
    /// Nothing.
    Unchanged,
}

/// How far a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It was a dry run.
    Planned,
    /// It is as the document says.
    Done,
    /// It was refused; [`AppliedDocument::done`] says what of it was done before.
    Failed,
    /// One before it was refused.
    NotTried,
}

/// A field that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where it is in the document: `spec.to`.
    pub path: String,
    /// What it is; null when it is not there.
    pub from: Value,
    /// What it will be; null when it will not be there.
    pub to: Value,
}

/// Why documents were not applied. It is a [`super::Problem`] with more to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyProblem {
    /// A stable word: `invalid-documents`, or why the registry refused.
    pub reason: String,
    /// For the operator.
    pub message: String,
    /// Every mistake of every document; nothing was changed if there are any.
    #[serde(default)]
    pub mistakes: Vec<Mistake>,
    /// What was done and what not, when the registry refused on the way.
    #[serde(default)]
    pub documents: Vec<AppliedDocument>,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// Which document of the request, counted from 0.
    pub document: usize,
    /// Its kind, if it says so.
    pub kind: Option<String>,
    /// Its name, if it says so.
    pub name: Option<String>,
    /// Where in the document: `spec.to[1]`; empty for the document itself.
    pub path: String,
    /// What stands there, as JSON of at most 128 characters; never a secret.
    pub value: Option<String>,
    /// A stable word.
    pub reason: String,
    /// What is wrong with it, and what to write instead.
    pub rule: String,
}

/// Which resources of a kind are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceQuery {
    /// At most so many; 1,000 unless given, at most 10,000.
    pub limit: Option<usize>,
    /// Those after this name.
    pub after: Option<String>,
}

/// Resources of one kind, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePage {
    /// The revision of the registry that it shows.
    pub revision: u64,
    /// The resources.
    pub items: Vec<Document>,
    /// Give this as `after` for the next page; nothing when this is the last.
    pub next: Option<String>,
}

/// A kind of resource, for whoever writes documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindInfo {
    /// Its name in documents: `Export`.
    pub name: String,
    /// Its name in lists: `exports`.
    pub plural: String,
    /// What it is, in a sentence.
    pub about: String,
    /// A document of it, in YAML.
    pub example: String,
    /// The schema of its documents (JSON Schema, draft 2020-12).
    pub schema: Value,
}
