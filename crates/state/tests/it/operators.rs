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

    /// What all workers report for a checkpoint.
    pub fn pooled(&self) -> Option<OperatorSnapshot> {
        let mut pooled: Option<OperatorSnapshot> = None;
        for store in &self.stores {
            let report = OperatorSnapshot::of_state("op", store.freeze().unwrap());
            match (&mut pooled, report) {
                (_, None) => {}
                (Some(pooled), Some(report)) => pooled.pool(report),
                (none, report) => *none = report,
            }
        }
        pooled
    }

    /// So many workers go on from what others have reported, which passes through the bytes of metadata.
    pub fn restored(
        max_parallelism: u16,
        reported: Option<&OperatorSnapshot>,
        by: u16,
        workers: u16,
    ) -> Self {
        let written = metadata(max_parallelism, reported, by).encode();
        let metadata = CheckpointMetadata::decode(&written).unwrap();
        let operator = metadata.operators.first().cloned().unwrap_or_default();
        let shares = operator
            .redistributed(metadata.parallelism, workers, max_parallelism)
            .unwrap();
        let id = Some(metadata.checkpoint_id);
        let store = |(worker, share)| {
            OperatorStateStore::restored("op", worker, workers, max_parallelism, share, id)
        };
        Self {
            max_parallelism,
            stores: (0..).zip(&shares).map(store).collect(),
        }
    }

    /// Bytes of the metadata of a checkpoint taken now.
    pub fn metadata_bytes(&self) -> usize {
        let workers = self.stores.len() as u16;
        let metadata = metadata(self.max_parallelism, self.pooled().as_ref(), workers);
        metadata.encode().len()
    }

    /// Takes a checkpoint, from which so many workers go on.
    pub fn rescaled(&self, workers: u16) -> Self {
        let by = self.stores.len() as u16;
        Self::restored(self.max_parallelism, self.pooled().as_ref(), by, workers)
    }
}

fn metadata(
    max_parallelism: u16,
    reported: Option<&OperatorSnapshot>,
    parallelism: u16,
) -> CheckpointMetadata {
    CheckpointMetadata {
        checkpoint_id: 7,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism,
        max_parallelism,
        plan: String::new(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: BackendKind::Forst,
        tables: Vec::new(),
        keyed: Vec::new(),
        operators: reported.cloned().into_iter().collect(),
        origin: Origin::default(),
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
