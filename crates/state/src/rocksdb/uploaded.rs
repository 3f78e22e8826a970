//! Which files of a database later checkpoints may name without uploading them: a pure state machine.
//!
//! Those of the newest completed checkpoint, or of the one that was restored. What a checkpoint uploaded that was given up, or of whose
//! end nothing is known yet, may be deleted any time and is uploaded again.

use std::collections::{BTreeMap, VecDeque};

use crate::DbFile;

/// Checkpoints whose end is awaited. Older ones count as given up.
const AWAITED_MAX: usize = 8;

/// The files of one checkpoint of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Writes to the database when it was frozen: with as many, it has not changed since.
    pub(super) writes: Option<u64>,
    pub(super) files: Vec<DbFile>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Uploaded {
    completed: Option<Files>,
    /// Ascending.
    awaited: VecDeque<(u64, Files)>,
}

impl Uploaded {
    /// Goes on from the files of a restored checkpoint.
    pub(super) fn restored(files: Files) -> Self {
        Self {
            completed: Some(files),
            awaited: VecDeque::new(),
        }
    }

    /// A checkpoint has these files, and somebody will say whether it was completed.
    pub(super) fn written(&mut self, checkpoint_id: u64, files: Files) {
        if self.awaited.len() == AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.awaited.push_back((checkpoint_id, files));
    }

    /// A checkpoint was completed or given up. Those before it are not completed any more.
    pub(super) fn ended(&mut self, checkpoint_id: u64, complete: bool) {
        while let Some((id, _)) = self.awaited.front()
            && *id <= checkpoint_id
        {
            let ended = self.awaited.pop_front();
            if let Some((id, files)) = ended
                && complete
                && id == checkpoint_id
            {
                self.completed = Some(files);
            }
        }
    }

    /// What may be named again, by name.
    pub(super) fn shared(&self) -> BTreeMap<String, DbFile> {
        let files = self.completed.iter().flat_map(|completed| &completed.files);
        files
            .filter(|file| file.shared)
            .map(|file| (file.name.clone(), file.clone()))
            .collect()
    }

    /// All files of the newest completed checkpoint, if nothing was written since.
    pub(super) fn unchanged(&self, writes: u64) -> Option<Vec<DbFile>> {
        let completed = self.completed.as_ref()?;
        (completed.writes == Some(writes)).then(|| completed.files.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(writes: u64, names: &[&str]) -> Files {
        let file = |name: &&str| DbFile {
            name: (*name).to_owned(),
            path: format!("{writes}/{name}"),
            size_bytes: 1,
            checksum: 2,
            shared: name.ends_with(".sst"),
        };
        Files {
            writes: Some(writes),
            files: names.iter().map(file).collect(),
        }
    }

    fn shared(uploaded: &Uploaded) -> Vec<String> {
        let files = uploaded.shared().into_values();
        files.map(|file| file.path).collect()
    }

    #[test]
    fn only_files_of_completed_checkpoints_are_named_again() {
        let mut uploaded = Uploaded::default();
        uploaded.written(1, files(5, &["1.sst", "MANIFEST-2"]));
        assert!(shared(&uploaded).is_empty());
        uploaded.ended(1, true);
        assert_eq!(shared(&uploaded), ["5/1.sst"]);
        assert_eq!(
            uploaded.unchanged(5),
            Some(files(5, &["1.sst", "MANIFEST-2"]).files)
        );
        assert_eq!(uploaded.unchanged(6), None);
        // Given up: the files of the first count.
        uploaded.written(2, files(6, &["1.sst", "3.sst"]));
        uploaded.ended(2, false);
        assert_eq!(shared(&uploaded), ["5/1.sst"]);
        // Nobody heard of the end of 3, but 4 is complete.
        uploaded.written(3, files(7, &["4.sst"]));
        uploaded.written(4, files(8, &["4.sst", "5.sst"]));
        uploaded.ended(4, true);
        assert_eq!(shared(&uploaded), ["8/4.sst", "8/5.sst"]);
        uploaded.ended(3, true);
        uploaded.ended(9, true);
        assert_eq!(shared(&uploaded), ["8/4.sst", "8/5.sst"]);
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let mut uploaded = Uploaded::restored(files(0, &["1.sst"]));
        for id in 1..100 {
            uploaded.written(id, files(id, &["1.sst"]));
        }
        assert_eq!(uploaded.awaited.len(), AWAITED_MAX);
        uploaded.ended(50, true);
        assert_eq!(shared(&uploaded), ["0/1.sst"]);
        uploaded.ended(99, true);
        assert_eq!(shared(&uploaded), ["99/1.sst"]);
    }
}
