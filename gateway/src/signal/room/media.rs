//! A room's media nodes: what they can, what clients ask of them, and the events that they tell.

use std::time::Duration;

use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Client, Command, Room};
use crate::{
    Problem,
    signal::{
        answer::Answer,
        relay::{Node, Relay},
    },
};

/// As whom the gateway speaks to media nodes.
const SELF: &str = "callplane-gateway";
/// How long whoever leaves waits for the nodes to let go of them. They do so by themselves after 30 s without media.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is known of a node's capabilities.
pub(super) enum Capabilities {
    /// It was asked.
    Asked,
    /// It said; or did not, and clients ask it themselves.
    Known(Option<Value>),
}

impl Room {
    /// The node of `epoch`, spoken to as one of the room's people or, without one, as a moderator.
    pub(super) fn node(&self, epoch: i64, user: Option<&str>) -> Result<Node, Problem> {
        self.node_as(epoch, user.and_then(|user| self.clients.get(user)))
    }

    fn node_as(&self, epoch: i64, client: Option<&Client>) -> Result<Node, Problem> {
        let address = client.map_or(std::net::IpAddr::from([127, 0, 0, 1]), |client| client.address);
        let pass = match client {
            Some(client) => {
                let own = &client.member.participant;
                self.gateway.pass(&self.room, &own.user_id, own.display_name.as_deref(), &own.role, epoch)?
            }
            None => self.gateway.pass(&self.room, SELF, None, "admin", epoch)?,
        };
        Ok(Node { gateway: self.gateway.clone(), id: self.id.clone(), address, token: pass.token })
    }

    /// Nodes let go of somebody who left, at once: until then they count, and a call that they made too large for peer to
    /// peer stays where it is. Whose socket was merely lost is left alone, since their media may flow all the same.
    pub(super) fn farewell(&self, client: Client) -> impl Future<Output = ()> + Send + use<> {
        let user = utf8_percent_encode(client.member.user(), NON_ALPHANUMERIC).to_string();
        let nodes: Vec<Node> =
            self.routes.nodes().filter_map(|epoch| self.node_as(epoch, Some(&client)).ok()).collect();
        // Its relays end first: they are part of what keeps somebody at a node.
        drop(client);
        async move {
            let calls = nodes.into_iter().map(|node| {
                let path = format!("/participants/{user}/leave");
                async move { node.call(Method::POST, &path).await.is_ok() }
            });
            let all = tokio::time::timeout(FAREWELL, futures::future::join_all(calls)).await;
            if !all.is_ok_and(|told| told.into_iter().all(|told| told)) {
                tracing::debug!("a media node was not told that somebody left");
            }
        }
    }

    /// Whether the present route's node is still to say what it can. Asks it the first time.
    pub(super) fn must_ask_node(&mut self) -> bool {
        let epoch = self.epoch();
        if self.is_p2p() || epoch == 0 {
            return false;
        }
        match self.capabilities.get(&epoch) {
            Some(Capabilities::Known(_)) => return false,
            Some(Capabilities::Asked) => return true,
            None => {}
        }
        let node = match self.node(epoch, None) {
            Ok(node) => node,
            Err(_) => return false,
        };
        self.capabilities.insert(epoch, Capabilities::Asked);
        let own = self.own.clone();
        tokio::spawn(async move {
            let found = node.capabilities().await;
            if let Some(own) = own.upgrade() {
                let _ = own.send(Command::Capabilities { epoch, found }).await;
            }
        });
        true
    }

    /// What the node of `epoch` can.
    pub(super) fn capability(&self, epoch: i64) -> Option<&Value> {
        match self.capabilities.get(&epoch)? {
            Capabilities::Known(found) => found.as_ref(),
            Capabilities::Asked => None,
        }
    }

    /// A node said what it can, or did not.
    pub(super) async fn capable(&mut self, epoch: i64, found: Option<Value>) {
        if epoch != self.epoch() {
            return;
        }
        self.capabilities.insert(epoch, Capabilities::Known(found));
        self.announce();
        self.follow_media();
        for request in std::mem::take(&mut self.waiting) {
            self.join(Box::new(request)).await;
        }
    }

    /// Relays the events of each node that serves the room to each client here, and of no other.
    pub(super) fn follow_media(&mut self) {
        let nodes: Vec<i64> = self.routes.nodes().collect();
        let mut missing = Vec::new();
        for (user, client) in &mut self.clients {
            client.media.retain(|epoch, _| nodes.contains(epoch));
            missing.extend(nodes.iter().filter(|epoch| !client.media.contains_key(epoch)).map(|e| (user.clone(), *e)));
        }
        for (user, epoch) in missing {
            let Some(client) = self.clients.get(&user) else { continue };
            let relay = Relay::start(
                self.gateway.clone(),
                self.id.clone(),
                client.member.participant.clone(),
                epoch,
                client.outlet.again(),
            );
            if let Some(client) = self.clients.get_mut(&user) {
                client.media.insert(epoch, relay);
            }
        }
    }

    /// Asks the present node for something in the name of a client, while the room goes on.
    pub(super) fn at_node(&self, user: &str, path: String, reply: oneshot::Sender<Answer>) {
        let epoch = self.routes.nodes().last();
        let none = || Problem::new(crate::Code::RoomNotReady, "the room's media does not flow through a node");
        match epoch.ok_or_else(none).and_then(|epoch| self.node(epoch, Some(user))) {
            Ok(node) => drop(tokio::spawn(async move {
                let _ = reply.send(node.call(Method::POST, &path).await);
            })),
            Err(problem) => drop(reply.send(Err(problem.into()))),
        }
    }
}
