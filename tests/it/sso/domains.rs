//! `/api/user/organizations/{organizationId}/sso/domains`

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tenantry::model::email::Email;
use tenantry::model::ids::OrganizationId;
use tenantry::model::sso::domain_name::DomainName;
use tenantry::repo::sso_domains;
use uuid::Uuid;

use super::{add_domain, as_records, domains_of, record_of, verify_path};
use crate::support::accounts::TestAccount;
use crate::support::app::{CreatedKey, START_TIME, text};
use crate::support::dns::{DnsServer, ScriptedDnsServer};
use crate::support::{TestApp, run, with_settings};

const RECORD_NOT_FOUND: &str = "DOMAIN_RECORD_NOT_FOUND";

/// The status of a domain, as its organization's list shows it.
async fn status(app: &TestApp, owner: &TestAccount, domain: &Value) -> String {
    let listed = app.session(&owner.cookie).get(&domains_of(&owner.org_id)).await;
    let listed = listed.assert_status(200).body["data"].clone();
    let mut listed = listed.as_array().unwrap().iter();
    text(&listed.find(|it| it["id"] == domain["id"]).unwrap()["status"])
}

#[tokio::test]
async fn a_domain_is_pending_until_its_record_is_found_and_then_verified_until_it_is_deleted() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let session = app.session(&ann.cookie);
            let added = add_domain(app, &ann, "Acme.example").await;
            let (name, value) = record_of(&added);
            let token = value.strip_prefix("tenantry-domain=").unwrap();
            assert!(token.len() >= 32 && token.bytes().all(|it| it.is_ascii_alphanumeric()));
            let mut expected = json!({
                "id": added["id"], "domain": "acme.example", "status": "pending",
                "record": { "name": "_tenantry-verification.acme.example", "value": value },
                "verifiedAt": null, "lastSeenAt": null, "absentSince": null, "lostAt": null,
                "createdAt": START_TIME,
            });
            assert_eq!(added, expected);
            let rejected = session.post(&verify_path(&ann.org_id, &added), json!({})).await;
            rejected.assert_error(422, RECORD_NOT_FOUND);
            assert_eq!(status(app, &ann, &added).await, "pending");

            dns.set_records(&[(&name, &value)]);
            for _ in 0..2 {
                let verified = session.post(&verify_path(&ann.org_id, &added), json!({})).await;
                expected["status"] = json!("verified");
                expected["verifiedAt"] = json!(START_TIME);
                expected["lastSeenAt"] = json!(START_TIME);
                assert_eq!(verified.assert_status(200).body["data"], expected);
            }
            let listed = session.get(&domains_of(&ann.org_id)).await.assert_status(200);
            assert_eq!(listed.body["data"], json!([expected]));
            let path = format!("{}/{}", domains_of(&ann.org_id), text(&added["id"]));
            session.delete(&path).await.assert_status(200);
            session.delete(&path).await.assert_error(404, "not_found");
            let events: Vec<(String, String)> = sqlx::query_as(
                "select event_type, detail ->> 'domain' from audit_events
                 where event_type like 'sso.%' order by id",
            )
            .fetch_all(&mut app.connect().await)
            .await
            .unwrap();
            let of_acme = |event: &str| (event.to_owned(), "acme.example".to_owned());
            let expected = ["sso.domain_added", "sso.domain_verified", "sso.domain_deleted"];
            assert_eq!(events, expected.map(of_acme));
        })
        .await;
}

#[tokio::test]
async fn a_name_that_no_organization_can_own_is_rejected() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let long = format!("{}example", "a.".repeat(200));
        for name in [
            "https://acme.example",
            "acme.example:443",
            "acme.example/path",
            "*.acme.example",
            "ann@acme.example",
            "acme.example.",
            "acme",
            "com",
            "co.uk",
            "github.io",
            "gmail.com",
            "Outlook.com",
            "192.0.2.1",
            "[2001:db8::1]",
            "acme\0.example",
            "acme.example\n",
            "",
            &long,
        ] {
            let rejected = session.post(&domains_of(&ann.org_id), json!({ "domain": name })).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(rejected.invalid_fields(), ["domain"], "{name}");
            let message = text(&rejected.body["meta"]["errors"][0]["error"]);
            assert!(message.starts_with("must "), "{message}");
        }
        assert_eq!(app.count("select count(*) from sso_domains").await, 0);
        let added = add_domain(app, &ann, "MÜNCHEN.example").await;
        assert_eq!(added["domain"], "xn--mnchen-3ya.example");
        assert_eq!(added["record"]["name"], "_tenantry-verification.xn--mnchen-3ya.example");
    })
    .await;
}

