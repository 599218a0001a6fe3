//! CLI contexts: what the command line needs to reach a cluster's admin API, one private file a cluster.
//!
//! A gateway writes one at its first start, and the CLI reads them. This module owns the file's format, its place and its
//! name. Which context a command uses is the CLI's decision.

use causeway_runtime::files::{create_private_dir, read_limited, write_private};
use causeway_runtime::{ConfigErrors, DiskError, Mistake, Reader};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest context file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// The longest name of a context, in characters.
const MAX_NAME: usize = 63;
/// The most gateways that a context names beside the first.
pub(crate) const MAX_ALSO: usize = 15;
/// How context files end.
const EXTENSION: &str = "toml";

/// How to reach and to trust an admin API. Shows itself without the credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// The admin API: `https://HOST:PORT`.
    pub admin: String,
    /// The operator's bearer credential.
    pub credential: String,
    /// The root certificates that the API's certificate must lead to, as PEM.
    pub ca: String,
    /// The admin APIs of further gateways of the cluster, for when the first does not answer: `https://HOST:PORT` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

impl fmt::Debug for ContextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFile").field("admin", &self.admin).finish_non_exhaustive()
    }
}

/// Why a context could not be read, written or placed.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no home directory to keep contexts in.
    #[error(
        "there is no folder for CLI contexts: none of CAUSEWAY_CONTEXT_DIR, XDG_CONFIG_HOME and HOME is set; \
         set CAUSEWAY_CONTEXT_DIR to one"
    )]
    NoFolder,
    /// The name would not be a file's.
    #[error(
        "invalid context name {0:?}: use 1 to 63 letters, digits, '.', '-' and '_', with a letter or digit first"
    )]
    Name(String),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not a context.
    #[error("not a CLI context: {0}")]
    Content(#[from] ConfigErrors),
    /// The context has no form as text.
    #[error("the context cannot be written as TOML: {0}")]
    Encode(#[from] toml::ser::Error),
}

impl ContextError {
    /// The stable name of this error in logs and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoFolder => "context_folder",
            Self::Name(_) => "context_name",
            Self::Disk(error) => error.reason(),
            Self::Content(_) => "context_content",
            Self::Encode(_) => "context_encode",
        }
    }

    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Disk(error) if error.source.kind() == ErrorKind::NotFound)
    }
}

impl ContextFile {
    /// The context in `text`; `path` is for messages, which never show the credential.
    ///
    /// # Errors
    /// Every mistake in the file at once.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ContextError> {
        let file = Reader::parse(path, text)?;
        let admin = file.required::<String>("admin");
        if admin.as_deref().is_some_and(|admin| !admin.starts_with("https://")) {
            file.reject("admin", "write https://HOST:PORT");
        }
        let credential = file.secret::<String>("credential");
        if credential.as_ref().is_none_or(|credential| credential.expose().trim().is_empty()) {
            file.reject("credential", "required, but missing or empty");
        }
        let ca = file.required::<String>("ca");
        let also = file.list::<String>("also");
        if also.len() > MAX_ALSO || also.iter().any(|admin| !admin.starts_with("https://")) {
            file.reject(
                "also",
                format!("write a list of up to {MAX_ALSO} addresses, each https://HOST:PORT"),
            );
        }
        let also: Vec<String> = also.iter().map(|admin| admin.trim_end_matches('/').to_owned()).collect();
        let parts = admin.zip(credential).zip(ca);
        let context = parts.map(|((admin, credential), ca)| {
            let credential = credential.into_exposed().trim().to_owned();
            Self { admin: admin.trim_end_matches('/').to_owned(), credential, ca, also }
        });
        Ok(file.build(context)?)
    }

    /// The context in the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a context.
    pub fn read(path: &Path) -> Result<Self, ContextError> {
        let bytes = read_limited(path, MAX_FILE)?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let problem = format!("not UTF-8: {error}");
                let mistake = Mistake { key: String::new(), value: None, problem, line: None };
                Err(ConfigErrors { path: path.to_owned(), mistakes: vec![mistake] }.into())
            }
        }
    }

    /// Writes the context to `path` with mode 0600, whole or not at all, and makes the folder that it is in (mode 0700).
    ///
    /// # Errors
    /// The disk refused; an old file is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), ContextError> {
        let text =
            format!("# How to reach and trust a cluster. Keep it secret.\n{}", toml::to_string_pretty(self)?);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            create_private_dir(dir)?;
        }
        Ok(write_private(path, text.as_bytes())?)
    }
}

