//! The files that documents are in.

use super::Found;
use super::tree::read;
use crate::failure::Failure;
use anyhow::{Context, Result};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most bytes of documents that are read in all: what a gateway takes at once.
const MAX_BYTES: u64 = 4 << 20;
/// How deep folders are searched.
const MAX_DEPTH: usize = 16;
/// What files with documents are called.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The flag that names files.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Files {
    /// A file of documents (YAML, several in a file set apart by ---, or JSON), a folder with such files, or - for standard
    /// input; may be given many times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    paths: Vec<PathBuf>,
}

impl Files {
    /// Whether none is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The documents in them, in the order of the flags and, in folders, of the names. Every file that cannot be read as YAML
    /// is told at once.
    pub(crate) fn read(&self) -> Result<Vec<Found>> {
        let mut texts = Vec::new();
        let mut room = MAX_BYTES;
        for path in &self.paths {
            if path.as_os_str() == "-" {
                texts.push((
                    "-".to_owned(),
                    text(std::io::stdin(), &mut room).context("cannot read standard input")?,
                ));
                continue;
            }
            for file in list(path)? {
                let name = file.display().to_string();
                let open = fs::File::open(&file).with_context(|| format!("cannot open {name}"))?;
                texts.push((
                    name.clone(),
                    text(open, &mut room).with_context(|| format!("cannot read {name}"))?,
                ));
            }
        }
        documents(&texts)
    }
}

fn documents(texts: &[(String, String)]) -> Result<Vec<Found>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for (file, text) in texts {
        match read(text) {
            Ok(nodes) => found.extend(nodes.into_iter().map(|node| Found { file: file.clone(), node })),
            Err(error) => {
                let place = error.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
                wrong.push(format!("{place}: {}", error.cause));
            }
        }
    }
    if !wrong.is_empty() {
        let failure = Failure::new(
            "not-yaml",
            format!("{} of {} files cannot be read as YAML", wrong.len(), texts.len()),
        );
        return Err(wrong.into_iter().fold(failure, Failure::cause).into());
    }
    if found.is_empty() {
        let names: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
        let failure = Failure::new("no-documents", format!("there is no document in {}", names.join(", ")));
        return Err(failure.fix("see what one looks like: `causeway explain export`").into());
    }
    Ok(found)
}

/// The whole of `input`, as long as there is `room`.
fn text(input: impl Read, room: &mut u64) -> Result<String> {
    let mut text = String::new();
    input.take(*room + 1).read_to_string(&mut text)?;
    let len = text.len() as u64;
    if len > *room {
        let failure = Failure::new("too-large", format!("the files have more than {MAX_BYTES} bytes"));
        return Err(failure.fix("apply them in parts").into());
    }
    *room -= len;
    Ok(text)
}

/// `path` if it is a file, else the files of documents in it and its folders, sorted by name. Hidden ones are left out.
fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    search(path, 0, &mut files)?;
    if files.is_empty() {
        let failure =
            Failure::new("no-documents", format!("there is no file of documents in {}", path.display()));
        return Err(failure.cause("files whose names end in .yaml, .yml or .json are looked for").into());
    }
    Ok(files)
}

fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut entries = fs::read_dir(folder)
        .with_context(cannot)?
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // a link to a folder could lead in a circle, so links lead to files only
        if entry.file_type().with_context(cannot)?.is_dir() {
            if depth >= MAX_DEPTH {
                return Err(Failure::new("too-deep", format!("{} is too deep below", path.display())).into());
            }
            search(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|it| EXTENSIONS.iter().any(|known| it == *known))
            && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn files(paths: &[&Path]) -> Files {
        Files { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
    }

    #[test]
    fn folders_are_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a/z.yml", "a/a.json", "c.txt", ".hidden.yaml", ".git/x.yaml"] {
            write(dir.path(), name, &format!("{{ \"kind\": \"{name}\" }}"));
        }
        let found = files(&[dir.path(), &dir.path().join("c.txt")]).read().unwrap();
        let kinds: Vec<String> =
            found.iter().map(|found| found.value()["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["a/a.json", "a/z.yml", "b.yaml", "c.txt"]);
        assert!(found[2].place("kind").ends_with("b.yaml:1"), "{}", found[2].place("kind"));
    }

    #[test]
    fn every_file_that_is_wrong_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.yaml", "c.yaml"] {
            write(dir.path(), name, if name == "b.yaml" { "kind: B" } else { "kind: [\n" });
        }
        let failure = files(&[dir.path()]).read().unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(failure.causes.len(), 2, "{failure:?}");
        assert!(failure.causes[0].contains("a.yaml:"), "{failure:?}");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let reason =
            |files: &Files| files.read().unwrap_err().downcast::<Failure>().map(|failure| failure.reason);
        assert_eq!(reason(&files(&[dir.path()])).unwrap(), "no-documents");
        write(dir.path(), "a.yaml", "# nothing\n");
        assert_eq!(reason(&files(&[dir.path()])).unwrap(), "no-documents");
        write(dir.path(), "b.yaml", &"#".repeat(5 << 20));
        assert!(format!("{:#}", files(&[dir.path()]).read().unwrap_err()).contains("more than"));
        assert!(files(&[&dir.path().join("none")]).read().is_err());
    }
}
