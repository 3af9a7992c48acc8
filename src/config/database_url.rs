//! Parses `DATABASE_URL` strictly.
//!
//! The driver ignores unknown parameters, so that a misspelt `sslmode` would be read as `prefer`:
//! the certificate is not verified, and the connection may be unencrypted. Here unknown parameters
//! are rejected. Messages contain the name of a parameter and never its value.

use std::collections::BTreeSet;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use url::{Host, Url};

use crate::model::ValidationError;

/// The parameters that the driver supports, besides `options[name]`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
/// The supported values of `sslmode`. `allow` is missing because the driver treats it as `disable`.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];
/// The names of the parameter for the certificate authority.
const ROOT_CERTIFICATE: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// The environment variables about TLS that apply if the URL lacks their parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsDefaults<'a> {
    /// `PGSSLMODE`.
    pub ssl_mode: Option<&'a str>,
    /// Whether `PGSSLROOTCERT` is set.
    pub has_root_certificate: bool,
}

/// Parses a `DATABASE_URL`. Its parameters take precedence over `defaults`.
///
/// # Errors
/// The text is not a URL of a Postgres, or a parameter is unknown, repeated or malformed. The
/// message contains no value, because it may be a password.
pub fn parse(text: &str, defaults: TlsDefaults<'_>) -> Result<PgConnectOptions, ValidationError> {
    let message = "must be a URL such as postgres://user:password@host:5432/tenantry, with special \
                   characters percent-encoded";
    let url = Url::parse(text).map_err(|_| message)?;
    // Part of a password that contains `?` or `&` would be parsed as parameters.
    let is_unambiguous =
        url.fragment().is_none() && url.query_pairs().all(|(name, _)| is_parameter_name(&name));
    if !matches!(url.scheme(), "postgres" | "postgresql") || !is_unambiguous {
        return Err(message.into());
    }
    check_names(&url)?;
    // A Unix socket has no TLS, so the environment's certificate does not matter.
    let has_root_certificate = defaults.has_root_certificate && !is_socket(&url)
        || value(&url, &ROOT_CERTIFICATE).is_some();
    let mode = check_ssl(&url, defaults.ssl_mode, has_root_certificate)?;
    let mut options = PgConnectOptions::from_str(text).map_err(|_| message)?;
    options = options.extra_float_digits(None);
    if let Some(Host::Ipv6(address)) = url.host()
        && value(&url, &["host", "hostaddr"]).is_none()
    {
        options = options.host(&address.to_string());
    } else if let Some(host) = value(&url, &["host", "hostaddr"])
        && let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'))
    {
        options = options.host(address);
    }
    if let Some(mode) = &mode {
        let mode = match mode.as_str() {
            // As libpq does. The driver would encrypt without verifying the certificate.
            "require" if has_root_certificate => "verify-ca",
            mode => mode,
        };
        options = options.ssl_mode(mode.parse().map_err(|_| message)?);
    }
    Ok(options)
}

/// Parses an `sslmode`, from `DATABASE_URL` or the variable `PGSSLMODE`.
///
/// # Errors
/// The text is not a supported mode.
pub fn parse_ssl_mode(text: &str) -> Result<String, ValidationError> {
    let mode = SSL_MODES.iter().find(|mode| mode.eq_ignore_ascii_case(text));
    mode.map(ToString::to_string)
        .ok_or_else(|| format!("must be one of {}", SSL_MODES.join(", ")).into())
}

fn check_names(url: &Url) -> Result<(), ValidationError> {
    let mut seen = BTreeSet::new();
    for (name, _) in url.query_pairs() {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !is_option && !PARAMETERS.contains(&&*name) {
            let supported = PARAMETERS.join(", ");
            return Err(format!(
                "must not have the unknown parameter `{name}`; supported are {supported} and \
                 options[…]"
            )
            .into());
        }
        if !seen.insert(name.clone()) {
            return Err(format!("must not repeat the parameter `{name}`").into());
        }
    }
    Ok(())
}

/// Returns the `sslmode` of the URL, or otherwise the `default`, if there is one.
///
/// # Errors
/// The mode is not supported, or it would ignore the configured certificate authority.
fn check_ssl(
    url: &Url,
    default: Option<&str>,
    has_root_certificate: bool,
) -> Result<Option<String>, ValidationError> {
    let mode = value(url, &["sslmode", "ssl-mode"]);
    let mode = mode.map(|mode| parse_ssl_mode(&mode)).transpose();
    let unsupported = |_| format!("must have an `sslmode` that is one of {}", SSL_MODES.join(", "));
    let mode = mode.map_err(unsupported)?.or_else(|| default.map(ToOwned::to_owned));
    let verifies = mode.as_deref().is_some_and(|mode| !matches!(mode, "disable" | "prefer"));
    if has_root_certificate && !verifies {
        let message = "must have sslmode=verify-full (or verify-ca, or require), or no `sslmode` \
                       while PGSSLMODE is set to one of these, because the certificate authority \
                       in `sslrootcert` or PGSSLROOTCERT is ignored otherwise; remove that setting \
                       if it is not needed";
        return Err(message.into());
    }
    Ok(mode)
}

/// Returns whether the host is the folder of a Unix socket.
fn is_socket(url: &Url) -> bool {
    let host = value(url, &["host", "hostaddr"]).or_else(|| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host.starts_with('/') || host.to_lowercase().starts_with("%2f"))
}

