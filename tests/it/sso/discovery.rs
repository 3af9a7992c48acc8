//! The metadata of identity providers, as connections are created.

use serde_json::{Value, json};

use crate::outbound::INNER_ADDRESSES;
use crate::support::client::{TestClient, TestResponse};
use crate::support::documents::{DocumentServer, JSON, http_response};
use crate::support::sso::{connection_request, connections_of, provider_document};
use crate::support::{TestApp, run, with_settings};

/// Asserts that a request was rejected because of the issuer, and returns the message.
#[track_caller]
fn message(response: TestResponse) -> String {
    let response = response.assert_error(400, "VALIDATION_ERROR");
    assert_eq!(response.invalid_fields(), ["issuer"], "{}", response.text);
    response.body["meta"]["errors"][0]["error"].as_str().unwrap().to_owned()
}

async fn owner(app: &TestApp) -> (TestClient, String) {
    let ann = app.sign_up_account("ann@example.com").await;
    (app.session(&ann.cookie), connections_of(&ann))
}

fn json_response(document: &Value) -> String {
    http_response(200, JSON, &document.to_string())
}

#[tokio::test]
async fn each_failure_of_the_provider_is_named_as_a_step_and_nothing_is_created() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    let without = |name: &str| {
        let mut document = provider_document(&issuer);
        document[name] = Value::Null;
        json_response(&document)
    };
    let with = |name: &str, value: Value| {
        let mut document = provider_document(&issuer);
        document[name] = value;
        json_response(&document)
    };
    let large = format!("{{\"a\":\"{}\"}}", "a".repeat(10_000_000));
    let target = server.client_id("elsewhere");
    let redirect = format!("location: {target}\r\n");
    let cases = [
        (http_response(404, "", "{}"), "unreachable"),
        (http_response(500, "", ""), "unreachable"),
        (http_response(302, &redirect, ""), "unreachable"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned(), "unreachable"),
        ("garbage\r\n\r\n".to_owned(), "unreachable"),
        (http_response(200, "content-type: text/html\r\n", "<!doctype html><p>Hi"), "bad_json"),
        (http_response(200, JSON, ""), "bad_json"),
        (http_response(200, JSON, "[]"), "bad_json"),
        (http_response(200, JSON, &large), "bad_json"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{large}"), "bad_json"),
        (json_response(&provider_document("https://idp.example.com")), "issuer_mismatch"),
        (json_response(&provider_document(&format!("{issuer}/"))), "issuer_mismatch"),
        (without("issuer"), "issuer_mismatch"),
        (without("authorization_endpoint"), "incomplete"),
        (without("token_endpoint"), "incomplete"),
        (without("jwks_uri"), "incomplete"),
        (with("response_types_supported", json!(["id_token"])), "incomplete"),
        (with("id_token_signing_alg_values_supported", json!(["HS256"])), "incomplete"),
        (with("token_endpoint_auth_methods_supported", json!(["none"])), "incomplete"),
        (with("token_endpoint", json!("http://169.254.169.254/")), "not_allowed_address"),
        (with("jwks_uri", json!("https://10.0.0.1/jwks")), "not_allowed_address"),
    ];
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let (session, path) = owner(app).await;
            for (response, step) in cases {
                let what: String = response.chars().take(200).collect();
                server.respond(response);
                let message = message(session.post(&path, connection_request(&issuer)).await);
                assert!(message.starts_with("must "), "{what}: {message}");
                assert!(message.ends_with(&format!("({step})")), "{what}: {message}");
                for sent in ["169.254", "10.0.0.1", "Hi", "elsewhere", "garbage"] {
                    assert!(!message.contains(sent), "{what}: {message}");
                }
            }
            let requests = server.requests();
            let is_metadata = |head: &String| {
                head.starts_with("GET /idp/.well-known/openid-configuration HTTP/1.1\r\n")
            };
            assert!(requests.iter().all(is_metadata), "{requests:?}");
            assert_eq!(app.count("select count(*) from sso_connections").await, 0);
            server.serve(&provider_document(&issuer), &[]);
            session.post(&path, connection_request(&issuer)).await.assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn a_silent_provider_is_unreachable_and_no_transaction_waits_for_it() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed()), ("DATABASE_MAX_CONNECTIONS", "1")])
        .run(async |app| {
            let (session, path) = owner(app).await;
            let creation = session.post(&path, connection_request(&issuer));
            let meanwhile = async {
                let asked = async || !server.requests().is_empty();
                crate::support::waiting::wait_until_async("a request", asked).await;
                // The only connection is free.
                session.get(&path).await.assert_status(200);
                let open = "select count(*) from pg_stat_activity
                            where datname = current_database() and state like 'idle in trans%'";
                assert_eq!(app.count(open).await, 0);
            };
            let (rejected, ()) = tokio::join!(creation, meanwhile);
            assert!(message(rejected).ends_with("(unreachable)"));
        })
        .await;
}

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_fetched() {
    run(async |app| {
        let (session, path) = owner(app).await;
        for scheme in ["https", "http"] {
            for host in INNER_ADDRESSES {
                let issuer = format!("{scheme}://{host}:9/idp");
                let message = message(session.post(&path, connection_request(&issuer)).await);
                assert!(message.starts_with("must "), "{issuer}: {message}");
                assert!(!message.ends_with("(unreachable)"), "{issuer}: {message}");
            }
        }
        assert_eq!(app.count("select count(*) from sso_connections").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_name_with_an_inner_address_cannot_be_told_from_one_that_does_not_exist() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    server.serve(&provider_document(&issuer), &[]);
    let inner = issuer.replace("http://", "https://");
    // Another port of the host is allowed.
    with_settings(&[("OUTBOUND_ALLOW", "localhost:1")])
        .run(async |app| {
            let (session, path) = owner(app).await;
            let mut messages = Vec::new();
            for issuer in [inner.as_str(), "https://localhost", "https://idp.invalid/idp"] {
                messages.push(message(session.post(&path, connection_request(issuer)).await));
            }
            assert!(messages[0].ends_with("(unreachable)"), "{messages:?}");
            assert!(messages.iter().all(|it| *it == messages[0]), "{messages:?}");
            assert!(server.requests().is_empty());
        })
        .await;
}

#[tokio::test]
async fn activation_needs_metadata_that_can_be_used_at_that_moment() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    server.serve(&provider_document(&issuer), &[]);
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let (session, path) = owner(app).await;
            app.insert_domains().await;
            let created = session.post(&path, connection_request(&issuer)).await;
            let id = created.assert_status(201).body["data"]["id"].as_str().unwrap().to_owned();
            let activation = format!("{path}/{id}/activate");
            server.respond(http_response(503, "", ""));
            let rejected = session.post(&activation, json!({})).await;
            assert!(message(rejected).ends_with("(unreachable)"));
            let inactive = "select count(*) from sso_connections where status = 'inactive'";
            assert_eq!(app.count(inactive).await, 1);
            let mut document = provider_document(&issuer);
            document["jwks_uri"] = json!(format!("{issuer}/other-keys"));
            server.serve(&document, &[]);
            session.post(&activation, json!({})).await.assert_status(200);
            let renewed = "select count(*) from sso_connections where jwks_uri like '%/other-keys'";
            assert_eq!(app.count(renewed).await, 1);
        })
        .await;
}
