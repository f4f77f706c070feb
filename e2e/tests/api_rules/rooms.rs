//! CallRooms.

use anyhow::ensure;
use callplane_crds::CallRoom;
use serde_json::json;

use crate::desk::{Case, Keep, desk, refused};

#[test]
fn a_room_says_what_is_wrong_with_it() {
    desk("rooms", |desk| async move {
        let (fine, refused) = (Case::fine, Case::refused);
        let selector = json!({"matchLabels": {"tier": "premium"}});
        let operator =
            |operator| json!({"poolSelector": {"matchExpressions": [{"key": "tier", "operator": operator}]}});
        let long = "x".repeat(64);
        let cases = vec![
            fine(json!({})),
            fine(json!({"maxParticipants": 2})),
            fine(json!({"maxParticipants": 50, "pool": "default", "region": "eu-central", "ended": false})),
            fine(json!({"poolSelector": selector})),
            fine(operator("Exists")),
            fine(json!({"lifetime": {"emptyTimeoutSeconds": 5, "maxDurationSeconds": 60, "ttlSecondsAfterEnded": 0}})),
            fine(json!({"lifetime": {
                "emptyTimeoutSeconds": 604_800, "maxDurationSeconds": 2_592_000, "ttlSecondsAfterEnded": 2_592_000}})),
            fine(json!({})).named(&long[..63]),
            fine(json!({"ended": true})),
            fine(json!({"media": {"videoCodecs": ["AV1", "VP9", "VP8", "H264"], "simulcast": false,
                "maxPublishBitrate": 64_000, "lastN": 1, "loudest": 49}})),
            fine(json!({"media": {"maxPublishBitrate": 100_000_000, "lastN": 49, "loudest": 1}})),
            refused(
                json!({"media": {"videoCodecs": ["VP8", "VP9", "VP8"]}}),
                "spec.media",
                "videoCodecs names a codec twice: name each one once, the most preferred first",
            ),
            refused(json!({"media": {"videoCodecs": []}}), "spec.media.videoCodecs", "should have at least 1 items"),
            refused(json!({"media": {"videoCodecs": ["H265"]}}), "spec.media.videoCodecs[0]", "Unsupported value"),
            refused(
                json!({"media": {"maxPublishBitrate": 1000}}),
                "spec.media.maxPublishBitrate",
                "greater than or equal to 64000",
            ),
            refused(
                json!({"media": {"maxPublishBitrate": 100_000_001}}),
                "spec.media.maxPublishBitrate",
                "should be less than or equal to 100000000",
            ),
            refused(json!({"media": {"lastN": 0}}), "spec.media.lastN", "should be greater than or equal to 1"),
            refused(json!({"media": {"lastN": 50}}), "spec.media.lastN", "should be less than or equal to 49"),
            refused(json!({"media": {"loudest": 0}}), "spec.media.loudest", "should be greater than or equal to 1"),
            refused(json!({"media": {"loudest": 50}}), "spec.media.loudest", "should be less than or equal to 49"),
            refused(json!({"maxParticipants": 1}), "spec.maxParticipants", "should be greater than or equal to 2"),
            refused(json!({"maxParticipants": 51}), "spec.maxParticipants", "should be less than or equal to 50"),
            refused(json!({"maxParticipants": "ten"}), "spec.maxParticipants", "must be of type integer"),
            refused(json!({"maxParticipants": 2.5}), "spec.maxParticipants", "must be of type integer"),
            refused(
                json!({"pool": "default", "poolSelector": selector}),
                "spec",
                "set either pool or poolSelector, not both: pool names one MediaPool, poolSelector picks among several by label",
            ),
            refused(json!({"pool": ""}), "spec.pool", "should be at least 1 chars long"),
            refused(json!({"pool": long}), "spec.pool", "may not be more than 63"),
            refused(json!({"region": ""}), "spec.region", "should be at least 1 chars long"),
            refused(json!({"region": long}), "spec.region", "may not be more than 63"),
            refused(
                operator("Is"),
                "spec.poolSelector.matchExpressions[0].operator",
                r#"Unsupported value: "Is": supported values: "In", "NotIn", "Exists", "DoesNotExist""#,
            ),
            refused(
                json!({"lifetime": {"emptyTimeoutSeconds": 4}}),
                "spec.lifetime.emptyTimeoutSeconds",
                "should be greater than or equal to 5",
            ),
            refused(
                json!({"lifetime": {"emptyTimeoutSeconds": 604_801}}),
                "spec.lifetime.emptyTimeoutSeconds",
                "should be less than or equal to 604800",
            ),
            refused(
                json!({"lifetime": {"maxDurationSeconds": 59}}),
                "spec.lifetime",
                "maxDurationSeconds must be at least 60: leave it out for a call without a limit",
            ),
            refused(
                json!({"lifetime": {"maxDurationSeconds": 2_592_001}}),
                "spec.lifetime.maxDurationSeconds",
                "should be less than or equal to 2592000",
            ),
            refused(
                json!({"lifetime": {"ttlSecondsAfterEnded": -1}}),
                "spec.lifetime.ttlSecondsAfterEnded",
                "should be greater than or equal to 0",
            ),
            refused(
                json!({"lifetime": {"ttlSecondsAfterEnded": 2_592_001}}),
                "spec.lifetime.ttlSecondsAfterEnded",
                "should be less than or equal to 2592000",
            ),
            fine(json!({"turn": {}})),
            fine(json!({"turn": {"provision": "OnJoin", "ttlSeconds": 60}})),
            fine(json!({"turn": {"provision": "Secret", "ttlSeconds": 86_400}})),
            fine(json!({"turn": {"provision": "None"}})),
            refused(
                json!({"turn": {"provision": "Always"}}),
                "spec.turn.provision",
                r#"Unsupported value: "Always": supported values: "OnJoin", "Secret", "None""#,
            ),
            refused(
                json!({"turn": {"ttlSeconds": 59}}),
                "spec.turn.ttlSeconds",
                "should be greater than or equal to 60",
            ),
            refused(
                json!({"turn": {"ttlSeconds": 86_401}}),
                "spec.turn.ttlSeconds",
                "should be less than or equal to 86400",
            ),
            refused(json!({"turn": {"ttl": 600}}), "", r#"unknown field "spec.turn.ttl""#),
            fine(json!({"topology": {}})),
            fine(
                json!({"topology": {"mode": "Auto", "p2pMaxParticipants": 6, "packetLossPercent": 1, "stabilizationSeconds": 0}}),
            ),
            fine(json!({"topology": {"mode": "SFU", "packetLossPercent": 100, "stabilizationSeconds": 3600}})),
            fine(json!({"maxParticipants": 6, "topology": {"mode": "P2P"}})),
            refused(
                json!({"topology": {"mode": "P2P"}}),
                "spec",
                "a call with topology.mode P2P may have at most 6 participants, since everyone sends to everyone else: lower maxParticipants, or use mode Auto",
            ),
            refused(json!({"topology": {"mode": "MCU"}}), "spec.topology.mode", r#"Unsupported value: "MCU""#),
            refused(
                json!({"topology": {"p2pMaxParticipants": 7}}),
                "spec.topology.p2pMaxParticipants",
                "should be less than or equal to 6",
            ),
            refused(
                json!({"topology": {"p2pMaxParticipants": 1}}),
                "spec.topology.p2pMaxParticipants",
                "should be greater than or equal to 2",
            ),
            refused(
                json!({"topology": {"packetLossPercent": 0}}),
                "spec.topology.packetLossPercent",
                "should be greater than or equal to 1",
            ),
            refused(
                json!({"topology": {"packetLossPercent": 101}}),
                "spec.topology.packetLossPercent",
                "should be less than or equal to 100",
            ),
            refused(
                json!({"topology": {"stabilizationSeconds": -1}}),
                "spec.topology.stabilizationSeconds",
                "should be greater than or equal to 0",
            ),
            refused(
                json!({"topology": {"stabilizationSeconds": 3601}}),
                "spec.topology.stabilizationSeconds",
                "should be less than or equal to 3600",
            ),
            refused(json!({"topology": {"mesh": true}}), "", r#"unknown field "spec.topology.mesh""#),
            fine(json!({"scheduledTime": "2099-01-01T09:00:00+01:00"})),
            refused(json!({"scheduledTime": "tomorrow"}), "spec.scheduledTime", "must be of type date"),
            refused(json!({"scheduledTime": 4_070_908_800_i64}), "spec.scheduledTime", "must be of type date-time"),
            fine(json!({"consent": {}})),
            fine(json!({"consent": {"required": true, "types": ["recording_ai"], "version": "2026-11"}})),
            refused(json!({"consent": {"types": []}}), "spec.consent.types", "should have at least 1 items"),
            refused(
                json!({"consent": {"types": ["recording_ai", "recording_ai"]}}),
                "spec.consent.types",
                "must have at most 1 item",
            ),
            refused(
                json!({"consent": {"types": ["marketing"]}}),
                "spec.consent.types[0]",
                r#"Unsupported value: "marketing": supported values: "recording_ai""#,
            ),
            refused(json!({"consent": {"version": ""}}), "spec.consent.version", "should be at least 1 chars long"),
            refused(json!({"consent": {"version": "x".repeat(65)}}), "spec.consent.version", "may not be more than 64"),
            refused(json!({"consent": {"text": "…"}}), "", r#"unknown field "spec.consent.text""#),
            refused(json!({"ended": "yes"}), "spec.ended", "must be of type boolean"),
            refused(json!({"maxParticipant": 4}), "", r#"unknown field "spec.maxParticipant""#),
            refused(json!({"lifetime": {"ttl": 4}}), "", r#"unknown field "spec.lifetime.ttl""#),
            refused(json!({}), "<nil>", "may have at most 63 characters: it is part of the URL that clients join by")
                .named(&long),
        ];
        desk.try_all::<CallRoom>(cases).await
    });
}

#[test]
fn what_binds_a_room_to_a_place_cannot_be_changed() {
    desk("places", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        let bound = json!({"pool": "nowhere", "region": "r"});
        rooms.create(&json!({"metadata": {"name": "bound"}, "spec": bound}), Keep::Yes).await?;
        let selecting = json!({"poolSelector": {"matchLabels": {"tier": "none"}}});
        rooms.create(&json!({"metadata": {"name": "selecting"}, "spec": selecting}), Keep::Yes).await?;
        rooms
            .create(&json!({"metadata": {"name": "ended"}, "spec": {"pool": "nowhere", "ended": true}}), Keep::Yes)
            .await?;
        rooms
            .create(
                &json!({"metadata": {"name": "small"}, "spec": {"pool": "nowhere", "maxParticipants": 4}}),
                Keep::Yes,
            )
            .await?;

        let pool = "pool cannot be changed: create another CallRoom with the new pool and end this one";
        let region = "region cannot be changed, since media never leaves it: create another CallRoom in the new region and end this one";
        let selector = "poolSelector cannot be changed: create another CallRoom with the new selector and end this one";
        for (room, change, says) in [
            ("bound", json!({"pool": "other"}), pool),
            ("bound", json!({"pool": null}), pool),
            ("selecting", json!({"pool": "other", "poolSelector": null}), pool),
            ("bound", json!({"region": "other"}), region),
            ("bound", json!({"region": null}), region),
            ("selecting", json!({"region": "r"}), region),
            ("selecting", json!({"poolSelector": {"matchLabels": {"tier": "premium"}}}), selector),
            ("selecting", json!({"poolSelector": null}), selector),
            (
                "small",
                json!({"maxParticipants": 5}),
                "maxParticipants cannot be raised, since capacity was reserved for the old size: create a larger CallRoom and end this one",
            ),
            ("ended", json!({"ended": false}), "an ended call cannot be opened again: create another CallRoom"),
        ] {
            let status = crate::desk::refusal(rooms.change(room, &json!({ "spec": change }), Keep::No).await)?;
            ensure!(status.code == 422 && status.message.contains(says), "{change}: {}", status.message);
        }
        for (room, change) in [
            ("bound", json!({"maxParticipants": 4, "lifetime": {"emptyTimeoutSeconds": 60}})),
            ("bound", json!({"ended": true})),
            ("small", json!({"maxParticipants": 3})),
            ("bound", json!({"pool": "nowhere"})),
        ] {
            rooms.change(room, &json!({ "spec": change }), Keep::No).await?;
        }
        Ok(())
    });
}

#[test]
fn a_call_that_has_begun_keeps_its_time() {
    desk("times", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        for (room, time) in [("scheduled", json!("2099-01-01T09:00:00Z")), ("begun", json!(null))] {
            let spec = json!({"pool": "nowhere", "scheduledTime": time});
            rooms.create(&json!({"metadata": {"name": room}, "spec": spec}), Keep::Yes).await?;
        }
        let another = json!({"spec": {"scheduledTime": "2099-02-01T09:00:00Z"}});
        let none = json!({"spec": {"scheduledTime": null}});
        rooms.change("scheduled", &another, Keep::No).await?;
        rooms.change("scheduled", &none, Keep::No).await?;
        rooms.change("begun", &another, Keep::No).await?;
        for room in ["scheduled", "begun"] {
            rooms.tell(room, &json!({"startedAt": "2026-01-01T00:00:00Z"}), Keep::Yes).await?;
        }
        let says = "scheduledTime cannot be changed, since the call has begun: end this one and create another CallRoom for the new time";
        for (room, change) in [("scheduled", &another), ("scheduled", &none), ("begun", &another)] {
            let status = crate::desk::refusal(rooms.change(room, change, Keep::No).await)?;
            ensure!(status.code == 422 && status.message.contains(says), "{room}: {}", status.message);
        }
        for (room, change) in [
            ("scheduled", json!({"spec": {"scheduledTime": "2099-01-01T10:00:00+01:00"}})),
            ("scheduled", json!({"spec": {"ended": true}})),
            ("begun", json!({"spec": {"maxParticipants": 3}})),
        ] {
            rooms.change(room, &change, Keep::No).await?;
        }
        Ok(())
    });
}

#[test]
fn null_means_absent_and_absent_means_the_default() {
    desk("defaults", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        let nulls = json!({"pool": null, "poolSelector": null, "region": null, "maxParticipants": null, "ended": null,
            "lifetime": {"emptyTimeoutSeconds": null}});
        for spec in [nulls, json!({})] {
            let made = rooms.create(&json!({"metadata": {"name": "plain"}, "spec": spec}), Keep::No).await?;
            let full = json!({"maxParticipants": 50, "ended": false, "lifetime": {}, "media": {}});
            ensure!(made["spec"] == full, "{spec} became {}", made["spec"]);
        }
        let topology =
            json!({"spec": {"topology": {"mode": null, "stabilizationSeconds": null}}, "metadata": {"name": "moves"}});
        let made = rooms.create(&topology, Keep::No).await?;
        let full = json!({"mode": "Auto", "p2pMaxParticipants": 2, "packetLossPercent": 5, "stabilizationSeconds": 30});
        ensure!(made["spec"]["topology"] == full, "it became {}", made["spec"]);
        let consent = json!({"spec": {"consent": {"version": null}}, "metadata": {"name": "asks"}});
        let made = rooms.create(&consent, Keep::No).await?;
        let full = json!({"required": false, "types": ["recording_ai"], "version": "1"});
        ensure!(made["spec"]["consent"] == full, "it became {}", made["spec"]);
        let turn = json!({"spec": {"turn": {"provision": null}}, "metadata": {"name": "relays"}});
        let made = rooms.create(&turn, Keep::No).await?;
        let full = json!({"provision": "OnJoin", "ttlSeconds": 600});
        ensure!(made["spec"]["turn"] == full, "it became {}", made["spec"]);
        Ok(())
    });
}

#[test]
fn a_status_is_held_to_its_schema() {
    desk("statuses", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        let room = json!({"metadata": {"name": "told"}, "spec": {"pool": "nowhere"}, "status": {"phase": "Ended"}});
        let made = rooms.create(&room, Keep::Yes).await?;
        ensure!(made.get("status").is_none(), "a status was written with the spec: {made}");

        let route = |epoch: i64, mode: &str| {
            json!({"route": {
            "epoch": epoch, "mode": mode, "node": "n", "reason": "Placed", "since": "2026-01-01T00:00:00Z"}})
        };
        rooms.tell("told", &route(1, "SFU"), Keep::No).await?;
        let tell = |status| {
            let rooms = &rooms;
            async move { rooms.tell("told", &status, Keep::No).await }
        };
        refused(tell(route(0, "SFU")).await, "status.route.epoch", "should be greater than or equal to 1")?;
        refused(tell(route(1, "MCU")).await, "status.route.mode", r#"Unsupported value: "MCU""#)?;
        refused(tell(json!({"phase": "Gone"})).await, "status.phase", r#"Unsupported value: "Gone""#)?;
        refused(tell(json!({"route": {"epoch": 1}})).await, "", "status.route.mode: Required value")?;
        let ready = json!({"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        refused(tell(json!({"conditions": [ready, ready]})).await, "status.conditions[1]", "Duplicate value")?;
        refused(tell(json!({"people": 3})).await, "", r#"unknown field "status.people""#)
    });
}
