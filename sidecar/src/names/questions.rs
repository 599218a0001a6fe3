//! The names as the DNS server asks for them, from before there is anybody to ask.

use super::{LookupError, NameTable};
use causeway_dns::{NameError, Names, Resolved};
use causeway_model::{Vip, VipName};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::SetOnce;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, NameError>> + Send>>;

/// Questions for names. They wait until the sidecar is a member of its cluster, as long as the DNS server lets them: an application
/// that starts beside it must not be told that there is no such name, and what it asks for outside the mesh needs nobody.
#[derive(Clone, Default)]
pub(crate) struct Questions(Arc<SetOnce<Arc<NameTable>>>);

impl Questions {
    /// From now on `names` answers them.
    pub(crate) fn begin(&self, names: &Arc<NameTable>) {
        // there is one table for the life of a process
        let _ = self.0.set(Arc::clone(names));
    }

    #[cfg(test)]
    pub(super) fn of(names: &Arc<NameTable>) -> Self {
        let questions = Self::default();
        questions.begin(names);
        questions
    }
}

impl Names for Questions {
    fn known(&self, name: &VipName) -> Option<Resolved> {
        let names = self.0.get()?;
        let known = names.table().by_name(name)?;
        let ports = known.ports()?;
        names.warm(&known);
        Some(Resolved { vip: known.vip, ports })
    }

    fn name_of(&self, vip: Vip) -> Option<VipName> {
        self.0.get()?.table().by_vip(vip).map(|name| name.name.clone())
    }

    fn resolve(&self, name: VipName) -> Answer<Resolved> {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let names = names.wait().await;
            let found = names.find(name).await.map_err(name_error)?;
            names.warm(&found);
            // a service in use that nobody offers any more is gone
            let ports = found.ports().ok_or(NameError::Unknown)?;
            Ok(Resolved { vip: found.vip, ports })
        })
    }

    fn resolve_name_of(&self, vip: Vip) -> Answer<VipName> {
        let names = Arc::clone(&self.0);
        Box::pin(async move { names.wait().await.name_of(vip).await.map_err(name_error) })
    }
}

fn name_error(error: LookupError) -> NameError {
    match error {
        LookupError::Unknown => NameError::Unknown,
        LookupError::Unavailable(why) => NameError::Unavailable(why),
    }
}
