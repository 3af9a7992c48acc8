//! Retention of the audit log: old events are removed if the operator configures it, only if they
//! are unchanged, and the rest of each chain still verifies.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::domain::audit;
use tenantry::domain::audit::retention as audit_retention;
use tenantry::domain::retention;
use tenantry::model::audit_chain::{ChainObservation, ChainVerifier};
use tenantry::repo::audit_chain;
use tenantry::repo::audit_retention as statements;

use crate::audit_chain::{
    assert_findings, event_at, heads, organization_with_events, organizations, tamper, verify,
};
use crate::audit_seal::{REMOVE_MACS, begin_signing, tamper_and_recompute};
use crate::support::app::CreatedKey;
use crate::support::{TestApp, run, with_settings};

const EVENTS: &str = "select count(*) from audit_events";
const LINKS: &str = "select count(*) from audit_links";

/// Creates an organization with five old events, whose head is published, and two newer ones.
async fn organization_with_old_and_new_events(app: &TestApp) -> CreatedKey {
    let acme = organization_with_events(app).await;
    audit::publish_heads(&app.app).await.unwrap();
    app.clock.advance(TimeDelta::days(40));
    for name in ["five", "six"] {
        app.create_key_with(&acme.api_key, json!({ "name": name })).await;
    }
    acme
}

#[tokio::test]
async fn audit_events_are_kept_when_no_retention_is_configured() {
    run(async |app| {
        organization_with_events(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        app.clock.advance(TimeDelta::days(36_500));
        retention::sweep(&app.app).await;
        assert_eq!(app.count(EVENTS).await, 5);
    })
    .await;
}

#[tokio::test]
async fn old_events_are_removed_up_to_a_published_head_and_the_rest_verifies() {
    with_settings(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            let acme = organization_with_old_and_new_events(app).await;
            let published = heads(app).await.remove(0);
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 3, "the published head stays");
            let (is_fine, output) = verify(app, &["--head", &published]);
            assert!(is_fine && output.contains("3 events in 1 chains"), "{output}");
            assert!(output.contains("4 older events removed by retention"), "{output}");

            audit::publish_heads(&app.app).await.unwrap();
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 2);
            // New events continue the chain.
            app.create_key_with(&acme.api_key, json!({ "name": "seven" })).await;
            app.clock.advance(TimeDelta::days(31));
            app.create_key_with(&acme.api_key, json!({ "name": "eight" })).await;
            audit::publish_heads(&app.app).await.unwrap();
            retention::sweep(&app.app).await;
            assert_eq!((app.count(EVENTS).await, app.count(LINKS).await), (1, 2));
            let log = app.key(&acme.api_key).get("/v1/organization/audit-log").await;
            assert_eq!(log.assert_status(200).body["data"].as_array().unwrap().len(), 1);
            let (is_fine, output) = verify(app, &["--head", &published]);
            assert!(is_fine && output.contains("8 older events removed by retention"), "{output}");
            let removed = "select count(*) from audit_heads where pruned_until = 8";
            assert_eq!(app.count(removed).await, 1);
        })
        .await;
}

#[tokio::test]
async fn old_events_that_were_changed_are_kept_as_evidence() {
    with_settings(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            organization_with_old_and_new_events(app).await;
            let change = format!("update audit_events set actor = 'x' where id = {}", event_at(3));
            tamper(app, &change).await;
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 7);
            assert_findings(app, &[], &[": position 3: the event evt_"]);
        })
        .await;
}

#[tokio::test]
async fn old_events_without_macs_are_kept_while_they_do_not_match_their_published_head() {
    with_settings(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            organization_with_events(app).await;
            tamper(app, REMOVE_MACS).await;
            begin_signing(app).await;
            assert_eq!(app.count("select max(position) from audit_heads").await, 0);
            audit::publish_heads(&app.app).await.unwrap();
            assert_eq!(app.count("select max(position) from audit_heads").await, 5);
            app.clock.advance(TimeDelta::days(40));
            let change = format!("update audit_events set actor = 'x' where id = {}", event_at(2));
            tamper_and_recompute(app, &change).await;
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 5);
            assert_findings(app, &[], &[": position 5 does not match its published head"]);
            let back = change.replace("'x'", &format!("'{}'", old_actor(app).await));
            tamper_and_recompute(app, &back).await;
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 1);
            assert!(verify(app, &[]).0);
        })
        .await;
}

