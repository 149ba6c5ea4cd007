//! Network addresses of clients, as units for limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address or an IPv6 /64 network, since one host has all 2^64 addresses of such a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBucket(IpAddr);

impl AddressBucket {
    /// Returns the bucket that contains `address`.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

/// Formats an address; IPv4-mapped addresses are written as IPv4. Every forwarded request carries one, and the standard
/// library's formatting costs ten times as much.
pub fn address_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => dotted(address),
        IpAddr::V6(address) => address.to_string(),
    }
}

fn dotted(address: Ipv4Addr) -> String {
    let mut text = String::with_capacity("255.255.255.255".len());
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for unit in [100, 10, 1] {
            if octet >= unit || unit == 1 {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everywhere() {
        for address in ["0.0.0.0", "127.0.0.1", "10.20.30.40", "255.255.255.255", "192.168.100.9", "2001:db8::1"] {
            assert_eq!(address_text(address.parse().expect("an address")), address);
        }
        assert_eq!(address_text("::ffff:10.0.0.1".parse().expect("an address")), "10.0.0.1");
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 1, 255 - octet, octet);
            assert_eq!(address_text(address.into()), address.to_string());
        }
    }

    #[test]
    fn one_host_is_in_one_network_however_it_writes_itself() {
        let of = |text: &str| AddressBucket::of(text.parse().expect("an address"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
