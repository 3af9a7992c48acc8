//! Clients register themselves (RFC 7591, RFC 7592): only while the operator lets them, as public
//! unverified clients, and in limited numbers.

use serde_json::{Value, json};
use tenantry::domain::retention::sweep;

use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::oauth::{Browser, ISSUER, OauthClient, REDIRECT_URI, VERIFIER, form};
use crate::support::rate_limits::assert_retry_after;
use crate::support::{TestApp, run, with_settings};

const REGISTER: &str = "/oauth2/register";
/// Counts the clients that registered themselves.
const REGISTERED: &str = "select count(*) from oauth_clients where kind = 'dynamic'";

/// A client that registered itself.
struct Registered {
    client: OauthClient,
    path: String,
    token: String,
}

fn request() -> Value {
    json!({ "client_name": "Planner", "redirect_uris": [REDIRECT_URI] })
}

/// Registers a client.
async fn register(app: &TestApp) -> Registered {
    let body = app.anonymous().post(REGISTER, request()).await.assert_status(201).body;
    let client_id = body["client_id"].as_str().unwrap().to_owned();
    Registered {
        path: format!("{REGISTER}/{client_id}"),
        client: OauthClient { client_id, redirect_uri: REDIRECT_URI },
        token: body["registration_access_token"].as_str().unwrap().to_owned(),
    }
}

/// The access token that a client gets for what the person grants it.
async fn grant(app: &TestApp, person: &TestAccount, client: &OauthClient) -> String {
    let mut browser = Browser::signed_in(app, &person.cookie);
    let answer = browser.grant(&client.path(&[]), &person.org_id).await;
    let redemption = form(&[
        ("client_id", &client.client_id),
        ("grant_type", "authorization_code"),
        ("code", &answer["code"]),
        ("code_verifier", VERIFIER),
    ]);
    let tokens = app.anonymous().post_form("/oauth2/token", &redemption).await.assert_status(200);
    let token = tokens.body["access_token"].as_str().unwrap().to_owned();
    app.seen_secrets.lock().unwrap().push(token.clone());
    token
}

async fn show_projects(app: &TestApp, person: &TestAccount, token: &str) -> TestResponse {
    app.bearer(token).get(&format!("/api/user/organizations/{}/projects", person.org_id)).await
}

#[tokio::test]
async fn registration_is_off_unless_the_operator_turns_it_on() {
    with_settings(&[("OAUTH_DCR", "off")])
        .run(async |app| {
            let of_client = format!("{REGISTER}/app_0000000000000000000001");
            let client = app.bearer("tnt_oauth_registration_x");
            for (method, path) in [
                ("POST", REGISTER),
                ("GET", &of_client),
                ("PUT", &of_client),
                ("DELETE", &of_client),
            ] {
                let client = client.with("content-type", "application/json");
                let body = if method == "GET" { "" } else { "{}" };
                client.send(method, path, body).await.assert_error(403, "access_denied");
            }
            let metadata = app.anonymous().get("/.well-known/oauth-authorization-server").await;
            assert!(metadata.body.get("registration_endpoint").is_none(), "{metadata:?}");
            let on = app.replica_with(&[("OAUTH_DCR", "open")]);
            let registered = register(&on).await;
            let metadata = on.anonymous().get("/.well-known/oauth-authorization-server").await;
            let endpoint = format!("{ISSUER}{REGISTER}");
            assert_eq!(metadata.body["registration_endpoint"], endpoint);
            // Clients that are registered already stay usable.
            let path = registered.client.path(&[]);
            Browser::new(app).get(&path).await.assert_status(303);
            on.close();
        })
        .await;
}

#[tokio::test]
async fn a_client_that_registers_itself_is_public_and_unverified_whatever_it_requests() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let request = json!({
            "client_name": "Planner", "redirect_uris": [REDIRECT_URI, "http://localhost/callback"],
            "token_endpoint_auth_method": "client_secret_post", "application_type": "native",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "scope": "openid projects:read offline_access", "client_uri": "https://app.example.com",
            "skip_consent": true, "first_party": true, "organization_id": ann.org_id,
            "client_id": "mine", "client_secret": "mine", "visibility": "private", "trusted": {},
        });
        let registered = app.anonymous().post(REGISTER, request).await.assert_status(201);
        let mut body = registered.body;
        let client_id = body["client_id"].as_str().unwrap().to_owned();
        assert!(client_id.starts_with("app_"), "{body}");
        let token = body.as_object_mut().unwrap().remove("registration_access_token").unwrap();
        let path = format!("{REGISTER}/{client_id}");
        assert_eq!(
            body,
            json!({
                "client_id": client_id, "client_id_issued_at": 2_093_853_402,
                "client_name": "Planner",
                "client_uri": "https://app.example.com", "application_type": "native",
                "redirect_uris": [REDIRECT_URI, "http://localhost/callback"],
                "token_endpoint_auth_method": "none", "response_types": ["code"],
                "id_token_signed_response_alg": "RS256",
                "grant_types": ["authorization_code", "refresh_token"],
                "scope": "openid projects:read offline_access",
                "registration_client_uri": format!("{ISSUER}{path}"),
            })
        );
        let shown = app.bearer(token.as_str().unwrap()).get(&path).await.assert_status(200);
        assert_eq!(shown.body, body);
        let client = OauthClient { client_id, redirect_uri: REDIRECT_URI };
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[("scope", "")])).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await.text;
        assert!(page.contains("registered itself and is <strong>unverified</strong>"), "{page}");
        assert!(page.contains("sent to <strong>app.example.com</strong>"), "{page}");
        let token = grant(app, &ann, &client).await;
        show_projects(app, &ann, &token).await.assert_status(200);
        let stored = "select count(*) from oauth_clients c
                      join organizations o on o.id = c.organization_id and o.handle = 'system'
                      where kind = 'dynamic' and published_at is null and visibility = 'public'
                        and auth_method = 'none'";
        assert_eq!(app.count(stored).await, 1);
    })
    .await;
}

