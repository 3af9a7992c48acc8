//! Proof of an address: it requires the mailbox and the account's password.

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::rate_limits::{assert_retry_after, send_until_limited, with_limits};
use crate::support::{TestApp, run, with_settings};

const NEW: &str = "another-long-passphrase";
const STRANGERS_PASSWORD: &str = "passphrase-of-a-stranger";
const REQUIRED: (&str, &str) = ("REQUIRE_EMAIL_VERIFICATION", "on");
const VERIFIED: &str = "select count(*) from accounts where verified_at is not null";

async fn verify_as(client: TestClient, token: &str, password: Option<&str>) -> TestResponse {
    let mut request = json!({ "token": token });
    if let Some(password) = password {
        request["password"] = json!(password);
    }
    client.post("/api/auth/verify-email", request).await
}

async fn sign_up(app: &TestApp, email: &str, password: &str, name: &str) -> TestResponse {
    let request = json!({ "email": email, "password": password, "name": name });
    app.anonymous().post("/api/auth/sign-up/email", request).await
}

async fn reset(app: &TestApp, email: &str, password: &str) {
    let request = json!({ "email": email });
    app.anonymous().post("/api/auth/request-password-reset", request).await.assert_status(200);
    let request = json!({ "token": app.mailed_token().await, "newPassword": password });
    app.anonymous().post("/api/auth/reset-password", request).await.assert_status(200);
}

/// The credentials that a stranger created with the victim's address.
struct StrangersCredentials {
    session: TestClient,
    token: TestClient,
    default_key: TestClient,
    minted_key: TestClient,
    access_token: TestClient,
    refresh_token: String,
}

impl StrangersCredentials {
    async fn create(app: &TestApp, email: &str) -> Self {
        let request = json!({ "email": email, "password": STRANGERS_PASSWORD, "name": "Stranger" });
        let created = app.anonymous().post("/auth/signup", request).await.assert_status(201);
        let key = text(&created.body["data"]["api_key"]);
        let signed_in = app.sign_in(email, STRANGERS_PASSWORD).await.assert_status(200);
        let cookie = signed_in.cookie().unwrap();
        let (token, _) = app.create_token(&cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let minted = app.create_key_with(&key, json!({ "name": "minted" })).await.api_key;
        let (access, refresh_token) = app.exchange(&minted).await;
        Self {
            session: app.session(&cookie),
            token: app.key(&token),
            default_key: app.key(&key),
            minted_key: app.key(&minted),
            access_token: app.bearer(&access),
            refresh_token,
        }
    }

    async fn assert_ended(&self, app: &TestApp) {
        for client in [&self.session, &self.token] {
            client.get("/api/user/me").await.assert_status(401);
        }
        for client in [&self.default_key, &self.minted_key, &self.access_token] {
            client.get("/me").await.assert_status(401);
        }
        let request = json!({ "refresh_token": self.refresh_token });
        app.anonymous().post("/auth/refresh", request).await.assert_status(401);
    }
}

#[tokio::test]
async fn a_link_without_the_password_proves_nothing_and_stays_valid() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        let token = app.mailed_token().await;
        let ben = app.sign_up_account("ben@example.com").await;
        app.mails().await;
        for client in [app.anonymous(), app.session(&ben.cookie), app.session("garbage")] {
            let response = verify_as(client, &token, None).await;
            response.assert_error(401, "AUTHENTICATION_REQUIRED");
        }
        let wrong = verify_as(app.anonymous(), &token, Some(STRANGERS_PASSWORD)).await;
        wrong.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
        assert_eq!(app.count(VERIFIED).await, 0);
        verify_as(app.anonymous(), &token, Some(PASSWORD)).await.assert_status(200);
        assert_eq!(app.count(VERIFIED).await, 1);
        let again = verify_as(app.anonymous(), &token, Some(PASSWORD)).await;
        again.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_session_of_the_account_is_a_proof_of_its_password() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let token = app.mailed_token().await;
        verify_as(app.session(&ann.cookie), &token, None).await.assert_status(200);
        let ben = app.sign_up_account("ben@example.com").await;
        let token = app.mailed_token().await;
        // A session that has ended does not count.
        let ended = app.session(&ben.cookie);
        ended.post("/api/auth/sign-out", json!({})).await.assert_status(200);
        verify_as(ended, &token, None).await.assert_error(401, "AUTHENTICATION_REQUIRED");
        let signed_in = app.sign_in(&ben.email, PASSWORD).await.assert_status(200);
        let bearer = app.bearer(&text(&signed_in.body["data"]["token"]));
        verify_as(bearer, &token, None).await.assert_status(200);
        assert_eq!(app.count(VERIFIED).await, 2);
    })
    .await;
}

