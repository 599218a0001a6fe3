//! One table of a configuration file, read key by key.

use super::errors::Mistake;
use super::expected::expected;
use super::secret::Secret;
use super::suggest::closest;
use super::tree::{Body, Keys, Node, Table};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

/// A table of the file. Every method that reads a key makes that key known; a value that does not parse is noted as a
/// mistake and reads as absent, so that reading goes on. Clones and sub-tables share the notes.
///
/// Strings, numbers, booleans and dates all parse through `FromStr`, as flags do.
#[derive(Clone, Debug)]
pub struct Section {
    table: Table,
    mistakes: Rc<RefCell<Vec<Mistake>>>,
    /// The keys that lead here, ending with a dot unless empty.
    prefix: String,
    /// Where the table is written, if it is.
    line: Option<usize>,
}

impl Section {
    pub(super) fn top(table: Table) -> Self {
        Self { table, mistakes: Rc::default(), prefix: String::new(), line: None }
    }

    /// Whether the key is written. Does not make it known.
    pub fn has(&self, key: &str) -> bool {
        self.table.borrow().entries.contains_key(key)
    }

    /// The value of `key`, if it is written and parses.
    pub fn optional<T>(&self, key: &str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        self.with(key, |node| self.parse(&self.name(key), node)).flatten()
    }

