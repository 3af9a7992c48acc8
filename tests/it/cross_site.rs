//! Cross-site requests: what a foreign origin can make a browser send, and what it may
//! read.

use serde_json::json;

use crate::support::accounts::PASSWORD;
use crate::support::rate_limits::sign_up_request;
use crate::support::{TestApp, with_settings};

const SETTINGS: [(&str, &str); 2] = [
    ("PUBLIC_URL", "https://api.example.com"),
    ("DASHBOARD_ORIGINS", "https://app.example.com, http://localhost:5173"),
];

/// Headers that a browser adds to a request, and whether the request passes.
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
    // The browser says that the page is of this server, under whichever host name it was requested.
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
async fn a_foreign_origin_cannot_change_anything_with_the_cookie() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            for (headers, passes) in ORIGIN_CASES {
                let mut actor = client_with_cookie(app, &ann.cookie);
                for (name, value) in headers {
                    actor = actor.with(name, value);
                }
                let response = actor.put("/api/user/me", json!({ "fullName": "Ann" })).await;
                let status = response.status.as_u16();
                assert_eq!(status, if passes { 200 } else { 403 }, "{headers:?}");
                if !passes {
                    response.assert_error(403, "FORBIDDEN");
                }
                // Reads pass: the browser decides whether the page may see the response.
                actor.get("/api/user/me").await.assert_status(200);
                // A bearer token passes: no foreign page has it, and browsers do not add it.
                let mut bearer = app.bearer(&ann.token);
                for (name, value) in headers {
                    bearer = bearer.with(name, value);
                }
                bearer.put("/api/user/me", json!({ "fullName": "Ann" })).await.assert_status(200);
            }
            // The other families that accept the cookie check the origin, too.
            let evil = client_with_cookie(app, &ann.cookie).with("origin", "https://evil.example");
            evil.post("/me/api-keys", json!({})).await.assert_error(403, "forbidden");
            evil.post("/auth/logout", json!({})).await.assert_error(403, "forbidden");
            assert_eq!(app.count("select count(*) from api_keys").await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_foreign_origin_cannot_sign_in_or_sign_up() {
    with_settings(&SETTINGS)
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let credentials = json!({ "email": "ann@example.com", "password": PASSWORD });
            for (number, (headers, passes)) in ORIGIN_CASES.into_iter().enumerate() {
                let mut actor = app.anonymous();
                for (name, value) in headers {
                    actor = actor.with(name, value);
                }
                for path in ["/auth/login", "/api/auth/sign-in/email"] {
                    let response = actor.post(path, credentials.clone()).await;
                    assert_eq!(response.status == 200, passes, "{path} {headers:?}");
                    assert_eq!(response.status == 403, !passes, "{path} {headers:?}");
                }
                let response = actor.post("/signup", json!({})).await;
                assert_eq!(response.status == 201, passes, "/signup {headers:?}");
                assert_eq!(response.status == 403, !passes, "/signup {headers:?}");
                for path in ["/auth/signup", "/api/auth/sign-up/email"] {
                    let email = format!("{number}{}@example.com", path.len());
                    let new = json!({ "email": email, "password": PASSWORD, "name": "Ben" });
                    let response = actor.post(path, new).await;
                    assert_eq!(response.status.is_success(), passes, "{path} {headers:?}");
                    assert_eq!(response.status == 403, !passes, "{path} {headers:?}");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn cors_headers_are_sent_to_trusted_origins_only() {
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
                let response = preflight(origin).send("OPTIONS", "/api/user/me", "").await;
                let response = response.assert_status(200);
                assert_eq!(response.header("access-control-allow-origin"), origin);
                assert_eq!(response.header("access-control-allow-credentials"), "true");
                assert!(response.header("access-control-allow-methods").contains("PUT"));
                assert!(response.header("access-control-allow-headers").contains("x-api-key"));
                assert!(response.header("vary").to_lowercase().contains("origin"));
                assert!(response.header("x-request-id").starts_with("req_"));
                // A trusted origin may read error responses, too.
                let rejected = app.anonymous().with("origin", origin).get("/api/user/me").await;
                let rejected = rejected.assert_status(401);
                assert_eq!(rejected.header("access-control-allow-origin"), origin);
                assert!(rejected.header("access-control-expose-headers").contains("x-request-id"));
            }
            for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
                let response = preflight(origin).send("OPTIONS", "/api/user/me", "").await;
                assert_eq!(response.header("access-control-allow-origin"), "", "{origin}");
                let read = app.anonymous().with("origin", origin).get("/api/user/me").await;
                assert_eq!(read.header("access-control-allow-origin"), "");
                assert!(read.header("vary").to_lowercase().contains("origin"));
            }
        })
        .await;
}

