//! OAuth's token endpoint, revocation, and what access tokens may do.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use serde_json::json;
use tenantry::model::key_format::KeyFormat;
use uuid::Uuid;

use crate::support::accounts::TestAccount;
use crate::support::app::TestSettings;
use crate::support::client::TestResponse;
use crate::support::oauth::{CHALLENGE, ISSUER, OauthClientSpec, REDIRECT_URI, VERIFIER, form};
use crate::support::{TestApp, with_settings};

const MCP: &str = "https://mcp.example.com";
const SCOPES: &[&str] =
    &["projects:read", "projects:write", "user:read", "usage:read", "offline_access"];

fn with_resource() -> TestSettings {
    with_settings(&[("OAUTH_RESOURCES", MCP)])
}

/// A client, with the secret that it authenticates with.
struct Client {
    public_id: String,
    secret: Option<String>,
}

impl Client {
    /// Inserts a client of the account's organization; `auth_method` as in the database.
    async fn insert(app: &TestApp, owner: &TestAccount, auth_method: &'static str) -> Self {
        let number = app.count("select count(*) from oauth_clients").await;
        let name = ["One", "Two", "Three"][usize::try_from(number).unwrap()];
        let spec = OauthClientSpec { name, auth_method, scopes: SCOPES, ..Default::default() };
        let public_id = spec.insert(app, &owner.org_id).await.client_id;
        let mut client = Self { public_id, secret: None };
        if auth_method != "none" {
            client.secret = Some(client.insert_secret(app).await);
        }
        client
    }

    async fn insert_secret(&self, app: &TestApp) -> String {
        let secret = generate(app, &KeyFormat::oauth_secret());
        sqlx::query(
            "insert into oauth_client_secrets (id, client_id, organization_id, digest, pepper_id,
                                               display_id, created_at)
             select $1, c.id, c.organization_id, $2, $3, 'abcd', now() from oauth_clients c
             where c.client_id = $4",
        )
        .bind(Uuid::now_v7())
        .bind(digest(app, &secret))
        .bind(app.app.peppers.newest_id())
        .bind(&self.public_id)
        .execute(&mut app.connect().await)
        .await
        .unwrap();
        secret
    }

    /// Sends a form to a path, authenticated as a client with a secret in the body or without one.
    async fn post(&self, app: &TestApp, path: &str, parameters: &[(&str, &str)]) -> TestResponse {
        let mut all = vec![("client_id", self.public_id.as_str())];
        all.extend(self.secret.as_deref().map(|secret| ("client_secret", secret)));
        all.extend(parameters);
        app.anonymous().post_form(path, &form(&all)).await
    }

    async fn redeem(&self, app: &TestApp, code: &str) -> TestResponse {
        self.post(app, "/oauth2/token", &redemption(code)).await
    }

    async fn refresh(&self, app: &TestApp, token: &str) -> TestResponse {
        let parameters = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.post(app, "/oauth2/token", &parameters).await
    }
}

fn redemption(code: &str) -> [(&str, &str); 3] {
    [("grant_type", "authorization_code"), ("code", code), ("code_verifier", VERIFIER)]
}

fn generate(app: &TestApp, format: &KeyFormat) -> String {
    let text = format.generate(&*app.app.entropy).expose().to_owned();
    app.seen_secrets.lock().unwrap().push(text.clone());
    text
}

fn digest(app: &TestApp, text: &str) -> Vec<u8> {
    app.app.peppers.digest(text).0.bytes().to_vec()
}

/// What a person granted.
struct Grant {
    id: Uuid,
    code: String,
}

