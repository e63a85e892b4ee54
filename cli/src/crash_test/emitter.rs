//! The child's mouth.
//!
//! Invariant: when [`Emitter::send`] returns, the frame is in the pipe, where a `SIGKILL` of this process cannot reach
//! it. Frames of several threads never mix.

use std::io::{self, PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use super::protocol::Event;

/// Sends events to the parent; shared by all threads of a child.
#[derive(Debug)]
pub(super) struct Emitter {
    pipe: Mutex<PipeWriter>,
}

impl Emitter {
    /// Takes a descriptor of its own for standard output, past the buffer that the standard library keeps.
    pub(super) fn to_stdout() -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self { pipe: Mutex::new(PipeWriter::from(descriptor)) })
    }

    /// Sends one event. If the parent is gone, nobody is left to work for: the process ends.
    pub(super) fn send(&self, event: &Event) {
        let frame = event.encode();
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if pipe.write_all(&frame).is_err() {
            std::process::exit(3);
        }
    }
}
