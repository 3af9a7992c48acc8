//! Signing in with an identity provider: who is admitted, to which account, and how far the session
//! reaches.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::connected::{Connected, with_provider};
use crate::support::TestApp;
use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::identity_provider::IdentityProvider;
use crate::support::oauth::{Browser, OauthClientSpec, parameters_of};

/// Ann of the provider, with an address of the verified domain.
fn ann() -> Value {
    json!({ "ann": { "email": "ann@acme.example", "email_verified": true, "name": "Ann Acme" } })
}

/// Counts accounts.
const ACCOUNTS: &str = "select count(*) from accounts";

/// The reason of the last rejection in the audit log.
async fn last_reason(app: &TestApp) -> String {
    let sql = "select detail ->> 'reason' from audit_events
               where event_type = 'sso.sign_in_rejected' order by id desc limit 1";
    sqlx::query_scalar(sql).fetch_one(&mut app.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_person_of_a_verified_domain_becomes_a_member_and_later_signs_in_to_the_same_account() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme: &Connected| {
        provider.control(json!({ "claims": ann() }));
        let accounts = app.count(ACCOUNTS).await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            let cookie = acme.sign_in(app, &provider).await;
            let session = app.session(&cookie);
            let me = session.get("/api/user/me").await.assert_status(200).body["data"].clone();
            assert_eq!(me["email"], "ann@acme.example");
            assert_eq!((&me["emailVerified"], &me["name"]), (&json!(true), &json!("Ann Acme")));
            ids.push(text(&me["id"]));
            let own = session.get(&format!("{}/my-membership", acme.path())).await;
            assert_eq!(own.assert_status(200).body["data"]["role"], "member");
        }
        assert_eq!(ids[0], ids[1]);
        assert_eq!(app.count(ACCOUNTS).await, accounts + 1);
        let events = "select count(*) from audit_events where event_type = 'sso.signed_in'";
        assert_eq!(app.count(events).await, 2);
    })
    .await;
}

#[tokio::test]
async fn one_of_twenty_concurrent_callbacks_on_two_servers_starts_a_session() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let mut browser = Browser::new(app);
        let callback = acme.sign_in_at_provider(&mut browser, &provider).await;
        let replica = app.replica();
        let servers = [app, &replica];
        let attempts = (0..20).map(|number| {
            let mut browser = browser.on(servers[number % 2]);
            let callback = &callback;
            async move { browser.get(callback).await }
        });
        let responses = join_all(attempts).await;
        let signed_in = responses.iter().filter(|it| it.cookie().is_some()).count();
        assert_eq!(signed_in, 1);
        let sessions = "select count(*) from sessions where connection_id is not null";
        assert_eq!(app.count(sessions).await, 1);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn an_answer_in_another_browser_of_another_connection_or_with_another_state_is_rejected() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let mut browser = Browser::new(app);
        let callback = acme.sign_in_at_provider(&mut browser, &provider).await;
        let (path, query) = callback.split_once('?').unwrap();
        let other = "/api/auth/sso/callback/conn_01JZ3VQ0Xb1cT4yW8mK2pa";
        let without_state = query.replace("state=", "no_state=");
        let other_state = query.replace("state=tnt_sso_state_", "state=tnt_sso_state_x");
        for (mut browser, path) in [
            (Browser::new(app), callback.clone()),
            (browser.clone(), format!("{other}?{query}")),
            (browser.clone(), format!("{path}?{without_state}")),
            (browser.clone(), format!("{path}?{other_state}")),
            (browser.clone(), path.to_owned()),
        ] {
            let rejected = browser.get(&path).await.assert_status(303);
            let page = rejected.header("location").to_owned();
            assert_eq!(page, "/api/auth/sso/error?code=SSO_STATE_INVALID", "{path}");
            assert!(rejected.cookie().is_none());
            let page = browser.get(&page).await.assert_status(403);
            assert!(page.text.contains("began in another browser"), "{}", page.text);
        }
        // The browser that began it completes it, once.
        assert!(browser.get(&callback).await.cookie().is_some());
        assert!(browser.get(&callback).await.cookie().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_provider_cannot_assert_the_address_of_another_organizations_member() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let eve = app.verified_account("eve@victim.example").await;
        // An address of a domain that is not the organization's, with or without an account.
        for email in ["eve@victim.example", "new@victim.example", "ann@sub.acme.example"] {
            provider.control(json!({ "claims": { "ann": { "email": email } } }));
            acme.assert_rejected(app, &provider, "SSO_DOMAIN_NOT_VERIFIED").await;
        }
        // An address of its own domain, whose account sits elsewhere.
        let mut db = app.connect().await;
        sqlx::query("update accounts set email = 'eve@acme.example' where email = $1")
            .bind(&eve.email)
            .execute(&mut db)
            .await
            .unwrap();
        provider.control(json!({ "claims": { "ann": { "email": "eve@acme.example" } } }));
        acme.assert_rejected(app, &provider, "SSO_LINK_REQUIRED").await;
        assert_eq!(app.count("select count(*) from sso_identities").await, 0);
        let sessions = "select count(*) from sessions where connection_id is not null";
        assert_eq!(app.count(sessions).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_address_identifies_nobody_a_second_subject_with_it_gets_no_account() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let cookie = {
            provider.control(json!({ "claims": ann() }));
            acme.sign_in(app, &provider).await
        };
        let bob = json!({ "bob": { "email": "ann@acme.example", "email_verified": true } });
        provider.control(json!({ "claims": bob, "nextLogin": "bob" }));
        acme.assert_rejected(app, &provider, "SSO_IDENTITY_REJECTED").await;
        assert_eq!(last_reason(app).await, "another_subject");
        // An address that changes at the provider changes nothing here.
        let carl = json!({ "carl": { "email": "carl@acme.example", "email_verified": true } });
        provider.control(json!({ "claims": carl, "nextLogin": "carl" }));
        acme.sign_in(app, &provider).await;
        let changed = json!({ "ann": { "email": "carl@acme.example", "email_verified": true } });
        provider.control(json!({ "claims": changed, "nextLogin": "ann" }));
        let again = acme.sign_in(app, &provider).await;
        for cookie in [cookie, again] {
            let me = app.session(&cookie).get("/api/user/me").await.assert_status(200);
            assert_eq!(me.body["data"]["email"], "ann@acme.example");
        }
    })
    .await;
}

