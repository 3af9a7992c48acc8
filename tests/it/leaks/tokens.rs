//! What is done with a leaked personal access token. It cannot be disabled, and is revoked instead.

use serde_json::json;

use super::{EVENTS, display_id, leak_events, leak_mails, report, set_policy};
use crate::support::run;

#[tokio::test]
async fn a_leaked_token_is_revoked_by_the_policy_to_disable_and_its_account_is_mailed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let scopes = json!({ "name": "ci", "scopes": ["*"] });
        let (token, id) = app.create_token(&ann.cookie, scopes).await;
        app.mails().await;
        app.bearer(&token).get("/api/user/me").await.assert_status(200);
        report(app, &token).await;
        app.bearer(&token).get("/api/user/me").await.assert_status(401);
        let mails = leak_mails(app).await;
        assert_eq!(mails.len(), 1);
        let (to, text) = &mails[0];
        assert_eq!(to, "ann@example.com");
        assert!(text.contains(&format!("tnt_pat_{}", display_id(&token))), "{text}");
        assert!(text.contains("It was revoked: every request with it is rejected"), "{text}");
        let events = leak_events(app, &ann).await;
        assert_eq!(events[0]["target"], id);
        let expected = json!({
            "display_id": display_id(&token), "name": "ci", "credential": "personal_token",
            "action": "revoked", "source": "report", "url": null, "found_in": null,
            "account": ann.id,
        });
        assert_eq!(events[0]["detail"], expected);
        report(app, &token).await;
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_leaked_token_stays_valid_only_if_every_organization_it_acts_in_has_the_policy_notify() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ben, &ann, "member").await;
        let scopes = json!({ "name": "ci", "scopes": ["*"] });
        let (everywhere, _) = app.create_token(&ann.cookie, scopes.clone()).await;
        let (other, _) = app.create_token(&ann.cookie, scopes.clone()).await;
        let mut pinned = scopes;
        pinned["metadata"] = json!({ "organizationId": ann.org_id });
        let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
        set_policy(app, &ann, "notify").await;
        // Ben's organization has the policy to disable.
        report(app, &everywhere).await;
        app.bearer(&everywhere).get("/api/user/me").await.assert_status(401);
        report(app, &pinned).await;
        app.bearer(&pinned).get("/api/user/me").await.assert_status(200);
        set_policy(app, &ben, "notify").await;
        report(app, &other).await;
        app.bearer(&other).get("/api/user/me").await.assert_status(200);
        assert_eq!(app.count(EVENTS).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_leaked_pinned_token_is_mailed_to_its_account_and_to_the_owners_of_the_organization() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ben, &ann, "member").await;
        let request = json!({
            "name": "ci", "scopes": ["*"], "metadata": { "organizationId": ben.org_id },
        });
        let (token, _) = app.create_token(&ann.cookie, request).await;
        app.mails().await;
        report(app, &token).await;
        let mut to: Vec<_> = leak_mails(app).await.into_iter().map(|(to, _)| to).collect();
        to.sort();
        assert_eq!(to, ["ann@example.com", "ben@example.com"]);
        assert_eq!(leak_events(app, &ben).await.len(), 1);
        assert_eq!(leak_events(app, &ann).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_has_ended_causes_no_event_and_no_mail() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let scopes = json!({ "name": "ci", "scopes": ["*"] });
        let (deleted, id) = app.create_token(&ann.cookie, scopes.clone()).await;
        let (expired, _) = app.create_token(&ann.cookie, scopes).await;
        let session = app.session(&ann.cookie);
        let request = json!({ "keyId": id });
        session.post("/api/auth/api-key/delete", request).await.assert_status(200);
        app.execute("update personal_tokens set expires_at = now() where revoked_at is null").await;
        report(app, &deleted).await;
        report(app, &expired).await;
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 0);
    })
    .await;
}
