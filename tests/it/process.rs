//! The binary as a person runs it: one command, one Postgres of its own, kill -9 and Ctrl-C.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::support::server::{WorkDir, curl, is_alive, run_shell, signal};
use crate::support::tools;
use crate::support::waiting::wait_until;

fn output_text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

#[test]
fn one_command_and_the_printed_curl_line_works_as_pasted() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let line = server.welcome.lines().find(|line| line.trim_start().starts_with("curl")).unwrap();
    let answer = run_shell(&format!("{line} -s"));
    let key = answer["api_key"].as_str().unwrap();
    assert_eq!(answer["key"]["name"], "acme corp");
    assert_eq!(server.status_with(key), 200);
    assert!(server.welcome.contains(".tenantry"));
    assert!(place.postgres().is_some());
    let secrets = place.path().join(".tenantry/secrets");
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_ordinary_user_can_run_it_too() {
    let place = WorkDir::unprivileged();
    let server = place.start(&[]);
    let key = server.sign_up();
    assert_eq!(server.status_with(&key), 200);
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
    wait_until("Postgres ends", || place.postgres().is_none());
}

#[test]
fn ctrl_c_ends_the_server_and_its_postgres_and_the_next_run_has_the_same_data() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let key = server.sign_up();
    let postgres = place.postgres().unwrap();
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
    wait_until("Postgres ends", || !is_alive(postgres));
    let server = place.start(&[]);
    assert_eq!(server.status_with(&key), 200);
}

#[test]
fn kill_9_of_the_server_loses_no_answered_signup_and_leaves_one_postgres() {
    let place = WorkDir::new();
    let mut keys = Vec::new();
    for _ in 0..3 {
        let server = place.start(&[]);
        keys.extend((0..10).map(|_| server.sign_up()));
        signal("KILL", server.pid());
        server.wait();
    }
    let running = place.postgres().unwrap();
    let server = place.start(&[]);
    for key in &keys {
        assert_eq!(server.status_with(key), 200);
    }
    assert_eq!(place.postgres(), Some(running));
    server.signal_and_wait("INT");
    wait_until("Postgres ends", || !is_alive(running));
}

#[test]
fn kill_9_of_the_server_and_of_postgres_loses_no_answered_signup() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let keys: Vec<String> = (0..10).map(|_| server.sign_up()).collect();
    signal("KILL", server.pid());
    signal("KILL", place.postgres().unwrap());
    server.wait();
    let server = place.start(&[]);
    for key in &keys {
        assert_eq!(server.status_with(key), 200);
    }
}

#[test]
fn when_postgres_dies_the_server_answers_503_and_recovers_without_a_restart() {
    let place = WorkDir::new();
    let server = place.start(&[("LIMITS_PROFILE", "off")]);
    let key = server.sign_up();
    // Without this file Postgres does not start again.
    let control = place.path().join(".tenantry/postgres/data/global/pg_control");
    let hidden = control.with_extension("hidden");
    std::fs::rename(&control, &hidden).unwrap();
    let killed = place.postgres().unwrap();
    signal("KILL", killed);
    wait_until("it answers 503", || {
        let status = server.status_with(&key);
        assert!([200, 503].contains(&status), "{status}");
        status == 503
    });
    std::fs::rename(&hidden, &control).unwrap();
    wait_until("it answers again", || {
        let status = server.status_with(&key);
        assert!([200, 503].contains(&status), "{status}");
        status == 200
    });
    assert_ne!(place.postgres(), Some(killed));
}

