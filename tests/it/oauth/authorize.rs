//! `/oauth2/authorize`: which requests are valid, and where errors are reported.

use chrono::TimeDelta;
use serde_json::json;

use super::{CODES, account_and_client};
use crate::support::accounts::PASSWORD;
use crate::support::client::TestResponse;
use crate::support::oauth::{
    Browser, CHALLENGE, ISSUER, OauthClientSpec, REDIRECT_URI, form, handle_in, parameters_of,
};
use crate::support::{run, with_settings};

/// Asserts a page without links and redirects.
#[track_caller]
fn assert_page(response: &TestResponse, status: u16) {
    assert_eq!(response.status.as_u16(), status, "{}", response.text);
    assert!(response.header("content-type").starts_with("text/html"), "{response:?}");
    assert_eq!(response.header("location"), "");
    assert!(!response.text.contains("<script>") && !response.text.contains("href"));
}

/// Asserts a redirect to the client with this error.
#[track_caller]
fn assert_error(response: &TestResponse, error: &str) {
    assert_eq!(response.status, 303, "{}", response.text);
    let location = response.header("location");
    assert!(location.starts_with(&format!("{REDIRECT_URI}?error={error}&")), "{location}");
    let parameters = parameters_of(location);
    assert_eq!(parameters.get("iss").map(String::as_str), Some(ISSUER));
    assert!(!parameters.contains_key("code"));
}

#[tokio::test]
async fn without_oauth_none_of_the_routes_exists() {
    with_settings(&[("OAUTH", "off")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = app.session(&ann.cookie);
            for path in ["/oauth2/authorize", "/oauth2/sign-in?request=x", "/oauth2/consent"] {
                for client in [&client, &app.anonymous()] {
                    let response = client.get(path).await.assert_status(404);
                    assert_eq!(response.body["error"], "not_found", "{path}");
                }
            }
            let posted = client.post_form("/oauth2/authorize", "client_id=x").await;
            posted.assert_error(404, "not_found");
            let answer = json!({ "request": "x", "accept": true });
            client.post("/oauth2/consent", answer).await.assert_error(404, "not_found");
        })
        .await;
}

#[tokio::test]
async fn a_request_with_an_unknown_client_or_redirect_uri_is_answered_by_a_page_and_no_redirect() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        // An earlier consent makes no difference.
        browser.grant(&client.path(&[]), &ann.org_id).await;
        browser.get(&client.path(&[])).await.assert_status(303);
        let codes = app.count(CODES).await;
        for changes in [
            ("client_id", ""),
            ("client_id", "app_unknown"),
            ("client_id", "\0"),
            ("client_id", "https://evil.example/client.json"),
            ("redirect_uri", ""),
            ("redirect_uri", "https://evil.example/callback"),
            ("redirect_uri", "https://appXexample.com/callback"),
            ("redirect_uri", "https://app.example.com/callback/"),
            ("redirect_uri", "https://app.example.com/callback?x"),
            ("redirect_uri", "https://app.example.com/callback#x"),
            ("redirect_uri", "https://app.example.com:443/callback"),
            ("redirect_uri", "https://app.example.com@evil.example/callback"),
            ("redirect_uri", "http://app.example.com/callback"),
            ("redirect_uri", "HTTPS://app.example.com/callback"),
            ("redirect_uri", "javascript:alert(1)"),
        ] {
            let query = client.query(&[changes]);
            assert_page(&browser.get(&format!("/oauth2/authorize?{query}")).await, 400);
            assert_page(&browser.post_from_another_site("/oauth2/authorize", &query).await, 400);
        }
        for name in ["client_id", "redirect_uri"] {
            let twice = format!("{}&{}", client.path(&[]), form(&[(name, REDIRECT_URI)]));
            assert_page(&browser.get(&twice).await, 400);
        }
        assert_page(&browser.get("/oauth2/authorize").await, 400);
        assert_eq!(app.count(CODES).await, codes);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_disabled_or_of_a_suspended_organization_is_unknown() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.get(&client.path(&[])).await.assert_status(303);
        app.execute("update oauth_clients set disabled_at = now()").await;
        assert_page(&browser.get(&client.path(&[])).await, 400);
        app.execute("update oauth_clients set disabled_at = null").await;
        app.execute(
            "update organizations set suspended_at = now()
             where id in (select organization_id from oauth_clients)",
        )
        .await;
        assert_page(&browser.get(&client.path(&[])).await, 400);
    })
    .await;
}

