//! A data directory whose gateway does not run, or does not answer: what is there, and whether it can be used. Nothing is changed.

use super::Space;
use crate::admin::api::Check;
use crate::admin::findings::{failed, ok, space, warning};
use crate::node::NodeFile;
use causeway_identity::{SealKey, Svid};
use causeway_model::GatewayRole;
use causeway_runtime::DiskError;
use causeway_runtime::files::read_limited;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

/// The largest of the small files, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What the registry's file begins with, whatever is in it.
const REGISTRY_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// What to do about a file that cannot be used.
const RESTORE: &str = "restore it from a backup of this machine, or take the gateway out (`causeway gateways remove NODE` at another \
                       one) and join with a new --data-dir and a new token";

/// What the files of the data directory `dir` show, without opening the registry. Blocks.
pub fn inspect(dir: &Path) -> Vec<Check> {
    const NAME: &str = "data directory";
    let shown = dir.display();
    if let Err(error) = std::fs::read_dir(dir) {
        let error = DiskError::new("read", dir, error);
        return vec![failed(
            NAME,
            format!("{shown} cannot be looked at"),
            error.to_string(),
            "give the --data-dir of the gateway, and run this as its user or as root",
        )];
    }
    let node = node(dir);
    let role = node.as_ref().map_or(GatewayRole::Gateway, |file| file.role);
    let mut checks = vec![running(dir), node_check(&node), identity(dir, node.as_ref().ok())];
    if role == GatewayRole::Gateway {
        checks.push(seal(dir));
    }
    checks.push(registry(&dir.join("registry").join("registry.redb")));
    checks.push(match Space::of(dir) {
        Ok(room) => space(dir, room),
        Err(error) => failed(
            "disk space",
            format!("{shown} cannot be looked at"),
            error.to_string(),
            "see the host's kernel log",
        ),
    });
    checks
}

/// Whether a process has the directory.
fn running(dir: &Path) -> Check {
    const NAME: &str = "gateway process";
    let fix = "start it: `systemctl start causeway-gateway`; if it ends again, `journalctl -u causeway-gateway` says why";
    let Ok(mut file) = File::open(dir.join("lock")) else {
        return warning(
            NAME,
            "no process has ever used this directory",
            "it is new, or not a gateway's",
            fix,
        );
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.by_ref().take(16).read_to_string(&mut text);
            ok(NAME, format!("process {} has the directory", text.trim()))
        }
        Err(TryLockError::Error(error)) => {
            warning(NAME, "the file lock cannot be asked", error.to_string(), fix)
        }
        Ok(()) => {
            let _ = file.unlock();
            let seen = "no process has the directory";
            failed(NAME, seen, "the gateway is stopped, was killed, or does not come up", fix)
        }
    }
}

/// `node.json`, or what is wrong with it.
fn node(dir: &Path) -> Result<NodeFile, String> {
    let bytes = read(&dir.join("node.json"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("this release cannot read it: {error}"))
}

fn node_check(node: &Result<NodeFile, String>) -> Check {
    const NAME: &str = "node.json";
    match node {
        Ok(file) => ok(NAME, format!("{} {} of cluster {}", file.role, file.node, file.cluster.name)),
        Err(cause) => failed(NAME, "cannot be used", cause.as_str(), RESTORE),
    }
}

fn identity(dir: &Path, node: Option<&NodeFile>) -> Check {
    const NAME: &str = "identity.pem";
    let path = dir.join(NAME);
    let svid = read(&path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()))
        .and_then(|text| Svid::from_pem(&text).map_err(|error| error.to_string()));
    let svid = match svid {
        Ok(svid) => svid,
        Err(cause) => return failed(NAME, "cannot be used", cause, RESTORE),
    };
    let seen = format!("SVID of {}", svid.id());
    if let Some(expected) = node.map(NodeFile::spiffe_id).filter(|expected| expected != svid.id()) {
        return failed(NAME, seen, format!("node.json says that this is {expected}"), RESTORE);
    }
    if svid.not_after() <= SystemTime::now() {
        let cause =
            "it expired while the gateway was away; a signing gateway makes itself a new one at its start";
        return warning(
            NAME,
            seen,
            cause,
            "start the gateway; a forwarder joins again with a new --data-dir and a new token",
        );
    }
    private(NAME, &path, seen)
}

