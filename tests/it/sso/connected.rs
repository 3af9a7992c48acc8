//! An organization with a verified domain and an active connection to a provider.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::add_domain;
use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::identity_provider::IdentityProvider;
use crate::support::oauth::{Browser, parameters_of};
use crate::support::{TestApp, with_settings};

/// The organization, and its connection.
pub struct Connected {
    /// Its owner.
    pub owner: TestAccount,
    /// The id of the connection.
    pub id: String,
}

/// Runs a test with an organization that has verified `acme.example` and is connected to a
/// provider.
pub async fn with_provider(
    provider: &IdentityProvider,
    settings: &[(&str, &str)],
    test: impl AsyncFnOnce(&TestApp, &Connected),
) {
    let allowed = provider.allowed();
    let settings = [settings, &[("OUTBOUND_ALLOW", allowed.as_str())]].concat();
    with_settings(&settings)
        .run(async |app| {
            let connected = Connected::create(app, provider).await;
            test(app, &connected).await;
        })
        .await;
}

impl Connected {
    async fn create(app: &TestApp, provider: &IdentityProvider) -> Self {
        let owner = app.verified_account("owner@example.com").await;
        add_domain(app, &owner, "acme.example").await;
        app.execute("update sso_domains set verified_at = now(), next_check_at = now()").await;
        let session = app.session(&owner.cookie);
        let path = format!("/api/user/organizations/{}/sso/connections", owner.org_id);
        let request = json!({
            "issuer": provider.issuer(),
            "clientId": provider.client_id(),
            "clientSecret": provider.client_secret(),
            "jit": { "enabled": true, "defaultRole": "member" },
        });
        let created = session.post(&path, request).await.assert_status(201);
        let data = &created.body["data"];
        provider.control(json!({ "redirectUris": [data["redirectUri"]] }));
        let connected = Self { owner, id: text(&data["id"]) };
        connected.change_status(app, "activate").await.assert_status(200);
        connected
    }

    /// The path of the organization.
    pub fn path(&self) -> String {
        format!("/api/user/organizations/{}", self.owner.org_id)
    }

    /// Changes the settings of the connection.
    pub async fn update(&self, app: &TestApp, changes: Value) {
        let path = format!("{}/sso/connections/{}", self.path(), self.id);
        app.session(&self.owner.cookie).put(&path, changes).await.assert_status(200);
    }

    /// Activates or disables the connection.
    pub async fn change_status(&self, app: &TestApp, operation: &str) -> TestResponse {
        let path = format!("{}/sso/connections/{}/{operation}", self.path(), self.id);
        app.session(&self.owner.cookie).post(&path, json!({})).await
    }

    /// Signs in at the provider, which was opened with this URL; returns the path and query of the
    /// callback.
    pub fn callback(app: &TestApp, provider: &IdentityProvider, url: &str) -> String {
        let callback = provider.sign_in(url);
        let parameters = parameters_of(&callback);
        let mut seen = app.seen_secrets.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(["state", "code"].iter().filter_map(|name| parameters.get(*name).cloned()));
        let at = callback.find("/api/auth/sso/callback/");
        callback[at.unwrap_or_else(|| panic!("not a callback: {callback}"))..].to_owned()
    }

    /// Begins a sign-in in a browser and completes it at the provider; returns the path and query
    /// of the callback.
    pub async fn sign_in_at_provider(
        &self,
        browser: &mut Browser<'_>,
        provider: &IdentityProvider,
    ) -> String {
        let start = format!("/api/auth/sso/start?connectionId={}", self.id);
        let begun = browser.get(&start).await.assert_status(303);
        Self::callback(browser.app(), provider, begun.header("location"))
    }

    /// Signs in; returns the value of the session's cookie.
    pub async fn sign_in(&self, app: &TestApp, provider: &IdentityProvider) -> String {
        let mut browser = Browser::new(app);
        let callback = self.sign_in_at_provider(&mut browser, provider).await;
        let done = browser.get(&callback).await;
        done.cookie().unwrap_or_else(|| panic!("not signed in: {done:?}"))
    }

    /// Signs in, and expects the page with this error code.
    pub async fn assert_rejected(&self, app: &TestApp, provider: &IdentityProvider, code: &str) {
        let mut browser = Browser::new(app);
        let callback = self.sign_in_at_provider(&mut browser, provider).await;
        let rejected = browser.get(&callback).await.assert_status(303);
        let page = format!("/api/auth/sso/error?code={code}");
        assert_eq!(rejected.header("location"), page);
        assert!(rejected.cookie().is_none());
        browser.get(&page).await.assert_status(403);
    }
}