#[tokio::test]
async fn every_other_invalid_parameter_is_reported_to_the_client_with_state_and_issuer() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let long = "n".repeat(513);
        let padded = format!("{CHALLENGE}=");
        let spaced = format!("{}+", &CHALLENGE[..42]);
        for (name, value, error) in [
            ("response_type", "", "invalid_request"),
            ("response_type", "token", "unsupported_response_type"),
            ("response_type", "code id_token", "unsupported_response_type"),
            ("code_challenge", "", "invalid_request"),
            ("code_challenge", &CHALLENGE[1..], "invalid_request"),
            ("code_challenge", &padded, "invalid_request"),
            ("code_challenge", &spaced, "invalid_request"),
            ("code_challenge_method", "", "invalid_request"),
            ("code_challenge_method", "plain", "invalid_request"),
            ("code_challenge_method", "s256", "invalid_request"),
            ("response_mode", "fragment", "invalid_request"),
            ("request", "eyJ", "request_not_supported"),
            ("request_uri", "urn:x", "request_uri_not_supported"),
            ("prompt", "none login", "invalid_request"),
            ("prompt", "create", "invalid_request"),
            ("max_age", "-1", "invalid_request"),
            ("max_age", "soon", "invalid_request"),
            ("nonce", &long, "invalid_request"),
            ("nonce", "a\0b", "invalid_request"),
            ("login_hint", "a\nb", "invalid_request"),
            ("organization_id", "no organization", "invalid_request"),
            ("scope", "projects:read unknown:read", "invalid_scope"),
            ("scope", "projects:read openid", "invalid_scope"),
            ("scope", "members:read", "invalid_scope"),
            ("scope", "*", "invalid_scope"),
            ("scope", "projects:*", "invalid_scope"),
            ("scope", "offline_access", "invalid_scope"),
            ("scope", "\0", "invalid_scope"),
            ("resource", "https://elsewhere.example", "invalid_target"),
            ("resource", "http://127.0.0.1:8080/other", "invalid_target"),
            ("resource", "http://127.0.0.1:8080/#x", "invalid_target"),
            ("resource", "\0", "invalid_target"),
        ] {
            let response = browser.get(&client.path(&[(name, value)])).await;
            assert_error(&response, error);
            let state = parameters_of(response.header("location")).remove("state");
            assert_eq!(state.as_deref(), Some("abc"), "{name}");
            let form = client.query(&[(name, value)]);
            let posted = browser.post_from_another_site("/oauth2/authorize", &form).await;
            assert_eq!(posted.header("location"), response.header("location"));
        }
        for name in ["scope", "nonce", "code_challenge", "response_type", "unknown"] {
            let twice = format!("{}&{name}=a&{name}=", client.path(&[]));
            assert_error(&browser.get(&twice).await, "invalid_request");
        }
        let repeated_state = format!("{}&state=other", client.path(&[]));
        let long_state = "s".repeat(2_049);
        for path in [repeated_state, client.path(&[("state", &long_state)])] {
            let response = browser.get(&path).await;
            assert_error(&response, "invalid_request");
            assert!(!parameters_of(response.header("location")).contains_key("state"));
        }
        assert_eq!(app.count("select count(*) from oauth_requests").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_client_requests_its_own_scopes_only_and_by_default_all_but_offline_access() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[("scope", "")])).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
        for scope in ["projects:read", "projects:write", "user:read"] {
            assert!(page.text.contains(&format!("value=\"{scope}\"")), "{scope}");
        }
        assert!(!page.text.contains("offline_access"));
        // Scopes that the operator does not let clients request.
        let spec = OauthClientSpec { scopes: &["api-keys:read"], ..OauthClientSpec::default() };
        let other = spec.insert(app, &ann.org_id).await;
        for scope in ["", "api-keys:read"] {
            assert_error(&browser.get(&other.path(&[("scope", scope)])).await, "invalid_scope");
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_and_empty_parameters_are_ignored() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let path = format!("{}&claims=x&display=page&nonce=&prompt=&max_age=", client.path(&[]));
        browser.begin(&path).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_leads_to_the_sign_in_page_and_after_it_to_the_consent_page() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::new(app);
        let hint = [("login_hint", "ann@example.com\"><script>")];
        let response = browser.get(&client.path(&hint)).await.assert_status(303);
        let location = response.header("location").to_owned();
        assert!(location.starts_with("/oauth2/sign-in?request="), "{location}");
        let cookie = response.header("set-cookie");
        assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"), "{cookie}");
        let handle = handle_in(app, &response);
        let page = browser.get(&location).await.assert_status(200);
        assert!(page.text.contains("value=\"ann@example.com&#34;&#62;&#60;script&#62;\""));
        assert!(page.text.contains("Planner"));
        let policy = page.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        let consent = format!("/oauth2/consent?request={handle}");
        assert_eq!(browser.get(&consent).await.header("location"), location);
        // The session that the page's script starts.
        let session = app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap();
        let mut browser = browser.with_session(&session);
        assert_eq!(browser.get(&location).await.header("location"), consent);
        browser.get(&consent).await.assert_status(200);
        // Signing in to another account is possible.
        browser.get(&format!("{location}&switch=1")).await.assert_status(200);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_another_site_posts_is_continued_on_the_next_page() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let response =
            browser.post_from_another_site("/oauth2/authorize", &client.query(&[])).await;
        let handle = handle_in(app, &response.assert_status(303));
        browser.get(&format!("/oauth2/consent?request={handle}")).await.assert_status(200);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
        let silent = client.query(&[("prompt", "none")]);
        let response = browser.post_from_another_site("/oauth2/authorize", &silent).await;
        let location = response.assert_status(303).header("location").to_owned();
        let response = browser.get(&location).await.assert_status(303);
        assert!(response.header("location").starts_with("https://app.example.com/callback?code="));
        browser.get(&location).await.assert_status(404);
    })
    .await;
}

