//! ICE lite (RFC 8445 §2.5): answers connectivity checks, remembers which tuples passed one, and follows
//! the client's nomination. Sends nothing by itself.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc::stun::error_code::CODE_ROLE_CONFLICT;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MESSAGE_HEADER_SIZE, Message, Setter, TransactionId,
};
use rtc::stun::xoraddr::XorMappedAddress;

use super::command::IceCredentials;
use super::stats::Drop;

/// No connectivity check is longer.
const MAX_STUN: usize = 1280;

/// Transactions remembered with the tuple that they came from: about a minute's worth.
const MAX_TRANSACTIONS: usize = 32;

/// How datagrams travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Each by itself.
    #[default]
    Udp,
    /// Framed, on a connection that the client has opened (RFC 6544, RFC 4571).
    Tcp,
}

/// Both ends of a path. The local port is the event loop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub protocol: Protocol,
    pub local: IpAddr,
    pub remote: SocketAddr,
}

/// A binding request, well-formed but not authenticated.
pub(crate) struct Check {
    message: Message,
    username: String,
    /// The client nominates this pair.
    pub use_candidate: bool,
    /// The client believes to be controlled, which only we can be.
    controlled: bool,
}

impl Check {
    /// # Errors
    ///
    /// Why the datagram is not a connectivity check.
    pub fn parse(datagram: &[u8]) -> Result<Self, Drop> {
        if datagram.len() > MAX_STUN {
            return Err(Drop::MalformedStun);
        }
        let mut message = Message::new();
        message.unmarshal_binary(datagram).map_err(|_| Drop::MalformedStun)?;
        // Trailing bytes would be outside of what FINGERPRINT and MESSAGE-INTEGRITY cover.
        if message.raw.len() != MESSAGE_HEADER_SIZE + message.length as usize {
            return Err(Drop::MalformedStun);
        }
        if message.typ != BINDING_REQUEST {
            return Err(Drop::StunNotRequest);
        }
        if message.attributes.0.last().is_none_or(|a| a.typ != ATTR_FINGERPRINT) || FINGERPRINT.check(&message).is_err()
        {
            return Err(Drop::MalformedStun);
        }
        let mut check = Self { message, username: String::new(), use_candidate: false, controlled: false };
        // Only what precedes MESSAGE-INTEGRITY is authenticated (RFC 8489 §14.5).
        for attribute in &check.message.attributes.0 {
            match attribute.typ {
                ATTR_MESSAGE_INTEGRITY => break,
                ATTR_USE_CANDIDATE => check.use_candidate = true,
                ATTR_ICE_CONTROLLED => check.controlled = true,
                ATTR_USERNAME => match std::str::from_utf8(&attribute.value) {
                    Ok(username) => check.username = username.to_owned(),
                    Err(_) => return Err(Drop::MalformedStun),
                },
                _ => {}
            }
        }
        Ok(check)
    }

    /// Our half of USERNAME (RFC 8445 §7.2.2: the receiver's comes first).
    pub fn local_ufrag(&self) -> &str {
        self.username.split_once(':').map_or("", |(local, _)| local)
    }

    pub fn transaction(&self) -> TransactionId {
        self.message.transaction_id
    }

    /// Checks MESSAGE-INTEGRITY with our password.
    pub fn is_authentic(&mut self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }

    /// Whether the roles conflict: 487 tells the client to become the controlling side (RFC 8445 §7.3.1.1).
    pub fn role_conflict(&self) -> bool {
        self.controlled
    }

    /// The answer: success with the client's address, or 487.
    pub fn answer(&self, remote: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
        let mut response = Message::new();
        let kind = if self.role_conflict() { BINDING_ERROR } else { BINDING_SUCCESS };
        let content: Box<dyn Setter> = if self.role_conflict() {
            Box::new(CODE_ROLE_CONFLICT)
        } else {
            Box::new(XorMappedAddress { ip: remote.ip(), port: remote.port() })
        };
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        response
            .build(&[
                Box::new(kind),
                Box::new(self.message.transaction_id),
                content,
                Box::new(integrity),
                Box::new(FINGERPRINT),
            ])
            .ok()?;
        Some(response.raw)
    }
}

#[derive(Clone, Copy, Debug)]
struct Validated {
    tuple: Tuple,
    last_check: Instant,
}

/// The ICE state of one transport.
#[derive(Debug)]
pub(crate) struct Ice {
    current: IceCredentials,
    /// Credentials after a restart that the client has not used yet; `current` stays valid until then.
    next: Option<IceCredentials>,
    tuples: Vec<Validated>,
    selected: Option<Tuple>,
    nominated: bool,
    /// Newest last.
    transactions: VecDeque<(TransactionId, Tuple)>,
}

