//! Two replicas of a partition: the leader dies before its follower has everything, the follower leads on, and the old
//! leader comes back with batches that nobody else has. It finds the place where the logs part, cuts its own there, and
//! follows. A producer that retries at the new leader is told the truth.
//!
//! Run it with `cargo run -p oncelog --example leader_and_follower`.

use std::error::Error;

use oncelog::{
    BatchBuilder, Divergence, Durability, Isolation, LeaderEpoch, Log, LogConfig, Offset, Outcome,
    ProducerEpoch, ProducerId, RawBatch, Sequence,
};

fn request(number: i32) -> Result<RawBatch, Box<dyn Error>> {
    let sequence = Sequence::new(number).ok_or("sequences are not negative")?;
    let batch = BatchBuilder::new().producer(ProducerId(42), ProducerEpoch(0), sequence);
    Ok(RawBatch(batch.record(None, Some(format!("request {number}").as_bytes())).build()?))
}

/// One fetch of a follower: what the leader has behind the follower's end, byte for byte.
fn replicate(leader: &Log, follower: &Log) -> Result<(), Box<dyn Error>> {
    let fetched = leader.fetch(follower.log_end_offset(), 1 << 20, Isolation::LogEnd)?;
    if !fetched.is_empty() {
        follower.append_as_follower(RawBatch(fetched.bytes()?), Durability::Durable)?;
    }
    Ok(())
}

/// A replica that comes back asks the leader where its newest epoch ends, and goes back to where both logs agree.
fn follow(replica: &Log, leader: &Log) -> Result<(), Box<dyn Error>> {
    let Some(mut epoch) = replica.leader_epochs().latest().map(|newest| newest.epoch) else { return Ok(()) };
    while let Some(answer) = leader.end_offset_for_leader_epoch(epoch) {
        match replica.leader_epochs().divergence(answer, replica.log_end_offset()) {
            Divergence::TruncateTo(offset) => {
                println!("the logs agree up to offset {offset}");
                replica.truncate_to(offset)?;
                return Ok(());
            }
            Divergence::AskAgain { truncate_to, epoch: lower } => {
                replica.truncate_to(truncate_to)?;
                epoch = lower;
            }
        }
    }
    Err("the leader knows nothing of this replica's epochs: cut at the high watermark".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let (one, _) = Log::open(root.path().join("one/payments-0"), LogConfig::default())?;
    let (other, _) = Log::open(root.path().join("other/payments-0"), LogConfig::default())?;

    one.begin_leader_epoch(LeaderEpoch(1))?;
    for number in 0..3 {
        one.append(request(number)?, Durability::Durable)?;
    }
    replicate(&one, &other)?;
    // Two more that the follower never sees; the producer gets no answer for them.
    for number in 3..5 {
        one.append(request(number)?, Durability::Durable)?;
    }

    // The other replica leads. The producer retries what it has no answer for, and one request too many.
    other.begin_leader_epoch(LeaderEpoch(2))?;
    let known = other.append(request(2)?, Durability::Durable)?;
    println!("request 2 at the new leader: {:?} at {:?}", known.outcome, known.base_offset);
    assert_eq!((known.outcome, known.base_offset), (Outcome::Duplicate, Some(Offset(2))));
    for number in 3..6 {
        let answer = other.append(request(number)?, Durability::Durable)?;
        assert_eq!(answer.outcome, Outcome::Appended);
    }

    // The old leader comes back.
    follow(&one, &other)?;
    replicate(&other, &one)?;
    assert_eq!(one.log_end_offset(), Offset(6));
    assert_eq!(one.leader_epochs(), other.leader_epochs());
    let bytes = |log: &Log| log.fetch(Offset::ZERO, 1 << 20, Isolation::LogEnd)?.bytes();
    assert_eq!(bytes(&one)?, bytes(&other)?);

    // And leads again: it knows what the other one accepted meanwhile.
    one.begin_leader_epoch(LeaderEpoch(3))?;
    let known = one.append(request(4)?, Durability::Durable)?;
    println!("request 4 at the old leader: {:?} at {:?}", known.outcome, known.base_offset);
    assert_eq!((known.outcome, known.base_offset), (Outcome::Duplicate, Some(Offset(4))));

    one.close()?;
    other.close()?;
    Ok(())
}
