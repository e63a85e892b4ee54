//! The names of a simulated disk, and which of them a power cut takes away.
//!
//! Invariant: a node is there as long as a cached name, a durable name or an open handle leads to it; so a file goes on
//! working after its name was removed, and a name that was removed without a directory sync can come back with its
//! bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::content::FileBytes;
use super::image::Pending;
use crate::storage::{DirEntry, EntryKind};

/// Number of a node; never given out twice.
pub(super) type Inode = u64;

const ROOT: Inode = 1;

/// Directories and files, as the cache shows them and as the medium has them.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Inode, Node>,
    next: Inode,
}

#[derive(Clone, Debug)]
struct Node {
    /// How many names the cache shows for it, and how many the medium has.
    cached_names: usize,
    durable_names: usize,
    handles: usize,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    File(FileBytes),
    Dir(Names),
}

/// The names of one directory; one shared map while cache and medium agree.
#[derive(Clone, Debug, Default)]
struct Names {
    cached: Arc<BTreeMap<String, Inode>>,
    durable: Arc<BTreeMap<String, Inode>>,
}

/// A name that differs between cache and medium.
struct Changed {
    name: String,
    durable: Option<Inode>,
    cached: Option<Inode>,
}

/// Who looks at a directory.
#[derive(Clone, Copy)]
enum View {
    Cached,
    Durable,
}

impl Names {
    fn seen(&self, view: View) -> &BTreeMap<String, Inode> {
        match view {
            View::Cached => &self.cached,
            View::Durable => &self.durable,
        }
    }

    fn changed(&self) -> Vec<Changed> {
        if Arc::ptr_eq(&self.cached, &self.durable) {
            return Vec::new();
        }
        let names: BTreeSet<&String> = self.cached.keys().chain(self.durable.keys()).collect();
        let entry = |name: &String| Changed {
            name: name.clone(),
            durable: self.durable.get(name).copied(),
            cached: self.cached.get(name).copied(),
        };
        names.into_iter().map(entry).filter(|change| change.durable != change.cached).collect()
    }
}

impl Tree {
    /// An empty root directory.
    pub(super) fn new() -> Self {
        let root = Node { cached_names: 1, durable_names: 1, handles: 0, body: Body::Dir(Names::default()) };
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }

