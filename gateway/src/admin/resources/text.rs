//! Values that documents write as text, and their form in schemas.

use causeway_model::{ClusterName, Label, ServicePort};
use causeway_runtime::ConfigDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

/// What names of resources look like: DNS labels with dots between them.
pub(super) const NAME_PATTERN: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// A value with a form of its own.
pub(super) trait Lexical {
    /// What it is called in schemas.
    const NAME: &'static str;
    /// What it looks like (a regular expression of ECMA-262).
    const PATTERN: &'static str;
}

impl Lexical for ClusterName {
    const NAME: &'static str = "cluster name";
    const PATTERN: &'static str = LABEL;
}

impl Lexical for Label {
    const NAME: &'static str = "namespace";
    const PATTERN: &'static str = LABEL;
}

impl Lexical for ServicePort {
    const NAME: &'static str = "port";
    const PATTERN: &'static str = "^[0-9]{1,5}(/(tcp|udp|http|grpc))?$";
}

impl Lexical for Seconds {
    const NAME: &'static str = "duration";
    const PATTERN: &'static str = "^([0-9]+ ?[a-z]+ ?)+$";
}

/// A `T` that is written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(PhantomData))
    }
}

struct Written<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for Written<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map(Text).map_err(E::custom)
    }

    /// YAML takes `80` for a number.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }
}

impl<T: Lexical> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": T::NAME, "pattern": T::PATTERN })
    }
}

/// Whole seconds, at least one, written as a duration: `30s`, `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seconds(pub(super) u32);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration: ConfigDuration = text.parse().map_err(|error| format!("{error}"))?;
        let whole = duration.subsec_nanos() == 0;
        let seconds = u32::try_from(duration.as_secs()).ok().filter(|seconds| whole && *seconds > 0);
        seconds
            .map(Self)
            .ok_or_else(|| format!("{text} is out of bounds: give whole seconds from 1s to {}s", u32::MAX))
    }
}

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ConfigDuration::from_secs(u64::from(self.0)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_seconds_with_a_unit() {
        for (text, shown) in [("30s", "30s"), ("90s", "1m 30s"), ("1m 30s", "1m 30s"), ("2days", "2days")] {
            assert_eq!(text.parse::<Seconds>().unwrap().to_string(), shown);
        }
        for bad in ["0s", "30", "1500ms", "", "200years", "-1s"] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad}");
        }
        let numbers: Vec<Text<ServicePort>> = serde_json::from_str("[80, \"443/http\"]").unwrap();
        assert_eq!(serde_json::to_string(&numbers).unwrap(), "[\"80/tcp\",\"443/http\"]");
        let largest = Seconds(u32::MAX);
        assert_eq!(largest.to_string().parse::<Seconds>().unwrap(), largest);
    }
}
