//! One configuration key with its type.

use aquifer_store::objects;

use super::ConfigError;

/// A key that means something here: its names, its default and how its text is read.
#[derive(Debug)]
pub struct ConfigOption<T: 'static> {
    /// Flink's name, or ours where Flink has none.
    pub key: &'static str,
    /// Older names of Flink's that are still accepted.
    pub deprecated: &'static [&'static str],
    /// What holds when nobody says anything.
    pub default: T,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Text to value, or the words that complete "expected …".
    pub parse: fn(&str) -> Result<T, String>,
}

/// What can be done with an option without knowing its type.
pub(super) trait AnyOption: Sync {
    fn key(&self) -> &'static str;
    fn deprecated(&self) -> &'static [&'static str];
    fn doc(&self) -> &'static str;
    fn check(&self, value: &str) -> Result<(), ConfigError>;
}

impl<T: Sync> ConfigOption<T> {
    /// The value that `text` stands for.
    pub fn read(&self, text: &str) -> Result<T, ConfigError> {
        (self.parse)(text).map_err(|expected| {
            ConfigError::new(format!(
                "{}: expected {expected}, found {}",
                self.key,
                shown(self.key, text)
            ))
        })
    }
}

impl<T: Sync> AnyOption for ConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn deprecated(&self) -> &'static [&'static str] {
        self.deprecated
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn check(&self, value: &str) -> Result<(), ConfigError> {
        self.read(value).map(|_| ())
    }
}

/// Whether the value of a key must not be shown.
pub(super) fn secret(key: &str) -> bool {
    if objects::setting(key) == Some(objects::Setting::Secret) {
        return true;
    }
    let key = key.to_ascii_lowercase();
    [
        "secret",
        "password",
        "token",
        "access-key",
        "access.key",
        "credential",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// A value as a message may show it: quoted, shortened, and not at all when the key is secret.
pub(super) fn shown(key: &str, value: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    if secret(key) {
        return "a value that is kept secret".to_owned();
    }
    match value.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("'{}…'", value.get(..end).unwrap_or_default()),
        None => format!("'{value}'"),
    }
}
