//! `/api/auth/sign-up/email`, `/sign-in/email`, `/sign-out`, `/get-session`

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::{run, with_settings};

fn request(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "name": "Your Name" })
}

#[tokio::test]
async fn a_sign_up_returns_the_account_its_organization_and_a_session_cookie() {
    run(async |app| {
        let response =
            app.anonymous().post("/api/auth/sign-up/email", request("you@example.com")).await;
        let response = response.assert_status(200);
        let (user, organization) =
            (&response.body["data"]["user"], &response.body["data"]["organization"]);
        assert_eq!(user["email"], "you@example.com");
        assert_eq!(user["fullName"], "Your Name");
        assert_eq!(user["handle"], "yourname");
        assert_eq!((&user["isVerified"], &user["verifiedAt"]), (&json!(false), &Value::Null));
        assert_eq!(user["organizationCount"], 1);
        assert_eq!(user["lastLoginAt"], crate::support::app::START_TIME);
        assert_eq!(organization["name"], "Your Name");
        assert_eq!(organization["role"], "owner");
        assert_eq!(organization["status"], "active");
        let cookie = response.cookie().unwrap();
        let session = app.session(&cookie).get("/api/auth/get-session").await.assert_status(200);
        assert_eq!(session.body["data"]["user"]["id"], user["id"]);
        assert_eq!(session.body["data"]["session"]["current"], true);
        assert_eq!(session.body["data"]["session"]["ipAddress"], "192.0.2.7");
    })
    .await;
}

#[tokio::test]
async fn accounts_whose_names_suggest_the_same_handle_get_different_handles() {
    run(async |app| {
        let mut handles = std::collections::HashSet::new();
        for (email, name) in
            [("a@example.com", "Ann"), ("b@example.com", "ANN"), ("c@example.com", "名前")]
        {
            let request = json!({ "email": email, "password": PASSWORD, "name": name });
            let response =
                app.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
            handles.insert(response.body["data"]["user"]["handle"].as_str().unwrap().to_owned());
        }
        assert_eq!(handles.len(), 3, "{handles:?}");
        assert!(handles.contains("ann"));
    })
    .await;
}

#[tokio::test]
async fn the_cookie_has_its_security_attributes_and_prefix() {
    let flags = "HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000";
    run(async |app| {
        let response =
            app.anonymous().post("/api/auth/sign-up/email", request("a@example.com")).await;
        let set = response.header("set-cookie");
        assert!(set.starts_with("tenantry_session=tnt_session_"), "{set}");
        assert!(set.ends_with(flags), "{set}");
    })
    .await;
    with_settings(&[("PUBLIC_URL", "https://api.example.com")])
        .run(async |app| {
            let response =
                app.anonymous().post("/api/auth/sign-up/email", request("a@example.com")).await;
            let set = response.header("set-cookie");
            assert!(set.starts_with("__Host-tenantry_session=tnt_session_"), "{set}");
            assert!(set.contains("; Secure;"), "{set}");
            let (pair, _) = set.split_once(';').unwrap();
            let client = app.anonymous().with("cookie", &format!("theme=dark; {pair}; lang=en"));
            client.get("/api/user/me").await.assert_status(200);
            // The cookie is not accepted without the prefix.
            let plain = pair.replace("__Host-", "");
            let client = app.anonymous().with("cookie", &plain);
            client.get("/api/user/me").await.assert_error(401, "AUTHENTICATION_REQUIRED");
        })
        .await;
}

#[tokio::test]
async fn a_cookie_without_remember_me_has_no_max_age() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut request = json!({ "email": ann.email, "password": PASSWORD, "rememberMe": false });
        let response = app.anonymous().post("/api/auth/sign-in/email", request.clone()).await;
        assert!(!response.assert_status(200).header("set-cookie").contains("Max-Age"));
        request["rememberMe"] = json!(true);
        let response = app.anonymous().post("/api/auth/sign-in/email", request.clone()).await;
        assert!(response.assert_status(200).header("set-cookie").contains("Max-Age"));
        request["rememberMe"] = json!("yes");
        let response = app.anonymous().post("/api/auth/sign-in/email", request).await;
        assert_eq!(response.assert_status(400).invalid_fields(), ["rememberMe"]);
    })
    .await;
}

#[tokio::test]
async fn signing_out_ends_the_session_and_clears_the_cookie() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let response = app.session(&ann.cookie).post("/api/auth/sign-out", json!({})).await;
        let set = response.assert_status(200).header("set-cookie").to_owned();
        assert!(set.starts_with("tenantry_session=;") && set.contains("Max-Age=0"), "{set}");
        let me = app.session(&ann.cookie).get("/api/user/me").await;
        me.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        let session = app.session(&ann.cookie).get("/api/auth/get-session").await;
        assert_eq!(session.assert_status(200).body["data"], Value::Null);
        app.bearer(&ann.token).get("/api/user/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_credential_has_no_session_and_an_invalid_bearer_token_is_rejected() {
    run(async |app| {
        let session = app.anonymous().get("/api/auth/get-session").await.assert_status(200);
        assert_eq!(session.body["data"], Value::Null);
        let session = app.session("garbage").get("/api/auth/get-session").await.assert_status(200);
        assert_eq!(session.body["data"], Value::Null);
        let wrong = app.bearer("garbage").get("/api/auth/get-session").await;
        wrong.assert_error(401, "INVALID_API_KEY");
    })
    .await;
}

#[tokio::test]
async fn a_callback_to_another_origin_is_rejected_by_name() {
    let dashboards = [("DASHBOARD_ORIGINS", "https://app.example.com")];
    with_settings(&dashboards)
        .run(async |app| {
            for (at, url) in [
                "https://evil.example",
                "//evil.example",
                "javascript:alert(1)",
                "https://app.example.com.evil.example",
            ]
            .into_iter()
            .enumerate()
            {
                let mut request = request(&format!("a{at}@example.com"));
                request["callbackURL"] = json!(url);
                let response = app.anonymous().post("/api/auth/sign-up/email", request).await;
                assert_eq!(response.assert_status(400).invalid_fields(), ["callbackURL"], "{url}");
            }
            let mut request = request("you@example.com");
            request["callbackURL"] = json!("https://app.example.com/welcome?a=b");
            app.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
            app.mailed_token().await;
            // A link that is mailed again has the same callback.
            let again = json!({ "email": "you@example.com", "password": PASSWORD });
            let again = app.anonymous().post("/api/auth/sign-in/email", again).await;
            let cookie = format!("tenantry_session={}", again.assert_status(200).cookie().unwrap());
            let session = app.anonymous().with("cookie", &cookie);
            session.post("/api/auth/send-verification-email", json!({})).await.assert_status(200);
            let token = app.mailed_token().await;
            let verified = session.post("/api/auth/verify-email", json!({ "token": token })).await;
            let url = &verified.assert_status(200).body["data"]["callbackURL"];
            assert_eq!(*url, "https://app.example.com/welcome?a=b");
        })
        .await;
}
