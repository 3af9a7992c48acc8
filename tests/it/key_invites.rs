//! Invitations that were created with an API key: they are revoked with the key, and the response
//! lists memberships that joined through them.

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::locks::TableLock;
use crate::support::{TestApp, run};

fn organization_path(org_id: &str, rest: &str) -> String {
    format!("/api/user/organizations/{org_id}{rest}")
}

/// Creates an invitation with any credential; returns the token of the mailed link.
async fn invite(app: &TestApp, by: &TestClient, org_id: &str, email: &str, role: &str) -> String {
    let request = json!({ "email": email, "role": role });
    by.post(&organization_path(org_id, "/invites"), request).await.assert_status(201);
    app.mailed_token().await
}

async fn accept(app: &TestApp, account: &TestAccount, token: &str) -> TestResponse {
    let path = format!("/api/user/invites/{token}/accept");
    app.session(&account.cookie).post(&path, json!({})).await
}

/// The id of an account's membership.
async fn membership_id(app: &TestApp, account: &TestAccount, org_id: &str) -> String {
    let own = app.session(&account.cookie).get(&organization_path(org_id, "/my-membership")).await;
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
    let memberships = memberships.iter();
    let mut roles: Vec<_> =
        memberships.map(|it| (text(&it["user_id"]), text(&it["role"]))).collect();
    roles.sort();
    roles
}

/// A thief invites an account of their own with a stolen key, and accepts after the operator has
/// ended the key.
#[tokio::test]
async fn invitations_by_stolen_keys_are_revoked_when_the_operator_revokes_the_keys() {
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

/// Invitations of keys that were rotated or had expired before.
#[tokio::test]
async fn force_revoke_also_revokes_invitations_by_keys_that_ended_before() {
    run(async |app| {
        let acme = app.sign_up().await;
        let own = app.key(&acme.api_key);
        let mut links = Vec::new();
        for number in 0..2 {
            let account = app.verified_account(&format!("person{number}@example.com")).await;
            let key =
                app.create_key_with(&acme.api_key, json!({ "name": format!("k{number}") })).await;
            let by = app.key(&key.api_key);
            links.push((invite(app, &by, &acme.org_id, &account.email, "admin").await, account));
            if number == 0 {
                by.post("/v1/admin/key/rotate", json!({})).await.assert_status(200);
            } else {
                app.execute("update api_keys set expires_at = now() where name = 'k1'").await;
            }
        }
        own.get("/me").await.assert_status(200);
        force_change(app, "force-revoke", &acme.org_id, "evt_1").await.assert_status(200);
        for (link, account) in &links {
            accept(app, account, link).await.assert_error(404, "NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn a_forced_rotation_lists_memberships_invited_by_keys_and_keeps_invitations_by_sessions() {
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
        // A membership that joined through a key and was removed since is not listed.
        let leaving = invite(app, &by_key, &ann.org_id, &eve.email, "member").await;
        accept(app, &eve, &leaving).await.assert_status(200);
        let member_path = organization_path(
            &ann.org_id,
            &format!("/members/{}", membership_id(app, &eve, &ann.org_id).await),
        );
        app.session(&eve.cookie).delete(&member_path).await.assert_status(200);
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
        // The listed memberships are not removed.
        membership_id(app, &ben, &ann.org_id).await;
        accept(app, &dan, &open).await.assert_status(200);
        let recorded =
            "select count(*) from audit_events where event_type = 'api_keys.force_revoked'
                     and jsonb_array_length(detail->'memberships') = 1
                     and (detail->>'invitations')::int = 0";
        assert_eq!(app.count(recorded).await, 1);
    })
    .await;
}

#[tokio::test]
async fn revoking_a_key_in_any_family_revokes_its_invitations_and_records_who_joined() {
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
            let membership = membership_id(app, &ben, &ann.org_id).await;
            let open = invite(app, &by_key, &ann.org_id, "thief@example.com", "owner").await;
            let thief = format!("thief{number}@example.com");
            let memberships = match *family {
                "organization" => {
                    let path = format!("/v1/organization/api-keys/{}", key.key_id);
                    let response = by_other.delete(&path).await.assert_status(200);
                    // A repeated revocation lists them again.
                    let again = by_other.delete(&path).await.assert_status(200);
                    assert_eq!(again.body["memberships"], response.body["memberships"]);
                    response.body["memberships"].clone()
                }
                "user" => {
                    let path = organization_path(&ann.org_id, &format!("/api-keys/{}", key.key_id));
                    let response = app.session(&ann.cookie).delete(&path).await.assert_status(200);
                    let found = &response.body["data"]["memberships"];
                    json!([{ "user_id": found[0]["userId"], "role": found[0]["role"] }])
                }
                "operator" => {
                    let response = by_key.post("/v1/admin/key/revoke", json!({})).await;
                    response.assert_status(200).body["memberships"].clone()
                }
                _ => {
                    let path = format!("/me/api-keys/{}", key.key_id);
                    by_other.delete(&path).await.assert_status(204);
                    json!([{ "user_id": membership, "role": "member" }])
                }
            };
            assert_eq!(
                membership_roles(&memberships),
                [(membership.clone(), "member".to_owned())],
                "{family}"
            );
            let mallory = app.verified_account(&thief).await;
            accept(app, &mallory, &open).await.assert_error(404, "NOT_FOUND");
            let member_path = organization_path(&ann.org_id, &format!("/members/{membership}"));
            app.session(&ann.cookie).delete(&member_path).await.assert_status(200);
        }
        let account = app.verified_account("stays@example.com").await;
        accept(app, &account, &stays).await.assert_status(200);
        let recorded = "select count(*) from audit_events where event_type = 'api_key.revoked'
                     and (detail->>'invitations')::int = 1
                     and jsonb_array_length(detail->'memberships') = 1";
        assert_eq!(app.count(recorded).await, 4);
    })
    .await;
}

