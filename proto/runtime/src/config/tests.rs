use super::*;
use proptest::prelude::*;
use std::net::SocketAddr;

/// The report on `text` after `read` has read it.
fn report(text: &str, read: impl FnOnce(&Section)) -> String {
    let reader = Reader::parse("gw.toml", text).unwrap();
    read(reader.top());
    reader.finish().err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn all_mistakes_are_named_at_once_with_their_lines() {
    let text = "cluster = \"iad\"\n\nlisten = \"localhost\"\nidle = 15\n\n[limits]\n# a comment\nstreems = 100\nconnections = -1\n";
    let said = report(text, |top| {
        assert_eq!(top.required::<String>("cluster").as_deref(), Some("iad"));
        assert_eq!(top.required::<SocketAddr>("listen"), None);
        assert_eq!(top.optional::<ConfigDuration>("idle"), None);
        assert_eq!(top.required::<String>("node"), None);
        let limits = top.table("limits");
        assert_eq!(limits.or("streams", 7), 7);
        assert_eq!(limits.or("connections", 8u32), 8);
    });
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!(lines[0].starts_with("gw.toml:3: listen = \"localhost\": write IP:PORT"), "{said}");
    assert!(lines[1].starts_with("gw.toml:4: idle = 15: time unit needed"), "{said}");
    assert_eq!(lines[2], "gw.toml:8: limits.streems: unknown key, did you mean \"streams\"?");
    assert_eq!(lines[3], "gw.toml:9: limits.connections = -1: write a whole number from 0 to 4294967295");
    assert_eq!(lines[4], "gw.toml: node: required, but missing");
}

#[test]
fn every_syntax_error_is_listed() {
    let errors = Reader::parse("gw.toml", "a = here\nb = 1\nd = = 2\n").unwrap_err();
    let lines: Vec<Option<usize>> = errors.mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [Some(1), Some(3)], "{errors}");
    assert!(errors.to_string().starts_with("gw.toml:1: not valid TOML: "), "{errors}");
    assert_eq!(Reader::parse("x", &"?\n".repeat(1000)).unwrap_err().mistakes.len(), 20);
    let twice = Reader::parse("gw.toml", "a = 1\nb = 2\na = 3\n").unwrap_err();
    assert_eq!(twice.mistakes[0].line, Some(3), "{twice}");
}

#[test]
fn values_parse_by_their_type() {
    let text = "count = 0x10\nratio = 1.5\non = true\nname = \"x\"\nbig = 18_446_744_073_709_551_615\nwait = \"15s\"\n";
    let said = report(text, |top| {
        assert_eq!(top.optional("count"), Some(16u16));
        assert_eq!(top.optional("ratio"), Some(1.5f64));
        assert_eq!(top.optional("on"), Some(true));
        assert_eq!(top.optional("name"), Some("x".to_owned()));
        assert_eq!(top.optional("big"), Some(u64::MAX));
        assert_eq!(top.optional("wait"), Some(ConfigDuration::from_secs(15)));
    });
    assert_eq!(said, "");
}

