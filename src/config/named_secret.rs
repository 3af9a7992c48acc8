//! A list of secrets with ids, newest first, so that a secret can be rotated without downtime.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::model::ValidationError;

/// A secret for signatures or digests, and its id.
pub struct NamedSecret {
    /// The id, which is stored or sent with each signature or digest.
    pub id: String,
    /// The secret itself: at least 32 bytes, overwritten when it is dropped.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Parses `id:base64[,id:base64…]`.
///
/// # Errors
/// The text has another form. The error does not contain the text, which is secret.
pub fn parse_named_secrets(text: &str) -> Result<Vec<NamedSecret>, ValidationError> {
    let list = text.split(',').map(|item| parse(item.trim())).collect::<Result<Vec<_>, _>>()?;
    let is_duplicate = |index: usize| list[..index].iter().any(|other| other.id == list[index].id);
    if (0..list.len()).any(is_duplicate) {
        return Err("must not contain an id twice".into());
    }
    Ok(list)
}

fn parse(item: &str) -> Result<NamedSecret, ValidationError> {
    let (id, encoded) =
        item.split_once(':').ok_or("must be a comma-separated list of id:base64, newest first")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=32).contains(&id.len()) || !id.bytes().all(is_allowed) {
        return Err("must have ids of 1 to 32 letters, digits, - or _".into());
    }
    let bytes = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| format!("must have a base64 secret for the id {id}"))?;
    if bytes.len() < 32 {
        let count = bytes.len();
        return Err(format!("must have at least 32 bytes for the id {id}; it has {count}").into());
    }
    Ok(NamedSecret { id: id.to_owned(), bytes: Zeroizing::new(bytes) })
}
