//! Who may know whom: the rules of ARCHITECTURE.md that a test can check.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file under `folder`, with its text but without comment lines.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.push((path, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// Whether `word` stands in `code` as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let is_part = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    code.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|before| code.as_bytes()[before]);
        !is_part(before) && !is_part(code.as_bytes().get(at + word.len()).copied())
    })
}

#[test]
fn modules_know_only_whom_they_may() {
    // Folder or file, those within it that are free of the rule, what must not be named, and why.
    let rules: &[(&str, &[&str], &[&str], &str)] = &[
        ("src", &["src/rt"], &["glommio"], "only rt/ names the runtime"),
        ("src", &[], &["rusqlite"], "the server knows no SQL"),
        (
            "src",
            &["src/admin.rs"],
            &["shard_of_slot"],
            "who owns a slot is asked of the table of owners, but where files are recovered",
        ),
        ("src/mesh", &[], &["AccountChanged", "Verified"], "the transport knows no protocol that uses it"),
        ("shards/src", &[], &["glommio", "httparse", "jsonwebtoken"], "the domain knows no network"),
        (
            "shards/src/state",
            &["shards/src/state/tests.rs"],
            &[
                "HashMap",
                "HashSet",
                "SystemTime",
                "Instant",
                "thread",
                "getrandom",
                "fs",
                "io",
                "log",
                "rusqlite",
            ],
            "state is a pure fold over records",
        ),
        (
            "shards/src/recovery/judge.rs",
            &[],
            &["LogFile", "fs", "io", "thread"],
            "rows are judged without opening files",
        ),
        (
            "shards/src/simulation",
            &["shards/src/simulation/mod.rs"],
            &["fs", "io", "thread", "SystemTime", "Instant", "getrandom", "HashMap", "HashSet", "rusqlite"],
            "a simulated world is made of its seed alone",
        ),
        ("shards/src/log", &[], &["state", "ShardState"], "the log knows records, not state"),
        (
            "src/front/api",
            &[],
            &["Mesh", "mesh", "rt", "channel"],
            "the API asks shards through the client alone",
        ),
        ("src/front/http", &[], &["shards", "rt", "mesh", "client"], "HTTP knows bytes alone"),
        (
            "src/front/router.rs",
            &[],
            &["rt", "mesh", "client", "state", "log"],
            "the router knows the table alone",
        ),
        ("src/front/auth.rs", &[], &["rt", "mesh", "client", "state", "log"], "tokens know identities alone"),
        (
            "src/front/verified.rs",
            &[],
            &["rt", "mesh", "client", "state", "log"],
            "tokens know identities alone",
        ),
    ];
    let mut broken = Vec::new();
    for (place, free, forbidden, reason) in rules {
        let (folder, only) = match place.rsplit_once('/') {
            Some((folder, _)) if place.ends_with(".rs") => (folder, Some(*place)),
            _ => (*place, None),
        };
        for (path, code) in sources(folder) {
            let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("under the root").to_owned();
            if only.is_some_and(|only| path != Path::new(only))
                || free.iter().any(|free| path.starts_with(free))
            {
                continue;
            }
            for word in *forbidden {
                if names(&code, word) {
                    broken.push(format!("{} names {word}: {reason}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn versions_stand_in_one_place() {
    for manifest in ["Cargo.toml", "benches/counted/Cargo.toml", "shards/Cargo.toml"] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest)).expect("it is there");
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let is_dependency =
                ["[dependencies]", "[dev-dependencies]"].contains(&section) && line.contains('=');
            assert!(!is_dependency || line.contains("workspace = true"), "{manifest}: {line}");
        }
    }
}
