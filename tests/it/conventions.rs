//! Conventions of the sources: layers, sizes, module docs, words that are restricted to a place.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// From the top of the checkout.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The text before the unit tests.
    pub fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }
}

/// The Rust files below a folder.
pub fn sources(folder: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![top.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty(), "nothing below {folder}");
    sources
}

/// Fails, naming every place, where there is any.
#[track_caller]
fn assert_nowhere(places: &[String], what: &str) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

/// Which floors each floor may stand on. What is not named may be used by all.
const LAYERS: [(&str, &[&str]); 11] = [
    ("error", &[]),
    ("clock", &[]),
    ("entropy", &[]),
    ("model", &[]),
    ("repo", &["model"]),
    ("config", &["model"]),
    ("app", &["model", "repo", "config"]),
    ("domain", &["model", "repo", "config", "app"]),
    ("jobs", &["model", "repo", "config", "app", "domain"]),
    ("http", &["model", "repo", "config", "app", "domain"]),
    ("server", &["model"]),
];

/// What every floor may use.
const SHARED_MODULES: [&str; 3] = ["error", "clock", "entropy"];

#[test]
fn no_floor_reaches_up() {
    let mut places = Vec::new();
    for (floor, below) in LAYERS {
        let mut files = 0;
        for source in sources("src") {
            let within = source.path.starts_with(&format!("src/{floor}/"))
                || source.path == format!("src/{floor}.rs");
            if !within {
                continue;
            }
            files += 1;
            for used in imported_modules(source.code()) {
                if used != floor && !below.contains(&used) && !SHARED_MODULES.contains(&used) {
                    places.push(format!("{} uses crate::{used}", source.path));
                }
            }
        }
        assert!(files > 0, "there is no {floor}");
    }
    assert_nowhere(&places, "a floor reaches up");
}

/// The rooms of the crate that a text names.
fn imported_modules(code: &str) -> Vec<&str> {
    let after = code.split("crate::").skip(1);
    after.map(|it| it.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()).collect()
}

/// Words that have one home, or none: `(word, where it may stand, what to use instead)`.
const RESTRICTED_WORDS: [(&str, &str, &str); 14] = [
    ("Utc::now", "src/clock.rs", "the injected Clock"),
    ("SystemTime::now", "", "the injected Clock"),
    ("rand::rng", "src/entropy.rs", "the injected Entropy"),
    ("Uuid::new_v", "", "model::ids, with the injected Clock and Entropy"),
    ("sqlx::query", "src/repo/", "a function of repo"),
    // The files of `migrations/` are literals, too, and are sent by statements.
    ("AssertSqlSafe", "src/repo/online_migrations.rs", "SQL as a literal"),
    ("axum::", "src/http/ src/server/ src/bin/benchmark/", "plain data; HTTP ends at src/http"),
    ("utoipa", "src/http/", "plain data; HTTP ends at src/http"),
    (".unwrap()", "", "? or a default"),
    (".expect(", "", "? or a default"),
    ("process::exit", "", "a returned failure"),
    ("println!", "src/main.rs src/bin/benchmark/", "tracing, or commands::print"),
    ("todo!", "", "the work"),
    ("#[allow", "", "#[expect(…, reason = …)]"),
];

#[test]
fn words_stand_only_where_they_belong() {
    let mut places = Vec::new();
    for source in sources("src") {
        for (word, home, instead) in RESTRICTED_WORDS {
            let at_home = home.split_whitespace().any(|home| source.path.starts_with(home));
            for (at, line) in source.code().lines().enumerate() {
                if line.contains(word) && !at_home && !line.trim_start().starts_with("//") {
                    places.push(format!("{}:{} {word}: use {instead}", source.path, at + 1));
                }
            }
        }
    }
    assert_nowhere(&places, "words out of place");
}