impl Ice {
    pub fn new(credentials: IceCredentials) -> Self {
        Self {
            current: credentials,
            next: None,
            tuples: Vec::new(),
            selected: None,
            nominated: false,
            transactions: VecDeque::new(),
        }
    }

    /// The ufrags that lead to this transport.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.next).map(|c| c.ufrag.as_str())
    }

    pub fn password(&self, ufrag: &str) -> Option<&str> {
        std::iter::once(&self.current).chain(&self.next).find(|c| c.ufrag == ufrag).map(|c| c.password.as_str())
    }

    /// Adds the credentials of a restart. Returns a ufrag that is no longer valid: one of a restart that
    /// the client never took up.
    pub fn restart(&mut self, credentials: IceCredentials) -> Option<String> {
        self.next.replace(credentials).map(|unused| unused.ufrag)
    }

    /// After an authentic check with `ufrag`: if it is the new one, the old one is over and returned.
    pub fn adopt(&mut self, ufrag: &str) -> Option<String> {
        let next = self.next.take_if(|next| next.ufrag == ufrag)?;
        self.nominated = false;
        Some(std::mem::replace(&mut self.current, next).ufrag)
    }

    /// Notes the transaction of an authentic check. `false` if it came from another tuple before: whoever
    /// repeats a client's check from elsewhere is not the client.
    pub fn note(&mut self, transaction: TransactionId, tuple: Tuple) -> bool {
        if let Some((_, from)) = self.transactions.iter().find(|(known, _)| *known == transaction) {
            return *from == tuple;
        }
        if self.transactions.len() == MAX_TRANSACTIONS {
            self.transactions.pop_front();
        }
        self.transactions.push_back((transaction, tuple));
        true
    }

    /// A tuple passed a check. Returns the tuple that had to make room.
    pub fn validate(&mut self, tuple: Tuple, nominate: bool, now: Instant, max: usize) -> Option<Tuple> {
        let mut evicted = None;
        if let Some(known) = self.tuples.iter_mut().find(|v| v.tuple == tuple) {
            known.last_check = now;
        } else {
            if self.tuples.len() >= max {
                let oldest = (0..self.tuples.len())
                    .filter(|i| Some(self.tuples[*i].tuple) != self.selected)
                    .min_by_key(|i| self.tuples[*i].last_check);
                evicted = oldest.map(|i| self.tuples.remove(i).tuple);
            }
            self.tuples.push(Validated { tuple, last_check: now });
        }
        // Until the client nominates, answers go where its last check came from.
        if nominate || !self.nominated {
            self.selected = Some(tuple);
            self.nominated |= nominate;
        }
        evicted
    }

    /// Where to send.
    pub fn selected(&self) -> Option<Tuple> {
        self.selected
    }

    /// Whether the client has chosen where to send to.
    pub fn is_nominated(&self) -> bool {
        self.nominated
    }

    /// When consent to send to the selected tuple ends (RFC 7675 §5.1). If it has ended, the tuple checked
    /// last takes its place; `None` if consent to that has ended, too.
    pub fn consent(&mut self, now: Instant, timeout: Duration) -> Option<Instant> {
        let expires = |v: &Validated| Some(v.last_check + timeout).filter(|at| now < *at);
        let selected = self.tuples.iter().find(|v| Some(v.tuple) == self.selected);
        if let Some(at) = selected.and_then(expires) {
            return Some(at);
        }
        // The client's choice is over; where it checks next is where it is.
        self.nominated = false;
        let freshest = self.tuples.iter().max_by_key(|v| v.last_check)?;
        let at = expires(freshest)?;
        self.selected = Some(freshest.tuple);
        Some(at)
    }

    /// Whether the tuple had a check within `age`.
    pub fn is_fresh(&self, tuple: Tuple, now: Instant, age: Duration) -> bool {
        self.tuples.iter().any(|v| v.tuple == tuple && now.saturating_duration_since(v.last_check) < age)
    }

    pub fn forget(&mut self, tuple: Tuple) {
        self.tuples.retain(|v| v.tuple != tuple);
        if self.selected == Some(tuple) {
            self.selected = self.tuples.iter().max_by_key(|v| v.last_check).map(|v| v.tuple);
            self.nominated = false;
        }
    }

    pub fn tuples(&self) -> impl Iterator<Item = Tuple> + '_ {
        self.tuples.iter().map(|v| v.tuple)
    }
}
