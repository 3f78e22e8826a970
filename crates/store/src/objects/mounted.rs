//! One object store put together from several: paths below `_at/<name>/` lead to another store, all others to the root.
//!
//! A job needs this when its files do not all lie where its checkpoints do: with a primary directory elsewhere, or after it went
//! on from a checkpoint of another bucket. Everything above sees one store and full paths, which can be written down.
//!
//! A file may also have been *moved*: since its copy at another path is complete, that one is read. The owner of the old place
//! may remove it then.
//!
//! What always holds: a path is answered by exactly one store; an unknown mount is an error, never the root. Copies between two
//! stores are not supported here (`NotSupported`), because somebody has to carry the bytes.
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use hashbrown::HashMap;
use object_store::path::{Path, PathPart};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::RwLock;

use crate::LocalPaths;

/// First part of every path that leads to another store.
const MOUNTS: &str = "_at";
/// Deletions handed to a store together.
const DELETIONS_TOGETHER: usize = 1000;

/// Another store, and the name under which its paths begin.
#[derive(Clone, Debug)]
pub struct Mount {
    /// One part of a path: letters, digits, `-` and `_`.
    pub name: String,
    /// The store.
    pub objects: Arc<dyn ObjectStore>,
    /// The directory that the store is, if it is a local one.
    pub local_root: Option<PathBuf>,
}

/// See the module.
pub struct Mounted {
    /// The root comes first, with an empty name.
    stores: Arc<[Mount]>,
    moved: RwLock<HashMap<Path, Path>>,
    any_moved: AtomicBool,
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [root, mounts @ ..] = &*self.stores else {
            return f.write_str("Mounted()");
        };
        write!(f, "{}", root.objects)?;
        for mount in mounts {
            write!(f, " + {MOUNTS}/{} = {}", mount.name, mount.objects)?;
        }
        Ok(())
    }
}

impl Mounted {
    /// The root store, and others beside it. Of two mounts with the same name the first counts.
    pub fn new(
        root: Arc<dyn ObjectStore>,
        local_root: Option<PathBuf>,
        mounts: impl IntoIterator<Item = Mount>,
    ) -> Arc<Self> {
        let root = Mount {
            name: String::new(),
            objects: root,
            local_root,
        };
        Arc::new(Self {
            stores: std::iter::once(root).chain(mounts).collect(),
            moved: RwLock::default(),
            any_moved: AtomicBool::new(false),
        })
    }

    /// The path by which an object of a mounted store is known here.
    pub fn path_in(mount: &str, path: &Path) -> Path {
        [PathPart::from(MOUNTS), PathPart::from(mount)]
            .into_iter()
            .chain(path.parts())
            .collect()
    }

    /// The name of the mount that a path leads to, if it leads to one.
    pub fn mount_of(path: &Path) -> Option<String> {
        let mut parts = path.parts();
        let is_mount = parts.next()?.as_ref() == MOUNTS;
        let name = parts.next()?;
        is_mount.then(|| name.as_ref().to_owned())
    }

    /// From now on the copies are read instead of the originals: pairs of old and new path.
    pub fn moved(&self, copies: impl IntoIterator<Item = (Path, Path)>) {
        let mut moved = self.moved.write();
        moved.extend(copies);
        self.any_moved.store(!moved.is_empty(), Ordering::Release);
    }

    /// Which objects are local files, for `Environment::local_paths`; `None` if no store is a local directory.
    pub fn local_paths(self: &Arc<Self>) -> Option<LocalPaths> {
        let local = self
            .stores
            .iter()
            .filter(|store| store.local_root.is_some())
            .count();
        let this = Arc::clone(self);
        (local > 0).then(|| LocalPaths {
            locate: Arc::new(move |path| this.local_path(path)),
            all: local == self.stores.len(),
        })
    }

    /// The local file that an object is, if it lies in a local directory.
    pub fn local_path(&self, path: &Path) -> Option<PathBuf> {
        let path = self.current(path);
        let (store, inner) = self.route(&path).ok()?;
        let root = store.local_root.as_ref()?;
        Some(inner.parts().fold(root.clone(), |mut file, part| {
            file.push(part.as_ref());
            file
        }))
    }

