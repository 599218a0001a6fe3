//! How services and tokens are written on the command line.

use causeway_model::{ParseError, PortSet, ServiceName, ServicePort};
use causeway_wire::token::parse_token_id;
use std::fmt;
use std::str::FromStr;

/// A service with the ports that it declares, if any: `payments.shop` or `payments.shop:80/http,81`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceSpec {
    pub(super) name: ServiceName,
    ports: Vec<ServicePort>,
}

impl FromStr for ServiceSpec {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let (name, ports) = s.split_once(':').map_or((s, None), |(name, ports)| (name, Some(ports)));
        let ports = ports.map(|ports| ports.split(',').map(str::parse).collect()).transpose()?;
        Ok(Self { name: name.parse()?, ports: ports.unwrap_or_default() })
    }
}

impl fmt::Display for ServiceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for (index, port) in self.ports.iter().enumerate() {
            write!(f, "{}{port}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// The specs with one for each service, in the order of first mention, its ports together.
pub(super) fn merge(specs: &[ServiceSpec]) -> Result<Vec<ServiceSpec>, ParseError> {
    let mut merged: Vec<ServiceSpec> = Vec::new();
    for spec in specs {
        match merged.iter_mut().find(|known| known.name == spec.name) {
            Some(known) => known.ports.extend(&spec.ports),
            None => merged.push(spec.clone()),
        }
    }
    for spec in &merged {
        PortSet::try_from(spec.ports.clone())?;
    }
    Ok(merged)
}

/// The id of a token: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenIdText(String);

impl FromStr for TokenIdText {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match parse_token_id(s) {
            Some(_) => Ok(Self(s.to_ascii_lowercase())),
            None => Err(ParseError::new(
                "token id",
                s,
                "write 16 hexadecimal digits, as `causeway token list` shows them",
            )),
        }
    }
}

impl fmt::Display for TokenIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ServiceSpec {
        text.parse().unwrap()
    }

    #[test]
    fn a_service_may_declare_ports() {
        for (text, shown) in
            [("a.b", "a.b"), ("a.b:80", "a.b:80/tcp"), ("a.b:80/http,53/udp", "a.b:80/http,53/udp")]
        {
            assert_eq!(spec(text).to_string(), shown);
        }
        for bad in ["a", "a.b:", "a.b:80/ftp", "a.b:0", "a.b:80,", "A.b"] {
            assert!(bad.parse::<ServiceSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mentions_of_one_service_are_merged() {
        let shown = |texts: &[&str]| {
            let specs: Vec<_> = texts.iter().map(|text| spec(text)).collect();
            merge(&specs).map(|specs| specs.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(shown(&["a.b:80", "c.d", "a.b:81/http"]).unwrap(), ["a.b:80/tcp,81/http", "c.d"]);
        assert!(shown(&["a.b:80", "a.b:80/http"]).is_err());
    }
}
