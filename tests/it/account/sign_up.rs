//! `POST /auth/signup`, and what it shares with the user family's sign-up.

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::COUNT_ORGANIZATIONS;
use crate::support::app::text;
use crate::support::{TestApp, run, with_settings};

fn request(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "name": "Jane Developer" })
}

#[tokio::test]
async fn a_signup_gives_a_token_a_key_and_an_account() {
    run(async |app| {
        let response = app.anonymous().post("/auth/signup", request("Dev@Example.com")).await;
        let response = response.assert_status(201);
        assert_eq!(response.cookie(), None);
        let data = &response.body["data"];
        assert_eq!(data["account"]["email"], "dev@example.com");
        assert_eq!(data["account"]["name"], "Jane Developer");
        assert_eq!(data["account"]["plan"], "trial");
        assert!(text(&data["account"]["id"]).starts_with("acc_"));
        let me = app.bearer(&text(&data["token"])).get("/auth/me").await.assert_status(200);
        assert_eq!(me.body["data"]["id"], data["account"]["id"]);
        assert_eq!(me.body["data"]["created_at"], crate::support::app::START_TIME);
        // The key is one of the organization's API keys.
        let identity = app.key(&text(&data["api_key"])).get("/v1/organization/me").await;
        assert_eq!(identity.assert_status(200).body["org_name"], "Jane Developer");
    })
    .await;
}

#[tokio::test]
async fn a_signup_leaves_a_session_an_audit_row_and_a_mail() {
    run(async |app| {
        app.anonymous().post("/auth/signup", request("dev@example.com")).await.assert_status(201);
        assert_eq!(app.count("select count(*) from sessions").await, 1);
        let events = "select count(*) from audit_events where event_type = 'account.signed_up'";
        assert_eq!(app.count(events).await, 1);
        let mails = app.mails().await;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].header("To"), "dev@example.com");
        // The mail contains no text of the caller: a stranger could use another's address.
        assert!(!mails[0].text.contains("Jane"));
    })
    .await;
}

