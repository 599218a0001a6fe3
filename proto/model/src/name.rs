//! Names of clusters, services and namespaces. All follow the label rule of RFC 1123 section 2.1.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// 1 to 63 lower-case letters, digits and inner hyphens: a DNS label (RFC 1123 section 2.1), so that every name can
/// be part of a DNS name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

impl Label {
    const RULE: &'static str = "use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends (a DNS label)";

    fn parse(what: &'static str, s: &str) -> Result<Self, ParseError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = s.as_bytes();
        let ends = bytes.first().copied().is_some_and(plain) && bytes.last().copied().is_some_and(plain);
        if ends && bytes.len() <= 63 && bytes.iter().all(|&b| plain(b) || b == b'-') {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::new(what, s, Self::RULE))
        }
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::parse("name", s)
    }
}

/// The name of a cluster (`iad`): a [`Label`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(Label);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ClusterName {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        Label::parse("cluster name", s).map(Self)
    }
}

/// The name of a service: `service.namespace` (`payments.shop`), two [`Label`]s.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    namespace: Label,
    service: Label,
}

impl ServiceName {
    /// The service named `service` in `namespace`.
    pub fn new(service: Label, namespace: Label) -> Self {
        Self { namespace, service }
    }

    /// The part before the dot.
    pub fn service(&self) -> &Label {
        &self.service
    }

    /// The part after the dot.
    pub fn namespace(&self) -> &Label {
        &self.namespace
    }
}

impl FromStr for ServiceName {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const RULE: &str = "write SERVICE.NAMESPACE, two DNS labels, for example payments.shop";
        let (service, namespace) =
            s.split_once('.').ok_or_else(|| ParseError::new("service name", s, RULE))?;
        let label =
            |part| Label::parse("service name", part).map_err(|_| ParseError::new("service name", s, RULE));
        Ok(Self { service: label(service)?, namespace: label(namespace)? })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.namespace)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({self})")
    }
}

macro_rules! text_form {
    ($name:ident, $as_text:expr) => {
        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(s: String) -> Result<Self, ParseError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                let text: fn(&$name) -> String = $as_text;
                text(&name)
            }
        }
    };
}

text_form!(Label, |name| name.as_str().to_owned());
text_form!(ClusterName, |name| name.as_str().to_owned());
text_form!(ServiceName, ToString::to_string);

macro_rules! display_as_str {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }
    };
}

display_as_str!(Label);
display_as_str!(ClusterName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_dns_label_rule() {
        for good in ["a", "iad", "us-ashburn-1", "1a"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &long] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_name_is_two_labels() {
        let name: ServiceName = "payments.shop".parse().unwrap();
        assert_eq!((name.service().as_str(), name.namespace().as_str()), ("payments", "shop"));
        for bad in ["payments", "payments.", ".shop", "a.b.c", "a b.c"] {
            let error = bad.parse::<ServiceName>().unwrap_err().to_string();
            assert!(error.contains("SERVICE.NAMESPACE"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_name_prints_as_it_parses(s in "\\PC{0,80}") {
            if let Ok(name) = s.parse::<ServiceName>() {
                prop_assert_eq!(name.to_string(), s);
            }
        }
    }
}
