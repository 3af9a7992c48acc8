//! The configuration: all problems are reported at once, by variable, without secret values.

use std::collections::{BTreeSet, HashMap};

use tenantry::config::env::Env;
use tenantry::config::{Config, ConfigError};

use crate::support::app::OPENID_KEYS;

const PEPPER: &str = "p1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// `openssl genpkey -algorithm ed25519 -outform DER | base64 -w0`
const ED25519: &str = "p1:MC4CAQAwBQYDK2VwBCIEIJhANaEAtt60ISDJ8Q6ubddAGonseIX2dfKEyjMoSF53";

fn read(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let settings: HashMap<_, _> = settings.iter().copied().collect();
    Config::read(&mut Env::from_source(|name: &str| settings.get(name).map(|it| (*it).to_owned())))
}

fn problems(settings: &[(&str, &str)]) -> Vec<&'static str> {
    let problems = read(settings).err().map(|ConfigError(problems)| problems).unwrap_or_default();
    problems.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_server_with_a_database_needs_only_the_two_secrets() {
    let settings = [
        ("DATABASE_URL", "postgres://user:password@localhost/tenantry"),
        ("KEY_PEPPERS", PEPPER),
        ("JWT_SECRETS", PEPPER),
    ];
    let config = read(&settings).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.http.listen_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.http.public_url.as_str(), "http://127.0.0.1:8080/");
    // Longer than the 60 seconds of nginx and of cloud load balancers.
    assert_eq!(config.http.connections.keep_alive.as_secs(), 75);
    assert_eq!(config.keys.format.prefix(), "tnt_live_");
}