#[test]
fn told_to_stop_it_is_first_not_ready_then_gone() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
    signal("TERM", server.pid());
    wait_until("it is not ready", || curl(&[&server.url("/health/ready")]).status == 503);
    assert_eq!(curl(&[&server.url("/health/live")]).status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn signals_that_end_other_programs_end_neither_the_server_nor_its_janitor() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let key = server.sign_up();
    let janitor = place.janitor().unwrap();
    for name in ["HUP", "USR1", "USR2", "ALRM", "PIPE", "VTALRM", "PROF", "IO", "XCPU", "XFSZ"] {
        signal(name, server.pid());
        signal(name, janitor);
        assert_eq!(server.status_with(&key), 200, "after SIG{name}");
        assert!(is_alive(janitor), "the janitor, after SIG{name}");
    }
    wait_until("it says so", || server.log().contains("SIGHUP ignored"));
    for name in ["INT", "TERM", "QUIT"] {
        signal(name, janitor);
    }
    let postgres = place.postgres().unwrap();
    assert_eq!(server.signal_and_wait("QUIT").code(), Some(0));
    assert!(is_alive(janitor));
    wait_until("Postgres ends", || !is_alive(postgres));
    let header = format!("X-Api-Key: {key}");
    let server = place.start(&[]);
    let answer = curl(&["-H", &header, &server.url("/usage/summary")]);
    assert_eq!(answer.body["requests_used"], 10, "usage was written at the stop");
}

#[test]
fn told_to_stop_it_says_so_on_connections_that_are_kept_and_closes_them_by_an_answer() {
    let place = WorkDir::new();
    let server = place.start(&[("SHUTDOWN_GRACE_SECONDS", "0")]);
    let address = server.url("").replace("http://", "");
    let mut kept = std::net::TcpStream::connect(address).unwrap();
    let mut ask = || {
        write!(kept, "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with('}') {
            let mut byte = [0];
            kept.read_exact(&mut byte).unwrap();
            answer.push(char::from(byte[0]));
        }
        answer
    };
    assert!(!ask().contains("connection: close"));
    signal("TERM", server.pid());
    wait_until("it is stopping", || server.log().contains("finishing running requests"));
    assert!(ask().contains("connection: close"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn usage_that_was_only_counted_survives_a_stop() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let key = server.sign_up();
    for _ in 0..3 {
        server.status_with(&key);
    }
    server.signal_and_wait("INT");
    let server = place.start(&[]);
    let header = format!("X-Api-Key: {key}");
    let answer = curl(&["-H", &header, &server.url("/usage/summary")]);
    assert_eq!(answer.body["requests_used"], 3);
}

#[test]
fn mail_is_written_soon_after_it_is_asked_for() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let request = r#"{"email":"you@example.com","password":"a-long-secure-passphrase"}"#;
    let json = "content-type: application/json";
    let made = curl(&["-d", request, "-H", json, &server.url("/auth/signup")]);
    assert_eq!(made.status, 201, "{}", made.text);
    let folder = place.path().join(".tenantry/mail");
    let is_there = || std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
    wait_until("the mail is written", is_there);
}

/// The script of the README, as it stands there.
#[test]
fn the_readme_walks_two_people_through_an_organization() {
    if tools::find_program("jq").is_none() {
        return;
    }
    let readme = include_str!("../../README.md");
    let section = readme.split("### Two people").nth(1).unwrap();
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let place = WorkDir::new();
    let server = place.start(&[]);
    let script = script.replace("http://127.0.0.1:8080", &server.url(""));
    // As often as it is run.
    for _ in 0..2 {
        let mut shell = std::process::Command::new("sh");
        let done = shell.args(["-c", &script]).current_dir(place.path()).output().unwrap();
        let told = output_text(&done);
        let answers: Vec<serde_json::Value> =
            told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let statuses: Vec<_> = answers.iter().map(|it| it["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 201, 200, 403, 200, 200, 200, 403], "{told}");
    }
}

/// The script of the README, as it stands there but for the program and the address.
#[test]
fn the_readme_shows_a_repetition_after_kill_9() {
    if tools::find_program("openssl").is_none() {
        return;
    }
    let readme = include_str!("../../README.md");
    let section = readme.split("### The operator").nth(1).unwrap();
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let place = WorkDir::new();
    // Not one that the system gives to other tests' servers meanwhile.
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (20_000..30_000).find(free).unwrap();
    let address = format!("127.0.0.1:{port}");
    let script = script.replace("127.0.0.1:8080", &address);
    let script = script.replace("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry"));
    // The script waits for its server, whatever became of that.
    let mut shell = place.command_for("timeout", &[("LISTEN_ADDR", &address)]);
    let done = shell.args(["120", "sh", "-c", &script]).output().unwrap();
    let told = output_text(&done);
    let answers: Vec<serde_json::Value> =
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [first, again] = &answers[..] else { panic!("{told}") };
    assert!(first["api_key"].is_string(), "{told}");
    assert_eq!((&again["org_id"], &again["prefix"]), (&first["org_id"], &first["prefix"]));
    assert!(again.get("api_key").is_none());
    assert_eq!(again["already_provisioned"], true);
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let address = server.url("").replace("http://", "");
    let mut slow = std::net::TcpStream::connect(address).unwrap();
    write!(slow, "POST /signup HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n").unwrap();
    write!(slow, "content-length: 100\r\n\r\n{{").unwrap();
    signal("INT", server.pid());
    wait_until("it is stopping", || server.log().contains("finishing running requests"));
    assert_eq!(server.signal_and_wait("INT").code(), Some(0));
}

#[test]
fn a_body_of_3_mb_is_refused_with_an_answer_that_arrives() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let body = place.path().join("body");
    std::fs::write(&body, format!("{{\"name\":\"{}\"}}", "x".repeat(3_000_000))).unwrap();
    let body = format!("@{}", body.display());
    let json = "content-type: application/json";
    let answer = curl(&["-H", json, "--data-binary", &body, &server.url("/signup")]);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body["details"]["code"], "entity_too_large");
}