#[tokio::test]
async fn every_invalid_metadata_field_is_named() {
    run(async |app| {
        for (request, code, named) in [
            (json!({}), "invalid_redirect_uri", vec!["redirect_uris"]),
            (json!({ "redirect_uris": [] }), "invalid_redirect_uri", vec!["redirect_uris"]),
            (
                json!({ "redirect_uris": ["javascript:alert(1)"] }),
                "invalid_redirect_uri",
                vec!["redirect_uris"],
            ),
            (
                json!({ "redirect_uris": ["data:text/html,x"] }),
                "invalid_redirect_uri",
                vec!["redirect_uris"],
            ),
            (
                json!({ "redirect_uris": ["http://a.example"], "client_name": 1, "scope": [] }),
                "invalid_client_metadata",
                vec!["redirect_uris", "client_name", "scope"],
            ),
            (
                json!({ "redirect_uris": [REDIRECT_URI], "grant_types": ["client_credentials"],
                        "token_endpoint_auth_method": "private_key_jwt" }),
                "invalid_client_metadata",
                vec!["grant_types", "token_endpoint_auth_method"],
            ),
        ] {
            let response = app.anonymous().post(REGISTER, request).await.assert_error(400, code);
            let description = response.body["error_description"].as_str().unwrap();
            for name in named {
                assert!(description.contains(&format!("`{name}` ")), "{description}");
            }
        }
        let client = app.anonymous().with("content-type", "application/json");
        for (body, code) in
            [("", "invalid_request"), ("{", "invalid_request"), ("[]", "invalid_client_metadata")]
        {
            client.send("POST", REGISTER, body).await.assert_error(400, code);
        }
        assert_eq!(app.count(REGISTERED).await, 0);
    })
    .await;
}

#[tokio::test]
async fn only_requests_with_the_operator_s_initial_access_token_register_clients() {
    let token = "initial-token-0123456789abcdef0123456789";
    with_settings(&[("OAUTH_DCR", "token"), ("OAUTH_DCR_TOKEN", token)])
        .run(async |app| {
            app.seen_secrets.lock().unwrap().push(token.to_owned());
            let wrong = format!("{token}0");
            for client in [app.anonymous(), app.bearer(&wrong), app.key(token)] {
                client.post(REGISTER, request()).await.assert_error(401, "invalid_client");
            }
            app.bearer(token).post(REGISTER, request()).await.assert_status(201);
            assert_eq!(app.count(REGISTERED).await, 1);
        })
        .await;
}

