//! The secrets of a server that nobody configured: made once, kept beside its data.
//!
//! The file holds lines as in `.env`, belongs to the user that the server runs as, is readable by
//! that user alone, and appears whole or not at all: of two servers that start together, one makes
//! it and both read it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::named_secret::parse_named_secrets;
use crate::config::ownership;
use crate::entropy::{Entropy, random_base62};

/// The variables that are made up when nobody sets them.
const VARIABLES: [(&str, &str); 2] = [("KEY_PEPPERS", "p1"), ("JWT_SECRETS", "j1")];

/// The secrets kept in `data_dir`, made first where there are none. `has_data` says that there is
/// data, whose keys are worth nothing without the secrets they were made with.
///
/// # Errors
/// The file system's own; secrets that are lost, damaged or open to others. All name the file.
pub fn load_or_create(
    data_dir: &Path,
    has_data: bool,
    entropy: &dyn Entropy,
) -> io::Result<HashMap<String, String>> {
    let path = secrets_path(data_dir);
    let named = |error| with_path(&path, &error);
    // Others may pass through, not look: Postgres's files below have an owner of their own.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir).map_err(named)?;
    if let Some(kept) = load(data_dir, has_data)? {
        return Ok(kept);
    }
    create(&path, entropy).map_err(named)?;
    load(data_dir, true).map(Option::unwrap_or_default)
}

/// The secrets kept in `data_dir`; `None` where there are none, and none are needed yet.
///
/// # Errors
/// As [`load_or_create`].
pub fn load(data_dir: &Path, has_data: bool) -> io::Result<Option<HashMap<String, String>>> {
    let path = secrets_path(data_dir);
    let named = |error| with_path(&path, &error);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => Some(opened.map_err(named)?),
    };
    let Some(mut file) = file else {
        if has_data {
            let lost = "is not there, but its data is; put it back, or no key of it works any more";
            return Err(named(io::Error::other(lost)));
        }
        return Ok(None);
    };
    // Of what was opened, which is what is read.
    ownership::check_file(&file.metadata().map_err(named)?, ownership::OTHERS_MASK)
        .map_err(named)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(named)?;
    let secrets = parse(&text);
    let is_valid =
        |(name, _)| secrets.get(name).is_some_and(|list| parse_named_secrets(list).is_ok());
    if VARIABLES.into_iter().all(is_valid) {
        return Ok(Some(secrets));
    }
    Err(named(io::Error::other("is damaged; put back the one that the data was made with")))
}

/// New secrets, as the file holds them.
#[must_use]
pub fn generate(entropy: &dyn Entropy) -> HashMap<String, String> {
    let generated = VARIABLES.map(|(name, id)| {
        let mut bytes = [0_u8; 32];
        entropy.fill(&mut bytes);
        (name.to_owned(), format!("{id}:{}", BASE64_STANDARD.encode(bytes)))
    });
    generated.into_iter().collect()
}

fn secrets_path(data_dir: &Path) -> PathBuf {
    data_dir.join("secrets")
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Writes the file under another name and links it into place, which fails where one is there.
fn create(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let unfinished = path.with_extension(random_base62(entropy, 10));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let generated = generate(entropy);
    for (name, _) in VARIABLES {
        writeln!(file, "{name}={}", generated[name])?;
    }
    file.sync_all()?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn parse(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn secrets_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = load_or_create(dir.path(), false, &SystemEntropy).expect("made");
        let second = load_or_create(dir.path(), false, &SystemEntropy).expect("read");
        assert_eq!(first, second);
        assert_eq!(first.len(), VARIABLES.len());
        let mode = fs::metadata(dir.path().join("secrets")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn lost_or_damaged_secrets_are_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = load_or_create(dir.path(), true, &SystemEntropy).expect_err("refused");
        assert!(refused.to_string().contains("is not there"));
        load_or_create(dir.path(), false, &SystemEntropy).expect("made");
        load_or_create(dir.path(), true, &SystemEntropy).expect("read");
        for damaged in ["", "KEY_PEPPERS=p1:xx\nJWT_SECRETS=j1:xx\n"] {
            fs::write(dir.path().join("secrets"), damaged).expect("written");
            let refused = load_or_create(dir.path(), true, &SystemEntropy).expect_err("refused");
            assert!(refused.to_string().contains("is damaged"), "{refused}");
        }
    }

    #[test]
    fn secrets_that_others_can_read_are_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        load_or_create(dir.path(), false, &SystemEntropy).expect("made");
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(dir.path().join("secrets"), open).expect("opened");
        let refused = load_or_create(dir.path(), false, &SystemEntropy).expect_err("refused");
        assert!(refused.to_string().contains("chmod go="), "{refused}");
    }

    #[test]
    fn secrets_of_another_user_are_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        load_or_create(dir.path(), false, &SystemEntropy).expect("made");
        let path = dir.path().join("secrets");
        if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
            return; // Only root gives files away.
        }
        let refused = load_or_create(dir.path(), false, &SystemEntropy).expect_err("refused");
        assert!(refused.to_string().contains("belongs to another user (uid 65534"), "{refused}");
    }

    #[test]
    fn servers_that_start_together_agree() {
        let dir = tempfile::tempdir().expect("a folder");
        let made: Vec<_> = std::thread::scope(|scope| {
            let start = || load_or_create(dir.path(), false, &SystemEntropy).expect("made");
            let all: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            all.into_iter().map(|one| one.join().expect("made")).collect()
        });
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
    }
}
