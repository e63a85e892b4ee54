//! From the fuzzer's bytes to values, and the damage that is done to valid bytes.
//!
//! Invariant: every input is a valid script. Where the bytes end, numbers are 0 and choices are the first one, so that
//! cutting an input makes a simpler one.

use arbitrary::{Arbitrary, Unstructured};

/// A script that is read from its front.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// The next number of some width.
    pub(crate) fn number<T: Arbitrary<'a> + Default>(&mut self) -> T {
        T::arbitrary(&mut self.0).unwrap_or_default()
    }

    /// One byte as a choice among `choices`, at most 256.
    pub(crate) fn below(&mut self, choices: usize) -> usize {
        usize::from(self.number::<u8>()) % choices.max(1)
    }

    /// Two bytes as a place among `places`.
    pub(crate) fn place(&mut self, places: usize) -> usize {
        usize::from(self.number::<u16>()) % places.max(1)
    }

    /// Up to `len` of the next bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        self.0.bytes(len.min(self.0.len())).unwrap_or_default()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Nothing, or some bytes.
    pub(crate) fn optional_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.below(64);
        (len > 0).then(|| self.bytes(len - 1))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Up to `most` changes of `bytes`, as the input says; none if it has ended.
pub(crate) fn mutate(input: &mut Input<'_>, bytes: &mut Vec<u8>, most: usize) {
    for _ in 0..most {
        if input.is_empty() {
            return;
        }
        let at = input.place(bytes.len() + 1);
        let behind = bytes.len() - at;
        match input.below(8) {
            0 => {
                let bit = input.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            1 => {
                let new = input.number();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
            2 => bytes.truncate(at),
            3 => {
                let len = input.below(128);
                let piece = input.bytes(len).to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let len = input.place(1024).min(behind);
                bytes[at..at + len].fill(0);
            }
            5 => {
                let len = input.place(1024).min(behind);
                bytes.drain(at..at + len);
            }
            6 => {
                let from = input.place(bytes.len() + 1);
                let len = input.below(256).min(behind).min(bytes.len() - from);
                bytes.copy_within(from..from + len, at);
            }
            _ => {
                let len = input.below(16).min(behind);
                let piece = input.bytes(len);
                bytes[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }
}
