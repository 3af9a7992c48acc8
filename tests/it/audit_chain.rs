//! The seal on the trails: every event is in its organization's chain, and what is done to a trail
//! past the application is found, at its position, by the command that looks for it.

use serde_json::json;
use sqlx::AssertSqlSafe;
use tenantry::error::Result;
use tenantry::model::audit::{AuditContext, EventType, NewAuditEvent};
use tenantry::model::ids::OrganizationId;
use tenantry::repo::{audit_events, audit_heads, rls};
use uuid::Uuid;

use crate::support::app::CreatedKey;
use crate::support::requests::Fixtures;
use crate::support::server::WorkDir;
use crate::support::waiting::wait_until;
use crate::support::{TestApp, run};

/// What `tenantry audit verify` says, and whether it found nothing wrong.
pub fn verify(app: &TestApp, arguments: &[&str]) -> (bool, String) {
    let place = WorkDir::new();
    let mut command = place.command(&app.database_settings());
    let done = command.args(["audit", "verify"]).args(arguments).output().unwrap();
    let told = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (done.status.code() == Some(0), told)
}

/// An organization whose trail has five events.
pub async fn organization_with_events(app: &TestApp) -> CreatedKey {
    let acme = app.sign_up().await;
    for name in ["one", "two", "three", "four"] {
        app.mint(&acme.api_key, json!({ "name": name })).await;
    }
    acme
}

/// Does something to the trails as somebody with access to the database would.
pub async fn tamper(app: &TestApp, sql: &str) {
    let sql = format!(
        "alter table audit_events disable trigger all; alter table audit_links disable trigger all;
         {sql};
         alter table audit_events enable trigger all; alter table audit_links enable trigger all"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

/// The events of a position in every chain, for a statement.
pub fn event_at(position: u32) -> String {
    format!("(select event_id from audit_links where position = {position})")
}

/// The heads of all chains, as the log holds them.
pub async fn heads(app: &TestApp) -> Vec<String> {
    let ends = async |db: &mut _| audit_heads::list_chain_ends(db, Uuid::nil(), false, 100).await;
    let ends = app.app.db.run(ends).await;
    ends.unwrap().into_iter().map(|end| end.head.to_string()).collect()
}

#[track_caller]
pub fn assert_findings(app: &TestApp, arguments: &[&str], findings: &[&str]) {
    let (is_fine, told) = verify(app, arguments);
    assert!(!is_fine, "{told}");
    for finding in findings {
        assert!(told.contains(finding), "{finding} is not in {told}");
    }
    assert!(told.contains(&format!("{} findings", findings.len())), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_of_a_busy_world_is_chained_without_gaps() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let mut mints = tokio::task::JoinSet::new();
        for number in 0..20 {
            let key = app.key(&world.acme.api_key);
            let name = json!({ "name": format!("at once {number}") });
            mints.spawn(async move { key.post("/me/api-keys", name).await.status });
        }
        let statuses = mints.join_all().await;
        assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
        let events = app.count("select count(*) from audit_events").await;
        assert_eq!(app.count("select count(*) from audit_links").await, events);
        let gaps = "select count(*) from (
                        select count(*) as links, max(position) as last from audit_links
                        group by organization_id) chains where links <> last";
        assert_eq!(app.count(gaps).await, 0);
        let (is_fine, told) = verify(app, &[]);
        assert!(is_fine, "{told}");
        let chains = app.count("select count(distinct organization_id) from audit_events").await;
        let summary =
            format!("{events} events in {chains} chains, 0 heads to compare with: all events");
        assert!(told.contains(&summary), "{told}");
        let heads = heads(app).await;
        assert_eq!(i64::try_from(heads.len()).unwrap(), chains);
        for head in heads {
            assert!(told.contains(&head), "{head} is not in {told}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_there_before_the_chain_is_chained_when_it_comes() {
    run(async |app| {
        organization_with_events(app).await;
        organization_with_events(app).await;
        let links = "select string_agg(l::text, '|' order by l::text)
                     from (select organization_id, position, event_id, digest from audit_links) l";
        let links = async || -> String {
            sqlx::query_scalar(links).fetch_one(&mut app.sql().await).await.unwrap()
        };
        let before = links().await;
        let undo = "drop trigger audit_events_link on audit_events; drop table audit_links;
                    drop function audit_events_link; drop function audit_digest";
        sqlx::raw_sql(undo).execute(&mut app.sql().await).await.unwrap();
        let migration = include_str!("../../migrations/0018_audit_chain.sql");
        sqlx::raw_sql(migration).execute(&mut app.sql().await).await.unwrap();
        assert_eq!(links().await, before);
    })
    .await;
}

#[tokio::test]
async fn a_changed_event_is_found() {
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
        let mut left = app
            .count(
                "select count(*) from information_schema.columns
             where table_name = 'audit_events' and column_name not in ('id', 'organization_id')",
            )
            .await;
        for (at, column) in columns.iter().enumerate() {
            tamper(
                app,
                &format!(
                    "create table kept as select * from audit_events where id in {event};
                 update audit_events set {column} where id in {event}"
                ),
            )
            .await;
            assert_findings(app, &[], &[": position 3: the event evt_"]);
            tamper(
                app,
                &format!(
                    "delete from audit_events where id in {event};
                 insert into audit_events overriding system value select * from kept;
                 drop table kept"
                ),
            )
            .await;
            let is_second = at > 0 && columns[at - 1].split(' ').next() == column.split(' ').next();
            left -= i64::from(!is_second);
        }
        assert_eq!(left, 0, "a column of the trail is not tried here");
        assert!(verify(app, &[]).0);
    })
    .await;
}

#[tokio::test]
async fn a_long_chain_is_held_together_across_the_pages_that_it_is_read_in() {
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
        let (is_fine, told) = verify(app, &[]);
        assert!(is_fine && told.contains("3002 events in 2 chains"), "{told}");
        let event = format!("{} order by 1 limit 1", event_at(1001).trim_matches(['(', ')']));
        tamper(app, &format!("update audit_events set actor = 'x' where id = ({event})")).await;
        assert_findings(app, &[], &[": position 1001: the event"]);
    })
    .await;
}

