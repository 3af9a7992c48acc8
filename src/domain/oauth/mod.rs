//! OAuth 2.1: the authorization server, apps of organizations, the grants of accounts to them, and
//! the tokens of these grants.

pub mod apps;
pub mod authorization;
pub mod client_authentication;
pub mod client_documents;
pub mod client_key_sets;
pub mod consent;
mod consent_locks;
pub mod consent_page;
pub mod device_answers;
pub mod devices;
mod granting;
pub mod grants;
pub mod locks;
mod narrowing;
pub mod pending_request;
pub mod policy;
pub mod publication;
pub mod registration;
mod remembered_consent;
pub mod revocation;
pub mod secrets;
mod token_issue;
pub mod tokens;
pub mod userinfo;