    /// Where an object is read now.
    fn current(&self, path: &Path) -> Path {
        if !self.any_moved.load(Ordering::Acquire) {
            return path.clone();
        }
        let moved = self.moved.read();
        moved.get(path).unwrap_or(path).clone()
    }

    /// The store of a path, and the path in it.
    fn route(&self, path: &Path) -> Result<(&Mount, Path)> {
        let Some(name) = Self::mount_of(path) else {
            return match self.stores.first() {
                Some(root) => Ok((root, path.clone())),
                None => Err(unknown(path)),
            };
        };
        let found = self.stores.iter().skip(1).find(|mount| mount.name == name);
        match found {
            Some(mount) => Ok((mount, path.parts().skip(2).collect())),
            None => Err(unknown(path)),
        }
    }

    fn index(&self, path: &Path) -> Result<usize> {
        let (found, _) = self.route(path)?;
        Ok(self
            .stores
            .iter()
            .position(|store| std::ptr::eq(store, found))
            .unwrap_or_default())
    }
}

fn unknown(path: &Path) -> Error {
    Error::NotSupported {
        source: format!("`{path}` leads to a store that is not mounted").into(),
    }
}

/// Puts the mount's name before a path of its store.
fn outer(mount: &Mount, path: Path) -> Path {
    if mount.name.is_empty() {
        path
    } else {
        Mounted::path_in(&mount.name, &path)
    }
}

fn outer_meta(mount: &Mount, meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        location: outer(mount, meta.location),
        ..meta
    }
}

