//! Heads of the audit log's chains and the start of signing, in the form that log lines contain.

use hex::FromHex;
use std::fmt;

use chrono::{DateTime, Utc};

use crate::model::ValidationError;

/// The text before a head in a log line.
const HEAD_PREFIX: &str = "audit head ";

/// The target of log lines that contain heads. No log filter may drop them, since they are
/// evidence.
pub const LOG_TARGET: &str = "tenantry::audit_heads";

/// The text before the start of signing in a log line.
pub const SIGNING_SINCE_PREFIX: &str = "audit events are signed since ";

/// Returns the start of signing that a log line contains, if any.
#[must_use]
pub fn parse_signing_since(line: &str) -> Option<DateTime<Utc>> {
    let (_, rest) = line.split_once(SIGNING_SINCE_PREFIX)?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The head of a chain at some time. `Display` writes it as in log lines:
/// `audit head ORG:POSITION:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The organization's handle.
    pub organization: String,
    /// The position of the last link, which counts from 1.
    pub position: i64,
    /// The digest of the last link.
    pub digest: [u8; 32],
}

impl ChainHead {
    /// Parses `ORG:POSITION:DIGEST`.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let parts = || {
            let (organization, rest) = text.split_once(':')?;
            let (position, digest) = rest.split_once(':')?;
            let position = position.parse().ok().filter(|position| *position > 0)?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            let is_handle = !organization.is_empty() && organization.bytes().all(is_name);
            let organization = organization.to_owned();
            is_handle.then_some(Self {
                organization,
                position,
                digest: <[u8; 32]>::from_hex(digest).ok()?,
            })
        };
        parts().ok_or("must be ORG:POSITION:DIGEST, as in the server log".into())
    }

    /// Returns the head in a line of a server log (text or JSON) or of a list; `None` if there is
    /// none.
    ///
    /// # Errors
    /// The line contains "audit head ", but no valid head follows.
    pub fn find_in_line(line: &str) -> Result<Option<Self>, ValidationError> {
        let Some((_, rest)) = line.split_once(HEAD_PREFIX) else {
            return Ok(Self::parse(line.trim()).ok());
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        Self::parse(&rest[..end]).map(Some)
    }
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, position, digest } = self;
        write!(f, "{HEAD_PREFIX}{organization}:{position}:{}", hex::encode(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_head_is_found_in_a_text_log_a_json_log_and_a_list() {
        let head = format!("Ac-me_1:42:{DIGEST}");
        let text = format!("2036-05-08T09:56:42Z  INFO tenantry: audit head {head}");
        let json = format!(r#"{{"level":"INFO","message":"audit head {head}","target":"x"}}"#);
        for line in [&text, &json, &head, &format!("audit head {head}\n")] {
            let found = ChainHead::find_in_line(line).unwrap().unwrap();
            assert_eq!(found.to_string(), format!("audit head {head}"));
        }
        assert_eq!(ChainHead::find_in_line(r#"{"message":"answered"}"#), Ok(None));
    }

    #[test]
    fn an_invalid_head_is_an_error() {
        let short = format!("audit head acme:42:{}", &DIGEST[1..]);
        for line in [&short, "audit head acme", "audit head :1:x", "audit head acme:0:00"] {
            assert!(ChainHead::find_in_line(line).is_err(), "{line}");
        }
        assert!(ChainHead::parse(&format!("ac me:1:{DIGEST}")).is_err());
    }
}
