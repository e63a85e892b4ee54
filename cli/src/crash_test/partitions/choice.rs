//! Which deed a child does next.
//!
//! Invariant: what is chosen can be done: an id is used where the parent knows of it, a marker ends a transaction that is
//! open, a partition is deleted that exists.

use super::super::batch::{Kind, Spec};
use super::super::protocol::{Answer, Place};
use super::deed::{Crew, Deed, Favour, Known, Outcome, Writer};

/// A partition with more batches is deleted soon.
const MANY_BATCHES: usize = 1200;
/// A partition has so many producers at most.
const MOST_PRODUCERS: usize = 6;

/// Draws deeds and learns from what came of them.
pub(super) struct Choice {
    crew: Crew,
    random: fastrand::Rng,
    /// Ids that were given out and write nowhere yet.
    fresh: Vec<i64>,
}

impl Choice {
    pub(super) fn new(crew: Crew, seed: u64) -> Self {
        Self { crew, random: fastrand::Rng::with_seed(seed ^ 0xdeed), fresh: Vec::new() }
    }

    /// The next deed.
    pub(super) fn next(&mut self) -> Deed {
        let favour = self.crew.favour.filter(|_| self.random.u8(..3) > 0);
        if let Some(deed) = favour.and_then(|favour| self.favoured(favour)) {
            return deed;
        }
        let rare = match self.random.u8(..100) {
            0..3 => self.favoured(Favour::Rest),
            3..6 => self.favoured(Favour::WriteOffsets),
            6..10 => self.favoured(Favour::Create),
            10 => self.favoured(Favour::Delete),
            11..15 => self.favoured(Favour::Allocate),
            15..17 => self.favoured(Favour::Claim),
            17..21 => self.favoured(Favour::Compact),
            _ => None,
        };
        rare.or_else(|| self.too_large()).or_else(|| self.append()).unwrap_or(Deed::Allocate)
    }

    fn favoured(&mut self, favour: Favour) -> Option<Deed> {
        let of = |exists: bool| {
            let partitions = self.crew.partitions.iter().filter(move |known| known.exists == exists);
            partitions.map(|known| known.name.clone()).collect::<Vec<_>>()
        };
        match favour {
            Favour::Create => match self.random.choice(of(false)) {
                Some(name) => Some(Deed::Create(name)),
                // So that there is one to be made next time.
                None => self.random.choice(of(true)).map(Deed::Delete),
            },
            Favour::Delete => match self.random.choice(of(true)) {
                Some(name) => Some(Deed::Delete(name)),
                None => self.random.choice(of(false)).map(Deed::Create),
            },
            Favour::Rest => Some(Deed::Rest),
            Favour::WriteOffsets => Some(Deed::WriteOffsets),
            Favour::Allocate => Some(Deed::Allocate),
            Favour::Compact => {
                let is_keyed = |name: &String| name.starts_with("keyed");
                let keyed: Vec<_> = of(true).into_iter().filter(is_keyed).collect();
                let absent: Vec<_> = of(false).into_iter().filter(is_keyed).collect();
                match self.random.choice(keyed) {
                    Some(name) => Some(Deed::Compact(name)),
                    None => self.random.choice(absent).map(Deed::Create),
                }
            }
            Favour::Claim => self.random.choice(&self.crew.names).map(|(name, _)| Deed::Claim(name.clone())),
        }
    }

    fn too_large(&self) -> Option<Deed> {
        let large = |known: &&Known| known.exists && known.batches > MANY_BATCHES;
        self.crew.partitions.iter().find(large).map(|known| Deed::Delete(known.name.clone()))
    }

