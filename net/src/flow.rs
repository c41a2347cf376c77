//! Counters of what went one way. Plain numbers: each belongs to one core, and is added up when somebody asks.

/// Messages and their bytes since some start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// How many.
    pub messages: u64,
    /// Bytes of their payloads, headers included.
    pub bytes: u64,
}

/// Both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients.
    pub received: Flow,
    /// To clients.
    pub sent: Flow,
}

/// Messages of channels, as NATS Streaming counts them (spec stan.md, section 4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelTraffic {
    /// Publish requests that could be read, refused ones too, and deliveries, those that come again too.
    pub messages: Traffic,
    /// Deliveries of messages that were sent before.
    pub redelivered: u64,
    /// Acks of subscribers, those of messages that were acked before too.
    pub acked: u64,
}

impl Flow {
    /// One more message.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// As many more.
    #[inline]
    pub(crate) fn add_all(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl Traffic {
    /// Adds another core's.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.received.add_all(other.received);
        self.sent.add_all(other.sent);
    }
}

impl ChannelTraffic {
    /// Adds another core's.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.messages.add_all(other.messages);
        self.redelivered += other.redelivered;
        self.acked += other.acked;
    }
}
