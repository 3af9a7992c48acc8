//! What writes an entry into the list of revocations: operations of the API, and the statements
//! that the triggers of the schema watch.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::revocations::Reader;
use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::{TestApp, run};

const KEYS: &str = "/v1/organization/api-keys";

#[tokio::test]
async fn each_change_of_a_key_that_ends_or_narrows_it_has_an_entry_on_every_server() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": "ci", "scopes": ["usage:read", "trademarks:read"] });
        let ci = app.create_key_with(&acme.api_key, request).await;
        let (path, client) = (format!("{KEYS}/{}", ci.key_id), app.key(&acme.api_key));
        let replica = app.replica();
        let (mut own, mut others) = (Reader::start(app).await, Reader::start(&replica).await);
        for (change, expected) in [
            (json!({ "scopes": ["usage:read"] }), Some("key.narrowed")),
            (json!({ "allowed_ips": ["203.0.113.0/24"] }), Some("key.narrowed")),
            (json!({ "expires_at": "2037-01-01T00:00:00Z" }), Some("key.narrowed")),
            (json!({ "enabled": false }), Some("key.disabled")),
            (json!({ "enabled": true }), None),
            (json!({ "scopes": ["usage:read", "trademarks:read"] }), None),
            (json!({ "allowed_ips": [] }), None),
            (json!({ "expires_at": null, "name": "renamed", "metadata": { "a": "b" } }), None),
        ] {
            client.patch(&path, change.clone()).await.assert_status(200);
            let expected = expected.map(|event| format!("{event} {} {}", acme.org_id, ci.key_id));
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(own.sorted().await, expected, "{change}");
            assert_eq!(others.sorted().await, expected, "{change}");
        }
        let rotated = client.post(&format!("{path}/rotate"), json!({ "grace_period": 60 })).await;
        let rotated = rotated.assert_status(200).body["id"].as_str().unwrap().to_owned();
        assert_eq!(own.sorted().await, [format!("key.rotated {} {}", acme.org_id, ci.key_id)]);
        client.delete(&format!("{KEYS}/{rotated}")).await.assert_status(200);
        assert_eq!(own.sorted().await, [format!("key.revoked {} {}", acme.org_id, rotated)]);
        // A use of a key, a new key and a sign-up end nothing.
        client.get("/me").await.assert_status(200);
        app.app.meter.flush().await.unwrap();
        app.create_key_with(&acme.api_key, json!({ "name": "new" })).await;
        app.verified_account("ann@example.com").await;
        assert!(own.events().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_suspended_or_deleted_organization_and_every_force_revoked_key_has_an_entry() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let mut reader = Reader::start(app).await;
        for (change, scope, expected) in [
            ("suspend", "ORG_SUSPEND", vec!["organization.suspended"]),
            ("reactivate", "ORG_SUSPEND", vec![]),
            ("force-revoke", "ORG_FORCE_REVOKE", vec!["key.revoked"]),
        ] {
            let path = format!("/v1/admin/org/{}/{change}", ann.org_id);
            let request = json!({ "confirm_org_id": ann.org_id, "idempotency_key": change });
            let operator = app.master_with_idempotency_key(scope, change);
            operator.post(&path, request).await.assert_status(200);
            assert_eq!(reader.events().await, expected, "{change}");
        }
        app.key(&key.api_key).get("/me").await.assert_status(401);
        let session = app.session(&ann.cookie);
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let origins = |list: &[&str]| json!({ "allowedOrigins": list });
        for (list, expected) in [
            (&["https://a.example", "https://b.example"][..], vec!["organization.narrowed"]),
            (&["https://b.example"], vec!["organization.narrowed"]),
            (&["https://b.example", "https://c.example"], vec![]),
            (&[], vec![]),
        ] {
            session.put(&path, origins(list)).await.assert_status(200);
            assert_eq!(reader.events().await, expected, "{list:?}");
        }
        let second = json!({ "name": "Second", "id": "second" });
        session.post("/api/user/organizations", second).await.assert_status(201);
        let (path, body) =
            ("/api/user/organizations/second", json!({ "confirm": "second" }).to_string());
        let client = session.with("content-type", "application/json");
        client.send("DELETE", path, body).await.assert_status(200);
        let entries = reader.read().await;
        let deleted: Vec<_> =
            entries.iter().filter(|it| it["type"] == "organization.deleted").collect();
        assert_eq!(deleted.len(), 1, "{entries:?}");
        assert_eq!(deleted[0]["organization_id"], "second");
        assert!(deleted[0]["key_id"].is_null());
    })
    .await;
}

