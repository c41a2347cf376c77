//! Queue groups found by a lookup, merged by their names over all patterns that match.

use bytes::Bytes;

/// A queue group and those of its members that were found.
#[derive(Debug)]
pub struct Group<M> {
    name: Bytes,
    members: Vec<M>,
}

/// A list of groups that keeps the memory of those it held before.
#[derive(Debug)]
pub struct Groups<M> {
    slots: Vec<Group<M>>,
    /// Slots in use; the ones behind wait for the next lookup.
    count: usize,
}

impl<M> Group<M> {
    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Its members: never empty.
    #[must_use]
    pub fn members(&self) -> &[M] {
        &self.members
    }
}

impl<M> Default for Groups<M> {
    fn default() -> Self {
        Self { slots: Vec::new(), count: 0 }
    }
}

impl<M> Groups<M> {
    /// The groups, in the order they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Group<M>] {
        &self.slots[..self.count]
    }

    /// The members of one group; none if it was not found.
    #[must_use]
    pub fn members(&self, name: &[u8]) -> &[M] {
        let found = self.as_slice().iter().find(|group| group.name == name);
        found.map(Group::members).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// The members' list of the group `name`, which is empty if the group is new.
    ///
    /// Only the first `known` groups are searched for it. Names in one pattern differ from each other, so
    /// the caller passes how many there were before the pattern: a pattern with very many groups, alone,
    /// costs no search.
    pub(super) fn merge(&mut self, known: usize, name: &Bytes) -> &mut Vec<M> {
        assert!(known <= self.count);
        let found = self.slots[..known].iter().position(|group| group.name == *name);
        let index = found.unwrap_or_else(|| self.begin(name));
        &mut self.slots[index].members
    }

    fn begin(&mut self, name: &Bytes) -> usize {
        let index = self.count;
        self.count += 1;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.name = name.clone();
            slot.members.clear();
        } else {
            self.slots.push(Group { name: name.clone(), members: Vec::new() });
        }
        index
    }
}
