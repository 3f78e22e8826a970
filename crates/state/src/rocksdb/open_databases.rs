//! Databases of checkpoints that lie on the local disk to be read.
//!
//! Whoever reads a checkpoint asks for rows table by table or key by key, and what lies in a database has to be downloaded to be read. So
//! each database is downloaded once for all who share an [`OpenDatabases`], into a directory of its own, which goes with the last of them
//! that holds it. One that could not be had is asked for again the next time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME};
use aquifer_store::{Clock, Environment, TableId};

use super::database::check_family;
use super::directory::LocalDirectory;
use super::expiry::Expiry;
use super::options::RocksdbOptions;
use super::rows::Laid;
use super::transfer::Transfers;
use super::{failed, restore, tuning};
use crate::{DbSnapshot, StateError};

/// Bytes of blocks that are kept while rows are read one after the other.
const CACHE_BYTES: usize = 8 << 20;

/// A database that is read and never written.
pub(super) struct OpenDatabase {
    pub(super) db: DB,
    /// Its column families and the tables they are.
    pub(super) families: Vec<(String, TableId)>,
    /// Its files, if they are its own. Dropped after it.
    _directory: Option<Arc<LocalDirectory>>,
}

impl OpenDatabase {
    /// Opens one whose files somebody else looks after.
    pub(super) fn of(laid: &Laid) -> Result<Self, StateError> {
        let families = laid.families.iter().map(|(name, _)| name.as_str());
        Ok(Self {
            db: open_to_read(&laid.path, &laid.operator, families)?,
            families: laid.families.clone(),
            _directory: None,
        })
    }

    fn download(database: &DbSnapshot, environment: &Environment) -> Result<Self, StateError> {
        let directories = &environment.temporary_directories;
        let directory = LocalDirectory::create(directories, 0, &environment.file_prefix)?;
        let objects = Arc::clone(&environment.objects);
        let transfers = Transfers::new(objects, environment.runtime.clone());
        let at_once = RocksdbOptions::default().transfers;
        let laid = restore::download(&[database], &directory, &transfers, at_once)?;
        let laid = laid.first().ok_or_else(|| {
            StateError::Usage("no database was downloaded where one was asked for".into())
        })?;
        Ok(Self {
            _directory: Some(directory),
            ..Self::of(laid)?
        })
    }
}

/// See the module. Clones share what they have.
#[derive(Clone, Default)]
pub(crate) struct OpenDatabases {
    known: Arc<Mutex<Vec<Arc<Known>>>>,
}

struct Known {
    database: DbSnapshot,
    /// Locked while it is downloaded: whoever wants it too waits.
    opened: Mutex<Option<Arc<OpenDatabase>>>,
}

impl OpenDatabases {
    /// The database, which is downloaded if nobody has asked for it before.
    pub(super) fn of(
        &self,
        database: &DbSnapshot,
        environment: &Environment,
    ) -> Result<Arc<OpenDatabase>, StateError> {
        let known = self.known(database);
        let mut opened = known.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        let new = Arc::new(OpenDatabase::download(database, environment)?);
        *opened = Some(Arc::clone(&new));
        Ok(new)
    }

    fn known(&self, database: &DbSnapshot) -> Arc<Known> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|known| known.database == *database) {
            return Arc::clone(known);
        }
        let new = Arc::new(Known {
            database: database.clone(),
            opened: Mutex::new(None),
        });
        all.push(Arc::clone(&new));
        new
    }
}

fn open_to_read<'a>(
    path: &Path,
    operator: &str,
    families: impl Iterator<Item = &'a str>,
) -> Result<DB, StateError> {
    let options = RocksdbOptions {
        block_cache_bytes: CACHE_BYTES,
        ..RocksdbOptions::default()
    };
    let cache = tuning::cache(&options);
    let (expiry, clock): (_, Clock) = (Expiry::unknown(), Arc::new(|| 0));
    // All share one cache: RocksDB makes one of its own for each family that is not given any.
    let of = || tuning::family_options(&options, &cache, &expiry, &clock, 0);
    let default = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, of());
    let mut descriptors = vec![default];
    for family in families {
        check_family(family)?;
        descriptors.push(ColumnFamilyDescriptor::new(family, of()));
    }
    let of = tuning::database_options(&options, path);
    DB::open_cf_descriptors_read_only(&of, path, descriptors, false).map_err(|error| {
        failed(
            format_args!("opening the database of operator `{operator}` to read it"),
            error,
        )
    })
}
