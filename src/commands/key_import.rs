//! `tenantry key import`: imports keys that another system created, so that clients can continue to
//! use them.

use hex::FromHex;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::commands::setup::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::domain::keys::import::{ImportedKey, import};
use crate::model::ValidationError;
use crate::model::names::KeyName;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::scope::ScopeCatalogue;
use crate::model::timestamp;

/// Imports the keys of a file: all of them, or none.
///
/// # Errors
/// Lines are invalid (all are listed by number, without their text); an organization does not
/// exist; a key or name exists already.
pub fn run(file: &Path) -> Result<(), Failure> {
    let config = load_config()?;
    let text = read_file(file)?;
    let keys = parse(&text, &config.keys.scopes)?;
    let enabled = config.keys.accepts_imported_keys;
    let count = keys.len();
    with_app(config, async |app| Ok(import(app, keys).await?))?;
    print(&format!("imported {count} keys\n"))?;
    if !enabled {
        print("set KEY_IMPORT=on to accept them\n")?;
    }
    Ok(())
}

/// Returns the text of the file (standard input for `-`), without a byte order mark.
fn read_file(file: &Path) -> Result<String, Failure> {
    let file_error = |why: &dyn Display| Failure::Message(format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file).map_err(|error| file_error(&error))?;
    }
    let text = String::from_utf8(bytes).map_err(|_| file_error(&"must be UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportLine {
    org_id: String,
    key: Option<String>,
    sha256: Option<String>,
    name: Option<String>,
    scopes: Vec<String>,
    expires_at: Option<String>,
}

fn parse(text: &str, catalogue: &ScopeCatalogue) -> Result<Vec<ImportedKey>, Failure> {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse_line(index + 1, line, catalogue) {
            Ok(key) => keys.push(key),
            Err(ValidationError(why)) => problems.push(format!("line {}: {why}", index + 1)),
        }
    }
    if problems.is_empty() { Ok(keys) } else { Err(Failure::Message(problems.join("\n  "))) }
}

fn parse_line(
    number: usize,
    line: &str,
    catalogue: &ScopeCatalogue,
) -> Result<ImportedKey, ValidationError> {
    // The error of serde is not included, because it could contain the key.
    let line: ImportLine = serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        ValidationError::from(format!("must be an object with valid fields (column {column})"))
    })?;
    let sha256 = match (line.key, line.sha256) {
        (Some(key), None) if !key.trim().is_empty() => Sha256::digest(key.trim()).into(),
        (None, Some(text)) => <[u8; 32]>::from_hex(&text)
            .map_err(|_| "sha256 must be 64 hexadecimal digits".to_owned())?,
        _ => return Err("must have either a key or a sha256".into()),
    };
    let field_error = |field: &str, ValidationError(why): ValidationError| {
        ValidationError::from(format!("{field} {why}"))
    };
    let name = line.name.map(|name| KeyName::parse(&name)).transpose();
    let expires_at = line.expires_at.map(|text| timestamp::parse(&text)).transpose();
    Ok(ImportedKey {
        line: number,
        organization: OrganizationHandle::parse(&line.org_id)
            .map_err(|why| field_error("org_id", why))?,
        sha256,
        name: name.map_err(|why| field_error("name", why))?,
        scopes: catalogue.parse(&line.scopes).map_err(|why| field_error("scopes", why))?,
        expires_at: expires_at.map_err(|why| field_error("expires_at", why))?,
    })
}
