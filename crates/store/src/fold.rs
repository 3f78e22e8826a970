//! Folds: how the operands of `Store::merge` become a value.
//!
//! A fold is registered under a name, which the options of a table say. Folds run on the worker's thread, in flushes and in
//! compactions, also in another process, and in any grouping that keeps the order of operands; so the same operands must
//! always lead to the same value. A compaction that does not know a fold keeps the operands.
use std::collections::BTreeMap;
use std::sync::Arc;

/// Turns operands into values. Must be deterministic, and must not panic on any bytes.
pub trait Fold: Send + Sync {
    /// Writes to `out`, which is empty, the value that `operand` makes of `value` (`None`: the key had none).
    fn fold(&self, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>);

    /// Writes to `out`, which is empty, one operand that does what `earlier` and then `later` do, whatever the value they
    /// meet; returns false if there is none. Operands that can be combined take no more room however many there are.
    fn combine(&self, earlier: &[u8], later: &[u8], out: &mut Vec<u8>) -> bool {
        let _ = (earlier, later, out);
        false
    }
}

/// The folds that are known, by name. Cheap to clone. There are from the start `sum-i64`, `min-i64` and `max-i64`, over
/// numbers of eight bytes, little-endian; a value or operand of another length counts as if it were not there, and a sum
/// wraps around.
#[derive(Clone)]
pub struct Folds(Arc<BTreeMap<String, Arc<dyn Fold>>>);

impl Folds {
    /// Adds a fold; one of the same name gives way.
    pub fn register(&mut self, name: impl Into<String>, fold: Arc<dyn Fold>) {
        Arc::make_mut(&mut self.0).insert(name.into(), fold);
    }

    /// The fold of a name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Fold>> {
        self.0.get(name).cloned()
    }
}

impl Default for Folds {
    fn default() -> Self {
        let known: [(&str, OfNumbers); 3] = [
            ("sum-i64", i64::wrapping_add),
            ("min-i64", i64::min),
            ("max-i64", i64::max),
        ];
        let fold = |of| Arc::new(Numbers { of }) as Arc<dyn Fold>;
        Self(Arc::new(
            known.map(|(name, of)| (name.into(), fold(of))).into(),
        ))
    }
}

impl std::fmt::Debug for Folds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Folds numbers with an associative function, so that operands combine like values.
struct Numbers {
    of: OfNumbers,
}

type OfNumbers = fn(i64, i64) -> i64;

impl Fold for Numbers {
    fn fold(&self, value: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        let number = |bytes: &[u8]| Some(i64::from_le_bytes(bytes.try_into().ok()?));
        let folded = match (value.and_then(number), number(operand)) {
            (Some(a), Some(b)) => Some((self.of)(a, b)),
            (a, b) => a.or(b),
        };
        if let Some(folded) = folded {
            out.extend_from_slice(&folded.to_le_bytes());
        }
    }

    fn combine(&self, earlier: &[u8], later: &[u8], out: &mut Vec<u8>) -> bool {
        self.fold(Some(earlier), later, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fold_and_what_is_not_one_does_not_count() {
        let folds = Folds::default();
        let run = |name: &str, value: Option<&[u8]>, operand: &[u8]| {
            let mut out = Vec::new();
            folds.get(name).unwrap().fold(value, operand, &mut out);
            out
        };
        let bytes = |n: i64| n.to_le_bytes();
        assert_eq!(run("sum-i64", None, &bytes(7)), bytes(7));
        assert_eq!(run("sum-i64", Some(&bytes(-9)), &bytes(7)), bytes(-2));
        assert_eq!(
            run("sum-i64", Some(&bytes(i64::MAX)), &bytes(1)),
            bytes(i64::MIN)
        );
        assert_eq!(run("min-i64", Some(&bytes(3)), &bytes(7)), bytes(3));
        assert_eq!(run("max-i64", Some(&bytes(3)), &bytes(7)), bytes(7));
        assert_eq!(run("max-i64", Some(b"three"), &bytes(7)), bytes(7));
        assert!(run("max-i64", None, b"").is_empty());
    }

    #[test]
    fn of_two_folds_with_one_name_the_later_counts() {
        struct Last;
        impl Fold for Last {
            fn fold(&self, _: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
                out.extend_from_slice(operand);
            }
        }
        let mut folds = Folds::default();
        let before = folds.clone();
        folds.register("sum-i64", Arc::new(Last));
        let mut out = Vec::new();
        folds
            .get("sum-i64")
            .unwrap()
            .fold(Some(b"a"), b"b", &mut out);
        assert_eq!(out, b"b");
        assert!(!folds.get("sum-i64").unwrap().combine(b"a", b"b", &mut out));
        assert!(
            before
                .get("sum-i64")
                .unwrap()
                .combine(&[0; 8], &[0; 8], &mut Vec::new())
        );
        assert!(before.get("unheard-of").is_none());
    }
}
