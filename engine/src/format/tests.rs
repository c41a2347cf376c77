//! Golden bytes: existing stores depend on each of them. A change here is a new format version.

use bytes::Bytes;

use super::blocks::{ChainPoint, Sealed, SegmentHeader, SegmentLife, StoreBlock, Superblock};
use super::footer::{Footer, FooterPlace, FooterWriter};
use super::state::{DecodedState, decode_state, put_state};
use super::*;
use crate::index::frames::{FrameNote, FrameNumber};
use crate::index::runs::Run;
use crate::record::{PendingRun, StateRecord, SubscriptionPosition, SubscriptionState};
use crate::request::{Client, ClientKey, SubscriptionKind};
use crate::types::{Position, ShardId, SubscriptionId};

fn store() -> StoreBlock {
    StoreBlock {
        shard_count: 8,
        placement_version: 1,
        frame_size_bytes_max: 1 << 20,
        cluster_id: "c".into(),
    }
}

fn point() -> ChainPoint {
    ChainPoint {
        segment: SegmentNumber(3),
        end: Position(8192),
        crc: 0xdead_beef,
        index: Index(17),
    }
}

/// One golden number for each structure: the crc of its bytes, in the order of the format's description.
#[test]
fn golden_bytes() {
    let superblock = Superblock {
        counter: 5,
        shard: ShardId(2),
        term: Term(7),
        vote: 0,
        log_end: point(),
        hint: point(),
        clock: Timestamp(1_700_000_000_000_000_000),
        checkpoint: 4,
        key_id: 0,
        hint_table: vec![1, 2, 3],
    };
    let header = SegmentHeader {
        life: SegmentLife::Log,
        shard: ShardId(2),
        number: SegmentNumber(4),
        generation: Generation(0x0123_4567_89ab_cdef),
        base_index: Index(18),
        base_term: Term(7),
        size_bytes: 4 << 20,
        previous: point(),
        key_id: 0,
        store: store(),
    };
    let footer = footer_of(&[(ChannelId(1), "a", vec![run(1, 2, 5), run(9, 1, 6)])]);
    let golden = [
        crc32c::crc32c(&store().encode()),
        crc32c::crc32c(&superblock.encode()),
        crc32c::crc32c(&header.encode()),
        crc32c::crc32c(&two_record_frame().0),
        crc32c::crc32c(&footer),
        crc32c::crc32c(&state_bytes()),
    ];
    assert_eq!(golden, GOLDEN, "the format changed: {golden:#x?}");
    assert_eq!(StoreBlock::decode(&store().encode()), Sealed::Valid(store()));
    assert_eq!(Superblock::decode(&superblock.encode()), Sealed::Valid(superblock));
    assert_eq!(SegmentHeader::decode(&header.encode()), Sealed::Valid(header));
}

const GOLDEN: [u32; 6] =
    [0x77a1_e9d0, 0x5f18_778e, 0xea57_44fc, 0x7cd9_9bc2, 0x9ab0_7942, 0x3ae1_0bd0];

#[test]
fn golden_frame_header() {
    let (frame, header) = two_record_frame();
    let expected = "574c4652";
    assert_eq!(hex(&frame[..4]), expected);
    assert_eq!(hex(&frame[8..16]), "0100010100000000", "blocks, version, kind, flags, zero");
    assert_eq!(hex(&frame[24..32]), "0900000000000000", "generation");
    assert_eq!(FrameHeader::decode(&frame), Some((header, false)));
}

#[test]
fn golden_message_with_a_reply() {
    let content = Content { payload: b"hi", reply: b"r.1" };
    let mut record = Vec::new();
    let crc = put_message(&mut record, ChannelId(1), Sequence(2), Timestamp(5), content);
    assert_eq!(hex(&record), "810106000500000000000000010300722e316869");
    assert_eq!(crc, record_crc(ChannelId(1), Sequence(2), &record));
    assert_eq!(record.len(), message_size_bytes(content));
    assert_eq!(message(&record), Some((Timestamp(5), content)));
}

