//! A map from patterns to values that finds all values whose pattern matches a subject.

use weirlog_engine::types::FastMap;

use super::trie::PatternTrie;
use crate::subject;

/// Literal patterns in a hash map, the others in a trie.
#[derive(Debug)]
pub(super) struct PatternMap<V> {
    literals: FastMap<Box<[u8]>, V>,
    wildcards: PatternTrie<V>,
}

impl<V> Default for PatternMap<V> {
    fn default() -> Self {
        Self { literals: FastMap::default(), wildcards: PatternTrie::default() }
    }
}

impl<V: Default> PatternMap<V> {
    /// The value of a pattern, a default one if it is new.
    pub(super) fn get_or_insert(&mut self, pattern: &[u8]) -> &mut V {
        if subject::is_literal(pattern) {
            self.literals.entry(pattern.into()).or_default()
        } else {
            self.wildcards.get_or_insert(pattern)
        }
    }

    pub(super) fn get_mut(&mut self, pattern: &[u8]) -> Option<&mut V> {
        if subject::is_literal(pattern) {
            self.literals.get_mut(pattern)
        } else {
            self.wildcards.get_mut(pattern)
        }
    }

    /// Forgets a pattern that is in the map.
    pub(super) fn remove(&mut self, pattern: &[u8]) {
        if subject::is_literal(pattern) {
            let removed = self.literals.remove(pattern);
            assert!(removed.is_some(), "the pattern is in the map");
        } else {
            self.wildcards.remove(pattern);
        }
    }

    /// Calls `found` with the value of each pattern that matches.
    #[inline]
    pub(super) fn visit(&mut self, subject: &[u8], mut found: impl FnMut(&V)) {
        if let Some(value) = self.literals.get(subject) {
            found(value);
        }
        if self.wildcards.len() > 0 {
            self.wildcards.visit(subject, found);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.literals.len() + self.wildcards.len()
    }
}
