//! Old audit events are removed where their operator says so, only as far as they are as they were
//! written, and the rest of each chain stays as good as it was.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::domain::{audit, audit_retention, retention};
use tenantry::repo::audit_retention as statements;

use crate::audit_chain::{acme, assert_found, event_at, heads, organizations, tamper, verify};
use crate::support::app::SignedUp;
use crate::support::{TestApp, run, with};

const EVENTS: &str = "select count(*) from audit_events";
const LINKS: &str = "select count(*) from audit_links";

/// An organization with five old events, whose head was published, and two newer ones.
async fn old_and_new(app: &TestApp) -> SignedUp {
    let acme = acme(app).await;
    audit::publish_heads(&app.app).await.unwrap();
    app.clock.advance(TimeDelta::days(40));
    for name in ["five", "six"] {
        app.mint(&acme.api_key, json!({ "name": name })).await;
    }
    acme
}

#[tokio::test]
async fn the_audit_log_is_kept_unless_its_operator_says_for_how_long() {
    run(async |app| {
        acme(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        app.clock.advance(TimeDelta::days(36_500));
        retention::sweep(&app.app).await;
        assert_eq!(app.count(EVENTS).await, 5);
    })
    .await;
}

#[tokio::test]
async fn old_events_are_removed_up_to_a_published_head_and_the_rest_is_whole() {
    with(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            let acme = old_and_new(app).await;
            let published = heads(app).await.remove(0);
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 3, "the published head stays");
            let (is_fine, told) = verify(app, &["--head", &published]);
            assert!(is_fine && told.contains("3 events in 1 chains"), "{told}");
            assert!(told.contains("4 older ones removed by retention"), "{told}");

            audit::publish_heads(&app.app).await.unwrap();
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 2);
            // New events go on at the end of the chain, one after the other.
            app.mint(&acme.api_key, json!({ "name": "seven" })).await;
            app.clock.advance(TimeDelta::days(31));
            app.mint(&acme.api_key, json!({ "name": "eight" })).await;
            audit::publish_heads(&app.app).await.unwrap();
            retention::sweep(&app.app).await;
            assert_eq!((app.count(EVENTS).await, app.count(LINKS).await), (1, 2));
            let log = app.key(&acme.api_key).get("/v1/organization/audit-log").await;
            assert_eq!(log.has_status(200).body["data"].as_array().unwrap().len(), 1);
            let (is_fine, told) = verify(app, &["--head", &published]);
            assert!(is_fine && told.contains("8 older ones removed by retention"), "{told}");
            let removed = "select count(*) from audit_heads where pruned_until = 8";
            assert_eq!(app.count(removed).await, 1);
        })
        .await;
}

#[tokio::test]
async fn old_events_that_are_not_as_they_were_written_are_kept_as_evidence() {
    with(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            old_and_new(app).await;
            let change = format!("update audit_events set actor = 'x' where id = {}", event_at(3));
            tamper(app, &change).await;
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 7);
            assert_found(app, &[], &[": position 3: the event evt_"]);
        })
        .await;
}

#[tokio::test]
async fn nobody_passes_removed_events_off_as_removed_by_retention() {
    run(async |app| {
        old_and_new(app).await;
        let cut = "update audit_heads set pruned_until = 3,
                          pruned_digest = (select digest from audit_links where position = 3);
                   delete from audit_events where id in
                       (select event_id from audit_links where position <= 3);
                   delete from audit_links where position in (2, 3)";
        tamper(app, cut).await;
        let (is_fine, told) = verify(app, &[]);
        assert!(!is_fine && told.contains("the head in audit_heads was changed"), "{told}");
        assert!(told.contains("positions 2 to 3 are missing"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn two_servers_that_remove_at_once_remove_each_event_once_and_a_publisher_waits_for_them() {
    run(async |app| {
        old_and_new(app).await;
        let organization = organizations(app).await[0];
        let mut removing = app.sql().await;
        let mut tx = sqlx::Connection::begin(&mut removing).await.unwrap();
        let head = statements::lock_head(&mut tx, organization).await.unwrap();
        assert!(head.is_some());
        audit_retention::sweep(&app.app, 30).await.unwrap();
        assert_eq!(app.count(EVENTS).await, 7, "another server is at it");
        tx.rollback().await.unwrap();
        let other = app.replica();
        let (swept, published, again) = tokio::join!(
            audit_retention::sweep(&app.app, 30),
            audit::publish_heads(&other.app),
            audit_retention::sweep(&other.app, 30),
        );
        swept.unwrap();
        published.unwrap();
        again.unwrap();
        other.close();
        let (is_fine, told) = verify(app, &[]);
        assert!(is_fine && told.contains("removed by retention"), "{told}");
    })
    .await;
}
