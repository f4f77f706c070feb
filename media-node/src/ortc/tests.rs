//! Replays exchanges recorded between mediasoup-client and mediasoup, and refuses what it must.

use serde_json::{Value, json};

use super::parameters::Codec as _;
use super::*;
use crate::core::command::{Codec, DtlsRole, ExtensionKind};

fn capture(name: &str) -> Value {
    let path = format!("tests/captures/{name}.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rtp_parameters(name: &str) -> RtpParameters {
    serde_json::from_value(capture(name)["request"]["rtpParameters"].clone()).unwrap()
}

/// Keeps of a recorded list what this router offers too: the recording's had more codecs and extensions.
fn keep(list: &mut Value, router: &Value, keys: &[&str]) {
    let offered = router.as_array().unwrap();
    list.as_array_mut().unwrap().retain(|item| offered.iter().any(|o| keys.iter().all(|key| o[key] == item[key])));
}

#[test]
fn the_router_offers_what_mediasoup_offers_and_more() {
    let mut ours = serde_json::to_value(router_capabilities()).unwrap();
    let mut recorded = capture("01-routerRtpCapabilities");
    let names: Vec<_> = ours["codecs"].as_array().unwrap().iter().map(|c| c["mimeType"].clone()).collect();
    assert_eq!((names.len(), names[17].as_str()), (18, Some("audio/red")));
    assert_eq!(names.iter().filter(|name| *name == "video/rtx").count(), 8, "each video codec has its own");
    ours["codecs"].as_array_mut().unwrap().truncate(7);
    let extensions = ours["headerExtensions"].as_array_mut().unwrap();
    extensions.retain(|extension| !extension["uri"].as_str().unwrap().contains("dependency-descriptor"));
    keep(&mut recorded["headerExtensions"], &ours["headerExtensions"], &["uri"]);
    assert_eq!(ours, recorded);
}

/// The device's capabilities.
fn device() -> RtpCapabilities {
    serde_json::from_value(capture("02-device-after-load")["recvRtpCapabilities"].clone()).unwrap()
}

fn consume(produce: &str, kind: Kind) -> (Value, ConsumerSpec) {
    let parameters = rtp_parameters(produce);
    producer_spec(kind, &parameters, router_capabilities(), false).unwrap();
    let consumable = consumable(kind, &parameters, router_capabilities());
    assert!(can_consume(&consumable, &device()));
    let ids = ConsumerIds { mid: "7".into(), ssrc: 4000, cname: "fallback".into() };
    let (parameters, spec) = consumer_rtp_parameters(&consumable, &device(), ids, true).unwrap();
    (serde_json::to_value(parameters).unwrap(), spec)
}

use crate::core::command::ConsumerSpec;

#[test]
fn an_opus_consumer_is_told_what_mediasoup_tells_it() {
    let (ours, spec) = consume("12-produce-audio-opus", Kind::Audio);
    let mut recorded = capture("18-consume-audio-opus-simple")["response"]["rtpParameters"].clone();
    keep(
        &mut recorded["headerExtensions"],
        &serde_json::to_value(router_capabilities()).unwrap()["headerExtensions"],
        &["uri"],
    );
    recorded["mid"] = json!("7");
    recorded["encodings"][0]["ssrc"] = json!(4000);
    assert_eq!(ours, recorded);
    assert_eq!((spec.payload_types, spec.clock_rate, spec.rtx, spec.nack), (vec![100], 48_000, None, false));
    assert_eq!(spec.cname, "Ka6a0I3hkyrcswzq");
}

#[test]
fn video_consumers_are_told_what_mediasoup_tells_them() {
    for (produced, consumed, payload_type, r#type) in [
        ("13-produce-video-vp8-simulcast", "21-consume-video-VP8-simulcast", 101, StreamType::Simulcast),
        ("14-produce-video-h264-single", "23-consume-video-H264-simple", 105, StreamType::Simple),
        ("15-produce-video-vp9-svc", "25-consume-video-VP9-svc", 103, StreamType::Svc),
    ] {
        let (ours, spec) = consume(produced, Kind::Video);
        let response = capture(consumed)["response"].clone();
        assert_eq!(serde_json::to_value(StreamType::of(&rtp_parameters(produced))).unwrap(), response["type"]);
        assert_eq!(StreamType::of(&rtp_parameters(produced)), r#type);
        let mut recorded = response["rtpParameters"].clone();
        let router = serde_json::to_value(router_capabilities()).unwrap();
        keep(&mut recorded["headerExtensions"], &router["headerExtensions"], &["uri"]);
        recorded["mid"] = json!("7");
        recorded["encodings"][0]["ssrc"] = json!(4000);
        recorded["encodings"][0]["rtx"]["ssrc"] = json!(4001);
        if rtp_parameters(produced).rtcp.cname.as_deref() == Some("") {
            recorded["rtcp"]["cname"] = json!("fallback");
        }
        assert_eq!(ours, recorded, "{produced}");
        assert_eq!((spec.payload_types, spec.rtx), (vec![payload_type], Some((4001, payload_type + 1))));
        assert!(spec.nack);
        let ids: Vec<_> = spec.header_extensions.iter().map(|e| (e.kind, e.id)).collect();
        for expected in [(ExtensionKind::TransportCc, 5), (ExtensionKind::Mid, 1), (ExtensionKind::PlayoutDelay, 14)] {
            assert!(ids.contains(&expected), "{ids:?}");
        }
    }
}

#[test]
fn what_the_publisher_says_of_layers_reaches_the_core() {
    let spec = |name: &str| producer_spec(Kind::Video, &rtp_parameters(name), router_capabilities(), false).unwrap();
    let simulcast = spec("13-produce-video-vp8-simulcast");
    let rids: Vec<_> = simulcast.encodings.iter().map(|e| e.rid.as_deref().unwrap()).collect();
    assert_eq!(rids, ["r0", "r1", "r2"]);
    assert!(simulcast.encodings.iter().all(|e| (e.scalability.spatial, e.scalability.temporal) == (1, 3)));
    let svc = spec("15-produce-video-vp9-svc");
    let mode = svc.encodings[0].scalability;
    assert_eq!((mode.spatial, mode.temporal, mode.key), (3, 3, true));
    assert_eq!((svc.codecs[0].codec, svc.codecs[0].router_payload_type), (Codec::Vp9, 103));
    let h264 = spec("14-produce-video-h264-single");
    assert_eq!((h264.codecs[0].codec, h264.codecs[0].router_payload_type), (Codec::H264, 105));
}

#[test]
fn h264_and_av1_are_told_apart_by_their_parameters() {
    let with = |mime_type: &str, parameters: Value| {
        let mut given = capture("14-produce-video-h264-single")["request"]["rtpParameters"].clone();
        given["codecs"][0]["mimeType"] = json!(mime_type);
        given["codecs"][0]["parameters"] = parameters;
        let parameters: RtpParameters = serde_json::from_value(given).unwrap();
        let spec = producer_spec(Kind::Video, &parameters, router_capabilities(), false)?;
        let consumable = consumable(Kind::Video, &parameters, router_capabilities());
        Ok((spec.codecs[0].codec, spec.codecs[0].router_payload_type, consumable.codecs[1].apt()))
    };
    for (mime_type, parameters, expected) in [
        ("video/H264", json!({"profile-level-id": "42e034", "packetization-mode": 1}), (Codec::H264, 105)),
        ("video/H264", json!({"profile-level-id": "42e01f"}), (Codec::H264, 107)),
        ("video/h264", json!({"profile-level-id": "4d0032", "packetization-mode": 1}), (Codec::H264, 109)),
        ("video/H264", json!({"profile-level-id": "4d001f", "packetization-mode": 0}), (Codec::H264, 111)),
        ("video/AV1", json!({"level-idx": 5, "profile": 0, "tier": 0}), (Codec::Av1, 113)),
        ("video/VP9", json!({"profile-id": 2}), (Codec::Vp9, 115)),
    ] {
        let (codec, payload_type, apt) = with(mime_type, parameters).unwrap();
        assert_eq!((codec, payload_type, apt), (expected.0, expected.1, Some(expected.1.into())));
    }
    let unknown: [Result<_, Error>; 2] = [
        with("video/H264", json!({"profile-level-id": "640c1f", "packetization-mode": 1})),
        with("video/AV1", json!({"profile": 1})),
    ];
    assert!(unknown.iter().all(|e| matches!(e, Err(Error::Unsupported { .. }))), "{unknown:?}");
}

#[test]
fn what_opus_was_told_to_do_reaches_the_subscriber() {
    let mut parameters = rtp_parameters("12-produce-audio-opus");
    parameters.codecs[0].parameters.extend([("usedtx".to_owned(), json!(1)), ("useinbandfec".to_owned(), json!(1))]);
    producer_spec(Kind::Audio, &parameters, router_capabilities(), false).unwrap();
    let consumable = consumable(Kind::Audio, &parameters, router_capabilities());
    let ids = ConsumerIds { mid: "0".into(), ssrc: 1, cname: "c".into() };
    let (told, _) = consumer_rtp_parameters(&consumable, &device(), ids, true).unwrap();
    assert_eq!(
        (&told.codecs[0].parameters["usedtx"], &told.codecs[0].parameters["useinbandfec"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn a_publisher_is_received_in_its_own_numbers() {
    let parameters = rtp_parameters("12-produce-audio-opus");
    let spec = producer_spec(Kind::Audio, &parameters, router_capabilities(), true).unwrap();
    assert_eq!((spec.codecs[0].payload_type, spec.codecs[0].router_payload_type), (111, 100));
    assert!(spec.codecs[0].nack && !spec.codecs[0].pli && spec.paused);
    assert_eq!(spec.encodings[0].ssrc, Some(4_052_457_558));
    assert_eq!(spec.header_extensions.iter().find(|e| e.kind == ExtensionKind::Mid).unwrap().id, 4);
    assert_eq!(spec.header_extensions.len(), 4, "capture time is not one of ours");

    let parameters = rtp_parameters("13-produce-video-vp8-simulcast");
    let spec = producer_spec(Kind::Video, &parameters, router_capabilities(), false).unwrap();
    assert_eq!((spec.codecs[0].payload_type, spec.codecs[0].rtx_payload_type), (96, Some(97)));
    assert_eq!(spec.encodings[0].rid.as_deref(), Some("r0"));
    assert_eq!(spec.cname, None, "an empty cname is none");
}

fn refused(produce: &str, kind: Kind, change: impl FnOnce(&mut Value)) -> Error {
    let mut given = capture(produce)["request"]["rtpParameters"].clone();
    change(&mut given);
    let parameters = serde_json::from_value(given).unwrap();
    producer_spec(kind, &parameters, router_capabilities(), false).unwrap_err()
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        (
            refused("13-produce-video-vp8-simulcast", Kind::Video, |p| {
                let fourth = json!({"rid": "r3"});
                p["encodings"].as_array_mut().unwrap().push(fourth);
            }),
            "rtpParameters.encodings",
        ),
        (
            refused("14-produce-video-h264-single", Kind::Video, |p| p["codecs"][0]["mimeType"] = json!("video/H265")),
            "rtpParameters.codecs[0].mimeType",
        ),
        (
            refused("12-produce-audio-opus", Kind::Audio, |p| p["headerExtensions"][0]["encrypt"] = json!(true)),
            "rtpParameters.headerExtensions[0].encrypt",
        ),
        (
            refused("12-produce-audio-opus", Kind::Audio, |p| p["encodings"][0]["scalabilityMode"] = json!("L3T3_KEY")),
            "rtpParameters.encodings[0].scalabilityMode",
        ),
        (
            refused("15-produce-video-vp9-svc", Kind::Video, |p| {
                p["encodings"][0]["scalabilityMode"] = json!("S3T3");
            }),
            "rtpParameters.encodings[0].scalabilityMode",
        ),
        (
            refused("13-produce-video-vp8-simulcast", Kind::Video, |p| {
                p["encodings"][1]["scalabilityMode"] = json!("L2T1");
            }),
            "rtpParameters.encodings[1].scalabilityMode",
        ),
    ];
    for (error, field) in cases {
        assert!(matches!(error, Error::Unsupported { .. }) && error.field() == field, "{error:?}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 12] = [
        ("rtpParameters.codecs", |p| p["codecs"] = json!([])),
        ("rtpParameters.codecs[0].mimeType", |p| p["codecs"][0]["mimeType"] = json!("video/VP8")),
        ("rtpParameters.codecs[0].payloadType", |p| p["codecs"][0]["payloadType"] = json!(128)),
        ("rtpParameters.codecs[0].parameters.minptime", |p| p["codecs"][0]["parameters"]["minptime"] = json!([])),
        ("rtpParameters.encodings", |p| p["encodings"] = json!([])),
        ("rtpParameters.encodings[0].ssrc", |p| p["encodings"][0]["ssrc"] = json!(0)),
        ("rtpParameters.encodings[0].ssrc", |p| {
            p["encodings"] = json!([{}]);
            p["mid"] = Value::Null;
        }),
        ("rtpParameters.encodings[0].rtx", |p| p["encodings"][0]["rtx"] = json!({"ssrc": 5})),
        ("rtpParameters.encodings[1].ssrc", |p| {
            let same = p["encodings"][0].clone();
            p["encodings"].as_array_mut().unwrap().push(same);
        }),
        ("rtpParameters.headerExtensions[1].id", |p| p["headerExtensions"][1]["id"] = json!(4)),
        ("rtpParameters.mid", |p| p["mid"] = json!("a mid that is far too long")),
        ("rtpParameters.codecs[1].parameters.apt", |p| {
            let rtx =
                json!({"mimeType": "audio/rtx", "payloadType": 97, "clockRate": 48000, "parameters": {"apt": 96}});
            p["codecs"].as_array_mut().unwrap().push(rtx);
        }),
    ];
    for (field, change) in cases {
        let error = refused("12-produce-audio-opus", Kind::Audio, change);
        assert!(matches!(error, Error::Invalid { .. }) && error.field() == field, "{field}: {error:?}");
    }
}

#[test]
fn encodings_that_cannot_be_told_apart_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 3] = [
        ("rtpParameters.encodings[2].rid", |p| p["encodings"][2]["rid"] = json!("r0")),
        ("rtpParameters.encodings[1].ssrc", |p| {
            p["encodings"][1].as_object_mut().unwrap().remove("rid");
        }),
        ("rtpParameters.encodings[1].rtx.ssrc", |p| {
            p["encodings"][0]["ssrc"] = json!(5);
            p["encodings"][1]["rtx"] = json!({"ssrc": 5});
        }),
    ];
    for (field, change) in cases {
        let error = refused("13-produce-video-vp8-simulcast", Kind::Video, change);
        assert!(matches!(error, Error::Invalid { .. }) && error.field() == field, "{field}: {error:?}");
    }
}

#[test]
fn a_subscriber_without_the_codec_cannot_consume() {
    let consumable = consumable(Kind::Audio, &rtp_parameters("12-produce-audio-opus"), router_capabilities());
    let mut capabilities = device();
    capabilities.codecs.retain(|codec| codec.kind == Kind::Video);
    assert!(!can_consume(&consumable, &capabilities));
    let ids = ConsumerIds { mid: "0".into(), ssrc: 1, cname: "c".into() };
    let error = consumer_rtp_parameters(&consumable, &capabilities, ids, true).unwrap_err();
    assert_eq!(error.field(), "rtpCapabilities.codecs");
}

#[test]
fn redundant_audio_goes_to_who_knows_it_and_never_without_what_it_carries() {
    let mut parameters = rtp_parameters("12-produce-audio-opus");
    let mut red = parameters.codecs[0].clone();
    (red.mime_type, red.payload_type) = ("audio/red".into(), 63);
    red.parameters = serde_json::from_value(json!({"": "111/111"})).unwrap();
    parameters.codecs.insert(0, red.clone());
    let spec = producer_spec(Kind::Audio, &parameters, router_capabilities(), false).unwrap();
    let numbers: Vec<_> = spec.codecs.iter().map(|c| (c.payload_type, c.router_payload_type, c.codec)).collect();
    assert_eq!(numbers, [(63, 117, Codec::Red), (111, 100, Codec::Opus)]);
    let consumable = consumable(Kind::Audio, &parameters, router_capabilities());
    let names: Vec<_> = consumable.codecs.iter().map(|c| (c.mime_type.as_str(), c.payload_type)).collect();
    assert_eq!(names, [("audio/opus", 100), ("audio/red", 117)]);
    assert_eq!(serde_json::to_value(&consumable.codecs[1].parameters).unwrap(), json!({"": "100/100"}));

    let ids = || ConsumerIds { mid: "0".into(), ssrc: 1, cname: "c".into() };
    let without = device();
    let with = router_capabilities();
    for (capabilities, expected) in [(&without, vec![100]), (with, vec![100, 117])] {
        let (_, spec) = consumer_rtp_parameters(&consumable, capabilities, ids(), true).unwrap();
        assert_eq!(spec.payload_types, expected);
    }
    // Who cannot take what is in it cannot take it.
    let mut alone = router_capabilities().clone();
    alone.codecs.retain(|codec| codec.mime_type != "audio/opus");
    let error = consumer_rtp_parameters(&consumable, &alone, ids(), true).unwrap_err();
    assert_eq!(error.field(), "rtpCapabilities.codecs");

    // As mediasoup-client writes it, and not at all; what is not there; and no list.
    for (given, expected) in [
        (json!({"111/111": ""}), None),
        (json!({}), None),
        (json!({"": "111/112"}), Some("rtpParameters.codecs[0].parameters")),
        (json!({"63/63": ""}), Some("rtpParameters.codecs[0].parameters")),
        (json!({"nonsense": ""}), Some("rtpParameters.codecs[0].parameters")),
    ] {
        parameters.codecs[0].parameters = serde_json::from_value(given.clone()).unwrap();
        let error = producer_spec(Kind::Audio, &parameters, router_capabilities(), false).err();
        assert_eq!(error.as_ref().map(Error::field), expected, "{given}");
    }
    parameters.codecs.truncate(1);
    let error = producer_spec(Kind::Audio, &parameters, router_capabilities(), false).unwrap_err();
    assert_eq!(error.field(), "rtpParameters.codecs[0].mimeType");
}

#[test]
fn a_subscriber_without_rtx_gets_none_and_without_transport_cc_gets_remb() {
    let parameters = rtp_parameters("13-produce-video-vp8-simulcast");
    let consumable = consumable(Kind::Video, &parameters, router_capabilities());
    let mut capabilities = device();
    capabilities.codecs.retain(|codec| codec.mime_type != "video/rtx");
    capabilities.header_extensions.retain(|extension| !extension.uri.contains("transport-wide-cc"));
    let ids = ConsumerIds { mid: "0".into(), ssrc: 1, cname: "c".into() };
    let (parameters, spec) = consumer_rtp_parameters(&consumable, &capabilities, ids, true).unwrap();
    assert_eq!((parameters.codecs.len(), parameters.encodings[0].rtx, spec.rtx), (1, None, None));
    let feedback: Vec<_> = parameters.codecs[0].rtcp_feedback.iter().map(|fb| fb.r#type.as_str()).collect();
    assert_eq!(feedback, ["goog-remb", "ccm", "nack", "nack"]);
}

#[test]
fn a_clients_dtls_parameters_are_read() {
    let recorded = capture("11-connect")["request"]["dtlsParameters"].clone();
    let (role, fingerprints) = client_dtls(&serde_json::from_value(recorded.clone()).unwrap()).unwrap();
    assert_eq!((role, fingerprints[0].digest.len()), (DtlsRole::Client, 32));
    assert_eq!(serde_json::to_value(DtlsFingerprint::from(&fingerprints[0])).unwrap(), recorded["fingerprints"][0]);

    for (change, field) in [
        (json!([]), "dtlsParameters.fingerprints"),
        (json!([{"algorithm": "sha-1", "value": "AA"}]), "dtlsParameters.fingerprints"),
        (json!([{"algorithm": "sha-256", "value": "AA:+1"}]), "dtlsParameters.fingerprints[0].value"),
    ] {
        let parameters =
            DtlsParameters { role: DtlsRoleName::Auto, fingerprints: serde_json::from_value(change).unwrap() };
        assert_eq!(client_dtls(&parameters).unwrap_err().field(), field);
    }
}

#[test]
fn a_candidate_reads_as_mediasoups_does() {
    let ours = serde_json::to_value(IceCandidate::host("127.0.0.1:44729".parse().unwrap(), 0)).unwrap();
    assert_eq!(ours, capture("10-createTransport-send")["response"]["iceCandidates"][0]);
    let second = IceCandidate::host("[2001:db8::1]:5".parse().unwrap(), 1);
    assert!(second.priority < 1_076_302_079 && second.address == "2001:db8::1");
}
