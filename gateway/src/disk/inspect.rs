//! A data directory whose gateway does not run, or does not answer: what is there, and whether it can be used. Nothing is changed.

use super::Space;
use crate::admin::api::Check;
use crate::admin::findings::{failed, ok, space, warning};
use crate::node::NodeFile;
use causeway_identity::{SealKey, Svid};
use causeway_model::{GatewayRole, NodeId};
use causeway_runtime::DiskError;
use causeway_runtime::files::read_limited;
use causeway_store::{Report, StoreError, examine};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

/// The largest of the small files, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What to do about a file that cannot be used.
const RESTORE: &str = "restore it from a backup of this machine, or take the gateway out (`causeway gateways remove NODE` at another \
                       one) and join with a new --data-dir and a new token";

/// What the files of the data directory `dir` show, the registry's of a gateway that does not run to its last record. Blocks.
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
    checks.extend(registry(&dir.join("registry"), node.as_ref().ok().map(|file| file.node)));
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

/// The registry's file in `dir`, and everything in it: a check for each thing that is wrong with it.
fn registry(dir: &Path, node: Option<NodeId>) -> Vec<Check> {
    const NAME: &str = "registry file";
    let report = examine(dir);
    let path = &report.path;
    if report.is_in_use() {
        let seen = format!(
            "{} bytes, in use by the running gateway, which checked them at its start: stop it to have them looked at",
            report.bytes
        );
        return vec![private(NAME, path, seen)];
    }
    let foreign = node.zip(report.node).filter(|(expected, found)| expected != found);
    let foreign =
        foreign.map(|(expected, found)| StoreError::WrongNode { path: path.clone(), found, expected });
    let faults: Vec<Check> =
        report.faults.iter().chain(&foreign).map(|fault| fault_check(NAME, &report, fault)).collect();
    if !faults.is_empty() {
        return faults;
    }
    if report.changing_voters {
        let cause = "the leader of the registry died half-way through a change of the voters: until it is complete the old voters are \
                     needed as well as the new ones";
        let fix = "start the gateways that vote: whoever leads then completes it";
        return vec![warning(NAME, report.to_string(), cause, fix)];
    }
    vec![private(NAME, path, report.to_string())]
}

/// What is wrong, in the words that a start of the gateway ends with.
fn fault_check(name: &str, report: &Report, fault: &StoreError) -> Check {
    let (said, way_out) = (fault.to_string(), fault.way_out());
    // a message that has no way out of its own says it in the middle
    let cause = said.strip_suffix(way_out).map_or(&*said, |said| said.trim_end_matches(['-', ';', ':', ' ']));
    let fix = if way_out.is_empty() { RESTORE } else { way_out };
    failed(name, report.to_string(), cause, fix)
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
        let registry = |node| {
            let checks = super::registry(&dir.join("registry"), Some(node));
            let [check] = &checks[..] else { panic!("{checks:?}") };
            check.clone()
        };
        let own = node(dir).unwrap().node;
        let sound = registry(own);
        assert_eq!(sound.state, "ok", "{sound:?}");
        let described = format!("gateway {own} of cluster iad: revision ");
        assert!(sound.seen.starts_with(&described) && sound.seen.contains("; voters "), "{}", sound.seen);
        let foreign = registry(NodeId(own.0 ^ 1));
        assert!(foreign.state == "failed" && foreign.cause.unwrap().contains("belongs to node"));

        let file = dir.join("registry").join("registry.redb");
        let whole = std::fs::read(&file).unwrap();
        let damages = [
            (&b""[..], "the file is empty"),
            (&whole[1..], "is damaged, in its pages"),
            (&whole[..whole.len() / 2], "is damaged, in its pages"),
            (b"not a registry", "is damaged, in its pages"),
        ];
        for (damage, words) in damages {
            std::fs::write(&file, damage).unwrap();
            let check = registry(own);
            assert!(check.state == "failed" && check.cause.as_ref().unwrap().contains(words), "{check:?}");
            assert!(check.fix.as_ref().unwrap().contains("restore a backup"), "{check:?}");
            assert!(std::fs::read(&file).unwrap() == damage, "it was changed");
        }
        std::fs::remove_file(&file).unwrap();
        let gone = registry(own);
        assert!(gone.state == "failed" && gone.cause.unwrap().ends_with("registry.redb is missing"));
        assert!(!file.exists());
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
