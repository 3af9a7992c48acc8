//! `POST /v1/organization/api-keys`, `GET …/{id}`, `GET /v1/organization/me`, `…/usage`

use serde_json::{Value, json};

use super::{KEYS, create, create_named, path};
use crate::support::{run, with_settings};

#[tokio::test]
async fn a_created_key_has_the_requested_settings() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "Analytics Dashboard",
            "scopes": ["trademarks:read", "billing:read"],
            "metadata": { "team": "data" },
            "allowed_ips": ["192.0.2.0/24", "2001:db8::/32", "::ffff:203.0.113.9"],
        });
        let created = app.key(&acme.api_key).post(KEYS, request).await.assert_status(201);
        insta::assert_json_snapshot!(created.body);
        let id = created.body["id"].as_str().unwrap();
        let presented = app.key(&acme.api_key).get(&path(id)).await.assert_status(200);
        insta::assert_json_snapshot!(presented.body);
        let key = created.body["key"].as_str().unwrap();
        let me = app.bearer(key).get("/v1/organization/me").await.assert_status(200);
        insta::assert_json_snapshot!(me.body);
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_is_named_at_once() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "", "scopes": [], "expires_at": "2020-01-01T00:00:00Z", "metadata": 1,
            "allowed_ips": ["everywhere"], "organization_id": "x",
        });
        let response = app.key(&acme.api_key).post(KEYS, request).await;
        let response = response.assert_error(400, "validation_error");
        let expected =
            ["name", "scopes", "metadata", "allowed_ips", "organization_id", "expires_at"];
        assert_eq!(response.invalid_fields(), expected);
        let response = app.key(&acme.api_key).post(KEYS, json!({})).await;
        assert_eq!(
            response.assert_error(400, "validation_error").invalid_fields(),
            ["name", "scopes"]
        );
    })
    .await;
}

#[tokio::test]
async fn every_invalid_value_is_rejected_by_field() {
    run(async |app| {
        let acme = app.sign_up().await;
        let many: Vec<String> = (0..1000).map(|number| format!("a{number}:read")).collect();
        let wrong = [
            ("name", json!("x".repeat(256))),
            ("name", json!("a\u{7}")),
            ("name", Value::Null),
            ("scopes", json!("usage:read")),
            ("scopes", json!(["no:such"])),
            ("scopes", json!(["usage:read", "usage:read"])),
            ("scopes", json!(many)),
            ("expires_at", json!("2037-01-01T00:00:00")),
            ("expires_at", json!("99999-01-01T00:00:00Z")),
            ("expires_at", json!(4_102_444_800_u64)),
            ("metadata", json!({ "a": "x".repeat(4096) })),
            ("metadata", json!({ "a": { "b": "c" } })),
            ("metadata", json!({ "a": 1 })),
            ("metadata", json!({ "a": "\u{0}" })),
            ("metadata", json!({ "": "data" })),
            ("metadata", json!({ "team": "data", " ": "data" })),
            ("allowed_ips", json!(["10.0.0.0/33"])),
            ("allowed_ips", json!("10.0.0.0/8")),
        ];
        for (field, value) in wrong {
            let mut request = json!({ "name": "ci", "scopes": ["usage:read"] });
            request[field] = value.clone();
            let response = app.key(&acme.api_key).post(KEYS, request).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), [field], "{value}");
        }
        assert_eq!(app.count("select count(*) from api_keys").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_name_is_unique_across_both_families() {
    run(async |app| {
        let acme = app.sign_up().await;
        create_named(app, &acme.api_key, "ci").await;
        let again = json!({ "name": "ci", "scopes": ["*"] });
        app.key(&acme.api_key).post(KEYS, again).await.assert_error(409, "conflict");
        let again = app.key(&acme.api_key).post("/me/api-keys", json!({ "name": "ci" })).await;
        again.assert_error(409, "conflict");
    })
    .await;
}

#[tokio::test]
async fn creating_and_reading_require_their_scopes_and_the_rejection_names_them() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": "ci", "scopes": ["usage:read"] });
        let ci = create(app, &acme.api_key, request.clone()).await;
        let response =
            app.key(&ci.api_key).post(KEYS, request).await.assert_error(403, "forbidden");
        assert_eq!(response.error()["missing_scopes"], json!(["api-keys:write"]));
        for path in [KEYS, &path(&acme.key_id)] {
            let response = app.key(&ci.api_key).get(path).await.assert_error(403, "forbidden");
            assert_eq!(response.error()["missing_scopes"], json!(["api-keys:read"]));
        }
        let response = app.key(&ci.api_key).get("/v1/organization/usage").await;
        let response = response.assert_error(403, "forbidden");
        assert_eq!(response.error()["missing_scopes"], json!(["billing:read"]));
    })
    .await;
}

