//! A pattern of service names, and which stretch of all names it can lie in.

use causeway_model::{Label, ServiceName};
use std::ops::Bound;
use std::str::FromStr;

/// The smallest label there is.
const FIRST: &str = "0";

/// Which names are meant: a pattern for either part, in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    service: String,
    namespace: String,
}

impl Default for Pattern {
    fn default() -> Self {
        Self { service: "*".into(), namespace: "*".into() }
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern of names: write SERVICE.NAMESPACE or SERVICE, in small letters, digits and hyphens, with * for any part"
)]
pub(super) struct NoPattern(String);

impl FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let (service, namespace) = text.split_once('.').unwrap_or((text, "*"));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
        let fine = |part: &str| (1..=64).contains(&part.len()) && part.bytes().all(plain);
        if fine(service) && fine(namespace) {
            Ok(Self { service: service.to_owned(), namespace: namespace.to_owned() })
        } else {
            Err(NoPattern(text.chars().take(160).collect()))
        }
    }
}

impl Pattern {
    /// The names of this pattern that are in `namespace`; nothing when there can be none.
    pub(super) fn within(self, namespace: &Label) -> Option<Self> {
        let fits = matches(&self.namespace, namespace.as_str());
        fits.then(|| Self { namespace: namespace.as_str().to_owned(), ..self })
    }

    pub(super) fn matches(&self, name: &ServiceName) -> bool {
        matches(&self.namespace, name.namespace().as_str()) && matches(&self.service, name.service().as_str())
    }

    /// Where the names of this pattern begin, or earlier.
    pub(super) fn begin(&self) -> Bound<ServiceName> {
        let (service, namespace) = (literal(&self.service), literal(&self.namespace));
        // a prefix that ends in a hyphen is no label, but what is before the hyphen is one, and comes before
        let label = |text: &str| text.trim_end_matches('-').parse::<Label>().ok();
        let Some(namespace_label) = label(namespace) else { return Bound::Unbounded };
        let service = if namespace == self.namespace { label(service) } else { None };
        match service.or_else(|| label(FIRST)) {
            Some(service) => Bound::Included(ServiceName::new(service, namespace_label)),
            None => Bound::Unbounded,
        }
    }

    /// Whether no name from `name` on is of this pattern.
    pub(super) fn is_past(&self, name: &ServiceName) -> bool {
        let beyond = |part: &str, pattern: &str| {
            let prefix = literal(pattern);
            if prefix == pattern { part > pattern } else { part > prefix && !part.starts_with(prefix) }
        };
        let (service, namespace) = (name.service().as_str(), name.namespace().as_str());
        beyond(namespace, &self.namespace) || (namespace == self.namespace && beyond(service, &self.service))
    }
}

/// What stands before the first star.
fn literal(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

/// Whether `text` is of `pattern`. Looks back to the last star only, so it takes no longer than the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (text, fits, not) in [
            ("pay*.shop", "payments.shop", "payments.web"),
            ("*.shop", "a.shop", "a.shops"),
            ("*ment*", "payments.web", "orders.web"),
            ("payments.shop", "payments.shop", "payment.shop"),
            ("a*b*c.x", "aabbc.x", "aabb.x"),
            ("p*.s*", "p.s", "o.s"),
        ] {
            assert!(pattern(text).matches(&name(fits)) && !pattern(text).matches(&name(not)), "{text}");
        }
        for wrong in ["", ".", "a.", "A.b", "a.b.c", "ä", "a b", &"a".repeat(65)] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_namespace_narrows_a_pattern() {
        let shop: Label = "shop".parse().unwrap();
        assert_eq!(pattern("pay*").within(&shop), Some(pattern("pay*.shop")));
        assert_eq!(pattern("pay*.s*").within(&shop), Some(pattern("pay*.shop")));
        assert_eq!(pattern("pay*.web").within(&shop), None);
    }

    proptest! {
        #[test]
        fn every_name_of_a_pattern_is_in_its_stretch(
            text in "([ab*-]{1,4}\\.)?[ab0*-]{1,4}",
            names in proptest::collection::vec("[ab0]([ab0-]{0,2}[ab0])?\\.[ab0]([ab0-]{0,2}[ab0])?", 1..20),
        ) {
            let pattern = pattern(&text);
            for name in names.iter().map(|text| name(text)) {
                if pattern.matches(&name) {
                    prop_assert!(!pattern.is_past(&name), "{name} {text}");
                    let begins = match pattern.begin() {
                        Bound::Included(first) => first <= name,
                        _ => true,
                    };
                    prop_assert!(begins, "{name} {text}");
                }
            }
        }

        #[test]
        fn past_is_past(text in "[ab*]{1,3}\\.[ab*]{1,3}", a in "[ab0]{1,3}\\.[ab0]{1,3}", b in "[ab0]{1,3}\\.[ab0]{1,3}") {
            let (pattern, mut names) = (pattern(&text), [name(&a), name(&b)]);
            names.sort();
            prop_assert!(!pattern.is_past(&names[0]) || !pattern.matches(&names[1]));
        }
    }
}
