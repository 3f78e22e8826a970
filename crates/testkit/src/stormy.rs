//! One process's way to a [`Truth`]: every request is numbered, recorded, and may meet a fault of the [`Storm`] or the crash of
//! the process.
//!
//! After the crash every request fails and changes nothing, whoever still holds the store: the process is dead. A new process
//! gets a new [`Stormy`] over the same truth and the same history. With one thread and virtual time a seed repeats a run exactly.
//! Needs a tokio runtime with a timer, preferably with paused time: slow and hanging requests sleep.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use parking_lot::Mutex;

use crate::history::History;
use crate::storm::{Crash, Dice, FaultKind, Storm};
use crate::truth::{ListView, Truth, TruthUpload};

use FaultKind as Kind;

const SLOW_MS_MAX: u64 = 60_000;
const HANG: Duration = Duration::from_secs(3600);
/// A late put lands within so many requests.
const LATE_REQUESTS_MAX: u64 = 200;
/// A stale listing is at most so many changes old.
const STALE_CHANGES_MAX: u64 = 20;

/// An object store as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct Stormy {
    truth: Truth,
    shared: Arc<Shared>,
}

struct Shared {
    dice: Mutex<Dice>,
    history: Arc<Mutex<History>>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    requests: u64,
    crash: Option<Crash>,
    dead: bool,
}

impl Stormy {
    /// The view of a new process.
    pub fn new(truth: Truth, storm: Storm, history: Arc<Mutex<History>>) -> Self {
        Self {
            truth,
            shared: Arc::new(Shared {
                dice: Mutex::new(Dice::new(storm)),
                history,
                life: Mutex::default(),
            }),
        }
    }

    /// The process dies at this request.
    pub fn crash_at(&self, crash: Option<Crash>) {
        self.shared.life.lock().crash = crash;
    }

    /// The process dies now.
    pub fn kill(&self) {
        self.shared.life.lock().dead = true;
    }

    /// Whether the process has died.
    pub fn is_dead(&self) -> bool {
        self.shared.life.lock().dead
    }

    /// Requests of this process so far.
    pub fn requests(&self) -> u64 {
        self.shared.life.lock().requests
    }

    /// The faults end now.
    pub fn calm(&self) {
        self.shared.dice.lock().storm.ends_at = 0;
    }

    fn record(&self, line: fmt::Arguments<'_>) {
        self.shared.history.lock().add(line);
    }

    fn strike(&self, kind: Kind) {
        self.shared.history.lock().count(kind);
    }

