//! `/oauth2/consent`: what the page shows, and what an answer grants.

use serde_json::json;
use sqlx::Row;

use super::{CODES, LIVE_GRANTS, account_and_client, texts};
use crate::support::app::text;
use crate::support::oauth::{
    Browser, CHALLENGE, ISSUER, OauthClientSpec, REDIRECT_URI, parameters_of,
};
use crate::support::{run, with_settings};

fn page_path(handle: &str) -> String {
    format!("/oauth2/consent?request={handle}")
}

#[tokio::test]
async fn the_page_shows_who_asks_for_what_and_where_the_person_is_sent() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let spec = OauthClientSpec {
            name: "<b>Planner</b>",
            visibility: "private",
            scopes: &["projects:read", "trademarks:read", "offline_access"],
            ..OauthClientSpec::default()
        };
        let client = spec.insert(app, &ann.org_id).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let scope = ("scope", "projects:read trademarks:read offline_access");
        let handle = browser.begin(&client.path(&[scope])).await;
        let page = browser.get(&page_path(&handle)).await.assert_status(200);
        for shown in [
            "<bdi>&#60;b&#62;Planner&#60;/b&#62;</bdi> requests access",
            "<strong>unverified</strong>",
            "<strong>app.example.com</strong>",
            "<strong>ann@example.com</strong>",
            "Read the organization&#39;s projects",
            "Use trademarks:read",
            "It keeps access while you are away",
            "value=\"allow\"",
            "switch=1",
        ] {
            assert!(page.text.contains(shown), "{shown}: {}", page.text);
        }
        assert!(!page.text.contains("<b>") && !page.text.contains("<img"));
        assert!(!page.text.contains("runs on your own device"));
        let policy = page.header("content-security-policy");
        assert!(policy.contains("form-action 'none'; frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-store");
        app.execute("update oauth_clients set visibility = 'public', published_at = now()").await;
        let page = browser.get(&page_path(&handle)).await.assert_status(200);
        assert!(page.text.contains("verified by the operator"), "{}", page.text);
    })
    .await;
}

#[tokio::test]
async fn the_page_disables_organizations_that_cannot_be_chosen_and_states_why() {
    with_settings(&[("OAUTH_SCOPES", "projects:read,billing:read")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ben, &ann, "member").await;
            let spec = OauthClientSpec {
                scopes: &["projects:read", "billing:read"],
                ..OauthClientSpec::default()
            };
            let client = spec.insert(app, &ben.org_id).await;
            let mut browser = Browser::signed_in(app, &ann.cookie);
            let handle = browser.begin(&client.path(&[("scope", "")])).await;
            let inputs = async |browser: &mut Browser<'_>| {
                let page = browser.get(&page_path(&handle)).await.assert_status(200).text;
                let input = |org: &str| {
                    let at = page.find(&format!("name=\"organizationId\" value=\"{org}\""));
                    page[at.unwrap()..].split("</label>").next().unwrap().to_owned()
                };
                (input(&ann.org_id), input(&ben.org_id), page)
            };
            let (own, other, page) = inputs(&mut browser).await;
            assert!(own.contains("data-lacking=\"\"") && !own.contains("disabled"), "{own}");
            assert!(other.contains("data-lacking=\"billing:read\""), "{other}");
            assert!(!own.contains("checked") && !other.contains("checked"));
            assert!(page.contains("value=\"allow\""));
            app.execute(
                "insert into organization_app_rules
                 select u.organization_id, c.id, 'blocked', u.id, now()
                 from users u cross join oauth_clients c join accounts a on a.id = u.account_id
                 where a.email = 'ann@example.com' and u.role = 'owner'",
            )
            .await;
            let (own, other, _) = inputs(&mut browser).await;
            assert!(own.contains("disabled>") && own.contains("does not permit this app"), "{own}");
            assert!(other.contains("checked"), "{other}");
            app.execute(
                "update organizations set suspended_at = now()
                         where id not in (select organization_id from oauth_clients)",
            )
            .await;
            let (own, _, _) = inputs(&mut browser).await;
            assert!(own.contains("disabled>") && own.contains("is suspended"), "{own}");
            app.execute("update oauth_clients set visibility = 'private'").await;
            let (own, other, _) = inputs(&mut browser).await;
            assert!(own.contains("private to another organization"), "{own}");
            assert!(!other.contains("disabled"), "{other}");
            app.execute("update users set removed_at = now() where role = 'member'").await;
            let page = browser.get(&page_path(&handle)).await.assert_status(200);
            assert!(!page.text.contains("value=\"allow\""), "{}", page.text);
        })
        .await;
}

