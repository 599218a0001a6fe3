//! Which cluster a command talks to, and with which credential.
//!
//! Owns the flags and the order of look-up. The format of context files is the gateway's, which writes them.

use crate::failure::Failure;
use anyhow::{Context, Result};
use causeway_gateway::context::{ContextFile, context_dir, context_names, context_path};
use causeway_runtime::files::read_limited;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The largest credential or CA file, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// The variable that names a context.
const VARIABLE: &str = "CAUSEWAY_CONTEXT";

/// The flags that say which cluster is meant.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which cluster")]
pub(crate) struct Target {
    /// The context to use [default: $CAUSEWAY_CONTEXT, else the only one there is]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["admin", "credential", "ca"])]
    context: Option<String>,
    /// The admin API of a gateway, for a cluster without a context: https://HOST:PORT
    #[arg(long, value_name = "URL", requires = "credential")]
    admin: Option<String>,
    /// A context file, or a file with a bare credential (then --admin and --ca are needed)
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// The cluster's root certificates, PEM [default: those of the context file]
    #[arg(long, value_name = "FILE", requires = "credential")]
    ca: Option<PathBuf>,
}

/// A cluster that was found.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Where this comes from, in words: `context iad`.
    pub(crate) origin: String,
    /// The file that holds the credential.
    pub(crate) path: PathBuf,
    /// Address, credential and roots.
    pub(crate) file: ContextFile,
}

