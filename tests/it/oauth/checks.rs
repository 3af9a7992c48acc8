//! OAuth access tokens at the operator's own services: checks by verifiers, introspection, and the
//! feed of revocations.

use serde_json::{Value, json};
use tenantry::jobs::run_due;

use super::flow::{self, App};
use crate::support::accounts::TestAccount;
use crate::support::app::{PRIVATE_KEYS, TestSettings};
use crate::support::client::TestResponse;
use crate::support::oauth::{Browser, ISSUER, VERIFIER, form};
use crate::support::rate_limits::with_limits;
use crate::support::{TestApp, run, with_settings};
use crate::verification::introspection::basic;
use crate::verification::revocations::Reader;

const SHARED: &str = "https://shared.example.com";
const MCP: &str = "https://mcp.example.com";
const INACTIVE: &str = r#"{"active":false}"#;

/// The verifier of the tests stands for one service; another service has no verifier of its own.
fn with_services() -> TestSettings {
    with_settings(&[(
        "OAUTH_RESOURCES",
        "https://shared.example.com,gateway=https://mcp.example.com",
    )])
}

fn with_shared_service() -> TestSettings {
    with_settings(&[("OAUTH_RESOURCES", SHARED)])
}

/// An access token of an app that the person granted these scopes for these services, in this
/// organization.
async fn access_token(
    app: &TestApp,
    client: &App,
    (person, org_id): (&TestAccount, &str),
    (scope, resources): (&str, &[&str]),
) -> String {
    let mut path = client.0.path(&[("scope", scope), ("prompt", "consent")]);
    for resource in resources {
        path = format!("{path}&{}", form(&[("resource", resource)]));
    }
    let mut browser = Browser::signed_in(app, &person.cookie);
    let code = browser.grant(&path, org_id).await.remove("code").unwrap();
    let redemption =
        [("grant_type", "authorization_code"), ("code", &*code), ("code_verifier", VERIFIER)];
    let issued = flow::exchange(app, client, &redemption).await.assert_status(200);
    issued.body["access_token"].as_str().unwrap().to_owned()
}

async fn verify(app: &TestApp, token: &str, scopes: &[&str]) -> Value {
    let request = json!({ "key": token, "scopes": [scopes] });
    app.verifier().post("/v1/verify", request).await.assert_status(200).body
}

async fn code_of(app: &TestApp, token: &str) -> String {
    verify(app, token, &["projects:read"]).await["code"].as_str().unwrap().to_owned()
}

async fn introspect(app: &TestApp, token: &str) -> TestResponse {
    let body = form(&[("token", token)]);
    app.verifier().post_form("/oauth2/introspect", &body).await.assert_status(200)
}

async fn introspect_as(app: &TestApp, client: &App, token: &str) -> TestResponse {
    let (client_id, secret) = (client.0.client_id.as_str(), client.1.as_str());
    let parameters = [("client_id", client_id), ("client_secret", secret), ("token", token)];
    app.anonymous().post_form("/oauth2/introspect", &form(&parameters)).await
}

#[tokio::test]
async fn a_verdict_names_the_account_the_organization_and_the_app_of_a_token() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = flow::register(app, &ann).await;
        let granted = ("projects:read offline_access", &[][..]);
        let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
        let verdict = verify(app, &token, &["projects:read"]).await;
        assert_eq!(
            (&verdict["code"], &verdict["credential"]),
            (&json!("valid"), &json!("oauth_token"))
        );
        assert_eq!(verdict["organization"]["id"], ann.org_id);
        assert_eq!(verdict["account"], json!({ "id": ann.id, "email": "ann@example.com" }));
        assert_eq!(verdict["key"]["name"], "Planner");
        assert_eq!(verdict["key"]["prefix"], "tnt_oauth_");
        assert_eq!(verdict["key"]["scopes"], json!(["projects:read"]));
        assert!(verdict["key"]["expires_at"].is_string());
        assert!(verdict["quota"]["used"].as_u64() > Some(0));
        let missing = verify(app, &token, &["projects:write"]).await;
        assert_eq!(missing["code"], "scope_missing");
        assert_eq!(missing["missing_scopes"], json!(["projects:write"]));
        // The grant was used, and the rejection is in the organization's list.
        app.app.meter.flush().await.unwrap();
        let used = "select count(*) from oauth_grants where last_used_at is not null";
        assert_eq!(app.count(used).await, 1);
        app.app.rejections.flush().await.unwrap();
        let rejected = "select count(*) from denials where code = 'scope_missing'
                        and key_display_id is null";
        assert_eq!(app.count(rejected).await, 1);
        let active = introspect(app, &token).await.body;
        assert!(active["exp"].as_i64() > active["iat"].as_i64());
        let expected = json!({
            "active": true, "scope": "projects:read", "client_id": client.0.client_id,
            "sub": ann.id, "organization_id": ann.org_id, "role": "owner", "aud": [ISSUER],
            "iss": ISSUER, "token_type": "Bearer", "exp": active["exp"], "iat": active["iat"],
        });
        assert_eq!(active, expected);
    })
    .await;
}

