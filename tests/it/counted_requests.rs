//! Every request counts towards a rate limit of its caller, also where no specific limit applies,
//! and a caller that exceeds its limits does not delay others.

use serde_json::json;
use tenantry::error::Error;
use tenantry::model::ids::AccountId;
use tenantry::model::rate_limit::LimitSubject;

use crate::support::app::TestSettings;
use crate::support::client::TestResponse;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::with_settings;

/// A server with the usual limits, with `changes`, and three requests per minute in its plan.
fn with_limits(changes: &str) -> TestSettings {
    let plans = r#"{"trial":{"requests_per_minute":3}}"#;
    with_settings(&[("LIMITS_PROFILE", "usual"), ("LIMITS", changes), ("PLANS", plans)])
}

/// The statuses of four requests, one after the other.
async fn four_statuses(mut send: impl AsyncFnMut() -> TestResponse) -> [u16; 4] {
    let mut statuses = [0; 4];
    for status in &mut statuses {
        *status = send().await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn every_route_but_health_checks_is_rate_limited_for_every_kind_of_caller() {
    with_settings(&[("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let fixtures = Fixtures::new(app).await;
            let callers = [
                app.anonymous(),
                app.key("garbage"),
                app.key(&fixtures.acme.api_key),
                app.session(&fixtures.ann.cookie),
            ];
            let mut unlimited = Vec::new();
            for operation in operations() {
                // A 503 for a proxy without its verifier's secret reveals not even a limit.
                let is_proxy = operation.requires_verifier() && !operation.has_request_body();
                if operation.path.starts_with("/health/") || is_proxy {
                    continue;
                }
                let path = fixtures.path(&operation);
                for caller in &callers {
                    let caller = caller.with("content-type", "application/json");
                    let response = caller.send(&operation.method, &path, "").await;
                    if response.header("ratelimit").is_empty() {
                        unlimited.push(format!("{} {path}: {}", operation.method, response.text));
                    }
                }
            }
            assert_eq!(unlimited, [""; 0]);
        })
        .await;
}

#[tokio::test]
async fn exchanges_and_refreshes_are_limited_even_with_a_valid_key_in_the_header() {
    with_limits("{}")
        .run(async |app| {
            let acme = app.sign_up().await;
            let exchange = async || {
                let body = json!({ "api_key": acme.api_key });
                app.key(&acme.api_key).post("/auth/token-exchange", body).await
            };
            assert_eq!(four_statuses(exchange).await, [200, 200, 200, 429]);
            let other = app.sign_up().await;
            let refresh = async || {
                let body = json!({ "refresh_token": "garbage" });
                app.key(&other.api_key).post("/auth/refresh", body).await
            };
            assert_eq!(four_statuses(refresh).await, [401, 401, 401, 429]);
        })
        .await;
}

#[tokio::test]
async fn invalid_credentials_in_bodies_share_the_limit_of_those_in_headers() {
    with_limits(r#"{"unknown_keys":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let exchange = async || {
                app.anonymous().post("/auth/token-exchange", json!({ "api_key": "garbage" })).await
            };
            assert_eq!(four_statuses(exchange).await, [401, 401, 401, 429]);
            app.key("garbage").get("/me").await.assert_status(429);
            let refresh = json!({ "refresh_token": "garbage" });
            app.anonymous().post("/auth/refresh", refresh).await.assert_error(429, "rate_limited");
        })
        .await;
}

#[tokio::test]
async fn requests_count_towards_the_limit_of_their_caller_even_if_they_are_rejected() {
    with_limits(r#"{"account":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let [ann, ben, cleo] = [
                app.sign_up_account("ann@example.com").await,
                app.sign_up_account("ben@example.com").await,
                app.sign_up_account("cleo@example.com").await,
            ];
            // An organization that does not exist.
            let elsewhere = "/api/user/organizations/nowhere/members";
            let elsewhere = async || app.session(&ann.cookie).get(elsewhere).await;
            assert_eq!(four_statuses(elsewhere).await, [403, 403, 403, 429]);
            let get_session = async || app.session(&ben.cookie).get("/api/auth/get-session").await;
            assert_eq!(four_statuses(get_session).await, [200, 200, 200, 429]);
            // A key where an account is required, and a token where a session is required.
            let key = app.sign_up().await.api_key;
            let no_account = async || app.key(&key).get("/api/user/me").await;
            assert_eq!(four_statuses(no_account).await, [403, 403, 403, 429]);
            let request = json!({ "name": "ci", "scopes": ["*"] });
            let (token, _) = app.create_token(&cleo.cookie, request).await;
            let no_session = async || app.key(&token).get("/api/auth/list-sessions").await;
            assert_eq!(
                four_statuses(no_session).await,
                [403, 403, 429, 429],
                "creating the token counted"
            );
            // A suspended organization.
            let suspended_key = app.sign_up().await.api_key;
            app.execute("update organizations set suspended_at = now() where handle <> 'system'")
                .await;
            let suspended = async || app.key(&suspended_key).get("/me").await;
            assert_eq!(four_statuses(suspended).await, [403, 403, 403, 429]);
        })
        .await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rate_limited() {
    with_limits(r#"{"address":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let nothing = async || app.anonymous().get("/nothing").await;
            assert_eq!(four_statuses(nothing).await, [404, 404, 404, 429]);
            app.anonymous().get("/me/nothing").await.assert_error(429, "rate_limited");
            app.anonymous().send("DELETE", "/me", "").await.assert_error(429, "rate_limited");
            app.anonymous().get("/health/live").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn requests_that_reach_no_handler_are_counted_for_their_caller() {
    with_limits(r#"{"address":{"quota":3,"window_s":600},"sign_in":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let [no_method, no_path] = [app.sign_up().await.api_key, app.sign_up().await.api_key];
            let no_method = async || app.key(&no_method).send("DELETE", "/me", "").await;
            assert_eq!(four_statuses(no_method).await, [405, 405, 405, 429]);
            let broken = "/api/user/organizations/%FF/members";
            let no_path = async || app.key(&no_path).get(broken).await;
            assert_eq!(four_statuses(no_path).await, [403, 403, 403, 429]);
            // Requests of foreign origins are counted apart from others of the same address.
            let page = app.anonymous().with("origin", "null");
            let login = json!({ "email": "ann@example.com", "password": "not hers at all" });
            let sign_in = async || page.post("/api/auth/sign-in/email", login.clone()).await;
            assert_eq!(four_statuses(sign_in).await, [403, 403, 403, 429]);
            // The two signups were counted for this address, too.
            let operator = app.master("ORG_CREATE");
            operator.send("DELETE", "/v1/admin/org/create", "").await.assert_status(405);
            operator.send("DELETE", "/v1/admin/org/create", "").await.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn preflights_are_rate_limited_except_for_those_of_the_public_url() {
    with_limits(r#"{"address":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            app.sign_up().await;
            let list = "update organizations set allowed_origins = '{https://acme.example.com}'
                        where handle <> 'system'";
            app.execute(list).await;
            let preflight = async |origin: &str| {
                let page = app
                    .anonymous()
                    .with("origin", origin)
                    .with("access-control-request-method", "GET");
                let response = page.send("OPTIONS", "/me", "").await;
                response.header("access-control-allow-origin") == origin
            };
            // The signup is not counted together with preflights.
            for expected in [true, true, true, false] {
                assert_eq!(preflight("https://acme.example.com").await, expected);
            }
            assert!(preflight(app.app.config.http.public_url.as_str().trim_end_matches('/')).await);
        })
        .await;
}

#[tokio::test]
async fn keys_and_origins_are_looked_up_and_the_server_is_ready_while_the_request_pool_is_busy() {
    with_settings(&[("DATABASE_MAX_CONNECTIONS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let list = "update organizations set allowed_origins = '{https://acme.example.com}'";
            app.execute(list).await;
            let check = async || {
                let key = app.key(&acme.api_key).with("origin", "https://acme.example.com");
                let response = key.get("/auth/verify").await.assert_status(200);
                let origin = response.header("access-control-allow-origin");
                assert_eq!(origin, "https://acme.example.com");
                app.anonymous().get("/health/ready").await.assert_status(200);
            };
            check().await;
            let (release, released) = tokio::sync::oneshot::channel::<()>();
            let (begun, is_busy) = tokio::sync::oneshot::channel();
            let busy = app.app.db.run(async |_| {
                let _ = begun.send(());
                released.await.map_err(Error::internal)
            });
            let meanwhile = async {
                is_busy.await.unwrap();
                check().await;
                release.send(()).unwrap();
            };
            let (done, ()) = tokio::join!(busy, meanwhile);
            done.unwrap();
        })
        .await;
}

#[tokio::test]
async fn each_caller_has_its_own_limit_of_requests_in_flight() {
    with_settings(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, ann) = (app.sign_up().await, app.sign_up_account("ann@example.com").await);
            let key = app.subject_of(&acme.org_id).await;
            let me = app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
            let account = me.body["data"]["id"].as_str().unwrap().to_owned();
            let account = LimitSubject::from_id(AccountId::parse(&account).unwrap().uuid());
            let address = LimitSubject::from_address(Some("192.0.2.7".parse().unwrap()));
            for (subject, expected) in
                [(key, [429, 200, 401]), (account, [200, 429, 401]), (address, [200, 200, 429])]
            {
                let permits = [(); 2].map(|()| app.app.in_flight.acquire_for(subject));
                let responses = [
                    app.key(&acme.api_key).get("/me").await,
                    app.session(&ann.cookie).get("/api/user/me").await,
                    app.anonymous().get("/me").await,
                ];
                assert_eq!(responses.each_ref().map(|it| it.status.as_u16()), expected);
                for rejected in responses.iter().filter(|it| it.status == 429) {
                    assert_eq!(rejected.header("retry-after"), "1");
                }
                drop(permits);
            }
        })
        .await;
}

#[tokio::test]
async fn exchanges_and_refreshes_count_for_the_organization_of_the_key_in_the_body() {
    with_limits("{}")
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            // Three requests per minute, of any kind.
            let (_, refresh_token) = app.exchange(&acme.api_key).await;
            let body = json!({ "api_key": acme.api_key });
            app.key(&other.api_key)
                .post("/auth/token-exchange", body.clone())
                .await
                .assert_status(200);
            app.key(&acme.api_key).get("/me").await.assert_status(200);
            let rejected = app.anonymous().post("/auth/token-exchange", body).await;
            rejected.assert_error(429, "rate_limited");
            let body = json!({ "refresh_token": refresh_token });
            let rejected = app.anonymous().post("/auth/refresh", body).await;
            rejected.assert_error(429, "rate_limited");
            app.exchange(&other.api_key).await;
            app.app.meter.flush().await.unwrap();
            let used = "select sum(requests)::bigint from usage_daily u
                        join api_keys k on k.id = u.key_id where k.digest is not null";
            // Three of acme, and two of the other organization, whose key was in a header once.
            assert_eq!(app.count(used).await, 5);
        })
        .await;
}