#[tokio::test]
async fn a_key_creates_no_key_beyond_its_own_scopes_or_expiry() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "ci", "scopes": ["api-keys:manage"], "expires_at": "2036-06-01T00:00:00Z",
        });
        let ci = create(app, &acme.api_key, request).await;
        for request in [
            json!({ "name": "a", "scopes": ["*"], "expires_at": "2036-06-01T00:00:00Z" }),
            json!({ "name": "a", "scopes": ["api-keys:read"] }),
            json!({
                "name": "a", "scopes": ["api-keys:read"], "expires_at": "2036-06-01T00:00:01Z",
            }),
        ] {
            app.key(&ci.api_key).post(KEYS, request).await.assert_error(403, "forbidden");
        }
    })
    .await;
}

#[tokio::test]
async fn another_organization_s_key_is_not_found() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let client = app.key(&acme.api_key);
        let never = path("key_0000000000000000000000");
        let foreign = path(&other.key_id);
        let wrong = [foreign, path(&acme.user_id), path("key_"), path("%00"), path("sess_1")];
        for (method, suffix, body) in [
            ("GET", "", ""),
            ("PATCH", "", r#"{"enabled":false}"#),
            ("DELETE", "", ""),
            ("POST", "/rotate", "{}"),
        ] {
            let client = client.with("content-type", "application/json");
            let send = async |path: &str| {
                let response = client.send(method, &format!("{path}{suffix}"), body).await;
                response.assert_error(404, "not_found").body_without_request()
            };
            let expected = send(&never).await;
            for path in &wrong {
                assert_eq!(send(path).await, expected, "{method} {path}");
            }
        }
        app.key(&other.api_key).get("/v1/organization/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_accepted_only_from_its_allowed_addresses() {
    run(async |app| {
        let acme = app.sign_up().await;
        // The tests' requests come from 192.0.2.7.
        let here = json!({ "name": "here", "scopes": ["*"], "allowed_ips": ["192.0.2.0/24"] });
        let there = json!({ "name": "there", "scopes": ["*"], "allowed_ips": ["203.0.113.0/24"] });
        let here = create(app, &acme.api_key, here).await;
        let there = create(app, &acme.api_key, there).await;
        app.key(&here.api_key).get("/me").await.assert_status(200);
        app.key(&there.api_key).get("/me").await.assert_error(403, "forbidden");
        let body = json!({ "api_key": there.api_key });
        app.anonymous().post("/auth/token-exchange", body).await.assert_error(403, "forbidden");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_from_a_disallowed_address_is_rejected_and_does_not_use_up_the_token() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (_, token) = app.exchange(&acme.api_key).await;
        let refresh = json!({ "refresh_token": token });
        app.execute("update api_keys set allowed_ips = '{203.0.113.0/24}'").await;
        let rejected = app.anonymous().post("/auth/refresh", refresh.clone()).await;
        rejected.assert_error(403, "forbidden");
        app.execute("update api_keys set allowed_ips = '{192.0.2.0/24}'").await;
        app.anonymous().post("/auth/refresh", refresh).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_forwarded_address_counts() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let there = json!({ "name": "there", "scopes": ["*"], "allowed_ips": ["203.0.113.9"] });
            let there = create(app, &acme.api_key, there).await;
            let from = |seen: &str| app.key(&there.api_key).with("x-forwarded-for", seen);
            from("203.0.113.9").get("/me").await.assert_status(200);
            from("198.51.100.1, ::ffff:203.0.113.9").get("/me").await.assert_status(200);
            from("203.0.113.9, 198.51.100.1").get("/me").await.assert_error(403, "forbidden");
            app.key(&there.api_key).get("/me").await.assert_error(403, "forbidden");
        })
        .await;
}

#[tokio::test]
async fn usage_reports_the_month_and_the_plan_s_limits() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.key(&acme.api_key).get("/v1/organization/me").await.assert_status(200);
        let usage = app.key(&acme.api_key).get("/v1/organization/usage").await.assert_status(200);
        insta::assert_json_snapshot!(usage.body);
    })
    .await;
}
