//! `/api/user/organizations/{organizationId}/members`

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

fn path(owner: &TestAccount, rest: &str) -> String {
    format!("/api/user/organizations/{}{rest}", owner.org_id)
}

async fn change(
    app: &TestApp,
    by: &TestAccount,
    owner: &TestAccount,
    membership: &str,
    role: &str,
) -> TestResponse {
    let path = path(owner, &format!("/members/{membership}/role"));
    app.session(&by.cookie).put(&path, json!({ "role": role })).await
}

async fn remove(
    app: &TestApp,
    by: &TestAccount,
    owner: &TestAccount,
    membership: &str,
) -> TestResponse {
    app.session(&by.cookie).delete(&path(owner, &format!("/members/{membership}"))).await
}

async fn membership_id(app: &TestApp, account: &TestAccount, owner: &TestAccount) -> String {
    let own = app.session(&account.cookie).get(&path(owner, "/my-membership")).await;
    own.assert_status(200).body["data"]["id"].as_str().unwrap().to_owned()
}

/// Ann owns an organization, in which Ben and Cleo have these roles.
async fn three_members(app: &TestApp, ben: &str, cleo: &str) -> ([TestAccount; 3], [String; 3]) {
    let a = app.verified_account("ann@example.com").await;
    let b = app.verified_account("ben@example.com").await;
    let c = app.verified_account("cleo@example.com").await;
    let memberships = [
        membership_id(app, &a, &a).await,
        app.invite_and_accept(&a, &b, ben).await,
        app.invite_and_accept(&a, &c, cleo).await,
    ];
    ([a, b, c], memberships)
}

#[tokio::test]
async fn members_are_listed_with_their_roles() {
    run(async |app| {
        let ([ann, ben, _], _) = three_members(app, "admin", "member").await;
        let list = app.session(&ben.cookie).get(&path(&ann, "/members")).await.assert_status(200);
        let roles: Vec<_> =
            list.body["data"].as_array().unwrap().iter().map(|it| it["role"].clone()).collect();
        assert_eq!(list.body["meta"]["total"], 3);
        for role in ["owner", "admin", "member"] {
            assert!(roles.contains(&json!(role)), "{roles:?}");
        }
        let rows = app.session(&ben.cookie).get(&path(&ann, "/members?q=CLEO@")).await;
        assert_eq!(rows.assert_status(200).body["data"][0]["email"], "cleo@example.com");
    })
    .await;
}

