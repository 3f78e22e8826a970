//! INTERFACE STUB. Key groups: the unit in which keyed state moves between workers. Flink's formulas.
pub use aquifer_store::KeyGroupRange;

/// Flink's `murmurHash(int)`.
pub fn murmur_hash(_code: i32) -> i32 { todo!() }
/// Key group of a key with this (Java) hash code.
pub fn assign_to_key_group(_hash_code: i32, _max_parallelism: u16) -> u16 { todo!() }
/// The worker (operator index) that owns a key group.
pub fn operator_index(_group: u16, _max_parallelism: u16, _parallelism: u16) -> u16 { todo!() }
/// The key groups of worker `index`; None if it owns none (parallelism > max parallelism is refused elsewhere).
pub fn range_of(_index: u16, _max_parallelism: u16, _parallelism: u16) -> KeyGroupRange { todo!() }
/// Flink's default maximum parallelism for a parallelism.
pub fn default_max_parallelism(_parallelism: u16) -> u16 { todo!() }

/// Java's `hashCode` of a key, so that key groups are Flink's.
pub trait KeyHash {
    fn hash_code(&self) -> i32;
}
