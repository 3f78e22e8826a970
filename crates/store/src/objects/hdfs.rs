//! HDFS, for programs that were built with the feature `hdfs`.
//!
//! Settings whose names begin with `dfs.` or `fs.defaultFS` are handed to the client, which also reads `core-site.xml` and
//! `hdfs-site.xml` where `HADOOP_CONF_DIR` or `HADOOP_HOME` say. Names with the authority of a name service find its nodes so.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::Error;

#[cfg(feature = "hdfs")]
pub(super) fn open(
    authority: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    use super::opaque::Opaque;
    let config = settings
        .iter()
        .filter(|(name, _)| name.starts_with("dfs.") || *name == "fs.defaultFS")
        .map(|(name, value)| (name.clone(), value.clone()));
    let objects = hdfs_native_object_store::HdfsObjectStoreBuilder::new()
        .with_url(format!("hdfs://{authority}"))
        .with_config(config)
        .build()
        .map_err(|error| {
            super::error::usage(format!(
                "the HDFS client for `{authority}` cannot be made: {error}"
            ))
        })?;
    Ok(Arc::new(Opaque::new(objects, format!("Hdfs({authority})"))))
}

#[cfg(not(feature = "hdfs"))]
pub(super) fn open(
    authority: &str,
    _: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    Err(super::error::usage(format!(
        "`hdfs://{authority}` cannot be opened, because this program was built without HDFS: build it with `--features hdfs`"
    )))
}
