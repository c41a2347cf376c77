//! The messages: field numbers and types as the clients have them, names in this code base's words.

use super::decode::{DecodeError, DecodeField, Reader};
use super::encode::{EncodeField, encode_length};

/// Defines a message from its fields, which must stand in the order of their numbers.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $number:literal => $field:ident: $kind:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name<'a> {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl<'a> $name<'a> {
            /// Reads a message that fills `bytes`.
            ///
            /// # Errors
            /// The bytes are not this message.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                let mut message = Self::default();
                let mut reader = Reader::new(bytes);
                while let Some(key) = reader.key()? {
                    match key.number {
                        $($number => {
                            message.$field = DecodeField::decode_field(key, &mut reader)?;
                        })*
                        _ => reader.skip(key)?,
                    }
                }
                Ok(message)
            }

            /// The bytes [`Self::encode`] appends, exactly.
            #[must_use]
            pub fn encoded_len(&self) -> usize {
                0 $(+ self.$field.field_len($number))*
            }

            /// Appends the message.
            pub fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode_field($number, out);)*
            }
        }
    };
}

message! {
    /// A client publishes a message.
    PubMsg {
        /// Who publishes; checked only if there is no connection id.
        1 => client_id: &'a str,
        /// Correlates the ack; it must not be empty.
        2 => guid: &'a str,
        /// The channel.
        3 => subject: &'a str,
        /// A reply subject for the subscribers, not for the ack.
        4 => reply: &'a str,
        /// The payload.
        5 => data: &'a [u8],
        /// The connection's id, from clients with protocol 1 on.
        6 => conn_id: &'a [u8],
        /// A checksum no server looks at.
        10 => sha256: &'a [u8],
    }
}

message! {
    /// The answer to a [`PubMsg`]: stored, or why not.
    PubAck {
        /// The one of the [`PubMsg`].
        1 => guid: &'a str,
        /// Empty: the message is stored.
        2 => error: &'a str,
    }
}

message! {
    /// What servers say to each other.
    CtrlMsg {
        /// 4: the data are a list of channels.
        1 => kind: u32,
        /// Who says so.
        2 => server_id: &'a str,
        /// Of each channel its length in 16 bits, little-endian, and its name.
        3 => data: &'a [u8],
    }
}

message! {
    /// A message as a subscriber gets it.
    MsgProto {
        /// Its number in the channel.
        1 => sequence: u64,
        /// The channel.
        2 => subject: &'a str,
        /// The publisher's reply subject.
        3 => reply: &'a str,
        /// The payload.
        4 => data: &'a [u8],
        /// When it was stored, in nanoseconds since 1970.
        5 => timestamp: i64,
        /// It was sent before.
        6 => is_redelivered: bool,
        /// How often it was sent before.
        7 => redelivery_count: u32,
        /// A checksum no server sets.
        10 => crc32: u32,
    }
}

message! {
    /// A subscriber has taken a message.
    Ack {
        /// The channel.
        1 => subject: &'a str,
        /// The message's number.
        2 => sequence: u64,
    }
}

message! {
    /// A client wants to be registered.
    ConnectRequest {
        /// Its name, unique among all clients.
        1 => client_id: &'a str,
        /// Where it answers the server's heartbeats.
        2 => heartbeat_inbox: &'a str,
        /// 0, or 1 for clients that ping.
        3 => protocol: i32,
        /// Random bytes that name this connection.
        4 => conn_id: &'a [u8],
        /// Seconds between its pings; negative values are milliseconds to tests.
        5 => ping_interval: i32,
        /// Pings without answer after which it gives up.
        6 => ping_max_out: i32,
    }
}

