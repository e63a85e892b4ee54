//! The log has no runtime of its own: a completion is a `Future` that any executor can poll.
//!
//! Run it with `cargo run -p oncelog --example async_tokio`.

use oncelog::{BatchBuilder, Durability, Log, LogConfig, ProducerEpoch, ProducerId, RawBatch, Sequence};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let (log, _report) = Log::open(root.path().join("orders-0"), LogConfig::default())?;

    // Five requests of one idempotent producer in flight; one sync may acknowledge them all.
    let mut in_flight = Vec::new();
    for number in 0..5 {
        let sequence = Sequence::new(number).ok_or("sequences are not negative")?;
        let batch = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), sequence)
            .record(None, Some(format!("message {number}").as_bytes()))
            .build()?;
        in_flight.push(log.submit(RawBatch(batch), Durability::Durable)?);
    }
    for completion in in_flight {
        let appended = completion.await?;
        println!("{:?} at {:?}", appended.outcome, appended.base_offset);
    }
    log.close()?;
    Ok(())
}