#[tokio::test]
async fn an_answer_gives_a_code_that_is_bound_to_all_that_was_requested() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let changes = [("nonce", "n-1"), ("scope", "projects:read projects:write offline_access")];
        let handle = browser.begin(&client.path(&changes)).await;
        let answer = json!({
            "request": handle, "accept": true, "organizationId": ann.org_id,
            "scopes": ["projects:read", "offline_access"],
        });
        let response = browser.send_answer(answer).await.assert_status(200);
        let redirect = text(&response.body["redirect"]);
        assert!(redirect.starts_with(&format!("{REDIRECT_URI}?code=tnt_oauth_code_")));
        let sent = parameters_of(&redirect);
        assert_eq!((&*sent["state"], &*sent["iss"], sent.len()), ("abc", ISSUER, 3));
        assert!(response.body.get("fields").is_none());
        let row = sqlx::query(
            "select c.redirect_uri, c.challenge, c.nonce, c.scopes, c.resources, c.is_offline,
                    extract(epoch from c.expires_at - c.created_at)::float8 as lifetime,
                    (select a.email from accounts a where a.id = c.account_id) as email,
                    s.account_id = c.account_id as own_session, g.scopes as granted,
                    o.handle as organization, u.account_id = c.account_id as own_membership
             from oauth_codes c join sessions s on s.id = c.session_id
             join oauth_grants g on g.id = c.grant_id
             join organizations o on o.id = g.organization_id
             join users u on u.id = g.user_id",
        );
        let row = row.fetch_one(&mut app.connect().await).await.unwrap();
        assert_eq!(row.get::<&str, _>("redirect_uri"), REDIRECT_URI);
        assert_eq!(row.get::<&str, _>("challenge"), CHALLENGE);
        assert_eq!(row.get::<&str, _>("nonce"), "n-1");
        assert_eq!(row.get::<Vec<String>, _>("scopes"), ["projects:read"]);
        assert_eq!(row.get::<Vec<String>, _>("granted"), ["projects:read", "offline_access"]);
        assert_eq!(row.get::<Vec<String>, _>("resources"), [ISSUER]);
        assert_eq!(row.get::<&str, _>("email"), ann.email);
        assert_eq!(row.get::<&str, _>("organization"), ann.org_id);
        assert!((row.get::<f64, _>("lifetime") - 60.0).abs() < 0.001);
        for flag in ["is_offline", "own_session", "own_membership"] {
            assert!(row.get::<bool, _>(flag), "{flag}");
        }
        let event = "select detail from audit_events e join organizations o
                     on o.id = e.organization_id where event_type = 'app_grant.created'
                     and o.handle = $1";
        let event: serde_json::Value = sqlx::query_scalar(event)
            .bind(&ann.org_id)
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
        assert_eq!(event["client_id"], json!(client.client_id));
        assert_eq!(event["scopes"], json!(["projects:read", "offline_access"]));
    })
    .await;
}

#[tokio::test]
async fn a_form_response_has_its_fields_beside_the_redirect() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let form_post = client.path(&[("response_mode", "form_post")]);
        let handle = browser.begin(&form_post).await;
        let page = browser.get(&page_path(&handle)).await.assert_status(200);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("form-action https://app.example.com;"), "{policy}");
        let response = browser.allow(&handle, &ann.org_id).await.assert_status(200);
        assert_eq!(response.body["redirect"], REDIRECT_URI);
        assert_eq!(response.body["fields"]["state"], "abc");
        assert_eq!(response.body["fields"]["iss"], ISSUER);
        assert!(response.body["fields"]["code"].as_str().unwrap().starts_with("tnt_oauth_code_"));
        // Without a consent page, a form posts itself.
        let page = browser.get(&form_post).await.assert_status(200);
        assert!(page.text.contains("name=\"code\" value=\"tnt_oauth_code_"), "{}", page.text);
    })
    .await;
}