#[tokio::test]
async fn an_omitted_or_empty_name_is_returned_as_null() {
    run(async |app| {
        for (email, name) in [("a@example.com", None), ("b@example.com", Some(json!("")))] {
            let mut request = json!({ "email": email, "password": PASSWORD });
            if let Some(name) = name {
                request["name"] = name;
            }
            let response = app.anonymous().post("/auth/signup", request).await.assert_status(201);
            assert_eq!(response.body["data"]["account"]["name"], Value::Null);
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_has_one_account_whatever_its_case_and_spelling() {
    run(async |app| {
        app.sign_up_account("dev@xn--bcher-kva.example").await;
        for email in ["dev@xn--bcher-kva.example", "DEV@bücher.example", "Dev@BÜCHER.example"] {
            let response = app.anonymous().post("/auth/signup", request(email)).await;
            let response = response.assert_error(409, "CONFLICT");
            let message = &response.body["error"]["message"];
            assert_eq!(message, "An account with this email already exists");
            let response = app.anonymous().post("/api/auth/sign-up/email", request(email)).await;
            response.assert_error(422, "USER_ALREADY_EXISTS");
        }
        assert_eq!(app.count("select count(*) from accounts").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_signups_with_one_address_on_both_routes_succeeds() {
    run(async |app| {
        let mut signups = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (anon, path) = match number % 2 {
                0 => (app.anonymous(), "/auth/signup"),
                _ => (app.anonymous(), "/api/auth/sign-up/email"),
            };
            let email = if number % 3 == 0 { "DEV@Example.com" } else { "dev@example.com" };
            signups.spawn(async move { anon.post(path, request(email)).await.status.as_u16() });
        }
        let statuses = signups.join_all().await;
        let served = statuses.iter().filter(|status| **status < 300).count();
        assert_eq!(served, 1, "{statuses:?}");
        assert!(statuses.iter().all(|it| [200, 201, 409, 422].contains(it)), "{statuses:?}");
        for table in ["select count(*) from accounts", "select count(*) from sessions"] {
            assert_eq!(app.count(table).await, 1);
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_email_is_rejected_and_no_mail_is_queued() {
    run(async |app| {
        let long = format!("{}@example.com", "a".repeat(245));
        assert_eq!(long.len(), 257);
        let wrong = [
            json!(""),
            json!("dev"),
            json!("dev@"),
            json!("@example.com"),
            json!("dev@example"),
            json!("dev＠example.com"),
            json!("dev@ｅxample.com"),
            json!("a@example.com,b@example.com"),
            json!("a@example.com\r\nBcc: b@example.com"),
            json!("dev@exa mple.com"),
            json!("\"dev\"@example.com"),
            json!("dev@[127.0.0.1]"),
            json!(long),
            json!(["dev@example.com"]),
            json!(null),
        ];
        for path in ["/auth/signup", "/api/auth/sign-up/email"] {
            for email in &wrong {
                let mut request = request("");
                request["email"] = email.clone();
                let response = app.anonymous().post(path, request).await;
                let response = response.assert_error(400, "VALIDATION_ERROR");
                assert_eq!(response.invalid_fields(), ["email"], "{email}");
            }
        }
        assert_eq!(app.count("select count(*) from outbox").await, 0);
    })
    .await;
}

async fn sign_up_with_password(app: &TestApp, password: &str) -> u16 {
    let email = "dev.example@example.com";
    let request = json!({ "email": email, "password": password });
    let response = app.anonymous().post("/auth/signup", request).await;
    if response.status == 400 {
        assert_eq!(response.invalid_fields(), ["password"]);
    } else {
        // Frees the address for the next sign-up.
        let token = text(&response.body["data"]["token"]);
        let request = json!({ "password": password }).to_string();
        let client = app.bearer(&token).with("content-type", "application/json");
        client.send("DELETE", "/api/user/me", request).await.assert_status(200);
    }
    response.status.as_u16()
}

#[tokio::test]
async fn an_invalid_or_guessable_password_is_rejected_and_any_other_is_used_unchanged() {
    run(async |app| {
        let five_kib = "x".repeat(5 * 1024);
        let bad = [
            "",
            "7 chars",
            &"é".repeat(129),
            &five_kib,
            "nul\0inside it",
            "12345678",
            "Password1",
            "iloveyou",
            "dev.example@example.com",
            "DEV.Example@example.com",
        ];
        for text in bad {
            assert_eq!(sign_up_with_password(app, text).await, 400, "{text:?}");
        }
        for text in ["        ", "👩‍🚀👩‍🚀👩‍🚀", "' or 1=1 --", &"é".repeat(128)]
        {
            assert_eq!(sign_up_with_password(app, text).await, 201, "{text:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn fields_that_a_caller_must_not_set_are_rejected_by_name() {
    run(async |app| {
        for path in ["/auth/signup", "/api/auth/sign-up/email"] {
            let mut request = request("dev@example.com");
            request["emailVerified"] = json!(true);
            request["role"] = json!("admin");
            request["plan"] = json!("scale");
            let response =
                app.anonymous().post(path, request).await.assert_error(400, "VALIDATION_ERROR");
            let mut fields = response.invalid_fields();
            fields.sort_unstable();
            assert_eq!(fields, ["emailVerified", "plan", "role"]);
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_is_named_at_once() {
    run(async |app| {
        let request = json!({ "email": "dev", "password": "short", "name": 7 });
        for path in ["/auth/signup", "/api/auth/sign-up/email"] {
            let response = app.anonymous().post(path, request.clone()).await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["email", "password", "name"]);
        }
    })
    .await;
}

#[tokio::test]
async fn the_signup_mode_applies_to_both_routes() {
    let token = "front-door-token-1";
    with_settings(&[("SIGNUP_MODE", "gated"), ("SIGNUP_TOKEN", token)])
        .run(async |app| {
            for (path, email) in
                [("/auth/signup", "a@example.com"), ("/api/auth/sign-up/email", "b@example.com")]
            {
                let rejected = app.anonymous().post(path, request(email)).await;
                rejected.assert_error(403, "forbidden");
                let good = app.anonymous().with("x-signup-token", token);
                assert!(good.post(path, request(email)).await.status.is_success());
            }
        })
        .await;
    with_settings(&[("SIGNUP_MODE", "closed")])
        .run(async |app| {
            for path in ["/auth/signup", "/api/auth/sign-up/email"] {
                let rejected = app.anonymous().post(path, request("a@example.com")).await;
                rejected.assert_error(403, "forbidden");
            }
        })
        .await;
}

#[tokio::test]
async fn with_required_verification_the_rejection_names_the_other_sign_up_route() {
    with_settings(&[("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let response = app.anonymous().post("/auth/signup", request("dev@example.com")).await;
            let response = response.assert_error(403, "AUTHORIZATION_ERROR");
            assert!(response.text.contains("/api/auth/sign-up/email"), "{}", response.text);
            assert_eq!(app.count("select count(*) from accounts").await, 0);
        })
        .await;
}