    /// The value of `key`, or `default` if it is not written.
    pub fn or<T>(&self, key: &str, default: T) -> T
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        self.optional(key).unwrap_or(default)
    }

    /// The value of `key`. Notes a mistake if it is not written.
    pub fn required<T>(&self, key: &str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        if !self.has(key) {
            self.know(key);
            self.missing(key, "required, but missing");
            return None;
        }
        self.optional(key)
    }

    /// The flag if it was given, else the value of `key`, which is checked even when the flag wins.
    pub fn merged<T>(&self, key: &str, flag: Option<T>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let written = self.optional(key);
        flag.or(written)
    }

    /// [`Section::merged`], where one of both is required. The flag is taken to be `--KEY`.
    pub fn merged_required<T>(&self, key: &str, flag: Option<T>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        if flag.is_none() && !self.has(key) {
            self.know(key);
            self.missing(
                key,
                &format!("required, but missing: write it in the file or give --{}", key.replace('_', "-")),
            );
            return None;
        }
        self.merged(key, flag)
    }

    /// The values of an array. A single value stands for an array of one; an absent key is an empty array. Each item that
    /// does not parse is a mistake of its own.
    pub fn list<T>(&self, key: &str) -> Vec<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let read = self.with(key, |node| match &node.body {
            Body::List(items) => self.items(key, items, |name, item| self.parse(name, item)),
            _ => self.parse(&self.name(key), node).into_iter().collect(),
        });
        read.unwrap_or_default()
    }

    /// The flags if any were given, else the array, which is checked even when the flags win.
    pub fn merged_list<T>(&self, key: &str, flags: Vec<T>) -> Vec<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let written = self.list(key);
        if flags.is_empty() { written } else { flags }
    }

    /// The value of `key` as a secret: mistakes do not show it.
    pub fn secret<T>(&self, key: &str) -> Option<Secret<T>>
    where
        T: FromStr + 'static,
    {
        let read = self.with(key, |node| {
            let parsed = match &node.body {
                Body::Scalar(text) => text.parse::<Secret<T>>().map_err(|error| error.to_string()),
                other => Err(format!("write a single value, not {}", other.what())),
            };
            parsed.map_err(|problem| self.note(self.name(key), None, problem, Some(node.line))).ok()
        });
        read.flatten()
    }

    /// A table with keys of the user's choice, such as labels. Empty if it is not written.
    pub fn map<T>(&self, key: &str) -> BTreeMap<String, T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let section = self.table(key);
        let mut keys = section.table.borrow_mut();
        keys.open = true;
        let parse =
            |(key, node): (&String, &Node)| Some((key.clone(), section.parse(&section.name(key), node)?));
        keys.entries.iter().filter_map(parse).collect()
    }

    /// The table `key`; one without keys if it is not written.
    pub fn table(&self, key: &str) -> Self {
        let read = self.with(key, |node| match &node.body {
            Body::Table(table) => Some(self.sub(&self.name(key), table, node.line)),
            _ => {
                self.wrong(&self.name(key), node, &format!("write a table [{}]", self.name(key)));
                None
            }
        });
        read.flatten().unwrap_or_else(|| self.sub(&self.name(key), &Table::default(), None))
    }

    /// The tables of the array `[[key]]`. Empty if it is not written.
    pub fn tables(&self, key: &str) -> Vec<Self> {
        let rule = || format!("write tables [[{}]]", self.name(key));
        let read = self.with(key, |node| match &node.body {
            Body::List(items) => self.items(key, items, |name, item| match &item.body {
                Body::Table(table) => Some(self.sub(name, table, item.line)),
                _ => {
                    self.wrong(name, item, &rule());
                    None
                }
            }),
            _ => {
                self.wrong(&self.name(key), node, &rule());
                Vec::new()
            }
        });
        read.unwrap_or_default()
    }

    /// The value of the flag `--KEY` as it was given; a mistake under that name if it does not parse.
    pub fn flag<T>(&self, key: &str, given: &str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let parsed = given.parse::<T>();
        let told = |error| expected::<T>().map_or_else(|| format!("{error}"), str::to_owned);
        parsed.map_err(|error| self.note(format!("--{key}"), Some(shown(given)), told(error), None)).ok()
    }

    /// Whether a mistake in `key`, in an item of it or in its flag was noted: then it is not missing.
    pub fn is_rejected(&self, key: &str) -> bool {
        let (flag, name) = (format!("--{key}"), self.name(key));
        let of_key = |noted: &str| match noted.strip_prefix(&name) {
            Some(rest) => rest.is_empty() || rest.starts_with('['),
            None => noted == flag,
        };
        self.mistakes.borrow().iter().any(|mistake| of_key(&mistake.key))
    }

    /// Notes a mistake that the type of a value does not show: out of bounds, or at odds with another key. `key` may be
    /// one that is not written.
    pub fn reject(&self, key: &str, problem: impl Into<String>) {
        let problem = problem.into();
        match self.table.borrow().entries.get(key) {
            Some(node) => self.note(self.name(key), Some(node.shown.clone()), problem, Some(node.line)),
            None => self.note(self.name(key), None, problem, self.line),
        }
    }

    pub(super) fn take_mistakes(&self) -> Vec<Mistake> {
        self.mistakes.take()
    }

    /// Notes the keys that nobody asked for, here and in every table below.
    pub(super) fn report_unknown(&self) {
        let keys = self.table.borrow();
        for (key, node) in &keys.entries {
            if keys.open || keys.known.contains(key) {
                self.report_below(key, node);
            } else {
                self.note(self.name(key), None, unknown(key, &keys), Some(node.line));
            }
        }
    }

    fn report_below(&self, key: &str, node: &Node) {
        match &node.body {
            Body::Scalar(_) => {}
            Body::Table(table) => {
                let read = table.borrow().read;
                if read {
                    self.sub(&self.name(key), table, node.line).report_unknown();
                }
            }
            Body::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.report_below(&format!("{key}[{index}]"), item);
                }
            }
        }
    }

    fn sub(&self, name: &str, table: &Table, line: impl Into<Option<usize>>) -> Self {
        table.borrow_mut().read = true;
        let (table, mistakes) = (table.clone(), self.mistakes.clone());
        Self { table, mistakes, prefix: format!("{name}."), line: line.into() }
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn know(&self, key: &str) {
        self.table.borrow_mut().known.insert(key.to_owned());
    }

    fn with<R>(&self, key: &str, read: impl FnOnce(&Node) -> R) -> Option<R> {
        self.know(key);
        self.table.borrow().entries.get(key).map(read)
    }

    fn items<T>(&self, key: &str, items: &[Node], read: impl Fn(&str, &Node) -> Option<T>) -> Vec<T> {
        let read = |(index, item)| read(&format!("{}[{index}]", self.name(key)), item);
        items.iter().enumerate().filter_map(read).collect()
    }

    fn parse<T>(&self, name: &str, node: &Node) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + 'static,
    {
        let Body::Scalar(text) = &node.body else {
            self.wrong(name, node, &format!("write a single value, not {}", node.body.what()));
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let problem = expected::<T>().map_or_else(|| error.to_string(), str::to_owned);
                self.wrong(name, node, &problem);
                None
            }
        }
    }

    fn wrong(&self, name: &str, node: &Node, problem: &str) {
        self.note(name.to_owned(), Some(node.shown.clone()), problem.to_owned(), Some(node.line));
    }

    fn missing(&self, key: &str, problem: &str) {
        self.note(self.name(key), None, problem.to_owned(), self.line);
    }

    fn note(&self, key: String, value: Option<String>, problem: String, line: Option<usize>) {
        self.mistakes.borrow_mut().push(Mistake { key, value, problem, line });
    }
}

/// What was given on the command line, as a file would have it, cut.
fn shown(given: &str) -> String {
    const MOST: usize = 60;
    let quoted = format!("{given:?}");
    if quoted.chars().count() <= MOST {
        return quoted;
    }
    quoted.chars().take(MOST - 3).chain("...".chars()).collect()
}

fn unknown(key: &str, keys: &Keys) -> String {
    let unused = keys.known.iter().filter(|known| !keys.entries.contains_key(*known));
    match closest(key, unused.map(String::as_str)) {
        Some(meant) => format!("unknown key, did you mean {meant:?}?"),
        None if keys.known.is_empty() => "unknown key".to_owned(),
        None => {
            let known: Vec<&str> = keys.known.iter().map(String::as_str).collect();
            format!("unknown key, the keys here are {}", known.join(", "))
        }
    }
}
