//! The test of the test: made-up workspaces with one fault each.

use super::*;

fn edge(package: &str, section: &str) -> Edge {
    Edge { package: package.into(), section: section.into() }
}

/// The whole table without edges, and `extra` edges for one package.
fn workspace(package: &str, extra: &[(&str, &str)]) -> Workspace {
    let members = CRATES.iter().map(|row| (row.package, row.folder));
    let members = members.chain([("causeway-test-mesh", "tests/mesh"), ("causeway-wan", "tests/wan")]);
    let edges = |name: &str| -> Vec<Edge> {
        if name == package {
            extra.iter().map(|(to, section)| edge(to, section)).collect()
        } else {
            Vec::new()
        }
    };
    Workspace {
        members: members
            .map(|(name, folder)| Manifest {
                package: name.into(),
                folder: folder.into(),
                edges: edges(name),
            })
            .collect(),
    }
}

fn faults(package: &str, extra: &[(&str, &str)]) -> Vec<String> {
    violations(&workspace(package, extra)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_workspace_without_edges_is_in_order() {
    assert_eq!(faults("", &[]), [""; 0]);
}

#[test]
fn bad_edges_are_caught_in_every_section() {
    for (from, to) in [
        ("causeway-model", "causeway-wire"),
        ("causeway-model", "causeway-runtime"),
        ("causeway-runtime", "causeway-model"),
        ("causeway-wire", "causeway-runtime"),
        ("causeway-wire", "causeway-identity"),
        ("causeway-policy", "causeway-catalog"),
        ("causeway-catalog", "causeway-wire"),
        ("causeway-catalog", "causeway-presence"),
        ("causeway-presence", "causeway-identity"),
        ("causeway-transport", "causeway-catalog"),
        ("causeway-store", "causeway-federation"),
        ("causeway-client", "causeway-gateway"),
        ("causeway-gateway", "causeway-sidecar"),
        ("causeway-gateway", "causeway"),
        ("causeway-sidecar", "causeway-gateway"),
        ("causeway-sidecar", "causeway-catalog"),
        ("causeway-sidecar", "causeway-store"),
        ("causeway", "causeway-test-mesh"),
        ("causeway-gateway", "causeway-wan"),
    ] {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let found = faults(from, &[(to, section)]);
            assert_eq!(found.len(), 1, "{from} -> {to}: {found:?}");
            assert!(
                found[0].contains(from) && found[0].contains(to) && found[0].contains(section),
                "{found:?}"
            );
        }
    }
}

#[test]
fn good_edges_pass() {
    for (from, to) in [
        ("causeway-wire", "causeway-model"),
        ("causeway-catalog", "causeway-policy"),
        ("causeway-transport", "causeway-runtime"),
        ("causeway-transport", "causeway-policy"),
        ("causeway-store", "causeway-transport"),
        ("causeway-client", "causeway-presence"),
        ("causeway-gateway", "causeway-store"),
        ("causeway-gateway", "causeway-client"),
        ("causeway-sidecar", "causeway-client"),
        ("causeway", "causeway-sidecar"),
        ("causeway", "causeway-store"),
        ("causeway-test-mesh", "causeway-wan"),
        ("causeway-test-mesh", "causeway"),
        ("causeway-transport", "quinn"),
        ("causeway-store", "openraft"),
        ("causeway-wire", "bincode"),
        ("causeway-gateway", "tokio"),
        ("causeway-wire", "proptest"),
    ] {
        assert_eq!(faults(from, &[(to, "dependencies")]), [""; 0], "{from} -> {to}");
    }
}

#[test]
fn libraries_have_one_owner_and_the_tests_are_no_exception() {
    for (from, library) in [
        ("causeway-gateway", "quinn"),
        ("causeway-test-mesh", "quinn-proto"),
        ("causeway-wan", "quinn-udp"),
        ("causeway-gateway", "openraft"),
        ("causeway-catalog", "bincode"),
    ] {
        let found = faults(from, &[(library, "dev-dependencies")]);
        assert_eq!(found.len(), 1, "{from} -> {library}");
        assert!(found[0].contains("only causeway-"), "{found:?}");
    }
}

#[test]
fn pure_crates_stay_pure() {
    for package in
        ["causeway-model", "causeway-wire", "causeway-policy", "causeway-catalog", "causeway-presence"]
    {
        for library in ["tokio", "quinn", "rand", "getrandom", "socket2", "rustix", "libc"] {
            assert_eq!(faults(package, &[(library, "dependencies")]).len(), 1, "{package} -> {library}");
        }
    }
}

#[test]
fn a_member_without_a_row_and_a_row_without_a_member_are_caught() {
    let mut workspace = workspace("", &[]);
    workspace.members[0].folder = "proto/nouns".into();
    let found = violations(&workspace);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], Violation::Missing(&CRATES[0]));
    assert!(matches!(&found[1], Violation::Unlisted { folder, .. } if folder == "proto/nouns"));
}