/// Invitations of a rotated key stay open until its successor is revoked.
#[tokio::test]
async fn revoking_a_key_revokes_the_invitations_of_its_predecessor() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let first = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
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

/// Resends an invitation with any credential; returns the token of the mailed link.
async fn resend(app: &TestApp, by: &TestClient, org_id: &str, email: &str) -> String {
    let list =
        by.get(&organization_path(org_id, &format!("/invites?q={email}"))).await.assert_status(200);
    let id = text(&list.body["data"][0]["id"]);
    let path = organization_path(org_id, &format!("/invites/{id}/resend"));
    by.post(&path, json!({})).await.assert_status(200);
    app.mailed_token().await
}

/// The creator chose the address and the resender caused the mail: either key may be stolen.
#[tokio::test]
async fn an_invitation_is_revoked_with_the_key_that_created_it_or_last_resent_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let mut number = 0;
        for creator in ["key", "session"] {
            for (sender, revoked) in [("key", "first"), ("key", "second"), ("session", "first")] {
                number += 1;
                let case = format!("{creator} created, {sender} resent, {revoked} key revoked");
                let key = async |name: &str| {
                    let name = format!("{name}{number}");
                    app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await
                };
                let (first, second) = (key("first").await, key("second").await);
                let (by_first, by_second) = (app.key(&first.api_key), app.key(&second.api_key));
                let ben = app.verified_account(&format!("ben{number}@example.com")).await;
                // The first key creates invitations, and the second one resends them.
                let by_creator = if creator == "key" { &by_first } else { &session };
                let by_sender = if sender == "key" { &by_second } else { &session };
                let before = invite(app, by_creator, &ann.org_id, &ben.email, "member").await;
                let link = resend(app, by_sender, &ann.org_id, &ben.email).await;
                accept(app, &ben, &before).await.assert_error(404, "NOT_FOUND");
                let key = if revoked == "first" { &first } else { &second };
                let path = organization_path(&ann.org_id, &format!("/api-keys/{}", key.key_id));
                session.delete(&path).await.assert_status(200);
                // Control case: a session, not the first key, created the invitation.
                let is_open = revoked == "first" && creator == "session";
                let response = accept(app, &ben, &link).await;
                assert_eq!(response.status, if is_open { 200 } else { 404 }, "{case}");
            }
        }
        // After another resend, revoking a key that resent the invitation before has no effect.
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
async fn a_membership_is_listed_when_the_key_that_resent_its_invitation_is_revoked() {
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
async fn regenerating_the_default_key_revokes_its_invitations() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let session = app.session(&ann.cookie);
        let created = session.post("/auth/api-key/regenerate", json!({})).await.assert_status(200);
        let by_key = app.key(&text(&created.body["data"]["api_key"]));
        let open = invite(app, &by_key, &ann.org_id, &ben.email, "owner").await;
        session.post("/auth/api-key/regenerate", json!({})).await.assert_status(200);
        accept(app, &ben, &open).await.assert_error(404, "NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_invitation_created_while_its_key_is_revoked_stays_open() {
    run(async |app| {
        let acme = app.sign_up().await;
        for round in 0..3 {
            // The first invitation has been written when the key is revoked.
            let mut lock = TableLock::before_commit(app.superuser().await, "invites").await;
            let key =
                app.create_key_with(&acme.api_key, json!({ "name": format!("k{round}") })).await;
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

/// For invitations from before the columns `key_id` and `joined_user_id`: the migrations take the
/// values from the audit log.
#[tokio::test]
async fn the_migrations_backfill_the_inviting_key_and_the_joined_membership() {
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
            sqlx::query_as(known).fetch_all(&mut app.connect().await).await.unwrap()
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
            sqlx::raw_sql(backfill).execute(&mut app.connect().await).await.unwrap();
        }
        assert_eq!(known().await, before);
    })
    .await;
}
