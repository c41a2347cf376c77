//! Messages and the channels they make.

use super::Shard;
use crate::channel::{Channel, NameHash, NameLookup};
use crate::disk::Disk;
use crate::error::RequestError;
use crate::format;
use crate::log::Need;
use crate::log::batch::Target;
use crate::record::StateRecord;
use crate::request::Published;
use crate::types::{ChannelId, Content, Now, Sequence, TableSlot};

impl<D: Disk> Shard<D> {
    /// Appends a message; makes the channel if there is none. Durable when `committed() >= index`.
    ///
    /// # Errors
    /// The message was not taken.
    pub fn publish<'a>(
        &mut self,
        channel: &str,
        content: impl Into<Content<'a>>,
        now: Now,
    ) -> Result<Published, RequestError> {
        self.publish_if(channel, content.into(), now, |_| true)
    }

    /// The same; a channel that is to be made must have a name that `is_name` takes: those that are there were looked
    /// at before.
    ///
    /// # Errors
    /// The message was not taken. [`RequestError::UnknownChannel`]: there is none, and it is not made.
    #[inline]
    pub fn publish_if(
        &mut self,
        channel: &str,
        content: Content<'_>,
        now: Now,
        is_name: impl FnOnce(&str) -> bool,
    ) -> Result<Published, RequestError> {
        self.check_writable(content)?;
        let channel = match self.channels.named_mut(channel) {
            Some(channel) => channel,
            None if !is_name(channel) => return Err(RequestError::UnknownChannel),
            None => {
                let id = self.channel_for(channel, now)?;
                self.channels.get_mut(id).expect("just made")
            }
        };
        let time = channel.last_time.max(now.wall);
        channel.last = channel.last.next();
        channel.last_time = time;
        channel.last_used = now.mono;
        let (id, sequence) = (channel.id, channel.last);
        let target = Target { id, slot: channel.slot, bucket: &mut channel.bucket };
        self.log.push_message(target, sequence, time, content);
        Ok(Published { channel: id, sequence, index: self.log.open_index() })
    }

    /// See [`Channels::likely_slot`](crate::channel::Channels::likely_slot).
    #[inline]
    pub(crate) fn likely_slot(&self, channel: NameHash) -> Option<TableSlot> {
        self.channels.likely_slot(channel)
    }

    /// See [`Channels::touch`](crate::channel::Channels::touch).
    #[inline]
    pub(crate) fn touch(&self, slot: TableSlot) -> Sequence {
        self.channels.touch(slot)
    }

    pub(super) fn check_writable(&self, content: Content<'_>) -> Result<(), RequestError> {
        self.check_room(format::message_size_bytes(content), Need::Message)?;
        let max_bytes = self.log.record_size_max();
        let length_bytes = content.len();
        if length_bytes > max_bytes || content.reply.len() > Content::REPLY_BYTES_MAX {
            return Err(RequestError::TooLarge { length_bytes, max_bytes });
        }
        Ok(())
    }

    /// Whether a record of this length may be appended: it will not wait for a disk that is full.
    pub(super) fn check_room(&self, length: usize, need: Need) -> Result<(), RequestError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.is_full && !self.log.has_room(length, need) {
            return Err(RequestError::Full);
        }
        Ok(())
    }

    /// The channel of this name, made if it does not exist.
    pub(super) fn channel_for(&mut self, name: &str, now: Now) -> Result<ChannelId, RequestError> {
        match self.channels.look_up(name) {
            NameLookup::Found(id) => Ok(id),
            NameLookup::OtherCase(id) => {
                let existing = self.channels.get(id).map(|channel| channel.name.to_string());
                Err(RequestError::OtherCase { existing: existing.unwrap_or_default() })
            }
            NameLookup::Free => {
                if !self.config.slots.take() {
                    return Err(RequestError::TooManyChannels);
                }
                let id = self.channels.new_id();
                let channel = Channel::new(id, name, self.config.limits.of(name), now.mono);
                self.append(&StateRecord::ChannelCreated { id, name: name.to_owned() });
                self.made.push((self.log.open_index(), id, channel.name.clone()));
                self.channels.insert(channel);
                Ok(id)
            }
        }
    }
}