#[tokio::test]
async fn a_domain_is_added_once_in_an_organization_and_every_organization_may_add_it() {
    run(async |app| {
        let (ann, ben) = (
            app.sign_up_account("a@example.com").await,
            app.sign_up_account("b@example.com").await,
        );
        let first = add_domain(app, &ann, "acme.example").await;
        let again = app.session(&ann.cookie);
        for name in ["acme.example", "ACME.example"] {
            let again = again.post(&domains_of(&ann.org_id), json!({ "domain": name })).await;
            again.assert_error(409, "CONFLICT");
        }
        let second = add_domain(app, &ben, "acme.example").await;
        assert_ne!(record_of(&first).1, record_of(&second).1);
        let foreign = verify_path(&ben.org_id, &first);
        let foreign = app.session(&ben.cookie).post(&foreign, json!({})).await;
        foreign.assert_error(404, "not_found");
    })
    .await;
}

#[tokio::test]
async fn an_organization_has_at_most_50_domains() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.execute(
            "insert into sso_domains (id, organization_id, domain, token, created_by, created_at)
             select gen_random_uuid(), organization_id, 'a' || n || '.example', 'token', id, now()
             from users, generate_series(1, 49) n",
        )
        .await;
        let (session, path) = (app.session(&ann.cookie), domains_of(&ann.org_id));
        let names = ["one.example", "two.example", "three.example"];
        let added =
            join_all(names.map(|name| session.post(&path, json!({ "domain": name })))).await;
        let mut statuses: Vec<u16> = added.iter().map(|it| it.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
        assert_eq!(app.count("select count(*) from sso_domains").await, 50);
    })
    .await;
}

#[tokio::test]
async fn only_the_exact_value_proves_a_domain_and_its_strings_are_joined() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let ((name, value), path) = (record_of(&added), verify_path(&ann.org_id, &added));
            let (start, end) = value.split_at(20);
            let session = app.session(&ann.cookie);
            let elsewhere = name.replace("_tenantry-verification", "_tenantry-other");
            let wrong: &[(&[(&str, &str)], &str)] = &[
                (&[(&elsewhere, &value)], "there is no TXT record"),
                (&[("acme.example", &value)], "there is no TXT record"),
                (&[(&name, start)], "1 TXT record"),
                (&[(&name, &format!("{value}x"))], "1 TXT record"),
                (&[(&name, &format!("x{value}"))], "1 TXT record"),
                (&[(&name, &value.to_uppercase()), (&name, end)], "2 TXT records"),
            ];
            for (records, found) in wrong {
                dns.set_records(records);
                let rejected = session.post(&path, json!({})).await;
                let rejected = rejected.assert_error(422, RECORD_NOT_FOUND);
                let message = text(&rejected.body["message"]);
                assert!(message.contains(&name) && message.contains(found), "{message}");
                assert!(!message.contains(start), "{message}");
            }
            assert_eq!(status(app, &ann, &added).await, "pending");
            dns.set_records(&[(&name, "v=spf1 -all"), (&name, &format!("{start},{end}"))]);
            session.post(&path, json!({})).await.assert_status(200);
        })
        .await;
}

/// Incident 20 of the peers: one TXT record proved all domains of a list.
#[tokio::test]
async fn a_record_proves_one_domain_and_none_below_or_above_it() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let proven = add_domain(app, &ann, "eu.acme.example").await;
            let mut others = Vec::new();
            for name in ["acme.example", "mail.eu.acme.example", "other.example"] {
                others.push(add_domain(app, &ann, name).await);
            }
            let (name, value) = record_of(&proven);
            // The others have records with the value of the proven one.
            let copied = others.iter().map(|other| (record_of(other).0, value.clone()));
            let records: Vec<_> = copied.chain([(name, value.clone())]).collect();
            dns.set_records(&as_records(&records));
            let session = app.session(&ann.cookie);
            session.post(&verify_path(&ann.org_id, &proven), json!({})).await.assert_status(200);
            for other in &others {
                let rejected = session.post(&verify_path(&ann.org_id, other), json!({})).await;
                rejected.assert_error(422, RECORD_NOT_FOUND);
                assert_eq!(status(app, &ann, other).await, "pending");
            }
            let owner = async |email: &str| {
                let domain = DomainName::of_email(&Email::parse(email).unwrap()).unwrap();
                app.app.db.run(async |db| sso_domains::find_owner(db, &domain).await).await.unwrap()
            };
            assert!(owner("ann@eu.acme.example").await.is_some());
            assert_eq!(owner("ann@acme.example").await, None);
            assert_eq!(owner("ann@mail.eu.acme.example").await, None);
        })
        .await;
}

