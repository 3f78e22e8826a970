//! What one value may cost.
//!
//! A length of a few bytes can announce a list of a billion empty elements. So the parts of a value are counted while it is read, and
//! there may be only so many for its bytes.

use crate::StateError;

/// Parts that any value may have, however short it is.
const PARTS_FREE: usize = 1 << 12;
/// Parts for each byte: a struct of empty structs has more parts than bytes.
const PARTS_PER_BYTE: usize = 16;
/// Parts at most.
const PARTS_MAX: usize = 1 << 24;
/// Values within values.
const DEPTH_MAX: usize = 128;

/// What is left for a value.
#[derive(Debug)]
pub(super) struct Budget {
    parts: usize,
    depth: usize,
}

impl Budget {
    /// For a value of so many bytes at most.
    pub(super) fn of(bytes: usize) -> Self {
        let parts = bytes.saturating_mul(PARTS_PER_BYTE);
        Self {
            parts: parts.saturating_add(PARTS_FREE).min(PARTS_MAX),
            depth: 0,
        }
    }

    /// Pays for one part.
    pub(super) fn pay(&mut self) -> Result<(), StateError> {
        self.parts = self.parts.checked_sub(1).ok_or_else(|| {
            StateError::Corrupt(
                "a value has more parts than its bytes can be meant to hold".to_owned(),
            )
        })?;
        Ok(())
    }

    /// Goes into a value within a value, whose end is told by `leave`.
    pub(super) fn enter(&mut self) -> Result<(), StateError> {
        self.pay()?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(StateError::Corrupt(format!(
                "values lie within values more than {DEPTH_MAX} deep"
            )));
        }
        Ok(())
    }

    /// Comes back from it.
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Both, around `inner`. After an error nothing more is read.
    pub(super) fn within<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.enter()?;
        let result = inner(self)?;
        self.leave();
        Ok(result)
    }
}