/// Inserts a grant of the account to the client in the account's organization, and a code for these
/// scopes.
async fn grant(
    app: &TestApp,
    client: &Client,
    account: &TestAccount,
    scopes: &str,
    is_offline: bool,
) -> Grant {
    let (id, code) = (Uuid::now_v7(), generate(app, &KeyFormat::oauth_code()));
    let mut db = app.connect().await;
    sqlx::query(
        "insert into oauth_grants (id, account_id, client_id, organization_id, user_id, scopes,
                                   resources, created_at, updated_at)
         select $1, u.account_id, c.id, o.id, u.id, string_to_array($3, ' '), array[$4, $5], now(),
                now()
         from organizations o join users u on u.organization_id = o.id
         join oauth_clients c on c.client_id = $2
         where o.handle = $6 and u.account_id is not null",
    )
    .bind(id)
    .bind(&client.public_id)
    .bind(scopes)
    .bind(ISSUER)
    .bind(MCP)
    .bind(&account.org_id)
    .execute(&mut db)
    .await
    .unwrap();
    sqlx::query(
        "insert into oauth_codes (digest, account_id, grant_id, session_id, redirect_uri, challenge,
                                  scopes, resources, is_offline, created_at, expires_at)
         select $1, g.account_id, g.id, s.id, $2, $3, g.scopes, g.resources, $4, now(),
                now() + interval '60 seconds'
         from oauth_grants g join sessions s on s.account_id = g.account_id
         where g.id = $5 order by s.created_at desc limit 1",
    )
    .bind(digest(app, &code))
    .bind(REDIRECT_URI)
    .bind(CHALLENGE)
    .bind(is_offline)
    .bind(id)
    .execute(&mut db)
    .await
    .unwrap();
    Grant { id, code }
}

/// An account, a public client, what the account granted to it, and the tokens that it got.
async fn issue(
    app: &TestApp,
    scopes: &str,
    is_offline: bool,
) -> (TestAccount, Client, Grant, TestResponse) {
    let ann = app.verified_account("ann@example.com").await;
    let client = Client::insert(app, &ann, "none").await;
    let granted = grant(app, &client, &ann, scopes, is_offline).await;
    let issued = client.redeem(app, &granted.code).await.assert_status(200);
    (ann, client, granted, issued)
}

fn token_of(response: &TestResponse, name: &str) -> String {
    response.body[name].as_str().unwrap_or_else(|| panic!("{name}: {}", response.body)).to_owned()
}

/// The status of a request with the access token to a route of the organization.
async fn use_token(app: &TestApp, token: &str) -> u16 {
    app.bearer(token).get("/me").await.status.as_u16()
}

