//! `POST /v1/verify` and `/v1/verify/batch`

use serde_json::{Value, json};

use super::{code, key_with_scope, verify};
use crate::support::app::text;
use crate::support::{TestApp, run, with_settings};

#[tokio::test]
async fn a_valid_key_is_described_with_its_organization() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": "ci", "scopes": ["trademarks:read"],
                              "metadata": { "team": "data", "token": "no secret" } });
        let path = "/v1/organization/api-keys";
        let created = app.key(&acme.api_key).post(path, request).await.assert_status(201);
        let key = text(&created.body["key"]);
        let required = json!({ "scopes": [["trademarks:write"], ["trademarks:read"]] });
        let verdict = verify(app, &key, required).await;
        let expected = json!({
            "object": "verification", "valid": true, "code": "valid", "credential": "api_key",
            "organization": { "id": acme.org_id, "name": acme.org_id, "plan": "trial",
                              "external_id": null, "metadata": {} },
            "key": { "id": created.body["id"], "name": "ci", "prefix": created.body["prefix"],
                     "scopes": ["trademarks:read"], "expires_at": null, "external_id": null,
                     "metadata": { "team": "data", "token": "no secret" } },
            "account": null, "missing_scopes": [], "limits": [],
            "quota": { "used": 2, "limit": 100_000, "resets_at": "2036-06-01T00:00:00.000Z" },
            "credits": null, "retry_after": null, "request_id": verdict["request_id"],
        });
        assert_eq!(verdict, expected);
    })
    .await;
}

#[tokio::test]
async fn every_defect_of_a_key_has_its_code() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = key_with_scope(app, &ann, "trademarks:read").await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
        assert_eq!(code(app, "garbage", json!({})).await, "key_malformed");
        let (last, rest) = (&key[key.len() - 1..], &key[..key.len() - 1]);
        let typo = format!("{rest}{}", if last == "a" { "b" } else { "a" });
        assert_eq!(code(app, &typo, json!({})).await, "key_malformed");
        assert_eq!(code(app, unknown.expose(), json!({})).await, "key_unknown");
        assert_eq!(code(app, &key, json!({})).await, "valid");
        let scopes = json!({ "scopes": [["trademarks:write", "docs:read"]] });
        let verdict = verify(app, &key, scopes).await;
        assert_eq!(verdict["code"], "scope_missing");
        assert_eq!(verdict["missing_scopes"], json!(["trademarks:write", "docs:read"]));
        app.execute("update api_keys set enabled = false").await;
        assert_eq!(code(app, &key, json!({})).await, "key_disabled");
        app.execute("update api_keys set expires_at = now() - interval '1 second'").await;
        assert_eq!(code(app, &key, json!({})).await, "key_expired");
        app.execute("update api_keys set superseded_at = now(), name_held = false").await;
        assert_eq!(code(app, &key, json!({})).await, "key_rotated");
        app.execute("update api_keys set revoked_at = now()").await;
        assert_eq!(code(app, &key, json!({})).await, "key_revoked");
        app.execute("update organizations set suspended_at = now()").await;
        assert_eq!(code(app, &key, json!({})).await, "organization_suspended");
        app.execute("update organizations set deleted_at = now()").await;
        assert_eq!(code(app, &key, json!({})).await, "key_revoked");
    })
    .await;
}

