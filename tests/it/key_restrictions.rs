//! Network restrictions of keys: a key allows only addresses that its creating key allows.

use serde_json::{Value, json};

use crate::support::app::text;
use crate::support::client::TestClient;
use crate::support::{TestApp, run, with_settings};

const KEYS: &str = "/v1/organization/api-keys";
/// The requests of these tests come from 192.0.2.7.
const TEST_NETWORK: &str = "192.0.2.0/24";

/// Creates a key with all scopes and these networks; returns its text and its id.
async fn create_key(app: &TestApp, by: &str, name: &str, allowed_ips: Value) -> (String, String) {
    let request = json!({ "name": name, "scopes": ["*"], "allowed_ips": allowed_ips });
    let response = app.key(by).post(KEYS, request).await.assert_status(201);
    (text(&response.body["key"]), text(&response.body["id"]))
}

/// The paths that create keys in the two families with a field for networks, and its name.
fn creation_paths(org_id: &str) -> [(String, &'static str); 2] {
    let of_user = format!("/api/user/organizations/{org_id}/api-keys");
    [(KEYS.to_owned(), "allowed_ips"), (of_user, "allowedIps")]
}

async fn change(actor: &TestClient, path: &str, id: &str, body: Value) -> u16 {
    let path = format!("{path}/{id}");
    let response = if path.starts_with("/v1") {
        actor.patch(&path, body).await
    } else {
        actor.put(&path, body).await
    };
    response.status.as_u16()
}

#[tokio::test]
async fn a_network_restricted_key_creates_only_keys_within_its_networks() {
    run(async |app| {
        let acme = app.sign_up().await;
        let networks = json!([TEST_NETWORK, "2001:db8::/33", "2001:db8:8000::/33"]);
        let (bound, _) = create_key(app, &acme.api_key, "bound", networks).await;
        for (path, field) in creation_paths(&acme.org_id) {
            let mint = async |name: String, allowed_ips: Option<Value>| {
                let mut request = json!({ "name": name, "scopes": ["usage:read"] });
                if let Some(networks) = allowed_ips {
                    request[field] = networks;
                }
                app.key(&bound).post(&path, request).await
            };
            for (number, wider) in [
                None,
                Some(json!([])),
                Some(json!(["0.0.0.0/0"])),
                Some(json!(["192.0.2.0/23"])),
                Some(json!([TEST_NETWORK, "203.0.113.9"])),
                Some(json!(["::/0"])),
                Some(json!(["2001:db8::/31"])),
            ]
            .into_iter()
            .enumerate()
            {
                let response = mint(format!("{field} {number}"), wider).await;
                let response = response.assert_error(403, "forbidden");
                assert!(response.text.contains("addresses"), "{}", response.text);
            }
            for (number, within) in [
                json!([TEST_NETWORK]),
                json!(["192.0.2.7", "192.0.2.128/25"]),
                json!(["::ffff:192.0.2.9"]),
                // The two halves together allow this network.
                json!(["2001:db8::/32"]),
            ]
            .into_iter()
            .enumerate()
            {
                mint(format!("{field} within {number}"), Some(within)).await.assert_status(201);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn keys_created_in_a_family_without_a_network_field_inherit_the_networks() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let (bound, _) = create_key(app, &acme.api_key, "bound", json!([TEST_NETWORK])).await;
            let from = |key: &str, address: &str| app.key(key).with("x-forwarded-for", address);
            let here = from(&bound, "192.0.2.7");
            let minted =
                here.post("/me/api-keys", json!({ "name": "ci" })).await.assert_status(201);
            let minted = text(&minted.body["api_key"]);
            from(&minted, "192.0.2.8").get("/me").await.assert_status(200);
            from(&minted, "203.0.113.9").get("/me").await.assert_error(403, "forbidden");
        })
        .await;
}

#[tokio::test]
async fn a_network_restricted_key_cannot_widen_a_key_or_change_a_wider_one() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (bound, bound_id) =
            create_key(app, &acme.api_key, "bound", json!([TEST_NETWORK])).await;
        let (_, narrow) = create_key(app, &acme.api_key, "narrow", json!(["192.0.2.7"])).await;
        let (_, wide) = create_key(app, &acme.api_key, "wide", json!([])).await;
        let actor = app.key(&bound);
        for (path, field) in creation_paths(&acme.org_id) {
            for (id, networks, expected) in [
                (&bound_id, json!([]), 403),
                (&bound_id, json!([TEST_NETWORK, "10.0.0.0/8"]), 403),
                (&bound_id, json!(["192.0.2.0/24"]), 200),
                (&narrow, json!([]), 403),
                (&narrow, json!(["203.0.113.9"]), 403),
                (&narrow, json!(["192.0.2.7", "192.0.2.8"]), 200),
                (&wide, json!([TEST_NETWORK]), 403),
            ] {
                let status = change(&actor, &path, id, json!({ field: networks })).await;
                assert_eq!(status, expected, "{path} {id} {networks}");
            }
            // It cannot change anything else of a wider key, either.
            assert_eq!(change(&actor, &path, &wide, json!({ "enabled": true })).await, 403);
            let rotate = format!("{path}/{wide}/rotate");
            actor.post(&rotate, json!({})).await.assert_error(403, "forbidden");
        }
        // An unrestricted key may lift the restriction; then the key may change wider ones.
        let unrestricted = app.key(&acme.api_key);
        assert_eq!(change(&unrestricted, KEYS, &bound_id, json!({ "allowed_ips": [] })).await, 200);
        assert_eq!(
            change(&actor, KEYS, &wide, json!({ "allowed_ips": [TEST_NETWORK] })).await,
            200
        );
    })
    .await;
}

