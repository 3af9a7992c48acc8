//! Special-purpose IP addresses: which addresses can belong to hosts of the public internet, and
//! which to hosts inside a network.
//!
//! An IPv6 address that contains an IPv4 address is as reachable as that one, because a translator
//! or a relay sends its packets there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Every block of IANA's IPv4 Special-Purpose Address Registry (RFC 6890) as of 2026, including
/// those for anycast services that are reachable but serve no documents, and 224.0.0.0/3:
/// multicast (RFC 5771) and reserved addresses.
const SPECIAL_IPV4: [Ipv4Net; 17] = [
    ipv4([0, 0, 0, 0], 8),
    ipv4([10, 0, 0, 0], 8),
    ipv4([100, 64, 0, 0], 10),
    ipv4([127, 0, 0, 0], 8),
    ipv4([169, 254, 0, 0], 16),
    ipv4([172, 16, 0, 0], 12),
    ipv4([192, 0, 0, 0], 24),
    ipv4([192, 0, 2, 0], 24),
    ipv4([192, 31, 196, 0], 24),
    ipv4([192, 52, 193, 0], 24),
    ipv4([192, 88, 99, 0], 24),
    ipv4([192, 168, 0, 0], 16),
    ipv4([192, 175, 48, 0], 24),
    ipv4([198, 18, 0, 0], 15),
    ipv4([198, 51, 100, 0], 24),
    ipv4([203, 0, 113, 0], 24),
    ipv4([224, 0, 0, 0], 3),
];

/// The only IPv6 addresses that IANA allocates to hosts of the public internet (RFC 4291 §2.4).
const GLOBAL_UNICAST_IPV6: Ipv6Net = ipv6([0x2000, 0, 0, 0], 3);

/// The blocks of IANA's IPv6 Special-Purpose Address Registry within [`GLOBAL_UNICAST_IPV6`],
/// except those that contain an IPv4 address.
const SPECIAL_IPV6: [Ipv6Net; 4] = [
    ipv6([0x2001, 0, 0, 0], 23),
    ipv6([0x2001, 0xdb8, 0, 0], 32),
    ipv6([0x2620, 0x4f, 0x8000, 0], 48),
    ipv6([0x3fff, 0, 0, 0], 20),
];

const fn ipv4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix)
}

const fn ipv6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// Returns whether the address can belong to a host of the public internet: it is a unicast address
/// outside all blocks with a special purpose. An IPv6 address that contains IPv4 addresses is
/// globally reachable if all of these are.
#[must_use]
pub fn is_globally_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_ipv4_globally_reachable(address),
        IpAddr::V6(address) => is_ipv6_globally_reachable(address),
    }
}

fn is_ipv4_globally_reachable(address: Ipv4Addr) -> bool {
    !SPECIAL_IPV4.iter().any(|block| block.contains(&address))
}

fn is_ipv6_globally_reachable(address: Ipv6Addr) -> bool {
    match address.segments() {
        // IPv4-mapped (RFC 4291 §2.5.5.2); NAT64's well-known prefix (RFC 6052 §2.1), and the first
        // /96 of its prefix for local use (RFC 8215), in the rest of which the position of the IPv4
        // address depends on the translator; 6to4 (RFC 3056 §2).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0 | 1, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => is_contained_ipv4_globally_reachable(high, low),
        // Teredo (RFC 4380 §4): the server's address, and the inverted address of the client.
        [0x2001, 0, server_high, server_low, _, _, client_high, client_low] => {
            is_contained_ipv4_globally_reachable(server_high, server_low)
                && is_contained_ipv4_globally_reachable(!client_high, !client_low)
        }
        _ => {
            GLOBAL_UNICAST_IPV6.contains(&address)
                && !SPECIAL_IPV6.iter().any(|block| block.contains(&address))
        }
    }
}

