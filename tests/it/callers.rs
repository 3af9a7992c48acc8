//! Which credential may call which routes: each kind of credential at a route of each kind.

use serde_json::json;

use crate::support::client::TestClient;
use crate::support::run;

/// One route of each kind.
const ROUTES: [&str; 5] =
    ["/me", "/auth/me", "/v1/organization/api-keys", "/api/user/me", "/api/auth/list-sessions"];

/// The status of each of `ROUTES` for a client.
async fn statuses(actor: &TestClient) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in ROUTES {
        let response = actor.get(path).await;
        let status = response.status.as_u16();
        if status == 403 {
            response.assert_error(403, "forbidden");
        }
        statuses.push(status);
    }
    statuses
}

#[tokio::test]
async fn each_kind_of_credential_is_accepted_only_by_the_routes_for_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (access, _) = app.exchange(&acme.api_key).await;
        let ann = app.sign_up_account("ann@example.com").await;
        let all = |pin: &str| {
            json!({ "name": "ci", "scopes": ["*"],
                                      "metadata": { "organizationId": pin } })
        };
        let (pinned, _) = app.create_token(&ann.cookie, all(&ann.org_id)).await;
        let unpinned = json!({ "name": "ci", "scopes": ["*"] });
        let (unpinned, _) = app.create_token(&ann.cookie, unpinned).await;
        for (credential, actor, expected) in [
            ("organization key", app.key(&acme.api_key), [200, 403, 200, 403, 403]),
            ("the same as a bearer", app.bearer(&acme.api_key), [200, 403, 200, 403, 403]),
            ("token exchanged from it", app.bearer(&access), [200, 403, 200, 403, 403]),
            ("pinned token", app.key(&pinned), [200, 403, 200, 200, 403]),
            ("the same as a bearer", app.bearer(&pinned), [200, 403, 200, 200, 403]),
            ("unpinned token", app.key(&unpinned), [403, 403, 403, 200, 403]),
            ("session", app.session(&ann.cookie), [200, 200, 403, 200, 200]),
            ("account token", app.bearer(&ann.token), [200, 200, 403, 200, 200]),
            ("no credential", app.anonymous(), [401; 5]),
        ] {
            assert_eq!(statuses(&actor).await, expected, "{credential}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_acts_in_the_home_organization_of_its_account() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let verified = session.get("/auth/verify").await.assert_status(200);
        assert_eq!(verified.body["tenant"]["org_id"], ann.org_id);
        let id = verified.body["tenant"]["session_id"].as_str().unwrap();
        assert!(id.starts_with("sess_"));
        let created =
            session.post("/me/api-keys", json!({ "name": "mine" })).await.assert_status(201);
        let id = created.body["key"]["id"].as_str().unwrap();
        session.get("/usage/today").await.assert_status(200);
        session.delete(&format!("/me/api-keys/{id}")).await.assert_status(204);
        // Requests in a session are not counted as usage of the organization.
        app.app.meter.flush().await.unwrap();
        assert_eq!(app.count("select count(*) from usage_daily").await, 0);
        let by = "select count(*) from audit_events where event_type = 'api_key.created'
                  and actor like 'user\\_%'";
        assert_eq!(app.count(by).await, 1);
    })
    .await;
}

#[tokio::test]
async fn requests_with_a_pinned_token_count_as_usage_of_its_organization() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let pinned = json!({ "name": "ci", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
        for _ in 0..3 {
            app.key(&pinned).get("/me").await.assert_status(200);
        }
        app.app.meter.flush().await.unwrap();
        let used = app.session(&ann.cookie).get("/usage/today").await.assert_status(200);
        assert_eq!(used.body["requests_used"], 3);
    })
    .await;
}

#[tokio::test]
async fn a_personal_access_token_cannot_be_exchanged() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let pinned = json!({ "name": "ci", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
        let (unpinned, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        for key in [pinned, unpinned] {
            let response =
                app.anonymous().post("/auth/token-exchange", json!({ "api_key": key })).await;
            response.assert_error(403, "forbidden");
        }
        assert_eq!(app.count("select count(*) from key_sessions").await, 0);
    })
    .await;
}

/// The status of a request for the account of the caller.
async fn status_of_me(actor: TestClient) -> u16 {
    actor.get("/api/user/me").await.status.as_u16()
}

#[tokio::test]
async fn an_explicit_credential_takes_precedence_over_the_cookie_even_if_it_is_invalid() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let session = app.session(&ann.cookie);
        let me = session.with("authorization", &format!("Bearer {}", ben.token));
        assert_eq!(me.get("/api/user/me").await.body["data"]["id"], ben.id);
        assert_eq!(status_of_me(session.with("authorization", "Bearer garbage")).await, 401);
        assert_eq!(status_of_me(session.with("x-api-key", "garbage")).await, 401);
    })
    .await;
}

#[tokio::test]
async fn live_session_cookies_of_two_accounts_are_rejected_and_other_cookies_are_ignored() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let two = format!("tenantry_session={}; tenantry_session={}", ann.cookie, ben.cookie);
        assert_eq!(status_of_me(app.anonymous().with("cookie", &two)).await, 401);
        let lines =
            app.session(&ann.cookie).with("cookie", &format!("tenantry_session={}", ben.cookie));
        assert_eq!(status_of_me(lines).await, 401);
        let foreign = app.anonymous().with("cookie", &format!("other={}", ann.cookie));
        assert_eq!(status_of_me(foreign).await, 401);
        // Another cookie may contain bytes beyond ASCII.
        let beside = app
            .anonymous()
            .with("cookie", &format!("theme=dünkel; {}", two.split("; ").next().unwrap()));
        assert_eq!(status_of_me(beside).await, 200);
        for garbage in ["", "tnt_session_", "\"quoted\"", ann.token.as_str()] {
            assert_eq!(status_of_me(app.session(garbage)).await, 401, "{garbage}");
        }
    })
    .await;
}
