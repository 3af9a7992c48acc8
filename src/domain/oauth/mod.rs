//! OAuth 2.1: what clients may do for people.

pub mod client_authentication;
pub mod revocation;
pub mod tokens;
