//! Conventions of the sources: layers, sizes, module docs, and words with a restricted use.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// Its path from the root of the repository.
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

/// The Rust files in a folder, at any depth.
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
    assert!(!sources.is_empty(), "no Rust file in {folder}");
    sources
}

/// Fails with a list of the places, if there are any.
#[track_caller]
fn assert_nowhere(places: &[String], what: &str) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

/// Each layer, and all that it may import besides itself and [`SHARED_MODULES`].
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

/// Modules that every layer may import.
const SHARED_MODULES: [&str; 3] = ["error", "clock", "entropy"];

#[test]
fn no_layer_imports_one_above_it() {
    let mut places = Vec::new();
    for (layer, below) in LAYERS {
        let mut files = 0;
        for source in sources("src") {
            let within = source.path.starts_with(&format!("src/{layer}/"))
                || source.path == format!("src/{layer}.rs");
            if !within {
                continue;
            }
            files += 1;
            for used in imported_modules(source.code()) {
                if used != layer && !below.contains(&used) && !SHARED_MODULES.contains(&used) {
                    places.push(format!("{} uses crate::{used}", source.path));
                }
            }
        }
        assert!(files > 0, "there is no {layer}");
    }
    assert_nowhere(&places, "a layer imports one above it");
}

/// The top-level modules of the crate that the code names.
fn imported_modules(code: &str) -> Vec<&str> {
    let after = code.split("crate::").skip(1);
    after.map(|it| it.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()).collect()
}

/// Words that are allowed in some files only, or in none: `(word, path prefixes, alternative)`.
const RESTRICTED_WORDS: [(&str, &str, &str); 19] = [
    ("Utc::now", "src/clock.rs", "the injected Clock"),
    ("SystemTime::now", "", "the injected Clock"),
    ("rand::rng", "src/entropy.rs", "the injected Entropy"),
    ("Uuid::new_v", "", "model::ids, with the injected Clock and Entropy"),
    ("sqlx::query", "src/repo/", "a function of repo"),
    // The files of `migrations/` are literals, too, and are sent statement by statement.
    ("AssertSqlSafe", "src/repo/online_migrations.rs", "SQL as a literal"),
    // Traces go to a collector that the operator chose.
    ("reqwest", "src/app/http_client/ src/telemetry/", "app::http_client, which guards requests"),
    ("hyper::client", "", "app::http_client, which guards requests"),
    ("hyper_util::client", "", "app::http_client, which guards requests"),
    ("axum::", "src/http/ src/server/ src/bin/benchmark/", "plain data; HTTP ends at src/http"),
    ("utoipa", "src/http/", "plain data; HTTP ends at src/http"),
    (".unwrap()", "", "? or a default"),
    (".expect(", "", "? or a default"),
    ("process::exit", "", "a returned failure"),
    ("println!", "src/main.rs src/bin/benchmark/", "tracing, or commands::print"),
    ("todo!", "", "the work"),
    (
        ".expose()",
        "src/app/ src/bin/ src/commands/ src/domain/ src/model/ src/http/shown_once.rs \
         src/http/auth/session_cookie.rs src/http/browser_cookie.rs \
         src/http/onboarding/tokens.rs",
        "ShownOnce",
    ),
    (
        "Secret::expose",
        "src/app/ src/bin/ src/commands/ src/domain/ src/model/ src/http/shown_once.rs \
         src/http/auth/session_cookie.rs src/http/browser_cookie.rs \
         src/http/onboarding/tokens.rs",
        "ShownOnce",
    ),
    ("#[allow", "", "#[expect(…, reason = …)]"),
];

#[test]
fn restricted_words_appear_only_where_they_are_allowed() {
    let mut places = Vec::new();
    for source in sources("src") {
        for (word, allowed, alternative) in RESTRICTED_WORDS {
            let is_allowed =
                allowed.split_whitespace().any(|prefix| source.path.starts_with(prefix));
            for (at, line) in source.code().lines().enumerate() {
                if line.contains(word) && !is_allowed && !line.trim_start().starts_with("//") {
                    places.push(format!("{}:{} {word}: use {alternative}", source.path, at + 1));
                }
            }
        }
    }
    assert_nowhere(&places, "restricted words");
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
fn no_module_has_a_vague_name() {
    let vague = ["util", "utils", "helper", "helpers", "common", "misc", "manager"];
    let named = sources("src")
        .into_iter()
        .filter(|source| source.path.split(['/', '.']).any(|part| vague.contains(&part)));
    assert_nowhere(&named.map(|source| source.path).collect::<Vec<_>>(), "vague names");
}

#[test]
fn every_file_begins_with_a_module_doc_comment() {
    let files = sources("src").into_iter().chain(sources("tests"));
    let undocumented = files.filter(|source| !source.text.starts_with("//! "));
    assert_nowhere(
        &undocumented.map(|source| source.path).collect::<Vec<_>>(),
        "files without a //!",
    );
}

#[test]
fn files_functions_and_lines_are_within_their_size_limits() {
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

/// The line limit of a middleware, which is read before it is copied into another program.
const MIDDLEWARE_LINES: usize = 150;

/// Middlewares that are longer, with their own limits: rustfmt and gofmt put on several lines what
/// the others have on one.
const LONGER_MIDDLEWARES: [(&str, usize); 2] = [("axum.rs", 225), ("nethttp.go", 239)];

#[test]
fn middlewares_are_short_enough_to_be_read_before_they_are_copied() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/middleware");
    let (mut places, mut files) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap_or_default().to_str().unwrap();
        if !["js", "mjs", "ts", "py", "go", "rs"].contains(&extension) {
            continue;
        }
        files += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let own_limit = LONGER_MIDDLEWARES.iter().find(|(file, _)| *file == name);
        let most = own_limit.map_or(MIDDLEWARE_LINES, |(_, most)| *most);
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > most {
            places.push(format!("{name} has {lines} lines, at most {most}"));
        }
    }
    assert!(files > 0, "there is no middleware");
    assert_nowhere(&places, "middlewares too long");
}

/// The functions of a formatted file, with their numbers of lines.
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
fn the_readme_and_deployment_files_name_no_home_directory() {
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
    assert_nowhere(&places, "paths of home directories");
}
