//! Documents of resources in files: found, read with the lines they stand on, and sent to be applied.

mod files;
mod send;
mod tree;

pub(super) use files::Files;
pub(super) use send::{apply, check};

use causeway_gateway::admin::api::Document;
use serde_json::Value;
use tree::Node;

/// A document and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The file; `-` is standard input.
    pub(super) file: String,
    node: Node,
}

impl Found {
    /// Its content.
    pub(super) fn value(&self) -> Value {
        self.node.value()
    }

    /// Its kind and name, as far as it says.
    pub(super) fn subject(&self) -> Option<(String, String)> {
        let value = self.value();
        let kind = value.get("kind")?.as_str()?;
        Some((kind.to_owned(), value.pointer("/metadata/name")?.as_str()?.to_owned()))
    }

    /// Where `path` of it stands: `FILE:LINE`.
    pub(super) fn place(&self, path: &str) -> String {
        format!("{}:{}", self.file, self.node.line_of(path))
    }
}

/// A resource in short: `export/orders.shop`.
pub(super) fn short(kind: &str, name: &str) -> String {
    format!("{}/{name}", kind.to_lowercase())
}

/// Documents as YAML that can be applied.
pub(super) fn yaml(documents: &[Document]) -> Result<String, serde_saphyr::ser::Error> {
    let texts: Result<Vec<String>, _> = documents.iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}
