//! What the server must be told: which names there are, and where they are reached.

use causeway_model::{PortSet, Vip, VipName};
use std::future::Future;
use std::pin::Pin;

/// A name that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its virtual address.
    pub vip: Vip,
    /// The ports of the service.
    pub ports: PortSet,
}

/// Why a name has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is no such name: the asker is told so (NXDOMAIN).
    Unknown,
    /// It cannot be told now, for this reason: the asker may try again (SERVFAIL, with the reason if it sent EDNS).
    Unavailable(String),
}

/// Who knows the names of the mesh.
pub trait Names: Send + Sync + 'static {
    /// The name, if it is known here and now. Must not block. It is called for every question for a name that may be a
    /// service, so that the implementor can begin a connection to it.
    fn known(&self, name: &VipName) -> Option<Resolved>;

    /// Finds out about a name that is not known. Questions for the same name wait for one such call; it is dropped
    /// when they have waited for [`crate::Limits::question_timeout`].
    fn resolve(
        &self,
        name: VipName,
    ) -> Pin<Box<dyn Future<Output = Result<Resolved, NameError>> + Send + 'static>>;

    /// The name of a virtual address, for reverse questions, if it is known here and now. Must not block. The default knows none.
    fn name_of(&self, vip: Vip) -> Option<VipName> {
        let _ = vip;
        None
    }

    /// Finds out about a virtual address that is not known; bounded as [`Self::resolve`] is. The default finds none.
    fn resolve_name_of(
        &self,
        vip: Vip,
    ) -> Pin<Box<dyn Future<Output = Result<VipName, NameError>> + Send + 'static>> {
        let _ = vip;
        Box::pin(std::future::ready(Err(NameError::Unknown)))
    }
}
