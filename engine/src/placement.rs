//! Which shard a name lives in: xxh64 with seed 0 of the name with ASCII letters folded to lower case, modulo the
//! number of shards. Placement version 1, kept in the store file: a change would lose channels.

use crate::types::ShardId;

/// The version of this rule, in the store file.
pub const PLACEMENT_VERSION: u16 = 1;

/// The shard of a channel.
#[must_use]
pub fn shard_of_channel(name: &str, shard_count: u16) -> ShardId {
    place(name, shard_count)
}

/// The home shard of a client.
#[must_use]
pub fn home_of_client(id: &str, shard_count: u16) -> ShardId {
    place(id, shard_count)
}

fn place(name: &str, shard_count: u16) -> ShardId {
    assert!(shard_count > 0);
    let mut folded = [0_u8; 64];
    let hash = if let Some(room) = folded.get_mut(..name.len()) {
        room.copy_from_slice(name.as_bytes());
        // The whole array, because its length is known: a few wide instructions.
        folded.make_ascii_lowercase();
        twox_hash::XxHash64::oneshot(0, &folded[..name.len()])
    } else {
        twox_hash::XxHash64::oneshot(0, name.to_ascii_lowercase().as_bytes())
    };
    let shard = hash % u64::from(shard_count);
    ShardId(u16::try_from(shard).expect("below a u16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_is_fixed_for_ever() {
        // Golden: existing stores depend on these.
        let of = |name| shard_of_channel(name, 8).0;
        assert_eq!([of("foo"), of("bar"), of("orders.eu.1"), of("")], [7, 1, 5, 1]);
    }

    #[test]
    fn case_does_not_matter() {
        let long = "A".repeat(200);
        for name in ["Foo.Bar", long.as_str()] {
            assert_eq!(shard_of_channel(name, 64), shard_of_channel(&name.to_lowercase(), 64));
        }
    }
}
