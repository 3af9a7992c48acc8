//! The session's cookie as a browser sends it: which one is ours, and what several of one name do
//! (contract §1, *Cookies*).

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

/// Somebody whose browser sends this `Cookie` line.
fn client_with_cookie_line(app: &TestApp, line: &str) -> TestClient {
    app.anonymous().with("cookie", line)
}

/// Somebody whose browser sends several session cookies.
fn client_with_cookies(app: &TestApp, values: &[&str]) -> TestClient {
    let pairs: Vec<String> =
        values.iter().map(|value| format!("tenantry_session={value}")).collect();
    client_with_cookie_line(app, &pairs.join("; "))
}

async fn sign_in(actor: &TestClient, email: &str) -> TestResponse {
    let known = json!({ "email": email, "password": PASSWORD });
    actor.post("/api/auth/sign-in/email", known).await
}

#[track_caller]
fn assert_clears_the_cookie(answer: &TestResponse) {
    let set = answer.header("set-cookie");
    assert!(set.starts_with("tenantry_session=;") && set.contains("Max-Age=0"), "{set:?}");
}

#[tokio::test]
async fn only_spaces_and_tabs_around_a_cookie_are_ignored_so_no_other_name_passes_for_ours() {
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
                    let answer = client_with_cookie_line(app, &line).get("/api/user/me").await;
                    answer.assert_error(401, "unauthorized");
                }
                // Nor does it disturb the real one.
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
async fn cookies_that_are_no_live_session_do_not_hide_the_one_that_is() {
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
        // Two sessions of one account are that account's.
        let other = sign_in(&app.anonymous(), "ann@example.com").await.cookie().unwrap();
        client_with_cookies(app, &[&other, &ann.cookie])
            .get("/api/user/me")
            .await
            .assert_status(200);
        let nobody = client_with_cookies(app, &["garbage", &dead]);
        nobody.get("/api/user/me").await.assert_error(401, "unauthorized");
        nobody.get("/api/auth/get-session").await.assert_status(200);
        client_with_cookies(app, &vec!["x"; 100]).get("/api/user/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn live_sessions_of_two_accounts_are_nobody_s_until_one_signs_in_which_ends_the_other() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mallory = app.sign_up_account("mallory@example.com").await;
        let both = client_with_cookies(app, &[&mallory.cookie, &ann.cookie]);
        for path in ["/api/user/me", "/auth/me", "/me"] {
            let answer = both.get(path).await.assert_error(401, "unauthorized");
            assert!(
                answer.text.contains("session cookies of different accounts"),
                "{}",
                answer.text
            );
        }
        let session = both.get("/api/auth/get-session").await.assert_status(200);
        assert_eq!(session.body["data"], Value::Null);
        let signed_in = sign_in(&both, "ann@example.com").await.assert_status(200);
        let fresh = text(&signed_in.body["data"]["token"]);
        app.bearer(&fresh).get("/api/user/me").await.assert_status(200);
        // The browser keeps what it can not be made to forget: it is worth nothing any more.
        let after = client_with_cookies(app, &[&mallory.cookie, &signed_in.cookie().unwrap()]);
        let me = after.get("/api/user/me").await.assert_status(200);
        assert_eq!(me.body["data"]["id"], ann.id);
        app.session(&mallory.cookie).get("/api/user/me").await.assert_status(401);
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        // So does a sign-in where the other one's cookie is the only one.
        let mallory = sign_in(&app.anonymous(), "mallory@example.com").await.cookie().unwrap();
        sign_in(&app.session(&mallory), "ann@example.com").await.assert_status(200);
        app.session(&mallory).get("/api/user/me").await.assert_status(401);
        // A session of the same account goes on.
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
            // What is over already is cleared all the same.
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
async fn a_page_of_strangers_signs_nobody_out_who_sends_two_sessions_of_one_account() {
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

/// As many as a header has room for, each looking like a session's: few are looked up, each by a
/// question as any other's, and whoever's they are can still sign in and out.
#[tokio::test]
async fn of_many_cookies_16_are_looked_up_and_nobody_is_locked_out() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let format = KeyFormat::session_token();
        let made: Vec<_> = (0..150).map(|_| format.mint(&*app.app.entropy)).collect();
        let values: Vec<&str> = made.iter().map(Secret::expose).collect();
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
        // Up to 16, wherever the live one stands; the same one twice, and what is no session's, is
        // not asked for.
        for place in [0, 7, 15] {
            let mut few = [&values[..15], &["garbage"], &values[..15]].concat();
            few.insert(place, &ann.cookie);
            assert_eq!(looked_up(&few, 200).await, [15, 1], "{place}");
        }
        // Of more, the last: a page's own cookies stand before those of the whole host.
        let mut all = values.clone();
        all.push(&ann.cookie);
        assert_eq!(looked_up(&all, 200).await, [15, 1]);
        // A sign-in ends what is another's, and signing out ends all that is there.
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
        // Where none of those that are looked up is live, too.
        let dead = client_with_cookies(app, &values);
        sign_in(&dead, "ann@example.com").await.assert_status(200);
        assert_clears_the_cookie(
            &dead.post("/api/auth/sign-out", json!({})).await.assert_status(401),
        );
    })
    .await;
}
