//! What a gateway is told on a control connection: the whole of it first, then what changes.

use super::super::registration::{Registration, Update};
use super::{Dialogue, Picture, Request};
use crate::exchange::Fault;
use crate::refusal::{Gravity, registration};
use causeway_transport::{FrameError, FrameWriter};
use causeway_wire::Message;
use causeway_wire::ctl::{Goodbye, MAX_VIP_ASKS, Renew, Subscribe, ToGateway, TrustReport, WatchInstances};
use causeway_wire::view::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// The shortest time between two lists of services, or of instances: what changes in between goes into one.
const PACE: Duration = Duration::from_millis(10);
/// When a refused registration is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// When one is that was refused for good unless the registry lags: soon, so that the mistake is known before anybody wonders.
const AGAIN_IF_IT_LASTS: Duration = Duration::from_millis(250);
/// How many times it is tried so soon.
const QUICK: u32 = 4;
/// When one that was refused for good is: the operator may have mended the cluster's side.
const AGAIN_IF_FATAL: Duration = Duration::from_secs(30);
/// The most renewals that wait for an answer.
const MAX_RENEWALS: usize = 4;

/// How long after the `refusals`-th refusal in a row a registration is tried again.
fn again(gravity: Gravity, refusals: u32) -> Duration {
    match gravity {
        Gravity::Fatal => AGAIN_IF_FATAL,
        Gravity::FatalIfItLasts if refusals <= QUICK => AGAIN_IF_IT_LASTS,
        Gravity::FatalIfItLasts | Gravity::Transient => AGAIN,
    }
}

pub(super) struct Outbound {
    writer: FrameWriter,
    picture: Arc<Picture>,
    dialogue: Arc<Dialogue>,
    requests: mpsc::Receiver<Request>,
    registration: watch::Receiver<Registration>,
    services: watch::Receiver<u64>,
    instances: watch::Receiver<u64>,
    trust: watch::Receiver<TrustReport>,
    answered: watch::Receiver<Option<Result<(), Refusal>>>,
    /// What the gateway was told last.
    told: Registration,
    register_at: Option<Instant>,
    refusals: u32,
    last_services: Instant,
    last_instances: Instant,
}

impl Outbound {
    pub(super) fn new(
        writer: FrameWriter,
        picture: Arc<Picture>,
        dialogue: Arc<Dialogue>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let registration = picture.registration.subscribe();
        let told = registration.borrow().clone();
        let now = Instant::now();
        Self {
            writer,
            requests,
            told,
            registration,
            services: picture.views.version(),
            instances: picture.watches.version(),
            trust: picture.own.report(),
            answered: dialogue.registered.subscribe(),
            register_at: None,
            refusals: 0,
            last_services: now,
            last_instances: now,
            picture,
            dialogue,
        }
    }

    /// Tells the gateway everything, then what changes, until the stream ends, and says why it did.
    pub(super) async fn run(mut self) -> Fault {
        match self.speak().await {
            Ok(never) => match never {},
            Err(error) => error.into(),
        }
    }

    async fn speak(&mut self) -> Result<std::convert::Infallible, FrameError> {
        self.register().await?;
        self.subscribe().await?;
        self.watch().await?;
        self.report_trust().await?;
        loop {
            let register_at = self.register_at;
            // the picture has the senders, so none of these receivers can be closed
            tokio::select! {
                _ = self.registration.changed() => self.bring_up_to_date().await?,
                _ = self.services.changed() => {
                    tokio::time::sleep_until(self.last_services + PACE).await;
                    self.subscribe().await?;
                }
                _ = self.instances.changed() => {
                    tokio::time::sleep_until(self.last_instances + PACE).await;
                    self.watch().await?;
                }
                _ = self.trust.changed() => self.report_trust().await?,
                _ = self.answered.changed() => self.plan_again(),
                Some(request) = self.requests.recv() => self.ask(request).await?,
                () = tokio::time::sleep_until(register_at.unwrap_or_else(Instant::now)), if register_at.is_some() => {
                    self.register().await?;
                }
            }
        }
    }

