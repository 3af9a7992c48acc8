//! How many keys and memberships a plan allows, on every route; for projects see
//! `user::projects`.

use serde_json::{Value, json};

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::app::{TestSettings, text};
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, with_settings};

/// A server whose trial plan has these limits.
fn with_small_plan(limits: &Value) -> TestSettings {
    with_settings(&[("PLANS", &json!({ "trial": limits }).to_string())])
}

fn keys_path(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/api-keys")
}

fn invites_path(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/invites")
}

/// Sends 20 requests at once that all need the last free slot of a limit. `lock` blocks writes to a
/// table until at least three of them wait for a lock. Returns the successful and the rejected
/// responses.
async fn send_at_once(
    app: &TestApp,
    lock: &'static str,
    requests: Vec<(TestClient, String, Value)>,
) -> (Vec<TestResponse>, Vec<TestResponse>) {
    assert_eq!(requests.len(), 20);
    let mut connection = app.connect().await;
    sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (client, path, body) in requests {
        tasks.spawn(async move { client.post(&path, body).await });
    }
    app.wait_for_lock_waiters(3).await;
    drop(connection);
    tasks.join_all().await.into_iter().partition(|response| response.status.is_success())
}

/// Other transactions can still read and lock rows, but cannot write them.
const KEYS_LOCK: &str = "begin; lock table api_keys in share row exclusive mode";
const MEMBERSHIPS_LOCK: &str = "begin; lock table users in share row exclusive mode";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_requests_for_the_last_key_on_all_routes_succeeds() {
    with_small_plan(&json!({ "keys": 8 }))
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            // Requests of one credential run one after the other, so there are several credentials.
            let mut clients = vec![app.session(&ann.cookie)];
            for number in 0..7 {
                let request = json!({ "name": format!("k{number}"), "scopes": ["*"] });
                clients.push(app.key(&app.create_key(&ann, request).await.api_key));
            }
            let paths = ["/me/api-keys", &keys_path(&ann.org_id), "/v1/organization/api-keys"];
            let requests = (0..20).map(|number: usize| {
                // The automation routes accept no session.
                let index = if number % 3 == 2 { 1 + number % 7 } else { number % 8 };
                let body = json!({ "name": format!("last {number}"), "scopes": ["user:read"] });
                (clients[index].clone(), paths[number % 3].to_owned(), body)
            });
            let (created, rejected) = send_at_once(app, KEYS_LOCK, requests.collect()).await;
            assert_eq!((created.len(), rejected.len()), (1, 19));
            for response in &rejected {
                let code = match response.family.as_str() {
                    "user" => "PLAN_LIMIT_REACHED",
                    _ => "plan_limit_reached",
                };
                assert_eq!(response.clone().assert_error(403, code).plan_limit(), ("keys", 8, 8));
            }
            let families: std::collections::BTreeSet<_> =
                rejected.iter().map(|response| response.family.as_str()).collect();
            assert_eq!(families.len(), 3);
            assert_eq!(app.count("select count(*) from api_keys").await, 8);
        })
        .await;
}

#[tokio::test]
async fn expired_revoked_and_superseded_keys_do_not_count_and_disabled_ones_do() {
    with_small_plan(&json!({ "keys": 3 }))
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            let other = app.create_key_with(&acme.api_key, json!({ "name": "other" })).await;
            let third = app.create_key_with(&acme.api_key, json!({ "name": "third" })).await;
            let create_key = async || client.post("/me/api-keys", json!({})).await;
            let is_full = async || {
                let rejected = create_key().await.assert_error(403, "plan_limit_reached");
                assert_eq!(rejected.plan_limit(), ("keys", 3, 3));
            };
            is_full().await;
            let path = |id: &str| format!("/v1/organization/api-keys/{id}");
            let disabled = json!({ "enabled": false });
            client.patch(&path(&other.key_id), disabled).await.assert_status(200);
            is_full().await;
            // A superseded key does not count during its grace period.
            let rotate = format!("{}/rotate", path(&third.key_id));
            let rotated = client.post(&rotate, json!({ "grace_period": 3600 })).await;
            let rotated = text(&rotated.assert_status(200).body["id"]);
            app.key(&third.api_key).get("/me").await.assert_status(200);
            is_full().await;
            // A revoked key does not count.
            client.delete(&path(&rotated)).await.assert_status(200);
            create_key().await.assert_status(201);
            is_full().await;
            app.execute("update api_keys set expires_at = now() where not enabled").await;
            create_key().await.assert_status(201);
            is_full().await;
        })
        .await;
}

#[tokio::test]
async fn a_key_can_be_replaced_when_the_limit_is_reached() {
    with_small_plan(&json!({ "keys": 1 }))
        .run(async |app| {
            let request = json!({ "email": "dev@example.com", "password": PASSWORD });
            let created = app.anonymous().post("/auth/signup", request).await.assert_status(201);
            let session = app.bearer(&text(&created.body["data"]["token"]));
            let regenerate = "/auth/api-key/regenerate";
            let regenerated = session.post(regenerate, json!({})).await.assert_status(200);
            let new_key = app.key(&text(&regenerated.body["data"]["api_key"]));
            let rotated = new_key.post("/v1/admin/key/rotate", json!({})).await.assert_status(200);
            let new_key = app.key(&text(&rotated.body["new_api_key"]));
            let org_id = text(&new_key.get("/me").await.assert_status(200).body["org_id"]);
            for (scope, path) in [
                ("ORG_FORCE_ROTATE", format!("/v1/admin/org/{org_id}/force-rotate")),
                ("BILLING_ROTATE", format!("/v1/admin/billing/org/{org_id}/rotate")),
            ] {
                let body = match scope {
                    "ORG_FORCE_ROTATE" => {
                        json!({ "confirm_org_id": org_id, "idempotency_key": scope })
                    }
                    _ => json!({}),
                };
                app.master_with_idempotency_key(scope, scope)
                    .post(&path, body)
                    .await
                    .assert_status(200);
            }
            let live = "select count(*) from api_keys where revoked_at is null
                          and superseded_at is null";
            assert_eq!(app.count(live).await, 1);
            // The default key was revoked, so there is no key to replace.
            let rejected = session.post(regenerate, json!({})).await;
            let rejected = rejected.assert_error(403, "USAGE_LIMIT_EXCEEDED");
            assert_eq!(rejected.plan_limit(), ("keys", 1, 1));
        })
        .await;
}

