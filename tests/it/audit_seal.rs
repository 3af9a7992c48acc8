//! Tampering that only MACs show: events added, copied, backdated, removed or moved by someone who
//! recomputes every digest, and replaced functions of the database.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::domain::audit;

use crate::audit_chain::{
    assert_findings, organization_with_events, organizations, record_event, tamper, verify,
};
use crate::support::app::CreatedKey;
use crate::support::server::WorkDir;
use crate::support::waiting::wait_until;
use crate::support::{TestApp, run};

/// Recomputes all digests, and numbers positions without gaps, so that the chain fits its events.
const RECOMPUTE_DIGESTS: &str = "
    do $$
    declare
        link   record;
        org    uuid;
        before bytea;
        place  bigint;
    begin
        for link in select l.organization_id, l.event_id from audit_links l
                    order by l.organization_id, l.position loop
            if link.organization_id is distinct from org then
                org := link.organization_id;
                before := null;
                place := 0;
            end if;
            place := place + 1;
            select public.audit_digest(before, place, e) into before from audit_events e
                where e.id = link.event_id;
            update audit_links set position = -place, digest = before
                where event_id = link.event_id;
        end loop;
        update audit_links set position = -position;
    end
    $$";

/// Leaves events as servers wrote them before there were MACs.
pub const REMOVE_MACS: &str = "update audit_events set nonce = null, pepper_id = null, mac = null;
                           update audit_links set seal = null";

/// Inserts an event as a server of the previous version does.
const INSERT_BY_PREVIOUS_VERSION: &str =
    "insert into audit_events (organization_id, event_type, actor, target, method, path, request_id,
                               detail, created_at)
     select organization_id, event_type, 'older', target, method, path, request_id, detail,
            created_at
     from audit_events where event_type = 'organization.signed_up' and actor <> 'older'";

/// Tampers and recomputes digests, without the constraint that prevents renumbering.
pub async fn tamper_and_recompute(app: &TestApp, sql: &str) {
    let lift = "alter table audit_links drop constraint if exists audit_links_position_check";
    tamper(app, &format!("{lift}; {sql}; {RECOMPUTE_DIGESTS}")).await;
}

/// Stores when the signing of events began, as a server does when it starts.
pub async fn begin_signing(app: &TestApp) {
    let mut db = app.connect().await;
    audit::begin_signing(&mut db, &app.app.audit_signer, app.app.clock.now()).await.unwrap();
}

#[tokio::test]
async fn an_event_inserted_outside_the_application_is_found() {
    run(async |app| {
        organization_with_events(app).await;
        app.execute(INSERT_BY_PREVIOUS_VERSION).await;
        // The next event is signed, but that proves nothing about those before it.
        let organization = organizations(app).await[0];
        app.app.db.transaction(async |tx| record_event(app, tx, organization).await).await.unwrap();
        assert_findings(app, &[], &[": position 6: the event evt_"]);
        assert!(verify(app, &[]).1.contains("was not written by Tenantry"));
    })
    .await;
}

#[tokio::test]
async fn a_copied_event_is_found_even_with_its_mac_and_seal() {
    run(async |app| {
        organization_with_events(app).await;
        let copy = "insert into audit_events (organization_id, event_type, actor, target, method,
                        path, status, address, request_id, key_display_id, detail, created_at,
                        nonce, pepper_id, mac)
                    select organization_id, event_type, actor, target, method, path, status,
                        address, request_id, key_display_id, detail, created_at, nonce, pepper_id,
                        mac
                    from audit_events order by id limit 1";
        app.execute(copy).await;
        assert_findings(app, &[], &[": position 6: the event evt_"]);
        let seal = "update audit_links l set seal = f.seal from audit_links f
                    where l.position = 6 and f.position = 1";
        tamper(app, seal).await;
        assert_findings(app, &[], &[": position 6: the event evt_"]);
    })
    .await;
}

#[tokio::test]
async fn verification_does_not_rely_on_the_digest_function_of_the_database() {
    run(async |app| {
        organization_with_events(app).await;
        let forge = "alter function audit_digest(bytea, bigint, audit_events) rename to honest;
             create function audit_digest(previous bytea, place bigint, event audit_events)
             returns bytea language sql stable as $f$
                 select digest from public.audit_links where event_id = event.id $f$;
             update audit_events set actor = 'x' where id in (
                 select event_id from audit_links where position in (2, 3))";
        tamper(app, forge).await;
        let findings = [": position 2: the event evt_", ": position 3: the event evt_"];
        assert_findings(app, &[], &findings);
    })
    .await;
}