#[tokio::test]
async fn of_organizations_that_all_prove_a_domain_at_once_one_has_it() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let mut domains: Vec<(CreatedKey, Value)> = Vec::new();
            for _ in 0..20 {
                let owner = app.sign_up().await;
                let add = json!({ "domain": "acme.example" });
                let added = app.key(&owner.api_key).post(&domains_of(&owner.org_id), add).await;
                domains.push((owner, added.assert_status(201).body["data"].clone()));
            }
            let records: Vec<_> = domains.iter().map(|(_, domain)| record_of(domain)).collect();
            dns.set_records(&as_records(&records));
            let verify = async |(owner, domain): &(CreatedKey, Value)| {
                let path = verify_path(&owner.org_id, domain);
                app.key(&owner.api_key).post(&path, json!({})).await
            };
            let responses = join_all(domains.iter().map(verify)).await;
            let verified = responses.iter().filter(|it| it.status == 200).count();
            assert_eq!(verified, 1);
            for response in responses.into_iter().filter(|it| it.status != 200) {
                response.assert_error(409, "DOMAIN_TAKEN");
            }
            let stored = "select count(*) from sso_domains where verified_at is not null";
            assert_eq!(app.count(stored).await, 1);
            // The others may verify it once it is free.
            let free = "delete from sso_domains where verified_at is not null";
            app.execute(free).await;
            let again = join_all(domains.iter().map(verify)).await;
            assert_eq!(again.iter().filter(|it| it.status == 200).count(), 1);
            assert_eq!(again.iter().filter(|it| it.status == 404).count(), 1);
        })
        .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_or_fails_says_nothing_about_the_record() {
    let silent = ScriptedDnsServer::start();
    with_settings(&[("DNS_SERVERS", &silent.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let (session, path) = (app.session(&ann.cookie), verify_path(&ann.org_id, &added));
            let started = Instant::now();
            let failed = session.post(&path, json!({})).await;
            assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
            let failed = failed.assert_error(503, "service_unavailable");
            assert!(text(&failed.body["message"]).contains("could not be looked up"));
            assert!(!failed.header("retry-after").is_empty());
            // SERVFAIL and REFUSED.
            for code in [2, 5] {
                let answering = silent.answer_all(code);
                let response = tokio::select! {
                    response = session.post(&path, json!({})) => response,
                    () = answering => unreachable!(),
                };
                response.assert_error(503, "service_unavailable");
            }
            assert_eq!(status(app, &ann, &added).await, "pending");
        })
        .await;
}

#[tokio::test]
async fn of_two_servers_each_that_answers_must_return_the_record() {
    let (Some(mut one), Some(mut other)) = (DnsServer::start(&[]), DnsServer::start(&[])) else {
        return;
    };
    with_settings(&[("DNS_SERVERS", &format!("{},{}", one.address(), other.address()))])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let (name, value) = record_of(&added);
            let (session, path) = (app.session(&ann.cookie), verify_path(&ann.org_id, &added));
            one.set_records(&[(&name, &value)]);
            session.post(&path, json!({})).await.assert_error(422, RECORD_NOT_FOUND);
            one.set_records(&[]);
            other.set_records(&[(&name, &value)]);
            session.post(&path, json!({})).await.assert_error(422, RECORD_NOT_FOUND);
            one.stop();
            session.post(&path, json!({})).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn a_domain_that_is_deleted_and_added_again_during_its_check_is_not_verified() {
    let dns = ScriptedDnsServer::start();
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let session = app.session(&ann.cookie);
            let path = verify_path(&ann.org_id, &added);
            let change = async {
                let query = dns.receive().await;
                let old = format!("{}/{}", domains_of(&ann.org_id), text(&added["id"]));
                session.delete(&old).await.assert_status(200);
                let new = add_domain(app, &ann, "acme.example").await;
                dns.answer(&query, 0, Some(&record_of(&added).1)).await;
                new
            };
            let (checked, new) = join(session.post(&path, json!({})), change).await;
            checked.assert_error(404, "not_found");
            assert_eq!(status(app, &ann, &new).await, "pending");
            // A row that has another token is not the one that was checked, either.
            let change = async {
                let query = dns.receive().await;
                app.execute("update sso_domains set token = 'another'").await;
                dns.answer(&query, 0, Some(&record_of(&new).1)).await;
            };
            let path = verify_path(&ann.org_id, &new);
            let (checked, ()) = join(session.post(&path, json!({})), change).await;
            checked.assert_error(404, "not_found");
            assert_eq!(status(app, &ann, &new).await, "pending");
        })
        .await;
}

