//! `GET /v1/organization/denials`, and what is recorded of rejected requests

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::model::ids::{OrganizationId, RejectionId};
use tenantry::model::rejection::Rejection;
use tenantry::repo::rejections;
use uuid::Uuid;

use super::{KEYS, create, create_named, path};
use crate::support::accounts::TestAccount;
use crate::support::app::{CreatedKey, text};
use crate::support::client::TestResponse;
use crate::support::locks::TableLock;
use crate::support::server::{WorkDir, curl};
use crate::support::{TestApp, run, with_settings};

const REJECTIONS_PATH: &str = "/v1/organization/denials";
const COUNT_ALL: &str = "select count(*) from denials";

async fn page(app: &TestApp, key: &str, query: &str) -> Value {
    app.key(key).get(&format!("{REJECTIONS_PATH}?{query}")).await.assert_status(200).body
}

/// The rejections in the organization of this key, at most 100, newest first.
async fn list_rejections(app: &TestApp, key: &str) -> Vec<Value> {
    page(app, key, "limit=100").await["data"].as_array().unwrap().clone()
}

fn requests(rejections: &[Value]) -> Vec<&str> {
    rejections.iter().map(|it| it["request_id"].as_str().unwrap()).collect()
}

/// Creates a key with one scope.
async fn restricted_key(app: &TestApp, key: &str) -> CreatedKey {
    create(app, key, json!({ "name": "narrow", "scopes": ["usage:read"] })).await
}

/// The display id of a key: the characters after its prefix.
fn display_id(key: &str) -> &str {
    &key["tnt_live_".len()..][..8]
}

#[tokio::test]
async fn a_rejection_records_the_caller_the_request_and_the_reason() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = restricted_key(app, &acme.api_key).await;
        let client = app.key(&narrow.api_key).with("x-request-id", "request-of-this-test");
        let rejected = client.get(&path(&acme.key_id)).await.assert_error(403, "forbidden");
        let body = page(app, &acme.api_key, "").await;
        insta::assert_json_snapshot!(body["data"][0]);
        assert_eq!(body["object"], "list");
        assert_eq!(body["data"].as_array().unwrap().len(), 1);
        let rejection = &body["data"][0];
        assert_eq!(rejection["api_key_prefix"], display_id(&narrow.api_key));
        assert!(rejected.text.contains(rejection["detail"].as_str().unwrap()), "{}", rejected.text);
    })
    .await;
}

/// The newest rejection; there must be exactly one more than before.
async fn next_rejection(app: &TestApp, reader: &str, seen: &mut usize) -> Value {
    let rejections = list_rejections(app, reader).await;
    assert_eq!(rejections.len(), *seen + 1, "{:?}", rejections.first());
    *seen = rejections.len();
    app.clock.advance(TimeDelta::milliseconds(1));
    rejections[0].clone()
}

