//! The dependency rules of ARCHITECTURE.md: which modules may name which others.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file under `folder`, with its text without comment lines.
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

/// Returns true if `word` occurs in `code` as a whole word.
fn names(code: &str, word: &str) -> bool {
    let is_part = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    code.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|before| code.as_bytes()[before]);
        !is_part(before) && !is_part(code.as_bytes().get(at + word.len()).copied())
    })
}

#[test]
fn modules_name_only_what_they_may() {
    // A folder or file, the paths within it that are exempt, the forbidden words, and the reason.
    let rules: &[(&str, &[&str], &[&str], &str)] = &[
        ("src", &["src/rt"], &["glommio", "async_executor"], "only rt/ names the runtimes"),
        (
            "src",
            &["src/admin.rs"],
            &["shard_of_slot"],
            "the owner of a slot comes from the table of owners, except where files are recovered",
        ),
        ("src/mesh", &[], &["AccountChanged", "Verified"], "the transport does not depend on its users"),
        (
            "shards/src/state",
            &["shards/src/state/tests"],
            &["HashMap", "HashSet", "log"],
            "state is a pure fold over records",
        ),
        (
            "shards/src",
            &["shards/src/simulation/mod.rs"],
            &["fs", "io", "path", "net", "thread", "SystemTime", "Instant"],
            "the domain does no I/O and reads no clock",
        ),
        (
            "shards/src/simulation",
            &["shards/src/simulation/mod.rs"],
            &["HashMap", "HashSet"],
            "a simulation depends on its seed alone",
        ),
        ("shards/src/log", &[], &["state", "ShardState"], "the log depends on records, not on state"),
        (
            "shards/src/replay",
            &[],
            &["state", "ShardState"],
            "the replay check depends on records, not on state",
        ),
        (
            "src/front/api",
            &[],
            &["Mesh", "mesh", "rt", "channel"],
            "the API reaches shards through the client only",
        ),
        ("src/front/http", &[], &["shards", "rt", "mesh", "client"], "HTTP handles bytes only"),
        (
            "src/front/router.rs",
            &[],
            &["rt", "mesh", "client", "state", "log"],
            "the router depends on the table of endpoints only",
        ),
        (
            "src/front/auth.rs",
            &[],
            &["rt", "mesh", "client", "state", "log"],
            "tokens depend on identities only",
        ),
        (
            "src/front/verified.rs",
            &[],
            &["rt", "mesh", "client", "state", "log"],
            "tokens depend on identities only",
        ),
    ];
    let mut broken = Vec::new();
    for (scope, exempt, forbidden, reason) in rules {
        let (folder, only) = match scope.rsplit_once('/') {
            Some((folder, _)) if scope.ends_with(".rs") => (folder, Some(*scope)),
            _ => (*scope, None),
        };
        for (path, code) in sources(folder) {
            let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("under the root").to_owned();
            if only.is_some_and(|only| path != Path::new(only))
                || exempt.iter().any(|exempt| path.starts_with(exempt))
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
fn versions_are_only_in_the_root_manifest() {
    for manifest in
        ["Cargo.toml", "benches/counted/Cargo.toml", "shards/Cargo.toml", "shards/storage/Cargo.toml"]
    {
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
