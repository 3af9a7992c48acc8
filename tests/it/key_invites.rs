//! What keys invited ends with them, and whoever joined by it is named.

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::locks::TableLock;
use crate::support::{TestApp, run};

fn organization_path(org_id: &str, rest: &str) -> String {
    format!("/api/user/organizations/{org_id}{rest}")
}

/// Invites by whatever credential; the token of the mailed link.
async fn invite(app: &TestApp, by: &TestClient, org_id: &str, email: &str, role: &str) -> String {
    let request = json!({ "email": email, "role": role });
    by.post(&organization_path(org_id, "/invites"), request).await.assert_status(201);
    app.mailed_token().await
}

async fn accept(app: &TestApp, person: &TestAccount, token: &str) -> TestResponse {
    let path = format!("/api/user/invites/{token}/accept");
    app.session(&person.cookie).post(&path, json!({})).await
}

/// The seat of somebody who is in.
async fn membership_id(app: &TestApp, person: &TestAccount, org_id: &str) -> String {
    let own = app.session(&person.cookie).get(&organization_path(org_id, "/my-membership")).await;
    text(&own.assert_status(200).body["data"]["id"])
}

async fn force_change(app: &TestApp, what: &str, org_id: &str, name: &str) -> TestResponse {
    let scope = format!("ORG_{}", what.replace('-', "_").to_uppercase());
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": name });
    let path = format!("/v1/admin/org/{org_id}/{what}");
    app.master_with_idempotency_key(&scope, name).post(&path, request).await
}

fn membership_roles(memberships: &Value) -> Vec<(String, String)> {
    let memberships = memberships.as_array().unwrap_or_else(|| panic!("none: {memberships}"));
    let seats = memberships.iter();
    let mut named: Vec<_> = seats.map(|it| (text(&it["user_id"]), text(&it["role"]))).collect();
    named.sort();
    named
}

/// The thief: invites with a stolen key, and is let in after it was rotated.
#[tokio::test]
async fn what_stolen_keys_invited_ends_when_the_operator_ends_the_keys() {
    run(async |app| {
        let thief = app.verified_account("thief@example.com").await;
        for (number, what) in ["force-rotate", "force-revoke"].into_iter().enumerate() {
            let acme = app.sign_up().await;
            let open =
                invite(app, &app.key(&acme.api_key), &acme.org_id, &thief.email, "owner").await;
            let ended = force_change(app, what, &acme.org_id, &format!("evt_{number}")).await;
            assert_eq!(ended.assert_status(200).body["memberships"], json!([]));
            accept(app, &thief, &open).await.assert_error(404, "NOT_FOUND");
        }
        let acme = app.sign_up().await;
        let open = invite(app, &app.key(&acme.api_key), &acme.org_id, &thief.email, "owner").await;
        let path = format!("/v1/admin/billing/org/{}/rotate", acme.org_id);
        let ended =
            app.master_with_idempotency_key("BILLING_ROTATE", "evt_9").post(&path, json!({})).await;
        assert_eq!(ended.assert_status(200).body["memberships"], json!([]));
        accept(app, &thief, &open).await.assert_error(404, "NOT_FOUND");
    })
    .await;
}

