//! A real nginx, which listens on unix sockets in a folder of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::tools::find_program;
use crate::support::waiting::wait_until;

/// The configuration around the content of the `http` block. Everything stays in the folder.
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
    HTTP
}";

/// A running nginx, stopped when it is dropped.
pub struct Nginx {
    folder: TempDir,
    process: Child,
}

impl Nginx {
    /// Starts nginx with this content of its `http` block, where `DIR` stands for its folder, and
    /// waits until it listens on `DIR/{socket}.sock`. Returns `None` if nginx is missing and the
    /// test is skipped.
    #[track_caller]
    pub fn start(http: &str, socket: &str) -> Option<Self> {
        let program = find_program("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let configuration = CONFIGURATION.replace("HTTP", http);
        let configuration = configuration.replace("DIR", folder.path().to_str().unwrap());
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).stderr(Stdio::null());
        let nginx = Self { process: command.spawn().unwrap(), folder };
        wait_until("nginx listens", || UnixStream::connect(nginx.socket(socket)).is_ok());
        Some(nginx)
    }

    /// Returns the path of one of its sockets.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
