//! Query parameters that a route does not accept.

use serde_json::json;
use tenantry::http::family::Family;

use crate::support::requests::Fixtures;
use crate::support::run;
use crate::support::spec::{Operation, operations};

/// Counts the rows that a request could create.
const ROWS: &str = "select (select count(*) from api_keys) + (select count(*) from accounts)
                         + (select count(*) from personal_tokens)
                         + (select count(*) from organizations) + (select count(*) from invites)
                         + (select count(*) from audit_events)";

/// Whether the response is an HTML page.
fn is_html_page(operation: &Operation) -> bool {
    let responses = operation.description["responses"].as_object();
    let mut contents = responses.into_iter().flatten().map(|(_, response)| &response["content"]);
    contents.any(|content| content["text/html; charset=utf-8"].is_object())
}

fn with_parameter(path: &str, parameter: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{parameter}")
}

#[tokio::test]
async fn every_route_of_every_family_rejects_an_unknown_parameter_by_name() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let before = app.count(ROWS).await;
        let mut tested = 0;
        for operation in operations() {
            // A proxy's misconfigured check gets a 503.
            let is_exempt = is_html_page(&operation) || operation.is_for_proxies();
            let family = Family::from_path(&operation.path);
            if matches!(family, Family::Other | Family::OAuth) || is_exempt {
                continue;
            }
            let path = with_parameter(&fixtures.path(&operation), "nobody_reads_this=1");
            let client = fixtures.client_for(app, &operation);
            let response = client.send(&operation.method, &path, fixtures.body(&operation)).await;
            let response = response.assert_error(400, "malformed");
            assert_eq!(response.invalid_fields(), ["nobody_reads_this"], "{path}");
            tested += 1;
        }
        assert!(tested >= 60, "only {tested} routes were tested");
        assert_eq!(app.count(ROWS).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_scope_parameter_of_a_key_check_is_rejected_and_not_ignored() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let response = app.key(&narrow.api_key).get("/auth/verify?scope=members:write").await;
        let response = response.assert_error(400, "malformed");
        assert_eq!(response.invalid_fields(), ["scope"]);
        assert!(
            response.text.contains("is not a query parameter of this route"),
            "{}",
            response.text
        );
        // A caller without a valid credential gets a 401.
        app.anonymous().get("/auth/verify?scope=a").await.assert_error(401, "unauthorized");
        app.key("garbage").get("/auth/verify?scope=a").await.assert_error(401, "unauthorized");
        app.key(&acme.api_key).get("/auth/verify?").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn every_unknown_parameter_is_named_with_its_decoded_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let path = "/v1/organization/api-keys?limit=5&Limit=1&%6Cimi%74s=2&=3&flag&Limit=4";
        let response = app.key(&acme.api_key).get(path).await.assert_error(400, "malformed");
        assert_eq!(response.invalid_fields(), ["Limit", "limits", "", "flag"]);
        let known = "/v1/organization/api-keys?%6Cimit=5&include_revoked=true";
        app.key(&acme.api_key).get(known).await.assert_status(200);
        let many: Vec<String> = (0..2_000).map(|number| format!("a{number}")).collect();
        let response =
            app.key(&acme.api_key).get(&format!("/me?{}", many.join("&"))).await.assert_status(400);
        assert!(response.text.len() < 16_000, "{}", response.text.len());
    })
    .await;
}

#[tokio::test]
async fn html_pages_public_documents_and_oauth_routes_ignore_unknown_parameters() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let mut tested = 0;
        let mut operations = operations();
        // GETs come first, since an answer ends the authorization request.
        operations.sort_by_key(|it| it.method != "GET");
        for operation in operations {
            let family = Family::from_path(&operation.path);
            if !matches!(family, Family::Other | Family::OAuth) && !is_html_page(&operation) {
                continue;
            }
            let path = with_parameter(&fixtures.path(&operation), "utm_source=newsletter&v=2");
            let client = fixtures.client_for(app, &operation);
            let response = client.send(&operation.method, &path, fixtures.body(&operation)).await;
            // The sign-in page and authorization requests redirect. Pages of single sign-on state
            // what is missing.
            let is_sso = operation.path.starts_with("/api/auth/sso/");
            let is_success = response.status.is_success()
                || response.status.is_redirection()
                || is_sso && response.text.starts_with("<!doctype html>");
            assert!(is_success, "{path}: {}", response.text);
            tested += 1;
        }
        assert!(tested >= 8, "only {tested} routes were tested");
        for path in ["/openapi.json?v=2", "/openapi.yaml?v=2", "/docs/?v=2"] {
            app.anonymous().get(path).await.assert_status(200);
        }
    })
    .await;
}