#[tokio::test]
async fn a_changed_event_is_found_after_all_digests_are_recomputed() {
    run(async |app| {
        organization_with_events(app).await;
        let change = "update audit_events set actor = 'x' where id in (
                          select event_id from audit_links where position = 2)";
        tamper_and_recompute(app, change).await;
        let findings =
            [": position 2: the event evt_", ": positions 3 to 5: their events were not"];
        assert_findings(app, &[], &findings);
        assert!(verify(app, &[]).1.contains("its MAC does not match its content"));
    })
    .await;
}

#[tokio::test]
async fn events_after_a_removed_or_moved_one_are_found_after_all_digests_are_recomputed() {
    run(async |app| {
        organization_with_events(app).await;
        tamper_and_recompute(app, "create table copy_of_links as select * from audit_links").await;
        assert!(verify(app, &[]).0, "recomputing unchanged events changes nothing");
        let removed = "delete from audit_links where position = 3;
                       delete from audit_events where id not in (select event_id from audit_links)";
        tamper_and_recompute(app, removed).await;
        assert_findings(app, &[], &[": positions 3 to 4: their events were not written at"]);
    })
    .await;
    run(async |app| {
        organization_with_events(app).await;
        let swapped = "update audit_links set position = position + 100 where position in (4, 5);
                       update audit_links set position = 109 - position where position > 100";
        tamper_and_recompute(app, swapped).await;
        assert_findings(app, &[], &[": positions 4 to 5: their events were not written at"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_a_trigger_changes_or_copies_on_insert_is_found() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let rewrite = "create function rewrite() returns trigger language plpgsql as $f$
                       begin
                           new.actor := 'x';
                           return new;
                       end $f$;
                       create trigger t before insert on audit_events
                           for each row execute function rewrite()";
        tamper(app, rewrite).await;
        app.create_key_with(&acme.api_key, json!({ "name": "rewritten" })).await;
        assert_findings(app, &[], &[": position 6: the event evt_"]);
        let copy = "drop trigger t on audit_events;
                    create function copy() returns trigger language plpgsql as $f$
                    begin
                        if pg_trigger_depth() = 1 then
                            insert into audit_events (organization_id, event_type, actor, target,
                                method, path, status, address, request_id, key_display_id, detail,
                                created_at, nonce, pepper_id, mac)
                            select e.organization_id, e.event_type, e.actor, e.target, e.method,
                                e.path, e.status, e.address, e.request_id, e.key_display_id,
                                e.detail, e.created_at, e.nonce, e.pepper_id, e.mac
                            from audit_events e order by id limit 1;
                        end if;
                        return new;
                    end $f$;
                    create trigger t after insert on audit_events
                        for each row execute function copy()";
        tamper(app, copy).await;
        app.create_key_with(&acme.api_key, json!({ "name": "copied" })).await;
        let (_, output) = verify(app, &[]);
        assert!(output.contains("is a copy of an earlier one"), "{output}");
        assert!(output.contains("2 findings"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_leaked_link_key_cannot_seal_another_event() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let listen = "create table leaked (keys text); grant all on leaked to public;
                      create function listen() returns trigger language plpgsql as $f$
                      begin
                          insert into public.leaked values (current_setting('app.audit_keys'));
                          return null;
                      end $f$;
                      create constraint trigger a_listener after insert on audit_events
                          deferrable initially deferred for each row execute function listen()";
        tamper(app, listen).await;
        app.create_key_with(&acme.api_key, json!({ "name": "leaked" })).await;
        assert_eq!(app.count("select count(*) from leaked").await, 1);
        // Removes the third event, recomputes all links after it, and seals them with that key.
        let removed = "delete from audit_links where position = 3;
                       delete from audit_events where id not in (select event_id from audit_links)";
        tamper_and_recompute(app, removed).await;
        let sealed = "update audit_links
                      set seal = sha256(decode(split_part(keys, ':', 2), 'hex') || digest)
                      from leaked where position > 2";
        tamper(app, sealed).await;
        // The key belongs to the last event, which still verifies.
        assert_findings(app, &[], &[": positions 3 to 4: their events were not written at"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_under_an_unconfigured_pepper_is_reported_as_unchecked_not_as_a_finding() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let dir = WorkDir::new();
        let [database, _, secrets] = app.database_settings();
        let other = "p3:s0nSTTpDXVJTqV8LXtCxqGOsGu2LqoZRLyyvwcuuBOM=";
        let mut command = dir.command(&[database, secrets, ("KEY_PEPPERS", other)]);
        let done = command.args(["audit", "verify"]).output().unwrap();
        let output = [done.stdout, done.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
        let unchecked = format!(
            "{}: positions 1 to 5 cannot be checked: the pepper p2 is not configured",
            acme.org_id
        );
        assert!(output.contains(&unchecked), "{output}");
        assert!(output.contains("no findings, but 1 parts cannot be checked"), "{output}");
        assert_eq!(done.status.code(), Some(1), "unchecked events are not a success");
        let changed = "update audit_events set actor = 'x' where id in (
                           select event_id from audit_links where position = 2)";
        tamper(app, changed).await;
        let done = command.output().unwrap();
        let output = String::from_utf8(done.stdout).unwrap();
        assert!(output.contains("position 2: the event evt_"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn an_event_with_shortened_detail_verifies() {
    run(async |app| {
        let acme = app.sign_up().await;
        let path = format!("/v1/organization/api-keys/{}", acme.key_id);
        for letter in ["a", "b"] {
            let request = json!({ "metadata": { "note": letter.repeat(4000) } });
            app.key(&acme.api_key).patch(&path, request).await.assert_status(200);
        }
        let long = "select count(*) from audit_events where length(detail::text) > 4000";
        assert_eq!(app.count(long).await, 0, "nothing was shortened");
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine, "{output}");
    })
    .await;
}

#[tokio::test]
async fn events_without_macs_are_accepted_until_a_day_after_signing_began() {
    run(async |app| {
        let acme = organization_with_events(app).await;
        let quiet = app.sign_up().await;
        tamper(app, REMOVE_MACS).await;
        begin_signing(app).await;
        let (is_fine, output) = verify(app, &[]);
        assert!(
            is_fine && output.contains("6 events from before signing began (2036-"),
            "{output}"
        );

        assert!(audit::publish_heads(&app.app).await.unwrap());
        // A server of the previous version is still running.
        app.execute(INSERT_BY_PREVIOUS_VERSION).await;
        app.clock.advance(TimeDelta::hours(23));
        audit::publish_heads(&app.app).await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("8 events from before"), "{output}");
        // Events are accepted up to the last minute of the day.
        app.clock.advance(TimeDelta::minutes(59));
        app.execute(INSERT_BY_PREVIOUS_VERSION).await;
        app.clock.advance(TimeDelta::minutes(59));
        audit::publish_heads(&app.app).await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine && output.contains("10 events from before"), "{output}");
        app.clock.advance(TimeDelta::minutes(2));
        assert!(!audit::publish_heads(&app.app).await.unwrap());

        // Later events without a MAC cannot come from such a server.
        app.execute(INSERT_BY_PREVIOUS_VERSION).await;
        audit::publish_heads(&app.app).await.unwrap();
        begin_signing(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        let (_, output) = verify(app, &[]);
        for (organization, position) in [(&acme.org_id, 8), (&quiet.org_id, 4)] {
            let finding = format!("{organization}: position {position}: the event evt_");
            assert!(output.contains(&finding), "{output}");
        }
        assert!(output.contains("2 findings"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_changed_event_without_a_mac_is_found_by_its_published_head() {
    run(async |app| {
        organization_with_events(app).await;
        tamper(app, REMOVE_MACS).await;
        begin_signing(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        assert!(verify(app, &[]).0);
        let change = "update audit_events set actor = 'x' where id in (
                          select event_id from audit_links where position = 2)";
        tamper_and_recompute(app, change).await;
        assert_findings(app, &[], &[": position 5 does not match its published head"]);
        // Later events do not remove the evidence.
        let organization = organizations(app).await[0];
        app.app.db.transaction(async |tx| record_event(app, tx, organization).await).await.unwrap();
        audit::publish_heads(&app.app).await.unwrap();
        assert_findings(app, &[], &[": position 5 does not match its published head"]);
    })
    .await;
}

#[tokio::test]
async fn the_start_of_signing_is_not_stored_twice_and_a_changed_head_is_found() {
    run(async |app| {
        organization_with_events(app).await;
        tamper(app, REMOVE_MACS).await;
        begin_signing(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        let organization = organizations(app).await[0];
        app.app.db.transaction(async |tx| record_event(app, tx, organization).await).await.unwrap();
        app.execute("delete from audit_signing").await;
        begin_signing(app).await;
        assert_eq!(app.count("select count(*) from audit_signing").await, 0);
        app.execute("update audit_heads set unsigned_until = 7").await;
        app.execute(
            "insert into audit_events (organization_id, event_type, actor, target, method,
                         path, request_id, detail, created_at)
                     select organization_id, event_type, 'forger', target, method, path,
                            request_id, detail, created_at
                     from audit_events order by id limit 1",
        )
        .await;
        audit::publish_heads(&app.app).await.unwrap();
        let (is_fine, output) = verify(app, &[]);
        assert!(!is_fine && output.contains("the head in audit_heads was changed"), "{output}");
        assert!(output.contains(": position 7: the event evt_"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn a_start_of_signing_that_was_moved_is_found_with_the_server_log() {
    run(async |app| {
        organization_with_events(app).await;
        tamper(app, REMOVE_MACS).await;
        begin_signing(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        let dir = WorkDir::new();
        let path = dir.path().join("log");
        let log = app.log();
        let starts: Vec<_> =
            log.lines().filter(|it| it.contains("audit events are signed since")).collect();
        assert!(!starts.is_empty());
        let head = crate::audit_chain::heads(app).await.remove(0);
        std::fs::write(&path, format!("{}\n{head}\n", starts[0])).unwrap();
        let arguments = ["--heads", path.to_str().unwrap()];
        assert!(verify(app, &arguments).0);
        app.clock.advance(TimeDelta::hours(1));
        app.execute("delete from audit_signing").await;
        begin_signing(app).await;
        assert_findings(app, &arguments, &["server log states that signing began at 2036-"]);
    })
    .await;
}

#[tokio::test]
async fn a_start_of_signing_under_an_unconfigured_pepper_is_reported_as_unchecked() {
    run(async |app| {
        organization_with_events(app).await;
        tamper(app, REMOVE_MACS).await;
        begin_signing(app).await;
        audit::publish_heads(&app.app).await.unwrap();
        let dir = WorkDir::new();
        let path = dir.path().join("log");
        let head = crate::audit_chain::heads(app).await.remove(0);
        let since = "audit events are signed since 2036-01-01T00:00:00Z";
        std::fs::write(&path, format!("{since}\n{head}\n")).unwrap();
        let other = "p3:s0nSTTpDXVJTqV8LXtCxqGOsGu2LqoZRLyyvwcuuBOM=";
        let [database, _, secrets] = app.database_settings();
        let mut command = dir.command(&[database, secrets, ("KEY_PEPPERS", other)]);
        let done = command.args(["audit", "verify", "--heads"]).arg(&path).output().unwrap();
        let output = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(1), "{output}");
        assert!(output.contains("(audit_signing) cannot be checked: the pepper p2"), "{output}");
        assert!(!output.contains("signing began at"), "{output}");
        app.execute("update audit_signing set started_at = started_at - interval '1 day'").await;
        assert_findings(app, &[], &["system: the start of signing (audit_signing) was changed"]);
    })
    .await;
}

#[tokio::test]
async fn a_head_is_logged_once_until_its_chain_grows_and_is_renewed_under_a_newer_pepper() {
    run(async |app| {
        // The log also has lines of other tests, and their generated ids are equal.
        let chosen = json!({ "org_id": "published_once" });
        let created = app.anonymous().post("/signup", chosen).await.assert_status(201);
        let acme = CreatedKey::from(&created.body);
        let mark = format!("audit head {}:", acme.org_id);
        let published = || app.log().matches(&mark).count();
        for _ in 0..3 {
            audit::publish_heads(&app.app).await.unwrap();
        }
        assert_eq!(published(), 1);
        let replica = app.replica();
        audit::publish_heads(&replica.app).await.unwrap();
        replica.close();
        assert_eq!(published(), 1, "another server does not publish it again");
        app.create_key_with(&acme.api_key, json!({ "name": "more" })).await;
        audit::publish_heads(&app.app).await.unwrap();
        assert_eq!(published(), 2);
        let peppers = "p3:s0nSTTpDXVJTqV8LXtCxqGOsGu2LqoZRLyyvwcuuBOM=,\
                       p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let later = app.replica_with(&[("KEY_PEPPERS", peppers)]);
        audit::publish_heads(&later.app).await.unwrap();
        later.close();
        assert_eq!(published(), 2);
        let renewed = "select count(*) from audit_heads where pepper_id = 'p3'";
        assert_eq!(app.count(renewed).await, 1, "the head is renewed under the newer pepper");
        tamper(app, "delete from audit_links where position = 2").await;
        let cut = format!("{}: the chain ends at position 1, before the head", acme.org_id);
        let (_, output) = verify(&app.replica_with(&[("KEY_PEPPERS", peppers)]), &[]);
        assert!(output.contains(&cut), "{output}");
    })
    .await;
}

#[test]
fn a_restarted_server_logs_no_head_twice_and_its_log_verifies_the_chains() {
    let dir = WorkDir::new();
    let mut server = dir.start(&[]);
    for _ in 0..2 {
        server.sign_up();
        server.signal_and_wait("INT");
        server = dir.start(&[("LOG_FORMAT", "json")]);
        wait_until("the head is logged", || server.log().contains("audit head org_"));
    }
    server.signal_and_wait("INT");
    let server = dir.start(&[]);
    let signed = || server.log().matches("audit events are signed since").count();
    wait_until("the heads were read", || signed() == 4);
    server.sign_up();
    server.signal_and_wait("INT");
    // A head is not logged a second time, so no log filter drops it.
    let server = dir.start(&[("LOG_FILTER", "error")]);
    wait_until("the third head is logged", || server.log().matches("audit head org_").count() == 3);
    std::fs::write(dir.path().join("newer"), "a log without a head\n").unwrap();
    let mut command = dir.command(&[]);
    command.args(["audit", "verify", "--heads", "newer"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1), "nothing to compare with");
    let done = command.args(["--heads", "log"]).output().unwrap();
    let output = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{output}");
    assert!(output.contains("3 events in 3 chains, 3 heads to compare with"), "{output}");
}

/// If other roles may create objects in the schema, as all may in Postgres 14, a call that is not
/// qualified and typed resolves to a function of theirs that matches better.
#[tokio::test]
async fn a_function_overload_by_another_role_does_not_run_as_the_table_owner() {
    run(async |app| {
        let name = format!("attacker_{}", std::process::id());
        let owned = "begin
                         perform set_config('app.owned', 'yes', false);
                         execute 'create table public.owned ()';
                         return null;
                     end";
        let overloads = [
            ("audit_digest(bytea, integer, public.audit_events)", "bytea"),
            ("audit_digest(bytea, integer, record)", "bytea"),
            ("current_setting(varchar, boolean)", "text"),
            ("sha256(varchar)", "bytea"),
            ("decode(text, varchar)", "bytea"),
            ("split_part(text, varchar, integer)", "text"),
            ("convert_to(text, varchar)", "bytea"),
            ("repeat(varchar, integer)", "text"),
        ];
        let mut sql = format!(
            "alter schema public owner to tenantry; grant create, usage on schema public to public;
             create role {name}; set role {name};"
        );
        for (overload, returns) in overloads {
            let create = ["create function public.", overload, " returns ", returns].concat();
            sql.extend([&create, " language plpgsql as $f$ ", owned, " $f$;"]);
        }
        let mut attacker = app.superuser().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut attacker).await.unwrap();
        organization_with_events(app).await;
        let ann = app.verified_account("ann@example.com").await;
        app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let owned = "select count(*) from pg_tables where tablename = 'owned'";
        assert_eq!(app.count(owned).await, 0, "an overload ran as the owner");
        let (is_fine, output) = verify(app, &[]);
        assert!(is_fine, "{output}");
        let drop = format!("reset role; drop owned by {name}; drop role {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut attacker).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn every_function_is_resolved_at_creation_or_pins_its_search_path() {
    run(async |app| {
        let unpinned = "select p.proname::text from pg_proc p
                    where p.pronamespace = 'public'::regnamespace and p.prosqlbody is null
                      and not coalesce(
                          p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
        let unpinned: Vec<String> =
            sqlx::query_scalar(unpinned).fetch_all(&mut app.connect().await).await.unwrap();
        assert!(
            unpinned.is_empty(),
            "functions whose calls are resolved when they run: {unpinned:?}"
        );
    })
    .await;
}