/// The attack: a stranger signs up with the victim's address and waits until the victim follows the
/// link.
#[tokio::test]
async fn a_newer_sign_up_replaces_a_pending_one() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            let first = sign_up(app, "ann@example.com", STRANGERS_PASSWORD, "Stranger").await;
            let first = first.assert_status(200).text;
            let strangers_link = app.mailed_token().await;
            let second = sign_up(app, "ann@example.com", NEW, "Ann").await.assert_status(200);
            assert_eq!(second.text, first);
            assert_eq!(second.cookie(), None);
            let mails = app.mails().await;
            assert_eq!(mails[0].header("Subject"), "Confirm your email address");
            let link = mails[0].token().unwrap();

            let stranger = app.sign_in("ann@example.com", STRANGERS_PASSWORD).await;
            stranger.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            for password in [STRANGERS_PASSWORD, NEW] {
                let dead = verify_as(app.anonymous(), &strangers_link, Some(password)).await;
                dead.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
            }
            let wrong = verify_as(app.anonymous(), &link, Some(STRANGERS_PASSWORD)).await;
            wrong.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            verify_as(app.anonymous(), &link, Some(NEW)).await.assert_status(200);

            let signed_in = app.sign_in("ann@example.com", NEW).await.assert_status(200);
            assert_eq!(signed_in.body["data"]["user"]["fullName"], "Ann");
            assert_eq!(signed_in.body["data"]["user"]["handle"], "ann");
            let session = app.session(&signed_in.cookie().unwrap());
            let list = session.get("/api/user/organizations").await.assert_status(200);
            assert_eq!(list.body["meta"]["total"], 1);
            assert_eq!(list.body["data"][0]["name"], "Ann");
            assert_eq!(list.body["data"][0]["role"], "owner");
            app.sign_in("ann@example.com", STRANGERS_PASSWORD).await.assert_status(401);
        })
        .await;
}

/// The account signed up before addresses had to be proven.
#[tokio::test]
async fn the_credentials_of_a_replaced_sign_up_end_with_it() {
    run(async |app| {
        let created = StrangersCredentials::create(app, "ann@example.com").await;
        app.mails().await;
        let required = app.replica_with(&[REQUIRED]);
        sign_up(&required, "ann@example.com", NEW, "Ann").await.assert_status(200);
        created.assert_ended(app).await;
        let link = app.mailed_token().await;
        verify_as(required.anonymous(), &link, Some(NEW)).await.assert_status(200);
        required.sign_in("ann@example.com", NEW).await.assert_status(200);
        let replaced = "select count(*) from audit_events
                        where event_type = 'account.sign_up_replaced'";
        assert_eq!(app.count(replaced).await, 1);
        required.close();
    })
    .await;
}

#[tokio::test]
async fn a_sign_up_with_a_proven_address_replaces_nothing_and_its_mail_says_what_to_do() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            sign_up(app, "ann@example.com", PASSWORD, "Ann").await.assert_status(200);
            let link = app.mailed_token().await;
            verify_as(app.anonymous(), &link, Some(PASSWORD)).await.assert_status(200);
            sign_up(app, "ann@example.com", STRANGERS_PASSWORD, "Stranger")
                .await
                .assert_status(200);
            let mails = app.mails().await;
            assert_eq!(mails[0].header("Subject"), "You already have an account");
            assert_eq!(mails[0].token(), None);
            let text: Vec<_> = mails[0].text.split_whitespace().collect();
            let text = text.join(" ");
            assert!(text.contains("If you never created an account here, request a password"));
            app.sign_in("ann@example.com", STRANGERS_PASSWORD).await.assert_status(401);
            let signed_in = app.sign_in("ann@example.com", PASSWORD).await.assert_status(200);
            assert_eq!(signed_in.body["data"]["user"]["fullName"], "Ann");
        })
        .await;
}