/// A key that was revoked, rotated away or has expired before made them, too.
#[tokio::test]
async fn what_keys_invited_that_had_ended_before_ends_too() {
    run(async |app| {
        let acme = app.sign_up().await;
        let own = app.key(&acme.api_key);
        let mut links = Vec::new();
        for number in 0..2 {
            let person = app.verified_account(&format!("person{number}@example.com")).await;
            let key = app.mint(&acme.api_key, json!({ "name": format!("k{number}") })).await;
            let by = app.key(&key.api_key);
            links.push((invite(app, &by, &acme.org_id, &person.email, "admin").await, person));
            if number == 0 {
                by.post("/v1/admin/key/rotate", json!({})).await.assert_status(200);
            } else {
                app.execute("update api_keys set expires_at = now() where name = 'k1'").await;
            }
        }
        own.get("/me").await.assert_status(200);
        force_change(app, "force-revoke", &acme.org_id, "evt_1").await.assert_status(200);
        for (link, person) in &links {
            accept(app, person, link).await.assert_error(404, "NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn the_answer_names_the_memberships_that_joined_by_keys_and_people_s_invitations_stay() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let by_key = app.key(&key.api_key);
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let dan = app.verified_account("dan@example.com").await;
        let eve = app.verified_account("eve@example.com").await;
        let joined = invite(app, &by_key, &ann.org_id, &ben.email, "admin").await;
        accept(app, &ben, &joined).await.assert_status(200);
        // One who joined by a key and has left since is no member to name.
        let left = invite(app, &by_key, &ann.org_id, &eve.email, "member").await;
        accept(app, &eve, &left).await.assert_status(200);
        let leaving = organization_path(
            &ann.org_id,
            &format!("/members/{}", membership_id(app, &eve, &ann.org_id).await),
        );
        app.session(&eve.cookie).delete(&leaving).await.assert_status(200);
        app.invite_and_accept(&ann, &cleo, "member").await;
        let by_ann = app.session(&ann.cookie);
        let open = invite(app, &by_ann, &ann.org_id, &dan.email, "member").await;

        let of_ben = membership_id(app, &ben, &ann.org_id).await;
        let expected = vec![(of_ben, "admin".to_owned())];
        let ended =
            force_change(app, "force-rotate", &ann.org_id, "evt_1").await.assert_status(200);
        assert_eq!(membership_roles(&ended.body["memberships"]), expected);
        let again =
            force_change(app, "force-rotate", &ann.org_id, "evt_1").await.assert_status(200);
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(membership_roles(&again.body["memberships"]), expected);
        // They are named, and not ended.
        membership_id(app, &ben, &ann.org_id).await;
        accept(app, &dan, &open).await.assert_status(200);
        let noted = "select count(*) from audit_events where event_type = 'api_keys.force_revoked'
                     and jsonb_array_length(detail->'memberships') = 1
                     and (detail->>'invitations')::int = 0";
        assert_eq!(app.count(noted).await, 1);
    })
    .await;
}

#[tokio::test]
async fn revoking_a_key_ends_what_it_invited_and_names_who_joined_in_every_family() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let other = app.create_key(&ann, json!({ "name": "other", "scopes": ["*"] })).await;
        let ben = app.verified_account("ben@example.com").await;
        let by_other = app.key(&other.api_key);
        let stays = invite(app, &by_other, &ann.org_id, "stays@example.com", "member").await;
        for (number, family) in
            ["organization", "user", "operator", "onboarding"].iter().enumerate()
        {
            let name = format!("k{number}");
            let key = app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await;
            let by_key = app.key(&key.api_key);
            let link = invite(app, &by_key, &ann.org_id, &ben.email, "member").await;
            accept(app, &ben, &link).await.assert_status(200);
            let seat = membership_id(app, &ben, &ann.org_id).await;
            let open = invite(app, &by_key, &ann.org_id, "thief@example.com", "owner").await;
            let thief = format!("thief{number}@example.com");
            let memberships = match *family {
                "organization" => {
                    let path = format!("/v1/organization/api-keys/{}", key.key_id);
                    let answer = by_other.delete(&path).await.assert_status(200);
                    // A second time names them again.
                    let again = by_other.delete(&path).await.assert_status(200);
                    assert_eq!(again.body["memberships"], answer.body["memberships"]);
                    answer.body["memberships"].clone()
                }
                "user" => {
                    let path = organization_path(&ann.org_id, &format!("/api-keys/{}", key.key_id));
                    let answer = app.session(&ann.cookie).delete(&path).await.assert_status(200);
                    let found = &answer.body["data"]["memberships"];
                    json!([{ "user_id": found[0]["userId"], "role": found[0]["role"] }])
                }
                "operator" => {
                    let answer = by_key.post("/v1/admin/key/revoke", json!({})).await;
                    answer.assert_status(200).body["memberships"].clone()
                }
                _ => {
                    let path = format!("/me/api-keys/{}", key.key_id);
                    by_other.delete(&path).await.assert_status(204);
                    json!([{ "user_id": seat, "role": "member" }])
                }
            };
            assert_eq!(
                membership_roles(&memberships),
                [(seat.clone(), "member".to_owned())],
                "{family}"
            );
            let mallory = app.verified_account(&thief).await;
            accept(app, &mallory, &open).await.assert_error(404, "NOT_FOUND");
            let leaving = organization_path(&ann.org_id, &format!("/members/{seat}"));
            app.session(&ann.cookie).delete(&leaving).await.assert_status(200);
        }
        let person = app.verified_account("stays@example.com").await;
        accept(app, &person, &stays).await.assert_status(200);
        let noted = "select count(*) from audit_events where event_type = 'api_key.revoked'
                     and (detail->>'invitations')::int = 1
                     and jsonb_array_length(detail->'memberships') = 1";
        assert_eq!(app.count(noted).await, 4);
    })
    .await;
}

