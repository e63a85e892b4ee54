//! What can happen to a log.

use oncelog::{Cleanup, Durability, EndTxn, Isolation, TransactionVersion, UnknownProducerPolicy};
use proptest::prelude::*;

use Durability::{Buffered, Durable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The next batch of a producer.
    Next {
        producer: u8,
        records: u8,
        durability: Durability,
        wait: bool,
    },
    /// A batch that was appended at some time, be it lost since, counted from the newest.
    Retry {
        back: u16,
        durability: Durability,
    },
    /// A batch that starts `by` sequences too far ahead; half of the sequences ahead counts as behind.
    Gap {
        producer: u8,
        by: u32,
        records: u8,
    },
    /// A batch that starts `back` sequences behind the next one, with any borders.
    Behind {
        producer: u8,
        back: u8,
        records: u8,
    },
    /// The first batch of a higher epoch.
    EpochBump {
        producer: u8,
        by: u8,
        first: u8,
    },
    /// The next batch, of a lower epoch.
    OldEpoch {
        producer: u8,
        records: u8,
    },
    /// A batch of a producer that never wrote.
    Unknown {
        producer: u8,
        first: u16,
    },
    /// Without a producer id.
    Plain {
        records: u8,
        durability: Durability,
    },
    /// With an epoch and no sequence, as a coordinator inside the broker writes it.
    Coordinator {
        producer: u8,
        bump: bool,
    },
    /// The next batch of a producer, in its open transaction or a new one.
    Transactional {
        producer: u8,
        records: u8,
        durability: Durability,
    },
    /// A marker that ends a producer's transaction, or none; `epoch_by` and `coordinator_by` are counted from what is
    /// known.
    End {
        producer: u8,
        outcome: EndTxn,
        version: TransactionVersion,
        epoch_by: i8,
        coordinator_by: i8,
        durability: Durability,
    },
    /// Delete the records before an offset, counted from the log start.
    Delete {
        further: u16,
    },
    /// Cut the log at an offset, counted from its end.
    Truncate {
        back: u16,
    },
    /// Take everything out and go on at an offset, counted from the log end.
    BeginAnew {
        further: u8,
    },
    /// One round of compaction, of a log that is compacted.
    Compact,
    /// Everything that readers of committed records see.
    ReadCommitted {
        from: u16,
        max_bytes: u16,
    },
    Fetch {
        from: u16,
        max_bytes: u16,
        isolation: Isolation,
    },
    FetchByTimestamp {
        minutes_ago: u8,
        jitter: u8,
        isolation: Isolation,
    },
    Maintain,
    Checkpoint,
    Flush,
    /// Something fails on the disk while other things happen.
    Failing {
        fault: DiskFault,
        during: [Deed; 4],
        /// Whether the process dies afterwards even if the log can go on.
        dies: bool,
    },
    /// Close and open.
    Reopen,
    /// The process dies.
    Crash,
    /// The machine loses power; of what was not synced, a random part survives.
    PowerCut {
        seed: u64,
    },
    ClockAdvance {
        minutes: u8,
    },
}

/// What fails, counted from the beginning of what happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskFault {
    /// The first operation that changes something and fails.
    pub(crate) nth: u8,
    /// Whether all that follow fail as well, until the end.
    pub(crate) stays: bool,
    /// No space, or an error of the device.
    pub(crate) full: bool,
    /// Bytes of a write that arrive all the same.
    pub(crate) after_bytes: u8,
    /// Whether syncs alone fail.
    pub(crate) syncs: bool,
}

/// What happens while the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Append { producer: u8, records: u8, durability: Durability },
    Checkpoint,
    Maintain,
    Flush,
    Delete { further: u8 },
    Truncate { back: u8 },
    Compact,
}

fn disk_fault() -> impl Strategy<Value = DiskFault> {
    (
        prop_oneof![1..6_u8, 1..30_u8],
        any::<bool>(),
        any::<bool>(),
        0..120_u8,
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(nth, stays, full, after_bytes, syncs)| DiskFault {
            nth,
            stays,
            full,
            after_bytes,
            syncs,
        })
}

