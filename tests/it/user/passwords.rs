//! `/api/auth/request-password-reset`, `/reset-password`, `/change-password`

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

const CHANGE: &str = "/api/auth/change-password";
const RESET: &str = "/api/auth/reset-password";
const NEW: &str = "another-long-passphrase";

async fn request_reset(app: &TestApp, email: &str) -> TestResponse {
    app.anonymous().post("/api/auth/request-password-reset", json!({ "email": email })).await
}

async fn reset(app: &TestApp, token: &str, password: &str) -> TestResponse {
    let request = json!({ "token": token, "newPassword": password });
    app.anonymous().post(RESET, request).await
}

async fn change(app: &TestApp, cookie: &str, request: Value) -> TestResponse {
    app.session(cookie).post(CHANGE, request).await
}

#[tokio::test]
async fn a_reset_request_gets_the_same_response_for_known_and_unknown_addresses() {
    run(async |app| {
        app.verified_account("ann@example.com").await;
        let known = request_reset(app, "ANN@example.com").await.assert_status(200);
        let unknown = request_reset(app, "ben@example.com").await.assert_status(200);
        assert_eq!(known.text, unknown.text);
        let mails = app.mails().await;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].header("To"), "ann@example.com");
        assert_eq!(app.count("select count(*) from outbox").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_reset_sets_the_password_and_ends_every_session() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (personal_token, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        request_reset(app, &ann.email).await;
        let token = app.mailed_token().await;
        let response = reset(app, &token, NEW).await.assert_status(200);
        assert_eq!(response.cookie(), None);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(401);
        app.bearer(&ann.token).get("/auth/me").await.assert_status(401);
        app.sign_in(&ann.email, PASSWORD).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
        app.sign_in(&ann.email, NEW).await.assert_status(200);
        // The personal access tokens of an account with a proven address stay valid.
        app.key(&personal_token).get("/api/user/me").await.assert_status(200);
        reset(app, &token, NEW).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

/// Pre-hijacking: a stranger created an account with Ann's address.
#[tokio::test]
async fn a_reset_of_an_unproven_account_ends_all_access_of_its_creator() {
    run(async |app| {
        let request = json!({ "email": "ann@example.com", "password": PASSWORD });
        let created = app.anonymous().post("/auth/signup", request).await.assert_status(201);
        let (jwt, default_key) =
            (text(&created.body["data"]["token"]), text(&created.body["data"]["api_key"]));
        let signed_in = app.sign_in("ann@example.com", PASSWORD).await.assert_status(200);
        let cookie = signed_in.cookie().unwrap();
        let token = json!({ "name": "ci", "scopes": ["*"] });
        let (personal_token, _) = app.create_token(&cookie, token).await;
        let other_key = app.create_key_with(&default_key, json!({ "name": "other" })).await.api_key;
        let (access, refresh) = app.exchange(&default_key).await;
        let verify = app.mailed_token().await;

        request_reset(app, "ann@example.com").await;
        let link = app.mailed_token().await;
        // Queues a verification mail, which must not be sent after the reset.
        let session = app.session(&cookie);
        session.post("/api/auth/send-verification-email", json!({})).await.assert_status(200);
        reset(app, &link, NEW).await.assert_status(200);

        app.sign_in("ann@example.com", PASSWORD).await.assert_status(401);
        for client in [app.bearer(&jwt), app.session(&cookie), app.key(&personal_token)] {
            client.get("/api/user/me").await.assert_status(401);
        }
        for client in [app.key(&default_key), app.key(&other_key), app.bearer(&access)] {
            client.get("/me").await.assert_status(401);
        }
        let refresh =
            app.anonymous().post("/auth/refresh", json!({ "refresh_token": refresh })).await;
        refresh.assert_status(401);
        let verify =
            app.anonymous().post("/api/auth/verify-email", json!({ "token": verify })).await;
        verify.assert_status(401);
        assert!(app.mails().await.is_empty());

        let owner = app.sign_in("ann@example.com", NEW).await.assert_status(200);
        assert_eq!(owner.body["data"]["user"]["isVerified"], true);
    })
    .await;
}

/// Alice invited Bob, whose account is now the organization's only member.
#[tokio::test]
async fn a_reset_changes_no_organization_that_the_account_has_left() {
    run(async |app| {
        let alice = app.verified_account("alice@example.com").await;
        let bob = app.verified_account("bob@example.com").await;
        app.invite_and_accept(&alice, &bob, "owner").await;
        let path = format!("/api/user/organizations/{}", alice.org_id);
        let bobs = app.session(&bob.cookie);
        let all = json!({ "name": "of bob", "scopes": ["*"] });
        let key = bobs.post(&format!("{path}/api-keys"), all).await.assert_status(201);
        let key = text(&key.body["data"]["key"]);
        let membership = app.session(&alice.cookie).get(&format!("{path}/my-membership")).await;
        let membership = text(&membership.assert_status(200).body["data"]["id"]);
        bobs.delete(&format!("{path}/members/{membership}")).await.assert_status(200);

        // As an older version left an account whose address was verified without its password: the
        // creator of the account may not be the reader of the mail.
        let make_unproven =
            "update accounts set proven_at = null where email = 'alice@example.com'";
        app.execute(make_unproven).await;
        request_reset(app, &alice.email).await;
        let link = app.mailed_token().await;
        reset(app, &link, NEW).await.assert_status(200);
        app.sign_in(&alice.email, NEW).await.assert_status(200);
        app.key(&key).get("/v1/organization/me").await.assert_status(200);
        let members = bobs.get(&format!("{path}/members")).await.assert_status(200);
        assert_eq!(members.body["meta"]["total"], 1);
    })
    .await;
}

/// Asserts that no live key is left if the password is reset while a transaction of the account's
/// creator runs `steps`.
async fn reset_during(steps: [&'static str; 2]) {
    run(async |app| {
        let request = json!({ "email": "ann@example.com", "password": PASSWORD });
        app.anonymous().post("/auth/signup", request).await.assert_status(201);
        app.mails().await;
        request_reset(app, "ann@example.com").await;
        let link = app.mailed_token().await;

        let mut creator = app.connect().await;
        sqlx::query("begin").execute(&mut creator).await.unwrap();
        for step in steps {
            sqlx::query(step).execute(&mut creator).await.unwrap();
        }
        let resetting = {
            let (owner, request) = (app.anonymous(), json!({ "token": link, "newPassword": NEW }));
            tokio::spawn(async move { owner.post(RESET, request).await })
        };
        app.wait_for_lock_waiters(1).await;
        sqlx::query("commit").execute(&mut creator).await.unwrap();
        resetting.await.unwrap().assert_status(200);
        let live = "select count(*) from api_keys where revoked_at is null";
        assert_eq!(app.count(live).await, 0);
    })
    .await;
}

/// Creates a second key.
const ANOTHER: &str = "
    insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix, display_id,
                          name_held, scopes, created_at)
    select gen_random_uuid(), organization_id, user_id, sha256('another'), pepper_id, prefix,
           'AAAAAAAA', false, scopes, now() from api_keys";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_created_during_a_reset_is_revoked_with_the_others() {
    reset_during(["select id from api_keys for no key update", ANOTHER]).await;
}

/// A rotation locks only the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_rotated_during_a_reset_is_revoked_with_its_successor() {
    let ends = "update api_keys set expires_at = now(), superseded_at = now(), name_held = false";
    reset_during([ends, ANOTHER]).await;
}

#[tokio::test]
async fn changing_the_password_invalidates_the_reset_link() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        request_reset(app, &ann.email).await;
        let link = app.mailed_token().await;
        let request = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        change(app, &ann.cookie, request).await.assert_status(200);
        reset(app, &link, PASSWORD).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

/// Otherwise someone who created an account with another's address could keep it forever, by
/// changing its password whenever a link to take it over is mailed to that address.
#[tokio::test]
async fn changing_the_password_of_an_unproven_account_invalidates_no_mailed_link() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let verify = app.mailed_token().await;
        request_reset(app, &ann.email).await;
        let link = app.mailed_token().await;
        let request = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        change(app, &ann.cookie, request).await.assert_status(200);
        let request = json!({ "token": verify, "password": NEW });
        let verified = app.anonymous().post("/api/auth/verify-email", request).await;
        verified.assert_status(200);
        reset(app, &link, PASSWORD).await.assert_status(200);
    })
    .await;
}

