//! A child process from the parent's side.
//!
//! Invariant: a child never outlives its [`Process`]; everything that it said before it died is handed out before its
//! end is.

use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Program, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use super::protocol::{Command, Event};

/// Events that are handed over at once, at most: thousands come each second.
const AT_ONCE: usize = 256;
const SIGKILL: i32 = 9;

/// A running child.
pub(super) struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    events: Receiver<Vec<Event>>,
    waiting: VecDeque<Event>,
    complaints: Option<thread::JoinHandle<String>>,
}

/// What came next.
#[derive(Debug)]
pub(super) enum Next {
    Event(Event),
    /// Nothing until the deadline.
    Deadline,
    /// The child has closed its output: it is dead or about to be.
    Gone,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    Success,
    /// Killed or not: one of its threads panicked, with these words.
    Panicked(String),
    /// With the exit status and what it wrote to standard error.
    Failure(String),
}

impl Process {
    /// Starts this very program as a child.
    pub(super) fn start(program: &Path) -> Result<Self> {
        let mut child = Program::new(program)
            .arg("crash-child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let output = child.stdout.take().context("the child has no output")?;
        let mut errors = child.stderr.take().context("the child has no error output")?;
        let (sender, events) = mpsc::channel();
        thread::Builder::new().name("events".to_owned()).spawn(move || {
            let mut output = BufReader::with_capacity(1 << 16, output);
            let mut batch = Vec::new();
            while let Ok(Some(event)) = Event::receive(&mut output) {
                batch.push(event);
                let none_at_hand = output.buffer().is_empty();
                if (none_at_hand || batch.len() >= AT_ONCE)
                    && sender.send(std::mem::take(&mut batch)).is_err()
                {
                    return;
                }
            }
            // Nobody listens any more if this fails.
            let _ = sender.send(batch);
        })?;
        let complaints = thread::Builder::new().name("complaints".to_owned()).spawn(move || {
            let mut text = String::new();
            // What cannot be read is left out of a message that is only for people.
            let _ = errors.read_to_string(&mut text);
            text
        })?;
        let commands = child.stdin.take();
        Ok(Self { child, commands, events, waiting: VecDeque::new(), complaints: Some(complaints) })
    }

    /// Asks for something. A child that is dead is noticed when its events end.
    pub(super) fn send(&mut self, command: &Command) {
        let broken = self.commands.as_mut().is_some_and(|pipe| command.send(pipe).is_err());
        if broken {
            self.commands = None;
        }
    }

    pub(super) fn next(&mut self, deadline: Instant) -> Next {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Next::Event(event);
            }
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(events) => self.waiting.extend(events),
                Err(RecvTimeoutError::Timeout) => return Next::Deadline,
                Err(RecvTimeoutError::Disconnected) => return Next::Gone,
            }
        }
    }

    /// Kills it with `SIGKILL`. What it said before can still be read.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the child")
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> Result<End> {
        self.commands = None;
        let status = self.child.wait().context("wait for the child")?;
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(end(status, &complaints))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that is dead already cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end(status: ExitStatus, complaints: &str) -> End {
    if complaints.contains("panicked at") {
        End::Panicked(complaints.trim().to_owned())
    } else if status.signal() == Some(SIGKILL) {
        End::Killed
    } else if status.success() {
        End::Success
    } else {
        End::Failure(format!("{status}: {}", complaints.trim()))
    }
}
