//! Peppers that follow each other, and keys from elsewhere.

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry::domain::key_import::{ImportedKey, import};
use tenantry::model::key_name::KeyName;
use tenantry::model::org_handle::OrgHandle;

use super::status;
use crate::support::{run, with};

const OLD: &str = "old:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
const BOTH: &str = "new:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,\
                    old:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";
const NEW: &str = "new:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

#[tokio::test]
async fn a_key_of_an_old_pepper_is_digested_under_the_new_one_at_its_next_use() {
    with(&[("KEY_PEPPERS", OLD)])
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
async fn a_key_that_is_digested_anew_is_good_all_the_while() {
    with(&[("KEY_PEPPERS", OLD)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let both = app.replica_with(&[("KEY_PEPPERS", BOTH)]);
            let mut uses = tokio::task::JoinSet::new();
            for _ in 0..40 {
                let actor = both.key(&acme.api_key);
                uses.spawn(async move { actor.get("/me").await.status.as_u16() });
            }
            assert!(uses.join_all().await.into_iter().all(|status| status == 200));
            both.close();
        })
        .await;
}

#[tokio::test]
async fn a_key_from_elsewhere_works_once_importing_is_on() {
    run(async |app| {
        let acme = app.sign_up().await;
        for (text, name) in [("sk_legacy.0123-4567", "known text"), ("abc def", "known hash")] {
            let imported = ImportedKey {
                line: 1,
                organization: OrgHandle::parse(&acme.org_id).unwrap(),
                sha256: Sha256::digest(text).into(),
                name: Some(KeyName::parse(name, 64).unwrap()),
                scopes: app.app.config.keys.scopes.parse(&["usage:read".to_owned()]).unwrap(),
                expires_at: None,
            };
            import(&app.app, vec![imported]).await.unwrap();
            app.seen.lock().unwrap().push(text.to_owned());
            assert_eq!(status(app, text).await, 401);
            let importing = app.replica_with(&[("KEY_IMPORT", "on")]);
            assert_eq!(status(&importing, text).await, 200);
            importing.bearer(text).get("/v1/organization/me").await.has_status(200);
            assert_eq!(status(&importing, "sk_legacy.unknown").await, 401);
            assert_eq!(status(&importing, &acme.api_key).await, 200);
            importing.close();
        }
        let listed = app.key(&acme.api_key).get("/v1/organization/api-keys").await.body;
        let listed = listed["data"].as_array().unwrap();
        let of_part = listed.iter().filter(|key| key["scopes"] == json!(["usage:read"]));
        assert_eq!(of_part.count(), 2);
        let told = "select count(*) from audit_events where event_type = 'api_key.imported'";
        assert_eq!(app.count(told).await, 2);
    })
    .await;
}
