//! Which table holds which state of which operator, and whether what a checkpoint holds is what the program expects.
//!
//! Numbers of tables are never reused: a state that a program no longer has keeps its number, because its rows are still in the files.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_store::{Clock, TableId, TableOptions};

use crate::backend::Moments;
use crate::serializer::{Compatibility, StateKind};
use crate::{StateDescription, StateError};

/// The tables of one backend.
pub(crate) struct TableRegistry {
    /// In the order of their numbers.
    tables: Vec<(StateDescription, TableId)>,
    /// Those that this program has asked for.
    registered: BTreeSet<TableId>,
    clock: Clock,
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
    pub(crate) fn new(
        mut tables: Vec<(StateDescription, TableId)>,
        clock: Clock,
    ) -> Result<Self, StateError> {
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
        let mut names = BTreeMap::new();
        for (description, id) in &tables {
            let name = (description.operator.as_str(), description.state.as_str());
            if let Some(first) = names.insert(name, id.0) {
                return Err(StateError::Corrupt(format!(
                    "the checkpoint gives tables {first} and {} to one state, `{}` of operator `{}`",
                    id.0, description.state, description.operator
                )));
            }
        }
        Ok(Self {
            tables,
            registered: BTreeSet::new(),
            clock,
        })
    }

    /// Finds or makes the table of a state that is written and read by what its schema says and by nothing else.
    pub(crate) fn register(
        &mut self,
        wanted: &StateDescription,
        moments: &mut Moments,
    ) -> Result<Registered, StateError> {
        let known = self.find(&wanted.operator, &wanted.state);
        let value = known.map_or(Compatibility::AsIs, |known| {
            wanted.schema.value.compatibility(&known.schema.value)
        });
        self.register_typed(wanted, &value, moments)
    }

