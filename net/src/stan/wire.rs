//! The protobuf messages of NATS Streaming clients, read and written by hand.
//!
//! A message is a struct of borrowed fields: `decode` copies nothing and allocates nothing, `encode`
//! appends to the caller's buffer, and `encoded_len` is exact, so that a length can be written
//! before the bytes it counts. The rules are those of proto3:
//!
//! - unknown fields are skipped, groups too; of a field that comes twice the last value stands;
//! - fields with their zero value are not written, fields are written in the order of their numbers;
//! - a known field with another wire type, field number 0, a group that is not closed, a length past
//!   the end, a varint over 64 bits and a string that is no UTF-8 make the whole message invalid.
//!
//! It never panics on any input. It knows no rule of the protocol: whether a client id or a start
//! position makes sense is for those who read the message.
//!
//! A delivery, without a buffer in between:
//!
//! ```text
//! MSG <inbox> <sid> <message.encoded_len()>\r\n  message.encode(&mut out)  \r\n
//!
//! or, when the payload is sent from where it lies:
//!
//! message.encode_before_data(&mut out)   sequence, subject, reply, key and length of the data
//! message.data                           as it is
//! message.encode_after_data(&mut out)    timestamp, redelivered, redelivery count, checksum
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod decode;
mod encode;
mod messages;
#[cfg(test)]
mod tests;

pub use decode::DecodeError;
pub use messages::{
    Ack, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, CtrlMsg, MsgProto, Ping,
    PingResponse, PubAck, PubMsg, StartPosition, SubscriptionRequest, SubscriptionResponse,
    UnsubscribeRequest,
};
