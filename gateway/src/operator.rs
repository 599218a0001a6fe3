//! What operators reach this gateway by: the admin API's certificate and the context of the command line, kept true while the roots
//! rotate and gateways come and go.

use crate::admin;
use crate::config::GatewayConfig;
use crate::context::{ContextError, ContextFile, MAX_ALSO, context_dir, context_path};
use crate::hub::Hub;
use causeway_identity::{KeyPair, certificate_pem, web_server_config};
use causeway_model::{GatewayRole, HostPort, Revision};
use causeway_runtime::{bind_tcp, serve_https};
use rustls::ServerConfig;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// How long the admin API's certificate lives; it is made anew at every start, when the roots change, and in time.
const WEB_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// When it is made anew.
const WEB_AGAIN: Duration = Duration::from_secs(240 * 24 * 3600);
/// How often it is looked whether something changed.
const LOOK: Duration = Duration::from_secs(1);

/// Serves the admin API at `addr` and writes the context; nothing on a forwarder.
pub(crate) fn serve(
    hub: &Hub,
    config: &GatewayConfig,
    addr: SocketAddr,
) -> anyhow::Result<Option<SocketAddr>> {
    let (Some(credential), GatewayRole::Gateway) = (hub.node.credential(), hub.node.role()) else {
        tracing::warn!("a forwarder holds no signing key and serves no admin API: --admin is ignored");
        return Ok(None);
    };
    let listener = bind_tcp("admin API (HTTPS)", "--admin", addr)?;
    let local = listener.local_addr()?;
    if !local.ip().is_unspecified() {
        // set once, by the one start of this gateway
        let _ = hub.admin.set(HostPort::from(local));
    }
    // before the certificate is made, so that no change is missed
    let signed_by = signer(hub);
    let (tls, reloads) = watch::channel(certified(hub, local)?);
    let router = admin::router(hub.clone(), credential.clone());
    hub.tasks.spawn_critical("admin API", serve_https(listener, reloads, router, hub.tasks.token()));
    let context = Context::of(hub, config, local, credential);
    hub.tasks.spawn_critical("operator access", keep(hub.clone(), local, (tls, signed_by), context));
    Ok(Some(local))
}

/// TLS with a new certificate of the root that signs now.
fn certified(hub: &Hub, local: SocketAddr) -> anyhow::Result<Arc<ServerConfig>> {
    let key = KeyPair::generate()?;
    let names = vec![local.ip().to_string(), "localhost".into(), format!("{}.gateway.mesh", hub.node.id())];
    let chain = hub.ca()?.sign_web(&key.csr()?, &names, SystemTime::now(), WEB_TTL)?;
    Ok(web_server_config(chain, &key)?)
}

/// The certificate in use, and since which revision its signer signs.
type Certified = (watch::Sender<Arc<ServerConfig>>, Option<Revision>);

/// The revision since which the root signs that does.
fn signer(hub: &Hub) -> Option<Revision> {
    hub.catalog().cluster().map(|cluster| cluster.ca.activated)
}

/// Follows the roots and the other gateways until the process stops.
async fn keep(hub: Hub, local: SocketAddr, (tls, mut signed_by): Certified, mut context: Context) {
    let stop = hub.tasks.token();
    let mut signed = Instant::now();
    loop {
        context.write_if_changed(&hub);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let signs = signer(&hub);
        if signs == signed_by && signed.elapsed() < WEB_AGAIN {
            continue;
        }
        match certified(&hub, local) {
            Ok(config) => {
                tls.send_replace(config);
                (signed_by, signed) = (signs, Instant::now());
                tracing::info!("the admin API has a new certificate");
            }
            Err(error) => tracing::warn!("the admin API keeps its certificate for now: {error}"),
        }
    }
}

/// The context that this gateway writes: the cluster's first gateway under the cluster's name, every other one only when it is
/// told a name.
struct Context {
    name: Option<String>,
    admin: String,
    credential: String,
    written: Option<ContextFile>,
    failed: bool,
}

