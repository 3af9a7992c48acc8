//! The generated secrets of a server without configured ones. They are created once and stored
//! beside its data.
//!
//! The file contains lines as in `.env`, belongs to the user that the server runs as, and is
//! readable by that user only. It is created atomically: if two servers start together, one creates
//! it and both read it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::config::env::Env;
use crate::config::named_secret::parse_named_secrets;
use crate::config::{openid_keys, ownership, sso};
use crate::entropy::{Entropy, random_base62};

/// The generated variables, and the id of each secret.
const VARIABLES: [(&str, &str); 2] = [("KEY_PEPPERS", "p1"), ("JWT_SECRETS", "j1")];

/// Returns the secrets stored in `data_dir`, and creates them first if there are none. `has_data`
/// states that a database exists, whose keys do not work without the secrets they were created
/// with.
///
/// # Errors
/// The secrets are lost, damaged or open to others, or the file system failed. The message contains
/// the path.
pub fn load_or_create(
    data_dir: &Path,
    has_data: bool,
    entropy: &dyn Entropy,
) -> io::Result<HashMap<String, String>> {
    let path = secrets_path(data_dir);
    let with_path = |error| with_path(&path, &error);
    // Other users may traverse the folder, not list it: the files of Postgres in it may belong to
    // another user.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir).map_err(with_path)?;
    if let Some(secrets) = load(data_dir, has_data)? {
        return Ok(secrets);
    }
    create(&path, entropy).map_err(with_path)?;
    load(data_dir, true).map(Option::unwrap_or_default)
}

/// A secret that only a feature needs, which is added to the file when the feature is first on.
pub struct FeatureSecret {
    /// The variable.
    pub variable: &'static str,
    /// The variable that is `on` if the feature is.
    switch: &'static str,
    /// Generates a value of the variable.
    pub generate: fn(&dyn Entropy) -> io::Result<Zeroizing<String>>,
    is_valid: fn(&str) -> bool,
}

/// The secrets that features need.
const FEATURE_SECRETS: [FeatureSecret; 2] = [
    FeatureSecret {
        variable: openid_keys::VARIABLE,
        switch: "OAUTH",
        generate: openid_keys::generate,
        is_valid: |value| openid_keys::parse(value).is_ok(),
    },
    FeatureSecret {
        variable: sso::SEALING_KEYS,
        switch: "SSO",
        generate: |entropy| Ok(sso::generate_sealing_key(entropy)),
        is_valid: |value| sso::parse_sealing_keys(value).is_ok(),
    },
];