#[tokio::test]
async fn each_kind_of_rejection_leaves_one_row_with_the_reason_of_its_response() {
    with_settings(&[("PLANS", r#"{"trial":{"projects":0}}"#)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "member").await;
            let reader =
                app.create_key(&ann, json!({ "name": "all", "scopes": ["*"] })).await.api_key;
            let (key, session) = (app.key(&reader), app.session(&ann.cookie));
            let (access, _) = app.exchange(&reader).await;
            let elsewhere = json!({ "name": "elsewhere", "scopes": ["*"],
                                    "allowed_ips": ["203.0.113.0/24"] });
            let elsewhere = create(app, &reader, elsewhere).await;
            let own = format!("/api/user/organizations/{}", ann.org_id);
            let foreign = format!("/api/user/organizations/{}", ben.org_id);
            let json = json!({ "name": "x" });
            let scopes = json!({ "name": "x", "scopes": ["usage:read"] });
            let narrow = app.key(&restricted_key(app, &reader).await.api_key);
            let exchange = json!({ "api_key": elsewhere.api_key });
            let from_afar = session.with("sec-fetch-site", "cross-site");
            let responses: [(TestResponse, &str, &str); 12] = [
                (narrow.post(KEYS, scopes).await, "scope api-keys:write", KEYS),
                (app.session(&ben.cookie).put(&own, json.clone()).await, "role admin", ""),
                (key.post(&format!("{own}/projects"), json.clone()).await, "allows 0 projects", ""),
                (session.get(&foreign).await, "not belong to this organization", ""),
                (key.get(&foreign).await, "not belong to this organization", ""),
                (key.get("/api/user/me").await, "requires an account", "/api/user/me"),
                (key.get("/auth/me").await, "type of credential", "/auth/me"),
                (app.bearer(&access).get("/v1/admin/audit-log").await, "type of credential", ""),
                (session.get("/v1/organization/me").await, "type of credential", ""),
                (from_afar.put(&own, json).await, "origin is not trusted", ""),
                (app.key(&elsewhere.api_key).get("/me").await, "from this address", "/me"),
                (
                    app.anonymous().post("/auth/token-exchange", exchange).await,
                    "from this address",
                    "/auth/token-exchange",
                ),
            ];
            let events = list_rejections(app, &reader).await;
            assert_eq!(events.len(), responses.len());
            for (response, why, route) in responses {
                assert_eq!(response.status, 403, "{why}: {}", response.text);
                let id = response.header("x-request-id").to_owned();
                let rejection = events.iter().find(|it| it["request_id"] == id).expect(why);
                let detail = rejection["detail"].as_str().unwrap();
                assert!(
                    detail.contains(why) && response.text.contains(detail),
                    "{why}: {rejection}"
                );
                assert_eq!(rejection["status"], 403);
                assert!(rejection["path"].as_str().unwrap().contains(route), "{rejection}");
            }
        })
        .await;
}

#[tokio::test]
async fn the_reason_a_known_key_is_invalid_is_reported_to_its_organization_and_not_to_the_caller() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (reader, mut seen) = (acme.api_key.as_str(), 0);
        let revoked = create_named(app, reader, "revoked").await;
        let expired = create_named(app, reader, "expired").await;
        let disabled = create_named(app, reader, "disabled").await;
        let exchanged = create_named(app, reader, "exchanged").await;
        let (access, _) = app.exchange(&exchanged.api_key).await;
        for key in [&revoked, &exchanged] {
            app.key(reader).delete(&path(&key.key_id)).await.assert_status(200);
        }
        let off = json!({ "enabled": false });
        app.key(reader).patch(&path(&disabled.key_id), off).await.assert_status(200);
        app.execute("update api_keys set expires_at = now() where name = 'expired'").await;
        let of_garbage = app.key("garbage").get("/me").await;
        for (reason, key) in [("revoked", &revoked), ("expired", &expired), ("disabled", &disabled)]
        {
            let response = app.key(&key.api_key).get("/me").await.assert_error(401, "unauthorized");
            assert_eq!(response.body_without_request(), of_garbage.body_without_request());
            let rejection = next_rejection(app, reader, &mut seen).await;
            assert_eq!(rejection["code"], "unauthorized");
            assert_eq!(rejection["status"], 401);
            assert_eq!(rejection["api_key_prefix"], display_id(&key.api_key));
            assert_eq!(rejection["detail"], format!("This credential is not valid: {reason}"));
        }
        let presented = json!({ "api_key": revoked.api_key });
        app.anonymous()
            .post("/auth/token-exchange", presented)
            .await
            .assert_error(401, "unauthorized");
        assert_eq!(next_rejection(app, reader, &mut seen).await["path"], "/auth/token-exchange");
        app.bearer(&access).get("/me").await.assert_error(401, "unauthorized");
        let rejection = next_rejection(app, reader, &mut seen).await;
        assert_eq!(rejection["api_key_prefix"], display_id(&exchanged.api_key));
    })
    .await;
}

