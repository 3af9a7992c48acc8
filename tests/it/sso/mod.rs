//! Single sign-on.

mod connected;
mod connections;
mod discovery;
mod domain_checks;
mod domains;
mod provider;
mod sign_in;
mod upkeep;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::accounts::TestAccount;
use crate::support::app::text;

/// The path of the domains of an organization.
fn domains_of(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/sso/domains")
}

/// Adds a domain to an account's home organization; returns its data.
async fn add_domain(app: &TestApp, owner: &TestAccount, name: &str) -> Value {
    let session = app.session(&owner.cookie);
    let added = session.post(&domains_of(&owner.org_id), json!({ "domain": name })).await;
    added.assert_status(201).body["data"].clone()
}

/// The name and the value of a domain's record.
fn record_of(domain: &Value) -> (String, String) {
    (text(&domain["record"]["name"]), text(&domain["record"]["value"]))
}

/// The path that verifies a domain of an organization.
fn verify_path(organization: &str, domain: &Value) -> String {
    format!("{}/{}/verify", domains_of(organization), text(&domain["id"]))
}

/// As the records of a DNS server.
fn as_records(records: &[(String, String)]) -> Vec<(&str, &str)> {
    records.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
