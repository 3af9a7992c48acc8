//! The jobs that act on reports: neither a slow mail server nor a failing report delays them.

use serde_json::json;
use tenantry::jobs::{run, run_due, run_due_in};
use tenantry::model::job::JobQueue;

use super::{EVENTS, PATH, new_key, report};
use crate::support::smtp_sink::MailSink;
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run as run_test, with_settings};

/// Attempts all jobs that are not dead, whether or not they are due.
async fn attempt_again(app: &TestApp) {
    app.execute("update outbox set due_at = now() where dead_at is null").await;
    run_due(&app.app).await.unwrap();
}

#[tokio::test]
async fn a_report_is_acted_on_while_the_mail_server_sends_no_answer() {
    let mut sink = MailSink::start().await.unwrap();
    let url = sink.url.clone();
    let address = ("PUBLIC_URL", "https://api.example.com");
    with_settings(&[address, ("MAIL_FROM", "no-reply@example.com"), ("SMTP_URL", &url)])
        .run(async |app| {
            let acme = app.sign_up().await;
            for number in 0..12 {
                app.sign_up_for_mail(&format!("{number}@held.test")).await;
            }
            let worker = tokio::spawn(run(app.app.clone()));
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(sink.next_pending().await);
            }
            app.anonymous().post(PATH, json!({ "key": acme.api_key })).await.assert_status(202);
            let is_recorded = async || app.count(EVENTS).await == 1;
            wait_until_async("the report is acted on", is_recorded).await;
            app.key(&acme.api_key).get("/me").await.assert_status(401);
            worker.abort();
        })
        .await;
}

#[tokio::test]
async fn mails_are_sent_while_any_number_of_reports_waits() {
    run_test(async |app| {
        app.execute(
            "insert into outbox (id, kind, address, created_at, due_at, payload)
             select gen_random_uuid(), 'leak_report', '', now(), now() - interval '1 hour', '{}'
             from generate_series(1, 30)",
        )
        .await;
        app.sign_up_for_mail("ann@example.com").await;
        assert_eq!(run_due_in(&app.app, JobQueue::Mails).await.unwrap(), 1);
        let untouched = "select count(*) from outbox where kind = 'leak_report' and attempts = 0";
        assert_eq!(app.count(untouched).await, 30);
        assert_eq!(app.count("select count(*) from outbox").await, 30);
    })
    .await;
}

#[tokio::test]
async fn a_report_that_cannot_be_acted_on_is_dead_after_16_attempts_and_can_be_retried() {
    run_test(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (key, _) = new_key(app, &ann, "k").await;
        app.mails().await;
        app.execute("alter table organizations drop constraint organizations_leak_policy_check")
            .await;
        app.execute("update organizations set leak_policy = 'of_tomorrow'").await;
        report(app, &key).await;
        let waits = "select count(*) from outbox where attempts = 1 and dead_at is null
                     and due_at < now() + interval '31 seconds'
                     and last_failure like '%an unknown leak policy%'";
        assert_eq!(app.count(waits).await, 1);
        for _ in 2..16 {
            attempt_again(app).await;
        }
        let dead = "select count(*) from outbox where dead_at is not null and attempts = 16";
        assert_eq!(app.count(dead).await, 0);
        attempt_again(app).await;
        assert_eq!(app.count(dead).await, 1);
        app.key(&key).get("/me").await.assert_status(200);
        app.execute("update organizations set leak_policy = 'disable'").await;
        let retry = async |db: &mut sqlx::PgConnection| {
            tenantry::repo::jobs::retry_dead(db, Some("leak_report")).await
        };
        assert_eq!(app.app.db.transaction(retry).await.unwrap(), 1);
        run_due(&app.app).await.unwrap();
        app.key(&key).get("/me").await.assert_status(401);
        assert_eq!(app.count("select count(*) from outbox").await, 0);
    })
    .await;
}

/// A newer version that runs beside this one may queue such reports.
#[tokio::test]
async fn a_report_of_an_unknown_form_is_kept_for_other_servers_and_dead_after_16_attempts() {
    run_test(async |app| {
        app.execute(
            "insert into outbox (id, kind, address, created_at, due_at, payload)
             values (gen_random_uuid(), 'leak_report', '', now(), now(), '{\"of\":\"tomorrow\"}')",
        )
        .await;
        for attempt in 1..=16 {
            let waits = "select count(*) from outbox where dead_at is null";
            assert_eq!(app.count(waits).await, 1, "before attempt {attempt}");
            attempt_again(app).await;
        }
        let dead = "select count(*) from outbox where dead_at is not null and attempts = 16
                    and last_failure like '%another version%'";
        assert_eq!(app.count(dead).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_changed_as_its_organization_under_row_level_security() {
    run_test(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        app.execute(
            "create function only_tenants() returns trigger language plpgsql as $$
             begin
                 if current_user <> 'tenantry_tenant' then
                     raise exception 'changed by %', current_user;
                 end if;
                 return new;
             end $$",
        )
        .await;
        for policy in ["disable", "revoke"] {
            super::set_policy(app, &ann, policy).await;
            let (key, _) = new_key(app, &ann, policy).await;
            app.mails().await;
            app.execute(
                "create trigger only_tenants before update on api_keys
                 for each row when (old.leaked_at is null and new.leaked_at is not null)
                 execute function only_tenants()",
            )
            .await;
            report(app, &key).await;
            app.execute("drop trigger only_tenants on api_keys").await;
            app.key(&key).get("/me").await.assert_status(401);
            assert_eq!(super::leak_mails(app).await.len(), 1);
        }
        assert_eq!(app.count(EVENTS).await, 2);
    })
    .await;
}
