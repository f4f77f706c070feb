//! What a fuzzer feeds: each target takes arbitrary bytes and panics only if a promise is broken.
//!
//! Built with the feature `fuzzing` only; `media-node/fuzz` runs them with libFuzzer.

mod association;
mod calls;
mod feedback;
mod parsers;
mod requests;
mod tokens;

/// One entry for arbitrary bytes.
pub struct Target {
    /// As `make fuzz` and the folders of its corpora call it.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub run: fn(&[u8]),
}

/// Everything that reads from the network.
pub const TARGETS: &[Target] = &[
    Target { name: "datagrams", run: calls::datagrams },
    Target { name: "member", run: calls::member },
    Target { name: "association", run: association::association },
    Target { name: "feedback", run: feedback::feedback },
    Target { name: "stun", run: parsers::stun },
    Target { name: "rtp", run: parsers::rtp },
    Target { name: "payloads", run: parsers::payloads },
    Target { name: "parameters", run: parsers::parameters },
    Target { name: "sdp", run: parsers::sdp },
    Target { name: "requests", run: requests::requests },
    Target { name: "tokens", run: tokens::tokens },
    Target { name: "frames", run: parsers::frames },
];

/// Splits the bytes into records of `kind: u8, length: u16, content`; the last may be cut short.
fn records(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, l0, l1], rest) = data.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1])).min(rest.len());
        let (content, rest) = rest.split_at(len);
        data = rest;
        Some((kind, content))
    })
}
