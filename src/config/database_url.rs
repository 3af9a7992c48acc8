//! `DATABASE_URL`, read strictly.
//!
//! The driver ignores what it does not know, so that a misspelt `sslmode` would be a connection in
//! plain text. Here every parameter is known or refused, by its name and never by its value.

use std::collections::BTreeSet;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use url::{Host, Url};

use crate::model::ValidationError;

/// The parameters that the driver takes, beside `options[name]`.
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
/// How a connection may be encrypted. The driver treats `allow` as `disable`.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];
/// The names of the parameter that names the certificate authority.
const ROOT_CERTIFICATE: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// What the driver takes from the environment where the URL does not say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// `PGSSLMODE`.
    pub ssl_mode: Option<&'a str>,
    /// Whether there is a `PGSSLROOTCERT`.
    pub has_root_certificate: bool,
}

/// Reads a `DATABASE_URL` beside what the environment says.
///
/// # Errors
/// Where it is not a URL of a Postgres, or has a parameter that is unknown, given twice or
/// malformed. The words hold no value: one of them may be a password.
pub fn parse(text: &str, around: Surroundings<'_>) -> Result<PgConnectOptions, ValidationError> {
    let wrong = "must be a URL such as postgres://user:password@host:5432/tenantry, with what is \
                 special percent-encoded";
    let url = Url::parse(text).map_err(|_| wrong)?;
    // A password with `?` or `&` in it ends up among the parameters.
    let is_unambiguous =
        url.fragment().is_none() && url.query_pairs().all(|(name, _)| is_parameter_name(&name));
    if !matches!(url.scheme(), "postgres" | "postgresql") || !is_unambiguous {
        return Err(wrong.into());
    }
    check_names(&url)?;
    // Over a socket there is no TLS to verify anything with.
    let has_root_certificate =
        around.has_root_certificate && !is_socket(&url) || value(&url, &ROOT_CERTIFICATE).is_some();
    let around = Surroundings { has_root_certificate, ..around };
    let mode = check_ssl(&url, around)?;
    let mut options = PgConnectOptions::from_str(text).map_err(|_| wrong)?;
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
            // As libpq does; the driver would encrypt and not verify.
            "require" if has_root_certificate => "verify-ca",
            mode => mode,
        };
        options = options.ssl_mode(mode.parse().map_err(|_| wrong)?);
    }
    Ok(options)
}

/// Checks an `sslmode`, as `DATABASE_URL` or the variable `PGSSLMODE` gives it.
///
/// # Errors
/// Where it is none.
pub fn parse_ssl_mode(text: &str) -> Result<String, ValidationError> {
    let known = SSL_MODES.iter().find(|mode| mode.eq_ignore_ascii_case(text));
    known
        .map(ToString::to_string)
        .ok_or_else(|| format!("must be one of {}", SSL_MODES.join(", ")).into())
}

fn check_names(url: &Url) -> Result<(), ValidationError> {
    let mut seen = BTreeSet::new();
    for (name, _) in url.query_pairs() {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !is_option && !PARAMETERS.contains(&&*name) {
            let known = PARAMETERS.join(", ");
            return Err(format!(
                "must not have the parameter `{name}`, which is unknown; known are {known} and \
                 options[…]"
            )
            .into());
        }
        if !seen.insert(name.clone()) {
            return Err(format!("must have the parameter `{name}` once, not twice").into());
        }
    }
    Ok(())
}

/// The `sslmode` that holds, if there is one and it is sound.
fn check_ssl(url: &Url, around: Surroundings<'_>) -> Result<Option<String>, ValidationError> {
    let mode = value(url, &["sslmode", "ssl-mode"]);
    let mode = mode.map(|mode| parse_ssl_mode(&mode)).transpose();
    let mode = mode.map_err(|ValidationError(why)| format!("has an `sslmode`, which {why}"))?;
    let mode = mode.or_else(|| around.ssl_mode.map(ToOwned::to_owned));
    let verifies = mode.as_deref().is_some_and(|mode| !matches!(mode, "disable" | "prefer"));
    if around.has_root_certificate && !verifies {
        return Err(
            "must have sslmode=verify-full beside `sslrootcert` or PGSSLROOTCERT (unset it \
                    where it is not meant), or PGSSLMODE=verify-full: the certificate is not \
                    looked at otherwise"
                .into(),
        );
    }
    Ok(mode)
}

/// Whether the database is reached over a Unix socket, whose folder stands in the host's place.
fn is_socket(url: &Url) -> bool {
    let host = value(url, &["host", "hostaddr"]).or_else(|| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host.starts_with('/') || host.to_lowercase().starts_with("%2f"))
}

/// The value of the first parameter with one of these names.
fn value(url: &Url, names: &[&str]) -> Option<String> {
    let mut pairs = url.query_pairs();
    pairs.find(|(name, _)| names.contains(&&**name)).map(|(_, value)| value.into_owned())
}

