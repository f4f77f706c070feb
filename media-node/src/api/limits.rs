//! How often a token's subject and an address may ask: token buckets in bounded tables.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::Response,
};

use super::{Api, Problem};
use crate::{rooms::Access, system};

/// Subjects and addresses that are told apart. When a table is full, those with a full bucket are
/// forgotten (it makes no difference to them), and if none is, newcomers are refused.
const MAX_ENTRIES: usize = 16_384;

/// Requests per second in the long run, and at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Refill per second; zero means no limit.
    pub per_second: f64,
    /// Size of the bucket.
    pub burst: f64,
}

/// An address range, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not an address or address/prefix");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| invalid()))?;
        if prefix > longest {
            return Err(invalid());
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// Whether the range holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 4),
            IpAddr::V6(v6) => (v6.to_bits(), 6),
        };
        let ((own, family), (other, other_family)) = (bits(self.address), bits(address.to_canonical()));
        family == other_family && (own ^ other).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
    }
}

/// The limits of the API.
pub struct Limits {
    subjects: Buckets<(String, String)>,
    addresses: Buckets<IpAddr>,
    trusted_proxies: Vec<Network>,
}

impl Limits {
    /// Rates per token subject and per address. `X-Forwarded-For` counts only from trusted proxies.
    pub fn new(subject: Rate, address: Rate, trusted_proxies: Vec<Network>) -> Self {
        Self { subjects: Buckets::new(subject), addresses: Buckets::new(address), trusted_proxies }
    }

    /// Counts a request of a token's subject.
    pub(super) fn subject(&self, access: &Access, now: Instant) -> Result<(), Problem> {
        let key = (access.room.to_string(), access.user.clone());
        self.subjects.take(key, now).map_err(|seconds| too_many("subject", seconds))
    }

    fn address(&self, peer: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Problem> {
        self.addresses.take(self.client(peer, headers), now).map_err(|seconds| too_many("address", seconds))
    }

    /// The address that asks: the peer, or what the nearest untrusted hop was to a trusted proxy.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| self.trusted_proxies.iter().any(|network| network.contains(address));
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
    let detail = format!("too many requests of this {what}");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail).retry_after(seconds)
}

pub(super) async fn per_address(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    api.limits.address(peer.ip(), request.headers(), system::now())?;
    Ok(next.run(request).await)
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Buckets<K> {
    rate: Rate,
    entries: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, entries: Mutex::new(HashMap::new()) }
    }

    /// Takes one token, or says after how many seconds there will be one.
    fn take(&self, key: K, now: Instant) -> Result<(), u64> {
        let Rate { per_second, burst } = self.rate;
        if per_second <= 0.0 {
            return Ok(());
        }
        let refilled = |bucket: &Bucket| {
            (bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * per_second).min(burst)
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            entries.retain(|_, bucket| refilled(bucket) < burst);
            if entries.len() >= MAX_ENTRIES {
                return Err(1);
            }
        }
        let bucket = entries.entry(key).or_insert(Bucket { tokens: burst, at: now });
        bucket.tokens = refilled(bucket);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(((1.0 - bucket.tokens) / per_second).ceil().max(1.0) as u64);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_bucket_empties_says_when_to_come_again_and_refills() {
        let buckets = Buckets::new(Rate { per_second: 2.0, burst: 3.0 });
        let start = system::now();
        let asked: Vec<_> = (0..4).map(|_| buckets.take("a", start)).collect();
        assert_eq!(asked, [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!(buckets.take("b", start), Ok(()), "others have their own");
        assert_eq!(buckets.take("a", start + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn a_full_table_forgets_only_those_who_lose_nothing() {
        let buckets = Buckets::new(Rate { per_second: 1.0, burst: 1.0 });
        let start = system::now();
        for key in 0..MAX_ENTRIES {
            buckets.take(key, start).unwrap();
        }
        assert_eq!(buckets.take(MAX_ENTRIES, start), Err(1));
        assert_eq!(buckets.take(MAX_ENTRIES, start + Duration::from_secs(1)), Ok(()));
        assert_eq!(buckets.entries.lock().unwrap().len(), 1);
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
        ] {
            assert_eq!(network(range).contains(address.parse().unwrap()), holds, "{range} {address}");
        }
        for text in ["", "10.0.0.0/33", "ten", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let none = Rate { per_second: 0.0, burst: 0.0 };
        let limits = Limits::new(none, none, vec![network("10.0.0.0/8")]);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.0.0.2".parse().unwrap());
        let client = |peer: &str| limits.client(peer.parse().unwrap(), &headers).to_string();
        assert_eq!(client("10.0.0.1"), "7.7.7.7", "what the client wrote itself does not count");
        assert_eq!(client("8.8.8.8"), "8.8.8.8");
    }
}
