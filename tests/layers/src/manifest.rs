//! Reading the manifests of a workspace: its members and what each of them depends on.

use std::path::{Path, PathBuf};
use std::{fs, io};
use toml::{Table, Value};

/// Why the manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A manifest could not be read.
    #[error("cannot read {path}: {source}; every member needs a Cargo.toml")]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest is not TOML.
    #[error("cannot parse {path}: {source}")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A manifest has not the shape that this reader knows.
    #[error("cannot understand {path}: {what}")]
    Shape {
        /// Its path.
        path: PathBuf,
        /// What is missing or strange.
        what: String,
    },
}

/// A dependency as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The package depended on, by its real name when the manifest renames it.
    pub package: String,
    /// The section that names it: `dependencies`, `dev-dependencies`, `build-dependencies`, for any target.
    pub section: String,
}

/// A member of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The name of its package.
    pub package: String,
    /// Its folder, from the root of the workspace.
    pub folder: String,
    /// All that it depends on, in this workspace and outside.
    pub edges: Vec<Edge>,
}

/// The members of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// In the order of the root manifest.
    pub members: Vec<Manifest>,
}

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

impl Workspace {
    /// Reads the workspace whose root manifest lies in `root`. Members are listed by name there; patterns are refused.
    ///
    /// # Errors
    /// If a manifest is missing, is not TOML, or has a shape that this reader does not know.
    pub fn read(root: &Path) -> Result<Self, ManifestError> {
        let path = root.join("Cargo.toml");
        let table = read_table(&path)?;
        let shape = |what: &str| ManifestError::Shape { path: path.clone(), what: what.to_owned() };
        let workspace =
            table.get("workspace").and_then(Value::as_table).ok_or_else(|| shape("no [workspace]"))?;
        let inherited = workspace.get("dependencies").and_then(Value::as_table).cloned().unwrap_or_default();
        let members =
            workspace.get("members").and_then(Value::as_array).ok_or_else(|| shape("no members"))?;
        let members = members.iter().map(|member| {
            let folder = member.as_str().ok_or_else(|| shape("a member is not a string"))?;
            if folder.contains('*') {
                return Err(shape("a pattern among the members: name each"));
            }
            Manifest::read(root, folder, &inherited)
        });
        Ok(Self { members: members.collect::<Result<_, _>>()? })
    }
}

impl Manifest {
    fn read(root: &Path, folder: &str, inherited: &Table) -> Result<Self, ManifestError> {
        let path = root.join(folder).join("Cargo.toml");
        let table = read_table(&path)?;
        let package = table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        let package = package.ok_or_else(|| ManifestError::Shape { path, what: "no package.name".into() })?;
        let mut edges = edges_of(&table, inherited);
        for target in table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values) {
            edges.extend(target.as_table().map(|target| edges_of(target, inherited)).unwrap_or_default());
        }
        Ok(Self { package: package.to_owned(), folder: folder.to_owned(), edges })
    }
}

fn edges_of(table: &Table, inherited: &Table) -> Vec<Edge> {
    let named = SECTIONS.into_iter().filter_map(|section| Some((section, table.get(section)?.as_table()?)));
    named
        .flat_map(|(section, entries)| {
            entries.iter().map(move |(key, entry)| Edge {
                package: real_name(key, entry, inherited).to_owned(),
                section: section.to_owned(),
            })
        })
        .collect()
}

/// The package behind the key of an entry, which may be renamed here or in `[workspace.dependencies]`.
fn real_name<'a>(key: &'a str, entry: &'a Value, inherited: &'a Table) -> &'a str {
    let renamed = |value: &'a Value| value.get("package").and_then(Value::as_str);
    renamed(entry).or_else(|| inherited.get(key).and_then(renamed)).unwrap_or(key)
}

fn read_table(path: &Path) -> Result<Table, ManifestError> {
    let text =
        fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    text.parse::<Table>()
        .map_err(|source| ManifestError::Parse { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(root: &str, member: &str) -> Result<Workspace, ManifestError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("Cargo.toml"), root).unwrap();
        fs::write(folder.path().join("a/Cargo.toml"), member).unwrap();
        Workspace::read(folder.path())
    }

    #[test]
    fn every_way_to_name_a_dependency_is_read() {
        let root = "[workspace]\nmembers = ['a']\n[workspace.dependencies]\nshort = { package = 'long', version = '1' }\n";
        let member = r#"
            [package]
            name = "a"
            [dependencies]
            plain = "1"
            short.workspace = true
            alias = { package = "behind", path = "../b" }
            [dev-dependencies.tested]
            version = "1"
            [build-dependencies]
            built = "1"
            [target.'cfg(unix)'.dependencies]
            targeted = "1"
        "#;
        let workspace = written(root, member).unwrap();
        let mut edges: Vec<(&str, &str)> =
            workspace.members[0].edges.iter().map(|e| (e.package.as_str(), e.section.as_str())).collect();
        edges.sort_unstable();
        let expected = [
            ("behind", "dependencies"),
            ("built", "build-dependencies"),
            ("long", "dependencies"),
            ("plain", "dependencies"),
            ("targeted", "dependencies"),
            ("tested", "dev-dependencies"),
        ];
        assert_eq!(edges, expected);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let member = "[package]\nname = 'a'\n";
        assert!(matches!(written("[workspace]\nmembers = ['*']", member), Err(ManifestError::Shape { .. })));
        assert!(matches!(written("[workspace]\nmembers = ['b']", member), Err(ManifestError::Read { .. })));
        assert!(matches!(
            written("[workspace]\nmembers = ['a']", "name ="),
            Err(ManifestError::Parse { .. })
        ));
        assert!(matches!(written("[workspace]\nmembers = ['a']", "[lib]"), Err(ManifestError::Shape { .. })));
    }
}