    fn append(&mut self) -> Option<Deed> {
        let random = &mut self.random;
        let durable = random.u8(..100) < self.crew.durable_percent;
        let favour = self.crew.favour;
        let useful = |known: &&mut Known| favour != Some(Favour::Compact) || known.name.starts_with("keyed");
        let there = self.crew.partitions.iter_mut().filter(|known| known.exists);
        let partition = random.choice(there.filter(useful).collect::<Vec<_>>())?;
        let named = self.crew.names.iter().filter_map(|(_, holder)| *holder);
        let is_new = |(id, _): &(i64, i16)| partition.producers.iter().all(|writer| writer.id != *id);
        let new: Vec<_> = named.filter(is_new).collect();
        if let Some((id, epoch)) = random.choice(new) {
            partition.producers.push(Writer::new(id, epoch));
        } else if partition.producers.len() < MOST_PRODUCERS
            && let Some(id) = self.fresh.pop()
        {
            partition.producers.push(Writer::new(id, 0));
        }
        let held: Vec<i64> = self.crew.names.iter().filter_map(|(_, holder)| Some((*holder)?.0)).collect();
        let writer = random.choice(&mut partition.producers)?;
        let here = Spec { producer: writer.id, epoch: writer.epoch, first: writer.next, ..Spec::default() };
        let spec = if writer.in_txn && random.u8(..4) == 0 {
            let kind = if random.bool() { Kind::Commit } else { Kind::Abort };
            Spec { first: writer.coordinator, count: 1, kind, ..here }
        } else if has_transactions(writer.id) && !held.contains(&writer.id) {
            Spec { count: random.u8(1..=4), kind: Kind::Transactional, ..here }
        } else if random.u8(..25) == 0 && !held.contains(&writer.id) {
            // A client that lost its state begins a new epoch by itself.
            Spec { epoch: writer.epoch.saturating_add(1), first: 0, count: 1, ..here }
        } else {
            Spec { count: random.u8(1..=4), ..here }
        };
        Some(Deed::Append { partition: partition.name.clone(), spec, durable })
    }

    /// Takes into account what came of a deed.
    pub(super) fn learn(&mut self, deed: &Deed, outcome: &Outcome) {
        match (deed, outcome) {
            (Deed::Append { partition, spec, .. }, Outcome::Answered(Answer::Appended(Place { .. }))) => {
                if let Some(known) = self.known(partition) {
                    known.batches += 1;
                    if let Some(writer) = known.producers.iter_mut().find(|writer| writer.id == spec.producer)
                    {
                        writer.wrote(spec);
                    }
                }
            }
            (Deed::Create(name), Outcome::Done) => {
                if let Some(known) = self.known(name) {
                    (known.exists, known.batches) = (true, 0);
                    known.producers.clear();
                }
            }
            (Deed::Delete(name), Outcome::Done) => {
                if let Some(known) = self.known(name) {
                    known.exists = false;
                }
            }
            (Deed::Allocate, Outcome::Allocated(id)) => self.fresh.push(*id),
            (Deed::Claim(name), Outcome::Claimed { producer, epoch, .. }) => {
                if let Some((_, holder)) = self.crew.names.iter_mut().find(|(known, _)| known == name) {
                    *holder = Some((*producer, *epoch));
                }
                let everywhere = self.crew.partitions.iter_mut().flat_map(|known| &mut known.producers);
                for writer in everywhere.filter(|writer| writer.id == *producer) {
                    *writer = Writer::new(*producer, *epoch);
                }
            }
            _ => {}
        }
    }

    fn known(&mut self, name: &str) -> Option<&mut Known> {
        self.crew.partitions.iter_mut().find(|known| known.name == name)
    }
}

/// Whether all batches of this producer are in transactions.
fn has_transactions(producer: i64) -> bool {
    producer % 2 == 1
}

impl Writer {
    fn new(id: i64, epoch: i16) -> Self {
        Self { id, epoch, next: 0, in_txn: false, coordinator: 0 }
    }

    fn wrote(&mut self, spec: &Spec) {
        if spec.is_marker() {
            self.in_txn = false;
            self.coordinator = spec.first.saturating_add(1);
            return;
        }
        self.in_txn |= spec.kind == Kind::Transactional;
        (self.epoch, self.next) = (spec.epoch, spec.next());
    }
}