#[test]
fn keys_are_imported_whole_or_not_at_all_and_peppers_are_counted() {
    let place = WorkDir::new();
    let server = place.start(&[("KEY_IMPORT", "on")]);
    let url = server.url("/signup");
    let signup =
        curl(&["-H", "content-type: application/json", "-d", r#"{"org_id":"acme"}"#, &url]);
    assert_eq!(signup.status, 201);
    let import = |lines: &str| {
        std::fs::write(place.path().join("keys"), lines).unwrap();
        place.command(&[]).args(["key", "import", "keys"]).output().unwrap()
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
    // As editors and shells of some systems write files.
    let utf_16: Vec<u8> =
        format!("\u{feff}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(place.path().join("keys"), utf_16).unwrap();
    let done = place.command(&[]).args(["key", "import", "keys"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output_text(&done).contains("keys: must be UTF-8"), "{}", output_text(&done));
    let done = import(&format!("\u{feff}{good}"));
    assert_eq!(done.status.code(), Some(0), "{}", output_text(&done));
    assert_eq!(server.status_with("sk_old_1"), 200);
    assert!(output_text(&import(good)).contains("line 1: this key already exists"));
    let nowhere = r#"{"org_id":"sk_live_51SECRET","key":"x","scopes":["*"]}"#;
    let done = output_text(&import(nowhere));
    assert!(done.contains("line 1: there is no such organization"), "{done}");
    assert!(!done.contains("SECRET"));
    let counted = place.command(&[]).args(["key", "peppers"]).output().unwrap();
    assert_eq!(output_text(&counted), "p1: 2 live keys\n");
}

#[test]
fn a_database_that_says_nothing_is_given_up_on() {
    let place = WorkDir::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://a:b@{}/x", silent.local_addr().unwrap());
    let pepper = "p1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_WAIT_SECONDS", "0"),
        ("KEY_PEPPERS", pepper),
        ("JWT_SECRETS", pepper),
    ];
    let done = place.command(&settings).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        output_text(&done).contains("did not respond within 10 seconds"),
        "{}",
        output_text(&done)
    );
}

#[test]
fn a_wrong_configuration_refuses_to_start_and_lists_every_problem() {
    let place = WorkDir::new();
    let wrong = [("DATABASE_URL", "postgres://localhost/x"), ("SIGNUP_MODE", "ajar")];
    let done = place.command(&wrong).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let told = output_text(&done);
    for name in ["KEY_PEPPERS", "JWT_SECRETS", "SIGNUP_MODE"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(!place.path().join(".tenantry").exists(), "nothing embedded is started");
}

#[test]
fn an_address_that_is_taken_is_named_with_its_variable() {
    let place = WorkDir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["LISTEN_ADDR", "METRICS_ADDR"] {
        let done = place.command(&[(variable, &address)]).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(output_text(&done).contains(&format!("{variable}: can not listen on {address}")));
    }
}

#[test]
fn a_folder_for_mail_that_can_not_be_written_refuses_to_start() {
    let place = WorkDir::new();
    place.start(&[]).signal_and_wait("INT");
    let folder = place.path().join(".tenantry/mail");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    for command in ["serve", "doctor"] {
        let done = place.command(&[]).arg(command).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", output_text(&done));
        assert!(output_text(&done).contains("SMTP_URL"), "{}", output_text(&done));
    }
    let server = [("SMTP_URL", "smtp://127.0.0.1:1"), ("MAIL_FROM", "no-reply@example.com")];
    let here = ("PUBLIC_URL", "http://api.example.com");
    place.start(&[server[0], server[1], here]).signal_and_wait("INT");
}

/// Docker mounts a new volume as what the image has in its place.
#[test]
fn in_a_container_that_is_read_only_mail_has_a_volume_that_the_server_owns() {
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
fn without_an_installed_postgres_the_message_says_what_to_do() {
    let place = WorkDir::new();
    let done = place.command(&[("PG_BIN_DIR", "/nowhere")]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output_text(&done).contains("PG_BIN_DIR"), "{}", output_text(&done));
}

#[test]
fn a_key_is_checked_offline() {
    let place = WorkDir::new();
    let check = |settings: &[(&str, &str)], text: &str| {
        place.command(settings).args(["key", "check", text]).output().unwrap()
    };
    let format = tenantry::model::key_format::KeyFormat::default();
    let key = format.mint(&tenantry::entropy::SystemEntropy);
    let good = check(&[], key.expose());
    assert_eq!(good.status.code(), Some(0));
    assert!(output_text(&good).contains(format.display_id(key.expose()).unwrap()));
    assert!(!output_text(&good).contains(key.expose()));
    assert_eq!(check(&[], &key.expose()[..57]).status.code(), Some(1));
    assert_eq!(check(&[("KEY_PREFIX", "sig_")], key.expose()).status.code(), Some(1));
    assert!(output_text(&check(&[("KEY_PREFIX", "SIG")], "x")).contains("KEY_PREFIX"));

    let mut piped = place.command(&[]);
    piped.args(["key", "check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "{}", key.expose()).unwrap();
    assert!(piped.wait().unwrap().success());
}

#[test]
fn the_pattern_for_scanners_finds_keys_and_nothing_shorter() {
    let place = WorkDir::new();
    let shown = place.command(&[("KEY_PREFIX", "sig_")]).args(["key", "pattern"]).output().unwrap();
    let pattern = output_text(&shown);
    let format = tenantry::model::key_format::KeyFormat::parse("sig_").unwrap();
    let key = format.mint(&tenantry::entropy::SystemEntropy);
    let found = |text: &str| {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-P", pattern.trim()]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut grep = grep.spawn().unwrap();
        writeln!(grep.stdin.take().unwrap(), "{text}").unwrap();
        grep.wait().unwrap().success()
    };
    assert!(found(&format!("export KEY=\"{}\"", key.expose())));
    assert!(!found(&key.expose()[..50]));
    assert!(!found(&format!("{}x", key.expose())));
}

#[test]
fn the_description_and_the_schema_are_commands_too() {
    let place = WorkDir::new();
    let shown = place.command(&[]).arg("openapi").output().unwrap();
    assert!(output_text(&shown).starts_with("openapi: 3.1.0"));
    let migrated = place.command(&[]).arg("migrate").output().unwrap();
    assert_eq!(migrated.status.code(), Some(0), "{}", output_text(&migrated));
    let mut again = place.command(&[]);
    assert_eq!(again.arg("migrate").output().unwrap().status.code(), Some(0));
}