fn deed() -> impl Strategy<Value = Deed> {
    let durability = prop_oneof![Just(Buffered), Just(Durable)];
    prop_oneof![
        8 => (0..6_u8, 1..5_u8, durability)
            .prop_map(|(producer, records, durability)| Deed::Append { producer, records, durability }),
        1 => Just(Deed::Checkpoint),
        1 => Just(Deed::Maintain),
        1 => Just(Deed::Flush),
        1 => (1..20_u8).prop_map(|further| Deed::Delete { further }),
        1 => (1..20_u8).prop_map(|back| Deed::Truncate { back }),
        1 => Just(Deed::Compact),
    ]
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let producer = 0..6_u8;
    let records = 1..5_u8;
    let durability = prop_oneof![Just(Buffered), Just(Buffered), Just(Durable)];
    let isolation = prop_oneof![Just(Isolation::HighWatermark), Just(Isolation::LogEnd)];
    let outcome = prop_oneof![Just(EndTxn::Abort), Just(EndTxn::Commit)];
    let version = prop_oneof![Just(TransactionVersion::One), Just(TransactionVersion::Two)];
    let by = prop_oneof![1 => Just(-1_i8), 6 => Just(0), 3 => Just(1)];
    prop_oneof![
        20 => (producer.clone(), records.clone(), durability.clone(), any::<bool>()).prop_map(
            |(producer, records, durability, wait)| Operation::Next { producer, records, durability, wait }
        ),
        12 => (prop_oneof![0..12_u16, any::<u16>()], durability.clone())
            .prop_map(|(back, durability)| Operation::Retry { back, durability }),
        4 => (producer.clone(), prop_oneof![1..9_u32, (1 << 30) - 2..(1 << 30) + 2_u32], records.clone())
            .prop_map(|(producer, by, records)| Operation::Gap { producer, by, records }),
        8 => (producer.clone(), 1..40_u8, 1..9_u8)
            .prop_map(|(producer, back, records)| Operation::Behind { producer, back, records }),
        3 => (producer.clone(), 1..3_u8, prop_oneof![3 => Just(0), 1 => 1..4_u8])
            .prop_map(|(producer, by, first)| Operation::EpochBump { producer, by, first }),
        2 => (producer.clone(), records.clone())
            .prop_map(|(producer, records)| Operation::OldEpoch { producer, records }),
        2 => (0..3_u8, 0..3_u16).prop_map(|(producer, first)| Operation::Unknown { producer, first }),
        4 => (records, durability.clone()).prop_map(|(records, durability)| Operation::Plain { records, durability }),
        2 => (producer, any::<bool>()).prop_map(|(producer, bump)| Operation::Coordinator { producer, bump }),
        14 => (0..3_u8, 1..4_u8, durability.clone())
            .prop_map(|(producer, records, durability)| Operation::Transactional { producer, records, durability }),
        10 => (0..3_u8, outcome, version, by.clone(), by, durability)
            .prop_map(|(producer, outcome, version, epoch_by, coordinator_by, durability)| Operation::End {
                producer, outcome, version, epoch_by, coordinator_by, durability,
            }),
        2 => (0..40_u16).prop_map(|further| Operation::Delete { further }),
        3 => prop_oneof![0..9_u16, 0..80_u16].prop_map(|back| Operation::Truncate { back }),
        1 => (0..9_u8).prop_map(|further| Operation::BeginAnew { further }),
        3 => Just(Operation::Compact),
        3 => (any::<u16>(), any::<u16>()).prop_map(|(from, max_bytes)| Operation::ReadCommitted { from, max_bytes }),
        5 => (any::<u16>(), any::<u16>(), isolation.clone())
            .prop_map(|(from, max_bytes, isolation)| Operation::Fetch { from, max_bytes, isolation }),
        3 => (0..120_u8, any::<u8>(), isolation).prop_map(|(minutes_ago, jitter, isolation)| {
            Operation::FetchByTimestamp { minutes_ago, jitter, isolation }
        }),
        4 => Just(Operation::Maintain),
        3 => Just(Operation::Checkpoint),
        2 => Just(Operation::Flush),
        3 => Just(Operation::Reopen),
        4 => (disk_fault(), prop::array::uniform4(deed()), any::<bool>())
            .prop_map(|(fault, during, dies)| Operation::Failing { fault, during, dies }),
        3 => Just(Operation::Crash),
        3 => any::<u64>().prop_map(|seed| Operation::PowerCut { seed }),
        3 => (1..25_u8).prop_map(|minutes| Operation::ClockAdvance { minutes }),
    ]
}

pub(crate) fn cleanup() -> impl Strategy<Value = Cleanup> {
    prop_oneof![Just(Cleanup::Delete), Just(Cleanup::Compact)]
}

pub(crate) fn policy() -> impl Strategy<Value = UnknownProducerPolicy> {
    prop_oneof![
        Just(UnknownProducerPolicy::Reject),
        Just(UnknownProducerPolicy::ZeroOnNeverWritten),
        Just(UnknownProducerPolicy::Accept),
    ]
}
