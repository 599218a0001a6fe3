//! `causeway token`: what workloads and gateways join this cluster with.

use super::listing::Listing;
use super::spec::{ServiceSpec, TokenIdText, merge};
use super::usage;
use crate::api::Api;
use crate::context::Target;
use crate::output::{self, Table, list, relative};
use anyhow::Result;
use causeway_gateway::admin::api::{CreateToken, CreatedToken, Token};
use causeway_model::Label;
use causeway_runtime::ConfigDuration;
use clap::ValueEnum;
use std::time::SystemTime;

/// What `causeway token` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token; it is printed once and stored nowhere
    Create(Create),
    /// List the tokens of this cluster, without their secrets
    List(List),
    /// Make a token worthless; who joined with it stays
    Revoke(Revoke),
}

impl Command {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Create(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Revoke(args) => args.run(),
        }
    }
}

const CREATE: &str = "\
Only the token goes to standard output, so that it can be caught; what is to know about it goes to standard error.

Examples:
  # for a workload that serves payments.shop
  causeway token create --service payments.shop:80/http
  # for one that only calls others
  causeway token create --account checkout --namespace shop
  # for two further gateways of this cluster
  causeway token create --role gateway --uses 2 --ttl 30m
  T=$(causeway token create --service orders.shop:80)";

/// Who joins with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Role {
    /// A sidecar with its workload
    #[default]
    Workload,
    /// A gateway that may sign certificates and vote
    Gateway,
    /// A gateway that only forwards
    Forwarder,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Gateway => "gateway",
            Self::Forwarder => "forwarder",
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = CREATE)]
pub(crate) struct Create {
    /// Who joins with it
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// A service that the workload may serve, with the ports it declares; PROTO is tcp, udp, http or grpc [default: tcp].
    /// May be given many times
    #[arg(long = "service", value_name = "NAME[:PORT[/PROTO]]")]
    services: Vec<ServiceSpec>,
    /// The namespace of the workload's identity [default: that of the first service, else `default`]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<Label>,
    /// The service account of the workload's identity [default: the name of the first service]
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<Label>,
    /// How often it may be used
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// For how long it may be used
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: ConfigDuration,
    #[command(flatten)]
    target: Target,
}

impl Create {
    fn body(&self) -> Result<CreateToken> {
        let identity = !self.services.is_empty() || self.namespace.is_some() || self.account.is_some();
        if self.role != Role::Workload && identity {
            return Err(usage("--service, --namespace and --account are for --role workload only"));
        }
        let services = merge(&self.services).map_err(usage)?;
        Ok(CreateToken {
            role: self.role.word().to_owned(),
            services: services.iter().map(ToString::to_string).collect(),
            namespace: self.namespace.as_ref().map(ToString::to_string),
            account: self.account.as_ref().map(ToString::to_string),
            uses: Some(self.uses),
            ttl_seconds: Some(whole_seconds(self.ttl)?),
        })
    }

    fn run(&self) -> Result<()> {
        let body = self.body()?;
        let made: CreatedToken = Api::of(&self.target)?.post("/v1/tokens", &body)?;
        let until = relative(made.expires_at, SystemTime::now());
        output::note(&format!("# {} token {}, {} use(s), until {until}", body.role, made.id, self.uses));
        output::note(match self.role {
            Role::Workload => "# give it to `causeway sidecar --token TOKEN` (or $CAUSEWAY_TOKEN)",
            Role::Gateway => "# give it to `causeway gateway --join TOKEN`",
            Role::Forwarder => "# give it to `causeway gateway --role forwarder --join TOKEN`",
        });
        output::say(&made.token)
    }
}

/// A duration as the admin API takes it.
pub(super) fn whole_seconds(duration: ConfigDuration) -> Result<u64> {
    match duration.as_secs() {
        0 => Err(usage(format!("--ttl {duration} is too short: give at least 1s"))),
        seconds => Ok(seconds),
    }
}

const LIST: &str = "\
Examples:
  causeway token list
  causeway token list -o json | jq '.[] | select(.state == \"valid\")'";

#[derive(Debug, clap::Args)]
#[command(after_help = LIST)]
pub(crate) struct List {
    #[command(flatten)]
    listing: Listing,
}

impl List {
    fn run(&self) -> Result<()> {
        self.listing.show("/v1/tokens", |tokens| table(tokens, SystemTime::now()))
    }
}

fn table(tokens: &[Token], now: SystemTime) -> String {
    let mut table = Table::new(["ID", "ROLE", "STATE", "USES-LEFT", "EXPIRES", "IDENTITY", "SERVICES"]);
    for token in tokens {
        table.row([
            token.id.clone(),
            token.role.clone(),
            token.state.clone(),
            token.uses_left.to_string(),
            relative(token.expires_at, now),
            token.identity.clone().unwrap_or_default(),
            list(&token.services),
        ]);
    }
    table.to_string()
}

const REVOKE: &str = "\
Examples:
  causeway token revoke 1f2e3d4c5b6a7988";

#[derive(Debug, clap::Args)]
#[command(after_help = REVOKE)]
pub(crate) struct Revoke {
    /// The token's id, as `causeway token list` shows it
    #[arg(value_name = "ID")]
    id: TokenIdText,
    #[command(flatten)]
    target: Target,
}

impl Revoke {
    fn run(&self) -> Result<()> {
        Api::of(&self.target)?.delete(&format!("/v1/tokens/{}", self.id))?;
        output::say(&format!("token {} is revoked", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;
    use std::time::{Duration, UNIX_EPOCH};

    fn create(flags: &str) -> Create {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            create: Create,
        }
        Only::parse_from(std::iter::once("x").chain(flags.split_whitespace())).create
    }

    #[test]
    fn flags_become_a_request() {
        let body = create("--service a.b:80 --service a.b:53/udp --uses 3 --ttl 90m").body().unwrap();
        assert_eq!((body.role.as_str(), body.uses, body.ttl_seconds), ("workload", Some(3), Some(5400)));
        assert_eq!(body.services, ["a.b:80/tcp,53/udp"]);
        assert_eq!(create("--role gateway").body().unwrap().ttl_seconds, Some(3600));
    }

    #[test]
    fn flags_that_do_not_fit_together_are_a_usage_error() {
        for flags in ["--role gateway --service a.b", "--service a.b:80 --service a.b:80/http", "--ttl 10ms"]
        {
            let error = create(flags).body().unwrap_err();
            assert!(error.is::<clap::Error>(), "{flags}: {error}");
        }
        assert!(Cli::try_parse_from(["causeway", "token", "create", "--uses", "0"]).is_err());
    }

    #[test]
    fn tokens_are_listed() {
        let token = Token {
            id: "1f2e3d4c5b6a7988".into(),
            role: "workload".into(),
            identity: Some("spiffe://iad.mesh/ns/shop/sa/payments".into()),
            services: vec!["payments.shop:80/tcp".into()],
            uses_left: 1,
            expires_at: 1_700_003_600,
            state: "valid".into(),
        };
        let gateway = Token { role: "gateway".into(), identity: None, services: vec![], ..token.clone() };
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let expected = "\
ID                ROLE      STATE  USES-LEFT  EXPIRES                       IDENTITY                               SERVICES
1f2e3d4c5b6a7988  workload  valid  1          2023-11-14T23:13:20Z (in 1h)  spiffe://iad.mesh/ns/shop/sa/payments  payments.shop:80/tcp
1f2e3d4c5b6a7988  gateway   valid  1          2023-11-14T23:13:20Z (in 1h)  -                                      -";
        assert_eq!(table(&[token, gateway], now), expected);
    }
}
