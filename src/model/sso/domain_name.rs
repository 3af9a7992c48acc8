//! Names of domains that one organization can own.

use std::fmt;

use unicode_normalization::is_nfkc;

use crate::model::ValidationError;
use crate::model::email::{Email, to_a_labels};

/// The maximum length of a name as A-labels: that of a domain name (RFC 1035 §2.3.4) without the
/// label and the dot that a [record's name](crate::model::sso::domain) has before it.
const MAX_LENGTH: usize = 253 - "_tenantry-verification.".len();

/// Domains whose addresses a provider gives to everybody, so that no organization owns them.
const PUBLIC_MAIL_PROVIDERS: [&str; 46] = [
    "126.com",
    "163.com",
    "aol.com",
    "fastmail.com",
    "gmail.com",
    "gmx.at",
    "gmx.ch",
    "gmx.com",
    "gmx.de",
    "gmx.net",
    "googlemail.com",
    "hey.com",
    "hotmail.co.uk",
    "hotmail.com",
    "hotmail.de",
    "hotmail.fr",
    "icloud.com",
    "laposte.net",
    "live.com",
    "mac.com",
    "mail.com",
    "mail.ru",
    "me.com",
    "msn.com",
    "naver.com",
    "orange.fr",
    "outlook.com",
    "outlook.de",
    "outlook.fr",
    "pm.me",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "rediffmail.com",
    "t-online.de",
    "tuta.com",
    "tutanota.com",
    "web.de",
    "yahoo.co.jp",
    "yahoo.co.uk",
    "yahoo.com",
    "yahoo.de",
    "yahoo.fr",
    "yandex.com",
    "yandex.ru",
    "zoho.com",
];

/// The name of a domain that one organization can own, as lower-case A-labels.
///
/// Invariant: [`DomainName::parse`] of its text returns the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainName(String);

impl DomainName {
    /// Parses a domain name of at least two labels, which may be internationalized.
    ///
    /// # Errors
    /// The text is not such a name; or it is a public suffix, such as `co.uk` or `github.io`, or
    /// the domain of a public mail provider. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.chars().nth(MAX_LENGTH).is_some() {
            return Err(too_long());
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        if text.contains('*') {
            return Err("must not have a wildcard: each sub-domain is verified on its own".into());
        }
        if text.contains([':', '/', '@', '?', '#']) {
            return Err("must be a domain name alone, such as example.com, without a scheme, \
                        a port or a path"
                .into());
        }
        let name = to_a_labels(text).filter(|_| is_nfkc(text));
        let name = name.ok_or("must be a domain name such as example.com")?;
        if name.len() > MAX_LENGTH {
            return Err(too_long());
        }
        if psl::domain_str(&name).is_none() {
            return Err("must not be a public suffix, under which anyone can register names".into());
        }
        if PUBLIC_MAIL_PROVIDERS.contains(&&*name) {
            return Err("must not be the domain of a public mail provider".into());
        }
        Ok(Self(name))
    }

    /// Returns the domain of an address exactly, and not a domain above it. `None` if no
    /// organization can own it.
    #[must_use]
    pub fn of_email(email: &Email) -> Option<Self> {
        let (_, domain) = email.as_str().split_once('@')?;
        Self::parse(domain).ok()
    }

    /// Returns the name that is stored as this text.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn too_long() -> ValidationError {
    format!("must be at most {MAX_LENGTH} characters long").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::sso::domain::record_name;

    fn parse(text: &str) -> Option<String> {
        DomainName::parse(text).ok().map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_domain_has_one_normal_form() {
        for (sent, stored) in [
            ("example.com", "example.com"),
            ("Mail.EXAMPLE.com", "mail.example.com"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
            ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("acme.co.uk", "acme.co.uk"),
            ("acme.github.io", "acme.github.io"),
            ("corp.internal", "corp.internal"),
        ] {
            assert_eq!(parse(sent).as_deref(), Some(stored), "{sent}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_domain_name_alone_is_rejected() {
        for text in [
            "",
            ".",
            "com",
            "localhost",
            "https://example.com",
            "//example.com",
            "example.com:443",
            "example.com/path",
            "example.com?a",
            "example.com#a",
            "ann@example.com",
            "*.example.com",
            "example.com.",
            ".example.com",
            "example..com",
            "example.com\0",
            "example.com\n",
            " example.com",
            "exam ple.com",
            "exa\u{200b}mple.com",
            "example\u{3002}com",
            "192.0.2.1",
            "[2001:db8::1]",
            "2001:db8::1",
            "0x7f.1",
            "_tenantry-verification.example.com",
            "-a.example",
            "a-.example",
            "xn--a.example",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_too_long_if_the_name_of_its_record_would_be() {
        let label = "a".repeat(62);
        let fits = format!("{label}.{label}.{label}.{}.example", "a".repeat(33));
        assert_eq!(fits.len(), MAX_LENGTH);
        assert_eq!(record_name(&DomainName::parse(&fits).expect("a name")).len(), 253);
        assert_eq!(parse(&format!("a{fits}")), None);
        assert_eq!(parse(&"a.".repeat(200_000)), None);
        assert_eq!(parse(&format!("{}.example", "a".repeat(64))), None);
        // It is short, and its A-labels are long.
        assert_eq!(parse(&["ü".repeat(50).as_str(); 5].join(".")), None);
    }

    #[test]
    fn a_public_suffix_and_the_domain_of_a_public_mail_provider_are_rejected() {
        let suffixes = ["co.uk", "CO.UK", "com.au", "github.io", "xn--55qx5d.cn", "公司.cn"];
        for text in suffixes.into_iter().chain(PUBLIC_MAIL_PROVIDERS).chain(["Gmail.com"]) {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_domain_of_an_address_is_its_own_and_none_above_it() {
        let of = |text: &str| {
            let email = Email::parse(text).expect("an address");
            DomainName::of_email(&email).map(|name| name.as_str().to_owned())
        };
        assert_eq!(of("ann@EXAMPLE.com").as_deref(), Some("example.com"));
        assert_eq!(of("ann@mail.example.com").as_deref(), Some("mail.example.com"));
        assert_eq!(of("ann@münchen.example").as_deref(), Some("xn--mnchen-3ya.example"));
        assert_eq!(of("ann@gmail.com"), None);
        assert_eq!(of("ann@co.uk"), None);
    }

    proptest! {
        #[test]
        fn parsing_a_name_again_returns_the_same_name(text in "\\PC{1,12}\\.[a-zü]{2,5}") {
            if let Ok(name) = DomainName::parse(&text) {
                prop_assert_eq!(DomainName::parse(name.as_str()), Ok(name.clone()));
                prop_assert!(name.as_str().is_ascii());
            }
        }
    }
}