#[async_trait]
impl ObjectStore for Mounted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (store, path) = self.route(location)?;
        store.objects.put_opts(&path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (store, path) = self.route(location)?;
        store.objects.put_multipart_opts(&path, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (store, path) = self.route(&self.current(location))?;
        let mut answer = store.objects.get_opts(&path, options).await?;
        answer.meta.location = location.clone();
        Ok(answer)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = Self {
            stores: self.stores.clone(),
            moved: RwLock::default(),
            any_moved: AtomicBool::new(false),
        };
        locations
            .chunks(DELETIONS_TOGETHER)
            .flat_map(move |together| {
                let mut answers: Vec<BoxStream<'static, Result<Path>>> = Vec::new();
                let mut by_store: Vec<Vec<Path>> = vec![Vec::new(); this.stores.len()];
                for location in together {
                    let routed = location.and_then(|location| {
                        let (_, path) = this.route(&location)?;
                        Ok((this.index(&location)?, path))
                    });
                    match routed {
                        Ok((index, path)) => {
                            if let Some(paths) = by_store.get_mut(index) {
                                paths.push(path);
                            }
                        }
                        Err(error) => answers.push(stream::iter([Err(error)]).boxed()),
                    }
                }
                for (mount, paths) in this.stores.iter().zip(by_store) {
                    if !paths.is_empty() {
                        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
                        let mount = mount.clone();
                        let deleted = mount.objects.delete_stream(paths);
                        answers.push(deleted.map_ok(move |path| outer(&mount, path)).boxed());
                    }
                }
                stream::iter(answers).flatten()
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        match self.route(&prefix) {
            Ok((mount, path)) => {
                let mount = mount.clone();
                let path = Some(path).filter(|path| !path.as_ref().is_empty());
                let listed = mount.objects.list(path.as_ref());
                listed.map_ok(move |meta| outer_meta(&mount, meta)).boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let (mount, path) = self.route(&prefix)?;
        let path = Some(path).filter(|path| !path.as_ref().is_empty());
        let listed = mount.objects.list_with_delimiter(path.as_ref()).await?;
        Ok(ListResult {
            common_prefixes: listed
                .common_prefixes
                .into_iter()
                .map(|path| outer(mount, path))
                .collect(),
            objects: listed
                .objects
                .into_iter()
                .map(|meta| outer_meta(mount, meta))
                .collect(),
            extensions: listed.extensions,
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let from = self.current(from);
        if self.index(&from)? != self.index(to)? {
            return Err(Error::NotSupported {
                source: format!("`{from}` and `{to}` lie in different stores").into(),
            });
        }
        let (store, from) = self.route(&from)?;
        let (_, to) = self.route(to)?;
        store.objects.copy_opts(&from, &to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    fn stores() -> (Arc<InMemory>, Arc<InMemory>, Arc<Mounted>) {
        let (root, other) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
        let mount = Mount {
            name: "other".into(),
            objects: other.clone(),
            local_root: Some("/disk".into()),
        };
        let mounted = Mounted::new(root.clone(), None, [mount]);
        (root, other, mounted)
    }

    async fn names(objects: &dyn ObjectStore, prefix: &str) -> Vec<String> {
        let prefix = Path::from(prefix);
        let listed = objects
            .list(Some(&prefix))
            .map_ok(|m| m.location.to_string());
        let mut names: Vec<_> = listed.try_collect().await.unwrap();
        names.sort();
        names
    }

    #[tokio::test]
    async fn each_path_leads_to_one_store() {
        let (root, other, mounted) = stores();
        let far = Mounted::path_in("other", &Path::from("a/b"));
        assert_eq!(far.as_ref(), "_at/other/a/b");
        assert_eq!(Mounted::mount_of(&far).as_deref(), Some("other"));
        assert_eq!(Mounted::mount_of(&Path::from("a/b")), None);
        mounted
            .put(&Path::from("a/b"), "near".into())
            .await
            .unwrap();
        mounted.put(&far, "far".into()).await.unwrap();
        assert_eq!(names(&*root, "").await, ["a/b"]);
        assert_eq!(names(&*other, "").await, ["a/b"]);
        let found = mounted.get(&far).await.unwrap();
        assert_eq!(found.meta.location, far);
        assert_eq!(found.bytes().await.unwrap(), "far");
        assert_eq!(names(&*mounted, "a").await, ["a/b"]);
        assert_eq!(names(&*mounted, "_at/other").await, ["_at/other/a/b"]);
        let both = [Ok(Path::from("a/b")), Ok(far.clone())];
        let deleted = mounted.delete_stream(stream::iter(both).boxed());
        assert_eq!(deleted.count().await, 2);
        assert!(names(&*root, "").await.is_empty() && names(&*other, "").await.is_empty());
    }

    #[tokio::test]
    async fn an_unknown_mount_is_an_error_and_stores_are_not_mixed() {
        let (_, _, mounted) = stores();
        let nowhere = Mounted::path_in("nowhere", &Path::from("a"));
        assert!(mounted.put(&nowhere, "x".into()).await.is_err());
        assert!(mounted.list(Some(&nowhere)).next().await.unwrap().is_err());
        let far = Mounted::path_in("other", &Path::from("a"));
        mounted.put(&far, "x".into()).await.unwrap();
        let copied = mounted.copy(&far, &Path::from("b")).await;
        assert!(matches!(copied, Err(Error::NotSupported { .. })));
        let beside = Mounted::path_in("other", &Path::from("b"));
        mounted.copy(&far, &beside).await.unwrap();
        assert_eq!(names(&*mounted, "_at/other").await.len(), 2);
    }

    #[tokio::test]
    async fn what_was_moved_is_read_at_its_new_place() {
        let (_, other, mounted) = stores();
        let (far, near) = (Mounted::path_in("other", &Path::from("f")), Path::from("n"));
        mounted.put(&far, "same".into()).await.unwrap();
        mounted.put(&near, "same".into()).await.unwrap();
        assert_eq!(mounted.local_path(&far), Some(PathBuf::from("/disk/f")));
        mounted.moved([(far.clone(), near)]);
        other.delete(&Path::from("f")).await.unwrap();
        assert_eq!(mounted.get_range(&far, 1..3).await.unwrap(), "am");
        assert_eq!(mounted.local_path(&far), None);
    }
}
