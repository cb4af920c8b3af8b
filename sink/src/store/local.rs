//! Objects as files of a directory.
//!
//! `object_store` never syncs what it writes locally, so writing is ours: a temporary file,
//! `fdatasync`, rename, and a sync of every directory that may be new, up to the root. Only
//! then may the catalog speak of the file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use weir_fault::{Mutant, Point, mutant, point};

use super::{Backend, StoreError};

/// A directory; clones share it.
#[derive(Debug, Clone)]
pub struct Local {
    root: Arc<PathBuf>,
    objects: Arc<LocalFileSystem>,
    /// Directories whose entries in their parents are known to be on disk.
    synced: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Local {
    /// Opens the directory, and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |verb| {
            let path = root.display().to_string();
            move |source| StoreError::Io { verb, path, source }
        };
        fs::create_dir_all(root).map_err(failed("create"))?;
        let root = root.canonicalize().map_err(failed("open"))?;
        let objects = LocalFileSystem::new_with_prefix(&root)?;
        Ok(Self {
            root: Arc::new(root),
            objects: Arc::new(objects),
            synced: Arc::default(),
        })
    }

    fn put_now(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let full = self.root.join(path);
        let directory = full.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&directory)?;
        let part = part_name(&full);
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        point(Point::StorePart);
        if !mutant(Mutant::NoStoreSync) {
            file.sync_data()?;
        }
        drop(file);
        fs::rename(&part, &full)?;
        point(Point::StoreRenamed);
        File::open(&directory)?.sync_all()?;
        self.sync_parents(&directory)
    }

    /// Syncs every directory between `directory` and the root that this process has not synced
    /// before: one that exists may still be new on disk, left by a crash.
    fn sync_parents(&self, directory: &Path) -> io::Result<()> {
        let mut one = directory;
        while one != self.root.as_path() {
            if self
                .synced
                .lock()
                .expect("nothing panics while it holds the set")
                .contains(one)
            {
                return Ok(());
            }
            let Some(parent) = one.parent() else { break };
            File::open(parent)?.sync_all()?;
            one = parent;
        }
        let mut synced = self
            .synced
            .lock()
            .expect("nothing panics while it holds the set");
        let between = directory
            .ancestors()
            .take_while(|one| *one != self.root.as_path());
        synced.extend(between.map(Path::to_owned));
        Ok(())
    }
}

#[async_trait]
impl Backend for Local {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects) as Arc<dyn ObjectStore>
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let store = self.clone();
        let (verb, path) = ("write", path.to_owned());
        blocking(verb, path.clone(), move || store.put_now(&path, &bytes)).await
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let full = self.root.join(path);
        blocking("read", path.to_owned(), move || {
            fs::read(full).map(Bytes::from)
        })
        .await
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let full = self.root.join(path);
        blocking("look at", path.to_owned(), move || {
            match fs::metadata(full) {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let full = self.root.join(path);
        blocking("delete", path.to_owned(), move || {
            for name in [part_name(&full), full] {
                match fs::remove_file(name) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        let root = Arc::clone(&self.root);
        blocking("list", "samples".into(), move || {
            let mut found = Vec::new();
            walk(&root.join("samples"), &mut found)?;
            let relative = found
                .iter()
                .filter_map(|path| path.strip_prefix(&*root).ok());
            Ok(relative.map(|path| path.display().to_string()).collect())
        })
        .await
    }
}

fn part_name(full: &Path) -> PathBuf {
    let mut name = full.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    verb: &'static str,
    path: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let result = weir_process::work::run(work).await;
    let result = result.unwrap_or_else(|e| Err(io::Error::other(e)));
    result.map_err(|source| StoreError::Io { verb, path, source })
}
