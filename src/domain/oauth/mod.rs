//! OAuth 2.1: the authorization server (OAUTH).

pub mod authorization;
pub mod client_authentication;
pub mod consent;
pub mod consent_page;
pub mod pending_request;
mod remembered_consent;
pub mod revocation;
pub mod tokens;
