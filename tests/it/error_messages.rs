//! The message of an error names what was wrong with this request and what to change.

use axum::body::Body;
use serde_json::json;

use crate::support::client::TestClient;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};

const KEY_HINT: &str = "Send the key as `Authorization: Bearer …` or `X-Api-Key`";

#[tokio::test]
async fn the_error_for_a_key_in_another_authorization_scheme_explains_how_to_send_keys() {
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
                let response = actor.get(path).await.assert_error(401, "unauthorized");
                assert!(response.text.contains(KEY_HINT), "{path}: {}", response.text);
                assert!(response.header("www-authenticate").starts_with("Bearer"));
            }
        }
        // Several spaces and any case of the scheme are valid.
        for value in [format!("bearer {key}"), format!("BEARER  {key}")] {
            app.anonymous().with("authorization", &value).get("/me").await.assert_status(200);
        }
        // The hint is not sent for an invalid key in the right header.
        let response = app.key("garbage").get("/me").await.assert_status(401);
        assert!(!response.text.contains(KEY_HINT), "{}", response.text);
    })
    .await;
}

#[tokio::test]
async fn the_error_for_a_token_in_the_wrong_place_names_the_right_one() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (access, refresh) = app.exchange(&acme.api_key).await;
        let response = app.key(&access).get("/me").await.assert_error(401, "unauthorized");
        assert!(response.text.contains("`Authorization: Bearer …`"), "{}", response.text);
        let response = app.bearer(&refresh).get("/me").await.assert_error(401, "unauthorized");
        assert!(response.text.contains("/auth/refresh"), "{}", response.text);
    })
    .await;
}

/// The status and the text of each route that reads a body, for this request.
async fn error_texts(
    app: &TestApp,
    change: impl Fn(TestClient) -> TestClient,
    body: &'static [u8],
) -> Vec<(u16, String)> {
    let fixtures = Fixtures::new(app).await;
    let mut texts = Vec::new();
    for operation in operations().iter().filter(|it| it.has_json_body() && !it.is_signed()) {
        let actor = change(fixtures.client_without_content_type(app, operation));
        let response =
            actor.send(&operation.method, &fixtures.path(operation), Body::from(body)).await;
        texts.push((response.status.as_u16(), response.text));
    }
    assert!(texts.len() >= 20);
    texts
}

#[tokio::test]
async fn the_error_for_a_compressed_body_names_content_encoding() {
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
async fn the_error_for_a_content_type_names_what_is_wrong_with_it() {
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
            let response = actor.send("POST", "/signup", "{}").await;
            let response = response.assert_error(415, "unsupported_media_type");
            assert!(response.text.contains(expected), "{expected}: {}", response.text);
        }
    })
    .await;
}

#[tokio::test]
async fn the_error_for_a_body_in_another_encoding_requires_utf_8() {
    run(async |app| {
        let json = app.anonymous().with("content-type", "application/json");
        let utf_16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big_endian: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for body in [utf_16, big_endian, b"{\"name\":\"\xff\"}".to_vec()] {
            let response = json.send("POST", "/signup", body).await.assert_error(400, "malformed");
            assert!(response.text.contains("Request body must be UTF-8"), "{}", response.text);
        }
    })
    .await;
}

#[tokio::test]
async fn the_error_for_a_network_restricted_key_says_if_the_client_address_is_unknown() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let request =
                json!({ "name": "bound", "scopes": ["*"], "allowed_ips": ["203.0.113.9"] });
            let created = app.key(&acme.api_key).post("/v1/organization/api-keys", request).await;
            let bound = crate::support::app::text(&created.assert_status(201).body["key"]);
            let unknown = "The client address of this request is unknown";
            for forwarded in ["", "unknown", "_hidden"] {
                let actor = app.key(&bound).with("x-forwarded-for", forwarded);
                let response = actor.get("/me").await.assert_error(403, "forbidden");
                assert!(response.text.contains(unknown), "{}", response.text);
            }
            let actor = app.key(&bound).with("x-forwarded-for", "198.51.100.1");
            let response = actor.get("/me").await.assert_error(403, "forbidden");
            assert!(!response.text.contains(unknown), "{}", response.text);
        })
        .await;
}

#[tokio::test]
async fn the_suggestions_of_the_organization_family_match_the_error() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.key(&acme.api_key);
        let keys = "/v1/organization/api-keys";
        let suggestion = |response: crate::support::client::TestResponse| {
            response.body["error"]["suggestion"].as_str().unwrap_or_default().to_owned()
        };
        let unknown = key.get(&format!("{keys}?nobody_reads_this")).await.assert_status(400);
        assert!(suggestion(unknown).contains("issues"));
        let broken = key.with("content-type", "application/json").send("POST", keys, "{").await;
        assert!(suggestion(broken.assert_status(400)).contains("JSON"));
        let gzip = key.with("content-type", "application/json").with("content-encoding", "gzip");
        let gzip = gzip.send("POST", keys, "{}").await.assert_status(415);
        assert!(suggestion(gzip).contains("uncompressed"));
    })
    .await;
}
