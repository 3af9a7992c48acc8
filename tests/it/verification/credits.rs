//! Credits: any number of servers never use more units than there are.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection;
use tenantry::model::ids::OrganizationId;
use tenantry::repo::credit_balances;

use super::{code, verify};
use crate::support::{TestApp, run};

/// A key with these credits, and its owner's key and path.
async fn key_with_credits(app: &TestApp, credits: Value) -> (String, (String, String)) {
    let acme = app.sign_up().await;
    let key = app.create_key_with(&acme.api_key, json!({ "credits": credits })).await;
    (key.api_key, (acme.api_key, format!("/v1/organization/api-keys/{}", key.key_id)))
}

/// Sets the credits of a key with the first key of its organization.
async fn set_credits(app: &TestApp, (owner, path): &(String, String), credits: &Value) {
    app.key(owner).patch(path, json!({ "credits": credits })).await.assert_status(200);
}

async fn stored(app: &TestApp) -> i64 {
    app.count("select sum(remaining)::bigint from credit_balances").await
}

#[tokio::test]
async fn two_servers_use_each_credit_once_and_no_more() {
    run(async |app| {
        let (key, _) = key_with_credits(app, json!({ "remaining": 100 })).await;
        let replica = app.replica();
        let checks = (0..200).map(|number: usize| {
            let server = if number.is_multiple_of(2) { app } else { &replica };
            code(server, &key, json!({}))
        });
        let codes = join_all(checks).await;
        assert_eq!(codes.iter().filter(|it| *it == "valid").count(), 100);
        assert_eq!(codes.iter().filter(|it| *it == "credits_exhausted").count(), 100);
        assert_eq!(stored(app).await, 0);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn a_cost_above_the_balance_takes_nothing_and_a_smaller_cost_is_still_accepted() {
    run(async |app| {
        let (key, _) = key_with_credits(app, json!({ "remaining": 10 })).await;
        let verdict = verify(app, &key, json!({ "cost": 11 })).await;
        assert_eq!(verdict["code"], "credits_exhausted");
        assert_eq!(
            (&verdict["credits"]["remaining"], &verdict["retry_after"]),
            (&json!(10), &json!(null))
        );
        for (cost, remaining) in [(4, 6), (0, 6), (6, 0), (0, 0)] {
            let verdict = verify(app, &key, json!({ "cost": cost })).await;
            assert_eq!(
                (&verdict["code"], &verdict["credits"]["remaining"]),
                (&json!("valid"), &json!(remaining))
            );
        }
        assert_eq!(code(app, &key, json!({ "cost": 1 })).await, "credits_exhausted");
    })
    .await;
}

#[tokio::test]
async fn units_that_a_server_did_not_use_are_returned() {
    run(async |app| {
        let (key, _) = key_with_credits(app, json!({ "remaining": 1000 })).await;
        assert_eq!(code(app, &key, json!({})).await, "valid");
        assert_eq!(stored(app).await, 990, "1 % was taken");
        app.app.credit_leases.return_unused(Duration::ZERO).await;
        assert_eq!(stored(app).await, 999);
        let verdict = verify(app, &key, json!({})).await;
        assert_eq!(verdict["credits"]["remaining"], 998);
    })
    .await;
}

#[tokio::test]
async fn units_that_could_not_be_returned_are_returned_later() {
    run(async |app| {
        let (key, _) = key_with_credits(app, json!({ "remaining": 1000 })).await;
        assert_eq!(code(app, &key, json!({})).await, "valid");
        app.execute("alter table credit_balances rename to elsewhere").await;
        app.app.credit_leases.return_unused(Duration::ZERO).await;
        app.execute("alter table elsewhere rename to credit_balances").await;
        assert_eq!(stored(app).await, 990);
        app.app.credit_leases.return_unused(Duration::ZERO).await;
        assert_eq!(stored(app).await, 999);
    })
    .await;
}

#[tokio::test]
async fn credits_that_are_set_apply_to_the_next_check_on_every_server() {
    run(async |app| {
        let (key, path) = key_with_credits(app, json!({ "remaining": 10_000 })).await;
        let replica = app.replica();
        for server in [app, &replica] {
            assert_eq!(code(server, &key, json!({})).await, "valid");
        }
        set_credits(app, &path, &json!({ "remaining": 0 })).await;
        for server in [app, &replica] {
            assert_eq!(code(server, &key, json!({})).await, "credits_exhausted");
            // Units from before are not returned either.
            server.app.credit_leases.return_unused(Duration::ZERO).await;
        }
        assert_eq!(stored(app).await, 0);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn credits_are_added_removed_and_audited() {
    run(async |app| {
        let acme = app.sign_up().await;
        let spec = json!({ "credits": { "remaining": 1 } });
        let key = app.create_key_with(&acme.api_key, spec).await;
        let path = format!("/v1/organization/api-keys/{}", key.key_id);
        let owner = app.key(&acme.api_key);
        assert_eq!(code(app, &key.api_key, json!({})).await, "valid");
        assert_eq!(code(app, &key.api_key, json!({})).await, "credits_exhausted");
        let added = owner.patch(&path, json!({ "credits": { "add": 5 } })).await.assert_status(200);
        assert_eq!(added.body["credits"], json!({ "remaining": 5, "refill": null }));
        let verdict = verify(app, &key.api_key, json!({})).await;
        assert_eq!(verdict["credits"]["remaining"], 4);
        let removed = owner.patch(&path, json!({ "credits": null })).await.assert_status(200);
        assert_eq!(removed.body["credits"], json!(null));
        let verdict = verify(app, &key.api_key, json!({ "cost": 1_000 })).await;
        assert_eq!((&verdict["code"], &verdict["credits"]), (&json!("valid"), &json!(null)));
        let events = "select count(*) from audit_events
                      where event_type = 'api_key.updated' and detail::text like '%credits%'";
        assert_eq!(app.count(events).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_refill_makes_at_least_its_amount_available_and_takes_nothing_away() {
    run(async |app| {
        let refill = json!({ "amount": 50, "every": "day" });
        let credits = json!({ "remaining": 2, "refill": refill });
        let (key, path) = key_with_credits(app, credits).await;
        assert_eq!(code(app, &key, json!({ "cost": 2 })).await, "valid");
        let exhausted = verify(app, &key, json!({})).await;
        assert_eq!(exhausted["code"], "credits_exhausted");
        assert!((1..=86_400).contains(&exhausted["retry_after"].as_u64().unwrap()));
        let never = verify(app, &key, json!({ "cost": 51 })).await;
        assert_eq!((&never["code"], &never["retry_after"]), (&exhausted["code"], &json!(null)));
        app.execute("update credit_balances set refilled_at = now() - interval '1 day'").await;
        let verdict = verify(app, &key, json!({})).await;
        assert_eq!(
            (&verdict["code"], &verdict["credits"]["remaining"]),
            (&json!("valid"), &json!(49))
        );
        let rich = json!({ "remaining": 80, "refill": refill });
        set_credits(app, &path, &rich).await;
        app.execute("update credit_balances set refilled_at = now() - interval '1 day'").await;
        let verdict = verify(app, &key, json!({})).await;
        assert_eq!(verdict["credits"]["remaining"], 79);
    })
    .await;
}

#[tokio::test]
async fn a_balance_that_another_transaction_has_locked_delays_only_its_own_checks() {
    run(async |app| {
        let (locked, _) = key_with_credits(app, json!({ "remaining": 100 })).await;
        let mut db = app.connect().await;
        let mut transaction = db.begin().await.unwrap();
        let lock = "select id from credit_balances for no key update";
        sqlx::query(lock).execute(&mut *transaction).await.unwrap();
        let (free, _) = key_with_credits(app, json!({ "remaining": 100 })).await;
        let waiting = code(app, &locked, json!({}));
        let others = async {
            for _ in 0..5 {
                assert_eq!(code(app, &free, json!({})).await, "valid");
            }
            transaction.commit().await.unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, others);
        assert_eq!(waited, "valid");
    })
    .await;
}

#[tokio::test]
async fn a_tenant_cannot_write_the_credits_of_its_organization() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.execute(
            "insert into credit_balances (id, organization_id, remaining, refilled_at)
             select id, id, 5, now() from organizations where handle <> 'system'",
        )
        .await;
        let find = "select id from organizations where handle = $1";
        let id =
            sqlx::query_scalar(find).bind(&acme.org_id).fetch_one(&mut app.connect().await).await;
        let organization = OrganizationId(id.unwrap());
        let added = app.app.db.tenant_transaction(organization, async |tx| {
            credit_balances::add(tx, (organization, organization.0), 100).await
        });
        assert!(added.await.unwrap().is_none());
        assert_eq!(stored(app).await, 5);
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_takes_no_credits() {
    run(async |app| {
        let (key, _) = key_with_credits(app, json!({ "remaining": 3 })).await;
        for cost in [3, 4] {
            let expected = if cost == 3 { "valid" } else { "credits_exhausted" };
            let dry = json!({ "dry_run": true, "cost": cost });
            assert_eq!(code(app, &key, dry).await, expected);
        }
        assert_eq!(stored(app).await, 3);
    })
    .await;
}