/// Statements after which a verifier gets another code, each with the one that undoes it.
const ENDS: [(&str, &str, &str); 11] = [
    (
        "update oauth_grants set revoked_at = now(), revoked_reason = 'person'",
        "update oauth_grants set revoked_at = null, revoked_reason = null",
        "key_revoked",
    ),
    (
        "update oauth_access_tokens set revoked_at = now()",
        "update oauth_access_tokens set revoked_at = null",
        "key_revoked",
    ),
    (
        "update oauth_access_tokens set expires_at = now()",
        "update oauth_access_tokens set expires_at = now() + interval '1 hour'",
        "key_expired",
    ),
    (
        "update oauth_access_tokens set resources = '{https://other.example.com}'",
        "update oauth_access_tokens set resources = '{http://127.0.0.1:8080}'",
        "key_unknown",
    ),
    (
        "update oauth_clients set disabled_at = now()",
        "update oauth_clients set disabled_at = null",
        "key_disabled",
    ),
    (
        "update accounts set is_active = false",
        "update accounts set is_active = true",
        "owner_disabled",
    ),
    ("update users set removed_at = now()", "update users set removed_at = null", "owner_disabled"),
    (
        "update sessions set revoked_at = now()",
        "update sessions set revoked_at = null",
        "key_revoked",
    ),
    (
        "update sessions set expires_at = now()",
        "update sessions set expires_at = now() + interval '1 day'",
        "key_expired",
    ),
    (
        "update organizations set suspended_at = now() where name <> 'vendor'",
        "update organizations set suspended_at = null",
        "organization_suspended",
    ),
    (
        "update organizations set suspended_at = now()
         where id in (select organization_id from oauth_clients)",
        "update organizations set suspended_at = null",
        "key_disabled",
    ),
];

#[tokio::test]
async fn checks_and_introspection_on_every_server_reject_a_token_as_soon_as_it_ends() {
    run(async |app| {
        let vendor = app.verified_account("vendor@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        app.execute(
            "update organizations set name = 'vendor'
             where id = (select home_organization_id from accounts where email like 'vendor%')",
        )
        .await;
        let client = flow::register(app, &vendor).await;
        app.execute("update oauth_clients set visibility = 'public'").await;
        let granted = ("projects:read", &[][..]);
        let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
        let servers = [app.replica(), app.replica()];
        for (end, undo, code) in ENDS {
            for server in &servers {
                assert_eq!(code_of(server, &token).await, "valid", "before {end}");
                assert_eq!(introspect(server, &token).await.body["active"], true, "before {end}");
            }
            app.execute(end).await;
            for server in &servers {
                assert_eq!(code_of(server, &token).await, code, "{end}");
                assert_eq!(introspect(server, &token).await.text, INACTIVE, "{end}");
            }
            app.execute(undo).await;
        }
        app.execute("update oauth_access_tokens set scopes = '{}'").await;
        assert_eq!(code_of(app, &token).await, "scope_missing");
    })
    .await;
}

#[tokio::test]
async fn a_lower_role_narrows_what_a_token_may_do_at_once() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        app.invite_and_accept(&owner, &ann, "admin").await;
        let client = flow::register(app, &owner).await;
        let token =
            access_token(app, &client, (&ann, &owner.org_id), ("projects:read", &[][..])).await;
        // As an operator might have listed it in `OAUTH_SCOPES`.
        app.execute("update oauth_access_tokens set scopes = '{members:write}'").await;
        assert_eq!(verify(app, &token, &["members:write"]).await["code"], "valid");
        app.execute("update users set role = 'member' where role = 'admin'").await;
        assert_eq!(verify(app, &token, &["members:write"]).await["code"], "scope_missing");
        assert_eq!(introspect(app, &token).await.body["role"], "member");
    })
    .await;
}