#[tokio::test]
async fn above_a_lowered_limit_existing_keys_and_members_work_and_new_ones_are_rejected() {
    with_small_plan(&json!({ "keys": 1, "seats": 1 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            app.execute("update organizations set plan = 'enterprise'").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "admin").await;
            let request = |name: &str| json!({ "name": name, "scopes": ["*"] });
            let keys = [
                app.create_key(&ann, request("a")).await.api_key,
                app.create_key(&ann, request("b")).await.api_key,
            ];
            app.execute("update organizations set plan = 'trial'").await;
            for key in &keys {
                app.key(key).get("/me").await.assert_status(200);
            }
            let session = app.session(&ben.cookie);
            let rejected = session.post(&keys_path(&ann.org_id), request("c")).await;
            let rejected = rejected.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(rejected.plan_limit(), ("keys", 1, 2));
            let invite = json!({ "email": "cleo@example.com", "role": "member" });
            let rejected = session.post(&invites_path(&ann.org_id), invite).await;
            let rejected = rejected.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(rejected.plan_limit(), ("seats", 1, 2));
        })
        .await;
}

/// Invites each account; returns the paths that accept the invitations.
async fn invite_all(app: &TestApp, owner: &TestAccount, people: &[TestAccount]) -> Vec<String> {
    let mut links = Vec::new();
    for person in people {
        let invite = json!({ "email": person.email, "role": "member" });
        let session = app.session(&owner.cookie);
        session.post(&invites_path(&owner.org_id), invite).await.assert_status(201);
        links.push(format!("/api/user/invites/{}/accept", app.mailed_token().await));
    }
    links
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_acceptances_for_the_last_membership_succeeds() {
    with_small_plan(&json!({ "seats": 2 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let mut people = Vec::new();
            for number in 0..20 {
                people.push(app.verified_account(&format!("p{number}@example.com")).await);
            }
            let links = invite_all(app, &ann, &people).await;
            let requests = people
                .iter()
                .zip(&links)
                .map(|(person, link)| (app.session(&person.cookie), link.clone(), json!({})));
            let (joined, rejected) = send_at_once(app, MEMBERSHIPS_LOCK, requests.collect()).await;
            assert_eq!((joined.len(), rejected.len()), (1, 19));
            for response in rejected {
                let response = response.assert_error(403, "PLAN_LIMIT_REACHED");
                assert_eq!(response.plan_limit(), ("seats", 2, 2));
            }
            // The rejected invitations stay valid. No new one is sent while the limit is reached.
            let invite = json!({ "email": "late@example.com", "role": "member" });
            let early = app.session(&ann.cookie).post(&invites_path(&ann.org_id), invite).await;
            let early = early.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(early.plan_limit(), ("seats", 2, 2));
            app.execute("update organizations set plan = 'enterprise'").await;
            let mut accepted = 0;
            for (person, link) in people.iter().zip(&links) {
                let response = app.session(&person.cookie).post(link, json!({})).await;
                accepted += usize::from(response.status.is_success());
            }
            assert_eq!(accepted, 19);
        })
        .await;
}

#[tokio::test]
async fn claiming_an_unclaimed_membership_adds_none_to_the_plan_s_count() {
    with_small_plan(&json!({ "seats": 1 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let acme = app.sign_up().await;
            let invite = async |role: &str| {
                let request = json!({ "email": ann.email, "role": role });
                app.key(&acme.api_key).post(&invites_path(&acme.org_id), request).await
            };
            let rejected = invite("member").await.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(rejected.plan_limit(), ("seats", 1, 1));
            invite("owner").await.assert_status(201);
            let link = format!("/api/user/invites/{}/accept", app.mailed_token().await);
            app.session(&ann.cookie).post(&link, json!({})).await.assert_status(200);
            let rejected = invite("owner").await.assert_error(409, "CONFLICT");
            assert_eq!(rejected.body["message"], "This person is a member already");
            let other = json!({ "email": "ben@example.com", "role": "owner" });
            let rejected = app.session(&ann.cookie).post(&invites_path(&acme.org_id), other).await;
            rejected.assert_error(403, "PLAN_LIMIT_REACHED");
        })
        .await;
}

#[tokio::test]
async fn a_removed_membership_does_not_count() {
    with_small_plan(&json!({ "seats": 2 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let cleo = app.verified_account("cleo@example.com").await;
            let links = invite_all(app, &ann, std::slice::from_ref(&cleo)).await;
            let membership_id = app.invite_and_accept(&ann, &ben, "member").await;
            let accept = async || app.session(&cleo.cookie).post(&links[0], json!({})).await;
            accept().await.assert_error(403, "PLAN_LIMIT_REACHED");
            let path = format!("/api/user/organizations/{}/members/{membership_id}", ann.org_id);
            app.session(&ann.cookie).delete(&path).await.assert_status(200);
            accept().await.assert_status(200);
        })
        .await;
}
