//! What the flows of one direction may take.

use super::outbox::Budget;
use crate::config::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the flows of one direction share.
#[derive(Clone, Debug)]
pub(crate) struct FlowLimits {
    /// One permit for each flow that may be open.
    pub(crate) places: Arc<Semaphore>,
    /// For what waits to be sent.
    pub(crate) budget: Budget,
    /// How long a flow may carry nothing.
    pub(crate) idle: Duration,
}

impl FlowLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.max_flows as usize)),
            budget: Budget::default(),
            idle: limits.udp_idle_timeout.get(),
        }
    }
}
