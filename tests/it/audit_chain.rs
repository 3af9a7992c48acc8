//! The chain of audit events: every event is linked into the chain of its organization, and
//! `tenantry audit verify` finds changes that bypass the application, at their position.

use serde_json::json;
use sqlx::AssertSqlSafe;
use tenantry::error::Result;
use tenantry::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use tenantry::model::ids::OrganizationId;
use tenantry::repo::{audit_events, audit_heads, rls};
use uuid::Uuid;

use crate::support::app::CreatedKey;
use crate::support::requests::Fixtures;
use crate::support::server::WorkDir;
use crate::support::waiting::wait_until;
use crate::support::{TestApp, run};

/// Runs `tenantry audit verify`; returns whether it succeeded, and its output.
pub fn verify(app: &TestApp, arguments: &[&str]) -> (bool, String) {
    let dir = WorkDir::new();
    let mut command = dir.command(&app.database_settings());
    let done = command.args(["audit", "verify"]).args(arguments).output().unwrap();
    let output = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (done.status.code() == Some(0), output)
}

/// Creates an organization with five audit events.
pub async fn organization_with_events(app: &TestApp) -> CreatedKey {
    let acme = app.sign_up().await;
    for name in ["one", "two", "three", "four"] {
        app.create_key_with(&acme.api_key, json!({ "name": name })).await;
    }
    acme
}

