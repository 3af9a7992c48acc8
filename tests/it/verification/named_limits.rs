//! Named limits of keys and organizations, external ids and the organization's metadata.

use serde_json::{Value, json};

use super::{code, verify};
use crate::support::client::TestResponse;
use crate::support::rate_limits::assert_retry_after;
use crate::support::{TestApp, run, with_settings};

/// A limit of 3 units an hour.
fn limit(name: &str, always: bool) -> Value {
    json!({ "name": name, "limit": 3, "window_s": 3600, "always": always })
}

/// Sets settings of the organization as the operator.
async fn set(app: &TestApp, org_id: &str, settings: Value) -> Value {
    let name = uuid::Uuid::now_v7().to_string();
    let client = app.master_with_idempotency_key("ORG_SETTINGS", &name);
    let path = format!("/v1/admin/org/{org_id}/settings");
    client.post(&path, settings).await.assert_status(200).body
}

#[tokio::test]
async fn a_limit_counts_the_checks_that_name_it_or_every_check_if_always_is_set() {
    run(async |app| {
        let acme = app.sign_up().await;
        let limits = json!([limit("search", false), limit("all", true)]);
        let key = app.create_key_with(&acme.api_key, json!({ "limits": limits })).await.api_key;
        let search = |units: u32| json!({ "limits": [{ "name": "search", "cost": units }] });
        let verdict = verify(app, &key, search(2)).await;
        let state = |name, remaining, reset: &Value| {
            json!({ "name": name, "limit": 3, "remaining": remaining, "reset_s": reset["reset_s"] })
        };
        let [search_reset, all_reset] = [0, 1].map(|index| &verdict["limits"][index]);
        let counted = json!([state("search", 1, search_reset), state("all", 2, all_reset)]);
        assert_eq!(verdict["limits"], counted);
        let verdict = verify(app, &key, search(2)).await;
        assert_eq!(verdict["code"], "rate_limited");
        assert_eq!(verdict["limits"][0]["remaining"], 1);
        assert!(verdict["retry_after"].as_u64().unwrap() <= 1_200, "{verdict}");
        // Nothing of the other limit was taken, and other keys and names are not affected.
        let verdict = verify(app, &key, json!({ "limits": [{ "name": "export" }] })).await;
        assert_eq!(verdict["limits"][0]["remaining"], 1, "{verdict}");
        assert_eq!(code(app, &acme.api_key, search(3)).await, "valid");
        assert_eq!(code(app, &key, search(1)).await, "valid");
        assert_eq!(code(app, &key, json!({})).await, "rate_limited");
    })
    .await;
}

#[tokio::test]
async fn a_check_of_more_units_than_a_limit_ever_allows_is_rejected_without_a_retry_time() {
    run(async |app| {
        let acme = app.sign_up().await;
        let limits = json!({ "limits": [limit("search", false)] });
        let key = app.create_key_with(&acme.api_key, limits).await.api_key;
        let units = json!({ "limits": [{ "name": "search", "cost": 4 }] });
        let verdict = verify(app, &key, units).await;
        assert_eq!(
            (&verdict["code"], &verdict["retry_after"]),
            (&json!("rate_limited"), &json!(null))
        );
    })
    .await;
}

