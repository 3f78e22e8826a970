//! Which keys there are: ours, Flink's, and the nearest one to a key that is neither.

use aquifer_store::objects;

use super::ConfigError;
use super::option::AnyOption;
use super::options;

/// Names of Flink 2.3's options and their older names, sorted; see [`in_flink`] for the families that are not listed one by one.
const FLINK_KEYS: &str = include_str!("flink_keys.txt");

/// Families in which nothing means anything here, because they are about a cluster of JVMs. Their keys are accepted unseen.
const FOREIGN_FAMILIES: &[&str] = &[
    "akka.",
    "blob.",
    "classloader.",
    "client.",
    "cluster.",
    "containerized.",
    "env.",
    "external-resource",
    "fs.",
    "heartbeat.",
    "high-availability",
    "historyserver.",
    "io.",
    "jobmanager.",
    "jobstore.",
    "kubernetes.",
    "metrics.",
    "minicluster.",
    "pekko.",
    "process.",
    "python.",
    "queryable-state.",
    "rest.",
    "security.",
    "slot.",
    "slotmanager.",
    "sql-client.",
    "sql-gateway.",
    "task.",
    "taskmanager.",
    "traces.",
    "web.",
    "yarn.",
    "zookeeper.",
];

/// What a key is.
pub(super) enum Key {
    /// It means something here.
    Ours(&'static dyn AnyOption),
    /// A setting of an object store, which checks its value when the store is opened.
    ObjectStore,
    /// An older name of Flink's for one that means something here.
    Deprecated(&'static dyn AnyOption),
    /// Flink has it and it means nothing here.
    Foreign,
}

/// Finds a key, or says which known one is nearest.
pub(super) fn find(key: &str) -> Result<Key, ConfigError> {
    for option in options::all() {
        if option.key() == key {
            return Ok(Key::Ours(option));
        }
        if option.deprecated().contains(&key) {
            return Ok(Key::Deprecated(option));
        }
    }
    if objects::setting(key).is_some() {
        return Ok(Key::ObjectStore);
    }
    if in_flink(key) {
        return Ok(Key::Foreign);
    }
    let shown: String = key.chars().take(200).collect();
    Err(ConfigError::new(match nearest(key) {
        Some(known) => format!("there is no configuration key '{shown}'; did you mean '{known}'?"),
        None => format!("there is no configuration key '{shown}'"),
    }))
}

/// Whether Flink knows the key. The file is sorted by bytes and short enough to be walked.
fn in_flink(key: &str) -> bool {
    FOREIGN_FAMILIES
        .iter()
        .any(|family| key.starts_with(family))
        || FLINK_KEYS.lines().any(|known| known == key)
}

/// The known key with the fewest edits, if they are few for its length. Keys that mean something here win a tie.
fn nearest(key: &str) -> Option<&'static str> {
    const LENGTH_MAX: usize = 120;
    if key.len() > LENGTH_MAX {
        return None;
    }
    let ours = options::all().flat_map(|option| {
        std::iter::once(option.key()).chain(option.deprecated().iter().copied())
    });
    let (edits, known) = ours
        .chain(FLINK_KEYS.lines())
        .map(|known| (edit_distance(key, known), known))
        // The first of several minima, so that ours win.
        .min_by_key(|(edits, _)| *edits)?;
    let bound = (key.len() / 3).max(2);
    (edits <= bound).then_some(known)
}

/// The name with the fewest edits, if they are few.
pub(super) fn nearest_of<'a>(names: &[&'a str], text: &str) -> Option<&'a str> {
    const EDITS_MAX: usize = 2;
    const LENGTH_MAX: usize = 40;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let distances = names.iter().map(|name| (edit_distance(text, name), *name));
    let (edits, name) = distances.min_by_key(|(edits, _)| *edits)?;
    (edits <= EDITS_MAX).then_some(name)
}

/// Levenshtein's distance, by bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(before);
        for (above, r) in row.iter().skip(1).zip(right.bytes()) {
            let here = (diagonal + usize::from(l != r))
                .min(above + 1)
                .min(before + 1);
            diagonal = *above;
            before = here;
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
