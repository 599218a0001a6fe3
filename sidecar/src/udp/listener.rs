//! The listeners of UDP: each has one socket, and a table of the flows of the applications that send to it.

use super::counts::{Counts, DropReason};
use super::flow::{Flow, run};
use super::sink::Socket;
use super::source::{Ends, FlowSource};
use crate::access::{Access, Direction};
use crate::failure::Failure;
use crate::outbound::{ACCEPT_PAUSE, Outbound, Route};
use causeway_model::Protocol;
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How often flows that have ended are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How often at most it is said that flows are refused.
const SAY: Duration = Duration::from_secs(10);

/// Finds out where what is for a virtual address goes.
pub(crate) trait Lookup: Send + Sync + 'static {
    /// The route of what was sent to `to`.
    ///
    /// # Errors
    /// Nothing of the mesh has the address, or nobody could say.
    fn route(&self, to: SocketAddr) -> Pin<Box<dyn Future<Output = Result<Route, Failure>> + Send>>;
}

/// Where the flows of a listener go.
#[derive(Clone)]
pub(crate) enum Routes {
    /// All to one port of a service.
    One(Route),
    /// Each where its virtual address says.
    ByAddress(Arc<dyn Lookup>),
}

impl Routes {
    pub(super) async fn find(&self, ends: Ends) -> Result<Route, Failure> {
        match self {
            Self::One(route) => Ok(route.clone()),
            // what has no destination of its own is sent to no virtual address, either
            Self::ByAddress(lookup) => lookup.route(ends.to.unwrap_or(ends.from)).await,
        }
    }
}

/// One listener and the flows of the applications that send to it.
pub(crate) struct Flows {
    outbound: Arc<Outbound>,
    source: FlowSource,
    routes: Routes,
    table: FxHashMap<Ends, Arc<Flow>>,
    /// Payloads of flows that are not in the table, of one turn.
    fresh: Vec<(Ends, Vec<u8>)>,
    /// How many flows were refused since that was said.
    refused: u64,
    said: Option<Instant>,
}

impl Flows {
    pub(crate) fn new(outbound: &Arc<Outbound>, source: FlowSource, routes: Routes) -> Self {
        Self {
            outbound: Arc::clone(outbound),
            source,
            routes,
            table: FxHashMap::default(),
            fresh: Vec::new(),
            refused: 0,
            said: None,
        }
    }

    /// Takes what applications send, until the drain has begun and the last flow has ended, or it is `over`: another process reads
    /// the same socket. The flows that are open then go on until they are quiet.
    pub(crate) async fn run(mut self, over: impl Future<Output = ()>) {
        let mut over = pin!(over);
        let (drain, cut) = (self.outbound.drain.clone(), self.outbound.cut.clone());
        let (mut draining, mut cut) = (pin!(drain.started()), pin!(cut.cancelled()));
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(drain.is_draining() && self.table.is_empty()) {
            tokio::select! {
                ready = self.source.ready() => {
                    let more = ready.and_then(|()| self.turn());
                    match more {
                        Ok(true) => tokio::task::yield_now().await,
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(%error, "cannot receive datagrams of applications");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
                _ = sweep.tick(), if !self.table.is_empty() => {
                    self.table.retain(|_, flow| !flow.is_ended());
                    self.source.sweep();
                }
                () = &mut draining, if !drain.is_draining() => {}
                () = &mut cut => return,
                () = &mut over => return,
            }
        }
    }

    /// Takes what is there. One look at the clock does for all.
    fn turn(&mut self) -> std::io::Result<bool> {
        let now = Instant::now();
        let (table, fresh) = (&self.table, &mut self.fresh);
        let more = self.source.take(|ends, framed| match table.get(&ends).filter(|flow| !flow.is_ended()) {
            Some(flow) => flow.take(framed, now),
            None => fresh.push((ends, framed.to_vec())),
        });
        for (ends, mut framed) in std::mem::take(&mut self.fresh) {
            // an earlier one of the same turn may have begun it
            let known = self.table.get(&ends).filter(|flow| !flow.is_ended());
            if let Some(flow) = known.cloned().or_else(|| self.begin(ends)) {
                flow.take(&mut framed, now);
            }
        }
        more
    }

    fn begin(&mut self, ends: Ends) -> Option<Arc<Flow>> {
        let outbound = Arc::clone(&self.outbound);
        let all = outbound.metrics.udp().direction(Direction::Outbound);
        if outbound.drain.is_draining() {
            all.dropped(DropReason::Draining);
            return None;
        }
        let Ok(permit) = Arc::clone(&outbound.flows.places).try_acquire_owned() else {
            all.dropped(DropReason::MaxFlows);
            let limit = outbound.limits.max_flows;
            self.say(&format!("{limit} flows are open, which is the limit: raise limits.max-flows"));
            return None;
        };
        let answers = match self.source.answers(ends) {
            Ok(answers) => answers,
            Err(error) => {
                all.dropped(DropReason::SocketRefused);
                self.say(&format!("nothing can answer from {}: {error}", ends.to.unwrap_or(ends.from)));
                return None;
            }
        };
        let counts = Counts::new(all);
        let flow = Flow::new(Socket::Shared(answers, ends.from), counts, &outbound.flows.budget);
        let flow = Arc::new(flow);
        self.table.insert(ends, Arc::clone(&flow));
        let mut access = Access::begin(Direction::Outbound, &outbound.metrics, outbound.drain.guard());
        access.src = Some(outbound.svid.current().id().clone());
        (access.src_addr, access.dst_addr) = (Some(ends.from), ends.to);
        access.protocol = Protocol::Udp;
        tokio::spawn(run(outbound, Arc::clone(&flow), (self.routes.clone(), ends), access, permit));
        Some(flow)
    }

    /// Says why flows are refused, now and then.
    fn say(&mut self, why: &str) {
        self.refused += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY) {
            tracing::warn!(refused = self.refused, why, "the datagrams of some flows are dropped");
            (self.refused, self.said) = (0, Some(Instant::now()));
        }
    }
}
