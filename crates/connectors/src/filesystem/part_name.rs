//! Names of the files that a sink writes.
//!
//! `part-<run>.<operator>-<attempt>-<worker>-<number>.<extension>`; until its checkpoint is complete, the file lies in the same
//! directory with a `.` before its name. A name is used once: an attempt of a run has one writer per operator and worker, and
//! that counts its files. Run and operator tell a sink which hidden files are its own to remove.

const PREFIX: &str = "part-";
/// Longest run or operator in a name; a longer one is cut and told apart by a hash.
const ID_BYTES_MAX: usize = 64;

/// What all names of one sink begin with.
pub(super) fn stem(run_id: &str, operator: &str) -> String {
    format!("{PREFIX}{}.{}-", id(run_id), id(operator))
}

/// The visible name of a file.
pub(super) fn visible(
    stem: &str,
    attempt: u64,
    worker: usize,
    number: u64,
    extension: &str,
) -> String {
    format!("{stem}{attempt}-{worker}-{number}.{extension}")
}

/// The name, with its directory, under which a file lies until it may be seen.
pub(super) fn hidden(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/.{name}"),
        None => format!(".{path}"),
    }
}

/// If `path` is a hidden file of the sink with this stem, the attempt that wrote it. A local file that is still being written
/// also has `#` and a number at its end.
pub(super) fn attempt_of_hidden(path: &str, stem: &str) -> Option<u64> {
    let name = path
        .rsplit('/')
        .next()?
        .strip_prefix('.')?
        .strip_prefix(stem)?;
    let mut numbers = name.split('.').next()?.split('-');
    let attempt = numbers.next()?.parse().ok()?;
    let _worker: u64 = numbers.next()?.parse().ok()?;
    let _number: u64 = numbers.next()?.parse().ok()?;
    numbers.next().is_none().then_some(attempt)
}

/// Letters, digits, `_` and `-` as they are, everything else as `%XX`: never a separator, never another directory.
fn id(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > ID_BYTES_MAX {
        // FNV-1a.
        let hash = out.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        out.truncate(ID_BYTES_MAX - 17);
        out.push_str(&format!("-{hash:016x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_knows_its_own_hidden_files_and_no_others() {
        let stem = stem("job-1", "sink");
        let name = visible(&stem, 7, 2, 13, "csv");
        assert_eq!(name, "part-job-1.sink-7-2-13.csv");
        let path = format!("dt=1/{name}");
        assert_eq!(hidden(&path), "dt=1/.part-job-1.sink-7-2-13.csv");
        assert_eq!(attempt_of_hidden(&hidden(&path), &stem), Some(7));
        assert_eq!(
            attempt_of_hidden(&format!("{}#3", hidden(&path)), &stem),
            Some(7)
        );
        for other in [
            name.as_str(),
            ".part-job-1.sink-1-7-2-13.csv",
            ".part-job-1.sin-7-2-13.csv",
            ".part-job.sink-7-2-13.csv",
            ".part-job-1.sink-7-2-x.csv",
            ".hidden",
        ] {
            assert_eq!(attempt_of_hidden(other, &stem), None, "{other}");
        }
    }

    #[test]
    fn ids_never_leave_the_directory() {
        assert_eq!(stem("../a b", "x/y.z"), "part-%2E%2E%2Fa%20b.x%2Fy%2Ez-");
        let long = "x".repeat(1_000);
        assert!(stem(&long, &long).len() < 160);
        assert_ne!(stem(&long, "s"), stem(&format!("{long}y"), "s"));
    }
}
