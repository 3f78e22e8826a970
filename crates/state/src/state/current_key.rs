//! The key that state handles act on.

use std::cell::RefCell;
use std::rc::Rc;

use crate::StateError;

/// The current key of one operator: its key group and its encoded bytes. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CurrentKey {
    inner: Rc<RefCell<Key>>,
}

/// A key group and an encoded key, or none. The buffer stays when the key goes.
#[derive(Debug, Default)]
pub(crate) struct Key {
    is_set: bool,
    group: u16,
    bytes: Vec<u8>,
}

impl Key {
    pub(crate) fn new(group: u16, bytes: &[u8]) -> Self {
        Self {
            is_set: true,
            group,
            bytes: bytes.to_vec(),
        }
    }
}

impl CurrentKey {
    /// No key yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a key current. `bytes` is its self-delimiting encoding (`crate::ordered`), `group` its key group.
    pub fn set(&self, group: u16, bytes: &[u8]) {
        let mut key = self.inner.borrow_mut();
        key.is_set = true;
        key.group = group;
        key.bytes.clear();
        key.bytes.extend_from_slice(bytes);
    }

    /// No key is current: state must not be touched until one is.
    pub fn clear(&self) {
        self.inner.borrow_mut().is_set = false;
    }

    /// Whether a key is current.
    pub fn is_set(&self) -> bool {
        self.inner.borrow().is_set
    }

    /// Makes `key` current and hands out what was.
    pub(crate) fn swap(&self, key: &mut Key) {
        std::mem::swap(&mut *self.inner.borrow_mut(), key);
    }

    /// Shows the current key to `use_key`.
    #[inline]
    pub fn with<R>(&self, use_key: impl FnOnce(u16, &[u8]) -> R) -> Result<R, StateError> {
        let key = self.inner.borrow();
        if key.is_set {
            return Ok(use_key(key.group, &key.bytes));
        }
        Err(without_key())
    }

    /// Like [`Self::with`], for what may fail by itself: its answer is handed out as it is, and not within another.
    #[inline]
    pub(crate) fn try_with<R>(
        &self,
        use_key: impl FnOnce(u16, &[u8]) -> Result<R, StateError>,
    ) -> Result<R, StateError> {
        let key = self.inner.borrow();
        if key.is_set {
            return use_key(key.group, &key.bytes);
        }
        Err(without_key())
    }
}

#[cold]
fn without_key() -> StateError {
    StateError::Usage(
        "keyed state was used without a current key, i.e. outside the processing of a record or a timer, or before its sync point".into(),
    )
}