#[tokio::test]
async fn the_client_can_require_a_new_sign_in() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        app.clock.advance(TimeDelta::minutes(2));
        let mut browser = Browser::signed_in(app, &ann.cookie);
        for (name, value, page) in [
            ("prompt", "login", "/oauth2/sign-in"),
            ("max_age", "60", "/oauth2/sign-in"),
            ("max_age", "0", "/oauth2/sign-in"),
            ("max_age", "120", "/oauth2/consent"),
            ("prompt", "select_account", "/oauth2/consent"),
        ] {
            let response = browser.get(&client.path(&[(name, value)])).await.assert_status(303);
            let location = response.header("location").to_owned();
            assert!(location.starts_with(&format!("{page}?")), "{name} {value}: {location}");
            let handle = handle_in(app, &response);
            if page == "/oauth2/sign-in" {
                // The consent page requires the sign-in first.
                let consent = format!("/oauth2/consent?request={handle}");
                assert_eq!(browser.get(&consent).await.header("location"), location);
                browser.get(&location).await.assert_status(200);
                let answer = browser.allow(&handle, &ann.org_id).await;
                answer.assert_error(401, "invalid_client");
                let session = app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap();
                let again = browser.with_session(&session);
                again.allow(&handle, &ann.org_id).await.assert_status(200);
                app.execute("delete from oauth_codes").await;
                app.execute("delete from oauth_grants").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_request_gets_an_error_and_never_a_page() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let silent = client.path(&[("prompt", "none")]);
        assert_error(&Browser::new(app).get(&silent).await, "login_required");
        assert_error(&Browser::signed_in(app, "garbage").get(&silent).await, "login_required");
        let mut browser = Browser::signed_in(app, &ann.cookie);
        assert_error(&browser.get(&silent).await, "consent_required");
        app.clock.advance(TimeDelta::minutes(2));
        let recent = client.path(&[("prompt", "none"), ("max_age", "60")]);
        assert_error(&browser.get(&recent).await, "login_required");
    })
    .await;
}

#[tokio::test]
async fn the_state_is_returned_unchanged_and_escaped_in_a_form() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let state = "\"><script>alert(1)</script>&a=b c+d%20é";
        let sent = [("state", state)];
        let granted = browser.grant(&client.path(&sent), &ann.org_id).await;
        assert_eq!(granted["state"], state);
        assert_eq!(granted["iss"], ISSUER);
        let bad = [("state", state), ("response_mode", "form_post"), ("scope", "x:y")];
        let page = browser.get(&client.path(&bad)).await.assert_status(200);
        let escaped = "&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;a=b c+d%20é";
        assert!(page.text.contains(&format!("name=\"state\" value=\"{escaped}\"")), "{page:?}");
        assert!(page.text.contains("name=\"error\" value=\"invalid_scope\""));
        assert!(page.text.contains(&format!("action=\"{REDIRECT_URI}\"")));
        assert_eq!(page.text.matches("<script>").count(), 1);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("form-action https://app.example.com;"), "{policy}");
    })
    .await;
}

#[tokio::test]
async fn a_loopback_redirect_uri_may_use_any_port() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let spec = OauthClientSpec {
            redirect_uris: &["http://localhost/callback"],
            auth_method: "none",
            ..OauthClientSpec::default()
        };
        let client = spec.insert(app, &ann.org_id).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let uri = "http://localhost:51234/callback";
        let handle = browser.begin(&client.path(&[("redirect_uri", uri)])).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
        assert!(page.text.contains("runs on your own device"), "{}", page.text);
        let answer = browser.allow(&handle, &ann.org_id).await.assert_status(200);
        assert!(answer.body["redirect"].as_str().unwrap().starts_with(&format!("{uri}?code=")));
        let other = client.path(&[("redirect_uri", "http://127.0.0.1:51234/callback")]);
        assert_page(&browser.get(&other).await, 400);
    })
    .await;
}
