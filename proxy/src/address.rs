//! Which addresses may be dialled: the guard against requests to the inside (IANA special-purpose registries).
//!
//! A name is resolved once, every address of the answer is classified here, and only then one of exactly these is
//! dialled. Nothing here resolves or connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Why an address may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Hands out credentials to whoever asks; no configuration opens it.
    Metadata,
    /// Not a public unicast address; a destination may open it with `addresses:`.
    NotPublic,
}

/// Whether `address` may be dialled for a destination that opens the ranges in `open`.
///
/// # Errors
/// The class that forbids it.
pub fn check(address: IpAddr, open: &[IpNet]) -> Result<(), Forbidden> {
    let plain = unmapped(address);
    let metadata = METADATA_V4.iter().any(|each| plain == IpAddr::V4(*each))
        || METADATA_V6.iter().any(|each| plain == IpAddr::V6(*each));
    if metadata {
        return Err(Forbidden::Metadata);
    }
    if open.iter().any(|range| range.contains(&plain) || range.contains(&address)) {
        return Ok(());
    }
    let public = match plain {
        IpAddr::V4(v4) => public_v4(v4),
        IpAddr::V6(v6) => public_v6(v6),
    };
    if public { Ok(()) } else { Err(Forbidden::NotPublic) }
}

/// The IPv4 address inside a mapped or compatible IPv6 one, which the kernel dials as IPv4.
pub fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4_RANGES.iter().any(|range| range.contains(&IpAddr::V4(address)))
}

fn public_v6(address: Ipv6Addr) -> bool {
    let address = IpAddr::V6(address);
    // Only 2000::/3 is global unicast at all; parts of it carry or translate to IPv4 and are not.
    let global = GLOBAL_V6.iter().any(|range| range.contains(&address));
    global && !NOT_PUBLIC_V6_RANGES.iter().any(|range| range.contains(&address))
}

fn ranges(list: &[&str]) -> Vec<IpNet> {
    list.iter().filter_map(|range| range.parse().ok()).collect()
}

static GLOBAL_V6: LazyLock<Vec<IpNet>> = LazyLock::new(|| ranges(&["2000::/3"]));
static NOT_PUBLIC_V4_RANGES: LazyLock<Vec<IpNet>> = LazyLock::new(|| ranges(NOT_PUBLIC_V4));
static NOT_PUBLIC_V6_RANGES: LazyLock<Vec<IpNet>> = LazyLock::new(|| ranges(NOT_PUBLIC_V6));

/// Instance metadata services of the large clouds.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// The same over IPv6: AWS instances, AWS pods, Google Cloud.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// IANA IPv4 special-purpose registry, with multicast and the reserved block.
const NOT_PUBLIC_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Parts of 2000::/3 that are not public: protocol assignments and Teredo, documentation, 6to4.
const NOT_PUBLIC_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e01_to_e07_forbidden_addresses() {
        let forbidden = [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "100::1",
            "3fff::1",
            "5f00::1",
        ];
        for address in forbidden {
            assert_eq!(check(address.parse().unwrap(), &[]), Err(Forbidden::NotPublic), "{address}");
        }
        let metadata = [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "169.254.170.23",
        ];
        let everything: [IpNet; 2] = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        for address in metadata {
            assert_eq!(check(address.parse().unwrap(), &everything), Err(Forbidden::Metadata), "{address}");
        }
        for address in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert_eq!(check(address.parse().unwrap(), &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_destination_opens_only_its_own_ranges() {
        let open: [IpNet; 1] = ["127.0.0.0/8".parse().unwrap()];
        assert_eq!(check("127.0.0.1".parse().unwrap(), &open), Ok(()));
        assert_eq!(check("::ffff:127.0.0.1".parse().unwrap(), &open), Ok(()));
        assert_eq!(check("10.0.0.1".parse().unwrap(), &open), Err(Forbidden::NotPublic));
    }

    #[test]
    fn every_range_parses() {
        let all = NOT_PUBLIC_V4.len() + NOT_PUBLIC_V6.len();
        assert_eq!(NOT_PUBLIC_V4_RANGES.len() + NOT_PUBLIC_V6_RANGES.len(), all);
    }
}