#[tokio::test]
async fn an_unclaimed_membership_is_listed_without_an_account() {
    run(async |app| {
        let acme = app.sign_up().await;
        let path = format!("/api/user/organizations/{}/members", acme.org_id);
        let list = app.key(&acme.api_key).get(&path).await.assert_status(200);
        assert_eq!(list.body["data"][0]["id"], acme.user_id);
        assert_eq!(list.body["data"][0]["accountId"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn admins_change_members_and_admins_and_only_owners_change_owners() {
    run(async |app| {
        let ([ann, ben, cleo], [of_ann, of_ben, of_cleo]) =
            three_members(app, "admin", "member").await;
        change(app, &ben, &ann, &of_cleo, "admin").await.assert_status(200);
        change(app, &cleo, &ann, &of_ben, "member").await.assert_status(200);
        // The new role applies from the next request on.
        let rejected = change(app, &ben, &ann, &of_cleo, "member").await;
        let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        assert_eq!(rejected.body["meta"]["required_role"], "admin");
        for (membership, role) in [(&of_ann, "member"), (&of_cleo, "owner")] {
            let rejected = change(app, &cleo, &ann, membership, role).await;
            let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(rejected.body["meta"]["required_role"], "owner");
        }
        remove(app, &cleo, &ann, &of_ann).await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        change(app, &ann, &ann, &of_cleo, "owner").await.assert_status(200);
        change(app, &cleo, &ann, &of_ann, "admin").await.assert_status(200);
    })
    .await;
}

/// Scopes alone do not let a key create owners. Otherwise an admin could become an owner with a key
/// of their own.
#[tokio::test]
async fn a_key_can_create_owners_only_if_an_owner_created_it() {
    run(async |app| {
        let ([ann, ben, _], [of_ann, of_ben, _]) = three_members(app, "admin", "member").await;
        let all = json!({ "name": "of ben", "scopes": ["*"] });
        let keys = path(&ann, "/api-keys");
        let of_admin = app.session(&ben.cookie).post(&keys, all).await.assert_status(201);
        let of_owner = app.create_key(&ann, json!({ "name": "of ann", "scopes": ["*"] })).await;
        // An owner's key that an admin has rotated is the admin's.
        let rotate = path(&ann, &format!("/api-keys/{}/rotate", of_owner.key_id));
        let request = json!({ "gracePeriod": 3600 });
        let rotated = app.session(&ben.cookie).post(&rotate, request).await.assert_status(200);
        let owner = json!({ "role": "owner" });
        let up = path(&ann, &format!("/members/{of_ben}/role"));
        for response in [of_admin, rotated] {
            let key = app.key(response.body["data"]["key"].as_str().unwrap());
            let rejected = key.put(&up, owner.clone()).await;
            rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            let invite = json!({ "email": "mal@example.com", "role": "owner" });
            let rejected = key.post(&path(&ann, "/invites"), invite).await;
            rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            let rejected = key.delete(&path(&ann, &format!("/members/{of_ann}"))).await;
            rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        }
        app.key(&of_owner.api_key).put(&up, owner).await.assert_status(200);
    })
    .await;
}

/// An admin knows the text of an owner's key, which has too few scopes, is disabled, expires soon
/// or is restricted to other addresses. After any change by the admin it cannot create owners.
#[tokio::test]
async fn a_key_that_an_admin_changed_cannot_create_owners() {
    run(async |app| {
        let ([ann, ben, _], [of_ann, of_ben, _]) = three_members(app, "admin", "member").await;
        let admin = json!({ "name": "of ben", "scopes": ["*"] });
        let admin = app.session(&ben.cookie).post(&path(&ann, "/api-keys"), admin).await;
        let admin = app.key(admin.assert_status(201).body["data"]["key"].as_str().unwrap());
        let (soon, late) = ("2036-06-01T00:00:00Z", "2037-06-01T00:00:00Z");
        let variants = [
            (json!({ "scopes": ["projects:read"] }), json!({ "scopes": ["*"] })),
            (json!({ "scopes": ["*"], "enabled": false }), json!({ "enabled": true })),
            (json!({ "scopes": ["*"], "allowedIps": ["10.0.0.0/8"] }), json!({ "allowedIps": [] })),
            (json!({ "scopes": ["*"], "expiresAt": soon }), json!({ "expiresAt": late })),
            (json!({ "scopes": ["*"] }), json!({ "metadata": { "team": "ops" } })),
        ];
        let mut created = Vec::new();
        for (number, (mut request, change)) in variants.into_iter().enumerate() {
            request["name"] = json!(format!("ci {number}"));
            for by_key in [false, true] {
                request["name"] = json!(format!("ci {number} {by_key}"));
                // A key cannot be created disabled, so that is a second step.
                let off = request.as_object_mut().unwrap().remove("enabled");
                let key = app.create_key(&ann, request.clone()).await;
                let keys = path(&ann, &format!("/api-keys/{}", key.key_id));
                if let Some(off) = off {
                    let off = json!({ "enabled": off });
                    app.session(&ann.cookie).put(&keys, off).await.assert_status(200);
                    request["enabled"] = json!(false);
                }
                if by_key {
                    let path = format!("/v1/organization/api-keys/{}", key.key_id);
                    let change = change.to_string().replace("expiresAt", "expires_at");
                    let change = change.replace("allowedIps", "allowed_ips");
                    let change = serde_json::from_str(&change).unwrap();
                    admin.patch(&path, change).await.assert_status(200);
                } else {
                    app.session(&ben.cookie).put(&keys, change.clone()).await.assert_status(200);
                }
                created.push(key.api_key);
            }
        }
        let up = path(&ann, &format!("/members/{of_ben}/role"));
        for key in created {
            let key = app.key(&key);
            let rejected = key.put(&up, json!({ "role": "owner" })).await;
            let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(rejected.body["meta"]["required_role"], "owner");
            let down = key.delete(&path(&ann, &format!("/members/{of_ann}"))).await;
            down.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        }
        let events = "select count(*) from audit_events where detail ? 'taken_from_owner_by'";
        assert_eq!(app.count(events).await, 10);
    })
    .await;
}

/// When an owner changes or rotates an admin's key, the known text gains no rights.
#[tokio::test]
async fn an_admin_s_key_that_an_owner_changed_cannot_create_owners() {
    run(async |app| {
        let ([ann, ben, _], [_, of_ben, _]) = three_members(app, "admin", "member").await;
        let all = json!({ "name": "of ben", "scopes": ["*"] });
        let created = app.session(&ben.cookie).post(&path(&ann, "/api-keys"), all).await;
        let created = created.assert_status(201).body["data"].clone();
        let (id, old) =
            (created["id"].as_str().unwrap(), app.key(created["key"].as_str().unwrap()));
        let (key, owner) = (path(&ann, &format!("/api-keys/{id}")), app.session(&ann.cookie));
        let up = path(&ann, &format!("/members/{of_ben}/role"));
        owner.put(&key, json!({ "name": "renamed" })).await.assert_status(200);
        let role = json!({ "role": "owner" });
        old.put(&up, role.clone()).await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        // The rotation shows a new text to the owner only: that key is the owner's.
        let grace = json!({ "gracePeriod": 3600 });
        let new = owner.post(&format!("{key}/rotate"), grace).await.assert_status(200);
        old.put(&up, role.clone()).await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        let new = app.key(new.body["data"]["key"].as_str().unwrap());
        new.put(&up, role).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn losing_a_role_revokes_the_invitations_that_required_it() {
    run(async |app| {
        let ([ann, ben, cleo], [_, of_ben, of_cleo]) = three_members(app, "owner", "admin").await;
        let invite = async |by: &TestAccount, email: &str, role: &str| {
            let request = json!({ "email": email, "role": role });
            app.session(&by.cookie).post(&path(&ann, "/invites"), request).await.assert_status(201);
        };
        let open = "select count(*) from invites where accepted_at is null and revoked_at is null";
        invite(&ben, "owner@example.com", "owner").await;
        invite(&ben, "member@example.com", "member").await;
        invite(&cleo, "friend@example.com", "admin").await;
        change(app, &ann, &ann, &of_ben, "admin").await.assert_status(200);
        assert_eq!(app.count(open).await, 2);
        change(app, &ann, &ann, &of_ben, "member").await.assert_status(200);
        assert_eq!(app.count(open).await, 1);
        remove(app, &ann, &ann, &of_cleo).await.assert_status(200);
        assert_eq!(app.count(open).await, 0);
        app.mails().await;
    })
    .await;
}

#[tokio::test]
async fn the_last_owner_can_neither_leave_nor_lose_the_role() {
    run(async |app| {
        let ([ann, _, _], [of_ann, of_ben, _]) = three_members(app, "admin", "member").await;
        change(app, &ann, &ann, &of_ann, "admin").await.assert_error(409, "CONFLICT");
        remove(app, &ann, &ann, &of_ann).await.assert_error(409, "CONFLICT");
        change(app, &ann, &ann, &of_ben, "owner").await.assert_status(200);
        remove(app, &ann, &ann, &of_ann).await.assert_status(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_owner_stays_when_owners_remove_each_other_concurrently() {
    run(async |app| {
        let ([ann, ben, cleo], memberships) = three_members(app, "owner", "owner").await;
        let mut attempts = tokio::task::JoinSet::new();
        for account in [&ann, &ben, &cleo] {
            for membership in &memberships {
                let session = app.session(&account.cookie);
                let path = path(&ann, &format!("/members/{membership}"));
                attempts.spawn(async move { session.delete(&path).await.status.as_u16() });
            }
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
        assert!(statuses.iter().all(|it| [200, 403, 404, 409].contains(it)), "{statuses:?}");
        let owners = "select count(*) from users u join organizations o on o.id = u.organization_id
                      join accounts a on a.home_organization_id = o.id
                      where a.email = 'ann@example.com' and u.role = 'owner'
                        and u.removed_at is null";
        assert_eq!(app.count(owners).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_removed_member_s_sessions_and_tokens_lose_access() {
    run(async |app| {
        let ([ann, ben, _], [_, of_ben, _]) = three_members(app, "admin", "member").await;
        let token = json!({ "name": "ci", "scopes": ["*"] });
        let (unpinned, _) = app.create_token(&ben.cookie, token).await;
        let pinned = json!({ "name": "ci", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ben.cookie, pinned).await;
        let clients = [app.session(&ben.cookie), app.key(&unpinned), app.key(&pinned)];
        for client in &clients {
            client.get(&path(&ann, "/members")).await.assert_status(200);
        }
        remove(app, &ann, &ann, &of_ben).await.assert_status(200);
        for client in &clients {
            client.get(&path(&ann, "/members")).await.assert_error(403, "FORBIDDEN");
        }
        app.key(&pinned).get("/me").await.assert_error(403, "forbidden");
        remove(app, &ann, &ann, &of_ben).await.assert_error(404, "NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn every_member_may_leave_and_a_plain_member_may_not_remove_others() {
    run(async |app| {
        let ([ann, _, cleo], [_, of_ben, of_cleo]) = three_members(app, "admin", "member").await;
        let rejected = remove(app, &cleo, &ann, &of_ben).await;
        rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        remove(app, &cleo, &ann, &of_cleo).await.assert_status(200);
        app.session(&cleo.cookie).get(&path(&ann, "")).await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_role_or_unknown_membership_is_rejected() {
    run(async |app| {
        let ([ann, ben, _], [_, of_ben, _]) = three_members(app, "admin", "member").await;
        for role in ["", "member,owner", "root", "Owner"] {
            let response = change(app, &ann, &ann, &of_ben, role).await;
            assert_eq!(response.assert_status(400).invalid_fields(), ["role"], "{role:?}");
        }
        let elsewhere = membership_id(app, &ben, &ben).await;
        for membership in [elsewhere.as_str(), "user_0000000000000000", "acc_1", "%00"] {
            change(app, &ann, &ann, membership, "admin").await.assert_error(404, "NOT_FOUND");
            remove(app, &ann, &ann, membership).await.assert_error(404, "NOT_FOUND");
        }
    })
    .await;
}
