//! Programs that some tests need besides Postgres. A test whose program is missing fails, unless
//! `TENANTRY_SKIP_MISSING_TOOLS=1` is set.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// The variable that skips tests whose tools are missing.
const SKIP: &str = "TENANTRY_SKIP_MISSING_TOOLS";

/// Returns the path of a program, or `None` if it is missing and the test is skipped.
///
/// # Panics
/// If it is missing and the test must not be skipped.
#[track_caller]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // On Debian, servers are only in root's PATH.
    let more = ["/usr/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let mut files = env::split_paths(&path).chain(more).map(|folder| folder.join(name));
    let found = files.find(|file| file.is_file());
    is_installed(name, found.is_some());
    found
}

/// Returns `installed`, which says whether the tool is there; if not, the test is skipped.
///
/// # Panics
/// If it is not installed and the test must not be skipped.
#[track_caller]
pub fn is_installed(tool: &str, installed: bool) -> bool {
    if !installed {
        let skip = env::var_os(SKIP).is_some_and(|value| value == "1");
        assert!(skip, "{tool} is not installed; {SKIP}=1 skips the tests that need it");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by `eprintln!`, whose output is captured and hidden when the test passes.
        writeln!(std::io::stderr(), "skipped {test}: {tool} is not installed").expect("stderr");
    }
    installed
}

/// The folder of the published clients.
pub fn clients_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Installs the published clients that are missing, once. Needs npm and pip; each test checks
/// whether its client is installed.
pub fn install_clients() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = Command::new(clients_folder().join("install")).status();
    });
}