    /// Numbers and records a request, and says what becomes of it.
    fn begin(&self, what: String, kinds: &[Kind]) -> Result<Begun> {
        let mut life = self.shared.life.lock();
        if life.dead {
            return Err(failure("the process is dead"));
        }
        let number = life.requests;
        life.requests += 1;
        self.truth.tick();
        if let Some(crash) = life.crash
            && number >= crash.at
        {
            life.dead = true;
            let kind = if crash.applied {
                Kind::CrashAfter
            } else {
                Kind::CrashBefore
            };
            self.strike(kind);
            if !self.truth.open_uploads().is_empty() {
                self.strike(Kind::CrashInUpload);
            }
            self.record(format_args!("{what}: {}", kind.describe().1));
            return if crash.applied {
                Ok(Begun::Last)
            } else {
                Err(failure("the process has crashed"))
            };
        }
        let mut dice = self.shared.dice.lock();
        dice.count();
        match dice.roll(kinds) {
            None => {
                self.record(format_args!("{what}"));
                Ok(Begun::Fine)
            }
            Some(kind) => {
                self.strike(kind);
                self.record(format_args!("{what}: {}", kind.describe().1));
                Ok(Begun::Struck(kind))
            }
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.shared.dice.lock().below(bound)
    }

    async fn run<T>(
        &self,
        what: String,
        path: &Path,
        kinds: &[Kind],
        act: impl Fn() -> Result<T> + Send,
    ) -> Result<T> {
        let begun = self.begin(what, kinds)?;
        self.go_on(begun, path, act).await
    }

    /// What faults do that are the same for all requests; `act` is the request itself.
    async fn go_on<T>(
        &self,
        begun: Begun,
        path: &Path,
        act: impl Fn() -> Result<T> + Send,
    ) -> Result<T> {
        match begun {
            Begun::Fine => act(),
            Begun::Last => {
                let _ = act();
                Err(failure("the process has crashed"))
            }
            Begun::Struck(kind) => match kind {
                Kind::NotApplied => Err(failure("500, and nothing was done")),
                Kind::Applied | Kind::CompleteUnclear => {
                    act()?;
                    Err(failure("the answer was lost"))
                }
                Kind::Throttled => Err(failure("503: slow down")),
                Kind::Conflict => Err(Error::AlreadyExists {
                    path: path.to_string(),
                    source: "409: a conflicting request is under way".into(),
                }),
                Kind::AlreadyThere => {
                    act()?;
                    Err(Error::AlreadyExists {
                        path: path.to_string(),
                        source: "412: the object exists".into(),
                    })
                }
                Kind::Denied => Err(Error::PermissionDenied {
                    path: path.to_string(),
                    source: "403: the token has expired".into(),
                }),
                Kind::Slow => {
                    let wait = self.below(SLOW_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    self.alive()?;
                    act()
                }
                Kind::Hangs => {
                    tokio::time::sleep(HANG).await;
                    Err(failure("the connection timed out"))
                }
                _ => act(),
            },
        }
    }

    /// A process that died while a request was on its way does not see the answer, and a slow request is never sent.
    fn alive(&self) -> Result<()> {
        if self.is_dead() {
            return Err(failure("the process is dead"));
        }
        Ok(())
    }

    fn list_view(&self, struck: Option<Kind>) -> ListView {
        let changes = 1 + self.below(STALE_CHANGES_MAX);
        match struck {
            Some(Kind::StaleList) => ListView {
                misses_newest: changes,
                ..ListView::default()
            },
            Some(Kind::GhostList) => ListView {
                shows_deleted: changes,
                ..ListView::default()
            },
            Some(Kind::PagedList) => ListView {
                page: changes as usize,
                ..ListView::default()
            },
            Some(Kind::UnorderedList) => ListView {
                shuffled: Some(changes),
                ..ListView::default()
            },
            _ => ListView::default(),
        }
    }

    /// Begins a listing: says how it is to be taken.
    async fn begin_list(&self, prefix: Option<&Path>) -> Result<ListView> {
        let what = format!("list {}", prefix.map_or("", |prefix| prefix.as_ref()));
        match self.begin(what.clone(), LIST)? {
            Begun::Fine => Ok(ListView::default()),
            Begun::Last => Err(failure("the process has crashed")),
            Begun::Struck(Kind::NotApplied | Kind::Applied) => Err(failure("500")),
            Begun::Struck(Kind::Throttled) => Err(failure("503: slow down")),
            Begun::Struck(Kind::Denied) => Err(Error::PermissionDenied {
                path: what,
                source: "403: the token has expired".into(),
            }),
            Begun::Struck(kind) => Ok(self.list_view(Some(kind))),
        }
    }
}

enum Begun {
    Fine,
    /// It is applied, and the process is dead.
    Last,
    Struck(Kind),
}

const PUT: &[Kind] = &[
    Kind::NotApplied,
    Kind::Applied,
    Kind::LandsLater,
    Kind::Throttled,
    Kind::Denied,
    Kind::Slow,
    Kind::Hangs,
];
const CREATE: &[Kind] = &[
    Kind::NotApplied,
    Kind::Applied,
    Kind::LandsLater,
    Kind::Throttled,
    Kind::Conflict,
    Kind::AlreadyThere,
    Kind::Denied,
    Kind::Slow,
    Kind::Hangs,
];
const GET: &[Kind] = &[
    Kind::NotApplied,
    Kind::Throttled,
    Kind::Denied,
    Kind::Slow,
    Kind::Hangs,
    Kind::CutBody,
    Kind::WrongLength,
    Kind::FlippedOnTheWire,
];
const HEAD: &[Kind] = &[Kind::NotApplied, Kind::Throttled, Kind::Denied, Kind::Slow];
const DELETE: &[Kind] = &[
    Kind::NotApplied,
    Kind::Applied,
    Kind::Throttled,
    Kind::Denied,
    Kind::Slow,
];
const PART: &[Kind] = &[
    Kind::NotApplied,
    Kind::Applied,
    Kind::Throttled,
    Kind::PartTwice,
    Kind::Slow,
    Kind::Hangs,
];
const COMPLETE: &[Kind] = &[
    Kind::NotApplied,
    Kind::CompleteUnclear,
    Kind::Throttled,
    Kind::Slow,
    Kind::Hangs,
];
const LIST: &[Kind] = &[
    Kind::NotApplied,
    Kind::Throttled,
    Kind::Denied,
    Kind::StaleList,
    Kind::GhostList,
    Kind::PagedList,
    Kind::UnorderedList,
];

fn failure(what: &'static str) -> Error {
    Error::Generic {
        store: "Stormy",
        source: what.into(),
    }
}

impl fmt::Debug for Stormy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stormy")
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Stormy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stormy(Truth)")
    }
}