#[tokio::test]
async fn a_denied_request_is_answered_by_an_error_and_cannot_be_granted_later() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let answer = json!({ "request": handle, "accept": false });
        let response = browser.send_answer(answer).await.assert_status(200);
        let sent = parameters_of(response.body["redirect"].as_str().unwrap());
        assert_eq!(
            (&*sent["error"], &*sent["state"], &*sent["iss"]),
            ("access_denied", "abc", ISSUER)
        );
        browser.allow(&handle, &ann.org_id).await.assert_error(404, "not_found");
        assert_eq!((app.count(CODES).await, app.count(LIVE_GRANTS).await), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn scopes_about_the_own_account_need_no_organization_and_get_none() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let personal = client.path(&[("scope", "user:read")]);
        let handle = browser.begin(&personal).await;
        let page = browser.get(&page_path(&handle)).await.assert_status(200);
        assert!(!page.text.contains("name=\"organizationId\""), "{}", page.text);
        browser.allow(&handle, &ann.org_id).await.assert_error(400, "invalid_request");
        let answer = json!({ "request": handle, "accept": true });
        browser.send_answer(answer).await.assert_status(200);
        let pinned = "select count(*) from oauth_grants where organization_id is not null";
        assert_eq!((app.count(LIVE_GRANTS).await, app.count(pinned).await), (1, 0));
        let event = "select count(*) from audit_events e join accounts a
                     on a.home_organization_id = e.organization_id and a.email = 'ann@example.com'
                     where event_type = 'app_grant.created'";
        assert_eq!(app.count(event).await, 1);
        // Such consent is remembered only for an app that the operator verified.
        browser.begin(&personal).await;
        app.execute("update oauth_clients set published_at = now()").await;
        let again = browser.get(&personal).await.assert_status(303);
        assert!(again.header("location").contains("?code="));
        // With another scope, an organization must be chosen.
        let handle = browser.begin(&client.path(&[("scope", "user:read projects:read")])).await;
        let answer = json!({ "request": handle, "accept": true });
        let response = browser.send_answer(answer).await.assert_error(400, "invalid_request");
        assert!(response.text.contains("`organizationId` is required"), "{}", response.text);
        browser.allow(&handle, &ann.org_id).await.assert_status(200);
        assert_eq!(app.count(LIVE_GRANTS).await, 2);
    })
    .await;
}

#[tokio::test]
async fn scopes_that_the_role_does_not_permit_are_left_out() {
    with_settings(&[("OAUTH_SCOPES", "projects:read,billing:read")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "member").await;
            let spec = OauthClientSpec {
                scopes: &["projects:read", "billing:read", "offline_access"],
                ..OauthClientSpec::default()
            };
            let client = spec.insert(app, &ann.org_id).await;
            let mut browser = Browser::signed_in(app, &ben.cookie);
            let organization = ("organization_id", &*ann.org_id);
            let both = client.path(&[("scope", "projects:read billing:read"), organization]);
            assert!(browser.grant(&both, &ann.org_id).await.contains_key("code"));
            for sql in ["select scopes from oauth_grants", "select scopes from oauth_codes"] {
                assert_eq!(texts(app, sql).await, ["projects:read"]);
            }
            // Scopes beyond the role are not asked for again.
            let again = browser.get(&both).await.assert_status(303);
            assert!(again.header("location").contains("?code="));
            let lacking = client.path(&[("scope", "billing:read offline_access"), organization]);
            let sent = browser.grant(&lacking, &ann.org_id).await;
            assert_eq!(sent["error"], "access_denied");
            // A role that is lowered between the page and the answer counts.
            let mut browser = Browser::signed_in(app, &ann.cookie);
            let handle = browser.begin(&both).await;
            app.execute("update users set role = 'member'").await;
            browser.allow(&handle, &ann.org_id).await.assert_status(200);
            let wider = "select count(*) from oauth_grants where 'billing:read' = any(scopes)";
            assert_eq!(app.count(wider).await, 0);
        })
        .await;
}