/// A member of the first account's organization, with a token that is pinned to it and one that
/// acts in the member's own organization; returns the membership's id and the tokens' ids.
async fn member_with_tokens(
    app: &TestApp,
    owner: &TestAccount,
    member: &TestAccount,
    role: &str,
) -> (String, String, String) {
    let membership = app.invite_and_accept(owner, member, role).await;
    let pinned = json!({ "name": "pinned", "scopes": ["usage:read", "user:read"],
                         "metadata": { "organizationId": owner.org_id } });
    let (_, pinned) = app.create_token(&member.cookie, pinned).await;
    let unpinned = json!({ "name": "unpinned", "scopes": ["usage:read"] });
    let (_, unpinned) = app.create_token(&member.cookie, unpinned).await;
    (membership, pinned, unpinned)
}

#[tokio::test]
async fn each_change_that_ends_or_narrows_a_personal_token_has_an_entry() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let (membership, pinned, unpinned) = member_with_tokens(app, &ann, &ben, "admin").await;
        let (of_ann, of_ben) = (ann.org_id.as_str(), ben.org_id.as_str());
        let mut reader = Reader::start(app).await;
        let member = format!("/api/user/organizations/{of_ann}/members/{membership}");
        let role = format!("{member}/role");
        let session = app.session(&ann.cookie);
        session.put(&role, json!({ "role": "owner" })).await.assert_status(200);
        assert!(reader.events().await.is_empty());
        session.put(&role, json!({ "role": "member" })).await.assert_status(200);
        assert_eq!(reader.sorted().await, [format!("key.narrowed {of_ann} {pinned}")]);
        let own = app.session(&ben.cookie);
        let change = json!({ "keyId": pinned, "scopes": ["usage:read"] });
        own.post("/api/auth/api-key/update", change).await.assert_status(200);
        assert_eq!(reader.sorted().await, [format!("key.narrowed {of_ann} {pinned}")]);
        session.delete(&member).await.assert_status(200);
        let ended = reader.sorted().await;
        assert!(ended.contains(&format!("key.owner_disabled {of_ann} {pinned}")), "{ended:?}");
        assert!(!ended.iter().any(|entry| entry.contains(&unpinned)), "{ended:?}");
        let end = json!({ "keyId": unpinned });
        own.post("/api/auth/api-key/delete", end).await.assert_status(200);
        assert_eq!(reader.sorted().await, [format!("key.revoked {of_ben} {unpinned}")]);
    })
    .await;
}

#[tokio::test]
async fn the_tokens_of_a_disabled_or_deleted_account_have_entries() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let (_, pinned, unpinned) = member_with_tokens(app, &ann, &ben, "member").await;
        let mut reader = Reader::start(app).await;
        app.execute("update accounts set is_active = false where email = 'ben@example.com'").await;
        let mut expected = [(&ann.org_id, &pinned), (&ben.org_id, &unpinned)]
            .map(|(organization, key)| format!("key.owner_disabled {organization} {key}"));
        expected.sort();
        assert_eq!(reader.sorted().await, expected);
        app.execute("update accounts set is_active = true").await;
        assert!(reader.events().await.is_empty());
        let delete = app.session(&ben.cookie).with("content-type", "application/json");
        let body = json!({ "password": PASSWORD }).to_string();
        delete.send("DELETE", "/api/user/me", body).await.assert_status(200);
        let entries = reader.read().await;
        let names = |key: &str, organization: &str| {
            entries.iter().any(|it| it["key_id"] == key)
                || entries
                    .iter()
                    .any(|it| it["key_id"].is_null() && it["organization_id"] == organization)
        };
        assert!(names(&pinned, &ann.org_id), "{entries:?}");
        assert!(names(&unpinned, &ben.org_id), "{entries:?}");
    })
    .await;
}

