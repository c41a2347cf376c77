//! The subscriptions of one connection: by index, as the interest table names them, and by the client's sid.

use std::hash::BuildHasher;
use std::vec::IntoIter;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxBuildHasher;

use crate::auth::Permissions;
use crate::buffered::{Buffered, Charge};

/// What a subscription takes beside its texts, here and in the interest table: about so much was measured with a
/// million literal subjects. One with wildcards takes up to 200 more.
const SUBSCRIPTION_SIZE_BYTES: usize = 400;

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
    /// About what it takes in memory. The interest table has its pattern too.
    fn size_bytes(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, |queue| queue.len());
        SUBSCRIPTION_SIZE_BYTES + self.sid.len() + 2 * self.subject.len() + queue
    }

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
    slots: Slots,
    free: Vec<u32>,
    by_sid: HashTable<u32>,
    charge: Charge,
}

/// Subscriptions by index.
#[derive(Debug, Default)]
struct Slots {
    /// The index of the first slot: those below were of subscriptions that left together, and are not used again, since
    /// the interest table may know them still.
    first: u32,
    slots: Vec<Option<Subscription>>,
}

/// Subscriptions that leave together, with their indexes.
#[derive(Debug)]
pub struct Leaving {
    next: u32,
    slots: IntoIter<Option<Subscription>>,
}

impl Subscriptions {
    /// None, whose memory counts among `buffered`.
    #[must_use]
    pub fn new(buffered: &Buffered) -> Self {
        Self { charge: buffered.charge(), ..Self::default() }
    }

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

    /// About what they take in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// They are about to leave, and count no more.
    pub fn discharge(&mut self) {
        self.charge.set(0);
    }

    /// The one at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Subscription> {
        self.slots.get(index)
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.slots.iter().flatten()
    }

    /// The index of the one that the client calls `sid`.
    #[must_use]
    pub fn index_of(&self, sid: &[u8]) -> Option<u32> {
        let is_it = |index: &u32| self.get(*index).is_some_and(|known| *known.sid == *sid);
        self.by_sid.find(hash_of(sid), is_it).copied()
    }

    /// Adds a subscription whose sid is not in use. Returns its index.
    pub fn insert(&mut self, subscription: Subscription) -> u32 {
        let Self { slots, free, by_sid, charge } = self;
        let index = free.pop().unwrap_or_else(|| slots.add());
        let sid_of = |index: &u32| slots.get(*index).map(|known| &*known.sid);
        let is_same = |index: &u32| sid_of(index) == Some(&*subscription.sid);
        let hash_of_known = |index: &u32| sid_of(index).map_or(0, hash_of);
        match by_sid.entry(hash_of(&subscription.sid), is_same, hash_of_known) {
            Entry::Vacant(vacant) => drop(vacant.insert(index)),
            Entry::Occupied(_) => unreachable!("the caller looked whether the sid is in use"),
        }
        charge.set(charge.bytes() + subscription.size_bytes());
        let slot = slots.slot(index).expect("made above or free");
        assert!(slot.is_none(), "a free slot is empty");
        *slot = Some(subscription);
        index
    }

    /// Removes the one at `index`.
    pub fn remove(&mut self, index: u32) -> Option<Subscription> {
        let subscription = self.slots.slot(index)?.take()?;
        let found = self.by_sid.find_entry(hash_of(&subscription.sid), |known| *known == index);
        found.expect("each has its sid").remove();
        self.free.push(index);
        self.charge.set(self.charge.bytes().saturating_sub(subscription.size_bytes()));
        Some(subscription)
    }

    /// Counts a delivery.
    pub fn count_delivery(&mut self, index: u32) -> Counted {
        let Some(Some(subscription)) = self.slots.slot(index) else {
            return Counted::More;
        };
        subscription.delivered += 1;
        let is_last = subscription.max > 0 && subscription.delivered >= subscription.max;
        if is_last { Counted::Last } else { Counted::More }
    }

    /// Sets the count of messages after which the one at `index` ends. Returns whether that is now.
    pub fn set_max(&mut self, index: u32, max: u64) -> bool {
        let Some(Some(subscription)) = self.slots.slot(index) else {
            return false;
        };
        subscription.max = max;
        subscription.delivered >= max
    }

    /// Takes all of them out. Their indexes are not used again.
    pub fn take_all(&mut self) -> Leaving {
        self.free.clear();
        self.by_sid.clear();
        self.discharge();
        self.slots.take_all()
    }
}

impl Slots {
    fn get(&self, index: u32) -> Option<&Subscription> {
        self.slots.get(self.place(index)?)?.as_ref()
    }

    fn slot(&mut self, index: u32) -> Option<&mut Option<Subscription>> {
        let place = self.place(index)?;
        self.slots.get_mut(place)
    }

    fn place(&self, index: u32) -> Option<usize> {
        Some(index.checked_sub(self.first)? as usize)
    }

    /// Adds an empty one behind the others.
    fn add(&mut self) -> u32 {
        let index = self.end();
        self.slots.push(None);
        index
    }

    /// The index behind the last.
    fn end(&self) -> u32 {
        let count = u32::try_from(self.slots.len()).ok();
        let end = count.and_then(|count| self.first.checked_add(count));
        end.expect("fewer subscriptions of a connection, ever, than 2^32")
    }

    fn take_all(&mut self) -> Leaving {
        let next = self.first;
        self.first = self.end();
        Leaving { next, slots: std::mem::take(&mut self.slots).into_iter() }
    }
}

impl Iterator for Leaving {
    type Item = (u32, Subscription);

    fn next(&mut self) -> Option<Self::Item> {
        self.slots.find_map(|slot| {
            let index = self.next;
            self.next += 1;
            Some((index, slot?))
        })
    }
}

fn hash_of(sid: &[u8]) -> u64 {
    FxBuildHasher.hash_one(sid)
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
    fn what_they_take_is_charged_until_they_leave() {
        let buffered = Buffered::default();
        let mut all = Subscriptions::new(&buffered);
        let first = all.insert(subscription("1"));
        let one = buffered.bytes();
        assert!(one > SUBSCRIPTION_SIZE_BYTES);
        all.insert(subscription("2"));
        assert_eq!((buffered.bytes(), all.size_bytes()), (2 * one, 2 * one));
        all.remove(first);
        assert_eq!(buffered.bytes(), one);
        let _leaving = all.take_all();
        assert_eq!(buffered.bytes(), 0);
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
        let taken: Vec<u32> = all.take_all().map(|(index, _)| index).collect();
        assert_eq!(taken, [first, second]);
        assert!(all.is_empty());
        // Who leaves may do so slowly: those that come meanwhile are others.
        let later = all.insert(subscription("1"));
        assert!(!taken.contains(&later));
        assert!(all.get(first).is_none() && all.get(later).is_some());
    }
}
