//! A folder of golden files: one subfolder for each release, one file for each sample. Owns how they are compared and
//! rewritten; it knows nothing of what is in them, so that the registry's golden files use it too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The subfolder of the present release. The next release that changes what is written gets one of its own, and this one stays.
const PRESENT: &str = "v1";

/// What is compared with a file.
pub(crate) enum Written {
    /// Bytes, in hexadecimal digits in a file `.hex`.
    Bytes(Vec<u8>),
    /// Text, as it is in a file `.txt`.
    Text(String),
}

/// Says why what a file holds is not this sample.
type Reader = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// An example of something that leaves the process.
pub(crate) struct Sample {
    name: String,
    written: Written,
    read: Reader,
}

impl Sample {
    /// Bytes, and how to see that bytes of this or an earlier release mean the same.
    pub(crate) fn bytes(
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<(), String> + 'static,
    ) -> Self {
        Self { name: name.into(), written: Written::Bytes(bytes.into()), read: Box::new(read) }
    }

    /// Text, and how to see that a text of this or an earlier release means the same.
    pub(crate) fn text(
        name: impl Into<String>,
        text: impl Into<String>,
        read: impl Fn(&str) -> Result<(), String> + 'static,
    ) -> Self {
        let read = move |bytes: &[u8]| read(std::str::from_utf8(bytes).map_err(|e| e.to_string())?);
        Self { name: name.into(), written: Written::Text(text.into()), read: Box::new(read) }
    }

    /// A list that only ever grows at its end, one item a line.
    pub(crate) fn list(name: impl Into<String>, lines: &[String]) -> Self {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let whole = text.clone();
        Self::text(name, text, move |earlier| {
            let grown = earlier.ends_with('\n') && whole.starts_with(earlier);
            grown.then_some(()).ok_or_else(|| "an item of the list was changed, moved or removed".to_owned())
        })
    }

    fn file(&self) -> String {
        match self.written {
            Written::Bytes(_) => format!("{}.hex", self.name),
            Written::Text(_) => format!("{}.txt", self.name),
        }
    }

    fn content(&self) -> String {
        match &self.written {
            Written::Bytes(bytes) => hex(bytes),
            Written::Text(text) => text.clone(),
        }
    }

    fn check(&self, content: &str) -> Result<(), String> {
        match self.written {
            Written::Bytes(_) => (self.read)(&unhex(content)?),
            Written::Text(_) => (self.read)(content.as_bytes()),
        }
    }
}

/// 32 bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks(2).map(byte).collect::<Option<_>>().ok_or_else(|| "not hexadecimal".to_owned())
}

/// The golden files of one crate.
pub(crate) struct Golden {
    root: PathBuf,
    samples: BTreeMap<String, Sample>,
}

impl Golden {
    /// The files under `root`. With `UPDATE_GOLDEN` in the environment those of the present release are rewritten.
    pub(crate) fn new(root: impl Into<PathBuf>, samples: Vec<Sample>) -> Self {
        let count = samples.len();
        let samples: BTreeMap<String, Sample> = samples.into_iter().map(|s| (s.file(), s)).collect();
        assert_eq!(samples.len(), count, "two samples have one name");
        let golden = Self { root: root.into(), samples };
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            golden.rewrite();
        }
        golden
    }

    fn rewrite(&self) {
        let folder = self.root.join(PRESENT);
        fs::create_dir_all(&folder).unwrap();
        for file in files(&folder).iter().filter(|file| !self.samples.contains_key(*file)) {
            fs::remove_file(folder.join(file)).unwrap();
        }
        for (file, sample) in &self.samples {
            fs::write(folder.join(file), sample.content()).unwrap();
        }
    }

    /// What this release writes is what its golden files hold, and there is one for each sample.
    pub(crate) fn check_written(&self) {
        let folder = self.root.join(PRESENT);
        let wrong =
            self.samples.iter().filter_map(|(file, sample)| match fs::read_to_string(folder.join(file)) {
                Ok(content) if content == sample.content() => None,
                Ok(content) => {
                    let (now, golden) = (sample.content(), content.trim_end());
                    Some(format!("{file} differs\n  golden {golden}\n  now    {}", now.trim_end()))
                }
                Err(error) => Some(format!("{file}: {error}")),
            });
        let wrong: Vec<String> = wrong.collect();
        assert!(
            wrong.is_empty(),
            "{}\nOther releases would not understand this one: undo the change. Only what was never released may change: \
             then run this test with UPDATE_GOLDEN=1 and look at the difference.",
            wrong.join("\n")
        );
    }

    /// This release reads the golden files of every release as the samples they were made from. The number of files.
    pub(crate) fn check_read(&self) -> usize {
        let mut read = 0;
        let mut wrong = Vec::new();
        for release in folders(&self.root) {
            for file in files(&self.root.join(&release)) {
                let content = fs::read_to_string(self.root.join(&release).join(&file)).unwrap();
                let outcome = match self.samples.get(&file) {
                    Some(sample) => sample.check(&content),
                    None => Err("has no sample".to_owned()),
                };
                read += 1;
                wrong.extend(outcome.err().map(|cause| format!("{release}/{file}: {cause}")));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(read >= self.samples.len(), "only {read} files for {} samples", self.samples.len());
        read
    }
}

fn names(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| wanted(path))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn folders(root: &Path) -> Vec<String> {
    names(root, Path::is_dir)
}

fn files(folder: &Path) -> Vec<String> {
    names(folder, Path::is_file)
}
