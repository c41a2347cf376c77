//! The connections of one core by slot.

use crate::ids::ConnectionId;
use crate::session::Session;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    session: Option<Box<Session>>,
}

/// All connections of one core.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Sessions {
    /// Number of connections.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connection, if it is still there.
    #[must_use]
    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Session> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation == id.generation { slot.session.as_deref() } else { None }
    }

    /// The connection, if it is still there.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation { slot.session.as_deref_mut() } else { None }
    }

    /// All connections, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| slot.session.as_deref())
    }

    /// Adds a connection, made with the name it gets.
    pub(crate) fn insert(&mut self, make: impl FnOnce(ConnectionId) -> Session) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer connections than descriptors")
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.session.is_none(), "a free slot is empty");
        let id = ConnectionId { slot: index, generation: slot.generation };
        slot.session = Some(Box::new(make(id)));
        id
    }

    /// Takes a connection out; its name is never used again.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        self.get(id)?;
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        slot.session.take()
    }
}

#[cfg(test)]
mod tests {
    use weirlog_engine::types::Now;

    use super::*;
    use crate::address::Address;
    use crate::buffered::Buffered;

    #[test]
    fn the_name_of_a_closed_connection_names_nobody() {
        let mut sessions = Sessions::default();
        let buffered = Buffered::default();
        let make = |id| Session::new(id, 1, Address::default(), Now::default(), &buffered);
        let first = sessions.insert(make);
        assert!(sessions.get(first).is_some());
        assert!(sessions.remove(first).is_some());
        let second = sessions.insert(make);
        assert_eq!(first.slot, second.slot);
        assert!(sessions.get(first).is_none());
        assert!(sessions.remove(first).is_none());
        assert_eq!(sessions.len(), 1);
        assert!(sessions.get(second).is_some());
    }
}
