//! `Link`: how the services of a linked cluster are used, and the token that makes a link that does not stand yet.

use super::faults::Faults;
use super::kind::Kind;
use super::plan::{Deed, Ground, Step};
use super::text::{Seconds, Text};
use crate::links::LinkError;
use causeway_catalog::{
    Bound, Catalog, CommandBody, LinkIntent, MergeRule, PauseLink, Refusal, RemoveLink, SetLinkPolicy,
    StalePolicy, Witness,
};
use causeway_model::{ClusterName, Label};
use causeway_wire::token::LinkToken;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

pub(super) struct LinkKind;

/// Where the token stands.
const TOKEN: &str = "spec.token";
/// What stands for all namespaces.
const ALL: &str = "*";

/// What can be said of a link.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LinkSpec {
    /// Namespaces in which the peer's services join local ones of the same name; "*" is all of them, [] is none.
    merge_namespaces: Merge,
    /// What becomes of the peer's services while the link is silent: they are used when nobody else offers them (serve-last),
    /// so for a while and then not at all (ejectAfter), or not at all (fence).
    stale: Stale,
    /// Whether services are not shared over it for now.
    paused: bool,
    /// Whether traffic between this peer and others may pass through this cluster, and traffic of this cluster through the peer. It must
    /// be on at both ends of the link.
    transit: bool,
    /// The token that `causeway link invite` printed in the other cluster. It makes the link where none stands, and is not
    /// looked at afterwards. No answer shows it.
    #[serde(skip_serializing)]
    token: Option<String>,
}

/// Where services merge, as documents write it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Merge(MergeRule);

impl Default for Merge {
    fn default() -> Self {
        Self(MergeRule::All)
    }
}

impl Serialize for Merge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            MergeRule::All => serializer.serialize_str(ALL),
            MergeRule::None => serializer.collect_seq([""; 0]),
            MergeRule::Only(namespaces) => serializer.collect_seq(namespaces),
        }
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Namespaces;

        impl<'de> Visitor<'de> for Namespaces {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of namespaces, or \"*\" for all of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
                match text {
                    ALL => Ok(Merge(MergeRule::All)),
                    other => Err(E::custom(format!(
                        "write [{other}] for a list of namespaces, or \"*\" for all of them"
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let mut namespaces = BTreeSet::new();
                while let Some(Text(namespace)) = list.next_element::<Text<Label>>()? {
                    namespaces.insert(namespace);
                }
                let most = Bound::MergeNamespaces.limit();
                if namespaces.len() > most {
                    return Err(A::Error::custom(format!("it names more than {most} namespaces")));
                }
                Ok(Merge(if namespaces.is_empty() { MergeRule::None } else { MergeRule::Only(namespaces) }))
            }
        }

        deserializer.deserialize_any(Namespaces)
    }
}

impl JsonSchema for Merge {
    fn schema_name() -> Cow<'static, str> {
        "namespaces".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let namespace = Text::<Label>::json_schema(generator);
        let most = Bound::MergeNamespaces.limit();
        json_schema!({ "anyOf": [{ "const": ALL }, { "type": "array", "items": namespace, "maxItems": most }] })
    }
}

/// What becomes of a silent peer's services, as documents write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Stale {
    /// They are used when nobody else offers them.
    #[default]
    ServeLast,
    /// They are not used.
    Fence,
    /// They are used when nobody else offers them, for so long, and then not at all.
    #[serde(rename = "ejectAfter")]
    EjectAfter(Text<Seconds>),
}

impl From<StalePolicy> for Stale {
    fn from(policy: StalePolicy) -> Self {
        match policy {
            StalePolicy::ServeLast => Self::ServeLast,
            StalePolicy::Fence => Self::Fence,
            StalePolicy::EjectAfter { seconds } => Self::EjectAfter(Text(Seconds(seconds))),
        }
    }
}

impl From<Stale> for StalePolicy {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::ServeLast => Self::ServeLast,
            Stale::Fence => Self::Fence,
            Stale::EjectAfter(Text(Seconds(seconds))) => Self::EjectAfter { seconds },
        }
    }
}

impl LinkSpec {
    /// What a link is like that was just made.
    fn fresh(&self) -> Self {
        Self { merge_namespaces: self.merge_namespaces.clone(), ..Self::default() }
    }

    /// It as the registry has it.
    fn intent(&self) -> LinkIntent {
        LinkIntent {
            merge_namespaces: self.merge_namespaces.0.clone(),
            stale: self.stale.into(),
            transit: self.transit,
            paused: self.paused,
        }
    }

    /// What it takes to get from `from` to this.
    fn policy(&self, cluster: &ClusterName, from: &Self) -> Vec<Step> {
        let (mut steps, mut was) = (Vec::new(), from.intent());
        let path = [
            ("spec.mergeNamespaces", self.merge_namespaces != from.merge_namespaces),
            ("spec.stale", self.stale != from.stale),
            ("spec.transit", self.transit != from.transit),
        ];
        if let Some((path, _)) = path.into_iter().find(|(_, differs)| *differs) {
            let policy = SetLinkPolicy {
                cluster: cluster.clone(),
                merge_namespaces: self.merge_namespaces.0.clone(),
                stale: self.stale.into(),
                transit: self.transit,
            };
            let next = LinkIntent { paused: was.paused, ..self.intent() };
            steps.push(Step::change(path, Witness::Link(Some(std::mem::replace(&mut was, next))), policy));
        }
        if self.paused != from.paused {
            let pause = PauseLink { cluster: cluster.clone(), paused: self.paused };
            steps.push(Step::change("spec.paused", Witness::Link(Some(was)), pause));
        }
        steps
    }