/// Rotating is no revocation: what the old key invited is good until the newer one is revoked.
#[tokio::test]
async fn revoking_a_key_ends_what_the_keys_invited_that_it_took_over_from() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let first = app.mint(&acme.api_key, json!({ "name": "ci" })).await;
        let by_first = app.key(&first.api_key);
        let joins = invite(app, &by_first, &acme.org_id, &ben.email, "member").await;
        let open = invite(app, &by_first, &acme.org_id, &cleo.email, "member").await;
        let rotated = by_first.post("/v1/admin/key/rotate", json!({})).await.assert_status(200);
        let newer = app.key(&text(&rotated.body["new_api_key"]));
        accept(app, &ben, &joins).await.assert_status(200);
        let revoked = newer.post("/v1/admin/key/revoke", json!({})).await.assert_status(200);
        assert_eq!(membership_roles(&revoked.body["memberships"]).len(), 1);
        accept(app, &cleo, &open).await.assert_error(404, "NOT_FOUND");
    })
    .await;
}

/// Sends an invitation again by whatever credential; the token of the mailed link.
async fn resend(app: &TestApp, by: &TestClient, org_id: &str, email: &str) -> String {
    let list =
        by.get(&organization_path(org_id, &format!("/invites?q={email}"))).await.assert_status(200);
    let id = text(&list.body["data"][0]["id"]);
    let path = organization_path(org_id, &format!("/invites/{id}/resend"));
    by.post(&path, json!({})).await.assert_status(200);
    app.mailed_token().await
}

/// Whoever made it chose the address, and whoever sent it again mailed the link: either may be a
/// thief.
#[tokio::test]
async fn an_invitation_ends_with_the_key_that_made_it_and_with_the_one_that_sent_it_again() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let mut number = 0;
        for maker in ["key", "session"] {
            for (sender, ends) in [("key", "maker"), ("key", "sender"), ("session", "maker")] {
                number += 1;
                let case = format!("made by a {maker}, sent again by a {sender}, {ends} ends");
                let key = async |name: &str| {
                    let name = format!("{name}{number}");
                    app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await
                };
                let (first, second) = (key("first").await, key("second").await);
                let (by_first, by_second) = (app.key(&first.api_key), app.key(&second.api_key));
                let ben = app.verified_account(&format!("ben{number}@example.com")).await;
                let by_maker = if maker == "key" { &by_first } else { &session };
                let by_sender = if sender == "key" { &by_second } else { &session };
                let before = invite(app, by_maker, &ann.org_id, &ben.email, "member").await;
                let link = resend(app, by_sender, &ann.org_id, &ben.email).await;
                accept(app, &ben, &before).await.assert_error(404, "NOT_FOUND");
                let ended = if ends == "maker" { &first } else { &second };
                let path = organization_path(&ann.org_id, &format!("/api-keys/{}", ended.key_id));
                session.delete(&path).await.assert_status(200);
                let is_open = ends == "maker" && maker == "session";
                let answer = accept(app, &ben, &link).await;
                assert_eq!(answer.status, if is_open { 200 } else { 404 }, "{case}");
            }
        }
        // What a key sent is worth nothing once it was sent again: that key's end ends nothing.
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let ben = app.verified_account("ben@example.com").await;
        invite(app, &session, &ann.org_id, &ben.email, "member").await;
        resend(app, &app.key(&key.api_key), &ann.org_id, &ben.email).await;
        let link = resend(app, &session, &ann.org_id, &ben.email).await;
        let path = organization_path(&ann.org_id, &format!("/api-keys/{}", key.key_id));
        session.delete(&path).await.assert_status(200);
        accept(app, &ben, &link).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn who_joined_by_an_invitation_that_a_key_sent_again_is_named_when_that_key_ends() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        invite(app, &app.session(&ann.cookie), &ann.org_id, &ben.email, "member").await;
        let link = resend(app, &app.key(&key.api_key), &ann.org_id, &ben.email).await;
        accept(app, &ben, &link).await.assert_status(200);
        let expected = vec![(membership_id(app, &ben, &ann.org_id).await, "member".to_owned())];
        let revoked = app.key(&key.api_key).post("/v1/admin/key/revoke", json!({})).await;
        assert_eq!(membership_roles(&revoked.assert_status(200).body["memberships"]), expected);
        let ended =
            force_change(app, "force-revoke", &ann.org_id, "evt_1").await.assert_status(200);
        assert_eq!(membership_roles(&ended.body["memberships"]), expected);
    })
    .await;
}

