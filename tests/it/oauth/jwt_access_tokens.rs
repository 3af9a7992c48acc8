//! Access tokens that are JWTs (RFC 9068), for the operator's services that ask for them.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::flow::{App, exchange, refresh};
use crate::support::accounts::TestAccount;
use crate::support::app::{PRIVATE_KEYS, TestSettings};
use crate::support::oauth::{Browser, ISSUER, OauthClient, REDIRECT_URI, VERIFIER, form};
use crate::support::requests::Fixtures;
use crate::support::{TestApp, with_settings};
use crate::verification::revocations::Reader;
use crate::verification::tokens::assert_no_endpoint_accepts;

/// A service that takes JWTs. The verifier of the tests stands for it.
const MCP: &str = "https://mcp.example.com";
/// A service that takes opaque tokens.
const FILES: &str = "https://files.example.com";
const SCOPE: &str = "projects:read members:write offline_access";

fn with_services() -> TestSettings {
    with_settings(&[
        ("OAUTH_RESOURCES", "gateway=https://mcp.example.com,https://files.example.com"),
        ("OAUTH_JWT_RESOURCES", "https://MCP.example.com/"),
        ("OAUTH_SCOPES", "projects:read,projects:write,members:write"),
    ])
}

/// An app of the account's organization.
async fn register(app: &TestApp, owner: &TestAccount) -> App {
    let path = format!("/api/user/organizations/{}/apps", owner.org_id);
    let request = json!({ "name": "Planner", "redirectUris": [REDIRECT_URI],
        "tokenEndpointAuthMethod": "client_secret_post",
        "scopes": SCOPE.split(' ').collect::<Vec<_>>() });
    let created = app.session(&owner.cookie).post(&path, request).await.assert_status(201).body;
    let text = |name: &str| created["data"][name].as_str().unwrap().to_owned();
    let client = OauthClient { client_id: text("clientId"), redirect_uri: REDIRECT_URI };
    (client, text("clientSecret"))
}

/// A code of an app that the person granted everything it asked for, for these services.
async fn code(
    app: &TestApp,
    client: &App,
    (person, org_id): (&TestAccount, &str),
    resources: &[&str],
) -> String {
    let mut path = client.0.path(&[("scope", SCOPE), ("prompt", "consent")]);
    for resource in resources {
        path = format!("{path}&{}", form(&[("resource", resource)]));
    }
    let mut browser = Browser::signed_in(app, &person.cookie);
    browser.grant(&path, org_id).await.remove("code").unwrap()
}

fn redemption(code: &str) -> Vec<(&str, &str)> {
    vec![("grant_type", "authorization_code"), ("code", code), ("code_verifier", VERIFIER)]
}

/// The tokens of an app for the service that takes JWTs.
async fn tokens(app: &TestApp, client: &App, grantor: (&TestAccount, &str)) -> Value {
    let code = code(app, client, grantor, &[MCP]).await;
    exchange(app, client, &redemption(&code)).await.assert_status(200).body
}

/// The claims of an access token, as a service verifies it.
async fn verify(app: &TestApp, tokens: &Value) -> Value {
    let token = tokens["access_token"].as_str().unwrap();
    let published = app.anonymous().get("/.well-known/jwks.json").await.assert_status(200).body;
    let published: JwkSet = serde_json::from_value(published).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = published.find(&header.kid.unwrap()).expect("a published key");
    let mut validation = Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[MCP]);
    validation.set_issuer(&[ISSUER]);
    decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

async fn introspect(app: &TestApp, token: &Value) -> Value {
    let body = form(&[("token", token.as_str().unwrap())]);
    app.verifier().post_form("/oauth2/introspect", &body).await.assert_status(200).body
}

