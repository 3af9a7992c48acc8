//! Behind a real nginx, with two servers.

use serde_json::json;
use tenantry::app::in_flight::Cost;
use tenantry::model::rate_limit::LimitSubject;
use tokio::net::UnixStream;

use crate::support::nginx::Nginx;
use crate::support::socket::{SocketServer, parse_status, send_raw};
use crate::support::with_settings;

/// Proxies with nginx's defaults, and with keep-alive connections and unbuffered request bodies.
const HTTP: &str = "
    upstream plain { server ONE; server OTHER; }
    upstream kept { server ONE; server OTHER; keepalive 8; }
    server {
        listen unix:DIR/plain.sock;
        location / { proxy_pass http://plain; }
    }
    server {
        listen unix:DIR/kept.sock;
        location / {
            proxy_pass http://kept;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_request_buffering off;
        }
    }";

/// Starts nginx in front of two servers; `None` if the test is skipped.
fn start_nginx(one: &SocketServer, other: &SocketServer) -> Option<Nginx> {
    let http = HTTP.replace("ONE", &one.address.to_string());
    Nginx::start(&http.replace("OTHER", &other.address.to_string()), "kept")
}

/// Sends a request through nginx; returns the status.
async fn status(nginx: &Nginx, name: &str, head: &str, body: &[u8]) -> u16 {
    let length = body.len();
    let head = format!("{head}\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}");
    let request = [head.as_bytes(), b"\r\n\r\n", body].concat();
    let stream = UnixStream::connect(nginx.socket(name)).await.unwrap();
    parse_status(&send_raw(stream, &request).await)
}

/// Checks that repeated requests get this status and do not disturb others.
async fn assert_passes_on(nginx: &Nginx, expected: u16, head: &str, body: &[u8]) {
    for name in ["plain", "kept"] {
        for _ in 0..8 {
            assert_eq!(status(nginx, name, head, body).await, expected, "{name}: {head}");
        }
        for _ in 0..2 {
            let health = status(nginx, name, "GET /health/live HTTP/1.1", b"").await;
            assert_eq!(health, 200, "{name}, after {head}");
        }
    }
}

#[tokio::test]
async fn a_rejection_before_the_body_was_read_reaches_the_caller_through_nginx() {
    let settings = [("MAX_IN_FLIGHT", "20"), ("MAX_IN_FLIGHT_PER_CALLER", "8")];
    with_settings(&settings)
        .run(async |app| {
            let (one, other) = (SocketServer::start(app), SocketServer::start(app));
            let Some(nginx) = start_nginx(&one, &other) else { return };
            let acme = app.sign_up().await;
            let request = json!({ "name": "reads", "scopes": ["usage:read"] });
            let created = app.key(&acme.api_key).post("/v1/organization/api-keys", request).await;
            let reader = created.assert_status(201).body["key"].as_str().unwrap().to_owned();

            let zeros = vec![0; 60_000];
            let json = "Content-Type: application/json";
            let create_key =
                format!("POST /v1/organization/api-keys HTTP/1.1\r\n{json}\r\nX-Api-Key:");
            let sign_up = "POST /signup HTTP/1.1\r\n";
            assert_passes_on(&nginx, 401, &format!("{create_key} bad"), &zeros).await;
            assert_passes_on(&nginx, 403, &format!("{create_key} {reader}"), &zeros).await;
            assert_passes_on(&nginx, 404, "POST /nowhere HTTP/1.1", &zeros).await;
            assert_passes_on(&nginx, 405, "POST /auth/verify HTTP/1.1", &zeros).await;
            let large = vec![b' '; 1_000_000];
            assert_passes_on(&nginx, 413, &format!("{sign_up}{json}"), &large).await;
            let text = format!("{sign_up}Content-Type: text/plain");
            assert_passes_on(&nginx, 415, &text, &zeros).await;

            let address = LimitSubject::from_address(Some(one.address.ip()));
            let permits = [(); 8].map(|()| app.app.in_flight.acquire_for(address));
            assert_passes_on(&nginx, 429, &format!("{sign_up}{json}"), &zeros).await;
            drop(permits);
            let mut permits = Vec::new();
            while let Some(permit) = app.app.in_flight.acquire(Cost::Check) {
                permits.push(permit);
            }
            assert_passes_on(&nginx, 503, &format!("{sign_up}{json}"), &zeros).await;
        })
        .await;
}
