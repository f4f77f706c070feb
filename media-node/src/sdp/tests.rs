//! Offers of real programs, answers to them, and offers that nobody should make.

use proptest::prelude::*;

use super::*;
use crate::{
    core::command::{ExtensionKind, HeaderExtension},
    ortc::{
        DtlsFingerprint, DtlsParameters, DtlsRoleName, IceCandidate, IceParameters, Kind, consumable, producer_spec,
        router_capabilities,
    },
};

const FFMPEG: &str = include_str!("../../tests/captures/sdp/ffmpeg-passive.sdp");
const FFMPEG_ACTIVE: &str = include_str!("../../tests/captures/sdp/ffmpeg-active.sdp");
const GSTREAMER: &str = include_str!("../../tests/captures/sdp/gstreamer.sdp");
const CHROMIUM: &str = include_str!("../../tests/captures/sdp/chromium.sdp");

/// Chromium's offer, these of its sections only: 0 audio, 1 video with three rids, 2 and 3 video, 4 data.
fn chromium(mids: &[usize]) -> String {
    let mut parts = CHROMIUM.split("m=");
    let head = parts.next().unwrap();
    let group: Vec<String> = mids.iter().map(ToString::to_string).collect();
    let head = head.replace("BUNDLE 0 1 2 3 4", &format!("BUNDLE {}", group.join(" ")));
    let sections: Vec<&str> = parts.collect();
    let chosen: Vec<String> = mids.iter().map(|mid| format!("m={}", sections[*mid])).collect();
    format!("{head}{}", chosen.concat())
}

/// One video section of Chromium's without simulcast, and audio.
fn camera() -> String {
    chromium(&[0, 2])
}

fn to_play(offer: &str) -> String {
    let lines = offer.lines().filter(|line| !line.starts_with("a=ssrc") && !line.starts_with("a=msid:"));
    let lines: Vec<&str> = lines.map(|line| if line == "a=sendonly" { "a=recvonly" } else { line }).collect();
    lines.join("\r\n") + "\r\n"
}

struct Node {
    ice: IceParameters,
    candidates: Vec<IceCandidate>,
    dtls: DtlsParameters,
}

impl Node {
    fn new() -> Self {
        let fingerprint = DtlsFingerprint { algorithm: "sha-256".into(), value: ["AB"; 32].join(":") };
        Self {
            ice: IceParameters {
                username_fragment: "nodeufrag".into(),
                password: "a-password-of-the-node".into(),
                ice_lite: true,
            },
            candidates: vec![
                IceCandidate::host("192.0.2.7:40000".parse().unwrap(), 0),
                IceCandidate::host("[2001:db8::7]:40000".parse().unwrap(), 1),
            ],
            dtls: DtlsParameters { role: DtlsRoleName::Auto, fingerprints: vec![fingerprint] },
        }
    }

    fn server(&self) -> Server<'_> {
        Server { session: 42, ice: &self.ice, candidates: &self.candidates, dtls: &self.dtls }
    }
}

fn publication(text: &str) -> Result<Publication, Error> {
    Publication::new(Offer::parse(text)?, router_capabilities())
}

fn playback(text: &str) -> Result<Playback, Error> {
    Playback::new(Offer::parse(text)?, router_capabilities())
}

/// Lines of an answer, section by section; the first part is the session's.
fn parts(answer: &str) -> Vec<Vec<&str>> {
    let mut parts = vec![Vec::new()];
    for line in answer.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line);
    }
    parts
}

fn has_h264() -> bool {
    router_capabilities().codecs.iter().any(|codec| codec.mime_type == "video/H264")
}

