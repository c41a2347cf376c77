//! Carries link batches between executors: one first-in-first-out channel from each core to each other core. A batch
//! that finds its channel full waits in a queue behind it, never beside it, and nobody waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::channels::shared_channel::{
    self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender,
};
use glommio::{GlommioError, ResourceType};
use weirlog_engine::runtime::Doorbell;

use crate::ids::CoreId;
use crate::link::LinkBatch;

/// Batches in a channel. A core sends at most one to each other for an event, so a few hundred outlast any pause of
/// the receiver that is not a fault; more of them wait in memory.
const CHANNEL_BATCHES_COUNT: usize = 256;
/// While channels are being connected, an executor wakes this often.
const CONNECT_TICK: Duration = Duration::from_millis(1);

/// One core's ends of all channels, to be taken to its executor.
pub struct MeshEnds {
    own: CoreId,
    senders: Vec<Option<SharedSender<LinkBatch>>>,
    receivers: Vec<Option<SharedReceiver<LinkBatch>>>,
}

/// A core's way to the others.
pub struct Mesh {
    links: Vec<Option<Rc<Outgoing>>>,
}

/// Where another core's batches come in.
pub struct Incoming {
    /// The other core.
    pub from: CoreId,
    /// Its channel.
    pub receiver: ConnectedReceiver<LinkBatch>,
}

struct Outgoing {
    sender: ConnectedSender<LinkBatch>,
    waiting: RefCell<VecDeque<LinkBatch>>,
    /// A batch is between the queue and the channel.
    is_sending: Cell<bool>,
    bell: Doorbell,
}

/// Channels between `count` cores.
#[must_use]
pub fn make_ends(count: u16) -> Vec<MeshEnds> {
    let none = || (0..count).map(|_| None).collect::<Vec<_>>();
    let mut ends: Vec<MeshEnds> = (0..count)
        .map(|core| MeshEnds {
            own: CoreId(core),
            senders: none(),
            receivers: (0..count).map(|_| None).collect(),
        })
        .collect();
    for from in 0..usize::from(count) {
        for to in (0..usize::from(count)).filter(|to| *to != from) {
            let (sender, receiver) = shared_channel::new_bounded(CHANNEL_BATCHES_COUNT);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

impl MeshEnds {
    /// Connects all channels with the other executors, which do the same: an end waits for its other end, so all are
    /// begun before the first is awaited.
    pub async fn connect(self) -> (Mesh, Vec<Incoming>) {
        let spawn_sender = |sender: SharedSender<_>| glommio::spawn_local(sender.connect());
        let senders: Vec<_> =
            self.senders.into_iter().map(|sender| sender.map(spawn_sender)).collect();
        let spawn_receiver = |receiver: SharedReceiver<_>| glommio::spawn_local(receiver.connect());
        let receivers: Vec<_> =
            self.receivers.into_iter().map(|receiver| receiver.map(spawn_receiver)).collect();
        let mut links = Vec::with_capacity(senders.len());
        for sender in senders {
            links.push(match sender {
                Some(sender) => Some(Outgoing::start(connected(sender).await)),
                None => None,
            });
        }
        let mut incoming = Vec::with_capacity(receivers.len());
        for (core, receiver) in (0_u16..).zip(receivers) {
            if let Some(receiver) = receiver {
                incoming.push(Incoming { from: CoreId(core), receiver: connected(receiver).await });
            }
        }
        assert!(links.len() > usize::from(self.own.0), "a core is one of them");
        (Mesh { links }, incoming)
    }
}

/// Waits until a channel's two ends have found each other. glommio 0.9 does not wake an executor that fell asleep
/// just before the other end came, so this one is kept from sleeping long.
pub async fn connected<T>(connecting: impl Future<Output = T>) -> T {
    let mut connecting = pin!(connecting);
    loop {
        let mut tick = pin!(glommio::timer::sleep(CONNECT_TICK));
        let step = poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => tick.as_mut().poll(context).map(|()| None),
        });
        if let Some(end) = step.await {
            return end;
        }
    }
}

impl Mesh {
    /// Sends a batch to `core`, behind all that were sent to it before.
    pub fn send(&self, core: CoreId, batch: LinkBatch) {
        let link = self.links[usize::from(core.0)].as_ref().expect("a core has no link to itself");
        if link.is_sending.get() || !link.waiting.borrow().is_empty() {
            link.waiting.borrow_mut().push_back(batch);
            link.bell.ring();
            return;
        }
        // Any other error says that the other core has ended, and this one is about to.
        if let Err(GlommioError::WouldBlock(ResourceType::Channel(batch))) =
            link.sender.try_send(batch)
        {
            link.waiting.borrow_mut().push_back(batch);
            link.bell.ring();
        }
    }
}

impl Outgoing {
    fn start(sender: ConnectedSender<LinkBatch>) -> Rc<Self> {
        let link = Rc::new(Self {
            sender,
            waiting: RefCell::default(),
            is_sending: Cell::new(false),
            bell: Doorbell::default(),
        });
        glommio::spawn_local(Self::carry(link.clone())).detach();
        link
    }

    /// Moves what waits into the channel. The only one that awaits room there: two at a time would panic.
    async fn carry(link: Rc<Self>) {
        loop {
            link.bell.wait().await;
            loop {
                let next = link.waiting.borrow_mut().pop_front();
                let Some(batch) = next else { break };
                link.is_sending.set(true);
                let result = link.sender.send(batch).await;
                link.is_sending.set(false);
                if result.is_err() {
                    return;
                }
            }
        }
    }
}