impl Context {
    fn of(hub: &Hub, config: &GatewayConfig, admin: SocketAddr, credential: String) -> Self {
        let joined = config.join.is_some() || hub.node.seeds().iter().all(|seed| seed.node != hub.node.id());
        let name = match &config.context {
            None if joined => None,
            None => Some(hub.node.cluster().name.to_string()),
            name => name.clone(),
        };
        Self { name, admin: url(&admin), credential, written: None, failed: false }
    }

    /// The context as it should be now.
    fn wanted(&self, hub: &Hub) -> ContextFile {
        let roots = hub.own_bundle(&hub.catalog()).roots;
        let others = hub.soft().siblings.admins();
        ContextFile {
            admin: self.admin.clone(),
            credential: self.credential.clone(),
            ca: roots.iter().map(|root| certificate_pem(root)).collect(),
            also: others.iter().map(url).filter(|url| *url != self.admin).collect(),
        }
    }

    fn write_if_changed(&mut self, hub: &Hub) {
        let Some(name) = &self.name else { return };
        let wanted = self.wanted(hub);
        // a gateway that is away for a moment stays in it
        let known = self.written.as_ref().is_some_and(|written| {
            let full = written.also.len() >= MAX_ALSO;
            written.ca == wanted.ca && (full || wanted.also.iter().all(|url| written.also.contains(url)))
        });
        if known {
            return;
        }
        let path = context_dir(|name| std::env::var_os(name)).and_then(|dir| context_path(&dir, name));
        match path.and_then(|path| write(path, wanted)) {
            Ok((path, written)) => {
                tracing::info!(context = name, path = %path.display(), "CLI context written");
                (self.written, self.failed) = (Some(written), false);
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                tracing::warn!(context = name, %error, "the CLI context could not be written; use --admin and --credential");
            }
            Err(_) => {}
        }
    }
}

fn url(addr: &impl std::fmt::Display) -> String {
    format!("https://{addr}")
}

fn write(path: PathBuf, mut context: ContextFile) -> Result<(PathBuf, ContextFile), ContextError> {
    keep_other(&path, &mut context)?;
    context.write(&path)?;
    Ok((path, context))
}

/// A context of the same name that leads to another cluster is kept beside the new one; of one that leads to the same cluster the
/// further gateways are kept, which an operator may have added.
fn keep_other(path: &Path, context: &mut ContextFile) -> Result<(), ContextError> {
    let Ok(old) = ContextFile::read(path) else { return Ok(()) };
    // the credential is the cluster's; the roots change in a rotation
    if old.credential == context.credential {
        let others = old.also.into_iter().chain([old.admin]).filter(|url| *url != context.admin);
        // those that live first
        let mut seen = BTreeSet::new();
        let all = context.also.drain(..).chain(others).filter(|url| seen.insert(url.clone()));
        context.also = all.take(MAX_ALSO).collect();
        return Ok(());
    }
    let kept = path.with_extension("toml.old");
    tracing::warn!(kept = %kept.display(), "a CLI context of this name led to another cluster; it is kept under another name");
    old.write(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(admin: &str, credential: &str, also: &[&str]) -> ContextFile {
        ContextFile {
            admin: admin.into(),
            credential: credential.into(),
            ca: "pem".into(),
            also: also.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_context_of_the_same_cluster_is_completed_and_another_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iad.toml");
        let (_, first) = write(path.clone(), context("https://a:1", "iad", &[])).unwrap();
        assert_eq!(ContextFile::read(&path).unwrap(), first);
        let (_, second) = write(path.clone(), context("https://b:1", "iad", &["https://c:1"])).unwrap();
        assert_eq!(second.also, ["https://c:1", "https://a:1"]);
        let (_, third) = write(path.clone(), context("https://z:1", "phx", &[])).unwrap();
        assert_eq!((third.also.len(), ContextFile::read(&path).unwrap()), (0, third));
        assert_eq!(ContextFile::read(&path.with_extension("toml.old")).unwrap(), second);
    }
}
