//! What the verbs that list everything of one kind have in common: their flags, the request and the answer.

use crate::api::Api;
use crate::context::Target;
use crate::output::Output;
use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The flags of a verb that lists.
#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Listing {
    /// Asks for what is at `path` and writes it down; `table` is its form for people.
    pub(super) fn show<T>(&self, path: &str, table: impl FnOnce(&[T]) -> String) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        let all: Vec<T> = Api::of(&self.target)?.get(path)?;
        self.output.show(&all, |all| table(all))
    }
}
