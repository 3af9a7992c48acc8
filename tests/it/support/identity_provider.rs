//! An identity provider in a process of its own: `tests/clients/identity_provider.mjs`, whose
//! comment lists what tests can set with [`IdentityProvider::control`].
//!
//! ```ignore
//! let Some(provider) = IdentityProvider::start() else { return };
//! with_settings(&[("SSO", "on"), ("OUTBOUND_ALLOW", &provider.allowed()), …])
//!     .run(async |app| {
//!         // Create a connection with provider.issuer(), .client_id() and .client_secret().
//!         provider.control(json!({
//!             "redirectUris": [redirect_uri],
//!             "claims": { "ann": { "email": "ann@example.com", "email_verified": true } },
//!             "nextLogin": "ann",
//!         }));
//!         // Begin the sign-in, then:
//!         let callback = provider.sign_in(&authorization_url);
//!     })
//!     .await;
//! ```

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::app::{START_TIME, text};
use super::server::curl;
use super::tools::{clients_folder, find_program, install_clients, is_installed};

/// The number of redirects after which a sign-in has failed.
const MAX_REDIRECTS: usize = 10;

/// A running provider, killed when dropped.
pub struct IdentityProvider {
    child: Child,
    issuer: String,
    client_id: String,
    client_secret: String,
}

impl IdentityProvider {
    /// Starts a provider whose clock begins at the time of the tests' clock, [`START_TIME`]. For
    /// the real program, set its `now`. `None` if the test is skipped because a program is missing.
    pub fn start() -> Option<Self> {
        install_clients();
        let package = "node_modules/oidc-provider";
        let name = format!("tests/clients/{package} (tests/clients/install needs npm)");
        if !is_installed(&name, clients_folder().join(package).exists()) {
            return None;
        }
        let mut node = Command::new(find_program("node")?);
        node.arg(clients_folder().join("identity_provider.mjs"));
        node.arg(json!({ "now": START_TIME }).to_string());
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = node.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let printed: Value = serde_json::from_str(&line).unwrap();
        let [issuer, client_id, client_secret] =
            ["issuer", "clientId", "clientSecret"].map(|name| text(&printed[name]));
        Some(Self { child, issuer, client_id, client_secret })
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The id of its client.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret of its client.
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The value of `OUTBOUND_ALLOW` that lets Tenantry fetch from it.
    pub fn allowed(&self) -> String {
        self.issuer.trim_start_matches("http://").to_owned()
    }

    /// Changes how it behaves, effective immediately.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!(…)")]
    pub fn control(&self, changes: Value) {
        let (url, body) = (format!("{}/control", self.issuer), changes.to_string());
        let response = curl(&["-d", &body, &url]);
        assert_eq!(response.status, 204, "{}", response.text);
    }

    /// Signs in as the account `nextLogin` in a new browser, which opens the URL of an
    /// authorization request. Returns the URL of the callback to which it is redirected.
    pub fn sign_in(&self, url: &str) -> String {
        let jar = tempfile::NamedTempFile::new().unwrap();
        let jar = jar.path().to_str().unwrap();
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            if !url.starts_with(&self.issuer) {
                return url;
            }
            let mut command = Command::new("curl");
            command.args(["-s", "--max-time", "30", "-b", jar, "-c", jar]);
            let done = command.args(["-w", "\n%{redirect_url}", &url]).output().unwrap();
            let output = String::from_utf8(done.stdout).unwrap();
            let (page, redirect) = output.rsplit_once('\n').unwrap();
            assert!(!redirect.is_empty(), "{url} does not redirect: {page}");
            redirect.clone_into(&mut url);
        }
        panic!("{url} leads nowhere");
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