#[tokio::test]
async fn a_verifier_that_stands_for_a_service_accepts_only_tokens_for_that_service() {
    with_services()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = flow::register(app, &ann).await;
            for (resources, accepts) in [
                (&[][..], false),
                (&[ISSUER], false),
                (&[SHARED], false),
                (&[MCP], true),
                (&[SHARED, MCP], true),
            ] {
                let granted = ("projects:read", resources);
                let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
                let expected = if accepts { "valid" } else { "key_unknown" };
                assert_eq!(code_of(app, &token).await, expected, "{resources:?}");
                let active = introspect(app, &token).await.body["active"] == true;
                assert_eq!(active, accepts, "{resources:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_verifier_without_a_service_accepts_tokens_for_this_api_and_shared_services() {
    with_shared_service()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = flow::register(app, &ann).await;
            for resources in [&[][..], &[ISSUER], &[SHARED]] {
                let granted = ("projects:read", resources);
                let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
                assert_eq!(code_of(app, &token).await, "valid", "{resources:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_token_about_an_account_alone_passes_no_check_and_is_active_at_introspection() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = flow::register(app, &ann).await;
        let granted = ("projects:read", &[][..]);
        let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
        app.execute("update oauth_grants set organization_id = null, user_id = null").await;
        let verdict = verify(app, &token, &["projects:read"]).await;
        assert_eq!(verdict["code"], "key_unknown");
        assert!(verdict["key"].is_null() && verdict["account"].is_null());
        let active = introspect(app, &token).await.body;
        assert_eq!((&active["active"], &active["sub"]), (&json!(true), &json!(ann.id)));
        assert!(active.get("organization_id").is_none() && active.get("role").is_none());
        // A private app is for members of its organization.
        app.execute("update users set removed_at = now()").await;
        assert_eq!(introspect(app, &token).await.text, INACTIVE);
    })
    .await;
}

#[tokio::test]
async fn a_client_introspects_its_own_access_tokens_and_nothing_else() {
    with_services()
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = flow::register(app, &ann).await;
            app.execute("update oauth_clients set name = 'First'").await;
            let other = flow::register(app, &ann).await;
            let granted = ("projects:read offline_access", &[MCP][..]);
            let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
            let own = introspect_as(app, &client, &token).await.assert_status(200);
            assert_eq!(own.header("cache-control"), "no-store");
            assert_eq!((&own.body["active"], &own.body["aud"]), (&json!(true), &json!([MCP])));
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let request = json!({ "name": "t", "scopes": ["*"] });
            let (personal, _) = app.create_token(&ann.cookie, request).await;
            let foreign = introspect_as(app, &other, &token).await.assert_status(200);
            assert_eq!(foreign.text, INACTIVE);
            for not_a_token in [&*key, &*personal, &*ann.cookie, &*ann.token, "x", &client.1] {
                let answer = introspect_as(app, &client, not_a_token).await.assert_status(200);
                assert_eq!(answer.text, INACTIVE, "{not_a_token}");
            }
            app.execute("update oauth_access_tokens set revoked_at = now()").await;
            let ended = introspect_as(app, &client, &token).await.assert_status(200);
            assert_eq!(ended.text, INACTIVE);
        })
        .await;
}

#[tokio::test]
async fn introspection_by_a_client_is_rate_limited_and_checks_by_verifiers_continue() {
    with_limits(r#"{"account":{"quota":3,"window_s":60}}"#)
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = flow::register(app, &ann).await;
            let granted = ("projects:read", &[][..]);
            let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
            for _ in 0..2 {
                let own = introspect_as(app, &client, &token).await.assert_status(200);
                assert_eq!(own.body["active"], true);
            }
            introspect_as(app, &client, &token).await.assert_error(429, "slow_down");
            assert_eq!(code_of(app, &token).await, "valid");
        })
        .await;
}

/// A verifier must not turn a token for its service into one for another (RFC 8707).
#[tokio::test]
async fn a_short_lived_token_is_only_for_services_that_the_oauth_token_is_for() {
    let services = "gateway=https://mcp.example.com,https://shared.example.com";
    with_settings(&[("OAUTH_RESOURCES", services), ("JWT_PRIVATE_KEYS", PRIVATE_KEYS)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = flow::register(app, &ann).await;
            for (resources, audience, is_for) in [
                (&[MCP][..], MCP, true),
                (&[MCP], "HTTPS://MCP.example.com/", true),
                (&[MCP], SHARED, false),
                (&[MCP], ISSUER, false),
                (&[MCP], "search", false),
                (&[MCP, SHARED], SHARED, true),
                (&[MCP, ISSUER], "search", true),
            ] {
                let granted = ("projects:read", resources);
                let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
                let request = json!({ "key": token, "audience": audience });
                let issued = app.verifier().post("/v1/verify/token", request).await;
                if is_for {
                    assert!(issued.assert_status(200).body["token"].is_string(), "{audience}");
                } else {
                    issued.assert_error(400, "validation_error");
                }
                let path = format!("/v1/verify/forward?token=1&aud={audience}");
                let proxied = app.verifier().with("authorization", &format!("Bearer {token}"));
                let passed = proxied.get(&path).await.assert_status(200);
                assert_eq!(passed.header("x-tenantry-token") != "-", is_for, "{audience}");
            }
        })
        .await;
}

