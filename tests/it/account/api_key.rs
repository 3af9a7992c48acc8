//! `POST /auth/api-key/regenerate`

use serde_json::json;

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

async fn regenerate(app: &TestApp, token: &str) -> TestResponse {
    app.bearer(token).post("/auth/api-key/regenerate", json!({})).await
}

#[tokio::test]
async fn regenerating_revokes_the_previous_default_key_at_once_and_no_other() {
    run(async |app| {
        let request = json!({ "email": "dev@example.com", "password": PASSWORD });
        let created = app.anonymous().post("/auth/signup", request).await.assert_status(201);
        let data = &created.body["data"];
        let (first, token) = (text(&data["api_key"]), text(&data["token"]));
        let other = app.create_key_with(&first, json!({ "name": "other" })).await;
        app.clock.advance(chrono::TimeDelta::seconds(1));
        let second = regenerate(app, &token).await.assert_status(200);
        let second = text(&second.body["data"]["api_key"]);
        app.key(&first).get("/me").await.assert_status(401);
        let keys = app.key(&second).get("/v1/organization/api-keys").await.assert_status(200);
        let names: Vec<_> =
            keys.body["data"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["default", "other"]);
        app.key(&other.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn without_a_default_key_regenerating_creates_the_first() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        assert_eq!(app.count("select count(*) from api_keys").await, 0);
        let created = app.session(&ann.cookie).post("/auth/api-key/regenerate", json!({})).await;
        let key = text(&created.assert_status(200).body["data"]["api_key"]);
        let me = app.key(&key).get("/me").await.assert_status(200);
        assert_eq!(me.body["org_id"], ann.org_id);
    })
    .await;
}

#[tokio::test]
async fn regenerating_also_revokes_the_successors_of_the_default_key() {
    run(async |app| {
        let request = json!({ "email": "dev@example.com", "password": PASSWORD });
        let created = app.anonymous().post("/auth/signup", request).await.assert_status(201);
        let data = &created.body["data"];
        let (mut key, token) = (text(&data["api_key"]), text(&data["token"]));
        let mut keys = vec![key.clone()];
        for _ in 0..2 {
            let me = app.key(&key).get("/v1/organization/me").await.assert_status(200);
            let id = text(&me.body["api_key"]["id"]);
            let path = format!("/v1/organization/api-keys/{id}/rotate");
            let rotated = app.key(&key).post(&path, json!({ "grace_period": 3600 })).await;
            key = text(&rotated.assert_status(200).body["key"]);
            keys.push(key.clone());
        }
        let new = regenerate(app, &token).await.assert_status(200);
        for key in keys {
            app.key(&key).get("/me").await.assert_status(401);
        }
        let new = text(&new.body["data"]["api_key"]);
        let me = app.key(&new).get("/me").await.assert_status(200);
        assert_eq!(me.body["api_keys"][0]["name"], "default");
        assert_eq!(me.body["api_keys"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_key_stays_valid_after_concurrent_regenerations() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        regenerate(app, &ann.token).await.assert_status(200);
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let client = app.bearer(&ann.token);
            attempts.spawn(async move {
                let response = client.post("/auth/api-key/regenerate", json!({})).await;
                response.assert_status(200).body["data"]["api_key"].as_str().unwrap().to_owned()
            });
        }
        let mut good = 0;
        for key in attempts.join_all().await {
            good += usize::from(app.key(&key).get("/me").await.status == 200);
        }
        assert_eq!(good, 1);
        let live = "select count(*) from api_keys where revoked_at is null";
        assert_eq!(app.count(live).await, 1);
    })
    .await;
}
