//! What happens to a registry's file while its gateway is away.

use rand::RngExt;
use rand::rngs::StdRng;
use std::fs;
use std::path::{Path, PathBuf};

/// The size of a page of the database, in bytes.
const PAGE: usize = 4096;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The end is missing.
    Truncated,
    /// One bit of each page that holds something is another: whichever pages are in use are among them. The first page stays,
    /// for without its magic number the file is no database at all.
    Flipped,
}

impl Damage {
    /// Damages the registry in the data directory `data`, and returns the path of its file.
    pub fn inflict(self, data: &Path, random: &mut StdRng) -> PathBuf {
        let path = data.join("registry").join("registry.redb");
        let mut bytes = fs::read(&path).expect("the registry's file can be read");
        match self {
            Self::Truncated => bytes.truncate(random.random_range(1..bytes.len() * 2 / 3)),
            Self::Flipped => {
                for page in bytes.chunks_mut(PAGE).skip(1) {
                    let filled: Vec<usize> = (0..page.len()).filter(|&at| page[at] != 0).collect();
                    if !filled.is_empty() {
                        page[filled[random.random_range(0..filled.len())]] ^= 1 << random.random_range(0..8);
                    }
                }
            }
        }
        fs::write(&path, bytes).expect("the registry's file can be written");
        path
    }
}
