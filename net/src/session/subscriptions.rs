//! The subscriptions of one connection: by index, as the interest table names them, and by the client's sid.

use weirlog_engine::types::FastMap;

use crate::auth::Permissions;

/// One SUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The client's name for it.
    pub sid: Box<[u8]>,
    /// The pattern.
    pub subject: Box<[u8]>,
    /// The queue group.
    pub queue: Option<Box<[u8]>>,
    /// Messages delivered since the SUB.
    pub delivered: u64,
    /// Messages after which it ends; 0: never.
    pub max: u64,
    /// Whether permissions deny some of the messages that match.
    pub is_filtered: bool,
}

impl Subscription {
    /// Whether a message that matches must not be delivered. Costs one look at a flag unless some are denied.
    #[must_use]
    #[inline]
    pub fn is_denied(&self, permissions: Option<&Permissions>, subject: &[u8]) -> bool {
        self.is_filtered && permissions.is_some_and(|may| !may.may_receive(subject))
    }
}

/// What a delivery meant for its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It goes on.
    More,
    /// That was the last message it asked for.
    Last,
}

/// All of a connection's.
#[derive(Debug, Default)]
pub struct Subscriptions {
    slots: Vec<Option<Subscription>>,
    free: Vec<u32>,
    by_sid: FastMap<Box<[u8]>, u32>,
}

impl Subscriptions {
    /// Number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_sid.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_sid.is_empty()
    }

    /// The one at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Subscription> {
        self.slots.get(index as usize)?.as_ref()
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.iter().flatten()
    }

    /// The index of the one that the client calls `sid`.
    #[must_use]
    pub fn index_of(&self, sid: &[u8]) -> Option<u32> {
        self.by_sid.get(sid).copied()
    }

    /// Adds a subscription whose sid is not in use. Returns its index.
    pub fn insert(&mut self, subscription: Subscription) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer subscriptions than memory holds")
        });
        let before = self.by_sid.insert(subscription.sid.clone(), index);
        assert!(before.is_none(), "the caller looked whether the sid is in use");
        let slot = self.slots.get_mut(index as usize).expect("made above or free");
        assert!(slot.is_none(), "a free slot is empty");
        *slot = Some(subscription);
        index
    }

    /// Removes the one at `index`.
    pub fn remove(&mut self, index: u32) -> Option<Subscription> {
        let subscription = self.slots.get_mut(index as usize)?.take()?;
        self.by_sid.remove(&subscription.sid);
        self.free.push(index);
        Some(subscription)
    }

    /// Counts a delivery.
    pub fn count_delivery(&mut self, index: u32) -> Counted {
        let Some(Some(subscription)) = self.slots.get_mut(index as usize) else {
            return Counted::More;
        };
        subscription.delivered += 1;
        let is_last = subscription.max > 0 && subscription.delivered >= subscription.max;
        if is_last { Counted::Last } else { Counted::More }
    }

    /// Sets the count of messages after which the one at `index` ends. Returns whether that is now.
    pub fn set_max(&mut self, index: u32, max: u64) -> bool {
        let Some(Some(subscription)) = self.slots.get_mut(index as usize) else {
            return false;
        };
        subscription.max = max;
        subscription.delivered >= max
    }

    /// Takes all of them out, with their indexes.
    pub fn take_all(&mut self) -> Vec<(u32, Subscription)> {
        let slots = std::mem::take(&mut self.slots);
        self.free.clear();
        self.by_sid.clear();
        (0..).zip(slots).filter_map(|(index, slot)| Some((index, slot?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(sid: &str) -> Subscription {
        Subscription {
            sid: sid.as_bytes().into(),
            subject: (*b"a.b").into(),
            queue: None,
            delivered: 0,
            max: 0,
            is_filtered: false,
        }
    }

    #[test]
    fn a_maximum_counts_from_the_sub() {
        let mut all = Subscriptions::default();
        let index = all.insert(subscription("1"));
        assert_eq!(all.count_delivery(index), Counted::More);
        assert!(!all.set_max(index, 3), "one of three");
        assert_eq!(all.count_delivery(index), Counted::More);
        assert_eq!(all.count_delivery(index), Counted::Last);
        assert!(all.set_max(index, 2), "two are delivered already");
        assert!(all.set_max(index, 0), "0 is now");
    }

    #[test]
    fn an_index_is_used_again_only_after_it_was_given_back() {
        let mut all = Subscriptions::default();
        let first = all.insert(subscription("1"));
        let second = all.insert(subscription("2"));
        assert_ne!(first, second);
        assert_eq!(all.index_of(b"2"), Some(second));
        assert_eq!(&*all.remove(first).unwrap().sid, b"1");
        assert!(all.remove(first).is_none());
        assert_eq!(all.index_of(b"1"), None);
        assert_eq!(all.insert(subscription("3")), first);
        let taken: Vec<u32> = all.take_all().into_iter().map(|(index, _)| index).collect();
        assert_eq!(taken, [first, second]);
        assert!(all.is_empty());
    }
}
