//! No request is free: what no other limit covers is counted all the same, in the name of whoever
//! makes it, and nobody who floods one door keeps others waiting at another.

use serde_json::json;
use tenantry::error::Error;
use tenantry::model::ids::AccountId;
use tenantry::model::rate_limit::LimitSubject;

use crate::support::app::TestSettings;
use crate::support::client::TestResponse;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::with_settings;

/// A server with the usual limits, but for these.
fn with_limits(changes: &str) -> TestSettings {
    let plans = r#"{"trial":{"requests_per_minute":3}}"#;
    with_settings(&[("LIMITS_PROFILE", "usual"), ("LIMITS", changes), ("PLANS", plans)])
}

/// The statuses of four requests, one after the other.
async fn four_statuses(mut ask: impl AsyncFnMut() -> TestResponse) -> [u16; 4] {
    let mut statuses = [0; 4];
    for status in &mut statuses {
        *status = ask().await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn every_route_counts_whoever_asks() {
    with_settings(&[("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let world = Fixtures::new(app).await;
            let callers = [
                app.anonymous(),
                app.key("garbage"),
                app.key(&world.acme.api_key),
                app.session(&world.ann.cookie),
            ];
            let mut free = Vec::new();
            for operation in operations() {
                if operation.path.starts_with("/health/") {
                    continue;
                }
                let path = world.path(&operation);
                for caller in &callers {
                    let caller = caller.with("content-type", "application/json");
                    let answer = caller.send(&operation.method, &path, "").await;
                    if answer.header("ratelimit").is_empty() {
                        free.push(format!("{} {path}: {}", operation.method, answer.text));
                    }
                }
            }
            assert_eq!(free, [""; 0]);
        })
        .await;
}

#[tokio::test]
async fn a_good_key_beside_it_makes_no_exchange_free() {
    with_limits("{}")
        .run(async |app| {
            let acme = app.sign_up().await;
            let exchange = async || {
                let shown = json!({ "api_key": acme.api_key });
                app.key(&acme.api_key).post("/auth/token-exchange", shown).await
            };
            assert_eq!(four_statuses(exchange).await, [200, 200, 200, 429]);
            let other = app.sign_up().await;
            let refresh = async || {
                let shown = json!({ "refresh_token": "garbage" });
                app.key(&other.api_key).post("/auth/refresh", shown).await
            };
            assert_eq!(four_statuses(refresh).await, [401, 401, 401, 429]);
        })
        .await;
}

#[tokio::test]
async fn credentials_in_bodies_that_are_not_good_are_limited_as_those_in_headers_are() {
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
async fn what_is_refused_before_its_limit_is_known_is_counted_too() {
    with_limits(r#"{"account":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let [ann, ben, cleo] = [
                app.sign_up_account("ann@example.com").await,
                app.sign_up_account("ben@example.com").await,
                app.sign_up_account("cleo@example.com").await,
            ];
            // An organization that is not theirs, or is none; and none is asked for any more.
            let elsewhere = "/api/user/organizations/nowhere/members";
            let elsewhere = async || app.session(&ann.cookie).get(elsewhere).await;
            assert_eq!(four_statuses(elsewhere).await, [403, 403, 403, 429]);
            let asked = async || app.session(&ben.cookie).get("/api/auth/get-session").await;
            assert_eq!(four_statuses(asked).await, [200, 200, 200, 429]);
            // A key where only people may ask, and a token where only sessions may.
            let key = app.sign_up().await.api_key;
            let nobody = async || app.key(&key).get("/api/user/me").await;
            assert_eq!(four_statuses(nobody).await, [403, 403, 403, 429]);
            let made = json!({ "name": "ci", "scopes": ["*"] });
            let (token, _) = app.create_token(&cleo.cookie, made).await;
            let no_session = async || app.key(&token).get("/api/auth/list-sessions").await;
            assert_eq!(four_statuses(no_session).await, [403, 403, 429, 429], "one made the token");
            // A suspended organization.
            let halted = app.sign_up().await.api_key;
            app.execute("update organizations set suspended_at = now() where handle <> 'system'")
                .await;
            let suspended = async || app.key(&halted).get("/me").await;
            assert_eq!(four_statuses(suspended).await, [403, 403, 403, 429]);
        })
        .await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_limited() {
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
async fn what_no_handler_sees_is_counted_for_whoever_asks() {
    with_limits(r#"{"address":{"quota":3,"window_s":600},"sign_in":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let [no_method, no_path] = [app.sign_up().await.api_key, app.sign_up().await.api_key];
            let no_method = async || app.key(&no_method).send("DELETE", "/me", "").await;
            assert_eq!(four_statuses(no_method).await, [405, 405, 405, 429]);
            let broken = "/api/user/organizations/%FF/members";
            let no_path = async || app.key(&no_path).get(broken).await;
            assert_eq!(four_statuses(no_path).await, [403, 403, 403, 429]);
            // Pages of strangers are counted apart from what else comes from their visitor.
            let page = app.anonymous().with("origin", "null");
            let login = json!({ "email": "ann@example.com", "password": "not hers at all" });
            let sign_in = async || page.post("/api/auth/sign-in/email", login.clone()).await;
            assert_eq!(four_statuses(sign_in).await, [403, 403, 403, 429]);
            // Each signup was counted.
            let operator = app.master("ORG_CREATE");
            operator.send("DELETE", "/v1/admin/org/create", "").await.assert_status(405);
            operator.send("DELETE", "/v1/admin/org/create", "").await.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn preflights_are_limited_and_a_page_of_ours_passes_all_the_same() {
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
                let answer = page.send("OPTIONS", "/me", "").await;
                answer.header("access-control-allow-origin") == origin
            };
            // Signing up is counted apart from pages of strangers.
            for expected in [true, true, true, false] {
                assert_eq!(preflight("https://acme.example.com").await, expected);
            }
            assert!(preflight(app.app.config.http.public_url.as_str().trim_end_matches('/')).await);
        })
        .await;
}

#[tokio::test]
async fn while_every_connection_is_busy_keys_and_pages_are_known_and_the_server_is_ready() {
    with_settings(&[("DATABASE_MAX_CONNECTIONS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let list = "update organizations set allowed_origins = '{https://acme.example.com}'";
            app.execute(list).await;
            let asked = async || {
                let key = app.key(&acme.api_key).with("origin", "https://acme.example.com");
                let answer = key.get("/auth/verify").await.assert_status(200);
                let reader = answer.header("access-control-allow-origin");
                assert_eq!(reader, "https://acme.example.com");
                app.anonymous().get("/health/ready").await.assert_status(200);
            };
            asked().await;
            let (end, over) = tokio::sync::oneshot::channel::<()>();
            let (tell, is_busy) = tokio::sync::oneshot::channel();
            let busy = app.app.db.run(async |_| {
                let _ = tell.send(());
                over.await.map_err(Error::internal)
            });
            let asking = async {
                is_busy.await.unwrap();
                asked().await;
                end.send(()).unwrap();
            };
            let (done, ()) = tokio::join!(busy, asking);
            done.unwrap();
        })
        .await;
}

#[tokio::test]
async fn nobody_takes_more_places_than_their_own() {
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
                let held = [(); 2].map(|()| app.app.in_flight.acquire_for(subject));
                let answers = [
                    app.key(&acme.api_key).get("/me").await,
                    app.session(&ann.cookie).get("/api/user/me").await,
                    app.anonymous().get("/me").await,
                ];
                assert_eq!(answers.each_ref().map(|it| it.status.as_u16()), expected);
                for refused in answers.iter().filter(|it| it.status == 429) {
                    assert_eq!(refused.header("retry-after"), "1");
                }
                drop(held);
            }
        })
        .await;
}

#[tokio::test]
async fn exchanges_and_refreshes_count_for_the_organization_of_the_key_whoever_s_is_in_the_header()
{
    with_limits("{}")
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            // Three requests a minute: whichever of them they are.
            let (_, refresh_token) = app.exchange(&acme.api_key).await;
            let shown = json!({ "api_key": acme.api_key });
            app.key(&other.api_key)
                .post("/auth/token-exchange", shown.clone())
                .await
                .assert_status(200);
            app.key(&acme.api_key).get("/me").await.assert_status(200);
            let refused = app.anonymous().post("/auth/token-exchange", shown).await;
            refused.assert_error(429, "rate_limited");
            let shown = json!({ "refresh_token": refresh_token });
            let refused = app.anonymous().post("/auth/refresh", shown).await;
            refused.assert_error(429, "rate_limited");
            app.exchange(&other.api_key).await;
            app.app.meter.flush().await.unwrap();
            let used = "select sum(requests)::bigint from usage_daily u
                        join api_keys k on k.id = u.key_id where k.digest is not null";
            // Three of the one and two of the other, whose key was in a header.
            assert_eq!(app.count(used).await, 5);
        })
        .await;
}