#[tokio::test]
async fn only_a_member_with_a_proven_address_is_linked_without_another_proof() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let member = app.verified_account("ann@acme.example").await;
        app.invite_and_accept(&acme.owner, &member, "admin").await;
        provider.control(json!({ "claims": ann() }));
        app.execute("update accounts set proven_at = null where email = 'ann@acme.example'").await;
        acme.assert_rejected(app, &provider, "SSO_LINK_REQUIRED").await;
        app.execute("update accounts set proven_at = now() where email = 'ann@acme.example'").await;
        let cookie = acme.sign_in(app, &provider).await;
        let own = app.session(&cookie).get(&format!("{}/my-membership", acme.path())).await;
        assert_eq!(own.assert_status(200).body["data"]["role"], "admin");
        // The password still works.
        app.sign_in("ann@acme.example", PASSWORD).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_address_that_the_provider_does_not_call_verified_is_rejected() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        for value in [json!(false), json!("false"), json!(0), json!(1), json!(null)] {
            let claims = json!({ "email": "ann@acme.example", "email_verified": value });
            provider.control(json!({ "claims": { "ann": claims } }));
            acme.assert_rejected(app, &provider, "SSO_IDENTITY_REJECTED").await;
            assert_eq!(last_reason(app).await, "no_address", "{value}");
        }
        let claims = json!({ "email": "ann@acme.example", "email_verified": "true" });
        provider.control(json!({ "claims": { "ann": claims } }));
        acme.sign_in(app, &provider).await;
    })
    .await;
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_sign_in_is_rejected_and_the_audit_log_says_why() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        for (claims, header, why) in [
            (json!({ "iss": "https://other.example" }), json!({}), "another issuer"),
            (json!({ "aud": "another-client" }), json!({}), "another client"),
            (json!({ "nonce": "another" }), json!({}), "nonce"),
            (json!({ "nonce": null }), json!({}), "nonce"),
            (json!({ "exp": 1 }), json!({}), "expired"),
            (json!({ "at_hash": "AAAA" }), json!({}), "at_hash"),
            (json!({ "sub": "" }), json!({}), "subject"),
            (json!({ "sub": 7 }), json!({}), "malformed"),
            (json!({}), json!({ "alg": "none" }), "malformed"),
            (json!({}), json!({ "alg": "HS256" }), "malformed"),
            (json!({}), json!({ "kid": "unknown" }), "not signed"),
        ] {
            provider.control(json!({ "idToken": claims, "idTokenHeader": header }));
            acme.assert_rejected(app, &provider, "SSO_PROVIDER_ERROR").await;
            let sql = "select detail ->> 'why' from audit_events
                       where event_type = 'sso.sign_in_rejected' order by id desc limit 1";
            let seen: String =
                sqlx::query_scalar(sql).fetch_one(&mut app.connect().await).await.unwrap();
            assert!(seen.contains(why), "{claims} {header}: {seen}");
        }
    })
    .await;
}

