//! Single sign-on: the connections of organizations to their own identity providers, the domains
//! that organizations prove, and signing in.

mod admission;
pub mod callback;
pub mod connections;
pub mod discovery;
pub mod domain_checks;
pub mod domains;
mod provider;
pub mod sign_in;
pub mod upkeep;
