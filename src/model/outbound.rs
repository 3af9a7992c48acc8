//! Which URLs the server may fetch, and which addresses their hosts may have.

use std::net::IpAddr;

use url::{Host, Url};

use crate::model::ValidationError;
use crate::model::special_addresses::is_globally_reachable;

/// The addresses that the host of a URL may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// Globally reachable ones.
    GloballyReachable,
    /// Loopback ones.
    Loopback,
    /// All.
    Any,
}

impl AddressRule {
    /// Checks an address of the host.
    ///
    /// # Errors
    /// The host may not have this address. The error does not contain it.
    pub fn check(self, address: IpAddr) -> Result<(), ValidationError> {
        match self {
            Self::GloballyReachable if !is_globally_reachable(address) => {
                Err("must have a host whose addresses are all globally reachable".into())
            }
            Self::Loopback if !address.to_canonical().is_loopback() => {
                Err("must be https, or have a host whose addresses are all loopback".into())
            }
            _ => Ok(()),
        }
    }
}

/// Hosts that the server may fetch from although they are inside the network: exactly these hosts,
/// each with exactly this port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<HostAndPort>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct HostAndPort {
    host: Host,
    port: u16,
}

impl AllowedHosts {
    /// Parses `host:port`, separated by commas. A host is a name or an IP address, an IPv6 address
    /// in brackets.
    ///
    /// # Errors
    /// A part is not a host and a port.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let hosts: Option<_> = text.split(',').map(|it| HostAndPort::parse(it.trim())).collect();
        hosts.map(Self).ok_or(
            "must be host:port, separated by commas, such as idp.internal:8443,[fd00::1]:443"
                .into(),
        )
    }

    /// Checks whether the server may fetch a URL, as far as that is known without resolving its
    /// host, and returns the rule for the addresses that the host resolves to.
    ///
    /// The URL must be https, without user name, password and fragment. It may be http if its host
    /// and port are listed; then the host's addresses must be loopback. The addresses of a host
    /// that is not listed must be globally reachable.
    ///
    /// # Errors
    /// The URL may not be fetched. The error states what is required.
    pub fn check(&self, url: &Url) -> Result<AddressRule, ValidationError> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or a password".into());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment".into());
        }
        let rule = match (url.scheme(), self.contains(url)) {
            ("https", false) => AddressRule::GloballyReachable,
            ("https", true) => AddressRule::Any,
            ("http", true) => AddressRule::Loopback,
            _ => return Err("must be an https URL".into()),
        };
        match url.host() {
            Some(Host::Ipv4(address)) => rule.check(address.into())?,
            Some(Host::Ipv6(address)) => rule.check(address.into())?,
            Some(Host::Domain(_)) => {}
            None => return Err("must have a host".into()),
        }
        Ok(rule)
    }

    fn contains(&self, url: &Url) -> bool {
        let (host, port) = (url.host().map(|host| host.to_owned()), url.port_or_known_default());
        self.0.iter().any(|it| host.as_ref() == Some(&it.host) && port == Some(it.port))
    }
}

impl HostAndPort {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // A wildcard would match nothing.
        let host = Some(host).filter(|host| !host.contains('*'))?;
        let port = Some(port).filter(|port| port.bytes().all(|it| it.is_ascii_digit()))?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(Self { host: Host::parse(host).ok()?, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> AllowedHosts {
        AllowedHosts::parse(text).expect("hosts")
    }

    fn check(allowed: &AllowedHosts, url: &str) -> Result<AddressRule, ValidationError> {
        allowed.check(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn a_host_needs_a_port_and_no_other_part_of_a_url() {
        for text in [
            "",
            ",",
            "idp.internal",
            "idp.internal:",
            "idp.internal:0",
            "idp.internal:+80",
            "idp.internal:65536",
            "idp.internal:https",
            ":443",
            "*.internal:443",
            "https://idp.internal:443",
            "idp.internal:443/",
            "user@idp.internal:443",
            "fd00::1:443",
            "[fd00::1]",
            "10.0.0.256:443",
            "idp.internal:443,",
        ] {
            assert!(AllowedHosts::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(allowed("IDP.Internal:443 , [FD00:0::1]:1").0.len(), 2);
    }

    #[test]
    fn only_exactly_a_listed_host_and_port_may_be_inside_the_network() {
        let hosts = allowed("idp.internal:8443,10.0.0.1:443,[fd00::1]:443,127.0.0.1:80,[::1]:80");
        for (url, rule) in [
            ("https://idp.internal:8443/keys?a=b", AddressRule::Any),
            ("https://IDP.internal:8443", AddressRule::Any),
            ("https://10.0.0.1", AddressRule::Any),
            ("https://0xa000001:443", AddressRule::Any),
            ("https://[fd00:0:0::1]/", AddressRule::Any),
            ("http://idp.internal:8443", AddressRule::Loopback),
            ("http://127.0.0.1", AddressRule::Loopback),
            ("http://[::1]", AddressRule::Loopback),
            ("https://idp.internal", AddressRule::GloballyReachable),
            ("https://idp.internal.:8443", AddressRule::GloballyReachable),
            ("https://a.idp.internal:8443", AddressRule::GloballyReachable),
            ("https://8.8.8.8", AddressRule::GloballyReachable),
        ] {
            assert_eq!(check(&hosts, url), Ok(rule), "{url}");
        }
        for url in [
            "https://10.0.0.1:444",
            "https://10.0.0.2",
            "https://[fd00::2]",
            "https://[::ffff:10.0.0.1]",
            "https://127.0.0.1",
            "http://10.0.0.1:443",
            "http://127.0.0.1:443",
            "http://localhost:80",
            "http://8.8.8.8",
        ] {
            assert!(check(&hosts, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_url_with_another_scheme_a_user_or_a_fragment_is_rejected_even_if_its_host_is_listed() {
        for hosts in [AllowedHosts::default(), allowed("example.com:443,example.com:80")] {
            assert!(check(&hosts, "https://example.com/path?query").is_ok());
            for url in [
                "https://user@example.com",
                "https://:password@example.com",
                "https://example.com/#",
                "https://example.com/#fragment",
                "ftp://example.com:443",
                "file:///etc/passwd",
                "data:text/plain,x",
                "unix:/run/docker.sock",
            ] {
                assert!(check(&hosts, url).is_err(), "{url}");
            }
        }
        let message = check(&AllowedHosts::default(), "https://10.1.2.3").unwrap_err();
        assert!(!message.to_string().contains("10.1"), "{message}");
    }
}
