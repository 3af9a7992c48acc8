//! How many keys and seats a plan allows, through every door; for projects see `user::projects`.

use serde_json::{Value, json};

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::app::{TestSettings, text};
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, with_settings};

/// A server on whose trial plan there is little room.
fn with_small_plan(limits: &Value) -> TestSettings {
    with_settings(&[("PLANS", &json!({ "trial": limits }).to_string())])
}

fn keys_of(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/api-keys")
}

fn invites_of(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/invites")
}

/// Sends 20 requests that all want the last place, with nothing stored in a table until several
/// have come as far as they can; those that got it, and those that did not.
async fn send_at_once(
    app: &TestApp,
    gate: &'static str,
    requests: Vec<(TestClient, String, Value)>,
) -> (Vec<TestResponse>, Vec<TestResponse>) {
    assert_eq!(requests.len(), 20);
    let mut holder = app.sql().await;
    sqlx::raw_sql(gate).execute(&mut holder).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for (actor, path, body) in requests {
        callers.spawn(async move { actor.post(&path, body).await });
    }
    app.wait_for_lock_waiters(3).await;
    drop(holder);
    callers.join_all().await.into_iter().partition(|answer| answer.status.is_success())
}

/// Everybody may still look and hold rows, nobody stores one.
const KEYS_GATE: &str = "begin; lock table api_keys in share row exclusive mode";
const MEMBERSHIPS_GATE: &str = "begin; lock table users in share row exclusive mode";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_20_who_want_the_last_key_at_once_through_every_door_one_gets_it() {
    with_small_plan(&json!({ "keys": 8 }))
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            // Each credential's own requests take turns, so there are many.
            let mut actors = vec![app.session(&ann.cookie)];
            for number in 0..7 {
                let request = json!({ "name": format!("k{number}"), "scopes": ["*"] });
                actors.push(app.key(&app.create_key(&ann, request).await.api_key));
            }
            let doors = ["/me/api-keys", &keys_of(&ann.org_id), "/v1/organization/api-keys"];
            let requests = (0..20).map(|number: usize| {
                // Sessions are not for the organization's automation.
                let actor = if number % 3 == 2 { 1 + number % 7 } else { number % 8 };
                let body = json!({ "name": format!("last {number}"), "scopes": ["user:read"] });
                (actors[actor].clone(), doors[number % 3].to_owned(), body)
            });
            let (made, refused) = send_at_once(app, KEYS_GATE, requests.collect()).await;
            assert_eq!((made.len(), refused.len()), (1, 19));
            for answer in &refused {
                let word = match answer.family.as_str() {
                    "user" => "PLAN_LIMIT_REACHED",
                    _ => "plan_limit_reached",
                };
                assert_eq!(answer.clone().assert_error(403, word).plan_limit(), ("keys", 8, 8));
            }
            let families: std::collections::BTreeSet<_> =
                refused.iter().map(|answer| answer.family.as_str()).collect();
            assert_eq!(families.len(), 3);
            assert_eq!(app.count("select count(*) from api_keys").await, 8);
        })
        .await;
}

#[tokio::test]
async fn keys_that_have_ended_or_were_rotated_away_do_not_count_and_disabled_ones_do() {
    with_small_plan(&json!({ "keys": 3 }))
        .run(async |app| {
            let acme = app.sign_up().await;
            let actor = app.key(&acme.api_key);
            let other = app.mint(&acme.api_key, json!({ "name": "other" })).await;
            let third = app.mint(&acme.api_key, json!({ "name": "third" })).await;
            let ask = async || actor.post("/me/api-keys", json!({})).await;
            let is_full = async || {
                let refused = ask().await.assert_error(403, "plan_limit_reached");
                assert_eq!(refused.plan_limit(), ("keys", 3, 3));
            };
            is_full().await;
            let path = |id: &str| format!("/v1/organization/api-keys/{id}");
            let disabled = json!({ "enabled": false });
            actor.patch(&path(&other.key_id), disabled).await.assert_status(200);
            is_full().await;
            // The key that serves out its grace makes room for the one that takes over.
            let rotate = format!("{}/rotate", path(&third.key_id));
            let rotated = actor.post(&rotate, json!({ "grace_period": 3600 })).await;
            let rotated = text(&rotated.assert_status(200).body["id"]);
            app.key(&third.api_key).get("/me").await.assert_status(200);
            is_full().await;
            // Personal tokens are nobody's keys but their person's, and revoked keys nobody's.
            actor.delete(&path(&rotated)).await.assert_status(200);
            ask().await.assert_status(201);
            is_full().await;
            app.execute("update api_keys set expires_at = now() where not enabled").await;
            ask().await.assert_status(201);
            is_full().await;
        })
        .await;
}