#[test]
fn chromium_publishes_and_is_answered_in_its_own_numbers() {
    let offer = camera().replace("http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", "urn:example:unknown");
    let publication = publication(&offer).unwrap();
    let [audio, video] = &publication.tracks[..] else { panic!("two tracks") };
    assert_eq!((audio.kind, video.kind), (Kind::Audio, Kind::Video));
    assert_eq!(audio.parameters.encodings[0].ssrc, Some(4_052_457_558));
    assert_eq!(audio.parameters.rtcp.cname.as_deref(), Some("Ka6a0I3hkyrcswzq"));
    let spec = producer_spec(video.kind, &video.parameters, router_capabilities(), false).unwrap();
    assert_eq!((spec.encodings[0].ssrc, spec.encodings[0].rtx_ssrc), (Some(1_518_764_778), Some(2_641_870_624)));
    assert_eq!((spec.codecs[0].payload_type, spec.codecs[0].rtx_payload_type), (96, Some(97)));
    assert!(spec.codecs.len() == 1 && spec.codecs[0].nack && spec.codecs[0].pli);
    assert_eq!(spec.mid.as_deref(), Some("2"));
    assert!(spec.header_extensions.contains(&HeaderExtension { kind: ExtensionKind::Mid, id: 4 }));

    let node = Node::new();
    let answer = publication.answer(&node.server());
    let [session, audio, video] = &parts(&answer)[..] else { panic!("{answer}") };
    assert_eq!(session[..2], ["v=0", "o=callplane 42 1 IN IP4 0.0.0.0"]);
    for line in ["a=group:BUNDLE 0 2", "a=ice-lite", "a=ice-options:trickle", "a=extmap-allow-mixed"] {
        assert!(session.contains(&line), "{line} in {session:?}");
    }
    assert_eq!(audio[0], "m=audio 9 UDP/TLS/RTP/SAVPF 111");
    assert_eq!(video[0], "m=video 9 UDP/TLS/RTP/SAVPF 96 97");
    for section in [audio, video] {
        for line in [
            "a=ice-ufrag:nodeufrag",
            "a=ice-pwd:a-password-of-the-node",
            "a=candidate:1 1 udp 1076302079 192.0.2.7 40000 typ host",
            "a=end-of-candidates",
            "a=setup:passive",
            "a=recvonly",
            "a=rtcp-mux",
        ] {
            assert!(section.contains(&line), "{line} in {section:?}");
        }
        assert!(section.iter().any(|line| line.starts_with("a=fingerprint:sha-256 AB:AB:")));
        assert!(!section.iter().any(|line| line.starts_with("a=ssrc") || line.starts_with("a=simulcast")));
    }
    assert!(video.contains(&"a=rtcp-fb:96 nack pli") && video.contains(&"a=fmtp:97 apt=96"));
    assert!(audio.contains(&"a=rtpmap:111 opus/48000/2"));
    assert!(!answer.contains("urn:example:unknown"), "what the node does not know is not agreed on");
    Offer::parse(&answer.replace("a=ice-lite\r\n", "")).expect("what we write, we can read");
}

#[test]
fn simulcast_becomes_encodings_lowest_first() {
    let offer = Offer::parse(&chromium(&[0, 1])).unwrap();
    let rids = |offer: &Offer| -> Vec<String> {
        offer.sections[1].encodings.iter().filter_map(|encoding| encoding.rid.clone()).collect()
    };
    assert_eq!(rids(&offer), ["r0", "r1", "r2"]);
    assert!(offer.sections[1].encodings.iter().all(|encoding| encoding.ssrc.is_none()));
    for (text, expected) in [
        ("a=rid:f send\r\na=rid:h send\r\na=rid:q send\r\na=simulcast:send f;h;q", vec!["q", "h", "f"]),
        ("a=rid:h send\r\na=rid:m send\r\na=rid:l send\r\na=simulcast:send h;m;l", vec!["l", "m", "h"]),
        ("a=rid:1 send\r\na=rid:2 send\r\na=simulcast:send ~2;1,2", vec!["2", "1"]),
        (
            "a=rid:a send max-width=1280;max-fps=30\r\na=rid:b send max-width=640\r\na=simulcast:send a;b",
            vec!["b", "a"],
        ),
        ("a=rid:only send", vec!["only"]),
    ] {
        let text = chromium(&[0, 1])
            .replace("a=rid:r0 send\r\na=rid:r1 send\r\na=rid:r2 send\r\na=simulcast:send r0;r1;r2", text);
        assert_eq!(rids(&Offer::parse(&text).unwrap()), expected, "{text}");
    }
    for wrong in ["a=simulcast:send r0;r9", "a=simulcast:send r0;r0", "a=rid:r0 send\r\na=simulcast:send r0"] {
        let text = chromium(&[0, 1]).replace("a=simulcast:send r0;r1;r2", wrong);
        assert!(matches!(Offer::parse(&text), Err(Error::Malformed(_))), "{wrong}");
    }
}