/// Whether the text may be repeated: it looks like the name of a parameter, not like the rest of a
/// password.
fn is_parameter_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &str) -> String {
        parse(text, Surroundings::default()).expect_err("refused").0.into_owned()
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_its_name() {
        for name in ["ssl_mode", "sslmod", "SSLMODE", "schema", "channel_binding"] {
            let told = parse_error(&format!("postgres://u:hunter2@localhost/db?{name}=hunter2"));
            assert!(told.contains(&format!("`{name}`")), "{told}");
            assert!(told.contains("sslmode") && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_parameter_given_twice_or_malformed_is_refused() {
        let twice = parse_error("postgres://localhost/db?sslmode=verify-full&sslmode=disable");
        assert!(twice.contains("once"), "{twice}");
        for mode in ["requires", "allow", "on", ""] {
            let told = parse_error(&format!("postgres://localhost/db?sslmode={mode}"));
            assert!(told.contains("`sslmode`, which must be one of disable"), "{told}");
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_not_repeated() {
        for text in ["postgres://u:12?hunter2&hunter2@localhost/db", "postgres://u:1#hunter2@h/db"]
        {
            assert!(!parse_error(text).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn an_address_in_brackets_is_an_address() {
        for text in ["postgres://u:p@[::1]:5433/db", "postgres:///db?host=[::1]&port=5433&user=u"] {
            let options = parse(text, Surroundings::default()).expect("good");
            assert_eq!((options.get_host(), options.get_port()), ("::1", 5433), "{text}");
        }
        let text = "postgres://u:p@[::1]/db?host=example.com";
        let options = parse(text, Surroundings::default()).expect("good");
        assert_eq!(options.get_host(), "example.com");
    }

    #[test]
    fn a_certificate_authority_is_never_ignored() {
        let mode_beside = |text: &str, ssl_mode: Option<&str>| {
            let around = Surroundings { ssl_mode, ..Surroundings::default() };
            parse(text, around).map(|options| format!("{:?}", options.get_ssl_mode()))
        };
        let mode = |text: &str| mode_beside(text, None).expect("good");
        let root = "sslrootcert=/etc/ca.crt";
        assert_eq!(mode(&format!("postgres://h/db?sslmode=require&{root}")), "VerifyCa");
        assert_eq!(mode(&format!("postgres://h/db?sslmode=verify-full&{root}")), "VerifyFull");
        for without in ["", "&sslmode=prefer", "&sslmode=disable"] {
            let told = parse_error(&format!("postgres://h/db?{root}{without}"));
            assert!(told.contains("sslmode=verify-full"), "{told}");
        }
        // The mode may come from PGSSLMODE; that of the URL is stronger.
        let url = format!("postgres://h/db?{root}");
        for (usual, found) in
            [("verify-full", "VerifyFull"), ("verify-ca", "VerifyCa"), ("require", "VerifyCa")]
        {
            assert_eq!(mode_beside(&url, Some(usual)).expect("good"), found);
        }
        for refused in ["prefer", "disable"] {
            mode_beside(&url, Some(refused)).expect_err("refused");
        }
        let weaker = format!("{url}&sslmode=prefer");
        mode_beside(&weaker, Some("verify-full")).expect_err("refused");
        let plain = mode_beside("postgres://h/db", Some("require"));
        assert_eq!(plain.expect("good"), "Require");
    }

    #[test]
    fn a_certificate_authority_of_the_environment_is_never_ignored() {
        let mode = |text: &str, ssl_mode: Option<&str>| {
            let around = Surroundings { ssl_mode, has_root_certificate: true };
            parse(text, around).map(|options| format!("{:?}", options.get_ssl_mode()))
        };
        for (given, found) in
            [("require", "VerifyCa"), ("verify-ca", "VerifyCa"), ("verify-full", "VerifyFull")]
        {
            let of_url = mode(&format!("postgres://h/db?sslmode={given}"), None);
            assert_eq!(of_url.expect("good"), found);
            assert_eq!(mode("postgres://h/db", Some(given)).expect("good"), found);
        }
        for refused in ["postgres://h/db", "postgres://h/db?sslmode=prefer"] {
            let ValidationError(told) = mode(refused, None).expect_err("refused");
            assert!(told.contains("PGSSLROOTCERT"), "{told}");
        }
    }

    #[test]
    fn what_the_driver_takes_is_taken() {
        let text = "postgresql:///db?host=/run/postgresql&port=5433&user=a&dbname=b&\
                    application_name=t&options[search_path]=x&statement-cache-capacity=50";
        let options = parse(text, Surroundings::default()).expect("good");
        assert_eq!(options.get_database(), Some("b"));
        assert_eq!(options.get_username(), "a");
    }
}