#[tokio::test]
async fn a_check_that_one_limit_rejects_takes_nothing_from_any_other() {
    let plans = r#"{"trial":{"requests_per_minute":5,"requests_per_month":100}}"#;
    with_settings(&[("PLANS", plans), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let settings =
                json!({ "limits": [limit("shared", true)], "credits": { "remaining": 50 } });
            set(app, &acme.org_id, settings).await;
            let limits = json!({ "limits": [limit("own", true), { "name": "tight", "limit": 1,
                                 "window_s": 60 }], "credits": { "remaining": 20 } });
            let key = app.create_key_with(&acme.api_key, limits).await.api_key;
            let tight = json!({ "limits": [{ "name": "tight", "cost": 1 }], "cost": 10 });
            let first = verify(app, &key, tight.clone()).await;
            assert_eq!(
                (&first["code"], &first["credits"]["remaining"]),
                (&json!("valid"), &json!(10))
            );
            for _ in 0..3 {
                let rejected = verify(app, &key, tight.clone()).await;
                assert_eq!(rejected["code"], "rate_limited");
                assert_eq!(rejected["quota"]["used"], first["quota"]["used"]);
            }
            // After this, two of three units of each limit, all credits, and three of five requests
            // a minute are used; one created the key.
            let second = verify(app, &key, json!({ "cost": 10 })).await;
            assert_eq!(second["code"], "valid", "{second}");
            let remaining: Vec<_> = second["limits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| {
                    (it["name"].as_str().unwrap().to_owned(), it["remaining"].as_u64().unwrap())
                })
                .collect();
            let expected = [("org", 2), ("own", 1), ("shared", 1)];
            assert_eq!(remaining, expected.map(|(name, left)| (name.to_owned(), left)));
            assert_eq!(second["credits"]["remaining"], 0);
            assert_eq!(second["quota"]["used"], 21);
        })
        .await;
}

