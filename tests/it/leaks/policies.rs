//! What is done with a leaked key of an organization, and who learns of it.

use serde_json::json;

use super::{
    EVENTS, PATH, decoded, display_id, leak_events, leak_mails, new_key, report, set_policy,
};
use crate::support::{TestApp, run};

const KEYS: &str = "/v1/organization/api-keys";

/// Whether a key is enabled, whether it is revoked, and the reason of that.
async fn state_of(app: &TestApp, key: &str) -> (bool, bool, Option<String>) {
    let state = "select enabled, revoked_at is not null, revoked_reason from api_keys
                 where display_id = $1";
    sqlx::query_as(state).bind(display_id(key)).fetch_one(&mut app.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_leaked_key_is_disabled_by_default_and_its_owner_can_enable_it_again() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (key, id) = new_key(app, &ann, "deploy").await;
        app.key(&key).get("/me").await.assert_status(200);
        report(app, &key).await;
        app.key(&key).get("/me").await.assert_error(401, "unauthorized");
        assert_eq!(state_of(app, &key).await, (false, false, None));
        let mails = leak_mails(app).await;
        assert_eq!(mails.len(), 1);
        let (to, text) = &mails[0];
        assert_eq!(to, "ann@example.com");
        assert!(!text.contains(&key[..key.len() - 40]), "only the beginning is shown");
        for phrase in [
            "An API key of your organization was reported as leaked",
            &format!("tnt_live_{}", display_id(&key)),
            "It was disabled: every request with it is rejected.",
            "Someone who has its text reported it.",
            "Create another key",
        ] {
            assert!(text.contains(phrase), "{phrase}: {text}");
        }
        let path = format!("/api/user/organizations/{}/api-keys/{id}", ann.org_id);
        let enabled = app.session(&ann.cookie).put(&path, json!({ "enabled": true })).await;
        enabled.assert_status(200);
        app.key(&key).get("/me").await.assert_status(200);
        // Anyone with the text could report it again and again.
        report(app, &key).await;
        app.key(&key).get("/me").await.assert_status(200);
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn each_policy_does_what_it_says_and_records_one_event() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for (policy, action, state) in [
            ("notify", "none", (true, false, None)),
            ("disable", "disabled", (false, false, None)),
            ("revoke", "revoked", (true, true, Some("Reported as leaked".to_owned()))),
        ] {
            set_policy(app, &ann, policy).await;
            let (key, id) = new_key(app, &ann, policy).await;
            let url = "https://user:password@paste.example.com/abc?x=1#y";
            let request = json!({ "key": key, "url": url });
            let response = app.anonymous().post(PATH, request).await.assert_status(202);
            let mails = leak_mails(app).await;
            assert_eq!(state_of(app, &key).await, state, "{policy}");
            app.key(&key).get("/me").await.assert_status(if policy == "notify" {
                200
            } else {
                401
            });
            assert_eq!(mails.len(), 1);
            assert!(!mails[0].1.contains("paste.example.com"), "a stranger's URL is mailed");
            let events = leak_events(app, &ann).await;
            let event = &events[0];
            assert_eq!((&event["actor"], &event["target"]), (&json!("leak_report"), &json!(id)));
            assert_eq!(event["requestId"], response.body["request_id"]);
            assert_eq!(event["ipAddress"], "192.0.2.7");
            let mut detail = event["detail"].clone();
            for name in ["invitations", "memberships"] {
                detail.as_object_mut().unwrap().remove(name);
            }
            let expected = json!({
                "display_id": display_id(&key), "name": policy, "credential": "api_key",
                "policy": policy, "action": action, "source": "report",
                "url": "https://paste.example.com/abc?x=1#y", "found_in": null,
            });
            assert_eq!(detail, expected);
        }
        assert_eq!(app.count(EVENTS).await, 3);
    })
    .await;
}