fn seal(dir: &Path) -> Check {
    const NAME: &str = "seal.key";
    let path = dir.join(NAME);
    let key = read(&path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()))
        .and_then(|text| SealKey::from_hex(text.trim()).map_err(|error| error.to_string()));
    let fix = "copy it from the data directory of another signing gateway (64 hexadecimal digits, mode 0600); fine if the gateway is \
               given --seal-key-file";
    match key {
        Ok(_) => private(NAME, &path, "present, and in order".to_owned()),
        Err(cause) => warning(NAME, "cannot be used", cause, fix),
    }
}

/// A file that is in order, if nobody else can read it.
fn private(name: &str, path: &Path, seen: String) -> Check {
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        return ok(name, seen);
    }
    let cause = format!("others on this machine can read it: mode {mode:04o}");
    warning(name, seen, cause, format!("chmod 600 {}", path.display()))
}

/// The registry's file, every byte of which is read.
fn registry(path: &Path) -> Check {
    const NAME: &str = "registry file";
    let fix = "see to the disk; then move the file away and start the gateway, which is filled again by the others; if it is the only \
               voter, `causeway restore` a backup";
    let len = match read_whole(path) {
        Ok(len) => len,
        Err(cause) => return failed(NAME, "cannot be used", cause, fix),
    };
    // the pages have checksums, which only the process that opens the file for itself can look at
    let seen = format!("{len} bytes, all readable; its content is checked when the gateway starts");
    private(NAME, path, seen)
}

/// How many bytes it has, if it begins like a registry and the disk gives all of them.
fn read_whole(path: &Path) -> Result<u64, String> {
    let failure = |error| DiskError::new("read", path, error).to_string();
    let mut file = File::open(path).map_err(failure)?;
    let mut head = Vec::new();
    file.by_ref().take(REGISTRY_MAGIC.len() as u64).read_to_end(&mut head).map_err(failure)?;
    if head.is_empty() {
        return Err(format!("{} is empty: it was cut off", path.display()));
    }
    if head != REGISTRY_MAGIC {
        return Err(format!("{} is damaged: it does not begin like a registry", path.display()));
    }
    let rest = std::io::copy(&mut file, &mut std::io::sink()).map_err(failure)?;
    Ok(rest + head.len() as u64)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_limited(path, MAX_FILE).map_err(|error| match error.source.kind() {
        ErrorKind::NotFound => format!("{} is missing", path.display()),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::fixture::Fixture;

    fn states(dir: &Path) -> Vec<(String, String)> {
        inspect(dir).into_iter().map(|check| (check.name, check.state)).collect()
    }

    fn is(states: &[(String, String)], name: &str) -> String {
        states.iter().find(|(found, _)| found == name).unwrap().1.clone()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_gateways_files_are_looked_at_while_it_runs_and_after() {
        let gateway = Fixture::start().await;
        gateway.hub.node.complete().unwrap();
        let dir = gateway.hub.node.registry_dir().parent().unwrap().to_owned();
        let running = states(&dir);
        for name in ["gateway process", "node.json", "identity.pem", "seal.key", "registry file"] {
            assert_eq!(is(&running, name), "ok", "{name}: {:?}", inspect(&dir));
        }
        let copy = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp").arg("-a").arg(dir.join(".")).arg(copy.path()).status();
        assert!(copied.unwrap().success());
        gateway.stop().await;

        let dir = copy.path();
        let stopped = states(dir);
        assert_eq!(is(&stopped, "gateway process"), "failed");
        assert!(stopped.iter().skip(1).all(|(_, state)| state != "failed"), "{stopped:?}");
        let file = dir.join("registry").join("registry.redb");
        let whole = std::fs::read(&file).unwrap();
        assert!(whole.starts_with(REGISTRY_MAGIC));
        for (damage, words) in [(&b""[..], "cut off"), (&whole[1..], "damaged")] {
            std::fs::write(&file, damage).unwrap();
            let check = registry(&file);
            assert!(check.state == "failed" && check.cause.as_ref().unwrap().contains(words), "{check:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(registry(&file).state, "failed");
        for name in ["node.json", "identity.pem"] {
            std::fs::write(dir.join(name), "{").unwrap();
        }
        std::fs::remove_file(dir.join("seal.key")).unwrap();
        let damaged = states(dir);
        assert_eq!(
            (is(&damaged, "node.json"), is(&damaged, "identity.pem")),
            ("failed".into(), "failed".into())
        );
        assert_eq!(is(&damaged, "seal.key"), "warning", "it may be given by a flag");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let checks = inspect(Path::new("/nonexistent/causeway"));
        assert_eq!((checks.len(), checks[0].state.as_str()), (1, "failed"));
        assert!(checks[0].cause.as_ref().unwrap().contains("/nonexistent/causeway"));
    }
}
