//! The schemas of documents (JSON Schema, draft 2020-12).

use super::text::NAME_PATTERN;
use crate::admin::api::API_VERSION;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of documents of `kind` whose spec is an `S`.
pub(super) fn document<S: JsonSchema>(kind: &str, about: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut spec = settings.into_generator().into_root_schema_for::<S>();
    for part in ["$schema", "title", "description"] {
        spec.remove(part);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        "description": about,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": kind },
            "metadata": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": false,
                "properties": { "name": { "type": "string", "pattern": NAME_PATTERN } },
            },
            "spec": spec,
            "status": { "type": "object", "description": "What is known of it; only shown, never read.", "readOnly": true },
        },
    })
}
