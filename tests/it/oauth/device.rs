//! The device flow (RFC 8628).

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{CODES, LIVE_GRANTS};
use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::oauth::{ISSUER, OauthClient, OauthClientSpec, form};
use crate::support::rate_limits::{with_limits, with_limits_behind_proxy};
use crate::support::{TestApp, run, with_settings};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Makes the interval between two polls pass.
const WAIT: &str = "update oauth_devices
                    set polled_at = now() - make_interval(secs => interval_seconds)";

/// A public app of another organization that runs on devices.
async fn native_client(app: &TestApp) -> OauthClient {
    let vendor = app.sign_up().await;
    let spec = OauthClientSpec {
        auth_method: "none",
        application_type: "native",
        ..OauthClientSpec::default()
    };
    spec.insert(app, &vendor.org_id).await
}

async fn account_and_device(app: &TestApp) -> (TestAccount, Device<'_>) {
    let ann = app.verified_account("ann@example.com").await;
    let client = native_client(app).await;
    let device = Device::start(app, &client, "projects:read").await;
    (ann, device)
}

async fn request_codes(
    app: &TestApp,
    client: &OauthClient,
    parameters: &[(&str, &str)],
) -> TestResponse {
    let mut all = vec![("client_id", &*client.client_id)];
    all.extend(parameters);
    let response = app.anonymous().post_form("/oauth2/device_authorization", &form(&all)).await;
    let codes = ["device_code", "user_code"].map(|name| response.body[name].as_str());
    app.seen_secrets.lock().unwrap().extend(codes.into_iter().flatten().map(str::to_owned));
    response
}

/// A device that waits for a person.
struct Device<'a> {
    app: &'a TestApp,
    client: OauthClient,
    codes: Value,
}

impl<'a> Device<'a> {
    async fn start(app: &'a TestApp, client: &OauthClient, scope: &str) -> Self {
        let codes = request_codes(app, client, &[("scope", scope)]).await.assert_status(200).body;
        Self { app, client: client.clone(), codes }
    }

    fn user_code(&self) -> &str {
        self.codes["user_code"].as_str().unwrap()
    }

    async fn poll_as(&self, client: &OauthClient) -> TestResponse {
        let parameters = [
            ("grant_type", GRANT_TYPE),
            ("device_code", self.codes["device_code"].as_str().unwrap()),
            ("client_id", &client.client_id),
        ];
        let response = self.app.anonymous().post_form("/oauth2/token", &form(&parameters)).await;
        let tokens = ["access_token", "refresh_token"].map(|name| response.body[name].as_str());
        let tokens = tokens.into_iter().flatten().map(str::to_owned);
        self.app.seen_secrets.lock().unwrap().extend(tokens);
        response
    }

    async fn poll(&self) -> TestResponse {
        self.poll_as(&self.client).await
    }

    /// Types the code in a session.
    async fn type_code(&self, session: &str) -> TestResponse {
        let request = json!({ "userCode": self.user_code() });
        let response = self.app.session(session).post("/oauth2/device/claim", request).await;
        let handle = response.body["request"].as_str().map(str::to_owned);
        self.app.seen_secrets.lock().unwrap().extend(handle);
        response
    }

    async fn claim(&self, session: &str) -> String {
        let response = self.type_code(session).await.assert_status(200);
        response.body["request"].as_str().unwrap().to_owned()
    }

    async fn claim_and_approve(&self, person: &TestAccount) -> TestResponse {
        let handle = self.claim(&person.cookie).await;
        approve(self.app, &person.cookie, &handle, &person.org_id).await
    }
}

async fn approve(app: &TestApp, session: &str, handle: &str, org_id: &str) -> TestResponse {
    let answer = json!({ "request": handle, "organizationId": org_id });
    app.session(session).post("/oauth2/device/approve", answer).await
}

async fn deny(app: &TestApp, session: &str, handle: &str) -> TestResponse {
    app.session(session).post("/oauth2/device/deny", json!({ "request": handle })).await
}

