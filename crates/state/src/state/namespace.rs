//! What a method of a handle acts on: the current key and the handle's namespace, encoded one after the other.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use aquifer_store::KeyPart;

use crate::StateError;
use crate::ordered::OrderedKey;
use crate::state::CurrentKey;

/// The current key of the operator and the namespace of a handle. Clones share both.
pub(crate) struct Scope<N> {
    current: CurrentKey,
    cell: Rc<Namespace>,
    namespace: PhantomData<fn() -> N>,
}

#[derive(Default)]
struct Namespace {
    /// Nobody has to set the namespace `()`.
    set: Cell<bool>,
    bytes: RefCell<Vec<u8>>,
    /// `key ‖ namespace`, written anew by each method.
    joined: RefCell<Vec<u8>>,
}

impl<N> Clone for Scope<N> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
            cell: Rc::clone(&self.cell),
            namespace: PhantomData,
        }
    }
}

impl<N: OrderedKey + 'static> Scope<N> {
    pub(crate) fn new(current: CurrentKey) -> Self {
        let cell = Namespace::default();
        cell.set.set(TypeId::of::<N>() == TypeId::of::<()>());
        Self {
            current,
            cell: Rc::new(cell),
            namespace: PhantomData,
        }
    }

    /// The same key, and a namespace of its own that starts as it is here.
    pub(crate) fn detached(&self) -> Self {
        let cell = Namespace::default();
        cell.set.set(self.cell.set.get());
        cell.bytes
            .borrow_mut()
            .clone_from(&self.cell.bytes.borrow());
        Self {
            current: self.current.clone(),
            cell: Rc::new(cell),
            namespace: PhantomData,
        }
    }

    /// Makes a namespace the one that following calls act on.
    pub(crate) fn set(&self, namespace: &N) {
        let mut bytes = self.cell.bytes.borrow_mut();
        bytes.clear();
        namespace.encode_ordered(&mut bytes);
        self.cell.set.set(true);
    }

    /// The namespace as it is, to be put back by `restore`.
    pub(crate) fn save(&self) -> Option<Vec<u8>> {
        let set = self.cell.set.get();
        set.then(|| self.cell.bytes.borrow().clone())
    }

    /// Puts back what `save` has seen.
    pub(crate) fn restore(&self, saved: &Option<Vec<u8>>) {
        self.cell.set.set(saved.is_some());
        let mut bytes = self.cell.bytes.borrow_mut();
        bytes.clear();
        bytes.extend_from_slice(saved.as_deref().unwrap_or_default());
    }

    /// Shows key group and `key ‖ namespace`.
    #[inline]
    pub(crate) fn with<R>(&self, use_key: impl FnOnce(u16, &[u8]) -> R) -> Result<R, StateError> {
        let namespace = self.cell.bytes.borrow();
        if namespace.is_empty() {
            if !self.cell.set.get() {
                return Err(without_namespace::<N>());
            }
            return self.current.with(use_key);
        }
        let mut joined = self.cell.joined.borrow_mut();
        let group = self.join(&mut joined, &namespace)?;
        Ok(use_key(group, &joined))
    }

    /// Like [`Self::with`], for what may fail by itself: its answer is handed out as it is, and not within another.
    #[inline]
    pub(crate) fn try_with<R>(
        &self,
        use_key: impl FnOnce(u16, &[u8]) -> Result<R, StateError>,
    ) -> Result<R, StateError> {
        let namespace = self.cell.bytes.borrow();
        if namespace.is_empty() {
            if !self.cell.set.get() {
                return Err(without_namespace::<N>());
            }
            return self.current.try_with(use_key);
        }
        let mut joined = self.cell.joined.borrow_mut();
        let group = self.join(&mut joined, &namespace)?;
        use_key(group, &joined)
    }

    /// Puts current key and namespace side by side; returns the key group.
    fn join(&self, joined: &mut Vec<u8>, namespace: &[u8]) -> Result<u16, StateError> {
        joined.clear();
        let group = self.current.with(|group, key| {
            joined.extend_from_slice(key);
            group
        })?;
        joined.extend_from_slice(namespace);
        Ok(group)
    }

    /// Key group and `current key ‖ namespace` for another namespace than the one that is set.
    pub(crate) fn of(&self, namespace: &N) -> Result<(u16, Vec<u8>), StateError> {
        let (group, mut joined) = self.current.with(|group, key| (group, key.to_vec()))?;
        namespace.encode_ordered(&mut joined);
        Ok((group, joined))
    }
}

#[cold]
fn without_namespace<N: OrderedKey>() -> StateError {
    StateError::Usage(format!(
        "keyed state with namespaces of type {} was used before a namespace was set",
        N::type_name()
    ))
}

/// How many bytes at the front of a row's key are a key of type `K` and a namespace of type `N`.
pub(crate) fn prefix_len<K: OrderedKey, N: OrderedKey>(
    row_key: &[u8],
) -> Result<usize, StateError> {
    let mut rest = row_key;
    K::decode_ordered(&mut rest)?;
    N::decode_ordered(&mut rest)?;
    Ok(row_key.len() - rest.len())
}

/// Where key and namespace end, told to the store. Empty: not known.
pub(crate) fn prefix_parts<K: OrderedKey, N: OrderedKey>() -> Vec<KeyPart> {
    let parts = K::parts().zip(N::parts());
    parts.map_or_else(Vec::new, |(key, namespace)| [key, namespace].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_must_be_set_unless_it_is_void() {
        let current = CurrentKey::new();
        current.set(3, b"key");
        let void = Scope::<()>::new(current.clone());
        assert_eq!(
            void.with(|g, k| (g, k.to_vec())).unwrap(),
            (3, b"key".to_vec())
        );
        let scope = Scope::<u8>::new(current.clone());
        let error = scope.with(|_, _| ()).unwrap_err();
        assert!(error.to_string().contains("u8"), "{error}");
        scope.set(&7);
        let own = scope.detached();
        let shared = scope.clone();
        shared.set(&8);
        assert_eq!(
            scope.with(|g, k| (g, k.to_vec())).unwrap(),
            (3, b"key\x08".to_vec())
        );
        assert_eq!(own.with(|_, k| k.to_vec()).unwrap(), b"key\x07");
        assert_eq!(scope.of(&9).unwrap(), (3, b"key\x09".to_vec()));
    }

    #[test]
    fn parts_say_where_the_front_ends() {
        let parts = prefix_parts::<(String, Option<u16>), ()>();
        let optional = KeyPart::Optional(vec![KeyPart::Fixed(2)]);
        assert_eq!(parts, [KeyPart::Terminated, optional]);
        assert_eq!(
            prefix_parts::<u128, f64>(),
            [KeyPart::Fixed(16), KeyPart::Fixed(8)]
        );
    }

    #[test]
    fn the_front_of_a_row_ends_by_itself() {
        let mut row = Vec::new();
        ("a\0b".to_string(), 5u16).encode_ordered(&mut row);
        let front = row.len();
        row.extend_from_slice(b"rest");
        assert_eq!(prefix_len::<String, u16>(&row).unwrap(), front);
        assert!(matches!(
            prefix_len::<String, u16>(&row[..3]),
            Err(StateError::Corrupt(_))
        ));
    }
}
