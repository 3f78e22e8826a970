//! Registering a state with the backend, and opening its table.

use std::rc::Rc;

use aquifer_store::{ExpiryCleanup, Merge, TableId, TableOptions};

use super::KeyedStateStore;
use super::migrate::Migration;
use crate::heap::typed::{HeapEntry, HeapStates, HeapTableOf, RowShape};
use crate::key_group::KeyHash;
use crate::ordered::OrderedKey;
use crate::registry::changes_time;
use crate::serializer::{Compatibility, Serializer, SerializerSnapshot, StateKind, StateSchema};
use crate::state::descriptor::Common;
use crate::state::namespace::{prefix_len, prefix_parts};
use crate::state::place::HeapPlace;
use crate::state::ttl::Ttl;
use crate::timers::{TimeDomain, TimerService};
use crate::ttl::{StateVisibility, TtlRule, TtlTime};
use crate::{StateDescription, StateError};

/// A state as a program asks for it.
pub(super) struct Wanted<'a> {
    pub(super) common: &'a Common,
    pub(super) kind: StateKind,
    pub(super) layout: String,
    pub(super) user_key: Option<SerializerSnapshot>,
    pub(super) ordered: bool,
    pub(super) merge: Merge,
}

/// A state that is registered.
pub(super) struct Opened<S> {
    pub(super) table: TableId,
    /// As it has to be to go on from what the checkpoint holds.
    pub(super) serializer: S,
    pub(super) ttl: Option<Rc<Ttl>>,
    pub(super) rule: Option<TtlRule>,
    prefix_len: fn(&[u8]) -> Result<usize, StateError>,
}

