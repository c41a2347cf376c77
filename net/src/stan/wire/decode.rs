//! Reads protobuf's wire format: keys, values by their kind, and what is to be skipped.

/// How deep groups in unknown fields may lie in each other, as protobuf libraries limit it.
const GROUP_DEPTH_MAX: u32 = 100;
/// A varint of 64 bits has at most ten bytes, of which the last holds one bit.
const VARINT_BYTES_MAX: u32 = 10;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field, or a length points past them.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint does not fit in 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintOverflow,
    /// A key with field number 0, over 32 bits, or with a wire type that does not exist.
    #[error("a key is not valid")]
    Key,
    /// A known field has another wire type than it should.
    #[error("field {number} has the wrong wire type")]
    WireType {
        /// The field's number.
        number: u32,
    },
    /// A string field is not UTF-8.
    #[error("field {number} is not valid UTF-8")]
    Utf8 {
        /// The field's number.
        number: u32,
    },
    /// A group ends that was not begun, or groups lie too deep in each other.
    #[error("a group is not valid")]
    Group,
}

/// How a field's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    LengthDelimited,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// The number of a field and the layout of its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) number: u32,
    pub(super) wire_type: WireType,
}

/// A type a known field can have.
pub(super) trait DecodeField<'a>: Sized {
    /// Takes the value that follows `key`.
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// What is left to read of a message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's key; `None` at the end of the message.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Option<Key>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.key_or_truncated().map(Some)
    }

    #[inline]
    fn key_or_truncated(&mut self) -> Result<Key, DecodeError> {
        let raw = u32::try_from(self.varint()?).map_err(|_| DecodeError::Key)?;
        let wire_type = match raw & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::LengthDelimited,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            _ => return Err(DecodeError::Key),
        };
        let number = raw >> 3;
        if number == 0 {
            return Err(DecodeError::Key);
        }
        Ok(Key { number, wire_type })
    }

    /// Passes over the value of an unknown field.
    #[cold]
    pub(super) fn skip(&mut self, key: Key) -> Result<(), DecodeError> {
        self.skip_within(key, GROUP_DEPTH_MAX)
    }

    /// Groups lie in each other, so this calls itself, at most [`GROUP_DEPTH_MAX`] deep.
    fn skip_within(&mut self, key: Key, depth_left: u32) -> Result<(), DecodeError> {
        if depth_left == 0 {
            return Err(DecodeError::Group);
        }
        match key.wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::LengthDelimited => self.length_delimited().map(drop),
            WireType::GroupStart => loop {
                let inner = self.key_or_truncated()?;
                if inner.wire_type == WireType::GroupEnd {
                    let is_ours = inner.number == key.number;
                    break if is_ours { Ok(()) } else { Err(DecodeError::Group) };
                }
                self.skip_within(inner, depth_left - 1)?;
            },
            WireType::GroupEnd => Err(DecodeError::Group),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for position in 0..VARINT_BYTES_MAX {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                let is_last_byte_too_large = position == VARINT_BYTES_MAX - 1 && byte > 1;
                return if is_last_byte_too_large {
                    Err(DecodeError::VarintOverflow)
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::VarintOverflow)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn length_delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        self.take(length)
    }

    #[inline]
    fn varint_of(&mut self, key: Key) -> Result<u64, DecodeError> {
        expect_wire_type(key, WireType::Varint)?;
        self.varint()
    }

    #[inline]
    fn bytes_of(&mut self, key: Key) -> Result<&'a [u8], DecodeError> {
        expect_wire_type(key, WireType::LengthDelimited)?;
        self.length_delimited()
    }
}

#[inline]
fn expect_wire_type(key: Key, expected: WireType) -> Result<(), DecodeError> {
    if key.wire_type == expected {
        Ok(())
    } else {
        Err(DecodeError::WireType { number: key.number })
    }
}

impl<'a> DecodeField<'a> for &'a str {
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = reader.bytes_of(key)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 { number: key.number })
    }
}

impl<'a> DecodeField<'a> for &'a [u8] {
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bytes_of(key)
    }
}

impl<'a> DecodeField<'a> for u64 {
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.varint_of(key)
    }
}

impl<'a> DecodeField<'a> for i64 {
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.varint_of(key).map(u64::cast_signed)
    }
}

impl<'a> DecodeField<'a> for u32 {
    /// Protobuf wants the upper bits of a wider value dropped.
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let [first, second, third, fourth, ..] = reader.varint_of(key)?.to_le_bytes();
        Ok(u32::from_le_bytes([first, second, third, fourth]))
    }
}

impl<'a> DecodeField<'a> for i32 {
    /// Negative values come as ten bytes, of which the lower 32 bits count.
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        u32::decode_field(key, reader).map(u32::cast_signed)
    }
}

impl<'a> DecodeField<'a> for bool {
    #[inline]
    fn decode_field(key: Key, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.varint_of(key).map(|value| value != 0)
    }
}
