//! Which table holds which state of which operator, and whether what a checkpoint holds is what the program expects.
//!
//! Numbers of tables are never reused: a state that a program no longer has keeps its number, because its rows are still in the files.

use aquifer_store::{TableId, TableOptions};

use crate::{StateDescription, StateError};

/// The tables of one backend.
#[derive(Debug)]
pub(crate) struct TableRegistry {
    /// In the order of their numbers.
    tables: Vec<(StateDescription, TableId)>,
}

/// What registering a state has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// The table is new: create it.
    New(TableId),
    /// The table was there, in a checkpoint or from an earlier call.
    Known(TableId),
}

impl TableRegistry {
    /// Starts from the tables of a checkpoint (none for a new job).
    pub(crate) fn new(mut tables: Vec<(StateDescription, TableId)>) -> Result<Self, StateError> {
        tables.sort_by_key(|(_, id)| *id);
        for pair in tables.windows(2) {
            if let [(first, a), (second, b)] = pair
                && a == b
            {
                return Err(StateError::Corrupt(format!(
                    "the checkpoint gives table {} to state `{}` of operator `{}` and to state `{}` of operator `{}`",
                    a.0, first.state, first.operator, second.state, second.operator
                )));
            }
        }
        Ok(Self { tables })
    }

    /// Finds or makes the table of a state.
    pub(crate) fn register(&mut self, wanted: &StateDescription) -> Result<Registered, StateError> {
        let known = self
            .tables
            .iter_mut()
            .find(|(d, _)| d.operator == wanted.operator && d.state == wanted.state);
        if let Some((known, id)) = known {
            if known.layout != wanted.layout {
                return Err(StateError::Incompatible(format!(
                    "state `{}` of operator `{}` is laid out as `{}`, but the program now expects `{}`",
                    wanted.state, wanted.operator, known.layout, wanted.layout
                )));
            }
            known.options = wanted.options.clone();
            return Ok(Registered::Known(*id));
        }
        let next = self
            .tables
            .last()
            .map_or(Some(0), |(_, id)| id.0.checked_add(1));
        let Some(next) = next else {
            return Err(StateError::Usage(format!(
                "state `{}` of operator `{}` would be table 65536: a job has at most 65536 states",
                wanted.state, wanted.operator
            )));
        };
        self.tables.push((wanted.clone(), TableId(next)));
        Ok(Registered::New(TableId(next)))
    }

    /// Every table with its options.
    pub(crate) fn options(&self) -> impl Iterator<Item = (TableId, TableOptions)> {
        self.tables
            .iter()
            .map(|(description, id)| (*id, description.options.clone()))
    }

    /// True for every table of the checkpoint or the program.
    pub(crate) fn contains(&self, table: TableId) -> bool {
        self.tables.iter().any(|(_, id)| *id == table)
    }

    /// For the checkpoint's metadata.
    pub(crate) fn tables(&self) -> Vec<(StateDescription, TableId)> {
        self.tables.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(operator: &str, state: &str, layout: &str) -> StateDescription {
        StateDescription {
            operator: operator.into(),
            state: state.into(),
            options: TableOptions::default(),
            layout: layout.into(),
        }
    }

    #[test]
    fn numbers_are_stable_over_restarts_and_never_reused() {
        let mut first = TableRegistry::new(vec![]).unwrap();
        assert_eq!(
            first.register(&state("a", "s", "1")).unwrap(),
            Registered::New(TableId(0))
        );
        assert_eq!(
            first.register(&state("b", "s", "1")).unwrap(),
            Registered::New(TableId(1))
        );
        assert_eq!(
            first.register(&state("a", "s", "1")).unwrap(),
            Registered::Known(TableId(0))
        );

        // The next program has lost operator a and won operator c.
        let mut second = TableRegistry::new(first.tables()).unwrap();
        assert_eq!(
            second.register(&state("c", "s", "1")).unwrap(),
            Registered::New(TableId(2))
        );
        assert_eq!(
            second.register(&state("b", "s", "1")).unwrap(),
            Registered::Known(TableId(1))
        );
        assert_eq!(second.tables().len(), 3);
    }

    #[test]
    fn another_layout_is_refused_with_both_named() {
        let mut registry =
            TableRegistry::new(vec![(state("op", "count", "old"), TableId(7))]).unwrap();
        let error = registry.register(&state("op", "count", "new")).unwrap_err();
        assert!(matches!(error, StateError::Incompatible(_)));
        let text = error.to_string();
        for part in ["`count`", "`op`", "`old`", "`new`"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn one_number_for_two_states_is_corrupt() {
        let tables = vec![
            (state("a", "s", ""), TableId(3)),
            (state("b", "s", ""), TableId(3)),
        ];
        assert!(matches!(
            TableRegistry::new(tables),
            Err(StateError::Corrupt(_))
        ));
    }

    #[test]
    fn the_last_number_is_the_last() {
        let mut registry =
            TableRegistry::new(vec![(state("a", "s", ""), TableId(u16::MAX))]).unwrap();
        assert!(matches!(
            registry.register(&state("b", "s", "")),
            Err(StateError::Usage(_))
        ));
    }
}
