//! The binary as a user runs it: one command, the embedded Postgres, kill -9 and Ctrl-C.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::support::server::{WorkDir, curl, is_alive, run_shell, signal};
use crate::support::tools;
use crate::support::waiting::wait_until;

/// What a process wrote: its stdout, then its stderr.
fn output_text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

#[test]
fn one_command_starts_the_server_and_the_printed_curl_line_works() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let line = server.welcome.lines().find(|line| line.trim_start().starts_with("curl")).unwrap();
    let response = run_shell(&format!("{line} -s"));
    let key = response["api_key"].as_str().unwrap();
    assert_eq!(response["key"]["name"], "acme corp");
    assert_eq!(server.status_with(key), 200);
    assert!(server.welcome.contains(".tenantry"));
    assert!(work_dir.postgres().is_some());
    let secrets = work_dir.path().join(".tenantry/secrets");
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unprivileged_user_can_run_the_server() {
    let work_dir = WorkDir::unprivileged();
    let server = work_dir.start(&[]);
    let key = server.sign_up();
    assert_eq!(server.status_with(&key), 200);
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
    wait_until("Postgres ends", || work_dir.postgres().is_none());
}

#[test]
fn ctrl_c_stops_the_server_and_its_postgres_and_the_next_run_has_the_same_data() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let key = server.sign_up();
    let postgres = work_dir.postgres().unwrap();
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
    wait_until("Postgres ends", || !is_alive(postgres));
    let server = work_dir.start(&[]);
    assert_eq!(server.status_with(&key), 200);
}

#[test]
fn kill_9_of_the_server_loses_no_confirmed_signup_and_leaves_one_postgres() {
    let work_dir = WorkDir::new();
    let mut keys = Vec::new();
    for _ in 0..3 {
        let server = work_dir.start(&[]);
        keys.extend((0..10).map(|_| server.sign_up()));
        signal("KILL", server.pid());
        server.wait();
    }
    let running = work_dir.postgres().unwrap();
    let server = work_dir.start(&[]);
    for key in &keys {
        assert_eq!(server.status_with(key), 200);
    }
    assert_eq!(work_dir.postgres(), Some(running));
    server.signal_and_wait("INT");
    wait_until("Postgres ends", || !is_alive(running));
}

#[test]
fn kill_9_of_the_server_and_of_postgres_loses_no_confirmed_signup() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let keys: Vec<String> = (0..10).map(|_| server.sign_up()).collect();
    signal("KILL", server.pid());
    signal("KILL", work_dir.postgres().unwrap());
    server.wait();
    let server = work_dir.start(&[]);
    for key in &keys {
        assert_eq!(server.status_with(key), 200);
    }
}

#[test]
fn when_postgres_dies_the_server_responds_503_and_recovers_without_a_restart() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("LIMITS_PROFILE", "off")]);
    let key = server.sign_up();
    // Without this file Postgres does not start again.
    let control = work_dir.path().join(".tenantry/postgres/data/global/pg_control");
    let hidden = control.with_extension("hidden");
    std::fs::rename(&control, &hidden).unwrap();
    let killed = work_dir.postgres().unwrap();
    signal("KILL", killed);
    wait_until("it responds 503", || {
        let status = server.status_with(&key);
        assert!([200, 503].contains(&status), "{status}");
        status == 503
    });
    std::fs::rename(&hidden, &control).unwrap();
    wait_until("it responds again", || {
        let status = server.status_with(&key);
        assert!([200, 503].contains(&status), "{status}");
        status == 200
    });
    assert_ne!(work_dir.postgres(), Some(killed));
}

#[test]
fn after_sigterm_the_server_is_live_but_not_ready_and_then_exits() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
    signal("TERM", server.pid());
    wait_until("it is not ready", || curl(&[&server.url("/health/ready")]).status == 503);
    assert_eq!(curl(&[&server.url("/health/live")]).status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn signals_without_a_function_stop_neither_the_server_nor_its_janitor() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let key = server.sign_up();
    let janitor = work_dir.janitor().unwrap();
    for name in ["HUP", "USR1", "USR2", "ALRM", "PIPE", "VTALRM", "PROF", "IO", "XCPU", "XFSZ"] {
        signal(name, server.pid());
        signal(name, janitor);
        assert_eq!(server.status_with(&key), 200, "after SIG{name}");
        assert!(is_alive(janitor), "the janitor, after SIG{name}");
    }
    wait_until("the signal is logged", || server.log().contains("SIGHUP ignored"));
    for name in ["INT", "TERM", "QUIT"] {
        signal(name, janitor);
    }
    let postgres = work_dir.postgres().unwrap();
    assert_eq!(server.signal_and_wait("QUIT").code(), Some(0));
    assert!(is_alive(janitor));
    wait_until("Postgres ends", || !is_alive(postgres));
    let header = format!("X-Api-Key: {key}");
    let server = work_dir.start(&[]);
    let response = curl(&["-H", &header, &server.url("/usage/summary")]);
    assert_eq!(response.body["requests_used"], 10, "usage was written at the shutdown");
}