#[tokio::test]
async fn only_an_authenticated_client_or_verifier_may_introspect() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = flow::register(app, &ann).await;
        let granted = ("projects:read", &[][..]);
        let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
        let wrong = (client.0.clone(), "wrong".to_owned());
        let rejected = introspect_as(app, &wrong, &token).await.assert_status(401);
        assert_eq!(rejected.body["error"], "invalid_client");
        let form = form(&[("token", &token)]);
        app.anonymous().post_form("/oauth2/introspect", &form).await.assert_status(401);
        let basic = basic(app, &format!("{}:{}", client.0.client_id, client.1));
        // The client is registered to authenticate in the body.
        basic.post_form("/oauth2/introspect", &form).await.assert_status(401);
        app.execute("update oauth_clients set auth_method = 'client_secret_basic'").await;
        let active = basic.post_form("/oauth2/introspect", &form).await.assert_status(200);
        assert_eq!(active.body["active"], true);
        basic.post_form("/oauth2/introspect", "").await.assert_status(400);
    })
    .await;
}

#[tokio::test]
async fn what_ends_or_narrows_a_grant_or_one_of_its_tokens_is_in_the_feed() {
    run(async |app| {
        let vendor = app.verified_account("vendor@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        let client = flow::register(app, &vendor).await;
        app.execute("update oauth_clients set visibility = 'public'").await;
        let granted = ("projects:read projects:write", &[][..]);
        let token = access_token(app, &client, (&ann, &ann.org_id), granted).await;
        let verdict = verify(app, &token, &["projects:read"]).await;
        let id = verdict["key"]["id"].as_str().unwrap();
        let mut reader = Reader::start(app).await;
        for (change, event) in [
            ("update oauth_access_tokens set revoked_at = now()", "key.narrowed"),
            ("update oauth_access_tokens set revoked_at = null", ""),
            ("update sessions set revoked_at = now()", "key.narrowed"),
            ("update sessions set revoked_at = null", ""),
            ("update sessions set expires_at = expires_at + interval '1 hour'", ""),
            ("update oauth_grants set scopes = '{projects:read}'", "key.narrowed"),
            ("update oauth_grants set scopes = '{projects:read,usage:read}'", ""),
            ("update oauth_grants set last_used_at = now()", ""),
            ("update accounts set is_active = false", "key.owner_disabled"),
            ("update accounts set is_active = true", ""),
            ("update users set role = 'member'", "key.narrowed"),
            ("update users set role = 'owner'", ""),
            ("update users set removed_at = now()", "key.owner_disabled"),
            ("update users set removed_at = null", ""),
            ("update oauth_clients set disabled_at = now()", "key.disabled"),
            ("update oauth_clients set disabled_at = null", ""),
            (
                "update organizations set suspended_at = now()
                 where id in (select organization_id from oauth_clients)",
                "key.disabled",
            ),
            ("update organizations set suspended_at = null", ""),
            (
                "update oauth_grants set revoked_at = now(), revoked_reason = 'person'",
                "key.revoked",
            ),
        ] {
            app.execute(change).await;
            let entries = reader.sorted().await.into_iter().filter(|it| it.contains(id));
            let expected = (!event.is_empty()).then(|| format!("{event} {} {id}", ann.org_id));
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(entries.collect::<Vec<_>>(), expected, "{change}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_reported_as_leaked_is_revoked_and_the_grant_stays() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = flow::register(app, &ann).await;
        let tokens = flow::grant(app, &client, (&ann, &ann.org_id)).await;
        let token = tokens["access_token"].as_str().unwrap();
        assert_eq!(code_of(app, token).await, "valid");
        let report = json!({ "key": token });
        app.anonymous().post("/v1/leaks", report).await.assert_status(202);
        run_due(&app.app).await.unwrap();
        assert_eq!(code_of(app, token).await, "key_revoked");
        let recorded = "select count(*) from audit_events where event_type = 'KEY_LEAKED'
                        and detail ->> 'credential' = 'oauth_token'";
        assert_eq!(app.count(recorded).await, 1);
        let refreshed = flow::refresh(app, &client, &tokens).await.assert_status(200);
        let next = refreshed.body["access_token"].as_str().unwrap();
        assert_eq!(code_of(app, next).await, "valid");
    })
    .await;
}
