//! Published client libraries, which `tests/clients/install` installs, against the real server.

use std::time::Duration;

use serde_json::json;

use crate::outbound::TlsServer;
use crate::support::accounts::PASSWORD;
use crate::support::documents::document;
use crate::support::ports::free_address;
use crate::support::relay::{RelayTarget, relay};
use crate::support::server::{Server, WorkDir, curl};
use crate::support::tools::{self, clients_folder, install_clients};

/// Runs a program of `tests/clients`, which exits with an error if one of its assertions fails. It
/// needs `installed` in that folder.
fn run_client(
    dir: &WorkDir,
    url: &str,
    (language, program, installed): (&str, &str, &str),
    settings: &[(&str, &str)],
) {
    install_clients();
    let client = format!("tests/clients/{installed} (tests/clients/install needs npm and pip)");
    if !tools::is_installed(&client, clients_folder().join(installed).exists()) {
        return;
    }
    let Some(language) = tools::find_program(language) else { return };
    let mut command = dir.command_for(&language, settings);
    command.env("TENANTRY_URL", url).env("PYTHONPATH", clients_folder().join("python"));
    let done = command.arg(clients_folder().join(program)).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program}:\n{stdout}\n{stderr}");
}

/// A published client library for the operator's API.
#[test]
fn supported_calls_of_cohesion_sdk_work_and_the_others_raise_its_own_errors() {
    let dir = WorkDir::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = dir.start(&[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
    let program = ("python3", "cohesion_sdk.py", "python/cohesion");
    run_client(&dir, &server.url(""), program, &[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
}

/// The client of the library after which the routes below `/api/auth` are named.
#[test]
fn the_unmodified_better_auth_client_works_as_the_readme_configures_it() {
    let dir = WorkDir::new();
    let dashboard = "https://app.example.com";
    let server = dir.start(&[("DASHBOARD_ORIGINS", dashboard)]);
    let mails = dir.path().join(".tenantry/mail");
    let program = ("node", "better_auth.mjs", "node_modules/better-auth");
    let page = format!("{dashboard}/welcome");
    let settings = [("MAILS", mails.to_str().unwrap()), ("PAGE", &page)];
    run_client(&dir, &server.url(""), program, &settings);
}

/// With both MCP SDKs, one client names its metadata document, and another registers itself.
#[tokio::test(flavor = "multi_thread")]
async fn mcp_clients_get_access_with_a_metadata_document_and_by_registering_themselves() {
    let dir = WorkDir::new();
    let Some(documents) = TlsServer::start(dir.path()) else { return };
    let client_id = format!("https://127.0.0.1:{}/client.json", documents.1);
    std::fs::write(dir.path().join("client.json"), document(&client_id).to_string()).unwrap();
    // The issuer has the port of the relay, which is known before the server starts.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = dir.start(&[
        ("PUBLIC_URL", &url),
        ("OAUTH", "on"),
        ("OAUTH_DCR", "open"),
        ("OUTBOUND_ALLOW", &format!("127.0.0.1:{}", documents.1)),
        ("SSL_CERT_FILE", "ca.pem"),
    ]);
    let port = server.url("").rsplit_once(':').unwrap().1.parse().unwrap();
    relay(listener, RelayTarget::Port(port), Duration::ZERO);
    let email = "ann@example.com";
    let account = json!({ "email": email, "password": PASSWORD, "name": "Ann" }).to_string();
    let headers = ["-H", "Content-Type: application/json", "-d", &account];
    let signed_up = curl(&[&headers[..], &[&server.url("/api/auth/sign-up/email")]].concat());
    assert_eq!(signed_up.status, 200, "{}", signed_up.text);
    sqlx::query("update accounts set proven_at = now()")
        .execute(&mut dir.connect().await)
        .await
        .unwrap();
    let person = [("EMAIL", email), ("PASSWORD", PASSWORD)];
    for (language, program, installed) in [
        ("node", "mcp_sdk.mjs", "node_modules/@modelcontextprotocol/sdk"),
        ("python3", "mcp_client.py", "python/mcp"),
    ] {
        let program = (language, program, installed);
        let with_document = [&person[..], &[("CLIENT_ID", client_id.as_str())]].concat();
        tokio::task::block_in_place(|| {
            run_client(&dir, &url, program, &with_document);
            run_client(&dir, &url, program, &person);
        });
    }
}

/// A server with OAuth and these settings, whose address is its issuer.
fn openid_provider(dir: &WorkDir, settings: &[(&str, &str)]) -> Server {
    let address = free_address().to_string();
    let issuer = format!("http://{address}");
    let own = [("OAUTH", "on"), ("LISTEN_ADDR", &*address), ("PUBLIC_URL", &*issuer)];
    dir.start(&[&own[..], settings].concat())
}

/// Runs a client that signs a person in.
fn run_openid_client(program: (&str, &str, &str), settings: &[(&str, &str)]) {
    run_with_provider(program, &[], settings);
}

/// Runs a client that signs a person in at a server with settings of its own.
fn run_with_provider(
    program: (&str, &str, &str),
    server_settings: &[(&str, &str)],
    settings: &[(&str, &str)],
) {
    let dir = WorkDir::new();
    let server = openid_provider(&dir, server_settings);
    let mails = dir.path().join(".tenantry/mail");
    let mails = ("MAILS", mails.to_str().unwrap());
    run_client(&dir, &server.url(""), program, &[&[mails], settings].concat());
}

#[test]
fn openid_client_signs_a_person_in_and_accepts_every_claim_and_signature() {
    run_openid_client(("node", "openid_client.mjs", "node_modules/openid-client"), &[]);
}

/// The app signs with each algorithm in turn.
#[test]
fn openid_client_signs_a_person_in_with_a_private_key_and_accepts_es256() {
    run_openid_client(("node", "private_key.mjs", "node_modules/openid-client"), &[]);
}

/// The provider is certified by the `OpenID` Foundation: no check asks for more than the standard.
#[test]
fn a_certified_provider_passes_the_checks_of_openid_client_too() {
    let program = ("node", "reference.mjs", "node_modules/oidc-provider");
    run_client(&WorkDir::new(), "", program, &[]);
}

#[test]
fn authlib_signs_a_person_in_with_each_auth_method_and_verifies_a_jwt_access_token() {
    let service = "https://search.example.com";
    let server = [("OAUTH_RESOURCES", service), ("OAUTH_JWT_RESOURCES", service)];
    let program = ("python3", "authlib_client.py", "python/authlib");
    run_with_provider(program, &server, &[("SERVICE", service)]);
}

/// A relying party in C.
#[test]
fn apache_with_mod_auth_openidc_lets_a_person_in_who_signed_in_here() {
    let Some(apache) = tools::find_program("apache2") else { return };
    let settings =
        [("APACHE", apache.to_str().unwrap()), ("PORT", &free_address().port().to_string())];
    run_openid_client(("node", "mod_auth_openidc.mjs", "person.mjs"), &settings);
}

/// The device flow of a certified client, as a command line tool uses it.
#[test]
fn a_command_line_tool_signs_in_with_the_device_flow_of_openid_client() {
    run_openid_client(("node", "device_flow.mjs", "node_modules/openid-client"), &[]);
}

/// The pages of sign-in, consent and devices, with their scripts and their security policies.
#[test]
fn a_person_grants_access_in_a_real_browser() {
    let Some(chromium) = tools::find_program("chromium") else { return };
    let settings = [("CHROMIUM", chromium.to_str().unwrap())];
    run_openid_client(("node", "browser.mjs", "node_modules/playwright-core"), &settings);
}

/// The operator's page uses the script of the README and is on another port of the host.
#[test]
fn a_person_signs_in_on_the_operator_s_own_page_and_grants_access_here() {
    let Some(chromium) = tools::find_program("chromium") else { return };
    let origin = format!("http://{}", free_address());
    let page = format!("{origin}/login");
    let server = [("DASHBOARD_ORIGINS", &*origin), ("SIGN_IN_PAGE", &*page)];
    let program = ("node", "own_sign_in_page.mjs", "node_modules/playwright-core");
    let settings = [("CHROMIUM", chromium.to_str().unwrap()), ("PAGE", &page)];
    run_with_provider(program, &server, &settings);
}

/// The scanner signs in by way of the MCP server of `deploy/examples`.
#[test]
fn every_check_of_mcp_authlab_that_can_pass_over_plain_http_passes() {
    let url = format!("http://{}/mcp", free_address());
    let resource = format!("mcp={url}");
    let verifier = "mcp:0123456789abcdef0123456789abcdef";
    let server_settings =
        [("OAUTH_DCR", "open"), ("VERIFIER_KEYS", verifier), ("OAUTH_RESOURCES", &resource)];
    let settings = [("MCP_URL", &*url), ("TENANTRY_VERIFIER", verifier)];
    let program = ("python3", "authlab.py", "python/mcp_authlab");
    run_with_provider(program, &server_settings, &settings);
}