async fn revoked_reason(app: &TestApp, grant: &Grant) -> Option<String> {
    sqlx::query_scalar("select revoked_reason from oauth_grants where id = $1")
        .bind(grant.id)
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_code_gives_a_token_that_acts_for_its_person_in_one_organization() {
    with_resource()
        .run(async |app| {
            let (ann, client, _, issued) = issue(app, "projects:read user:read", true).await;
            assert_eq!(issued.body["token_type"], "Bearer");
            assert_eq!(issued.body["expires_in"], 900);
            assert_eq!(issued.body["scope"], "projects:read user:read offline_access");
            assert_eq!(issued.body["organization_id"], ann.org_id);
            let token = token_of(&issued, "access_token");
            let api = app.bearer(&token);
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            api.get(&projects).await.assert_status(200);
            api.get("/api/user/me").await.assert_status(200);
            let identity = api.get("/v1/organization/me").await.assert_status(200).body;
            assert_eq!(identity["app"]["client_id"], client.public_id);
            assert!(identity["api_key"].is_null());
            let created = api.post(&projects, json!({ "name": "p" })).await.assert_status(403);
            assert_eq!(created.body["code"], "API_KEY_MISSING_SCOPES");
            // It opens neither keys nor another organization.
            api.get("/me/api-keys").await.assert_status(403);
            let ben = app.verified_account("ben@example.com").await;
            let foreign = format!("/api/user/organizations/{}/projects", ben.org_id);
            api.get(&foreign).await.assert_status(403);
            app.key(&token).get("/me").await.assert_status(401);
            app.app.meter.flush().await.unwrap();
            let used = "select count(*) from oauth_grants where last_used_at is not null";
            assert_eq!(app.count(used).await, 1);
        })
        .await;
}

#[tokio::test]
async fn a_token_with_the_scope_for_writes_can_create_a_project() {
    with_resource()
        .run(async |app| {
            let (ann, _, _, issued) = issue(app, "projects:read projects:write", true).await;
            let api = app.bearer(&token_of(&issued, "access_token"));
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            api.post(&projects, json!({ "name": "p" })).await.assert_status(201);
        })
        .await;
}

/// Statements after which a token is not valid any more, each with the one that undoes it.
const ENDS: [(&str, &str); 8] = [
    (
        "update oauth_grants set revoked_at = now(), revoked_reason = 'person'",
        "update oauth_grants set revoked_at = null, revoked_reason = null",
    ),
    (
        "update oauth_access_tokens set revoked_at = now()",
        "update oauth_access_tokens set revoked_at = null",
    ),
    (
        "update oauth_access_tokens set expires_at = now()",
        "update oauth_access_tokens set expires_at = now() + interval '1 hour'",
    ),
    (
        "update oauth_access_tokens set resources = '{https://mcp.example.com}'",
        "update oauth_access_tokens set resources = '{http://127.0.0.1:8080}'",
    ),
    ("update oauth_clients set disabled_at = now()", "update oauth_clients set disabled_at = null"),
    ("update accounts set is_active = false", "update accounts set is_active = true"),
    ("update users set removed_at = now()", "update users set removed_at = null"),
    ("update sessions set revoked_at = now()", "update sessions set revoked_at = null"),
];

#[tokio::test]
async fn a_token_ends_on_every_server_at_once_with_its_grant_client_account_or_session() {
    with_resource()
        .run(async |app| {
            let (_, _, _, issued) = issue(app, "usage:read", false).await;
            assert_eq!(issued.body["expires_in"], 3_600);
            assert!(issued.body.get("refresh_token").is_none());
            let token = token_of(&issued, "access_token");
            let replica = app.replica();
            for (end, undo) in ENDS {
                assert_eq!(use_token(app, &token).await, 200, "before {end}");
                assert_eq!(use_token(&replica, &token).await, 200, "before {end}");
                app.execute(end).await;
                assert_eq!(use_token(app, &token).await, 401, "{end}");
                assert_eq!(use_token(&replica, &token).await, 401, "{end}");
                app.execute(undo).await;
            }
            app.execute("update organizations set suspended_at = now() where handle <> 'system'")
                .await;
            // The client's own organization, here the same one, is suspended as well.
            assert_eq!(use_token(app, &token).await, 401);
        })
        .await;
}

#[tokio::test]
async fn of_20_redemptions_of_a_code_one_succeeds_and_the_others_end_what_it_gave() {
    with_resource()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = Client::insert(app, &ann, "client_secret_post").await;
            let granted = grant(app, &client, &ann, "usage:read", true).await;
            let redeemed = join_all((0..20).map(|_| client.redeem(app, &granted.code))).await;
            let (issued, rejected): (Vec<_>, Vec<_>) =
                redeemed.into_iter().partition(|response| response.status == 200);
            assert_eq!((issued.len(), rejected.len()), (1, 19));
            for response in rejected {
                assert_eq!(response.assert_status(400).body["error"], "invalid_grant");
            }
            assert_eq!(use_token(app, &token_of(&issued[0], "access_token")).await, 401);
            let refresh_token = token_of(&issued[0], "refresh_token");
            client.refresh(app, &refresh_token).await.assert_status(400);
            assert_eq!(revoked_reason(app, &granted).await.as_deref(), Some("code_reused"));
            let recorded = "select count(*) from audit_events
                            where event_type = 'app_grant.code_reused'";
            assert_eq!(app.count(recorded).await, 1);
        })
        .await;
}

