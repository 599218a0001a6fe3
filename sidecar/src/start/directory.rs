//! What names mean, from the control plane: subscriptions, of one cluster's offers alone where the name pins it, and virtual addresses.

use super::control::Discovered;
use crate::membership::View;
use crate::names::{Directory, Subscribed};
use causeway_client::{Control, VipError};
use causeway_model::{ClusterName, Vip, VipName};
use causeway_wire::view::ServiceView;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, VipError>> + Send>>;

impl Directory for Discovered {
    fn subscribe(&self, name: &VipName) -> Subscribed {
        let subscription = self.control().subscribe(&name.service);
        let all = subscription.receiver();
        let view = match name.cluster.clone() {
            Some(cluster) => pinned(all, cluster),
            None => all,
        };
        Subscribed { view, guard: Box::new(subscription) }
    }

    fn vip(&self, name: VipName) -> Answer<Vip> {
        let control: Control = self.control().clone();
        Box::pin(async move { control.vip(name).await })
    }

    fn name_of(&self, vip: Vip) -> Answer<VipName> {
        let control: Control = self.control().clone();
        Box::pin(async move { control.vip_name(vip).await })
    }
}

/// What `all` says of one cluster, for as long as anybody looks. Call it on a runtime.
fn pinned(mut all: View, cluster: ClusterName) -> View {
    let only = move |view: &ServiceView| {
        let mut view = view.clone();
        view.offers.retain(|offer| offer.cluster.name == cluster);
        Arc::new(view)
    };
    let (tell, view) = watch::channel(all.borrow_and_update().as_deref().map(&only));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = all.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
            let now = all.borrow_and_update().as_deref().map(&only);
            tell.send_replace(now);
        }
    });
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{ClusterFacts, ClusterId, Locality, PortSet};
    use causeway_wire::view::Offer;
    use std::time::Duration;

    fn offered_by(clusters: &[&str]) -> Option<Arc<ServiceView>> {
        let offer = |(id, name): (u32, &&str)| Offer {
            cluster: ClusterFacts {
                name: name.parse().unwrap(),
                id: ClusterId::new(id).unwrap(),
                trust_domain: format!("{name}.mesh").parse().unwrap(),
                locality: Locality { region: "east".into(), zone: "1".into() },
            },
            handle: None,
            ports: PortSet::default(),
            identities: Vec::new(),
            healthy: 1,
            total: 1,
            stale_for: None,
            endpoints: Vec::new(),
        };
        let offers = (1..).zip(clusters).map(offer).collect();
        Some(Arc::new(ServiceView { name: "pay.shop".parse().unwrap(), offers }))
    }

    fn clusters(view: &View) -> Option<Vec<String>> {
        let view = view.borrow();
        view.as_deref().map(|view| view.offers.iter().map(|offer| offer.cluster.name.to_string()).collect())
    }

    #[tokio::test]
    async fn a_pinned_name_has_the_offers_of_its_cluster_alone() {
        let (all, receiver) = watch::channel(None);
        let mut view = pinned(receiver, "phx".parse().unwrap());
        assert_eq!(clusters(&view), None, "nothing is known yet, which is not nobody");
        for (offers, wanted) in [
            (vec!["iad", "phx"], vec!["phx".to_owned()]),
            (vec!["iad"], vec![]),
            (vec!["phx"], vec!["phx".to_owned()]),
        ] {
            all.send_replace(offered_by(&offers));
            let changed = tokio::time::timeout(Duration::from_secs(20), view.changed());
            changed.await.unwrap().unwrap();
            assert_eq!(clusters(&view), Some(wanted), "{offers:?}");
        }
        drop(view);
        let left = tokio::time::timeout(Duration::from_secs(20), all.closed());
        left.await.expect("what nobody looks at is not watched");
    }
}