/// Returns the value of the first parameter with one of these names.
fn value(url: &Url, names: &[&str]) -> Option<String> {
    let mut pairs = url.query_pairs();
    pairs.find(|(name, _)| names.contains(&&**name)).map(|(_, value)| value.into_owned())
}

/// Returns whether the text looks like the name of a parameter. Otherwise it may be part of a
/// password and must not appear in a message.
fn is_parameter_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &str) -> String {
        parse(text, TlsDefaults::default()).expect_err("an error").0.into_owned()
    }

    #[test]
    fn an_unknown_parameter_is_rejected_by_its_name() {
        for name in ["ssl_mode", "sslmod", "SSLMODE", "schema", "channel_binding"] {
            let message = parse_error(&format!("postgres://u:hunter2@localhost/db?{name}=hunter2"));
            assert!(message.contains(&format!("`{name}`")), "{message}");
            assert!(message.contains("sslmode") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_repeated_or_malformed_parameter_is_rejected() {
        let message = parse_error("postgres://localhost/db?sslmode=verify-full&sslmode=disable");
        assert!(message.contains("must not repeat"), "{message}");
        for mode in ["requires", "allow", "on", ""] {
            let message = parse_error(&format!("postgres://localhost/db?sslmode={mode}"));
            assert!(message.contains("must have an `sslmode` that is one of disable"), "{message}");
        }
    }

    #[test]
    fn the_message_does_not_contain_a_password_that_is_not_encoded() {
        for text in ["postgres://u:12?hunter2&hunter2@localhost/db", "postgres://u:1#hunter2@h/db"]
        {
            assert!(!parse_error(text).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn an_address_in_brackets_is_an_address() {
        for text in ["postgres://u:p@[::1]:5433/db", "postgres:///db?host=[::1]&port=5433&user=u"] {
            let options = parse(text, TlsDefaults::default()).expect("options");
            assert_eq!((options.get_host(), options.get_port()), ("::1", 5433), "{text}");
        }
        let text = "postgres://u:p@[::1]/db?host=example.com";
        let options = parse(text, TlsDefaults::default()).expect("options");
        assert_eq!(options.get_host(), "example.com");
    }

    #[test]
    fn a_certificate_authority_is_never_ignored() {
        let mode_with = |text: &str, ssl_mode: Option<&str>| {
            let defaults = TlsDefaults { ssl_mode, ..TlsDefaults::default() };
            parse(text, defaults).map(|options| format!("{:?}", options.get_ssl_mode()))
        };
        let mode = |text: &str| mode_with(text, None).expect("a mode");
        let root = "sslrootcert=/etc/ca.crt";
        assert_eq!(mode(&format!("postgres://h/db?sslmode=require&{root}")), "VerifyCa");
        assert_eq!(mode(&format!("postgres://h/db?sslmode=verify-full&{root}")), "VerifyFull");
        for without in ["", "&sslmode=prefer", "&sslmode=disable"] {
            let message = parse_error(&format!("postgres://h/db?{root}{without}"));
            assert!(message.contains("sslmode=verify-full"), "{message}");
        }
        // The mode may come from PGSSLMODE; the URL's takes precedence.
        let url = format!("postgres://h/db?{root}");
        for (variable, expected) in
            [("verify-full", "VerifyFull"), ("verify-ca", "VerifyCa"), ("require", "VerifyCa")]
        {
            assert_eq!(mode_with(&url, Some(variable)).expect("a mode"), expected);
        }
        for variable in ["prefer", "disable"] {
            mode_with(&url, Some(variable)).expect_err("an error");
        }
        let weaker = format!("{url}&sslmode=prefer");
        mode_with(&weaker, Some("verify-full")).expect_err("an error");
        let plain = mode_with("postgres://h/db", Some("require"));
        assert_eq!(plain.expect("a mode"), "Require");
    }

    #[test]
    fn a_certificate_authority_of_the_environment_is_never_ignored() {
        let mode = |text: &str, ssl_mode: Option<&str>| {
            let defaults = TlsDefaults { ssl_mode, has_root_certificate: true };
            parse(text, defaults).map(|options| format!("{:?}", options.get_ssl_mode()))
        };
        for (text, expected) in
            [("require", "VerifyCa"), ("verify-ca", "VerifyCa"), ("verify-full", "VerifyFull")]
        {
            let from_url = mode(&format!("postgres://h/db?sslmode={text}"), None);
            assert_eq!(from_url.expect("a mode"), expected);
            assert_eq!(mode("postgres://h/db", Some(text)).expect("a mode"), expected);
        }
        for url in ["postgres://h/db", "postgres://h/db?sslmode=prefer"] {
            let ValidationError(message) = mode(url, None).expect_err("an error");
            assert!(message.contains("PGSSLROOTCERT"), "{message}");
        }
    }

    #[test]
    fn the_parameters_that_the_driver_supports_are_accepted() {
        let text = "postgresql:///db?host=/run/postgresql&port=5433&user=a&dbname=b&\
                    application_name=t&options[search_path]=x&statement-cache-capacity=50";
        let options = parse(text, TlsDefaults::default()).expect("options");
        assert_eq!(options.get_database(), Some("b"));
        assert_eq!(options.get_username(), "a");
    }
}