/// Changes the audit log without its triggers, as a role with full access to the database could.
pub async fn tamper(app: &TestApp, sql: &str) {
    let sql = format!(
        "alter table audit_events disable trigger all; alter table audit_links disable trigger all;
         {sql};
         alter table audit_events enable trigger all; alter table audit_links enable trigger all"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

/// SQL for the ids of the events at a position in every chain.
pub fn event_at(position: u32) -> String {
    format!("(select event_id from audit_links where position = {position})")
}

/// The heads of all chains, as they are logged.
pub async fn heads(app: &TestApp) -> Vec<String> {
    let ends = async |db: &mut _| audit_heads::list_chain_ends(db, Uuid::nil(), false, 100).await;
    let ends = app.app.db.run(ends).await;
    ends.unwrap().into_iter().map(|end| end.head.to_string()).collect()
}

#[track_caller]
pub fn assert_findings(app: &TestApp, arguments: &[&str], findings: &[&str]) {
    let (is_fine, output) = verify(app, arguments);
    assert!(!is_fine, "{output}");
    for finding in findings {
        assert!(output.contains(finding), "{finding} is not in {output}");
    }
    assert!(output.contains(&format!("{} findings", findings.len())), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_is_chained_without_gaps_under_concurrent_requests() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let mut creations = tokio::task::JoinSet::new();
        for number in 0..20 {
            let key = app.key(&fixtures.acme.api_key);
            let name = json!({ "name": format!("at once {number}") });
            creations.spawn(async move { key.post("/me/api-keys", name).await.status });
        }
        let statuses = creations.join_all().await;
        assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
        let events = app.count("select count(*) from audit_events").await;
        assert_eq!(app.count("select count(*) from audit_links").await, events);
        let gaps = "select count(*) from (
                        select count(*) as links, max(position) as last from audit_links
                        group by organization_id) chains where links <> last";
        assert_eq!(app.count(gaps).await, 0);
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine, "{output}");
        let chains = app.count("select count(distinct organization_id) from audit_events").await;
        let summary =
            format!("{events} events in {chains} chains, 0 heads to compare with: all events");
        assert!(output.contains(&summary), "{output}");
        let heads = heads(app).await;
        assert_eq!(i64::try_from(heads.len()).unwrap(), chains);
        for head in heads {
            assert!(output.contains(&head), "{head} is not in {output}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_migration_chains_existing_events_exactly_as_the_trigger_does() {
    run(async |app| {
        organization_with_events(app).await;
        organization_with_events(app).await;
        let links = "select string_agg(l::text, '|' order by l::text)
                     from (select organization_id, position, event_id, digest from audit_links) l";
        let links = async || -> String {
            sqlx::query_scalar(links).fetch_one(&mut app.connect().await).await.unwrap()
        };
        let before = links().await;
        let undo = "drop trigger audit_events_link on audit_events; drop table audit_links;
                    drop function audit_events_link; drop function audit_digest";
        sqlx::raw_sql(undo).execute(&mut app.connect().await).await.unwrap();
        let migration = include_str!("../../migrations/0018_audit_chain.sql");
        sqlx::raw_sql(migration).execute(&mut app.connect().await).await.unwrap();
        assert_eq!(links().await, before);
    })
    .await;
}

#[tokio::test]
async fn a_change_to_any_column_of_an_event_is_found() {
    run(async |app| {
        organization_with_events(app).await;
        let columns = [
            "event_type = 'x'",
            "actor = 'x'",
            "target = 'x'",
            "method = 'x'",
            "path = 'x'",
            "address = null",
            "request_id = 'x'",
            "key_display_id = 'x'",
            "detail = '{}'",
            "created_at = created_at + interval '1 microsecond'",
            "created_at = 'infinity'",
            "status = 200",
            "nonce = gen_random_uuid()",
            "pepper_id = 'p1'",
            "mac = sha256(mac)",
            "mac = null, nonce = null, pepper_id = null",
        ];
        let event = event_at(3);
        let mut untested = app
            .count(
                "select count(*) from information_schema.columns
             where table_name = 'audit_events' and column_name not in ('id', 'organization_id')",
            )
            .await;
        for (at, column) in columns.iter().enumerate() {
            tamper(
                app,
                &format!(
                    "create table original as select * from audit_events where id in {event};
                 update audit_events set {column} where id in {event}"
                ),
            )
            .await;
            assert_findings(app, &[], &[": position 3: the event evt_"]);
            tamper(
                app,
                &format!(
                    "delete from audit_events where id in {event};
                 insert into audit_events overriding system value select * from original;
                 drop table original"
                ),
            )
            .await;
            let is_second = at > 0 && columns[at - 1].split(' ').next() == column.split(' ').next();
            untested -= i64::from(!is_second);
        }
        assert_eq!(untested, 0, "a column of audit_events is not tested here");
        assert!(verify(app, &[]).0);
    })
    .await;
}

#[tokio::test]
async fn a_chain_of_several_pages_is_verified_across_page_boundaries() {
    run(async |app| {
        app.sign_up().await;
        app.sign_up().await;
        let organizations = organizations(app).await;
        let many = app.app.db.long_transaction(async |tx| {
            for _ in 0..1500 {
                for organization in &organizations {
                    record_event(app, tx, *organization).await?;
                }
            }
            Ok(())
        });
        many.await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("3002 events in 2 chains"), "{output}");
        let event = format!("{} order by 1 limit 1", event_at(1001).trim_matches(['(', ')']));
        tamper(app, &format!("update audit_events set actor = 'x' where id = ({event})")).await;
        assert_findings(app, &[], &[": position 1001: the event"]);
    })
    .await;
}

#[tokio::test]
async fn a_removed_event_is_found_with_or_without_its_link() {
    run(async |app| {
        organization_with_events(app).await;
        let event = event_at(2);
        tamper(app, &format!("delete from audit_events where id in {event}")).await;
        assert_findings(app, &[], &[": position 2: its event evt_"]);
        tamper(app, "delete from audit_links where position = 2").await;
        assert_findings(app, &[], &[": position 2 is missing"]);
        tamper(app, "delete from audit_links where position = 3").await;
        assert_findings(app, &[], &[": positions 2 to 3 are missing", "has no position"]);
    })
    .await;
}

#[tokio::test]
async fn swapped_and_moved_events_are_found() {
    run(async |app| {
        organization_with_events(app).await;
        let swap = "create table pair as select * from audit_links where position in (2, 4);
                    update audit_links set event_id = -event_id where position in (2, 4);
                    update audit_links l set event_id = p.event_id from pair p
                        where l.position = 6 - p.position;
                    drop table pair";
        tamper(app, swap).await;
        assert_findings(app, &[], &[": position 2: the event", ": position 4: the event"]);
        tamper(app, swap).await;
        assert!(verify(app, &[]).0);
        let moved = "update audit_links set position = position + 100 where position in (2, 4);
                     update audit_links set position = 106 - position where position > 100";
        tamper(app, moved).await;
        let findings = [2, 3, 4, 5].map(|position| format!(": position {position}: the event"));
        assert_findings(app, &[], &findings.each_ref().map(String::as_str));
    })
    .await;
}

#[tokio::test]
async fn an_event_moved_to_another_organization_is_found() {
    run(async |app| {
        organization_with_events(app).await;
        app.sign_up().await;
        let event = event_at(2);
        let of_other = "(select organization_id from audit_events order by id desc limit 1)";
        let sql =
            format!("update audit_events set organization_id = {of_other} where id = {event}");
        tamper(app, &sql).await;
        // It is missing from one chain and has no position in the other.
        assert_findings(app, &[], &[": position 2: the event", "has no position"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_inserted_without_a_link_is_found() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let add = "insert into audit_events (organization_id, event_type, actor, target, method,
                                             path, request_id, detail, created_at)
                   select organization_id, event_type, 'x', target, method, path, request_id,
                          detail, created_at from audit_events limit 1";
        tamper(app, add).await;
        assert_findings(app, &[], &[&format!("{}: the event evt_", acme.org_id)]);
    })
    .await;
}

#[tokio::test]
async fn a_truncated_chain_is_found_with_an_earlier_head() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let head = heads(app).await.remove(0);
        assert!(head.starts_with(&format!("audit head {}:5:", acme.org_id)), "{head}");
        let head = head.strip_prefix("audit head ").unwrap();
        let (is_fine, output) = verify(app, &["--head", head]);
        assert!(is_fine && output.contains(", 1 heads to compare with"), "{output}");
        // A head still matches when the chain has grown.
        app.create_key_with(&acme.api_key, json!({ "name": "five" })).await;
        assert!(verify(app, &["--head", head]).0);
        let events = "(select event_id from audit_links where position > 3)";
        let cut = format!(
            "delete from audit_events where id in {events};
                           delete from audit_links where position > 3"
        );
        tamper(app, &cut).await;
        assert!(verify(app, &[]).0, "a truncated chain is found only with a head");
        let cut =
            format!("{}: the chain ends at position 3, before the head at position 5", acme.org_id);
        assert_findings(app, &["--head", head], &[&cut]);
        tamper(app, "delete from audit_events; delete from audit_links").await;
        assert_findings(app, &["--head", head], &["no chain of this name"]);
    })
    .await;
}

