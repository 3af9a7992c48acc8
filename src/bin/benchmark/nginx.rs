//! An nginx in front of the bare route, with and without a check of each request.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::VERIFIER_SECRET;
use tenantry::commands::Failure;

/// One process, like a worker of a larger installation. All files are in the folder `DIR`.
const CONFIGURATION: &str = "
daemon off;
master_process off;
pid DIR/nginx.pid;
error_log DIR/nginx.log;
events { worker_connections 2048; }
http {
    access_log off;
    client_body_temp_path DIR/bodies;
    proxy_temp_path DIR/proxied;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
    keepalive_requests 1000000000;
    upstream backend { server BARE; keepalive 256; keepalive_requests 1000000000; }
    upstream tenantry { server SERVER; keepalive 256; keepalive_requests 1000000000; }
    proxy_http_version 1.1;
    server {
        listen ADDRESS;
        location = /_check {
            internal;
            proxy_pass http://tenantry/v1/verify/nginx?scope=usage:read;
            proxy_pass_request_body off;
            proxy_set_header Content-Length \"\";
            proxy_set_header Connection \"\";
            proxy_set_header X-Tenantry-Verifier SECRET;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
        location = /checked {
            auth_request /_check;
            auth_request_set $organization $upstream_http_x_tenantry_organization;
            proxy_set_header X-Tenantry-Organization $organization;
            proxy_set_header X-Api-Key \"\";
            proxy_set_header Connection \"\";
            proxy_pass http://backend/bare;
        }
        location = /unchecked {
            proxy_set_header X-Api-Key \"\";
            proxy_set_header Connection \"\";
            proxy_pass http://backend/bare;
        }
    }
}
";

/// How long nginx may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running nginx. It is killed when dropped.
pub(crate) struct Nginx {
    child: Child,
    /// The address that it listens on.
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// Starts nginx in a folder, in front of a server and a bare route. Returns `None` if it is not
    /// installed.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(
        folder: &Path,
        (server, bare): (SocketAddr, SocketAddr),
    ) -> Result<Option<Self>, Failure> {
        // nginx cannot tell which free port it chose.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = CONFIGURATION
            .replace("DIR", &folder.to_string_lossy())
            .replace("ADDRESS", &address.to_string())
            .replace("SERVER", &server.to_string())
            .replace("BARE", &bare.to_string())
            .replace("SECRET", VERIFIER_SECRET);
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration)?;
        // Debian's folder for it is on the path of root only.
        let started = ["nginx", "/usr/sbin/nginx"].into_iter().map(|program| {
            let mut command = Command::new(program);
            command.arg("-p").arg(folder).arg("-c").arg(&file);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        });
        let is_found = |it: &io::Result<Child>| {
            !it.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let Some(child) = started.into_iter().find(is_found) else { return Ok(None) };
        let nginx = Self { child: child?, address };
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                return Err(Failure::Message("nginx did not start".to_owned()));
            }
            thread::yield_now();
        }
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
