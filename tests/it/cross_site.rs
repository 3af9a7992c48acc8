//! What browsers may be made to send, and what their pages may read (contract §1, *CORS* and
//! *Cookies*).

use serde_json::json;

use crate::support::accounts::PASSWORD;
use crate::support::rate_limits::sign_up_request;
use crate::support::{TestApp, with_settings};

const SETTINGS: [(&str, &str); 2] = [
    ("PUBLIC_URL", "https://api.example.com"),
    ("DASHBOARD_ORIGINS", "https://app.example.com, http://localhost:5173"),
];

/// What a page's request brings with it, and whether it passes.
const ORIGIN_CASES: [(&[(&str, &str)], bool); 20] = [
    (&[], true),
    (&[("origin", "https://api.example.com")], true),
    (&[("origin", "https://app.example.com")], true),
    (&[("origin", "https://app.example.com"), ("sec-fetch-site", "same-site")], true),
    (&[("origin", "http://localhost:5173"), ("sec-fetch-site", "cross-site")], true),
    (&[("sec-fetch-site", "same-origin")], true),
    (&[("sec-fetch-site", "none")], true),
    (&[("origin", "https://evil.example")], false),
    (&[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")], false),
    (&[("origin", "null")], false),
    (&[("origin", "null"), ("sec-fetch-site", "none")], false),
    (&[("origin", "null"), ("sec-fetch-site", "same-origin")], false),
    (&[("origin", "https://app.example.com"), ("origin", "null")], false),
    // The browser says that it is ours, whatever name of ours it was asked by.
    (&[("origin", "https://other.example.com"), ("sec-fetch-site", "same-origin")], true),
    (&[("origin", "https://app.example.com.evil.example")], false),
    (&[("origin", "https://app.example.com:8443")], false),
    (&[("origin", "http://app.example.com")], false),
    (&[("sec-fetch-site", "same-site")], false),
    (&[("sec-fetch-site", "cross-site")], false),
    (&[("origin", "https://app.example.com"), ("origin", "https://evil.example")], false),
];

fn client_with_cookie(app: &TestApp, cookie: &str) -> crate::support::client::TestClient {
    app.anonymous().with("cookie", &format!("__Host-tenantry_session={cookie}"))
}

#[tokio::test]
async fn a_page_elsewhere_changes_nothing_with_the_cookie() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            for (headers, passes) in ORIGIN_CASES {
                let mut actor = client_with_cookie(app, &ann.cookie);
                for (name, value) in headers {
                    actor = actor.with(name, value);
                }
                let answer = actor.put("/api/user/me", json!({ "fullName": "Ann" })).await;
                let status = answer.status.as_u16();
                assert_eq!(status, if passes { 200 } else { 403 }, "{headers:?}");
                if !passes {
                    answer.assert_error(403, "FORBIDDEN");
                }
                // Reading is not changing: whether the page may see it is the browser's to judge.
                actor.get("/api/user/me").await.assert_status(200);
                // A page can not be made to send a token that it does not have.
                let mut bearer = app.bearer(&ann.token);
                for (name, value) in headers {
                    bearer = bearer.with(name, value);
                }
                bearer.put("/api/user/me", json!({ "fullName": "Ann" })).await.assert_status(200);
            }
            // Every family that the cookie opens is as careful.
            let evil = client_with_cookie(app, &ann.cookie).with("origin", "https://evil.example");
            evil.post("/me/api-keys", json!({})).await.assert_error(403, "forbidden");
            evil.post("/auth/logout", json!({})).await.assert_error(403, "forbidden");
            assert_eq!(app.count("select count(*) from api_keys").await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_page_elsewhere_signs_nobody_in_or_up() {
    with_settings(&SETTINGS)
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let known = json!({ "email": "ann@example.com", "password": PASSWORD });
            for (number, (headers, passes)) in ORIGIN_CASES.into_iter().enumerate() {
                let mut actor = app.anonymous();
                for (name, value) in headers {
                    actor = actor.with(name, value);
                }
                for path in ["/auth/login", "/api/auth/sign-in/email"] {
                    let answer = actor.post(path, known.clone()).await;
                    assert_eq!(answer.status == 200, passes, "{path} {headers:?}");
                    assert_eq!(answer.status == 403, !passes, "{path} {headers:?}");
                }
                let answer = actor.post("/signup", json!({})).await;
                assert_eq!(answer.status == 201, passes, "/signup {headers:?}");
                assert_eq!(answer.status == 403, !passes, "/signup {headers:?}");
                for path in ["/auth/signup", "/api/auth/sign-up/email"] {
                    let email = format!("{number}{}@example.com", path.len());
                    let new = json!({ "email": email, "password": PASSWORD, "name": "Ben" });
                    let answer = actor.post(path, new).await;
                    assert_eq!(answer.status.is_success(), passes, "{path} {headers:?}");
                    assert_eq!(answer.status == 403, !passes, "{path} {headers:?}");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn trusted_pages_are_told_that_they_may_send_credentials_and_no_others() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let preflight = |origin: &str| {
                app.anonymous()
                    .with("origin", origin)
                    .with("access-control-request-method", "PUT")
                    .with("access-control-request-headers", "content-type,x-api-key")
            };
            for origin in
                ["https://api.example.com", "https://app.example.com", "http://localhost:5173"]
            {
                let answer = preflight(origin).send("OPTIONS", "/api/user/me", "").await;
                let answer = answer.assert_status(200);
                assert_eq!(answer.header("access-control-allow-origin"), origin);
                assert_eq!(answer.header("access-control-allow-credentials"), "true");
                assert!(answer.header("access-control-allow-methods").contains("PUT"));
                assert!(answer.header("access-control-allow-headers").contains("x-api-key"));
                assert!(answer.header("vary").to_lowercase().contains("origin"));
                assert!(answer.header("x-request-id").starts_with("req_"));
                // A refusal can be read, too.
                let refused = app.anonymous().with("origin", origin).get("/api/user/me").await;
                let refused = refused.assert_status(401);
                assert_eq!(refused.header("access-control-allow-origin"), origin);
                assert!(refused.header("access-control-expose-headers").contains("x-request-id"));
            }
            for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
                let answer = preflight(origin).send("OPTIONS", "/api/user/me", "").await;
                assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
                let read = app.anonymous().with("origin", origin).get("/api/user/me").await;
                assert_eq!(read.header("access-control-allow-origin"), "");
                assert!(read.header("vary").to_lowercase().contains("origin"));
            }
        })
        .await;
}

#[tokio::test]
async fn a_page_elsewhere_spends_none_of_its_visitor_s_limits() {
    let limits = r#"{"sign_in":{"quota":3,"window_s":600},"address":{"quota":40,"window_s":600},
                     "token_checks":{"quota":3,"window_s":600},
                     "mail_client":{"quota":3,"window_s":600}}"#;
    let settings = [SETTINGS[0], SETTINGS[1], ("LIMITS_PROFILE", "usual"), ("LIMITS", limits)];
    with_settings(&settings)
        .run(async |app| {
            let evil = app.anonymous().with("origin", "https://evil.example");
            let token = json!({ "token": "x" });
            let known = json!({ "email": "ann@example.com", "password": PASSWORD });
            for (path, body) in [
                ("/signup", json!({})),
                ("/auth/signup", sign_up_request("ann@example.com")),
                ("/auth/login", known.clone()),
                ("/api/auth/sign-up/email", sign_up_request("ann@example.com")),
                ("/api/auth/sign-in/email", known.clone()),
                ("/api/auth/verify-email", token.clone()),
                ("/api/auth/claim-key", token.clone()),
                ("/api/auth/reset-password", json!({ "token": "x", "newPassword": PASSWORD })),
                ("/api/auth/request-password-reset", json!({ "email": "ann@example.com" })),
            ] {
                for _ in 0..3 {
                    evil.post(path, body.clone()).await.assert_status(403);
                }
                // As a form or a script without leave to read sends it.
                evil.send("POST", path, "").await.assert_status(403);
            }
            for _ in 0..30 {
                let preflight = evil.with("access-control-request-method", "POST");
                preflight.send("OPTIONS", "/signup", "").await;
            }
            let own = app.anonymous().with("origin", "https://api.example.com");
            let made =
                own.post("/api/auth/sign-up/email", sign_up_request("ann@example.com")).await;
            made.assert_status(200);
            own.post("/auth/login", known).await.assert_status(200);
            own.post("/signup", json!({})).await.assert_status(201);
            own.post("/api/auth/verify-email", token).await.assert_status(401);
            assert_eq!(app.count(crate::support::app::COUNT_ORGANIZATIONS).await, 2);
        })
        .await;
}

#[tokio::test]
async fn a_trusted_page_may_send_whatever_headers_it_asks_for() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let asked = "sentry-trace,baggage,traceparent,tracestate,x-requested-with,\
                         x-made-up-by-a-proxy,authorization,content-type";
            for origin in ["https://api.example.com", "https://app.example.com"] {
                for path in ["/api/user/me", "/me", "/v1/organization/api-keys", "/auth/login"] {
                    let preflight = app
                        .anonymous()
                        .with("origin", origin)
                        .with("access-control-request-method", "POST")
                        .with("access-control-request-headers", asked);
                    let answer = preflight.send("OPTIONS", path, "").await.assert_status(200);
                    let allowed = answer.header("access-control-allow-headers");
                    for name in asked.split(',') {
                        assert!(
                            allowed.split(',').any(|it| it.trim() == name),
                            "{name}: {allowed}"
                        );
                    }
                }
            }
            let evil = app.anonymous().with("origin", "https://evil.example");
            let evil = evil.with("access-control-request-method", "POST");
            let evil = evil.with("access-control-request-headers", asked);
            let answer = evil.send("OPTIONS", "/api/user/me", "").await;
            assert_eq!(answer.header("access-control-allow-origin"), "");
            assert_eq!(answer.header("access-control-allow-headers"), "");
        })
        .await;
}
