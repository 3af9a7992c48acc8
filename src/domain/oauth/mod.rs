//! OAuth 2.1: the authorization server, its clients, the grants of accounts to them, and the tokens
//! of these grants. A client is an app that an organization registered, or it is known by its
//! metadata document, or it registered itself dynamically.

pub mod apps;
pub mod authorization;
pub mod client_authentication;
pub mod client_documents;
pub mod client_key_sets;
pub mod client_revocation;
pub mod consent;
mod consent_locks;
pub mod consent_page;
pub mod device_answers;
pub mod devices;
mod grant_creation;
pub mod grant_revocation;
pub mod locks;
mod narrowing;
pub mod operator_clients;
pub mod pending_request;
pub mod policy;
pub mod registration;
mod remembered_consent;
pub mod secrets;
mod token_issue;
pub mod tokens;
pub mod userinfo;