#[test]
fn after_sigterm_a_kept_connection_is_closed_with_its_next_response() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("SHUTDOWN_GRACE_SECONDS", "0")]);
    let address = server.url("").replace("http://", "");
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let mut send = || {
        write!(connection, "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut response = String::new();
        while !response.ends_with('}') {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            response.push(char::from(byte[0]));
        }
        response
    };
    assert!(!send().contains("connection: close"));
    signal("TERM", server.pid());
    wait_until("it is stopping", || server.log().contains("finishing running requests"));
    assert!(send().contains("connection: close"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn unwritten_usage_counts_survive_a_shutdown() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let key = server.sign_up();
    for _ in 0..3 {
        server.status_with(&key);
    }
    server.signal_and_wait("INT");
    let server = work_dir.start(&[]);
    let header = format!("X-Api-Key: {key}");
    let response = curl(&["-H", &header, &server.url("/usage/summary")]);
    assert_eq!(response.body["requests_used"], 3);
}

#[test]
fn mail_is_written_to_a_file_soon_after_a_signup() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let request = r#"{"email":"you@example.com","password":"a-long-secure-passphrase"}"#;
    let json = "content-type: application/json";
    let created = curl(&["-d", request, "-H", json, &server.url("/auth/signup")]);
    assert_eq!(created.status, 201, "{}", created.text);
    let folder = work_dir.path().join(".tenantry/mail");
    let is_there = || std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
    wait_until("the mail is written", is_there);
}

/// Runs the README's script with another address.
#[test]
fn the_readme_s_script_for_inviting_a_member_works_and_can_be_repeated() {
    if tools::find_program("jq").is_none() {
        return;
    }
    let readme = include_str!("../../README.md");
    let section = readme.split("### Invite, promote").nth(1).unwrap();
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let script = script.replace("http://127.0.0.1:8080", &server.url(""));
    // The script can be repeated.
    for _ in 0..2 {
        let mut shell = std::process::Command::new("sh");
        let done = shell.args(["-c", &script]).current_dir(work_dir.path()).output().unwrap();
        let output = output_text(&done);
        let responses: Vec<serde_json::Value> =
            output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let statuses: Vec<_> = responses.iter().map(|it| it["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 201, 200, 403, 200, 200, 200, 403], "{output}");
    }
}

/// Runs the README's script with another program path and address.
#[test]
fn the_readme_s_operator_script_shows_a_repeated_request_after_kill_9() {
    if tools::find_program("openssl").is_none() {
        return;
    }
    let readme = include_str!("../../README.md");
    let section = readme.split("### The operator").nth(1).unwrap();
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let work_dir = WorkDir::new();
    // Outside the ports that the system assigns to other tests' servers.
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (20_000..30_000).find(free).unwrap();
    let address = format!("127.0.0.1:{port}");
    let script = script.replace("127.0.0.1:8080", &address);
    let script = script.replace("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry"));
    // The script waits even for a server that has failed.
    let mut shell = work_dir.command_for("timeout", &[("LISTEN_ADDR", &address)]);
    let done = shell.args(["120", "sh", "-c", &script]).output().unwrap();
    let output = output_text(&done);
    let responses: Vec<serde_json::Value> =
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [first, repeated] = &responses[..] else { panic!("{output}") };
    assert!(first["api_key"].is_string(), "{output}");
    assert_eq!((&repeated["org_id"], &repeated["prefix"]), (&first["org_id"], &first["prefix"]));
    assert!(repeated.get("api_key").is_none());
    assert_eq!(repeated["already_provisioned"], true);
}

#[test]
fn a_second_ctrl_c_stops_without_waiting_for_requests() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let address = server.url("").replace("http://", "");
    let mut slow = std::net::TcpStream::connect(address).unwrap();
    write!(slow, "POST /signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n").unwrap();
    write!(slow, "content-length: 100\r\n\r\n{{").unwrap();
    signal("INT", server.pid());
    wait_until("it is stopping", || server.log().contains("finishing running requests"));
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
}

#[test]
fn a_body_of_3_mb_is_rejected_with_a_response_that_arrives() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let body = work_dir.path().join("body");
    std::fs::write(&body, format!("{{\"name\":\"{}\"}}", "x".repeat(3_000_000))).unwrap();
    let body = format!("@{}", body.display());
    let json = "content-type: application/json";
    let response = curl(&["-H", json, "--data-binary", &body, &server.url("/signup")]);
    assert_eq!(response.status, 413);
    assert_eq!(response.body["details"]["code"], "entity_too_large");
}