fn is_contained_ipv4_globally_reachable(high: u16, low: u16) -> bool {
    is_ipv4_globally_reachable(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every block that must not be reachable, with what it is for.
    const IPV4_BLOCKS: [(&str, &str); 17] = [
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private use"),
        ("100.64.0.0/10", "shared address space"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, metadata services"),
        ("172.16.0.0/12", "private use"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relays"),
        ("192.168.0.0/16", "private use"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/3", "multicast, reserved, broadcast"),
    ];

    /// Blocks in the middle of addresses that are reachable.
    const IPV6_BLOCKS: [(&str, &str); 4] = [
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
    ];

    /// Blocks in the middle of addresses that are not reachable either.
    const IPV6_BLOCKS_WITHOUT_NEIGHBOURS: [(&str, &str); 12] = [
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible, deprecated"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1:0:0:1::/96", "NAT64 for local use"),
        ("64:ff9b:1:ffff::/64", "NAT64 for local use"),
        ("100::/64", "discard-only"),
        ("100:0:0:1::/64", "dummy prefix"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/9", "link-local and site-local"),
        ("ff00::/8", "multicast"),
    ];

    fn is_reachable(address: impl Into<IpAddr>) -> bool {
        is_globally_reachable(address.into())
    }

    /// Returns the first and last address of each IPv4 block, and those before and after it.
    fn ipv4_edges() -> Vec<(Ipv4Addr, bool)> {
        let mut edges = Vec::new();
        for (text, _) in IPV4_BLOCKS {
            let block: Ipv4Net = text.parse().expect("a block");
            let (first, last) = (block.network().to_bits(), block.broadcast().to_bits());
            edges.extend([(first, false), (last, false)]);
            edges.extend(first.checked_sub(1).map(|before| (before, true)));
            edges.extend(last.checked_add(1).map(|after| (after, true)));
        }
        edges.into_iter().map(|(bits, reachable)| (Ipv4Addr::from_bits(bits), reachable)).collect()
    }

    #[test]
    fn every_special_ipv4_block_is_unreachable_up_to_its_edges_and_its_neighbours_are_reachable() {
        let edges = ipv4_edges();
        assert_eq!(
            edges.len(),
            4 * IPV4_BLOCKS.len() - 2,
            "two blocks have no neighbour on one side"
        );
        for (address, reachable) in edges {
            assert_eq!(is_reachable(address), reachable, "{address}");
        }
    }

    #[test]
    fn every_special_ipv6_block_is_unreachable_up_to_its_edges_and_its_neighbours_are_reachable() {
        for (text, purpose) in IPV6_BLOCKS {
            let block: Ipv6Net = text.parse().expect("a block");
            let (first, last) = (block.network().to_bits(), block.broadcast().to_bits());
            for (bits, reachable) in
                [(first, false), (last, false), (first - 1, true), (last + 1, true)]
            {
                let address = Ipv6Addr::from_bits(bits);
                assert_eq!(is_reachable(address), reachable, "{address} {purpose}");
            }
        }
    }

    #[test]
    fn only_global_unicast_addresses_of_ipv6_are_reachable() {
        for (text, purpose) in IPV6_BLOCKS_WITHOUT_NEIGHBOURS {
            let block: Ipv6Net = text.parse().expect("a block");
            for address in [block.network(), block.broadcast()] {
                assert!(!is_reachable(address), "{address} {purpose}");
            }
        }
        for (text, reachable) in [
            ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2000::", true),
            ("2606:4700::1111", true),
            ("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("4000::", false),
        ] {
            assert_eq!(is_reachable(text.parse::<Ipv6Addr>().expect(text)), reachable, "{text}");
        }
    }

    /// Returns addresses that contain an IPv4 address, one for each format.
    fn containers(inner: Ipv4Addr) -> [Ipv6Addr; 7] {
        let [high, low] = [inner.to_bits() >> 16, inner.to_bits() & 0xffff];
        let [high, low] = [high, low].map(|half| u16::try_from(half).expect("16 bits"));
        let public = [0x0808, 0x0808];
        [
            inner.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0),
            Ipv6Addr::new(0x2002, high, low, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !public[0], !public[1]),
            Ipv6Addr::new(0x2001, 0, public[0], public[1], 0xffff, 0xffff, !high, !low),
        ]
    }

    #[test]
    fn an_address_that_contains_an_ipv4_address_is_as_reachable_as_that_one() {
        for (inner, reachable) in ipv4_edges() {
            for address in containers(inner) {
                assert_eq!(is_reachable(address), reachable, "{address} {inner}");
            }
        }
    }

    #[test]
    fn a_well_known_spelling_of_an_inner_address_is_unreachable() {
        for text in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::10.0.0.1",
            // In the positions of a /48 and a /64 prefix (RFC 6052 §2.2).
            "64:ff9b:1:808:8:800::",
            "64:ff9b:1:0:8:808:800::",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:7f00:1::f7f7:f7f7",
            "2001:0:808:808::80ff:fffe",
            "fec0::1",
            "fd00:ec2::254",
        ] {
            assert!(!is_reachable(text.parse::<Ipv6Addr>().expect(text)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_formats_agree_on_every_ipv4_address(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            for address in containers(inner) {
                prop_assert_eq!(is_reachable(address), is_reachable(inner), "{}", address);
            }
        }
    }
}