    /// What stands under a path, as the cache shows it.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Inode> {
        components(path)?.into_iter().try_fold(ROOT, |dir, name| {
            let inode = self.names(dir)?.cached.get(name).copied();
            inode.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&FileBytes> {
        match self.nodes.get(&inode).map(|node| &node.body) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> io::Result<&mut FileBytes> {
        match self.nodes.get_mut(&inode).map(|node| &mut node.body) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Inode> {
        let (dir, name) = self.parent(path)?;
        if self.names(dir)?.cached.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.add(Body::File(FileBytes::default()));
        self.set_cached(dir, &name, Some(inode));
        Ok(inode)
    }

    /// Makes the directories that are missing on the way to `path`; whether there were any.
    pub(super) fn create_dirs(&mut self, path: &Path) -> io::Result<bool> {
        let mut dir = ROOT;
        let mut created = false;
        for name in components(path)? {
            dir = match self.names(dir)?.cached.get(name) {
                Some(inode) => *inode,
                None => {
                    let inode = self.add(Body::Dir(Names::default()));
                    self.set_cached(dir, name, Some(inode));
                    created = true;
                    inode
                }
            };
        }
        self.names(dir)?;
        Ok(created)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let moved = self.resolve(from)?;
        match self.resolve(to) {
            Ok(replaced) if replaced == moved => return Ok(()),
            Ok(replaced) => self.may_replace(replaced, moved)?,
            Err(_) => {}
        }
        self.set_cached(to_dir, &to_name, Some(moved));
        self.set_cached(from_dir, &from_name, None);
        Ok(())
    }

    fn may_replace(&self, replaced: Inode, moved: Inode) -> io::Result<()> {
        match (self.names(replaced), self.names(moved)) {
            (Err(_), Err(_)) => Ok(()),
            (Ok(names), Ok(_)) if names.cached.is_empty() => Ok(()),
            (Ok(_), Ok(_)) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            (Ok(_), Err(_)) => Err(io::ErrorKind::IsADirectory.into()),
            (Err(_), Ok(_)) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        self.file(self.resolve(path)?)?;
        self.set_cached(dir, &name, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        if !self.names(self.resolve(path)?)?.cached.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.set_cached(dir, &name, None);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.names(self.resolve(path)?)?;
        let entry = |(name, inode): (&String, &Inode)| match self.file(*inode) {
            Ok(file) => DirEntry { name: name.clone(), len: file.cached().len(), kind: EntryKind::File },
            Err(_) => DirEntry { name: name.clone(), len: 0, kind: EntryKind::Directory },
        };
        Ok(names.cached.iter().map(entry).collect())
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.resolve(path)?;
        let changed = self.names(dir)?.changed();
        if let Some(Body::Dir(names)) = self.nodes.get_mut(&dir).map(|node| &mut node.body) {
            names.durable = Arc::clone(&names.cached);
        }
        for change in changed {
            self.count(change.cached, |node| node.durable_names += 1);
            self.count(change.durable, |node| node.durable_names -= 1);
        }
        Ok(())
    }

    /// Notes an open handle.
    pub(super) fn hold(&mut self, inode: Inode) {
        self.count(Some(inode), |node| node.handles += 1);
    }

    /// Notes that an open handle was closed.
    pub(super) fn release(&mut self, inode: Inode) {
        self.count(Some(inode), |node| node.handles -= 1);
    }

    /// Bytes that all files take which a user can still reach.
    pub(super) fn occupied(&self) -> u64 {
        let reachable = self.nodes.values().filter(|node| node.cached_names > 0 || node.handles > 0);
        let occupied = reachable.map(|node| match &node.body {
            Body::File(file) => file.occupied(),
            Body::Dir(_) => 0,
        });
        occupied.sum()
    }

    /// What memory pressure does: clean pages are forgotten and read again from the medium.
    pub(super) fn drop_clean(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File(file) = &mut node.body {
                file.drop_clean();
            }
        }
    }

    /// What is left when the process dies: everything but its handles.
    pub(super) fn after_kill(mut self) -> Self {
        self.nodes.retain(|_, node| {
            node.handles = 0;
            node.cached_names + node.durable_names > 0
        });
        self
    }

    /// What is left when the power goes: of the unsynced changes those that `keep` names, asked in the order of nodes,
    /// which is that of their creation.
    pub(super) fn after_power_cut(mut self, mut keep: impl FnMut(&Pending) -> bool) -> Self {
        let paths = if self.has_unsynced() { self.paths() } else { BTreeMap::new() };
        let nowhere: Arc<Path> = Arc::from(Path::new(""));
        for (inode, node) in &mut self.nodes {
            let path = paths.get(inode).unwrap_or(&nowhere);
            match &mut node.body {
                Body::File(file) => {
                    *file = file.after_power_cut(|part| keep(&Pending::of_file(Arc::clone(path), part)));
                }
                Body::Dir(names) => {
                    for Changed { name, durable, cached } in names.changed() {
                        let dir = Arc::clone(path);
                        if keep(&Pending::Name { dir, name: name.clone(), durable, cached }) {
                            let kept = Arc::make_mut(&mut names.durable);
                            match cached {
                                Some(inode) => kept.insert(name, inode),
                                None => kept.remove(&name),
                            };
                        }
                    }
                    names.cached = Arc::clone(&names.durable);
                }
            }
        }
        self.keep_reachable();
        self
    }

    fn has_unsynced(&self) -> bool {
        self.nodes.values().any(|node| match &node.body {
            Body::File(file) => file.has_unsynced(),
            Body::Dir(names) => !names.changed().is_empty(),
        })
    }

    /// Every regular file that the cache shows, with its path.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Inode> {
        let mut files = BTreeMap::new();
        let mut open = vec![(ROOT, PathBuf::from("/"))];
        while let Some((dir, path)) = open.pop() {
            let Ok(names) = self.names(dir) else { continue };
            for (name, inode) in names.cached.iter() {
                let path = path.join(name);
                if self.file(*inode).is_ok() {
                    files.insert(path, *inode);
                } else {
                    open.push((*inode, path));
                }
            }
        }
        files
    }

    /// How many nodes there are, the root included.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn names(&self, dir: Inode) -> io::Result<&Names> {
        match self.nodes.get(&dir).map(|node| &node.body) {
            Some(Body::Dir(names)) => Ok(names),
            Some(Body::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The directory of a path and the name in it.
    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let mut components = components(path)?;
        let name = components.pop().ok_or_else(|| io::Error::from(Errno::ISDIR))?;
        let dir = self.resolve(&components.iter().collect::<PathBuf>())?;
        self.names(dir)?;
        Ok((dir, name.to_owned()))
    }

    fn add(&mut self, body: Body) -> Inode {
        let inode = self.next;
        self.next += 1;
        self.nodes.insert(inode, Node { cached_names: 0, durable_names: 0, handles: 0, body });
        inode
    }

    fn set_cached(&mut self, dir: Inode, name: &str, inode: Option<Inode>) {
        let Some(Body::Dir(names)) = self.nodes.get_mut(&dir).map(|node| &mut node.body) else { return };
        let before = match inode {
            Some(inode) => Arc::make_mut(&mut names.cached).insert(name.to_owned(), inode),
            None => Arc::make_mut(&mut names.cached).remove(name),
        };
        self.count(inode, |node| node.cached_names += 1);
        self.count(before, |node| node.cached_names -= 1);
    }

    /// Changes a count of a node, and forgets the node if nothing leads to it any more.
    fn count(&mut self, inode: Option<Inode>, change: impl FnOnce(&mut Node)) {
        if let Some(inode) = inode
            && let Some(node) = self.nodes.get_mut(&inode)
        {
            change(node);
            if node.cached_names + node.durable_names + node.handles == 0 {
                self.nodes.remove(&inode);
            }
        }
    }

    /// Counts names anew from the root on, where cache and medium agree, and forgets what no name leads to.
    fn keep_reachable(&mut self) {
        let mut counts = BTreeMap::from([(ROOT, 1_usize)]);
        let mut open = vec![ROOT];
        while let Some(dir) = open.pop() {
            let Ok(names) = self.names(dir) else { continue };
            for inode in names.cached.values() {
                let count = counts.entry(*inode).or_default();
                *count += 1;
                if *count == 1 {
                    open.push(*inode);
                }
            }
        }
        self.nodes.retain(|inode, node| {
            let count = counts.get(inode).copied().unwrap_or_default();
            (node.cached_names, node.durable_names, node.handles) = (count, count, 0);
            count > 0
        });
    }

    /// A path for every node: the one that the cache shows, else the one that the medium has.
    fn paths(&self) -> BTreeMap<Inode, Arc<Path>> {
        let mut paths = BTreeMap::from([(ROOT, Arc::from(Path::new("/")))]);
        for view in [View::Cached, View::Durable] {
            let mut open: Vec<(Inode, Arc<Path>)> =
                paths.iter().map(|(inode, path)| (*inode, Arc::clone(path))).collect();
            while let Some((dir, path)) = open.pop() {
                let Ok(names) = self.names(dir) else { continue };
                for (name, inode) in names.seen(view) {
                    if !paths.contains_key(inode) {
                        let path: Arc<Path> = Arc::from(path.join(name));
                        paths.insert(*inode, Arc::clone(&path));
                        open.push((*inode, path));
                    }
                }
            }
        }
        paths
    }
}

/// The names on the way to a path. The root and the working directory are one here.
fn components(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}