    async fn say(&mut self, message: impl Into<ToGateway>) -> Result<(), FrameError> {
        let message = message.into();
        match self.writer.send(&message).await {
            // our own lists are within their limits, so this is a mistake of ours; the rest of the session is not to blame
            Err(FrameError::Codec(error)) => {
                tracing::error!(%error, kind = message.kind(), "a message to the gateway cannot be encoded");
                Ok(())
            }
            other => other,
        }
    }

    async fn register(&mut self) -> Result<(), FrameError> {
        self.register_at = None;
        self.told = self.registration.borrow_and_update().clone();
        let request = {
            let mut pending = self.dialogue.pending();
            let request = pending.next();
            pending.registration = Some((request, std::time::Instant::now()));
            request
        };
        self.say(self.picture.register(request, &self.told)).await
    }

    async fn bring_up_to_date(&mut self) -> Result<(), FrameError> {
        let now = self.registration.borrow_and_update().clone();
        match now.since(&self.told) {
            Update::Nothing => {}
            Update::Register => self.register().await?,
            // a registration is on its way again anyway, with the health as it is then
            Update::Health(_) if self.register_at.is_some() => {}
            Update::Health(reports) => {
                self.told = now;
                for report in reports {
                    self.say(report).await?;
                }
            }
        }
        Ok(())
    }

    /// After the answer to a registration.
    fn plan_again(&mut self) {
        let refused = match &*self.answered.borrow_and_update() {
            Some(Err(refusal)) => Some(registration(&refusal.reason)),
            _ => None,
        };
        self.refusals = if refused.is_some() { self.refusals.saturating_add(1) } else { 0 };
        self.register_at = refused.map(|gravity| Instant::now() + again(gravity, self.refusals));
    }

    async fn subscribe(&mut self) -> Result<(), FrameError> {
        self.services.mark_unchanged();
        self.last_services = Instant::now();
        let services = self.picture.views.in_use();
        self.say(Subscribe { services }).await
    }

    async fn watch(&mut self) -> Result<(), FrameError> {
        self.instances.mark_unchanged();
        self.last_instances = Instant::now();
        let instances = self.picture.watches.instances();
        self.say(WatchInstances { instances }).await
    }

    async fn report_trust(&mut self) -> Result<(), FrameError> {
        let report = self.trust.borrow_and_update().clone();
        self.say(report).await
    }

    async fn ask(&mut self, request: Request) -> Result<(), FrameError> {
        match request {
            Request::Renew { csr, answer } => {
                let request = {
                    let mut pending = self.dialogue.pending();
                    while pending.renewals.len() >= MAX_RENEWALS {
                        pending.renewals.pop_first();
                    }
                    let request = pending.next();
                    pending.renewals.insert(request, answer);
                    request
                };
                self.say(Renew { request, csr }).await
            }
            Request::Vip { question, answer } => {
                let message = {
                    let mut pending = self.dialogue.pending();
                    while pending.vips.len() >= MAX_VIP_ASKS {
                        pending.vips.pop_first();
                    }
                    let request = pending.next();
                    let message = question.message(request);
                    pending.vips.insert(request, (question, answer));
                    message
                };
                self.say(message).await
            }
            Request::Goodbye(done) => self.goodbye(done).await,
        }
    }

    /// The last message: waits until the gateway has it, then for the end of the connection.
    async fn goodbye(&mut self, done: oneshot::Sender<()>) -> Result<(), FrameError> {
        self.say(Goodbye {}).await?;
        self.writer.finish()?;
        // an error means that the connection is gone, which the gateway takes as a goodbye too
        let _ = self.writer.get_mut().stopped().await;
        let _ = done.send(());
        std::future::pending().await
    }
}
