//! The least of Kafka's protocol: a Produce request with the very bytes of a batch, and its answer.
//!
//! Invariant: the bytes go out as they are, so a retry is the same request that was sent before; a client library would
//! give them another producer id, epoch and sequence.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const PRODUCE: i16 = 0;
/// The newest version without flexible fields and with everything that is needed.
const VERSION: i16 = 7;
const ALL_REPLICAS: i16 = -1;
const PATIENCE: Duration = Duration::from_secs(30);
/// `UNKNOWN_TOPIC_OR_PARTITION`, `LEADER_NOT_AVAILABLE`, `NOT_LEADER_OR_FOLLOWER`: the broker is still starting.
const NOT_YET: [i16; 3] = [3, 5, 6];

/// What a broker answers to one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i16,
    pub(crate) base_offset: i64,
}

/// One connection. Every request waits for its answer.
pub(crate) struct Wire {
    stream: TcpStream,
    requests: i32,
}

impl Wire {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connect to the broker")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, requests: 0 })
    }

    /// Sends a batch to partition 0 of `topic`.
    pub(crate) fn produce(&mut self, topic: &str, batch: &[u8]) -> Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.produce_once(topic, batch)?;
            if !NOT_YET.contains(&answer.code) || Instant::now() > deadline {
                return Ok(answer);
            }
        }
    }

    fn produce_once(&mut self, topic: &str, batch: &[u8]) -> Result<Answer> {
        self.requests += 1;
        let mut request = Vec::with_capacity(batch.len() + 128);
        request.extend(PRODUCE.to_be_bytes());
        request.extend(VERSION.to_be_bytes());
        request.extend(self.requests.to_be_bytes());
        put_string(&mut request, "oncelog-interop")?;
        request.extend((-1_i16).to_be_bytes()); // no transactional id
        request.extend(ALL_REPLICAS.to_be_bytes());
        request.extend(10_000_i32.to_be_bytes()); // timeout, ms
        request.extend(1_i32.to_be_bytes()); // topics
        put_string(&mut request, topic)?;
        request.extend(1_i32.to_be_bytes()); // partitions
        request.extend(0_i32.to_be_bytes());
        request.extend(i32::try_from(batch.len())?.to_be_bytes());
        request.extend(batch);
        self.stream.write_all(&i32::try_from(request.len())?.to_be_bytes())?;
        self.stream.write_all(&request)?;

        let length = i32::from_be_bytes(self.take()?);
        let mut reply = vec![0; usize::try_from(length).context("length of an answer")?];
        self.stream.read_exact(&mut reply).context("read the answer to a Produce request")?;
        let mut reply = reply.as_slice();
        let correlation = i32::from_be_bytes(take(&mut reply)?);
        ensure!(correlation == self.requests, "answer {correlation} to request {}", self.requests);
        ensure!(i32::from_be_bytes(take(&mut reply)?) == 1, "one topic in the answer");
        let name = usize::from(u16::from_be_bytes(take(&mut reply)?));
        reply = reply.get(name..).context("the answer ends inside the topic")?;
        ensure!(i32::from_be_bytes(take(&mut reply)?) == 1, "one partition in the answer");
        let _partition: [u8; 4] = take(&mut reply)?;
        let code = i16::from_be_bytes(take(&mut reply)?);
        Ok(Answer { code, base_offset: i64::from_be_bytes(take(&mut reply)?) })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).context("read the answer to a Produce request")?;
        Ok(bytes)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) -> Result<()> {
    out.extend(i16::try_from(text.len())?.to_be_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N]> {
    let (bytes, rest) = from.split_first_chunk().context("the answer ends early")?;
    *from = rest;
    Ok(*bytes)
}
