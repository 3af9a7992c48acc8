//! How often an address may try something: a wall in this process. An IPv6 client has all of its
//! /64 to call from, so that counts as one; who comes from no known address shares one place.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::error::{Error, Kind, Result};

/// How often an address may try something.
pub struct AddressLimit {
    limiter: DefaultKeyedRateLimiter<Option<IpAddr>>,
    clock: DefaultClock,
}

impl AddressLimit {
    /// `burst` tries at once, then `per_minute` a minute.
    #[must_use]
    pub fn new(burst: NonZeroU32, per_minute: NonZeroU32) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        Self { limiter: DefaultKeyedRateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    /// Counts one try.
    ///
    /// # Errors
    /// Rate limited, with when the next one counts; a try that is refused is not counted.
    pub fn count(&self, address: Option<IpAddr>) -> Result<()> {
        self.limiter.check_key(&address.map(place)).map_err(|not_yet| {
            let wait: Duration = not_yet.wait_time_from(self.clock.now());
            Error::new(Kind::RateLimited, "Too many tries from this address").with_retry_after(wait)
        })
    }

    /// Forgets addresses that have not tried anything for a while.
    pub fn forget_old(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// What counts as one address.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> AddressLimit {
        let [burst, per_minute] = [2, 1].map(|it| NonZeroU32::new(it).expect("not zero"));
        AddressLimit::new(burst, per_minute)
    }

    /// How many of these tries are let through.
    fn let_through(addresses: &[&str]) -> usize {
        let limit = limit();
        let tries = addresses.iter().map(|it| limit.count(it.parse().ok()));
        tries.flatten().count()
    }

    #[test]
    fn what_is_one_client_counts_as_one_address() {
        assert_eq!(let_through(&["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]), 3);
        assert_eq!(let_through(&["2001:db8::1", "2001:DB8::2", "2001:db8::ffff:0:0:3"]), 2);
        assert_eq!(let_through(&["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]), 3);
        assert_eq!(let_through(&["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"]), 2);
        assert_eq!(let_through(&["unknown", "-", ""]), 2);
    }

    #[test]
    fn who_is_refused_learns_when_to_try_again() {
        let (limit, address) = (limit(), "192.0.2.1".parse().ok());
        let refused = (0..3).find_map(|_| limit.count(address).err()).expect("a refusal");
        assert_eq!(*refused.kind(), Kind::RateLimited);
        assert!((1..=60).contains(&refused.retry_after_seconds().expect("a time")));
    }
}
