//! What a kind of resource is, and how the table calls one without knowing which it is.

use super::decode::{Envelope, decode};
use super::faults::Faults;
use super::plan::{Ground, Planned, Step, changes};
use super::schema;
use crate::admin::api::{API_VERSION, Action, Document, KindInfo, Metadata};
use crate::admin::error::ApiError;
use crate::admin::extract::parse;
use causeway_catalog::{Catalog, CommandBody, Refusal};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

/// A kind of resource: how its documents are read, compared with the catalog and made true.
pub(super) trait Kind: 'static {
    /// Its name in documents: `Export`.
    const NAME: &'static str;
    /// Its name in lists: `exports`.
    const PLURAL: &'static str;
    /// What it is, in a sentence.
    const ABOUT: &'static str;
    /// A document of it, in YAML.
    const EXAMPLE: &'static str;
    /// Paths of fields that no answer may repeat. [`Kind::Spec`] does not serialize them.
    const SECRETS: &'static [&'static str] = &[];

    /// What a resource is called. It is ordered as the catalog orders the resources.
    type Name: FromStr<Err: Display> + Display;
    /// What can be wanted. Unknown fields are refused; a field that is left out has its default, and serializes.
    type Spec: DeserializeOwned + Serialize + JsonSchema;

    /// The first `limit` names after `after`.
    fn names(catalog: &Catalog, after: Option<&Self::Name>, limit: usize) -> Vec<Self::Name>;

    /// What the catalog says of `name`, in the words of a document; nothing when there is no such resource.
    fn read(catalog: &Catalog, name: &Self::Name) -> Option<Self::Spec>;

    /// What is known of `name` beside what is wanted.
    fn status(catalog: &Catalog, name: &Self::Name) -> Map<String, Value>;

    /// What it takes to get from `from` to `to`, which differ. Mistakes that the registry would not find are told.
    fn steps(
        ground: &Ground,
        name: &Self::Name,
        from: Option<&Self::Spec>,
        to: &Self::Spec,
        faults: &mut Faults,
    ) -> Vec<Step>;

    /// What ends it.
    fn removal(name: Self::Name) -> CommandBody;

    /// Why there is nothing to show of `name`.
    fn missing(name: Self::Name) -> Refusal;
}

/// A [`Kind`] in the table.
pub(super) trait AnyKind {
    fn name(&self) -> &'static str;
    fn plural(&self) -> &'static str;
    fn info(&self) -> KindInfo;
    fn page(&self, catalog: &Catalog, after: Option<&str>, limit: usize) -> Result<Vec<Document>, ApiError>;
    fn read(&self, catalog: &Catalog, name: &str) -> Result<Document, ApiError>;
    fn removal(&self, name: &str) -> Result<CommandBody, ApiError>;
    /// Whether the document has the form of this kind.
    fn check(&self, envelope: &Envelope, faults: &mut Faults) -> bool;
    /// What the document takes; nothing when it has mistakes.
    fn plan(&self, ground: &Ground, envelope: &Envelope, faults: &mut Faults) -> Option<Planned>;
}

/// The table's view of `K`.
pub(super) struct Of<K>(PhantomData<fn() -> K>);

impl<K: Kind> Of<K> {
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<K: Kind> AnyKind for Of<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn plural(&self) -> &'static str {
        K::PLURAL
    }

    fn info(&self) -> KindInfo {
        KindInfo {
            name: K::NAME.to_owned(),
            plural: K::PLURAL.to_owned(),
            about: K::ABOUT.to_owned(),
            example: K::EXAMPLE.to_owned(),
            schema: schema::document::<K::Spec>(K::NAME, K::ABOUT),
        }
    }

    fn page(&self, catalog: &Catalog, after: Option<&str>, limit: usize) -> Result<Vec<Document>, ApiError> {
        let after: Option<K::Name> = after.map(|after| parse("after", after)).transpose()?;
        let names = K::names(catalog, after.as_ref(), limit);
        names.iter().filter_map(|name| document::<K>(catalog, name)).collect()
    }

    fn read(&self, catalog: &Catalog, name: &str) -> Result<Document, ApiError> {
        let name: K::Name = parse("name", name)?;
        document::<K>(catalog, &name).unwrap_or_else(|| Err(K::missing(name).into()))
    }

    fn removal(&self, name: &str) -> Result<CommandBody, ApiError> {
        Ok(K::removal(parse("name", name)?))
    }

    fn check(&self, envelope: &Envelope, faults: &mut Faults) -> bool {
        read::<K>(envelope, faults).is_some()
    }

    fn plan(&self, ground: &Ground, envelope: &Envelope, faults: &mut Faults) -> Option<Planned> {
        let (name, to) = read::<K>(envelope, faults)?;
        let from = K::read(&ground.catalog, &name);
        let before = from.as_ref().map(|spec| value(spec, faults)).transpose().ok()?;
        let after = value(&to, faults).ok()?;
        let mut planned = Planned {
            kind: K::NAME,
            name: name.to_string(),
            action: if before.is_none() { Action::Created } else { Action::Configured },
            changes: changes("spec", before.as_ref(), &after),
            steps: Vec::new(),
            before,
            after,
        };
        if planned.changes.is_empty() && from.is_some() {
            planned.action = Action::Unchanged;
        } else {
            planned.steps = K::steps(ground, &name, from.as_ref(), &to, faults);
        }
        Some(planned)
    }
}

/// What the document calls it and says of it.
fn read<K: Kind>(envelope: &Envelope, faults: &mut Faults) -> Option<(K::Name, K::Spec)> {
    faults.hide(K::SECRETS);
    let name: Option<K::Name> = match envelope.name.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let value = Value::from(envelope.name.as_str());
            faults.add("metadata.name", Some(&value), "invalid-value", format!("{error}"));
            None
        }
    };
    let spec: Option<K::Spec> = decode(&envelope.spec, "spec", faults);
    Some((name?, spec?))
}

fn document<K: Kind>(catalog: &Catalog, name: &K::Name) -> Option<Result<Document, ApiError>> {
    let spec = K::read(catalog, name)?;
    let spec = match serde_json::to_value(spec) {
        Ok(Value::Object(spec)) => spec,
        Ok(other) => return Some(Err(ApiError::of("internal", format!("a spec is no mapping but {other}")))),
        Err(error) => return Some(Err(ApiError::of("internal", error))),
    };
    Some(Ok(Document {
        api_version: API_VERSION.to_owned(),
        kind: K::NAME.to_owned(),
        metadata: Metadata { name: name.to_string() },
        spec,
        status: K::status(catalog, name),
    }))
}

fn value(spec: &impl Serialize, faults: &mut Faults) -> Result<Value, ()> {
    serde_json::to_value(spec).map_err(|error| faults.add("spec", None, "internal", error.to_string()))
}