#[tokio::test]
async fn a_device_gets_tokens_once_a_person_has_typed_its_code_and_approved() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = native_client(app).await;
        let device = Device::start(app, &client, "projects:read offline_access").await;
        let user_code = device.user_code();
        assert_eq!(user_code.len(), 9, "{user_code}");
        assert_eq!(device.codes["verification_uri"], format!("{ISSUER}/device"));
        let complete = format!("{ISSUER}/device?user_code={user_code}");
        assert_eq!(device.codes["verification_uri_complete"], complete);
        assert_eq!(device.codes["expires_in"], 600);
        assert_eq!(device.codes["interval"], 5);
        device.poll().await.assert_error(400, "authorization_pending");
        let handle = device.claim(&ann.cookie).await;
        app.execute(WAIT).await;
        device.poll().await.assert_error(400, "authorization_pending");
        let page = app.session(&ann.cookie).get(&format!("/device?request={handle}")).await;
        let page = page.assert_status(200).text;
        for shown in ["Planner", "Read the organization", "keep access", &ann.org_id, &ann.email] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(page.contains("Continue only if you have just started it yourself"), "{page}");
        let answer = approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_status(200);
        assert_eq!(answer.body, json!({ "status": "approved" }));
        // After approval, the interval does not apply.
        let tokens = device.poll().await.assert_status(200).body;
        assert_eq!(tokens["scope"], "projects:read offline_access");
        assert_eq!(tokens["organization_id"], ann.org_id);
        let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
        let token = tokens["access_token"].as_str().unwrap();
        app.bearer(token).get(&projects).await.assert_status(200);
        let parameters = form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
            ("client_id", &client.client_id),
        ]);
        let refreshed = app.anonymous().post_form("/oauth2/token", &parameters).await;
        let refreshed = refreshed.assert_status(200).body;
        let secrets = ["access_token", "refresh_token"].map(|it| refreshed[it].as_str().unwrap());
        app.seen_secrets.lock().unwrap().extend(secrets.map(str::to_owned));
        let event = "select count(*) from audit_events where event_type = 'app_grant.created'";
        assert_eq!(app.count(event).await, 1);
    })
    .await;
}

#[tokio::test]
async fn without_offline_access_the_tokens_end_with_the_session_that_approved() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        device.claim_and_approve(&ann).await.assert_status(200);
        let tokens = device.poll().await.assert_status(200).body;
        assert_eq!(tokens["refresh_token"], Value::Null);
        let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
        let api = app.bearer(tokens["access_token"].as_str().unwrap());
        api.get(&projects).await.assert_status(200);
        let session = app.session(&ann.cookie);
        session.post("/api/auth/sign-out", json!({})).await.assert_status(200);
        api.get(&projects).await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn a_request_of_a_device_is_checked_like_an_authorization_request() {
    with_settings(&[("OAUTH_RESOURCES", "https://mcp.example.com")])
        .run(async |app| {
            let client = native_client(app).await;
            let web = OauthClientSpec { name: "Web", auth_method: "none", ..Default::default() };
            let web = web.insert(app, &app.sign_up().await.org_id).await;
            for (parameters, error) in [
                (("scope", "billing:read"), "invalid_scope"),
                (("scope", "offline_access"), "invalid_scope"),
                (("resource", "https://other.example.com"), "invalid_target"),
                (("resource", "not a URI"), "invalid_target"),
            ] {
                request_codes(app, &client, &[parameters]).await.assert_error(400, error);
            }
            let twice = [("scope", "projects:read"), ("scope", "user:read")];
            request_codes(app, &client, &twice).await.assert_error(400, "invalid_request");
            request_codes(app, &web, &[]).await.assert_error(400, "unauthorized_client");
            let unknown = OauthClient { client_id: "app_unknown".to_owned(), ..client.clone() };
            request_codes(app, &unknown, &[]).await.assert_error(401, "invalid_client");
            let path = "/oauth2/device_authorization";
            app.anonymous().post_form(path, "").await.assert_error(400, "invalid_request");
            assert_eq!(app.count("select count(*) from oauth_devices").await, 0);
            let resource = [("resource", "https://mcp.example.com")];
            request_codes(app, &client, &resource).await.assert_status(200);
            let stored = "select count(*) from oauth_devices
                          where resources = '{https://mcp.example.com}' and not is_offline
                            and 'user:read' = any(scopes)";
            assert_eq!(app.count(stored).await, 1);
        })
        .await;
}