/// A request may contain a password, which could be guessed fast from a plain hash.
#[tokio::test]
async fn a_stored_fingerprint_is_not_a_plain_hash_of_the_request() {
    run(async |app| {
        use sha2::Digest;
        let ann = app.sign_up_account("ann@example.com").await;
        let request = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        let session = app.session(&ann.cookie).with("idempotency-key", "change");
        session.post(CHANGE, request.clone()).await.assert_status(200);
        let stored: Vec<u8> = sqlx::query_scalar("select fingerprint from idempotency_keys")
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
        let body = sha2::Sha256::digest(request.to_string());
        let mut plain = sha2::Sha256::new();
        plain.update(format!("POST {CHANGE}\n"));
        plain.update(body);
        assert_ne!(stored, plain.finalize().to_vec());
        assert_ne!(stored, body.to_vec());
    })
    .await;
}

#[tokio::test]
async fn a_reset_link_works_for_an_hour_or_until_a_newer_one_is_mailed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        request_reset(app, &ann.email).await;
        let first = app.mailed_token().await;
        request_reset(app, &ann.email).await;
        let second = app.mailed_token().await;
        reset(app, &first, NEW).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        let hour =
            "select count(*) from email_tokens where expires_at = created_at + interval '1 hour'";
        assert_eq!(app.count(hour).await, 1);
        app.execute("update email_tokens set expires_at = now()").await;
        reset(app, &second, NEW).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_resets_with_one_link_succeeds() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        request_reset(app, &ann.email).await;
        let token = app.mailed_token().await;
        let mut attempts = tokio::task::JoinSet::new();
        for number in 0..20 {
            let request =
                json!({ "token": token, "newPassword": format!("passphrase no {number}") });
            let stranger = app.anonymous();
            attempts.spawn(async move {
                let response = stranger.post(RESET, request).await;
                (number, response.status.as_u16())
            });
        }
        let outcomes = attempts.join_all().await;
        let done: Vec<_> = outcomes.iter().filter(|(_, status)| *status == 200).collect();
        assert_eq!(done.len(), 1, "{outcomes:?}");
        let password = format!("passphrase no {}", done[0].0);
        app.sign_in(&ann.email, &password).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_guessable_new_password_is_rejected_and_the_link_stays_valid() {
    run(async |app| {
        let ann = app.verified_account("ann.example@example.com").await;
        request_reset(app, &ann.email).await;
        let token = app.mailed_token().await;
        for password in ["short", "password1", "Ann.Example@example.com"] {
            let response = reset(app, &token, password).await.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(response.invalid_fields(), ["newPassword"], "{password}");
        }
        reset(app, &token, NEW).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn changing_the_password_ends_every_session_and_starts_another() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let other = app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap();
        let (personal_token, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let request = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        let changed = change(app, &ann.cookie, request).await.assert_status(200);
        for cookie in [&ann.cookie, &other] {
            app.session(cookie).get("/api/user/me").await.assert_status(401);
        }
        app.bearer(&ann.token).get("/auth/me").await.assert_status(401);
        app.session(&changed.cookie().unwrap()).get("/api/user/me").await.assert_status(200);
        let token = text(&changed.body["data"]["token"]);
        app.bearer(&token).get("/auth/me").await.assert_status(200);
        // Personal access tokens do not end with sessions.
        app.key(&personal_token).get("/api/user/me").await.assert_status(200);
        app.sign_in(&ann.email, PASSWORD).await.assert_status(401);
        app.sign_in(&ann.email, NEW).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_password_change_leaves_other_sessions_valid_if_requested() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let other = app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap();
        let request = json!({
            "currentPassword": PASSWORD, "newPassword": NEW, "revokeOtherSessions": false,
        });
        change(app, &ann.cookie, request).await.assert_status(200);
        app.session(&other).get("/api/user/me").await.assert_status(200);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn a_password_change_keeps_the_remember_me_choice() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut password = PASSWORD.to_owned();
        for (number, is_remembered) in [false, true].into_iter().enumerate() {
            let request =
                json!({ "email": ann.email, "password": password, "rememberMe": is_remembered });
            let response =
                app.anonymous().post("/api/auth/sign-in/email", request).await.assert_status(200);
            let mut responses = vec![response];
            // Later sessions keep the choice.
            for change_no in 0..2 {
                let new = format!("passphrase no {number}{change_no}");
                let request = json!({ "currentPassword": password, "newPassword": new });
                let cookie = responses[change_no].cookie().unwrap();
                responses.push(change(app, &cookie, request).await.assert_status(200));
                password = new;
            }
            for response in responses {
                let set = response.header("set-cookie");
                assert_eq!(set.contains("Max-Age"), is_remembered, "{set}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_password_change_requires_the_current_password_and_an_acceptable_new_one() {
    run(async |app| {
        let ann = app.sign_up_account("ann.example@example.com").await;
        let wrong = json!({ "currentPassword": NEW, "newPassword": NEW });
        let wrong = change(app, &ann.cookie, wrong).await;
        wrong.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
        for password in ["short", "ann.example@example.com"] {
            let request = json!({ "currentPassword": PASSWORD, "newPassword": password });
            let response = change(app, &ann.cookie, request).await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["newPassword"]);
        }
        let response = change(app, &ann.cookie, json!({})).await.assert_status(400);
        assert_eq!(response.invalid_fields(), ["currentPassword", "newPassword"]);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_several_concurrent_changes_with_one_password_succeeds() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut attempts = tokio::task::JoinSet::new();
        for number in 0..10 {
            let session = app.session(&ann.cookie);
            attempts.spawn(async move {
                let request = json!({
                    "currentPassword": PASSWORD, "newPassword": format!("passphrase no {number}"),
                });
                let response = session.post(CHANGE, request).await;
                response.status.as_u16()
            });
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 9, "{statuses:?}");
    })
    .await;
}

#[tokio::test]
async fn a_password_made_of_the_account_s_address_is_rejected_everywhere() {
    run(async |app| {
        let made_of = ["example.com1", "Somebody2026!", "somebody@example.com", "x@Example.com"];
        let email = "somebody@example.com";
        for password in made_of {
            let account = json!({ "email": email, "password": password, "name": "Somebody" });
            for path in ["/auth/signup", "/api/auth/sign-up/email"] {
                let response = app.anonymous().post(path, account.clone()).await;
                let response = response.assert_error(400, "VALIDATION_ERROR");
                assert_eq!(response.invalid_fields(), ["password"], "{password}");
            }
        }
        let account = app.verified_account(email).await;
        for password in made_of {
            let request = json!({ "currentPassword": PASSWORD, "newPassword": password });
            let response = change(app, &account.cookie, request).await;
            let response = response.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(response.invalid_fields(), ["newPassword"], "{password}");
        }
        request_reset(app, email).await;
        let token = app.mailed_token().await;
        for password in made_of {
            let response = reset(app, &token, password).await.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(response.invalid_fields(), ["newPassword"], "{password}");
        }
        reset(app, &token, "example of a horse").await.assert_status(200);
    })
    .await;
}
