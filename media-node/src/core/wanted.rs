//! Tells publishers what nobody watches, so that they need not send it: at once when a layer is wanted
//! again, and only after a while when it no longer is.

use std::time::Instant;

use super::command::Event;
use super::producer::Producer;
use super::transport::arm;
use super::{Core, Key};

/// What is wanted of a producer, as its publisher knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// What the publisher was told last, and takes for granted before: everything.
    told: Option<u8>,
    /// When it is to be told something else.
    due: Option<Instant>,
}

impl Wanted {
    /// All layers up to the highest.
    pub fn all(highest: u8) -> Self {
        Self { told: Some(highest), due: None }
    }
}

impl Core {
    /// The highest spatial layer that a subscriber wants and may have; `None` if there is no such subscriber.
    fn layer_wanted(&self, producer: &Producer) -> Option<u8> {
        let consumers = producer.consumers.iter().filter_map(|key| self.consumers.get(*key));
        // What a path does not carry now is wanted all the same: otherwise nobody could know that it carries it.
        let targets = consumers.filter(|consumer| !consumer.paused).map(|consumer| consumer.layers.preferred());
        targets.map(|target| target.spatial.min(producer.highest().spatial)).max()
    }

    /// Something has changed about the subscribers of a producer: who they are, what they want or may have.
    pub(super) fn review_layers_wanted(&mut self, key: Key, now: Instant) {
        let Some(producer) = self.producers.get(key) else { return };
        let wanted = self.layer_wanted(producer);
        let Some(producer) = self.producers.get_mut(key) else { return };
        let state = &mut producer.wanted;
        if wanted == state.told {
            state.due = None;
            return;
        }
        let delay = if wanted > state.told { self.config.layers_wanted_rise } else { self.config.layers_wanted_fall };
        // A later change to less does not put off one that is due.
        let due = now + delay;
        if !arm(&mut state.due, due) {
            return;
        }
        let transport_key = producer.transport;
        if let Some(transport) = self.transports.get_mut(transport_key)
            && arm(&mut transport.deadlines.layers_wanted, due)
        {
            self.reschedule(transport_key);
        }
    }

    /// Tells what is due of the producers of a transport.
    pub(super) fn tell_layers_wanted(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get(key) else { return };
        let (id, producers) = (transport.id, transport.producers.clone());
        let mut next = None;
        for producer_key in producers {
            let Some(producer) = self.producers.get(producer_key) else { continue };
            let spatial = self.layer_wanted(producer);
            let Some(producer) = self.producers.get_mut(producer_key) else { continue };
            match producer.wanted.due {
                Some(due) if due <= now => {
                    producer.wanted = Wanted { told: spatial, due: None };
                    self.events.push_back(Event::LayersWanted { producer: producer.id, transport: id, spatial });
                }
                Some(due) => {
                    arm(&mut next, due);
                }
                None => {}
            }
        }
        if let (Some(transport), Some(next)) = (self.transports.get_mut(key), next) {
            arm(&mut transport.deadlines.layers_wanted, next);
        }
    }
}
