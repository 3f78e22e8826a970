//! Lists on the heap: elements with their times, oldest first. Above a frozen layer a list holds only what was appended since.

use super::entry::{Expired, Growing, HeapEntry, Part, Timed};
use super::layers::Parts;
use super::table::HeapTableOf;
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::state::chunks::{self, CHUNK_BYTES_TARGET, Frames};
use crate::{StateError, TakeRow};

/// Elements that one step of the clean-up looks at in one list.
const ELEMENTS_PER_CLEANUP: usize = 1024;

/// Lists, one per key and namespace.
pub(crate) type HeapLists<V, S> = HeapTableOf<HeapList<V>, S>;

/// A list, or what was appended to the list below.
#[derive(Clone, Debug)]
pub(crate) struct HeapList<V> {
    elements: Vec<Timed<V>>,
    /// The elements follow those of the part below.
    over: bool,
}

impl<V> HeapList<V> {
    fn of(elements: Vec<Timed<V>>) -> Self {
        Self {
            elements,
            over: false,
        }
    }
}

impl<V: StateValue> Growing for HeapList<V> {
    fn alone() -> Self {
        Self::of(Vec::new())
    }

    fn over() -> Self {
        Self {
            elements: Vec::new(),
            over: true,
        }
    }
}

impl<V: StateValue> Part for HeapList<V> {
    fn stands_alone(&self) -> bool {
        !self.over
    }

    fn add_newer(&mut self, newer: Self) {
        self.elements.extend(newer.elements);
    }

    fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    fn keep_live(&mut self, expired: Expired<'_>, _resume: &mut Option<Box<[u8]>>) -> bool {
        let live = |element: &Timed<V>| !expired(element.time());
        if self.elements.len() <= ELEMENTS_PER_CLEANUP {
            self.elements.retain(live);
        } else {
            // Times rise along a list. What is behind is moved up only if that frees as much as it costs, so its front is looked at in
            // doubling steps from where nothing has expired.
            let (mut old, mut step) = (0, ELEMENTS_PER_CLEANUP);
            while self
                .elements
                .get(old + step - 1)
                .is_some_and(|element| !live(element))
            {
                old += step;
                step = old;
            }
            if old * 4 >= self.elements.len() {
                let expired_before = self.elements.iter().take(old).position(live);
                self.elements.drain(..expired_before.unwrap_or(old));
            }
        }
        !self.elements.is_empty()
    }

    fn has_live(parts: &Parts<'_, Self>, expired: Expired<'_>) -> bool {
        let mut elements = parts
            .newest_first()
            .flat_map(|part| part.elements.iter().rev());
        elements.any(|element| !expired(element.time()))
    }

    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.elements.len() * size_of::<Timed<V>>()) as u64
    }
}

impl<V: StateValue, S: Serializer<V>> HeapEntry<S> for HeapList<V> {
    fn load(
        &mut self,
        _suffix: &[u8],
        value: &[u8],
        _time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<(), StateError> {
        let mut frames = Frames::new(value);
        while let Some(frame) = frames.next()? {
            let element = serializer.deserialize(frame.bytes)?;
            self.elements.push(Timed::new(element, frame.time_ms));
        }
        Ok(())
    }

    fn loaded(
        suffix: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
        serializer: &S,
    ) -> Result<Self, StateError> {
        let mut list = Self::alone();
        list.load(suffix, value, time_ms, serializer)?;
        Ok(list)
    }

    fn write(
        parts: &Parts<'_, Self>,
        serializer: &S,
        scratch: &mut Vec<u8>,
        expired: Expired<'_>,
        row: TakeRow<'_>,
    ) -> Result<u64, StateError> {
        let mut frames = Vec::new();
        let mut newest = None;
        let mut chunk = 0u64;
        let elements = parts.oldest_first().flat_map(|part| &part.elements);
        for element in elements.filter(|element| !expired(element.time())) {
            scratch.clear();
            serializer.serialize(&element.value, scratch)?;
            chunks::push_frame(&mut frames, element.time(), scratch);
            newest = newest.max(element.time());
            if frames.len() >= CHUNK_BYTES_TARGET {
                row(&chunk.to_be_bytes(), &frames, newest)?;
                frames.clear();
                newest = None;
                chunk += 1;
            }
        }
        if !frames.is_empty() {
            row(&chunk.to_be_bytes(), &frames, newest)?;
            chunk += 1;
        }
        Ok(chunk)
    }
}

impl<V: StateValue, S: Serializer<V> + Send> HeapLists<V, S> {
    /// Appends elements. Looks at nothing that is there.
    pub(crate) fn append(
        &mut self,
        group: u16,
        key: &[u8],
        elements: impl IntoIterator<Item = Timed<V>>,
    ) -> Result<(), StateError> {
        let mut elements = elements.into_iter();
        // A list that gets nothing does not come to be.
        if let Some(first) = elements.next() {
            let list = self.top_or_new(group, key)?;
            list.elements.push(first);
            list.elements.extend(elements);
        }
        Ok(())
    }

    /// Puts a list in the place of what is there.
    pub(crate) fn replace(
        &mut self,
        group: u16,
        key: &[u8],
        elements: Vec<Timed<V>>,
    ) -> Result<(), StateError> {
        if elements.is_empty() {
            self.remove(group, key)?;
            return Ok(());
        }
        self.put(group, key, HeapList::of(elements))
    }

    /// Takes a list out.
    pub(crate) fn take(&mut self, group: u16, key: &[u8]) -> Result<Vec<Timed<V>>, StateError> {
        if let Some(top) = self.top_mut(group, key)?
            && top.stands_alone()
        {
            let list = self.remove(group, key)?;
            return Ok(list.map(|list| list.elements).unwrap_or_default());
        }
        let elements = self.copy(group, key)?;
        self.remove(group, key)?;
        Ok(elements)
    }

    /// Shows every element, oldest first.
    pub(crate) fn for_each(
        &self,
        group: u16,
        key: &[u8],
        each: impl FnMut(&Timed<V>),
    ) -> Result<(), StateError> {
        let parts = self.parts(group, key)?;
        parts
            .oldest_first()
            .flat_map(|part| &part.elements)
            .for_each(each);
        Ok(())
    }

    /// How many elements there are.
    pub(crate) fn count(&self, group: u16, key: &[u8]) -> Result<usize, StateError> {
        let parts = self.parts(group, key)?;
        Ok(parts.newest_first().map(|part| part.elements.len()).sum())
    }

    /// Changes and drops elements. Of a list that is frozen a copy is changed.
    pub(crate) fn retain(
        &mut self,
        group: u16,
        key: &[u8],
        keep: impl FnMut(&mut Timed<V>) -> bool,
    ) -> Result<(), StateError> {
        let alone = self
            .top_mut(group, key)?
            .is_some_and(|top| top.stands_alone());
        if !alone {
            let elements = self.copy(group, key)?;
            if elements.is_empty() {
                return Ok(());
            }
            self.replace(group, key, elements)?;
        }
        let Some(top) = self.top_mut(group, key)? else {
            return Ok(());
        };
        top.elements.retain_mut(keep);
        if top.elements.is_empty() {
            self.remove(group, key)?;
        }
        Ok(())
    }

    fn copy(&self, group: u16, key: &[u8]) -> Result<Vec<Timed<V>>, StateError> {
        let mut elements = Vec::new();
        self.for_each(group, key, |element| elements.push(element.clone()))?;
        Ok(elements)
    }
}
