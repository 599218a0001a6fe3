//! HTTPS for whatever has a router and a TLS configuration (the admin API). Owns the serving; which certificates,
//! ciphers and clients are fine is in the configuration that comes in.

use crate::connections::{Limit, bounded, until_cancelled};
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many connections are served at once.
const CONNECTIONS: usize = 1024;

/// Serves `router` over TLS until `token` is cancelled and the requests in flight are answered (5 s at most). Without
/// ALPN protocols in `tls`, whose newest value new connections get, HTTP/2 and HTTP/1.1 are offered. Handlers find the client's address as
/// `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// The listener cannot be used from this runtime.
pub async fn serve_https(
    listener: TcpListener,
    mut tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    token: CancellationToken,
) -> io::Result<()> {
    let config = RustlsConfig::from_config(offering(tls.borrow_and_update().clone()));
    let acceptor = RustlsAcceptor::new(config.clone()).acceptor(Limit::new(CONNECTIONS));
    let handle = Handle::new();
    let server = bounded(axum_server::from_tcp(listener)?.acceptor(acceptor), &handle);
    let serving = server.serve(router.into_make_service_with_connect_info::<SocketAddr>());
    let reloading = async {
        while tls.changed().await.is_ok() {
            config.reload_from_config(offering(tls.borrow_and_update().clone()));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = until_cancelled(serving, handle, token) => served,
        () = reloading => Ok(()),
    }
}

/// With protocols to choose from.
fn offering(mut tls: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if tls.alpn_protocols.is_empty() {
        Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::bind_tcp;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let cert = issued.cert.der().clone();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![cert.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let client =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
    }

    fn get_over_tls(addr: SocketAddr, config: Arc<ClientConfig>) -> String {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        stream.write_all(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn a_router_is_served_over_tls_until_cancelled() {
        let (server, client) = configs();
        let listener = bind_tcp("admin", "--admin", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let who =
            |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { format!("you are {}", peer.ip()) };
        let token = CancellationToken::new();
        let (_keep, tls) = watch::channel(server);
        let serving =
            tokio::spawn(serve_https(listener, tls, Router::new().route("/who", get(who)), token.clone()));
        let answer = tokio::task::spawn_blocking(move || get_over_tls(addr, client)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("you are 127.0.0.1"), "{answer}");
        token.cancel();
        tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(addr).is_err());
    }
}