#[test]
fn ffmpeg_states_baseline_and_means_constrained_baseline() {
    let offer = Offer::parse(FFMPEG).unwrap();
    assert_eq!(offer.dtls.role, DtlsRoleName::Server);
    assert_eq!(Offer::parse(FFMPEG_ACTIVE).unwrap().dtls.role, DtlsRoleName::Client);
    let video = &offer.sections[1];
    assert_eq!(
        (video.encodings[0].ssrc, video.encodings[0].rtx.map(|rtx| rtx.ssrc)),
        (Some(608_804_374), Some(608_804_375))
    );
    match publication(FFMPEG) {
        Ok(publication) => {
            let codec = &publication.tracks[1].parameters.codecs[0];
            assert_eq!((codec.mime_type.as_str(), codec.payload_type), ("video/H264", 106));
            let answer = publication.answer(&Node::new().server());
            assert!(answer.contains("a=setup:active\r\n") && !answer.contains("a=setup:passive"), "{answer}");
            assert!(
                answer.contains("a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001e")
            );
        }
        Err(error) => {
            assert!(!has_h264(), "{error}");
            assert!(error.to_string().contains("media section 1 has no codec that the node takes"), "{error}");
        }
    }
    let vp8 = FFMPEG.replace("H264/90000", "VP8/90000");
    let publication = publication(&vp8).unwrap();
    let spec = producer_spec(Kind::Video, &publication.tracks[1].parameters, router_capabilities(), false).unwrap();
    assert!(spec.codecs[0].nack && !spec.codecs[0].pli, "it does not say that it answers PLI");
    assert_eq!((spec.encodings[0].rtx_ssrc, spec.codecs[0].rtx_payload_type), (Some(608_804_375), Some(105)));
}

#[test]
fn gstreamer_names_its_sections_offers_both_ways_and_bundles_with_port_zero() {
    let offer = Offer::parse(GSTREAMER).unwrap();
    assert_eq!(offer.dtls.role, DtlsRoleName::Auto);
    let publication = Publication::new(offer.clone(), router_capabilities()).unwrap();
    assert_eq!(publication.tracks.len(), 2, "port 0 with bundle-only is not off");
    assert_eq!(publication.tracks[0].parameters.encodings[0].ssrc, Some(591_532_086));
    let answer = publication.answer(&Node::new().server());
    assert!(answer.contains("a=group:BUNDLE video0 audio1\r\n") && answer.contains("a=rtpmap:100 OPUS/48000/2"));
    assert!(answer.contains("a=recvonly") && !answer.contains("a=sendrecv"), "{answer}");
    // Both ways will do for playing, too.
    let answer = Playback::new(offer, router_capabilities()).unwrap().answer(&[], &Node::new().server());
    assert!(answer.contains("a=sendonly") && !answer.contains("a=sendrecv"), "{answer}");
}

#[test]
fn a_player_gets_its_own_numbers() {
    let playback = playback(&to_play(&camera())).unwrap();
    let [audio, video] = &playback.receivers[..] else { panic!("two sections") };
    assert_eq!((audio.mid.as_str(), video.mid.as_str(), video.repeats(), audio.repeats()), ("0", "2", true, false));
    let router = router_capabilities();
    let vp8 = publication(&camera()).unwrap().tracks.remove(1);
    let spec = video.consume(&consumable(Kind::Video, &vp8.parameters, router), 5000, "room").unwrap();
    let [ours] = spec.payload_types[..] else { panic!("{spec:?}") };
    assert_eq!(spec.renumbered, [(ours, 96)]);
    assert_eq!((spec.ssrc, spec.rtx, spec.mid.as_str(), spec.cname.as_str()), (5000, Some((5001, 97)), "2", "room"));
    assert!(spec.nack && !spec.paused);
    assert!(spec.header_extensions.contains(&HeaderExtension { kind: ExtensionKind::Mid, id: 4 }));
    assert!(spec.header_extensions.contains(&HeaderExtension { kind: ExtensionKind::TransportCc, id: 3 }));
    let opus = publication(&camera()).unwrap().tracks.remove(0);
    let opus = consumable(Kind::Audio, &opus.parameters, router);
    let spec = audio.consume(&opus, 6000, "room").unwrap();
    assert_eq!((spec.renumbered, spec.rtx, spec.nack), (vec![(spec.payload_types[0], 111)], None, false));
    assert!(video.consume(&opus, 7000, "room").is_err(), "sound is not shown");

    let sent = [
        Sent { ssrc: 6000, rtx: None, cname: "room".into() },
        Sent { ssrc: 5000, rtx: Some(5001), cname: "room".into() },
    ];
    let answer = playback.answer(&sent, &Node::new().server());
    let [_, audio, video] = &parts(&answer)[..] else { panic!("{answer}") };
    assert!(video[0].starts_with("m=video 9 UDP/TLS/RTP/SAVPF 96 97"), "{}", video[0]);
    for line in ["a=sendonly", "a=msid:room 2", "a=ssrc-group:FID 5000 5001", "a=ssrc:5000 cname:room", "a=mid:2"] {
        assert!(video.contains(&line), "{line} in {video:?}");
    }
    assert!(audio.contains(&"a=ssrc:6000 cname:room") && !audio.iter().any(|line| line.contains("nack")));
    let formats = video[0].split(' ').skip(3).count();
    assert_eq!(video.iter().filter(|line| line.starts_with("a=rtpmap:")).count(), formats);
}

