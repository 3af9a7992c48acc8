//! What an answer to an authorization request is checked against: the browser, the session, the
//! account, the membership, the policy, and that it is the first one.

use futures_util::future::join_all;
use serde_json::json;

use super::{CODES, LIVE_GRANTS, account_and_client, texts};
use crate::support::oauth::{Browser, OauthClientSpec};
use crate::support::run;

#[tokio::test]
async fn a_request_can_be_answered_only_in_the_browser_that_it_was_made_in() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let ben = app.verified_account("ben@example.com").await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        // A forwarded link, in a browser with requests of its own and in one without.
        let mut other = Browser::signed_in(app, &ben.cookie);
        other.begin(&client.path(&[])).await;
        let mut same_person = Browser::signed_in(app, &ann.cookie);
        for browser in [&mut other, &mut same_person] {
            for page in ["consent", "sign-in"] {
                let page = browser.get(&format!("/oauth2/{page}?request={handle}")).await;
                let page = page.assert_status(403);
                assert!(page.text.contains("another browser"), "{}", page.text);
                assert_eq!(page.header("location"), "");
            }
        }
        other.allow(&handle, &ben.org_id).await.assert_error(403, "access_denied");
        same_person.allow(&handle, &ann.org_id).await.assert_error(403, "access_denied");
        let deny = json!({ "request": handle, "accept": false });
        other.send_answer(deny).await.assert_error(403, "access_denied");
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (0, 0));
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_answer_needs_a_session_and_a_trusted_origin() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let answer = json!({ "request": handle, "accept": true, "organizationId": ann.org_id });
        let id = format!("tenantry_browser={}", browser.id());
        let with_id = |client: crate::support::client::TestClient| client.with("cookie", &id);
        let (token, _) =
            app.create_token(&ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let send = async |client: crate::support::client::TestClient| {
            with_id(client).post("/oauth2/consent", answer.clone()).await
        };
        send(app.anonymous()).await.assert_error(401, "invalid_client");
        for client in [app.bearer(&token), app.key(&key.api_key)] {
            send(client).await.assert_error(403, "access_denied");
        }
        for origin in ["https://evil.example", "null"] {
            let client = app.session(&ann.cookie).with("origin", origin);
            send(client).await.assert_error(403, "access_denied");
        }
        let foreign = app.session(&ann.cookie).with("sec-fetch-site", "cross-site");
        send(foreign).await.assert_error(403, "access_denied");
        assert_eq!(app.count(CODES).await, 0);
        let own = app.session(&ann.cookie).with("origin", crate::support::oauth::ISSUER);
        let response = send(own).await.assert_status(200);
        let parameters =
            crate::support::oauth::parameters_of(response.body["redirect"].as_str().unwrap());
        app.seen_secrets.lock().unwrap().push(parameters["code"].clone());
    })
    .await;
}

#[tokio::test]
async fn a_request_is_answered_once_and_within_ten_minutes() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let used = browser.begin(&client.path(&[])).await;
        browser.allow(&used, &ann.org_id).await.assert_status(200);
        let expired = browser.begin(&client.path(&[("prompt", "consent")])).await;
        let lifetime = "select count(*) from oauth_requests
                        where expires_at between now() + interval '9 minutes'
                                             and now() + interval '10 minutes'";
        assert_eq!(app.count(lifetime).await, 2);
        app.execute("update oauth_requests set expires_at = now() where used_at is null").await;
        for handle in [used.as_str(), &expired, "", "garbage", "tnt_oauth_request_x", "\0"] {
            browser.allow(handle, &ann.org_id).await.assert_error(404, "not_found");
            let encoded = crate::support::oauth::form(&[("request", handle)]);
            let page = browser.get(&format!("/oauth2/consent?{encoded}")).await;
            assert!(page.assert_status(404).header("content-type").starts_with("text/html"));
        }
        assert_eq!(app.count(CODES).await, 1);
    })
    .await;
}