message! {
    /// The answer to a [`ConnectRequest`]: the subjects to send requests to.
    ConnectResponse {
        /// To publish: this, a dot, and the channel.
        1 => pub_prefix: &'a str,
        /// For [`SubscriptionRequest`].
        2 => sub_requests: &'a str,
        /// For [`UnsubscribeRequest`] that deletes.
        3 => unsub_requests: &'a str,
        /// For [`CloseRequest`].
        4 => close_requests: &'a str,
        /// Empty: the client is registered.
        5 => error: &'a str,
        /// For [`UnsubscribeRequest`] that suspends durables.
        6 => sub_close_requests: &'a str,
        /// For [`Ping`].
        7 => ping_requests: &'a str,
        /// The request's, unchanged.
        8 => ping_interval: i32,
        /// The request's, unchanged.
        9 => ping_max_out: i32,
        /// What the server speaks.
        10 => protocol: i32,
        /// Never set.
        100 => public_key: &'a str,
    }
}

message! {
    /// A client asks whether it is still registered.
    Ping {
        /// The connection's id.
        1 => conn_id: &'a [u8],
    }
}

message! {
    /// The answer to a [`Ping`].
    PingResponse {
        /// Empty: it is.
        1 => error: &'a str,
    }
}

message! {
    /// A client wants the messages of a channel.
    SubscriptionRequest {
        /// Who subscribes.
        1 => client_id: &'a str,
        /// The channel.
        2 => subject: &'a str,
        /// The queue group, if not empty.
        3 => queue_group: &'a str,
        /// Where messages go.
        4 => inbox: &'a str,
        /// Messages sent and not acked at most.
        5 => max_in_flight: i32,
        /// Seconds until a message is sent again; negative values are milliseconds to tests.
        6 => ack_wait_seconds: i32,
        /// The durable's name, if not empty.
        7 => durable_name: &'a str,
        /// A [`StartPosition`], if it is one.
        10 => start_position: i32,
        /// For [`StartPosition::SequenceStart`].
        11 => start_sequence: u64,
        /// Nanoseconds ago, for [`StartPosition::TimeDeltaStart`].
        12 => start_time_delta: i64,
    }
}

message! {
    /// The answer to a [`SubscriptionRequest`], and to an [`UnsubscribeRequest`].
    SubscriptionResponse {
        /// Where acks go; it names the subscription from now on.
        2 => ack_inbox: &'a str,
        /// Empty: done.
        3 => error: &'a str,
    }
}

message! {
    /// A client gives up a subscription; whether a durable stays is told by the subject it is sent to.
    UnsubscribeRequest {
        /// Whose it is.
        1 => client_id: &'a str,
        /// The channel.
        2 => subject: &'a str,
        /// The ack inbox; the message inbox if the client never learned it.
        3 => inbox: &'a str,
        /// Not looked at.
        4 => durable_name: &'a str,
    }
}

message! {
    /// A client goes.
    CloseRequest {
        /// Who.
        1 => client_id: &'a str,
    }
}

message! {
    /// The answer to a [`CloseRequest`].
    CloseResponse {
        /// Empty: done.
        1 => error: &'a str,
    }
}

impl MsgProto<'_> {
    /// Appends all that stands before the data's bytes: the first part of [`Self::encode`].
    pub fn encode_before_data(&self, out: &mut Vec<u8>) {
        self.sequence.encode_field(1, out);
        self.subject.encode_field(2, out);
        self.reply.encode_field(3, out);
        if !self.data.is_empty() {
            encode_length(4, self.data.len(), out);
        }
    }

    /// Appends all that stands behind the data's bytes: the last part of [`Self::encode`].
    pub fn encode_after_data(&self, out: &mut Vec<u8>) {
        self.timestamp.encode_field(5, out);
        self.is_redelivered.encode_field(6, out);
        self.redelivery_count.encode_field(7, out);
        self.crc32.encode_field(10, out);
    }
}

/// Where a new subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// After the newest message.
    NewOnly,
    /// With the newest message.
    LastReceived,
    /// With the first message not older than the delta.
    TimeDeltaStart,
    /// With a sequence.
    SequenceStart,
    /// With the oldest message kept.
    First,
}

impl StartPosition {
    /// The position a request names; `None` for a number without meaning.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::NewOnly),
            1 => Some(Self::LastReceived),
            2 => Some(Self::TimeDeltaStart),
            3 => Some(Self::SequenceStart),
            4 => Some(Self::First),
            _ => None,
        }
    }
}
