//! `/api/auth/claim-key`: the first key of a bought organization.

use serde_json::json;

use super::{buy, buy_and_claim};
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::locks::TableLock;
use crate::support::stripe::{invoice_paid, invoice_payment_failed, later};
use crate::support::{TestApp, run};

const CLAIM: &str = "/api/auth/claim-key";
const KEYS: &str = "select count(*) from api_keys";

/// Sends the claim, as the page's button does.
pub async fn claim(app: &TestApp, token: &str) -> TestResponse {
    app.anonymous().post(CLAIM, json!({ "token": token })).await
}

/// Sends an operator's forced change of an organization's keys.
async fn force(app: &TestApp, scope: &str, org_id: &str, what: &str) -> TestResponse {
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": org_id });
    let path = format!("/v1/admin/org/{org_id}/{what}");
    app.master_with_idempotency_key(scope, org_id).post(&path, request).await.assert_status(200)
}

#[tokio::test]
async fn a_buyer_claims_a_working_key_from_the_mail() {
    run(async |app| {
        buy(app, "acme").await;
        let mails = app.mails().await;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].header("To"), "buyer@example.com");
        assert_eq!(mails[0].header("Subject"), "Your API key is ready");
        // Names are free text of the buyer: they are not in the mail.
        assert!(!mails[0].text.contains("Buyer Inc."));
        let link = mails[0].link().unwrap();
        let start = "http://127.0.0.1:8080/api/auth/claim-key?token=tnt_link_";
        assert!(link.starts_with(start) && link.ends_with("&organization=acme"), "{link}");
        // Opening the page claims nothing.
        let page = app.anonymous().get(link.strip_prefix("http://127.0.0.1:8080").unwrap()).await;
        let page = page.assert_status(200);
        assert!(page.text.contains("<button>Show the key</button>"));
        assert!(page.text.contains("<noscript>"));
        assert!(page.header("content-security-policy").contains("script-src 'sha256-"));
        assert_eq!(app.count(KEYS).await, 0);

        let token = mails[0].token().unwrap();
        let response = claim(app, &token).await.assert_status(200);
        assert_eq!(response.header("cache-control"), "no-store");
        let organization = json!({ "id": "acme", "name": "Buyer Inc." });
        assert_eq!(response.body["data"]["organization"], organization);
        let key = text(&response.body["data"]["key"]);
        let me = app.key(&key).get("/me").await.assert_status(200);
        assert_eq!(me.body["org_id"], "acme");
        assert_eq!(me.body["api_keys"][0]["scopes"], json!(["*"]));
        // The key is the owner's: it can invite owners.
        let invites = "/api/user/organizations/acme/invites";
        let owner = json!({ "email": "ann@example.com", "role": "owner" });
        app.key(&key).post(invites, owner).await.assert_status(201);
        let events: (String, String, String) = sqlx::query_as(
            "select actor, path, detail ->> 'display_id' from audit_events
             where event_type = 'api_key.created'",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        let display_id = text(&me.body["api_keys"][0]["display_id"]);
        assert_eq!(events, ("key_claim".to_owned(), CLAIM.to_owned(), display_id));
        claim(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        assert_eq!(app.count(KEYS).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_claims_gets_the_key() {
    run(async |app| {
        buy(app, "acme").await;
        let token = app.mailed_token().await;
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (anon, request) = (app.anonymous(), json!({ "token": token }));
            claims.spawn(async move { anon.post(CLAIM, request).await.status.as_u16() });
        }
        let statuses = claims.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 19, "{statuses:?}");
        assert_eq!(app.count(KEYS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_claim_expires_after_seven_days() {
    run(async |app| {
        buy(app, "acme").await;
        let token = app.mailed_token().await;
        let week = "select count(*) from key_claims
                    where expires_at = created_at + interval '7 days'";
        assert_eq!(app.count(week).await, 1);
        app.execute("update key_claims set expires_at = now()").await;
        claim(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        assert_eq!(app.count(KEYS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_token_or_another_link_s_token_claims_nothing() {
    run(async |app| {
        buy(app, "acme").await;
        app.mails().await;
        app.sign_up_for_mail("ann@example.com").await;
        let other = app.mailed_token().await;
        for token in ["", "garbage", "tnt_link_", other.as_str(), "%00"] {
            claim(app, token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        }
        let response = app.anonymous().post(CLAIM, json!({})).await.assert_status(400);
        assert_eq!(response.invalid_fields(), ["token"]);
        // The token of a claim proves no address.
        buy(app, "other").await;
        let of_claim = app.mailed_token().await;
        let verify = json!({ "token": of_claim });
        app.anonymous().post("/api/auth/verify-email", verify).await.assert_status(401);
        claim(app, &of_claim).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_suspended_organization_s_key_can_be_claimed_after_its_reactivation() {
    run(async |app| {
        buy(app, "acme").await;
        let token = app.mailed_token().await;
        app.send_stripe_event(&later(invoice_payment_failed("evt_2", "acme"), 10))
            .await
            .assert_status(200);
        claim(app, &token).await.assert_error(403, "ORGANIZATION_SUSPENDED");
        assert_eq!(app.count(KEYS).await, 0);
        app.send_stripe_event(&later(invoice_paid("evt_3", "acme"), 20)).await.assert_status(200);
        claim(app, &token).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_organization_has_no_key_to_claim() {
    run(async |app| {
        buy(app, "acme").await;
        let token = app.mailed_token().await;
        app.execute("update organizations set deleted_at = now() where handle = 'acme'").await;
        claim(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        assert_eq!(app.count(KEYS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_forced_key_change_ends_the_claim() {
    run(async |app| {
        for (scope, org_id, what) in [
            ("ORG_FORCE_ROTATE", "one", "force-rotate"),
            ("ORG_FORCE_REVOKE", "two", "force-revoke"),
        ] {
            buy(app, org_id).await;
            let token = app.mailed_token().await;
            let response = force(app, scope, org_id, what).await;
            claim(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
            let key = response.body["new_api_key"].as_str();
            assert_eq!(key.is_some(), scope == "ORG_FORCE_ROTATE");
            if let Some(key) = key {
                app.key(key).get("/me").await.assert_status(200);
            }
        }
        assert_eq!(app.count(KEYS).await, 1);
        // A claim that was not mailed yet is not mailed any more.
        buy(app, "three").await;
        force(app, "ORG_FORCE_ROTATE", "three", "force-rotate").await;
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_races_with_the_operator_leaves_one_live_key() {
    run(async |app| {
        buy(app, "acme").await;
        let token = app.mailed_token().await;
        // The operator rotates after the claim created its key and before its commit.
        let mut lock = TableLock::before_commit(app.superuser().await, "api_keys").await;
        let rotating = async {
            assert_eq!(lock.blocked_statement().await, "COMMIT");
            let rotating = force(app, "ORG_FORCE_ROTATE", "acme", "force-rotate");
            let releasing = async {
                app.wait_for_lock_waiters(2).await;
                lock.release().await;
            };
            tokio::join!(rotating, releasing).0
        };
        let (claimed, rotated) = tokio::join!(claim(app, &token), rotating);
        let claimed = text(&claimed.assert_status(200).body["data"]["key"]);
        app.key(&claimed).get("/me").await.assert_error(401, "unauthorized");
        let rotated = text(&rotated.body["new_api_key"]);
        app.key(&rotated).get("/me").await.assert_status(200);
        let live = "select count(*) from api_keys where revoked_at is null";
        assert_eq!(app.count(live).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_retried_mail_has_a_valid_link() {
    run(async |app| {
        buy(app, "acme").await;
        let waiting = "select count(*) from outbox where kind = 'claim_key'";
        assert_eq!(app.count(waiting).await, 1);
        let folder = app.app.config.database.data_dir.join("mail");
        std::fs::write(&folder, "in the way").unwrap();
        assert_eq!(tenantry::jobs::run_due(&app.app).await.unwrap(), 1);
        std::fs::remove_file(&folder).unwrap();
        app.execute("update outbox set due_at = now()").await;
        let token = app.mailed_token().await;
        claim(app, &token).await.assert_status(200);
        assert_eq!(app.count(waiting).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_claimed_key_is_not_offered_again() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        let again = crate::support::stripe::checkout("evt_2", "acme", "pro");
        app.send_stripe_event(&again).await.assert_status(200);
        assert!(app.mails().await.is_empty());
        app.key(&key).get("/me").await.assert_status(200);
    })
    .await;
}
