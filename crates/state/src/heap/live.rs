//! The live rows of several layers, merged in key order.

use std::iter::Peekable;

use super::rows::{Rows, Slot};

type LayerRows<'a> = Peekable<Box<dyn Iterator<Item = (&'a [u8], Slot<'a>)> + 'a>>;

/// Iterates keys, values and times in key order: of each key the newest row, without those that are deleted.
pub(crate) struct LiveRows<'a> {
    /// Newest first.
    layers: Vec<LayerRows<'a>>,
}

impl<'a> LiveRows<'a> {
    /// Everything in these layers (newest first).
    pub(crate) fn all(layers: impl Iterator<Item = &'a Rows>) -> Self {
        Self::range(layers, &[], &[], None)
    }

    /// The rows from `from` on that start with `prefix`, up to `until`.
    pub(crate) fn range(
        layers: impl Iterator<Item = &'a Rows>,
        prefix: &'a [u8],
        from: &'a [u8],
        until: Option<&'a [u8]>,
    ) -> Self {
        let layers = layers.map(|layer| layer.range(prefix, from, until).peekable());
        Self {
            layers: layers.collect(),
        }
    }
}

impl<'a> Iterator for LiveRows<'a> {
    type Item = (&'a [u8], &'a [u8], Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let heads = self.layers.iter_mut();
            let key = heads.filter_map(|l| l.peek().map(|(key, _)| *key)).min()?;
            let mut newest = None;
            for layer in &mut self.layers {
                if let Some((_, slot)) = layer.next_if(|(other, _)| *other == key) {
                    newest.get_or_insert(slot);
                }
            }
            if let Some(Slot::Live(value, time_ms)) = newest {
                return Some((key, value, time_ms));
            }
        }
    }
}
