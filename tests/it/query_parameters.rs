//! Query parameters that a route does not know (contract §1, *Bad input*).

use serde_json::json;
use tenantry::http::family::Family;

use crate::support::requests::Fixtures;
use crate::support::run;
use crate::support::spec::{Operation, operations};

/// Rows that a request could have made.
const ROWS: &str = "select (select count(*) from api_keys) + (select count(*) from accounts)
                         + (select count(*) from personal_tokens)
                         + (select count(*) from organizations) + (select count(*) from invites)
                         + (select count(*) from audit_events)";

/// Whether it answers with a page that a mailed link leads to.
fn is_page(operation: &Operation) -> bool {
    operation.description["responses"]["200"]["content"]["text/html; charset=utf-8"].is_object()
}

fn with_parameter(path: &str, parameter: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{parameter}")
}

#[tokio::test]
async fn every_route_of_every_family_refuses_a_parameter_that_it_does_not_know_by_its_name() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let before = app.count(ROWS).await;
        let mut walked = 0;
        for operation in operations() {
            if Family::from_path(&operation.path) == Family::Other || is_page(&operation) {
                continue;
            }
            let path = with_parameter(&world.path(&operation), "nobody_reads_this=1");
            let actor = world.client_for(app, &operation);
            let answer = actor.send(&operation.method, &path, world.body(&operation)).await;
            let answer = answer.assert_error(400, "malformed");
            assert_eq!(answer.invalid_fields(), ["nobody_reads_this"], "{path}");
            walked += 1;
        }
        assert!(walked >= 60, "{walked} routes were found");
        assert_eq!(app.count(ROWS).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_check_that_asks_for_a_scope_is_refused_and_not_passed_without_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.mint(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let answer = app.key(&narrow.api_key).get("/auth/verify?scope=members:write").await;
        let answer = answer.assert_error(400, "malformed");
        assert_eq!(answer.invalid_fields(), ["scope"]);
        assert!(answer.text.contains("is not a query parameter of this route"), "{}", answer.text);
        // Who is not known learns nothing but that.
        app.anonymous().get("/auth/verify?scope=a").await.assert_error(401, "unauthorized");
        app.key("garbage").get("/auth/verify?scope=a").await.assert_error(401, "unauthorized");
        app.key(&acme.api_key).get("/auth/verify?").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn every_unknown_parameter_is_named_however_it_is_spelt() {
    run(async |app| {
        let acme = app.sign_up().await;
        let path = "/v1/organization/api-keys?limit=5&Limit=1&%6Cimi%74s=2&=3&flag&Limit=4";
        let answer = app.key(&acme.api_key).get(path).await.assert_error(400, "malformed");
        assert_eq!(answer.invalid_fields(), ["Limit", "limits", "", "flag"]);
        let known = "/v1/organization/api-keys?%6Cimit=5&include_revoked=true";
        app.key(&acme.api_key).get(known).await.assert_status(200);
        let many: Vec<String> = (0..2_000).map(|number| format!("a{number}")).collect();
        let answer =
            app.key(&acme.api_key).get(&format!("/me?{}", many.join("&"))).await.assert_status(400);
        assert!(answer.text.len() < 16_000, "{}", answer.text.len());
    })
    .await;
}

#[tokio::test]
async fn pages_and_public_documents_ignore_what_mail_clients_and_load_balancers_append() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let mut walked = 0;
        for operation in operations() {
            let is_public =
                Family::from_path(&operation.path) == Family::Other || is_page(&operation);
            if !is_public {
                continue;
            }
            let path = with_parameter(&world.path(&operation), "utm_source=newsletter&v=2");
            let actor = world.client_for(app, &operation);
            let answer = actor.send(&operation.method, &path, world.body(&operation)).await;
            answer.assert_status(200);
            walked += 1;
        }
        assert!(walked >= 8, "{walked} routes were found");
        for path in ["/openapi.json?v=2", "/openapi.yaml?v=2", "/docs/?v=2"] {
            app.anonymous().get(path).await.assert_status(200);
        }
    })
    .await;
}