#[tokio::test]
async fn requests_without_a_known_caller_or_a_rejection_are_in_no_organization_s_list() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let ann = app.verified_account("ann@example.com").await;
        let formats = &app.app.config;
        let unknown = formats.keys.format.generate(&*app.app.entropy);
        let token = formats.accounts.token_format.generate(&*app.app.entropy);
        for key in [unknown.expose(), token.expose(), "garbage", &unknown.expose()[..40]] {
            app.key(key).get("/me").await.assert_status(401);
            app.bearer(key).get(REJECTIONS_PATH).await.assert_status(401);
            let exchange = json!({ "api_key": key });
            app.anonymous().post("/auth/token-exchange", exchange).await.assert_status(401);
            app.key(key).get("/v1/admin/org/acme/usage").await.assert_status(401);
        }
        app.session("garbage").get("/api/user/me").await.assert_status(401);
        app.anonymous().get(REJECTIONS_PATH).await.assert_status(401);
        app.sign_in("ann@example.com", "a-wrong-long-passphrase").await.assert_status(401);
        let forged = format!("{}x", app.exchange(&acme.api_key).await.0);
        app.bearer(&forged).get("/me").await.assert_status(401);
        // The caller is known, but the request is invalid or is not rejected.
        let revoked = create_named(app, &acme.api_key, "revoked").await;
        app.key(&acme.api_key).delete(&path(&revoked.key_id)).await.assert_status(200);
        let gone = app.key(&revoked.api_key);
        gone.get("/health/live").await.assert_status(200);
        gone.get("/v1/organization/nothing").await.assert_status(404);
        let wrong = json!({ "email": ann.email, "password": "a-wrong-long-passphrase" });
        gone.post("/auth/login", wrong).await.assert_status(401);
        app.key(&acme.api_key).get(&path(&other.key_id)).await.assert_status(404);
        app.key(&acme.api_key).post(KEYS, json!({ "nom": "x" })).await.assert_status(400);
        let confirm = json!({ "token": "x" });
        app.session(&ann.cookie).post("/api/auth/verify-email", confirm).await.assert_status(401);
        app.app.rejections.flush().await.unwrap();
        assert_eq!(app.count(COUNT_ALL).await, 0);
    })
    .await;
}

/// After the test all columns are searched for the key.
#[tokio::test]
async fn a_key_pasted_into_the_wrong_field_is_not_stored_with_the_rejection() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        let key = &acme.api_key;
        let by_request = narrow.with("x-request-id", key).with("user-agent", key);
        by_request.get(&path(key)).await.assert_status(403);
        let pasted = path(&format!("{key}?key={key}&{key}"));
        by_request.get(&pasted).await.assert_status(400);
        let name = json!({ "name": key, "scopes": ["*"], "metadata": { "key": key } });
        narrow.post(KEYS, name).await.assert_status(403);
        narrow.get(&format!("/api/user/organizations/{key}")).await.assert_status(403);
        let rejections = list_rejections(app, &acme.api_key).await;
        assert_eq!(rejections.len(), 3);
        let routes = [KEYS, "/v1/organization/api-keys/{id}", "/api/user/organizations/{"];
        for route in routes {
            let is_there = |it: &Value| it["path"].as_str().unwrap().starts_with(route);
            assert!(rejections.iter().any(is_there), "{route}: {rejections:?}");
        }
    })
    .await;
}

/// Creates a second organization of the account, and suspends it.
async fn suspended(app: &TestApp, account: &TestAccount) -> String {
    let created = json!({ "name": "Second" });
    let created = app.session(&account.cookie).post("/api/user/organizations", created).await;
    app.execute("update organizations set suspended_at = now() where name = 'Second'").await;
    text(&created.assert_status(201).body["data"]["id"])
}