#[tokio::test]
async fn keys_that_the_provider_rotates_are_fetched_again() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        acme.sign_in(app, &provider).await;
        provider.control(json!({ "rotateKeys": true }));
        // An unknown key id is looked for once a minute.
        app.clock.advance(chrono::TimeDelta::seconds(61));
        acme.sign_in(app, &provider).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_of_single_sign_on_acts_in_its_organization_and_nowhere_else() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let member = app.verified_account("ann@acme.example").await;
        app.invite_and_accept(&acme.owner, &member, "admin").await;
        provider.control(json!({ "claims": ann() }));
        let session = app.session(&acme.sign_in(app, &provider).await);
        let own = format!("/api/user/organizations/{}", member.org_id);
        let scoped = "SSO_SESSION_SCOPED";
        session.get(&own).await.assert_error(403, scoped);
        session.get(&format!("{own}/members")).await.assert_error(403, scoped);
        let listed = session.get("/api/user/organizations").await.assert_status(200);
        assert_eq!(listed.body["data"].as_array().unwrap().len(), 1);
        let passwords = json!({ "currentPassword": PASSWORD, "newPassword": "another-passphrase" });
        session.post("/api/auth/change-password", passwords).await.assert_error(403, scoped);
        let deletion = json!({ "password": PASSWORD }).to_string();
        session.send("DELETE", "/api/user/me", deletion).await.assert_error(403, scoped);
        let name = json!({ "fullName": "Eve" });
        session.put("/api/user/me", name).await.assert_error(403, scoped);
        let organization = json!({ "name": "Mine" });
        session.post("/api/user/organizations", organization).await.assert_error(403, scoped);
        session.post("/auth/api-key/regenerate", json!({})).await.assert_status(403);
        // Tokens, within the organization only.
        let token = |pin: Option<&str>| {
            let metadata = pin.map(|id| json!({ "organizationId": id }));
            json!({ "name": "ci", "scopes": ["members:read"], "metadata": metadata })
        };
        let create = "/api/auth/api-key/create";
        for pin in [None, Some(member.org_id.as_str())] {
            session.post(create, token(pin)).await.assert_error(403, scoped);
        }
        let created = session.post(create, token(Some(&acme.owner.org_id))).await;
        let key = text(&created.assert_status(200).body["data"]["key"]);
        app.key(&key).get(&format!("{}/members", acme.path())).await.assert_status(200);
        app.create_token(&member.cookie, json!({ "name": "own", "scopes": ["user:read"] })).await;
        let listed = session.get("/api/auth/api-key/list").await.assert_status(200);
        assert_eq!(listed.body["data"].as_array().unwrap().len(), 1);
        // Its own sessions, and not those of the password.
        let sessions = session.get("/api/auth/list-sessions").await.assert_status(200);
        assert_eq!(sessions.body["data"].as_array().unwrap().len(), 1);
        session.post("/api/auth/revoke-other-sessions", json!({})).await.assert_status(200);
        app.session(&member.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn roles_come_from_claims_and_change_at_the_next_sign_in_unless_a_member_gave_them() {
    let Some(provider) = IdentityProvider::start() else { return };
    let settings = json!({
        "roleSync": true,
        "roleMapping": [{ "claim": "groups", "value": "it", "role": "admin" }],
    });
    with_provider(&provider, &[], async |app, acme| {
        acme.update(app, settings).await;
        let groups = |groups: &[&str]| {
            let claims = json!({ "email": "ann@acme.example", "groups": groups });
            provider.control(json!({ "claims": { "ann": claims } }));
        };
        let role = async || {
            let cookie = acme.sign_in(app, &provider).await;
            let own = app.session(&cookie).get(&format!("{}/my-membership", acme.path())).await;
            let own = own.assert_status(200).body["data"].clone();
            (text(&own["role"]), text(&own["id"]))
        };
        groups(&["it", "staff"]);
        assert_eq!(role().await.0, "admin");
        groups(&["staff"]);
        let (second, id) = role().await;
        assert_eq!(second, "member");
        let owner = app.session(&acme.owner.cookie);
        let path = format!("{}/members/{id}/role", acme.path());
        owner.put(&path, json!({ "role": "admin" })).await.assert_status(200);
        assert_eq!(role().await.0, "admin");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_is_consumed_and_gives_its_role() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        acme.update(app, json!({ "jit": { "enabled": false } })).await;
        provider.control(json!({ "claims": ann() }));
        acme.assert_rejected(app, &provider, "SSO_IDENTITY_REJECTED").await;
        assert_eq!(last_reason(app).await, "not_member");
        let invite = json!({ "email": "ann@acme.example", "role": "admin" });
        let owner = app.session(&acme.owner.cookie);
        owner.post(&format!("{}/invites", acme.path()), invite).await.assert_status(201);
        let cookie = acme.sign_in(app, &provider).await;
        let own = app.session(&cookie).get(&format!("{}/my-membership", acme.path())).await;
        assert_eq!(own.assert_status(200).body["data"]["role"], "admin");
        let open = "select count(*) from invites where accepted_at is null";
        assert_eq!(app.count(open).await, 0);
    })
    .await;
}

#[tokio::test]
async fn who_was_removed_or_deactivated_and_who_is_in_a_suspended_organization_is_rejected() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let cookie = acme.sign_in(app, &provider).await;
        let session = app.session(&cookie);
        let own = session.get(&format!("{}/my-membership", acme.path())).await.assert_status(200);
        let member = text(&own.body["data"]["id"]);
        app.execute("update organizations set suspended_at = now() where name = 'Ann Example'")
            .await;
        acme.assert_rejected(app, &provider, "ORGANIZATION_SUSPENDED").await;
        app.execute("update organizations set suspended_at = null where name = 'Ann Example'")
            .await;
        app.execute("update accounts set is_active = false where email = 'ann@acme.example'").await;
        acme.assert_rejected(app, &provider, "USER_NOT_ACTIVE").await;
        app.execute("update accounts set is_active = true where email = 'ann@acme.example'").await;
        let owner = app.session(&acme.owner.cookie);
        owner.delete(&format!("{}/members/{member}", acme.path())).await.assert_status(200);
        session.get(&format!("{}/members", acme.path())).await.assert_status(401);
        acme.assert_rejected(app, &provider, "SSO_IDENTITY_REJECTED").await;
        assert_eq!(last_reason(app).await, "membership_ended");
    })
    .await;
}

