//! HTTPS of the admin API.

use crate::pair::*;
use causeway_identity::{ClusterCa, KeyPair, explain, web_client_config, web_server_config};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::SystemTime;

fn admin(ca: &ClusterCa) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let names = ["admin.iad.example".to_owned(), "127.0.0.1".to_owned()];
    let chain = ca.sign_web(&key.csr().unwrap(), &names, SystemTime::now(), HOUR).unwrap();
    let other = KeyPair::generate().unwrap();
    assert_eq!(web_server_config(chain.clone(), &other).unwrap_err().reason(), "key-mismatch");
    assert_eq!(web_server_config(vec![], &other).unwrap_err().reason(), "tls-config");
    web_server_config(chain, &key).unwrap()
}

#[test]
fn the_admin_api_is_trusted_by_name_and_bundle() {
    let iad = ca("iad.mesh");
    for ca in [&operators_ca("iad.mesh"), &iad] {
        let (server, client) = (admin(ca), web_client_config(&ca.bundle()).unwrap());
        for name in ["admin.iad.example", "127.0.0.1"] {
            let pair = Pair::named(name, &client, &server).run().unwrap();
            assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
        }
    }
    let (server, client) = (admin(&iad), web_client_config(&iad.bundle()).unwrap());
    let Err(Failed::Client(error)) = Pair::named("other.example", &client, &server).run() else {
        panic!("a wrong name was accepted")
    };
    assert!(explain(&error).is_none() && error.to_string().contains("other.example"), "{error}");
    let stranger = web_client_config(&ca("iad.mesh").bundle()).unwrap();
    assert!(matches!(Pair::named("127.0.0.1", &stranger, &server).run(), Err(Failed::Client(_))));
}

#[test]
fn a_web_certificate_is_nobody_in_the_mesh() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let mut web = (*admin(&iad)).clone();
    web.alpn_protocols = vec![ALPN.to_vec()];
    let rule = causeway_identity::ServerRule::GatewayOf(iad.trust_domain().clone());
    let client = client(rule, &bundles, &svid(&iad, "/ns/a/sa/a"));
    let failed = handshake(&client, &Arc::new(web)).err().unwrap();
    assert!(failed.explain().contains("0 URI names"), "{}", failed.explain());
}
