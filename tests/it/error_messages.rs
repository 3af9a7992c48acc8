//! A refusal says what to change: its text is about what was wrong, not about something else.

use axum::body::Body;
use serde_json::json;

use crate::support::client::TestClient;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};

const KEY_HINT: &str = "Send the key as `Authorization: Bearer …` or `X-Api-Key`";

#[tokio::test]
async fn a_key_in_another_scheme_or_in_none_is_told_how_keys_are_sent() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = &acme.api_key;
        for value in [
            format!("Token {key}"),
            format!("ApiKey {key}"),
            format!("Basic {key}"),
            "Basic dG50OngK".to_owned(),
            key.clone(),
            "Bearer".to_owned(),
            format!("Bearer:{key}"),
        ] {
            for path in
                ["/me", "/v1/organization/me", "/api/user/me", "/auth/me", "/v1/admin/audit-log"]
            {
                let actor = app.anonymous().with("authorization", &value);
                let answer = actor.get(path).await.assert_error(401, "unauthorized");
                assert!(answer.text.contains(KEY_HINT), "{path}: {}", answer.text);
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
        }
        // Two spaces, and any case of the scheme, are how keys are sent.
        for value in [format!("bearer {key}"), format!("BEARER  {key}")] {
            app.anonymous().with("authorization", &value).get("/me").await.assert_status(200);
        }
        // What is wrong with a credential that was sent as it has to be is not told.
        let answer = app.key("garbage").get("/me").await.assert_status(401);
        assert!(!answer.text.contains(KEY_HINT), "{}", answer.text);
    })
    .await;
}

#[tokio::test]
async fn a_token_in_the_wrong_place_is_told_the_right_one() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (access, refresh) = app.exchange(&acme.api_key).await;
        let answer = app.key(&access).get("/me").await.assert_error(401, "unauthorized");
        assert!(answer.text.contains("`Authorization: Bearer …`"), "{}", answer.text);
        let answer = app.bearer(&refresh).get("/me").await.assert_error(401, "unauthorized");
        assert!(answer.text.contains("/auth/refresh"), "{}", answer.text);
    })
    .await;
}

/// What each route that reads a body says to this request.
async fn error_texts(
    app: &TestApp,
    change: impl Fn(TestClient) -> TestClient,
    body: &'static [u8],
) -> Vec<(u16, String)> {
    let world = Fixtures::new(app).await;
    let mut texts = Vec::new();
    for operation in operations().iter().filter(|it| it.has_request_body() && !it.is_signed()) {
        let actor = change(world.client_without_content_type(app, operation));
        let answer = actor.send(&operation.method, &world.path(operation), Body::from(body)).await;
        texts.push((answer.status.as_u16(), answer.text));
    }
    assert!(texts.len() >= 20);
    texts
}

#[tokio::test]
async fn a_compressed_body_is_told_that_content_encoding_is_not_supported() {
    run(async |app| {
        let gzip = |actor: TestClient| {
            actor.with("content-type", "application/json").with("content-encoding", "gzip")
        };
        for (status, text) in error_texts(app, gzip, b"\x1f\x8b\x08").await {
            assert_eq!(status, 415);
            assert!(text.contains("Content-Encoding is not supported"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_content_type_that_is_missing_doubled_or_of_another_charset_is_told_so() {
    run(async |app| {
        let anon = app.anonymous();
        let json = anon.with("content-type", "application/json");
        for (actor, expected) in [
            (anon.clone(), "Content-Type header is required"),
            (
                json.with("content-type", "application/json"),
                "Content-Type header must not be repeated",
            ),
            (anon.with("content-type", "text/plain"), "Content-Type must be application/json"),
            (
                anon.with("content-type", "application/json; charset=latin1"),
                "Charset of Content-Type must be utf-8",
            ),
        ] {
            let answer = actor.send("POST", "/signup", "{}").await;
            let answer = answer.assert_error(415, "unsupported_media_type");
            assert!(answer.text.contains(expected), "{expected}: {}", answer.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_in_another_encoding_is_told_that_it_must_be_utf_8() {
    run(async |app| {
        let json = app.anonymous().with("content-type", "application/json");
        let utf_16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big_endian: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for body in [utf_16, big_endian, b"{\"name\":\"\xff\"}".to_vec()] {
            let answer = json.send("POST", "/signup", body).await.assert_error(400, "malformed");
            assert!(answer.text.contains("Request body must be UTF-8"), "{}", answer.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_bound_to_networks_is_told_where_its_request_has_no_known_address() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let bound = json!({ "name": "bound", "scopes": ["*"], "allowed_ips": ["203.0.113.9"] });
            let made = app.key(&acme.api_key).post("/v1/organization/api-keys", bound).await;
            let bound = crate::support::app::text(&made.assert_status(201).body["key"]);
            let unknown = "The client address of this request is unknown";
            for forwarded in ["", "unknown", "_hidden"] {
                let actor = app.key(&bound).with("x-forwarded-for", forwarded);
                let answer = actor.get("/me").await.assert_error(403, "forbidden");
                assert!(answer.text.contains(unknown), "{}", answer.text);
            }
            let actor = app.key(&bound).with("x-forwarded-for", "198.51.100.1");
            let answer = actor.get("/me").await.assert_error(403, "forbidden");
            assert!(!answer.text.contains(unknown), "{}", answer.text);
        })
        .await;
}

#[tokio::test]
async fn what_the_organization_family_suggests_is_about_what_was_wrong() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.key(&acme.api_key);
        let keys = "/v1/organization/api-keys";
        let suggested = |answer: crate::support::client::TestResponse| {
            answer.body["error"]["suggestion"].as_str().unwrap_or_default().to_owned()
        };
        let unknown = key.get(&format!("{keys}?nobody_reads_this")).await.assert_status(400);
        assert!(suggested(unknown).contains("issues"));
        let broken = key.with("content-type", "application/json").send("POST", keys, "{").await;
        assert!(suggested(broken.assert_status(400)).contains("JSON"));
        let gzip = key.with("content-type", "application/json").with("content-encoding", "gzip");
        let gzip = gzip.send("POST", keys, "{}").await.assert_status(415);
        assert!(suggested(gzip).contains("uncompressed"));
    })
    .await;
}