#[test]
fn a_key_import_is_all_or_nothing_and_live_keys_are_counted_by_pepper() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("KEY_IMPORT", "on")]);
    let url = server.url("/signup");
    let signup =
        curl(&["-H", "content-type: application/json", "-d", r#"{"org_id":"acme"}"#, &url]);
    assert_eq!(signup.status, 201);
    let import = |lines: &str| {
        std::fs::write(work_dir.path().join("keys"), lines).unwrap();
        work_dir.command(&[]).args(["key", "import", "keys"]).output().unwrap()
    };
    let good = r#"{"org_id":"ACME","key":"sk_old_1","name":"old","scopes":["usage:read"]}"#;
    let bad = r#"{"org_id":"acme","key":"sk_old_2","scopes":["no:such"]}"#;
    let worse = r#"{"org_id":"acme","secret":"sk_old_3","scopes":[]}"#;
    let done = import(&format!("{good}\n{bad}\n{worse}\n"));
    assert_eq!(done.status.code(), Some(1));
    assert!(
        output_text(&done).contains("line 2") && output_text(&done).contains("line 3"),
        "{}",
        output_text(&done)
    );
    assert!(!output_text(&done).contains("sk_old"));
    assert_eq!(server.status_with("sk_old_1"), 401);
    // Some editors and shells write UTF-16.
    let utf_16: Vec<u8> =
        format!("\u{feff}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(work_dir.path().join("keys"), utf_16).unwrap();
    let done = work_dir.command(&[]).args(["key", "import", "keys"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output_text(&done).contains("keys: must be UTF-8"), "{}", output_text(&done));
    let done = import(&format!("\u{feff}{good}"));
    assert_eq!(done.status.code(), Some(0), "{}", output_text(&done));
    assert_eq!(server.status_with("sk_old_1"), 200);
    assert!(output_text(&import(good)).contains("line 1: this key already exists"));
    let unknown_organization = r#"{"org_id":"sk_live_51SECRET","key":"x","scopes":["*"]}"#;
    let done = output_text(&import(unknown_organization));
    assert!(done.contains("line 1: there is no such organization"), "{done}");
    assert!(!done.contains("SECRET"));
    let counted = work_dir.command(&[]).args(["key", "peppers"]).output().unwrap();
    assert_eq!(output_text(&counted), "p1: 2 live keys and personal access tokens\n");
}

#[test]
fn an_unresponsive_database_fails_the_start() {
    let work_dir = WorkDir::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://a:b@{}/x", silent.local_addr().unwrap());
    let pepper = "p1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_WAIT_SECONDS", "0"),
        ("KEY_PEPPERS", pepper),
        ("JWT_SECRETS", pepper),
    ];
    let done = work_dir.command(&settings).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        output_text(&done).contains("did not respond within 10 seconds"),
        "{}",
        output_text(&done)
    );
}

#[test]
fn an_invalid_configuration_fails_the_start_and_lists_every_problem() {
    let work_dir = WorkDir::new();
    let wrong = [("DATABASE_URL", "postgres://localhost/x"), ("SIGNUP_MODE", "ajar")];
    let done = work_dir.command(&wrong).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let output = output_text(&done);
    for name in ["KEY_PEPPERS", "JWT_SECRETS", "SIGNUP_MODE"] {
        assert!(output.contains(name), "{output}");
    }
    assert!(!work_dir.path().join(".tenantry").exists(), "nothing embedded is started");
}

#[test]
fn an_address_in_use_is_reported_with_its_variable() {
    let work_dir = WorkDir::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for variable in ["LISTEN_ADDR", "METRICS_ADDR"] {
        let done = work_dir.command(&[(variable, &address)]).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(output_text(&done).contains(&format!("{variable}: cannot listen on {address}")));
    }
}

#[test]
fn an_unwritable_mail_folder_fails_the_start_unless_smtp_is_configured() {
    let work_dir = WorkDir::new();
    work_dir.start(&[]).signal_and_wait("INT");
    let folder = work_dir.path().join(".tenantry/mail");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    for command in ["serve", "doctor"] {
        let done = work_dir.command(&[]).arg(command).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", output_text(&done));
        assert!(output_text(&done).contains("SMTP_URL"), "{}", output_text(&done));
    }
    let server = [("SMTP_URL", "smtp://127.0.0.1:1"), ("MAIL_FROM", "no-reply@example.com")];
    let here = ("PUBLIC_URL", "http://api.example.com");
    work_dir.start(&[server[0], server[1], here]).signal_and_wait("INT");
}

