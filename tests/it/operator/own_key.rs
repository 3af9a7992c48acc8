//! `POST /v1/admin/key/rotate` and `/revoke`

use serde_json::json;

use crate::support::app::text;
use crate::support::run;

#[tokio::test]
async fn any_key_can_replace_itself_and_has_ended_when_the_response_arrives() {
    run(async |app| {
        let acme = app.sign_up().await;
        let small = json!({ "name": "ci", "scopes": ["usage:read"],
                            "expires_at": "2036-06-01T00:00:00Z" });
        let small = app.create_key_with(&acme.api_key, small).await;
        let rotated = app.key(&small.api_key).post("/v1/admin/key/rotate", json!({})).await;
        let rotated = rotated.assert_status(200);
        app.key(&small.api_key).get("/me").await.assert_error(401, "unauthorized");
        let new = text(&rotated.body["new_api_key"]);
        let me = app.key(&new).get("/me").await.assert_status(200);
        let key = &me.body["api_keys"][0];
        assert_eq!(key["scopes"], json!(["usage:read"]));
        assert_eq!((&key["name"], &key["display_id"]), (&json!("ci"), &rotated.body["prefix"]));
        assert_eq!(key["expires_at"], "2036-06-01T00:00:00.000Z");
        app.bearer(&new).send("POST", "/v1/admin/key/rotate", "").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn any_key_can_revoke_itself() {
    run(async |app| {
        let acme = app.sign_up().await;
        let small = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let revoked = app.key(&small.api_key).post("/v1/admin/key/revoke", json!({})).await;
        let revoked = revoked.assert_status(200);
        assert_eq!(
            (&revoked.body["revoked"], &revoked.body["org_id"]),
            (&json!(true), &json!(acme.org_id))
        );
        app.key(&small.api_key).get("/me").await.assert_error(401, "unauthorized");
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn only_one_of_twenty_concurrent_rotations_gets_a_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let requests = (0..20).map(|_| async {
            app.key(&acme.api_key).post("/v1/admin/key/rotate", json!({})).await
        });
        let responses = futures_util::future::join_all(requests).await;
        let (good, bad): (Vec<_>, Vec<_>) = responses.into_iter().partition(|it| it.status == 200);
        assert_eq!(good.len(), 1);
        for response in bad {
            assert!([401, 409].contains(&response.status.as_u16()), "{}", response.text);
        }
        app.key(&text(&good[0].body["new_api_key"])).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn only_an_organization_s_api_key_is_accepted() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let acme = app.sign_up().await;
        let (access, _) = app.exchange(&acme.api_key).await;
        let pinned = json!({ "name": "t", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
        for client in [
            app.bearer(&access),
            app.key(&pinned),
            app.session(&ann.cookie),
            app.bearer(&ann.token),
        ] {
            for path in ["/v1/admin/key/rotate", "/v1/admin/key/revoke"] {
                let response = client.post(path, json!({})).await.assert_status(403);
                assert_eq!(response.body["error"]["code"], "FORBIDDEN");
                assert_eq!(response.body["error"]["request_id"], response.body["request_id"]);
            }
            client.get("/v1/admin/audit-log").await.assert_status(403);
        }
        let odd = app.key(&acme.api_key).post("/v1/admin/key/rotate", json!({ "a": 1 })).await;
        assert_eq!(odd.assert_status(422).body["error"]["field"], "a");
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}
