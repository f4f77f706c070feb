//! How much memory somebody else keeps alive for us, to the byte of what it was lent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A sum of loans. What is lent counts until its last reference is gone, whoever holds it and however it
/// was cut up: the queues of `rtc::sctp` cannot be looked into, but what they hold can be counted.
#[derive(Debug, Default)]
pub(super) struct Ledger(Arc<AtomicUsize>);

struct Loan<T> {
    bytes: T,
    cost: usize,
    ledger: Arc<AtomicUsize>,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Loan<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        self.ledger.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

impl Ledger {
    /// What is lent and not given back.
    pub fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The bytes, at this cost for as long as any part of them is referred to.
    pub fn lend(&self, bytes: impl AsRef<[u8]> + Send + 'static, cost: usize) -> Bytes {
        self.0.fetch_add(cost, Ordering::Relaxed);
        Bytes::from_owner(Loan { bytes, cost, ledger: self.0.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_counts_until_its_last_part_is_gone() {
        let ledger = Ledger::default();
        let whole = ledger.lend(vec![1, 2, 3, 4], 100);
        let part = whole.slice(1..2);
        drop(whole);
        assert_eq!((ledger.held(), &part[..]), (100, &[2][..]));
        let other = ledger.lend(Bytes::from_static(b"x"), 7);
        drop(part);
        assert_eq!(ledger.held(), 7);
        drop(other);
        assert_eq!(ledger.held(), 0);
    }
}