#[tokio::test]
async fn a_removed_event_is_found_with_its_link_or_without() {
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
async fn an_event_that_is_another_organization_s_now_is_found() {
    run(async |app| {
        organization_with_events(app).await;
        app.sign_up().await;
        let event = event_at(2);
        let of_other = "(select organization_id from audit_events order by id desc limit 1)";
        let sql =
            format!("update audit_events set organization_id = {of_other} where id = {event}");
        tamper(app, &sql).await;
        // It is missed in the one chain, and has no place in the other.
        assert_findings(app, &[], &[": position 2: the event", "has no position"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_was_added_past_the_chain_is_found() {
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
async fn a_cut_end_is_found_with_a_head_of_before() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let head = heads(app).await.remove(0);
        assert!(head.starts_with(&format!("audit head {}:5:", acme.org_id)), "{head}");
        let head = head.strip_prefix("audit head ").unwrap();
        let (is_fine, told) = verify(app, &["--head", head]);
        assert!(is_fine && told.contains(", 1 heads to compare with"), "{told}");
        // A head stays good when the chain grows.
        app.mint(&acme.api_key, json!({ "name": "five" })).await;
        assert!(verify(app, &["--head", head]).0);
        let events = "(select event_id from audit_links where position > 3)";
        let cut = format!(
            "delete from audit_events where id in {events};
                           delete from audit_links where position > 3"
        );
        tamper(app, &cut).await;
        assert!(verify(app, &[]).0, "a cut end shows nothing by itself");
        let cut =
            format!("{}: the chain ends at position 3, before the head of position 5", acme.org_id);
        assert_findings(app, &["--head", head], &[&cut]);
        tamper(app, "delete from audit_events; delete from audit_links").await;
        assert_findings(app, &["--head", head], &["no chain of this name"]);
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_was_made_anew_is_found_with_a_head_of_before() {
    run(async |app| {
        organization_with_events(app).await;
        let head = heads(app).await.remove(0);
        let anew =
            "update audit_events set actor = 'x' where id = (select max(id) from audit_events);
                    update audit_links l set digest = audit_digest(p.digest, 5, e)
                    from audit_links p, audit_events e
                    where l.position = 5 and p.position = 4 and e.id = l.event_id";
        tamper(app, anew).await;
        assert_findings(app, &[], &[": position 5: the event"]);
        let findings =
            [": position 5: the event", ": position 5 does not match its published head"];
        assert_findings(app, &["--head", &head], &findings);
    })
    .await;
}

#[tokio::test]
async fn the_chain_of_a_deleted_organization_is_looked_at_too() {
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
async fn what_should_be_a_head_and_is_none_is_refused() {
    run(async |app| {
        let place = WorkDir::new();
        let file = place.path().join("log");
        let path = file.to_str().unwrap();
        for (text, told) in [("", "no head found in"), ("audit head acme:1", "line 1: a head must")]
        {
            std::fs::write(&file, text).unwrap();
            let (is_fine, said) = verify(app, &["--heads", path]);
            assert!(!is_fine && said.contains(told), "{said}");
        }
        assert!(
            verify(app, &["--head", "acme:1"]).1.contains("a head must be ORG:POSITION:DIGEST")
        );
    })
    .await;
}

#[test]
fn heads_are_logged_as_the_command_takes_them() {
    for format in ["text", "json"] {
        let place = WorkDir::new();
        let server = place.start(&[]);
        server.sign_up();
        server.signal_and_wait("INT");
        let server = place.start(&[("LOG_FORMAT", format)]);
        wait_until("the head is logged", || server.log().contains("audit head org_"));
        let mut command = place.command(&[]);
        let done = command.args(["audit", "verify", "--heads", "log"]).output().unwrap();
        let told = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{told}");
        assert!(told.contains("1 events in 1 chains, 1 heads to compare with"), "{told}");
    }
}

/// An event, told by a test.
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
        event_type: EventType::KeyCreated,
        actor: "a",
        target: "b",
        key_display_id: None,
        detail: json!({}),
        audit: &audit,
    };
    audit_events::insert(tx, &event).await
}

pub async fn organizations(app: &TestApp) -> Vec<OrganizationId> {
    let sql = "select organization_id from audit_events order by 1";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(&mut app.sql().await).await.unwrap();
    ids.into_iter().map(OrganizationId).collect()
}

#[tokio::test]
async fn two_organizations_in_one_transaction_are_chained_each_for_itself() {
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
        let (is_fine, told) = verify(app, &[]);
        assert!(is_fine && told.contains("5 events in 2 chains"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_tenant_s_role_can_not_write_the_chain_nor_lead_it_elsewhere() {
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
            let tried = app.app.db.tenant_transaction(organization, async |tx| {
                sqlx::raw_sql(attempt).execute(tx).await?;
                Ok(())
            });
            let refused = tried.await.unwrap_err().cause().to_string();
            assert!(refused.contains("permission denied"), "{attempt}: {refused}");
        }
        let shadowed = app.app.db.transaction(async |tx| {
            rls::set_tenant(tx, organization).await?;
            let shadow = "create temp table audit_links (like public.audit_links) on commit drop";
            sqlx::raw_sql(shadow).execute(&mut *tx).await?;
            record_event(app, tx, organization).await
        });
        shadowed.await.unwrap();
        let (is_fine, told) = verify(app, &[]);
        assert!(is_fine && told.contains("2 events in 1 chains"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn the_chain_can_be_neither_changed_nor_cut_by_its_owner() {
    run(async |app| {
        app.sign_up().await;
        let attempts = [
            "update audit_links set position = 2",
            "delete from audit_links",
            "truncate audit_links",
        ];
        for attempt in attempts {
            let refused = sqlx::query(attempt).execute(&mut app.sql().await).await.unwrap_err();
            assert!(refused.to_string().contains("audit_links is append-only"), "{refused}");
        }
    })
    .await;
}