#[tokio::test]
async fn a_service_verifies_a_token_with_the_published_keys() {
    with_services()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = register(app, &ann).await;
            let tokens = tokens(app, &client, (&ann, &ann.org_id)).await;
            assert_eq!((&tokens["expires_in"], &tokens["scope"]), (&json!(600), &json!(SCOPE)));
            let claims = verify(app, &tokens).await;
            assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|iat| iat + 600));
            assert!(claims["auth_time"].as_i64() <= claims["iat"].as_i64());
            // The id by which checks and the list of revocations name the grant.
            let grants = app.session(&ann.cookie).get("/api/user/authorized-apps").await.body;
            let grant = grants["data"][0]["id"].as_str().unwrap();
            let key_id = grant.replace("grant_", "key_");
            let expected = json!({
                "iss": ISSUER, "sub": ann.id, "aud": MCP, "client_id": client.0.client_id,
                "scope": "projects:read members:write", "organization_id": ann.org_id,
                "role": "owner", "key_id": key_id, "jti": claims["jti"],
                "iat": claims["iat"], "exp": claims["exp"], "auth_time": claims["auth_time"],
            });
            assert_eq!(claims, expected);
            let again = refresh(app, &client, &tokens).await.assert_status(200).body;
            assert_ne!(verify(app, &again).await["jti"], claims["jti"]);
        })
        .await;
}

#[tokio::test]
async fn a_revoked_token_is_inactive_for_its_service_and_its_client() {
    with_services()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = register(app, &ann).await;
            let tokens = tokens(app, &client, (&ann, &ann.org_id)).await;
            let token = &tokens["access_token"];
            let active = introspect(app, token).await;
            assert_eq!((&active["active"], &active["aud"]), (&json!(true), &json!([MCP])));
            assert_eq!(active["scope"], "projects:read members:write");
            let own = [("client_id", &*client.0.client_id), ("client_secret", &*client.1)];
            let as_client = form(&[&own[..], &[("token", token.as_str().unwrap())]].concat());
            let anonymous = app.anonymous();
            let introspected = anonymous.post_form("/oauth2/introspect", &as_client).await;
            assert_eq!(introspected.assert_status(200).body["active"], true);
            anonymous.post_form("/oauth2/revoke", &as_client).await.assert_status(200);
            let inactive = json!({ "active": false });
            assert_eq!(introspect(app, token).await, inactive);
            assert_eq!(anonymous.post_form("/oauth2/introspect", &as_client).await.body, inactive);
            // The grant remains.
            let tokens = refresh(app, &client, &tokens).await.assert_status(200).body;
            // Its end is in the list of revocations, under the id in the token.
            let mut feed = Reader::start(app).await;
            let refresh_token = ("token", tokens["refresh_token"].as_str().unwrap());
            let of_grant = form(&[&own[..], &[refresh_token]].concat());
            anonymous.post_form("/oauth2/revoke", &of_grant).await.assert_status(200);
            let entries = feed.read().await;
            assert_eq!(entries[0]["key_id"], verify(app, &tokens).await["key_id"]);
        })
        .await;
}

#[tokio::test]
async fn a_token_has_the_scopes_that_the_person_s_role_permits_when_it_is_issued() {
    with_services()
        .run(async |app| {
            let owner = app.verified_account("owner@example.com").await;
            let ann = app.verified_account("ann@example.com").await;
            app.invite_and_accept(&owner, &ann, "admin").await;
            let client = register(app, &owner).await;
            let tokens = tokens(app, &client, (&ann, &owner.org_id)).await;
            let before = verify(app, &tokens).await;
            assert_eq!(before["scope"], "projects:read members:write");
            app.execute("update users set role = 'member' where role = 'admin'").await;
            let refreshed = refresh(app, &client, &tokens).await.assert_status(200).body;
            let after = verify(app, &refreshed).await;
            assert_eq!(
                (&after["scope"], &after["role"]),
                (&json!("projects:read"), &json!("member"))
            );
            assert_eq!(refreshed["scope"], "projects:read offline_access");
            // The refresh token keeps what was granted.
            let scope = ("scope", "members:write");
            let token = refreshed["refresh_token"].as_str().unwrap();
            let narrowed = [("grant_type", "refresh_token"), ("refresh_token", token), scope];
            let rejected = exchange(app, &client, &narrowed).await.assert_status(400);
            assert_eq!(rejected.body["error"], "invalid_scope");
            app.execute("update users set role = 'admin' where role = 'member'").await;
            let restored = exchange(app, &client, &narrowed).await.assert_status(200).body;
            assert_eq!(verify(app, &restored).await["scope"], "members:write");
        })
        .await;
}

