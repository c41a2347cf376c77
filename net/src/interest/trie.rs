//! Patterns with wildcards, token by token.
//!
//! ```text
//! root -a-> node -b-> node   here: a.b
//!             |    `> tail:  a.>           one or more tokens follow
//!             `-*-> node     here: a.*
//! ```
//! A walk takes at each node up to three ways: the tail, the star and the literal token. It is a loop
//! with a stack of its own, as deep as the trie: neither a long subject nor a deep pattern can
//! overflow the thread's.

use weirlog_engine::types::FastMap;

use crate::subject;

/// The place of a node among [`PatternTrie::nodes`].
type NodeIndex = usize;

const ROOT: NodeIndex = 0;

/// A map from valid patterns to values.
#[derive(Debug)]
pub(super) struct PatternTrie<V> {
    nodes: Vec<Node<V>>,
    /// Nodes without a parent, to be used again.
    free: Vec<NodeIndex>,
    values_count: usize,
    /// Where a walk has still to go: a node, and where the subject's next token begins.
    to_visit: Vec<(NodeIndex, usize)>,
}

#[derive(Debug)]
struct Node<V> {
    literals: FastMap<Box<[u8]>, NodeIndex>,
    star: Option<NodeIndex>,
    /// Of the pattern that ends with the token that leads here.
    here: Option<V>,
    /// Of the pattern that goes on with `>`.
    tail: Option<V>,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { literals: FastMap::default(), star: None, here: None, tail: None }
    }
}

impl<V> Node<V> {
    fn is_empty(&self) -> bool {
        let has_value = self.here.is_some() || self.tail.is_some();
        !has_value && self.star.is_none() && self.literals.is_empty()
    }

    fn child(&self, token: &[u8]) -> Option<NodeIndex> {
        if token == b"*" { self.star } else { self.literals.get(token).copied() }
    }

    fn set_child(&mut self, token: &[u8], child: NodeIndex) {
        if token == b"*" {
            self.star = Some(child);
        } else {
            self.literals.insert(token.into(), child);
        }
    }

    fn remove_child(&mut self, token: &[u8]) {
        if token == b"*" {
            self.star = None;
        } else {
            self.literals.remove(token);
        }
    }
}

impl<V> Default for PatternTrie<V> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            values_count: 0,
            to_visit: Vec::new(),
        }
    }
}

impl<V: Default> PatternTrie<V> {
    /// Patterns in the trie.
    pub(super) fn len(&self) -> usize {
        self.values_count
    }

    /// The value of a pattern, a default one if it is new.
    pub(super) fn get_or_insert(&mut self, pattern: &[u8]) -> &mut V {
        let mut index = ROOT;
        let mut is_tail = false;
        for token in subject::tokens(pattern) {
            assert!(!is_tail, "> is the last token of a valid pattern");
            if token == b">" {
                is_tail = true;
                continue;
            }
            index = match self.nodes[index].child(token) {
                Some(child) => child,
                None => self.grow(index, token),
            };
        }
        let node = &mut self.nodes[index];
        let value = if is_tail { &mut node.tail } else { &mut node.here };
        self.values_count += usize::from(value.is_none());
        value.get_or_insert_default()
    }

    pub(super) fn get_mut(&mut self, pattern: &[u8]) -> Option<&mut V> {
        let mut index = ROOT;
        for token in subject::tokens(pattern) {
            if token == b">" {
                return self.nodes[index].tail.as_mut();
            }
            index = self.nodes[index].child(token)?;
        }
        self.nodes[index].here.as_mut()
    }

    /// Forgets a pattern that is in the trie, and the nodes only it needed.
    pub(super) fn remove(&mut self, pattern: &[u8]) {
        let mut path = Vec::new();
        let mut index = ROOT;
        let mut is_tail = false;
        for token in subject::tokens(pattern) {
            if token == b">" {
                is_tail = true;
                break;
            }
            path.push((index, token));
            index = self.nodes[index].child(token).expect("the pattern is in the trie");
        }
        let node = &mut self.nodes[index];
        let removed = if is_tail { node.tail.take() } else { node.here.take() };
        assert!(removed.is_some(), "the pattern is in the trie");
        self.values_count -= 1;
        while let Some((parent, token)) = path.pop() {
            if !self.nodes[index].is_empty() {
                break;
            }
            self.nodes[parent].remove_child(token);
            // Its maps' memory goes too.
            self.nodes[index] = Node::default();
            self.free.push(index);
            index = parent;
        }
        if self.values_count == 0 {
            assert!(self.nodes[ROOT].is_empty(), "no node without a pattern below it");
            *self = Self::default();
        }
    }

    /// Calls `found` with the value of each pattern that matches. A subject with an empty token matches
    /// none, not even `>`.
    pub(super) fn visit(&mut self, subject: &[u8], mut found: impl FnMut(&V)) {
        self.to_visit.clear();
        self.to_visit.push((ROOT, 0));
        // Most lookups find no wildcard pattern, and need no look at the whole subject.
        let mut is_known_valid = false;
        while let Some((index, start)) = self.to_visit.pop() {
            let node = &self.nodes[index];
            let rest = subject.get(start..);
            let value = if rest.is_some() { &node.tail } else { &node.here };
            if let Some(value) = value {
                if !is_known_valid && subject::has_empty_token(subject) {
                    return;
                }
                is_known_valid = true;
                found(value);
            }
            // Behind the last token, where the next dot would be: the pattern ends here too.
            let Some(rest) = rest else { continue };
            let size = rest.iter().position(|byte| *byte == b'.').unwrap_or(rest.len());
            let next = start + size + 1;
            if let Some(star) = node.star {
                self.to_visit.push((star, next));
            }
            // Pushed last, so the literal way is walked first.
            if let Some(child) = node.literals.get(&rest[..size]) {
                self.to_visit.push((*child, next));
            }
        }
    }

    fn grow(&mut self, parent: NodeIndex, token: &[u8]) -> NodeIndex {
        let child = self.free.pop().unwrap_or(self.nodes.len());
        if child == self.nodes.len() {
            self.nodes.push(Node::default());
        }
        assert!(self.nodes[child].is_empty(), "free nodes are empty");
        self.nodes[parent].set_child(token, child);
        child
    }
}
