//! Join tokens: what a request for one means, and the token and the registry's command that come of it.
//!
//! Pure: identifiers, secrets and the time are arguments. Proposing the command and printing the token is the admin API's
//! business, checking a token that comes back the control sessions'.

use crate::admin::api::CreateToken as Request;
use causeway_catalog::{CreateToken, ServiceDeclaration, TokenKind, Verifier};
use causeway_model::{
    ClusterFacts, GatewayFacts, GatewayRole, HostPort, Label, NodeId, ParseError, PortSet, ServiceName,
    ServicePort, SpiffeId, TrustDomain,
};
use causeway_wire::token::{JoinFor, JoinToken, MAX_TOKEN, TokenCore};

/// How long a token lives unless the request says otherwise, in seconds.
const DEFAULT_TTL: u64 = 3600;
/// The longest life of a token, in seconds.
pub(crate) const MAX_TTL: u64 = 30 * 24 * 3600;
/// The most uses of a token.
const MAX_USES: u32 = 100_000;
/// The most addresses in a token.
const MAX_ADDRESSES: usize = 16;
/// The namespace of a workload that serves nothing and was given none.
const NAMESPACE: &str = "default";
/// The account of a workload that serves nothing and was given none.
const ACCOUNT: &str = "client";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    /// A name, port or list is not written as it must be.
    #[error("{error}")]
    Parse {
        /// Which.
        field: &'static str,
        /// How.
        error: ParseError,
    },
    /// A number is out of bounds.
    #[error("{given} is out of bounds: give 1 to {most}")]
    Bounds {
        /// Which.
        field: &'static str,
        /// What was given.
        given: u64,
        /// The most.
        most: u64,
    },
    /// A service stands there twice.
    #[error("service {0} is named twice: name it once, with all its ports (NAME:PORT,PORT)")]
    Twice(ServiceName),
    /// A gateway has an identity of its own.
    #[error(
        "a {role} serves no services and gets its identity from the cluster: leave it out, or ask for role workload"
    )]
    ForWorkloads {
        /// What was given.
        field: &'static str,
        /// For whom.
        role: GatewayRole,
    },
    /// Nobody could find the cluster.
    #[error(
        "no gateway of this cluster says at which address sidecars and gateways reach it: start one with \
         --advertise HOST:PORT, or with a --listen address that is not a wildcard"
    )]
    NoAddress,
    /// The registry is empty here.
    #[error("this gateway has not got its cluster's registry yet: try again in a moment")]
    NotReady,
}

impl TokenFault {
    /// The part of the request that is wrong; nothing when the request is fine.
    pub(crate) fn field(&self) -> Option<&'static str> {
        match self {
            Self::Parse { field, .. } | Self::Bounds { field, .. } | Self::ForWorkloads { field, .. } => {
                Some(field)
            }
            Self::Twice(_) => Some("services"),
            Self::NoAddress | Self::NotReady => None,
        }
    }

    /// The stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::NotReady => "not-ready",
            _ => "invalid-request",
        }
    }
}

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    kind: TokenKind,
    uses: u32,
    ttl: u64,
}

/// What makes a token unique.
pub(crate) struct Fresh {
    pub(crate) id: [u8; 8],
    pub(crate) secret: [u8; 32],
    /// Seconds since 1970.
    pub(crate) now: u64,
}

/// What `request` means in the cluster of trust domain `own`.
pub(crate) fn plan(request: &Request, own: &TrustDomain) -> Result<Plan, TokenFault> {
    let kind = match request.role.as_str() {
        "workload" => workload(request, own)?,
        "gateway" => gateway(request, GatewayRole::Gateway)?,
        "forwarder" => gateway(request, GatewayRole::Forwarder)?,
        other => {
            let error = ParseError::new("role", other, "write workload, gateway or forwarder");
            return Err(TokenFault::Parse { field: "role", error });
        }
    };
    let uses = request.uses.unwrap_or(1);
    bounds("uses", uses.into(), MAX_USES.into())?;
    let ttl = request.ttl_seconds.unwrap_or(DEFAULT_TTL);
    bounds("ttl_seconds", ttl, MAX_TTL)?;
    Ok(Plan { kind, uses, ttl })
}

fn bounds(field: &'static str, given: u64, most: u64) -> Result<(), TokenFault> {
    if (1..=most).contains(&given) { Ok(()) } else { Err(TokenFault::Bounds { field, given, most }) }
}