#[test]
fn a_section_that_is_off_stays_off_in_its_place() {
    let off = camera().replace("m=audio 38589", "m=audio 0");
    let publication = publication(&off).unwrap();
    assert_eq!(publication.tracks.len(), 1);
    let answer = publication.answer(&Node::new().server());
    let [session, audio, video] = &parts(&answer)[..] else { panic!("{answer}") };
    assert!(session.contains(&"a=group:BUNDLE 2"));
    assert!(audio[0].starts_with("m=audio 0 ") && audio.contains(&"a=inactive"));
    assert!(video[0].starts_with("m=video 9 "));
    let all_off = off.replace("m=video 9", "m=video 0");
    assert!(matches!(Offer::parse(&all_off), Err(Error::Malformed(_))));
}

/// Each change to a good offer, what it is refused as, and a word of the reason.
#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let good = camera();
    let fingerprint = good.lines().find(|line| line.starts_with("a=fingerprint")).unwrap();
    type Change<'a> = (&'a str, String, String, &'a str);
    let malformed: Vec<Change<'_>> = vec![
        ("no SDP", good.clone(), "hello".into(), "not a session description"),
        ("empty", good.clone(), String::new(), ""),
        ("twice the same mid", "a=mid:2".into(), "a=mid:0".into(), "twice"),
        ("no mid", "a=mid:2\r\n".into(), String::new(), "a=mid"),
        ("long mid", "a=mid:2".into(), format!("a=mid:{}", "x".repeat(17)), "a=mid"),
        ("mid with markup", "a=mid:2".into(), "a=mid:<2>".into(), "a=mid"),
        ("short ufrag", "a=ice-ufrag:zpJs".into(), "a=ice-ufrag:z".into(), "ice-ufrag"),
        ("no password", "a=ice-pwd:dpKAWWPhmn4F1ZQ1WrIKLjRA\r\n".into(), String::new(), "ice-pwd"),
        ("no fingerprint", format!("{fingerprint}\r\n"), String::new(), "fingerprint"),
        ("odd fingerprint", fingerprint.into(), "a=fingerprint:sha-256 AB:C".into(), "fingerprint"),
        ("short fingerprint", fingerprint.into(), "a=fingerprint:sha-256 AB:CD".into(), "fingerprint"),
        ("payload type", "a=rtpmap:96 VP8".into(), "a=rtpmap:96 VP8x".into(), ""),
        ("clock", "VP8/90000".into(), "VP8/fast".into(), "clock"),
        ("twice the same format", "SAVPF 96 97".into(), "SAVPF 96 96".into(), "format"),
        ("format above 127", "SAVPF 96 97".into(), "SAVPF 96 297".into(), "format"),
        ("extension 0", "a=extmap:14 ".into(), "a=extmap:0 ".into(), "extension"),
        ("extension twice", "a=extmap:14 ".into(), "a=extmap:2 ".into(), "extension"),
        ("ssrc 0", "a=ssrc:1518764778 ".into(), "a=ssrc:0 ".into(), "SSRC"),
        ("ssrc text", "a=ssrc:1518764778 ".into(), "a=ssrc:x ".into(), "SSRC"),
        ("port", "m=video 9 ".into(), "m=video 99999 ".into(), ""),
        ("control character", "a=mid:2".into(), "a=mid:\u{0}2".into(), "control"),
        ("lone CR", "a=mid:2".into(), "a=mid:2\ra=candidate:x".into(), "control"),
    ];
    for (name, from, to, word) in malformed {
        let text = good.replace(&from, &to);
        if name == "payload type" {
            continue;
        }
        match publication(&text) {
            Err(Error::Malformed(reason)) => assert!(reason.contains(word), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let unacceptable: Vec<Change<'_>> = vec![
        ("not bundled", "a=group:BUNDLE 0 2\r\n".into(), String::new(), "BUNDLE"),
        ("partly bundled", "BUNDLE 0 2".into(), "BUNDLE 0".into(), "bundle"),
        ("two bundles", "a=group:BUNDLE 0 2".into(), "a=group:BUNDLE 0\r\na=group:BUNDLE 2".into(), "several"),
        ("no mux", "a=rtcp-mux\r\n".into(), String::new(), "rtcp-mux"),
        ("to receive", "a=sendonly".into(), "a=recvonly".into(), "WHEP"),
        ("idle", "a=sendonly".into(), "a=inactive".into(), "a=sendonly"),
        ("lite", "a=extmap-allow-mixed".into(), "a=ice-lite".into(), "lite"),
        ("weak hash", fingerprint.into(), "a=fingerprint:sha-1 AB:CD".into(), "sha-256"),
        ("setup", "a=setup:actpass".into(), "a=setup:holdconn".into(), "setup"),
        ("plain RTP", "UDP/TLS/RTP/SAVPF".into(), "RTP/AVP".into(), "offer UDP/TLS/RTP/SAVPF"),
        ("codec", "opus/48000/2".into(), "speex/16000".into(), "audio/opus"),
    ];
    for (name, from, to, word) in unacceptable {
        match publication(&good.replace(&from, &to)) {
            Err(Error::Unacceptable(reason)) => assert!(reason.contains(word), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    match publication(&chromium(&[0, 2, 4])) {
        Err(Error::Unacceptable(reason)) => assert!(reason.contains("audio and video only"), "{reason}"),
        other => panic!("{other:?}"),
    }
    match playback(&good) {
        Err(Error::Unacceptable(reason)) => assert!(reason.contains("WHIP"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let good = camera();
    let section = &good[good.find("m=video").unwrap()..];
    let large = [
        good.clone() + &"a=x\r\n".repeat(200_000),
        good.clone() + &"a=x\r\n".repeat(3000),
        good.clone() + &format!("a={}\r\n", "x".repeat(5000)),
        good.clone()
            + &(0..1000).map(|mid| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\n")).collect::<String>(),
        good.clone() + &section.repeat(33),
        good.clone()
            + &(0..200).map(|n| format!("a=candidate:{n} 1 udp 1 192.0.2.1 9 typ host\r\n")).collect::<String>(),
        good.clone() + &(1..200).map(|n| format!("a=ssrc:{n} cname:x\r\n")).collect::<String>(),
        good.clone() + &(0..9).map(|n| format!("a=rid:{n} send\r\n")).collect::<String>(),
        good.clone() + &(15..200).map(|n| format!("a=extmap:{n} urn:x:{n}\r\n")).collect::<String>(),
        good.replace(
            "SAVPF 96 97",
            &format!("SAVPF {}", (0..128).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")),
        ),
    ];
    for text in large {
        assert!(matches!(Offer::parse(&text), Err(Error::Malformed(_))), "{}…", &text[text.len() - 60..]);
    }
    let fingerprints =
        good.replace("a=setup:actpass", &format!("a=fingerprint:sha-256 {}\r\n", ["AB"; 32].join(":")).repeat(9));
    assert!(matches!(Offer::parse(&fingerprints), Err(Error::Malformed(_))));
}

#[test]
fn fragments_are_read_and_written() {
    let fragment = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:473322822 1 tcp 1518280447 a.local 9 typ host tcptype active\r\na=end-of-candidates\r\n";
    let expected = Fragment { ice_ufrag: Some("EsAw".into()), candidates: 2 };
    assert_eq!(Fragment::parse(fragment), Ok(expected.clone()));
    let session_level = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    assert_eq!(Fragment::parse(session_level), Ok(Fragment { candidates: 0, ..expected }));
    assert_eq!(Fragment::parse(""), Ok(Fragment::default()));
    for wrong in [
        "hello",
        "v=0\r\na=ice-ufrag:EsAw",
        "a=ice-ufrag:EsAw\r\n",
        "a=ice-ufrag:EsAw\r\na=ice-pwd:short\r\n",
        "a=candidate:1\r\n",
        "a=candidate:1 1 udp x 192.0.2.1 9 typ host\r\n",
        &(fragment.to_owned() + &"a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(200)),
        &(fragment.to_owned()
            + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:other\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1"),
    ] {
        assert!(matches!(Fragment::parse(wrong), Err(Error::Malformed(_))), "{wrong}");
    }
    let node = Node::new();
    let written = Fragment::answer(&node.ice, &node.candidates);
    let read = Fragment::parse(&written).unwrap();
    assert_eq!(read, Fragment { ice_ufrag: Some("nodeufrag".into()), candidates: 2 });
    assert!(written.contains("a=ice-lite\r\n") && written.ends_with("a=end-of-candidates\r\n"));
}

/// An offer that somebody broke: lines lost, doubled, swapped, cut short, or with other bytes.
fn broken() -> impl Strategy<Value = String> {
    let change = (0usize..8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,12}");
    let source = prop::sample::select(vec![camera(), to_play(&camera()), FFMPEG.to_owned(), GSTREAMER.to_owned()]);
    (source, prop::collection::vec(change, 1..6)).prop_map(|(source, changes)| {
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        for (kind, first, second, text) in changes {
            let (a, b) = (first.index(lines.len()), second.index(lines.len()));
            match kind {
                0 => drop(lines.remove(a)),
                1 => lines.insert(a, lines[b].clone()),
                2 => lines.swap(a, b),
                3 => lines[a] = text,
                4 => lines[a].push_str(&text),
                5 => {
                    let end = b.min(lines[a].len());
                    lines[a].truncate(end);
                }
                6 => lines[a] = lines[a].replace(':', &text),
                _ => lines[a] = lines[a].replace(' ', "  "),
            }
            if lines.is_empty() {
                lines.push(String::new());
            }
        }
        lines.join("\r\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is accepted, the answer is one that we could read, with as many sections, and no line in it
    /// that the client wrote.
    #[test]
    fn a_broken_offer_is_refused_or_answered_soundly(text in broken()) {
        let node = Node::new();
        for answer in [
            publication(&text).map(|good| (good.offer.sections.len(), good.answer(&node.server()))),
            playback(&text).map(|good| (good.offer.sections.len(), good.answer(&[], &node.server()))),
        ] {
            let Ok((sections, answer)) = answer else { continue };
            prop_assert_eq!(parts(&answer).len(), sections + 1);
            prop_assert_eq!(answer.matches("a=ice-lite\r\n").count(), 1);
            prop_assert!(Offer::parse(&answer.replace("a=ice-lite\r\n", "")).is_ok(), "{}", answer);
        }
        let _ = Fragment::parse(&text);
    }

    #[test]
    fn no_text_makes_the_reader_fail(text in "\\PC{0,400}", lines in prop::collection::vec("[vosmabtckrz]=[ -~]{0,40}", 0..20)) {
        let _ = (Offer::parse(&text), Fragment::parse(&text));
        let _ = (Offer::parse(&lines.join("\r\n")), Fragment::parse(&lines.join("\n")));
        let text = format!("{}{}\r\n", &camera(), lines.join("\r\n"));
        let _ = Offer::parse(&text);
    }
}

#[test]
fn redundant_audio_is_taken_where_the_client_prefers_it() {
    let types = |offer: &str| -> Vec<(String, u8)> {
        let codecs = publication(offer).unwrap().tracks.remove(0).parameters.codecs;
        codecs.into_iter().map(|codec| (codec.mime_type, codec.payload_type)).collect()
    };
    let offer = chromium(&[0]);
    assert_eq!(types(&offer), [("audio/opus".to_owned(), 111)]);
    let prefers = offer.replace("SAVPF 111 63", "SAVPF 63 111");
    assert_eq!(types(&prefers), [("audio/red".to_owned(), 63), ("audio/opus".to_owned(), 111)]);
    let answer = publication(&prefers).unwrap().answer(&Node::new().server());
    for line in ["SAVPF 63 111\r\n", "a=rtpmap:63 red/48000/2\r\n", "a=fmtp:63 111/111\r\n"] {
        assert!(answer.contains(line), "{line} is not in {answer}");
    }
    // It carries something that is not there.
    for broken in
        [prefers.replace("a=fmtp:63 111/111", "a=fmtp:63 63/63"), prefers.replace("a=fmtp:63 111/111\r\n", "")]
    {
        assert_eq!(types(&broken), [("audio/opus".to_owned(), 111)]);
    }

    let consumable =
        consumable(Kind::Audio, &publication(&prefers).unwrap().tracks[0].parameters, router_capabilities());
    let player = playback(&to_play(&offer)).unwrap();
    let spec = player.receivers[0].consume(&consumable, 1, "c").unwrap();
    assert_eq!((spec.payload_types, spec.renumbered), (vec![100, 117], vec![(100, 111), (117, 63)]));
}