#[tokio::test]
async fn a_reactivated_organization_can_list_the_rejections_of_its_suspension() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let second = suspended(app, &ann).await;
        let session = app.session(&ann.cookie);
        let of_second = format!("/api/user/organizations/{second}");
        session.get(&of_second).await.assert_error(403, "ORGANIZATION_SUSPENDED");
        let acme = app.sign_up().await;
        app.execute("update organizations set suspended_at = now()").await;
        let key = app.key(&acme.api_key);
        key.get(REJECTIONS_PATH).await.assert_error(403, "organization_suspended");
        let exchange = json!({ "api_key": acme.api_key });
        let exchange = app.anonymous().post("/auth/token-exchange", exchange).await;
        exchange.assert_error(403, "organization_suspended");
        app.execute("update organizations set suspended_at = null").await;
        let rejections = list_rejections(app, &acme.api_key).await;
        assert_eq!(rejections.len(), 2);
        assert!(
            rejections.iter().all(|it| it["code"] == "organization_suspended"),
            "{rejections:?}"
        );
        let keys = format!("{of_second}/api-keys");
        let reader = session.post(&keys, json!({ "name": "r", "scopes": ["*"] })).await;
        let reader = text(&reader.assert_status(201).body["data"]["key"]);
        // The rejection is listed in the organization of the path, not in her home organization.
        let rejections = list_rejections(app, &reader).await;
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0]["path"], "/api/user/organizations/{organizationId}");
        assert_eq!(rejections[0]["api_key_prefix"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn the_list_requires_the_scope_and_the_role_and_accepts_pinned_tokens() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let pinned = json!({ "name": "t", "scopes": ["audit:read"],
                             "metadata": { "organizationId": ann.org_id } });
        let (of_ann, _) = app.create_token(&ann.cookie, pinned.clone()).await;
        let (of_ben, _) = app.create_token(&ben.cookie, pinned).await;
        let auditor = json!({ "name": "auditor", "scopes": ["audit:read"] });
        let auditor = app.create_key(&ann, auditor).await.api_key;
        app.key(&of_ben).get(REJECTIONS_PATH).await.assert_error(403, "forbidden");
        app.clock.advance(TimeDelta::milliseconds(1));
        let narrow = json!({ "name": "narrow", "scopes": ["usage:read"] });
        let narrow = app.key(&app.create_key(&ann, narrow).await.api_key);
        let rejected = narrow.get(REJECTIONS_PATH).await.assert_error(403, "forbidden");
        assert_eq!(rejected.error()["missing_scopes"], json!(["audit:read"]));
        for reader in [&of_ann, &auditor] {
            let rejections = list_rejections(app, reader).await;
            let details: Vec<_> =
                rejections.iter().map(|it| it["detail"].as_str().unwrap()).collect();
            let expected = [
                "This credential lacks the scope audit:read",
                "This needs the role admin in the organization",
            ];
            assert_eq!(details, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn pages_are_newest_first_and_contain_no_other_organization_s_rejections() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        for of in [&acme, &other] {
            let narrow = app.key(&restricted_key(app, &of.api_key).await.api_key);
            for number in 1..=5 {
                let id = format!("{}-number-{number}-long-enough", &of.org_id[4..]);
                narrow.with("x-request-id", &id).get(KEYS).await.assert_status(403);
                app.clock.advance(TimeDelta::milliseconds(1));
            }
        }
        let id = |number: u32| format!("{}-number-{number}-long-enough", &acme.org_id[4..]);
        let mut cursor = String::new();
        for numbers in [&[5, 4][..], &[3, 2], &[1]] {
            let body = page(app, &acme.api_key, &format!("limit=2&cursor={cursor}")).await;
            let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
            assert_eq!(requests(body["data"].as_array().unwrap()), ids);
            assert_eq!(body["has_more"], numbers.len() == 2);
            cursor = body["pagination"]["cursor"].as_str().unwrap_or_default().to_owned();
        }
        let cursor_of = async |key: &str, list: &str| {
            let body = app.key(key).get(&format!("{list}?limit=1")).await.assert_status(200).body;
            text(&body["pagination"]["cursor"])
        };
        let foreign = cursor_of(&other.api_key, REJECTIONS_PATH).await;
        let of_trail = cursor_of(&acme.api_key, "/v1/organization/audit-log").await;
        for (wrong, field) in [
            (format!("cursor={foreign}"), "cursor"),
            (format!("cursor={of_trail}"), "cursor"),
            ("limit=0".to_owned(), "limit"),
            ("limit=101".to_owned(), "limit"),
        ] {
            let response = app.key(&acme.api_key).get(&format!("{REJECTIONS_PATH}?{wrong}")).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), [field], "{wrong}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_rejections_is_recorded_in_part_and_leaves_capacity_for_others() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let flood = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        let quiet = app.key(&restricted_key(app, &other.api_key).await.api_key);
        for _ in 0..60 {
            flood.get(KEYS).await.assert_status(403);
        }
        quiet.get(KEYS).await.assert_status(403);
        assert_eq!(list_rejections(app, &acme.api_key).await.len(), 50);
        assert_eq!(list_rejections(app, &other.api_key).await.len(), 1);
        flood.get(KEYS).await.assert_status(403);
        assert_eq!(list_rejections(app, &acme.api_key).await.len(), 51);
    })
    .await;
}

fn rejection(app: &TestApp) -> Rejection {
    Rejection {
        id: RejectionId::new(app.app.clock.now(), &*app.app.entropy),
        key_display_id: None,
        method: "GET".to_owned(),
        path: "/me".to_owned(),
        status: 403,
        code: "forbidden".to_owned(),
        detail: "of the test".to_owned(),
        address: None,
        request_id: "req_of_the_test".to_owned(),
        created_at: app.app.clock.now(),
    }
}

#[tokio::test]
async fn a_flood_in_many_organizations_is_bounded_too() {
    run(async |app| {
        app.execute(
            "insert into organizations (id, handle, name, plan, created_at, updated_at)
             select gen_random_uuid(), 'of-test-' || n, '', 'trial', now(), now()
             from generate_series(1, 30) n",
        )
        .await;
        let sql = "select id from organizations where handle like 'of-test-%'";
        let organizations: Vec<Uuid> =
            sqlx::query_scalar(sql).fetch_all(&mut app.connect().await).await.unwrap();
        for _ in 0..60 {
            for organization in &organizations {
                app.app.rejections.record_request(OrganizationId(*organization), || rejection(app));
            }
        }
        app.app.rejections.flush().await.unwrap();
        assert_eq!(app.count(COUNT_ALL).await, 1_000);
    })
    .await;
}

/// Rejections whose ids are from before the test: 1,010 of each organization.
const OLD: &str = "insert into denials
    select o.id, overlay(gen_random_uuid()::text placing '00' from 1 for 2)::uuid, null, 'GET',
           '/me', 403, 'forbidden', 'old', null, 'r', now()
    from organizations o, generate_series(1, 1010) where o.handle <> 'system'";

#[tokio::test]
async fn the_newest_1_000_rejections_of_an_organization_are_stored_for_at_most_30_days() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let narrow = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        app.execute(OLD).await;
        for table in [&acme, &other] {
            assert_eq!(list_rejections(app, &table.api_key).await.len(), 100);
        }
        let rejected = narrow.get(KEYS).await.assert_status(403);
        let newest = &list_rejections(app, &acme.api_key).await[0];
        assert_eq!(newest["request_id"], rejected.header("x-request-id"));
        let of = "select count(*)::bigint from denials d join organizations o
                  on o.id = d.organization_id where o.handle = $1";
        let count = async |of_org: &str| -> i64 {
            sqlx::query_scalar(of).bind(of_org).fetch_one(&mut app.connect().await).await.unwrap()
        };
        assert_eq!(count(&acme.org_id).await, 1_000);
        assert_eq!(
            count(&other.org_id).await,
            1_010,
            "no other organization's rejection was removed"
        );
        let age = "update denials set created_at = now() - interval '29 days' where detail = 'old'";
        app.execute(age).await;
        let sweep =
            async || app.app.db.transaction(async |tx| rejections::sweep(tx, 30).await).await;
        assert_eq!(sweep().await.unwrap(), 0);
        let age = "update denials set created_at = now() - interval '31 days' where detail = 'old'";
        app.execute(age).await;
        let swept = [sweep().await.unwrap(), sweep().await.unwrap(), sweep().await.unwrap()];
        assert_eq!(swept, [1_000, 1_000, 9], "a part at a time");
        assert_eq!(app.count(COUNT_ALL).await, 1);
    })
    .await;
}