/// The folder of contexts: `CAUSEWAY_CONTEXT_DIR`, else `causeway/contexts` in `XDG_CONFIG_HOME`, else the same in
/// `~/.config`. `variable` looks up an environment variable; an empty one counts as unset.
///
/// # Errors
/// [`ContextError::NoFolder`] if none is set.
pub fn context_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ContextError> {
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = folder("CAUSEWAY_CONTEXT_DIR") {
        return Ok(own);
    }
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("causeway/contexts")).ok_or(ContextError::NoFolder)
}

/// The file of context `name` in the folder `dir`.
///
/// # Errors
/// [`ContextError::Name`] if the name could lead elsewhere.
pub fn context_path(dir: &Path, name: &str) -> Result<PathBuf, ContextError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= MAX_NAME
        && name.chars().all(inner);
    if !valid {
        return Err(ContextError::Name(name.chars().take(MAX_NAME).collect()));
    }
    Ok(dir.join(format!("{name}.{EXTENSION}")))
}

/// The names of the contexts in the folder `dir`, in order; none if there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn context_names(dir: &Path) -> Result<Vec<String>, ContextError> {
    let failed = |source| DiskError::new("read folder", dir, source);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error).into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let named = path.extension().is_some_and(|extension| extension == EXTENSION);
        let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| named);
        // what has another kind of name is no context: an editor's copy, or a file that is being written
        names.extend(name.filter(|name| context_path(dir, name).is_ok()).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn context() -> ContextFile {
        ContextFile {
            admin: "https://127.0.0.1:7444".into(),
            credential: "s3cret".into(),
            ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            also: vec!["https://127.0.0.2:7444".into()],
        }
    }

    #[test]
    fn a_context_is_read_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = context_path(&dir.path().join("contexts"), "iad").unwrap();
        context().write(&path).unwrap();
        assert_eq!(ContextFile::read(&path).unwrap(), context());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(context_names(path.parent().unwrap()).unwrap(), ["iad"]);
        assert!(!format!("{:?}", context()).contains("s3cret"));
    }

    #[test]
    fn every_mistake_is_named_and_the_credential_is_not_shown() {
        let text = "admin = \"http://h:1\"\ncredentail = \"s3cret\"\nalso = [\"http://h:2\"]";
        let error = ContextFile::parse(Path::new("iad.toml"), text).unwrap_err().to_string();
        for part in [
            "admin = ",
            "write https://HOST:PORT",
            "also",
            "credentail",
            "credential: required",
            "ca: required",
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let dir = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set.iter().map(|(k, v)| ((*k).into(), v.into())).collect();
            context_dir(move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        let own = [("CAUSEWAY_CONTEXT_DIR", "/c"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(dir(&own).unwrap(), Path::new("/c"));
        assert_eq!(dir(&own[1..]).unwrap(), Path::new("/x/causeway/contexts"));
        assert_eq!(dir(&own[2..]).unwrap(), Path::new("/h/.config/causeway/contexts"));
        assert_eq!(
            dir(&[("XDG_CONFIG_HOME", ""), ("HOME", "/h")]).unwrap(),
            Path::new("/h/.config/causeway/contexts")
        );
        assert_eq!(dir(&[]).unwrap_err().reason(), "context_folder");
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for bad in ["", ".", "../x", "a/b", ".hidden", "-x", "a b", &"x".repeat(64)] {
            assert_eq!(context_path(Path::new("/c"), bad).unwrap_err().reason(), "context_name", "{bad}");
        }
        assert_eq!(context_path(Path::new("/c"), "iad-1.prod").unwrap(), Path::new("/c/iad-1.prod.toml"));
    }

    #[test]
    fn other_files_are_no_contexts() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["phx.toml", "iad.toml", ".causeway-x.tmp", ".x.toml", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(context_names(dir.path()).unwrap(), ["iad", "phx"]);
        assert!(context_names(&dir.path().join("none")).unwrap().is_empty());
        assert!(ContextFile::read(&dir.path().join("none.toml")).unwrap_err().is_missing());
    }
}