#[tokio::test]
async fn of_20_refreshes_at_once_each_gets_the_same_successor() {
    with_resource()
        .run(async |app| {
            let (_, client, granted, issued) = issue(app, "usage:read", true).await;
            let first = token_of(&issued, "refresh_token");
            let refreshed = join_all((0..20).map(|_| client.refresh(app, &first))).await;
            let successors: Vec<_> =
                refreshed.iter().map(|response| token_of(response, "refresh_token")).collect();
            assert!(successors.iter().all(|it| *it == successors[0] && *it != first));
            assert_eq!(app.count("select count(*) from oauth_refresh_tokens").await, 2);
            // Revoking ends every access token of every response.
            let revoke = [("token", &*successors[0])];
            client.post(app, "/oauth2/revoke", &revoke).await.assert_status(200);
            for response in &refreshed {
                assert_eq!(use_token(app, &token_of(response, "access_token")).await, 401);
            }
            client.refresh(app, &successors[0]).await.assert_status(400);
            assert_eq!(revoked_reason(app, &granted).await.as_deref(), Some("client"));
        })
        .await;
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_the_grant() {
    with_resource()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = Client::insert(app, &ann, "none").await;
            for used_late in [false, true] {
                let granted = grant(app, &client, &ann, "usage:read", true).await;
                let issued = client.redeem(app, &granted.code).await.assert_status(200);
                let first = token_of(&issued, "refresh_token");
                let refreshed = client.refresh(app, &first).await.assert_status(200);
                let access_token = token_of(&refreshed, "access_token");
                if used_late {
                    app.execute(
                        "update oauth_refresh_tokens set used_at = now() - interval '61 s'",
                    )
                    .await;
                } else {
                    let second = token_of(&refreshed, "refresh_token");
                    client.refresh(app, &second).await.assert_status(200);
                }
                assert_eq!(use_token(app, &access_token).await, 200);
                let reused = client.refresh(app, &first).await.assert_status(400);
                assert_eq!(reused.body["error"], "invalid_grant");
                assert_eq!(use_token(app, &access_token).await, 401);
                let reason = revoked_reason(app, &granted).await;
                assert_eq!(reason.as_deref(), Some("refresh_token_reused"));
            }
        })
        .await;
}

#[tokio::test]
async fn a_refresh_never_widens_and_needs_the_membership() {
    with_resource()
        .run(async |app| {
            let (_, client, _, issued) = issue(app, "usage:read projects:read", true).await;
            let token = token_of(&issued, "refresh_token");
            let refresh = |scope: &'static str, resource: &'static str| {
                let client = &client;
                let token = token.clone();
                async move {
                    let parameters = [
                        ("grant_type", "refresh_token"),
                        ("refresh_token", &*token),
                        ("scope", scope),
                        ("resource", resource),
                    ];
                    client.post(app, "/oauth2/token", &parameters).await
                }
            };
            for (scope, resource, error) in [
                ("projects:write", ISSUER, "invalid_scope"),
                ("usage:read *", ISSUER, "invalid_scope"),
                ("usage:read", "https://other.example.com", "invalid_target"),
                ("usage:read", "not a uri", "invalid_target"),
            ] {
                let rejected = refresh(scope, resource).await.assert_status(400);
                assert_eq!(rejected.body["error"], error, "{scope} {resource}");
            }
            let narrowed = refresh("usage:read", MCP).await.assert_status(200);
            assert_eq!(narrowed.body["scope"], "usage:read offline_access");
            // The access token is for the other service alone.
            assert_eq!(use_token(app, &token_of(&narrowed, "access_token")).await, 401);
            let full = client.refresh(app, &token).await.assert_status(200);
            assert_eq!(full.body["scope"], "usage:read projects:read offline_access");
            app.execute("update users set removed_at = now()").await;
            let ended = client.refresh(app, &token_of(&full, "refresh_token")).await;
            assert_eq!(ended.assert_status(400).body["error"], "invalid_grant");
        })
        .await;
}