#[tokio::test]
async fn a_disabled_account_is_not_replaced() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            let known = sign_up(app, "ann@example.com", PASSWORD, "Ann").await.assert_status(200);
            app.mails().await;
            app.execute("update accounts set is_active = false").await;
            let again = sign_up(app, "ann@example.com", NEW, "Ann").await.assert_status(200);
            assert_eq!(again.text, known.text);
            assert!(app.mails().await.is_empty());
            let rejected = app.sign_in("ann@example.com", PASSWORD).await;
            rejected.assert_error(401, "USER_NOT_ACTIVE");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_sign_ups_with_the_same_address_leave_one_valid_password_and_its_link() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            let mut attempts = tokio::task::JoinSet::new();
            for number in 0..6 {
                let (anon, password) = (app.anonymous(), format!("passphrase no {number}"));
                let request =
                    json!({ "email": "ann@example.com", "password": password, "name": "Ann" });
                attempts.spawn(async move {
                    let response = anon.post("/api/auth/sign-up/email", request).await;
                    response.assert_status(200).text
                });
            }
            let texts = attempts.join_all().await;
            assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
            assert_eq!(app.count("select count(*) from accounts").await, 1);
            let organizations = "select count(*) from organizations where handle <> 'system'";
            assert_eq!(app.count(organizations).await, 1);
            let link = app.mailed_token().await;
            let mut right = Vec::new();
            for number in 0..6 {
                let password = format!("passphrase no {number}");
                if app.sign_in("ann@example.com", &password).await.status == 403 {
                    right.push(password);
                }
            }
            assert_eq!(right.len(), 1, "{right:?}");
            assert!(app.mails().await.is_empty());
            verify_as(app.anonymous(), &link, Some(&right[0])).await.assert_status(200);
            app.sign_in("ann@example.com", &right[0]).await.assert_status(200);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_concurrent_sign_up_and_verification_run_one_after_the_other() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            for number in 0..6 {
                let email = format!("person{number}@example.com");
                sign_up(app, &email, PASSWORD, "First").await.assert_status(200);
                let link = app.mailed_token().await;
                let verifying = verify_as(app.anonymous(), &link, Some(PASSWORD));
                let signing_up = sign_up(app, &email, NEW, "Second");
                let (verified, signed_up) = tokio::join!(verifying, signing_up);
                signed_up.assert_status(200);
                let mails = app.mails().await;
                let (first, second) =
                    (app.sign_in(&email, PASSWORD).await, app.sign_in(&email, NEW).await);
                let statuses = (verified.status.as_u16(), first.status.as_u16());
                assert_eq!(mails.len(), 1);
                if verified.status == 200 {
                    assert_eq!((statuses.1, second.status.as_u16()), (200, 401));
                    assert_eq!(mails[0].token(), None);
                } else {
                    assert_eq!((statuses, second.status.as_u16()), ((401, 401), 403));
                    let link = mails[0].token().unwrap();
                    verify_as(app.anonymous(), &link, Some(NEW)).await.assert_status(200);
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_concurrent_reset_and_verification_leave_the_new_password_and_no_session() {
    run(async |app| {
        for number in 0..4 {
            let account = app.sign_up_account(&format!("person{number}@example.com")).await;
            let link = app.mailed_token().await;
            let request = json!({ "email": account.email });
            app.anonymous()
                .post("/api/auth/request-password-reset", request)
                .await
                .assert_status(200);
            let request = json!({ "token": app.mailed_token().await, "newPassword": NEW });
            let (anon, session) = (app.anonymous(), app.session(&account.cookie));
            let resetting = anon.post("/api/auth/reset-password", request);
            let (reset, verified) =
                tokio::join!(resetting, verify_as(session.clone(), &link, None));
            reset.assert_status(200);
            assert!(matches!(verified.status.as_u16(), 200 | 401), "{}", verified.text);
            session.get("/api/user/me").await.assert_status(401);
            app.sign_in(&account.email, PASSWORD).await.assert_status(401);
            let signed_in = app.sign_in(&account.email, NEW).await.assert_status(200);
            assert_eq!(signed_in.body["data"]["user"]["isVerified"], true);
        }
        assert_eq!(app.count("select count(*) from email_tokens").await, 0);
    })
    .await;
}

/// An older version of the server accepted a click as a proof.
#[tokio::test]
async fn the_first_mailed_reset_ends_earlier_credentials_even_after_a_clicked_link() {
    run(async |app| {
        let created = StrangersCredentials::create(app, "ann@example.com").await;
        app.mails().await;
        app.execute("update accounts set verified_at = now()").await;
        reset(app, "ann@example.com", NEW).await;
        created.assert_ended(app).await;

        // From then on the address is proven, and a reset ends sessions only.
        let signed_in = app.sign_in("ann@example.com", NEW).await.assert_status(200);
        let cookie = signed_in.cookie().unwrap();
        let (token, _) = app.create_token(&cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let regenerated = app.session(&cookie).post("/auth/api-key/regenerate", json!({})).await;
        let key = text(&regenerated.assert_status(200).body["data"]["api_key"]);
        reset(app, "ann@example.com", PASSWORD).await;
        app.session(&cookie).get("/api/user/me").await.assert_status(401);
        app.key(&token).get("/api/user/me").await.assert_status(200);
        app.key(&key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn after_a_proof_of_mailbox_and_password_a_reset_ends_sessions_only() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let link = app.mailed_token().await;
        verify_as(app.anonymous(), &link, Some(PASSWORD)).await.assert_status(200);
        let (token, _) =
            app.create_token(&ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        reset(app, &ann.email, NEW).await;
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(401);
        app.key(&token).get("/api/user/me").await.assert_status(200);
        app.key(&key.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

/// Ann invited others before inviting required a proof.
#[tokio::test]
async fn a_reset_ends_no_key_invitation_or_membership_of_another_account() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "admin").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let (of_ann, of_ben) = (app.session(&ann.cookie), app.session(&ben.cookie));
        let key = async |session: &TestClient, name: &str| {
            let request = json!({ "name": name, "scopes": ["*"] });
            let created =
                session.post(&format!("{path}/api-keys"), request).await.assert_status(201);
            app.key(&text(&created.body["data"]["key"]))
        };
        let (anns, bens) = (key(&of_ann, "of ann").await, key(&of_ben, "of ben").await);
        for (session, email) in [(&of_ann, "cleo@example.com"), (&of_ben, "dan@example.com")] {
            let request = json!({ "email": email, "role": "member" });
            session.post(&format!("{path}/invites"), request).await.assert_status(201);
        }
        app.mails().await;
        app.execute("update accounts set verified_at = null where email = 'ann@example.com'").await;
        app.execute("update accounts set proven_at = null where email = 'ann@example.com'").await;

        reset(app, &ann.email, NEW).await;
        anns.get("/me").await.assert_status(401);
        bens.get("/me").await.assert_status(200);
        let members = of_ben.get(&format!("{path}/members")).await.assert_status(200);
        assert_eq!(members.body["meta"]["total"], 2);
        let invites = of_ben.get(&format!("{path}/invites")).await.assert_status(200);
        let statuses: Vec<(&Value, &Value)> = invites.body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|invite| (&invite["email"], &invite["status"]))
            .collect();
        assert!(statuses.contains(&(&json!("cleo@example.com"), &json!("revoked"))));
        assert!(statuses.contains(&(&json!("dan@example.com"), &json!("pending"))));
    })
    .await;
}

#[tokio::test]
async fn signing_in_mails_a_new_link_only_when_the_last_one_has_expired() {
    with_settings(&[REQUIRED])
        .run(async |app| {
            sign_up(app, "ann@example.com", PASSWORD, "Ann").await.assert_status(200);
            let waiting = "select count(*) from outbox where attempts = 0";
            let newest = async || -> uuid::Uuid {
                let id = sqlx::query_scalar("select id from outbox");
                id.fetch_one(&mut app.connect().await).await.unwrap()
            };
            // A mail that was not sent yet is not replaced.
            let first = newest().await;
            let rejected = app.sign_in("ann@example.com", PASSWORD).await;
            rejected.assert_error(403, "EMAIL_NOT_VERIFIED");
            assert_eq!((app.count(waiting).await, newest().await), (1, first));
            let link = app.mailed_token().await;
            for password in [PASSWORD, STRANGERS_PASSWORD] {
                app.sign_in("ann@example.com", password).await;
                assert!(app.mails().await.is_empty());
            }
            app.execute("update email_tokens set expires_at = now()").await;
            app.sign_in("ann@example.com", STRANGERS_PASSWORD).await.assert_status(401);
            assert!(app.mails().await.is_empty());
            app.sign_in("ann@example.com", PASSWORD).await.assert_status(403);
            let newer = app.mailed_token().await;
            verify_as(app.anonymous(), &link, Some(PASSWORD)).await.assert_status(401);
            verify_as(app.anonymous(), &newer, Some(PASSWORD)).await.assert_status(200);
        })
        .await;
}

/// Attempts with the link share their limit with attempts in a session.
#[tokio::test]
async fn passwords_presented_with_a_link_count_against_the_account() {
    with_limits(r#"{"own_password":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            app.sign_up_for_mail("ann@example.com").await;
            let link = app.mailed_token().await;
            let wrong = async || verify_as(app.anonymous(), &link, Some(STRANGERS_PASSWORD)).await;
            let (tries, rejected) = send_until_limited(wrong).await;
            assert!((3..=4).contains(&tries), "{tries}");
            assert_retry_after(&rejected, "own_password");
        })
        .await;
}

#[tokio::test]
async fn the_reset_page_lists_what_the_reset_will_end() {
    run(async |app| {
        StrangersCredentials::create(app, "ann@example.com").await;
        app.mails().await;
        let page = async || {
            let request = json!({ "email": "ann@example.com" });
            app.anonymous()
                .post("/api/auth/request-password-reset", request)
                .await
                .assert_status(200);
            let mail = app.mails().await.remove(0);
            let link = mail.link().unwrap().strip_prefix("http://127.0.0.1:8080").unwrap();
            let page = app.anonymous().get(link).await.assert_status(200);
            let token = mail.token().unwrap();
            assert!(!page.text.contains(&token));
            (page.text, token)
        };
        let (presented, token) = page().await;
        for count in ["2 sessions", "1 personal access token", "2 API keys"] {
            assert!(presented.contains(&format!("<li>{count}</li>")), "{count}: {presented}");
        }
        assert!(
            !presented.contains("invitation") && !presented.contains("Stranger"),
            "{presented}"
        );
        assert!(
            presented.contains("was never confirmed together with its password"),
            "{presented}"
        );
        let request = json!({ "token": token, "newPassword": NEW });
        app.anonymous().post("/api/auth/reset-password", request).await.assert_status(200);

        // A reset of a proven account ends sessions only.
        let cookie = app.sign_in("ann@example.com", NEW).await.cookie().unwrap();
        app.create_token(&cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let (presented, _) = page().await;
        assert!(presented.contains("<li>1 session</li>"), "{presented}");
        for absent in ["token</li>", "key</li>", "keys</li>", "never confirmed"] {
            assert!(!presented.contains(absent), "{absent}: {presented}");
        }
        for link in ["", "?token=", "?token=garbage"] {
            let page = app.anonymous().get(&format!("/api/auth/reset-password{link}")).await;
            assert!(!page.assert_status(200).text.contains("<li>"));
        }
    })
    .await;
}