#[tokio::test]
async fn a_personal_access_token_is_described_with_its_account_and_ends_with_its_membership() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let membership = app.invite_and_accept(&ann, &ben, "member").await;
        let pinned = json!({ "name": "pinned", "scopes": ["trademarks:read"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ben.cookie, pinned).await;
        let unpinned = json!({ "name": "unpinned", "scopes": ["trademarks:read"] });
        let (unpinned, _) = app.create_token(&ben.cookie, unpinned).await;
        let verdict = verify(app, &pinned, json!({ "scopes": [["trademarks:read"]] })).await;
        assert_eq!(verdict["code"], "valid");
        assert_eq!(verdict["credential"], "personal_token");
        assert_eq!(verdict["organization"]["id"], ann.org_id);
        assert_eq!(verdict["account"]["email"], "ben@example.com");
        // A token that is pinned to no organization acts in its account's own.
        let verdict = verify(app, &unpinned, json!({})).await;
        assert_eq!(verdict["organization"]["id"], ben.org_id);
        assert_eq!(verdict["quota"]["limit"], 100_000);
        let members = format!("/api/user/organizations/{}/members/{membership}", ann.org_id);
        app.session(&ann.cookie).delete(&members).await.assert_status(200);
        assert_eq!(code(app, &pinned, json!({})).await, "owner_disabled");
        assert_eq!(code(app, &unpinned, json!({})).await, "valid");
        app.execute("update accounts set is_active = false where email = 'ben@example.com'").await;
        assert_eq!(code(app, &unpinned, json!({})).await, "owner_disabled");
    })
    .await;
}

#[tokio::test]
async fn a_token_has_a_built_in_scope_only_with_the_role_that_permits_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let pinned = json!({ "name": "pinned", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (token, _) = app.create_token(&ben.cookie, pinned).await;
        for (scope, expected) in [
            ("members:write", "scope_missing"),
            ("*", "scope_missing"),
            ("members:read", "valid"),
            ("trademarks:write", "valid"),
        ] {
            let required = json!({ "scopes": [[scope]] });
            assert_eq!(code(app, &token, required).await, expected, "{scope}");
        }
        app.execute("update users set role = 'admin' where role = 'member'").await;
        let required = json!({ "scopes": [["members:write"]] });
        assert_eq!(code(app, &token, required).await, "valid");
    })
    .await;
}

#[tokio::test]
async fn the_client_s_address_and_origin_are_those_that_the_verifier_reports() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let request = json!({ "name": "ci", "scopes": ["*"], "allowedIps": ["203.0.113.0/24"] });
        let key = app.create_key(&ann, request).await.api_key;
        let from = |ip: &str| json!({ "client": { "ip": ip } });
        assert_eq!(code(app, &key, from("203.0.113.9")).await, "valid");
        assert_eq!(code(app, &key, from("::ffff:203.0.113.9")).await, "valid");
        assert_eq!(code(app, &key, from("192.0.2.7")).await, "address_not_allowed");
        assert_eq!(code(app, &key, json!({})).await, "address_unknown");
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let origins = json!({ "allowedOrigins": ["https://app.example.com"] });
        app.session(&ann.cookie).put(&path, origins).await.assert_status(200);
        let client = |origin| json!({ "client": { "ip": "203.0.113.9", "origin": origin } });
        for (origin, expected) in [
            ("https://app.example.com", "valid"),
            ("https://APP.example.com:443", "valid"),
            ("https://evil.example", "origin_not_allowed"),
            ("null", "origin_not_allowed"),
        ] {
            assert_eq!(code(app, &key, client(origin)).await, expected, "{origin}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_answered_in_order_or_rejected_with_every_problem_of_every_item() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let items = json!([{ "key": acme.api_key }, { "key": "garbage" }, { "key": other.api_key },
                           { "key": acme.api_key, "dry_run": true }]);
        let batch = json!({ "items": items });
        let list = app.verifier().post("/v1/verify/batch", batch).await.assert_status(200);
        let data = list.body["data"].as_array().unwrap();
        let found: Vec<_> = data.iter().map(|it| &it["organization"]["id"]).collect();
        assert_eq!(
            found,
            [&json!(acme.org_id), &Value::Null, &json!(other.org_id), &json!(acme.org_id)]
        );
        let items = json!([{ "key": acme.api_key, "cost": -1, "limit": 1 }, { "key": "" }, 7,
                           { "key": acme.api_key, "client": { "ip": "nowhere", "port": 1 } }]);
        let batch = json!({ "items": items });
        let rejected = app.verifier().post("/v1/verify/batch", batch).await;
        let rejected = rejected.assert_error(400, "validation_error");
        let issues = rejected.body["error"]["issues"].as_array().unwrap();
        let mut paths: Vec<_> = issues.iter().map(|issue| issue["path"].to_string()).collect();
        paths.sort();
        let expected = [
            r#"["items","0","cost"]"#,
            r#"["items","0","limit"]"#,
            r#"["items","1","key"]"#,
            r#"["items","2"]"#,
            r#"["items","3","client","ip"]"#,
            r#"["items","3","client","port"]"#,
        ];
        assert_eq!(paths, expected);
        for items in [json!([]), json!(vec![json!({ "key": "k" }); 101]), json!({}), Value::Null] {
            let batch = json!({ "items": items });
            let rejected = app.verifier().post("/v1/verify/batch", batch).await;
            rejected.assert_error(400, "validation_error");
        }
        let usage = app.key(&acme.api_key).get("/usage/today").await.assert_status(200);
        assert_eq!(usage.body["requests_used"], 1, "the valid batch alone");
    })
    .await;
}