#[tokio::test]
async fn an_organization_s_limits_are_shared_by_its_keys_and_tokens_and_changes_apply_at_once() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let key = app.create_key(&owner, json!({ "name": "a", "scopes": ["*"] })).await.api_key;
        let token = json!({ "name": "t", "scopes": ["*"] });
        let (token, _) = app.create_token(&owner.cookie, token).await;
        set(app, &owner.org_id, json!({ "limits": [limit("shared", true)] })).await;
        for (credential, expected) in
            [(&key, "valid"), (&token, "valid"), (&key, "valid"), (&token, "rate_limited")]
        {
            assert_eq!(code(app, credential, json!({})).await, expected);
        }
        let wider = json!({ "name": "shared", "limit": 10, "window_s": 3600, "always": true });
        set(app, &owner.org_id, json!({ "limits": [wider] })).await;
        assert_eq!(code(app, &token, json!({})).await, "valid");
        set(app, &owner.org_id, json!({ "limits": [] })).await;
        assert_eq!(verify(app, &key, json!({})).await["limits"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_rotated_key_shares_the_limits_and_credits_of_the_key_that_it_replaces() {
    run(async |app| {
        let acme = app.sign_up().await;
        let spec = json!({ "limits": [limit("all", true)], "credits": { "remaining": 3 },
                           "external_id": "cus_1" });
        let old = app.create_key_with(&acme.api_key, spec).await;
        let rotate = format!("/v1/organization/api-keys/{}/rotate", old.key_id);
        let new = app.key(&acme.api_key).post(&rotate, json!({ "grace_period": 60 })).await;
        let new = new.assert_status(200).body;
        assert_eq!(
            (&new["credits"]["remaining"], &new["external_id"]),
            (&json!(3), &json!("cus_1"))
        );
        let new = new["key"].as_str().unwrap();
        let mut left = Vec::new();
        for key in [&*old.api_key, new, &*old.api_key] {
            let verdict = verify(app, key, json!({})).await;
            left.push((verdict["limits"][0]["remaining"].clone(), verdict["credits"].clone()));
        }
        let expected = [2, 1, 0].map(|it| (json!(it), json!({ "remaining": it })));
        assert_eq!(left, expected);
        assert_eq!(code(app, new, json!({})).await, "credits_exhausted");
    })
    .await;
}

#[tokio::test]
async fn a_key_with_limits_cannot_create_a_key_without_them_or_change_its_own() {
    run(async |app| {
        let acme = app.sign_up().await;
        let spec = json!({ "limits": [limit("all", true)], "scopes": ["*"] });
        let limited = app.create_key_with(&acme.api_key, spec).await;
        let other = app.create_key_with(&acme.api_key, json!({ "name": "other" })).await;
        let path = |id: &str| format!("/v1/organization/api-keys/{id}");
        let client = app.key(&limited.api_key);
        let new = json!({ "name": "new", "scopes": ["usage:read"] });
        client.post("/v1/organization/api-keys", new).await.assert_status(403);
        client.post(&format!("{}/rotate", path(&other.key_id)), json!({})).await.assert_status(403);
        for change in [json!({ "limits": [] }), json!({ "credits": { "remaining": 9 } })] {
            client.patch(&path(&limited.key_id), change).await.assert_status(403);
        }
        // It may still rotate itself, which changes neither.
        client
            .post(&format!("{}/rotate", path(&limited.key_id)), json!({}))
            .await
            .assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_metered_key_cannot_enable_another_key_or_invite_and_no_key_changes_its_external_id() {
    run(async |app| {
        let acme = app.sign_up().await;
        let spec = json!({ "limits": [limit("all", true)], "scopes": ["*"] });
        let limited = app.create_key_with(&acme.api_key, spec).await;
        let other = app.create_key_with(&acme.api_key, json!({ "name": "other" })).await;
        let client = app.key(&limited.api_key);
        let path = |id: &str| format!("/v1/organization/api-keys/{id}");
        let enable = json!({ "enabled": true });
        client.patch(&path(&other.key_id), enable).await.assert_status(403);
        let invite = json!({ "email": "friend@example.com", "role": "member" });
        let invites = format!("/api/user/organizations/{}/invites", acme.org_id);
        client.post(&invites, invite).await.assert_status(403);
        client.patch(&path(&limited.key_id), json!({ "name": "own" })).await.assert_status(200);
        let own_id = json!({ "external_id": "cus_2" });
        client.patch(&path(&limited.key_id), own_id.clone()).await.assert_status(403);
        app.key(&acme.api_key).patch(&path(&acme.key_id), own_id).await.assert_status(403);
        let with_limits = json!({ "external_id": "cus_2", "limits": [] });
        app.key(&acme.api_key).patch(&path(&acme.key_id), with_limits).await.assert_status(403);
    })
    .await;
}

#[tokio::test]
async fn limits_that_are_set_after_a_rotation_also_bind_the_key_that_was_replaced() {
    run(async |app| {
        let acme = app.sign_up().await;
        let old = app.create_key_with(&acme.api_key, json!({ "scopes": ["*"] })).await;
        let path = format!("/v1/organization/api-keys/{}", old.key_id);
        let rotate = json!({ "grace_period": 60 });
        let owner = app.key(&acme.api_key);
        let new = owner.post(&format!("{path}/rotate"), rotate).await.assert_status(200).body;
        let new_path = format!("/v1/organization/api-keys/{}", new["id"].as_str().unwrap());
        let limits = json!({ "limits": [limit("all", true)] });
        owner.patch(&new_path, limits).await.assert_status(200);
        for expected in ["valid", "valid", "valid", "rate_limited"] {
            assert_eq!(code(app, &old.api_key, json!({})).await, expected);
        }
        let another = json!({ "name": "another", "scopes": ["usage:read"] });
        let client = app.key(&old.api_key);
        client.post("/v1/organization/api-keys", another).await.assert_status(403);
    })
    .await;
}

#[tokio::test]
async fn a_check_cannot_turn_off_a_limit_that_counts_every_check() {
    run(async |app| {
        let acme = app.sign_up().await;
        let limits = json!({ "limits": [limit("all", true), limit("search", false)] });
        let key = app.create_key_with(&acme.api_key, limits).await.api_key;
        let none =
            json!({ "limits": [{ "name": "all", "cost": 0 }, { "name": "search", "cost": 0 }] });
        let verdict = verify(app, &key, none).await;
        let remaining = [0, 1].map(|index| verdict["limits"][index]["remaining"].as_u64().unwrap());
        assert_eq!(remaining, [2, 3]);
    })
    .await;
}

#[tokio::test]
async fn stored_limits_of_a_newer_version_fail_checks_and_survive_other_changes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let limits = json!({ "limits": [limit("all", true)] });
        let key = app.create_key_with(&acme.api_key, limits).await;
        app.execute(r#"update api_keys set limits = '[{"kind":"new"}]' where limits is not null"#)
            .await;
        let request = json!({ "key": key.api_key });
        app.verifier().post("/v1/verify", request).await.assert_status(503);
        let path = format!("/v1/organization/api-keys/{}", key.key_id);
        let renamed = json!({ "name": "renamed" });
        app.key(&acme.api_key).patch(&path, renamed).await.assert_status(200);
        assert_eq!(app.count("select count(*) from api_keys where limits is not null").await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_of_an_organization_does_not_show_the_operator_s_own_data() {
    run(async |app| {
        let acme = app.sign_up().await;
        let settings = json!({ "external_id": "secret-id", "metadata": { "risk": "secret-risk" },
                               "credits": { "remaining": 5 } });
        set(app, &acme.org_id, settings).await;
        let events = app.key(&acme.api_key).get("/v1/admin/audit-log").await.assert_status(200);
        let text = events.body.to_string();
        assert!(text.contains("metadata_changed") && text.contains("risk"), "{text}");
        assert!(!text.contains("secret-id") && !text.contains("secret-risk"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn keys_are_listed_by_external_id_and_checks_show_it_with_the_organization_s_metadata() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let spec = json!({ "name": "a", "scopes": ["*"], "externalId": "cus_1" });
        let key = app.create_key(&owner, spec).await;
        let client = app.key(&key.api_key);
        for (path, id) in [
            ("/v1/organization/api-keys?external_id=cus_1".to_owned(), "external_id"),
            (
                format!("/api/user/organizations/{}/api-keys?externalId=cus_1", owner.org_id),
                "externalId",
            ),
        ] {
            let listed = client.get(&path).await.assert_status(200).body;
            let data = listed["data"].as_array().unwrap();
            assert_eq!((data.len(), &data[0][id]), (1, &json!("cus_1")), "{listed}");
            let other = path.replace("cus_1", "cus_2");
            assert_eq!(client.get(&other).await.assert_status(200).body["data"], json!([]));
        }
        let settings = json!({ "external_id": "acct_9", "metadata": { "region": "eu" } });
        set(app, &owner.org_id, settings).await;
        let verdict = verify(app, &key.api_key, json!({})).await;
        assert_eq!(verdict["key"]["external_id"], "cus_1");
        assert_eq!(verdict["organization"]["external_id"], "acct_9");
        assert_eq!(verdict["organization"]["metadata"], json!({ "region": "eu" }));
        let operator = app.master("ORG_SETTINGS");
        let found = operator.get("/v1/admin/orgs?external_id=acct_9").await.assert_status(200).body;
        assert_eq!(found["organizations"][0]["org_id"], owner.org_id.as_str());
        let path = format!("/v1/admin/org/{}", owner.org_id);
        let shown = operator.get(&path).await.assert_status(200).body;
        assert_eq!(shown["metadata"], json!({ "region": "eu" }));
        operator.get("/v1/admin/orgs").await.assert_status(422);
        operator.get("/v1/admin/org/nobody").await.assert_status(404);
    })
    .await;
}

#[tokio::test]
async fn every_problem_of_limits_and_credits_is_named() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "a", "scopes": ["usage:read"], "external_id": "",
            "limits": [{ "name": "org", "limit": 0, "window_s": 86_401, "more": 1 }, 5],
            "credits": { "remaining": -1, "refill": { "amount": 1.5, "every": "week" } },
        });
        let path = "/v1/organization/api-keys";
        let rejected = app.key(&acme.api_key).post(path, request).await.assert_status(400);
        let issues = rejected.body["error"]["issues"].as_array().unwrap().iter();
        let place_of = |issue: &Value| {
            let words = issue["path"].as_array().unwrap().iter();
            words.map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(".")
        };
        let places: Vec<String> = issues.map(place_of).collect();
        for place in [
            "external_id",
            "limits.0.name",
            "limits.0.limit",
            "limits.0.window_s",
            "limits.0.more",
            "limits.1",
            "credits.remaining",
            "credits.refill.amount",
            "credits.refill.every",
        ] {
            assert!(places.iter().any(|it| it == place), "{place} is not in {places:?}");
        }
        let twice = json!({ "name": "a", "scopes": ["usage:read"],
                            "limits": [limit("x", true), limit("x", false)] });
        app.key(&acme.api_key).post(path, twice).await.assert_status(400);
        let both = json!({ "credits": { "add": 5, "remaining": 5 } });
        let key = format!("{path}/{}", acme.key_id);
        for change in [both, json!({ "credits": {} }), json!({ "limits": null })] {
            app.key(&acme.api_key).patch(&key, change).await.assert_status(400);
        }
        let added = app.key(&acme.api_key).patch(&key, json!({ "credits": { "add": 5 } })).await;
        added.assert_status(409);
    })
    .await;
}

#[tokio::test]
async fn a_proxy_names_limits_and_learns_the_external_id_and_the_rate_limits() {
    run(async |app| {
        let acme = app.sign_up().await;
        let spec = json!({ "limits": [limit("search", false)], "external_id": "cus_1",
                           "credits": { "remaining": 5 } });
        let key = app.create_key_with(&acme.api_key, spec).await.api_key;
        let proxy = app.verifier().with("x-api-key", &key);
        let passed = proxy.get("/v1/verify/forward?limit=search:2&cost=2").await.assert_status(200);
        assert_eq!(passed.header("ratelimit-policy"), r#""search";q=3;w=3600"#);
        // Customers set a key's id, so only the organization's may reach a backend.
        assert_eq!(passed.header("x-tenantry-external-id"), "-");
        set(app, &acme.org_id, json!({ "external_id": "acct_9" })).await;
        let passed = proxy.get("/v1/verify/forward?cost=0").await.assert_status(200);
        assert_eq!(passed.header("x-tenantry-external-id"), "acct_9");
        let limited = proxy.get("/v1/verify/forward?limit=search:2").await.assert_status(429);
        assert_eq!(limited.header("ratelimit"), r#""search";r=1;t=1200"#);
        assert_eq!(limited.header("retry-after"), "1200");
        let headers =
            proxy.with("x-tenantry-limit", "search:1, other").with("x-tenantry-cost", "1");
        headers.get("/v1/verify/envoy").await.assert_status(200);
        let exhausted = proxy.get("/v1/verify/forward?cost=3").await.assert_status(429);
        assert!(exhausted.body.to_string().contains("credits_exhausted"), "{}", exhausted.body);
        // 10 limits with long names do not fit into headers of 2 KiB, and the rejecting one does.
        let long = |number: usize| {
            json!({ "name": format!("{number}{}", "x".repeat(60)),
                                           "limit": 1 + number, "window_s": 60, "always": true })
        };
        let spec = json!({ "limits": (0..10).rev().map(long).collect::<Vec<_>>() });
        let many = app.create_key_with(&acme.api_key, spec).await.api_key;
        let proxy = app.verifier().with("x-api-key", &many);
        let passed = proxy.get("/v1/verify/forward").await.assert_status(200);
        let size = |it: &TestResponse| {
            ["ratelimit", "ratelimit-policy"]
                .map(|name| it.header(name).len())
                .iter()
                .sum::<usize>()
        };
        assert!((1..350).contains(&size(&passed)), "{}", size(&passed));
        let limited = proxy.get("/v1/verify/forward").await.assert_status(429);
        assert_retry_after(&limited, &format!("0{}", "x".repeat(60)));
        assert!(size(&limited) < 350);
        for wrong in [
            "limit=a:1&limit=a:2",
            "limit=org",
            "limit=a:x",
            "limit=a:-1",
            "limit=a:1000001",
            "limit=",
        ] {
            proxy.get(&format!("/v1/verify/forward?{wrong}")).await.assert_status(503);
        }
    })
    .await;
}