#[test]
fn a_missing_or_empty_secret_is_rejected() {
    let database = ("DATABASE_URL", "postgres://localhost/tenantry");
    assert_eq!(problems(&[database]), ["KEY_PEPPERS", "JWT_SECRETS"]);
    let empty = [database, ("KEY_PEPPERS", " "), ("JWT_SECRETS", "")];
    assert_eq!(problems(&empty), ["KEY_PEPPERS", "JWT_SECRETS"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let wrong = [
        ("DATABASE_URL", "mysql://localhost"),
        ("DATABASE_MAX_CONNECTIONS", "0"),
        ("DATABASE_WAIT_SECONDS", "soon"),
        ("PGSSLMODE", "verify_full"),
        ("LISTEN_ADDR", "8080"),
        ("PUBLIC_URL", "https://user@example.com/path"),
        ("TRUSTED_PROXY_HOPS", "-1"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "many"),
        ("KEEP_ALIVE_SECONDS", "0"),
        ("HEADER_TIMEOUT_SECONDS", "10s"),
        ("BODY_TIMEOUT_SECONDS", "-1"),
        ("REQUEST_TIMEOUT_SECONDS", "1.5"),
        ("SEND_TIMEOUT_SECONDS", "3601"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("SHUTDOWN_DRAIN_SECONDS", "forever"),
        ("KEY_PREFIX", "Sig-"),
        ("KEY_PEPPERS", "p1:c2hvcnQ="),
        ("JWT_SECRETS", "no colon"),
        ("SCOPES", "trademarks:read,Trade Marks"),
        ("DASHBOARD_ORIGINS", "https://app.example.com,https://app.example.com/path"),
        ("JWT_PRIVATE_KEYS", PEPPER),
        ("PAT_PREFIX", "Pat-"),
        ("PAT_MAX_DAYS", "366"),
        ("REQUIRE_EMAIL_VERIFICATION", "maybe"),
        ("SMTP_URL", "mail.example.com:25"),
        ("MAIL_FROM", "nobody"),
        ("KEY_IMPORT", "maybe"),
        ("SIGNUP_MODE", "ajar"),
        ("SIGNUP_TOKEN", "short"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_short"),
        ("STRIPE_SUSPEND_ON", "always"),
        ("OUTBOUND_ALLOW", "idp.internal"),
        ("LOG_FORMAT", "xml"),
        ("LOG_CLIENT_ADDRESS", "maybe"),
        ("ACCESS_TOKEN_MINUTES", "5"),
        ("LOG_FILTER", "a=b=c"),
        ("METRICS_ADDR", "everywhere"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:password@collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer x"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=\"Bearer x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "Cargo.toml"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_PROPAGATORS", "b3"),
        ("OTEL_RESOURCE_ATTRIBUTES", "production"),
    ];
    let expected: BTreeSet<_> = wrong.iter().map(|(name, _)| *name).collect();
    assert_eq!(problems(&wrong).into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_list_of_secrets_must_be_well_formed_and_its_ids_unique() {
    let twice = format!("{PEPPER},{PEPPER}");
    let long = format!("{}:MDEy", "x".repeat(33));
    for list in [twice.as_str(), "p1:not base64!", ":MDEy", "a b:MDEy", long.as_str(), ",", "p1:"] {
        let settings = [("KEY_PEPPERS", list), ("JWT_SECRETS", PEPPER)];
        assert_eq!(problems(&settings), ["KEY_PEPPERS"], "{list}");
    }
}

#[test]
fn private_keys_can_replace_jwt_secrets_and_must_not_share_an_id_with_them() {
    let pair = [("KEY_PEPPERS", PEPPER), ("JWT_PRIVATE_KEYS", ED25519)];
    assert_eq!(problems(&pair), [""; 0]);
    let same = [pair[0], pair[1], ("JWT_SECRETS", PEPPER)];
    assert_eq!(problems(&same), ["JWT_PRIVATE_KEYS"]);
    // Not a key.
    let other = [pair[0], ("JWT_PRIVATE_KEYS", PEPPER)];
    assert_eq!(problems(&other), ["JWT_PRIVATE_KEYS"]);
}

#[test]
fn oauth_requires_rsa_keys_with_ids_that_no_jwt_private_key_has() {
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_PRIVATE_KEYS", ED25519)];
    let with = |settings: &[(&str, &str)]| problems(&[&secrets[..], settings].concat());
    let (on, variable) = (("OAUTH", "on"), "OIDC_PRIVATE_KEYS");
    assert_eq!(with(&[on]), [variable]);
    assert_eq!(with(&[on, (variable, OPENID_KEYS)]), [""; 0]);
    assert_eq!(with(&[("OAUTH", "off")]), [""; 0]);
    // Not RSA, also while OAuth is off.
    assert_eq!(with(&[(variable, ED25519)]), [variable]);
    // Both would be in one JWKS.
    let same = OPENID_KEYS.replace("o2:", "p1:");
    assert_eq!(with(&[on, (variable, &same)]), [variable]);
}

#[test]
fn overlapping_key_and_token_prefixes_are_rejected() {
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    for (keys, tokens) in [("sig_", "sig_"), ("sig_", "sig_pat_"), ("sig_live_", "sig_")] {
        let settings = [secrets[0], secrets[1], ("KEY_PREFIX", keys), ("PAT_PREFIX", tokens)];
        assert_eq!(problems(&settings), ["PAT_PREFIX"], "{keys} {tokens}");
    }
}

#[test]
fn smtp_url_requires_mail_from_and_public_url() {
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    let settings = [secrets[0], secrets[1], ("SMTP_URL", "smtp://localhost:2525")];
    assert_eq!(problems(&settings), ["MAIL_FROM", "PUBLIC_URL"]);
}

#[test]
fn access_token_minutes_must_be_between_15_and_1440() {
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    for (minutes, is_valid) in
        [("15", true), ("60", true), ("1440", true), ("14", false), ("1441", false), ("1h", false)]
    {
        let settings = [secrets[0], secrets[1], ("ACCESS_TOKEN_MINUTES", minutes)];
        let expected: &[&str] = if is_valid { &[] } else { &["ACCESS_TOKEN_MINUTES"] };
        assert_eq!(problems(&settings), expected, "{minutes}");
    }
    let config = read(&secrets).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.tokens.key_token_lifetime.num_minutes(), 15);
}

#[test]
fn a_scope_that_lets_an_app_extend_its_own_access_cannot_be_requestable() {
    for scope in ["apps:read", "apps:write", "api-keys:write", "apps:*", "*"] {
        let settings = [("OAUTH_SCOPES", &*format!("projects:read,{scope}"))];
        assert!(problems(&settings).contains(&"OAUTH_SCOPES"), "{scope}");
    }
    assert!(!problems(&[("OAUTH_SCOPES", "projects:read")]).contains(&"OAUTH_SCOPES"));
}

#[test]
fn the_operator_s_sign_in_page_must_be_on_a_dashboard_origin() {
    let dashboards = (
        "DASHBOARD_ORIGINS",
        "https://app.example.com,http://localhost:5173,http://127.0.0.1:8080",
    );
    for (page, is_valid) in [
        ("https://app.example.com/login", true),
        ("https://app.example.com/login?theme=dark", true),
        ("http://localhost:5173/", true),
        ("https://evil.example.com/login", false),
        ("http://app.example.com/login", false),
        ("http://127.0.0.1:8080/login", true),
        ("http://127.0.0.1:8080/oauth2/sign-in", false),
        ("http://127.0.0.1:8080/oauth2/%73ign-in", false),
        ("http://127.0.0.1:8080/device?a=b", false),
        ("blob:https://app.example.com/login", false),
        ("https://user@app.example.com/login", false),
        ("https://app.example.com/#/login", false),
        ("https://app.example.com/login?request=1", false),
        ("https://app.example.com/login?user_code=", false),
        ("/login", false),
        ("javascript:alert(1)", false),
    ] {
        let found = problems(&[dashboards, ("SIGN_IN_PAGE", page)]);
        assert_eq!(!found.contains(&"SIGN_IN_PAGE"), is_valid, "{page}");
    }
}

#[test]
fn oauth_jwt_resources_must_be_among_oauth_resources() {
    let services = (
        "OAUTH_RESOURCES",
        "https://mcp.example.com,https://files.example.com,http://127.0.0.1:8080",
    );
    for (jwt_services, is_valid) in [
        ("https://mcp.example.com", true),
        ("https://mcp.example.com/, https://files.example.com", true),
        ("https://other.example.com", false),
        ("mcp", false),
        ("https://mcp.example.com,,", false),
        // This API takes no JWTs.
        ("http://127.0.0.1:8080/", false),
    ] {
        let found = problems(&[services, ("OAUTH_JWT_RESOURCES", jwt_services)]);
        assert_eq!(!found.contains(&"OAUTH_JWT_RESOURCES"), is_valid, "{jwt_services}");
    }
}

#[test]
fn gated_signup_requires_signup_token() {
    let settings = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER), ("SIGNUP_MODE", "gated")];
    assert_eq!(problems(&settings), ["SIGNUP_TOKEN"]);
}

#[test]
fn a_signup_token_without_gated_signup_is_rejected() {
    let token = ("SIGNUP_TOKEN", "front-door-token-1");
    let settings = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER), token];
    assert_eq!(problems(&settings), ["SIGNUP_MODE"]);
}

#[test]
fn problems_do_not_contain_secret_values() {
    let wrong = [
        ("DATABASE_URL", "postgres://user:hunter2@@@/:"),
        ("KEY_PEPPERS", "p1:hunter2"),
        ("JWT_SECRETS", "hunter2"),
        ("SIGNUP_TOKEN", "hunter2"),
        ("STRIPE_WEBHOOK_SECRET", "hunter2"),
        ("JWT_PRIVATE_KEYS", "e1:hunter2"),
        ("SMTP_URL", "smtp://user:hunter2@mail.example.com?tsl=required"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hunter2@collector"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
    ];
    let message = read(&wrong).err().unwrap().to_string();
    assert!(!message.contains("hunter2"), "{message}");
}

/// `docker run --env-file` and `kubectl create secret --from-env-file` keep the quotes of a line.
#[test]
fn every_setting_in_quotes_is_rejected_by_name() {
    let mut env = Env::from_source(|_: &str| None);
    let _ = Config::read(&mut env);
    assert!(env.names().len() > 50, "{:?}", env.names());
    for name in env.names() {
        for quoted in ["\"0123456789abcdef0123456789abcdef\"", "'0'", "\"\""] {
            let found = read(&[(*name, quoted)]).err().map(|problems| problems.0);
            let found = found.unwrap_or_default();
            let problem = found.iter().find(|(variable, _)| variable == name);
            let problem = problem.unwrap_or_else(|| panic!("{name}={quoted} is accepted"));
            assert!(problem.1.contains("quotes"), "{name}: {}", problem.1);
        }
    }
}

#[test]
fn a_secret_that_begins_or_ends_with_a_quote_is_rejected_alone_and_in_a_list() {
    let good = "0123456789abcdef0123456789abcdef";
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER), ("SIGNUP_MODE", "gated")];
    let masters = tenantry::model::master_scope::MasterScope::ALL
        .map(tenantry::model::master_scope::MasterScope::variable);
    for name in masters.into_iter().chain(["STRIPE_WEBHOOK_SECRET", "SIGNUP_TOKEN"]) {
        let with = |value: &str| {
            let token = if name == "SIGNUP_TOKEN" { value } else { good };
            let settings = [secrets[0], secrets[1], secrets[2], ("SIGNUP_TOKEN", token)];
            problems(&[&settings[..], &[(name, value)]].concat())
        };
        assert_eq!(with(good), [""; 0], "{name}");
        let is_list = name != "SIGNUP_TOKEN";
        let one = [format!("\"{good}"), format!("{good}'")];
        let listed = [format!("{good},\"{good}\""), format!("\"{good}\",{good}")];
        for value in one.iter().chain(listed.iter().filter(|_| is_list)) {
            assert_eq!(with(value), [name], "{value}");
        }
    }
}

