//! What the other cores listen to, as they have told, and which of them a message must go to.

use bytes::Bytes;

use super::InterestChange;
use super::groups::{Group, Groups};
use super::patterns::PatternMap;
use crate::ids::CoreId;
use crate::subject;

/// A set of cores: a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreSet(u64);

/// The subscribers of one core, of a pattern or a queue group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteMembers {
    /// The core.
    pub core: CoreId,
    /// How many it has; never 0.
    pub count: usize,
}

/// The table from patterns to other cores.
#[derive(Debug, Default)]
pub struct RemoteInterest {
    patterns: PatternMap<Listeners>,
}

/// Those of one pattern; in each list the cores in their order.
#[derive(Debug, Default)]
struct Listeners {
    plain: Vec<RemoteMembers>,
    /// The cores in `plain`.
    plain_cores: CoreSet,
    /// No group without members.
    groups: Vec<(Bytes, Vec<RemoteMembers>)>,
}

/// Which cores a message must go to. Made once, filled by each lookup.
#[derive(Debug, Default)]
pub struct RemoteMatches {
    cores: CoreSet,
    groups: Groups<RemoteMembers>,
}

impl CoreSet {
    /// Cores at most: one bit each, and more than any machine has use for.
    pub const CORES_MAX: u16 = 64;

    /// Puts a core into the set.
    pub fn insert(&mut self, core: CoreId) {
        self.0 |= Self::bit(core);
    }

    /// Takes a core out of the set.
    pub fn remove(&mut self, core: CoreId) {
        self.0 &= !Self::bit(core);
    }

    /// Whether a core is in the set.
    #[must_use]
    pub fn contains(self, core: CoreId) -> bool {
        self.0 & Self::bit(core) != 0
    }

    /// Whether no core is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Cores in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The bits, of core 0 the lowest.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The cores of the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = CoreId> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let lowest = bits.trailing_zeros();
            // Takes the lowest bit away; at the end there is none.
            bits &= bits.checked_sub(1)?;
            Some(CoreId(u16::try_from(lowest).expect("below 64")))
        })
    }

    fn bit(core: CoreId) -> u64 {
        assert!(core.0 < Self::CORES_MAX, "a core's number has a bit");
        1 << core.0
    }
}

impl RemoteInterest {
    /// Takes in what another core tells.
    pub fn apply(&mut self, core: CoreId, change: &InterestChange) {
        match change {
            InterestChange::Added { pattern, queue } => self.add(core, pattern, queue.as_deref()),
            InterestChange::Removed { pattern, queue } => {
                self.remove(core, pattern, queue.as_deref());
            }
        }
    }

    /// A core has one subscriber more with this pattern and queue group.
    ///
    /// # Panics
    /// The pattern is not valid: the other core answers for that.
    pub fn add(&mut self, core: CoreId, pattern: &[u8], queue: Option<&[u8]>) {
        assert!(subject::is_valid_pattern(pattern), "cores tell valid patterns");
        let listeners = self.patterns.get_or_insert(pattern);
        let Some(name) = queue else {
            count_up(&mut listeners.plain, RemoteMembers { core, count: 1 });
            listeners.plain_cores.insert(core);
            return;
        };
        let one = RemoteMembers { core, count: 1 };
        match listeners.groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, members)) => count_up(members, one),
            None => listeners.groups.push((Bytes::copy_from_slice(name), vec![one])),
        }
    }

    /// A core has one subscriber less with this pattern and queue group.
    ///
    /// # Panics
    /// The core has not told of the subscriber: links neither lose messages nor change their order.
    pub fn remove(&mut self, core: CoreId, pattern: &[u8], queue: Option<&[u8]>) {
        let listeners = self.patterns.get_mut(pattern).expect("a core told of the pattern");
        if let Some(name) = queue {
            let index = listeners.groups.iter().position(|(known, _)| known == name);
            let index = index.expect("a core told of the group");
            let members = &mut listeners.groups[index].1;
            count_down(members, core);
            if members.is_empty() {
                listeners.groups.remove(index);
            }
        } else {
            if count_down(&mut listeners.plain, core) == 0 {
                listeners.plain_cores.remove(core);
            }
            assert_eq!(listeners.plain.len(), listeners.plain_cores.len());
        }
        if listeners.plain.is_empty() && listeners.groups.is_empty() {
            self.patterns.remove(pattern);
        }
    }

    /// Fills `out` with the cores that a message to `subject` goes to.
    pub fn matches(&mut self, subject: &[u8], out: &mut RemoteMatches) {
        out.cores = CoreSet::default();
        out.groups.clear();
        self.patterns.visit(subject, |listeners| {
            out.cores.0 |= listeners.plain_cores.0;
            let known = out.groups.len();
            for (name, members) in &listeners.groups {
                let merged = out.groups.merge(known, name);
                if merged.is_empty() {
                    merged.extend_from_slice(members);
                } else {
                    members.iter().for_each(|more| count_up(merged, *more));
                }
            }
        });
    }

    /// Different patterns that the other cores have.
    #[must_use]
    pub fn patterns_count(&self) -> usize {
        self.patterns.len()
    }
}

impl RemoteMatches {
    /// Cores with plain subscribers.
    #[must_use]
    pub fn cores(&self) -> CoreSet {
        self.cores
    }

    /// Queue groups with members on other cores.
    #[must_use]
    pub fn groups(&self) -> &[Group<RemoteMembers>] {
        self.groups.as_slice()
    }

    /// The members of one queue group by core; none if it has none there.
    #[must_use]
    pub fn members(&self, queue: &[u8]) -> &[RemoteMembers] {
        self.groups.members(queue)
    }

    /// Whether no other core gets the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty() && self.groups.as_slice().is_empty()
    }
}

/// Adds to a core's count, and keeps the list in the cores' order.
fn count_up(list: &mut Vec<RemoteMembers>, more: RemoteMembers) {
    assert!(more.count > 0);
    match list.binary_search_by_key(&more.core, |members| members.core) {
        Ok(index) => list[index].count += more.count,
        Err(index) => list.insert(index, more),
    }
}

/// Takes one from a core's count, and the core from the list if it was the last. Returns what is left.
fn count_down(list: &mut Vec<RemoteMembers>, core: CoreId) -> usize {
    let index = list.binary_search_by_key(&core, |members| members.core);
    let index = index.expect("a core told of the subscriber");
    list[index].count -= 1;
    let left = list[index].count;
    if left == 0 {
        list.remove(index);
    }
    left
}
