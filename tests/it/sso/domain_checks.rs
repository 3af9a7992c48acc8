//! The daily checks of verified domains.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::domain::sso::domain_checks::check_due;
use tenantry::model::sso::domain_name::DomainName;
use tenantry::repo::sso_domains;

use super::{add_domain, as_records, record_of, verify_path};
use crate::support::accounts::TestAccount;
use crate::support::dns::{DnsServer, ScriptedDnsServer};
use crate::support::{TestApp, with_settings};

/// Adds and verifies a domain, whose record is the only one.
async fn verified(app: &TestApp, dns: &mut DnsServer, owner: &TestAccount, name: &str) -> Value {
    let added = add_domain(app, owner, name).await;
    dns.set_records(&as_records(&[record_of(&added)]));
    let session = app.session(&owner.cookie);
    session.post(&verify_path(&owner.org_id, &added), json!({})).await.assert_status(200);
    added
}

/// Lets a day pass, and checks what is due; returns the number of checked domains.
async fn check_after_a_day(app: &TestApp) -> usize {
    let pass = "update sso_domains set next_check_at = next_check_at - interval '1 day',
                       absent_since = absent_since - interval '1 day',
                       warned_at = warned_at - interval '1 day'";
    app.execute(pass).await;
    app.clock.advance(TimeDelta::days(1));
    check_due(&app.app).await.unwrap()
}

/// The state of the only domain.
async fn state(app: &TestApp) -> (bool, bool, bool) {
    let sql = "select lost_at is null, absent_since is null, last_seen_at > verified_at
               from sso_domains";
    sqlx::query_as(sql).fetch_one(&mut app.connect().await).await.unwrap()
}

/// The subjects of the mails about domains that were sent since.
async fn subjects(app: &TestApp) -> Vec<String> {
    app.mails().await.iter().map(|mail| mail.header("Subject").to_owned()).collect()
}

/// Makes a domain due whose record was absent for longer than a domain may be.
const MAKE_DUE_AND_LONG_ABSENT: &str =
    "update sso_domains set next_check_at = now(), absent_since = now() - interval '9 days'";
const MISSING: &str = "Single sign-on: the DNS record of a domain is missing";
const LOST: &str = "Single sign-on: a domain is no longer verified";

#[tokio::test]
async fn a_record_that_stays_is_seen_daily_and_one_that_returns_ends_the_warnings() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let domain = verified(app, &mut dns, &ann, "acme.example").await;
            assert_eq!(check_due(&app.app).await.unwrap(), 0, "not due yet");
            assert_eq!(check_after_a_day(app).await, 1);
            assert_eq!(state(app).await, (true, true, true));
            dns.set_records(&[]);
            assert_eq!(check_after_a_day(app).await, 1);
            assert_eq!(state(app).await, (true, false, true));
            assert_eq!(subjects(app).await, [MISSING]);
            dns.set_records(&as_records(&[record_of(&domain)]));
            assert_eq!(check_after_a_day(app).await, 1);
            assert_eq!(state(app).await, (true, true, true));
            for _ in 0..8 {
                check_after_a_day(app).await;
            }
            assert_eq!(state(app).await, (true, true, true));
            assert!(subjects(app).await.is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_domain_is_lost_after_7_days_without_its_record_and_another_organization_may_verify_it() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let domain = verified(app, &mut dns, &ann, "acme.example").await;
            let of_ben = add_domain(app, &ben, "acme.example").await;
            let session = app.session(&ben.cookie);
            let (ben_verifies, ann_verifies) =
                (verify_path(&ben.org_id, &of_ben), verify_path(&ann.org_id, &domain));
            // Only Ben's record exists from now on.
            dns.set_records(&as_records(&[record_of(&of_ben)]));
            let mut mails = Vec::new();
            for _ in 0..7 {
                assert_eq!(check_after_a_day(app).await, 1);
                mails.push(subjects(app).await);
                session.post(&ben_verifies, json!({})).await.assert_error(409, "DOMAIN_TAKEN");
            }
            let warned: Vec<bool> = mails.iter().map(|it| *it == [MISSING]).collect();
            assert_eq!(warned, [true, false, false, true, false, false, true]);
            assert_eq!(check_after_a_day(app).await, 1);
            assert_eq!(subjects(app).await, [LOST]);
            let lost = "select count(*) from sso_domains where lost_at is not null";
            assert_eq!(app.count(lost).await, 1);
            let name = DomainName::parse("acme.example").unwrap();
            let find = app.app.db.run(async |db| sso_domains::find_owner(db, &name).await);
            assert_eq!(find.await.unwrap(), None);
            let events = "select count(*) from audit_events
                          where event_type in ('sso.domain_absent', 'sso.domain_lost')
                            and actor = 'domain check'";
            assert_eq!(app.count(events).await, 2);

            // The organization that proves it has it.
            session.post(&ben_verifies, json!({})).await.assert_status(200);
            let owner = app.session(&ann.cookie);
            owner.post(&ann_verifies, json!({})).await.assert_error(422, "DOMAIN_RECORD_NOT_FOUND");
            dns.set_records(&as_records(&[record_of(&of_ben), record_of(&domain)]));
            owner.post(&ann_verifies, json!({})).await.assert_error(409, "DOMAIN_TAKEN");
            app.execute("delete from sso_domains where lost_at is null").await;
            let again = owner.post(&ann_verifies, json!({})).await.assert_status(200);
            assert_eq!(again.body["data"]["status"], "verified");
            assert_eq!(again.body["data"]["lostAt"], Value::Null);
        })
        .await;
}

