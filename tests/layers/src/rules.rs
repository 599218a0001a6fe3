//! The layer table and the check of one workspace against it.

use crate::{Edge, Manifest, Workspace};
use std::fmt;

/// A row of the layer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crate {
    /// The package's name.
    pub package: &'static str,
    /// Its folder, from the root of the workspace.
    pub folder: &'static str,
    /// Its layer.
    pub layer: u8,
    /// The folders of this workspace that it may use, as prefixes; with `below` the whole rule.
    may_use: &'static [&'static str],
    /// It may use every crate of a layer below this one, but for `never`.
    below: u8,
    /// Prefixes of folders that it may not use, whatever `below` says.
    never: &'static [&'static str],
    /// It knows no runtime, socket, clock, randomness or file.
    pub pure_core: bool,
}

/// The layer of the tests, which may use everything. A crate under `tests/` needs no row.
const TESTS: u8 = 6;
const MODEL: &[&str] = &["proto/model"];
const MODEL_POLICY: &[&str] = &["proto/model", "proto/policy"];
const NONE: &[&str] = &[];

const fn row(package: &'static str, folder: &'static str, layer: u8) -> Crate {
    Crate { package, folder, layer, may_use: NONE, below: 0, never: NONE, pure_core: false }
}

impl Crate {
    const fn using(mut self, folders: &'static [&'static str]) -> Self {
        self.may_use = folders;
        self
    }

    const fn below(mut self, layer: u8) -> Self {
        self.below = layer;
        self
    }

    const fn never(mut self, folders: &'static [&'static str]) -> Self {
        self.never = folders;
        self
    }

    const fn pure(mut self) -> Self {
        self.pure_core = true;
        self
    }

    /// Whether this crate may depend on `other`.
    fn may_use(&self, other: &Self) -> bool {
        let inside = |prefixes: &[&str]| prefixes.iter().any(|prefix| other.folder.starts_with(prefix));
        inside(self.may_use) || (other.layer < self.below && !inside(self.never))
    }
}

/// The layer table. The tests are not in it: they may use everything, and nothing may use them.
pub const CRATES: &[Crate] = &[
    row("causeway-model", "proto/model", 0).pure(),
    row("causeway-runtime", "proto/runtime", 0),
    row("causeway-wire", "proto/wire", 1).using(MODEL).pure(),
    row("causeway-identity", "proto/identity", 1).using(MODEL),
    row("causeway-policy", "proto/policy", 1).using(MODEL).pure(),
    row("causeway-catalog", "registry/catalog", 2).using(MODEL_POLICY).pure(),
    row("causeway-presence", "registry/presence", 2).using(MODEL_POLICY).pure(),
    row("causeway-transport", "proto/transport", 2).below(2),
    row("causeway-store", "registry/store", 3).below(3),
    row("causeway-federation", "registry/federation", 3).below(3),
    row("causeway-client", "proto/client", 3).below(3),
    row("causeway-balance", "sidecar/balance", 1).using(MODEL).pure(),
    row("causeway-capture", "sidecar/capture", 2).below(1),
    row("causeway-dns", "sidecar/dns", 2).below(1),
    row("causeway-gateway", "gateway", 4).below(4),
    row("causeway-sidecar", "sidecar", 4).below(4).never(&["registry/"]),
    row("causeway", "cli", 5).below(5),
];

/// Libraries that one crate alone may use, and that crate.
pub const EXCLUSIVE: &[(&str, &str)] = &[
    ("quinn", "causeway-transport"),
    ("quinn-proto", "causeway-transport"),
    ("quinn-udp", "causeway-transport"),
    ("openraft", "causeway-store"),
    ("bincode", "causeway-wire"),
];

/// Libraries that a pure crate may not use, not even in its tests: runtimes, sockets, files, clocks, randomness.
pub const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "axum",
    "axum-server",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "futures-timer",
    "getrandom",
    "hickory-proto",
    "hickory-resolver",
    "hickory-server",
    "hyper",
    "libc",
    "mio",
    "nix",
    "openraft",
    "oorandom",
    "parking_lot",
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "rand",
    "rand_chacha",
    "rand_core",
    "redb",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tokio-stream",
    "tokio-util",
    "tracing-subscriber",
    "ureq",
    "uuid",
];

/// One way in which the workspace breaks the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A member that is neither in the table nor under `tests/`.
    Unlisted {
        /// The package.
        package: String,
        /// Its folder.
        folder: String,
    },
    /// A row whose package is not a member in that folder.
    Missing(&'static Crate),
    /// An edge that the table does not allow.
    Edge {
        /// Who depends.
        package: String,
        /// On what, and in which section.
        edge: Edge,
        /// What the table says instead.
        rule: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted { package, folder } => {
                write!(f, "{package} in {folder} is not in the layer table: give it a row")
            }
            Self::Missing(row) => {
                write!(f, "{} is not a member in {}: mend its folder or its row", row.package, row.folder)
            }
            Self::Edge { package, edge, rule } => {
                write!(f, "{package} names {} in its {}, but {rule}", edge.package, edge.section)
            }
        }
    }
}

/// Everything in `workspace` that the table does not allow.
pub fn violations(workspace: &Workspace) -> Vec<Violation> {
    let mut found: Vec<Violation> = CRATES
        .iter()
        .filter(|row| !workspace.members.iter().any(|member| is(member, row)))
        .map(Violation::Missing)
        .collect();
    for member in &workspace.members {
        let row = CRATES.iter().find(|row| is(member, row));
        if row.is_none() && !is_test(member) {
            found
                .push(Violation::Unlisted { package: member.package.clone(), folder: member.folder.clone() });
        }
        for edge in &member.edges {
            if let Some(rule) = broken_rule(workspace, member, row, edge) {
                found.push(Violation::Edge { package: member.package.clone(), edge: edge.clone(), rule });
            }
        }
    }
    found
}

fn is(member: &Manifest, row: &Crate) -> bool {
    member.package == row.package && member.folder == row.folder
}

fn is_test(member: &Manifest) -> bool {
    member.folder.starts_with("tests/")
}

/// The rule that an edge breaks, in words.
fn broken_rule(workspace: &Workspace, from: &Manifest, row: Option<&Crate>, edge: &Edge) -> Option<String> {
    if let Some((library, owner)) = EXCLUSIVE.iter().find(|(library, _)| *library == edge.package)
        && *owner != from.package
    {
        return Some(format!("only {owner} may use {library}"));
    }
    if row.is_some_and(|row| row.pure_core) && IMPURE.contains(&edge.package.as_str()) {
        return Some("a pure crate takes time and events as arguments and does no I/O".to_owned());
    }
    let to = workspace.members.iter().find(|member| member.package == edge.package)?;
    // a member without a row is reported as such
    let row = row?;
    if is_test(to) {
        return Some(format!("the tests are layer {TESTS}, which nothing else may use"));
    }
    let to = CRATES.iter().find(|row| is(to, row))?;
    (!row.may_use(to)).then(|| {
        format!("{} (layer {}) may not use {} (layer {})", row.folder, row.layer, to.folder, to.layer)
    })
}

#[cfg(test)]
mod tests;