#[tokio::test]
async fn every_owner_with_a_verified_address_is_mailed_once_and_nobody_else() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        app.invite_and_accept(&ann, &ben, "owner").await;
        app.invite_and_accept(&ann, &cleo, "admin").await;
        // This opts out of notices about the account, not of mails about an organization.
        app.execute("update accounts set security_mails = false where email = 'ben@example.com'")
            .await;
        let (key, _) = new_key(app, &ann, "k").await;
        app.mails().await;
        report(app, &key).await;
        let to: Vec<_> = leak_mails(app).await.into_iter().map(|(to, _)| to).collect();
        assert_eq!(to.len(), 2);
        assert!(to.contains(&ann.email) && to.contains(&ben.email), "{to:?}");
        // A stranger could sign up with anyone's address and report keys of his own.
        let dan = app.sign_up_account("dan@example.com").await;
        let (key, _) = new_key(app, &dan, "k").await;
        app.mails().await;
        report(app, &key).await;
        app.key(&key).get("/me").await.assert_status(401);
        assert!(leak_mails(app).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_key_that_has_ended_causes_no_event_and_no_mail() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        set_policy(app, &ann, "revoke").await;
        let (revoked, revoked_id) = new_key(app, &ann, "revoked").await;
        let (expired, _) = new_key(app, &ann, "expired").await;
        let (rotated, rotated_id) = new_key(app, &ann, "rotated").await;
        let (admin, _) = new_key(app, &ann, "admin").await;
        let admin = app.key(&admin);
        admin.delete(&format!("{KEYS}/{revoked_id}")).await.assert_status(200);
        app.execute("update api_keys set expires_at = now() where name = 'expired'").await;
        admin.post(&format!("{KEYS}/{rotated_id}/rotate"), json!({})).await.assert_status(200);
        for key in [&revoked, &expired, &rotated] {
            report(app, key).await;
        }
        let deleted = app.verified_account("dan@example.com").await;
        let (key, _) = new_key(app, &deleted, "k").await;
        let path = format!("/api/user/organizations/{}", deleted.org_id);
        let confirm = json!({ "confirm": deleted.org_id });
        let session = app.session(&deleted.cookie).with("content-type", "application/json");
        session.send("DELETE", &path, confirm.to_string()).await.assert_status(200);
        report(app, &key).await;
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 0);
        assert_eq!(app.count("select count(*) from api_keys where leaked_at is not null").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_disabled_key_a_key_in_its_grace_period_and_one_of_a_suspended_organization_are_acted_on()
{
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (disabled, disabled_id) = new_key(app, &ann, "disabled").await;
        let (rotated, rotated_id) = new_key(app, &ann, "rotated").await;
        let (other, _) = new_key(app, &ann, "other").await;
        let (admin, _) = new_key(app, &ann, "admin").await;
        let admin = app.key(&admin);
        let request = json!({ "enabled": false });
        admin.patch(&format!("{KEYS}/{disabled_id}"), request).await.assert_status(200);
        let grace = json!({ "grace_period": 3_600 });
        let rotation = admin.post(&format!("{KEYS}/{rotated_id}/rotate"), grace).await;
        let successor = rotation.assert_status(200).body["key"].as_str().unwrap().to_owned();
        report(app, &disabled).await;
        let mails = leak_mails(app).await;
        assert!(mails[0].1.contains("It was disabled before, and stays disabled."));
        app.key(&rotated).get("/me").await.assert_status(200);
        report(app, &rotated).await;
        app.key(&rotated).get("/me").await.assert_status(401);
        app.key(&successor).get("/me").await.assert_status(200);
        app.execute("update organizations set suspended_at = now() where handle <> 'system'").await;
        report(app, &other).await;
        app.execute("update organizations set suspended_at = null").await;
        app.key(&other).get("/me").await.assert_status(401);
        let events = leak_events(app, &ann).await;
        let actions: Vec<_> = events.iter().map(|it| &it["detail"]["action"]).collect();
        assert_eq!(actions, ["disabled", "disabled", "already_disabled"]);
    })
    .await;
}

