//! The broker-restart duplicate window, closed: five requests in flight, their acknowledgements lost, the broker
//! restarted, and each of the five retries gets the answer it would have got before.
//!
//! Run it with `cargo run -p oncelog --example retry_after_restart`.

use oncelog::{
    BatchBuilder, Durability, Log, LogConfig, Outcome, ProducerEpoch, ProducerId, RawBatch, Sequence,
};

fn request(number: i32) -> Result<RawBatch, Box<dyn std::error::Error>> {
    let sequence = Sequence::new(number * 3).ok_or("sequences are not negative")?;
    let mut batch = BatchBuilder::new().producer(ProducerId(42), ProducerEpoch(0), sequence);
    for record in 0..3 {
        batch = batch.record(None, Some(format!("request {number}, record {record}").as_bytes()));
    }
    Ok(RawBatch(batch.build()?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let dir = root.path().join("payments-0");

    let (log, _) = Log::open(&dir, LogConfig::default())?;
    let mut first = Vec::new();
    for number in 0..5 {
        first.push(log.append(request(number)?, Durability::Durable)?);
    }
    // No close: the process dies here as far as the log can tell.
    drop(log);

    let (log, report) = Log::open(&dir, LogConfig::default())?;
    println!("{report}");
    for (number, original) in (0..5).zip(&first) {
        let retry = log.append(request(number)?, Durability::Durable)?;
        println!("request {number}: {:?} at {:?}", retry.outcome, retry.base_offset);
        assert_eq!(retry.outcome, Outcome::Duplicate);
        assert_eq!(retry.base_offset, original.base_offset);
    }
    assert_eq!(log.log_end_offset().0, 15, "nothing was written twice");
    log.close()?;
    Ok(())
}
