//! What documents take, found out before anything is changed.
//!
//! Every step is tried on a copy of the catalog: the registry's own rules decide, and all they refuse is told at once.

use super::decode::{Envelope, envelope};
use super::faults::{Faults, Found};
use super::kind::AnyKind;
use super::{find, no_kind};
use crate::admin::api::{Action, AppliedDocument, FieldChange, Progress};
use causeway_catalog::{Catalog, Change, ChangeIf, Command, MergeRule, Witness};
use causeway_model::{ClusterName, Revision};
use causeway_wire::token::LinkToken;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What documents are compared with.
pub(super) struct Ground {
    /// The intent that stands.
    pub(super) catalog: Arc<Catalog>,
    /// This cluster.
    pub(super) own: ClusterName,
    /// Now, in seconds since 1970.
    pub(super) now: u64,
    /// Who asks.
    pub(super) by: String,
}

/// What has to be done for a document, and where in the document that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) path: &'static str,
    pub(super) deed: Deed,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A change of the registry, which holds only if nobody else changed the resource meanwhile.
    Change(Box<ChangeIf>),
    /// A link is made with a token of the other cluster.
    Accept {
        /// The token.
        token: Box<LinkToken>,
        /// Where the peer's services join local ones.
        merge: MergeRule,
    },
}

impl Step {
    /// A change that `path` asks for, of a resource that then is `was`.
    pub(super) fn change(path: &'static str, was: Witness, change: impl Into<Change>) -> Self {
        Self { path, deed: Deed::Change(Box::new(ChangeIf { was, change: change.into() })) }
    }
}

/// A document and what it takes.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) changes: Vec<FieldChange>,
    pub(super) before: Option<Value>,
    pub(super) after: Value,
    pub(super) steps: Vec<Step>,
}

impl Planned {
    /// How it is told when it is `state`.
    pub(super) fn told(&self, state: Progress) -> AppliedDocument {
        AppliedDocument {
            kind: self.kind.to_owned(),
            name: self.name.clone(),
            action: self.action,
            state,
            changes: self.changes.clone(),
            done: Vec::new(),
            before: None,
            after: None,
        }
    }

    /// How it is told when nothing is to be done.
    pub(super) fn shown(&self) -> AppliedDocument {
        let (before, after) = (self.before.clone(), Some(self.after.clone()));
        AppliedDocument { before, after, ..self.told(Progress::Planned) }
    }

    /// Its place among the kinds.
    fn rank(&self) -> usize {
        find(self.kind).map_or(usize::MAX, |(rank, _)| rank)
    }
}

/// The places of the plans in the order in which they are carried out: by kind, and then as they were given.
pub(super) fn order(plans: &[Planned]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_key(|&index| plans[index].rank());
    order
}

/// What `documents` take, in their order, or every mistake in them.
pub(super) fn plan(ground: &Ground, documents: &[Value]) -> Result<Vec<Planned>, Found> {
    let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut looked: Vec<(Option<Planned>, Faults)> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let mut faults = Faults::new(index);
        let planned = one(ground, document, &mut faults);
        if let Some(planned) = &planned
            && let Some(first) = known.insert((planned.kind.to_owned(), planned.name.clone()), index)
        {
            let name = Value::from(planned.name.as_str());
            let rule =
                format!("document {} is about it, too: say what is wanted of it in one place", first + 1);
            faults.add("metadata.name", Some(&name), "duplicate", rule);
        }
        looked.push((planned, faults));
    }
    try_out(ground, &mut looked);
    let (mut plans, mut found) = (Vec::new(), Found::default());
    for (planned, faults) in looked {
        found.add(faults);
        plans.extend(planned);
    }
    if found.count == 0 { Ok(plans) } else { Err(found) }
}

/// What is wrong with the form of `documents`, whatever they are compared with.
pub(super) fn check(documents: &[Value]) -> Found {
    let mut found = Found::default();
    for (index, document) in documents.iter().enumerate() {
        let mut faults = Faults::new(index);
        if let Some((kind, envelope)) = read(document, &mut faults) {
            kind.check(&envelope, &mut faults);
        }
        found.add(faults);
    }
    found
}

fn one(ground: &Ground, document: &Value, faults: &mut Faults) -> Option<Planned> {
    let (kind, envelope) = read(document, faults)?;
    kind.plan(ground, &envelope, faults)
}

/// What every document has, and its kind.
fn read(document: &Value, faults: &mut Faults) -> Option<(&'static dyn AnyKind, Envelope)> {
    let envelope = envelope(document, faults)?;
    let Some((_, kind)) = find(&envelope.kind).filter(|(_, kind)| kind.name() == envelope.kind) else {
        let value = Value::from(envelope.kind.as_str());
        faults.add("kind", Some(&value), "kind-unknown", no_kind(&envelope.kind));
        return None;
    };
    Some((kind, envelope))
}

/// Carries out the steps of what has no mistake so far on a copy of the catalog.
fn try_out(ground: &Ground, looked: &mut [(Option<Planned>, Faults)]) {
    let waits = |planned: &Planned| !planned.steps.is_empty();
    let mut order: Vec<usize> =
        (0..looked.len()).filter(|&index| looked[index].0.as_ref().is_some_and(waits)).collect();
    if order.is_empty() {
        return;
    }
    order.sort_by_key(|&index| looked[index].0.as_ref().map(Planned::rank));
    let mut catalog = Catalog::clone(&ground.catalog);
    for index in order {
        let (Some(planned), faults) = &mut looked[index] else { continue };
        if !faults.is_empty() {
            continue;
        }
        for step in &planned.steps {
            // what a new link is comes from the other cluster, and what follows builds on it
            let Deed::Change(change) = &step.deed else { break };
            let body = ChangeIf::clone(change).into();
            let command = Command { at: ground.now, by: ground.by.clone(), body };
            let revision = Revision(catalog.revision().0 + 1);
            if let Err(refusal) = catalog.apply(revision, &command).outcome {
                let document = [("spec".to_owned(), planned.after.clone())];
                let document = Value::Object(Map::from_iter(document));
                let value = document.pointer(&format!("/{}", step.path.replace('.', "/")));
                faults.add(step.path, value, refusal.reason(), refusal.to_string());
            }
        }
    }
}

/// The fields in which `to` differs from `from`; mappings are compared field by field, all else as a whole.
pub(super) fn changes(path: &str, from: Option<&Value>, to: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(path, from, Some(to), &mut found);
    found
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<FieldChange>) {
    let fields = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    match (fields(from), fields(to)) {
        (Some(from), Some(to)) => {
            let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
            for name in names {
                compare(&format!("{path}.{name}"), from.get(name), to.get(name), found);
            }
        }
        (None, Some(to)) if from.is_none() => {
            for (name, value) in &to {
                compare(&format!("{path}.{name}"), None, Some(value), found);
            }
        }
        _ if from == to => {}
        _ => found.push(FieldChange {
            path: path.to_owned(),
            from: from.cloned().unwrap_or_default(),
            to: to.cloned().unwrap_or_default(),
        }),
    }
}
