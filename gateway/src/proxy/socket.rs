//! A WebSocket between a client and a node, as bytes.

use std::{io, time::Duration};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// Bytes in flight, each way.
const BUFFER: usize = 8 * 1024;
/// Silence after which an end counts as gone: nodes send a ping every 15 s, and clients answer it.
const SILENT: Duration = Duration::from_secs(60);
/// How long an end may take nothing.
const STUCK: Duration = Duration::from_secs(20);

/// Carries bytes until one end closes, falls silent or takes nothing any more. A WebSocket has no half-open state:
/// when one side ends, so does the other.
pub async fn relay(client: Upgraded, node: Upgraded) {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_node, to_node) = split(TokioIo::new(node));
    tokio::select! {
        _ = carry(from_client, to_node) => {}
        _ = carry(from_node, to_client) => {}
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = timeout(SILENT, from.read(&mut buffer)).await??;
        if count == 0 {
            return to.shutdown().await;
        }
        timeout(STUCK, async {
            to.write_all(&buffer[..count]).await?;
            to.flush().await
        })
        .await??;
    }
}