#[tokio::test]
async fn invalid_requests_name_every_problem() {
    run(async |app| {
        let many = vec![json!(["docs:read"]); 17];
        for (request, fields) in [
            (json!({}), vec!["key"]),
            (json!({ "key": "k".repeat(513), "cost": 1_000_001 }), vec!["key", "cost"]),
            (json!({ "key": "k", "scopes": [[]] }), vec!["scopes"]),
            (json!({ "key": "k", "scopes": [] }), vec!["scopes"]),
            (json!({ "key": "k", "scopes": ["docs:read"] }), vec!["scopes"]),
            (json!({ "key": "k", "scopes": [["docs"]] }), vec!["scopes"]),
            (json!({ "key": "k", "scopes": many }), vec!["scopes"]),
            (json!({ "key": "k", "dry_run": "yes" }), vec!["dry_run"]),
            (json!({ "key": "k", "resource": "\u{7}" }), vec!["resource"]),
            (json!({ "key": "k", "dryRun": true }), vec!["dryRun"]),
        ] {
            let rejected = app.verifier().post("/v1/verify", request).await;
            let rejected = rejected.assert_error(400, "validation_error");
            assert_eq!(rejected.invalid_fields(), fields, "{}", rejected.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_rejection_is_in_the_organization_s_list_with_the_verifier_and_the_route() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": "ci", "scopes": ["trademarks:read"] });
        let path = "/v1/organization/api-keys";
        let created = app.key(&acme.api_key).post(path, request).await.assert_status(201);
        let key = text(&created.body["key"]);
        let check = json!({ "scopes": [["docs:read"]], "resource": "GET /docs/{id}",
                            "client": { "ip": "203.0.113.9" } });
        let verdict = verify(app, &key, check.clone()).await;
        let mut dry_run = check;
        dry_run["dry_run"] = json!(true);
        assert_eq!(code(app, &key, dry_run).await, "scope_missing");
        let list = app.key(&acme.api_key).get("/v1/organization/denials").await.assert_status(200);
        let rejections = list.body["data"].as_array().unwrap();
        assert_eq!(rejections.len(), 1, "{rejections:?}");
        let rejection = &rejections[0];
        for (field, expected) in [
            ("request_id", verdict["request_id"].clone()),
            ("path", json!("GET /docs/{id}")),
            ("status", json!(403)),
            ("code", json!("scope_missing")),
            (
                "detail",
                json!("Rejected in a check by the verifier gateway: lacks the scopes docs:read"),
            ),
            ("address", json!("203.0.113.9")),
            ("api_key_prefix", created.body["display_id"].clone()),
        ] {
            if field != "api_key_prefix" {
                assert_eq!(rejection[field], expected, "{rejection}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_recorded_route_contains_no_credential_in_any_spelling() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let (text, encoded) = (&key.api_key, key.api_key.replace('_', "%5F"));
        let session = "tnt_session_whatever";
        for resource in [
            format!("/bot{text}/send"),
            format!("/files/{text}.json"),
            format!("/{encoded}"),
            format!("/k={text}"),
            format!("/a/{session}"),
        ] {
            let check = json!({ "scopes": [["docs:read"]], "resource": resource });
            assert_eq!(code(app, text, check).await, "scope_missing");
        }
        let list = app.key(&acme.api_key).get("/v1/organization/denials").await.assert_status(200);
        let rejections = list.body["data"].as_array().unwrap().iter();
        let mut paths: Vec<_> = rejections.map(|it| it["path"].as_str().unwrap()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/a/…", "/files/…", "/…", "/…", "/…/send"]);
    })
    .await;
}

#[tokio::test]
async fn an_ended_key_is_recorded_in_its_organization_s_audit_log_and_an_unknown_one_nowhere() {
    run(async |app| {
        let acme = app.sign_up().await;
        let created = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
        let path = format!("/v1/organization/api-keys/{}", created.key_id);
        app.key(&acme.api_key).delete(&path).await.assert_status(200);
        for key in [created.api_key.as_str(), "garbage"] {
            for _ in 0..3 {
                assert_ne!(code(app, key, json!({})).await, "valid");
            }
        }
        app.app.rejections.flush().await.unwrap();
        let audit = "/v1/organization/audit-log?event_type=api_key.refused";
        let events = app.key(&acme.api_key).get(audit).await.assert_status(200);
        let events = events.body["data"].as_array().unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["detail"], json!({ "reason": "revoked", "count": 3 }));
        assert_eq!(app.count("select count(*) from denials").await, 3);
    })
    .await;
}

/// Each check starts after the answer to the change, on another server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_revoked_passes_no_later_check_on_any_server() {
    run(async |app| {
        let servers = [app.replica(), app.replica(), app.replica()];
        let acme = app.sign_up().await;
        for round in 0..30 {
            let created =
                app.create_key_with(&acme.api_key, json!({ "name": format!("k{round}") })).await;
            for server in &servers {
                assert_eq!(code(server, &created.api_key, json!({})).await, "valid");
            }
            let path = format!("/v1/organization/api-keys/{}", created.key_id);
            app.key(&acme.api_key).delete(&path).await.assert_status(200);
            for server in &servers {
                assert_eq!(code(server, &created.api_key, json!({})).await, "key_revoked");
            }
        }
        servers.iter().for_each(TestApp::close);
    })
    .await;
}

#[tokio::test]
async fn a_key_under_an_old_pepper_is_verified_and_rehashed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let old = app.app.peppers.candidates(&acme.api_key)[1];
        sqlx::query("update api_keys set pepper_id = 'p1', digest = $1")
            .bind(old.bytes().as_slice())
            .execute(&mut app.connect().await)
            .await
            .unwrap();
        assert_eq!(code(app, &acme.api_key, json!({})).await, "valid");
        // The check does not wait for the rehash.
        let renewed = "select count(*) from api_keys where pepper_id = 'p2'";
        let rehashed = async {
            while app.count(renewed).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), rehashed).await.unwrap();
        assert_eq!(code(app, &acme.api_key, json!({})).await, "valid");
    })
    .await;
}

#[tokio::test]
async fn without_its_database_a_check_is_unavailable_and_never_a_rejection() {
    with_settings(&[("VERIFY_TIMEOUT_MS", "100")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut lock = app.superuser().await;
            sqlx::raw_sql("begin; lock table api_keys").execute(&mut lock).await.unwrap();
            let check = json!({ "key": acme.api_key });
            let unavailable = app.verifier().post("/v1/verify", check).await;
            let unavailable = unavailable.assert_error(503, "service_unavailable");
            assert_eq!(unavailable.header("retry-after"), "1");
            let nginx = app.verifier().with("x-api-key", &acme.api_key);
            nginx.get("/v1/verify/nginx").await.assert_error(503, "service_unavailable");
            sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
        })
        .await;
}
