//! How often passwords may be tried at sign-in, for each account.

use serde_json::json;

use crate::support::limits::{assert_told_when, behind_a_proxy, from, until_limited};
use crate::support::people::PASSWORD;

#[tokio::test]
async fn an_account_is_slowed_after_failures_wherever_they_come_from_and_success_clears_them() {
    behind_a_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            app.sign_up_person("ann@example.com").await;
            let mut number = 0;
            let mut sign_in = async |email: &str, password: &str| {
                number += 1;
                let client = from(app, &format!("192.0.2.{number}"));
                let shown = json!({ "email": email, "password": password });
                client.post("/api/auth/sign-in/email", shown).await
            };
            for _ in 0..2 {
                for _ in 0..2 {
                    sign_in("ann@example.com", "not the password").await.has_status(401);
                }
                sign_in("ANN@example.com", PASSWORD).await.has_status(200);
            }
            for _ in 0..3 {
                sign_in("ann@example.com", "not the password").await.has_status(401);
            }
            // Nobody learns by it whether there is an account.
            for email in ["ann@example.com", "nobody@example.com"] {
                let (_, refused) =
                    until_limited(async || sign_in(email, "not the password").await).await;
                assert!(assert_told_when(&refused, "sign_in_failures") <= 30);
            }
            // What the clock would do: one try is there again. It is a try, not a lock.
            let sql = "update rate_limits set full_at = full_at - interval '30 seconds'";
            app.execute(sql).await;
            let replica = app.replica();
            let right = json!({ "email": "ann@example.com", "password": PASSWORD });
            let client = from(&replica, "192.0.2.200");
            client.post("/auth/login", right.clone()).await.has_status(200);
            client.post("/auth/login", right).await.has_status(200);
            replica.close();
        })
        .await;
}