#[tokio::test]
async fn rejections_by_two_servers_are_in_one_list() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = restricted_key(app, &acme.api_key).await.api_key;
        app.execute(OLD).await;
        let replica = app.replica();
        let mut ids = Vec::new();
        for server in [app, &replica] {
            for _ in 0..20 {
                let rejected = server.key(&narrow).get(KEYS).await.assert_status(403);
                ids.push(rejected.header("x-request-id").to_owned());
            }
        }
        let (one, other) = (&app.app.rejections, &replica.app.rejections);
        let (one, other) = tokio::join!(one.flush(), other.flush());
        one.and(other).unwrap();
        ids.sort();
        for server in [app, &replica] {
            let rejections = list_rejections(server, &acme.api_key).await;
            let fresh: Vec<Value> =
                rejections.into_iter().filter(|it| it["detail"] != "old").collect();
            let mut rows = requests(&fresh);
            rows.sort_unstable();
            assert_eq!(rows, ids);
        }
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn reading_the_list_does_not_decide_when_audit_events_are_written() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        for _ in 0..3 {
            narrow.get(KEYS).await.assert_status(403);
            app.key("wrong").get("/v1/admin/org/acme/usage").await.assert_status(401);
            list_rejections(app, &acme.api_key).await;
        }
        assert_eq!(list_rejections(app, &acme.api_key).await.len(), 3);
        let events = "select count(*) from audit_events where event_type = 'AUTH_FAIL_MASTER_KEY'";
        assert_eq!(app.count(events).await, 0);
        app.app.rejections.flush().await.unwrap();
        assert_eq!(app.count(events).await, 1, "with a count of 3");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_flush_loses_no_rejections_and_an_unavailable_table_fails_no_response() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        narrow.get(KEYS).await.assert_status(403);
        let mut lock = TableLock::before_write(app.superuser().await, "denials").await;
        let statement = lock.cancel(app.app.rejections.flush()).await;
        assert!(statement.starts_with("insert into denials"), "{statement}");
        narrow.get(KEYS).await.assert_status(403);
        lock.release().await;
        app.app.rejections.flush().await.unwrap();
        assert_eq!(app.count(COUNT_ALL).await, 2);

        narrow.get(KEYS).await.assert_status(403);
        let mut lock = TableLock::before_commit(app.superuser().await, "denials").await;
        assert_eq!(lock.cancel(app.app.rejections.flush()).await, "COMMIT");
        narrow.get(KEYS).await.assert_status(403);
        lock.release().await;
        app.app.rejections.flush().await.unwrap();
        assert_eq!(list_rejections(app, &acme.api_key).await.len(), 4);
        app.execute("alter table denials rename to away").await;
        narrow.get(KEYS).await.assert_status(403);
        app.app.rejections.flush().await.unwrap_err();
        app.execute("alter table away rename to denials").await;
        narrow.get(KEYS).await.assert_status(403);
        assert_eq!(list_rejections(app, &acme.api_key).await.len(), 5, "nothing piles up");
    })
    .await;
}

#[tokio::test]
async fn rejections_are_written_once_their_table_accepts_writes_again_and_none_is_lost() {
    run(async |app| {
        let acme = app.sign_up().await;
        let narrow = app.key(&restricted_key(app, &acme.api_key).await.api_key);
        let mut connection = app.superuser().await;
        sqlx::raw_sql("begin; lock table denials").execute(&mut connection).await.unwrap();
        for _ in 0..2 {
            narrow.get(KEYS).await.assert_status(403);
            app.app.rejections.flush().await.unwrap_err();
        }
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
        app.app.rejections.flush().await.unwrap();
        assert_eq!(app.count(COUNT_ALL).await, 2);
    })
    .await;
}

#[test]
fn unwritten_rejections_survive_a_shutdown() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let key = format!("X-Api-Key: {}", server.sign_up());
    curl(&["-H", &key, &server.url("/auth/me")]);
    server.signal_and_wait("INT");
    let server = work_dir.start(&[]);
    let rejections = curl(&["-H", &key, &server.url(REJECTIONS_PATH)]).body;
    assert_eq!(rejections["data"][0]["path"], "/auth/me");
    assert_eq!(rejections["data"].as_array().unwrap().len(), 1);
}
