//! Key groups as arguments.

use aquifer::runner::RunError;
use aquifer_dataflow::config::ConfigError;
use aquifer_store::KeyGroupRange;

/// `7`, or `7-9`.
pub fn group_range(text: &str) -> Result<KeyGroupRange, RunError> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    match (start.trim().parse(), end.trim().parse()) {
        (Ok(start), Ok(end)) if start <= end => Ok(KeyGroupRange { start, end }),
        _ => Err(ConfigError::new(format!(
            "--group: expected a number or two with a dash between, found '{text}'"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_groups_are_one_or_from_to() {
        let range = |start, end| KeyGroupRange { start, end };
        assert_eq!(group_range("7").unwrap(), range(7, 7));
        assert_eq!(group_range("7 - 9").unwrap(), range(7, 9));
        for wrong in ["", "a", "9-7", "-1", "70000"] {
            assert!(group_range(wrong).is_err(), "{wrong}");
        }
    }
}