/// The only places that name a sleep, be it called, imported or renamed.
const SLEEPING: [&str; 8] = [
    "src/app/connector.rs",
    "src/commands/connect.rs",
    "src/postgres/",
    "src/repo/online_migrations.rs",
    "src/server/",
    // Network delays.
    "tests/it/support/relay.rs",
    // Polling, and clients that do nothing for a while.
    "tests/it/support/waiting.rs",
    // This check.
    "tests/it/conventions.rs",
];

/// A test that sleeps for a fixed time is either slow or passes by luck.
#[test]
fn only_named_places_sleep() {
    let mut places = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests/it")) {
        let at_home = SLEEPING.iter().any(|home| source.path.starts_with(home));
        for (at, line) in source.code().lines().enumerate() {
            if !at_home && !line.trim_start().starts_with("//") && names_sleep(line) {
                places.push(format!("{}:{} use an event or wait_until", source.path, at + 1));
            }
        }
    }
    assert_nowhere(&places, "sleeps out of place");
}

/// Whether a line has an identifier like `sleep`, `sleep_until` or `Sleep`, but not SQL's
/// `pg_sleep`.
fn names_sleep(line: &str) -> bool {
    let mut identifiers = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    identifiers.any(|it| it.to_lowercase().starts_with("sleep"))
}

#[test]
fn a_sleep_is_found_under_every_name() {
    for line in [
        "    std::thread::sleep(Duration::from_millis(20));",
        "use std::thread::sleep;",
        "use tokio::time::{Instant, sleep_until};",
        "use tokio::time::sleep as nap;",
        "    t::sleep(PAUSE).await;",
        "use tokio::time::Sleep;",
    ] {
        assert!(names_sleep(line), "{line}");
    }
    for line in ["sqlx::query(\"select pg_sleep(60)\")", "let asleep = 1;"] {
        assert!(!names_sleep(line), "{line}");
    }
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    let vague = ["util", "utils", "helper", "helpers", "common", "misc", "manager"];
    let named = sources("src")
        .into_iter()
        .filter(|source| source.path.split(['/', '.']).any(|part| vague.contains(&part)));
    assert_nowhere(&named.map(|source| source.path).collect::<Vec<_>>(), "vague names");
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = sources("src").into_iter().chain(sources("tests"));
    let silent = silent.filter(|source| !source.text.starts_with("//! "));
    assert_nowhere(&silent.map(|source| source.path).collect::<Vec<_>>(), "files without a //!");
}

#[test]
fn files_and_functions_can_be_read_in_one_sitting() {
    let mut places = Vec::new();
    for source in sources("src") {
        let lines = source.text.lines().count();
        if lines > 400 {
            places.push(format!("{} has {lines} lines, at most 400", source.path));
        }
        for (name, lines) in functions(&source.text) {
            if lines > 70 {
                places.push(format!("{} {name} has {lines} lines, at most 70", source.path));
            }
        }
    }
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (at, line) in source.text.lines().enumerate() {
            if line.chars().count() > 100 {
                places.push(format!("{}:{} is wider than 100", source.path, at + 1));
            }
        }
    }
    assert_nowhere(&places, "too long");
}

/// The functions of a formatted file, with how many lines each has.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let start = line.trim_start();
        let indent = line.len() - start.len();
        let Some((before, name)) = start.split_once("fn ") else { continue };
        if !before
            .split_whitespace()
            .all(|it| it.starts_with("pub") || it == "async" || it == "const")
        {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|line| *line == end);
        functions.push((name, length.map_or(1, |it| it + 1)));
    }
    functions
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places = Vec::new();
    for file in ["README.md", ".env.example", "docker-compose.yml", "deploy/Dockerfile", ".ci/run"]
    {
        let text = fs::read_to_string(top.join(file)).unwrap();
        for word in ["/root/", "/home/"] {
            if text.contains(word) {
                places.push(format!("{file} names {word}"));
            }
        }
    }
    assert_nowhere(&places, "paths of one machine");
}
