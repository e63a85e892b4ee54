//! `.kafka_cleanshutdown`, as long as logs under its root are open.
//!
//! Invariant: nothing is written under the root before the file is gone, durably, whichever log writes first: Kafka
//! would believe its checkpoint files otherwise. Whoever finds it gone from the directory alone may be looking at an
//! unlink that a power cut takes back, so the directory is synced once in any case, and others wait for that.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::format::names;
use crate::storage::{self, Storage};
use crate::testing::{Break, Point, broken, cross};

/// The mark above one log, or above all logs of a root.
pub(crate) struct RootMark {
    storage: Arc<dyn Storage>,
    root: Option<PathBuf>,
    /// Held across the removal.
    stands: Mutex<Stands>,
}

/// What is known of the file.
enum Stands {
    /// It may be there.
    Perhaps,
    /// It is gone for certain.
    Gone,
    /// The sync that would have made it go has failed: a second one would answer that all is well, and prove nothing.
    Unknown(String),
}

impl RootMark {
    /// The mark of the root that `dir` is in.
    pub(crate) fn above(storage: &Arc<dyn Storage>, dir: &Path) -> Self {
        let root = dir.parent().map(Path::to_path_buf);
        Self { storage: Arc::clone(storage), root, stands: Mutex::new(Stands::Perhaps) }
    }

    /// Takes the mark away before the first write under the root.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        let Some(root) = &self.root else { return Ok(()) };
        let mut stands = self.stands.lock();
        match &*stands {
            Stands::Perhaps => {}
            Stands::Gone => return Ok(()),
            Stands::Unknown(why) => return Err(Error::Unavailable { why: why.clone() }),
        }
        if broken(Break::KeepCleanMark) {
            return Ok(());
        }
        let path = root.join(names::CLEAN_SHUTDOWN);
        match self.storage.unlink(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            Ok(()) => cross(Point::RootUnmarked),
            Err(_) => {}
        }
        if let Err(error) = self.storage.sync_dir(root) {
            let why = format!(
                "the mark of a clean stop could not be removed for certain: {error}; open the root again"
            );
            *stands = Stands::Unknown(why);
            return Err(Error::io("sync", root, error));
        }
        *stands = Stands::Gone;
        Ok(())
    }

    /// Whether anything may have been written since the root was opened.
    pub(crate) fn is_gone(&self) -> bool {
        !matches!(*self.stands.lock(), Stands::Perhaps)
    }

    /// Leaves the mark: the last write under the root.
    pub(crate) fn put(&self, broker_epoch: i64) -> Result<(), Error> {
        let Some(root) = &self.root else { return Ok(()) };
        let mut stands = self.stands.lock();
        let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        storage::replace(&*self.storage, root, names::CLEAN_SHUTDOWN, text.as_bytes())
            .map_err(|error| Error::io("write", &root.join(names::CLEAN_SHUTDOWN), error))?;
        *stands = Stands::Perhaps;
        Ok(())
    }
}
