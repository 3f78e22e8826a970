//! Workers of one operator with state that is not keyed, over checkpoints that pass through the bytes of their metadata.

use aquifer_state::BackendKind;
use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, OperatorSnapshot, Origin};
use aquifer_state::operator::OperatorStateStore;

/// Key groups of most tests.
pub const MAX: u16 = 128;

/// All workers of operator `op`.
pub struct Operators {
    max_parallelism: u16,
    stores: Vec<OperatorStateStore>,
}

impl Operators {
    pub fn new(workers: u16) -> Self {
        Self::of(MAX, workers)
    }

    pub fn of(max_parallelism: u16, workers: u16) -> Self {
        let nothing = Default::default();
        let store = |worker| {
            OperatorStateStore::restored("op", worker, workers, max_parallelism, &nothing, None)
        };
        Self {
            max_parallelism,
            stores: (0..workers).map(store).collect(),
        }
    }

    /// The workers by their index.
    pub fn each(&self) -> impl Iterator<Item = (usize, &OperatorStateStore)> {
        self.stores.iter().enumerate()
    }

    fn checkpoint(&self) -> Vec<u8> {
        let mut pooled: Option<OperatorSnapshot> = None;
        for store in &self.stores {
            let report = OperatorSnapshot::of_state("op", store.freeze().unwrap());
            match (&mut pooled, report) {
                (_, None) => {}
                (Some(pooled), Some(report)) => pooled.pool(report),
                (none, report) => *none = report,
            }
        }
        let metadata = CheckpointMetadata {
            checkpoint_id: 7,
            job_name: "job".into(),
            attempt: 1,
            created_unix_ms: 0,
            parallelism: self.stores.len() as u16,
            max_parallelism: self.max_parallelism,
            plan: String::new(),
            finished: false,
            kind: CheckpointKind::Checkpoint,
            backend: BackendKind::Forst,
            tables: Vec::new(),
            keyed: Vec::new(),
            operators: pooled.into_iter().collect(),
            origin: Origin::default(),
        };
        metadata.encode()
    }

    /// Bytes of the metadata of a checkpoint taken now.
    pub fn metadata_bytes(&self) -> usize {
        self.checkpoint().len()
    }

    /// Takes a checkpoint, from which so many workers go on.
    pub fn rescaled(&self, workers: u16) -> Self {
        let metadata = CheckpointMetadata::decode(&self.checkpoint()).unwrap();
        let operator = metadata.operators.first().cloned().unwrap_or_default();
        let shares = operator
            .redistributed(metadata.parallelism, workers, self.max_parallelism)
            .unwrap();
        let id = Some(metadata.checkpoint_id);
        let store = |(worker, share)| {
            let max = self.max_parallelism;
            OperatorStateStore::restored("op", worker, workers, max, share, id)
        };
        Self {
            max_parallelism: self.max_parallelism,
            stores: (0..).zip(&shares).map(store).collect(),
        }
    }
}

/// A store that goes on from a checkpoint of the only worker.
pub fn restored(store: &OperatorStateStore) -> OperatorStateStore {
    let one = Operators {
        max_parallelism: MAX,
        stores: vec![store.clone()],
    };
    one.rescaled(1).stores.remove(0)
}