impl Target {
    /// The cluster that is meant; `variable` looks up an environment variable.
    pub(crate) fn access(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Access> {
        if let Some(path) = &self.credential {
            return self.explicit(path);
        }
        let dir = context_dir(&variable)?;
        let from_variable = variable(VARIABLE).filter(|name| !name.is_empty());
        let from_variable = from_variable.map(|name| name.to_string_lossy().into_owned());
        match self.context.clone().or(from_variable) {
            Some(name) => named(&dir, &name),
            None => only(&dir),
        }
    }

    fn explicit(&self, path: &Path) -> Result<Access> {
        let mut file = match bare(path)? {
            None => ContextFile::read(path)?,
            Some(credential) => {
                let (Some(admin), Some(_)) = (&self.admin, &self.ca) else {
                    let what = format!("{} holds a bare credential", path.display());
                    return Err(Failure::new("credential_incomplete", what)
                        .cause("it does not say where the cluster is, nor which certificates to trust")
                        .fix("give --admin URL and --ca FILE as well, or give a context file")
                        .into());
                };
                ContextFile { admin: admin.clone(), credential, ca: String::new(), also: Vec::new() }
            }
        };
        if let Some(admin) = &self.admin {
            file.admin = https(admin)?;
            file.also = Vec::new();
        }
        if let Some(ca) = &self.ca {
            file.ca = String::from_utf8_lossy(&read_limited(ca, MAX_FILE)?).into_owned();
        }
        Ok(Access { origin: format!("file {}", path.display()), path: path.to_owned(), file })
    }
}

/// The credential in a file that holds nothing else; `None` for any other file.
fn bare(path: &Path) -> Result<Option<String>> {
    let bytes = read_limited(path, MAX_FILE)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let is_bare = !text.is_empty() && !text.contains(char::is_whitespace);
    Ok(is_bare.then(|| text.to_owned()))
}

/// `text` as the address of an admin API.
fn https(text: &str) -> Result<String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    if !url.starts_with("https://") {
        return Err(Failure::new("admin_url", format!("cannot use --admin {text}"))
            .cause("a credential goes over HTTPS only")
            .fix("write https://HOST:PORT")
            .into());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn named(dir: &Path, name: &str) -> Result<Access> {
    let path = context_path(dir, name)?;
    match ContextFile::read(&path) {
        Ok(file) => Ok(Access { origin: format!("context {name}"), path, file }),
        Err(error) if error.is_missing() => {
            let names = context_names(dir)?;
            let there = if names.is_empty() { "there is none".into() } else { names.join(", ") };
            Err(Failure::new("context_unknown", format!("there is no context {name:?} in {}", dir.display()))
                .cause(format!("the contexts there: {there}"))
                .fix("give --context NAME with one of them, or copy the gateway's context file there")
                .into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot use context {name:?}")),
    }
}

fn only(dir: &Path) -> Result<Access> {
    match context_names(dir)?.as_slice() {
        [name] => named(dir, name),
        [] => Err(Failure::new("context_none", "no cluster to talk to")
            .cause(format!("there is no context in {}", dir.display()))
            .fix("run `causeway gateway` here: its first start writes one; or `causeway demo`")
            .fix("copy the context file of a gateway's machine there (mode 0600)")
            .fix("give --admin URL --credential FILE")
            .into()),
        names => Err(Failure::new("context_ambiguous", "which cluster is meant?")
            .cause(format!("there are {} contexts in {}: {}", names.len(), dir.display(), names.join(", ")))
            .fix(format!("give --context {}, or set {VARIABLE}", names[0]))
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Setting {
        dir: tempfile::TempDir,
        variable: Option<&'static str>,
    }

    impl Setting {
        fn new(names: &[&str], variable: Option<&'static str>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                file(name).write(&context_path(dir.path(), name).unwrap()).unwrap();
            }
            Self { dir, variable }
        }

        fn find(&self, target: &Target) -> Result<Access> {
            target.access(|name| match name {
                "CAUSEWAY_CONTEXT_DIR" => Some(self.dir.path().into()),
                VARIABLE => self.variable.map(Into::into),
                _ => None,
            })
        }

        fn path(&self, name: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    fn file(name: &str) -> ContextFile {
        ContextFile {
            admin: format!("https://{name}:7444"),
            credential: format!("secret-{name}"),
            ca: "PEM".into(),
            also: vec![format!("https://{name}-2:7444")],
        }
    }

    fn context(name: &str) -> Target {
        Target { context: Some(name.into()), ..Target::default() }
    }

    fn failure(result: Result<Access>) -> Failure {
        result.unwrap_err().downcast::<Failure>().unwrap()
    }

    #[test]
    fn the_flag_wins_then_the_variable_then_the_only_one() {
        let two = Setting::new(&["iad", "phx"], Some("phx"));
        assert_eq!(two.find(&context("iad")).unwrap().file, file("iad"));
        assert_eq!(two.find(&Target::default()).unwrap().file, file("phx"));
        let one = Setting::new(&["iad"], Some(""));
        let found = one.find(&Target::default()).unwrap();
        assert_eq!((found.file, found.origin.as_str()), (file("iad"), "context iad"));
    }

    #[test]
    fn a_file_given_wins_over_every_context() {
        let setting = Setting::new(&["iad"], Some("iad"));
        let path = context_path(setting.dir.path(), "iad").unwrap();
        let ca = setting.path("ca.pem", "OTHER");
        let target =
            Target { credential: Some(path), admin: Some("h:1/".into()), ca: Some(ca), context: None };
        let expected =
            ContextFile { admin: "https://h:1".into(), ca: "OTHER".into(), also: vec![], ..file("iad") };
        assert_eq!(setting.find(&target).unwrap().file, expected);
    }

    #[test]
    fn a_bare_credential_needs_the_rest() {
        let setting = Setting::new(&[], None);
        let credential = Some(setting.path("credential", "s3cret\n"));
        let mut target = Target { credential, admin: Some("https://h:1".into()), ..Target::default() };
        assert_eq!(failure(setting.find(&target)).reason, "credential_incomplete");
        target.ca = Some(setting.path("ca.pem", "PEM"));
        let found = setting.find(&target).unwrap().file;
        assert_eq!((found.credential.as_str(), found.ca.as_str()), ("s3cret", "PEM"));
        target.admin = Some("http://h:1".into());
        assert_eq!(failure(setting.find(&target)).reason, "admin_url");
    }

    #[test]
    fn errors_list_the_contexts_there_are() {
        let two = Setting::new(&["phx", "iad"], None);
        let unknown = failure(two.find(&context("fra")));
        assert_eq!(
            (unknown.reason.as_str(), unknown.causes[0].as_str()),
            ("context_unknown", "the contexts there: iad, phx")
        );
        let ambiguous = failure(two.find(&Target::default()));
        assert_eq!(ambiguous.reason, "context_ambiguous");
        assert!(ambiguous.causes[0].ends_with(": iad, phx"), "{ambiguous:?}");
        assert_eq!(failure(Setting::new(&[], None).find(&Target::default())).reason, "context_none");
        assert!(two.find(&context("../x")).unwrap_err().to_string().contains("invalid context name"));
    }

    #[test]
    fn a_broken_context_is_named_without_its_secret() {
        let setting = Setting::new(&[], None);
        setting.path("iad.toml", "credential = \"s3cret\"\nwhat = 1\n");
        let error = format!("{:#}", setting.find(&context("iad")).unwrap_err());
        assert!(error.contains("iad.toml:2: what") && error.contains("admin: required"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
