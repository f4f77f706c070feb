//! The crate `webrtc` (webrtc-rs) as a player and a publisher: it plays somebody by WHEP, publishes the pictures by WHIP
//! as they come, and passes requests for key frames on to whom it plays.
//!
//! usage: `interop-webrtc-rs LOCAL_ADDRESS WHEP_URL TOKEN WHIP_URL TOKEN`
//!
//! Prints what it has received as a JSON line each second until its input ends; then it deletes both sessions and
//! prints the statuses of that.

mod connection;
mod key_frames;
mod relay;
mod session;

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{connection::Connection, relay::Relay, session::Session};

/// Between two lines of output.
const LINE: Duration = Duration::from_secs(1);
/// For an answer to an HTTP request, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, whep, player_token, whip, publisher_token] = arguments.as_slice() else {
        bail!("usage: interop-webrtc-rs LOCAL_ADDRESS WHEP_URL TOKEN WHIP_URL TOKEN")
    };
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let relay = Arc::new(Relay::new());

    // The publisher first: what the player receives has somewhere to go from the first packet on.
    let mut publisher = Connection::new(address, relay.clone()).await?;
    publisher.send(relay.output()).await?;
    let publishing = Session::begin(&client, whip, publisher_token, &mut publisher).await.context("the publisher")?;
    let mut player = Connection::new(address, relay.clone()).await?;
    player.receive(&[RtpCodecKind::Video, RtpCodecKind::Audio]).await?;
    let playing = Session::begin(&client, whep, player_token, &mut player).await.context("the player")?;

    let mut input = tokio::io::stdin();
    let mut ignored = Vec::new();
    let ended = input.read_to_end(&mut ignored);
    tokio::pin!(ended);
    let mut lines = tokio::time::interval(LINE);
    loop {
        tokio::select! {
            _ = &mut ended => break,
            _ = lines.tick() => println!("{}", serde_json::to_string(&relay.seen())?),
        }
    }
    let statuses = [playing.end().await?, publishing.end().await?];
    player.close().await?;
    publisher.close().await?;
    println!("{}", json!({ "ended": statuses }));
    Ok(())
}
