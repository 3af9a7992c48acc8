//! `tenantry doctor`: one line per check, with the result and what to do; it changes nothing.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use crate::support::ports::free_address;
use crate::support::server::WorkDir;
use crate::support::smtp_sink::MailSink;
use crate::support::waiting::wait_until;
use crate::support::{TestApp, run};

/// `openssl rand -base64 32`, twice.
const PEPPER: &str = "p1:s0nSTTpDXVJTqV8LXtCxqGOsGu2LqoZRLyyvwcuuBOM=";
const SECRET: &str = "j1:6JzLkd0/tJqY9BlTHIdZL4GJi1hTvNgkmMSWJSpXcnY=";

/// The settings of a complete deployment, except for its mail server.
fn settings(app: &TestApp) -> HashMap<String, String> {
    let [database, ..] = app.database_settings();
    let settings = [
        database,
        ("KEY_PEPPERS", PEPPER),
        ("JWT_SECRETS", SECRET),
        ("PUBLIC_URL", "https://api.example.com"),
        ("TRUSTED_PROXY_HOPS", "1"),
        ("MAIL_FROM", "Tenantry <no-reply@example.com>"),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Runs the doctor in a directory; returns its exit code and output.
fn run_doctor_in(dir: &WorkDir, settings: &HashMap<String, String>) -> (Option<i32>, String) {
    let settings: Vec<_> = settings.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
    let done = dir.command(&settings).arg("doctor").output().unwrap();
    let output = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    for secret in [PEPPER, SECRET].map(|it| &it[3..]) {
        assert!(!output.contains(secret), "{output}");
    }
    (done.status.code(), output)
}

fn run_doctor(settings: &HashMap<String, String>) -> (Option<i32>, String) {
    run_doctor_in(&WorkDir::new(), settings)
}

/// Asserts that the doctor reports exactly these subjects as problems, each with its text.
#[track_caller]
fn assert_problems(settings: &HashMap<String, String>, expected: &[(&str, &str)]) {
    let (code, output) = run_doctor(settings);
    assert_eq!(code, Some(1), "{output}");
    let problems = output.lines().filter(|line| line.starts_with("problem"));
    let problems: Vec<_> = problems.collect();
    assert_eq!(problems.len(), expected.len(), "{output}");
    for (subject, text) in expected {
        let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(subject);
        let line = problems.iter().find(|line| is_it(line));
        assert!(line.is_some_and(|line| line.contains(text)), "{subject}, {text}: {output}");
    }
}

/// Runs a statement, whose effect the doctor must report, as a superuser.
async fn tamper(app: &TestApp, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut app.superuser().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_deployment_has_an_ok_line_for_every_check() {
    run(async |app| {
        let sink = MailSink::start().await.unwrap();
        let mut settings = settings(app);
        settings.insert("SMTP_URL".to_owned(), sink.url.clone());
        let (code, output) = run_doctor(&settings);
        assert_eq!(code, Some(0), "{output}");
        let (lines, end) = output.trim_end().rsplit_once('\n').unwrap();
        // The Postgres of the tests runs without `fsync`, which is the warning.
        assert_eq!(end, "no problems, 1 warnings");
        let is_ok = |line: &str| {
            line.starts_with("ok ") || line.contains("synchronous_commit off: a crash")
        };
        assert!(lines.lines().all(is_ok), "{output}");
        let subjects: Vec<_> =
            lines.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        let expected = [
            "configuration",
            "KEY_PEPPERS",
            "JWT_SECRETS",
            "database",
            "encryption",
            "postgres",
            "clock",
            "migrations",
            "role",
            "privileges",
            "owner",
            "schema",
            "definitions",
            "keys",
            "outbox",
            "checkouts",
            "mail",
            "PUBLIC_URL",
            "TRUSTED_PROXY_HOPS",
        ];
        assert_eq!(subjects, expected);
        assert!(sink.is_empty(), "no mail is sent");
    })
    .await;
}

#[tokio::test]
async fn missing_mail_or_proxy_settings_dead_jobs_and_unfulfilled_checkouts_are_warnings() {
    run(async |app| {
        let mut settings = settings(app);
        settings.remove("TRUSTED_PROXY_HOPS");
        let dead = "insert into outbox (id, kind, address, created_at, due_at, dead_at)
                    values (gen_random_uuid(), 'verify_email', 'a@example.com', now(), now(),
                            now())";
        tamper(app, dead).await;
        let paid = "insert into unfulfilled_checkouts (event_id, organization_id, handle, reason,
                                                       created_at, delivered_at)
                    select 'evt_7', id, 'buyerco', 'belongs_to_another', now(), now()
                    from organizations where handle = 'system'";
        tamper(app, paid).await;
        let (code, output) = run_doctor(&settings);
        assert_eq!(code, Some(0), "{output}");
        let warnings = output.lines().filter(|line| line.starts_with("warning"));
        let warnings: Vec<_> =
            warnings.map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        let expected = ["postgres", "outbox", "checkouts", "mail", "TRUSTED_PROXY_HOPS"];
        assert_eq!(warnings, expected, "{output}");
        assert!(
            output.contains("1 paid checkouts cannot be fulfilled, the newest evt_7"),
            "{output}"
        );
        assert!(output.ends_with("no problems, 5 warnings\n"), "{output}");
    })
    .await;
}

#[test]
fn an_unreachable_database_is_reported_and_the_other_checks_run() {
    let address = free_address();
    let settings = [
        ("DATABASE_URL", format!("postgres://somebody:hunter2@{address}/tenantry")),
        ("KEY_PEPPERS", PEPPER.to_owned()),
        ("JWT_SECRETS", SECRET.to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    assert_problems(&settings, &[("database", "check DATABASE_URL")]);
    let (_, output) = run_doctor(&settings);
    assert!(!output.contains("hunter2"), "{output}");
    assert!(output.contains("\nok        PUBLIC_URL"), "{output}");
}

#[tokio::test]
async fn invalid_settings_are_reported_by_variable_and_the_database_is_still_checked() {
    run(async |app| {
        let mut settings = settings(app);
        settings.insert("SIGNUP_MODE".to_owned(), "ajar".to_owned());
        settings.insert("KEY_PEPPERS".to_owned(), "p1:c2hvcnQ=".to_owned());
        let expected = [("SIGNUP_MODE", "open, closed or gated"), ("KEY_PEPPERS", "it has 5")];
        assert_problems(&settings, &expected);
        let (_, output) = run_doctor(&settings);
        assert!(
            output.contains("ok        database") && !output.contains("configuration"),
            "{output}"
        );
        settings.insert("DATABASE_URL".to_owned(), "mysql://somewhere".to_owned());
        let expected = [expected[0], expected[1], ("DATABASE_URL", "must be a URL")];
        assert_problems(&settings, &expected);
    })
    .await;
}

#[tokio::test]
async fn weak_and_reused_secrets_are_reported_by_id() {
    run(async |app| {
        let mut settings = settings(app);
        let zeros = format!("{PEPPER},p0:{}A=", "A".repeat(42));
        settings.insert("KEY_PEPPERS".to_owned(), zeros.clone());
        assert_problems(&settings, &[("KEY_PEPPERS", "p0: not random")]);
        settings.insert("JWT_SECRETS".to_owned(), zeros);
        assert_problems(&settings, &[("KEY_PEPPERS", "p0"), ("JWT_SECRETS", "p0")]);
        assert!(run_doctor(&settings).1.contains("p1, p0: also used in KEY_PEPPERS"));
    })
    .await;
}

#[tokio::test]
async fn keys_whose_pepper_is_not_configured_are_reported_with_their_number() {
    run(async |app| {
        app.sign_up().await;
        assert_problems(&settings(app), &[("keys", "KEY_PEPPERS lacks their pepper (1 under p2)")]);
    })
    .await;
}

#[tokio::test]
async fn client_secrets_whose_sealing_key_is_not_configured_are_reported_with_their_number() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.insert_connection(&ann).await;
        let mut settings = settings(app);
        settings.insert("SSO".to_owned(), "on".to_owned());
        settings.insert("SEALING_KEYS".to_owned(), PEPPER.replace("p1", "s9"));
        assert_problems(&settings, &[("sealing", "SEALING_KEYS lacks their key (1 under s1)")]);
        let guessable = "s1:c2VhbGluZy1rZXktbnVtYmVyLTEtb2YtMzItYnl0ZXM=".to_owned();
        settings.insert("SEALING_KEYS".to_owned(), guessable);
        let (_, output) = run_doctor(&settings);
        assert!(output.contains("all 1 client secrets can be opened"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn changed_pending_and_newer_migrations_are_reported_and_not_run() {
    run(async |app| {
        let settings = settings(app);
        tamper(app, "update _sqlx_migrations set checksum = '\\x' where version = 1").await;
        assert_problems(&settings, &[("migrations", "applied ones: 0001 organizations")]);
        tamper(app, "delete from _sqlx_migrations where version = 1").await;
        assert_problems(&settings, &[("migrations", "pending: 0001 organizations")]);
        let ran = "select count(*) from _sqlx_migrations where version = 1";
        assert_eq!(app.count(ran).await, 0);
        let newer = "insert into _sqlx_migrations
                     select 9999, description, installed_on, success, checksum, execution_time
                     from _sqlx_migrations where version = 2";
        tamper(app, newer).await;
        assert_problems(&settings, &[("migrations", "1 are from a newer version of Tenantry")]);
        tamper(app, "drop table _sqlx_migrations").await;
        let (code, output) = run_doctor(&settings);
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("warning   migrations          none is applied"), "{output}");
    })
    .await;
}

/// Changes by a role with access to the database, and what the doctor reports of each.
const TAMPERINGS: [(&str, &str); 15] = [
    ("alter table projects no force row level security", "table projects is not as"),
    ("drop policy invites_tenant on invites", "policy invites_tenant on invites is missing"),
    (
        "alter policy projects_tenant on projects using (true or tenant_organization() is null)",
        "policy projects_tenant on projects is not as",
    ),
    ("create policy p on users using (true)", "policy p on users was added"),
    ("alter table audit_events disable trigger audit_events_link", "trigger audit_events_link on"),
    ("alter table projects disable trigger all", "foreign keys of projects are not enforced"),
    ("drop trigger audit_links_append_only on audit_links", "audit_links is missing"),
    (
        "create trigger t before insert on audit_events
             for each row execute function suppress_redundant_updates_trigger()",
        "trigger t on audit_events was added",
    ),
    (
        "create or replace function audit_digest(previous bytea, place bigint, event audit_events)
             returns bytea language sql stable return sha256(previous)",
        "function audit_digest(previous bytea, place bigint, event audit_events) is not as",
    ),
    (
        "create function audit_digest(bytea, integer, audit_events) returns bytea
             language sql return $1",
        "function audit_digest(bytea, integer, audit_events) was added",
    ),
    ("alter table users drop constraint users_role_check", "users_role_check on users is missing"),
    ("alter table audit_links owner to tenantry", "owner"),
    ("grant insert on audit_links to tenantry_tenant", "table audit_links is not as"),
    ("create rule r as on delete to audit_events do instead nothing", "rule r on audit_events was"),
    ("create function lower(varchar) returns text language sql return $1", "function lower has"),
];

#[tokio::test]
async fn changes_to_the_schema_are_reported_by_name() {
    run(async |app| {
        let settings = settings(app);
        let mut statements = String::new();
        for (change, _) in TAMPERINGS.iter().filter(|(_, found)| *found != "owner") {
            statements.push_str(change);
            statements.push(';');
        }
        tamper(app, &statements).await;
        let (code, output) = run_doctor(&settings);
        assert_eq!(code, Some(1), "{output}");
        let line = output.lines().find(|line| line.starts_with("problem   definitions")).unwrap();
        for (change, found) in TAMPERINGS.iter().filter(|(_, found)| *found != "owner") {
            assert!(line.contains(found), "{change}: {found} is not in {line}");
        }
        assert!(output.contains("ok        owner"), "{output}");
        tamper(app, TAMPERINGS.iter().find(|(_, found)| *found == "owner").unwrap().0).await;
        let (_, output) = run_doctor(&settings);
        assert!(output.contains("does not own audit_links"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn the_doctor_leaves_no_reference_schema_behind() {
    run(async |app| {
        assert!(run_doctor(&settings(app)).1.contains("ok        definitions"));
        let schemas = "select count(*) from pg_namespace where nspname = 'tenantry_reference'";
        assert_eq!(app.count(schemas).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_schema_in_which_other_roles_may_create_objects_is_reported() {
    run(async |app| {
        let settings = settings(app);
        tamper(app, "grant create on schema public to public").await;
        assert_problems(&settings, &[("schema", "other roles may create objects in it (public)")]);
        tamper(app, "revoke create on schema public from public").await;
        assert!(run_doctor(&settings).1.contains("ok        schema"));
    })
    .await;
}

#[tokio::test]
async fn a_role_that_cannot_become_the_tenant_role_and_does_not_own_the_tables_is_reported() {
    run(async |app| {
        let name = format!("doctor_{}", std::process::id());
        tamper(
            app,
            &format!(
                "create role {name} login; grant usage on schema public to {name}; \
                            grant select on all tables in schema public to {name}"
            ),
        )
        .await;
        let mut settings = settings(app);
        let url = settings["DATABASE_URL"].replace("user=test_owner", &format!("user={name}"));
        settings.insert("DATABASE_URL".to_owned(), url);
        let grant = format!("run grant tenantry_tenant to \"{name}\"");
        assert_problems(&settings, &[("role", &grant), ("owner", "does not own _sqlx_migrations")]);
        tamper(app, &format!("drop owned by {name}; drop role {name}")).await;
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_mail_server_is_reported() {
    run(async |app| {
        let address = free_address();
        let mut settings = settings(app);
        settings.insert("SMTP_URL".to_owned(), format!("smtp://{address}"));
        assert_problems(&settings, &[("mail", "does not accept mail")]);
    })
    .await;
}

#[test]
fn a_private_database_is_checked_and_not_created() {
    let (dir, none) = (WorkDir::new(), HashMap::new());
    let (code, output) = run_doctor_in(&dir, &none);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("none yet: the first start creates"), "{output}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");

    let server = dir.start(&[]);
    server.sign_up();
    server.signal_and_wait("INT");
    wait_until("Postgres ends", || dir.postgres().is_none());
    let (code, output) = run_doctor_in(&dir, &none);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("responded to tenantry in"), "{output}");
    assert!(output.contains("all 1 live keys can be verified"), "{output}");
    std::fs::remove_file(dir.path().join(".tenantry/secrets")).unwrap();
    let (code, output) = run_doctor_in(&dir, &none);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("secrets: does not exist, but the database does"), "{output}");
    assert!(!dir.path().join(".tenantry/secrets").exists());
}
