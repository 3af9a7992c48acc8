//! How often mails may be asked for: by one client, and to one recipient.

use serde_json::json;

use crate::support::limits::{assert_told_when, behind_a_proxy, from, sign_in_from};
use crate::support::people::PASSWORD;

#[tokio::test]
async fn mails_are_limited_for_each_recipient_and_for_each_client() {
    behind_a_proxy(r#"{"mail_client":{"quota":6,"window_s":3600}}"#)
        .run(async |app| {
            let reset = async |client: &str, email: &str| {
                let request = json!({ "email": email });
                from(app, client).post("/api/auth/request-password-reset", request).await
            };
            for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
                reset(client, "ann@example.com").await.has_status(200);
            }
            let refused = reset("192.0.2.4", "ANN@example.com").await;
            assert_told_when(&refused.has_failed(429, "RATE_LIMIT_ERROR"), "mail_address");
            for number in 0..6 {
                reset("192.0.2.9", &format!("{number}@example.com")).await.has_status(200);
            }
            let refused = reset("192.0.2.9", "another@example.com").await;
            assert_told_when(&refused.has_failed(429, "RATE_LIMIT_ERROR"), "mail_client");
            let request = json!({ "email": "more@example.com", "password": PASSWORD, "name": "A" });
            for path in ["/api/auth/sign-up/email", "/auth/signup"] {
                from(app, "192.0.2.9").post(path, request.clone()).await.has_status(429);
            }
        })
        .await;
}

#[tokio::test]
async fn what_is_left_of_another_s_limit_is_told_to_nobody() {
    behind_a_proxy("{}")
        .run(async |app| {
            app.sign_up_person("ann@example.com").await;
            let reset = "/api/auth/request-password-reset";
            for email in ["ann@example.com", "nobody@example.com"] {
                let asked = json!({ "email": email });
                let mailed = from(app, "192.0.2.1").post(reset, asked).await.has_status(200);
                let failed = sign_in_from(app, "192.0.2.1", email, "not the password").await;
                for answer in [mailed, failed.has_status(401)] {
                    for header in ["ratelimit", "ratelimit-policy"] {
                        let told = answer.header(header);
                        assert!(!told.is_empty());
                        for limit in ["sign_in_failures", "mail_address"] {
                            assert!(!told.contains(limit), "{told}");
                        }
                    }
                }
            }
        })
        .await;
}