#[tokio::test]
async fn a_new_key_in_the_place_of_another_needs_no_room() {
    with_small_plan(&json!({ "keys": 1 }))
        .run(async |app| {
            let request = json!({ "email": "dev@example.com", "password": PASSWORD });
            let made = app.anonymous().post("/auth/signup", request).await.assert_status(201);
            let session = app.bearer(&text(&made.body["data"]["token"]));
            let regenerate = "/auth/api-key/regenerate";
            let new = session.post(regenerate, json!({})).await.assert_status(200);
            let own = app.key(&text(&new.body["data"]["api_key"]));
            let rotated = own.post("/v1/admin/key/rotate", json!({})).await.assert_status(200);
            let own = app.key(&text(&rotated.body["new_api_key"]));
            let org_id = text(&own.get("/me").await.assert_status(200).body["org_id"]);
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
            // The default key was among those that ended: there is none to take the place of.
            let refused = session.post(regenerate, json!({})).await;
            let refused = refused.assert_error(403, "USAGE_LIMIT_EXCEEDED");
            assert_eq!(refused.plan_limit(), ("keys", 1, 1));
        })
        .await;
}

#[tokio::test]
async fn what_is_over_a_lowered_limit_works_on_and_there_is_no_more_of_it() {
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
            let refused = session.post(&keys_of(&ann.org_id), request("c")).await;
            let refused = refused.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(refused.plan_limit(), ("keys", 1, 2));
            let invite = json!({ "email": "cleo@example.com", "role": "member" });
            let refused = session.post(&invites_of(&ann.org_id), invite).await;
            let refused = refused.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(refused.plan_limit(), ("seats", 1, 2));
        })
        .await;
}

/// An invitation of each of them; the links.
async fn invite_all(app: &TestApp, owner: &TestAccount, people: &[TestAccount]) -> Vec<String> {
    let mut links = Vec::new();
    for person in people {
        let invite = json!({ "email": person.email, "role": "member" });
        let session = app.session(&owner.cookie);
        session.post(&invites_of(&owner.org_id), invite).await.assert_status(201);
        links.push(format!("/api/user/invites/{}/accept", app.mailed_token().await));
    }
    links
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_20_who_accept_at_once_where_one_seat_is_left_one_gets_it() {
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
            let (joined, refused) = send_at_once(app, MEMBERSHIPS_GATE, requests.collect()).await;
            assert_eq!((joined.len(), refused.len()), (1, 19));
            for answer in refused {
                let answer = answer.assert_error(403, "PLAN_LIMIT_REACHED");
                assert_eq!(answer.plan_limit(), ("seats", 2, 2));
            }
            // Nobody's invitation was spent by that: the next seat is the next one's.
            let invite = json!({ "email": "late@example.com", "role": "member" });
            let early = app.session(&ann.cookie).post(&invites_of(&ann.org_id), invite).await;
            let early = early.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(early.plan_limit(), ("seats", 2, 2));
            app.execute("update organizations set plan = 'enterprise'").await;
            let mut accepted = 0;
            for (person, link) in people.iter().zip(&links) {
                let answer = app.session(&person.cookie).post(link, json!({})).await;
                accepted += usize::from(answer.status.is_success());
            }
            assert_eq!(accepted, 19);
        })
        .await;
}

#[tokio::test]
async fn whoever_claims_the_seat_that_nobody_has_claimed_takes_no_other() {
    with_small_plan(&json!({ "seats": 1 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let acme = app.sign_up().await;
            let invite = async |role: &str| {
                let request = json!({ "email": ann.email, "role": role });
                app.key(&acme.api_key).post(&invites_of(&acme.org_id), request).await
            };
            let full = invite("member").await.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(full.plan_limit(), ("seats", 1, 1));
            invite("owner").await.assert_status(201);
            let link = format!("/api/user/invites/{}/accept", app.mailed_token().await);
            app.session(&ann.cookie).post(&link, json!({})).await.assert_status(200);
            let full = invite("owner").await.assert_error(409, "CONFLICT");
            assert_eq!(full.body["message"], "This person is a member already");
            let other = json!({ "email": "ben@example.com", "role": "owner" });
            let full = app.session(&ann.cookie).post(&invites_of(&acme.org_id), other).await;
            full.assert_error(403, "PLAN_LIMIT_REACHED");
        })
        .await;
}

#[tokio::test]
async fn a_seat_that_is_given_up_is_somebody_else_s() {
    with_small_plan(&json!({ "seats": 2 }))
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let cleo = app.verified_account("cleo@example.com").await;
            let links = invite_all(app, &ann, std::slice::from_ref(&cleo)).await;
            let seat = app.invite_and_accept(&ann, &ben, "member").await;
            let accept = async || app.session(&cleo.cookie).post(&links[0], json!({})).await;
            accept().await.assert_error(403, "PLAN_LIMIT_REACHED");
            let seat = format!("/api/user/organizations/{}/members/{seat}", ann.org_id);
            app.session(&ann.cookie).delete(&seat).await.assert_status(200);
            accept().await.assert_status(200);
        })
        .await;
}
