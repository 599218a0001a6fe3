//! Programs run in a namespace as somebody: the sidecar as a user of its own, applications as another one.

use causeway_test_mesh::{Ran, skip};
use std::process::Command;

/// How long a program may take, in seconds.
const LIMIT: &str = "30";
/// The user that the sidecar runs as. Nobody else has it, and it needs no entry in /etc/passwd.
pub(crate) const SIDECAR: u32 = 64_999;
/// The user of applications: `nobody`, for some programs ask for the name of their user.
pub(crate) const APPLICATION: u32 = 65_534;
/// A user whose traffic may be excluded.
pub(crate) const EXCLUDED: u32 = 64_998;

/// Who a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// The privileged step before the sidecar.
    Root,
    /// Without any capability.
    User(u32),
    /// With CAP_NET_RAW alone, which captured datagrams need.
    Raw(u32),
}

impl Account {
    /// The words before a command line that run it as this, in namespace `name`, with the files of /etc/netns/NAME over those of /etc.
    pub(crate) fn prefix(self, name: &str) -> String {
        let privilege = |uid: u32, capability: &str| {
            format!(
                "setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all{capability} --ambient-caps=-all{capability} \
                 --pdeathsig KILL -- "
            )
        };
        let privilege = match self {
            Self::Root => String::new(),
            Self::User(uid) => privilege(uid, ""),
            Self::Raw(uid) => privilege(uid, ",+net_raw"),
        };
        format!("ip netns exec {name} {privilege}")
    }
}

/// Runs the shell's command `line` in namespace `name` to its end, which is near.
#[track_caller]
pub(crate) fn run(name: &str, account: Account, line: &str) -> Ran {
    let prefix = account.prefix(name);
    let output = Command::new("timeout")
        .args(["--kill-after=1", LIMIT])
        .args(prefix.split_whitespace())
        .args(["sh", "-c", line])
        .output()
        .expect("timeout is there, as sh is");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Ran { line: line.to_owned(), code: output.status.code(), stdout, stderr }
}

/// Whether a program is there; one that is not skips the part `part` of the tests.
pub(crate) fn has(program: &str, part: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        skip(part, &format!("there is no {program}"));
    }
    there
}
