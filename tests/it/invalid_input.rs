//! Invalid request bodies: every route that reads a body rejects an invalid one with a clear
//! 4xx error and writes nothing.

use axum::body::{Body, Bytes};
use serde_json::{Value, json};
use tenantry::error::{ErrorKind, OauthFailure};
use tenantry::http::family::Family;

use crate::support::client::TestClient;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run};

/// Counts the rows that a request could insert.
const ROWS: &str = "select (select count(*) from api_keys) + (select count(*) from accounts)
                         + (select count(*) from personal_tokens)
                         + (select count(*) from organizations) + (select count(*) from invites)
                         + (select count(*) from audit_events)";

/// Every route that reads a body, with a client that may use it. Routes whose body is signed by
/// another service are left out, and those that read a form: `stripe::signature` and
/// `verification::introspection` test them.
async fn body_routes(app: &TestApp) -> Vec<(TestClient, String, String)> {
    let fixtures = Fixtures::new(app).await;
    let operations = operations().into_iter().filter(|it| it.has_json_body() && !it.is_signed());
    let routes: Vec<_> = operations
        .map(|it| {
            (fixtures.client_without_content_type(app, &it), it.method.clone(), fixtures.path(&it))
        })
        .collect();
    assert!(routes.len() >= 20, "the routes that read a body were not found");
    routes
}

/// Whether a route ignores fields that it does not know (RFC 7591 §2). It rejects a body that has
/// only such fields because required ones are missing.
fn ignores_unknown_fields(path: &str) -> bool {
    path.starts_with("/oauth2/register")
}

/// The status and the code of a kind of error in the family of a path.
fn expected_error(path: &str, kind: &ErrorKind) -> (u16, &'static str) {
    // On routes other than registration, the body is invalid.
    let kind = match kind {
        ErrorKind::Oauth(_) if !ignores_unknown_fields(path) => &ErrorKind::Invalid,
        kind => kind,
    };
    match (kind, Family::from_path(path)) {
        (ErrorKind::Oauth(_), _) => (400, "invalid_client_metadata"),
        (ErrorKind::Malformed, _) => (400, "malformed"),
        (ErrorKind::Invalid, _) if path == "/oauth2/register" => (400, "invalid_redirect_uri"),
        (ErrorKind::Invalid, _) if ignores_unknown_fields(path) => (400, "invalid_client_metadata"),
        (ErrorKind::Invalid, Family::Onboarding | Family::Operator) => (422, "validation_error"),
        (ErrorKind::Invalid, _) => (400, "validation_error"),
        (ErrorKind::TooLarge, _) => (413, "entity_too_large"),
        (ErrorKind::UnsupportedMediaType, _) => (415, "unsupported_media_type"),
        other => panic!("{other:?}"),
    }
}