fn workload(request: &Request, own: &TrustDomain) -> Result<TokenKind, TokenFault> {
    let mut services: Vec<ServiceDeclaration> = Vec::new();
    for text in &request.services {
        let service = declaration(text).map_err(|error| TokenFault::Parse { field: "services", error })?;
        if services.iter().any(|known| known.name == service.name) {
            return Err(TokenFault::Twice(service.name));
        }
        services.push(service);
    }
    let first = services.first().map(|service| &service.name);
    let namespace =
        label("namespace", request.namespace.as_deref(), first.map(ServiceName::namespace), NAMESPACE)?;
    let account = label("account", request.account.as_deref(), first.map(ServiceName::service), ACCOUNT)?;
    Ok(TokenKind::Workload { identity: SpiffeId::workload(own, &namespace, &account), services })
}

/// `SERVICE.NAMESPACE` or `SERVICE.NAMESPACE:PORT[/PROTOCOL],...`
fn declaration(text: &str) -> Result<ServiceDeclaration, ParseError> {
    let (name, ports) = text.split_once(':').map_or((text, None), |(name, ports)| (name, Some(ports)));
    let ports: Option<Vec<ServicePort>> =
        ports.map(|ports| ports.split(',').map(str::parse).collect()).transpose()?;
    Ok(ServiceDeclaration { name: name.parse()?, ports: PortSet::try_from(ports.unwrap_or_default())? })
}

fn label(
    field: &'static str,
    given: Option<&str>,
    first: Option<&Label>,
    otherwise: &str,
) -> Result<Label, TokenFault> {
    match (given, first) {
        (Some(text), _) => text.parse(),
        (None, Some(first)) => Ok(first.clone()),
        (None, None) => otherwise.parse(),
    }
    .map_err(|error| TokenFault::Parse { field, error })
}

fn gateway(request: &Request, role: GatewayRole) -> Result<TokenKind, TokenFault> {
    let given = [
        ("services", !request.services.is_empty()),
        ("namespace", request.namespace.is_some()),
        ("account", request.account.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(TokenFault::ForWorkloads { field, role }),
        None => Ok(TokenKind::Gateway { role }),
    }
}

/// Where who holds a token turns to: the addresses of `own`, then those of the other gateways that can sign, the first address of
/// each before the second of any.
pub(crate) fn addresses(own: NodeId, gateways: &[GatewayFacts]) -> Vec<HostPort> {
    let mut signing: Vec<&GatewayFacts> =
        gateways.iter().filter(|gateway| gateway.role == GatewayRole::Gateway).collect();
    signing.sort_by_key(|gateway| (gateway.node != own, gateway.node));
    let mine =
        signing.first().filter(|first| first.node == own).into_iter().flat_map(|first| &first.cluster_addrs);
    let most = signing.iter().map(|gateway| gateway.cluster_addrs.len()).max().unwrap_or(0);
    let others =
        (0..most).flat_map(|nth| signing.iter().filter_map(move |gateway| gateway.cluster_addrs.get(nth)));
    let mut addresses: Vec<HostPort> = Vec::new();
    for addr in mine.chain(others) {
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(addr) {
            addresses.push(addr.clone());
        }
    }
    addresses
}

/// The token of `plan`, and the command that tells the registry of it.
pub(crate) fn mint(
    plan: &Plan,
    cluster: &ClusterFacts,
    root_fingerprint: [u8; 32],
    gateways: Vec<HostPort>,
    fresh: &Fresh,
) -> Result<(JoinToken, CreateToken), TokenFault> {
    if gateways.is_empty() {
        return Err(TokenFault::NoAddress);
    }
    let core = TokenCore {
        id: fresh.id,
        secret: fresh.secret,
        cluster: cluster.name.clone(),
        cluster_id: cluster.id,
        trust_domain: cluster.trust_domain.clone(),
        root_fingerprint,
        gateways,
        expires_at: fresh.now.saturating_add(plan.ttl),
    };
    let command = CreateToken {
        id: core.id.into(),
        verifier: Verifier(core.verifier()),
        kind: plan.kind.clone(),
        uses: plan.uses,
        expires_at: core.expires_at,
    };
    let join = match &plan.kind {
        TokenKind::Workload { services, .. } => {
            JoinFor::Workload(services.iter().map(|service| service.name.clone()).collect())
        }
        TokenKind::Gateway { role } => JoinFor::Gateway(*role),
    };
    let mut token = JoinToken { core, join };
    // long names may not all fit into what is read back: the last addresses are the least useful ones
    while token.to_string().len() > MAX_TOKEN && token.core.gateways.len() > 1 {
        token.core.gateways.pop();
    }
    Ok((token, command))
}

#[cfg(test)]
mod tests;
