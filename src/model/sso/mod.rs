//! Single sign-on: connections of organizations to their own identity providers, the domains that
//! organizations proved, and what the providers state about people.

pub mod client;
pub mod connection;
pub mod domain;
pub mod domain_name;
pub mod flow;
pub mod id_token;
pub mod issuer;
pub mod provider_identity;
pub mod provider_metadata;
pub mod settings;
pub mod sign_in_rejection;
