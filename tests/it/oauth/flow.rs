//! From an app's registration to the end of its access for a person, through the API alone.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::oauth::{Browser, ISSUER, OauthClient, REDIRECT_URI, VERIFIER, form};
use crate::support::run;

/// What the app asks for.
pub const SCOPE: &str = "projects:read projects:write offline_access";

/// An app, and its secret.
pub type App = (OauthClient, String);

/// An app of the account's organization, registered through the API.
pub async fn register(app: &TestApp, owner: &TestAccount) -> App {
    let path = format!("/api/user/organizations/{}/apps", owner.org_id);
    let request = json!({ "name": "Planner", "redirectUris": [REDIRECT_URI],
        "tokenEndpointAuthMethod": "client_secret_post",
        "scopes": ["projects:read", "projects:write", "offline_access"] });
    let created = app.session(&owner.cookie).post(&path, request).await.assert_status(201).body;
    let client_id = created["data"]["clientId"].as_str().unwrap().to_owned();
    let secret = created["data"]["clientSecret"].as_str().unwrap().to_owned();
    (OauthClient { client_id, redirect_uri: REDIRECT_URI }, secret)
}

/// Sends a token request of the app.
pub async fn exchange(
    app: &TestApp,
    (client, secret): &App,
    parameters: &[(&str, &str)],
) -> TestResponse {
    let mut all = vec![("client_id", client.client_id.as_str()), ("client_secret", secret)];
    all.extend(parameters);
    let response = app.anonymous().post_form("/oauth2/token", &form(&all)).await;
    let tokens = ["access_token", "refresh_token"].map(|name| response.body[name].as_str());
    let tokens = tokens.into_iter().flatten().map(str::to_owned);
    app.seen_secrets.lock().unwrap().extend(tokens);
    response
}

/// The tokens of an app that the person grants what it asks for, in this organization.
pub async fn grant(app: &TestApp, client: &App, (person, org_id): (&TestAccount, &str)) -> Value {
    let mut browser = Browser::signed_in(app, &person.cookie);
    let answer = browser.grant(&client.0.path(&[("scope", SCOPE)]), org_id).await;
    assert_eq!((&*answer["state"], &*answer["iss"]), ("abc", ISSUER));
    let code = [
        ("grant_type", "authorization_code"),
        ("code", &answer["code"]),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT_URI),
    ];
    exchange(app, client, &code).await.assert_status(200).body
}

/// Refreshes the tokens of an app.
pub async fn refresh(app: &TestApp, client: &App, tokens: &Value) -> TestResponse {
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    exchange(app, client, &parameters).await
}

#[tokio::test]
async fn an_app_acts_for_a_person_until_the_person_leaves_the_organization() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        let membership = app.invite_and_accept(&owner, &ann, "member").await;
        let client = register(app, &owner).await;
        let tokens = grant(app, &client, (&ann, &owner.org_id)).await;
        assert_eq!(tokens["scope"], SCOPE);
        assert_eq!(tokens["organization_id"], owner.org_id);
        let token = tokens["access_token"].as_str().unwrap();
        let projects = format!("/api/user/organizations/{}/projects", owner.org_id);
        let api = app.bearer(token);
        api.post(&projects, json!({ "name": "by the app" })).await.assert_status(201);
        // The person's own organization was not chosen.
        let own = format!("/api/user/organizations/{}/projects", ann.org_id);
        api.get(&own).await.assert_status(403);
        let session = app.session(&ann.cookie);
        let listed = session.get("/api/user/authorized-apps").await.assert_status(200).body;
        assert_eq!(listed["data"][0]["client"]["clientId"], client.0.client_id);
        let refreshed = refresh(app, &client, &tokens).await.assert_status(200).body;
        let member = format!("/api/user/organizations/{}/members/{membership}", owner.org_id);
        app.session(&owner.cookie).delete(&member).await.assert_status(200);
        for tokens in [&tokens, &refreshed] {
            let token = tokens["access_token"].as_str().unwrap();
            app.bearer(token).get(&projects).await.assert_status(401);
        }
        let ended = refresh(app, &client, &refreshed).await.assert_status(400);
        assert_eq!(ended.body["error"], "invalid_grant");
        // A new membership revives nothing.
        app.invite_and_accept(&owner, &ann, "member").await;
        app.bearer(token).get(&projects).await.assert_status(401);
        refresh(app, &client, &refreshed).await.assert_status(400);
    })
    .await;
}

#[tokio::test]
async fn deleting_an_app_revoking_its_grant_and_a_stricter_policy_end_its_tokens_at_once() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for ending in ["policy", "app", "person"] {
            let name = format!("/api/user/organizations/{}", ann.org_id);
            let client = register(app, &ann).await;
            let tokens = grant(app, &client, (&ann, &ann.org_id)).await;
            let api = app.bearer(tokens["access_token"].as_str().unwrap());
            let projects = format!("{name}/projects");
            api.get(&projects).await.assert_status(200);
            let session = app.session(&ann.cookie);
            let app_path = format!("{name}/apps/{}", client.0.client_id);
            if ending == "policy" {
                let policy = |mode| json!({ "mode": mode, "allowed": [], "blocked": [] });
                let path = format!("{name}/app-policy");
                let strict = session.put(&path, policy("none")).await.assert_status(200).body;
                assert_eq!(strict["data"]["revokedGrants"], 1);
                session.put(&path, policy("open")).await.assert_status(200);
            } else if ending == "person" {
                let listed = session.get("/api/user/authorized-apps").await.assert_status(200).body;
                let grant = listed["data"][0]["id"].as_str().unwrap().to_owned();
                let path = format!("/api/user/authorized-apps/{grant}");
                session.delete(&path).await.assert_status(200);
                session.delete(&path).await.assert_status(200);
            } else {
                session.delete(&app_path).await.assert_status(200);
            }
            api.get(&projects).await.assert_status(401);
            let rejected = refresh(app, &client, &tokens).await;
            assert!(rejected.status.is_client_error(), "{ending}");
            if ending != "app" {
                session.delete(&app_path).await.assert_status(200);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn redeeming_a_leaked_code_without_its_verifier_ends_no_tokens_of_another_code() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        let tokens = grant(app, &client, (&ann, &ann.org_id)).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let path = client.0.path(&[("scope", SCOPE), ("prompt", "consent")]);
        let leaked = browser.grant(&path, &ann.org_id).await.remove("code").expect("a code");
        // The right verifier comes too late, and ends nothing either.
        for verifier in ["x".repeat(43), "y".repeat(43), VERIFIER.to_owned()] {
            let code = [
                ("grant_type", "authorization_code"),
                ("code", &leaked),
                ("code_verifier", &verifier),
            ];
            let rejected = exchange(app, &client, &code).await.assert_status(400);
            assert_eq!(rejected.body["error"], "invalid_grant");
        }
        let token = tokens["access_token"].as_str().unwrap();
        app.bearer(token).get("/v1/organization/me").await.assert_status(200);
        refresh(app, &client, &tokens).await.assert_status(200);
    })
    .await;
}
