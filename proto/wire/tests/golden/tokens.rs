//! Tokens, and the proofs of knowing one.

use crate::folder::Sample;
use crate::link::introduction;
use crate::nouns::{cluster_id, parsed};
use causeway_model::GatewayRole;
use causeway_wire::token::*;
use std::fmt::{Debug, Display};
use std::str::FromStr;

const EXPORTER: [u8; 32] = [0xe0; 32];

pub(crate) fn samples() -> Vec<Sample> {
    let join = |join| JoinToken { core: core(), join };
    let services = vec![parsed("a.b"), parsed("payments.shop")];
    let mut all = vec![
        token("token.join-workload", join(JoinFor::Workload(services))),
        token("token.join-gateway", join(JoinFor::Gateway(GatewayRole::Gateway))),
        token("token.join-forwarder", join(JoinFor::Gateway(GatewayRole::Forwarder))),
        token("token.link", LinkToken { core: core(), for_cluster: None }),
        token("token.link-for-one", LinkToken { core: core(), for_cluster: Some(parsed("phx")) }),
    ];
    all.extend(proofs());
    all
}

fn core() -> TokenCore {
    TokenCore {
        id: [1, 2, 3, 4, 5, 6, 7, 8],
        secret: [0x5e; 32],
        cluster: parsed("iad"),
        cluster_id: cluster_id(0x0a_0b0c),
        trust_domain: parsed("iad.mesh"),
        root_fingerprint: [0xf0; 32],
        gateways: vec![parsed("gw.example.org:7443"), parsed("[2001:db8::1]:7443")],
        expires_at: 1_800_000_000,
    }
}

fn token<T>(name: &str, token: T) -> Sample
where
    T: Display + Debug + PartialEq + FromStr<Err = TokenError> + 'static,
{
    Sample::text(name, format!("{token}\n"), move |text| match text.parse::<T>() {
        Ok(read) if read == token => Ok(()),
        Ok(read) => Err(format!("reads as {read:?}")),
        Err(error) => Err(error.to_string()),
    })
}

fn proofs() -> [Sample; 3] {
    let verifier = core().verifier();
    let pair = |name: &str, side| {
        let made = pair_proof(side, &verifier, &EXPORTER, &introduction()).unwrap();
        proof(name, made, move |proof| verify_pair_proof(side, &verifier, &EXPORTER, &introduction(), proof))
    };
    [
        proof("proof.join", join_proof(&verifier, &EXPORTER, b"csr"), move |proof| {
            verify_join_proof(&verifier, &EXPORTER, b"csr", proof)
        }),
        pair("proof.pair-inviting", PairSide::Inviting),
        pair("proof.pair-accepting", PairSide::Accepting),
    ]
}

fn proof(name: &str, made: [u8; 32], holds: impl Fn(&[u8; 32]) -> bool + 'static) -> Sample {
    Sample::bytes(name, made, move |bytes| {
        let proof = bytes.try_into().map_err(|_| "not 32 bytes")?;
        if holds(proof) { Ok(()) } else { Err("the proof does not hold".to_owned()) }
    })
}
