//! Reading a configuration file: YAML with Flink's keys, nested or flat, into the file layer of a [`Configuration`].
//!
//! Errors name the file, the line where it is known, and the key. A file is at most 1 MiB; a sequence becomes a list with `;`.

use std::collections::BTreeMap;
use std::path::Path;

use aquifer_dataflow::config::{ConfigError, Configuration, Layer};
use serde_yaml_ng::Value;

const FILE_BYTES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 32;

/// Reads the file at `path` into `configuration`.
pub fn load(path: &Path, configuration: &mut Configuration) -> Result<(), ConfigError> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(&name, &error))?
        .len();
    if size > FILE_BYTES_MAX {
        let message = format!(
            "{name}: expected a configuration file of at most {FILE_BYTES_MAX} bytes, found {size}"
        );
        return Err(ConfigError::new(message));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&name, &error))?;
    read(&name, &text, configuration)
}

/// Reads the text of a configuration file; `name` is for messages.
pub fn read(name: &str, text: &str, configuration: &mut Configuration) -> Result<(), ConfigError> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error
            .location()
            .map_or(String::new(), |location| format!(":{}", location.line()));
        ConfigError::new(format!("{name}{line}: not valid YAML: {error}"))
    })?;
    let mut flat = BTreeMap::new();
    if !value.is_null() {
        flatten("", &value, 0, &mut flat)
            .map_err(|(key, message)| at(name, text, &key, &message))?;
    }
    for (key, value) in &flat {
        configuration
            .put(Layer::File, key, value)
            .map_err(|error| at(name, text, key, &error.message))?;
    }
    Ok(())
}

/// Collects the leaves below `prefix` with their dotted keys. An error names the key it is about.
fn flatten(
    prefix: &str,
    value: &Value,
    depth: usize,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), (String, String)> {
    let fail = |message: String| Err((prefix.to_owned(), message));
    if depth > DEPTH_MAX {
        return fail(format!(
            "{prefix}: expected at most {DEPTH_MAX} levels of keys"
        ));
    }
    if let Value::Mapping(entries) = value {
        for (name, below) in entries {
            let Some(name) = scalar(name) else {
                return fail(format!("{prefix}: expected a text as key"));
            };
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            flatten(&key, below, depth + 1, flat)?;
        }
        return Ok(());
    }
    let text = match value {
        Value::Sequence(items) => items
            .iter()
            .map(|item| scalar(item).map(quoted))
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(";")),
        leaf => scalar(leaf),
    };
    match text {
        None => fail(format!("{prefix}: expected a value")),
        Some(_) if prefix.is_empty() => {
            fail("expected keys and values, such as 'parallelism.default: 2'".to_owned())
        }
        Some(text) => match flat.insert(prefix.to_owned(), text) {
            None => Ok(()),
            Some(_) => fail(format!("{prefix}: given twice, nested and flat")),
        },
    }
}

/// The text of a leaf.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// An item of a list, in quotes if it holds the separator.
fn quoted(item: String) -> String {
    if item.contains(';') {
        format!("'{}'", item.replace('\'', "''"))
    } else {
        item
    }
}

fn at(name: &str, text: &str, key: &str, message: &str) -> ConfigError {
    match line_of(text, key) {
        Some(line) => ConfigError::new(format!("{name}:{line}: {message}")),
        None => ConfigError::new(format!("{name}: {message}")),
    }
}

/// The line of a key, found by the indentation of block YAML; `None` where the file is written otherwise (`{a: 1}`).
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut open: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let Some((name, _)) = content
            .split_once(':')
            .filter(|_| !content.starts_with('#'))
        else {
            continue;
        };
        let indent = line.len() - content.len();
        open.retain(|(outer, _)| *outer < indent);
        let name = name.trim().trim_matches(['\'', '"']);
        let path = match open.last() {
            Some((_, outer)) => format!("{outer}.{name}"),
            None => name.to_owned(),
        };
        if path == key {
            return Some(index + 1);
        }
        open.push((indent, path));
    }
    None
}

fn unreadable(name: &str, error: &std::io::Error) -> ConfigError {
    ConfigError::new(format!(
        "cannot read the configuration file {name}: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use aquifer_dataflow::config::options;

    use super::*;

    fn parsed(text: &str) -> Result<Configuration, String> {
        let mut configuration = Configuration::default();
        read("config.yaml", text, &mut configuration).map_err(|error| error.message)?;
        Ok(configuration)
    }

    #[test]
    fn nested_and_flat_mean_the_same() {
        let nested = "execution:\n  checkpointing:\n    interval: 2 s\n    num-retained: 3\nparallelism.default: 2\n";
        let flat = "# a comment: yes\nexecution.checkpointing.interval: 2s\nexecution.checkpointing.num-retained: 3\nparallelism:\n  default: 2\n";
        for text in [nested, flat] {
            let configuration = parsed(text).unwrap();
            assert_eq!(
                configuration
                    .get(&options::CHECKPOINT_INTERVAL)
                    .unwrap()
                    .as_secs(),
                2
            );
            assert_eq!(configuration.get(&options::NUM_RETAINED), 3);
            assert_eq!(configuration.get(&options::PARALLELISM), 2);
        }
        parsed("").unwrap();
        parsed("taskmanager:\n  numberOfTaskSlots: 4\nenv.java.opts.all: [a, b]\n").unwrap();
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, message) in [
            (
                "parallelism:\n  default: two\n",
                "config.yaml:2: parallelism.default: expected a whole number from 1 to 32768, found 'two'",
            ),
            (
                "\nparallelism.defautl: 2\n",
                "config.yaml:2: there is no configuration key 'parallelism.defautl'; did you mean 'parallelism.default'?",
            ),
            (
                "parallelism.default: 1\nparallelism:\n  default: 2\n",
                "config.yaml:1: parallelism.default: given twice, nested and flat",
            ),
            (
                "parallelism.default:\n",
                "config.yaml:1: parallelism.default: expected a value",
            ),
            (
                "just text",
                "config.yaml: expected keys and values, such as 'parallelism.default: 2'",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), message);
        }
        assert!(
            parsed("a: [1\nb: 2")
                .unwrap_err()
                .starts_with("config.yaml:2: not valid YAML: ")
        );
        assert!(
            parsed(&"[".repeat(100_000))
                .unwrap_err()
                .contains("not valid YAML")
        );
    }
}
