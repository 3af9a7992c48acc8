//! Finds the installed Postgres programs.
//!
//! A data folder belongs to one major version, so an existing cluster needs the programs of exactly
//! that version. A new cluster uses the newest installed version.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::Error;
use super::privileges::ProcessUsers;

/// The programs of one installed Postgres.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
    pub(super) version: Version,
}

impl Binaries {
    /// Finds the newest usable programs, of version `major` if given: in `bin_dir` if given,
    /// otherwise in the usual folders.
    pub(super) fn find(
        bin_dir: Option<&Path>,
        major: Option<u32>,
        process_users: &ProcessUsers,
    ) -> Result<Self, Error> {
        let (searched, folders) = if let Some(folder) = bin_dir {
            let searched = format!("{} (PG_BIN_DIR)", folder.display());
            (vec![searched], vec![folder.to_owned()])
        } else {
            let patterns = SEARCH_PATHS.iter().chain(&["the folders on PATH"]);
            (patterns.map(ToString::to_string).collect(), default_folders())
        };
        // The same folder may have several names.
        let real: BTreeSet<_> = folders.iter().filter_map(|it| it.canonicalize().ok()).collect();
        let found = real.into_iter().filter_map(|folder| Self::probe(folder, process_users));
        let mut found: Vec<Self> = found.collect();
        found.sort_by_key(|it| Reverse(it.version));
        if let Some(best) = found.iter().position(|it| is_compatible(it.version, major)) {
            return Ok(found.swap_remove(best));
        }
        let user = process_users.name();
        Err(Error::NotFound(PostgresNotFound { major, searched, found, user }))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs `postgres --version` as the user that Postgres will run as, who may lack access to the
    /// folder.
    fn probe(folder: PathBuf, process_users: &ProcessUsers) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        let mut command = process_users.command(&folder.join("postgres"));
        let output = command.arg("--version").stderr(Stdio::null()).output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, version })
    }
}

/// A Postgres version, such as 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub(super) fn major(self) -> u32 {
        self.major
    }

    /// Parses `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `… 18beta1`, `… 17devel`.
    fn parse(text: &str) -> Option<Self> {
        let word =
            text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut parts = word.split('.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        });
        Some(Self { major: parts.next()??, minor: parts.next().flatten().unwrap_or(0) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

const MIN_MAJOR: u32 = 14;

/// The folders that packages install the programs in; `*` stands for any text within one name.
const SEARCH_PATHS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/lib/postgresql*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

fn is_compatible(version: Version, wanted: Option<u32>) -> bool {
    wanted.map_or(version.major >= MIN_MAJOR, |major| version.major == major)
}

fn default_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        SEARCH_PATHS.iter().flat_map(|pattern| expand_pattern(pattern)).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Links are resolved, because some packages link only `postgres` into PATH, not `initdb`.
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("postgres"));
    let real =
        on_path.filter_map(|program| Some(fs::canonicalize(program).ok()?.parent()?.to_owned()));
    folders.extend(real);
    folders
}

/// Returns the folders that match a pattern with at most one `*`. Without one, returns the pattern
/// itself, whether it exists or not.
fn expand_pattern(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let rest = after.trim_start_matches('/');
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    matching.map(|entry| entry.path().join(rest)).collect()
}

/// The error for a machine without a usable Postgres. Its message lists the searched folders and
/// states how to install Postgres.
#[derive(Debug)]
pub struct PostgresNotFound {
    major: Option<u32>,
    searched: Vec<String>,
    found: Vec<Binaries>,
    user: String,
}

impl fmt::Display for PostgresNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (apt, brew) = if let Some(major) = self.major {
            writeln!(f, "the data needs Postgres {major}, which is not installed.")?;
            (format!("-{major}"), major)
        } else {
            writeln!(f, "Postgres {MIN_MAJOR} or newer is not installed.")?;
            (String::new(), 17)
        };
        writeln!(f, "Searched for `initdb` and `postgres`, executable by user `{}`:", self.user)?;
        for pattern in &self.searched {
            writeln!(f, "  {pattern}")?;
        }
        for Binaries { folder, version } in &self.found {
            writeln!(f, "Found only another version: {version} in {}", folder.display())?;
        }
        if let Some(major) = self.major {
            writeln!(
                f,
                "If your system has no package postgresql-{major}, add the packages of \
                 postgresql.org: sudo apt install postgresql-common, then \
                 sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh\n\
                 With both versions installed, tenantry postgres-upgrade upgrades the data."
            )?;
        }
        write!(
            f,
            "Install it and start again:\n  \
             apt:  sudo apt install postgresql{apt}\n  \
             dnf:  sudo dnf install postgresql-server\n  \
             brew: brew install postgresql@{brew}\n\
             Or set PG_BIN_DIR to the folder of its programs, or DATABASE_URL to your own server."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{PostgresNotFound, Version, expand_pattern, is_compatible};

    fn version(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }

    #[test]
    fn every_spelling_of_a_version_is_parsed() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(version(15, 18))),
            ("postgres (PostgreSQL) 18beta1", Some(version(18, 0))),
            ("postgres (PostgreSQL) 19devel", Some(version(19, 0))),
            ("postgres (PostgreSQL) 9.6.24", Some(version(9, 6))),
            ("postgres (EnterpriseDB) 16.2.0", Some(version(16, 2))),
            ("sh: postgres: not found", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(version(9, 6) < version(14, 0));
        assert!(version(15, 9) < version(15, 18));
    }

    #[test]
    fn an_existing_cluster_needs_its_own_major_version_and_a_new_one_any_supported() {
        assert!(is_compatible(version(14, 0), None));
        assert!(!is_compatible(version(13, 9), None));
        assert!(is_compatible(version(15, 1), Some(15)));
        assert!(!is_compatible(version(16, 1), Some(15)));
    }

    #[test]
    fn a_pattern_without_a_star_yields_itself_and_one_without_a_match_yields_nothing() {
        assert_eq!(expand_pattern("/a/b"), [std::path::PathBuf::from("/a/b")]);
        assert!(expand_pattern("/no/such/place-*/bin").is_empty());
    }

    #[test]
    fn the_error_lists_the_searched_folders_and_how_to_install_postgres() {
        let missing = PostgresNotFound {
            major: None,
            searched: vec!["/x/*/bin".to_owned()],
            found: vec![],
            user: "me".to_owned(),
        };
        let text = missing.to_string();
        for part in
            ["/x/*/bin", "apt install postgresql\n", "dnf install", "brew install", "PG_BIN_DIR"]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let text = PostgresNotFound { major: Some(14), ..missing }.to_string();
        assert!(
            text.contains("apt install postgresql-14\n")
                && text.contains("postgresql@14")
                && text.contains("apt.postgresql.org.sh")
                && text.contains("tenantry postgres-upgrade"),
            "{text}"
        );
    }
}
