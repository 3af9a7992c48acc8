//! Ports on which nothing listens.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of the ports that are tried, and their number. They are below those that systems give
/// to outgoing connections and to listeners that name no port: no other test gets one of them.
const PORTS: (u16, u16) = (16_384, 16_000);

/// Returns an address of this machine on which nothing listens, and which no other call returns.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (first, count) = PORTS;
    // Two runs at the same time begin at different ports.
    let offset = std::process::id() * 97;
    for _ in 0..count {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + offset;
        let port = first + u16::try_from(number % u32::from(count)).expect("below the count");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