#[tokio::test]
async fn only_the_native_app_that_requested_the_device_code_can_redeem_it() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let other = OauthClientSpec {
            name: "Other",
            auth_method: "none",
            application_type: "native",
            ..Default::default()
        };
        let other = other.insert(app, &ann.org_id).await;
        let web = OauthClientSpec { name: "Web", auth_method: "none", ..Default::default() };
        let web = web.insert(app, &ann.org_id).await;
        device.claim_and_approve(&ann).await.assert_status(200);
        device.poll_as(&other).await.assert_error(400, "invalid_grant");
        device.poll_as(&web).await.assert_error(400, "unauthorized_client");
        let client_id = &device.client.client_id;
        for (code, error) in [("", "invalid_request"), ("garbage", "invalid_grant")] {
            let parameters = form(&[
                ("grant_type", GRANT_TYPE),
                ("device_code", code),
                ("client_id", client_id),
            ]);
            let response = app.anonymous().post_form("/oauth2/token", &parameters).await;
            response.assert_error(400, error);
        }
        // The device code is no authorization code.
        let code = device.codes["device_code"].as_str().unwrap();
        let parameters = form(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", crate::support::oauth::VERIFIER),
            ("client_id", client_id),
        ]);
        let response = app.anonymous().post_form("/oauth2/token", &parameters).await;
        response.assert_error(400, "invalid_grant");
        device.poll().await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_device_that_polls_too_often_has_to_wait_five_seconds_longer_each_time() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let interval = "select interval_seconds::bigint from oauth_devices";
        device.poll().await.assert_error(400, "authorization_pending");
        device.poll().await.assert_error(400, "slow_down");
        device.poll().await.assert_error(400, "slow_down");
        assert_eq!(app.count(interval).await, 15);
        app.execute(WAIT).await;
        device.poll().await.assert_error(400, "authorization_pending");
        assert_eq!(app.count(interval).await, 15);
        let polls = join_all((0..10).map(|_| device.poll())).await;
        assert!(polls.iter().all(|it| it.body["error"] == "slow_down"), "{polls:?}");
        assert_eq!(app.count(interval).await, 65);
        device.claim_and_approve(&ann).await.assert_status(200);
        device.poll().await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn only_one_of_twenty_concurrent_redemptions_succeeds_and_its_tokens_are_revoked() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        device.claim_and_approve(&ann).await.assert_status(200);
        let polls = join_all((0..20).map(|_| device.poll())).await;
        let successes: Vec<_> = polls.iter().filter(|it| it.status == 200).collect();
        assert_eq!(successes.len(), 1, "{polls:?}");
        let rejected = polls.iter().filter(|it| it.body["error"] == "invalid_grant").count();
        assert!(rejected > 0, "{polls:?}");
        let token = successes[0].body["access_token"].as_str().unwrap();
        let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
        app.bearer(token).get(&projects).await.assert_status(401);
        let reused = "select count(*) from oauth_grants where revoked_reason = 'code_reused'";
        assert_eq!((app.count(LIVE_GRANTS).await, app.count(reused).await), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn only_one_of_two_accounts_that_type_a_code_concurrently_can_answer() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let ben = app.verified_account("ben@example.com").await;
        let (one, other) =
            tokio::join!(device.type_code(&ann.cookie), device.type_code(&ben.cookie));
        let (winner, loser, won) = match one.status.as_u16() {
            200 => (&ann, &ben, &one),
            _ => (&ben, &ann, &other),
        };
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404]);
        let handle = won.body["request"].as_str().unwrap();
        // With the winner's handle, nobody else gets further.
        let page = format!("/device?request={handle}");
        app.session(&loser.cookie).get(&page).await.assert_status(404);
        approve(app, &loser.cookie, handle, &loser.org_id).await.assert_error(404, "not_found");
        deny(app, &loser.cookie, handle).await.assert_error(404, "not_found");
        device.type_code(&loser.cookie).await.assert_error(404, "not_found");
        // The same account may type the code again, and gets another handle.
        let again = device.claim(&winner.cookie).await;
        approve(app, &winner.cookie, handle, &winner.org_id).await.assert_error(404, "not_found");
        approve(app, &winner.cookie, &again, &winner.org_id).await.assert_status(200);
        device.type_code(&winner.cookie).await.assert_error(404, "not_found");
        device.poll().await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn one_of_twenty_concurrent_approvals_of_a_request_succeeds() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let handle = device.claim(&ann.cookie).await;
        let answers =
            join_all((0..20).map(|_| approve(app, &ann.cookie, &handle, &ann.org_id))).await;
        let statuses = answers.iter().map(|it| it.status.as_u16());
        assert_eq!(statuses.clone().filter(|it| *it == 200).count(), 1);
        assert!(statuses.clone().all(|it| [200, 404, 503].contains(&it)), "{answers:?}");
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (1, 1));
        deny(app, &ann.cookie, &handle).await.assert_error(404, "not_found");
        device.poll().await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_denied_request_and_one_that_nobody_answered_in_time_give_no_tokens() {
    run(async |app| {
        let (ann, denied) = account_and_device(app).await;
        let late = Device::start(app, &denied.client, "projects:read").await;
        let unseen = Device::start(app, &denied.client, "projects:read").await;
        let handle = denied.claim(&ann.cookie).await;
        let answer = deny(app, &ann.cookie, &handle).await.assert_status(200);
        assert_eq!(answer.body, json!({ "status": "denied" }));
        let handle = late.claim(&ann.cookie).await;
        app.execute("update oauth_devices set expires_at = now()").await;
        approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_error(404, "not_found");
        unseen.type_code(&ann.cookie).await.assert_error(404, "not_found");
        denied.poll().await.assert_error(400, "access_denied");
        late.poll().await.assert_error(400, "expired_token");
        unseen.poll().await.assert_error(400, "expired_token");
        assert_eq!(app.count(LIVE_GRANTS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_approval_that_the_device_does_not_fetch_in_time_expires() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        device.claim_and_approve(&ann).await.assert_status(200);
        app.execute("update oauth_codes set expires_at = now()").await;
        device.poll().await.assert_error(400, "invalid_grant");
    })
    .await;
}

#[tokio::test]
async fn an_account_membership_session_or_app_that_ends_after_the_approval_gets_no_tokens() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = native_client(app).await;
        let endings: [&'static str; 4] = [
            "update accounts set is_active = false where email = 'ben@example.com'",
            "update users set removed_at = now() where account_id =
                 (select id from accounts where email = 'cleo@example.com')",
            "update sessions set revoked_at = now() where account_id =
                 (select id from accounts where email = 'dan@example.com')",
            "update oauth_clients set disabled_at = now()",
        ];
        for (name, ending) in ["ben", "cleo", "dan", "emil"].into_iter().zip(endings) {
            let person = app.verified_account(&format!("{name}@example.com")).await;
            app.invite_and_accept(&ann, &person, "member").await;
            let device = Device::start(app, &client, "projects:read offline_access").await;
            let handle = device.claim(&person.cookie).await;
            approve(app, &person.cookie, &handle, &ann.org_id).await.assert_status(200);
            app.execute(ending).await;
            let status = if name == "emil" { 401 } else { 400 };
            let code = if name == "emil" { "invalid_client" } else { "invalid_grant" };
            device.poll().await.assert_error(status, code);
        }
        let tokens = "select (select count(*) from oauth_access_tokens)
                           + (select count(*) from oauth_refresh_tokens)";
        assert_eq!(app.count(tokens).await, 0);
    })
    .await;
}

