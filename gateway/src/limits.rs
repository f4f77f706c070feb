//! How often a caller and an address may ask.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
};

use axum::http::HeaderMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _, clock::DefaultClock};
use ipnet::IpNet;

use crate::{Code, Problem};

/// Passwords that one address, or one user of a backend's, may try for one room: a class behind one address gets in, and a
/// day is good for 86 thousand guesses.
const GUESSES: Rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN.saturating_add(29) };
/// Passwords that may be tried for one room by all together.
const GUESSES_OF_ALL: Rate =
    Rate { per_second: NonZeroU32::MIN.saturating_add(9), burst: NonZeroU32::MIN.saturating_add(199) };

/// Requests per second in the long run, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Refill per second.
    pub per_second: NonZeroU32,
    /// Size of the bucket.
    pub burst: NonZeroU32,
}

/// Who tries a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guesser<'a> {
    /// Somebody with a share link, of whom only the address is known.
    Address(IpAddr),
    /// A user whom a backend names.
    User(&'a str),
}

/// Buckets in a table of fixed size: who asks is hashed, with a seed that nobody knows, to one of 65536. So no
/// number of addresses fills the memory or shuts anybody out; now and then two share a bucket.
struct Buckets {
    seed: RandomState,
    limiter: DefaultKeyedRateLimiter<u16>,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self { seed: RandomState::new(), limiter: RateLimiter::keyed(quota) }
    }

    /// Takes one, or says after how many seconds there will be one.
    fn take(&self, who: &impl Hash) -> Result<(), u64> {
        let slot = self.seed.hash_one(who) as u16;
        self.limiter.check_key(&slot).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
        })
    }
}

/// The limits of the API.
pub struct Limits {
    callers: Buckets,
    addresses: Buckets,
    guesses: Buckets,
    guesses_of_all: Buckets,
    trusted_proxies: Vec<IpNet>,
}

impl Limits {
    /// `X-Forwarded-For` counts only from trusted proxies.
    pub fn new(caller: Rate, address: Rate, trusted_proxies: Vec<IpNet>) -> Self {
        Self {
            callers: Buckets::new(caller),
            addresses: Buckets::new(address),
            guesses: Buckets::new(GUESSES),
            guesses_of_all: Buckets::new(GUESSES_OF_ALL),
            trusted_proxies,
        }
    }

    /// Counts a password that `who` tries for the room with this uid.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn guess(&self, room_uid: &str, who: &Guesser<'_>) -> Result<(), Problem> {
        self.guesses.take(&(room_uid, who)).map_err(|seconds| too_many("caller for this room", seconds))?;
        self.guesses_of_all.take(&room_uid).map_err(|seconds| too_many("room", seconds))
    }

    /// Counts a request of an API key, a user of a room or a share link.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn caller(&self, who: &impl Hash) -> Result<(), Problem> {
        self.callers.take(who).map_err(|seconds| too_many("caller", seconds))
    }

    /// Counts a request of an address; of IPv6 the /64, since that is what one customer gets.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn address(&self, address: IpAddr) -> Result<(), Problem> {
        let network = match address {
            IpAddr::V4(v4) => (4, u64::from(v4.to_bits())),
            IpAddr::V6(v6) => (6, (v6.to_bits() >> 64) as u64),
        };
        self.addresses.take(&network).map_err(|seconds| too_many("address", seconds))
    }

    /// The address that asks: the peer, or what the nearest untrusted hop was to a trusted proxy.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| self.trusted_proxies.iter().any(|network| network.contains(&address));
        let mut client = peer.to_canonical();
        let hops = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.into_iter().rev() {
            if !is_trusted(client) {
                break;
            }
            let Ok(address) = hop.parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }
}

fn too_many(what: &str, seconds: u64) -> Problem {
    Problem::new(Code::RateLimited, format!("too many requests of this {what}")).retry_after(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again_and_others_are_not() {
        let limits = Limits::new(rate(1, 3), rate(1, 2), vec![]);
        for _ in 0..3 {
            limits.caller(&"ann").unwrap();
        }
        assert_eq!(limits.caller(&"ann").unwrap_err().code(), Code::RateLimited);
        limits.caller(&"bob").unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        limits.address(address("2001:db8::1")).unwrap();
        limits.address(address("2001:db8::2")).unwrap();
        assert!(limits.address(address("2001:db8::3")).is_err(), "one /64 is one customer");
        limits.address(address("2001:db8:0:1::1")).unwrap();
    }

    #[test]
    fn guesses_are_counted_for_each_room_and_who_guesses() {
        let limits = Limits::new(rate(1, 1), rate(1, 1), vec![]);
        let here = Guesser::Address("192.0.2.1".parse().unwrap());
        for _ in 0..30 {
            limits.guess("room-1", &here).unwrap();
        }
        assert_eq!(limits.guess("room-1", &here).unwrap_err().code(), Code::RateLimited);
        limits.guess("room-1", &Guesser::User("bob")).unwrap();
        limits.guess("room-2", &here).unwrap();
        let from = |n: u32| Guesser::Address(std::net::Ipv4Addr::from_bits(n).into());
        let refused = (0..1000).filter(|n| limits.guess("room-1", &from(*n)).is_err()).count();
        assert!((700..900).contains(&refused), "{refused}: many addresses do not make many guesses");
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let limits = Limits::new(rate(1, 1), rate(1, 1), vec!["10.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.0.0.2".parse().unwrap());
        let client = |peer: &str| limits.client(peer.parse().unwrap(), &headers).to_string();
        assert_eq!(client("10.0.0.1"), "7.7.7.7", "what the client wrote itself does not count");
        assert_eq!(client("8.8.8.8"), "8.8.8.8");
        headers.insert("x-forwarded-for", "nonsense".parse().unwrap());
        assert_eq!(limits.client("10.0.0.1".parse().unwrap(), &headers).to_string(), "10.0.0.1");
    }
}