#[async_trait]
impl ObjectStore for Stormy {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let body: Bytes = payload.into();
        let create = options.mode == PutMode::Create;
        let (verb, kinds) = if create {
            ("create", CREATE)
        } else {
            ("put", PUT)
        };
        let what = format!("{verb} {location} {} bytes", body.len());
        let begun = self.begin(what, kinds)?;
        if let Begun::Struck(Kind::LandsLater) = begun {
            let ticks = 1 + self.below(LATE_REQUESTS_MAX);
            self.truth.put_later(location, body, create, ticks);
            return Err(failure("the connection timed out"));
        }
        self.go_on(begun, location, || {
            self.truth.put_now(location, body.clone(), &options.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let what = format!("start upload {location}");
        let inner = self
            .run(what, location, HEAD, || {
                Ok(self.truth.start_upload(location))
            })
            .await?;
        Ok(Box::new(StormyUpload {
            process: self.clone(),
            path: location.clone(),
            inner,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            let what = format!("head {location}");
            let answer = self
                .run(what, location, HEAD, || self.truth.read(location, &options))
                .await?;
            return Ok(answer.into_result(stream::empty().boxed()));
        }
        let what = match &options.range {
            None => format!("get {location}"),
            Some(range) => format!("get {location} {range}"),
        };
        let begun = self.begin(what, GET)?;
        let struck = match &begun {
            Begun::Struck(kind) => Some(*kind),
            _ => None,
        };
        let answer = self
            .go_on(begun, location, || self.truth.read(location, &options))
            .await?;
        let mut body = answer.body.to_vec();
        let len = body.len() as u64;
        let mut cut = false;
        match struck {
            Some(Kind::CutBody) => {
                body.truncate(self.below(len) as usize);
                cut = true;
            }
            Some(Kind::WrongLength) => body.truncate(self.below(len) as usize),
            Some(Kind::FlippedOnTheWire) if len > 0 => {
                let bit = self.below(len * 8);
                body[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        let mut pieces = vec![Ok(Bytes::from(body))];
        if cut {
            pieces.push(Err(failure("the connection was reset")));
        }
        Ok(answer.into_result(stream::iter(pieces).boxed()))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let what = format!("delete {location}");
                    this.run(what, &location, DELETE, || {
                        this.truth.delete_now(&location);
                        Ok(())
                    })
                    .await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let pages = stream::unfold(ListState::Start, move |state| {
            let (this, prefix) = (this.clone(), prefix.clone());
            async move {
                let (view, after) = match state {
                    ListState::Start => match this.begin_list(prefix.as_ref()).await {
                        Ok(view) => (view, None),
                        Err(error) => return Some((vec![Err(error)], ListState::End)),
                    },
                    ListState::After(view, after) => (view, Some(after)),
                    ListState::End => return None,
                };
                let page = this.truth.list_page(prefix.as_ref(), &view, after.as_ref());
                let next = match page.last() {
                    Some(last) if view.page > 0 && page.len() == view.page => {
                        ListState::After(view, last.location.clone())
                    }
                    _ => ListState::End,
                };
                // Between two pages others get their turn.
                tokio::task::yield_now().await;
                Some((page.into_iter().map(Ok).collect(), next))
            }
        });
        pages.map(stream::iter).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut view = self.begin_list(prefix).await?;
        view.page = 0;
        Ok(self.truth.list_with_delimiter_as(prefix, &view))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let body = self.truth.read(from, &GetOptions::default())?.body;
        let mode = match options.mode {
            object_store::CopyMode::Create => PutMode::Create,
            object_store::CopyMode::Overwrite => PutMode::Overwrite,
        };
        let what = format!("copy {from} to {to}");
        self.run(what, to, DELETE, || {
            self.truth.put_now(to, body.clone(), &mode)
        })
        .await?;
        Ok(())
    }
}

enum ListState {
    Start,
    After(ListView, Path),
    End,
}

#[derive(Debug)]
struct StormyUpload {
    process: Stormy,
    path: Path,
    inner: TruthUpload,
}

#[async_trait]
impl MultipartUpload for StormyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (truth, id, number) = (self.inner.truth(), self.inner.id(), self.inner.next_part());
        let (process, path) = (self.process.clone(), self.path.clone());
        Box::pin(async move {
            let body: Bytes = data.into();
            let what = format!("part {number} of {path} {} bytes", body.len());
            let begun = process.begin(what, PART)?;
            let twice = matches!(begun, Begun::Struck(Kind::PartTwice));
            let put = || truth.put_part_now(id, number, body.clone());
            process.go_on(begun, &path, put).await?;
            if twice {
                // The first time was slow, the client has repeated it, and now both arrive.
                tokio::task::yield_now().await;
                put()?;
            }
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let what = format!("complete {}", self.path);
        let act = || self.inner.complete_now();
        self.process.run(what, &self.path, COMPLETE, act).await
    }

    async fn abort(&mut self) -> Result<()> {
        let what = format!("abort {}", self.path);
        let act = || {
            self.inner.abort_now();
            Ok(())
        };
        self.process.run(what, &self.path, HEAD, act).await
    }
}

#[cfg(test)]
mod tests;
