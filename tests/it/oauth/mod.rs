//! The `oauth` family: `/oauth2/…`.

mod authorize;
mod checks;
mod consent;
mod consent_checks;
mod crash;
mod device;
mod documents;
mod flow;
mod jwt_access_tokens;
mod notices;
mod openid;
mod pages;
mod private_keys;
mod registration;
mod remembered;
mod restrictions;
mod sign_in_page;
mod tokens;

use crate::support::TestApp;
use crate::support::accounts::TestAccount;
use crate::support::oauth::{OauthClient, OauthClientSpec};

/// Counts codes.
const CODES: &str = "select count(*) from oauth_codes";
/// Counts live grants.
const LIVE_GRANTS: &str = "select count(*) from oauth_grants where revoked_at is null";

/// An account, and a public app of another organization.
async fn account_and_client(app: &TestApp) -> (TestAccount, OauthClient) {
    let ann = app.verified_account("ann@example.com").await;
    let vendor = app.sign_up().await;
    (ann, OauthClientSpec::default().insert(app, &vendor.org_id).await)
}

/// Runs a query that returns one list of texts.
async fn texts(app: &TestApp, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_one(&mut app.connect().await).await.unwrap()
}
