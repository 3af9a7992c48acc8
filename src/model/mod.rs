//! Plain data and its rules, without I/O.
//!
//! Raw strings become types here, through each type's `parse`, and nowhere else. The modules below
//! HTTP receive only these types.

pub mod account;
pub mod account_reach;
pub mod allowed_ips;
pub mod api_key;
pub mod attribution;
pub mod audit;
pub mod audit_chain;
pub mod audit_detail;
pub mod audit_digest;
pub mod audit_findings;
pub mod audit_head;
pub mod audit_seal;
pub mod caller;
pub mod credits;
pub mod cursor;
pub mod email;
pub mod external_actor;
pub mod github_keys;
pub mod idempotency;
pub mod ids;
pub mod invite;
pub mod job;
pub mod jwt;
pub mod key_format;
pub mod leak;
pub mod mail;
pub mod master_scope;
pub mod member;
pub mod metadata;
pub mod named_limits;
pub mod names;
pub mod oauth;
pub mod organization;
pub mod organization_handle;
pub mod origin;
pub mod outbound;
pub mod password;
pub mod payment;
pub mod personal_token;
pub mod plan;
pub mod project;
pub mod public_key_set;
pub mod rate;
pub mod rate_limit;
pub mod rejection;
pub mod revocation;
pub mod role;
pub mod scope;
pub mod secret;
pub mod session;
pub mod short_lived_token;
pub mod special_addresses;
pub mod sso;
pub mod stripe_signature;
pub mod timestamp;
pub mod usage;
pub mod verification;

use std::borrow::Cow;
use std::fmt;

/// The reason why a value is invalid, as a message for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError(pub Cow<'static, str>);

impl From<&'static str> for ValidationError {
    fn from(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }
}

impl From<String> for ValidationError {
    fn from(message: String) -> Self {
        Self(Cow::Owned(message))
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
