//! The operator's own page for signing in.

use super::account_and_client;
use crate::support::app::TestSettings;
use crate::support::oauth::{Browser, handle_in};
use crate::support::with_settings;

const PAGE: &str = "https://app.example.com/login?from=oauth";

fn with_own_page() -> TestSettings {
    with_settings(&[("DASHBOARD_ORIGINS", "https://app.example.com"), ("SIGN_IN_PAGE", PAGE)])
}

#[tokio::test]
async fn a_person_who_must_sign_in_is_sent_to_the_operator_s_page_and_then_asked_for_consent() {
    with_own_page()
        .run(async |app| {
            let (ann, client) = account_and_client(app).await;
            let mut browser = Browser::new(app);
            let begun = browser.get(&client.path(&[])).await.assert_status(303);
            let handle = handle_in(app, &begun);
            let page = browser.get(begun.header("location")).await.assert_status(303);
            assert_eq!(page.header("location"), format!("{PAGE}&request={handle}"));
            assert_eq!(page.header("cache-control"), "no-store");
            // The page signs the person in and leads to the page for consent.
            let consent = format!("/oauth2/consent?request={handle}");
            let signed_out = browser.get(&consent).await.assert_status(303);
            assert_eq!(signed_out.header("location"), format!("/oauth2/sign-in?request={handle}"));
            let mut browser = browser.with_session(&ann.cookie);
            assert!(browser.get(&consent).await.assert_status(200).text.contains("Planner"));
            // A person who is signed in sees the page only to switch accounts.
            let sign_in = format!("/oauth2/sign-in?request={handle}");
            assert_eq!(browser.get(&sign_in).await.assert_status(303).header("location"), consent);
            let switch = browser.get(&format!("{sign_in}&switch=1")).await.assert_status(303);
            assert_eq!(switch.header("location"), format!("{PAGE}&request={handle}"));
        })
        .await;
}

#[tokio::test]
async fn an_app_that_requires_a_new_sign_in_gets_one_at_the_operator_s_page() {
    with_own_page()
        .run(async |app| {
            let (ann, client) = account_and_client(app).await;
            app.clock.advance(chrono::TimeDelta::seconds(1));
            let mut browser = Browser::signed_in(app, &ann.cookie);
            let begun = browser.get(&client.path(&[("prompt", "login")])).await.assert_status(303);
            let handle = handle_in(app, &begun);
            let page = browser.get(begun.header("location")).await.assert_status(303);
            assert_eq!(page.header("location"), format!("{PAGE}&request={handle}"));
        })
        .await;
}

#[tokio::test]
async fn an_unknown_request_and_one_of_another_browser_do_not_redirect_to_the_operator_s_page() {
    with_own_page()
        .run(async |app| {
            let (_, client) = account_and_client(app).await;
            let mut browser = Browser::new(app);
            let begun = browser.get(&client.path(&[])).await.assert_status(303);
            handle_in(app, &begun);
            Browser::new(app).get(begun.header("location")).await.assert_status(403);
            browser.get("/oauth2/sign-in?request=unknown").await.assert_status(404);
            browser.get("/oauth2/sign-in").await.assert_status(404);
        })
        .await;
}

#[tokio::test]
async fn the_device_page_sends_a_person_to_the_operator_s_sign_in_page_with_the_code() {
    with_own_page()
        .run(async |app| {
            let mut browser = Browser::new(app);
            for code in ["WDJB-MJHT", ""] {
                let path = format!("/device?user_code={code}");
                let begun = browser.get(&path).await.assert_status(303);
                let page = browser.get(begun.header("location")).await.assert_status(303);
                assert_eq!(page.header("location"), format!("{PAGE}&user_code={code}"));
            }
        })
        .await;
}