#[tokio::test]
async fn a_caller_that_loses_its_right_during_the_check_verifies_nothing() {
    let dns = ScriptedDnsServer::start();
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let session = app.session(&ann.cookie);
            let change = async {
                let query = dns.receive().await;
                app.execute("update users set role = 'member'").await;
                dns.answer(&query, 0, Some(&record_of(&added).1)).await;
            };
            let path = verify_path(&ann.org_id, &added);
            let (checked, ()) = join(session.post(&path, json!({})), change).await;
            checked.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            let verified = "select count(*) from sso_domains where verified_at is not null";
            assert_eq!(app.count(verified).await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_repeated_verification_with_its_key_is_replayed_without_a_lookup() {
    let Some(mut dns) = DnsServer::start(&[]) else { return };
    with_settings(&[("DNS_SERVERS", &dns.address())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let added = add_domain(app, &ann, "acme.example").await;
            let (name, value) = record_of(&added);
            dns.set_records(&[(&name, &value)]);
            let session = app.session(&ann.cookie).with("idempotency-key", "one");
            let path = verify_path(&ann.org_id, &added);
            let first = session.post(&path, json!({})).await.assert_status(200);
            dns.stop();
            let again = session.post(&path, json!({})).await.assert_status(200);
            assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &first.body));
        })
        .await;
}

#[tokio::test]
async fn members_and_credentials_without_the_scope_neither_read_nor_change_domains() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let (path, add) = (domains_of(&ann.org_id), json!({ "domain": "acme.example" }));
        let member = app.session(&ben.cookie);
        for response in [member.post(&path, add.clone()).await, member.get(&path).await] {
            response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        }
        let key = async |scope: &str| {
            let request = json!({ "name": scope, "scopes": [scope] });
            app.key(&app.create_key(&ann, request).await.api_key)
        };
        let (reader, writer) = (key("sso:read").await, key("sso:write").await);
        reader.post(&path, add.clone()).await.assert_error(403, "API_KEY_MISSING_SCOPES");
        writer.post(&path, add).await.assert_status(201);
        writer.get(&path).await.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(reader.get(&path).await.assert_status(200).body["meta"]["total"], 1);
    })
    .await;
}

#[tokio::test]
async fn without_sso_its_routes_do_not_exist() {
    with_settings(&[("SSO", "off")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let session = app.session(&ann.cookie);
            session.get(&domains_of(&ann.org_id)).await.assert_error(404, "not_found");
        })
        .await;
}

#[tokio::test]
async fn the_domains_of_a_deleted_organization_are_free() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        add_domain(app, &ann, "acme.example").await;
        app.execute("update sso_domains set verified_at = now(), next_check_at = now()").await;
        let domain = DomainName::parse("acme.example").unwrap();
        let id = sqlx::query_scalar("select id from organizations where handle = $1");
        let id: Uuid = id.bind(&ann.org_id).fetch_one(&mut app.connect().await).await.unwrap();
        let organization = OrganizationId(id);
        let state = async || {
            let read = app.app.db.run(async |db| {
                Ok((
                    sso_domains::find_owner(db, &domain).await?,
                    sso_domains::is_verified(db, organization, &domain).await?,
                    sso_domains::has_verified(db, organization).await?,
                ))
            });
            read.await.unwrap()
        };
        assert_eq!(state().await, (Some(organization), true, true));
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let confirm = json!({ "confirm": ann.org_id }).to_string();
        let session = app.session(&ann.cookie).with("content-type", "application/json");
        session.send("DELETE", &path, confirm).await.assert_status(200);
        assert_eq!(state().await, (None, false, false));
        assert_eq!(app.count("select count(*) from sso_domains").await, 0);
    })
    .await;
}

#[tokio::test]
async fn checks_of_domains_are_limited_for_each_organization() {
    let Some(dns) = DnsServer::start(&[]) else { return };
    with_settings(&[
        ("DNS_SERVERS", &dns.address()),
        ("LIMITS_PROFILE", "usual"),
        ("LIMITS", r#"{"domain_checks":{"quota":2,"window_s":3600}}"#),
    ])
    .run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let (of_ann, of_ben) = (
            add_domain(app, &ann, "acme.example").await,
            add_domain(app, &ben, "acme.example").await,
        );
        let verify = async |account: &TestAccount, domain: &Value| {
            let path = verify_path(&account.org_id, domain);
            app.session(&account.cookie).post(&path, json!({})).await
        };
        for _ in 0..2 {
            verify(&ann, &of_ann).await.assert_error(422, RECORD_NOT_FOUND);
        }
        verify(&ann, &of_ann).await.assert_error(429, "RATE_LIMIT_ERROR");
        verify(&ben, &of_ben).await.assert_error(422, RECORD_NOT_FOUND);
    })
    .await;
}
