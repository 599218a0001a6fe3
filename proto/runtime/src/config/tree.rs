//! A TOML document as a tree whose nodes know their lines.

use super::errors::Mistake;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// The keys of a table, and which of them somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) entries: BTreeMap<String, Node>,
    pub(super) known: BTreeSet<String>,
    /// Every key is accepted, as in a map.
    pub(super) open: bool,
    /// Somebody read it as a table. If not, its keys are not unknown: the whole is in the wrong place, and was noted.
    pub(super) read: bool,
}

/// A table that sections share.
pub(super) type Table = Rc<RefCell<Keys>>;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// The line of the value, from 1.
    pub(super) line: usize,
    /// The value as written, cut.
    pub(super) shown: String,
    pub(super) body: Body,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Body {
    /// A string, number, boolean or date, as `FromStr` sees it.
    Scalar(String),
    /// An array, of tables too.
    List(Vec<Node>),
    /// A table, inline too.
    Table(Table),
}

impl Body {
    /// What it is, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "a single value",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Of a file that is something else altogether, this many lines are enough.
const MOST_SYNTAX: usize = 20;

/// Parses a document, or lists the lines (20 at most) that are not TOML, each with its first error: what follows on a
/// line is mostly a consequence.
pub(super) fn parse(text: &str) -> Result<Table, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let source = Source::new(text);
    if errors.is_empty() {
        return Ok(source.table(document.get_ref()));
    }
    let mistake = |error: &toml::de::Error| Mistake {
        key: String::new(),
        value: None,
        problem: format!("not valid TOML: {}", error.message()),
        line: error.span().map(|span| source.line(span.start)),
    };
    let mut mistakes: Vec<Mistake> = errors.iter().map(mistake).collect();
    mistakes.sort_by_key(|mistake| mistake.line);
    mistakes.dedup_by_key(|mistake| mistake.line);
    mistakes.truncate(MOST_SYNTAX);
    Err(mistakes)
}

struct Source<'a> {
    text: &'a str,
    /// The offset of every line's first byte.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, lines: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    fn shown(&self, span: Range<usize>) -> String {
        const MOST: usize = 60;
        let words: Vec<&str> = self.text.get(span).unwrap_or_default().split_whitespace().collect();
        let text = words.join(" ");
        if text.chars().count() <= MOST {
            text
        } else {
            text.chars().take(MOST - 3).chain("...".chars()).collect()
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), self.node(value)));
        Rc::new(RefCell::new(Keys { entries: entries.collect(), ..Keys::default() }))
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let body = match value.get_ref() {
            DeValue::String(text) => Body::Scalar(text.to_string()),
            DeValue::Integer(integer) => Body::Scalar(decimal(integer)),
            DeValue::Float(float) => Body::Scalar(float.as_str().to_owned()),
            DeValue::Boolean(boolean) => Body::Scalar(boolean.to_string()),
            DeValue::Datetime(datetime) => Body::Scalar(datetime.to_string()),
            DeValue::Array(items) => Body::List(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Body::Table(self.table(table)),
        };
        Node { line: self.line(value.span().start), shown: self.shown(value.span()), body }
    }
}

/// An integer as `FromStr` of the number types takes it: `0x10` is 16.
fn decimal(integer: &DeInteger<'_>) -> String {
    match i128::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => number.to_string(),
        Err(_) => integer.to_string(),
    }
}