#[test]
fn the_standard_otel_variables_configure_tracing() {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let secrets = [("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    let traces = |settings: &[(&str, &str)]| {
        let config = read(&[&secrets[..], settings].concat());
        config.unwrap_or_else(|problems| panic!("{problems}")).telemetry.traces
    };
    let endpoint = |settings: &[(&str, &str)]| traces(settings).map(|it| it.endpoint.to_string());
    let collector = (BASE, "http://collector:4318");
    assert_eq!(endpoint(&[]), None);
    assert_eq!(endpoint(&[collector]).as_deref(), Some("http://collector:4318/v1/traces"));
    let below = (BASE, "https://collector/otlp/");
    assert_eq!(endpoint(&[below]).as_deref(), Some("https://collector/otlp/v1/traces"));
    let own = (OWN, "https://traces/as/it/is");
    assert_eq!(endpoint(&[collector, own]).as_deref(), Some("https://traces/as/it/is"));
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert_eq!(endpoint(&[collector, off]), None, "{off:?}");
    }
    let name = |settings: &[(&str, &str)]| {
        traces(&[&[collector], settings].concat()).unwrap().service_name
    };
    assert_eq!(name(&[]).as_deref(), Some("tenantry"));
    assert_eq!(name(&[("OTEL_SERVICE_NAME", "acme-auth")]).as_deref(), Some("acme-auth"));
    assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=acme")]), None);
    let timeouts =
        [("OTEL_EXPORTER_OTLP_TIMEOUT", "7"), ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "5")];
    let timeout = |of: &[(&str, &str)]| traces(&[&[collector], of].concat()).unwrap().timeout;
    assert_eq!(timeout(&timeouts[..1]).as_millis(), 7);
    assert_eq!(timeout(&timeouts).as_millis(), 5);
    let continues_trace =
        |of| traces(&[collector, ("OTEL_PROPAGATORS", of)]).unwrap().continues_trace;
    assert!(continues_trace("baggage, tracecontext") && !continues_trace("none"));
}

#[test]
fn the_example_file_lists_and_explains_every_variable() {
    let mut env = Env::from_source(|_: &str| None);
    let _ = Config::read(&mut env);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let example = std::fs::read_to_string(path).unwrap();
    let mut listed = BTreeSet::new();
    let mut explained = false;
    for line in example.lines() {
        match line.trim_start_matches("# ").split_once('=') {
            Some((name, _)) if name.bytes().all(|it| it.is_ascii_uppercase() || it == b'_') => {
                assert!(explained, "{name} has no comment");
                assert!(listed.insert(name), "{name} is listed twice");
                explained = false;
            }
            _ => explained = line.starts_with("# "),
        }
    }
    assert_eq!(listed, *env.names());
}