#[tokio::test]
async fn a_client_manages_only_its_own_registration() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (one, other) = (register(app).await, register(app).await);
        let changed = json!({ "client_id": one.client.client_id, "client_name": "Renamed",
                              "redirect_uris": ["https://other.example.com/callback"] });
        for client in [app.anonymous(), app.bearer(&other.token), app.bearer("x")] {
            client.get(&one.path).await.assert_error(401, "invalid_client");
            client.put(&one.path, changed.clone()).await.assert_error(401, "invalid_client");
            client.delete(&one.path).await.assert_error(401, "invalid_client");
        }
        let client = app.bearer(&one.token);
        for id in [json!(null), json!(other.client.client_id)] {
            let mut changed = changed.clone();
            changed["client_id"] = id;
            client.put(&one.path, changed).await.assert_error(400, "invalid_client_metadata");
        }
        let token = grant(app, &ann, &one.client).await;
        let updated = client.put(&one.path, changed).await.assert_status(200).body;
        assert_eq!(updated["client_name"], "Renamed");
        assert!(updated.get("registration_access_token").is_none(), "{updated}");
        assert_eq!(client.get(&one.path).await.assert_status(200).body, updated);
        let response = Browser::new(app).get(&one.client.path(&[])).await;
        response.assert_status(400);
        // Deleting it revokes its grants.
        show_projects(app, &ann, &token).await.assert_status(200);
        client.delete(&one.path).await.assert_status(204);
        show_projects(app, &ann, &token).await.assert_status(401);
        client.get(&one.path).await.assert_error(401, "invalid_client");
        let actors = "select array_agg(actor) from audit_events
                      where event_type in ('app.deleted', 'app_grant.revoked')";
        let id = &one.client.client_id;
        assert_eq!(super::texts(app, actors).await, [id.clone(), id.clone()]);
        app.bearer(&other.token).get(&other.path).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn the_operator_can_disable_a_client_that_registered_itself() {
    run(async |app| {
        let one = register(app).await;
        let id = &one.client.client_id;
        let operator = app.master_with_idempotency_key("OAUTH_APPS", "one");
        let path = format!("/v1/admin/oauth/apps/{id}/disable");
        let disabled = operator.post(&path, json!({})).await.assert_status(200).body;
        assert_eq!(
            (&disabled["kind"], &disabled["status"]),
            (&json!("dynamic"), &json!("disabled"))
        );
        app.bearer(&one.token).get(&one.path).await.assert_error(401, "invalid_client");
        app.bearer(&one.token).delete(&one.path).await.assert_error(401, "invalid_client");
        let response = Browser::new(app).get(&one.client.path(&[])).await;
        response.assert_status(400);
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_registrations_from_one_address_create_only_what_the_rate_limit_allows() {
    with_settings(&[("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let client = app.anonymous();
            let mut rejected = None;
            for number in 0..10_000 {
                let response = client.post(REGISTER, request()).await;
                assert_eq!(response.status, if number < 30 { 201 } else { 429 }, "{number}");
                rejected = Some(response);
            }
            assert_retry_after(
                &rejected.unwrap().assert_error(429, "slow_down"),
                "client_registrations",
            );
            assert_eq!(app.count(REGISTERED).await, 30);
        })
        .await;
}

#[tokio::test]
async fn the_deployment_has_a_limited_number_of_clients_that_registered_themselves() {
    run(async |app| {
        let all = "insert into oauth_clients (id, client_id, organization_id, kind, name,
                       redirect_uris, application_type, auth_method, scopes, visibility,
                       registration_digest, registration_pepper_id, created_at, updated_at)
                   select gen_random_uuid(), 'app_' || n, o.id, 'dynamic', 'x', '{https://a.e/}',
                          'web', 'none', '{}', 'public', sha256('x'), 'p1', now(), now()
                   from generate_series(1, 4998) n
                   join organizations o on o.handle = 'system'";
        assert_eq!(app.execute(all).await, 4_998);
        let registrations =
            (0..10).map(|_| async { app.anonymous().post(REGISTER, request()).await });
        let responses = futures_util::future::join_all(registrations).await;
        let registered = responses.iter().filter(|response| response.status == 201).count();
        assert_eq!(registered, 2);
        let rejected = responses.into_iter().find(|response| response.status != 201).unwrap();
        assert_eq!(rejected.assert_error(429, "slow_down").header("retry-after"), "3600");
        // A disabled client does not count.
        app.execute("update oauth_clients set disabled_at = now() where client_id = 'app_1'").await;
        app.anonymous().post(REGISTER, request()).await.assert_status(201);
        app.anonymous().post(REGISTER, request()).await.assert_status(429);
    })
    .await;
}

#[tokio::test]
async fn a_client_without_a_grant_for_30_days_is_deleted() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (used, lately, unused, new) =
            (register(app).await, register(app).await, register(app).await, register(app).await);
        for client in [&used.client, &lately.client] {
            grant(app, &ann, client).await;
        }
        let mut db = app.connect().await;
        sqlx::query(
            "update oauth_clients set created_at = now() - interval '31 days'
                     where client_id <> $1",
        )
        .bind(&new.client.client_id)
        .execute(&mut db)
        .await
        .unwrap();
        let revoke = "update oauth_grants g
                      set revoked_at = now() - $2::interval, revoked_reason = 'client'
                      from oauth_clients c where c.id = g.client_id and c.client_id = $1";
        let revoke = async |db: &mut sqlx::PgConnection, age: &str| {
            let query = sqlx::query(revoke).bind(&lately.client.client_id).bind(age);
            query.execute(db).await.unwrap();
        };
        revoke(&mut db, "29 days").await;
        sweep(&app.app).await;
        let remaining = async |all: &[&Registered]| {
            for one in all {
                app.bearer(&one.token).get(&one.path).await.assert_status(200);
            }
            assert_eq!(app.count(REGISTERED).await, i64::try_from(all.len()).unwrap());
        };
        remaining(&[&used, &lately, &new]).await;
        app.bearer(&unused.token).get(&unused.path).await.assert_error(401, "invalid_client");
        revoke(&mut db, "31 days").await;
        sweep(&app.app).await;
        remaining(&[&used, &new]).await;
    })
    .await;
}
