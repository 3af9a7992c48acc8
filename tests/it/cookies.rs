//! The session cookie as a browser sends it: which cookie counts, and how several of one name are
//! handled.

use serde_json::{Value, json};
use tenantry::model::key_format::KeyFormat;
use tenantry::model::secret::Secret;

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::rate_limits::{metric_value, recorder};
use crate::support::{TestApp, run, with_settings};

const SECURE: [(&str, &str); 1] = [("PUBLIC_URL", "https://api.example.com")];
const NAME: &str = "__Host-tenantry_session";

/// A client that sends this `Cookie` header.
fn client_with_cookie_line(app: &TestApp, line: &str) -> TestClient {
    app.anonymous().with("cookie", line)
}

/// A client that sends several session cookies.
fn client_with_cookies(app: &TestApp, values: &[&str]) -> TestClient {
    let pairs: Vec<String> =
        values.iter().map(|value| format!("tenantry_session={value}")).collect();
    client_with_cookie_line(app, &pairs.join("; "))
}

async fn sign_in(actor: &TestClient, email: &str) -> TestResponse {
    let credentials = json!({ "email": email, "password": PASSWORD });
    actor.post("/api/auth/sign-in/email", credentials).await
}

#[track_caller]
fn assert_clears_the_cookie(response: &TestResponse) {
    let set = response.header("set-cookie");
    assert!(set.starts_with("tenantry_session=;") && set.contains("Max-Age=0"), "{set:?}");
}

#[tokio::test]
async fn only_spaces_and_tabs_around_a_cookie_name_or_value_are_ignored() {
    with_settings(&SECURE)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let ours = format!("{NAME}={}", ann.cookie);
            for blank in ["\u{a0}", "\u{85}", "\u{2000}", "\u{3000}", "\u{feff}", "\u{1680}"] {
                for line in [
                    format!("{blank}{ours}"),
                    format!("{NAME}{blank}={}", ann.cookie),
                    format!("a=b; {blank}{ours}"),
                    format!("{NAME}={blank}{}", ann.cookie),
                ] {
                    let response = client_with_cookie_line(app, &line).get("/api/user/me").await;
                    response.assert_error(401, "unauthorized");
                }
                // Such a cookie does not hide the real one.
                let both = format!("{blank}{NAME}={}; {ours}", "x".repeat(40));
                client_with_cookie_line(app, &both).get("/api/user/me").await.assert_status(200);
            }
            for line in
                [ours.clone(), format!("a=b;\t {ours} \t"), format!("{NAME} = {}", ann.cookie)]
            {
                client_with_cookie_line(app, &line).get("/api/user/me").await.assert_status(200);
            }
            let lower = format!("{}={}", NAME.to_lowercase(), ann.cookie);
            client_with_cookie_line(app, &lower).get("/api/user/me").await.assert_status(401);
        })
        .await;
}

#[tokio::test]
async fn invalid_session_cookies_do_not_hide_a_live_one() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let dead = sign_in(&app.anonymous(), "ann@example.com").await.cookie().unwrap();
        app.session(&dead).post("/api/auth/sign-out", json!({})).await.assert_status(200);
        for values in [
            ["garbage", &ann.cookie],
            [&ann.cookie, "garbage"],
            [&dead, &ann.cookie],
            [&ann.cookie, &dead],
            [&ann.cookie, &ann.cookie],
            ["", &ann.cookie],
        ] {
            let me = client_with_cookies(app, &values).get("/api/user/me").await.assert_status(200);
            assert_eq!(me.body["data"]["id"], ann.id, "{values:?}");
        }
        // Two sessions of one account identify that account.
        let other = sign_in(&app.anonymous(), "ann@example.com").await.cookie().unwrap();
        client_with_cookies(app, &[&other, &ann.cookie])
            .get("/api/user/me")
            .await
            .assert_status(200);
        let invalid = client_with_cookies(app, &["garbage", &dead]);
        invalid.get("/api/user/me").await.assert_error(401, "unauthorized");
        invalid.get("/api/auth/get-session").await.assert_status(200);
        client_with_cookies(app, &vec!["x"; 100]).get("/api/user/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn live_sessions_of_two_accounts_are_rejected_until_a_sign_in_ends_the_other_one() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mallory = app.sign_up_account("mallory@example.com").await;
        let both = client_with_cookies(app, &[&mallory.cookie, &ann.cookie]);
        for path in ["/api/user/me", "/auth/me", "/me"] {
            let response = both.get(path).await.assert_error(401, "unauthorized");
            assert!(
                response.text.contains("session cookies of different accounts"),
                "{}",
                response.text
            );
        }
        let session = both.get("/api/auth/get-session").await.assert_status(200);
        assert_eq!(session.body["data"], Value::Null);
        let signed_in = sign_in(&both, "ann@example.com").await.assert_status(200);
        let new_token = text(&signed_in.body["data"]["token"]);
        app.bearer(&new_token).get("/api/user/me").await.assert_status(200);
        // The browser may keep sending the other cookie, but its session has ended.
        let after = client_with_cookies(app, &[&mallory.cookie, &signed_in.cookie().unwrap()]);
        let me = after.get("/api/user/me").await.assert_status(200);
        assert_eq!(me.body["data"]["id"], ann.id);
        app.session(&mallory.cookie).get("/api/user/me").await.assert_status(401);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        // A sign-in also ends the session of another account if its cookie is the only one.
        let mallory = sign_in(&app.anonymous(), "mallory@example.com").await.cookie().unwrap();
        sign_in(&app.session(&mallory), "ann@example.com").await.assert_status(200);
        app.session(&mallory).get("/api/user/me").await.assert_status(401);
        // A session of the same account stays live.
        let kept = app.sign_up_account("ben@example.com").await;
        sign_in(&app.session(&kept.cookie), "ben@example.com").await.assert_status(200);
        app.session(&kept.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn signing_out_with_several_cookies_ends_each_session_and_clears_the_cookie() {
    for path in ["/api/auth/sign-out", "/auth/logout"] {
        run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let mallory = app.sign_up_account("mallory@example.com").await;
            let both = client_with_cookies(app, &[&mallory.cookie, &ann.cookie]);
            let evil = both.with("origin", "https://evil.example");
            evil.post(path, json!({})).await.assert_error(403, "forbidden");
            app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
            assert_clears_the_cookie(&both.post(path, json!({})).await.assert_status(200));
            for ended in [&mallory, &ann] {
                app.session(&ended.cookie).get("/api/user/me").await.assert_status(401);
                app.bearer(&ended.token).get("/api/user/me").await.assert_status(401);
            }
            // Cookies of ended or unknown sessions are cleared, too.
            for actor in [both, app.session("garbage")] {
                let again = actor.post(path, json!({})).await.assert_error(401, "unauthorized");
                assert_clears_the_cookie(&again);
            }
            let nothing = app.anonymous().post(path, json!({})).await.assert_status(401);
            assert_eq!(nothing.header("set-cookie"), "");
        })
        .await;
    }
}

