//! `Export`: to whom a service is offered.

use super::faults::Faults;
use super::kind::Kind;
use super::plan::{Ground, Step};
use super::text::Text;
use crate::admin::exports::clusters;
use causeway_catalog::{Bound, Catalog, CommandBody, ExportTo, Refusal, Unexport, Witness};
use causeway_model::{ClusterName, ServiceHandle, ServiceName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub(super) struct ExportKind;

/// What stands for every linked cluster.
const EVERYBODY: &str = "*";

/// What can be said of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExportSpec {
    /// The clusters that it is offered to, linked or not yet; ["*"] is every linked cluster, now and later.
    to: Targets,
}

/// To whom, as documents write it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Targets(ExportTo);

impl Default for Targets {
    fn default() -> Self {
        Self(ExportTo::All)
    }
}

/// A cluster, or every one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Everybody,
    Cluster(ClusterName),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == EVERYBODY {
            return Ok(Self::Everybody);
        }
        text.parse().map(Self::Cluster).map_err(|error| format!("{error}; \"*\" is every linked cluster"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str(EVERYBODY),
            Self::Cluster(name) => name.fmt(f),
        }
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(clusters(&self.0))
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named = Vec::<Text<Target>>::deserialize(deserializer)?;
        let clusters: BTreeSet<ClusterName> = named
            .iter()
            .filter_map(|Text(target)| match target {
                Target::Everybody => None,
                Target::Cluster(name) => Some(name.clone()),
            })
            .collect();
        let everybody = named.iter().any(|Text(target)| *target == Target::Everybody);
        match (everybody, clusters.is_empty()) {
            (true, true) => Ok(Self(ExportTo::All)),
            (false, false) => Ok(Self(ExportTo::Clusters(clusters))),
            (true, false) => {
                Err(D::Error::custom("\"*\" is every linked cluster: name it alone, or only the clusters"))
            }
            (false, true) => Err(D::Error::custom(
                "it names nobody: name clusters, leave it out for every linked one, or delete the export",
            )),
        }
    }
}

impl JsonSchema for Targets {
    fn schema_name() -> Cow<'static, str> {
        "clusters".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let cluster = Text::<ClusterName>::json_schema(generator);
        json_schema!({
            "type": "array",
            "items": { "anyOf": [cluster, { "const": EVERYBODY }] },
            "minItems": 1,
            "maxItems": Bound::ExportClusters.limit(),
        })
    }
}

impl Kind for ExportKind {
    const NAME: &'static str = "Export";
    const PLURAL: &'static str = "exports";
    const ABOUT: &'static str =
        "A service of this cluster that is offered to linked clusters. Its name is the service's.";
    const EXAMPLE: &'static str = "\
apiVersion: causeway/v1
kind: Export
metadata:
  name: orders.shop
spec:
  to: [phx, lhr]
";

    type Name = ServiceName;
    type Spec = ExportSpec;

    fn names(catalog: &Catalog, after: Option<&ServiceName>, limit: usize) -> Vec<ServiceName> {
        let names = catalog.exports().map(|export| &export.service);
        names.filter(|name| after.is_none_or(|after| *name > after)).take(limit).cloned().collect()
    }

    fn read(catalog: &Catalog, name: &ServiceName) -> Option<ExportSpec> {
        catalog.export_of(name).map(|export| ExportSpec { to: Targets(export.to.clone()) })
    }

    fn status(catalog: &Catalog, name: &ServiceName) -> Map<String, Value> {
        let Some(export) = catalog.export_of(name) else { return Map::new() };
        let not_linked: Vec<&str> = match &export.to {
            ExportTo::All => Vec::new(),
            ExportTo::Clusters(named) => named
                .iter()
                .filter(|cluster| catalog.link(cluster).is_none())
                .map(ClusterName::as_str)
                .collect(),
        };
        let handle = json!(export.handle.to_string());
        Map::from_iter([("handle".to_owned(), handle), ("notLinked".to_owned(), json!(not_linked))])
    }

    fn steps(
        _: &Ground,
        name: &ServiceName,
        from: Option<&ExportSpec>,
        to: &ExportSpec,
        _: &mut Faults,
    ) -> Vec<Step> {
        let was = |to: Option<&ExportTo>| Witness::Export(to.cloned());
        let export = |before, to: ExportTo| {
            let handle = ServiceHandle(rand::random_range(1..=u64::MAX));
            Step::change("spec.to", before, causeway_catalog::Export { service: name.clone(), handle, to })
        };
        let known = from.map(|from| &from.to.0);
        let (Some(ExportTo::Clusters(from)), ExportTo::Clusters(to)) = (known, &to.to.0) else {
            return vec![export(was(known), to.to.0.clone())];
        };
        // an export adds to the clusters that were named before; the handle stays as long as one of them is left
        let new: BTreeSet<ClusterName> = to.difference(from).cloned().collect();
        let old: BTreeSet<ClusterName> = from.difference(to).cloned().collect();
        let unexport = |before, from| {
            Step::change("spec.to", before, Unexport { service: name.clone(), from: Some(from) })
        };
        match (new.is_empty(), old.is_empty()) {
            (true, true) => Vec::new(),
            (false, true) => vec![export(was(known), ExportTo::Clusters(new))],
            (true, false) => vec![unexport(was(known), old)],
            // where some stay, those that go first make room for those that come
            (false, false) if old.len() < from.len() => {
                let left = ExportTo::Clusters(from.difference(&old).cloned().collect());
                vec![unexport(was(known), old), export(was(Some(&left)), ExportTo::Clusters(new))]
            }
            (false, false) => {
                let all = ExportTo::Clusters(from.union(&new).cloned().collect());
                vec![export(was(known), ExportTo::Clusters(new)), unexport(was(Some(&all)), old)]
            }
        }
    }

    fn removal(service: ServiceName) -> CommandBody {
        Unexport { service, from: None }.into()
    }

    fn missing(service: ServiceName) -> Refusal {
        Refusal::NotExported { service }
    }
}
