//! The keys and the answers of a multi-get, each in one allocation that can be used again.

/// Many keys in one allocation: for multi-gets.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    groups: Vec<u16>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Keys {
    /// Adds a key.
    pub fn push(&mut self, group: u16, key: &[u8]) {
        self.groups.push(group);
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Key group and key number `i`, which must be below `len`.
    pub fn get(&self, i: usize) -> (u16, &[u8]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        (self.groups[i], &self.bytes[start..self.ends[i]])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Forgets the keys, keeps the memory.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.ends.clear();
        self.bytes.clear();
    }
}

/// The answers of a multi-get, in the order of the keys; `None` = absent.
#[derive(Clone, Debug, Default)]
pub struct Values {
    ranges: Vec<Option<(usize, usize)>>,
    /// As far as rows have times: shorter than `ranges`, or as long.
    times: Vec<Option<i64>>,
    bytes: Vec<u8>,
}

impl Values {
    /// Number of answers.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True without answers.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Answer number `i`, which must be below `len`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.ranges[i].map(|(start, end)| &self.bytes[start..end])
    }

    /// When the row of answer number `i` was written, if its writer said so.
    pub fn time_ms(&self, i: usize) -> Option<i64> {
        self.times.get(i).copied().flatten()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Makes room for `n` answers, all absent.
    pub(crate) fn reset(&mut self, n: usize) {
        self.ranges.clear();
        self.ranges.resize(n, None);
        self.times.clear();
        self.bytes.clear();
    }

    /// Answer number `i` is `value`, written at `time_ms`.
    pub(crate) fn set(&mut self, i: usize, value: &[u8], time_ms: Option<i64>) {
        if time_ms.is_some() && self.times.len() <= i {
            self.times.resize(i + 1, None);
        }
        if let Some(known) = self.times.get_mut(i) {
            *known = time_ms;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ranges[i] = Some((start, self.bytes.len()));
    }
}
