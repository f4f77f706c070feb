//! Calls on a virtual network.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::command::*;
use super::testing::*;
use super::*;

mod allocations;
mod bandwidth;
mod calls;
mod data;
mod flood;
mod handshake;
mod hostile;
mod layers;
mod leaps;
mod loss;
mod moves;
mod red;
mod remb;
mod room;
mod soak;
mod stage;
mod statistics;
mod streams;

/// A publisher with sound and pictures, a subscriber to both: the SSRCs received under.
fn call(world: &mut World) -> (u32, u32) {
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    let video = Outgoing::new(TrackKind::Vp8 { packets: 5 }, "1", 2222, world.now);
    let audio = world.publish(publisher, vec![audio]);
    let video = world.publish(publisher, vec![video]);
    let (_, audio) = world.subscribe(subscriber, audio, false);
    let (_, video) = world.subscribe(subscriber, video, true);
    (audio, video)
}

fn states(world: &World, client: usize) -> Vec<TransportState> {
    let id = TransportId(client as u64 + 1);
    let of = |e: &Event| match e {
        Event::TransportState { transport, state, .. } if *transport == id => Some(*state),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}
