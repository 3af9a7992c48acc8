//! `POST /auth/login`, `GET /auth/me`, `POST /auth/logout`

use serde_json::json;

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

async fn log_in(app: &TestApp, email: &str, password: &str) -> TestResponse {
    let request = json!({ "email": email, "password": password });
    app.anonymous().post("/auth/login", request).await
}

#[tokio::test]
async fn signing_in_starts_a_session_of_its_own() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let response = log_in(app, "ANN@example.com", PASSWORD).await.assert_status(200);
        let token = text(&response.body["data"]["token"]);
        assert_ne!(token, ann.token);
        assert_eq!(response.body["data"]["account"]["id"], ann.id);
        for token in [&token, &ann.token] {
            app.bearer(token).get("/auth/me").await.assert_status(200);
        }
        // A session's cookie is accepted as well.
        app.session(&ann.cookie).get("/auth/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_get_the_same_response() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        let wrong = log_in(app, "ann@example.com", "another-passphrase").await;
        let wrong = wrong.assert_error(401, "AUTHENTICATION_ERROR");
        let unknown = log_in(app, "ben@example.com", PASSWORD).await;
        let unknown = unknown.assert_error(401, "AUTHENTICATION_ERROR");
        assert_eq!(wrong.text, unknown.text);
        assert!(wrong.header("www-authenticate").starts_with("Bearer"));
    })
    .await;
}

#[tokio::test]
async fn signing_out_ends_the_session_for_its_token_and_its_cookie() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let other = log_in(app, "ann@example.com", PASSWORD).await.assert_status(200);
        app.bearer(&ann.token).post("/auth/logout", json!({})).await.assert_status(200);
        app.bearer(&ann.token).get("/auth/me").await.assert_error(401, "AUTHENTICATION_ERROR");
        app.session(&ann.cookie).get("/auth/me").await.assert_error(401, "AUTHENTICATION_ERROR");
        let again = app.bearer(&ann.token).post("/auth/logout", json!({})).await;
        again.assert_error(401, "AUTHENTICATION_ERROR");
        // The other session stays valid.
        let other = text(&other.body["data"]["token"]);
        app.bearer(&other).get("/auth/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn signing_out_clears_the_cookie() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let out = app.session(&ann.cookie).post("/auth/logout", json!({})).await.assert_status(200);
        assert_eq!(out.cookie().as_deref(), Some(""));
        assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    })
    .await;
}

#[tokio::test]
async fn a_disabled_account_cannot_sign_in_and_its_sessions_are_rejected() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        app.execute("update accounts set is_active = false").await;
        app.bearer(&ann.token).get("/auth/me").await.assert_status(401);
        app.session(&ann.cookie).get("/auth/me").await.assert_status(401);
        app.key(&key).get("/api/user/me").await.assert_error(401, "INVALID_API_KEY");
        let response = app.sign_in(&ann.email, PASSWORD).await;
        response.assert_error(401, "USER_NOT_ACTIVE");
        // Without the password the response does not reveal the disabled account.
        let response = app.sign_in(&ann.email, "another-passphrase").await;
        response.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
        log_in(app, &ann.email, PASSWORD).await.assert_error(401, "AUTHENTICATION_ERROR");
    })
    .await;
}

#[tokio::test]
async fn a_hash_with_older_parameters_is_replaced_at_the_next_sign_in() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        app.execute(
            "update accounts set password_hash = '$argon2id$v=19$m=64,t=1,p=1'
                 || '$c2l4dGVlbiBieXRlcy4uLg$KQliFw1L0l9l47oUxZBWaphSKpPc19+zenstMWUHG5k'",
        )
        .await;
        log_in(app, "ann@example.com", "another-passphrase").await.assert_status(401);
        let new = "select count(*) from accounts
                   where password_hash like '$argon2id$v=19$m=19456,%'";
        assert_eq!(app.count(new).await, 0);
        for _ in 0..2 {
            log_in(app, "ann@example.com", "zq7xv!kw").await.assert_status(200);
            assert_eq!(app.count(new).await, 1);
        }
    })
    .await;
}

#[tokio::test]
async fn missing_fields_and_an_overlong_password_are_rejected_by_name() {
    run(async |app| {
        for path in ["/auth/login", "/api/auth/sign-in/email"] {
            let response = app.anonymous().post(path, json!({})).await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["email", "password"]);
            let request = json!({ "email": "a@example.com", "password": "x".repeat(129) });
            let response = app.anonymous().post(path, request).await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["password"]);
        }
    })
    .await;
}

/// `app::hash_pool` bounds the memory. This test shows that the excess gets `Retry-After`, that
/// requests with a permit are served, and that other routes respond. Unknown addresses are shed as
/// well, which shows that they cost the same work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_excess_of_200_concurrent_sign_ins_is_shed_and_other_routes_respond() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut attempts = tokio::task::JoinSet::new();
        for number in 0..200 {
            let is_known = number % 2 == 0;
            let email = if is_known { "ann@example.com" } else { "ben@example.com" };
            let client = app.anonymous();
            attempts.spawn(async move {
                let request = json!({ "email": email, "password": "another-passphrase" });
                let response = client.post("/api/auth/sign-in/email", request).await;
                let is_served = match response.status.as_u16() {
                    401 => true,
                    503 => {
                        let response = response.assert_error(503, "SERVICE_UNAVAILABLE");
                        assert_eq!(response.header("retry-after"), "1");
                        false
                    }
                    other => panic!("{other}: {}", response.text),
                };
                (is_known, is_served)
            });
        }
        // A route that only checks the credential: such checks have their own connections.
        app.session(&ann.cookie).get("/auth/verify").await.assert_status(200);
        let outcomes = attempts.join_all().await;
        for is_known in [true, false] {
            for is_served in [true, false] {
                let has_outcome = outcomes.contains(&(is_known, is_served));
                assert!(has_outcome, "known: {is_known}, served: {is_served}");
            }
        }
    })
    .await;
}