#[tokio::test]
async fn revoking_a_leaked_key_revokes_the_invitations_that_it_sent() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        set_policy(app, &ann, "revoke").await;
        let (key, _) = new_key(app, &ann, "k").await;
        let invites = format!("/api/user/organizations/{}/invites", ann.org_id);
        let request = json!({ "email": "thief@example.com", "role": "owner" });
        app.key(&key).post(&invites, request).await.assert_status(201);
        app.mails().await;
        report(app, &key).await;
        let open = "select count(*) from invites where revoked_at is null and accepted_at is null";
        assert_eq!(app.count(open).await, 0);
        assert_eq!(leak_events(app, &ann).await[0]["detail"]["invitations"], 1);
    })
    .await;
}

#[tokio::test]
async fn concurrent_reports_of_a_key_cause_one_event_and_one_mail_for_each_owner() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "owner").await;
        let (key, _) = new_key(app, &ann, "k").await;
        app.mails().await;
        let other = app.replica();
        for server in [app, &other] {
            for _ in 0..6 {
                server.anonymous().post(PATH, json!({ "key": key })).await.assert_status(202);
            }
        }
        let workers = [&other, app, &other].map(|it| tenantry::jobs::run_due(&it.app));
        let done = futures_util::future::join_all(workers).await;
        assert!(done.iter().all(Result::is_ok));
        assert_eq!(app.count(EVENTS).await, 1);
        let folder = app.app.config.database.data_dir.join("mail");
        let mails = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let mails: Vec<_> = mails.map(|it| std::fs::read_to_string(it).unwrap()).collect();
        assert_eq!(mails.len(), 2);
        assert!(mails.iter().all(|mail| decoded(mail).contains("has leaked")));
        assert_eq!(app.count("select count(*) from outbox").await, 0);
        other.close();
    })
    .await;
}

#[tokio::test]
async fn the_policy_is_one_of_three_and_is_set_by_admins_and_by_the_operator() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let session = app.session(&ann.cookie);
        let shown = session.get(&path).await.assert_status(200);
        assert_eq!(shown.body["data"]["leakPolicy"], "disable");
        for value in [json!("Notify"), json!("none"), json!(""), json!(null), json!(["notify"])] {
            let response = session.put(&path, json!({ "leakPolicy": value })).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["leakPolicy"]);
            assert!(response.text.contains("must be one of notify, disable, revoke"));
        }
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let request = json!({ "leakPolicy": "notify" });
        app.session(&ben.cookie).put(&path, request).await.assert_status(403);
        set_policy(app, &ann, "notify").await;
        // Other changes keep the policy.
        let renamed = session.put(&path, json!({ "name": "Renamed" })).await.assert_status(200);
        assert_eq!(renamed.body["data"]["leakPolicy"], "notify");
        let log = session.get(&format!("{path}/audit-logs?eventType=organization.updated")).await;
        assert_eq!(log.body["data"][1]["detail"]["after"], json!({ "leak_policy": "notify" }));
        let client = app.master("ORG_CREATE");
        for (number, policy) in [json!(null), json!("revoke"), json!("x")].into_iter().enumerate() {
            let request = json!({
                "org_id": format!("acme-{number}"), "name": "Acme", "domain": "general",
                "tier": "starter", "allowed_origins": "https://acme.example.com",
                "leak_policy": policy,
            });
            let client = client.with("idempotency-key", &format!("key-{number}"));
            let response = client.post("/v1/admin/org/create", request).await;
            response.assert_status(if policy == "x" { 422 } else { 201 });
        }
        let policies = "select count(*) from organizations where (handle, leak_policy)
                        in (('acme-0', 'disable'), ('acme-1', 'revoke'))";
        assert_eq!(app.count(policies).await, 2);
    })
    .await;
}
