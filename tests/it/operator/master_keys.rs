//! Master keys: which are accepted where, and what is recorded of rejected ones.

use serde_json::json;

use super::{create_request, provision};
use crate::support::app::{master_key, text};
use crate::support::client::TestClient;
use crate::support::{TestApp, run, with_settings};

const CREATE: &str = "/v1/admin/org/create";

async fn create(
    client: &TestClient,
    idempotency_key: &str,
    org_id: &str,
) -> crate::support::client::TestResponse {
    let client = client.with("idempotency-key", idempotency_key);
    client.post(CREATE, super::create_request_with("org_id", org_id)).await
}

#[tokio::test]
async fn only_a_master_key_of_the_route_s_scope_in_x_api_key_is_accepted() {
    run(async |app| {
        let acme = app.sign_up().await;
        let right = master_key("ORG_CREATE");
        for caller in [
            app.anonymous(),
            app.master("ORG_SUSPEND"),
            app.key(&right[1..]),
            app.key(&format!("{right}x")),
            app.key(&acme.api_key),
            app.bearer(&right),
            app.anonymous().with("cookie", &format!("tenantry_session={right}")),
        ] {
            let response = create(&caller, "a", "made").await.assert_error(401, "unauthorized");
            assert_eq!(response.body["error"], "UNAUTHORIZED");
        }
        let both = app.key(&right).with("authorization", &format!("Bearer {}", acme.api_key));
        create(&both, "a", "made").await.assert_status(400);
        create(&app.key(&right), "a", "made").await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn a_scope_without_a_master_key_accepts_no_caller() {
    with_settings(&[("MASTER_ADMIN_KEY_ORG_CREATE", "")])
        .run(async |app| {
            for key in ["", &master_key("ORG_CREATE")] {
                create(&app.key(key), "a", "made").await.assert_error(401, "unauthorized");
            }
        })
        .await;
}

#[tokio::test]
async fn a_master_key_is_rejected_on_all_other_routes() {
    run(async |app| {
        let operator = app.master("ORG_CREATE");
        for path in ["/me", "/v1/organization/me", "/api/user/me", "/auth/me"] {
            operator.get(path).await.assert_error(401, "unauthorized");
        }
        let own = operator.get("/v1/admin/audit-log").await.assert_status(401);
        assert_eq!(own.body["error"]["code"], "UNAUTHORIZED");
        let exchange = json!({ "api_key": master_key("ORG_CREATE") });
        app.anonymous().post("/auth/token-exchange", exchange).await.assert_status(401);
    })
    .await;
}

async fn rejected_credentials(
    app: &TestApp,
) -> Vec<(String, serde_json::Value, Option<String>, i16)> {
    app.app.rejections.flush().await.unwrap();
    sqlx::query_as(
        "select e.event_type, e.detail, e.address, e.status from audit_events e
         join organizations o on o.id = e.organization_id
         where o.handle = 'system' order by e.id",
    )
    .fetch_all(&mut app.connect().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn wrong_master_keys_are_one_audit_event_of_the_deployment_for_each_scope_with_their_number()
{
    run(async |app| {
        create(&app.anonymous(), "a", "made").await.assert_status(401);
        create(&app.key("wrong"), "a", "made").await.assert_status(401);
        let usage = "/v1/admin/org/made/usage";
        app.master("ORG_CREATE").get(usage).await.assert_error(401, "unauthorized");
        let mut events = rejected_credentials(app).await;
        events.sort_by_key(|it| it.1["scope"].to_string());
        let address = Some("192.0.2.7".to_owned());
        let event = |scope: &str, count: u32| {
            let detail = json!({ "scope": scope, "count": count });
            ("AUTH_FAIL_MASTER_KEY".to_owned(), detail, address.clone(), 401)
        };
        assert_eq!(events, [event("ORG_CREATE", 2), event("ORG_USAGE", 1)]);
    })
    .await;
}

#[tokio::test]
async fn wrong_secrets_are_rate_limited_and_a_correct_one_from_the_same_address_is_accepted() {
    with_settings(&[("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let wrong = app.key("wrong");
            let mut rejected = 0;
            let limited = loop {
                let response = create(&wrong, "a", "made").await;
                if response.status == 429 {
                    break response;
                }
                response.assert_error(401, "unauthorized");
                rejected += 1;
                assert!(rejected < 1_000, "wrong secrets are not limited");
            };
            assert_eq!(limited.body["error"], "RATE_LIMITED");
            assert!(limited.header("retry-after").parse::<u32>().unwrap() >= 1);
            assert!(limited.header("www-authenticate").is_empty());
            provision(app, "a", create_request()).await.assert_status(201);
            create(&wrong, "a", "made").await.assert_status(429);
            // Rate-limited attempts count in the audit log as well.
            let events: Vec<_> =
                rejected_credentials(app).await.into_iter().map(|(_, detail, ..)| detail).collect();
            let count = json!({ "scope": "ORG_CREATE", "count": rejected + 2 });
            assert!(events.contains(&count), "{events:?}");
        })
        .await;
}

#[tokio::test]
async fn both_secrets_of_a_scope_are_valid() {
    let (old, new) =
        ("old-0123456789abcdef0123456789abcdef", "new-0123456789abcdef0123456789abcdef");
    with_settings(&[("MASTER_ADMIN_KEY_ORG_CREATE", &format!("{new}, {old}"))])
        .run(async |app| {
            for (secret, id) in [(old, "one"), (new, "two")] {
                let created = create(&app.key(secret), id, id).await.assert_status(201);
                assert!(text(&created.body["api_key"]).starts_with("tnt_live_"));
            }
        })
        .await;
}

#[tokio::test]
async fn no_flood_of_rejected_keys_or_clients_keeps_a_wrong_master_key_out_of_the_audit_log() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            for _ in 0..25 {
                let acme = app.sign_up().await;
                for _ in 0..10 {
                    let key = app.create_key_with(&acme.api_key, json!({})).await;
                    let path = format!("/me/api-keys/{}", key.key_id);
                    app.key(&acme.api_key).delete(&path).await.assert_status(204);
                    app.key(&key.api_key).get("/me").await.assert_status(401);
                }
            }
            for client in 0..30 {
                let client = app.key("wrong").with("x-forwarded-for", &format!("192.0.2.{client}"));
                create(&client, "a", "made").await.assert_status(401);
            }
            let events = rejected_credentials(app).await;
            let counted = events.iter().map(|it| it.1["count"].as_u64().unwrap());
            assert_eq!(counted.sum::<u64>(), 30);
            assert!(events.len() <= 11, "{}", events.len());
        })
        .await;
}

#[tokio::test]
async fn wrong_master_keys_are_recorded_when_the_audit_log_accepts_writes_again_and_none_is_lost() {
    run(async |app| {
        let mut connection = app.superuser().await;
        sqlx::raw_sql("begin; lock table audit_events").execute(&mut connection).await.unwrap();
        for _ in 0..5 {
            create(&app.key("wrong"), "a", "made").await.assert_status(401);
        }
        app.app.rejections.flush().await.unwrap_err();
        create(&app.key("wrong"), "a", "made").await.assert_status(401);
        app.app.rejections.flush().await.unwrap_err();
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
        let recorded: Vec<_> = rejected_credentials(app).await.into_iter().map(|it| it.1).collect();
        assert_eq!(recorded, [json!({ "scope": "ORG_CREATE", "count": 6 })]);
    })
    .await;
}

#[tokio::test]
async fn a_rejection_that_can_never_be_written_does_not_block_others() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.execute("update api_keys set enabled = false").await;
        app.key(&acme.api_key).get("/me").await.assert_status(401);
        create(&app.key("wrong"), "a", "made").await.assert_status(401);
        app.execute(
            "alter table audit_events add constraint audit_events_no_key_check
                     check (event_type <> 'api_key.refused')",
        )
        .await;
        app.app.rejections.flush().await.unwrap_err();
        let recorded: Vec<_> = rejected_credentials(app).await.into_iter().map(|it| it.1).collect();
        assert_eq!(recorded, [json!({ "scope": "ORG_CREATE", "count": 1 })]);
    })
    .await;
}

#[tokio::test]
async fn the_events_buffered_while_the_audit_log_accepts_no_writes_are_bounded() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let mut connection = app.superuser().await;
            sqlx::raw_sql("begin; lock table audit_events").execute(&mut connection).await.unwrap();
            for round in 0..2 {
                for client in 0..15 {
                    let address = format!("192.0.{round}.{client}");
                    let client = app.key("wrong").with("x-forwarded-for", &address);
                    create(&client, "a", "made").await.assert_status(401);
                }
                app.app.rejections.flush().await.unwrap_err();
            }
            sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
            let recorded = rejected_credentials(app).await;
            let counted = recorded.iter().map(|it| it.1["count"].as_u64().unwrap());
            assert_eq!(counted.sum::<u64>(), 30);
            assert!(recorded.len() <= 11, "{}", recorded.len());
        })
        .await;
}