#[tokio::test]
async fn a_code_is_rejected_without_its_verifier_redirect_uri_client_session_or_resource() {
    with_resource()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = Client::insert(app, &ann, "none").await;
            let other = Client::insert(app, &ann, "none").await;
            let long = "a".repeat(129);
            let wrong = "x".repeat(43);
            for (change, error) in [
                (("code_verifier", ""), "invalid_request"),
                (("code_verifier", &wrong[1..]), "invalid_request"),
                (("code_verifier", &long), "invalid_request"),
                (("code_verifier", &wrong), "invalid_grant"),
                (("redirect_uri", "https://app.example.com/callback/"), "invalid_grant"),
                (("resource", "https://other.example.com"), "invalid_target"),
                (("client_id", &other.public_id), "invalid_grant"),
                (("code", "tnt_oauth_code_x"), "invalid_grant"),
                (("grant_type", "password"), "unsupported_grant_type"),
                (("grant_type", "client_credentials"), "unsupported_grant_type"),
                (("grant_type", ""), "invalid_request"),
            ] {
                let granted = grant(app, &client, &ann, "usage:read", true).await;
                let mut parameters = redemption(&granted.code).to_vec();
                parameters.push(("client_id", &client.public_id));
                parameters.retain(|(name, _)| *name != change.0);
                parameters.push(change);
                let rejected = app.anonymous().post_form("/oauth2/token", &form(&parameters)).await;
                assert_eq!(rejected.assert_status(400).body["error"], error, "{change:?}");
                app.execute("delete from oauth_grants").await;
            }
            let granted = grant(app, &client, &ann, "usage:read", true).await;
            app.execute("update sessions set revoked_at = now()").await;
            client.redeem(app, &granted.code).await.assert_status(400);
        })
        .await;
}

#[tokio::test]
async fn a_client_authenticates_by_the_method_that_it_is_registered_with_and_no_other() {
    with_resource()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let basic = Client::insert(app, &ann, "client_secret_basic").await;
            let post = Client::insert(app, &ann, "client_secret_post").await;
            let public = Client::insert(app, &ann, "none").await;
            let token = [("token", "tnt_oauth_x")];
            let header = |client: &Client, secret: &str| {
                format!(
                    "bAsIc {}",
                    BASE64_STANDARD.encode(format!("{}:{secret}", client.public_id))
                )
            };
            let send = async |authorization: Option<String>, parameters: &[(&str, &str)]| {
                let mut client = app.anonymous();
                if let Some(value) = &authorization {
                    client = client.with("authorization", value);
                }
                client.post_form("/oauth2/revoke", &form(parameters)).await
            };
            let secret = |client: &Client| client.secret.clone().unwrap();
            send(Some(header(&basic, &secret(&basic))), &token).await.assert_status(200);
            post.post(app, "/oauth2/revoke", &token).await.assert_status(200);
            public.post(app, "/oauth2/revoke", &token).await.assert_status(200);
            for (authorization, client, in_body) in [
                (None, &basic, Some(secret(&basic))),
                (None, &basic, None),
                (Some(header(&post, &secret(&post))), &post, None),
                (None, &post, None),
                (None, &post, Some(secret(&basic))),
                (None, &public, Some(secret(&post))),
                (Some(header(&basic, "wrong")), &basic, None),
                (Some("Basic %%%".to_owned()), &basic, None),
            ] {
                let mut parameters = vec![token[0], ("client_id", &*client.public_id)];
                parameters.extend(in_body.as_deref().map(|secret| ("client_secret", secret)));
                let rejected = send(authorization.clone(), &parameters).await.assert_status(401);
                assert_eq!(rejected.body["error"], "invalid_client", "{authorization:?}");
                assert!(rejected.headers.contains_key("www-authenticate"));
            }
            let two = [token[0], ("client_secret", &*secret(&basic))];
            let rejected = send(Some(header(&basic, &secret(&basic))), &two).await;
            assert_eq!(rejected.assert_status(400).body["error"], "invalid_request");
            for unknown in ["app_unknown", "\0", "app_\u{ff}", &"a".repeat(3_000)] {
                send(None, &[token[0], ("client_id", unknown)]).await.assert_status(401);
                let unknown = BASE64_STANDARD.encode(format!("{unknown}:\0"));
                send(Some(format!("Basic {unknown}")), &token).await.assert_status(401);
            }
            // A second secret works beside the first, until it expires.
            let second = basic.insert_secret(app).await;
            send(Some(header(&basic, &second)), &token).await.assert_status(200);
            app.execute("update oauth_client_secrets set expires_at = now()").await;
            send(Some(header(&basic, &second)), &token).await.assert_status(401);
        })
        .await;
}