impl<K: OrderedKey + KeyHash + 'static> KeyedStateStore<K> {
    /// Registers a state with values of type `V` and namespaces of type `N`.
    pub(super) fn open<V, S, N>(
        &self,
        wanted: &Wanted<'_>,
        serializer: &S,
    ) -> Result<Opened<S>, StateError>
    where
        S: Serializer<V>,
        N: OrderedKey + 'static,
    {
        let common = wanted.common;
        let ttl_ms = match &common.ttl {
            Some(ttl) => ttl.ttl_ms(&common.name)?,
            None => None,
        };
        // Without a time that counts there is no TTL.
        let config = common.ttl.as_ref().filter(|_| ttl_ms.is_some());
        let by_event_time = config.is_some_and(|config| config.time == TtlTime::Event);
        let known = {
            let backend = self.access.backend().borrow();
            backend.description(&self.operator, &common.name)
        };
        let known = known.filter(|known| known.schema.kind == wanted.kind);
        let (verdict, serializer) = match &known {
            None => (Compatibility::AsIs, serializer.clone()),
            Some(known) => match serializer.compatibility(&known.schema.value) {
                verdict @ Compatibility::Incompatible(_) => (verdict, serializer.clone()),
                verdict => (verdict, serializer.clone().restored(&known.schema.value)?),
            },
        };
        let description = StateDescription {
            operator: self.operator.clone(),
            state: common.name.clone(),
            options: TableOptions {
                ordered: wanted.ordered,
                merge: wanted.merge.clone(),
                ttl_ms,
                show_expired: config.is_some_and(|config| {
                    config.visibility == StateVisibility::ReturnExpiredIfNotCleanedUp
                }),
                event_time: by_event_time,
                cleanup: config
                    .map_or_else(ExpiryCleanup::default, |config| config.cleanup.of_table()),
                // Only rows of one key and namespace are scanned for, and only where there may be many.
                prefix: match wanted.kind {
                    StateKind::Map | StateKind::List => prefix_parts::<K, N>(),
                    _ => Vec::new(),
                },
                ..TableOptions::default()
            },
            layout: wanted.layout.clone(),
            schema: StateSchema {
                kind: wanted.kind,
                key: SerializerSnapshot::opaque(K::type_name()),
                namespace: match N::type_name() {
                    void if void == "()" => SerializerSnapshot::void(),
                    namespace => SerializerSnapshot::opaque(namespace),
                },
                user_key: wanted.user_key.clone(),
                value: serializer.snapshot(),
                ttl: ttl_ms.is_some(),
                // Counts only if a TTL is switched on over rows that are there.
                untimed_as_ms: (!by_event_time).then(|| self.access.clock_ms()),
            },
        };
        let table = self.register_described(&description, &verdict)?;
        if let Some(known) = &known {
            let migrates = matches!(verdict, Compatibility::AfterMigration);
            let migration = Migration {
                access: &self.access,
                operator: &self.operator,
                state: &common.name,
                table,
                kind: wanted.kind,
                old: migrates.then_some(&known.schema.value),
                forgets_times: changes_time(known, &description),
            };
            if migrates || migration.forgets_times {
                migration.run::<V, S>(&serializer)?;
            }
        }
        if by_event_time {
            self.begin_event_time(table)?;
        }
        let rule = ttl_ms.map(|ttl_ms| TtlRule {
            ttl_ms,
            untimed_as_ms: self.untimed_as_ms(&common.name),
        });
        let ttl = config
            .zip(rule)
            .map(|(config, rule)| Rc::new(Ttl::new(config, rule, Rc::clone(&self.clocks))));
        Ok(Opened {
            table,
            serializer,
            ttl,
            rule,
            prefix_len: prefix_len::<K, N>,
        })
    }

    /// A state has a TTL in event time. If it is opened when watermarks have come already, it begins with the newest of them.
    fn begin_event_time(&self, table: TableId) -> Result<(), StateError> {
        let mut tables = self.event_time.borrow_mut();
        if !tables.contains(&table) {
            tables.push(table);
        }
        let known = self.access.backend().borrow().event_time(table);
        self.clocks.restored_event_time(known);
        if let Some(now_ms) = self.clocks.newest_watermark_ms() {
            self.access.count_untimed_as(table, now_ms)?;
            self.access.advance_event_time(table, now_ms)?;
        }
        Ok(())
    }

    /// Registers timers.
    pub(super) fn timers(
        &self,
        domain: TimeDomain,
        name: &str,
    ) -> Result<TimerService, StateError> {
        let description = StateDescription {
            operator: self.operator.clone(),
            state: domain.state_name(name),
            options: TableOptions {
                ordered: true,
                ..TableOptions::default()
            },
            layout: TimerService::layout(&K::type_name()),
            schema: StateSchema {
                kind: StateKind::Timers,
                key: SerializerSnapshot::opaque(K::type_name()),
                namespace: SerializerSnapshot::raw(),
                user_key: None,
                value: SerializerSnapshot::void(),
                ttl: false,
                untimed_as_ms: None,
            },
        };
        let table = self.register_described(&description, &Compatibility::AsIs)?;
        let mut services = self.timers.borrow_mut();
        let service = services
            .entry(table)
            .or_insert_with(|| TimerService::new(self.access.clone(), table));
        Ok(service.clone())
    }

    fn register_described(
        &self,
        description: &StateDescription,
        verdict: &Compatibility,
    ) -> Result<TableId, StateError> {
        let table = self
            .access
            .backend()
            .borrow_mut()
            .register_typed(description, verdict)?;
        let mut tables = self.tables.borrow_mut();
        if !tables.contains(&table) {
            tables.push(table);
        }
        Ok(table)
    }

    /// What older rows of a registered state count as written at.
    fn untimed_as_ms(&self, state: &str) -> Option<i64> {
        let backend = self.access.backend().borrow();
        let registered = backend.description(&self.operator, state)?;
        registered.schema.untimed_as_ms
    }

    /// The typed table of a registered state, with what was restored of it.
    pub(super) fn heap_place<E, S>(
        &self,
        heap: &HeapStates,
        opened: Opened<S>,
    ) -> Result<HeapPlace<HeapTableOf<E, S>>, StateError>
    where
        E: HeapEntry<S>,
        S: Clone + Send + 'static,
    {
        let id = opened.table;
        let table = heap.open(id, || {
            let shape = RowShape {
                table: id,
                range: heap.range(),
                ttl: opened.rule,
                prefix_len: opened.prefix_len,
            };
            let mut table = HeapTableOf::new(shape, opened.serializer.clone());
            for group in heap.range().start..=heap.range().end {
                let mut backend = self.access.backend().borrow_mut();
                let drained = backend.drain(id, group, &mut |key, value, time_ms| {
                    table.load(group, key, value, time_ms)
                });
                drop(backend);
                drained.map_err(|error| self.access.named(id, group, error))?;
            }
            Ok(table)
        })?;
        if let Some(ttl) = opened.ttl.as_ref().filter(|ttl| ttl.cleans_every_record()) {
            let mut cleaned = self.cleaned.borrow_mut();
            cleaned.push((table.clone(), Rc::clone(ttl)));
        }
        Ok(HeapPlace {
            table,
            ttl: opened.ttl,
        })
    }
}