/// A later version's slot is skipped; one that reaches beyond the slots makes the record none.
#[test]
fn unknown_slots_are_skipped() {
    let mut record = b"\x81\x02\x0a\x00\x05\0\0\0\0\0\0\0".to_vec();
    record.extend_from_slice(b"\x63\x02\x00??\x01\x02\x00abpayload");
    let content = Content { payload: b"payload", reply: b"ab" };
    assert_eq!(message(&record), Some((Timestamp(5), content)));
    record[18] = 3;
    assert_eq!(message(&record), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(first: u64, count: u32, frame: u64) -> Run {
    Run { first: Sequence(first), count, bytes: 100, frame: FrameNumber(frame) }
}

fn frame_notes() -> Vec<FrameNote> {
    let note = |(block, time)| FrameNote {
        segment: SegmentNumber(4),
        block,
        first_time: Timestamp(time),
        last_time: Timestamp(time + 3),
    };
    [(1, 1_000), (17, 990), (9, 2_000)].map(note).to_vec()
}

/// A footer of [`frame_notes`], whose numbers count from 5.
fn footer_of(channels: &[(ChannelId, &str, Vec<Run>)]) -> Vec<u8> {
    let mut writer = FooterWriter::default();
    for (id, name, runs) in channels {
        writer.channel(*id, name, FrameNumber(5), runs.iter().copied());
    }
    writer.finish(Generation(9), SegmentNumber(4), frame_notes().iter())
}

fn frame_of(payloads: &[Vec<u8>]) -> (Vec<u8>, FrameHeader) {
    let mut records = Vec::new();
    let mut table = Table::default();
    for (payload, sequence) in payloads.iter().zip(1..) {
        let start = records.len();
        let crc = put_message(
            &mut records,
            ChannelId(1),
            Sequence(sequence),
            Timestamp(5),
            payload.into(),
        );
        table.lengths.push(u32::try_from(records.len() - start).unwrap());
        assert_eq!(crc, record_crc(ChannelId(1), Sequence(sequence), &records[start..]));
        table.crcs.push(crc);
        records.resize(align_record(records.len()), 0);
    }
    let count = u32::try_from(payloads.len()).unwrap();
    table.runs.push(TableRun { channel: ChannelId(1), first: Sequence(1), count, record: 0 });
    let table = table.encode(&[]);
    let length = frame_length_bytes(table.len(), records.len());
    let header = FrameHeader {
        is_clustered: false,
        blocks: u16::try_from(length / BLOCK_SIZE_BYTES).unwrap(),
        record_count: count,
        table_length: u32::try_from(table.len()).unwrap(),
        generation: Generation(9),
        segment: SegmentNumber(4),
        term: Term(7),
        index: Index(18),
        committed: Index(17),
        previous_crc: 1,
        table_crc: table_crc(Generation(9), &table),
    };
    let mut frame = vec![0; length];
    put_frame(&mut frame, &header, &table, [&records[..]]);
    (frame, header)
}

fn two_record_frame() -> (Vec<u8>, FrameHeader) {
    frame_of(&[b"hello".to_vec(), Vec::new()])
}

fn found(frame: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    use crate::log::scan::{FrameAt, frame_at};
    let FrameAt::Whole(found) = frame_at(frame, SegmentNumber(4), Generation(9)) else {
        return None;
    };
    let content = |record| Some(message(found.record(record)?)?.1.payload.to_vec());
    Some((0..found.header.record_count).map(content).collect())
}

/// Whatever single block of a frame is zeroed, its table is known and all records outside that block are read.
#[test]
fn a_zeroed_block_costs_only_the_records_in_it() {
    let payloads: Vec<_> = (0..40_u8).map(|at| vec![at; 500]).collect();
    let (frame, header) = frame_of(&payloads);
    assert_eq!(header.blocks, 6);
    for block in 0..usize::from(header.blocks) {
        let mut damaged = frame.clone();
        damaged[block * BLOCK_SIZE_BYTES..(block + 1) * BLOCK_SIZE_BYTES].fill(0);
        let found =
            found(&damaged).unwrap_or_else(|| panic!("block {block}: the frame is not found"));
        let lost = found.iter().filter(|content| content.is_none()).count();
        assert!(lost <= 9, "block {block}: {lost} records lost");
        for (content, payload) in found.iter().zip(&payloads) {
            assert!(content.as_ref().is_none_or(|content| content == payload), "block {block}");
        }
    }
}

/// Every single flipped bit is noticed where it matters, and never gives a wrong payload.
#[test]
fn no_flipped_bit_gives_a_wrong_payload() {
    let payloads = [b"hello".to_vec(), b"world".to_vec()];
    let (frame, header) = frame_of(&payloads);
    let used = FRAME_HEADER_BYTES + usize::try_from(header.table_length).unwrap() + 64;
    for bit in 0..used * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        for (content, payload) in found(&damaged).unwrap_or_default().iter().zip(&payloads) {
            assert!(content.as_ref().is_none_or(|content| content == payload), "bit {bit}");
        }
    }
}

#[test]
fn bytes_of_another_generation_or_segment_are_no_frame() {
    use crate::log::scan::{FrameAt, frame_at};
    let (frame, _) = two_record_frame();
    assert!(matches!(frame_at(&frame, SegmentNumber(4), Generation(8)), FrameAt::None));
    assert!(matches!(frame_at(&frame, SegmentNumber(5), Generation(9)), FrameAt::None));
}

fn states() -> Vec<StateRecord> {
    let key = ClientKey { home: ShardId(3), incarnation: 8 };
    let position = SubscriptionPosition {
        id: SubscriptionId(4),
        last_sent: Sequence(20),
        pending: vec![PendingRun { first: Sequence(11), count: 3, redelivery_count: 1 }],
    };
    let subscription = |kind| {
        StateRecord::Subscription(SubscriptionState {
            channel: ChannelId(1),
            client: key,
            client_id: "me".into(),
            kind,
            target: Bytes::from_static(b"_INBOX.x"),
            token: 99,
            in_flight_max: 10,
            ack_wait_ms: 30_000,
            is_active: true,
            position: position.clone(),
        })
    };
    vec![
        StateRecord::ChannelCreated { id: ChannelId(1), name: "a.b".into() },
        StateRecord::ChannelDeleted { id: ChannelId(2) },
        StateRecord::Trimmed { id: ChannelId(1), first: Sequence(5) },
        StateRecord::ClientOpened(Client {
            key,
            id: "me".into(),
            connection_id: Bytes::from_static(b"c"),
            about: Bytes::from_static(b"x"),
        }),
        StateRecord::ClientClosed(key),
        subscription(SubscriptionKind::Plain),
        subscription(SubscriptionKind::Durable { name: "d".into() }),
        subscription(SubscriptionKind::Queue { group: "q".into(), is_durable: false }),
        subscription(SubscriptionKind::Queue { group: "d:q".into(), is_durable: true }),
        StateRecord::SubscriptionRemoved(SubscriptionId(4)),
        StateRecord::Position(position),
    ]
}

fn lost() -> StateRecord {
    StateRecord::Lost { id: ChannelId(1), first: Sequence(5), last: Sequence(7) }
}

/// Golden: it came later than the others.
#[test]
fn what_is_lost_has_these_bytes() {
    let mut bytes = Vec::new();
    put_state(&mut bytes, &lost());
    let numbers = [1_u64, 5, 7].map(u64::to_le_bytes).concat();
    assert_eq!(bytes, [&[0x8a], numbers.as_slice()].concat());
}

fn state_bytes() -> Vec<u8> {
    let mut out = Vec::new();
    for state in states() {
        put_state(&mut out, &state);
    }
    out
}

#[test]
fn state_records_come_back_and_half_of_one_is_corrupt() {
    for state in states().into_iter().chain([lost()]) {
        let mut bytes = Vec::new();
        put_state(&mut bytes, &state);
        assert_eq!(decode_state(&bytes), DecodedState::Known(state.clone()));
        for end in 0..bytes.len() {
            assert_eq!(
                decode_state(&bytes[..end]),
                DecodedState::Corrupt,
                "{state:?} cut at {end}"
            );
        }
    }
    assert_eq!(decode_state(&[0x7f, 1, 2]), DecodedState::Skipped);
    assert_eq!(decode_state(&[0xff, 1, 2]), DecodedState::Unknown(0xff));
}

/// Whoever reads a record may ask for the sequence behind each one in it.
#[test]
fn a_state_record_with_the_greatest_number_for_a_sequence_is_corrupt() {
    let last = Sequence(u64::MAX);
    let position = |last_sent, pending| {
        StateRecord::Position(SubscriptionPosition { id: SubscriptionId(4), last_sent, pending })
    };
    let run = |first, count| PendingRun { first, count, redelivery_count: 0 };
    let records = [
        StateRecord::Trimmed { id: ChannelId(1), first: last },
        StateRecord::Lost { id: ChannelId(1), first: Sequence(1), last },
        StateRecord::Lost { id: ChannelId(1), first: Sequence(2), last: Sequence(1) },
        position(last, Vec::new()),
        position(Sequence(1), vec![run(last, 0)]),
        position(Sequence(1), vec![run(last.previous(), 2)]),
    ];
    for record in records {
        let mut bytes = Vec::new();
        put_state(&mut bytes, &record);
        assert_eq!(decode_state(&bytes), DecodedState::Corrupt, "{record:?}");
    }
}

#[test]
fn footers_come_back_and_damaged_ones_do_not() {
    let channels = [
        (ChannelId(1), "a", vec![run(1, 2, 5), run(9, 1, 7)]),
        (ChannelId(3), "none", vec![]),
        (ChannelId(7), "b.c", vec![run(100, 30, 6)]),
    ];
    let bytes = footer_of(&channels);
    let footer = Footer::decode(bytes.clone(), Generation(9), SegmentNumber(4)).unwrap();
    assert_eq!(footer.frames(), frame_notes());
    // In the footer frames count from 0.
    let placed = |run: &Run| Run { frame: FrameNumber(run.frame.0 - 5), ..*run };
    for (id, _, runs) in &channels {
        assert!(footer.runs(*id).eq(runs.iter().map(placed)));
    }
    assert_eq!(footer.runs(ChannelId(2)).count(), 0);
    let names: Vec<_> = footer
        .channels_from(ChannelId(0))
        .map(|(id, name, runs)| (id.0, name, runs.count()))
        .collect();
    assert_eq!(names, [(1, "a", 2), (7, "b.c", 1)]);
    assert!(Footer::decode(bytes.clone(), Generation(8), SegmentNumber(4)).is_none());
    for flipped in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[flipped] ^= 1;
        assert!(
            Footer::decode(damaged, Generation(9), SegmentNumber(4)).is_none(),
            "flipped at {flipped}"
        );
    }
}

