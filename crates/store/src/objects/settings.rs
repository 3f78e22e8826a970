//! Which configuration keys the object stores understand.

use super::{azure, gcs, patience, s3};

/// How a setting of an object store is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// It may be shown.
    Plain,
    /// It must not be shown, logged or written down.
    Secret,
}

/// Whether `key` is a setting of [`super::open`], and how to treat its value.
///
/// ```
/// use aquifer_store::objects::{Setting, setting};
/// assert_eq!(setting("s3.endpoint"), Some(Setting::Plain));
/// assert_eq!(setting("fs.azure.account.key.me.blob.core.windows.net"), Some(Setting::Secret));
/// assert_eq!(setting("state.backend.type"), None);
/// ```
pub fn setting(key: &str) -> Option<Setting> {
    let is_of =
        |name: &str| key == name || key.strip_prefix(name).is_some_and(|k| k.starts_with('.'));
    let secret = s3::SECRETS.iter().any(|names| names.contains(&key))
        || is_of(azure::ACCOUNT_KEY)
        || is_of(azure::CLIENT_SECRET);
    if secret {
        return Some(Setting::Secret);
    }
    let patience = [patience::S3, patience::GCS, patience::AZURE];
    let plain = s3::PLAIN.iter().any(|names| names.contains(&key))
        || gcs::KEY_FILE.contains(&key)
        || gcs::ROOT_URL.contains(&key)
        || is_of(azure::CLIENT_ID)
        || is_of(azure::CLIENT_ENDPOINT)
        || key == azure::ENDPOINT
        || patience.iter().any(|names| {
            let names = [names.connect, names.request, names.total, names.tries];
            names.concat().contains(&key)
        })
        || key.starts_with("dfs.")
        || key == "fs.defaultFS";
    plain.then_some(Setting::Plain)
}
