//! One request for what several reads want at the same moment.
//!
//! Whoever asks first for a part of a file is its leader and makes the request; others who ask before the answer is there
//! wait for the leader and share its answer, an error too. If the leader goes away without one, those who waited ask again
//! themselves.
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Result;
use crate::sst::file::FileId;
use crate::sst::part::Part;

/// A part of a file: the file and the offset of the part.
pub(crate) type PartId = (FileId, u64);

/// What one request brought.
pub(crate) type Arrived = Arc<[(u64, Part)]>;
pub(crate) type Waiting = watch::Receiver<Option<Result<Arrived>>>;
type Parts = Arc<Mutex<HashMap<PartId, Waiting>>>;

/// Requests under way, by the parts they will bring.
#[derive(Default)]
pub(crate) struct Flights {
    parts: Parts,
}

/// A request under way whose leader is the holder. Dropping it without landing lets the next reader lead.
pub(crate) struct Flight {
    file: FileId,
    offsets: Vec<u64>,
    flights: Parts,
    arrival: watch::Sender<Option<Result<Arrived>>>,
}

impl Flights {
    /// The request that will bring this part, if one is under way.
    pub(crate) fn find(&self, file: FileId, offset: u64) -> Option<Waiting> {
        self.parts.lock().get(&(file, offset)).cloned()
    }

    /// Starts a request for some parts of a file. Parts that someone else has begun to ask for meanwhile stay theirs, and
    /// are asked for twice.
    pub(crate) fn lead(&self, file: FileId, offsets: impl Iterator<Item = u64>) -> Flight {
        let (arrival, waiting) = watch::channel(None);
        let mut parts = self.parts.lock();
        let offsets: Vec<u64> = offsets
            .filter(|&offset| {
                let free = !parts.contains_key(&(file, offset));
                if free {
                    parts.insert((file, offset), waiting.clone());
                }
                free
            })
            .collect();
        Flight {
            file,
            offsets,
            flights: self.parts.clone(),
            arrival,
        }
    }
}

impl Flight {
    /// Hands what came to everyone who waits.
    pub(crate) fn land(self, arrived: Result<Arrived>) {
        let _ = self.arrival.send(Some(arrived));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut parts = self.flights.lock();
        for &offset in &self.offsets {
            parts.remove(&(self.file, offset));
        }
    }
}

/// Waits for a request of someone else; `None` if it was given up.
pub(crate) async fn arrival(mut waiting: Waiting) -> Option<Result<Arrived>> {
    waiting.wait_for(Option::is_some).await.ok()?.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Part {
        Part::Value(vec![0; 4].into())
    }

    #[tokio::test]
    async fn those_who_wait_get_what_the_leader_got() {
        let flights = Flights::default();
        let file = FileId(1);
        assert!(flights.find(file, 3).is_none());
        let first = flights.lead(file, 3..5);
        let second = flights.lead(file, 4..6);
        assert_eq!(second.offsets, [5]);
        let waiting = flights.find(file, 4).unwrap();
        drop(second);
        assert!(flights.find(file, 5).is_none());
        first.land(Ok(vec![(3, block()), (4, block())].into()));
        assert_eq!(arrival(waiting).await.unwrap().unwrap().len(), 2);
        assert!(flights.find(file, 3).is_none());
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_lets_others_lead() {
        let flights = Flights::default();
        let flight = flights.lead(FileId(1), 0..1);
        let waiting = flights.find(FileId(1), 0).unwrap();
        drop(flight);
        assert!(arrival(waiting).await.is_none());
        assert_eq!(flights.lead(FileId(1), 0..1).offsets, [0]);
    }
}
