//! `POST /signup`

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::app::COUNT_ORGANIZATIONS;
use crate::support::{TestApp, run, with_settings};

#[tokio::test]
async fn a_signup_returns_an_organization_a_membership_and_a_key_with_every_scope() {
    run(async |app| {
        let response = app.anonymous().post("/signup", json!({ "name": "acme corp" })).await;
        insta::assert_json_snapshot!(response.assert_status(201).body);
    })
    .await;
}

#[tokio::test]
async fn an_empty_or_absent_body_is_fine() {
    run(async |app| {
        app.anonymous().post("/signup", json!({})).await.assert_status(201);
        app.anonymous().send("POST", "/signup", "").await.assert_status(201);
        let response = app.anonymous().post("/signup", json!({ "org_id": null, "name": "" })).await;
        assert_eq!(response.assert_status(201).body["key"]["name"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_chosen_id_is_stored_as_spelled() {
    run(async |app| {
        let response = app.anonymous().post("/signup", json!({ "org_id": "Acme_Corp-1" })).await;
        assert_eq!(response.assert_status(201).body["org_id"], "Acme_Corp-1");
    })
    .await;
}

#[tokio::test]
async fn an_existing_id_is_a_conflict_in_any_case() {
    run(async |app| {
        app.anonymous().post("/signup", json!({ "org_id": "acme" })).await.assert_status(201);
        for org_id in ["acme", "ACME"] {
            let response = app.anonymous().post("/signup", json!({ "org_id": org_id })).await;
            response.assert_error(409, "conflict");
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_40_concurrent_requests_for_one_id_succeeds() {
    run(async |app| {
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let anon = app.anonymous();
            attempts.spawn(async move {
                let response = anon.post("/signup", json!({ "org_id": "acme" })).await;
                response.status.as_u16()
            });
        }
        let mut statuses = attempts.join_all().await;
        statuses.sort_unstable();
        let mut expected = vec![409; 40];
        expected[0] = 201;
        assert_eq!(statuses, expected);
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        assert_eq!(app.count("select count(*) from api_keys").await, 1);
    })
    .await;
}

/// Makes the next `times` inserts into a table violate the unique constraint, as if a random value
/// existed already.
async fn collide(app: &TestApp, times: u32, table: &str, constraint: &str) {
    let sql = format!(
        "create sequence draws;
         create function collide() returns trigger language plpgsql as $$
         begin
             if nextval('draws') <= {times} then
                 raise unique_violation using constraint = '{constraint}';
             end if;
             return new;
         end $$;
         create trigger collide before insert on {table} for each row execute function collide();"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.connect().await).await.unwrap();
}

#[tokio::test]
async fn two_random_collisions_are_retried() {
    for (table, constraint) in [
        ("organizations", "organizations_handle_key"),
        ("users", "users_handle_key"),
        ("api_keys", "api_keys_digest_key"),
    ] {
        run(async |app| {
            collide(app, 2, table, constraint).await;
            app.sign_up().await;
            assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        })
        .await;
    }
}

#[tokio::test]
async fn three_random_collisions_are_a_conflict() {
    run(async |app| {
        collide(app, 3, "api_keys", "api_keys_digest_key").await;
        app.anonymous().post("/signup", json!({})).await.assert_error(409, "conflict");
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
        app.sign_up().await;
    })
    .await;
}

#[tokio::test]
async fn an_invalid_id_is_rejected_by_name() {
    run(async |app| {
        let long = "a".repeat(65);
        let rejected = [
            json!("a b"),
            json!("a/b"),
            json!("a.b"),
            json!(".."),
            json!("a\nb"),
            json!("a'b"),
            json!("a\u{0}b"),
            json!("\u{430}cme"),
            json!(long),
            json!(""),
            json!(7),
            json!({}),
            json!("admin"),
            json!("Well-Known"),
        ];
        for org_id in rejected {
            let response = app.anonymous().post("/signup", json!({ "org_id": org_id })).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["org_id"], "{org_id}");
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_is_named_at_once() {
    run(async |app| {
        let body = json!({ "org_id": 1, "name": "x".repeat(65), "role": "owner" });
        let response = app.anonymous().post("/signup", body).await;
        let response = response.assert_error(422, "validation_error");
        assert_eq!(response.invalid_fields(), ["org_id", "name", "role"]);
    })
    .await;
}

#[tokio::test]
async fn closed_signup_rejects_every_request() {
    with_settings(&[("SIGNUP_MODE", "closed")])
        .run(async |app| {
            app.anonymous().post("/signup", json!({})).await.assert_error(403, "forbidden");
        })
        .await;
}

#[tokio::test]
async fn gated_signup_requires_the_token() {
    let token = "front-door-token-1";
    with_settings(&[("SIGNUP_MODE", "gated"), ("SIGNUP_TOKEN", token)])
        .run(async |app| {
            let anon = app.anonymous();
            anon.post("/signup", json!({})).await.assert_error(403, "forbidden");
            let wrong = anon.with("x-signup-token", "front-door-token-2");
            wrong.post("/signup", json!({})).await.assert_error(403, "forbidden");
            anon.with("x-signup-token", token).post("/signup", json!({})).await.assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn a_signup_leaves_one_row_in_the_audit_log() {
    run(async |app| {
        app.sign_up().await;
        let row = "select to_jsonb(e) - '{id,organization_id,nonce,pepper_id,mac}'::text[]
                   from audit_events e";
        let row: Value = sqlx::query_scalar(row).fetch_one(&mut app.connect().await).await.unwrap();
        insta::assert_json_snapshot!(row);
    })
    .await;
}
