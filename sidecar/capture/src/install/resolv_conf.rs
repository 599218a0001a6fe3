//! A `resolv.conf` that names the sidecar. The original is kept beside it (`PATH.causeway`), where the sidecar finds whom to ask
//! about everything that is not of the mesh, and from where it is restored.

use super::record::{Record, failed};
use crate::config::ResolvConf;
use crate::error::CaptureError;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The first line of a file of ours.
const MARK: &str = "# written by `causeway sidecar init`; `causeway sidecar cleanup` restores what was here before, which is kept in ";
/// What of the original goes on to hold; everything else is about its name servers.
const KEPT: [&str; 4] = ["search", "domain", "options", "sortlist"];

pub(super) fn name(conf: &ResolvConf) -> String {
    format!("{}: nameserver {}", conf.path.display(), conf.dns)
}

/// Whether the file names the sidecar.
pub(super) fn points(conf: &ResolvConf) -> Result<bool, CaptureError> {
    let text = fs::read_to_string(&conf.path).map_err(failed("read", &conf.path))?;
    Ok(is_ours(&text) && text.lines().any(|line| line == server(conf)))
}

/// Makes the file name the sidecar.
pub(super) fn point(conf: &ResolvConf, record: &mut Record) -> Result<(), CaptureError> {
    let path = &conf.path;
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    let wanted = ours(&text, conf);
    if text == wanted {
        return Ok(());
    }
    record.keep_resolv_conf(path)?;
    let linked = fs::symlink_metadata(path).map_err(failed("read", path))?.is_symlink();
    if !is_ours(&text) {
        keep(path, linked).map_err(failed("keep a copy of", path))?;
    }
    // what a link leads to is another's file
    let write = if linked { replace(path, &wanted) } else { fs::write(path, &wanted) };
    write.map_err(failed("write", path))
}

/// Puts the original back, unless somebody else has written the file since. Tells whether it did.
pub(super) fn restore(path: &Path) -> Result<bool, CaptureError> {
    let kept = beside(path);
    let Ok(original) = fs::symlink_metadata(&kept) else { return Ok(false) };
    let current = fs::read_to_string(path).unwrap_or_default();
    let ours = is_ours(&current);
    let restored = if ours && original.is_symlink() {
        fs::rename(&kept, path)
    } else if ours {
        fs::read(&kept).and_then(|text| fs::write(path, text)).and_then(|()| fs::remove_file(&kept))
    } else {
        fs::remove_file(&kept)
    };
    restored.map(|()| ours).map_err(failed("restore", path))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".causeway");
    name.into()
}

fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

fn server(conf: &ResolvConf) -> String {
    format!("nameserver {}", conf.dns)
}

fn ours(text: &str, conf: &ResolvConf) -> String {
    let mut ours = format!("{MARK}{}\n{}\n", beside(&conf.path).display(), server(conf));
    for line in text.lines() {
        if line.split_whitespace().next().is_some_and(|word| KEPT.contains(&word)) {
            ours.push_str(line);
            ours.push('\n');
        }
    }
    ours
}

/// Keeps the original: a link as a link, a file as a file that is complete or not there.
fn keep(path: &Path, linked: bool) -> io::Result<()> {
    let kept = beside(path);
    if linked {
        match fs::remove_file(&kept) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        return symlink(fs::read_link(path)?, &kept);
    }
    replace(&kept, &fs::read_to_string(path)?)
}

/// Writes a file anew. Not for one that a container runtime has mounted, which can only be written in place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, text)?;
    // everybody resolves names, whatever the umask
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str = "# by dhcp\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch shop.internal internal\noptions ndots:2\n";

    fn conf(path: &Path, dns: &str) -> ResolvConf {
        ResolvConf { path: path.to_owned(), dns: dns.parse().unwrap() }
    }

    fn record(dir: &Path) -> Record {
        Record::open(dir.join("record")).unwrap()
    }

    #[test]
    fn a_file_is_pointed_at_the_sidecar_and_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, ORIGINAL).unwrap();
        let mut record = record(dir.path());
        for dns in ["127.0.0.1", "127.0.0.1", "::1"] {
            point(&conf(&path, dns), &mut record).unwrap();
            assert!(points(&conf(&path, dns)).unwrap());
            assert_eq!(fs::read_to_string(beside(&path)).unwrap(), ORIGINAL);
            let text = fs::read_to_string(&path).unwrap();
            let servers: Vec<_> = text.lines().filter(|line| line.starts_with("nameserver")).collect();
            assert_eq!(servers, [format!("nameserver {dns}")]);
            assert!(text.contains("search shop.internal internal\noptions ndots:2\n"), "{text}");
        }
        assert_eq!(record.resolv_confs().count(), 1);
        assert!(restore(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), ORIGINAL);
        assert!(!beside(&path).exists() && !restore(&path).unwrap());
    }

    #[test]
    fn a_link_stays_a_link_and_its_target_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("resolv.conf"), dir.path().join("stub.conf"));
        fs::write(&target, ORIGINAL).unwrap();
        symlink("stub.conf", &path).unwrap();
        let conf = conf(&path, "127.0.0.1");
        point(&conf, &mut record(dir.path())).unwrap();
        assert!(points(&conf).unwrap() && !path.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), ORIGINAL);
        assert_eq!(fs::read_to_string(beside(&path)).unwrap(), ORIGINAL);
        assert!(restore(&path).unwrap() && path.is_symlink());
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("stub.conf"));
    }

    #[test]
    fn what_another_wrote_since_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, ORIGINAL).unwrap();
        let conf = conf(&path, "127.0.0.1");
        point(&conf, &mut record(dir.path())).unwrap();
        fs::write(&path, "nameserver 10.9.9.9\n").unwrap();
        assert!(!points(&conf).unwrap());
        assert!(!restore(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 10.9.9.9\n");
        // and it is what is kept the next time
        point(&conf, &mut record(dir.path())).unwrap();
        assert_eq!(fs::read_to_string(beside(&path)).unwrap(), "nameserver 10.9.9.9\n");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let error = point(&conf(&path, "127.0.0.1"), &mut record(dir.path())).unwrap_err();
        assert!(error.to_string().contains("resolv.conf"), "{error}");
        assert!(!restore(&path).unwrap());
    }
}