/// Whatever a reader looked for before, it finds the same.
#[test]
fn a_footer_is_searched_from_where_it_was_left() {
    let runs: Vec<_> = (0..3).map(|at| run(10 + at * 10, 5, 5 + at)).collect();
    let bytes = footer_of(&[(ChannelId(1), "a", runs)]);
    let footer = Footer::decode(bytes, Generation(9), SegmentNumber(4)).unwrap();
    for before in 0..40 {
        for sequence in 0..40 {
            let find = |sequence, cursor: &mut _| {
                footer.find(ChannelId(1), Sequence(sequence), SegmentNumber(4), cursor)
            };
            let mut cursor = None;
            find(before, &mut cursor);
            let place = find(sequence, &mut cursor);
            let expected = match sequence {
                0..10 => FooterPlace::Gone(Some(Sequence(10))),
                35.. => FooterPlace::Gone(None),
                _ if sequence % 10 >= 5 => {
                    FooterPlace::Gone(Some(Sequence(sequence / 10 * 10 + 10)))
                }
                _ => {
                    let at = sequence / 10 - 1;
                    let note = frame_notes()[usize::try_from(at).unwrap()];
                    FooterPlace::Run(run(sequence / 10 * 10, 5, at), note)
                }
            };
            assert_eq!(place, expected, "{sequence} after {before}");
        }
    }
    let found = |from, time| {
        footer.find_time(ChannelId(1), Sequence(from), Timestamp(time)).map(|found| found.0.first.0)
    };
    assert_eq!(
        [found(0, 1_000), found(0, 1_004), found(15, 1_003), found(0, 2_004)],
        [Some(10), Some(30), Some(30), None]
    );
}

