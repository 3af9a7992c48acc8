//! Certificates for test servers.

use std::path::Path;
use std::process::Command;

use super::tools::find_program;

/// Creates a certificate authority (`ca.pem`) and a certificate for 127.0.0.1 (`cert.pem`,
/// `key.pem`) in a folder, with openssl. `None` if the test is skipped because openssl is missing.
pub fn create_certificates(folder: &Path) -> Option<()> {
    find_program("openssl")?;
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 \
                      -subj /CN=authority &&
                  openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr -subj /CN=c &&
                  openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                      -extfile ext -out cert.pem";
    let done = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(())
}
