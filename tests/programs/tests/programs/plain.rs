//! What an application that knows nothing of a mesh asks the system for.

use crate::accounts::{APPLICATION, Account};
use crate::mesh::Clusters;
use causeway_test_mesh::Ran;

/// One of the two kinds of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Its digit, as most programs have it for a flag.
    pub(crate) fn digit(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }
}

/// Runs a command line as the application of the client.
#[track_caller]
pub(crate) fn application(clusters: &Clusters, line: &str) -> Ran {
    clusters.run("client", Account::User(APPLICATION), line)
}

/// The address of that family that the system finds for `name`.
#[track_caller]
pub(crate) fn address(clusters: &Clusters, name: &str, family: Family) -> String {
    let said = application(clusters, &format!("getent ahostsv{} {name}", family.digit())).ok();
    said.split_whitespace().next().unwrap_or_else(|| panic!("{name}: {said:?}")).to_owned()
}
