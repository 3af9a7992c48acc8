//! `/api/user/organizations/{organizationId}/app-policy`

use serde_json::json;

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::run;

fn policy_of(account: &TestAccount) -> String {
    format!("/api/user/organizations/{}/app-policy", account.org_id)
}

const LIVE: &str = "select count(*) from oauth_grants where revoked_at is null";

#[tokio::test]
async fn a_tighter_policy_revokes_and_records_each_grant_that_it_forbids_in_the_organization() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let kept = text(&app.create_app(&ann, "Kept").await["id"]);
        let ended = text(&app.create_app(&ann, "Ended").await["id"]);
        for client in [&kept, &ended] {
            app.insert_grant((&ann, Some(&ann.org_id)), client, &["projects:read"]).await;
            app.insert_grant((&ben, Some(&ann.org_id)), client, &["projects:read"]).await;
            app.insert_grant((&ben, Some(&ben.org_id)), client, &["projects:read"]).await;
            app.insert_grant((&ann, None), client, &["user:read"]).await;
        }
        let (session, path) = (app.session(&ann.cookie), policy_of(&ann));
        let initial = session.get(&path).await.assert_status(200);
        assert_eq!(initial.body["data"], json!({ "mode": "open", "allowed": [], "blocked": [] }));
        let approved = json!({ "mode": "approved", "allowed": [kept], "blocked": [] });
        let set = session.put(&path, approved.clone()).await.assert_status(200);
        let mut expected = approved.clone();
        expected["revokedGrants"] = json!(2);
        assert_eq!(set.body["data"], expected);
        assert_eq!(session.get(&path).await.body["data"], approved);
        assert_eq!(app.count(LIVE).await, 6);
        let revoked = "select count(*) from audit_events e
                       join accounts a on a.home_organization_id = e.organization_id
                       where a.email = 'ann@example.com' and e.event_type = 'app_grant.revoked'
                         and e.target like 'grant\\_%' and e.detail ->> 'reason' = 'policy'
                         and e.detail ->> 'client' = 'Ended'";
        assert_eq!(app.count(revoked).await, 2);
        // The same again revokes nothing.
        let again = session.put(&path, approved).await.assert_status(200);
        assert_eq!(again.body["data"]["revokedGrants"], 0);
        let none = session.put(&path, json!({ "mode": "none" })).await.assert_status(200);
        assert_eq!(none.body["data"]["revokedGrants"], 2);
        assert_eq!(none.body["data"]["allowed"], json!([]));
        assert_eq!(app.count(LIVE).await, 4);
        let changes = "select count(*) from audit_events where event_type = 'app_policy.updated'
                       and target like 'org\\_%'";
        assert_eq!(app.count(changes).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_blocked_app_is_forbidden_while_all_others_are_permitted() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let blocked = text(&app.create_app(&ann, "Blocked").await["id"]);
        let other = text(&app.create_app(&ann, "Other").await["id"]);
        for client in [&blocked, &other] {
            app.insert_grant((&ann, Some(&ann.org_id)), client, &["projects:read"]).await;
        }
        let request = json!({ "mode": "open", "blocked": [blocked], "allowed": null });
        let set = app.session(&ann.cookie).put(&policy_of(&ann), request).await.assert_status(200);
        assert_eq!(set.body["data"]["revokedGrants"], 1);
        assert_eq!(app.count(LIVE).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_policy_can_name_public_apps_and_rejects_a_foreign_private_one_like_an_unknown_one() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let private = text(&app.create_app(&ben, "Private").await["id"]);
        let public = text(&app.create_app(&ben, "Public").await["id"]);
        app.execute("update oauth_clients set visibility = 'public' where name = 'Public'").await;
        let (session, path) = (app.session(&ann.cookie), policy_of(&ann));
        let request = |allowed: &[&str]| json!({ "mode": "approved", "allowed": allowed });
        let mut rejections = Vec::new();
        for unknown in [private.as_str(), "app_0000000000000000000000", "x"] {
            let rejected = session.put(&path, request(&[&public, unknown])).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(rejected.invalid_fields(), ["allowed.1"]);
            rejections.push(rejected.body_without_request());
        }
        assert!(rejections.iter().all(|it| *it == rejections[0]), "{rejections:?}");
        let set = session.put(&path, request(&[&public])).await.assert_status(200);
        assert_eq!(set.body["data"]["allowed"], json!([public]));
        assert_eq!(session.get(&path).await.body["data"]["allowed"], json!([public]));
        let twice = json!({ "mode": "open", "allowed": [public], "blocked": [public] });
        session.put(&path, twice).await.assert_error(400, "VALIDATION_ERROR");
        let wrong = session.put(&path, json!({ "mode": "closed", "allowed": "x" })).await;
        let wrong = wrong.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(wrong.invalid_fields(), ["mode", "allowed"]);
    })
    .await;
}

#[tokio::test]
async fn an_admin_may_tighten_the_policy_and_only_an_owner_may_open_it_again() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        app.invite_and_accept(&ann, &ben, "admin").await;
        app.invite_and_accept(&ann, &cleo, "member").await;
        let path = policy_of(&ann);
        let (owner, admin) = (app.session(&ann.cookie), app.session(&ben.cookie));
        let member = app.session(&cleo.cookie);
        let (open, none) = (json!({ "mode": "open" }), json!({ "mode": "none" }));
        for response in [member.get(&path).await, member.put(&path, none.clone()).await] {
            let response = response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(response.body["meta"]["required_role"], "admin");
        }
        // It is open already.
        admin.put(&path, open.clone()).await.assert_status(200);
        admin.put(&path, none).await.assert_status(200);
        let key = json!({ "name": "k", "scopes": ["*"] });
        let keys = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let key = admin.post(&keys, key).await.assert_status(201);
        let key = app.key(&text(&key.body["data"]["key"]));
        for client in [&admin, &key] {
            let rejected = client.put(&path, open.clone()).await;
            let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(rejected.body["meta"]["required_role"], "owner");
        }
        assert_eq!(key.get(&path).await.assert_status(200).body["data"]["mode"], "none");
        owner.put(&path, open).await.assert_status(200);
    })
    .await;
}
