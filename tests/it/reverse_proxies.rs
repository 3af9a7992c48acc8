//! Behind a real nginx, with two servers.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tenantry::app::in_flight::Cost;
use tenantry::model::rate_limit::LimitSubject;
use tokio::net::UnixStream;

use crate::support::socket::{SocketServer, parse_status, send_raw};
use crate::support::waiting::wait_until;
use crate::support::{tools, with_settings};

/// nginx with its defaults, and with keep-alive connections and unbuffered request bodies.
const CONFIGURATION: &str = "
daemon off;
master_process off;
pid DIR/pid;
error_log DIR/error.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path DIR/bodies;
    proxy_temp_path DIR/proxied;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
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
    }
}";

struct Nginx {
    folder: TempDir,
    process: Child,
}

impl Nginx {
    /// Starts nginx in front of two servers; `None` if the test is skipped because it is missing.
    fn start(one: &SocketServer, other: &SocketServer) -> Option<Self> {
        let program = tools::find_program("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let configuration = CONFIGURATION
            .replace("DIR", folder.path().to_str().unwrap())
            .replace("ONE", &one.address.to_string())
            .replace("OTHER", &other.address.to_string());
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).stderr(Stdio::null());
        let nginx = Self { process: command.spawn().unwrap(), folder };
        wait_until("nginx listens", || {
            std::os::unix::net::UnixStream::connect(nginx.socket("kept")).is_ok()
        });
        Some(nginx)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    /// Sends a request through nginx; returns the status.
    async fn status(&self, name: &str, head: &str, body: &[u8]) -> u16 {
        let length = body.len();
        let head = format!("{head}\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}");
        let request = [head.as_bytes(), b"\r\n\r\n", body].concat();
        let stream = UnixStream::connect(self.socket(name)).await.unwrap();
        parse_status(&send_raw(stream, &request).await)
    }

    /// Checks that repeated requests get this status and do not disturb others.
    async fn assert_passes_on(&self, expected: u16, head: &str, body: &[u8]) {
        for name in ["plain", "kept"] {
            for _ in 0..8 {
                assert_eq!(self.status(name, head, body).await, expected, "{name}: {head}");
            }
            for _ in 0..2 {
                let health = self.status(name, "GET /health/live HTTP/1.1", b"").await;
                assert_eq!(health, 200, "{name}, after {head}");
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_rejection_before_the_body_was_read_reaches_the_caller_through_nginx() {
    let settings = [("MAX_IN_FLIGHT", "20"), ("MAX_IN_FLIGHT_PER_CALLER", "8")];
    with_settings(&settings)
        .run(async |app| {
            let (one, other) = (SocketServer::start(app), SocketServer::start(app));
            let Some(nginx) = Nginx::start(&one, &other) else { return };
            let acme = app.sign_up().await;
            let request = json!({ "name": "reads", "scopes": ["usage:read"] });
            let created = app.key(&acme.api_key).post("/v1/organization/api-keys", request).await;
            let reader = created.assert_status(201).body["key"].as_str().unwrap().to_owned();

            let zeros = vec![0; 60_000];
            let json = "Content-Type: application/json";
            let mint = format!("POST /v1/organization/api-keys HTTP/1.1\r\n{json}\r\nX-Api-Key:");
            let sign_up = "POST /signup HTTP/1.1\r\n";
            nginx.assert_passes_on(401, &format!("{mint} bad"), &zeros).await;
            nginx.assert_passes_on(403, &format!("{mint} {reader}"), &zeros).await;
            nginx.assert_passes_on(404, "POST /nowhere HTTP/1.1", &zeros).await;
            nginx.assert_passes_on(405, "POST /auth/verify HTTP/1.1", &zeros).await;
            let large = vec![b' '; 1_000_000];
            nginx.assert_passes_on(413, &format!("{sign_up}{json}"), &large).await;
            let text = format!("{sign_up}Content-Type: text/plain");
            nginx.assert_passes_on(415, &text, &zeros).await;

            let address = LimitSubject::from_address(Some(one.address.ip()));
            let permits = [(); 8].map(|()| app.app.in_flight.acquire_for(address));
            nginx.assert_passes_on(429, &format!("{sign_up}{json}"), &zeros).await;
            drop(permits);
            let mut permits = Vec::new();
            while let Some(permit) = app.app.in_flight.acquire(Cost::Check) {
                permits.push(permit);
            }
            nginx.assert_passes_on(503, &format!("{sign_up}{json}"), &zeros).await;
        })
        .await;
}
