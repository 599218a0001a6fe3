//! Which commands the members know. A command that one of them does not know would end its part in the group, so the
//! leader proposes it only once all have announced it.

use super::Registry;
use crate::propose::ProposeError;
use causeway_catalog::CommandBody;
use causeway_model::NodeId;

impl Registry {
    /// Records the numbers of the commands that `node` says it knows ([`CommandBody::KNOWN`] there), in place of what it
    /// said before.
    pub fn announce(&self, node: NodeId, commands: Vec<u16>) {
        self.inner.contacts.knows(node, commands);
    }

    /// Whether all members know the command.
    pub(super) fn check_known(&self, command: &CommandBody) -> Result<(), ProposeError> {
        let number = command.number();
        if number <= self.inner.known_to_all {
            return Ok(());
        }
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let mut others = metrics.membership_config.membership().nodes().map(|(&node, _)| NodeId(node));
        let old = others.find(|&node| node != self.inner.node && !self.inner.contacts.is_known(node, number));
        match old {
            None => Ok(()),
            Some(node) => {
                Err(ProposeError::MemberTooOld { node, command: command.name().to_owned(), number })
            }
        }
    }
}
