//! What applies to every request: request ids, headers, deadlines, panics, an unreachable
//! database.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;

use tokio_stream::StreamExt;

use crate::support::app::PRIVATE_KEYS;
use crate::support::locks::TableLock;
use crate::support::requests::Fixtures;
use crate::support::socket::{SocketServer, parse_status};
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};
use tenantry::http::family::RouteTable;

/// A router with a route that panics and one that never responds, in the onboarding family.
fn faulty_router(app: &TestApp) -> Router {
    let routes = Router::new()
        .route("/me/panic", get(|| async { panic!("the handler's own words") as &str }))
        .route("/me/hang", get(std::future::pending::<&str>));
    tenantry::http::with_middleware(&app.app, RouteTable::default(), routes)
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_family_s_format_without_the_panic_s_message() {
    run(async |app| {
        let response = app.client_for(faulty_router(app)).get("/me/panic").await;
        let response = response.assert_error(500, "internal_error");
        assert!(!response.text.contains("own words"));
    })
    .await;
}

#[tokio::test]
async fn a_request_past_its_deadline_is_a_503_in_the_family_s_format() {
    run(async |app| {
        let client = app.client_for(faulty_router(app));
        tokio::time::pause();
        let (response, ()) = tokio::join!(client.get("/me/hang"), async {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(21)).await;
        });
        tokio::time::resume();
        let response = response.assert_error(503, "service_unavailable");
        assert_eq!(response.header("retry-after"), "1");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_a_400() {
    run(async |app| {
        let never = Body::from_stream(tokio_stream::pending::<Result<String, String>>());
        let anon = app.anonymous().with("content-type", "application/json");
        tokio::time::pause();
        let (response, ()) = tokio::join!(anon.send("POST", "/signup", never), async {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(16)).await;
        });
        tokio::time::resume();
        response.assert_error(400, "malformed");
    })
    .await;
}

#[tokio::test]
async fn a_body_below_the_minimum_transfer_rate_is_a_400_after_5_seconds() {
    run(async |app| {
        let pieces = tokio_stream::iter(["{"]).chain(tokio_stream::pending());
        let slow = Body::from_stream(pieces.map(Ok::<_, String>));
        let anon = app.anonymous().with("content-type", "application/json");
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let response = anon.send("POST", "/signup", slow).await;
        let took = started.elapsed();
        tokio::time::resume();
        response.assert_error(400, "malformed");
        assert!((5..8).contains(&took.as_secs()), "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn a_missing_repeated_or_invalid_host_header_is_a_400() {
    run(async |app| {
        let server = SocketServer::start(app);
        let rest = "Connection: close\r\n\r\n";
        for (head, expected) in [
            ("HTTP/1.1\r\n", 400),
            ("HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n", 400),
            ("HTTP/1.1\r\nHost: a.example, b.example\r\n", 400),
            ("HTTP/1.1\r\nHost: a.example/path\r\n", 400),
            ("HTTP/1.1\r\nHost: user@a.example\r\n", 400),
            ("HTTP/1.0\r\nHost: a.example\r\nHost: b.example\r\n", 400),
            ("HTTP/1.0\r\n", 200),
            ("HTTP/1.1\r\nHost: a.example:8080\r\n", 200),
            ("HTTP/1.1\r\nHost: [2001:db8::7]:443\r\n", 200),
            ("HTTP/1.1\r\nHost:\r\n", 200),
        ] {
            let response = server.send_raw(&format!("GET /health/live {head}{rest}")).await;
            assert_eq!(parse_status(&response), expected, "{head:?}: {response}");
        }
        let response = server.send_raw(&format!("GET /me HTTP/1.1\r\n{rest}")).await;
        assert!(response.contains(r#""code":"malformed""#), "{response}");
        assert!(response.contains("\r\nx-request-id: req_"), "{response}");
    })
    .await;
}

#[tokio::test]
async fn a_caller_s_request_id_is_returned_in_the_header_that_it_came_in() {
    run(async |app| {
        let id = "trace-0123456789_ABC";
        let response = app.anonymous().with("x-request-id", id).get("/me").await;
        assert_eq!(response.header("x-request-id"), id);
        assert_eq!(response.body["request_id"], id);
        let response = app.anonymous().with("x-correlation-id", id).get("/me").await;
        assert_eq!(response.header("x-correlation-id"), id);
        assert_eq!(response.header("x-request-id"), id);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_request_id_is_replaced() {
    run(async |app| {
        for id in ["short", "with spaces in between", "é23456789012345678", &"x".repeat(129)] {
            let response = app.anonymous().with("x-request-id", id).get("/me").await;
            let replacement = response.header("x-request-id");
            assert!(replacement.starts_with("req_") && replacement.len() == 20, "{replacement}");
            assert_eq!(response.body["request_id"], replacement);
        }
    })
    .await;
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    run(async |app| {
        for path in ["/me", "/nowhere", "/health/live", "/docs/", "/openapi.json"] {
            let response = app.anonymous().get(path).await;
            let is_public = path == "/openapi.json";
            let cached = if is_public { "public, max-age=300" } else { "no-store" };
            assert_eq!(response.header("cache-control"), cached, "{path}");
            assert_eq!(response.header("x-content-type-options"), "nosniff");
            assert_eq!(response.header("content-security-policy"), "frame-ancestors 'none'");
            assert_eq!(response.header("strict-transport-security"), "");
        }
    })
    .await;
}

#[tokio::test]
async fn with_an_https_public_url_responses_have_an_hsts_header() {
    with_settings(&[("PUBLIC_URL", "https://api.example.com")])
        .run(async |app| {
            let response = app.anonymous().get("/health/live").await;
            assert!(response.header("strict-transport-security").starts_with("max-age="));
        })
        .await;
}

#[tokio::test]
async fn readiness_requires_the_current_schema() {
    run(async |app| {
        app.anonymous().get("/health/ready").await.assert_status(200);
        app.execute("update _sqlx_migrations set success = false where version = 6").await;
        app.anonymous().get("/health/ready").await.assert_status(503);
        app.execute("update _sqlx_migrations set success = true").await;
        app.anonymous().get("/health/ready").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn without_its_database_the_server_is_live_not_ready_and_responds_503() {
    // Without a private key, a route for verifiers is a 409.
    with_settings(&[("JWT_PRIVATE_KEYS", PRIVATE_KEYS)])
        .run(async |app| {
            let fixtures = Fixtures::new(app).await;
            app.app.meter.flush().await.unwrap();
            app.close();
            app.anonymous().get("/health/live").await.assert_status(200);
            app.anonymous().get("/health/ready").await.assert_status(503);
            let needs_none = [
                "getHealthLive",
                "getHealthReady",
                "getJwks",
                "getAuthorizationServerMetadata",
                "getOpenidConfiguration",
                "getProtectedResourceMetadata",
                "showInvitePage",
                "showVerifyEmailPage",
                "showResetPasswordPage",
                "showClaimKeyPage",
                // Without a state.
                "completeSso",
                "showSsoError",
            ];
            for operation in operations().iter().filter(|it| !needs_none.contains(&it.id())) {
                let client = fixtures.client_for(app, operation);
                let (path, body) = (fixtures.path(operation), fixtures.body(operation));
                let response = client.send(&operation.method, &path, body).await;
                let response = response.assert_error(503, "service_unavailable");
                assert_eq!(response.header("retry-after"), "1");
            }
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_the_database_closed_is_replaced_without_a_failed_key_check() {
    run(async |app| {
        let acme = app.sign_up().await;
        for _ in 0..5 {
            // Several connections are open, and the database closes all of them.
            let key = app.key(&acme.api_key).with("origin", "https://acme.example.com");
            let anonymous = app.anonymous();
            let (verified, ready) =
                tokio::join!(key.get("/auth/verify"), anonymous.get("/health/ready"));
            verified.assert_status(200);
            ready.assert_status(200);
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and pid <> pg_backend_pid()";
            assert!(app.execute(cut).await > 1);
        }
        // Replaces the connection that was closed last, before the checks after the test.
        let _ = app.app.meter.flush().await;
    })
    .await;
}

#[tokio::test]
async fn cancelled_work_returns_its_connection_to_the_pool() {
    with_settings(&[("DATABASE_MAX_CONNECTIONS", "1")])
        .run(async |app| {
            let query = app.app.db.run(async |db| {
                sqlx::query("delete from projects").execute(db).await?;
                Ok(())
            });
            // The caller stops waiting; the statement still waits.
            let mut lock = TableLock::before_write(app.superuser().await, "projects").await;
            lock.cancel(query).await;
            app.sign_up().await;
            lock.release().await;
        })
        .await;
}
