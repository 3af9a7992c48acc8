//! `GET /me`

use chrono::TimeDelta;
use serde_json::json;

use crate::support::app::text;
use crate::support::run;

#[tokio::test]
async fn a_key_an_access_token_and_a_key_as_bearer_token_are_accepted() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        for client in [app.key(&acme.api_key), app.bearer(&acme.api_key), app.bearer(&token)] {
            let response = client.get("/me").await.assert_status(200);
            assert_eq!(response.body["org_id"], acme.org_id);
            assert_eq!(response.body["user_id"], acme.user_id);
            assert_eq!(response.body["api_keys"][0]["id"], acme.key_id);
        }
    })
    .await;
}

#[tokio::test]
async fn the_live_keys_of_the_organization_are_listed_newest_first() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let mut ids = vec![acme.key_id];
        for _ in 0..3 {
            app.clock.advance(TimeDelta::milliseconds(1));
            ids.insert(0, app.create_key_with(&acme.api_key, json!({})).await.key_id);
        }
        let gone = ids.remove(1);
        app.key(&acme.api_key).delete(&format!("/me/api-keys/{gone}")).await.assert_status(204);
        let body = app.key(&acme.api_key).get("/me").await.assert_status(200).body;
        let keys = body["api_keys"].as_array().unwrap().iter();
        assert_eq!(keys.map(|key| text(&key["id"])).collect::<Vec<_>>(), ids);
        assert!(!ids.contains(&other.key_id));
    })
    .await;
}

#[tokio::test]
async fn without_the_scope_a_key_sees_only_itself() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let (token, _) = app.exchange(&ci.api_key).await;
        for client in [app.key(&ci.api_key), app.bearer(&token)] {
            let body = client.get("/me").await.assert_status(200).body;
            let keys = body["api_keys"].as_array().unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0]["id"], ci.key_id);
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_key_gets_the_same_401() {
    run(async |app| {
        let acme = app.sign_up().await;
        let revoked = app.create_key_with(&acme.api_key, json!({})).await;
        let expired = app.create_key_with(&acme.api_key, json!({ "name": "expired" })).await;
        let path = format!("/me/api-keys/{}", revoked.key_id);
        app.key(&acme.api_key).delete(&path).await.assert_status(204);
        app.execute("update api_keys set expires_at = now() where name = 'expired'").await;

        let key = acme.api_key.as_str();
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
        let mut bad = vec![
            revoked.api_key.clone(),
            expired.api_key.clone(),
            unknown.expose().to_owned(),
            key[..key.len() - 1].to_owned(),
            format!("{key}0"),
            key.to_uppercase(),
            format!("{}{}", &key[..key.len() - 6], "000000"),
            key.replace("tnt_live_", "tnt_test_"),
            "tnt_live_".to_owned(),
            "garbage".to_owned(),
        ];
        bad.push(bad[0].repeat(100));
        let expected = app.key("x").get("/me").await.assert_error(401, "unauthorized");
        let challenge = expected.header("www-authenticate");
        assert!(challenge.starts_with(r#"Bearer realm="tenantry""#), "{challenge}");
        for key in bad {
            for client in [app.key(&key), app.bearer(&key)] {
                let response = client.get("/me").await.assert_error(401, "unauthorized");
                assert_eq!(response.body_without_request(), expected.body_without_request());
            }
        }
        // A value that cannot be a key gets another message, which reveals nothing.
        for key in ["", "é"] {
            for client in [app.key(key), app.bearer(key)] {
                client.get("/me").await.assert_error(401, "unauthorized");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_malformed_key_causes_no_database_lookup() {
    run(async |app| {
        let acme = app.sign_up().await;
        // Without a database a lookup is a 503.
        app.close();
        let key = acme.api_key.as_str();
        app.key(key).get("/me").await.assert_error(503, "service_unavailable");
        let (mut short, mut wrong) = (key.to_owned(), key.to_owned());
        short.pop();
        wrong.replace_range(10..11, if &key[10..11] == "a" { "b" } else { "a" });
        for garbage in [short, wrong, key.to_uppercase(), "a.b.c".to_owned(), "garbage".to_owned()]
        {
            app.bearer(&garbage).get("/me").await.assert_error(401, "unauthorized");
        }
    })
    .await;
}

#[tokio::test]
async fn two_different_credentials_are_rejected_and_one_sent_twice_is_accepted() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let both =
            app.key(&acme.api_key).with("authorization", &format!("Bearer {}", other.api_key));
        both.get("/me").await.assert_error(400, "malformed");
        let twice = app.bearer(&acme.api_key).with("authorization", "Bearer x");
        twice.get("/me").await.assert_error(400, "malformed");
        let same =
            app.key(&acme.api_key).with("authorization", &format!("bearer {}", acme.api_key));
        same.get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_in_the_url_is_never_read() {
    run(async |app| {
        let acme = app.sign_up().await;
        let path = format!("/me?api_key={0}&x-api-key={0}&access_token={0}", acme.api_key);
        app.anonymous().get(&path).await.assert_error(401, "unauthorized");
    })
    .await;
}
