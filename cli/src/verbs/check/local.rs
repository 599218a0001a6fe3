//! What this machine alone shows: the context file and the socket buffers.

use super::finding::Finding;
use crate::context::Access;
use causeway_gateway::admin::api::Check;
use std::os::unix::fs::PermissionsExt;

/// What a busy gateway or sidecar needs, in bytes: with less, packets are lost in bursts before the process sees them.
const BUFFER: u64 = 4 << 20;

/// Whether only its owner can read the credential.
pub(super) fn context(access: &Access) -> Check {
    let (finding, shown) = (Finding::new("context"), access.path.display());
    match std::fs::metadata(&access.path) {
        Ok(meta) => match meta.permissions().mode() & 0o777 {
            mode if mode & 0o077 == 0 => finding.ok(format!("{} ({shown}, mode {mode:04o})", access.origin)),
            mode => finding.warning(
                format!("{shown} has mode {mode:04o}"),
                "others on this machine can read the operator's credential",
                format!("chmod 600 {shown}"),
            ),
        },
        Err(error) => finding.failed(
            format!("{shown} cannot be looked at"),
            error.to_string(),
            "check owner and mode of the file and of the folders above",
        ),
    }
}

/// Whether UDP sockets may have buffers of [`BUFFER`].
pub(super) fn buffers() -> Vec<Check> {
    let look = |name, key| buffer(Finding::new(name), key, &read(key));
    vec![look("receive buffer here", "net.core.rmem_max"), look("send buffer here", "net.core.wmem_max")]
}

fn read(key: &str) -> Result<String, String> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
}

fn buffer(finding: Finding, key: &str, read: &Result<String, String>) -> Check {
    let raise = format!(
        "sysctl -w {key}=16777216, and for good in /etc/sysctl.d; then restart gateways and sidecars"
    );
    let bytes = match read {
        Ok(text) => text.trim().parse::<u64>().map_err(|error| format!("{text:?}: {error}")),
        Err(error) => Err(error.clone()),
    };
    match bytes {
        Ok(bytes) if bytes >= BUFFER => finding.ok(format!("{key} = {} KiB", bytes / 1024)),
        Ok(bytes) => finding.warning(
            format!("{key} = {} KiB on this machine", bytes / 1024),
            "a gateway or sidecar that runs here gets smaller socket buffers than it asks for, and loses packets in bursts",
            raise,
        ),
        Err(cause) => finding.warning(format!("{key} cannot be read"), cause, "in a container, check it on the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_gateway::context::ContextFile;

    fn access(mode: u32) -> (tempfile::TempDir, Access) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("iad.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let file = ContextFile {
            admin: String::new(),
            credential: String::new(),
            ca: String::new(),
            also: Vec::new(),
        };
        (dir, Access { origin: "context iad".into(), path, file })
    }

    #[test]
    fn a_context_that_others_can_read_is_a_warning() {
        let (gone, lost) = access(0o600);
        drop(gone);
        assert_eq!(context(&lost).state, "failed", "the folder is gone");
        let (_dir, private) = access(0o600);
        assert_eq!(context(&private).state, "ok");
        let (_dir, open) = access(0o640);
        let check = context(&open);
        assert_eq!(check.state, "warning");
        assert!(check.seen.ends_with("has mode 0640") && check.fix.unwrap().starts_with("chmod 600 "));
    }

    #[test]
    fn small_buffers_are_a_warning() {
        let state = |text: &str| buffer(Finding::new("x"), "net.core.rmem_max", &Ok(text.into())).state;
        assert_eq!((state("16777216\n").as_str(), state("212992\n").as_str()), ("ok", "warning"));
        assert_eq!(state("many").as_str(), "warning");
        assert_eq!(buffer(Finding::new("x"), "k", &Err("denied".into())).cause.as_deref(), Some("denied"));
    }
}