#[test]
fn each_item_of_a_list_is_checked() {
    let said = report("listen = [\n  \"127.0.0.1:1\",\n  \"nonsense\",\n]\none = 5\n", |top| {
        assert_eq!(top.list::<SocketAddr>("listen"), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(top.list::<u8>("one"), [5]);
        assert!(top.list::<u8>("none").is_empty());
    });
    assert!(said.starts_with("gw.toml:3: listen[1] = \"nonsense\": write IP:PORT"), "{said}");
}

#[test]
fn tables_lists_of_tables_and_maps_are_checked_to_the_bottom() {
    let text = "[[route]]\nto = \"a\"\n[[route]]\nto = \"b\"\nweigth = 2\n[labels]\napp = \"x\"\nany-key = \"y\"\n[other]\nx = 1\n";
    let said = report(text, |top| {
        let routes = top.tables("route");
        let read =
            routes.iter().map(|route| (route.required::<String>("to").unwrap(), route.or("weight", 1)));
        assert_eq!(read.collect::<Vec<_>>(), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!(top.map::<String>("labels").len(), 2);
    });
    assert_eq!(
        said,
        "gw.toml:5: route[1].weigth: unknown key, did you mean \"weight\"?\n\
         gw.toml:9: other: unknown key, the keys here are labels, route"
    );
}

#[test]
fn the_wrong_shape_is_a_mistake() {
    let said = report("limits = 5\nname = [\"a\"]\nroute = [1]\n", |top| {
        assert_eq!(top.table("limits").or("streams", 1), 1);
        assert_eq!(top.optional::<String>("name"), None);
        assert!(top.tables("route").is_empty());
    });
    let expected = "gw.toml:1: limits = 5: write a table [limits]\n\
        gw.toml:2: name = [\"a\"]: write a single value, not an array\n\
        gw.toml:3: route[0] = 1: write tables [[route]]";
    assert_eq!(said, expected);
}

#[test]
fn flags_win_and_the_file_is_still_checked() {
    let said = report("listen = \"bad\"\nname = \"file\"\nports = [1, 2]\n", |top| {
        let flag: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(top.merged_required("listen", Some(flag)), Some(flag));
        assert_eq!(top.merged("name", None::<String>).as_deref(), Some("file"));
        assert_eq!(top.merged("name", Some("flag".to_owned())).as_deref(), Some("flag"));
        assert_eq!(top.merged_list("ports", vec![3u16]), [3]);
        assert_eq!(top.merged_list::<u16>("ports", vec![]), [1, 2]);
    });
    assert!(said.starts_with("gw.toml:1: listen = \"bad\": "), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn a_flag_that_does_not_parse_is_told_under_its_name_and_is_not_missing() {
    let said = report("a = 1\nlist = [\"x\"]\n", |top| {
        assert_eq!(top.flag::<SocketAddr>("listen", "nowhere"), None);
        assert_eq!(top.flag::<ConfigDuration>("idle", "15s"), Some(ConfigDuration::from_secs(15)));
        assert_eq!(top.optional::<u8>("a"), Some(1));
        assert!(top.list::<u8>("list").is_empty());
        assert!(top.is_rejected("listen") && top.is_rejected("list"));
        assert!(!top.is_rejected("a") && !top.is_rejected("lis") && !top.is_rejected("idle"));
    });
    let expected = "gw.toml:2: list[0] = \"x\": write a whole number from 0 to 255\n\
        configuration: --listen \"nowhere\": write IP:PORT, an IPv6 address in brackets: 0.0.0.0:7443 or [::]:7443";
    assert_eq!(said, expected);
}

#[test]
fn a_value_that_the_problem_names_is_named_once() {
    let said = report("name = \"IAD\"\n", |top| {
        top.reject("name", "invalid name \"IAD\": use small letters");
    });
    assert!(said.starts_with("gw.toml:1: name: invalid name \"IAD\": use small letters"), "{said}");
}

#[test]
fn without_a_file_flags_are_asked_for() {
    let reader = Reader::open(None).unwrap();
    let value = reader.merged_required::<String>("state_dir", None);
    let errors = reader.build(value).unwrap_err();
    let expected =
        "configuration: state_dir: required, but missing: write it in the file or give --state-dir";
    assert_eq!(errors.to_string(), expected);
    assert_eq!(Reader::empty().build(Some(7)), Ok(7));
    assert_eq!(Reader::empty().build(None::<u8>).unwrap_err().mistakes.len(), 1);
}

#[test]
fn secrets_stay_out_of_the_report() {
    let said = report("pin = \"hunter2\"\ntokn = \"hunter2\"\nlist = [\"hunter2\"]\n", |top| {
        assert_eq!(top.secret::<u32>("pin"), None);
        assert_eq!(top.secret::<String>("token"), None);
        assert_eq!(top.secret::<String>("list"), None);
    });
    assert_eq!(said.lines().count(), 3);
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn what_does_not_fit_together_is_rejected_with_its_line() {
    let said = report("\nmin = 5\nmax = 3\n", |top| {
        if top.or("min", 0) > top.or("max", 0) {
            top.reject("min", "must not be above max");
            top.reject("hint", "not both");
        }
    });
    assert_eq!(said, "gw.toml:2: min = 5: must not be above max\ngw.toml: hint: not both");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let said = Reader::open(Some(&path)).unwrap_err().to_string();
    assert!(said.contains("none.toml: cannot read it: No such file"), "{said}");
    assert_eq!(said.matches("none.toml").count(), 1, "{said}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Reader::open(Some(&path)).unwrap_err().to_string().contains("not UTF-8"));
    std::fs::write(&path, "a = 1").unwrap();
    assert_eq!(Reader::open(Some(&path)).unwrap().optional("a"), Some(1));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-c=\\[\\]{}\"'.,#\n0-9 é-]{0,80}") {
        if let Ok(reader) = Reader::parse("x", &text) {
            let top = reader.top();
            let (sub, _, _) = (top.table("a"), top.list::<u8>("b"), top.tables("c"));
            let _ = sub.optional::<String>("a");
            let _ = reader.finish().map_err(|errors| errors.to_string());
        }
    }

    #[test]
    fn every_key_that_nobody_asked_for_is_reported(keys in proptest::collection::btree_set("[a-z]{1,8}", 0..10)) {
        let text: String = keys.iter().map(|key| format!("{key} = 1\n")).collect();
        let count = Reader::parse("x", &text).unwrap().finish().map_or_else(|errors| errors.mistakes.len(), |()| 0);
        prop_assert_eq!(count, keys.len());
    }
}
