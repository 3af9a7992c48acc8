//! Caching and compression of `/openapi.yaml`, `/openapi.json` and `/.well-known/jwks.json`.
//! Private data is not cached.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::support::app::PRIVATE_KEYS;
use crate::support::{TestApp, run, with_settings};

const DOCUMENTS: [&str; 3] = ["/openapi.yaml", "/openapi.json", "/.well-known/jwks.json"];

const SETTINGS: [(&str, &str); 1] = [("JWT_PRIVATE_KEYS", PRIVATE_KEYS)];

/// The status, the headers and the bytes of a response, which need not be text.
async fn fetch(
    app: &TestApp,
    path: &str,
    (name, value): (&str, &str),
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let request = Request::get(path).header("host", "api.example.com").header(name, value);
    let request = request.body(Body::empty()).unwrap();
    let response = tenantry::http::router(&app.app).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_public_document_may_be_cached_and_a_matching_etag_gets_a_304() {
    with_settings(&SETTINGS)
        .run(async |app| {
            for path in DOCUMENTS {
                let first = app.anonymous().get(path).await.assert_status(200);
                let etag = first.header("etag").to_owned();
                assert!(etag.len() > 10, "{path}: no ETag");
                assert_eq!(first.header("cache-control"), "public, max-age=300", "{path}");
                // The last is without `W/`: the comparison is weak (RFC 9110 §8.8.3.2).
                for etags in [etag.as_str(), &format!("\"other\", {etag}"), "*", &etag[2..]] {
                    let again = app.anonymous().with("if-none-match", etags).get(path).await;
                    let again = again.assert_status(304);
                    assert_eq!(again.text, "");
                    assert_eq!(again.header("etag"), etag);
                    assert_eq!(again.header("cache-control"), "public, max-age=300");
                }
                for other in ["\"other\"", &etag.to_uppercase(), ""] {
                    let again = app.anonymous().with("if-none-match", other).get(path).await;
                    assert_eq!(again.assert_status(200).text, first.text, "{path}");
                }
                // A HEAD request gets the same ETag.
                let head = app.anonymous().send("HEAD", path, "").await.assert_status(200);
                assert_eq!(head.header("etag"), etag);
            }
        })
        .await;
}

#[tokio::test]
async fn a_public_document_is_compressed_for_clients_that_accept_gzip() {
    with_settings(&SETTINGS)
        .run(async |app| {
            for path in DOCUMENTS {
                let plain = app.anonymous().get(path).await.assert_status(200);
                assert_eq!(plain.header("content-encoding"), "");
                let accepted = ("accept-encoding", "br, gzip");
                let (status, headers, bytes) = fetch(app, path, accepted).await;
                assert_eq!(status, 200);
                assert_eq!(headers[header::CONTENT_ENCODING], "gzip", "{path}");
                assert_eq!(headers[header::ETAG], plain.header("etag"));
                assert_eq!(headers[header::CONTENT_TYPE], plain.header("content-type"));
                let mut varies = headers.get_all(header::VARY).iter();
                assert!(varies.any(|it| it == "accept-encoding"), "{headers:?}");
                assert!(bytes.len() < plain.text.len());
                let mut text = String::new();
                GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
                assert!(text == plain.text, "{path} differs");
                let (_, headers, bytes) = fetch(app, path, ("accept-encoding", "gzip;q=0")).await;
                assert_eq!(headers.get(header::CONTENT_ENCODING), None);
                assert!(bytes == plain.text.as_bytes());
            }
        })
        .await;
}

#[tokio::test]
async fn a_response_with_private_data_must_not_be_stored_and_has_no_etag() {
    run(async |app| {
        let acme = app.sign_up().await;
        let response = app.key(&acme.api_key).get("/me").await.assert_status(200);
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("etag"), "");
    })
    .await;
}

#[tokio::test]
async fn the_root_redirects_to_the_documentation() {
    run(async |app| {
        let root = app.anonymous().get("/").await.assert_status(307);
        assert_eq!(root.header("cache-control"), "no-store");
        let page = app.anonymous().get(root.header("location")).await.assert_status(200);
        assert!(page.header("content-type").starts_with("text/html"));
    })
    .await;
}
