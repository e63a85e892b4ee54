//! A place in the simulated disk where threads can be held up.

use std::sync::{Arc, Condvar, Mutex};

use oncelog::storage::{MemoryStorage, OperationKind};

#[derive(Default)]
struct State {
    closed: bool,
    arrived: usize,
}

/// Counts the operations of one kind on `.log` files, and holds up whoever has done one while it is closed.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// An open gate behind every operation of this kind on a segment.
    pub(crate) fn behind(kind: OperationKind, disk: &MemoryStorage) -> Self {
        let gate = Self::default();
        let behind = gate.clone();
        disk.on_operation(move |operation, _| {
            if operation.kind == kind && operation.name().ends_with(".log") {
                behind.pass();
            }
        });
        gate
    }

    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        let _state = changed.wait_while(state, |state| state.closed).unwrap();
    }

    pub(crate) fn close(&self) {
        self.0.0.lock().unwrap().closed = true;
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().closed = false;
        self.0.1.notify_all();
    }

    /// How many operations have come to the gate so far.
    pub(crate) fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().arrived
    }

    /// Waits until that many operations have come to the gate.
    pub(crate) fn wait_for(&self, arrived: usize) {
        let (state, changed) = &*self.0;
        let _state = changed.wait_while(state.lock().unwrap(), |state| state.arrived < arrived).unwrap();
    }
}