#[tokio::test]
async fn the_app_policy_applies_at_the_approval_and_again_at_the_redemption() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let session = app.session(&ann.cookie);
        let path = format!("/api/user/organizations/{}/app-policy", ann.org_id);
        let set = async |mode: &str| {
            let policy = json!({ "mode": mode, "allowed": [], "blocked": [] });
            session.put(&path, policy).await.assert_status(200);
        };
        device.claim_and_approve(&ann).await.assert_status(200);
        set("none").await;
        device.poll().await.assert_error(400, "invalid_grant");
        let late = Device::start(app, &device.client, "projects:read").await;
        let handle = late.claim(&ann.cookie).await;
        let page = session.get(&format!("/device?request={handle}")).await.assert_status(200);
        assert!(page.text.contains("None of your organizations can grant this"), "{}", page.text);
        approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_error(403, "access_denied");
        // The request is still open.
        set("open").await;
        approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_status(200);
        late.poll().await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_approval_is_checked_like_consent() {
    with_settings(&[("OAUTH_SCOPES", "projects:read,billing:read")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "member").await;
            let spec = OauthClientSpec {
                auth_method: "none",
                application_type: "native",
                scopes: &["projects:read", "billing:read"],
                visibility: "private",
                ..Default::default()
            };
            let client = spec.insert(app, &ann.org_id).await;
            let device = Device::start(app, &client, "projects:read billing:read").await;
            let handle = device.claim(&ben.cookie).await;
            let missing = json!({ "request": handle });
            let session = app.session(&ben.cookie);
            let response = session.post("/oauth2/device/approve", missing).await;
            response.assert_error(400, "invalid_request");
            // A private app, in another organization than its own.
            approve(app, &ben.cookie, &handle, &ben.org_id)
                .await
                .assert_error(403, "access_denied");
            // The organization is suspended, and with it its app.
            app.execute(
                "update organizations set suspended_at = now()
                 where id in (select organization_id from oauth_clients)",
            )
            .await;
            approve(app, &ben.cookie, &handle, &ann.org_id).await.assert_error(404, "not_found");
            app.execute("update organizations set suspended_at = null").await;
            approve(app, &ben.cookie, &handle, &ann.org_id).await.assert_status(200);
            // What the role does not permit is left out.
            assert_eq!(device.poll().await.assert_status(200).body["scope"], "projects:read");
            let nothing = Device::start(app, &client, "billing:read").await;
            let handle = nothing.claim(&ben.cookie).await;
            let answer = approve(app, &ben.cookie, &handle, &ann.org_id).await.assert_status(200);
            assert_eq!(answer.body, json!({ "status": "denied" }));
            nothing.poll().await.assert_error(400, "access_denied");
            // The e-mail address is unproven, the app lacks the scope, or the app is not native.
            let changed = Device::start(app, &client, "projects:read").await;
            let handle = changed.claim(&ann.cookie).await;
            app.execute("update accounts set proven_at = null").await;
            approve(app, &ann.cookie, &handle, &ann.org_id)
                .await
                .assert_error(403, "access_denied");
            app.execute("update accounts set proven_at = now()").await;
            app.execute("update oauth_clients set scopes = '{billing:read}'").await;
            approve(app, &ann.cookie, &handle, &ann.org_id)
                .await
                .assert_error(409, "invalid_request");
            app.execute("update oauth_clients set application_type = 'web'").await;
            approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_error(404, "not_found");
        })
        .await;
}