/// Returns the secrets that features need and that are not set. An invalid switch is reported where
/// it is read.
pub fn missing_feature_secrets(env: &mut Env<'_>) -> Vec<&'static FeatureSecret> {
    let mut is_missing = |secret: &&FeatureSecret| {
        let is_on = env.optional(secret.switch, |text| Ok(text == "on")).unwrap_or(false);
        is_on && !env.is_set(secret.variable)
    };
    FEATURE_SECRETS.iter().filter(|secret| is_missing(secret)).collect()
}

/// Returns the secrets stored in `data_dir`, and first adds those of `features` that are not there.
/// If two servers add one together, both use the same.
///
/// # Errors
/// As [`load_or_create`].
pub fn load_or_add(
    data_dir: &Path,
    features: &[&FeatureSecret],
    entropy: &dyn Entropy,
) -> io::Result<HashMap<String, String>> {
    let loaded = || load(data_dir, true).map(Option::unwrap_or_default);
    let secrets = loaded()?;
    let path = secrets_path(data_dir);
    for secret in features.iter().filter(|it| !secrets.contains_key(it.variable)) {
        append(&path, secret, entropy).map_err(|error| with_path(&path, &error))?;
    }
    loaded()
}

/// Appends a new secret with one write. It begins with a new line, so that it does not continue one
/// whose writing was interrupted.
fn append(path: &Path, secret: &FeatureSecret, entropy: &dyn Entropy) -> io::Result<()> {
    let value = (secret.generate)(entropy)?;
    let line = Zeroizing::new(format!("\n{}={}\n", secret.variable, *value));
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Returns the secrets stored in `data_dir`; `None` if there are none and `has_data` is false.
///
/// # Errors
/// As [`load_or_create`].
pub fn load(data_dir: &Path, has_data: bool) -> io::Result<Option<HashMap<String, String>>> {
    let path = secrets_path(data_dir);
    let with_path = |error| with_path(&path, &error);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => Some(opened.map_err(with_path)?),
    };
    let Some(mut file) = file else {
        if has_data {
            let lost = "does not exist, but the database does; restore the file, because the \
                        database's keys do not work without it";
            return Err(with_path(io::Error::other(lost)));
        }
        return Ok(None);
    };
    // Checks the opened file, so that it cannot be swapped between check and read.
    ownership::check_file(&file.metadata().map_err(with_path)?, ownership::GROUP_AND_OTHERS_MASK)
        .map_err(with_path)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(with_path)?;
    let secrets = parse(&text);
    let is_valid =
        |(name, _)| secrets.get(name).is_some_and(|list| parse_named_secrets(list).is_ok());
    if VARIABLES.into_iter().all(is_valid) {
        return Ok(Some(secrets));
    }
    Err(with_path(io::Error::other("is damaged; restore the file that the database was used with")))
}

/// Generates new secrets, by variable.
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

/// Writes the file under a temporary name and links it to `path`. An existing file is not replaced.
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

/// Parses the lines of the file. Of the secrets of a feature, which are appended, the first
/// complete line counts.
fn parse(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let mut secrets = HashMap::new();
    for (name, value) in lines.map(|(name, value)| (name.trim(), value.trim())) {
        let feature = FEATURE_SECRETS.iter().find(|secret| secret.variable == name);
        let is_first = |it: &FeatureSecret| !secrets.contains_key(name) && (it.is_valid)(value);
        if feature.is_none_or(is_first) {
            secrets.insert(name.to_owned(), value.to_owned());
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn secrets_are_created_once_and_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = load_or_create(dir.path(), false, &SystemEntropy).expect("created");
        let second = load_or_create(dir.path(), false, &SystemEntropy).expect("read");
        assert_eq!(first, second);
        assert_eq!(first.len(), VARIABLES.len());
        let mode = fs::metadata(dir.path().join("secrets")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_feature_s_secret_is_added_once_also_by_servers_that_start_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let before = load_or_create(dir.path(), false, &SystemEntropy).expect("created");
        let features: Vec<&FeatureSecret> = FEATURE_SECRETS.iter().collect();
        // An interrupted write.
        let path = dir.path().join("secrets");
        let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
        file.write_all(b"\nOIDC_PRIVATE_KEYS=oidc-1:MIIEvQ").expect("written");
        let added: Vec<_> = std::thread::scope(|scope| {
            let add = || load_or_add(dir.path(), &features, &SystemEntropy).expect("added");
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(add)).collect();
            threads.into_iter().map(|thread| thread.join().expect("added")).collect()
        });
        assert!(added.windows(2).all(|pair| pair[0] == pair[1]));
        let again = load_or_add(dir.path(), &features, &SystemEntropy).expect("read");
        assert_eq!(again, added[0]);
        for feature in features {
            assert!((feature.is_valid)(&again[feature.variable]), "{}", feature.variable);
        }
        assert!(before.iter().all(|(name, secret)| again[name] == *secret));
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn lost_or_damaged_secrets_are_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = load_or_create(dir.path(), true, &SystemEntropy).expect_err("an error");
        assert!(error.to_string().contains("does not exist"));
        load_or_create(dir.path(), false, &SystemEntropy).expect("created");
        load_or_create(dir.path(), true, &SystemEntropy).expect("read");
        for damaged in ["", "KEY_PEPPERS=p1:xx\nJWT_SECRETS=j1:xx\n"] {
            fs::write(dir.path().join("secrets"), damaged).expect("written");
            let error = load_or_create(dir.path(), true, &SystemEntropy).expect_err("an error");
            assert!(error.to_string().contains("is damaged"), "{error}");
        }
    }

    #[test]
    fn secrets_that_others_can_read_are_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        load_or_create(dir.path(), false, &SystemEntropy).expect("created");
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(dir.path().join("secrets"), open).expect("opened");
        let error = load_or_create(dir.path(), false, &SystemEntropy).expect_err("an error");
        assert!(error.to_string().contains("chmod go="), "{error}");
    }

    #[test]
    fn secrets_of_another_user_are_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        load_or_create(dir.path(), false, &SystemEntropy).expect("created");
        let path = dir.path().join("secrets");
        if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
            return; // Only root may change a file's owner.
        }
        let error = load_or_create(dir.path(), false, &SystemEntropy).expect_err("an error");
        assert!(error.to_string().contains("belongs to another user (uid 65534"), "{error}");
    }

    #[test]
    fn servers_that_start_together_agree() {
        let dir = tempfile::tempdir().expect("a folder");
        let created: Vec<_> = std::thread::scope(|scope| {
            let start = || load_or_create(dir.path(), false, &SystemEntropy).expect("created");
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().expect("created")).collect()
        });
        assert!(created.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}
