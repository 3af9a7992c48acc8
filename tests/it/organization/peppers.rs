//! Replacement of peppers, and imported keys.

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry::domain::keys::import::{ImportedKey, import};
use tenantry::model::names::KeyName;
use tenantry::model::organization_handle::OrganizationHandle;

use super::status;
use crate::support::{TestApp, run, with_settings};

const OLD: &str = "old:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
const BOTH: &str = "new:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,\
                    old:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
const NEW: &str = "new:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

#[tokio::test]
async fn a_key_under_an_old_pepper_is_rehashed_under_the_new_one_at_its_next_use() {
    with_settings(&[("KEY_PEPPERS", OLD)])
        .run(async |app| {
            let (used, unused) = (app.sign_up().await, app.sign_up().await);
            let both = app.replica_with(&[("KEY_PEPPERS", BOTH)]);
            assert_eq!(status(&both, &used.api_key).await, 200);
            let new_only = app.replica_with(&[("KEY_PEPPERS", NEW)]);
            assert_eq!(status(&new_only, &used.api_key).await, 200);
            assert_eq!(status(&new_only, &unused.api_key).await, 401);
            assert_eq!(status(&both, &used.api_key).await, 200);
            let old = "select count(*) from api_keys where pepper_id = 'old'";
            assert_eq!(app.count(old).await, 1);
            both.close();
            new_only.close();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_stays_valid_while_it_is_rehashed() {
    with_settings(&[("KEY_PEPPERS", OLD)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let both = app.replica_with(&[("KEY_PEPPERS", BOTH)]);
            let mut uses = tokio::task::JoinSet::new();
            for _ in 0..40 {
                let client = both.key(&acme.api_key);
                uses.spawn(async move { client.get("/me").await.status.as_u16() });
            }
            assert!(uses.join_all().await.into_iter().all(|status| status == 200));
            let rehashed = "select count(*) from api_keys where pepper_id <> 'old'";
            assert_eq!(app.count(rehashed).await, 1);
            both.close();
        })
        .await;
}

#[tokio::test]
async fn an_imported_key_works_once_importing_is_on() {
    run(async |app| {
        let acme = app.sign_up().await;
        for (text, name) in [("sk_legacy.0123-4567", "known text"), ("abc def", "known hash")] {
            let imported = ImportedKey {
                line: 1,
                organization: OrganizationHandle::parse(&acme.org_id).unwrap(),
                sha256: Sha256::digest(text).into(),
                name: Some(KeyName::parse(name).unwrap()),
                scopes: app.app.config.keys.scopes.parse(&["usage:read".to_owned()]).unwrap(),
                expires_at: None,
            };
            import(&app.app, vec![imported]).await.unwrap();
            app.seen_secrets.lock().unwrap().push(text.to_owned());
            assert_eq!(status(app, text).await, 401);
            let importing = app.replica_with(&[("KEY_IMPORT", "on")]);
            assert_eq!(status(&importing, text).await, 200);
            importing.bearer(text).get("/v1/organization/me").await.assert_status(200);
            assert_eq!(status(&importing, "sk_legacy.unknown").await, 401);
            assert_eq!(status(&importing, &acme.api_key).await, 200);
            importing.close();
        }
        let listed = app.key(&acme.api_key).get("/v1/organization/api-keys").await.body;
        let listed = listed["data"].as_array().unwrap();
        let of_part = listed.iter().filter(|key| key["scopes"] == json!(["usage:read"]));
        assert_eq!(of_part.count(), 2);
        let events = "select count(*) from audit_events where event_type = 'api_key.imported'";
        assert_eq!(app.count(events).await, 2);
    })
    .await;
}

/// A key of another system with this text.
pub fn imported(app: &TestApp, line: usize, org_id: &str, text: &str) -> ImportedKey {
    ImportedKey {
        line,
        organization: OrganizationHandle::parse(org_id).unwrap(),
        sha256: Sha256::digest(text).into(),
        name: None,
        scopes: app.app.config.keys.scopes.parse(&["usage:read".to_owned()]).unwrap(),
        expires_at: None,
    }
}

/// Audit logs are locked in this order whatever the order of the file, so that no two transactions
/// deadlock.
#[tokio::test]
async fn an_import_writes_to_audit_logs_in_the_order_of_their_organizations() {
    run(async |app| {
        let older = app.sign_up().await;
        app.clock.advance(chrono::TimeDelta::milliseconds(1));
        let younger = app.sign_up().await;
        let file = [(&younger, "one"), (&older, "two"), (&younger, "three")];
        let keys = file.iter().enumerate();
        let keys = keys.map(|(line, (of, text))| imported(app, line + 1, &of.org_id, text));
        import(&app.app, keys.collect()).await.unwrap();
        let events: Vec<String> = sqlx::query_scalar(
            "select o.handle from audit_events e join organizations o on o.id = e.organization_id
             where e.event_type = 'api_key.imported' order by e.id",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        assert_eq!(events, [older.org_id, younger.org_id.clone(), younger.org_id]);
        // An invalid line is reported by its number in the file.
        let wrong = vec![imported(app, 7, "org_0000000000", "four")];
        let rejected = import(&app.app, wrong).await.unwrap_err();
        assert_eq!(rejected.message(), "line 7: there is no such organization");
    })
    .await;
}

/// The key is known elsewhere: importing the file again must not make it valid again.
#[tokio::test]
async fn an_imported_key_that_was_revoked_long_ago_cannot_be_imported_again() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = || vec![imported(app, 1, &acme.org_id, "sk_legacy")];
        import(&app.app, key()).await.unwrap();
        let ended = "update api_keys set revoked_at = now() - interval '3000 days'
                     where prefix = 'imported_'";
        app.execute(ended).await;
        tenantry::domain::retention::sweep(&app.app).await;
        let rejected = import(&app.app, key()).await.unwrap_err();
        assert_eq!(rejected.message(), "line 1: this key already exists");
    })
    .await;
}