/// Statements on each table, and the entries that each writes for one key or token.
const STATEMENTS: [(&str, &str); 28] = [
    ("update api_keys set enabled = false", "key.disabled"),
    ("update api_keys set superseded_at = now(), name_held = false", "key.rotated"),
    ("update api_keys set scopes = '{docs:read}'", "key.narrowed"),
    ("update api_keys set allowed_ips = '{203.0.113.0/24}'", "key.narrowed"),
    ("update api_keys set allowed_ips = '{203.0.113.0/24,192.0.2.0/24}'", ""),
    ("update api_keys set allowed_ips = '{192.0.2.0/24}'", "key.narrowed"),
    ("update api_keys set expires_at = now() + interval '2 days'", "key.narrowed"),
    ("update api_keys set expires_at = now() + interval '3 days'", ""),
    ("update api_keys set expires_at = null, enabled = true, allowed_ips = '{}'", ""),
    ("update api_keys set last_used_at = now(), metadata = '{}', name = 'other'", ""),
    ("update api_keys set pepper_id = 'p3', digest = sha256(digest)", ""),
    ("update api_keys set revoked_at = now(), enabled = false", "key.revoked"),
    ("update api_keys set enabled = true, revoked_at = now()", ""),
    ("update users set role = 'member' where account_id is not null", "key.narrowed"),
    ("update users set role = 'admin' where account_id is not null", ""),
    ("update users set removed_at = now() where account_id is not null", "key.owner_disabled"),
    ("update users set removed_at = null", ""),
    ("update users set account_id = null where account_id is not null", "key.owner_disabled"),
    ("update personal_tokens set scopes = '{docs:read}'", "key.narrowed"),
    ("update personal_tokens set last_used_at = now(), name = 'other'", ""),
    ("update personal_tokens set expires_at = now() + interval '1 day'", "key.narrowed"),
    ("update accounts set is_active = false", "key.owner_disabled"),
    ("update accounts set last_login_at = now(), name = 'Other'", ""),
    ("delete from personal_tokens", "key.revoked"),
    ("update organizations set allowed_origins = '{https://a.example}'", "organization.narrowed"),
    ("update organizations set suspended_at = now()", "organization.suspended"),
    ("update organizations set plan = 'trial', name = 'other', suspended_at = null", ""),
    ("update organizations set deleted_at = now()", "organization.deleted"),
];

#[tokio::test]
async fn every_statement_that_ends_or_narrows_something_writes_an_entry_and_others_write_none() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        app.create_token(&ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        // One organization, with one key.
        app.execute("update organizations set deleted_at = now() where handle = 'system'").await;
        app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let mut reader = Reader::start(app).await;
        for (statement, expected) in STATEMENTS {
            app.execute(statement).await;
            let events = reader.events().await;
            let expected: Vec<_> = Some(expected).filter(|it| !it.is_empty()).into_iter().collect();
            assert_eq!(events, expected, "{statement}");
        }
        // After an organization's deletion, removing its keys needs no entry.
        app.execute("update api_keys set revoked_at = null").await;
        app.execute("delete from api_keys").await;
        assert!(reader.events().await.is_empty());
        app.execute("update organizations set deleted_at = null").await;
    })
    .await;
}

/// Columns whose change can neither end nor narrow what a check allows. A new column is either here
/// or watched by a trigger.
const IRRELEVANT: [(&str, &str); 5] = [
    (
        "accounts",
        "created_at default_key_id email handle id last_login_at name password_hash \
         password_version proven_at security_mails updated_at verified_at",
    ),
    (
        "api_keys",
        "created_at digest display_id external_id id last_used_at leaked_at limits metadata \
         metered_key_id name name_held organization_id pepper_id prefix revoked_by \
         revoked_reason rotated_from user_id",
    ),
    (
        "organizations",
        "app_notice_at created_at domain external_id handle id leak_policy limits metadata name \
         plan purged_at suspended_by updated_at",
    ),
    (
        "personal_tokens",
        "account_id created_at digest display_id id last_used_at leaked_at name pepper_id prefix \
         updated_at",
    ),
    ("users", "created_at handle id organization_id role_source"),
];

#[tokio::test]
async fn every_column_of_the_tables_that_a_check_depends_on_is_watched_or_irrelevant() {
    run(async |app| {
        let tables = "('accounts', 'api_keys', 'organizations', 'personal_tokens', 'users')";
        let columns = format!(
            "select table_name || '.' || column_name from information_schema.columns
             where table_schema = 'public' and table_name in {tables}
             except
             select event_object_table || '.' || event_object_column
             from information_schema.triggered_update_columns
             where trigger_name like 'revocations%'"
        );
        let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(columns))
            .fetch_all(&mut app.connect().await)
            .await
            .unwrap();
        let irrelevant = IRRELEVANT.iter().flat_map(|(table, columns)| {
            columns.split_whitespace().map(move |column| format!("{table}.{column}"))
        });
        assert_eq!(BTreeSet::from_iter(columns), irrelevant.collect());
    })
    .await;
}