#[tokio::test]
async fn without_a_free_seat_nothing_is_half_made() {
    let Some(provider) = IdentityProvider::start() else { return };
    let plans = [("PLANS", r#"{"trial":{"seats":1}}"#)];
    with_provider(&provider, &plans, async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let accounts = app.count(ACCOUNTS).await;
        acme.assert_rejected(app, &provider, "SSO_SEAT_LIMIT").await;
        assert_eq!(app.count(ACCOUNTS).await, accounts);
        assert_eq!(app.count("select count(*) from sso_identities").await, 0);
    })
    .await;
}

#[tokio::test]
async fn disabling_a_connection_ends_its_sessions_and_links_on_every_server() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let cookie = acme.sign_in(app, &provider).await;
        let mut browser = Browser::new(app);
        let pending = acme.sign_in_at_provider(&mut browser, &provider).await;
        let replica = app.replica();
        let members = format!("{}/members", acme.path());
        replica.session(&cookie).get(&members).await.assert_status(200);
        acme.change_status(app, "disable").await.assert_status(200);
        for server in [app, &replica] {
            server.session(&cookie).get(&members).await.assert_status(401);
        }
        replica.close();
        assert!(browser.get(&pending).await.cookie().is_none());
        assert_eq!(app.count("select count(*) from sso_identities").await, 0);
        // The same person is linked again, because the address is proven.
        acme.change_status(app, "activate").await.assert_status(200);
        acme.sign_in(app, &provider).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_after_the_hours_of_its_connection_however_much_it_is_used() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        acme.update(app, json!({ "sessionHours": 1 })).await;
        provider.control(json!({ "claims": ann() }));
        acme.sign_in(app, &provider).await;
        let sql = "select count(*) from sessions where connection_id is not null
                   and expires_at = created_at + interval '1 hour' and ends_at = expires_at";
        assert_eq!(app.count(sql).await, 1);
    })
    .await;
}