#[tokio::test]
async fn another_client_can_revoke_nothing() {
    with_resource()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = Client::insert(app, &ann, "none").await;
            let other = Client::insert(app, &ann, "none").await;
            let granted = grant(app, &client, &ann, "usage:read", true).await;
            let issued = client.redeem(app, &granted.code).await.assert_status(200);
            let access_token = token_of(&issued, "access_token");
            for name in ["access_token", "refresh_token"] {
                let token = token_of(&issued, name);
                other.post(app, "/oauth2/revoke", &[("token", &token)]).await.assert_status(200);
                assert_eq!(use_token(app, &access_token).await, 200);
            }
            client
                .post(app, "/oauth2/revoke", &[("token", &access_token)])
                .await
                .assert_status(200);
            assert_eq!(use_token(app, &access_token).await, 401);
            // The grant goes on.
            let refresh_token = token_of(&issued, "refresh_token");
            client.refresh(app, &refresh_token).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn with_oauth_off_its_routes_do_not_exist_and_its_tokens_are_rejected() {
    with_settings(&[("OAUTH", "off")])
        .run(async |app| {
            for path in ["/oauth2/token", "/oauth2/revoke"] {
                let response =
                    app.anonymous().post_form(path, "client_id=a").await.assert_status(404);
                assert_eq!(
                    response.body,
                    json!({ "error": "not_found",
                "error_description": "No route matches this path" })
                );
            }
            let token = generate(app, &KeyFormat::oauth_token());
            app.bearer(&token).get("/me").await.assert_status(401);
        })
        .await;
}

#[tokio::test]
async fn expired_codes_and_tokens_are_deleted_and_used_refresh_tokens_are_kept() {
    with_resource()
        .run(async |app| {
            let (_, client, _, issued) = issue(app, "usage:read", true).await;
            client.refresh(app, &token_of(&issued, "refresh_token")).await.assert_status(200);
            app.execute("update oauth_codes set expires_at = now() - interval '25 hours'").await;
            app.execute("update oauth_access_tokens set expires_at = now() - interval '25 hours'")
                .await;
            tenantry::domain::retention::sweep(&app.app).await;
            assert_eq!(app.count("select count(*) from oauth_codes").await, 0);
            assert_eq!(app.count("select count(*) from oauth_access_tokens").await, 0);
            assert_eq!(app.count("select count(*) from oauth_refresh_tokens").await, 2);
            app.execute("update oauth_refresh_tokens set expires_at = now()").await;
            tenantry::domain::retention::sweep(&app.app).await;
            assert_eq!(app.count("select count(*) from oauth_refresh_tokens").await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_client_finds_the_authorization_server_from_a_rejected_request() {
    with_resource()
        .run(async |app| {
            let resource = format!("{ISSUER}/.well-known/oauth-protected-resource");
            for path in ["/me", "/v1/organization/me"] {
                let rejected = app.anonymous().get(path).await.assert_status(401);
                let challenge =
                    format!(r#"Bearer realm="tenantry", resource_metadata="{resource}""#);
                assert_eq!(rejected.header("www-authenticate"), challenge, "{path}");
                let rejected = app.bearer("x").get(path).await.assert_status(401);
                let challenge = format!(r#"{challenge}, error="invalid_token""#);
                assert_eq!(rejected.header("www-authenticate"), challenge, "{path}");
            }
            // The challenge names the route's scope if an app may request it.
            let rejected = app.bearer("x").get("/api/user/me").await.assert_status(401);
            let challenge = rejected.header("www-authenticate");
            assert!(challenge.ends_with(r#", error="invalid_token", scope="user:read""#));
            let ann = app.verified_account("ann@example.com").await;
            for (resource, scope) in [("projects", r#", scope="projects:read""#), ("apps", "")] {
                let path = format!("/api/user/organizations/{}/{resource}", ann.org_id);
                let rejected = app.anonymous().get(&path).await.assert_status(401);
                let challenge = rejected.header("www-authenticate");
                assert!(challenge.ends_with(&format!(r#"-resource"{scope}"#)), "{challenge}");
            }
            let evil = app.anonymous().with("host", "evil.example");
            let evil = evil.with("x-forwarded-host", "evil.example");
            for document in ["oauth-protected-resource", "oauth-authorization-server"] {
                let path = format!("/.well-known/{document}");
                let own = app.anonymous().get(&path).await.assert_status(200);
                assert_eq!(evil.get(&path).await.text, own.text, "{document}");
            }
            let resource = app.anonymous().get("/.well-known/oauth-protected-resource").await;
            let resource = resource.assert_status(200);
            assert_eq!(resource.header("cache-control"), "public, max-age=300");
            assert_eq!(resource.body["resource"], ISSUER);
            assert_eq!(resource.body["authorization_servers"], json!([ISSUER]));
            let server = app.anonymous().get("/.well-known/oauth-authorization-server").await;
            let server = server.assert_status(200).body;
            assert_eq!(server["issuer"], ISSUER);
            assert_eq!(server["token_endpoint"], format!("{ISSUER}/oauth2/token"));
            assert_eq!(server["code_challenge_methods_supported"], json!(["S256"]));
            let scopes = server["scopes_supported"].as_array().unwrap();
            assert!(scopes.contains(&json!("offline_access")));
            assert!(!scopes.iter().any(|scope| scope.as_str().unwrap().starts_with("api-keys")));
            let supported = resource.body["scopes_supported"].as_array().unwrap();
            assert!(!supported.contains(&json!("offline_access")));
        })
        .await;
}

#[tokio::test]
async fn a_missing_scope_is_named_in_the_challenge() {
    with_resource()
        .run(async |app| {
            let (ann, _, _, issued) = issue(app, "usage:read", true).await;
            let api = app.bearer(&token_of(&issued, "access_token"));
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            let rejected = api.get(&projects).await.assert_status(403);
            let challenge = rejected.header("www-authenticate").to_owned();
            let expected = r#", error="insufficient_scope", scope="projects:read""#;
            assert!(challenge.ends_with(expected), "{challenge}");
        })
        .await;
}

#[tokio::test]
async fn scripts_of_every_origin_may_exchange_codes_but_send_no_cookie() {
    with_resource()
        .run(async |app| {
            let paths = [
                "/oauth2/token",
                "/oauth2/revoke",
                "/oauth2/userinfo",
                "/.well-known/oauth-authorization-server",
                "/.well-known/oauth-protected-resource",
                "/.well-known/openid-configuration",
                "/.well-known/jwks.json",
            ];
            for path in paths {
                let preflight = app
                    .anonymous()
                    .with("origin", "https://app.example.com")
                    .with("access-control-request-method", "POST")
                    .with("access-control-request-headers", "authorization,mcp-protocol-version");
                let preflight = preflight.send("OPTIONS", path, "").await;
                assert_eq!(preflight.header("access-control-allow-origin"), "*", "{path}");
                let allowed = preflight.header("access-control-allow-headers");
                assert_eq!(allowed, "authorization,mcp-protocol-version", "{path}");
                assert!(!preflight.headers.contains_key("access-control-allow-credentials"));
            }
            let response = app.anonymous().with("origin", "https://app.example.com");
            let response = response.get("/.well-known/oauth-authorization-server").await;
            assert_eq!(response.header("access-control-allow-origin"), "*");
        })
        .await;
}
