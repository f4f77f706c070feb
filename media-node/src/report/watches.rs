//! Carries out what [`assignments`](super::assignments) decides: listens to both watches, asks about rooms
//! in doubt, gives the directory its orders, and lists everything anew after a pause.

use std::{collections::VecDeque, time::Duration};

use callplane_crds::CallId;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use kube::{Api, Client, runtime::watcher::Event};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    assignments::{Assignments, News, Order, Service, Source, Ticket, Why},
    connection, lease,
    metrics::{Metrics, Watched},
    pause::PauseGuard,
    view::{Room, RoomView, version},
};
use crate::rooms::{Assignment, Directory, Reason, Refusal, RoomKey};

/// Rooms that are asked about at the same time. More wait for their turn; they are served meanwhile.
const QUESTIONS: usize = 16;

/// How long the answer to one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// How long to wait before a question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How the rooms stand, for whoever reports on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The rooms have been listed since the process started.
    pub listed: bool,
    /// Counts the news about routes.
    pub news: u64,
}

/// The watches on a node's rooms.
pub struct Watches {
    api: Api<RoomView>,
    client: Client,
    node: String,
    directory: Directory,
    guard: PauseGuard,
    contact: watch::Receiver<lease::Contact>,
    standing: watch::Sender<Standing>,
    metrics: Metrics,
}

type Events = BoxStream<'static, (Source, Event<RoomView>)>;
type Answers = FuturesUnordered<BoxFuture<'static, News>>;

impl Watches {
    /// For the rooms of `node` in all namespaces.
    pub fn new(
        client: Client,
        node: &str,
        directory: Directory,
        guard: PauseGuard,
        contact: watch::Receiver<lease::Contact>,
        metrics: Metrics,
    ) -> Self {
        let (standing, _) = watch::channel(Standing::default());
        let api = Api::all(client.clone());
        Self { api, client, node: node.to_owned(), directory, guard, contact, standing, metrics }
    }

    /// Follows how the rooms stand.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the directory has ended: there is nobody left to give orders to.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Refusal> {
        let mut rooms = Assignments::new(&self.node);
        let mut events = self.listen();
        let mut questions = VecDeque::new();
        let mut answers = Answers::new();
        let mut pauses = self.guard.watch();
        let (mut listed_after, mut fenced) = (0, false);
        loop {
            while answers.len() < QUESTIONS
                && let Some((id, ticket)) = questions.pop_front()
            {
                if rooms.awaits(&id, ticket) {
                    answers.push(self.ask(id, ticket));
                }
            }
            let news = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Ok(()) = pauses.changed() => None,
                Some((source, event)) = events.next() => Some(news(source, event)),
                Some(news) = answers.next(), if !answers.is_empty() => Some(news),
            };
            if let Some(news) = news {
                let about_a_room = !matches!(news, News::ListStarted(_) | News::ListDone(_));
                for order in rooms.hear(news) {
                    self.obey(order, &mut questions).await?;
                }
                if about_a_room {
                    self.standing.send_modify(|s| s.news += 1);
                }
            }
            let pause = *pauses.borrow_and_update();
            self.metrics.fence(pause);
            if pause.count > listed_after {
                self.directory.fence(true).await?;
                (listed_after, fenced) = (pause.count, true);
                rooms.restarted();
                events = self.listen();
            }
            if rooms.settled() {
                if fenced {
                    // First the directory: while the guard is up, it lets nobody in.
                    self.directory.fence(false).await?;
                    self.guard.resynced(listed_after);
                    fenced = false;
                    tracing::info!("the rooms are listed again after the pause");
                }
                self.standing.send_if_modified(|s| !std::mem::replace(&mut s.listed, true));
            }
        }
    }

    fn listen(&self) -> Events {
        let of = |source: Source| {
            let fields = format!("{}={}", source.field(), self.node);
            connection::events(self.api.clone(), &fields, Watched::callroom, self.contact.clone(), self.metrics.clone())
                .map(move |event| (source, event))
                .boxed()
        };
        stream::select_all(Source::ALL.map(of)).boxed()
    }

    async fn obey(&self, order: Order, questions: &mut VecDeque<(CallId, Ticket)>) -> Result<(), Refusal> {
        match order {
            Order::Serve(Service { id, uid, epoch, max_participants, rules }) => {
                tracing::info!(room = %id, epoch, "serving");
                let max_participants = usize::try_from(max_participants).unwrap_or_default();
                self.directory.serve(Assignment { key: key(id), uid, epoch, max_participants, rules }).await
            }
            Order::Release(id, why) => {
                tracing::info!(room = %id, ?why, "letting go");
                let reason = match why {
                    Why::Ended => Reason::Ended,
                    Why::Deleted => Reason::Deleted,
                    Why::Moved => Reason::Moved,
                };
                self.directory.release(key(id), reason).await
            }
            Order::Confirm(id, ticket) => {
                questions.push_back((id, ticket));
                Ok(())
            }
        }
    }

    /// Asks until there is an answer.
    fn ask(&self, id: CallId, ticket: Ticket) -> BoxFuture<'static, News> {
        let api: Api<RoomView> = Api::namespaced(self.client.clone(), &id.namespace);
        let metrics = self.metrics.clone();
        async move {
            loop {
                match time::timeout(ANSWER_TIMEOUT, api.get_opt(&id.name)).await {
                    Ok(Ok(room)) => {
                        metrics.contact(crate::system::timestamp());
                        return News::Confirmed(id, ticket, room.map(Room::from));
                    }
                    Ok(Err(error)) => tracing::debug!(room = %id, %error, "the room could not be asked for"),
                    Err(_) => tracing::debug!(room = %id, "no answer about the room"),
                }
                time::sleep(ASK_AGAIN).await;
            }
        }
        .boxed()
    }
}

fn news(source: Source, event: Event<RoomView>) -> News {
    match event {
        Event::Init => News::ListStarted(source),
        Event::InitApply(room) => News::Listed(source, room.into()),
        Event::InitDone => News::ListDone(source),
        Event::Apply(room) => News::Changed(source, room.into()),
        Event::Delete(view) => {
            let version = version(kube::Resource::meta(&view));
            News::Left(source, Room::from(view).id, version)
        }
    }
}

fn key(id: CallId) -> RoomKey {
    RoomKey::new(id.namespace, id.name)
}
