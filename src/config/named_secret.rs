//! A list of secrets with ids, newest first, so that one can follow another without a break.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::model::ValidationError;

/// Bytes to sign or digest with, under the id that goes with what was made with them.
pub struct NamedSecret {
    /// Stored, or sent, beside what the bytes made.
    pub id: String,
    /// At least 32 of them.
    pub bytes: Vec<u8>,
}

/// Reads `id:base64[,id:base64…]`.
///
/// # Errors
/// Anything else, in words that do not repeat the text.
pub fn parse_named_secrets(text: &str) -> Result<Vec<NamedSecret>, ValidationError> {
    let list = text.split(',').map(|item| parse(item.trim())).collect::<Result<Vec<_>, _>>()?;
    let is_duplicate = |at: usize| list[..at].iter().any(|other| other.id == list[at].id);
    if (0..list.len()).any(is_duplicate) {
        return Err("names one id twice".into());
    }
    Ok(list)
}

fn parse(item: &str) -> Result<NamedSecret, ValidationError> {
    let (id, encoded) = item
        .split_once(':')
        .ok_or("must be a list of id:base64, the newest first, separated by commas")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=32).contains(&id.len()) || !id.bytes().all(allowed) {
        return Err("has an id that is not 1 to 32 letters, digits, - or _".into());
    }
    let bytes = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| format!("has a secret that is not base64, under the id {id}"))?;
    if bytes.len() < 32 {
        let count = bytes.len();
        return Err(format!("has only {count} bytes under the id {id}; it needs 32").into());
    }
    Ok(NamedSecret { id: id.to_owned(), bytes })
}