#[tokio::test]
async fn an_answer_needs_a_session_and_a_trusted_origin() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let handle = device.claim(&ann.cookie).await;
        let (token, _) =
            app.create_token(&ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        for (path, body) in [
            ("claim", json!({ "userCode": device.user_code() })),
            ("approve", json!({ "request": handle, "organizationId": ann.org_id })),
            ("deny", json!({ "request": handle })),
        ] {
            let path = format!("/oauth2/device/{path}");
            let anonymous = app.anonymous().post(&path, body.clone()).await;
            anonymous.assert_error(401, "invalid_client");
            let foreign = app.session(&ann.cookie).with("origin", "https://evil.example");
            for client in [app.bearer(&token), foreign] {
                client.post(&path, body.clone()).await.assert_error(403, "access_denied");
            }
        }
        assert_eq!(app.count(LIVE_GRANTS).await, 0);
        approve(app, &ann.cookie, &handle, &ann.org_id).await.assert_status(200);
    })
    .await;
}

/// Anyone can send the id of such a client. Whether it asked for the device flow is not stored.
#[tokio::test]
async fn clients_that_no_organization_registered_cannot_use_the_device_flow() {
    run(async |app| {
        let metadata = json!({ "redirect_uris": ["http://localhost/cb"],
                               "application_type": "native" });
        let registered = app.anonymous().post("/oauth2/register", metadata).await;
        let registered = registered.assert_status(201).body;
        let token = registered["registration_access_token"].as_str().unwrap().to_owned();
        app.seen_secrets.lock().unwrap().push(token);
        let client_id = registered["client_id"].as_str().unwrap().to_owned();
        let client = OauthClient { client_id, redirect_uri: "http://localhost/cb" };
        let rejected = request_codes(app, &client, &[("scope", "projects:read")]).await;
        rejected.assert_error(400, "unauthorized_client");
    })
    .await;
}

