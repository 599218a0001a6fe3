//! What the data path needs of the control plane, in the form in which it needs it.

use crate::membership::{Discovery, View};
use causeway_client::{Control, ControlState, Exports, RegistrationError, Subscription};
use causeway_model::{ClusterId, PortSet, ServiceName, WorkloadId};
use causeway_policy::InboundPolicy;
use causeway_runtime::{ReadyGuard, Tasks};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// [`Discovery`] by a control connection.
pub(super) struct Discovered {
    control: Control,
    /// Keeps the services in use.
    subscriptions: Mutex<BTreeMap<ServiceName, Subscription>>,
}

impl Discovered {
    pub(super) fn new(control: Control) -> Self {
        Self { control, subscriptions: Mutex::default() }
    }

    /// The control connections.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Uses `service` from now on.
    pub(super) fn subscribe(&self, service: &ServiceName) -> View {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let subscription =
            subscriptions.entry(service.clone()).or_insert_with(|| self.control.subscribe(service));
        subscription.receiver()
    }
}

impl Discovery for Discovered {
    fn gone(&self, cluster: ClusterId, instance: WorkloadId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let watch = self.control.watch_instance(cluster, instance);
        Box::pin(async move { watch.gone().await })
    }
}

/// Drops `guard` once a gateway holds the registration; ends only if gateways refuse it, for then waiting does not help.
///
/// # Errors
/// Why the workload may not serve what it is to serve.
pub(super) async fn registration(
    mut state: watch::Receiver<ControlState>,
    guard: ReadyGuard,
    token: CancellationToken,
) -> Result<(), RegistrationError> {
    let mut guard = Some(guard);
    loop {
        let (registered, refused) = {
            let state = state.borrow_and_update();
            (state.registered, state.registration_error.clone())
        };
        if let Some(error) = refused {
            return Err(error);
        }
        if registered {
            drop(guard.take());
        }
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            changed = state.changed() => if changed.is_err() { token.cancelled().await },
        }
    }
}

/// The policy on inbound streams, as exports change.
pub(super) fn policy(
    control: &Control,
    served: BTreeMap<ServiceName, PortSet>,
    tasks: &Tasks,
) -> watch::Receiver<Arc<InboundPolicy>> {
    let own = control.cluster().trust_domain;
    let mut exported = control.exported();
    let compile = move |exported: &mut watch::Receiver<Exports>| {
        let exports = BTreeMap::clone(&exported.borrow_and_update());
        Arc::new(InboundPolicy::new(own.clone(), served.clone(), exports))
    };
    let (tell, policy) = watch::channel(compile(&mut exported));
    let stop = tasks.token();
    tasks.spawn("inbound policy", async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = exported.changed() => if changed.is_err() { return },
            }
            tell.send_replace(compile(&mut exported));
        }
    });
    policy
}
