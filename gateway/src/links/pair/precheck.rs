//! What can be said of a token before anybody is called.

use crate::links::LinkError;
use causeway_catalog::{Catalog, Refusal};
use causeway_model::ClusterFacts;
use causeway_wire::token::LinkToken;

/// Whether cluster `own`, with the links in `catalog`, may accept `token` at `now` (seconds since 1970). A token of a cluster
/// that is linked already is taken: the link is made anew.
pub(super) fn precheck(
    token: &LinkToken,
    own: &ClusterFacts,
    catalog: &Catalog,
    now: u64,
) -> Result<(), LinkError> {
    let core = &token.core;
    if core.trust_domain == own.trust_domain && core.cluster == own.name {
        return Err(LinkError::OwnToken { id: core.id_text(), cluster: own.name.clone() });
    }
    if now >= core.expires_at {
        return Err(LinkError::Expired {
            id: core.id_text(),
            cluster: core.cluster.clone(),
            expires_at: core.expires_at,
            now,
        });
    }
    if let Some(invited) = token.for_cluster.as_ref().filter(|invited| **invited != own.name) {
        return Err(LinkError::ForAnother {
            id: core.id_text(),
            cluster: core.cluster.clone(),
            invited: invited.clone(),
            own: own.name.clone(),
        });
    }
    let linked = catalog.links().map(|link| &link.peer);
    std::iter::once(own).chain(linked).try_for_each(|other| clash(token, other)).map_err(LinkError::Refused)
}

fn clash(token: &LinkToken, other: &ClusterFacts) -> Result<(), Refusal> {
    let core = &token.core;
    let same =
        (core.cluster == other.name, core.cluster_id == other.id, core.trust_domain == other.trust_domain);
    let peer = core.cluster.clone();
    match same {
        (true, true, true) | (false, false, false) => Ok(()),
        (_, _, true) => Err(Refusal::LinkTrustDomainClash {
            peer,
            trust_domain: core.trust_domain.clone(),
            holder: other.name.clone(),
        }),
        (_, true, _) => Err(Refusal::LinkIdClash { peer, id: core.cluster_id, holder: other.name.clone() }),
        (true, _, _) => Err(Refusal::LinkNameClash { peer }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::introduction::tests::{facts, gateway};
    use causeway_catalog::{Command, CommandBody, EstablishLink, InitCluster, MergeRule};
    use causeway_model::{Epoch, Revision};
    use causeway_wire::token::TokenCore;

    fn token(cluster: &ClusterFacts) -> LinkToken {
        LinkToken {
            core: TokenCore {
                id: [1; 8],
                secret: [2; 32],
                cluster: cluster.name.clone(),
                cluster_id: cluster.id,
                trust_domain: cluster.trust_domain.clone(),
                root_fingerprint: [3; 32],
                gateways: vec!["192.0.2.1:7443".parse().unwrap()],
                expires_at: 1000,
            },
            for_cluster: None,
        }
    }

    /// Cluster iad, linked with phx.
    fn catalog() -> Catalog {
        let mut catalog = Catalog::new();
        let init = InitCluster {
            facts: facts("iad", 1),
            root_der: vec![1],
            sealed_ca: vec![1],
            gateway: gateway(1),
            cid_key: (Epoch(1), [1; 16].into()),
            probe_key: (Epoch(1), [1; 32].into()),
        };
        let link = EstablishLink {
            invite: None,
            peer: facts("phx", 2),
            roots: vec![vec![2]],
            gateways: vec![gateway(7)],
            key: [3; 32].into(),
            merge_namespaces: MergeRule::All,
        };
        for (revision, body) in [(1, CommandBody::from(init)), (2, CommandBody::from(link))] {
            let command = Command { at: 10, by: "test".into(), body };
            catalog.apply(Revision(revision), &command).outcome.unwrap();
        }
        catalog
    }

    fn verdict(token: &LinkToken, now: u64) -> Result<(), &'static str> {
        precheck(token, &facts("iad", 1), &catalog(), now).map_err(|error| error.reason())
    }

    #[test]
    fn a_token_of_a_new_or_of_the_same_cluster_passes() {
        assert_eq!(verdict(&token(&facts("lhr", 3)), 999), Ok(()));
        assert_eq!(verdict(&token(&facts("phx", 2)), 999), Ok(()));
        let named = LinkToken { for_cluster: Some("iad".parse().unwrap()), ..token(&facts("lhr", 3)) };
        assert_eq!(verdict(&named, 0), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_before_anybody_is_called() {
        assert_eq!(verdict(&token(&facts("lhr", 3)), 1000), Err("invite-expired"));
        let other = LinkToken { for_cluster: Some("fra".parse().unwrap()), ..token(&facts("lhr", 3)) };
        assert_eq!(verdict(&other, 0), Err("invite-for-another"));
        assert_eq!(verdict(&token(&facts("iad", 1)), 5000), Err("link-own-token"));
        assert_eq!(verdict(&token(&facts("lhr", 1)), 0), Err("link-id-clash"), "our own id");
        assert_eq!(verdict(&token(&facts("lhr", 2)), 0), Err("link-id-clash"), "a linked cluster's id");
        assert_eq!(verdict(&token(&facts("phx", 3)), 0), Err("link-trust-domain-clash"));
        let rebuilt = ClusterFacts { trust_domain: "phx-2.mesh".parse().unwrap(), ..facts("phx", 3) };
        assert_eq!(verdict(&token(&rebuilt), 0), Err("link-name-clash"));
        let twin = ClusterFacts { trust_domain: "iad.mesh".parse().unwrap(), ..facts("lhr", 3) };
        assert_eq!(verdict(&token(&twin), 0), Err("link-trust-domain-clash"));
    }
}
