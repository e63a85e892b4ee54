//! What is on the medium and not only in the page cache, as the children told.
//!
//! Invariant: a length here is a lower bound of what a power cut leaves, because a child tells of a sync only after it
//! has returned, and of a rename only after it has happened.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use oncelog::format::names::FileName;
use oncelog::storage::{OpenMode, Storage};

use super::protocol::Disk;

/// The medium under the log's directory.
#[derive(Debug, Default)]
pub(super) struct Medium {
    /// Bytes of each file that a sync covered.
    synced: HashMap<String, u64>,
    /// Names given since the directory was synced.
    new_names: HashSet<String>,
}

impl Medium {
    /// Takes what a child told.
    pub(super) fn hear(&mut self, disk: &Disk) {
        match disk {
            Disk::Synced { name, len } => {
                let synced = self.synced.entry(name.clone()).or_default();
                *synced = (*synced).max(*len);
            }
            Disk::Renamed { from, to } => {
                // A directory that has another name now is a deleted partition.
                self.forget(&format!("{from}/"));
                let len = self.synced.remove(from).unwrap_or(0);
                self.new_names.remove(from);
                // What takes the place of another file leaves that one or itself, never nothing.
                if self.synced.insert(to.clone(), len).is_none() {
                    self.new_names.insert(to.clone());
                }
            }
            Disk::Removed { name } => {
                self.synced.remove(name);
                self.new_names.remove(name);
            }
            Disk::Cut { name, len } => {
                if let Some(synced) = self.synced.get_mut(name) {
                    *synced = (*synced).min(*len);
                }
            }
            Disk::DirSynced { name } => self.new_names.retain(|new| directory(new) != name),
            Disk::Failed { .. } => {}
        }
    }

    /// A child can die between a rename and its word about it: what has the next of the names that a compacted segment goes
    /// through was synced under the one before.
    pub(super) fn reconcile(&mut self, is_there: impl Fn(&str) -> bool) {
        for (before, after) in [(".cleaned", ".swap"), (".swap", "")] {
            let gone = |name: &&String| name.ends_with(before) && !is_there(name);
            let gone: Vec<String> = self.synced.keys().filter(gone).cloned().collect();
            for from in gone {
                let to = format!("{}{after}", from.strip_suffix(before).unwrap_or(&from));
                if is_there(&to) {
                    self.hear(&Disk::Renamed { from, to });
                }
            }
        }
    }

    /// A file that the parent itself has put there or cut.
    pub(super) fn put(&mut self, name: &str, len: u64) {
        self.synced.insert(name.to_owned(), len);
    }

    /// The parent has removed a file.
    pub(super) fn remove(&mut self, name: &str) {
        self.synced.remove(name);
        self.new_names.remove(name);
    }

    /// Forgets the files whose names begin like this.
    fn forget(&mut self, prefix: &str) {
        self.synced.retain(|name, _| !name.starts_with(prefix));
        self.new_names.retain(|name| !name.starts_with(prefix));
    }

    /// How many bytes of this file are on the medium.
    pub(super) fn synced(&self, name: &str) -> u64 {
        self.synced.get(name).copied().unwrap_or(0)
    }

    /// Takes away what no sync covered, as a power cut may: of each log and index file all of it or a part, and now and
    /// then a segment whose name was not on the medium. The names of the files in `dir` are known with `prefix` before
    /// them. Returns how many bytes went.
    pub(super) fn cut_power(
        &mut self,
        storage: &dyn Storage,
        dir: &Path,
        prefix: &str,
        random: &mut fastrand::Rng,
    ) -> Result<u64> {
        let mut lost = 0;
        let mut entries = storage.list(dir).with_context(|| format!("list {}", dir.display()))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let is_log = match FileName::parse(&entry.name) {
                FileName::Log(_) => true,
                FileName::Index(_) | FileName::TimeIndex(_) | FileName::TxnIndex(_) => false,
                _ => continue,
            };
            let path = dir.join(&entry.name);
            let name = format!("{prefix}{}", entry.name);
            if is_log && self.new_names.contains(&name) && random.bool() {
                storage.unlink(&path).with_context(|| format!("remove {}", path.display()))?;
                self.remove(&name);
                lost += entry.len;
                continue;
            }
            let synced = self.synced(&name);
            if entry.len > synced {
                let kept = if random.u8(..10) < 6 { synced } else { random.u64(synced..=entry.len) };
                let file = storage.open(&path, OpenMode::Write)?;
                file.set_len(kept).with_context(|| format!("cut {}", path.display()))?;
                lost += entry.len - kept;
            }
        }
        let of_dir = prefix.trim_end_matches('/');
        self.new_names.retain(|name| directory(name) != of_dir);
        Ok(lost)
    }
}

/// The directory that a name begins with; empty for the log's own.
fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use oncelog::storage::MemoryStorage;

    use super::*;

    const LOG: &str = "00000000000000000000.log";

    fn synced(medium: &mut Medium, name: &str, len: u64) {
        medium.hear(&Disk::Synced { name: name.to_owned(), len });
    }

    #[test]
    fn a_power_cut_keeps_every_synced_byte_and_no_segment_longer_than_it_was() {
        for seed in 0..50 {
            let storage = MemoryStorage::new();
            let dir = Path::new("/log");
            storage.create_dir_all(dir).unwrap();
            let file = storage.open(&dir.join(LOG), OpenMode::CreateNew).unwrap();
            file.write_all_at(&[7; 100], 0).unwrap();
            let mut medium = Medium::default();
            synced(&mut medium, LOG, 60);
            let lost = medium.cut_power(&storage, dir, "", &mut fastrand::Rng::with_seed(seed)).unwrap();
            assert_eq!(file.len().unwrap(), 100 - lost);
            assert!(lost <= 40, "{lost}");
        }
    }

    #[test]
    fn what_was_synced_under_one_name_is_synced_under_the_next() {
        let mut medium = Medium::default();
        synced(&mut medium, "oncelog.next", 10);
        medium.hear(&Disk::Renamed { from: "oncelog.next".to_owned(), to: LOG.to_owned() });
        assert_eq!((medium.synced(LOG), medium.synced("oncelog.next")), (10, 0));
    }

    #[test]
    fn a_rename_that_nobody_told_of_is_found() {
        let mut medium = Medium::default();
        synced(&mut medium, "keyed-0/1.log", 900);
        synced(&mut medium, "keyed-0/1.log.cleaned", 500);
        medium.reconcile(|name| name != "keyed-0/1.log.swap");
        assert_eq!(medium.synced("keyed-0/1.log"), 900, "it has its first name still");
        medium.reconcile(|name| name == "keyed-0/1.log.swap" || name == "keyed-0/1.log");
        assert_eq!((medium.synced("keyed-0/1.log.swap"), medium.synced("keyed-0/1.log")), (500, 900));
        medium.reconcile(|name| name == "keyed-0/1.log");
        assert_eq!(medium.synced("keyed-0/1.log"), 500);
    }

    #[test]
    fn a_cut_takes_synced_bytes_with_it_and_a_later_sync_counts_again() {
        let mut medium = Medium::default();
        synced(&mut medium, LOG, 50);
        medium.hear(&Disk::Cut { name: LOG.to_owned(), len: 20 });
        assert_eq!(medium.synced(LOG), 20);
        synced(&mut medium, LOG, 30);
        assert_eq!(medium.synced(LOG), 30);
    }
}
