//! Mail: to a real SMTP server, to files without one, and retries when it cannot be sent.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tenantry::jobs::{next_due, run_due};
use tenantry::model::job::JobQueue;

use crate::support::accounts::PASSWORD;
use crate::support::ports::free_address;
use crate::support::smtp_sink::MailSink;
use crate::support::{TestApp, run, with_settings};

const SMTP: [(&str, &str); 2] =
    [("MAIL_FROM", "Acme <no-reply@example.com>"), ("PUBLIC_URL", "https://api.example.com")];

/// Sends all pending mail, whether or not it is due.
async fn deliver_again(app: &TestApp) {
    app.execute("update outbox set due_at = now()").await;
    run_due(&app.app).await.unwrap();
}

#[tokio::test]
async fn a_person_signs_up_reads_the_mail_follows_the_link_signs_in_and_out() {
    let mut sink = MailSink::start().await.unwrap();
    let url = sink.url.clone();
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &url), ("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let request =
                json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
            app.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
            run_due(&app.app).await.unwrap();
            let mail = sink.next().await;
            assert_eq!(mail.hello, "api.example.com");
            assert_eq!(mail.from, "no-reply@example.com");
            assert_eq!(mail.to, ["ann@example.com"]);
            let text = String::from_utf8(mail.data).unwrap();
            assert!(text.contains("From: Acme <no-reply@example.com>"));
            assert!(text.contains("multipart/alternative"));
            let link = text.lines().find(|line| line.starts_with("https://")).unwrap().trim();
            let path = link.strip_prefix("https://api.example.com").unwrap();
            let (_, token) = path.split_once("token=").unwrap();
            app.seen_secrets.lock().unwrap().push(token.to_owned());

            app.sign_in("ann@example.com", PASSWORD).await.assert_status(403);
            app.anonymous().get(path).await.assert_status(200);
            let press = json!({ "token": token, "password": PASSWORD });
            app.anonymous().post("/api/auth/verify-email", press).await.assert_status(200);
            let signed_in = app.sign_in("ann@example.com", PASSWORD).await.assert_status(200);
            let cookie = format!("__Host-tenantry_session={}", signed_in.cookie().unwrap());
            let session = app.anonymous().with("cookie", &cookie);
            session.get("/api/user/me").await.assert_status(200);
            session.post("/api/auth/sign-out", json!({})).await.assert_status(200);
            session.get("/api/user/me").await.assert_status(401);
        })
        .await;
}