/// Docker initializes a new volume with what the image has at its path, including the owner.
#[test]
fn a_read_only_container_has_a_data_volume_that_the_server_owns() {
    let compose = include_str!("../../docker-compose.yml");
    assert!(compose.contains("read_only: true"));
    assert!(compose.contains("- tenantry:/var/lib/tenantry\n"));
    assert!(compose.contains("DATA_DIR: /var/lib/tenantry\n"));
    let dockerfile = include_str!("../../deploy/Dockerfile");
    assert!(
        dockerfile.contains("install --directory --owner=tenantry --mode=0711 /var/lib/tenantry")
    );
}

#[test]
fn without_an_installed_postgres_the_message_names_pg_bin_dir() {
    let work_dir = WorkDir::new();
    let done = work_dir.command(&[("PG_BIN_DIR", "/nowhere")]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output_text(&done).contains("PG_BIN_DIR"), "{}", output_text(&done));
}

#[test]
fn key_check_verifies_the_format_of_a_key_offline() {
    let work_dir = WorkDir::new();
    let check = |settings: &[(&str, &str)], text: &str| {
        work_dir.command(settings).args(["key", "check", text]).output().unwrap()
    };
    let format = tenantry::model::key_format::KeyFormat::default();
    let key = format.generate(&tenantry::entropy::SystemEntropy);
    let good = check(&[], key.expose());
    assert_eq!(good.status.code(), Some(0));
    assert!(output_text(&good).contains(format.display_id(key.expose()).unwrap()));
    assert!(!output_text(&good).contains(key.expose()));
    assert_eq!(check(&[], &key.expose()[..57]).status.code(), Some(1));
    assert_eq!(check(&[("KEY_PREFIX", "sig_")], key.expose()).status.code(), Some(1));
    assert!(output_text(&check(&[("KEY_PREFIX", "SIG")], "x")).contains("KEY_PREFIX"));

    let mut piped = work_dir.command(&[]);
    piped.args(["key", "check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "{}", key.expose()).unwrap();
    assert!(piped.wait().unwrap().success());
}

#[test]
fn the_pattern_for_secret_scanners_matches_whole_keys_only() {
    let work_dir = WorkDir::new();
    let printed =
        work_dir.command(&[("KEY_PREFIX", "sig_")]).args(["key", "pattern"]).output().unwrap();
    let pattern = output_text(&printed);
    let format = tenantry::model::key_format::KeyFormat::parse("sig_").unwrap();
    let key = format.generate(&tenantry::entropy::SystemEntropy);
    let matches_pattern = |text: &str| {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-P", pattern.trim()]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut grep = grep.spawn().unwrap();
        writeln!(grep.stdin.take().unwrap(), "{text}").unwrap();
        grep.wait().unwrap().success()
    };
    assert!(matches_pattern(&format!("export KEY=\"{}\"", key.expose())));
    assert!(!matches_pattern(&key.expose()[..50]));
    assert!(!matches_pattern(&format!("{}x", key.expose())));
}

#[test]
fn the_form_for_github_has_a_pattern_and_an_example_of_each_kind_and_the_webhook() {
    let work_dir = WorkDir::new();
    let settings = [("KEY_PREFIX", "sig_"), ("PUBLIC_URL", "https://api.example.com")];
    let printed = work_dir.command(&settings).args(["key", "pattern", "--github"]).output();
    let form = output_text(&printed.unwrap());
    let values = |name: &str| -> Vec<String> {
        let lines = form.lines().filter_map(|line| line.strip_prefix(&format!("{name}: ")));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(values("Type"), ["sig (API key)", "tnt_pat (personal access token)"], "{form}");
    let patterns = [r"\b(?:sig_)[0-9A-Za-z]{49}\b", r"\b(?:tnt_pat_)[0-9A-Za-z]{49}\b"];
    assert_eq!(values("Regular expression"), patterns);
    assert_eq!(values("Webhook"), ["https://api.example.com/webhooks/github/secret-scanning"]);
    assert_eq!(values("Checksum").len(), 1);
    let examples = values("Example");
    for (prefix, example) in ["sig_", "tnt_pat_"].into_iter().zip(&examples) {
        let format = tenantry::model::key_format::KeyFormat::parse(prefix).unwrap();
        assert!(format.matches(example), "{example}");
    }
    assert_eq!(examples.len(), 2);
}

#[test]
fn openapi_and_migrate_are_commands_and_migrate_can_be_repeated() {
    let work_dir = WorkDir::new();
    let printed = work_dir.command(&[]).arg("openapi").output().unwrap();
    assert!(output_text(&printed).starts_with("openapi: 3.1.0"));
    let migrated = work_dir.command(&[]).arg("migrate").output().unwrap();
    assert_eq!(migrated.status.code(), Some(0), "{}", output_text(&migrated));
    let mut repeated = work_dir.command(&[]);
    assert_eq!(repeated.arg("migrate").output().unwrap().status.code(), Some(0));
}