#[tokio::test]
async fn rotated_keys_and_exchanged_tokens_keep_the_network_restriction() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let at = |actor: TestClient, address: &str| actor.with("x-forwarded-for", address);
            let (inside, outside) = ("192.0.2.7", "203.0.113.9");
            let (bound, id) = create_key(app, &acme.api_key, "bound", json!([TEST_NETWORK])).await;
            let exchange = json!({ "api_key": bound });
            let rejected =
                at(app.anonymous(), outside).post("/auth/token-exchange", exchange.clone()).await;
            rejected.assert_error(403, "forbidden");
            let tokens = at(app.anonymous(), inside).post("/auth/token-exchange", exchange).await;
            let tokens = tokens.assert_status(200).body;
            let refresh = json!({ "refresh_token": tokens["refresh_token"] });
            let rejected =
                at(app.anonymous(), outside).post("/auth/refresh", refresh.clone()).await;
            rejected.assert_error(403, "forbidden");
            let tokens =
                at(app.anonymous(), inside).post("/auth/refresh", refresh).await.assert_status(200);
            let access = text(&tokens.body["access_token"]);
            at(app.bearer(&access), outside).get("/me").await.assert_error(403, "forbidden");
            // The token cannot create a wider key, either.
            let wide = json!({ "name": "by a token", "scopes": ["*"] });
            at(app.bearer(&access), inside).post(KEYS, wide).await.assert_error(403, "forbidden");
            let rotate = format!("{KEYS}/{id}/rotate");
            let rotated =
                at(app.key(&bound), inside).post(&rotate, json!({})).await.assert_status(200);
            let rotated = text(&rotated.body["key"]);
            at(app.key(&rotated), outside).get("/me").await.assert_error(403, "forbidden");
            let own = at(app.key(&rotated), inside).post("/v1/admin/key/rotate", json!({})).await;
            let own = text(&own.assert_status(200).body["new_api_key"]);
            at(app.key(&own), outside).get("/me").await.assert_error(403, "forbidden");
            at(app.key(&own), inside).get("/me").await.assert_status(200);
        })
        .await;
}