    /// Finds or makes the table of a state whose serializer finds `value` of what the checkpoint says of its values.
    pub(crate) fn register_typed(
        &mut self,
        wanted: &StateDescription,
        value: &Compatibility,
        moments: &mut Moments,
    ) -> Result<Registered, StateError> {
        wanted.schema.check_size().map_err(|error| {
            let (state, operator) = (&wanted.state, &wanted.operator);
            error.about(&format!("state `{state}` of operator `{operator}`"))
        })?;
        let known = self
            .tables
            .iter_mut()
            .find(|(d, _)| d.operator == wanted.operator && d.state == wanted.state);
        if let Some((known, id)) = known {
            // One name for two kinds of state in one program is its own mistake, not one of the checkpoint.
            let mistaken = known.schema.kind != wanted.schema.kind && self.registered.contains(id);
            check(known, wanted, value).map_err(|error| match error {
                StateError::Incompatible(text) if mistaken => StateError::Usage(text),
                error => error,
            })?;
            let begins = counts_anew(known, wanted);
            known.options = wanted.options.clone();
            known.layout.clone_from(&wanted.layout);
            if begins {
                moments.forget_times(*id);
            }
            let now_ms = if wanted.options.event_time {
                moments.event_time(*id)
            } else {
                Some((self.clock)())
            };
            known.schema = known.schema.succeeded_by(&wanted.schema, now_ms, begins);
            known.options.untimed_as_ms = known.schema.untimed_as_ms;
            self.registered.insert(*id);
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
        let mut new = wanted.clone();
        // No row of it was ever written without a time.
        new.schema.untimed_as_ms = None;
        new.options.untimed_as_ms = None;
        self.tables.push((new, TableId(next)));
        self.registered.insert(TableId(next));
        Ok(Registered::New(TableId(next)))
    }

    /// Event time has begun for a table: what has no time counts as written then. True if that was not known.
    pub(crate) fn count_untimed_as(&mut self, table: TableId, time_ms: i64) -> bool {
        let mut known = self.tables.iter_mut();
        let found = known.find(|(known, id)| {
            *id == table && known.options.event_time && known.schema.untimed_as_ms.is_none()
        });
        let Some((known, _)) = found else {
            return false;
        };
        known.schema.untimed_as_ms = Some(time_ms);
        known.options.untimed_as_ms = Some(time_ms);
        true
    }

    /// What is known of a state.
    pub(crate) fn find(&self, operator: &str, state: &str) -> Option<&StateDescription> {
        let mut known = self.tables.iter().map(|(description, _)| description);
        known.find(|known| known.operator == operator && known.state == state)
    }

    /// The options of a table, as they are after it was registered.
    pub(crate) fn options_of(&self, table: TableId) -> Option<TableOptions> {
        let mut known = self.tables.iter();
        let (description, _) = known.find(|(_, id)| *id == table)?;
        Some(description.options.clone())
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

/// Whether the TTL of a typed state counts from now on what is there: because it is switched on, or because its time is another one than
/// before, in which the times of rows mean nothing.
fn counts_anew(known: &StateDescription, wanted: &StateDescription) -> bool {
    wanted.schema.ttl && (!known.schema.ttl || changes_time(known, wanted))
}

/// Whether a TTL that goes on counts in another time than before, event time or processing time.
pub(crate) fn changes_time(known: &StateDescription, wanted: &StateDescription) -> bool {
    let both = known.schema.ttl && wanted.schema.ttl;
    both && known.options.event_time != wanted.options.event_time
}

/// An error that names operator, state, and what does not fit.
fn check(
    known: &StateDescription,
    wanted: &StateDescription,
    value: &Compatibility,
) -> Result<(), StateError> {
    let both_raw = known.schema.kind == StateKind::Raw && wanted.schema.kind == StateKind::Raw;
    if both_raw && known.layout != wanted.layout {
        return Err(StateError::Incompatible(format!(
            "state `{}` of operator `{}` is laid out as `{}`, but the program now expects `{}`",
            wanted.state, wanted.operator, known.layout, wanted.layout
        )));
    }
    if both_raw {
        // What is said of the rows besides may have changed: names of columns, for example.
        return Ok(());
    }
    match known.schema.resolve(&wanted.schema, value) {
        Ok(_) => Ok(()),
        Err(StateError::Incompatible(why)) => Err(StateError::Incompatible(format!(
            "state `{}` of operator `{}` cannot be used: {why}",
            wanted.state, wanted.operator
        ))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::{SerializerSnapshot, StateSchema};

    fn state(operator: &str, state: &str, layout: &str) -> StateDescription {
        StateDescription::raw(operator, state, TableOptions::default(), layout)
    }

    fn registry(tables: Vec<(StateDescription, TableId)>) -> Result<TableRegistry, StateError> {
        TableRegistry::new(tables, std::sync::Arc::new(|| 0))
    }

    fn typed(kind: StateKind, value: &str, ttl: bool) -> StateDescription {
        StateDescription {
            schema: StateSchema {
                kind,
                key: SerializerSnapshot::opaque("String"),
                namespace: SerializerSnapshot::void(),
                user_key: None,
                value: SerializerSnapshot::opaque(value),
                ttl,
                untimed_as_ms: None,
            },
            ..state("op", "s", value)
        }
    }

    #[test]
    fn the_serializers_verdict_decides_about_values() {
        let old = registry(vec![(typed(StateKind::Value, "a", false), TableId(0))]);
        let new = typed(StateKind::Value, "b", false);
        let mut registry = old.unwrap();
        let refused = registry
            .register(&new, &mut Moments::default())
            .unwrap_err();
        assert!(matches!(refused, StateError::Incompatible(_)), "{refused}");
        let text = refused.to_string();
        for part in ["`s`", "`op`", "`a`", "`b`"] {
            assert!(text.contains(part), "{text}");
        }
        for verdict in [Compatibility::Reconfigured, Compatibility::AfterMigration] {
            let table = registry
                .register_typed(&new, &verdict, &mut Moments::default())
                .unwrap();
            assert_eq!(table, Registered::Known(TableId(0)));
        }
        // From now on it is what the program says.
        assert_eq!(registry.tables(), [(new, TableId(0))]);
    }

    #[test]
    fn another_kind_is_the_programs_mistake_or_the_checkpoints() {
        let value = typed(StateKind::Value, "a", false);
        let list = typed(StateKind::List, "a", false);
        let mut restored = registry(vec![(value.clone(), TableId(0))]).unwrap();
        let error = restored
            .register(&list, &mut Moments::default())
            .unwrap_err();
        assert!(matches!(&error, StateError::Incompatible(text) if text.contains("list state")));
        let mut fresh = registry(vec![]).unwrap();
        fresh.register(&value, &mut Moments::default()).unwrap();
        let error = fresh.register(&list, &mut Moments::default()).unwrap_err();
        assert!(matches!(&error, StateError::Usage(text) if text.contains("list state")));
    }

    #[test]
    fn untimed_rows_get_no_second_life() {
        let untimed = |registry: &TableRegistry| registry.tables()[0].0.schema.untimed_as_ms;
        let later =
            |tables, now| TableRegistry::new(tables, std::sync::Arc::new(move || now)).unwrap();
        let mut first = later(vec![], 5);
        let expect = |registry: &mut TableRegistry, ttl, expected: Option<i64>| {
            registry
                .register(&typed(StateKind::Value, "a", ttl), &mut Moments::default())
                .unwrap();
            assert_eq!(untimed(registry), expected);
            assert_eq!(registry.tables()[0].0.options.untimed_as_ms, expected);
            registry.tables()
        };
        // All its rows have times; then some have none, which count from when the TTL is back.
        let saved = expect(&mut first, true, None);
        let saved = expect(&mut later(saved, 10), false, None);
        let saved = expect(&mut later(saved, 20), true, Some(20));
        let saved = expect(&mut later(saved, 30), true, Some(20));
        let saved = expect(&mut later(saved, 40), false, None);
        expect(&mut later(saved, 50), true, Some(50));
    }

    #[test]
    fn numbers_are_stable_over_restarts_and_never_reused() {
        let mut first = registry(vec![]).unwrap();
        assert_eq!(
            first
                .register(&state("a", "s", "1"), &mut Moments::default())
                .unwrap(),
            Registered::New(TableId(0))
        );
        assert_eq!(
            first
                .register(&state("b", "s", "1"), &mut Moments::default())
                .unwrap(),
            Registered::New(TableId(1))
        );
        assert_eq!(
            first
                .register(&state("a", "s", "1"), &mut Moments::default())
                .unwrap(),
            Registered::Known(TableId(0))
        );

        // The next program has lost operator a and won operator c.
        let mut second = registry(first.tables()).unwrap();
        assert_eq!(
            second
                .register(&state("c", "s", "1"), &mut Moments::default())
                .unwrap(),
            Registered::New(TableId(2))
        );
        assert_eq!(
            second
                .register(&state("b", "s", "1"), &mut Moments::default())
                .unwrap(),
            Registered::Known(TableId(1))
        );
        assert_eq!(second.tables().len(), 3);
    }

    #[test]
    fn another_layout_is_refused_with_both_named() {
        let mut registry = registry(vec![(state("op", "count", "old"), TableId(7))]).unwrap();
        let error = registry
            .register(&state("op", "count", "new"), &mut Moments::default())
            .unwrap_err();
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
        assert!(matches!(registry(tables), Err(StateError::Corrupt(_))));
    }

    /// The first one was taken, and nobody ever saw the rows of the second.
    #[test]
    fn two_numbers_for_one_state_are_corrupt() {
        let tables = vec![
            (state("a", "s", ""), TableId(3)),
            (state("a", "t", ""), TableId(4)),
            (state("a", "s", ""), TableId(5)),
        ];
        let Err(StateError::Corrupt(text)) = registry(tables) else {
            panic!("two tables for one state");
        };
        for part in ["tables 3 and 5", "`s`", "`a`"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_last_number_is_the_last() {
        let mut registry = registry(vec![(state("a", "s", ""), TableId(u16::MAX))]).unwrap();
        assert!(matches!(
            registry.register(&state("b", "s", ""), &mut Moments::default()),
            Err(StateError::Usage(_))
        ));
    }
}