/// Asserts that every route rejects `body` with `content_type`, and inserts no row.
async fn assert_rejected(content_type: &str, body: impl Fn() -> Body, kind: ErrorKind) {
    run(async |app| {
        let routes = body_routes(app).await;
        let before = app.count(ROWS).await;
        for (actor, method, path) in routes {
            let may_be_large = path == "/v1/usage/events";
            if kind == ErrorKind::TooLarge && may_be_large {
                continue;
            }
            let (status, code) = expected_error(&path, &kind);
            let actor = actor.with("content-type", content_type);
            actor.send(&method, &path, body()).await.assert_error(status, code);
        }
        assert_eq!(app.count(ROWS).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_another_content_type_is_rejected_with_415() {
    let types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/foo+json",
        "application/json; charset=utf-16",
        "application/jsonx",
        "json",
        "",
    ];
    for content_type in types {
        assert_rejected(content_type, || Body::from("{}"), ErrorKind::UnsupportedMediaType).await;
    }
}

#[tokio::test]
async fn the_charset_utf_8_is_accepted_in_any_case() {
    run(async |app| {
        for content_type in ["application/json; charset=UTF-8", "Application/JSON;charset=utf-8"] {
            let anon = app.anonymous().with("content-type", content_type);
            anon.send("POST", "/signup", "{}").await.assert_status(201);
        }
    })
    .await;
}

#[tokio::test]
async fn a_compressed_body_is_rejected_with_415() {
    run(async |app| {
        let anon = app.anonymous().with("content-type", "application/json");
        let gzipped = anon.with("content-encoding", "gzip");
        gzipped.send("POST", "/signup", "{}").await.assert_error(415, "unsupported_media_type");
    })
    .await;
}

#[tokio::test]
async fn malformed_json_is_rejected_with_400() {
    let bodies = ["{", "{\"a\":}", "nul", "{}{}", "{'a':1}", "{\"a\":\"\\ud800\"}"];
    for body in bodies {
        assert_rejected("application/json", || Body::from(body), ErrorKind::Malformed).await;
    }
    assert_rejected(
        "application/json",
        || Body::from(&b"{\"name\":\"\xff\"}"[..]),
        ErrorKind::Malformed,
    )
    .await;
}

#[tokio::test]
async fn one_byte_order_mark_before_a_body_is_ignored() {
    run(async |app| {
        let anon = app.anonymous().with("content-type", "application/json");
        for body in ["\u{feff}{}", "\u{feff}{\"name\":\"a\"}", "\u{feff}"] {
            anon.send("POST", "/signup", body).await.assert_status(201);
        }
        let acme = app.sign_up().await;
        let key = app.key(&acme.api_key).with("content-type", "application/json");
        let request = "\u{feff}{\"name\":\"a\",\"scopes\":[\"usage:read\"]}";
        key.send("POST", "/v1/organization/api-keys", request).await.assert_status(201);
        // Only one, and only at the start.
        for body in ["\u{feff}\u{feff}{}", "{}\u{feff}", " \u{feff}{}"] {
            anon.send("POST", "/signup", body).await.assert_error(400, "malformed");
        }
    })
    .await;
}

#[tokio::test]
async fn at_most_50_invalid_fields_are_reported_with_the_number_of_the_others() {
    run(async |app| {
        for (actor, method, path) in body_routes(app).await {
            let members: Vec<String> =
                (0..6_000).map(|number| format!("\"a{number}\":1")).collect();
            let body = format!("{{{}}}", members.join(","));
            let actor = actor.with("content-type", "application/json");
            let (status, code) = expected_error(&path, &ErrorKind::Invalid);
            let response = actor.send(&method, &path, body).await.assert_error(status, code);
            assert!(response.text.len() < 12_000, "{path}: {}", response.text.len());
            if ignores_unknown_fields(&path) {
                assert!(!response.text.contains("a0"), "{path}: {}", response.text);
                continue;
            }
            assert!(response.text.contains("more issues"), "{path}");
            // OAuth errors name the fields in their text.
            if path.starts_with("/oauth2/") {
                continue;
            }
            let fields = response.invalid_fields();
            assert_eq!(fields.len(), 51, "{path}");
            assert_eq!(fields[50], "", "{path}");
        }
        let anon = app.anonymous().with("content-type", "application/json");
        let members: Vec<String> = (0..51).map(|number| format!("\"a{number}\":1")).collect();
        let response = anon.send("POST", "/signup", format!("{{{}}}", members.join(","))).await;
        assert!(response.text.contains("and 1 more issue\""), "{}", response.text);
        let response =
            anon.send("POST", "/signup", format!("{{{}}}", members[1..].join(","))).await;
        assert_eq!(response.invalid_fields().len(), 50);
    })
    .await;
}

#[tokio::test]
async fn json_that_is_not_an_object_is_invalid() {
    let kind = ErrorKind::Oauth(OauthFailure::InvalidClientMetadata);
    for body in ["[]", "null", "7", "\"name\"", "[{}]"] {
        assert_rejected("application/json", || Body::from(body), kind.clone()).await;
    }
}

#[tokio::test]
async fn json_nested_deeper_than_32_levels_is_rejected_with_400() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_rejected("application/json", || Body::from(nested(20_000)), ErrorKind::Malformed).await;
    assert_rejected("application/json", || Body::from(nested(32)), ErrorKind::Malformed).await;
    assert_rejected("application/json", || Body::from(nested(31)), ErrorKind::Invalid).await;
}

#[tokio::test]
async fn a_body_over_64_kib_is_rejected_with_413() {
    // `verification::usage` tests the limit of reported usage, which is higher.
    let padded = |length: usize| Body::from(format!("{{}}{}", " ".repeat(length - 2)));
    assert_rejected("application/json", || padded(3_000_000), ErrorKind::TooLarge).await;
    assert_rejected("application/json", || padded(64 * 1024 + 1), ErrorKind::TooLarge).await;
    run(async |app| {
        let anon = app.anonymous().with("content-type", "application/json");
        anon.send("POST", "/signup", padded(64 * 1024)).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_large_or_too_deep_is_not_read_to_its_end() {
    run(async |app| {
        for (piece, status) in [(" ".repeat(1024), 413), ("[".repeat(16), 400)] {
            // A body without an end: there is a response only if reading stops early.
            let pieces = std::iter::repeat(Bytes::from(piece));
            let endless = Body::from_stream(tokio_stream::iter(pieces.map(Ok::<_, String>)));
            let anon = app.anonymous().with("content-type", "application/json");
            anon.send("POST", "/signup", endless).await.assert_status(status);
        }
    })
    .await;
}

#[tokio::test]
async fn a_duplicate_field_is_rejected_by_name_even_with_equal_values() {
    run(async |app| {
        let anon = app.anonymous().with("content-type", "application/json");
        let response =
            anon.send("POST", "/signup", r#"{"name":"a","org_id":"x","name":"a"}"#).await;
        let response = response.assert_error(422, "validation_error");
        assert_eq!(response.invalid_fields(), ["name"]);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_field_is_rejected_by_name() {
    run(async |app| {
        for (actor, method, path) in body_routes(app).await {
            let body = json!({ "emailVerified": true, "organizationId": "x", "isOwner": true });
            let body = body.to_string();
            let actor = actor.with("content-type", "application/json");
            let (status, code) = expected_error(&path, &ErrorKind::Invalid);
            let response = actor.send(&method, &path, body).await.assert_error(status, code);
            if ignores_unknown_fields(&path) {
                assert!(!response.text.contains("emailVerified"), "{}", response.text);
                continue;
            }
            if path.starts_with("/oauth2/") {
                let issue = "`emailVerified` is not a field of this request";
                assert!(response.text.contains(issue), "{}", response.text);
                continue;
            }
            let fields = response.invalid_fields();
            assert!(fields.contains(&"emailVerified") && fields.contains(&"isOwner"), "{path}");
            // The organization to sign in to.
            let is_known = path == "/api/auth/sign-in/sso";
            assert_eq!(fields.contains(&"organizationId"), !is_known, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_with_control_characters_or_over_64_characters_is_rejected_and_others_are_kept() {
    run(async |app| {
        for name in ["a\u{0}b", "a\nb", "\u{1b}[31m", "\u{85}", &"é".repeat(65)] {
            let response = app.anonymous().post("/signup", json!({ "name": name })).await;
            assert_eq!(response.assert_status(422).invalid_fields(), ["name"], "{name:?}");
        }
        for name in ["Ünïcödé ☂ 名前", "' or 1=1 --", "<script>", "👩‍👩‍👧", &"é".repeat(64)]
        {
            let response =
                app.anonymous().post("/signup", json!({ "name": name })).await.assert_status(201);
            assert_eq!(response.body["key"]["name"], Value::from(name));
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected_in_the_error_format_of_their_family() {
    run(async |app| {
        for path in ["/me/", "/me/x", "/signup/", "/usage", "/usage/never", "/auth/verify/x"] {
            app.anonymous().get(path).await.assert_error(404, "not_found");
        }
        for path in ["/auth", "/auth/never", "/auth/login/x", "/auth/me/"] {
            let response = app.anonymous().get(path).await.assert_error(404, "not_found");
            assert_eq!(response.body["error"]["code"], "NOT_FOUND");
        }
        for path in ["/api/auth", "/api/auth/never", "/api/user", "/api/user/me/x"] {
            let response = app.anonymous().get(path).await.assert_error(404, "not_found");
            assert_eq!(response.body["success"], false);
        }
        for path in ["/v1/organization", "/v1/organization/never", "/v1/organization/api-keys/"] {
            let response = app.anonymous().get(path).await.assert_error(404, "not_found");
            assert!(response.body["error"].is_object());
        }
        for path in ["/docs/nope", "/docs/%ff"] {
            let response = app.anonymous().get(path).await;
            assert_eq!(response.header("content-type"), "application/problem+json");
        }
        for path in ["/nowhere", "/v1/other", "/%00", "/mee", "/..%2f..%2fetc/passwd"] {
            let response = app.anonymous().get(path).await.assert_status(404);
            assert_eq!(response.header("content-type"), "application/problem+json");
            assert_eq!(response.body["code"], "not_found");
        }
        for (method, path, allow) in [
            ("GET", "/signup", "POST"),
            ("PUT", "/me", "GET,HEAD"),
            ("PATCH", "/me/api-keys", "GET,HEAD,POST"),
            ("BREW", "/signup", "POST"),
            ("GET", "/auth/login", "POST"),
            ("DELETE", "/api/auth/verify-email", "GET,HEAD,POST"),
        ] {
            let response = app.anonymous().send(method, path, "").await;
            let response = response.assert_error(405, "method_not_allowed");
            assert_eq!(response.header("allow"), allow);
        }
    })
    .await;
}