#[tokio::test]
async fn requests_of_devices_are_limited_for_each_address() {
    with_limits(r#"{"device_requests":{"quota":2,"window_s":600}}"#)
        .run(async |app| {
            let client = native_client(app).await;
            for _ in 0..2 {
                Device::start(app, &client, "projects:read").await;
            }
            let limited = request_codes(app, &client, &[("scope", "projects:read")]).await;
            limited.assert_error(429, "slow_down");
        })
        .await;
}

#[tokio::test]
async fn guessing_user_codes_is_limited_for_each_account_and_each_address() {
    with_limits_behind_proxy("{}")
        .run(async |app| {
            let (ann, device) = account_and_device(app).await;
            let ben = app.verified_account("ben@example.com").await;
            let guess = async |person: &TestAccount, address: &str, user_code: &str| {
                let session = app.session(&person.cookie).with("x-forwarded-for", address);
                let request = json!({ "userCode": user_code });
                session.post("/oauth2/device/claim", request).await
            };
            let (here, elsewhere) = ("203.0.113.1", "203.0.113.2");
            for _ in 0..10 {
                guess(&ann, here, "BBBB-BBBB").await.assert_error(404, "not_found");
            }
            let user_code = device.user_code();
            let limited = guess(&ann, elsewhere, user_code).await.assert_error(429, "slow_down");
            assert!(limited.header("retry-after").parse::<u64>().unwrap() > 0);
            guess(&ben, here, user_code).await.assert_error(429, "slow_down");
            let claimed = guess(&ben, elsewhere, user_code).await.assert_status(200);
            let handle = claimed.body["request"].as_str().unwrap().to_owned();
            app.seen_secrets.lock().unwrap().push(handle);
        })
        .await;
}

#[tokio::test]
async fn the_page_leads_through_sign_in_and_fills_in_the_code_without_sending_it() {
    run(async |app| {
        let (ann, device) = account_and_device(app).await;
        let path = format!("/device?user_code={}", device.user_code());
        let response = app.anonymous().get(&path).await.assert_status(303);
        let sign_in = response.header("location").to_owned();
        assert_eq!(sign_in, format!("/oauth2/sign-in?user_code={}", device.user_code()));
        let page = app.anonymous().get(&sign_in).await.assert_status(200);
        assert!(page.text.contains("name=\"password\""), "{}", page.text);
        let page = app.session(&ann.cookie).get(&path).await.assert_status(200);
        let field = format!("value=\"{}\"", device.user_code());
        assert!(page.text.contains(&field) && page.text.contains(&ann.email), "{}", page.text);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(policy.contains("form-action 'none'"), "{policy}");
        let pending = "select count(*) from oauth_devices where status = 'pending'";
        assert_eq!(app.count(pending).await, 1);
        // The query parameter is escaped.
        let page = app.session(&ann.cookie).get("/device?user_code=%22%3E%3Cscript%3E").await;
        assert!(!page.assert_status(200).text.contains("\"><script>"));
        // Without a code, signing in leads back to the empty page.
        let response = app.anonymous().get("/device").await.assert_status(303);
        assert_eq!(response.header("location"), "/oauth2/sign-in?user_code=");
        app.anonymous().get("/oauth2/sign-in?user_code=").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_approval_that_the_policy_rejects_is_an_event_of_the_organization() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = native_client(app).await;
        let device = Device::start(app, &client, "projects:read").await;
        let policy = format!("/api/user/organizations/{}/app-policy", ann.org_id);
        let none = json!({ "mode": "none" });
        app.session(&ann.cookie).put(&policy, none).await.assert_status(200);
        device.claim_and_approve(&ann).await.assert_status(403);
        let events = "select count(*) from audit_events e
                      join accounts a on a.home_organization_id = e.organization_id
                      where event_type = 'app_grant.rejected' and a.email = 'ann@example.com'
                        and e.status = 403 and e.target like 'app\\_%'";
        assert_eq!(app.count(events).await, 1);
        device.poll().await.assert_status(400);
    })
    .await;
}