/// The actor of the third event, which is also that of the second.
async fn old_actor(app: &TestApp) -> String {
    let actor = format!("select actor from audit_events where id = {}", event_at(3));
    sqlx::query_scalar(sqlx::AssertSqlSafe(actor))
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn old_events_of_the_deployment_itself_are_removed() {
    with_settings(&[("RETENTION_AUDIT_DAYS", "30")])
        .run(async |app| {
            for _ in 0..2 {
                let wrong = app.key("wrong").with("idempotency-key", "one");
                let response = wrong.post("/v1/admin/org/create", json!({})).await;
                response.assert_error(401, "unauthorized");
                app.app.rejections.flush().await.unwrap();
            }
            assert_eq!(app.count(EVENTS).await, 2, "of the deployment itself");
            audit::publish_heads(&app.app).await.unwrap();
            app.clock.advance(TimeDelta::days(31));
            retention::sweep(&app.app).await;
            assert_eq!(app.count(EVENTS).await, 1);
            assert!(verify(app, &[]).0);
        })
        .await;
}

#[tokio::test]
async fn a_link_at_a_removed_or_occupied_position_is_found() {
    run(async |app| {
        organization_with_old_and_new_events(app).await;
        let other = app.sign_up().await;
        audit_retention::sweep(&app.app, 30).await.unwrap();
        // The owner of the tables can do this without disabling a trigger or a constraint.
        let hidden = "begin;
             insert into audit_events (organization_id, event_type, actor, target, method, path,
                                       request_id, detail, created_at)
                 select organization_id, event_type, 'forger', target, method, path, request_id,
                        detail, created_at from audit_events order by id desc limit 1;
             set constraints all immediate;
             set local app.audit_retention = 'on';
             delete from audit_links where event_id = (select max(id) from audit_events);
             insert into audit_links (organization_id, position, event_id, digest)
                 select organization_id, 2, (select max(id) from audit_events), digest
                 from audit_links where position = 1 order by event_id limit 1;
             commit";
        sqlx::raw_sql(hidden).execute(&mut app.connect().await).await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(!is_fine && output.contains(": position 2: the event evt_"), "{output}");
        assert!(output.contains("has no position"), "{output}");
        assert!(output.contains(&format!("audit head {}:1:", other.org_id)), "{output}");
        let twice = "alter table audit_links drop constraint audit_links_pkey,
                                             drop constraint audit_links_event_id_key;
                     insert into audit_links select * from audit_links where position = 6";
        tamper(app, twice).await;
        let (_, output) = verify(app, &[]);
        assert!(output.contains(": position 6: the event evt_"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_head_under_an_unknown_pepper_hides_no_finding() {
    run(async |app| {
        organization_with_old_and_new_events(app).await;
        let change = format!("update audit_events set actor = 'x' where id = {}", event_at(6));
        tamper(app, &change).await;
        let blind = "update audit_heads set pepper_id = 'zz', pruned_until = 9223372036854775807";
        app.execute(blind).await;
        let (is_fine, output) = verify(app, &[]);
        assert!(!is_fine && output.contains(": position 6: the event evt_"), "{output}");
        assert!(!output.contains("removed by retention"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn retention_during_verification_causes_no_finding() {
    run(async |app| {
        organization_with_old_and_new_events(app).await;
        let mut verification = ChainVerifier::with_known_heads(app.app.audit_signer.clone(), []);
        let mut observed = Vec::new();
        for _ in 0..5 {
            let last = verification.last();
            let page = app.app.db.run(async |db| audit_chain::list_links(db, last, 2).await).await;
            observed.extend(page.unwrap().iter().flat_map(|link| verification.verify_link(link)));
            audit_retention::sweep(&app.app, 30).await.unwrap();
        }
        observed.extend(verification.finish(Vec::new()));
        assert!(matches!(observed[..], [ChainObservation::Intact(_)]), "{observed:?}");
        assert_eq!(app.count(EVENTS).await, 3, "nothing was removed meanwhile");
    })
    .await;
}

#[tokio::test]
async fn events_removed_by_hand_do_not_pass_as_removed_by_retention() {
    run(async |app| {
        organization_with_old_and_new_events(app).await;
        let cut = "update audit_heads set pruned_until = 3,
                          pruned_digest = (select digest from audit_links where position = 3);
                   delete from audit_events where id in
                       (select event_id from audit_links where position <= 3);
                   delete from audit_links where position in (2, 3)";
        tamper(app, cut).await;
        let (is_fine, output) = verify(app, &[]);
        assert!(!is_fine && output.contains("the head in audit_heads was changed"), "{output}");
        assert!(output.contains("positions 2 to 3 are missing"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn two_servers_that_remove_and_publish_concurrently_leave_an_intact_chain() {
    run(async |app| {
        organization_with_old_and_new_events(app).await;
        let organization = organizations(app).await[0];
        let mut removing = app.connect().await;
        let mut tx = sqlx::Connection::begin(&mut removing).await.unwrap();
        let head = statements::lock_head(&mut tx, organization).await.unwrap();
        assert!(head.is_some());
        audit_retention::sweep(&app.app, 30).await.unwrap();
        assert_eq!(app.count(EVENTS).await, 7, "another server holds the lock");
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
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("removed by retention"), "{output}");
    })
    .await;
}