#[tokio::test]
async fn how_to_sign_in_is_found_by_the_domain_of_the_address_and_says_nothing_about_accounts() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let identify = async |email: &str| {
            let request = json!({ "email": email });
            let found = app.anonymous().post("/api/auth/identify", request).await;
            found.assert_status(200).body["data"].clone()
        };
        let known = identify("ann@acme.example").await;
        assert_eq!(known["method"], "sso");
        let url = text(&known["signInUrl"]);
        assert_eq!(parameters_of(&url)["connectionId"], acme.id);
        assert_eq!(parameters_of(&url)["login_hint"], "ann@acme.example");
        let password = json!({ "method": "password", "signInUrl": null });
        for email in ["owner@example.com", "ann@sub.acme.example", "ann@example.org"] {
            assert_eq!(identify(email).await, password, "{email}");
        }
        let sign_in = "/api/auth/sign-in/sso";
        for target in [
            json!({ "email": "ann@acme.example" }),
            json!({ "organizationId": acme.owner.org_id }),
            json!({ "connectionId": acme.id, "callbackURL": "/welcome" }),
        ] {
            let begun = app.anonymous().post(sign_in, target).await.assert_status(200);
            assert!(text(&begun.body["data"]["url"]).starts_with(provider.issuer()));
        }
        for unknown in [
            json!({ "email": "ann@example.org" }),
            json!({ "organizationId": "org_unknown" }),
            json!({ "organizationId": "a b" }),
            json!({ "connectionId": "conn_01JZ3VQ0Xb1cT4yW8mK2pa" }),
            json!({ "connectionId": "\0" }),
        ] {
            let rejected = app.anonymous().post(sign_in, unknown).await;
            rejected.assert_error(404, "SSO_NOT_CONFIGURED");
        }
        for invalid in [
            json!({}),
            json!({ "email": "ann@acme.example", "connectionId": acme.id }),
            json!({ "email": "ann" }),
            json!({ "connectionId": acme.id, "callbackURL": "https://evil.example" }),
        ] {
            let rejected = app.anonymous().post(sign_in, invalid).await;
            rejected.assert_error(400, "VALIDATION_ERROR");
        }
        acme.change_status(app, "disable").await.assert_status(200);
        assert_eq!(identify("ann@acme.example").await, password);
        let start = format!("/api/auth/sso/start?connectionId={}", acme.id);
        app.anonymous().get(&start).await.assert_status(404);
    })
    .await;
}

#[tokio::test]
async fn the_browser_is_sent_to_the_callback_url_and_a_provider_s_error_to_a_page() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let mut browser = Browser::new(app);
        let request = json!({ "connectionId": acme.id, "callbackURL": "/welcome?a=b" });
        let begun = browser.post("/api/auth/sign-in/sso", request).await.assert_status(200);
        let callback = Connected::callback(app, &provider, &text(&begun.body["data"]["url"]));
        let done = browser.get(&callback).await.assert_status(303);
        assert!(done.header("location").ends_with("/welcome?a=b"), "{done:?}");
        provider.control(json!({ "nextLogin": null }));
        acme.assert_rejected(app, &provider, "SSO_DENIED").await;
        // A link of another provider's portal.
        let start = format!("/api/auth/sso/start?connectionId={}&iss=https://a.example", acme.id);
        app.anonymous().get(&start).await.assert_status(403);
        let unknown = app.anonymous().get("/api/auth/sso/error?code=%3Cb%3E").await;
        assert!(!unknown.assert_status(403).text.contains("<b>"));
    })
    .await;
}

