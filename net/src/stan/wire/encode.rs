//! Writes protobuf's wire format. A field with its zero value takes no bytes.

use super::decode::WireType;

/// A type a field can have.
pub(super) trait EncodeField {
    /// Bytes of the whole field, key included; 0 for the zero value.
    fn field_len(&self, number: u32) -> usize;

    /// Appends key and value, nothing for the zero value.
    fn encode_field(&self, number: u32, out: &mut Vec<u8>);
}

/// Bytes a varint takes.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    // Seven bits a byte: ceil(bits / 7) for 1 to 64 bits, without a division.
    let bits = 64 - (value | 1).leading_zeros();
    ((bits * 9 + 64) / 64) as usize
}

/// Appends a varint.
#[inline]
pub(super) fn encode_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

#[inline]
fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[inline]
fn raw_key(number: u32, wire_type: WireType) -> u64 {
    let code = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::LengthDelimited => 2,
        WireType::GroupStart => 3,
        WireType::GroupEnd => 4,
        WireType::Fixed32 => 5,
    };
    u64::from(number) << 3 | code
}

#[inline]
fn key_len(number: u32) -> usize {
    varint_len(raw_key(number, WireType::Varint))
}

/// Appends key and length of a length-delimited field, so that its bytes can follow from elsewhere.
#[inline]
pub(super) fn encode_length(number: u32, length: usize, out: &mut Vec<u8>) {
    encode_varint(raw_key(number, WireType::LengthDelimited), out);
    encode_varint(length as u64, out);
}

impl EncodeField for &[u8] {
    #[inline]
    fn field_len(&self, number: u32) -> usize {
        if self.is_empty() {
            return 0;
        }
        key_len(number) + varint_len(self.len() as u64) + self.len()
    }

    #[inline]
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            encode_length(number, self.len(), out);
            out.extend_from_slice(self);
        }
    }
}

impl EncodeField for &str {
    #[inline]
    fn field_len(&self, number: u32) -> usize {
        self.as_bytes().field_len(number)
    }

    #[inline]
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        self.as_bytes().encode_field(number, out);
    }
}

impl EncodeField for u64 {
    #[inline]
    fn field_len(&self, number: u32) -> usize {
        if *self == 0 { 0 } else { key_len(number) + varint_len(*self) }
    }

    #[inline]
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if *self != 0 {
            encode_varint(raw_key(number, WireType::Varint), out);
            encode_varint(*self, out);
        }
    }
}

/// The other integers are written as the `u64` their sign extends to.
macro_rules! encode_as_u64 {
    ($($integer:ty => $widen:expr;)*) => {
        $(impl EncodeField for $integer {
            #[inline]
            fn field_len(&self, number: u32) -> usize {
                $widen(*self).field_len(number)
            }

            #[inline]
            fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
                $widen(*self).encode_field(number, out);
            }
        })*
    };
}

encode_as_u64! {
    i64 => i64::cast_unsigned;
    i32 => |value| i64::from(value).cast_unsigned();
    u32 => u64::from;
    bool => u64::from;
}
