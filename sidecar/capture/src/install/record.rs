//! What an installation has to remember so that a removal can restore it: a small file in /run, one for each network namespace.
//! Rules and routes are not in it, because they are known by themselves.

use crate::error::CaptureError;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where records are; gone at the next boot, as what they tell of is (a changed `resolv.conf` says itself what it was).
const FOLDER: &str = "/run/causeway-capture";
const PORT_START: &str = "unprivileged-port-start ";
const RESOLV_CONF: &str = "resolv-conf ";

/// The record of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    file: PathBuf,
    port_start: Option<String>,
    resolv_confs: Vec<PathBuf>,
}

impl Record {
    /// That of the calling thread's namespace, empty if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn load() -> Result<Self, CaptureError> {
        let namespace = Path::new("/proc/thread-self/ns/net");
        let number = fs::metadata(namespace).map_err(failed("read", namespace))?.ino();
        Self::open(Path::new(FOLDER).join(number.to_string()))
    }

    /// The record in `file`, empty if there is none.
    pub(super) fn open(file: PathBuf) -> Result<Self, CaptureError> {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read", &file)(error)),
        };
        let value = |line: &str, key| line.strip_prefix(key).map(str::to_owned);
        Ok(Self {
            port_start: text.lines().find_map(|line| value(line, PORT_START)),
            resolv_confs: text
                .lines()
                .filter_map(|line| value(line, RESOLV_CONF))
                .map(PathBuf::from)
                .collect(),
            file,
        })
    }

    /// The first unprivileged port before it was changed, as the kernel writes it.
    pub(super) fn port_start(&self) -> Option<&str> {
        self.port_start.as_deref()
    }

    /// The files that name the sidecar.
    pub(super) fn resolv_confs(&self) -> impl Iterator<Item = &Path> {
        self.resolv_confs.iter().map(PathBuf::as_path)
    }

    /// Remembers the first unprivileged port, which is about to be changed.
    pub(super) fn keep_port_start(&mut self, value: &str) -> Result<(), CaptureError> {
        self.port_start = Some(value.to_owned());
        self.save()
    }

    /// Remembers that `path` is about to be changed.
    pub(super) fn keep_resolv_conf(&mut self, path: &Path) -> Result<(), CaptureError> {
        if !self.resolv_confs.iter().any(|kept| kept == path) {
            self.resolv_confs.push(path.to_owned());
            self.save()?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), CaptureError> {
        let mut text = String::new();
        if let Some(value) = &self.port_start {
            text.push_str(&format!("{PORT_START}{value}\n"));
        }
        for path in &self.resolv_confs {
            text.push_str(&format!("{RESOLV_CONF}{}\n", path.display()));
        }
        let written = self.file.parent().map_or(Ok(()), fs::create_dir_all);
        written.and_then(|()| fs::write(&self.file, text)).map_err(failed("write", &self.file))
    }

    /// Forgets everything.
    pub(super) fn delete(self) -> Result<(), CaptureError> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &self.file)(error)),
            _ => Ok(()),
        }
    }
}

/// Turns what the system says of `path` into an error.
pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> CaptureError {
    move |source| CaptureError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep").join("4026531840");
        let mut record = Record::open(file.clone()).unwrap();
        assert_eq!(record.port_start(), None);
        record.keep_port_start("1024").unwrap();
        record.keep_resolv_conf(Path::new("/etc/resolv.conf")).unwrap();
        record.keep_resolv_conf(Path::new("/etc/resolv.conf")).unwrap();
        let again = Record::open(file.clone()).unwrap();
        assert_eq!(again, record);
        assert_eq!(again.port_start(), Some("1024"));
        assert_eq!(again.resolv_confs().collect::<Vec<_>>(), [Path::new("/etc/resolv.conf")]);
        again.delete().unwrap();
        assert!(!file.exists());
        record.delete().unwrap();
    }
}