#[tokio::test]
async fn a_link_of_another_site_signs_in_only_after_a_page_that_names_the_organization() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        let start = format!("/api/auth/sso/start?connectionId={}", acme.id);
        let from_elsewhere = app.anonymous().with("sec-fetch-site", "cross-site");
        let page = from_elsewhere.get(&start).await.assert_status(200);
        assert!(page.text.contains("Ann Example") && page.text.contains(&start), "{}", page.text);
        assert!(page.headers.get("location").is_none());
        // The session of another account that the sign-in replaces ends.
        let other = app.sign_up_account("other@example.com").await;
        provider.control(json!({ "claims": ann() }));
        let mut browser = Browser::new(app);
        let callback = acme.sign_in_at_provider(&mut browser, &provider).await;
        let done = browser.with_session(&other.cookie).get(&callback).await;
        assert!(done.cookie().is_some());
        app.session(&other.cookie).get("/api/user/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn what_a_session_of_single_sign_on_creates_reaches_no_further_than_the_session() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let cookie = acme.sign_in(app, &provider).await;
        let session = app.session(&cookie);
        for scopes in [json!(["user:write"]), json!(["*"]), json!(["user:*", "members:read"])] {
            let metadata = json!({ "organizationId": acme.owner.org_id });
            let token = json!({ "name": "ci", "scopes": scopes, "metadata": metadata });
            let rejected = session.post("/api/auth/api-key/create", token).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(rejected.invalid_fields(), ["scopes"], "{scopes}");
        }
        // An app of another organization learns nothing about the account.
        let vendor = app.sign_up().await;
        let spec = OauthClientSpec { scopes: &["openid", "projects:read"], ..Default::default() };
        let client = spec.insert(app, &vendor.org_id).await;
        let mut browser = Browser::new(app).with_session(&cookie);
        let scope = ("scope", "openid projects:read");
        browser.grant(&client.path(&[scope]), &acme.owner.org_id).await;
        let granted = "select count(*) from oauth_grants where scopes = '{projects:read}'";
        assert_eq!(app.count(granted).await, 1);
        let handle = browser.begin(&client.path(&[("scope", "openid")])).await;
        let personal = json!({ "request": handle, "accept": true });
        browser.send_answer(personal).await.assert_status(403);
    })
    .await;
}

#[tokio::test]
async fn a_member_who_was_removed_is_signed_out_and_an_invitation_revives_no_session() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let first = app.session(&acme.sign_in(app, &provider).await);
        let own = first.get(&format!("{}/my-membership", acme.path())).await.assert_status(200);
        let path = format!("{}/members/{}", acme.path(), text(&own.body["data"]["id"]));
        app.session(&acme.owner.cookie).delete(&path).await.assert_status(200);
        first.get("/api/user/me").await.assert_status(401);
        // Signing out always ends the session.
        let invite = json!({ "email": "ann@acme.example", "role": "member" });
        let owner = app.session(&acme.owner.cookie);
        owner.post(&format!("{}/invites", acme.path()), invite).await.assert_status(201);
        let second = app.session(&acme.sign_in(app, &provider).await);
        app.execute(
            "update users set removed_at = now() where role = 'member' and removed_at is null",
        )
        .await;
        second.post("/api/auth/sign-out", json!({})).await.assert_status(200);
        let live =
            "select count(*) from sessions where pinned_to is not null and revoked_at is null";
        assert_eq!(app.count(live).await, 0);
    })
    .await;
}

#[tokio::test]
async fn turning_single_sign_on_off_ends_its_sessions() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        let cookie = acme.sign_in(app, &provider).await;
        let off = app.replica_with(&[("SSO", "off")]);
        off.session(&cookie).get("/api/user/me").await.assert_status(401);
        off.anonymous()
            .post("/api/auth/identify", json!({ "email": "a@b.example" }))
            .await
            .assert_status(404);
        off.close();
        // A server of a version without single sign-on accepts only the other format.
        assert!(cookie.starts_with("tnt_sso_session_"));
    })
    .await;
}

#[tokio::test]
async fn an_account_of_single_sign_on_gets_no_password_and_ends_with_the_domain() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_provider(&provider, &[], async |app, acme| {
        provider.control(json!({ "claims": ann() }));
        acme.sign_in(app, &provider).await;
        app.mails().await;
        let request = json!({ "email": "ann@acme.example" });
        let reset = "/api/auth/request-password-reset";
        app.anonymous().post(reset, request).await.assert_status(200);
        assert_eq!(app.mails().await.len(), 0);
        app.sign_in("ann@acme.example", PASSWORD).await.assert_status(401);
        app.execute("update sso_domains set lost_at = now(), next_check_at = null").await;
        acme.assert_rejected(app, &provider, "SSO_DOMAIN_NOT_VERIFIED").await;
    })
    .await;
}
