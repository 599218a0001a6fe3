//! Questions for virtual addresses.

use super::session::Session;
use super::{SessionError, refusal};
use crate::hub::{NoVip, VipAnswer, Waiter};
use causeway_model::{Vip, VipName};
use causeway_wire::ctl::{AskVip, FindVip, MAX_VIP_ASKS, VipIs};
use tokio::sync::mpsc;

/// Those of one session that wait for the registry.
pub(super) struct VipAsks {
    count: usize,
    answer: mpsc::Sender<VipAnswer>,
}

impl VipAsks {
    /// None yet, and where the answers come.
    pub(super) fn new() -> (Self, mpsc::Receiver<VipAnswer>) {
        let (answer, answers) = mpsc::channel(MAX_VIP_ASKS);
        (Self { count: 0, answer }, answers)
    }
}

impl Session<'_> {
    /// Answers at once, or lets the registry allocate: the rest of the session does not wait for that.
    pub(super) async fn ask_vip(&mut self, AskVip { request, name }: AskVip) -> Result<(), SessionError> {
        match self.hub.vip(&name) {
            Ok(Some(vip)) => self.tell_vip(request, Ok((name, vip))).await,
            Ok(None) => match self.wait_for_vip(request, name) {
                Ok(()) => Ok(()),
                Err(refused) => self.tell_vip(request, Err(refused)).await,
            },
            Err(refused) => self.tell_vip(request, Err(refused)).await,
        }
    }

    pub(super) async fn find_vip(&mut self, FindVip { request, vip }: FindVip) -> Result<(), SessionError> {
        let found = self.hub.vip_name(vip).map(|name| (name, vip));
        self.tell_vip(request, found).await
    }

    /// The registry has answered one that waited.
    pub(super) async fn vip_answered(&mut self, answer: VipAnswer) -> Result<(), SessionError> {
        self.vips.count = self.vips.count.saturating_sub(1);
        let VipAnswer { request, name, vip } = answer;
        self.tell_vip(request, vip.map(|vip| (name, vip))).await
    }

    fn wait_for_vip(&mut self, request: u32, name: VipName) -> Result<(), NoVip> {
        if self.vips.count >= MAX_VIP_ASKS {
            let message = format!(
                "{MAX_VIP_ASKS} questions for virtual addresses of this sidecar wait for the registry: ask again later"
            );
            return Err(NoVip::new("overloaded", message));
        }
        self.hub.allocate_vip(name, Waiter { request, answer: self.vips.answer.clone() })?;
        self.vips.count += 1;
        Ok(())
    }

    async fn tell_vip(
        &mut self,
        request: u32,
        found: Result<(VipName, Vip), NoVip>,
    ) -> Result<(), SessionError> {
        match found {
            Ok((name, vip)) => self.out.send(VipIs { request, name, vip }).await,
            Err(refused) => self.out.send(refusal(request, refused.reason, refused.message)).await,
        }
    }
}