#[tokio::test]
async fn only_one_of_twenty_concurrent_answers_to_one_request_gives_a_code() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let answers = join_all((0..20).map(|_| browser.allow(&handle, &ann.org_id))).await;
        let statuses = answers.iter().map(|it| it.status.as_u16());
        assert_eq!(statuses.clone().filter(|it| *it == 200).count(), 1);
        assert!(statuses.clone().all(|it| [200, 404, 503].contains(&it)), "{answers:?}");
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn concurrent_answers_to_several_requests_give_one_grant_and_no_server_error() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let mut handles = Vec::new();
        for scope in ["projects:read", "projects:write", "user:read projects:read"] {
            for _ in 0..3 {
                handles.push(browser.begin(&client.path(&[("scope", scope)])).await);
            }
        }
        let answers = handles.iter().map(|handle| browser.allow(handle, &ann.org_id));
        for answer in join_all(answers).await {
            answer.assert_status(200);
        }
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (9, 1));
        let mut scopes = texts(app, "select scopes from oauth_grants").await;
        scopes.sort();
        assert_eq!(scopes, ["projects:read", "projects:write", "user:read"]);
        let created = "select count(*) from audit_events where event_type = 'app_grant.created'";
        assert_eq!(app.count(created).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_account_with_an_unverified_address_gets_no_code() {
    run(async |app| {
        let vendor = app.sign_up().await;
        let client = OauthClientSpec::default().insert(app, &vendor.org_id).await;
        let ann = app.sign_up_account("ann@example.com").await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
        assert!(page.text.contains("Verify your e-mail address first"), "{}", page.text);
        assert!(!page.text.contains("value=\"allow\""));
        browser.allow(&handle, &ann.org_id).await.assert_error(403, "access_denied");
        // The password may still be a stranger's.
        app.execute("update accounts set verified_at = now()").await;
        browser.allow(&handle, &ann.org_id).await.assert_error(403, "access_denied");
        app.execute("update accounts set proven_at = now()").await;
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
        // An earlier consent makes no difference.
        app.execute("update accounts set verified_at = null, proven_at = null").await;
        browser.begin(&client.path(&[])).await;
        let silent = browser.get(&client.path(&[("prompt", "none")])).await;
        assert!(silent.header("location").contains("?error=consent_required"));
        assert_eq!(app.count(CODES).await, 1);
        app.mails().await;
    })
    .await;
}

#[tokio::test]
async fn a_disabled_account_or_an_ended_session_authorizes_nothing() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        let handle = browser.begin(&client.path(&[("prompt", "consent")])).await;
        for (end, undo) in [
            ("update accounts set is_active = false", "update accounts set is_active = true"),
            ("update sessions set revoked_at = now()", "update sessions set revoked_at = null"),
        ] {
            app.execute(end).await;
            browser.allow(&handle, &ann.org_id).await.assert_error(401, "invalid_client");
            let again = browser.get(&client.path(&[])).await.assert_status(303);
            assert!(again.header("location").starts_with("/oauth2/sign-in?"));
            let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
            assert!(page.assert_status(303).header("location").starts_with("/oauth2/sign-in?"));
            app.execute(undo).await;
        }
        assert_eq!(app.count(CODES).await, 1);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_change_between_the_page_and_the_answer_applies_to_the_answer() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let mut browser = Browser::signed_in(app, &ben.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        for (status, change, undo) in [
            (
                403,
                "update users set removed_at = now() where role = 'member'",
                "update users set removed_at = null",
            ),
            (
                403,
                "insert into organization_app_policies select id, 'approved', now()
                 from organizations",
                "delete from organization_app_policies",
            ),
            (
                403,
                "insert into organization_app_rules
                 select u.organization_id, c.id, 'blocked', u.id, now()
                 from users u cross join oauth_clients c where u.role = 'owner'
                   and u.account_id is not null",
                "delete from organization_app_rules",
            ),
            (
                403,
                "update organizations set suspended_at = now()
                 where id not in (select organization_id from oauth_clients)",
                "update organizations set suspended_at = null",
            ),
            (
                403,
                "update oauth_clients set visibility = 'private'",
                "update oauth_clients set visibility = 'public'",
            ),
            (
                404,
                "update oauth_clients set disabled_at = now()",
                "update oauth_clients set disabled_at = null",
            ),
            (
                409,
                "update oauth_clients set redirect_uris = '{https://evil.example/callback}'",
                "update oauth_clients set redirect_uris = '{https://app.example.com/callback}'",
            ),
            (
                409,
                "update oauth_clients set scopes = '{user:read}'",
                "update oauth_clients set scopes = '{projects:read}'",
            ),
        ] {
            app.execute(change).await;
            browser.allow(&handle, &ann.org_id).await.assert_status(status);
            app.execute(undo).await;
        }
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (0, 0));
        // An unknown organization looks like one without a membership.
        let stranger = app.sign_up().await;
        let of_others = browser.allow(&handle, &stranger.org_id).await;
        let unknown = browser.allow(&handle, "org_unknown").await;
        assert_eq!(of_others.assert_status(403).text, unknown.assert_status(403).text);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn only_members_of_the_organization_of_a_private_client_can_grant_it_access() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let spec = OauthClientSpec { visibility: "private", ..OauthClientSpec::default() };
        let client = spec.insert(app, &ann.org_id).await;
        let mut browser = Browser::signed_in(app, &ben.cookie);
        for scope in ["projects:read", "user:read"] {
            let handle = browser.begin(&client.path(&[("scope", scope)])).await;
            let mut answer = json!({ "request": handle, "accept": true });
            if scope == "projects:read" {
                answer["organizationId"] = json!(ben.org_id);
            }
            browser.send_answer(answer.clone()).await.assert_error(403, "access_denied");
            let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
            assert!(!page.assert_status(200).text.contains("value=\"allow\""));
        }
        app.invite_and_accept(&ann, &ben, "member").await;
        let handle = browser.begin(&client.path(&[])).await;
        browser.allow(&handle, &ben.org_id).await.assert_error(403, "access_denied");
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
        let handle = browser.begin(&client.path(&[("scope", "user:read")])).await;
        let answer = json!({ "request": handle, "accept": true });
        browser.send_answer(answer).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn what_was_requested_cannot_be_changed_before_the_answer() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let changed = format!(
            "/oauth2/consent?request={handle}&redirect_uri=https://evil.example&client_id=other\
             &scope=projects:write&state=other"
        );
        let page = browser.get(&changed).await.assert_status(200);
        assert!(!page.text.contains("evil") && !page.text.contains("projects:write"));
        for (name, value) in [
            ("redirect_uri", json!("https://evil.example/callback")),
            ("state", json!("other")),
            ("client_id", json!("other")),
            ("resource", json!("https://evil.example")),
            ("scopes", json!(["projects:read", "projects:write"])),
            ("scopes", json!(["*"])),
            ("scopes", json!(["offline_access"])),
        ] {
            let mut answer =
                json!({ "request": handle, "accept": true, "organizationId": ann.org_id });
            answer[name] = value;
            browser.send_answer(answer).await.assert_error(400, "invalid_request");
        }
        let mut other = handle.clone();
        other.pop();
        browser.allow(&other, &ann.org_id).await.assert_error(404, "not_found");
        assert_eq!(app.count(CODES).await, 0);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
        assert_eq!(texts(app, "select scopes from oauth_codes").await, ["projects:read"]);
    })
    .await;
}

#[tokio::test]
async fn a_page_that_one_account_saw_is_not_answered_by_another_in_the_same_browser() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let ben = app.verified_account("ben@example.com").await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let page = format!("/oauth2/consent?request={handle}");
        browser.get(&page).await.assert_status(200);
        let mut of_ben = browser.with_session(&ben.cookie);
        let rejected = of_ben.allow(&handle, &ben.org_id).await.assert_error(403, "access_denied");
        assert!(rejected.text.contains("reload it"), "{rejected:?}");
        let denied = json!({ "request": handle, "accept": false });
        of_ben.send_answer(denied).await.assert_status(403);
        assert_eq!(app.count(LIVE_GRANTS).await, 0);
        of_ben.get(&page).await.assert_status(200);
        browser.allow(&handle, &ann.org_id).await.assert_status(403);
        of_ben.allow(&handle, &ben.org_id).await.assert_status(200);
        assert_eq!(app.count(LIVE_GRANTS).await, 1);
    })
    .await;
}
