//! Names, types and options of states, as users declare them.
//!
//! ```
//! use std::time::Duration;
//! use aquifer_state::{ReducingStateDescriptor, TtlConfig, ValueStateDescriptor};
//!
//! let visits = ValueStateDescriptor::<u64>::new("visits").default_value(|| 0);
//! // Per window, and gone an hour after it was last written:
//! let sums = ReducingStateDescriptor::<i64, _>::new("sums", |a: i64, b: i64| a + b)
//!     .namespace::<(i64, i64)>()
//!     .ttl(TtlConfig::new(Duration::from_secs(3600)));
//! assert_eq!((visits.name(), sums.name()), ("visits", "sums"));
//! ```

use std::marker::PhantomData;
use std::rc::Rc;

use crate::ordered::OrderedKey;
use crate::serializer::{Postcard, Serializer};
use crate::state::aggregating::AggregateFunction;
use crate::state::folding::Folding;
use crate::state::value::DefaultValue;
use crate::ttl::TtlConfig;

/// What descriptors of all kinds say.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) ttl: Option<TtlConfig>,
    pub(crate) enumerable: bool,
}

impl Common {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ttl: None,
            enumerable: false,
        }
    }
}

/// What all kinds have in common: name, serializer, TTL, namespaces.
macro_rules! descriptor {
    (
        $descriptor:ident [$($generic:ident $(: $bound:path)?),*] of $value:ty,
        $($field:ident),*
    ) => {
        impl<$($generic $(: $bound)?,)* S, N> $descriptor<$($generic,)* S, N> {
            /// The name.
            pub fn name(&self) -> &str {
                &self.common.name
            }

            /// Turns values into bytes.
            pub fn serializer(&self) -> &S {
                &self.serializer
            }

            /// How long entries live.
            #[must_use]
            pub fn ttl(mut self, ttl: TtlConfig) -> Self {
                self.common.ttl = Some(ttl);
                self
            }

            /// Keys of this state will be enumerated often: its table is kept in order, for a little on every write.
            #[must_use]
            pub fn enumerable(mut self) -> Self {
                self.common.enumerable = true;
                self
            }

            /// The state has one entry per key and namespace of this type.
            #[must_use]
            pub fn namespace<M>(self) -> $descriptor<$($generic,)* S, M> {
                $descriptor {
                    common: self.common,
                    serializer: self.serializer,
                    $($field: self.$field,)*
                    types: PhantomData,
                }
            }
        }

        impl<$($generic $(: $bound)?,)* S: Serializer<$value>, N: OrderedKey + 'static>
            $descriptor<$($generic,)* S, N>
        {
            /// The end of a layout: the namespace, unless it is void, and the value.
            fn layout_of_value(&self) -> String {
                let value = self.serializer.layout();
                match N::type_name() {
                    void if void == "()" => format!("value={value}"),
                    namespace => format!("namespace={namespace} value={value}"),
                }
            }
        }
    };
}

/// Declares a value state: at most one `V` per key and namespace.
pub struct ValueStateDescriptor<V, S = Postcard<V>, N = ()> {
    pub(crate) common: Common,
    serializer: S,
    pub(crate) default: Option<DefaultValue<V>>,
    types: PhantomData<fn() -> (V, N)>,
}

descriptor!(ValueStateDescriptor [V] of V, default);

impl<V, S: Default> ValueStateDescriptor<V, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_serializer(name, S::default())
    }
}

impl<V, S> ValueStateDescriptor<V, S> {
    /// A state with another serializer than serde's.
    pub fn with_serializer(name: impl Into<String>, serializer: S) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            default: None,
            types: PhantomData,
        }
    }
}

impl<V, S, N> ValueStateDescriptor<V, S, N> {
    /// What reads return of a key without a value; made anew for each. It is never stored, and does not count for a state with a TTL.
    #[must_use]
    pub fn default_value(mut self, default: impl Fn() -> V + 'static) -> Self {
        self.default = Some(Rc::new(default));
        self
    }
}

impl<V, S: Serializer<V>, N: OrderedKey + 'static> ValueStateDescriptor<V, S, N> {
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("value-1 key={key} {}", self.layout_of_value())
    }
}

/// Declares a map state: any number of `UV` per key and namespace, one per user key `UK`, iterated in the order of the user keys.
pub struct MapStateDescriptor<UK, UV, S = Postcard<UV>, N = ()> {
    pub(crate) common: Common,
    serializer: S,
    types: PhantomData<(UK, UV, N)>,
}

descriptor!(MapStateDescriptor [UK, UV] of UV,);

impl<UK, UV, S: Default> MapStateDescriptor<UK, UV, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_serializer(name, S::default())
    }
}

impl<UK, UV, S> MapStateDescriptor<UK, UV, S> {
    /// A state with another serializer of values than serde's.
    pub fn with_serializer(name: impl Into<String>, serializer: S) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            types: PhantomData,
        }
    }
}

impl<UK: OrderedKey, UV, S: Serializer<UV>, N: OrderedKey + 'static>
    MapStateDescriptor<UK, UV, S, N>
{
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!(
            "map-1 key={key} user-key={} {}",
            UK::type_name(),
            self.layout_of_value()
        )
    }
}

