//! A small disk of its own for one gateway: a file system in memory that can be filled. It needs the right to mount.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of `bytes` bytes at `at`, which is made.
    ///
    /// # Errors
    /// The system does not let this process mount, or has no such file system.
    pub fn mount(at: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let options = format!("size={bytes},mode=0700");
        let ran = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output()?;
        if !ran.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&ran.stderr).trim().to_owned()));
        }
        Ok(Self { at: at.to_owned() })
    }

    /// Why this process cannot mount one, if it cannot.
    pub fn refused() -> Option<String> {
        let at = std::env::temp_dir().join(format!("causeway-disk-{}", std::process::id()));
        let tried = Self::mount(&at, 1 << 20).map(drop);
        // an empty folder, which may also not have been made
        let _ = fs::remove_dir(&at);
        tried.err().map(|error| error.to_string())
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// What the disk says, other than that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        // pages first, then what is smaller
        for size in [64 << 10, 4 << 10, 1] {
            let block = vec![0x5a; size];
            loop {
                match file.write(&block) {
                    Ok(written) if written > 0 => {}
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// It was not taken.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: a process that ends may still have a file open
        let done = Command::new("umount").arg("-l").arg(&self.at).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}
