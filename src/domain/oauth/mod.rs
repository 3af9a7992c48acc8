//! OAuth 2.1: apps of organizations, what people grant to them, and the tokens of these grants.

pub mod apps;
pub mod client_authentication;
pub mod grants;
pub mod locks;
pub mod policy;
pub mod publication;
pub mod revocation;
pub mod secrets;
pub mod tokens;
