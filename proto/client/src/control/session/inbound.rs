//! What a gateway says on a control connection.

use super::{Dialogue, Event, Picture};
use crate::exchange::Fault;
use crate::refusal::{Verdict, registration};
use crate::trust::Telling;
use causeway_transport::FrameReader;
use causeway_wire::CloseCode;
use causeway_wire::ctl::{ExportedTo, ToSidecar, VipIs};
use causeway_wire::view::Refusal;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Inbound {
    reader: FrameReader,
    picture: Arc<Picture>,
    dialogue: Arc<Dialogue>,
    verdict: Verdict,
    registered: bool,
    /// What was said of exports before the registration stood.
    early: Option<ExportedTo>,
    /// The trust bundles that were told and do not count yet.
    telling: Telling,
}

impl Inbound {
    pub(super) fn new(reader: FrameReader, picture: Arc<Picture>, dialogue: Arc<Dialogue>) -> Self {
        let (verdict, telling) = (Verdict::default(), Telling::default());
        Self { reader, picture, dialogue, verdict, registered: false, early: None, telling }
    }

    /// Takes messages until the stream ends, and says why it did.
    pub(super) async fn run(mut self) -> Fault {
        loop {
            match self.reader.next::<ToSidecar>().await {
                Ok(Some(message)) => self.take(message).await,
                Ok(None) => return Fault::Protocol("it ended the stream"),
                Err(error) => return error.into(),
            }
        }
    }

    async fn take(&mut self, message: ToSidecar) {
        match message {
            ToSidecar::Registered(told) => {
                let expected =
                    self.dialogue.pending().registration.is_some_and(|(request, _)| request == told.request);
                if expected {
                    self.verdict = Verdict::default();
                    self.dialogue.registered.send_replace(Some(Ok(())));
                    self.dialogue.tell(Event::Registered).await;
                    self.registered = true;
                    if let Some(told) = self.early.take() {
                        self.learn(told.into());
                    }
                }
            }
            ToSidecar::Issued(issued) => {
                let waiting = self.dialogue.pending().renewals.remove(&issued.request);
                if let Some(answer) = waiting {
                    // whoever asked may have given up
                    let _ = answer.send(Ok(issued));
                }
            }
            ToSidecar::VipIs(told) => self.vip_is(told),
            ToSidecar::Refused(refusal) => self.refused(refusal).await,
            ToSidecar::Draining(_) => self.dialogue.tell(Event::Draining).await,
            ToSidecar::Bundle(told) => {
                if !self.telling.tell(told.bundle) {
                    self.picture.refuse();
                }
            }
            ToSidecar::Bundles(told) => {
                if !self.picture.learn_bundles(&told, &mut self.telling) {
                    tracing::debug!(gateway = %self.dialogue.node, "trust bundles that break a rule were dropped");
                }
            }
            // the gateway does not know yet what this workload serves
            ToSidecar::ExportedTo(told) if !self.registered => self.early = Some(told),
            other => self.learn(other),
        }
    }

    fn learn(&self, message: ToSidecar) {
        if !self.picture.learn(self.dialogue.node, message) {
            tracing::debug!(gateway = %self.dialogue.node, "a message that breaks a rule was dropped");
        }
    }

    fn vip_is(&self, told: VipIs) {
        let VipIs { request, name, vip } = told;
        let waiting = self.dialogue.pending().vips.remove(&request);
        match waiting {
            Some((question, answer)) if question.fits(&(name.clone(), vip)) => {
                // whoever asked may have been answered by another gateway
                let _ = answer.send(Ok((name, vip)));
            }
            // the one who asked hears that there is no answer
            _ => self.picture.refuse(),
        }
    }

    async fn refused(&mut self, refusal: Refusal) {
        let asked = self.dialogue.pending().vips.remove(&refusal.request);
        if let Some((_, answer)) = asked {
            let _ = answer.send(Err(refusal));
            return;
        }
        let (registering, renewing) = {
            let mut pending = self.dialogue.pending();
            let renewing = pending.renewals.remove(&refusal.request);
            (pending.registration.filter(|(request, _)| *request == refusal.request), renewing)
        };
        if let Some(answer) = renewing {
            if refusal.reason == CloseCode::Revoked.reason() {
                self.picture.refused_as_revoked(&self.dialogue.svid, refusal.message.clone());
            }
            let _ = answer.send(Err(format!("{} ({})", refusal.message, refusal.reason)));
        } else if let Some((_, asked)) = registering {
            let fatal = self.verdict.of(registration(&refusal.reason), asked, Instant::now());
            self.dialogue.registered.send_replace(Some(Err(refusal.clone())));
            self.dialogue.tell(Event::Refused { refusal, fatal }).await;
        } else {
            let (gateway, reason, message) = (self.dialogue.node, refusal.reason, refusal.message);
            tracing::warn!(%gateway, reason, message, "a gateway refused a request");
        }
    }
}