#[test]
fn a_sealed_block_is_absent_corrupt_or_whole() {
    let block = store().encode();
    assert_eq!(StoreBlock::decode(&vec![0; BLOCK_SIZE_BYTES]), Sealed::Absent);
    assert_eq!(StoreBlock::decode(&block[..100]).valid(), Some(store()));
    for at in 0..27 {
        let mut damaged = block.clone();
        damaged[at] ^= 0x40;
        assert_eq!(StoreBlock::decode(&damaged).valid(), None, "flipped at {at}");
    }
}

/// Found by fuzzing: with many small records both tables of a frame reached into one block in its middle, and damage
/// there cost all of the frame.
#[test]
fn no_block_holds_a_part_of_both_tables() {
    for table in (0..40_000).step_by(8) {
        for records in [0, 8, 2_000, 4_096, 9_000] {
            let length = frame_length_bytes(table, records);
            assert!(length.is_multiple_of(BLOCK_SIZE_BYTES));
            assert!(length >= FRAME_HEADER_BYTES + table + records);
            if length > BLOCK_SIZE_BYTES {
                let front_end = align_block(FRAME_HEADER_BYTES + table);
                let copy_start = length - FRAME_HEADER_BYTES - table;
                assert!(copy_start >= FRAME_HEADER_BYTES + table + records);
                assert!(copy_start >= front_end, "table {table}, records {records}");
            }
        }
    }
}
