//! Opens the object store that a URI names, and checks that it can be trusted with commits.
//!
//! | URI | store | base |
//! |---|---|---|
//! | `file:///dir`, `/dir`, `dir` | the local directory, created when missing, every write synced to disk | empty |
//! | `memory://name/prefix` | memory of this process; the same name is the same store | `prefix` |
//! | `s3://bucket/prefix`, `s3a://…` | S3 or a look-alike | `prefix` |
//! | `gs://bucket/prefix` | Google Cloud Storage | `prefix` |
//! | `abfss://container@account.dfs.core.windows.net/prefix`, `abfs://…`, `wasb(s)://…` | Azure | `prefix` |
//! | `hdfs://namenode:port/prefix` | HDFS, with the feature `hdfs` | `prefix` |
//!
//! What always holds: credentials appear in no error and no `Debug` output. What can go wrong: a URI that cannot be understood and
//! a directory that cannot be made are `Usage` errors; the network is not touched before the first request.

mod azure;
mod error;
mod gcs;
mod hdfs;
mod local;
mod location;
mod memory;
mod mounted;
mod opaque;
mod patience;
mod probe;
mod s3;
mod settings;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::Error;
use location::Location;

pub use error::request_error;
pub use mounted::{Mount, Mounted};
pub use probe::{ALLOW_UNSAFE_COMMITS, CreateIfAbsent, create_if_absent, probe_create_if_absent};
pub use settings::{Setting, setting};

/// Opens the store that `uri` names and says below which path of it everything is to lie.
///
/// `settings` are Flink's and Hadoop's keys, those for which [`setting`] knows an answer; others are ignored:
/// `s3.endpoint`, `s3.access-key`, `s3.secret-key`, `s3.path.style.access` and `s3.region`;
/// `fs.gs.auth.service.account.json.keyfile` and `fs.gs.storage.root.url`; `fs.azure.account.key.<host>`,
/// `fs.azure.account.oauth2.client.{id,secret,endpoint}` and `fs.azure.endpoint`; `dfs.…`. How long clients wait is said by
/// `s3.connection.establish.timeout` (3 s), `s3.connection.request.timeout` (30 s), `s3.retry.timeout` (10 s),
/// `s3.attempts.maximum` (5), and `gs.http.connect-timeout`, `gs.http.read-timeout`, `gs.retry.total-timeout`,
/// `gs.retry.max-attempt`, `fs.azure.http.connection.timeout`, `fs.azure.http.read.timeout`, `fs.azure.retry.timeout`,
/// `fs.azure.io.retry.max.retries`. Settings come before the environment's `AWS_…`, `GOOGLE_…` and `AZURE_…`, which mean what
/// the tools of these clouds take them for.
///
/// ```
/// # use std::collections::BTreeMap;
/// let (objects, base) = aquifer_store::objects::open("memory://doc/jobs", &BTreeMap::new())?;
/// assert_eq!(objects.to_string(), "InMemory");
/// assert_eq!(base.as_ref(), "jobs");
/// # Ok::<(), aquifer_store::Error>(())
/// ```
pub fn open(
    uri: &str,
    settings: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| {
            let ours = ["AWS_", "AZURE_", "GOOGLE_"];
            ours.iter().any(|start| key.starts_with(start)) || key == gcs::EMULATOR_VARIABLE
        })
        .collect();
    open_with_environment(uri, settings, &environment)
}

/// Whether a URI can be understood, whatever it names. For fuzzing.
pub(crate) fn is_understood(uri: &str) -> bool {
    Location::parse(uri).is_ok()
}

/// [`open`] with the environment passed in.
pub fn open_with_environment(
    uri: &str,
    settings: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    match Location::parse(uri)? {
        Location::Directory(directory) => Ok((local::open(&directory)?, Path::default())),
        Location::Memory { name, base } => Ok((memory::open(&name), base)),
        Location::Gcs { bucket, base } => Ok((gcs::open(&bucket, settings, environment)?, base)),
        Location::Azure {
            container,
            account,
            base,
        } => {
            let account = account.as_ref();
            Ok((
                azure::open(&container, account, settings, environment)?,
                base,
            ))
        }
        Location::Hdfs { authority, base } => Ok((hdfs::open(&authority, settings)?, base)),
        Location::S3 { bucket, base } => Ok((s3::open(&bucket, settings, environment)?, base)),
    }
}

/// The store that a URI names, without the path below it, and the directory that it is, if it is a local one. Two URIs with the
/// same root are in one store, where full paths mean the same.
pub fn root_of(uri: &str) -> Result<(String, Option<std::path::PathBuf>), Error> {
    let location = Location::parse(uri)?;
    let directory = location.local_directory().map(std::path::Path::to_owned);
    Ok((location.root(), directory))
}

#[cfg(test)]
mod tests;