/// Declares a list state: any number of `V` per key and namespace, in the order in which they were added.
pub struct ListStateDescriptor<V, S = Postcard<V>, N = ()> {
    pub(crate) common: Common,
    serializer: S,
    pub(crate) chunk_bytes_max: Option<usize>,
    types: PhantomData<fn() -> (V, N)>,
}

descriptor!(ListStateDescriptor [V] of V, chunk_bytes_max);

impl<V, S: Default> ListStateDescriptor<V, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_serializer(name, S::default())
    }
}

impl<V, S> ListStateDescriptor<V, S> {
    /// A state with another serializer of elements than serde's.
    pub fn with_serializer(name: impl Into<String>, serializer: S) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            chunk_bytes_max: None,
            types: PhantomData,
        }
    }
}

impl<V, S, N> ListStateDescriptor<V, S, N> {
    /// Bytes of a list in memory after which it goes on in another row (1 MiB): readers hold a few rows at a time.
    #[must_use]
    pub fn chunk_bytes_max(mut self, bytes: usize) -> Self {
        self.chunk_bytes_max = Some(bytes);
        self
    }
}

impl<V, S: Serializer<V>, N: OrderedKey + 'static> ListStateDescriptor<V, S, N> {
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("list-1 key={key} {}", self.layout_of_value())
    }
}

/// Declares a reducing state: one `V` per key and namespace, to which values are added.
pub struct ReducingStateDescriptor<V, R, S = Postcard<V>, N = ()> {
    pub(crate) common: Common,
    serializer: S,
    pub(crate) function: Rc<R>,
    types: PhantomData<fn() -> (V, N)>,
}

descriptor!(ReducingStateDescriptor [V, R] of V, function);

impl<V, R, S: Default> ReducingStateDescriptor<V, R, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>, function: R) -> Self {
        Self::with_serializer(name, function, S::default())
    }
}

impl<V, R, S> ReducingStateDescriptor<V, R, S> {
    /// A state with another serializer than serde's.
    pub fn with_serializer(name: impl Into<String>, function: R, serializer: S) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            function: Rc::new(function),
            types: PhantomData,
        }
    }
}

impl<V, R, S: Serializer<V>, N: OrderedKey + 'static> ReducingStateDescriptor<V, R, S, N> {
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("reducing-1 key={key} {}", self.layout_of_value())
    }
}

/// Declares an aggregating state: one accumulator per key and namespace.
pub struct AggregatingStateDescriptor<
    A: AggregateFunction,
    S = Postcard<<A as AggregateFunction>::Acc>,
    N = (),
> {
    pub(crate) common: Common,
    serializer: S,
    pub(crate) function: Rc<A>,
    types: PhantomData<fn() -> N>,
}

descriptor!(AggregatingStateDescriptor [A: AggregateFunction] of A::Acc, function);

impl<A: AggregateFunction, S: Default> AggregatingStateDescriptor<A, S> {
    /// A state of this name, unique within its operator.
    pub fn new(name: impl Into<String>, function: A) -> Self {
        Self::with_serializer(name, function, S::default())
    }
}

impl<A: AggregateFunction, S> AggregatingStateDescriptor<A, S> {
    /// A state with another serializer of accumulators than serde's.
    pub fn with_serializer(name: impl Into<String>, function: A, serializer: S) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            function: Rc::new(function),
            types: PhantomData,
        }
    }
}

impl<A: AggregateFunction, S: Serializer<A::Acc>, N: OrderedKey + 'static>
    AggregatingStateDescriptor<A, S, N>
{
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("aggregating-1 key={key} {}", self.layout_of_value())
    }
}

/// Declares a folding state: one `Acc` per key and namespace that starts from an initial value and takes in values of type `T`. In checkpoints
/// it is an aggregating state.
pub struct FoldingStateDescriptor<T, Acc, F, S = Postcard<Acc>, N = ()> {
    pub(crate) common: Common,
    serializer: S,
    pub(crate) function: Rc<Folding<T, Acc, F>>,
    types: PhantomData<fn() -> (T, N)>,
}

descriptor!(FoldingStateDescriptor [T, Acc, F] of Acc, function);

impl<T, Acc, F, S: Default> FoldingStateDescriptor<T, Acc, F, S> {
    /// A state of this name, unique within its operator; `initial` makes what the first value is folded into.
    pub fn new(name: impl Into<String>, initial: impl Fn() -> Acc + 'static, fold: F) -> Self {
        Self::with_serializer(name, initial, fold, S::default())
    }
}

impl<T, Acc, F, S> FoldingStateDescriptor<T, Acc, F, S> {
    /// A state with another serializer than serde's.
    pub fn with_serializer(
        name: impl Into<String>,
        initial: impl Fn() -> Acc + 'static,
        fold: F,
        serializer: S,
    ) -> Self {
        Self {
            common: Common::new(name),
            serializer,
            function: Rc::new(Folding::new(initial, fold)),
            types: PhantomData,
        }
    }
}

impl<T, Acc, F, S: Serializer<Acc>, N: OrderedKey + 'static>
    FoldingStateDescriptor<T, Acc, F, S, N>
{
    /// What the checkpoint says about this state, for keys of this type.
    pub fn layout(&self, key: &str) -> String {
        format!("aggregating-1 key={key} {}", self.layout_of_value())
    }
}
