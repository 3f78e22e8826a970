//! A list of one operator on one worker.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::restored::Decoder;
use super::store::Registered;
use super::{NamedList, Redistribution};
use crate::StateError;
use crate::serializer::Serializer;

/// A list of an operator: in memory, copied at a barrier. Clones are the same list.
pub struct OperatorList<V> {
    elements: Rc<RefCell<Vec<V>>>,
}

impl<V> Clone for OperatorList<V> {
    fn clone(&self) -> Self {
        Self {
            elements: Rc::clone(&self.elements),
        }
    }
}

impl<V> OperatorList<V> {
    /// Appends an element.
    pub fn add(&self, element: V) {
        self.elements.borrow_mut().push(element);
    }

    /// Appends elements.
    pub fn add_all(&self, elements: impl IntoIterator<Item = V>) {
        // The iterator may look at this list.
        let mut new: Vec<V> = elements.into_iter().collect();
        self.elements.borrow_mut().append(&mut new);
    }

    /// Puts elements in the place of what there is.
    pub fn update(&self, elements: impl IntoIterator<Item = V>) {
        let new = elements.into_iter().collect();
        *self.elements.borrow_mut() = new;
    }

    /// Removes all elements.
    pub fn clear(&self) {
        self.elements.borrow_mut().clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.elements.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.elements.borrow().is_empty()
    }

    /// Shows all elements, which must not be changed meanwhile.
    pub fn with<R>(&self, see: impl FnOnce(&[V]) -> R) -> R {
        see(&self.elements.borrow())
    }
}

impl<V: Clone> OperatorList<V> {
    /// A copy of all elements.
    pub fn get(&self) -> Vec<V> {
        self.elements.borrow().clone()
    }
}

/// A list that was asked for.
pub(super) struct RegisteredList<V, S> {
    name: String,
    mode: Redistribution,
    serializer: S,
    list: OperatorList<V>,
}

impl<V: 'static, S: Serializer<V>> RegisteredList<V, S> {
    pub(super) fn open(
        operator: &str,
        name: &str,
        mode: Redistribution,
        serializer: S,
        old: Option<&NamedList>,
    ) -> Result<Self, StateError> {
        let mut elements = Vec::new();
        let mut serializer = serializer;
        if let Some(old) = old {
            let what = || format!("an element of operator state `{name}` of operator `{operator}`");
            let decoder = Decoder::new(serializer, &old.value, what)?;
            for bytes in old.elements.iter() {
                let element = decoder.read(bytes);
                elements.push(element.map_err(|error| error.about(&what()))?);
            }
            serializer = decoder.into_serializer();
        }
        serializer.snapshot().check_size().map_err(|error| {
            error.about(&format!("operator state `{name}` of operator `{operator}`"))
        })?;
        Ok(Self {
            name: name.to_owned(),
            mode,
            serializer,
            list: OperatorList {
                elements: Rc::new(RefCell::new(elements)),
            },
        })
    }
}

impl<V: 'static, S: Serializer<V>> Registered for RegisteredList<V, S> {
    fn mode(&self) -> Redistribution {
        self.mode
    }

    fn handle(&self) -> Box<dyn Any> {
        Box::new(self.list.clone())
    }

    fn freeze(&self) -> Result<NamedList, StateError> {
        let elements = self.list.elements.borrow();
        let mut frozen = Vec::with_capacity(elements.len());
        for element in elements.iter() {
            let mut bytes = Vec::new();
            let written = self.serializer.serialize(element, &mut bytes);
            written.map_err(|error| error.about(&format!("operator state `{}`", self.name)))?;
            frozen.push(Bytes::from(bytes));
        }
        Ok(NamedList {
            name: self.name.clone(),
            mode: self.mode,
            value: self.serializer.snapshot(),
            key: None,
            elements: Arc::new(frozen),
        })
    }
}