    /// The token, if it can make the link to `cluster`.
    fn usable(&self, ground: &Ground, cluster: &ClusterName, faults: &mut Faults) -> Option<LinkToken> {
        let Some(token) = &self.token else {
            let rule = format!(
                "there is no link to {cluster}, and no token to make one: give what `causeway link invite --for {}` prints \
                 in {cluster}",
                ground.own
            );
            faults.add(TOKEN, None, "link-unknown", rule);
            return None;
        };
        let mut refuse = |reason, rule: String| faults.add(TOKEN, Some(&Value::Null), reason, rule);
        let token: LinkToken = match token.parse::<LinkToken>() {
            Ok(token) => token,
            Err(error) => {
                refuse(error.reason(), error.to_string());
                return None;
            }
        };
        match misfit(&token, ground, cluster) {
            None => Some(token),
            Some((reason, rule)) => {
                refuse(reason, rule);
                None
            }
        }
    }
}

/// Why the token cannot make the link to `cluster`, as far as it is known before anybody is called.
fn misfit(token: &LinkToken, ground: &Ground, cluster: &ClusterName) -> Option<(&'static str, String)> {
    let (core, own) = (&token.core, &ground.own);
    if core.cluster != *cluster {
        let rule = format!(
            "the token is of cluster {}: name the link so, or give a token of {cluster}",
            core.cluster
        );
        return Some(("link-name-clash", rule));
    }
    let error = if core.cluster == *own {
        LinkError::OwnToken { id: core.id_text(), cluster: own.clone() }
    } else if ground.now >= core.expires_at {
        let (id, cluster) = (core.id_text(), cluster.clone());
        LinkError::Expired { id, cluster, expires_at: core.expires_at, now: ground.now }
    } else {
        let invited = token.for_cluster.clone().filter(|invited| invited != own)?;
        LinkError::ForAnother { id: core.id_text(), cluster: cluster.clone(), invited, own: own.clone() }
    };
    Some((error.reason(), error.to_string()))
}

impl Kind for LinkKind {
    const NAME: &'static str = "Link";
    const PLURAL: &'static str = "links";
    const ABOUT: &'static str =
        "The agreement with another cluster to carry traffic and share services. Its name is the cluster's.";
    const EXAMPLE: &'static str = "\
apiVersion: causeway/v1
kind: Link
metadata:
  name: phx
spec:
  mergeNamespaces: [shop]
  stale:
    ejectAfter: 30s
  paused: false
  transit: false
";
    const SECRETS: &'static [&'static str] = &[TOKEN];

    type Name = ClusterName;
    type Spec = LinkSpec;

    fn names(catalog: &Catalog, after: Option<&ClusterName>, limit: usize) -> Vec<ClusterName> {
        let names = catalog.links().map(|link| &link.peer.name);
        names.filter(|name| after.is_none_or(|after| *name > after)).take(limit).cloned().collect()
    }

    fn read(catalog: &Catalog, name: &ClusterName) -> Option<LinkSpec> {
        catalog.link(name).map(|link| LinkSpec {
            merge_namespaces: Merge(match &link.merge_namespaces {
                MergeRule::Only(namespaces) if namespaces.is_empty() => MergeRule::None,
                rule => rule.clone(),
            }),
            stale: link.stale.into(),
            paused: link.paused,
            transit: link.transit,
            token: None,
        })
    }

    fn status(catalog: &Catalog, name: &ClusterName) -> Map<String, Value> {
        let Some(link) = catalog.link(name) else { return Map::new() };
        Map::from_iter([
            ("clusterId".to_owned(), json!(link.peer.id.get())),
            ("trustDomain".to_owned(), json!(link.peer.trust_domain.to_string())),
            ("region".to_owned(), json!(link.peer.locality.region)),
            ("gateways".to_owned(), json!(link.gateways.len())),
            ("pausedByPeer".to_owned(), json!(link.peer_paused)),
            ("establishedAt".to_owned(), json!(link.established_at)),
        ])
    }

    fn steps(
        ground: &Ground,
        name: &ClusterName,
        from: Option<&LinkSpec>,
        to: &LinkSpec,
        faults: &mut Faults,
    ) -> Vec<Step> {
        if let Some(from) = from {
            return to.policy(name, from);
        }
        let Some(token) = to.usable(ground, name, faults) else { return Vec::new() };
        let accept = Deed::Accept { token: Box::new(token), merge: to.merge_namespaces.0.clone() };
        let mut steps = vec![Step { path: TOKEN, deed: accept }];
        steps.extend(to.policy(name, &to.fresh()));
        steps
    }

    fn removal(cluster: ClusterName) -> CommandBody {
        RemoveLink { cluster }.into()
    }

    fn missing(cluster: ClusterName) -> Refusal {
        Refusal::LinkUnknown { cluster }
    }
}
