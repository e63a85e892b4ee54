//! A broker's produce path in thirty lines: append a batch, read it back.
//!
//! Run it with `cargo run -p oncelog --example embed`.

use oncelog::{BatchBuilder, Durability, Error, Isolation, Log, LogConfig, Offset, RawBatch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let (log, report) = Log::open(root.path().join("orders-0"), LogConfig::default())?;
    println!("{report}");

    // What arrives in a Produce request: one record batch v2, as the client encoded it.
    let batch = BatchBuilder::new().record(Some(b"order 17"), Some(b"two apples")).build()?;
    let appended = log.append(RawBatch(batch), Durability::Durable)?;
    println!("appended at {:?}, durable", appended.base_offset);

    // A batch that breaks a rule is refused with the Kafka code for the client; nothing was written.
    match log.append(RawBatch(b"not a batch".as_slice().into()), Durability::Durable) {
        Err(error @ Error::Rejected(_)) => println!("code {}: {error}", error.kafka_code()),
        other => println!("unexpected: {other:?}"),
    }

    for record in log.fetch(Offset(0), 1 << 20, Isolation::HighWatermark)?.records()? {
        println!(
            "{}: {:?}",
            record.offset,
            record.value.map(|value| String::from_utf8_lossy(&value).into_owned())
        );
    }
    log.close()?;
    Ok(())
}
