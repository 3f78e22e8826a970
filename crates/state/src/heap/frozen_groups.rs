//! The layers that a snapshot of one table holds on to.
//!
//! All key groups lie in one list, so that a barrier allocates as often for a thousand key groups as for one.

use std::sync::Arc;

/// Layers by key group, oldest first.
pub(super) struct FrozenGroups<L> {
    layers: Vec<Arc<L>>,
    /// Where the layers of each key group end.
    ends: Vec<usize>,
}

impl<L> FrozenGroups<L> {
    /// Room for so many key groups with so many layers in all.
    pub(super) fn with_capacity(groups: usize, layers: usize) -> Self {
        Self {
            layers: Vec::with_capacity(layers),
            ends: Vec::with_capacity(groups),
        }
    }

    /// Adds the layers of the next key group.
    pub(super) fn push(&mut self, layers: &[Arc<L>]) {
        self.layers.extend_from_slice(layers);
        self.ends.push(self.layers.len());
    }

    /// The layers of a key group, counted from the start of the range.
    pub(super) fn get(&self, group: usize) -> Option<&[Arc<L>]> {
        let end = *self.ends.get(group)?;
        let start = match group.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.layers.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_gets_its_own_layers_back() {
        let layers: Vec<Arc<u8>> = (0..4).map(Arc::new).collect();
        let mut groups = FrozenGroups::with_capacity(3, 4);
        for of_group in [&layers[..1], &[], &layers[1..]] {
            groups.push(of_group);
        }
        let found = |group| groups.get(group).map(|found| found.to_vec());
        assert_eq!(found(0), Some(layers[..1].to_vec()));
        assert_eq!(found(1), Some(Vec::new()));
        assert_eq!(found(2), Some(layers[1..].to_vec()));
        assert_eq!(found(3), None);
    }
}
