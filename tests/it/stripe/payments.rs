//! `GET /api/user/organizations/{organizationId}/payments`

use serde_json::{Value, json};

use super::{buy_and_claim, with_field};
use crate::support::app::text;
use crate::support::run;
use crate::support::stripe::{checkout, invoice_paid, invoice_payment_failed, later};

const PAYMENTS: &str = "/api/user/organizations/acme/payments";

#[tokio::test]
async fn paid_and_failed_payments_are_listed_newest_first() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        app.send_stripe_event(&later(invoice_payment_failed("evt_2", "acme"), 60))
            .await
            .assert_status(200);
        let fourth =
            with_field(later(invoice_paid("evt_4", "acme"), 180), "description", "By hand\u{7}");
        app.send_stripe_event(&fourth).await.assert_status(200);
        app.send_stripe_event(&later(invoice_paid("evt_3", "acme"), 120)).await.assert_status(200);
        let list = app.key(&key).get(PAYMENTS).await.assert_status(200);
        let payments = list.body["data"].as_array().unwrap();
        let presented: Vec<_> = payments
            .iter()
            .map(|it| (it["status"].clone(), it["createdAt"].clone(), it["description"].clone()))
            .collect();
        let row = |status: &str, at: &str, description: Value| {
            (json!(status), json!(format!("2036-05-08T09:{at}.000Z")), description)
        };
        let lines = json!("1 × Starter (at $29.00 / month)");
        assert_eq!(
            presented,
            [
                row("paid", "59:42", json!("By hand")),
                row("paid", "58:42", lines.clone()),
                row("failed", "57:42", lines),
                row("paid", "56:42", Value::Null),
            ]
        );
        for payment in payments {
            assert_eq!((&payment["amount"], &payment["currency"]), (&json!(2900), &json!("usd")));
            let id = text(&payment["id"]);
            assert!(id.starts_with("pay_") && id.len() == 26, "{id}");
        }
        let part = app.key(&key).get(&format!("{PAYMENTS}?offset=1&limit=2")).await;
        let part = part.assert_status(200);
        assert_eq!(part.body["data"], json!(payments[1..3]));
        let meta = json!({ "total": 4, "offset": 1, "limit": 2, "hasMore": true });
        assert_eq!(part.body["meta"], meta);
        let rows = app.key(&key).get(&format!("{PAYMENTS}?q=starter&limit=1")).await;
        let rows = rows.assert_status(200);
        assert_eq!(rows.body["data"], json!(payments[1..2]));
        assert_eq!(rows.body["meta"]["total"], 2);
        let bad = app.key(&key).get(&format!("{PAYMENTS}?limit=101&offset=x")).await;
        let bad = bad.assert_status(400);
        assert_eq!(bad.invalid_fields(), ["offset", "limit"]);
    })
    .await;
}

#[tokio::test]
async fn a_purchase_reported_as_a_session_and_as_an_invoice_is_one_payment() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        let invoice = with_field(invoice_paid("evt_2", "acme"), "id", "in_of_evt_buys_acme");
        app.send_stripe_event(&invoice).await.assert_status(200);
        let list = app.key(&key).get(PAYMENTS).await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 1);
        // An invoice that failed first and was paid later is listed twice.
        app.send_stripe_event(&later(invoice_payment_failed("evt_3", "acme"), 10))
            .await
            .assert_status(200);
        let then = with_field(later(invoice_paid("evt_4", "acme"), 20), "id", "in_of_evt_3");
        app.send_stripe_event(&then).await.assert_status(200);
        let list = app.key(&key).get(PAYMENTS).await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 3);
    })
    .await;
}

#[tokio::test]
async fn an_event_with_a_zero_amount_is_no_payment() {
    run(async |app| {
        let free = with_field(checkout("evt_1", "acme", "trial"), "amount_total", Value::Null);
        app.send_stripe_event(&free).await.assert_status(200);
        let zero = with_field(invoice_paid("evt_2", "acme"), "amount_paid", 0);
        app.send_stripe_event(&zero).await.assert_status(200);
        assert_eq!(app.count("select count(*) from payments").await, 0);
    })
    .await;
}

#[tokio::test]
async fn payments_are_read_only_by_admins_and_keys_with_the_scope() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        let other = buy_and_claim(app, "other").await;
        app.key(&other).get(PAYMENTS).await.assert_error(403, "FORBIDDEN");
        app.anonymous().get(PAYMENTS).await.assert_error(401, "AUTHENTICATION_REQUIRED");
        let narrow = json!({ "name": "n", "scopes": ["usage:read"] });
        let narrow = app.key(&key).post("/v1/organization/api-keys", narrow).await;
        let narrow = text(&narrow.assert_status(201).body["key"]);
        let rejected = app.key(&narrow).get(PAYMENTS).await;
        let rejected = rejected.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(rejected.body["meta"]["missing_scopes"], json!(["billing:read"]));
        let wide = json!({ "name": "w", "scopes": ["billing:read"] });
        let wide = app.key(&key).post("/v1/organization/api-keys", wide).await;
        let wide = text(&wide.assert_status(201).body["key"]);
        let list = app.key(&wide).get(PAYMENTS).await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 1);
    })
    .await;
}