#[tokio::test]
async fn an_unreachable_mail_server_fails_no_request_and_the_mail_is_retried() {
    let url = format!("smtp://{}", free_address());
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &url)])
        .run(async |app| {
            app.sign_up_for_mail("ann@example.com").await;
            assert_eq!(run_due(&app.app).await.unwrap(), 1);
            let waits = "select count(*) from outbox where attempts = 1 and dead_at is null
                         and due_at > now() and last_failure like 'the mail was not sent%'";
            assert_eq!(app.count(waits).await, 1);
            // The retry is not due yet.
            assert_eq!(run_due(&app.app).await.unwrap(), 0);
            let due = next_due(&app.app, JobQueue::Mails).await.unwrap().unwrap();
            assert!((25..=30).contains(&due.as_secs()), "{due:?}");
            for _ in 2..16 {
                deliver_again(app).await;
            }
            assert_eq!(app.count("select count(*) from outbox where dead_at is null").await, 1);
            deliver_again(app).await;
            let dead = "select count(*) from outbox where dead_at is not null and attempts = 16";
            assert_eq!(app.count(dead).await, 1);
            assert_eq!(run_due(&app.app).await.unwrap(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_mail_whose_address_the_server_rejects_is_dead_at_once() {
    let sink = MailSink::start().await.unwrap();
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &sink.url)])
        .run(async |app| {
            app.sign_up_for_mail("nobody@refused.test").await;
            run_due(&app.app).await.unwrap();
            let dead = "select count(*) from outbox where dead_at is not null and attempts = 1";
            assert_eq!(app.count(dead).await, 1);
            assert!(sink.is_empty());
            // The token of its link is removed.
            assert_eq!(app.count("select count(*) from email_tokens").await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_mail_that_exceeds_a_daily_limit_of_the_mail_server_is_retried_and_sent() {
    let mut sink = MailSink::start().await.unwrap();
    let url = sink.url.clone();
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &url)])
        .run(async |app| {
            app.sign_up_for_mail("ann@limited.test").await;
            run_due(&app.app).await.unwrap();
            let waits = "select count(*) from outbox where attempts = 1 and dead_at is null
                         and last_failure like '%5.4.5 Daily sending limit exceeded%'";
            assert_eq!(app.count(waits).await, 1);
            sink.is_limited.store(false, std::sync::atomic::Ordering::Relaxed);
            deliver_again(app).await;
            assert_eq!(sink.next().await.to, ["ann@limited.test"]);
            assert_eq!(app.count("select count(*) from outbox").await, 0);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_retry_queues_dead_mails_again_except_those_that_were_replaced_since() {
    let mut sink = MailSink::start().await.unwrap();
    let url = sink.url.clone();
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &url)])
        .run(async |app| {
            // The buyer's claim, an account's verification link, and two reset links.
            let purchase = crate::support::stripe::checkout("evt_1", "acme", "starter");
            app.send_stripe_event(&purchase).await.assert_status(200);
            app.sign_up_for_mail("ann@limited.test").await;
            app.execute(
                "update outbox set address = 'buyer@limited.test' where kind = 'claim_key'",
            )
            .await;
            for _ in 0..2 {
                let request = json!({ "email": "ann@limited.test" });
                app.anonymous()
                    .post("/api/auth/request-password-reset", request)
                    .await
                    .assert_status(200);
                for _ in 0..16 {
                    deliver_again(app).await;
                }
            }
            let dead = "select count(*) from outbox where dead_at is not null";
            assert_eq!(app.count(dead).await, 4);

            let [database, ..] = app.database_settings();
            let work_dir = crate::support::server::WorkDir::new();
            let pepper = "p1:s0nSTTpDXVJTqV8LXtCxqGOsGu2LqoZRLyyvwcuuBOM=";
            let settings = [database, ("KEY_PEPPERS", pepper), ("JWT_SECRETS", pepper)];
            let retry = |arguments: &[&str]| {
                let mut command = work_dir.command(&settings);
                let done = command.args(["mail", "retry"]).args(arguments).output().unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                String::from_utf8(done.stdout).unwrap()
            };
            assert_eq!(retry(&["--kind", "claim_key"]), "1 jobs queued again\n");
            assert_eq!(retry(&[]), "2 jobs queued again\n");
            assert_eq!(retry(&[]), "0 jobs queued again\n");
            sink.is_limited.store(false, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(run_due(&app.app).await.unwrap(), 3);
            let mut to: Vec<_> = [sink.next().await, sink.next().await, sink.next().await].into();
            to.sort_by(|one, other| one.to.cmp(&other.to));
            assert_eq!(to[2].to, ["buyer@limited.test"]);
            let text = String::from_utf8_lossy(&to[2].data).into_owned();
            assert!(text.contains("/api/auth/claim-key?token"), "{text}");
            assert!(sink.is_empty());
            assert_eq!(app.count("select count(*) from outbox").await, 1);
        })
        .await;
}

#[tokio::test]
async fn a_mail_that_fails_after_it_was_replaced_leaves_the_newer_link_alone() {
    let mut sink = MailSink::start().await.unwrap();
    let url = sink.url.clone();
    with_settings(&[SMTP[0], SMTP[1], ("SMTP_URL", &url)])
        .run(async |app| {
            app.sign_up_for_mail("ann@held.test").await;
            let first = tokio::spawn({
                let app = app.app.clone();
                async move { run_due(&app).await.unwrap() }
            });
            let first_is_held = sink.next_pending().await;
            let token = sign_in_token(app, "ann@held.test").await;
            let again = app.bearer(&token);
            again.post("/api/auth/send-verification-email", json!({})).await.assert_status(200);
            let second = tokio::spawn({
                let app = app.app.clone();
                async move { run_due(&app).await.unwrap() }
            });
            sink.next_pending().await.send(true).unwrap();
            assert_eq!(second.await.unwrap(), 1);
            first_is_held.send(false).unwrap();
            assert_eq!(first.await.unwrap(), 1);

            let text = String::from_utf8(sink.next().await.data).unwrap();
            let link = text.lines().find(|line| line.starts_with("https://")).unwrap().trim();
            let (_, token) = link.split_once("token=").unwrap();
            app.seen_secrets.lock().unwrap().push(token.to_owned());
            let request = json!({ "token": token, "password": PASSWORD });
            app.anonymous().post("/api/auth/verify-email", request).await.assert_status(200);
            assert_eq!(app.count("select count(*) from outbox").await, 0);
        })
        .await;
}

async fn sign_in_token(app: &TestApp, email: &str) -> String {
    let response = app.sign_in(email, PASSWORD).await.assert_status(200);
    response.body["data"]["token"].as_str().unwrap().to_owned()
}

/// The Host header and forwarded headers have no effect.
#[tokio::test]
async fn links_lead_to_the_public_url_whatever_the_request_claims() {
    with_settings(&[("PUBLIC_URL", "https://api.example.com")])
        .run(async |app| {
            let evil = app.anonymous().with("host", "evil.example");
            let evil = evil.with("x-forwarded-host", "evil.example");
            let evil = evil.with("forwarded", "host=evil.example");
            let request =
                json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
            let ann = evil.post("/api/auth/sign-up/email", request).await.assert_status(200);
            let mut mails = app.mails().await;
            let verify = json!({ "token": mails[0].token(), "password": PASSWORD });
            evil.post("/api/auth/verify-email", verify).await.assert_status(200);
            let (token, organization) =
                (&ann.body["data"]["token"], &ann.body["data"]["organization"]["id"]);
            let reset = json!({ "email": "ann@example.com" });
            evil.post("/api/auth/request-password-reset", reset).await.assert_status(200);
            let of_ann = evil.with("authorization", &format!("Bearer {}", token.as_str().unwrap()));
            let invites =
                format!("/api/user/organizations/{}/invites", organization.as_str().unwrap());
            let invite = json!({ "email": "ben@example.com", "role": "member" });
            of_ann.post(&invites, invite).await.assert_status(201);
            mails.extend(app.mails().await);
            assert_eq!(mails.len(), 3);
            for mail in &mails {
                let link = mail.link().unwrap();
                assert!(link.starts_with("https://api.example.com/api/"), "{link}");
                assert!(!mail.text.contains("evil"), "{}", mail.text);
            }
        })
        .await;
}

#[tokio::test]
async fn a_retried_mail_has_a_valid_token() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        // A file in place of the folder fails the first attempt.
        let folder = app.app.config.database.data_dir.join("mail");
        std::fs::write(&folder, "in the way").unwrap();
        run_due(&app.app).await.unwrap();
        assert_eq!(app.count("select count(*) from outbox where attempts = 1").await, 1);
        std::fs::remove_file(&folder).unwrap();
        app.execute("update outbox set due_at = now()").await;
        let token = app.mailed_token().await;
        let request = json!({ "token": token, "password": PASSWORD });
        let verified = app.anonymous().post("/api/auth/verify-email", request).await;
        verified.assert_status(200);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn without_a_mail_server_mail_is_written_to_private_files_that_the_log_names() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        run_due(&app.app).await.unwrap();
        let folder = app.app.config.database.data_dir.join("mail");
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap()).collect();
        assert_eq!(files.len(), 1);
        let mode = files[0].metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let name = files[0].path().display().to_string();
        assert!(app.log().contains(&name), "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_servers_share_the_work_and_each_mail_is_sent_once() {
    run(async |app| {
        for number in 0..25 {
            app.sign_up_account(&format!("person{number}@example.com")).await;
        }
        let replica = app.replica();
        let (one, other) = tokio::join!(run_due(&app.app), run_due(&replica.app));
        assert_eq!(one.unwrap() + other.unwrap(), 25);
        assert_eq!(app.mails().await.len(), 25);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn a_mail_of_a_worker_that_died_is_sent_by_another() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        // A worker has leased the mail and does not finish it.
        let lease = std::time::Duration::from_mins(2);
        let take = async |tx: &mut sqlx::PgConnection| {
            tenantry::repo::jobs::lease_due(tx, JobQueue::Mails, 10, lease).await
        };
        assert_eq!(app.app.db.transaction(take).await.unwrap().len(), 1);
        assert!(app.mails().await.is_empty());
        app.execute("update outbox set due_at = due_at - interval '2 minutes'").await;
        assert_eq!(app.mails().await.len(), 1);
        assert_eq!(app.count("select count(*) from outbox").await, 0);
    })
    .await;
}

#[tokio::test]
async fn only_the_newest_pending_mail_of_one_kind_to_one_address_is_kept() {
    run(async |app| {
        for _ in 0..5 {
            let request = json!({ "email": "ann@example.com" });
            app.anonymous()
                .post("/api/auth/request-password-reset", request)
                .await
                .assert_status(200);
        }
        assert_eq!(app.count("select count(*) from outbox").await, 1);
    })
    .await;
}

/// A newer version that runs beside this one sends such mails.
#[tokio::test]
async fn a_mail_of_an_unknown_kind_is_left_alone() {
    run(async |app| {
        app.execute("alter table outbox drop constraint outbox_kind_check").await;
        app.execute(
            "insert into outbox (id, kind, address, created_at, due_at)
             values (gen_random_uuid(), 'of_tomorrow', 'ann@example.com', now(),
                     now() - interval '1 hour')",
        )
        .await;
        assert_eq!(run_due(&app.app).await.unwrap(), 0);
        let untouched = "select count(*) from outbox where attempts = 0 and dead_at is null";
        assert_eq!(app.count(untouched).await, 1);
        // The worker is not woken for it, either.
        assert_eq!(next_due(&app.app, JobQueue::Mails).await.unwrap(), None);
        app.sign_up_for_mail("ben@example.com").await;
        assert_eq!(run_due(&app.app).await.unwrap(), 1);
    })
    .await;
}
