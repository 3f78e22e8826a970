//! Names below the checkpoint directory, and the only way back from a name to what it means. Pure.
//!
//! A job's name never becomes a path unchecked, and only names that could be ours are ever read back, so nothing that a stranger put
//! into the directory is taken for a checkpoint or deleted.

use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Longest directory name made of a job's name, without the hash.
const JOB_CHARS_MAX: usize = 80;
const HASH_DIGITS: usize = 16;

/// The directory of a job. Names of letters, digits, `-`, `_` and `.` are kept; others are changed and get a hash of the whole name,
/// so that two jobs never share a directory.
pub(super) fn job_directory(base: &Path, job_name: &str) -> Path {
    base.clone().join(job_segment(job_name))
}

fn job_segment(job_name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let kept = !job_name.is_empty()
        && job_name.len() <= JOB_CHARS_MAX
        && job_name.chars().all(plain)
        // Not hidden, not `.` or `..`, not ours (`_probe`), no option of a command.
        && job_name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !ends_as_hashed(job_name);
    if kept {
        return job_name.to_owned();
    }
    let changed: String = job_name
        .chars()
        .take(JOB_CHARS_MAX)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let changed = changed.trim_start_matches(['.', '-', '_']);
    let changed = if changed.is_empty() { "job" } else { changed };
    format!("{changed}-{:016x}", xxh3_64(job_name.as_bytes()))
}

/// Could this be the changed name of another job?
fn ends_as_hashed(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_DIGITS && end.chars().all(|c| c.is_ascii_hexdigit())
    })
}

/// `run-000001`.
pub(super) fn run(number: u64) -> String {
    format!("run-{number:06}")
}

/// `chk-000123`.
pub(super) fn checkpoint(id: u64) -> String {
    format!("chk-{id:06}")
}

/// `000002`.
pub(super) fn attempt(number: u64) -> String {
    format!("{number:06}")
}

/// The number in a name that [`run`], [`checkpoint`] or [`attempt`] made.
pub(super) fn number(path: &Path, prefix: &str) -> Option<u64> {
    let name = path.filename()?;
    let digits = name.strip_prefix(prefix)?;
    if digits.len() < 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The canonical form only: `chk-0000001` is not ours.
    digits
        .parse()
        .ok()
        .filter(|number| format!("{number:06}") == digits)
}

/// The attempt that wrote a state file, if the name is one of ours: `<attempt>-<worker>-<counter>.sst`.
pub(super) fn attempt_of_file(path: &Path) -> Option<u64> {
    let name = path.filename()?.strip_suffix(".sst")?;
    let (attempt, rest) = name.split_once('-')?;
    let ours =
        attempt.len() >= 6 && attempt.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty();
    if ours { attempt.parse().ok() } else { None }
}

/// The attempt that left a compaction to others in a directory `<attempt>-…`, if the path lies in one below `queue`.
pub(super) fn attempt_of_task(queue: &Path, path: &Path) -> Option<u64> {
    let task = path.prefix_match(queue)?.next()?;
    let (attempt, rest) = task.as_ref().split_once('-')?;
    let ours =
        attempt.len() >= 6 && attempt.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty();
    if ours { attempt.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_names_become_one_harmless_segment() {
        for kept in ["job", "insert-into_default.sink", "q17", "A.b-c_d"] {
            assert_eq!(job_segment(kept), kept);
        }
        let long = "x".repeat(500);
        for changed in [
            "",
            ".",
            "..",
            "a/b",
            "../../etc",
            "a b",
            "ä",
            "_probe",
            ".hidden",
            "-rf",
            "a\0b",
            "%2e%2e",
            "a#1",
            "run\\x",
            &long,
            "job-0123456789abcdef",
        ] {
            let segment = job_segment(changed);
            assert!(
                segment.starts_with(|c: char| c.is_ascii_alphanumeric()),
                "{segment}"
            );
            assert!(
                segment.len() <= JOB_CHARS_MAX + 1 + HASH_DIGITS,
                "{segment}"
            );
            assert!(ends_as_hashed(&segment), "{segment}");
            assert_eq!(
                Path::parse(&segment).unwrap().parts().count(),
                1,
                "{segment}"
            );
        }
        assert_ne!(job_segment("a b"), job_segment("a_b"));
        assert_ne!(job_segment("a b"), job_segment("a/b"));
        // Nobody can name a job after the directory of another.
        assert_ne!(job_segment(&job_segment("a b")), job_segment("a b"));
    }

    #[test]
    fn only_our_own_names_are_read_back() {
        let id = |name: &str| number(&Path::from(name), "chk-");
        assert_eq!(id("j/run-000001/chk-000123"), Some(123));
        assert_eq!(id("j/chk-1234567"), Some(1_234_567));
        assert_eq!(
            number(&Path::from(checkpoint(u64::MAX)), "chk-"),
            Some(u64::MAX)
        );
        for other in [
            "chk-1",
            "chk-0000001",
            "chk-00001x",
            "chk-",
            "x",
            "chk-+00001",
            "chk-99999999999999999999",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
        let file = |name: &str| attempt_of_file(&Path::from(name));
        assert_eq!(file("shared/000007-w2-15.sst"), Some(7));
        let queue = Path::from("j/compactions");
        let task = |name: &str| attempt_of_task(&queue, &Path::from(name));
        assert_eq!(task("j/compactions/000012-w0-00000007/claim-1"), Some(12));
        for other in [
            "j/compactions/x/job",
            "j/shared/000012-w0-1.sst",
            "j/compactions",
            "j/compactions/12-w/job",
        ] {
            assert_eq!(task(other), None, "{other}");
        }
        for other in [
            "7-w2-1.sst",
            "000007-w2-1.tmp",
            "000007.sst",
            "x00007-w-1.sst",
            "000007-.txt",
        ] {
            assert_eq!(file(other), None, "{other}");
        }
    }
}