#[tokio::test]
async fn a_recomputed_chain_is_found_with_an_earlier_head() {
    run(async |app| {
        organization_with_events(app).await;
        let head = heads(app).await.remove(0);
        let recompute =
            "update audit_events set actor = 'x' where id = (select max(id) from audit_events);
                    update audit_links l set digest = audit_digest(p.digest, 5, e)
                    from audit_links p, audit_events e
                    where l.position = 5 and p.position = 4 and e.id = l.event_id";
        tamper(app, recompute).await;
        assert_findings(app, &[], &[": position 5: the event"]);
        let findings =
            [": position 5: the event", ": position 5 does not match its published head"];
        assert_findings(app, &["--head", &head], &findings);
    })
    .await;
}

#[tokio::test]
async fn the_chain_of_a_deleted_organization_is_verified() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let confirm = json!({ "confirm": ann.org_id }).to_string();
        let session = app.session(&ann.cookie).with("content-type", "application/json");
        session.send("DELETE", &path, confirm).await.assert_status(200);
        let event = event_at(1);
        tamper(app, &format!("update audit_events set actor = 'x' where id in {event}")).await;
        assert_findings(app, &[], &[&format!("{}: position 1: the event", ann.org_id)]);
    })
    .await;
}

#[tokio::test]
async fn a_malformed_or_missing_head_is_rejected() {
    run(async |app| {
        let dir = WorkDir::new();
        let file = dir.path().join("log");
        let path = file.to_str().unwrap();
        for (text, message) in
            [("", "no head found in"), ("audit head acme:1", "line 1: a head must")]
        {
            std::fs::write(&file, text).unwrap();
            let (is_fine, output) = verify(app, &["--heads", path]);
            assert!(!is_fine && output.contains(message), "{output}");
        }
        assert!(
            verify(app, &["--head", "acme:1"]).1.contains("a head must be ORG:POSITION:DIGEST")
        );
    })
    .await;
}