#[tokio::test]
async fn a_failed_lookup_changes_nothing_and_is_repeated_within_the_day() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            verified(app, &mut dns, &ann, "acme.example").await;
            let servfail = ScriptedDnsServer::start();
            let replica = app.replica_with(&[("DNS_SERVERS", &servfail.address())]);
            app.execute(MAKE_DUE_AND_LONG_ABSENT).await;
            let before = state(app).await;
            let checked = tokio::select! {
                checked = check_due(&replica.app) => checked.unwrap(),
                () = servfail.answer_all(2) => unreachable!(),
            };
            assert_eq!((checked, state(app).await), (1, before));
            let due = "select count(*) from sso_domains
                       where next_check_at between now() + interval '50 minutes'
                                               and now() + interval '1 hour'";
            assert_eq!(app.count(due).await, 1);
            assert!(subjects(app).await.is_empty());
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn servers_that_check_at_the_same_time_check_each_domain_once() {
    let Some(dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            app.verified_account("ann@example.com").await;
            app.execute(
                "insert into sso_domains (id, organization_id, domain, token, created_by,
                                          created_at, verified_at, next_check_at)
                 select gen_random_uuid(), organization_id, 'a' || n || '.example', 'token', id,
                        now(), now(), now()
                 from users, generate_series(1, 25) n",
            )
            .await;
            let replicas = [app.replica(), app.replica()];
            let checks = replicas.iter().chain([app]).map(|server| check_due(&server.app));
            let checked: usize = join_all(checks).await.into_iter().map(Result::unwrap).sum();
            assert_eq!(checked, 25);
            // A check that a busy machine does not let a server record has no event, and no mail.
            let recorded = "select count(*) from sso_domains where absent_since is not null";
            let recorded = app.count(recorded).await;
            let events = "select count(*) from audit_events where event_type = 'sso.domain_absent'";
            assert!(recorded > 0 && app.count(events).await == recorded, "{recorded}");
            let mails =
                app.mails().await.iter().filter(|mail| mail.header("Subject") == MISSING).count();
            assert_eq!(i64::try_from(mails).unwrap(), recorded);
            replicas.iter().for_each(TestApp::close);
        })
        .await;
}

#[tokio::test]
async fn a_check_that_is_overtaken_by_a_verification_does_not_undo_it() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let domain = verified(app, &mut dns, &ann, "acme.example").await;
            let scripted = ScriptedDnsServer::start();
            let replica = app.replica_with(&[("DNS_SERVERS", &scripted.address())]);
            app.execute(MAKE_DUE_AND_LONG_ABSENT).await;
            app.clock.advance(TimeDelta::hours(1));
            let overtake = async {
                let query = scripted.receive().await;
                let session = app.session(&ann.cookie);
                let path = verify_path(&ann.org_id, &domain);
                session.post(&path, json!({})).await.assert_status(200);
                // No such name.
                scripted.answer(&query, 3, None).await;
            };
            let (checked, ()) = tokio::join!(check_due(&replica.app), overtake);
            assert_eq!(checked.unwrap(), 1);
            assert_eq!(state(app).await, (true, true, true));
            replica.close();
        })
        .await;
}
