//! The layers of a configuration and what is read through them.

use std::collections::BTreeMap;

use aquifer_state::choose;
use aquifer_store::objects;

use super::ConfigError;
use super::keys::{self, Key};
use super::option::ConfigOption;
use super::options;

/// Where a value was given. A later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The configuration file.
    File,
    /// `SET` in the script or at the prompt.
    Session,
    /// `-D` and `-p`.
    CommandLine,
}

/// Values by key, in three layers over the defaults.
///
/// Values are kept under the current name of their key; each has been checked. `Debug` shows keys only, because values may be credentials.
#[derive(Clone, Default)]
pub struct Configuration {
    layers: [BTreeMap<String, Given>; 3],
}

#[derive(Clone)]
struct Given {
    value: String,
    /// The older name under which it came, if it did.
    written: Option<String>,
    /// False for a key of Flink's that means nothing here.
    meaningful: bool,
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.layers.iter().flat_map(BTreeMap::keys))
            .finish()
    }
}

impl Configuration {
    /// Checks a key and its value without keeping them.
    pub fn check(key: &str, value: &str) -> Result<(), ConfigError> {
        Self::admit(key, value).map(|_| ())
    }

    /// Sets a key in a layer, replacing what that layer said before.
    pub fn put(&mut self, layer: Layer, key: &str, value: &str) -> Result<(), ConfigError> {
        let (key, given) = Self::admit(key, value)?;
        self.layer_mut(layer).insert(key, given);
        Ok(())
    }

    /// Replaces all that `SET` said: the session holds its own map, because `RESET` takes keys back.
    pub fn replace_session(
        &mut self,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        let mut layer = BTreeMap::new();
        for (key, value) in settings {
            let (key, given) = Self::admit(key, value)?;
            layer.insert(key, given);
        }
        *self.layer_mut(Layer::Session) = layer;
        Ok(())
    }

    /// The value of an option: of the highest layer that has it, or its default.
    pub fn get<T: Clone + Sync>(&self, option: &ConfigOption<T>) -> T {
        match self.text(option.key) {
            // Checked when it came in, so the default is never reached by a value that cannot be read.
            Some(text) => option.read(text).unwrap_or_else(|_| option.default.clone()),
            None => option.default.clone(),
        }
    }

    /// The text of a key, if any layer has it.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.layers
            .iter()
            .rev()
            .find_map(|layer| layer.get(key))
            .map(|given| given.value.as_str())
    }

    /// The settings of object stores (`s3.…`, `fs.gs.…`, `fs.azure.…`, `dfs.…`) that were given. Holds credentials.
    pub fn object_store_keys(&self) -> BTreeMap<String, String> {
        let mut keys = self.effective();
        keys.retain(|key, _| objects::setting(key).is_some());
        keys
    }

    /// Every key with the value that holds, in order. Holds credentials.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let all = self.layers.iter().flat_map(|layer| layer.iter());
        all.map(|(key, given)| (key.clone(), given.value.clone()))
            .collect()
    }

    /// What the user should know: keys that mean nothing here, older names, and `SET`s that the command line overrules. One sentence each, in the
    /// order of the keys, the same sentence for the same cause, so that a caller can tell which it has shown.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for layer in &self.layers {
            for (key, given) in layer {
                if !given.meaningful {
                    notes.push(format!(
                        "{key} means something in Flink and nothing here; it is ignored"
                    ));
                }
                if let Some(written) = &given.written {
                    notes.push(format!("{written} is an older name of {key}"));
                }
            }
        }
        let [_, session, command_line] = &self.layers;
        for (key, given) in session {
            if command_line
                .get(key)
                .is_some_and(|winner| winner.value != given.value)
            {
                notes.push(format!(
                    "the command line gives {key}, so the script's SET of it does not count"
                ));
            }
        }
        // A combination that cannot be is told when a job is made of it.
        let chosen = choose(
            self.text(options::STATE_BACKEND.key),
            self.text(options::CHECKPOINT_STORAGE.key),
            Some("a directory"),
        );
        notes.extend(chosen.into_iter().flat_map(|(_, _, notes)| notes));
        notes.dedup();
        notes
    }

    fn admit(key: &str, value: &str) -> Result<(String, Given), ConfigError> {
        let value = value.trim().to_owned();
        Ok(match keys::find(key)? {
            Key::Ours(option) => {
                option.check(&value)?;
                (
                    key.to_owned(),
                    Given {
                        value,
                        written: None,
                        meaningful: true,
                    },
                )
            }
            Key::Deprecated(option) => {
                option.check(&value)?;
                (
                    option.key().to_owned(),
                    Given {
                        value,
                        written: Some(key.to_owned()),
                        meaningful: true,
                    },
                )
            }
            Key::ObjectStore if value.is_empty() => {
                return Err(ConfigError::new(format!(
                    "{key}: expected a text that is not empty"
                )));
            }
            Key::ObjectStore => (
                key.to_owned(),
                Given {
                    value,
                    written: None,
                    meaningful: true,
                },
            ),
            Key::Foreign => (
                key.to_owned(),
                Given {
                    value,
                    written: None,
                    meaningful: false,
                },
            ),
        })
    }

    fn layer_mut(&mut self, layer: Layer) -> &mut BTreeMap<String, Given> {
        let [file, session, command_line] = &mut self.layers;
        match layer {
            Layer::File => file,
            Layer::Session => session,
            Layer::CommandLine => command_line,
        }
    }
}
