//! What a user may publish and subscribe to.
//!
//! An entry is a subject, wildcards included, or for subscriptions `subject queue`. Deny wins. No allow list allows
//! all; an empty one allows nothing. A subscription must lie within one allowed entry; one that is wider than a denied
//! entry is made, and what is denied is left out when messages are delivered.
//!
//! Channels: publishing to channel `c` needs the permission to publish to `_STAN.pub.<cluster>.c`, whatever subject the
//! message came by. Subscribing to it is checked as a subscription to `_STAN.sub.<cluster>.c`, but against those lists
//! only in which an entry begins with `_STAN.sub.`: permissions that were written without this rule go on working.

use super::AuthError;
use crate::subject::{covers, is_valid_pattern, matches, overlap};

/// What entries about subscriptions to channels begin with.
const CHANNEL_PREFIX: &[u8] = b"_STAN.sub.";

/// Lists as the operator wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSpec {
    /// What is allowed; none: everything.
    pub allow: Option<Vec<String>>,
    /// What is not, even if it is allowed.
    pub deny: Vec<String>,
}

/// A user's permissions as the operator wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionSpec {
    /// For PUB and HPUB.
    pub publish: RuleSpec,
    /// For SUB.
    pub subscribe: RuleSpec,
    /// Whether messages that ask for an answer may be answered, wherever to. Without a list of what is allowed to be
    /// published, nothing else may then.
    pub responses: Option<ResponseLimits>,
}

/// How many answers a message may get, and how late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Messages to its reply subject; none: any number. At least 1.
    pub count_max: Option<u64>,
    /// Milliseconds after its delivery; none: for ever.
    pub expires_ms: Option<u64>,
}

impl Default for ResponseLimits {
    /// One answer within two minutes, as in the reference.
    fn default() -> Self {
        Self { count_max: Some(1), expires_ms: Some(120_000) }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    allow: Option<Vec<Entry>>,
    deny: Vec<Entry>,
}

/// A user's permissions, compiled.
#[derive(Debug, PartialEq, Eq)]
pub struct Permissions {
    publish: Rule,
    subscribe: Rule,
    responses: Option<ResponseLimits>,
}

impl Permissions {
    /// Compiles what the operator wrote.
    ///
    /// # Errors
    /// An entry has no meaning.
    pub fn new(spec: &PermissionSpec) -> Result<Self, AuthError> {
        let mut publish = Rule::new(&spec.publish)?;
        if spec.responses.is_some() {
            publish.allow.get_or_insert_default();
        }
        let mut entries = publish.allow.iter().flatten().chain(&publish.deny);
        if let Some(entry) = entries.find(|entry| entry.queue.is_some()) {
            return Err(AuthError::Queue(String::from_utf8_lossy(&entry.subject).into_owned()));
        }
        Ok(Self { publish, subscribe: Rule::new(&spec.subscribe)?, responses: spec.responses })
    }

    /// Whether a message may be published to `subject`, taken literally.
    #[must_use]
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let hits = |entries: &[Entry]| entries.iter().any(|entry| matches(&entry.subject, subject));
        self.publish.allow.as_deref().is_none_or(hits) && !hits(&self.publish.deny)
    }

    /// Within which limits messages may be answered; none: only where publishing is allowed anyway.
    #[must_use]
    #[inline]
    pub fn responses(&self) -> Option<ResponseLimits> {
        self.responses
    }

    /// Whether `pattern` may be subscribed to, by itself or as a member of `queue`. One that is not valid lies within
    /// no allowed entry.
    #[must_use]
    pub fn may_subscribe(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        let Rule { allow, deny } = &self.subscribe;
        let hits =
            |entries: &[Entry]| is_valid_pattern(pattern) && applies(entries, pattern, queue);
        allow.as_deref().is_none_or(hits) && !hits(deny)
    }

    /// Whether some messages for `pattern`, which may be subscribed to, must not be delivered.
    #[must_use]
    pub fn filters(&self, pattern: &[u8]) -> bool {
        let mut plain = self.subscribe.deny.iter().filter(|entry| entry.queue.is_none());
        plain.any(|entry| overlap(&entry.subject, pattern))
    }

    /// Whether a message to `subject` may be delivered.
    #[must_use]
    pub fn may_receive(&self, subject: &[u8]) -> bool {
        let mut plain = self.subscribe.deny.iter().filter(|entry| entry.queue.is_none());
        !plain.any(|entry| matches(&entry.subject, subject))
    }

    /// Whether a channel may be subscribed to. `subject` is `_STAN.sub.<cluster>.<channel>`; see the module.
    #[must_use]
    pub fn may_subscribe_channel(&self, subject: &[u8]) -> bool {
        let Rule { allow, deny } = &self.subscribe;
        let speaks = |entries: &&[Entry]| {
            entries.iter().any(|entry| entry.subject.starts_with(CHANNEL_PREFIX))
        };
        let hits = |entries: &[Entry]| applies(entries, subject, None);
        allow.as_deref().filter(speaks).is_none_or(hits)
            && !Some(deny.as_slice()).filter(speaks).is_some_and(hits)
    }
}

impl Rule {
    fn new(spec: &RuleSpec) -> Result<Self, AuthError> {
        let compile = |texts: &[String]| texts.iter().map(|text| Entry::new(text)).collect();
        let allow: Option<Result<Vec<Entry>, AuthError>> = spec.allow.as_deref().map(compile);
        let deny: Result<Vec<Entry>, AuthError> = compile(&spec.deny);
        Ok(Self { allow: allow.transpose()?, deny: deny? })
    }
}

impl Entry {
    fn new(text: &str) -> Result<Self, AuthError> {
        let mut words = text.split_ascii_whitespace();
        let (subject, queue) = (words.next().unwrap_or_default(), words.next());
        let is_valid = is_valid_pattern(subject.as_bytes())
            && queue.is_none_or(|queue| is_valid_pattern(queue.as_bytes()))
            && words.next().is_none();
        if !is_valid {
            return Err(AuthError::Subject(text.to_owned()));
        }
        let queue = queue.map(|queue| queue.as_bytes().into());
        Ok(Self { subject: subject.as_bytes().into(), queue })
    }
}

/// Whether a list speaks of a subscription. For a member of a queue group the entries with a queue decide, if any of
/// them is about its subject.
fn applies(entries: &[Entry], pattern: &[u8], queue: Option<&[u8]>) -> bool {
    let mut about = entries.iter().filter(|entry| covers(&entry.subject, pattern));
    let Some(queue) = queue else { return about.any(|entry| entry.queue.is_none()) };
    let (mut is_plain, mut has_queues, mut is_member) = (false, false, false);
    for entry in about {
        match &entry.queue {
            Some(wanted) => {
                has_queues = true;
                is_member |= matches(wanted, queue);
            }
            None => is_plain = true,
        }
    }
    if has_queues { is_member } else { is_plain }
}