#[tokio::test]
async fn a_foreign_origin_cannot_sign_out_two_sessions_of_one_account() {
    for path in ["/api/auth/sign-out", "/auth/logout"] {
        run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let other = sign_in(&app.anonymous(), "ann@example.com").await.cookie().unwrap();
            let both = client_with_cookies(app, &[&other, &ann.cookie]);
            let evil = both.with("origin", "https://evil.example");
            evil.post(path, json!({})).await.assert_error(403, "forbidden");
            for cookie in [&other, &ann.cookie] {
                app.session(cookie).get("/api/user/me").await.assert_status(200);
            }
            both.post(path, json!({})).await.assert_status(200);
            for cookie in [&other, &ann.cookie] {
                app.session(cookie).get("/api/user/me").await.assert_status(401);
            }
        })
        .await;
    }
}

/// A header may contain 150 well-formed session cookies. Only 16 are looked up, and the client can
/// still sign in and out.
#[tokio::test]
async fn at_most_16_cookies_are_looked_up_and_the_client_can_still_sign_in_and_out() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let format = KeyFormat::session_token();
        let tokens: Vec<_> = (0..150).map(|_| format.generate(&*app.app.entropy)).collect();
        let values: Vec<&str> = tokens.iter().map(Secret::expose).collect();
        let looked_up = async |values: &[&str], status: u16| {
            let recorder = recorder();
            let _counting = metrics::set_default_local_recorder(&recorder);
            client_with_cookies(app, values).get("/api/user/me").await.assert_status(status);
            ["unknown", "found"].map(|outcome| {
                let series = format!("key_lookups_total{{outcome=\"{outcome}\"}}");
                metric_value(&recorder, &series)
            })
        };
        assert_eq!(looked_up(&values, 401).await, [16, 0]);
        // Of up to 16, the live one is found at any position. A repeated cookie is looked up once,
        // and one that is not well-formed is not looked up.
        for position in [0, 7, 15] {
            let mut few = [&values[..15], &["garbage"], &values[..15]].concat();
            few.insert(position, &ann.cookie);
            assert_eq!(looked_up(&few, 200).await, [15, 1], "{position}");
        }
        // Of more than 16, the last ones are looked up: a browser sends cookies with a longer path
        // before those of the whole host.
        let mut all = values.clone();
        all.push(&ann.cookie);
        assert_eq!(looked_up(&all, 200).await, [15, 1]);
        // A sign-in ends the other account's session, and a sign-out ends every session.
        let mallory = app.sign_up_account("mallory@example.com").await;
        all.push(&mallory.cookie);
        let both = client_with_cookies(app, &all);
        both.get("/api/user/me").await.assert_status(401);
        sign_in(&both, "ann@example.com").await.assert_status(200);
        both.get("/api/user/me").await.assert_status(200);
        assert_clears_the_cookie(
            &both.post("/api/auth/sign-out", json!({})).await.assert_status(200),
        );
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(401);
        // This also works if none of the cookies that are looked up is live.
        let dead = client_with_cookies(app, &values);
        sign_in(&dead, "ann@example.com").await.assert_status(200);
        assert_clears_the_cookie(
            &dead.post("/api/auth/sign-out", json!({})).await.assert_status(401),
        );
    })
    .await;
}