#[tokio::test]
async fn regenerating_the_default_key_ends_what_it_invited() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let session = app.session(&ann.cookie);
        let made = session.post("/auth/api-key/regenerate", json!({})).await.assert_status(200);
        let by_key = app.key(&text(&made.body["data"]["api_key"]));
        let open = invite(app, &by_key, &ann.org_id, &ben.email, "owner").await;
        session.post("/auth/api-key/regenerate", json!({})).await.assert_status(200);
        accept(app, &ben, &open).await.assert_error(404, "NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_invitation_that_a_key_makes_at_the_same_moment_stays_open() {
    run(async |app| {
        let acme = app.sign_up().await;
        for round in 0..3 {
            // The first of them has been written when the key is revoked.
            let mut lock = TableLock::before_commit(app.superuser().await, "invites").await;
            let key = app.mint(&acme.api_key, json!({ "name": format!("k{round}") })).await;
            let mut inviting = tokio::task::JoinSet::new();
            for number in 0..8 {
                let by = app.key(&key.api_key);
                let path = organization_path(&acme.org_id, "/invites");
                let email = format!("person{number}.of{round}@example.com");
                inviting.spawn(async move {
                    let request = json!({ "email": email, "role": "member" });
                    by.post(&path, request).await.status.as_u16()
                });
            }
            let path = format!("/v1/organization/api-keys/{}", key.key_id);
            assert_eq!(lock.blocked_statement().await, "COMMIT");
            let owner = app.key(&acme.api_key);
            let revoking = tokio::spawn(async move { owner.delete(&path).await });
            app.wait_for_lock_waiters(2).await;
            lock.release().await;
            revoking.await.unwrap().assert_status(200);
            let statuses = inviting.join_all().await;
            assert!(statuses.contains(&201), "{statuses:?}");
            assert!(statuses.iter().all(|it| [201, 401, 403].contains(it)), "{statuses:?}");
            let open = "select count(*) from invites where revoked_at is null";
            assert_eq!(app.count(open).await, 0, "{statuses:?}");
        }
    })
    .await;
}

/// Of what was invited before the database knew of it, by what the audit log says.
#[tokio::test]
async fn the_migration_finds_out_which_key_invited_and_which_membership_began_by_it() {
    run(async |app| {
        let tick = || app.clock.advance(chrono::TimeDelta::milliseconds(1));
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let pinned = json!({ "name": "t", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (token, _) = app.create_token(&ann.cookie, pinned).await;
        tick();
        let joins = invite(app, &app.key(&key.api_key), &ann.org_id, &ben.email, "member").await;
        tick();
        accept(app, &ben, &joins).await.assert_status(200);
        for (number, by) in
            [app.key(&key.api_key), app.session(&ann.cookie), app.key(&token)].iter().enumerate()
        {
            tick();
            invite(app, by, &ann.org_id, &format!("person{number}@example.com"), "member").await;
        }
        let known = async || -> Vec<(String, Option<uuid::Uuid>, Option<uuid::Uuid>)> {
            let known = "select email, key_id, joined_user_id from invites order by email";
            sqlx::query_as(known).fetch_all(&mut app.sql().await).await.unwrap()
        };
        let before = known().await;
        let by_keys = before.iter().filter(|(_, key, _)| key.is_some()).count();
        let joined = before.iter().filter(|(.., joined)| joined.is_some()).count();
        assert_eq!((before.len(), by_keys, joined), (4, 2, 1), "{before:?}");
        app.execute("update invites set key_id = null, joined_user_id = null").await;
        for backfill in [
            include_str!("../../migrations/0033_keys_of_invites.sql"),
            include_str!("../../migrations/0034_joined_by_invites.sql"),
        ] {
            sqlx::raw_sql(backfill).execute(&mut app.sql().await).await.unwrap();
        }
        assert_eq!(known().await, before);
    })
    .await;
}
