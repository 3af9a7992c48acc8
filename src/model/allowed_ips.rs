//! The networks that a key may be used from.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::model::ValidationError;

/// The maximum number of networks of one key.
const MAX_NETWORKS: usize = 100;

const FORM_MESSAGE: &str = "must be IP addresses, or networks without bits after the prefix, such \
                            as 203.0.113.0/24 or 2001:db8::/32";

/// Networks, IPv4 and IPv6. An empty list allows every address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedIps(Vec<IpNet>);

impl AllowedIps {
    /// Parses a list of networks in CIDR notation; an address alone is a network of one.
    ///
    /// # Errors
    /// A text is neither an address nor a network without bits after its prefix, or there are more
    /// than 100 networks.
    pub fn parse(texts: &[String]) -> Result<Self, ValidationError> {
        if texts.len() > MAX_NETWORKS {
            return Err(format!("must be at most {MAX_NETWORKS} networks").into());
        }
        let networks: Option<Vec<IpNet>> = texts.iter().map(|text| parse_network(text)).collect();
        networks.map(Self).ok_or(FORM_MESSAGE.into())
    }

    /// Creates the list from the database's column.
    #[must_use]
    pub fn from_stored(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns the value of the database's column.
    #[must_use]
    pub fn as_stored(&self) -> &[IpNet] {
        &self.0
    }

    /// Returns the networks as text.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(IpNet::to_string).collect()
    }

    /// Returns whether these networks allow every address that `other` allows.
    #[must_use]
    pub fn allows_all_of(&self, other: &Self) -> bool {
        // Merges adjacent networks: both halves of a network together allow all of it.
        let own = IpNet::aggregate(&self.0);
        let within = |wanted: &IpNet| own.iter().any(|network| network.contains(wanted));
        self.0.is_empty() || (!other.0.is_empty() && other.0.iter().all(within))
    }

    /// Returns whether a request from `address` may use the key. If the address is unknown, only a
    /// key without networks may be used.
    #[must_use]
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        let within = |address: IpAddr| self.0.iter().any(|network| network.contains(&address));
        self.0.is_empty() || address.is_some_and(|address| within(address.to_canonical()))
    }
}

/// Parses an address, which becomes a network of one, or a network in CIDR notation. An IPv4-mapped
/// network (`::ffff:203.0.113.0/120`) becomes an IPv4 network. Returns `None` if the text is
/// neither, or if bits after the prefix are set.
fn parse_network(text: &str) -> Option<IpNet> {
    let parsed: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().into(),
        Err(_) => text.parse().ok()?,
    };
    let unified = match (parsed, parsed.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(address)) => {
            IpNet::V4(Ipv4Net::new(address, mapped.prefix_len().checked_sub(96)?).ok()?)
        }
        _ => parsed,
    };
    (unified.trunc() == unified).then_some(unified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allow_list(texts: &[&str]) -> AllowedIps {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        AllowedIps::parse(&texts).expect("networks")
    }

    #[test]
    fn an_address_in_a_network_is_allowed_in_every_spelling() {
        for network in ["203.0.113.0/24", "::ffff:203.0.113.0/120", "203.0.113.9"] {
            for address in ["203.0.113.9", "::ffff:203.0.113.9"] {
                let address = Some(address.parse().expect("an address"));
                assert!(allow_list(&[network]).allows(address), "{network} {address:?}");
            }
        }
        assert!(allow_list(&["10.0.0.0/8", "2001:db8::/32"]).allows("2001:DB8::1".parse().ok()));
    }

    #[test]
    fn a_list_with_networks_rejects_other_addresses_and_an_unknown_one() {
        let networks = allow_list(&["203.0.113.0/24", "2001:db8::/32"]);
        for address in ["203.0.114.1", "2001:db9::1", "::1"] {
            assert!(!networks.allows(address.parse().ok()), "{address}");
        }
        assert!(!networks.allows(None));
        assert!(AllowedIps::default().allows(None));
    }

    #[test]
    fn a_list_allows_all_of_a_narrower_list_and_only_an_empty_list_allows_all_of_an_empty_one() {
        let everywhere = AllowedIps::default();
        let own = allow_list(&["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"]);
        for within in [&["192.0.2.0/24"][..], &["192.0.2.7", "2001:db8::/48"], &["192.0.2.1"]] {
            assert!(own.allows_all_of(&allow_list(within)), "{within:?}");
        }
        for wider in [&["192.0.2.0/23"][..], &["192.0.2.7", "203.0.113.9"], &["::/0"]] {
            assert!(!own.allows_all_of(&allow_list(wider)), "{wider:?}");
        }
        assert!(
            own.allows_all_of(&own)
                && everywhere.allows_all_of(&own)
                && everywhere.allows_all_of(&everywhere)
        );
        assert!(!own.allows_all_of(&everywhere));
    }

    #[test]
    fn an_invalid_network_is_an_error() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::ffff:1.2.3.4/64"]
        {
            assert!(AllowedIps::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_network_never_panics(text in "\\PC*") {
            let _ = AllowedIps::parse(&[text]);
        }
    }
}
