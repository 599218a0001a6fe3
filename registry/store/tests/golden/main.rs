//! Golden files: an example of everything of the registry that is stored or sent, as each release wrote it: the commands in the
//! log, a whole catalog, and what gateways tell each other of liveness. The crates that own these know no encoding; here
//! they meet the codec. Records and their checksums are in `format`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p causeway-store --test golden` rewrites the files of the present version.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside test functions"
)]

mod commands;
#[path = "../../../../proto/wire/tests/golden/folder.rs"]
mod folder;
mod nouns;
mod presence;

use causeway_catalog::{Catalog, Command, CommandBody, Refusal};
use causeway_model::Revision;
use causeway_wire::codec::{from_slice_unlimited, to_vec_unlimited};
use folder::{Golden, Sample};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::LazyLock;

/// The files, rewritten at most once however many tests look at them.
static UPDATED: LazyLock<()> = LazyLock::new(|| drop(golden()));

/// `value` in the store's encoding, which must read back as it was.
fn stored<T>(name: String, value: T) -> Sample
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    Sample::bytes(name, to_vec_unlimited(&value).unwrap(), move |bytes| {
        match from_slice_unlimited::<T>(bytes) {
            Ok(read) if read == value => Ok(()),
            Ok(read) => Err(format!("reads as {read:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// A whole catalog. That of an earlier release need only read back: the words of its audit may be others.
fn snapshot(catalog: &Catalog) -> Sample {
    Sample::bytes("catalog", to_vec_unlimited(catalog).unwrap(), |bytes| {
        let read: Catalog = from_slice_unlimited(bytes).map_err(|error| error.to_string())?;
        let same = to_vec_unlimited(&read).unwrap() == bytes;
        same.then_some(()).ok_or_else(|| "is written in another way".to_owned())
    })
}

/// A catalog that saw every command, with some of them refused.
fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for (revision, (_, command)) in (1..).zip(commands::all()) {
        let _ = catalog.apply(Revision(revision), &command);
    }
    catalog
}

fn samples() -> Vec<Sample> {
    let mut samples: Vec<Sample> = commands::all()
        .into_iter()
        .map(|(name, command)| stored(format!("command.{name}"), command))
        .collect();
    samples.push(snapshot(&catalog()));
    // what the audit keeps of a refusal begins with its place in this list
    let refusals: Vec<String> = Refusal::REASONS.iter().map(ToString::to_string).collect();
    samples.push(Sample::list("refusals", &refusals));
    samples.extend(presence::all().into_iter().map(|(name, message)| presence::sample(name, message)));
    samples
}

fn golden() -> Golden {
    Golden::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), samples())
}

#[test]
fn everything_is_written_as_its_golden_file_has_it() {
    LazyLock::force(&UPDATED);
    golden().check_written();
}

#[test]
fn the_golden_files_of_every_release_are_read() {
    LazyLock::force(&UPDATED);
    let read = golden().check_read();
    println!("{read} golden files read");
}

#[test]
fn every_command_has_a_sample() {
    let sampled: BTreeSet<u16> = commands::all().iter().map(|(_, command)| command.body.number()).collect();
    assert_eq!(sampled, CommandBody::KNOWN.iter().copied().collect(), "commands without a sample");
}

#[test]
fn the_catalog_of_the_sample_has_something_of_everything() {
    let catalog = catalog();
    assert!(catalog.cluster().is_some());
    assert!(catalog.services().count() > 0 && catalog.exports().count() > 0);
    assert!(catalog.links().count() > 0 && catalog.tokens().count() > 0 && catalog.invites().count() > 0);
    assert_eq!(catalog.vips(), 2);
    let refused = catalog.audit().filter(|entry| entry.refused.is_some()).count();
    assert!(refused > 0 && refused < commands::all().len() / 2, "{refused} commands were refused");
}

#[test]
fn a_stored_catalog_goes_on_where_it_was() {
    let all = commands::all();
    for cut in 0..=all.len() {
        let mut resumed = Catalog::new();
        for (revision, (_, command)) in (1..).zip(&all) {
            if revision == cut as u64 {
                resumed = from_slice_unlimited(&to_vec_unlimited(&resumed).unwrap()).unwrap();
            }
            let command: Command = from_slice_unlimited(&to_vec_unlimited(command).unwrap()).unwrap();
            let _ = resumed.apply(Revision(revision), &command);
        }
        assert_eq!(resumed, catalog(), "stored before command {cut}");
    }
}
