//! Who of one core listens to which subject, and what other cores listen to.
//!
//! A lookup fills a [`Matches`] that the caller keeps: once its vectors have grown, nothing is
//! allocated. Literal patterns cost one hash of the subject, however many there are; patterns with
//! wildcards are looked at only if there are any.
//!
//! The order of what is found depends on nothing but the order of insertions and removals: the
//! literal pattern first, then wildcard patterns as their trie is walked; in a pattern the oldest
//! subscriber first.
//!
//! Queue groups are formed by name: members that subscribed with different patterns but the same
//! queue name share one delivery, if both patterns match. Who of them gets it is the caller's choice.

mod groups;
mod patterns;
mod remote;
#[cfg(test)]
mod tests;
mod trie;

use bytes::Bytes;

pub use groups::{Group, Groups};
use patterns::PatternMap;
pub use remote::{CoreSet, RemoteInterest, RemoteMatches, RemoteMembers};

use crate::subject;

/// What changed for the other cores.
///
/// Of plain subscribers they need to know that there is one; of a queue group they need the number of
/// members, to choose fairly, so each of them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterestChange {
    /// The first plain subscriber of a pattern has come, or a member of a queue group.
    Added {
        /// The pattern.
        pattern: Bytes,
        /// The queue group, if it is one.
        queue: Option<Bytes>,
    },
    /// The last plain subscriber of a pattern has gone, or a member of a queue group.
    Removed {
        /// The pattern.
        pattern: Bytes,
        /// The queue group, if it is one.
        queue: Option<Bytes>,
    },
}

/// The table from patterns to subscribers of one core.
#[derive(Debug)]
pub struct Interest<S> {
    patterns: PatternMap<Subscribers<S>>,
    subscribers_count: usize,
}

/// Those of one pattern.
#[derive(Debug)]
struct Subscribers<S> {
    plain: Vec<S>,
    /// No group without members.
    groups: Vec<(Bytes, Vec<S>)>,
}

/// Who gets a message. Made once, filled by each lookup.
#[derive(Debug)]
pub struct Matches<S> {
    plain: Vec<S>,
    groups: Groups<S>,
}

impl<S> Default for Interest<S> {
    fn default() -> Self {
        Self { patterns: PatternMap::default(), subscribers_count: 0 }
    }
}

impl<S> Default for Subscribers<S> {
    fn default() -> Self {
        Self { plain: Vec::new(), groups: Vec::new() }
    }
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self { plain: Vec::new(), groups: Groups::default() }
    }
}

impl<S: Copy + Eq> Interest<S> {
    /// Adds a subscriber to a valid pattern, plain or as a member of a queue group.
    ///
    /// A subscriber inserted twice is found twice, and must be removed twice.
    ///
    /// # Panics
    /// The pattern is not valid: the session answers for that.
    pub fn insert(
        &mut self,
        pattern: &[u8],
        queue: Option<&[u8]>,
        subscriber: S,
    ) -> Option<InterestChange> {
        assert!(subject::is_valid_pattern(pattern), "sessions refuse invalid patterns");
        self.subscribers_count += 1;
        let subscribers = self.patterns.get_or_insert(pattern);
        let queue = if let Some(name) = queue {
            Some(subscribers.insert_member(name, subscriber))
        } else {
            subscribers.plain.push(subscriber);
            if subscribers.plain.len() > 1 {
                return None;
            }
            None
        };
        Some(InterestChange::Added { pattern: Bytes::copy_from_slice(pattern), queue })
    }

    /// Takes a subscriber out again; nothing happens if it is not there.
    pub fn remove(
        &mut self,
        pattern: &[u8],
        queue: Option<&[u8]>,
        subscriber: S,
    ) -> Option<InterestChange> {
        let subscribers = self.patterns.get_mut(pattern)?;
        let queue = if let Some(name) = queue {
            Some(subscribers.remove_member(name, subscriber)?)
        } else {
            remove_one(&mut subscribers.plain, subscriber)?;
            None
        };
        let is_announced = queue.is_some() || subscribers.plain.is_empty();
        if subscribers.plain.is_empty() && subscribers.groups.is_empty() {
            self.patterns.remove(pattern);
        }
        assert!(self.subscribers_count > 0, "the one removed was counted");
        self.subscribers_count -= 1;
        is_announced
            .then(|| InterestChange::Removed { pattern: Bytes::copy_from_slice(pattern), queue })
    }

    /// Fills `out` with all who get a message to `subject`, which is taken literally.
    pub fn matches(&mut self, subject: &[u8], out: &mut Matches<S>) {
        out.clear();
        self.patterns.visit(subject, |subscribers| {
            out.plain.extend_from_slice(&subscribers.plain);
            let known = out.groups.len();
            for (name, members) in &subscribers.groups {
                out.groups.merge(known, name).extend_from_slice(members);
            }
        });
    }

    /// Subscribers in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers_count
    }

    /// Whether nobody listens to anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers_count == 0
    }

    /// Different patterns in the table.
    #[must_use]
    pub fn patterns_count(&self) -> usize {
        self.patterns.len()
    }
}

impl<S: Copy + Eq> Subscribers<S> {
    fn insert_member(&mut self, name: &[u8], subscriber: S) -> Bytes {
        if let Some((name, members)) = self.groups.iter_mut().find(|(known, _)| known == name) {
            members.push(subscriber);
            return name.clone();
        }
        let name = Bytes::copy_from_slice(name);
        self.groups.push((name.clone(), vec![subscriber]));
        name
    }

    fn remove_member(&mut self, name: &[u8], subscriber: S) -> Option<Bytes> {
        let index = self.groups.iter().position(|(known, _)| known == name)?;
        let (name, members) = &mut self.groups[index];
        remove_one(members, subscriber)?;
        if members.is_empty() { Some(self.groups.remove(index).0) } else { Some(name.clone()) }
    }
}

impl<S> Matches<S> {
    /// Plain subscribers: each gets the message.
    #[must_use]
    pub fn plain(&self) -> &[S] {
        &self.plain
    }

    /// Queue groups: one member of each gets the message.
    #[must_use]
    pub fn groups(&self) -> &[Group<S>] {
        self.groups.as_slice()
    }

    /// The members of one queue group; none if it has none.
    #[must_use]
    pub fn members(&self, queue: &[u8]) -> &[S] {
        self.groups.members(queue)
    }

    /// Whether nobody gets the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.as_slice().is_empty()
    }

    fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
    }
}

/// Takes the oldest one out and keeps the order of the others.
fn remove_one<S: Copy + Eq>(subscribers: &mut Vec<S>, subscriber: S) -> Option<()> {
    let index = subscribers.iter().position(|known| *known == subscriber)?;
    subscribers.remove(index);
    // A pattern that had many subscribers once must not hold their memory for ever.
    if subscribers.capacity() > 64 && subscribers.len() < subscribers.capacity() / 4 {
        subscribers.shrink_to(subscribers.len() * 2);
    }
    Some(())
}