#[tokio::test]
async fn a_token_request_for_services_that_take_different_formats_must_name_one() {
    with_services()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = register(app, &ann).await;
            let both = code(app, &client, (&ann, &ann.org_id), &[MCP, FILES]).await;
            let rejected = exchange(app, &client, &redemption(&both)).await.assert_status(400);
            assert_eq!(rejected.body["error"], "invalid_target");
            let both = code(app, &client, (&ann, &ann.org_id), &[MCP, FILES]).await;
            let named = [redemption(&both), vec![("resource", FILES)]].concat();
            let opaque = exchange(app, &client, &named).await.assert_status(200).body;
            assert!(opaque["access_token"].as_str().unwrap().starts_with("tnt_oauth_"));
            let token = opaque["refresh_token"].as_str().unwrap();
            let refresh = [("grant_type", "refresh_token"), ("refresh_token", token)];
            let rejected = exchange(app, &client, &refresh).await.assert_status(400);
            assert_eq!(rejected.body["error"], "invalid_target");
            // A rejected refresh uses nothing up.
            let named = [&refresh[..], &[("resource", MCP), ("resource", MCP)]].concat();
            let jwt = exchange(app, &client, &named).await.assert_status(200).body;
            assert_eq!(verify(app, &jwt).await["aud"], MCP);
        })
        .await;
}

#[tokio::test]
async fn no_token_is_issued_in_a_suspended_organization_and_the_grant_survives() {
    with_services()
        .run(async |app| {
            let vendor = app.verified_account("vendor@example.com").await;
            let ann = app.verified_account("ann@example.com").await;
            let client = register(app, &vendor).await;
            app.execute("update oauth_clients set visibility = 'public'").await;
            let tokens = tokens(app, &client, (&ann, &ann.org_id)).await;
            app.execute(
                "update organizations set suspended_at = now()
                 where id not in (select organization_id from oauth_clients)",
            )
            .await;
            let rejected = refresh(app, &client, &tokens).await.assert_status(400);
            assert_eq!(rejected.body["error"], "invalid_target");
            app.execute("update organizations set suspended_at = null").await;
            refresh(app, &client, &tokens).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn no_short_lived_token_is_issued_for_a_service_that_takes_jwts() {
    with_settings(&[
        ("OAUTH_RESOURCES", MCP),
        ("OAUTH_JWT_RESOURCES", MCP),
        ("JWT_PRIVATE_KEYS", PRIVATE_KEYS),
    ])
    .run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "key": acme.api_key, "audience": "https://MCP.example.com/" });
        let rejected = app.verifier().post("/v1/verify/token", request).await;
        assert_eq!(rejected.assert_status(400).invalid_fields(), ["audience"]);
        let proxied = app.verifier().with("x-api-key", &acme.api_key);
        let path = format!("/v1/verify/forward?token=1&aud={MCP}");
        proxied.get(&path).await.assert_status(503);
        let other = format!("/v1/verify/forward?token=1&aud={FILES}");
        proxied.get(&other).await.assert_status(200);
    })
    .await;
}

/// Even if its record names this API.
#[tokio::test]
async fn no_endpoint_of_this_server_accepts_a_jwt_access_token() {
    with_services()
        .run(async |app| {
            let fixtures = Fixtures::new(app).await;
            let ann = app.verified_account("jwt@example.com").await;
            let client = register(app, &ann).await;
            let issued = tokens(app, &client, (&ann, &ann.org_id)).await;
            app.execute("update oauth_access_tokens set resources = '{http://127.0.0.1:8080}'")
                .await;
            let token = issued["access_token"].as_str().unwrap().to_owned();
            assert_no_endpoint_accepts(app, &fixtures, std::slice::from_ref(&token)).await;
            let check = json!({ "key": token });
            app.verifier().post("/v1/verify", check).await.assert_status(400);
            let proxied = app.verifier().with("authorization", &format!("Bearer {token}"));
            proxied.get("/v1/verify/forward").await.assert_status(401);
        })
        .await;
}
