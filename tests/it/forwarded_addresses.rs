//! The client address that trusted proxies forward.

use serde_json::json;

use crate::support::app::text;
use crate::support::rate_limits::{client_from, with_limits_behind_proxy};
use crate::support::with_settings;

#[tokio::test]
async fn every_address_format_of_proxies_is_parsed_and_anything_else_is_unknown() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let request = json!({ "name": "bound", "scopes": ["*"],
                                "allowed_ips": ["203.0.113.7", "2001:db8::7"] });
            let created = app.key(&acme.api_key).post("/v1/organization/api-keys", request).await;
            let bound = text(&created.assert_status(201).body["key"]);
            let client = |address: &str| app.key(&bound).with("x-forwarded-for", address);
            for known in [
                "203.0.113.7",
                "203.0.113.7:51234",
                "2001:db8::7",
                "2001:DB8:0::7",
                "[2001:db8::7]",
                "[2001:db8::7]:443",
                "::ffff:203.0.113.7",
                "[::ffff:203.0.113.7]:443",
                "198.51.100.1:9, \t203.0.113.7:51234 \t",
            ] {
                client(known).get("/me").await.assert_status(200);
            }
            for unknown in [
                "unknown",
                "_hidden",
                "_hidden:443",
                "203.0.113.7:",
                "203.0.113.7:65536",
                "203.0.113.7:http",
                "203.0.113.7 :80",
                "[203.0.113.7]",
                "[203.0.113.7]:80",
                "[2001:db8::7",
                "2001:db8::7]",
                "[2001:db8::7]:",
                "[2001:db8::7]443",
                "[2001:db8::7%1]:443",
                "\"[2001:db8::7]:443\"",
                "for=203.0.113.7",
                "\u{a0}203.0.113.7",
                "203.0.113.7, ",
                "",
            ] {
                client(unknown).get("/me").await.assert_error(403, "forbidden");
            }
        })
        .await;
}

#[tokio::test]
async fn each_client_behind_a_proxy_has_one_rate_limit_whatever_its_port() {
    with_limits_behind_proxy(r#"{"address":{"quota":2,"window_s":600}}"#)
        .run(async |app| {
            for client in ["203.0.113.7", "203.0.113.8", "[2001:db8::7]", "[2001:db8:1::7]"] {
                for port in [1, 2] {
                    let address = format!("{client}:{port}");
                    client_from(app, &address).get("/me").await.assert_status(401);
                }
                client_from(app, &format!("{client}:3")).get("/me").await.assert_status(429);
            }
        })
        .await;
}

#[tokio::test]
async fn unreadable_forwarded_addresses_are_logged_in_one_warning() {
    with_settings(&[("TRUSTED_PROXY_HOPS", "1")])
        .run(async |app| {
            let send = async |id: &str, address: &str| {
                let actor = client_from(app, address).with("x-request-id", id);
                actor.get("/me").await.assert_status(401);
            };
            send("forwarded-and-readable", "203.0.113.7:1").await;
            send("forwarded-unreadable-1", "_secret_of_a_client").await;
            send("forwarded-unreadable-2", "_secret_of_a_client").await;
            let log = app.log();
            let warned =
                |id: &str| log.lines().any(|line| line.contains("WARN") && line.contains(id));
            assert!(!warned("forwarded-and-readable"));
            assert!(warned("forwarded-unreadable-1"));
            assert!(!warned("forwarded-unreadable-2"));
            let line = log.lines().find(|line| line.contains("forwarded-unreadable-1")).unwrap();
            assert!(line.contains("X-Forwarded-For"), "{line}");
            assert!(!log.contains("_secret_of_a_client"));
        })
        .await;
}