#[test]
fn audit_verify_reads_heads_from_a_server_log_in_each_format() {
    for format in ["text", "json"] {
        let dir = WorkDir::new();
        let server = dir.start(&[]);
        server.sign_up();
        server.signal_and_wait("INT");
        let server = dir.start(&[("LOG_FORMAT", format)]);
        wait_until("the head is logged", || server.log().contains("audit head org_"));
        let mut command = dir.command(&[]);
        let done = command.args(["audit", "verify", "--heads", "log"]).output().unwrap();
        let output = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{output}");
        assert!(output.contains("1 events in 1 chains, 1 heads to compare with"), "{output}");
    }
}

/// Records an audit event of an organization.
pub async fn record_event(
    app: &TestApp,
    tx: &mut sqlx::PgConnection,
    organization: OrganizationId,
) -> Result<()> {
    let audit = AuditContext {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        status: None,
        address: None,
        request_id: "req_0000000000000000".to_owned(),
        at: chrono::Utc::now(),
        signer: app.app.audit_signer.clone(),
    };
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::KeyCreated,
        actor: "a",
        target: "b",
        key_display_id: None,
        detail: json!({}),
        audit: &audit,
    };
    audit_events::insert(tx, &event).await
}

/// The organization of each audit event, ordered.
pub async fn organizations(app: &TestApp) -> Vec<OrganizationId> {
    let sql = "select organization_id from audit_events order by 1";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(&mut app.connect().await).await.unwrap();
    ids.into_iter().map(OrganizationId).collect()
}

#[tokio::test]
async fn events_of_two_organizations_in_one_transaction_go_to_separate_chains() {
    run(async |app| {
        app.sign_up().await;
        app.sign_up().await;
        let [one, other] = organizations(app).await[..] else { panic!("two organizations") };
        let both = app.app.db.transaction(async |tx| {
            for organization in [one, other, one] {
                record_event(app, tx, organization).await?;
            }
            Ok(())
        });
        both.await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("5 events in 2 chains"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn the_tenant_role_cannot_write_to_the_chain_or_redirect_it() {
    run(async |app| {
        app.sign_up().await;
        let organization = organizations(app).await[0];
        let attempts = [
            "insert into audit_links select organization_id, 9, event_id, digest from audit_links",
            "update audit_links set digest = digest",
            "delete from audit_links",
            "truncate audit_links",
            "create temp table t (like audit_events) on commit drop;
             create trigger t after insert on t for each row execute function audit_events_link()",
        ];
        for attempt in attempts {
            let result = app.app.db.tenant_transaction(organization, async |tx| {
                sqlx::raw_sql(attempt).execute(tx).await?;
                Ok(())
            });
            let rejected = result.await.unwrap_err().cause().to_string();
            assert!(rejected.contains("permission denied"), "{attempt}: {rejected}");
        }
        let shadowed = app.app.db.transaction(async |tx| {
            rls::set_tenant(tx, organization).await?;
            let shadow = "create temp table audit_links (like public.audit_links) on commit drop";
            sqlx::raw_sql(shadow).execute(&mut *tx).await?;
            record_event(app, tx, organization).await
        });
        shadowed.await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("2 events in 1 chains"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn the_owner_of_audit_links_cannot_update_delete_or_truncate_it() {
    run(async |app| {
        app.sign_up().await;
        let attempts = [
            "update audit_links set position = 2",
            "delete from audit_links",
            "truncate audit_links",
        ];
        for attempt in attempts {
            let rejected =
                sqlx::query(attempt).execute(&mut app.connect().await).await.unwrap_err();
            assert!(rejected.to_string().contains("audit_links is append-only"), "{rejected}");
        }
    })
    .await;
}