#[tokio::test]
async fn a_foreign_origin_does_not_spend_the_rate_limits_of_its_visitor() {
    let limits = r#"{"sign_in":{"quota":3,"window_s":600},"address":{"quota":40,"window_s":600},
                     "token_checks":{"quota":3,"window_s":600},
                     "mail_client":{"quota":3,"window_s":600}}"#;
    let settings = [SETTINGS[0], SETTINGS[1], ("LIMITS_PROFILE", "usual"), ("LIMITS", limits)];
    with_settings(&settings)
        .run(async |app| {
            let evil = app.anonymous().with("origin", "https://evil.example");
            let token = json!({ "token": "x" });
            let credentials = json!({ "email": "ann@example.com", "password": PASSWORD });
            for (path, body) in [
                ("/signup", json!({})),
                ("/auth/signup", sign_up_request("ann@example.com")),
                ("/auth/login", credentials.clone()),
                ("/api/auth/sign-up/email", sign_up_request("ann@example.com")),
                ("/api/auth/sign-in/email", credentials.clone()),
                ("/api/auth/verify-email", token.clone()),
                ("/api/auth/claim-key", token.clone()),
                ("/api/auth/reset-password", json!({ "token": "x", "newPassword": PASSWORD })),
                ("/api/auth/request-password-reset", json!({ "email": "ann@example.com" })),
            ] {
                for _ in 0..3 {
                    evil.post(path, body.clone()).await.assert_status(403);
                }
                // The same without a content type, as a form or a `no-cors` script sends it.
                evil.send("POST", path, "").await.assert_status(403);
            }
            for _ in 0..30 {
                let preflight = evil.with("access-control-request-method", "POST");
                preflight.send("OPTIONS", "/signup", "").await;
            }
            let own = app.anonymous().with("origin", "https://api.example.com");
            let created =
                own.post("/api/auth/sign-up/email", sign_up_request("ann@example.com")).await;
            created.assert_status(200);
            own.post("/auth/login", credentials).await.assert_status(200);
            own.post("/signup", json!({})).await.assert_status(201);
            own.post("/api/auth/verify-email", token).await.assert_status(401);
            assert_eq!(app.count(crate::support::app::COUNT_ORGANIZATIONS).await, 2);
        })
        .await;
}

#[tokio::test]
async fn a_trusted_origin_may_send_any_header() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let requested = "sentry-trace,baggage,traceparent,tracestate,x-requested-with,\
                         x-made-up-by-a-proxy,authorization,content-type";
            for origin in ["https://api.example.com", "https://app.example.com"] {
                for path in ["/api/user/me", "/me", "/v1/organization/api-keys", "/auth/login"] {
                    let preflight = app
                        .anonymous()
                        .with("origin", origin)
                        .with("access-control-request-method", "POST")
                        .with("access-control-request-headers", requested);
                    let response = preflight.send("OPTIONS", path, "").await.assert_status(200);
                    let allowed = response.header("access-control-allow-headers");
                    for name in requested.split(',') {
                        assert!(
                            allowed.split(',').any(|it| it.trim() == name),
                            "{name}: {allowed}"
                        );
                    }
                }
            }
            let evil = app.anonymous().with("origin", "https://evil.example");
            let evil = evil.with("access-control-request-method", "POST");
            let evil = evil.with("access-control-request-headers", requested);
            let response = evil.send("OPTIONS", "/api/user/me", "").await;
            assert_eq!(response.header("access-control-allow-origin"), "");
            assert_eq!(response.header("access-control-allow-headers"), "");
        })
        .await;
}
