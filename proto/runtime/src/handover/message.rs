//! What the two processes say to each other: one JSON document a packet. Pure.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The version of what is said. Another one is refused: then the old process is to be stopped first.
pub(super) const VERSION: u32 = 1;

/// What the new process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum FromSuccessor {
    /// It is there.
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// It does the work from now on.
    Ready,
}

/// What the old process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum FromPredecessor {
    /// It does not hand over.
    Refused {
        /// Why.
        why: String,
    },
    /// What comes with this packet, one descriptor each.
    Offer {
        /// What the descriptors are, in their order.
        items: Vec<Item>,
        /// Whether another offer follows.
        more: bool,
    },
    /// It takes nothing new from now on.
    Leaving,
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// What it is for, in the words of the process.
    pub(super) name: String,
    /// Where it is bound, if it is a socket.
    pub(super) addr: Option<SocketAddr>,
}

/// The kinds of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// The lock of the folder.
    Lock,
    /// A listening TCP socket.
    Tcp,
    /// A UDP socket.
    Udp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_read_back() {
        let item = Item { kind: Kind::Tcp, name: "listen".into(), addr: "127.0.0.1:1".parse().ok() };
        let offer = FromPredecessor::Offer { items: vec![item], more: true };
        let text = serde_json::to_string(&offer).unwrap();
        assert_eq!(
            text,
            r#"{"say":"offer","items":[{"kind":"tcp","name":"listen","addr":"127.0.0.1:1"}],"more":true}"#
        );
        assert_eq!(serde_json::from_str::<FromPredecessor>(&text).unwrap(), offer);
        let ready = serde_json::to_string(&FromSuccessor::Ready).unwrap();
        assert_eq!(serde_json::from_str::<FromSuccessor>(&ready).unwrap(), FromSuccessor::Ready);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<FromPredecessor>(&bytes);
            let _ = serde_json::from_slice::<FromSuccessor>(&bytes);
        }
    }
}
